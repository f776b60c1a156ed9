"""A ThorVision server written by hand, byte by byte: nothing of asynccam is in it."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

CAMERA = (
    b'{"id": 3, "name": "HD Webcam", "device_id": "usb-1", "caps": [{"media_type": "image/jpeg",'
    b' "format": null, "width": 640, "height": 480, "framerate": "30/1"}]}'
)
ANOTHER = b'{"id": -1, "name": "Test", "caps": []}'


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Answer = bytes | Callable[[Asked], Awaitable[bytes]]


def ok(body: bytes = b'{"any": "thing"}', *, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def text_frame(text: str | bytes) -> bytes:
    """An unmasked WebSocket frame, as a server sends it."""
    payload = text.encode() if isinstance(text, str) else text
    length = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    return b"\x81" + length + payload


@dataclass
class RawServer:
    """Answers each path with the bytes it is given; on ``/ws`` it says what `tell` is given."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    greeting: list[bytes] = field(default_factory=list)
    sockets: list[asyncio.StreamWriter] = field(default_factory=list)
    port: int = 0
    hung_up: int = 0

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "RawServer":
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        talks = set(self._talks)
        for talk in talks:
            talk.cancel()
        if talks:
            await asyncio.wait(talks)
        await self._server.wait_closed()

    def paths(self, method: str = "POST") -> list[str]:
        return [one.path for one in self.asked if one.method == method]

    def posted(self, path: str) -> list[Any]:
        return [one.json() for one in self.asked if one.path == path and one.method == "POST"]

    def tell(self, *texts: str | bytes) -> None:
        for writer in self.sockets:
            for text in texts:
                writer.write(text_frame(text))

    def hang_up(self) -> None:
        for writer in self.sockets:
            writer.transport.abort()
        self.sockets.clear()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                if asked.path == "/ws" and "/ws" not in self.answers:
                    await self._websocket(asked, reader, writer)
                    return
                answer = self.answers.get(asked.path, ok(b'{"detail": "no"}', status="404 Not Found"))
                writer.write(answer if isinstance(answer, bytes) else await answer(asked))
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._talks.discard(task)
            writer.transport.abort()

    async def _websocket(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        magic = asked.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
            + b"".join(text_frame(text) for text in self.greeting)
        )
        self.sockets.append(writer)
        with suppress(ConnectionError):
            while data := await reader.read(1024):
                if data[0] & 0x0F == 8:  # a close frame is answered by one, and by going
                    writer.write(b"\x88\x02\x03\xe8")
                    writer.close()
                    break
        self.hung_up += 1


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    lines = head.split("\r\n")
    method, path, _ = lines[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body)


def cameras(*listed: bytes) -> bytes:
    """The answer to ``GET /cameras``."""
    return ok(b"[" + b", ".join(listed) + b"]")


def in_turn(answers: Iterable[bytes]) -> Callable[[Asked], Awaitable[bytes]]:
    """One answer after the other; the last one for ever."""
    left = list(answers)

    async def answer(_: Asked) -> bytes:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer
