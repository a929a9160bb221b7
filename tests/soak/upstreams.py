"""Scripted model APIs. Each has a mood that changes with time, and each request a fault that the mood makes
more or less likely."""

import asyncio
import collections
import contextlib
import json
import socket
import struct

import faults
from http1 import Cut, chunk, read_head, read_whole
from words import PROMPT

# Above `limits.frame` of the config.
OVERSIZE = 96 * 1024


class Upstream:
    """One model API at a port of the system's choice."""

    def __init__(self, name, wire, ledger, random):
        self.name = name
        self.wire = wire
        self.mood = "healthy"
        self.requests = 0
        self.faults = collections.Counter()
        self.connections = set()
        self.ledger = ledger
        self.random = random
        self._socket = bind()
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._accepting = None
        self.accept()

    def accept(self):
        if self._accepting is None:
            self._socket.listen(1024)
            self._accepting = asyncio.create_task(self._accept())

    def refuse(self):
        """Connections are refused from now on."""
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
            self._socket.shutdown(socket.SHUT_RDWR)

    def set_mood(self, mood):
        self.mood = mood
        if mood == "refusing":
            self.refuse()
        else:
            self.accept()

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(self._socket)
            await loop.connect_accepted_socket(lambda: Connection(self), accepted)


def bind():
    """A socket that keeps its port while it does not listen, which takes one that is bound to a known port."""
    first, second = socket.socket(), socket.socket()
    for one in (first, second):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with first:
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
    second.setblocking(False)
    return second


class Connection(asyncio.StreamReaderProtocol):
    """A connection of the gateway. It ends as soon as the gateway closes it."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.random = upstream.random
        self.closed = asyncio.get_running_loop().create_future()
        super().__init__(asyncio.StreamReader(limit=1 << 20), self._begin)

    def connection_made(self, transport):
        self.upstream.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error):
        self.upstream.connections.discard(self)
        super().connection_lost(error)
        if not self.closed.done():
            self.closed.set_result(None)

    def eof_received(self):
        super().eof_received()
        return False

    async def _begin(self, reader, writer):
        self.reader, self.writer = reader, writer
        with contextlib.suppress(Cut, ConnectionError):
            while await self._serve():
                pass
        writer.close()

    async def _serve(self):
        """Answers one request; whether the connection may be used for another one."""
        head = await read_head(self.reader)
        if head is None:
            return False
        body = await read_whole(self.reader, head[1])
        upstream = self.upstream
        upstream.requests += 1
        fault = faults.choose_fault(upstream.mood, self.random)
        upstream.faults[fault] += 1
        if fault in faults.REFUSALS:
            return await self._refuse(*faults.REFUSALS[fault])
        found = PROMPT.search(body)
        number, words, pace, filler = map(int, found.groups())
        first = upstream.wire.prefill(json.loads(body))
        self.attempt = upstream.ledger.begin(upstream.name, number, first)
        if "embeddings" in head[0]:
            return await self._embed()
        if fault in faults.BEFORE:
            return await self._fail_before(fault)
        if fault in ("slow", "very-slow"):
            await self.pause(self.random.uniform(0.5, 2) * (1 if fault == "slow" else 3))
        # Some content must be left to the continuation of an answer.
        words = max(words, first + 1)
        at = self.random.randrange(first, words) if fault in faults.MIDWAY else None
        if fault == "error-with-first-word":
            at = first
        return await self._answer(words, pace / 1000, filler, fault, at)

    async def _answer(self, words, pace, filler, fault, at):
        wire, attempt = self.upstream.wire, self.attempt
        self._start_body(wire.content_type)
        self._send(wire.start())
        while attempt.next < words:
            if attempt.next == at:
                if not await self._fail_midway(fault, filler):
                    return False
            else:
                self._send(wire.word(attempt.word(filler)))
            await self.drain()
            await self.pause(pace * self.random.uniform(0.5, 1.5))
        attempt.has_ended = True
        self._send(wire.end(words, attempt.text))
        if fault == "junk-behind-end" and wire.has_marker:
            self._send(wire.word("no client may see this"))
            await self.pause(self.random.uniform(0, 2))
        self.writer.write(b"0\r\n\r\n")
        await self.drain()
        return True

    async def _fail_midway(self, fault, filler):
        """Whether the answer goes on."""
        wire = self.upstream.wire
        if fault.startswith("error-with"):
            # In one write, so that the gateway reads both at once.
            self._send(wire.word(self.attempt.word(filler)) + wire.error())
            self.writer.write(b"0\r\n\r\n")
            return False
        if fault == "reset":
            self.reset()
        elif fault == "end-without-marker":
            self.writer.write(b"0\r\n\r\n")
        elif fault == "stall":
            await self.pause(20)
        elif fault == "garbage-line":
            self._send(b"data: {\"choices\":[{\"delta\"\n\n" if wire.name != "ollama-chat" else b"{\"message\":\n")
            self.writer.write(b"0\r\n\r\n")
        elif fault == "oversize-frame":
            self._send(wire.word("z" * OVERSIZE))
            await self.pause(1)
        elif fault == "error":
            self._send(wire.error())
            await self.pause(self.random.uniform(0, 1))
        await self.drain()
        return False

    async def _fail_before(self, fault):
        if fault == "reset-before-head":
            self.reset()
        elif fault == "silent":
            await self.pause(20)
        elif fault == "no-head-but-garbage":
            self.writer.write(b"\x00\x01\x02 not HTTP at all\r\n\r\n")
        elif fault == "html":
            await self._respond(200, b"<html>Welcome</html>", {"content-type": "text/html"})
        elif fault == "empty":
            await self._respond(200, b"", {"content-type": self.upstream.wire.content_type})
        elif fault == "error-first":
            self._start_body(self.upstream.wire.content_type)
            self._send(self.upstream.wire.error())
            self.writer.write(b"0\r\n\r\n")
        elif fault == "head-without-body":
            self._start_body(self.upstream.wire.content_type)
            await self.pause(self.random.choice([0.2, 20]))
        return False

    async def _refuse(self, status, headers):
        body = json.dumps({"error": {"message": "refused by the script", "type": "refused", "code": "refused"}})
        await self._respond(status, body.encode(), {"content-type": "application/json", **headers})
        return True

    async def _embed(self):
        body = {"object": "list", "model": "soak", "usage": {"prompt_tokens": 9, "total_tokens": 9},
                "data": [{"object": "embedding", "index": 0, "embedding": [self.attempt.number]}]}
        await self._respond(200, json.dumps(body).encode(), {"content-type": "application/json"})
        return True

    async def _respond(self, status, body, headers):
        lines = [f"HTTP/1.1 {status} Scripted", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self.drain()

    def _start_body(self, content_type):
        self.writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode())

    def _send(self, data):
        if not data:
            return
        if self.closed.done():
            raise ConnectionResetError
        data = chunk(data)
        # Some are written in two parts, so that events and characters are cut.
        at = self.random.randrange(len(data)) if self.random.random() < 0.1 else 0
        self.writer.write(data[:at])
        self.writer.write(data[at:])

    async def drain(self):
        await self._or_closed(self.writer.drain())

    async def pause(self, seconds):
        """Raises `ConnectionResetError` if the gateway closes the connection meanwhile."""
        if seconds > 0:
            await asyncio.wait([self.closed], timeout=seconds)
        if self.closed.done():
            raise ConnectionResetError

    async def _or_closed(self, waiting):
        await waiting
        if self.closed.done():
            raise ConnectionResetError

    def reset(self):
        """Ends the connection with a reset in place of an orderly close."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()
