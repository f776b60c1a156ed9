"""A media server that behaves, and dies, as the original was seen to: docs/protocols/nanocam.md."""

import asyncio
import json
import pickle
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


class DiedError(Exception):
    """What the original does not survive."""


@dataclass
class OriginalServer:
    """Serves one client after another on loopback, reads 1024 bytes once for a message, and never checks.

    Attributes:
        pictures: What it captures: names and bytes.
        videos: The same for a video.
        piece: Bytes it writes at once.
        stream: Command of a process that streams, or () for none.
        gate: A capture lasts until it is set.
        cut: Bytes of an answer to a request for files after which the connection is reset, or None.
        heard: Messages as they were read.
        capturing: Set as soon as a capture runs.
        died: Why it died, or None.
    """

    pictures: list[tuple[str, bytes]] = field(default_factory=list)
    videos: list[tuple[str, bytes]] = field(default_factory=list)
    piece: int = 1024
    stream: tuple[str, ...] = ()
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    capturing: asyncio.Event = field(default_factory=asyncio.Event)
    cut: int | None = None
    heard: list[bytes] = field(default_factory=list)
    clients: int = 0
    streams: int = 0
    died: str | None = None
    port: int = 0
    stop_stream: asyncio.TimerHandle | None = None
    process: asyncio.subprocess.Process | None = None
    _last: dict[str, Any] = field(default_factory=dict)

    @property
    def streaming(self) -> bool:
        return self.stop_stream is not None

    def requests(self) -> list[dict[str, Any]]:
        """Return what was heard and is JSON."""
        found = []
        for message in self.heard:
            with suppress(ValueError):
                found.append(json.loads(message))
        return found

    def begin_stream(self, seconds: float) -> None:
        """A stream has the camera, somebody else's for example."""
        self.streams += 1
        self.stop_stream = asyncio.get_running_loop().call_later(seconds, self.end_stream)

    def end_stream(self) -> None:
        if self.stop_stream is not None:
            self.stop_stream.cancel()
            self.stop_stream = None
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.terminate()

    async def serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                sock, _ = await loop.sock_accept(listener)
                self.clients += 1
                with sock:
                    sock.setblocking(False)
                    while message := await self._read(sock):
                        self.heard.append(message)
                        await self._heed(message, sock)
        except (DiedError, OSError, KeyError, ValueError, TypeError) as error:
            self.died = repr(error)
            listener.close()

    async def _read(self, sock: socket.socket) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(sock, 1024)
        except ConnectionResetError:  # which it survives while it listens
            return b""

    async def _heed(self, message: bytes, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            fields = json.loads(message.decode())
        except json.JSONDecodeError:
            return  # GOODBYE, OK and everything it does not understand
        if self.streaming and fields["type"] != "kill":
            self._last = fields
            await loop.sock_sendall(sock, b"BUSY")
        elif self.streaming:
            if self._last["format"] == "udp":
                await loop.sock_sendall(sock, b"OK")
                fields = self._last
            self.end_stream()
        elif fields.get("format") == "udp":
            await loop.sock_sendall(sock, b"OK")
        if not self.streaming:
            await self._carry_out(fields, sock)
        elif fields["type"] == "reset_timer":
            assert self.stop_stream is not None
            self.stop_stream.cancel()
            self.stop_stream = loop.call_later(int(fields["duration"]), self.end_stream)

    async def _carry_out(self, fields: dict[str, Any], sock: socket.socket) -> None:
        kind, _, _, form = (
            fields["type"],
            int(fields["width"]),
            int(fields["height"]),
            fields["format"],
        )
        if kind == "image":
            if int(fields["interval"]) == 0:
                raise DiedError("an interval of 0")
            await self._send_files(self.pictures[: int(fields["frames"])], sock)
        elif kind == "video" and form == "file":
            int(fields["duration"])
            await self._send_files(self.videos, sock)
        elif kind == "video" and form == "udp":
            self.begin_stream(int(fields["duration"]))
            if self.stream:
                self.process = await asyncio.create_subprocess_exec(*self.stream)

    async def _send_files(self, files: list[tuple[str, bytes]], sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self.capturing.set()
        await self.gate.wait()
        with suppress(BlockingIOError):
            if not sock.recv(1, socket.MSG_PEEK) or sock.recv(7, socket.MSG_PEEK) == b"GOODBYE":
                raise DiedError("a client that left during a capture")
        answer = pickle.dumps([name for name, _ in files], 2) + b"DONE"
        for number, (_, data) in enumerate(files):
            answer += data + (b"MORE" if number < len(files) - 1 else b"QUIT")
        if self.cut is not None:
            await loop.sock_sendall(sock, answer[: self.cut])
            raise DiedError("pulled out of its socket")
        for place in range(0, len(answer), self.piece):
            await loop.sock_sendall(sock, answer[place : place + self.piece])
            await asyncio.sleep(0)


@asynccontextmanager
async def original_server(**options: Any) -> AsyncIterator[OriginalServer]:
    """The server on a free port of loopback; its gate is open unless it is given one."""
    server = OriginalServer(**options)
    if "gate" not in options:
        server.gate.set()
    with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
        listener.setblocking(False)
        server.port = listener.getsockname()[1]
        task = asyncio.create_task(server.serve(listener))
        try:
            yield server
        finally:
            server.end_stream()
            if server.process is not None:
                await server.process.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
