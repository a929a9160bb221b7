"""A model API of the chat protocol whose answers have a given length and a text that shows what is missing."""

import asyncio
import json


def text_of(prompt):
    """The answer to `{"number": 7, "words": 3, "seconds": 2}`: `7.0 7.1 7.2 `."""
    return "".join(f"{prompt['number']}.{word} " for word in range(prompt["words"]))


class Upstream:
    """Continues a given beginning, and counts how often it was asked for each prompt."""

    def __init__(self):
        self.asked = {}
        self.port = None
        self._server = None

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length:")[1].split("\r\n")[0])
                await self._answer(json.loads(await reader.readexactly(length)), writer)
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request, writer):
        asked = next(message for message in request["messages"] if message["role"] == "user")
        prompt = json.loads(asked["content"])
        self.asked[prompt["number"]] = self.asked.get(prompt["number"], 0) + 1
        last = request["messages"][-1]
        beginning = last["content"] if last["role"] == "assistant" else ""
        rest = text_of(prompt)[len(beginning) :]
        words = [word + " " for word in rest.split(" ")[:-1]]
        # The gateway may trim the space at the seam.
        if rest.startswith(" "):
            words[0:2] = [" " + words[1]] if len(words) > 1 else [" "]
        pause = prompt["seconds"] / prompt["words"]
        if not request.get("stream"):
            await asyncio.sleep(pause * len(words))
            message = {"role": "assistant", "content": rest}
            body = self._object("chat.completion", {"message": message, "finish_reason": "stop"}, self._usage(prompt))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
            return await writer.drain()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        # Absolute times, so that a busy machine makes no answer longer.
        clock = asyncio.get_running_loop()
        began = clock.time()
        for number, word in enumerate(words):
            await asyncio.sleep(began + number * pause - clock.time())
            self._event(writer, {"delta": {"content": word}, "finish_reason": None})
            await writer.drain()
        self._event(writer, {"delta": {}, "finish_reason": "stop"}, self._usage(prompt))
        self._chunk(writer, b"data: [DONE]\n\n")
        self._chunk(writer, b"")
        await writer.drain()

    def _usage(self, prompt):
        return {"prompt_tokens": 5, "completion_tokens": prompt["words"], "total_tokens": 5 + prompt["words"]}

    def _event(self, writer, choice, usage=None):
        self._chunk(writer, b"data: " + self._object("chat.completion.chunk", choice, usage) + b"\n\n")

    def _object(self, kind, choice, usage):
        body = {"id": "scripted-1", "object": kind, "created": 1, "model": "scripted", "choices": [{"index": 0, **choice}]}
        return json.dumps(body | ({"usage": usage} if usage else {})).encode()

    def _chunk(self, writer, data):
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
