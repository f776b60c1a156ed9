"""What the ways of moving bytes from a socket into a part have in common."""

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

from asynccam.net.transfer.partfile import PartFile

TURN = 256 * 1024
"""Bytes moved before the loop serves others: less costs speed, more makes twenty transfers stall it."""


class PeerClosedError(Exception):
    """The connection ended before the file did; the message says how."""


class TransferBackend(ABC):
    """Moves bytes from a socket into a part until the part holds ``size``.

    Attributes:
        done: Gets None when the last byte is in the file, or the exception because of which it
            never will be: `PeerClosedError`, `StorageError`.
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
    async def start(self) -> None:
        """Begin to read; quick, and not to be cut short."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop reading, put what was read into the file, let go of everything; not to be cut short."""

    def fail(self, error: Exception) -> None:
        """End the transfer with an error, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)

    def landed(self) -> None:
        """Bytes reached the file: tell the digest, and end if they were the last."""
        self.part.follow()
        if self.part.received >= self.size and not self.done.done():
            self.done.set_result(None)

    def write_off_loop(self, write: Callable[[], None], then: Callable[[], None]) -> None:
        """Run a blocking write in the executor, and ``then`` in the loop if it succeeded."""

        def written(job: "asyncio.Future[None]") -> None:
            self._job = None
            error = None if job.cancelled() else job.exception()
            if isinstance(error, Exception):
                self._disk_failed = True
                self.fail(error)
                return
            self.landed()
            then()

        self._job = self.loop.run_in_executor(None, write)
        self._job.add_done_callback(written)

    async def last_write(self) -> None:
        """Wait until no write is at work."""
        while self._job is not None:
            await asyncio.wait({self._job})
            await asyncio.sleep(0)  # its callback may stand behind this task
