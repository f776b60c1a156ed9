"""Transfer on Linux: bytes go from socket to file inside the kernel, a turn of the loop at a time.

The socket is spliced into a pipe and the pipe into the file, so the bytes are copied once and
never seen by Python. Both happen in the loop, in moves of at most `BYTES_PER_TURN` bytes. A few moves are a
transfer's turn, and the turns of all transfers together take a few milliseconds of each pass.

The file can still stall the loop: when the disk is slower than the network, the kernel makes a writer wait
for up to a fifth of a second. So after a slow write the loop writes nothing itself for a while; the executor
does, while the socket is not read.
"""

import asyncio
import errno
import fcntl
import os
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Awaitable
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
_SLOW_WRITE_TIME = 0.010  # seconds a move's write may take: a disk of less than 25 MB/s, or a busy one
_OFF_LOOP_TIME = 0.25  # seconds for which the loop writes nothing itself after a slow write
_MOVES_PER_TURN = 4  # of `BYTES_PER_TURN` each, about a millisecond together
_BUDGET = 0.003  # seconds of one pass of the loop for transfers, however many there are


class _Turns:
    """Time of a loop that its transfers may take in one pass, all together; who gets none waits in order.

    Each transfer's turn is short, but twenty of them in one pass would keep the loop from everything else.
    """

    _of_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, "_Turns"]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._spent = 0.0
        self._disk_slow_until = 0.0
        self._waiting: OrderedDict[SpliceTransfer, None] = OrderedDict()

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "_Turns":
        return cls._of_loop.setdefault(loop, cls())

    def request(self, transfer: "SpliceTransfer") -> None:
        """Give a transfer its turn now, or in one of the next passes after those that wait already."""
        # The loop reports every socket in every pass, always in the same order: without a queue the first
        # ones would take all the time until their files are complete.
        if transfer in self._waiting:
            return
        if self._waiting or self._spent >= _BUDGET:
            self._waiting[transfer] = None
        else:
            self._give(transfer)

    def withdraw(self, transfer: "SpliceTransfer") -> None:
        """Forget a transfer that ends."""
        self._waiting.pop(transfer, None)

    def may_write(self) -> bool:
        """Return whether the loop may write itself, because the disk has not kept a write waiting lately."""
        return time.monotonic() >= self._disk_slow_until

    def note_write(self, seconds: float) -> None:
        """Record how long a write took, in the loop or in a thread."""
        if seconds > _SLOW_WRITE_TIME:
            self._disk_slow_until = time.monotonic() + _OFF_LOOP_TIME

    def _give(self, transfer: "SpliceTransfer") -> None:
        if not self._spent:
            transfer.loop.call_soon(self._begin_pass)
        began = time.monotonic()
        # Several in a row, so that files are complete one after another: while the threads hash and sync the
        # first ones, the next ones are received.
        for _ in range(_MOVES_PER_TURN):
            if not transfer.move() or self._spent + time.monotonic() - began >= _BUDGET:
                break
        self._spent += max(time.monotonic() - began, 1e-9)

    def _begin_pass(self) -> None:
        self._spent = 0.0
        while self._waiting and self._spent < _BUDGET:
            transfer, _ = self._waiting.popitem(last=False)
            self._give(transfer)


class SpliceTransfer(TransferBackend):
    """Socket to pipe to file; needs a loop with ``add_reader``."""

    def __init__(self, sock: socket.socket, part: PartFile, size: int) -> None:
        super().__init__(sock, part, size)
        self._outlet = self._inlet = -1
        self._copying = False
        self._turns = _Turns.of(self.loop)

    def start(self) -> None:
        """Open the pipe and begin to read."""
        try:
            self._outlet, self._inlet = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StorageError(f"cannot open a pipe for {self.part.path}: {error.strerror}") from error
        with suppress(PermissionError):  # the user's limit; the default of 64 KiB takes more turns
            fcntl.fcntl(self._inlet, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self.loop.add_reader(self.sock, self._on_readable)

    def stop(self) -> Awaitable[None] | None:
        """Stop reading, await the last write if one is running, close the pipe."""
        if self._inlet < 0:
            return None
        self._turns.withdraw(self)
        self.loop.remove_reader(self.sock)
        if self.is_writing:
            return self._stop_after_write()
        self._close_pipe()
        return None

    async def _stop_after_write(self) -> None:
        await self.wait_for_write()
        self.loop.remove_reader(self.sock)  # the last write may have asked for more
        self._turns.withdraw(self)
        self._close_pipe()

    def _close_pipe(self) -> None:
        os.close(self._inlet)
        os.close(self._outlet)

    def _on_readable(self) -> None:
        self._turns.request(self)

    def move(self) -> bool:
        """Move up to `BYTES_PER_TURN` from the socket to the file; return whether more may be there.

        Called by `_Turns`.
        """
        try:
            count = moved = self._fill_pipe()
            if self._turns.may_write() and not self._copying:
                count -= self._splice_into_file(count)
        except BlockingIOError:
            return False
        except Exception as error:  # noqa: BLE001 - raised where the file is awaited
            self.loop.remove_reader(self.sock)
            self.fail(error)
            return False
        if count:
            self.loop.remove_reader(self.sock)
            self.write_in_thread(partial(self._empty_pipe, count), self._resume_reading)
            return False
        self.on_written()
        if self.done.done():
            self.loop.remove_reader(self.sock)
            return False
        return moved == BYTES_PER_TURN

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
        self._turns.note_write(time.monotonic() - began)
        return count - left

    def _empty_pipe(self, count: int) -> None:
        """Move all of ``count`` bytes from the pipe, in a thread, by copying if need be."""
        if not self._copying:
            count -= self._splice_into_file(count)
        while count:
            data = os.read(self._outlet, count)
            self.part.write_blocking(memoryview(data))
            count -= len(data)
