"""A broker of a few lines that refuses, drops and floods as a test says; bytes of MQTT 3.1.1."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

CONNECT: Final = 1
PUBLISH: Final = 3
SUBSCRIBE: Final = 8
PINGREQ: Final = 12


class Peer:
    """One client's connection.

    Attributes:
        number: Which connection it is, from 1.
    """

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self._reader = reader
        self._writer = writer

    async def packet(self) -> tuple[int, bytes]:
        """The next packet: its kind and its content."""
        kind = (await self._reader.readexactly(1))[0] >> 4
        length, shift = 0, 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return kind, await self._reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def let_in(self, code: int = 0) -> None:
        """Read CONNECT, and answer it."""
        assert (await self.packet())[0] == CONNECT
        await self.send(bytes([0x20, 2, 0, code]))

    async def serve(self, *, suback: int = 1) -> None:
        """Answer everything, subscriptions with the given code, until the client goes."""
        while True:
            kind, content = await self.packet()
            if kind == SUBSCRIBE:
                await self.send(bytes([0x90, 3, *content[:2], suback]))
            elif kind == PUBLISH:
                end = 2 + int.from_bytes(content[:2], "big")
                await self.send(bytes([0x40, 2, *content[end : end + 2]]))
            elif kind == PINGREQ:
                await self.send(b"\xd0\x00")

    def drop(self) -> None:
        """End the connection with a reset."""
        self._writer.transport.abort()


def published(topic: str, payload: bytes) -> bytes:
    """A PUBLISH packet, QoS 0."""
    content = len(topic).to_bytes(2, "big") + topic.encode() + payload
    length, rest = b"", len(content)
    while True:
        rest, byte = divmod(rest, 128)
        length += bytes([byte | (128 if rest else 0)])
        if not rest:
            return b"\x30" + length + content


@asynccontextmanager
async def mqtt_peer(behaviour: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[int]:
    """Serve a behaviour at a port of 127.0.0.1."""
    count = 0
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await behaviour(Peer(count, reader, writer))
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks))
