"""Mistral's form of OpenAI Chat, by the `mistralai` SDK."""

import functools

from mistralai.client import Mistral

from reading import Reading
from readers import openai_chat

PACKAGE = "mistralai"
plain = openai_chat.plain


def sdk(recording, url, key):
    chat = _client(url).chat
    if recording.streamed:
        with chat.stream(model=key, messages=openai_chat.MESSAGES) as events:
            chunks = [event.data.model_dump(mode="json") for event in events]
    else:
        chunks = [chat.complete(model=key, messages=openai_chat.MESSAGES).model_dump(mode="json")]
    for chunk in chunks:
        _without_null_ids(chunk)
    return openai_chat.join(Reading(), chunks, recording)


def _without_null_ids(chunk):
    """The SDK sets the id of a call piece without one to the text `null`."""
    for choice in chunk.get("choices") or []:
        for piece in (choice.get("delta") or choice.get("message") or {}).get("tool_calls") or []:
            if piece.get("id") == "null":
                piece["id"] = None


@functools.cache
def _client(url):
    return Mistral(api_key="none", server_url=url)
