"""OpenAI's Responses API and its look-alikes, by the `openai` SDK.

The terminal event repeats the whole response: that is what is read, not the deltas that the gateway
reads. Deltas are joined only where a vendor leaves the output of its last event empty, or the
answer broke off.
"""

import functools

import openai

from reading import CUT, IN_BAND, UNPARSABLE, Call, Reading, Usage
from readers import plain as framing

PACKAGE = "openai"
CALLS_OF_OTHER_FORMS = ("apply_patch_call", "computer_call", "local_shell_call", "shell_call")
TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def sdk(recording, url, key):
    responses, values = _client(url).responses, []
    try:
        if recording.streamed:
            for event in responses.create(model=key, input="Hello.", stream=True):
                values.append(event.to_dict(warnings=False))
        else:
            return _response(Reading(), responses.create(model=key, input="Hello.").to_dict(warnings=False))
    except openai.APIError as error:
        return _join(values).fail(IN_BAND, error.message)
    return _join(values)


def plain(recording):
    values, broken = framing.objects(recording)
    if not broken and not recording.streamed:
        return _response(Reading(), values[0])
    return _join(values).fail(UNPARSABLE, broken) if broken else _join(values)


@functools.cache
def _client(url):
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def _join(values):
    reading = Reading()
    last = next((value for value in values if value.get("type") in TERMINAL), None)
    failed = next((value for value in values if value.get("type") == "error"), None)
    if last and (last["response"].get("output") or not _items(values)):
        _response(reading, last["response"])
    else:
        if last:
            reading.note("the last event repeats no output: the deltas were joined")
        known = [value["response"] for value in values if value.get("response")]
        response = known[-1] if known else {"status": "in_progress"}
        _response(reading, response | {"output": _items(values)})
    streamed = _streamed_reasoning(values)
    if streamed and streamed != reading.reasoning:
        reading.note("the vendor rewrote its reasoning, and a stream cannot take words back: its deltas were joined")
        reading.reasoning = streamed
    if failed:
        return reading.fail(IN_BAND, failed.get("message") or failed.get("error"))
    return reading if last else reading.fail(CUT)


def _streamed_reasoning(values):
    """The reasoning as it was streamed: of each item the raw text, else the summary."""
    items = {}
    for value in values:
        kind = value.get("type")
        if kind in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
            item = items.setdefault(value.get("output_index"), {})
            item[kind] = item.get(kind, "") + value["delta"]
    return "".join(item.get("response.reasoning_text.delta") or item["response.reasoning_summary_text.delta"] for item in items.values())


def _items(values):
    """The output items that the deltas make, where they are done or as far as they came."""
    items = {}
    for value in values:
        kind, at = value.get("type"), value.get("output_index")
        if kind in ("response.output_item.added", "response.output_item.done"):
            items[at] = value["item"]
        elif kind in ("response.output_text.delta", "response.refusal.delta") and at in items:
            field = "refusal" if "refusal" in kind else "text"
            content = items[at].setdefault("content", [])
            content.append({"type": f"output_{field}" if field == "text" else field, field: value["delta"]})
        elif kind == "response.function_call_arguments.delta" and at in items:
            items[at]["arguments"] = (items[at].get("arguments") or "") + value["delta"]
        elif kind == "response.reasoning_summary_text.delta" and at in items:
            items[at].setdefault("summary", []).append({"text": value["delta"]})
        elif kind == "response.reasoning_text.delta" and at in items:
            items[at].setdefault("content", []).append({"text": value["delta"]})
    return list(items.values())


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
    """Whether the client has that custom tool; a response that repeats no tools does not tell."""
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
