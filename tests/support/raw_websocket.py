"""A WebSocket server written by hand: it sends any bytes, and shows every frame that it gets."""

import asyncio
import base64
import hashlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from typing import cast

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TIMEOUT = 15.0


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a frame as a server sends it (RFC 6455, 5.2)."""
    first = (FIN if fin else 0) | rsv << 4 | opcode
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65536:
        return bytes((first, 126)) + struct.pack("!H", length) + payload
    return bytes((first, 127)) + struct.pack("!Q", length) + payload


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


class RawPeer(asyncio.Protocol):
    """Listens on loopback for one client; an async context manager."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._received = bytearray()
        self._ended = False
        self._news = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    async def __aenter__(self) -> "RawPeer":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: self, "127.0.0.1", 0, ssl=self._tls)
        scheme = "ws" if self._tls is None else "wss"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self._transport is not None:
            self._transport.abort()
            await self._until(lambda: self._ended)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._news.set()

    async def respond(self, following: bytes = b"") -> None:
        """Complete the handshake; ``following`` is in the same segment as the response."""
        await self._until(lambda: b"\r\n\r\n" in self._received)
        request, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        self._received[:] = rest
        (key,) = [
            line[18:] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")
        ]
        accept = base64.b64encode(hashlib.sha1(key.strip() + _ACCEPT).digest())
        await self.send(
            [
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + following
            ]
        )

    async def send(self, pieces: Iterable[bytes]) -> None:
        """Send pieces, each of which the client reads before the next is sent, until it closes."""
        for piece in pieces:
            if self._transport is None or self._transport.is_closing():
                return
            self._transport.write(piece)
            for _ in range(3):
                await asyncio.sleep(0)

    def pause_reading(self) -> None:
        """Read nothing before `resume_reading`."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the socket without a close frame."""
        assert self._transport is not None
        if reset:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()

    async def read(self) -> tuple[int, bytes] | None:
        """Return the first byte and the payload of the client's next frame; None at the end."""
        try:
            first, second = await self._take(2)
            assert second & 0x80, "a client masks its frames"
            length = second & 0x7F
            if length > 125:
                size = 2 if length == 126 else 8
                length = int.from_bytes(await self._take(size), "big")
                assert length >= (126 if size == 2 else 65536), "the length has the fewest bytes possible"
            mask = await self._take(4)
            masked = await self._take(length)
        except EOFError:
            return None
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        return first, (int.from_bytes(masked, "big") ^ key).to_bytes(length, "big")

    async def _take(self, size: int) -> bytes:
        await self._until(lambda: len(self._received) >= size or self._ended)
        if len(self._received) < size:
            raise EOFError
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_TIMEOUT):
            while not condition():
                self._news.clear()
                await self._news.wait()
