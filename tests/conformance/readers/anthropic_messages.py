"""Anthropic's Messages API, by the `anthropic` SDK, which joins the events itself."""

import functools

import anthropic

from reading import CUT, IN_BAND, UNPARSABLE, Call, Reading, Usage, json_text, total
from readers import plain as framing

PACKAGE = "anthropic"
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
    "pause_turn": "pause",
}
REQUEST = {"max_tokens": 1024, "messages": [{"role": "user", "content": "Hello."}]}


def sdk(recording, url, key):
    messages = _client(url).messages
    if not recording.streamed:
        return _message(Reading(), messages.create(model=key, **REQUEST).to_dict(warnings=False))
    reading, snapshot, stopped, inputs = Reading(), {}, False, {}
    with messages.stream(model=key, **REQUEST) as stream:
        try:
            for event in stream:
                stopped = stopped or event.type == "message_stop"
                if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                    inputs[event.index] = inputs.get(event.index, "") + event.delta.partial_json
        except anthropic.APIError as error:
            reading.fail(IN_BAND, error.message)
        if reading.failed is None and not stopped and _names_no_events(recording):
            raise ValueError("no event has a name, and the SDK skips those")
        try:
            snapshot = stream.current_message_snapshot.to_dict(warnings=False)
        except AssertionError:
            pass
    failed, message = reading.failed, reading.message
    for index, arguments in inputs.items():
        # The SDK completes arguments that were cut off.
        snapshot["content"][index]["input"] = arguments
    if snapshot:
        _message(reading, snapshot)
    if failed:
        return reading.fail(failed, message)
    return reading if stopped else reading.fail(CUT)


def plain(recording):
    values, broken = framing.objects(recording)
    if not broken and not recording.streamed:
        return _message(Reading(), values[0])
    blocks, message, stopped, failed = {}, {"usage": {}}, False, None
    for value in values:
        kind = value.get("type")
        if kind == "error":
            failed = value["error"]
            break
        if kind == "message_start":
            message["usage"] |= value["message"].get("usage") or {}
        elif kind == "content_block_start":
            blocks[value["index"]] = dict(value["content_block"])
        elif kind == "content_block_delta":
            _delta(blocks.setdefault(value["index"], {}), value["delta"])
        elif kind == "message_delta":
            message["stop_reason"] = value["delta"].get("stop_reason")
            message["usage"] |= {name: stated for name, stated in (value.get("usage") or {}).items() if stated is not None}
        stopped = stopped or kind == "message_stop"
    reading = _message(Reading(), message | {"content": list(blocks.values())})
    if failed or broken:
        return reading.fail(IN_BAND if failed else UNPARSABLE, failed or broken)
    return reading if stopped else reading.fail(CUT)


@functools.cache
def _client(url):
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)


def _names_no_events(recording):
    return not any(line.startswith(b"event:") for line in recording.body.splitlines())


def _delta(block, delta):
    for field, kind in (("text", "text_delta"), ("thinking", "thinking_delta")):
        if delta.get("type") == kind:
            block[field] = (block.get(field) or "") + (delta.get(field) or "")
    if delta.get("type") == "input_json_delta":
        before = block["input"] if isinstance(block.get("input"), str) else ""
        block["input"] = before + (delta.get("partial_json") or "")


def _message(reading, message):
    if message.get("type") == "error":
        return reading.fail(IN_BAND, message["error"])
    for block in message.get("content") or []:
        kind = block.get("type")
        if kind == "text":
            reading.text += block.get("text") or ""
        elif kind == "thinking":
            reading.reasoning += block.get("thinking") or ""
        elif kind == "tool_use":
            reading.calls.append(Call(block.get("id"), block.get("name"), json_text(block.get("input"))))
        elif kind == "server_tool_use":
            reading.note("`server_tool_use` is a call that the vendor ran itself, no `tool_call`")
    reading.end(message.get("stop_reason"), FINISH)
    usage = message.get("usage") or {}
    details = usage.get("output_tokens_details") or {}
    cached = usage.get("cache_read_input_tokens")
    reading.usage = Usage(
        input=total(usage.get("input_tokens"), usage.get("cache_creation_input_tokens"), cached),
        output=usage.get("output_tokens"),
        cached=cached,
        reasoning=details.get("thinking_tokens"),
    )
    return reading
