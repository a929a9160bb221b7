"""Independent readings of an answer: by the vendor's own SDK, or as plain JSON if the SDK fails.

A reader module has `sdk(recording, url, key)`, which connects the SDK to the answer server, and
`plain(recording)`. Both return a `Reading`. If the SDK raises an exception other than its error for an
error in the answer, the SDK cannot read the answer. Then `plain` reads it, and the reading has a note.
"""

import dataclasses
import importlib.metadata

from reading import CUT, UNPARSABLE, Reading
from readers import plain as framing
from readers import anthropic_messages, bedrock_converse, cohere_chat, gemini, mistral, ollama_chat, openai_chat, openai_responses

READERS = {
    "anthropic-messages": anthropic_messages,
    "bedrock-converse": bedrock_converse,
    "cohere-chat": cohere_chat,
    "gemini": gemini,
    "ollama-chat": ollama_chat,
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
}
# Vendors of OpenAI Chat with an SDK of their own.
READERS_OF_VENDORS = {("openai-chat", "mistral"): mistral}


def read(recording, url, without_sdk=False):
    """The reading of a recorded answer with status 200, and the reader's name."""
    reader = READERS_OF_VENDORS.get((recording.wire, recording.vendor), READERS[recording.wire])
    if without_sdk:
        return _plain(reader, recording), "plain JSON"
    try:
        if _last_event(recording):
            raise ValueError("nothing, or no error, for a last event without its blank line")
        reading = reader.sdk(recording, url, f"sdk-{recording.number}")
        return reading, _named(reader.PACKAGE)
    except Exception as refused:  # SDKs raise exceptions of any type.
        reading = _plain(reader, recording)
        reading.note(f"read without SDK: {reader.PACKAGE} gives {_short(refused)}")
        return reading, "plain JSON"


def _plain(reader, recording):
    """An answer of another shape than its protocol's counts as one that does not parse."""
    try:
        last = _last_event(recording)
        return _without_end(reader, recording, last) if last else reader.plain(recording)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return Reading().fail(UNPARSABLE, error)


def _without_end(reader, recording, last):
    """By the public interface, an event without its end counts only if it is the terminal event, and a
    finish reason ends an answer only if the body does not end within a later event."""
    if reader.plain(dataclasses.replace(recording, body=last.encode())).failed != CUT:
        return reader.plain(recording)
    whole = framing.split(recording)[0].encode()
    reading = reader.plain(dataclasses.replace(recording, body=whole))
    # An event without data loses nothing.
    if reading.finish and "data:" in last:
        return reading.fail(CUT)
    return reading


def _last_event(recording):
    """The last event or line if its end is missing. Data after `[DONE]` is ignored."""
    if not recording.path.endswith((".sse", ".ndjson")) or framing.says_done(recording.body):
        return None
    return framing.split(recording)[1].strip() or None


def _named(package):
    return f"{package} {importlib.metadata.version(package)}"


def _short(refused):
    lines = str(refused).strip().splitlines() or [""]
    return f"{type(refused).__name__}: {lines[0][:120]}"
