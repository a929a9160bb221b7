"""The gateway's expected reaction to an answer that is not 200, by the rules of its public interface."""

import json
import math
import re

# A 400 about the gateway's credential or account, and a 403 about the request's content.
ABOUT_THE_CREDENTIAL = re.compile(r"api[ _-]?key not valid|invalid api[ _-]?key|incorrect api[ _-]?key|API_KEY_INVALID|authentication_error|credit balance|available credits|good standing", re.I)
ABOUT_THE_CONTENT = re.compile(r"moderation|content[ _]policy|flagged|safety|usage guidelines", re.I)

# The operator's private data, which must not reach a client: credentials, also in part, and accounts.
PRIVATE = [
    r"\b(?:sk|pk|rk|gsk|csk)[-_][\w-]{8,}",
    r"\b(?:xai|nvapi|pplx)-[\w-]{8,}",
    r"\bhf_\w{8,}",
    r"\bAIza[\w-]{8,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{8,}",
    r"\bBearer\s+(?!authentication|token)[\w.~+/=-]{8,}",
    r"\beyJ[\w-]{8,}\.[\w-]+",
    r"\S*\*{3,}\S*",
    r"\b(?:org|proj|user|acct|team)[-_][A-Za-z0-9]{8,}",
    r"\barn:aws[\w-]*:[^\s\"']+",
    r"\bproject_number:\d+",
    r"\bprojects/[\w-]+",
    r"\baccount(?: id)?[: ]+\d{6,}",
    r"\b(?:team|organi[sz]ation|workspace|account|key)(?: id)?[: ]+[`'\"]?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
]
# google.rpc.RetryInfo
RETRY_DELAY = re.compile(rb'"retryDelay":\s*"([\d.]+)s"')
HIDDEN = "[redacted]"


def differences(recording, status, heard, text):
    """A list of (field, difference), as in `compare`."""
    found = []
    body = recording.body.decode("utf-8", "replace")
    code, expected = _expected(recording.status, body)
    if (heard.failed, status) != (code, expected):
        found.append(("outcome", f"{expected} {code} | {status} {heard.failed} ({heard.message[:90]})"))
    if heard.failed == "upstream_auth":
        for words in messages(body):
            if words in text:
                found.append(("detail", f"says the vendor's {words[:90]!r}"))
    elif messages(body) and not _keeps_one(messages(body), heard.message):
        found.append(("message", f"{messages(body)[0][:90]!r} | {heard.message[:90]!r}"))
    for pattern in PRIVATE:
        for private in re.findall(pattern, body):
            # Only the value is private: the name `key: ` may stay.
            telling = re.split(r"[\s:`'\"]+", private)[-1]
            if telling in text:
                found.append(("private", f"shows {private!r}"))
    wait = _retry_after(recording)
    if heard.failed in ("upstream_rate_limited", "upstream_unavailable") and wait is not None:
        stated = json.loads(text)["error"].get("retry_after")
        if stated != wait:
            found.append(("retry_after", f"{wait} | {stated}"))
    return found


def messages(body):
    """All human-readable texts of an error body."""
    try:
        value = json.loads(body)
    except ValueError:
        return []
    found = []

    def walk(value, field):
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, name)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, field)
        elif isinstance(value, str) and field in ("message", "error", "detail", "msg"):
            found.append(value.strip())

    walk(value, None)
    return found


def _expected(status, body):
    """The gateway's code and status."""
    if status in (401, 402):
        return "upstream_auth", 502
    if status == 403 and not ABOUT_THE_CONTENT.search(body):
        return "upstream_auth", 502
    if status == 400 and ABOUT_THE_CREDENTIAL.search(body):
        return "upstream_auth", 502
    if status == 429:
        return "upstream_rate_limited", 429
    if status >= 500 or status == 408:
        return "upstream_unavailable", 502
    return "upstream_rejected", status


def _keeps_one(stated, message):
    """Whether a message is the vendor's, apart from redactions and truncation."""
    parts = message.removesuffix("…").split(HIDDEN)
    pattern = ".*".join(re.escape(part) for part in parts)
    return any(re.search(pattern, words, re.S) for words in stated) or any(words in message for words in stated)


def _retry_after(recording):
    """Seconds, rounded up: the longest of the headers and the body's RetryInfo. Dates are ignored."""
    waits = []
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            waits.append(float(recording.headers[name]) / scale)
        except (KeyError, ValueError):
            continue
    waits.extend(float(wait) for wait in RETRY_DELAY.findall(recording.body))
    return math.ceil(max(waits)) if waits else None
