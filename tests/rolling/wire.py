"""HTTP/1.1 as a client speaks it to a load balancer, without a library that retries by itself."""

import asyncio
import contextlib


class Broken(Exception):
    """The connection broke, or the answer ended before its end."""


class Response:
    """A response whose body is read in pieces. A body that does not reach its own end raises `Broken`."""

    def __init__(self, status, headers, streams):
        self.status = status
        self.headers = headers
        # The writer is held too: a connection whose writer is collected is closed.
        self._streams = streams
        self._reader = streams[0]

    def retry_after(self, default):
        text = self.headers.get("retry-after", "")
        return float(text) if text.isdigit() else default

    async def pieces(self):
        try:
            if self.headers.get("transfer-encoding", "") == "chunked":
                while size := int(await self._reader.readuntil(b"\r\n"), 16):
                    piece = await self._reader.readexactly(size + 2)
                    yield piece[:-2]
                await self._reader.readuntil(b"\r\n")
            elif self.status != 204:
                yield await self._reader.readexactly(int(self.headers["content-length"]))
        except (OSError, EOFError, ValueError, KeyError, asyncio.IncompleteReadError) as error:
            raise Broken(f"the body broke: {error!r}") from error

    async def body(self):
        return b"".join([piece async for piece in self.pieces()])


class Connection:
    """One connection at a time, kept for the next request where both sides allow it."""

    def __init__(self, port):
        self._port = port
        self._open = None
        self._keeps = False

    async def send(self, method, path, headers, body=b"", keep=False):
        """The response's head. A kept connection that the other side closed meanwhile is replaced once."""
        kept = self._open
        try:
            return await self._exchange(method, path, headers, body, keep)
        except Broken:
            # What every HTTP client does: the balancer may close an idle connection at any time.
            if kept is None:
                raise
            return await self._exchange(method, path, headers, body, keep)

    async def _exchange(self, method, path, headers, body, keep):
        try:
            if self._open is None:
                self._open = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._open
            lines = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{self._port}", f"content-length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except (OSError, EOFError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Broken(f"no answer: {error!r}") from error
        pairs = (line.split(":", 1) for line in head[1:] if line)
        answered = {name.strip().lower(): value.strip() for name, value in pairs}
        self._keeps = keep and answered.get("connection") != "close"
        return Response(int(head[0].split()[1]), answered, self._open)

    def release(self):
        """The body was read: closes the connection, or keeps it for the next request."""
        if not self._keeps:
            self.close()

    def close(self):
        if self._open:
            with contextlib.suppress(OSError):
                self._open[1].close()
        self._open = None
