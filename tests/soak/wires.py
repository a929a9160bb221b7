"""Model APIs: how a word, an end and an error are written in each upstream protocol."""

import json

from words import WORD


class Wire:
    content_type = "text/event-stream"
    base = ""
    # Whether something in the answer ends it, before its body ends.
    has_marker = True

    def prefill(self, body):
        """How many words of the answer the request has already."""
        messages = body.get("messages") or [{}]
        if messages[-1].get("role") != "assistant":
            return 0
        content = messages[-1].get("content")
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content)
        return len(WORD.findall(content or ""))

    def start(self):
        return b""


def sse(data, name=None):
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


class OpenAiChat(Wire):
    name = "openai-chat"
    base = "/v1"

    def _chunk(self, delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "soak",
                    "choices": [choice]})

    def start(self):
        return self._chunk({"role": "assistant", "content": ""})

    def word(self, text):
        return self._chunk({"content": text})

    def end(self, words, text):
        usage = {"prompt_tokens": 9, "completion_tokens": words, "total_tokens": 9 + words}
        return self._chunk({}, "stop") + sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                                              "model": "soak", "choices": [], "usage": usage}) + b"data: [DONE]\n\n"

    def error(self):
        return sse({"error": {"message": "the model failed", "type": "server_error", "code": None}})


class Anthropic(Wire):
    name = "anthropic-messages"

    def start(self):
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "soak", "content": [],
                   "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1}}
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return sse({"type": "message_start", "message": message}, "message_start") + sse(block, "content_block_start")

    def word(self, text):
        return sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
                   "content_block_delta")

    def end(self, words, text):
        return (sse({"type": "content_block_stop", "index": 0}, "content_block_stop")
                + sse({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                       "usage": {"output_tokens": words}}, "message_delta")
                + sse({"type": "message_stop"}, "message_stop"))

    def error(self):
        return sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")


class Responses(Wire):
    name = "openai-responses"
    base = "/v1"
    _response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "soak", "output": []}

    def _event(self, name, **members):
        return sse({"type": name, **members}, name)

    def start(self):
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        return (self._event("response.created", response={**self._response, "status": "in_progress"})
                + self._event("response.output_item.added", output_index=0, item=item)
                + self._event("response.content_part.added", item_id="msg_1", output_index=0, content_index=0, part=part))

    def word(self, text):
        return self._event("response.output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta=text)

    def end(self, words, text):
        usage = {"input_tokens": 9, "output_tokens": words, "total_tokens": 9 + words}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": text, "annotations": []}]}
        completed = {**self._response, "status": "completed", "usage": usage, "output": [item] if text else []}
        return self._event("response.completed", response=completed)

    def error(self):
        failed = {**self._response, "status": "failed", "error": {"code": "server_error", "message": "it failed"}}
        return self._event("response.failed", response=failed)


class Gemini(Wire):
    name = "gemini"
    has_marker = False

    def _answer(self, text, words, finish=None):
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": 9, "candidatesTokenCount": words, "totalTokenCount": 9 + words}
        return sse({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "soak"})

    def prefill(self, body):
        return 0

    def word(self, text):
        return self._answer(text, 1)

    def end(self, words, text):
        return self._answer("", words, "STOP")

    def error(self):
        return sse({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})


class Ollama(Wire):
    name = "ollama-chat"
    content_type = "application/x-ndjson"

    def _line(self, text, **members):
        message = {"role": "assistant", "content": text}
        line = {"model": "soak", "created_at": "2026-11-22T21:00:00Z", "message": message, "done": False, **members}
        return json.dumps(line).encode() + b"\n"

    def word(self, text):
        return self._line(text)

    def end(self, words, text):
        return self._line("", done=True, done_reason="stop", prompt_eval_count=9, eval_count=words)

    def error(self):
        return b'{"error":"the model runner has stopped"}\n'


WIRES = {wire.name: wire for wire in [OpenAiChat(), Anthropic(), Responses(), Gemini(), Ollama()]}
