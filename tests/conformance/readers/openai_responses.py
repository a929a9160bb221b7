"""OpenAI's Responses API and compatible APIs, by the `openai` SDK.

The terminal event repeats the complete response. The reader uses that, not the deltas that the gateway
reads. It joins deltas only if a vendor leaves the output of the last event empty, or the answer was cut.
"""

import functools

import openai

from reading import CUT, IN_BAND, UNPARSABLE, Call, Reading, Usage
from readers import plain as framing

PACKAGE = "openai"
CALLS_OF_OTHER_FORMS = ("apply_patch_call", "computer_call", "local_shell_call", "shell_call")
# The item type of a delta, the item's field, and the name of the field's parts.
DELTAS = {
    "response.output_text.delta": ("message", "content", "text"),
    "response.refusal.delta": ("message", "content", "refusal"),
    "response.reasoning_text.delta": ("reasoning", "content", "text"),
    "response.reasoning_summary_text.delta": ("reasoning", "summary", "text"),
    "response.function_call_arguments.delta": ("function_call", "arguments", None),
    "response.custom_tool_call_input.delta": ("custom_tool_call", "input", None),
}
TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def sdk(recording, url, key):
    responses, values = _client(url).responses, []
    try:
        if recording.streamed:
            for event in responses.create(model=key, input="Hello.", stream=True):
                values.append(event.to_dict(warnings=False))
        else:
            return _whole(responses.create(model=key, input="Hello.").to_dict(warnings=False))
    except openai.APIError as error:
        return _join(values).fail(IN_BAND, error.message)
    if not all(value.get("type") for value in values):
        raise ValueError("no type for events that have it in their name only")
    return _join(values)


def plain(recording):
    values, broken = framing.objects(recording)
    if not broken and not recording.streamed:
        return _whole(values[0])
    if recording.streamed:
        values = [{"type": name} | value for name, value in zip(framing.names(recording), values)]
    return _join(values).fail(UNPARSABLE, broken) if broken else _join(values)


@functools.cache
def _client(url):
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def _whole(response):
    reading = Reading()
    if response.get("error"):
        return reading.fail(IN_BAND, response["error"])
    if "output" not in response:
        return reading.fail(UNPARSABLE, "no output: no answer of this protocol")
    _response(reading, response)
    # A response that runs in the background.
    return reading.fail(CUT) if response.get("status") in ("queued", "in_progress") else reading


def _join(values):
    reading = Reading()
    last = next((value for value in values if value.get("type") in TERMINAL), None)
    failed = next((value for value in values if value.get("type") == "error"), None)
    streamed = _items(values)
    known = [value["response"] for value in values if value.get("response")]
    response = (last or {}).get("response") or (known[-1] if known else {})
    output = response.get("output") or []
    if streamed and not output:
        if last:
            reading.note("the last event repeats no output: the deltas were joined")
        output = list(streamed.values())
    _response(reading, response | {"output": [_with_input(item, streamed) for item in output]})
    reasoning = _streamed_reasoning(values)
    if reasoning and reasoning != reading.reasoning:
        reading.note("the vendor rewrote its reasoning, and a stream cannot take words back: its deltas were joined")
        reading.reasoning = reasoning
    if failed:
        return reading.fail(IN_BAND, failed.get("message") or failed.get("error"))
    return reading if last else reading.fail(CUT)


def _with_input(item, streamed):
    """xAI sends the input of its calls only in the deltas."""
    for known in streamed.values():
        for field in ("arguments", "input"):
            if known.get("id") == item.get("id") and item.get(field) == "" and known.get(field):
                item = item | {field: known[field]}
    return item


def _streamed_reasoning(values):
    """The streamed reasoning: the raw text of each item, else its summary."""
    items = {}
    for value in values:
        kind = value.get("type")
        if kind in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
            item = items.setdefault(value.get("output_index"), {})
            item[kind] = item.get(kind, "") + value["delta"]
    return "".join(item.get("response.reasoning_text.delta") or item["response.reasoning_summary_text.delta"] for item in items.values())


def _items(values):
    """The output items by index: complete if they are done, else joined from the deltas. llama.cpp sends ids
    instead of indexes."""
    items = {}
    for value in values:
        kind, item = value.get("type"), value.get("item") or {}
        at = value.get("output_index")
        if at is None:
            at = value.get("item_id") or item.get("id") or item.get("call_id")
        if kind == "response.output_item.added":
            items[at] = dict(item)
        elif kind == "response.output_item.done":
            known = items.get(at, {})
            items[at] = item | {field: known[field] for field in ("arguments", "input") if known.get(field)}
        elif kind in DELTAS:
            of, field, part = DELTAS[kind]
            known = items.setdefault(at, {"type": of})
            if part:
                known[field] = (known.get(field) or []) + [{"type": part, part: value["delta"]}]
            else:
                known[field] = (known.get(field) or "") + value["delta"]
    return items


def _response(reading, response):
    refused = False
    for item in response.get("output") or []:
        kind = item.get("type")
        if kind == "message":
            for part in item.get("content") or []:
                refused = refused or part.get("type") == "refusal"
                reading.text += part.get("text") or part.get("refusal") or ""
        elif kind == "reasoning":
            parts = item.get("content") or item.get("summary") or []
            reading.reasoning += "".join(part.get("text") or "" for part in parts)
        elif kind == "function_call":
            reading.calls.append(Call(item.get("call_id"), item.get("name"), item.get("arguments") or ""))
        elif kind == "custom_tool_call" and not _is_declared(item, response.get("tools")):
            reading.note("a custom tool's call that the response's own `tools` do not list is one that the vendor (xAI) ran itself")
        elif kind == "custom_tool_call":
            reading.note("`custom_tool_call`: its input is free text, given as the arguments")
            reading.calls.append(Call(item.get("call_id"), item.get("name"), item.get("input") or ""))
        elif kind in CALLS_OF_OTHER_FORMS:
            reading.note(f"`{kind}` is no call of a named function with JSON arguments: it has no place in the native stream")
        elif kind and kind.endswith("_call"):
            reading.note(f"`{kind}` is a call that the vendor ran itself, no `tool_call`")
    usage = response.get("usage")
    if usage:
        reading.usage = Usage(
            input=usage.get("input_tokens"),
            output=usage.get("output_tokens"),
            cached=(usage.get("input_tokens_details") or {}).get("cached_tokens"),
            reasoning=(usage.get("output_tokens_details") or {}).get("reasoning_tokens"),
        )
    return _end(reading, response, refused)


def _is_declared(call, tools):
    """Whether the client has that custom tool. Unknown if the response does not repeat the tools."""
    if tools is None:
        return True
    return any(
        tool.get("type") == "custom" and tool.get("name") == call.get("name") or _is_declared(call, tool.get("tools") or [])
        for tool in tools
    )


def _end(reading, response, refused):
    status = response.get("status")
    why = (response.get("incomplete_details") or {}).get("reason")
    if status == "failed":
        return reading.fail(IN_BAND, (response.get("error") or {}).get("message"))
    if status == "incomplete":
        reading.finish = {"max_output_tokens": "length", "content_filter": "content_filter"}.get(why, "other")
    elif refused:
        reading.finish = "refusal"
    elif reading.calls:
        reading.finish = "tool_calls"
    else:
        reading.finish = "stop" if status == "completed" else "other"
    return reading
