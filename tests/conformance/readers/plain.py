"""Framings read strictly by their specifications, for answers that an SDK refuses."""

import json
import struct
import zlib


def events(body):
    """The events of an SSE body as (name, data), by the WHATWG specification. A last event without its blank
    line counts too if its data is complete."""
    whole, rest = _split(body, "\n\n")
    for block in whole.split("\n\n"):
        yield from _event(block)
    yield from (event for event in _event(rest) if _is_whole(event[1]))


def split(recording):
    """A body's text up to the end of its last complete event or line, and the rest."""
    return _split(recording.body, "\n" if recording.path.endswith(".ndjson") else "\n\n")


def _split(body, end):
    text = body.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    whole, found, rest = text.rpartition(end)
    return whole + found, rest


def _event(block):
    name, data = "", []
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    if data:
        yield name or "message", "\n".join(data)


def _is_whole(data):
    try:
        json.loads(data)
    except ValueError:
        return data == "[DONE]"
    return True


def says_done(body):
    """Whether the answer ends with OpenAI's `[DONE]`, which its SDKs hide."""
    return any(line.removeprefix(b"data:").strip() == b"[DONE]" for line in body.splitlines() if line.startswith(b"data:"))


def frames(body):
    """The frames of an `application/vnd.amazon.eventstream` as (headers, payload) with string headers. Raises
    `ValueError` for a wrong checksum. An incomplete last frame does not count."""
    while len(body) >= 12:
        length, headers_length, prelude = struct.unpack(">III", body[:12])
        if zlib.crc32(body[:8]) != prelude or length < 16 + headers_length:
            raise ValueError("a frame's prelude is wrong")
        if len(body) < length:
            return
        if zlib.crc32(body[: length - 4]) != struct.unpack(">I", body[length - 4 : length])[0]:
            raise ValueError("a frame has a wrong checksum")
        yield _headers(body[12 : 12 + headers_length]), body[12 + headers_length : length - 4]
        body = body[length:]


def half_frame(body):
    """Whether the answer ends within a frame."""
    while len(body) >= 4:
        length = struct.unpack(">I", body[:4])[0]
        if len(body) < length:
            return True
        body = body[max(length, 16) :]
    return bool(body)


def _headers(data):
    found = {}
    while data:
        name_end = 1 + data[0]
        name, kind = data[1:name_end].decode(), data[name_end]
        if kind != 7:
            raise ValueError(f"header {name} is no string")
        value_start = name_end + 3
        value_end = value_start + int.from_bytes(data[name_end + 1 : value_start], "big")
        found[name] = data[value_start:value_end].decode()
        data = data[value_end:]
    return found


def names(recording):
    """The names of the events whose values `objects` returns."""
    return [name for name, data in events(recording.body) if data.strip() not in ("[DONE]", "")]


def bare(body):
    """JSON documents between the events of an SSE body, such as Gemini's errors."""
    for block in "".join(_split(body, "\n\n")).split("\n\n"):
        try:
            yield json.loads(block)
        except ValueError:
            continue


def objects(recording):
    """The JSON values of an answer, complete or streamed, up to the first error, and that error."""
    found = []
    try:
        for text in _texts(recording):
            found.append(json.loads(text))
    except ValueError as error:
        return found, error
    return found, None


def _texts(recording):
    if not recording.streamed:
        yield recording.body
    elif recording.path.endswith(".ndjson"):
        *lines, last = recording.body.split(b"\n")
        yield from (line for line in lines if line.strip())
        if last.strip() and _is_whole(last):
            yield last
    else:
        yield from (data for _, data in events(recording.body) if data.strip() not in ("[DONE]", ""))

