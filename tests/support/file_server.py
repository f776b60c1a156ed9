"""An HTTP file server whose bytes are written by hand: whole, in parts, broken off, lying."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.waiting import eventually

CONTENT = bytes(range(256)) * 4096  # 1 MiB


@dataclass
class FileServer:
    """Serves one content under every path.

    Attributes:
        breaks: After how many bytes of body each connection is dropped, in order; then none is.
        part: The client's part file: a connection is dropped once it holds what was sent. A reset takes what
            a client has received and not read yet.
        ranges: Whether ``Range`` is heeded.
        etag: Its word for the content's state, or ``""`` for none.
        announce: Whether the length is told.
        status: Answered instead of the content, if set.
        requests: Request heads, in order, headers in lower case.
    """

    content: bytes = CONTENT
    breaks: list[int] = field(default_factory=list)
    part: Path | None = None
    ranges: bool = True
    etag: str = '"v1"'
    announce: bool = True
    status: str = ""
    content_range: str = ""
    hang: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str = "/files/recordings/a.mp4") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                    request = {"path": head[0].split(" ")[1]}
                    for line in head[1:]:
                        name, _, value = line.partition(": ")
                        request[name.lower()] = value
                    self.requests.append(request)
                    if not await self._answer(request, reader, writer):
                        writer.transport.abort()
                        return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(
        self, request: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Return whether the connection lives on."""
        if self.status:
            writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 3\r\n\r\nbad".encode())
            await writer.drain()
            return True
        wanted = request.get("range", "")
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        size = len(self.content)
        if start and request.get("if-range") not in (None, self.etag):
            start = 0
        head = ["HTTP/1.1 200 OK"]
        if start >= size > 0:
            # As the real one does it: the length of the file, and no body.
            head = ["HTTP/1.1 416 Range Not Satisfiable", f"Content-Range: bytes */{size}"]
        elif start:
            shown = self.content_range or f"bytes {start}-{size - 1}/{size}"
            head = ["HTTP/1.1 206 Partial Content", f"Content-Range: {shown}"]
        if self.announce:
            head.append(f"Content-Length: {size if start >= size > 0 else size - start}")
        else:
            head.append("Connection: close")
        if self.etag:
            head.append(f"ETag: {self.etag}")
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        if start >= size > 0:
            await reader.read()
            return False
        body = self.content[start:]
        if self.breaks:
            sent = body[: self.breaks.pop(0)]
            writer.write(sent)
            await writer.drain()
            if self.hang:
                await reader.read()
            elif self.part is not None and sent:
                part, end = self.part, start + len(sent)
                await eventually(lambda: part.exists() and part.stat().st_size >= end)
            return False
        writer.write(body)
        await writer.drain()
        return self.announce


@asynccontextmanager
async def serving(files: FileServer) -> AsyncIterator[FileServer]:
    """The file server on loopback."""
    server = await asyncio.start_server(files.serve, "127.0.0.1", 0)
    files.port = server.sockets[0].getsockname()[1]
    try:
        yield files
    finally:
        server.close()
        await server.wait_closed()
