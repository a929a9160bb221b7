"""Framings read by the letter of their specifications, for answers that an SDK refuses."""

import json


def events(body):
    """The events of an SSE body as (name, data), after the WHATWG's text: an event without its
    blank line at the end does not count."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    name, data = "", []
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines[:-1]:
        if not line:
            if data:
                yield name or "message", "\n".join(data)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)


def says_done(body):
    """Whether the answer ends in OpenAI's `[DONE]`, which its SDKs keep to themselves."""
    return any(line.removeprefix(b"data:").strip() == b"[DONE]" for line in body.splitlines() if line.startswith(b"data:"))


def objects(recording):
    """The JSON values of an answer, whole or streamed; raises `ValueError` at what is none."""
    if not recording.streamed:
        return [json.loads(recording.body)]
    if recording.path.endswith(".ndjson"):
        return [json.loads(line) for line in recording.body.splitlines() if line.strip()]
    values = [data.strip() for _, data in events(recording.body)]
    return [json.loads(data) for data in values if data not in ("[DONE]", "")]
