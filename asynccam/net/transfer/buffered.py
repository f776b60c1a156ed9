"""Everywhere: asyncio fills one buffer while a thread writes the other to the file."""

import asyncio
import socket
from functools import partial
from typing import cast

from asynccam.net.transfer.base import TURN, PeerClosedError, TransferBackend
from asynccam.net.transfer.partfile import PartFile


class BufferedTransfer(TransferBackend, asyncio.BufferedProtocol):
    """Two buffers, filled by the loop in turn and written off it.

    When both are busy reading pauses, so memory is bounded and TCP holds the peer back. A buffer
    has room for two turns and reading pauses at one, because Windows hands over what it read, up
    to a turn, without asking in between.

    The loop gets a duplicate of the socket, since a transport closes what it was given.
    """

    def __init__(self, sock: socket.socket, part: PartFile, size: int) -> None:
        super().__init__(sock, part, size)
        self._buffer = memoryview(bytearray(2 * TURN))
        self._spare = memoryview(bytearray(2 * TURN))
        self._filled = 0
        self._missing = size - part.received
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()

    async def start(self) -> None:
        """Hand a duplicate of the socket to the loop."""
        await self.loop.create_connection(lambda: self, sock=self.sock.dup())

    async def stop(self) -> None:
        """Close the duplicate and write what is in the buffers."""
        if self._transport is None:
            return
        self._transport.abort()
        await self._closed.wait()
        await self.last_write()

    # -- called by the loop ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room for the next bytes, never for more than the file needs, so what follows it stays unread."""
        if not self._missing:
            return memoryview(bytearray(1))  # only Windows, which reads ahead, asks again
        return self._buffer[self._filled : self._filled + min(TURN, self._missing)]

    def buffer_updated(self, nbytes: int) -> None:
        """Have it written, or wait for the disk."""
        nbytes = min(nbytes, self._missing)
        self._filled += nbytes
        self._missing -= nbytes
        if self._job is None:
            self._write()
        if not self._missing or self._filled >= TURN:
            self._pause()

    def eof_received(self) -> None:
        """The peer sends no more."""
        self._lost(PeerClosedError("the peer closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, or `stop` closed it."""
        self._closed.set()
        reason = exc.strerror if isinstance(exc, OSError) else None
        self._lost(PeerClosedError(reason or str(exc or "the connection was closed")))

    # -- within ---------------------------------------------------------------------------------

    def _write(self) -> None:
        data = self._buffer[: self._filled]
        self._buffer, self._spare, self._filled = self._spare, self._buffer, 0
        self.write_off_loop(partial(self.part.put, data), self._written)

    def _written(self) -> None:
        if self._filled:
            self._write()
        if self._missing and self._transport is not None:
            self._transport.resume_reading()

    def _pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def _lost(self, error: PeerClosedError) -> None:
        if self._missing:  # else the rest is here and only has to be written
            self.fail(error)
