"""Amazon Bedrock's Converse and ConverseStream, by `boto3`, which checks every frame's CRCs."""

import functools
import json

import boto3
import botocore.config
import botocore.eventstream
import botocore.exceptions

from reading import CUT, IN_BAND, UNPARSABLE, Call, Reading, Usage, json_text, total
from readers import plain as framing

PACKAGE = "boto3"
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
EVENTS = ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata")
MESSAGES = [{"role": "user", "content": [{"text": "Hello."}]}]


def sdk(recording, url, key):
    if not recording.streamed:
        answer = _client(url).converse(modelId=key, messages=MESSAGES)
        if "output" not in answer:
            raise ValueError("nothing for a body that is no answer")
        return _whole(answer)
    if framing.half_frame(recording.body):
        raise ValueError("no error where the last frame was cut off")
    answer = _client(url).converse_stream(modelId=key, messages=MESSAGES)
    return _join(answer["stream"])


def plain(recording):
    if not recording.streamed:
        return _whole(json.loads(recording.body))
    reading = _join(_events(recording.body))
    if framing.half_frame(recording.body) and not reading.failed:
        return reading.fail(CUT)
    return reading


def _events(body):
    for headers, payload in framing.frames(body):
        kind = headers.get(":message-type")
        if kind == "event" and headers.get(":event-type") in EVENTS:
            yield {headers[":event-type"]: json.loads(payload)}
        elif kind in ("error", "exception"):
            message = headers.get(":error-message") or json.loads(payload).get("message")
            raise botocore.exceptions.EventStreamError({"Error": {"Message": message}}, "ConverseStream")


def _join(events):
    reading, blocks, usage, reason = Reading(), {}, None, None
    try:
        for event in events:
            if "contentBlockStart" in event:
                start = event["contentBlockStart"]
                blocks[start["contentBlockIndex"]] = dict(start["start"].get("toolUse") or {})
            elif "contentBlockDelta" in event:
                delta = event["contentBlockDelta"]
                _delta(reading, blocks.setdefault(delta["contentBlockIndex"], {}), delta["delta"])
            elif "messageStop" in event:
                reason = event["messageStop"].get("stopReason") or ""
            elif "metadata" in event:
                usage = event["metadata"].get("usage")
    except botocore.exceptions.EventStreamError as error:
        reading.fail(IN_BAND, error.response["Error"].get("Message", error))
    except (botocore.eventstream.ParserError, ValueError) as error:
        reading.fail(UNPARSABLE, error)
    for block in blocks.values():
        _call(reading, block)
    return _end(reading, reason, usage)


@functools.cache
def _client(url):
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )


def _delta(reading, block, delta):
    reading.text += delta.get("text") or ""
    reading.reasoning += (delta.get("reasoningContent") or {}).get("text") or ""
    if "toolUse" in delta:
        block["input"] = block.get("input", "") + delta["toolUse"].get("input", "")


def _whole(answer):
    reading = Reading()
    if "output" not in answer:
        return reading.fail(IN_BAND if answer.get("message") else UNPARSABLE, answer.get("message"))
    for block in answer["output"]["message"]["content"]:
        reading.text += block.get("text") or ""
        cited = (block.get("citationsContent") or {}).get("content") or []
        reading.text += "".join(part.get("text") or "" for part in cited)
        reasoning = (block.get("reasoningContent") or {}).get("reasoningText") or {}
        reading.reasoning += reasoning.get("text") or ""
        _call(reading, block.get("toolUse") or {})
    return _end(reading, answer.get("stopReason"), answer.get("usage"))


def _call(reading, block):
    if block.get("type") == "server_tool_use":
        reading.note("`server_tool_use` is a call that the vendor ran itself, no `tool_call`")
    elif "toolUseId" in block:
        reading.calls.append(Call(block["toolUseId"], block.get("name"), json_text(block.get("input"))))


def _end(reading, reason, usage):
    if usage:
        cached = usage.get("cacheReadInputTokens")
        reading.usage = Usage(
            input=total(usage.get("inputTokens"), cached, usage.get("cacheWriteInputTokens")),
            output=usage.get("outputTokens"),
            cached=cached,
        )
    if reading.failed:
        return reading
    if reason is None:
        return reading.fail(CUT)
    if reason.startswith("malformed_"):
        return reading.fail(IN_BAND, reason)
    reading.end(reason, FINISH)
    return reading
