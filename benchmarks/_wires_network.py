"""A network that goes wrong at one byte: a forwarder of TCP connections on the loopback interface."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Literal, Self

HOST: Final = "127.0.0.1"
_PIECE: Final = 65536

Direction = Literal["up", "down"]
"""``up`` is from the client to the server."""

FAULTS: Final = ("cut", "half", "reset", "stall", "flip", "zero", "ones")
"""Faults of a byte and of those behind it.

``cut``: both directions end with a FIN. ``half``: its own direction does, and the other one goes on.
``reset``: both connections are reset. ``stall``: nothing more comes in its direction, no FIN either, and the
connection stays open. ``flip``, ``zero``, ``ones``: the lowest bit is changed, or the byte is 0x00 or 0xFF.
"""
DROPS: Final = "drops"
"""In the place of a fault: every byte of the exchange in one direction comes in a write of its own."""
WHOLE: Final = frozenset({"cut", "half", "reset", "stall", DROPS})
"""Faults that change no byte: whatever is said to be whole after them is exactly right."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: One of `FAULTS`, or `DROPS`.
        direction: Of the byte.
        offset: Of the byte, counted over all connections of an exchange.
    """

    kind: str
    direction: Direction = "down"
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.direction} {self.offset}"


class _Link:
    """A client's connection and its continuation to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.muted: set[Direction] = set()
        self.parted = False  # by the server

    def ends(self, direction: Direction) -> tuple[socket.socket, socket.socket]:
        return (self.client, self.server) if direction == "up" else (self.server, self.client)


class Wire:
    """Forwards connections to a server, and does to them what `arm` says.

    Args:
        target: The server's port.

    Attributes:
        port: Where it listens.
        seen: Bytes that came so far, in each direction.
        quiet: Set while the server has no connection open that came over the wire.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.quiet = asyncio.Event()
        self.quiet.set()
        self.seen: dict[Direction, bytearray] = {"up": bytearray(), "down": bytearray()}
        self._served = 0
        self._target = target
        self._fault: Fault | None = None
        self._listener = socket.socket()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._listener.bind((HOST, 0))
        self._listener.listen(64)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._accepting is not None
        self._accepting.cancel()
        with suppress(asyncio.CancelledError):
            await self._accepting
        await self.clear()
        self._listener.close()

    def arm(self, fault: Fault | None) -> None:
        """Count bytes anew, and let the fault happen when its byte comes."""
        self._fault = fault
        self.seen = {"up": bytearray(), "down": bytearray()}

    async def clear(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.create_task(self._forward(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(partial(_close, client))

    async def _forward(self, client: socket.socket) -> None:
        with socket.socket() as server:
            server.setblocking(False)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await asyncio.get_running_loop().sock_connect(server, (HOST, self._target))
            except OSError:
                return
            link = _Link(client, server)
            self._served += 1
            self.quiet.clear()
            pumps = [asyncio.create_task(self._pump(link, way)) for way in ("up", "down")]
            broken = False
            try:
                await asyncio.gather(*pumps)
            except OSError:
                broken = True
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                self._part(link)
            if broken:  # not before the pumps have ended: they wait for these sockets
                _reset(client, server)

    async def _pump(self, link: _Link, direction: Direction) -> None:
        loop = asyncio.get_running_loop()
        source, target = link.ends(direction)
        try:
            while data := await loop.sock_recv(source, _PIECE):
                if direction in link.muted:
                    continue
                fault = self._fault
                if fault is not None and fault.kind == DROPS and fault.direction == direction:
                    self.seen[direction] += data
                    await self._drip(target, data)
                else:
                    await self._pass(link, direction, target, data)
        finally:
            if direction == "down":
                self._part(link)
        if direction not in link.muted:
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

    def _part(self, link: _Link) -> None:
        if link.parted:
            return
        link.parted = True
        self._served -= 1
        if not self._served:
            self.quiet.set()

    async def _drip(self, target: socket.socket, data: bytes) -> None:
        for place in range(len(data)):
            await asyncio.get_running_loop().sock_sendall(target, data[place : place + 1])
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def _pass(self, link: _Link, direction: Direction, target: socket.socket, data: bytes) -> None:
        fault, before = self._fault, len(self.seen[direction])
        self.seen[direction] += data
        if fault is None or fault.direction != direction or not before <= fault.offset < before + len(data):
            await asyncio.get_running_loop().sock_sendall(target, data)
            return
        place = fault.offset - before
        if fault.kind in ("flip", "zero", "ones"):
            byte = {"flip": data[place] ^ 1, "zero": 0, "ones": 0xFF}[fault.kind]
            data = data[:place] + bytes([byte]) + data[place + 1 :]
            await asyncio.get_running_loop().sock_sendall(target, data)
            return
        if place:
            await asyncio.get_running_loop().sock_sendall(target, data[:place])
        link.muted.add(direction)
        if fault.kind == "reset":
            raise ConnectionResetError
        if fault.kind == "cut":
            link.muted |= {"up", "down"}
        if fault.kind in ("cut", "half"):
            target.shutdown(socket.SHUT_WR)
        if fault.kind == "cut":
            link.ends(direction)[0].shutdown(socket.SHUT_WR)


def _close(sock: socket.socket, _: "asyncio.Task[None]") -> None:
    # Here and not in the task, which may be cancelled before its first step.
    sock.close()


def _reset(*socks: socket.socket) -> None:
    for sock in socks:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
