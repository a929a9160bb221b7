"""Framings read by the letter of their specifications, for answers that an SDK refuses."""

import json
import struct
import zlib


def events(body):
    """The events of an SSE body as (name, data), by the letter of the WHATWG's text, but that a last
    event without its blank line counts if it is whole: it may be the terminal one."""
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
    if lines[-1].startswith("data:"):
        data.append(lines[-1].removeprefix("data:").removeprefix(" "))
    if data and _is_whole("\n".join(data)):
        yield name or "message", "\n".join(data)


def _is_whole(data):
    try:
        json.loads(data)
    except ValueError:
        return data == "[DONE]"
    return True


def says_done(body):
    """Whether the answer ends in OpenAI's `[DONE]`, which its SDKs keep to themselves."""
    return any(line.removeprefix(b"data:").strip() == b"[DONE]" for line in body.splitlines() if line.startswith(b"data:"))


def frames(body):
    """The frames of an `application/vnd.amazon.eventstream` as (headers, payload), all headers being
    strings; raises `ValueError` at a wrong checksum. A last frame that is not whole does not count."""
    while len(body) >= 12:
        length, headers_length, prelude = struct.unpack(">III", body[:12])
        if zlib.crc32(body[:8]) != prelude:
            raise ValueError("a frame's prelude has a wrong checksum")
        if len(body) < length:
            return
        if zlib.crc32(body[: length - 4]) != struct.unpack(">I", body[length - 4 : length])[0]:
            raise ValueError("a frame has a wrong checksum")
        yield _headers(body[12 : 12 + headers_length]), json.loads(body[12 + headers_length : length - 4])
        body = body[length:]


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


def objects(recording):
    """The JSON values of an answer, whole or streamed; raises `ValueError` at what is none."""
    if not recording.streamed:
        return [json.loads(recording.body)]
    if recording.path.endswith(".ndjson"):
        return [json.loads(line) for line in recording.body.splitlines() if line.strip()]
    values = [data.strip() for _, data in events(recording.body)]
    return [json.loads(data) for data in values if data not in ("[DONE]", "")]
