"""Ollama's own chat API, by the `ollama` SDK."""

import functools
import json

import ollama

from reading import CUT, IN_BAND, UNPARSABLE, Call, Reading, Usage
from readers import plain as framing

PACKAGE = "ollama"
FINISH = {"stop": "stop", "length": "length"}
MESSAGES = [{"role": "user", "content": "Hello."}]


def sdk(recording, url, key):
    values = []
    try:
        if recording.streamed:
            for part in _client(url).chat(model=key, messages=MESSAGES, stream=True):
                values.append(part.model_dump())
        else:
            values.append(_client(url).chat(model=key, messages=MESSAGES).model_dump())
    except ollama.ResponseError as error:
        return _join(values).fail(IN_BAND, error.error)
    return _join(values)


def plain(recording):
    values, broken = framing.objects(recording)
    for at, value in enumerate(values):
        if "error" in value:
            return _join(values[:at]).fail(IN_BAND, value["error"])
    return _join(values).fail(UNPARSABLE, broken) if broken else _join(values)


@functools.cache
def _client(url):
    return ollama.Client(host=url)


def _join(values):
    reading = Reading()
    done = False
    for value in values:
        message = value.get("message") or {}
        reading.text += message.get("content") or ""
        reading.reasoning += message.get("thinking") or ""
        for call in message.get("tool_calls") or []:
            function = call["function"]
            arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
            reading.calls.append(Call(call.get("id"), function["name"], arguments))
        if value.get("done"):
            done = True
            # Ollama before 0.1.38 sends no reason.
            reading.end(value.get("done_reason") or "stop", FINISH)
            reading.usage = Usage(value.get("prompt_eval_count"), value.get("eval_count"))
            # Data after the end does not belong to the answer.
            break
    if not done:
        return reading.fail(CUT)
    if reading.calls and reading.finish == "stop":
        reading.finish = "tool_calls"
    return reading
