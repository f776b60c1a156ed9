"""Transfer on Linux: bytes go from socket to file inside the kernel, a turn of the loop at a time.

The socket is spliced into a pipe and the pipe into the file, so the bytes are copied once and
never seen by Python. Both happen in the loop's reader callback, at most `TURN` bytes each time.

Only the file could stall the loop: when the disk is slower than the network, the kernel makes a writer wait
for up to a fifth of a second. So the loop spends a few milliseconds of each pass on all files together, and
nothing for a while after a slow write; the rest goes through the executor, while the socket is not read.
"""

import asyncio
import errno
import fcntl
import os
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from typing import ClassVar
from weakref import WeakKeyDictionary

from asynccam.errors import StorageError
from asynccam.net.transfer.base import BYTES_PER_TURN, PeerClosedError, TransferBackend
from asynccam.net.transfer.partfile import PartFile
from asynccam.runtime.disk import storage_errors

assert sys.platform == "linux"  # not imported elsewhere

_PIPE_SIZE = 1024 * 1024  # bytes, for 256 slots: a slot may hold no more than one packet
_SLOW_WRITE_TIME = 0.010  # seconds a turn's write may take: a disk of less than 25 MB/s, or a busy one
_OFF_LOOP_TIME = 0.25  # seconds for which the loop writes nothing itself after a slow write
_BUDGET = 0.008  # seconds of one pass of the loop for writing, however many files


class _WriteBudget:
    """Time of a loop that may be spent on writing, for all files together."""

    _of_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, "_WriteBudget"]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._spent = 0.0
        self._off_until = 0.0

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "_WriteBudget":
        return cls._of_loop.setdefault(loop, cls())

    def left(self) -> bool:
        return self._spent < _BUDGET and time.monotonic() >= self._off_until

    def spend(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        if not self._spent:
            loop.call_soon(self._new_pass)
        self._spent += seconds

    def note(self, seconds: float) -> None:
        """Record how long a write took, in the loop or in a thread."""
        if seconds > _SLOW_WRITE_TIME:
            self._off_until = time.monotonic() + _OFF_LOOP_TIME

    def _new_pass(self) -> None:
        self._spent = 0.0


class SpliceTransfer(TransferBackend):
    """Socket to pipe to file; needs a loop with ``add_reader``."""

    def __init__(self, sock: socket.socket, part: PartFile, size: int) -> None:
        super().__init__(sock, part, size)
        self._outlet = self._inlet = -1
        self._copying = False
        self._loop_time = _WriteBudget.of(self.loop)

    async def start(self) -> None:
        """Open the pipe and begin to read."""
        try:
            self._outlet, self._inlet = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StorageError(f"cannot open a pipe for {self.part.path}: {error.strerror}") from error
        with suppress(PermissionError):  # the user's limit; the default of 64 KiB takes more turns
            fcntl.fcntl(self._inlet, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self.loop.add_reader(self.sock, self._on_readable)

    async def stop(self) -> None:
        """Stop reading, await the last write, close the pipe."""
        if self._inlet < 0:
            return
        self.loop.remove_reader(self.sock)
        await self.wait_for_write()
        self.loop.remove_reader(self.sock)  # the last write may have asked for more
        os.close(self._inlet)
        os.close(self._outlet)

    def _on_readable(self) -> None:
        try:
            count = self._fill_pipe()
            if self._loop_time.left() and not self._copying:
                began = time.monotonic()
                count -= self._splice_into_file(count)
                self._loop_time.spend(self.loop, time.monotonic() - began)
        except BlockingIOError:
            return
        except Exception as error:  # noqa: BLE001 - raised where the file is awaited
            self.loop.remove_reader(self.sock)
            self.fail(error)
            return
        if count:
            self.loop.remove_reader(self.sock)
            self.write_in_thread(partial(self._empty_pipe, count), self._resume_reading)
            return
        self.on_written()
        if self.done.done():
            self.loop.remove_reader(self.sock)

    def _resume_reading(self) -> None:
        if not self.done.done():
            self.loop.add_reader(self.sock, self._on_readable)

    def _fill_pipe(self) -> int:
        want = min(BYTES_PER_TURN, self.size - self.part.received)
        try:
            count = os.splice(self.sock.fileno(), self._inlet, want, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            raise
        except OSError as error:
            raise PeerClosedError(error.strerror or str(error)) from error
        if not count:
            raise PeerClosedError("the peer closed the connection")
        return count

    def _splice_into_file(self, count: int) -> int:
        """Move up to ``count`` bytes from the pipe; fewer only where the file system cannot splice."""
        left = count
        began = time.monotonic()
        with storage_errors("write", self.part.path):
            while left:
                try:
                    moved = os.splice(self._outlet, self.part.fd, left)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    self._copying = True
                    break
                self.part.received += moved
                left -= moved
        self._loop_time.note(time.monotonic() - began)
        return count - left

    def _empty_pipe(self, count: int) -> None:
        """Move all of ``count`` bytes from the pipe, in a thread, by copying if need be."""
        if not self._copying:
            count -= self._splice_into_file(count)
        while count:
            data = os.read(self._outlet, count)
            self.part.write_blocking(memoryview(data))
            count -= len(data)
