"""OpenAI Chat Completions and compatible APIs, by the `openai` SDK."""

import functools

import openai

from reading import CUT, IN_BAND, UNPARSABLE, Call, Reading, Usage, count, json_text
from readers import plain as framing

PACKAGE = "openai"
FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
# The model did not finish its answer: vLLM, OpenRouter, DeepSeek.
BROKEN_OFF = ("abort", "error", "insufficient_system_resource")
MESSAGES = [{"role": "user", "content": "Hello."}]


def sdk(recording, url, key):
    if _error_field(recording.body):
        raise ValueError("nothing for llama.cpp's line `error: …`, which is no field of SSE")
    reading, chunks = Reading(), []
    completions = _client(url).chat.completions
    try:
        if recording.streamed:
            for chunk in completions.create(model=key, messages=MESSAGES, stream=True):
                if chunk is not None:
                    chunks.append(chunk.to_dict(warnings=False))
        else:
            chunks.append(completions.create(model=key, messages=MESSAGES).to_dict(warnings=False))
    except openai.APIError as error:
        join(reading, chunks, recording)
        return reading.fail(IN_BAND, error.message)
    return join(reading, chunks, recording)


def plain(recording):
    values, broken = framing.objects(recording)
    reading = join(Reading(), [value for value in values if value is not None], recording)
    if broken:
        return reading.fail(UNPARSABLE, broken)
    error = _error_field(recording.body)
    return reading.fail(IN_BAND, error) if error else reading


def _error_field(body):
    return next((line for line in body.splitlines() if line.startswith(b"error:")), None)


@functools.cache
def _client(url):
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def join(reading, chunks, recording):
    """Joins chunks, or reads the one complete answer, as the API's reference describes."""
    state = _Joined(reading, recording.streamed)
    for chunk in chunks:
        state.chunk(chunk)
        if reading.failed:
            break
    state.end(framing.says_done(recording.body))
    return reading


class _Joined:
    def __init__(self, reading, streamed):
        self.reading = reading
        self.streamed = streamed
        # (index, id) of each call.
        self.keys = []
        self.choice = None
        self.reason = None
        self.refused = False

    def chunk(self, chunk):
        for choice in chunk.get("choices") or []:
            index = choice.get("index") or 0
            self.choice = index if self.choice is None else self.choice
            if self.choice == 0 and index != 0:
                self.reading.note("n > 1: the gateway gives the first choice")
                continue
            if index != self.choice:
                self.reading.note("the vendor numbers a choice anew with every chunk")
            self._choice(choice)
        groq = (chunk.get("x_groq") or {}).get("usage")
        usage = chunk.get("usage") or groq
        if usage:
            self.reading.usage = _usage(usage, self.reading)
        # The SDK raises only for a streamed `error`.
        error = chunk.get("error") or (chunk.get("object") == "error" and chunk.get("message"))
        if error:
            self.reading.fail(IN_BAND, error)

    def _choice(self, choice):
        delta = choice.get("delta") if self.streamed else choice.get("message")
        if self.streamed and delta is None:
            delta = choice.get("message")
            if delta:
                self.reading.note("the vendor streams `message` in the place of `delta`")
        self._delta(delta or {})
        self.reason = choice.get("finish_reason") or self.reason

    def _delta(self, delta):
        self._content(delta.get("content"))
        if delta.get("refusal"):
            self.refused = True
            self.reading.text += delta["refusal"]
        self.reading.reasoning += _reasoning(delta, self.reading)
        for place, piece in enumerate(delta.get("tool_calls") or []):
            self._call(piece, place)
        function = delta.get("function_call") or {}
        # Some vendors send empty values in unused fields.
        if function.get("name") or function.get("arguments"):
            self.reading.note("`function_call`, the older form of a tool call")
            self._call({"index": 0, "function": function}, 0)

    def _content(self, content):
        if isinstance(content, list):
            self.reading.note("`content` is a list of parts")
            for part in content:
                self.reading.text += part.get("text") or ""
                self.reading.reasoning += "".join(thought.get("text") or "" for thought in part.get("thinking") or [])
        else:
            self.reading.text += content or ""

    def _call(self, piece, place):
        function = piece.get("function") or {}
        index = piece.get("index")
        if index is None:
            index = place if self.streamed else len(self.keys)
        elif not self.streamed:
            index = place
        id = piece.get("id") or None
        known = [at for at, key in enumerate(self.keys) if key[0] == index]
        begins = not known or (id is not None and self.keys[known[-1]][1] != id)
        if begins:
            self.keys.append((index, id))
            self.reading.calls.append(Call(id, function.get("name"), json_text(function.get("arguments"))))
            if known:
                self.reading.note("the vendor gives several calls one index: their ids distinguish them")
        else:
            self.reading.calls[known[-1]].arguments += json_text(function.get("arguments"))

    def end(self, done):
        reading = self.reading
        if reading.failed:
            return
        if self.reason in BROKEN_OFF:
            reading.fail(IN_BAND, self.reason)
        elif self.reason:
            reading.end(self.reason, FINISH)
            if self.refused and reading.finish == "stop":
                reading.finish = "refusal"
        elif self.streamed and not done:
            reading.fail(CUT)
        elif not self.streamed and self.choice is None:
            reading.fail(UNPARSABLE, "no choices: no answer of this protocol")
        else:
            reading.finish = "other"


def _reasoning(delta, reading):
    """The SDK keeps the vendors' reasoning fields as extra fields."""
    for field in ("reasoning_content", "reasoning"):
        if isinstance(delta.get(field), str) and delta[field]:
            reading.note(f"reasoning is the vendor's `{field}`")
            return delta[field]
    details = delta.get("reasoning_details") or []
    words = "".join(detail.get("text") or detail.get("summary") or "" for detail in details)
    if words:
        reading.note("reasoning is the vendor's `reasoning_details`")
    return words


def _usage(stated, reading):
    inputs, outputs = stated.get("prompt_tokens_details") or {}, stated.get("completion_tokens_details") or {}
    usage = Usage(count(stated.get("prompt_tokens")), count(stated.get("completion_tokens")))
    usage.cached = _first(inputs.get("cached_tokens"), stated.get("prompt_cache_hit_tokens"), stated.get("cached_tokens"))
    usage.reasoning = _first(outputs.get("reasoning_tokens"), stated.get("reasoning_tokens"))
    parts = (usage.input or 0) + (usage.output or 0)
    if usage.reasoning and stated.get("total_tokens") == parts + usage.reasoning:
        reading.note("the vendor counts reasoning beside `completion_tokens`: by its total, both are output")
        usage.output += usage.reasoning
    return usage


def _first(*values):
    return next((value for value in values if value is not None), None)
