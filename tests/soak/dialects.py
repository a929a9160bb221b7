"""Client protocols: the requests, and what the events of an answer mean."""

import json

# What one event means: a text, an end or nothing of interest.
TEXT, COMPLETE, ERROR, OTHER = "text", "complete", "error", "other"


def messages(prompt):
    return [{"role": "user", "content": prompt}]


class Native:
    name, path, has_whole = "native", "/v1/streams", False

    def body(self, model, prompt, whole):
        return {"model": model, "prompt": prompt}

    def event(self, name, data):
        if name == "token":
            return TEXT, json.loads(data)["text"]
        return {"complete": COMPLETE, "error": ERROR}.get(name, OTHER), data


class OpenAiChat:
    name, path, has_whole = "openai-chat", "/v1/chat/completions", True

    def body(self, model, prompt, whole):
        return {"model": model, "messages": messages(prompt), "stream": not whole}

    def event(self, name, data):
        if data == "[DONE]":
            return COMPLETE, data
        event = json.loads(data)
        if "error" in event:
            return ERROR, data
        return TEXT, "".join(choice["delta"].get("content") or "" for choice in event["choices"])

    def whole(self, answer):
        return answer["choices"][0]["message"]["content"]


class Anthropic:
    name, path, has_whole = "anthropic", "/v1/messages", True

    def body(self, model, prompt, whole):
        return {"model": model, "messages": messages(prompt), "max_tokens": 4096, "stream": not whole}

    def event(self, name, data):
        event = json.loads(data)
        if event["type"] == "content_block_delta":
            return TEXT, event["delta"].get("text", "")
        return {"message_stop": COMPLETE, "error": ERROR}.get(event["type"], OTHER), data

    def whole(self, answer):
        return "".join(part.get("text", "") for part in answer["content"])


class Responses:
    name, path, has_whole = "openai-responses", "/v1/responses", True

    def body(self, model, prompt, whole):
        return {"model": model, "input": prompt, "stream": not whole}

    def event(self, name, data):
        event = json.loads(data)
        if event["type"] == "response.output_text.delta":
            return TEXT, event["delta"]
        # `error` is followed by `response.failed`.
        ends = {"response.completed": COMPLETE, "response.incomplete": COMPLETE, "response.failed": ERROR}
        return ends.get(event["type"], OTHER), data

    def whole(self, answer):
        parts = [part for item in answer["output"] for part in item.get("content", ())]
        return "".join(part.get("text", "") for part in parts)


class UiMessages:
    name, path, has_whole = "ui-messages", "/v1/ui-messages", False

    def body(self, model, prompt, whole):
        return {"model": model, "messages": [{"role": "user", "parts": [{"type": "text", "text": prompt}]}]}

    def event(self, name, data):
        # The protocol has a marker behind its last event.
        if data == "[DONE]":
            return OTHER, data
        event = json.loads(data)
        if event["type"] == "text-delta":
            return TEXT, event["delta"]
        return {"finish": COMPLETE, "error": ERROR}.get(event["type"], OTHER), data


DIALECTS = [Native(), OpenAiChat(), Anthropic(), Responses(), UiMessages()]
NATIVE = DIALECTS[0]


class Events:
    """Parses server-sent events and keeps the text, the end and what came behind it."""

    def __init__(self, dialect):
        self._dialect = dialect
        self._rest = b""
        self.texts = []
        self.last_id = None
        self.end = None
        self.end_data = None
        self.after_end = []
        self.count = 0

    @property
    def text(self):
        return "".join(self.texts)

    def feed(self, data):
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        for frame in frames:
            self._frame(frame.decode())

    def _frame(self, frame):
        name, data = None, []
        for line in frame.split("\n"):
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif field == "id":
                self.last_id = value
        if not data:
            return
        self.count += 1
        kind, value = self._dialect.event(name, "\n".join(data))
        if self.end and value != "[DONE]":
            self.after_end.append(frame)
        elif kind == TEXT:
            self.texts.append(value)
        elif kind in (COMPLETE, ERROR):
            # A marker behind an end, such as [DONE], is one end, not two.
            if self.end:
                self.after_end.append(frame)
            self.end, self.end_data = self.end or kind, self.end_data or value
