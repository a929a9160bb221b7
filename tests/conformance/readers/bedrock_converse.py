"""Amazon Bedrock's Converse and ConverseStream, by `boto3`, which checks every frame's CRCs."""

import functools

import boto3
import botocore.config
import botocore.exceptions

from reading import CUT, IN_BAND, Call, Reading, Usage, json_text, total

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
MESSAGES = [{"role": "user", "content": [{"text": "Hello."}]}]


def sdk(recording, url, key):
    if not recording.streamed:
        return _whole(_client(url).converse(modelId=key, messages=MESSAGES))
    reading, blocks, usage, reason = Reading(), {}, None, None
    try:
        for event in _client(url).converse_stream(modelId=key, messages=MESSAGES)["stream"]:
            if "contentBlockStart" in event:
                start = event["contentBlockStart"]
                blocks[start["contentBlockIndex"]] = dict(start["start"].get("toolUse") or {})
            elif "contentBlockDelta" in event:
                delta = event["contentBlockDelta"]
                _delta(reading, blocks.setdefault(delta["contentBlockIndex"], {}), delta["delta"])
            elif "messageStop" in event:
                reason = event["messageStop"]["stopReason"]
            elif "metadata" in event:
                usage = event["metadata"].get("usage")
    except botocore.exceptions.EventStreamError as error:
        reading.fail(IN_BAND, error.response["Error"].get("Message", error))
    reading.calls = [_call(block) for block in blocks.values() if "toolUseId" in block]
    return _end(reading, reason, usage)


def plain(recording):
    """There is no second reader of this framing: what `boto3` refuses does not parse."""
    raise ValueError(f"boto3 cannot read {recording.path}")


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
    for block in answer["output"]["message"]["content"]:
        reading.text += block.get("text") or ""
        reasoning = (block.get("reasoningContent") or {}).get("reasoningText") or {}
        reading.reasoning += reasoning.get("text") or ""
        if "toolUse" in block:
            reading.calls.append(_call(block["toolUse"]))
    return _end(reading, answer.get("stopReason"), answer.get("usage"))


def _call(block):
    return Call(block.get("toolUseId"), block.get("name"), json_text(block.get("input")) or "{}")


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
