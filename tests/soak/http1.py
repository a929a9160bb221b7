"""The parts of HTTP/1.1 that both the clients and the scripted upstreams need."""


class Cut(Exception):
    """The connection ended inside a message."""


async def read_head(reader):
    """The first line and the headers, their names in lower case. `None` if the connection ended before."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (EOFError, ConnectionError) as error:
        if getattr(error, "partial", b""):
            raise Cut("the connection ended inside a head") from error
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.split(":", 1) for line in lines if line)
    return first, {name.lower(): value.strip() for name, value in fields}


async def read_answer_head(reader):
    """As `read_head`. Raises `Cut` if there is no answer."""
    head = await read_head(reader)
    if head is None:
        raise Cut("no answer")
    return head


async def read_body(reader, headers):
    """Yields the body in pieces. Raises `Cut` if it is not whole."""
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                piece = await reader.readexactly(size + 2)
                yield piece[:-2]
            await reader.readuntil(b"\r\n")
        else:
            size = int(headers.get("content-length", 0))
            if size:
                yield await reader.readexactly(size)
    except (EOFError, ConnectionError) as error:
        raise Cut("the connection ended inside a body") from error


async def read_whole(reader, headers):
    return b"".join([piece async for piece in read_body(reader, headers)])


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)
