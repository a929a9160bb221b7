"""Gemini's generateContent, by the `google-genai` SDK."""

import functools
import json

from google import genai
from google.genai import errors, types

from reading import CUT, IN_BAND, UNPARSABLE, Call, Reading, Usage, total
from readers import plain as framing

PACKAGE = "google-genai"
FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
}
# Enums as numbers. Above these, the numbers of Gemini and Vertex differ.
NUMBERS = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
ANSWER = {"candidates", "promptFeedback"}
BROKEN_OFF = ("UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS")


def sdk(recording, url, key):
    if recording.body.lstrip().startswith(b"["):
        raise ValueError("nothing for a JSON array, the form without `alt=sse`, which it never asks for")
    if recording.streamed and any(framing.bare(recording.body)):
        raise ValueError("nothing for JSON that stands bare between events")
    models, values = _client(url).models, []
    try:
        if recording.streamed:
            for part in models.generate_content_stream(model=key, contents="Hello."):
                values.append(_plain(part))
        else:
            values.append(_plain(models.generate_content(model=key, contents="Hello.")))
            if not values[0].keys() & ANSWER:
                raise ValueError("nothing for a body that is no answer")
    except errors.APIError as error:
        return _join(values).fail(IN_BAND, error.message)
    return _join(values)


def plain(recording):
    values, broken = framing.objects(recording)
    if recording.streamed:
        values.extend(framing.bare(recording.body))
    values = [one for value in values for one in (value if isinstance(value, list) else [value])]
    for at, value in enumerate(values):
        if "error" in value:
            return _join(values[:at]).fail(IN_BAND, value["error"])
    if broken or not recording.streamed and not any(value.keys() & ANSWER for value in values):
        return _join(values).fail(UNPARSABLE, broken)
    return _join(values)


@functools.cache
def _client(url):
    once = types.HttpRetryOptions(attempts=1)
    return genai.Client(api_key="none", http_options=types.HttpOptions(base_url=url, retry_options=once))


def _plain(part):
    return json.loads(part.model_dump_json(by_alias=True, exclude_none=True))


def _join(values):
    reading = Reading()
    reason = None
    for value in values:
        for candidate in value.get("candidates") or []:
            if (candidate.get("index") or 0) != 0:
                reading.note("several candidates: the gateway gives the first")
                continue
            for part in (candidate.get("content") or {}).get("parts") or []:
                _part(reading, part)
            reason = candidate.get("finishReason") or reason
        if (value.get("promptFeedback") or {}).get("blockReason"):
            reading.note("the prompt was blocked: `promptFeedback.blockReason`")
            reason = "SAFETY"
        if value.get("usageMetadata"):
            reading.usage = _usage(value["usageMetadata"])
    return _end(reading, reason)


def _part(reading, part):
    if part.get("functionCall"):
        call = part["functionCall"]
        arguments = json.dumps(call.get("args") or {}, ensure_ascii=False)
        reading.calls.append(Call(call.get("id"), call.get("name"), arguments))
    elif part.get("thought"):
        reading.reasoning += part.get("text") or ""
    else:
        reading.text += part.get("text") or ""
    for kind in ("inlineData", "executableCode", "codeExecutionResult"):
        if part.get(kind):
            reading.note(f"`{kind}` has no place in the native stream")


def _end(reading, reason):
    if reason is None:
        return reading.fail(CUT)
    if isinstance(reason, int):
        reading.note("enums are numbers")
        reason = NUMBERS.get(reason, "OTHER")
    if reason.startswith("MALFORMED") or reason in BROKEN_OFF:
        return reading.fail(IN_BAND, reason)
    reading.end("SAFETY" if reason.startswith("IMAGE_") else reason, FINISH)
    if reading.calls and reading.finish == "stop":
        reading.finish = "tool_calls"
    return reading


def _usage(stated):
    """`totalTokenCount` is the sum of the four counts. Input is what was read, output what was generated."""
    return Usage(
        input=total(stated.get("promptTokenCount"), stated.get("toolUsePromptTokenCount")),
        output=total(stated.get("candidatesTokenCount"), stated.get("thoughtsTokenCount")),
        cached=stated.get("cachedContentTokenCount"),
        reasoning=stated.get("thoughtsTokenCount"),
    )
