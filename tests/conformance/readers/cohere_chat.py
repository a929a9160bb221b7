"""Cohere's chat API, version 2, by the `cohere` SDK."""

import functools
import logging

import cohere
from cohere.core.api_error import ApiError

from reading import CUT, IN_BAND, UNPARSABLE, Call, Reading, Usage, count
from readers import plain as framing

PACKAGE = "cohere"
FINISH = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    # The word of API version 1.
    "ERROR_TOXIC": "content_filter",
}
KINDS = (
    "content-start",
    "content-delta",
    "tool-plan-delta",
    "tool-call-start",
    "tool-call-delta",
    "message-end",
)
BROKEN_OFF = ("ERROR", "TIMEOUT")
MESSAGES = [{"role": "user", "content": "Hello."}]
ONCE = {"max_retries": 0}


def sdk(recording, url, key):
    values = []
    log = _Log()
    logging.getLogger().addHandler(log)
    try:
        if recording.streamed:
            for event in _client(url).chat_stream(model=key, messages=MESSAGES, request_options=ONCE):
                values.append(event.dict())
        else:
            values.append(_client(url).chat(model=key, messages=MESSAGES, request_options=ONCE).dict())
    except ApiError as error:
        return _read(recording, values).fail(IN_BAND, error.body)
    finally:
        logging.getLogger().removeHandler(log)
    reading = _read(recording, values)
    if log.skipped or reading.failed == CUT:
        raise ValueError("no error, at most a line in the log, for events that it does not know")
    return reading


def plain(recording):
    values, broken = framing.objects(recording)
    if recording.streamed:
        values = [{"type": name} | value for name, value in zip(framing.names(recording), values) if value]
    return _read(recording, values).fail(UNPARSABLE, broken) if broken else _read(recording, values)


@functools.cache
def _client(url):
    return cohere.ClientV2(api_key="none", base_url=url)


class _Log(logging.Handler):
    """Records the events that the SDK skips."""

    skipped = False

    def emit(self, record):
        self.skipped = True


def _read(recording, values):
    return _streamed(values) if recording.streamed else _whole(values[0])


def _streamed(values):
    reading, calls, ended = Reading(), {}, False
    for value in values:
        kind, delta = value.get("type"), value.get("delta") or {}
        if kind not in KINDS:
            if value.get("message"):
                return reading.fail(IN_BAND, value["message"])
            continue
        message = delta.get("message") or {}
        if kind in ("content-start", "content-delta"):
            content = message.get("content") or {}
            reading.text += content.get("text") or ""
            reading.reasoning += content.get("thinking") or ""
        elif kind == "tool-plan-delta":
            reading.note("the tool plan is reasoning")
            reading.reasoning += message.get("tool_plan") or ""
        elif kind == "tool-call-start":
            call = message["tool_calls"]
            function = call.get("function") or {}
            calls[value.get("index")] = Call(call.get("id"), function.get("name"), function.get("arguments") or "")
        elif kind == "tool-call-delta":
            function = message["tool_calls"].get("function") or {}
            calls[value.get("index")].arguments += function.get("arguments") or ""
        elif kind == "message-end":
            ended = True
            _end(reading, delta.get("finish_reason"), delta.get("usage"), delta.get("error"))
    reading.calls = list(calls.values())
    return reading if ended else reading.fail(CUT)


def _whole(value):
    reading = Reading()
    message = value.get("message") or {}
    if isinstance(message, str):
        return reading.fail(IN_BAND, message)
    if not message:
        return reading.fail(UNPARSABLE, "no message: no answer of this protocol")
    if message.get("tool_plan"):
        reading.note("the tool plan is reasoning")
        reading.reasoning += message["tool_plan"]
    for part in message.get("content") or []:
        reading.text += part.get("text") or ""
        reading.reasoning += part.get("thinking") or ""
    for call in message.get("tool_calls") or []:
        function = call.get("function") or {}
        reading.calls.append(Call(call.get("id"), function.get("name"), function.get("arguments") or ""))
    _end(reading, value.get("finish_reason"), value.get("usage"), None)
    return reading


def _end(reading, reason, usage, error):
    reading.end(reason, FINISH)
    if usage:
        counts = usage.get("tokens") or usage.get("billed_units") or {}
        if not usage.get("tokens"):
            reading.note("no `tokens`: usage is `billed_units`")
        reading.usage = Usage(count(counts.get("input_tokens")), count(counts.get("output_tokens")))
        reading.usage.reasoning = count(counts.get("reasoning_tokens"))
        reading.usage.cached = count(usage.get("cached_tokens"))
    if reason in BROKEN_OFF or error:
        reading.fail(IN_BAND, error or reason)
