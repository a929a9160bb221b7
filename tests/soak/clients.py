"""Clients: each sends one request after the other, reads the answers in its own way and checks them."""

import asyncio
import collections
import contextlib
import json
import socket

import settings
from dialects import COMPLETE, DIALECTS, ERROR, NATIVE, Events
from http1 import Cut, read_answer_head, read_body, read_head, read_whole

# Longer than every deadline of the config together.
PATIENCE = 150
# How a client behaves, and how likely that is.
CLIENT_WAYS = {"read": 50, "leave": 14, "pause": 8, "resume": 12, "cancel": 6, "background": 5, "embed": 3, "flood": 2}


class Clients:
    """What all clients have in common."""

    def __init__(self, gateway, ledger, random, short):
        self.gateway = gateway
        # How many words an answer has at most, and the milliseconds between two.
        self.words, self.paces = (20, [20, 50, 200]) if short else (60, [20, 200, 400, 800])
        self.longest_pause = 1 if short else 4
        self.ledger = ledger
        self.random = random
        self.outcomes = collections.Counter()
        self.problems = []
        self.sent = collections.Counter()
        # Requests that may have ended before a target's answer was known.
        self.gone_early = 0
        self.active = 0
        self.number = 0

    def begin(self, model):
        self.number += 1
        self.sent[model] += 1
        return self.number

    def report(self, problem):
        self.outcomes["PROBLEM"] += 1
        if len(self.problems) < 100:
            self.problems.append(problem)

    async def run_until(self, stopped):
        """One client, until `stopped` is set."""
        while not stopped.is_set():
            way = self.random.choices(list(CLIENT_WAYS), CLIENT_WAYS.values())[0]
            before = self.outcomes["refused"]
            await self.run_once(way, self.random.choice(list(settings.MODELS)))
            # One that was refused comes back later, as a client would.
            refused = self.outcomes["refused"] > before
            await asyncio.sleep(self.random.uniform(0, 0.5 if refused else 0.05))

    async def run_once(self, way, model, whole=None):
        session = Session(self, way, model, whole)
        self.active += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await session.run()
        except TimeoutError:
            self.report(f"{session.title}: not ended after {PATIENCE} s; text so far: {session.events.text[-80:]!r}")
        except (Cut, ConnectionError, ValueError, LookupError) as error:
            self.report(f"{session.title}: {type(error).__name__}: {error}")
        finally:
            self.active -= 1


class Session:
    """One request and all that follows from it."""

    def __init__(self, clients, way, model, whole):
        random = clients.random
        self.clients = clients
        self.random = random
        self.way = way
        self.dialect = NATIVE if way in ("resume", "cancel", "background") else random.choice(DIALECTS)
        if way == "embed":
            model = random.choice(settings.PASSING)
        self.model = model
        self.whole = self.dialect.has_whole and (random.random() < 0.2 if whole is None else whole)
        self.number = clients.begin(model)
        words, pace, filler = random.randint(1, clients.words), random.choice(clients.paces), 0
        if way == "flood":
            words, pace, filler, self.whole = 200, 0, 16_000, False
        self.prompt = f"soak-{self.number}-n{words}-p{pace}-f{filler}."
        self.title = f"request {self.number} ({way}, {self.dialect.name}, {model}, whole: {self.whole})"
        self.events = Events(self.dialect)

    async def run(self):
        runs = {"leave": self.leave, "resume": self.resume, "cancel": self.cancel, "background": self.background,
                "embed": self.embed}
        await runs.get(self.way, self.read)()

    async def read(self):
        async with self.ask() as answer:
            if answer is not None:
                await self.read_answer(answer)

    async def leave(self):
        async with self.ask(waits=False) as (reader, writer):
            # Anything from a request that nobody waits for to a late one that ends before.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.random.choice([0, 0.05, 0.5, 3]) * self.random.random()):
                    if head := await read_head(reader):
                        async for piece in read_body(reader, head[1]):
                            pass
            self.clients.gone_early += 1
            if self.random.random() < 0.3:
                writer.transport.abort()
        self.count("left")

    async def resume(self):
        async with self.ask() as answer:
            if answer is None:
                return
            await self.read_answer(answer, stop_after=self.random.randint(1, 30))
        for _ in range(5):
            if self.events.end or self.way == "gone":
                break
            await asyncio.sleep(self.random.uniform(0, 1.2))
            stop = self.random.randint(1, 40) if self.random.random() < 0.5 else None
            await self.resume_once(stop)
        if not self.events.end:
            self.clients.gone_early += 1
            self.count("left")

    async def resume_once(self, stop):
        if self.events.last_id is None:
            self.way = "gone"
            return
        headers = {"last-event-id": self.events.last_id}
        path = f"/v1/streams/{self.events.last_id.split('.')[0]}/events"
        async with connected(self.clients.gateway) as (reader, writer):
            send(writer, self.clients.gateway, "GET", path, headers)
            first, head = await read_answer_head(reader)
            status = int(first.split()[1])
            if status == 410:
                self.way = "gone"
                return self.count("gone")
            if status != 200:
                return self.report(f"coming back was answered with {first}")
            await self.read_answer((reader, head), stop)

    async def cancel(self):
        async with self.ask() as answer:
            if answer is None:
                return
            await self.read_answer(answer, stop_after=self.random.randint(1, 20), keeps_open=True)
            if self.events.end or self.events.last_id is None:
                return
            stream = self.events.last_id.split(".")[0]
            async with connected(self.clients.gateway) as (reader, writer):
                send(writer, self.clients.gateway, "DELETE", f"/v1/streams/{stream}", {})
                first, head = await read_answer_head(reader)
                await read_whole(reader, head)
                if int(first.split()[1]) not in (200, 202, 204, 410):
                    self.report(f"cancelling was answered with {first}")
            await self.read_answer(answer)

    async def background(self):
        async with self.ask({"prefer": "respond-async"}, status=202) as answer:
            if answer is None:
                return
            events = json.loads(await read_whole(*answer))["events"]
        viewers = [self.view(events) for _ in range(self.random.choice([1, 1, 2]))]
        await asyncio.gather(*viewers)

    async def view(self, path):
        own = Session.__new__(Session)
        own.__dict__.update(self.__dict__, events=Events(NATIVE))
        async with connected(self.clients.gateway) as (reader, writer):
            send(writer, self.clients.gateway, "GET", path, {})
            first, head = await read_answer_head(reader)
            if int(first.split()[1]) == 410:
                return self.count("gone")
            if int(first.split()[1]) != 200:
                return self.report(f"a viewer was answered with {first}")
            await own.read_answer((reader, head))

    async def embed(self):
        body = {"model": self.model, "input": self.prompt}
        async with self.ask(path="/v1/embeddings", body=body) as answer:
            if answer is not None:
                vector = json.loads(await read_whole(*answer))["data"][0]["embedding"]
                if vector != [self.number]:
                    self.report(f"the answer of another request: {vector}")
                self.count("embedded")

    @contextlib.asynccontextmanager
    async def ask(self, headers=None, status=200, path=None, body=None, waits=True):
        """Sends the request; the answer's reader and headers, or `None` if it was refused."""
        body = body or self.dialect.body(self.model, self.prompt, self.whole)
        headers = {"x-session-id": f"s{self.number % 97}", **(headers or {})}
        async with connected(self.clients.gateway, small=self.way in ("flood", "pause")) as (reader, writer):
            send(writer, self.clients.gateway, "POST", path or self.dialect.path, headers, body)
            if not waits:
                yield reader, writer
                return
            head = await read_answer_head(reader)
            if int(head[0].split()[1]) != status:
                await self.record_refusal(reader, *head)
                yield None
            else:
                yield reader, head[1]

    async def record_refusal(self, reader, first, headers):
        text = await read_whole(reader, headers)
        json.loads(text)
        status = int(first.split()[1])
        if status < 400 or "x-request-id" not in headers:
            self.report(f"unexpected answer: {first}")
        self.count("refused")
        self.clients.outcomes[f"status {status}"] += 1

    async def read_answer(self, answer, stop_after=None, keeps_open=False):
        reader, headers = answer
        if self.whole:
            return self.check_whole(json.loads(await read_whole(reader, headers)))
        pauses = self.way in ("flood", "pause")
        async for piece in read_body(reader, headers):
            self.events.feed(piece)
            if stop_after is not None and self.events.count >= stop_after and not self.events.end:
                return self.check_part()
            if pauses and self.random.random() < 0.03:
                await asyncio.sleep(self.random.uniform(0, self.clients.longest_pause))
        self.check_end()

    def check_whole(self, answer):
        text = self.dialect.whole(answer)
        if not text:
            return self.report(f"a whole answer without a text: {json.dumps(answer)[:1000]}")
        self.check_text(text, True)
        self.count("complete, whole")

    def check_part(self):
        self.check_text(self.events.text, False)

    def check_end(self):
        events = self.events
        if events.end is None:
            return self.report(f"the answer ended without a terminal event after {events.text[-80:]!r}")
        if events.after_end:
            return self.report(f"behind the end: {events.after_end}")
        end = events.end
        if end == COMPLETE and self.dialect is NATIVE and '"cancelled"' in events.end_data:
            end = "cancelled"
        may_lack = end == ERROR and '"gone"' in events.end_data
        self.check_text(events.text, end == COMPLETE, may_lack)
        self.count(end)
        if end == ERROR and self.dialect is NATIVE:
            self.clients.outcomes["code " + json.loads(events.end_data)["error"]["code"]] += 1

    def check_text(self, text, is_complete, begins_anywhere=False):
        may_continue = self.model in settings.CONTINUED
        problem = self.clients.ledger.problem(self.number, text, is_complete, may_continue, begins_anywhere)
        if problem:
            self.report(problem)

    def count(self, outcome):
        self.clients.outcomes[outcome] += 1

    def report(self, problem):
        self.clients.report(f"{self.title}: {problem}")


@contextlib.asynccontextmanager
async def connected(gateway, small=False):
    host, port = gateway.clients.rsplit(":", 1)
    client = socket.socket()
    client.setblocking(False)
    if small:
        # So that a client that does not read is noticed early.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=client, limit=1 << 16)
    try:
        yield reader, writer
    finally:
        writer.close()


def send(writer, gateway, method, path, headers, body=None):
    data = json.dumps(body).encode() if body is not None else b""
    lines = [f"{method} {path} HTTP/1.1", f"host: {gateway.clients}", f"authorization: Bearer {settings.KEY}",
             f"content-length: {len(data)}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + data)
