"""Transfers from a socket into a part file: their common part, and the one for every platform.

`asynccam.net.transfer.splice` has the one for Linux.
"""

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from asynccam.net.transfer.partfile import PartFile

BYTES_PER_TURN = 256 * 1024
"""Bytes moved before the loop serves others: fewer cost speed, more let twenty transfers stall it."""


class PeerClosedError(Exception):
    """The connection ended before the file did; the message says how."""


class TransferBackend(ABC):
    """Moves bytes from a socket into a part until the part holds ``size``.

    Attributes:
        done: Gets None when the last byte is in the file, or the exception that ended the transfer:
            `PeerClosedError`, `StorageError`.
    """

    def __init__(self, sock: socket.socket, part: PartFile, size: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.sock = sock
        self.part = part
        self.size = size
        self.done: asyncio.Future[None] = self.loop.create_future()
        self._job: asyncio.Future[None] | None = None
        self._disk_failed = False

    @abstractmethod
    def start(self) -> Awaitable[None] | None:
        """Begin to read. What is returned, if anything, is quick and must not be cancelled."""

    @abstractmethod
    def stop(self) -> Awaitable[None] | None:
        """Stop reading, write what was read, and release everything.

        What is returned, if anything, does the rest of that and must not be cancelled.
        """

    def fail(self, error: Exception) -> None:
        """End the transfer with an error, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)

    def on_written(self) -> None:
        """Update the digest after a write, and end the transfer if it was the last."""
        self.part.update_digest()
        if self.part.received >= self.size and not self.done.done():
            self.done.set_result(None)

    def write_in_thread(self, write: Callable[[], None], then: Callable[[], None]) -> None:
        """Run a blocking write in the executor, and ``then`` in the loop if it succeeded."""

        def written(job: "asyncio.Future[None]") -> None:
            self._job = None
            error = None if job.cancelled() else job.exception()
            if isinstance(error, Exception):
                self._disk_failed = True
                self.fail(error)
                return
            self.on_written()
            then()

        self._job = self.loop.run_in_executor(None, write)
        self._job.add_done_callback(written)

    @property
    def is_writing(self) -> bool:
        """Return whether a write is running in the executor."""
        return self._job is not None

    async def wait_for_write(self) -> None:
        """Wait until no write is running."""
        while self._job is not None:
            await asyncio.wait({self._job})
            await asyncio.sleep(0)  # its callback may be queued behind this task


class BufferedTransfer(TransferBackend, asyncio.BufferedProtocol):
    """Two buffers, filled by the loop in turn and written off it.

    Reading pauses while both are busy, so memory is bounded and TCP holds the peer back. A buffer has room
    for two turns and reading pauses at one, because Windows delivers what it read, up to a turn, unasked.

    The loop gets a duplicate of the socket, because a transport closes its own.
    """

    def __init__(self, sock: socket.socket, part: PartFile, size: int) -> None:
        super().__init__(sock, part, size)
        self._buffer = memoryview(bytearray(2 * BYTES_PER_TURN))
        self._spare = memoryview(bytearray(2 * BYTES_PER_TURN))
        self._filled = 0
        self._missing = size - part.received
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()

    async def start(self) -> None:
        """Give a duplicate of the socket to the loop."""
        await self.loop.create_connection(lambda: self, sock=self.sock.dup())

    async def stop(self) -> None:
        """Close the duplicate and write what is in the buffers."""
        if self._transport is None:
            return
        self._transport.abort()
        await self._closed.wait()
        await self.wait_for_write()

    # -- called by the loop ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return room for the next bytes, never beyond the file, so that what follows it stays unread."""
        if not self._missing:
            return memoryview(bytearray(1))  # only Windows, which reads ahead, asks again
        return self._buffer[self._filled : self._filled + min(BYTES_PER_TURN, self._missing)]

    def buffer_updated(self, nbytes: int) -> None:
        """Write what was received, unless a write is running."""
        nbytes = min(nbytes, self._missing)
        self._filled += nbytes
        self._missing -= nbytes
        if self._job is None:
            self._write()
        full = not self._missing or self._filled >= BYTES_PER_TURN
        if full and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """End the transfer: the peer closed its side."""
        self._lost(PeerClosedError("the peer closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the transfer: the connection was lost, or `stop` closed it."""
        self._closed.set()
        reason = exc.strerror if isinstance(exc, OSError) else None
        self._lost(PeerClosedError(reason or str(exc or "the connection was closed")))

    # -- inside ---------------------------------------------------------------------------------

    def _write(self) -> None:
        data = self._buffer[: self._filled]
        self._buffer, self._spare, self._filled = self._spare, self._buffer, 0
        self.write_in_thread(partial(self.part.write_blocking, data), self._written)

    def _written(self) -> None:
        if self._filled:
            self._write()
        if self._missing and self._transport is not None:
            self._transport.resume_reading()

    def _lost(self, error: PeerClosedError) -> None:
        if self._missing:  # else everything was received and only has to be written
            self.fail(error)
