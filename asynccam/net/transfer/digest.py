"""SHA-256 of files that are still being written."""

import asyncio
import hashlib
import logging
import mmap
import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

from asynccam.errors import BusyError, StorageError
from asynccam.runtime.disk import storage_errors
from asynccam.runtime.tasks import finish
from asynccam.runtime.threads import thread_errors

_LOG = logging.getLogger(__name__)

_SLICE = 8 * 1024 * 1024  # about 5 ms of hashing, after which the next file has its turn
_BUFFER = 1024 * 1024  # less means more handing to and fro of Python's lock, more leaves the core's cache
_THREAD_AGAIN = 0.5  # seconds until another try to start a thread, where the system refused one


class BackgroundDigest:
    """Hashes what has been written, from the page cache, in slices on the loop's executor.

    Reading back costs one more copy, but leaves the transfer free to move bytes that Python never
    sees, and the two overlap on two cores.

    Args:
        path: The file; it may grow, but what is in it does not change.
        fd: The file open for reading, closed with this; by default it is opened.
    """

    def __init__(self, path: Path, fd: int | None = None) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0) if fd is None else os.fdopen(fd, "rb", buffering=0)
        self._sha = hashlib.sha256()
        # The thread changes these two; everything below them belongs to the loop.
        self._hashed = 0
        self._error: Exception | None = None
        self._written = 0
        self._last = False
        self._stopped = False
        self._queued = False
        self._idle = asyncio.Event()

    def follow(self, written: int) -> None:
        """Learn that the first ``written`` bytes are in the file; never waits."""
        self._written = written
        if not self._queued and self.has_work():
            self._enqueue()

    async def result(self, size: int) -> str:
        """Hash what is left of the first ``size`` bytes and return the digest in lower-case hex."""
        self._last = True
        self.follow(size)
        if self._queued:
            await self._idle.wait()
        if self._error is not None:
            raise self._error
        return self._sha.hexdigest()

    async def stop(self) -> None:
        """Hash no further, and wait for the slice at work."""
        self._stopped = True
        if self._queued and _Hashers.of(asyncio.get_running_loop()).withdraw(self):
            self._queued = False
        elif self._queued:
            await finish(self._idle.wait())

    def close(self) -> None:
        """Close the file; only after `stop` or `result`."""
        self._file.close()

    def has_work(self) -> bool:
        """Whether a slice is waiting to be hashed, or the last piece of one."""
        left = self._written - self._hashed
        return (left >= _SLICE or (self._last and left > 0)) and not self._stopped and self._error is None

    def hash_slice(self, buffer: memoryview) -> None:
        """In a thread: hash one slice by way of ``buffer``; an error is kept for `result`."""
        end = min(self._written, self._hashed + _SLICE)
        try:
            with storage_errors("read back", self._path):
                while self._hashed < end:
                    count = self._file.readinto(buffer[: end - self._hashed])
                    if not count:
                        raise StorageError(f"{self._path} became shorter while it was being written")
                    self._sha.update(buffer[:count])
                    self._hashed += count
        except Exception as error:  # noqa: BLE001 - raised by result
            self._error = error

    def rest(self) -> None:
        """A thread found nothing more to do; unless there is by now, whoever waits goes on."""
        self._queued = False
        if self.has_work():
            self._enqueue()
        else:
            self._idle.set()

    def _enqueue(self) -> None:
        self._queued = True
        self._idle.clear()
        _Hashers.of(asyncio.get_running_loop()).add(self)


class _Hashers:
    """Threads that hash for all files of a loop: at most half the cores, the rest is for the transfers.

    Borrowed from the loop's executor only while there is work. One object for each loop, gone with it.
    """

    _of_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, "_Hashers"]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._idle = max(1, (os.cpu_count() or 1) // 2)
        self._queue: deque[BackgroundDigest] = deque()  # its single operations need no lock

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "_Hashers":
        return cls._of_loop.setdefault(loop, cls())

    def add(self, digest: BackgroundDigest) -> None:
        self._queue.append(digest)
        self._employ()

    def withdraw(self, digest: BackgroundDigest) -> bool:
        """Take a file out of the queue; False if a thread is at it."""
        with suppress(ValueError):
            self._queue.remove(digest)
            return True
        return False

    def _employ(self) -> None:
        if self._idle and self._queue:
            loop = asyncio.get_running_loop()
            try:
                with thread_errors():
                    job = loop.run_in_executor(None, self._work, loop)
            except BusyError as error:
                _LOG.debug("files are hashed later: %s", error)
                loop.call_later(_THREAD_AGAIN, self._employ)
                return
            self._idle -= 1
            job.add_done_callback(self._finished)

    def _finished(self, job: "asyncio.Future[None]") -> None:
        self._idle += 1
        self._employ()  # for what came while the thread was about to leave

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        # From the system and back to it at once; the allocator would keep as much for every thread.
        with mmap.mmap(-1, _BUFFER) as area, memoryview(area) as buffer:
            while True:
                try:
                    digest = self._queue.popleft()
                except IndexError:
                    return
                digest.hash_slice(buffer)
                if digest.has_work():
                    self._queue.append(digest)
                else:
                    loop.call_soon_threadsafe(digest.rest)
