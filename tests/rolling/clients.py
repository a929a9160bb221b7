"""Clients that resume and retry as docs/protocol.md says."""

import asyncio
import json

from wire import Broken, Connection
from upstream import text_of

# How long a client retries, in seconds: longer than any outage of the trials.
RETRY_TIME = 45


class Outcome:
    """What one client got."""

    def __init__(self, kind, prompt, started):
        self.kind = kind
        self.prompt = prompt
        self.started = started
        self.ended = None
        self.text = ""
        # `complete`, `error`, or `lost` where the client gave up without either.
        self.end = "lost"
        self.detail = ""
        self.resumes = 0
        # Refusals that the client saw before its request was answered: (status, code).
        self.refusals = []
        self.breaks = 0
        self.repeated = 0
        self.missing = 0

    def is_exact(self):
        return self.end == "complete" and self.text == text_of(self.prompt)

    def has_clean_error(self):
        """Whether it ended in an error, after text that is the beginning of the answer."""
        return self.end == "error" and text_of(self.prompt).startswith(self.text)


class Clients:
    """Starts clients at the balancer."""

    def __init__(self, port, key):
        self._port = port
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    async def native(self, model, prompt, leaves_after=None):
        """Reads a native stream, and resumes it with `last-event-id` until its terminal event.

        `leaves_after`: after so many events, the client drops its connection once and comes back.
        """
        clock = asyncio.get_running_loop()
        outcome = Outcome(model, prompt, clock.time())
        body = json.dumps({"model": model, "prompt": json.dumps(prompt)}).encode()
        last, seen, next_number = None, 0, 0
        while clock.time() - outcome.started < prompt["seconds"] + RETRY_TIME:
            connection = Connection(self._port)
            headers = dict(self._headers, accept="text/event-stream")
            pause = 1.0
            try:
                if last:
                    outcome.resumes += 1
                    response = await connection.send("GET", "/v1/streams", headers | {"last-event-id": last})
                else:
                    response = await connection.send("POST", "/v1/streams", headers, body)
                if response.status == 204:
                    break
                if response.status != 200:
                    code = await _code(response)
                    outcome.refusals.append((response.status, code))
                    if response.status < 500 and response.status != 429:
                        outcome.end, outcome.detail = "error", f"{response.status} {code}"
                        break
                    await asyncio.sleep(response.retry_after(1.0))
                    continue
                async for event in _events(response):
                    number = int(event["id"].split(".")[1])
                    data = json.loads(event["data"])
                    if event["event"] == "error":
                        # The id may be that of the last content: then the stream goes on elsewhere.
                        outcome.end, outcome.detail = "error", f"{event['id']}: {data['error']['code']}: {data['error']['message']}"
                        last = event["id"]
                        if not data["error"]["retryable"]:
                            outcome.ended = clock.time()
                            return outcome
                        pause = 0.0
                        break
                    outcome.repeated += number < next_number
                    outcome.missing += max(number - next_number, 0)
                    last, next_number = event["id"], number + 1
                    outcome.text += data["text"] if event["event"] == "token" else ""
                    if event["event"] == "complete":
                        outcome.end, outcome.ended = "complete", clock.time()
                        return outcome
                    seen += 1
                    if seen == leaves_after:
                        pause = 0.0
                        break
            except Broken as broken:
                outcome.breaks += 1
                outcome.detail = outcome.detail or str(broken)
            finally:
                connection.close()
            await asyncio.sleep(pause)
        outcome.ended = clock.time()
        return outcome

    async def whole(self, connection, prompt):
        """A chat completion that is not streamed, over a kept connection, with an SDK's two retries."""
        clock = asyncio.get_running_loop()
        outcome = Outcome("whole", prompt, clock.time())
        request = {"model": "plain", "messages": [{"role": "user", "content": json.dumps(prompt)}]}
        for attempt in range(3):
            try:
                path = "/v1/chat/completions"
                response = await connection.send("POST", path, self._headers, json.dumps(request).encode(), keep=True)
                body = await response.body()
                connection.release()
                if response.status == 200:
                    outcome.text = json.loads(body)["choices"][0]["message"]["content"]
                    outcome.end = "complete"
                    break
                outcome.refusals.append((response.status, _code_of(body)))
                outcome.end, outcome.detail = "error", f"{response.status} {_code_of(body)}"
                await asyncio.sleep(response.retry_after(0.5 * 2**attempt))
            except Broken as broken:
                connection.close()
                outcome.breaks += 1
                outcome.end, outcome.detail = "error", str(broken)
                await asyncio.sleep(0.5 * 2**attempt)
        outcome.ended = clock.time()
        return outcome

    async def chat(self, prompt):
        """A streamed chat completion, which cannot be resumed: a break is an end that the client sees."""
        clock = asyncio.get_running_loop()
        outcome = Outcome("chat", prompt, clock.time())
        request = {"model": "plain", "stream": True, "messages": [{"role": "user", "content": json.dumps(prompt)}]}
        for attempt in range(3):
            connection = Connection(self._port)
            try:
                path = "/v1/chat/completions"
                response = await connection.send("POST", path, self._headers, json.dumps(request).encode())
                if response.status != 200:
                    outcome.refusals.append((response.status, await _code(response)))
                    await asyncio.sleep(response.retry_after(0.5 * 2**attempt))
                    continue
                async for event in _events(response):
                    if event["data"] == "[DONE]":
                        outcome.end = "complete" if outcome.end == "lost" else outcome.end
                        break
                    data = json.loads(event["data"])
                    if "error" in data:
                        outcome.end, outcome.detail = "error", str(data["error"].get("code"))
                    elif data["choices"]:
                        outcome.text += data["choices"][0]["delta"].get("content") or ""
            except Broken as broken:
                outcome.breaks += 1
                outcome.end, outcome.detail = "error", str(broken)
                if not outcome.text:
                    await asyncio.sleep(0.5 * 2**attempt)
                    continue
            finally:
                connection.close()
            break
        outcome.ended = clock.time()
        return outcome


async def _code(response):
    try:
        return _code_of(await response.body())
    except Broken:
        return "broken"


def _code_of(body):
    """The code in an error of the gateway; a balancer's own page has none."""
    try:
        return json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return "balancer"


async def _events(response):
    rest = b""
    async for piece in response.pieces():
        rest += piece
        *events, rest = rest.split(b"\n\n")
        for event in events:
            lines = (line.split(": ", 1) for line in event.decode().split("\n") if not line.startswith(":"))
            fields = {line[0]: line[1] for line in lines if len(line) == 2}
            if "data" in fields:
                yield fields
