"""A file being received: ``NAME.part`` until every byte is on disk, then ``NAME`` in one step.

`PartFile` is the file, `BackgroundDigest` its digest, computed while it grows.
"""

import asyncio
import errno
import logging
import mmap
import os
import shutil
import time
from collections import deque
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

from asynccam.errors import (
    BusyError,
    InsufficientSpaceError,
    RemoteProtocolError,
    StateError,
    StorageError,
    TransferError,
    UsageError,
)
from asynccam.model.digest import (
    SHA256,
    DigestChoice,
    DigestName,
    checked_digest,
    digest_fields,
    new_hasher,
)
from asynccam.model.filenames import safe_name, unique_path
from asynccam.model.info import LocalFile
from asynccam.model.safe_files import Folder
from asynccam.runtime.disk import on_disk, reserve_space, storage_errors
from asynccam.runtime.tasks import finish, thread_errors

_LOG = logging.getLogger(__name__)

_SLICE = 8 * 1024 * 1024  # bytes; about 5 ms of hashing, after which the next file has its turn
_BUFFER = 1024 * 1024  # bytes; a smaller one takes the GIL more often, a larger one does not fit the cache
_TAIL = 1024 * 1024  # bytes; so little is hashed by whoever syncs the file, sooner than it is handed on
_TAIL_BUFFER = 256 * 1024  # bytes; the allocator keeps it, for every thread
_THREAD_RETRY = 0.5  # seconds until the next try to start a thread that the system refused


class BackgroundDigest:
    """Hashes a growing file, from the page cache, in slices on the loop's executor.

    Reading back costs one more copy, but leaves the transfer free to move bytes that Python never
    sees, and the two overlap on two cores. ``fd`` is the file open for reading, and is closed with this; its
    position is not moved where the system can read without that.
    """

    def __init__(self, path: Path, fd: int | None = None, *, algorithm: DigestName = SHA256) -> None:
        self._path = path
        self._hasher = new_hasher(algorithm)
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)) if fd is None else fd
        # The thread changes these two; everything below them belongs to the loop.
        self._hashed = 0
        self._error: Exception | None = None
        self._written = 0
        self._last = False
        self._stopped = False
        self._queued = False
        self._idle = asyncio.Event()

    def update(self, written: int) -> None:
        """Report that the first ``written`` bytes are in the file; never waits."""
        self._written = written
        if not self._queued and self.has_work():
            self._enqueue()

    async def result(self, size: int) -> str:
        """Hash the rest of the first ``size`` bytes and return the digest in lower-case hex."""
        self._last = True
        self.update(size)
        if self._queued:
            await self._idle.wait()
        return self._value()

    def finish_tail(self, size: int) -> str:
        """Do as `result` does, in the thread that calls it; only if `is_tail` was true, and nothing since."""
        self._written = size
        with memoryview(bytearray(min(_TAIL_BUFFER, size - self._hashed))) as buffer:
            self.hash_slice(buffer)
        return self._value()

    def is_tail(self, size: int) -> bool:
        """Return whether too little of the first ``size`` bytes is left to be worth another thread."""
        return not self._queued and not self._stopped and size - self._hashed <= _TAIL

    async def stop(self) -> None:
        """Stop hashing, and wait for the present slice."""
        self._stopped = True
        if self._queued and _HashThreads.of(asyncio.get_running_loop()).withdraw(self):
            self._queued = False
        elif self._queued:
            await finish(self._idle.wait())

    def close(self) -> None:
        """Close the file; only after `stop` or `result`. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def has_work(self) -> bool:
        """Return whether a slice is waiting to be hashed, or the last piece of one."""
        left = self._written - self._hashed
        return (left >= _SLICE or (self._last and left > 0)) and not self._stopped and self._error is None

    def hash_slice(self, buffer: memoryview) -> None:
        """Hash one slice by way of ``buffer``, in a thread; an error is kept for `result`."""
        end = min(self._written, self._hashed + _SLICE)
        try:
            with storage_errors("read back", self._path):
                while self._hashed < end:
                    count = _read_at(self._fd, buffer[: end - self._hashed], self._hashed)
                    if not count:
                        raise StorageError(f"{self._path} became shorter while it was being written")
                    self._hasher.update(buffer[:count])
                    self._hashed += count
        except Exception as error:  # noqa: BLE001 - raised by result
            self._error = error

    def finish_batch(self) -> None:
        """Wake `result` and `stop` after a thread's last slice, unless there is more to hash by now."""
        self._queued = False
        if self.has_work():
            self._enqueue()
        else:
            self._idle.set()

    def _value(self) -> str:
        if self._error is not None:
            raise self._error
        return self._hasher.hexdigest()

    def _enqueue(self) -> None:
        self._queued = True
        self._idle.clear()
        _HashThreads.of(asyncio.get_running_loop()).add(self)


def _read_at(fd: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer from an offset in a file and return the number of bytes read, 0 at the end."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, [buffer], offset)
    os.lseek(fd, offset, os.SEEK_SET)
    data = os.read(fd, len(buffer))
    buffer[: len(data)] = data
    return len(data)


class _HashThreads:
    """Threads of a loop's executor that hash for all its files: at most half as many as cores."""

    _of_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, "_HashThreads"]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._idle = max(1, (os.cpu_count() or 1) // 2)
        self._queue: deque[BackgroundDigest] = deque()  # its single operations need no lock

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "_HashThreads":
        return cls._of_loop.setdefault(loop, cls())

    def add(self, digest: BackgroundDigest) -> None:
        self._queue.append(digest)
        self._start_thread()

    def withdraw(self, digest: BackgroundDigest) -> bool:
        """Remove a file from the queue; return False if a thread is hashing it."""
        with suppress(ValueError):
            self._queue.remove(digest)
            return True
        return False

    def _start_thread(self) -> None:
        if self._idle and self._queue:
            loop = asyncio.get_running_loop()
            try:
                with thread_errors():
                    job = loop.run_in_executor(None, self._work, loop)
            except BusyError as error:
                _LOG.debug("files are hashed later: %s", error)
                loop.call_later(_THREAD_RETRY, self._start_thread)
                return
            self._idle -= 1
            job.add_done_callback(self._finished)

    def _finished(self, job: "asyncio.Future[None]") -> None:
        self._idle += 1
        self._start_thread()  # for a file that was added while the thread was about to end

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        # Mapped, so that it is returned to the system at once; the allocator would keep one for every thread.
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
                    loop.call_soon_threadsafe(digest.finish_batch)


_COPY_SIZE = 1024 * 1024
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _State(Enum):
    OPEN = "open"
    KEPT = "kept"
    COMMITTED = "committed"
    DISCARDED = "discarded"


class PartFile:
    """A file being received: ends as a complete file, as a kept part, or as nothing.

    Made by `PartFile.open`; ended by `commit`, `keep` or `discard`. As a context manager it keeps what was
    not committed. Every step on disk runs off the loop, and to its end even when the caller is cancelled, so
    no descriptor and no thread is left behind.

    Attributes:
        path: The part, ``NAME.part``.
        target: Its final path; `commit` takes another free name if this one was taken meanwhile.
        size: Bytes announced, or None.
        received: Bytes written so far.
    """

    path: Path
    target: Path

    def __init__(self, directory: Path, name: str, size: int | None, algorithm: DigestName | None) -> None:
        self.size = size
        self.received = 0
        self._directory = directory
        self._name = name
        self._fd = -1
        self._folder: Folder | None = None
        self._made = False
        self._algorithm: DigestName | None = algorithm
        self._digest: BackgroundDigest | None = None
        self._state = _State.OPEN
        self._lock = asyncio.Lock()
        self._began = time.monotonic()

    @classmethod
    async def open(
        cls,
        directory: Path,
        name: str,
        *,
        size: int | None,
        digest: DigestChoice = SHA256,
        first: bytes = b"",
    ) -> "PartFile":
        """Reserve a name, and the space where the system can.

        A name counts as taken when the file or its part exists; ``a-1.mp4`` and so on are tried
        then. Any number of downloads may ask for the same name at the same time.

        Args:
            directory: Created if missing.
            name: The device's name for the file; `safe_name` is applied.
            size: Bytes to come, or None if not announced.
            digest: Algorithm of the digest, computed during the transfer.
            first: First bytes of the file, written in the same step.

        Raises:
            InsufficientSpaceError: Less than ``size`` bytes are free.
            StorageError: The directory or file cannot be made, or not take the first bytes.
            UsageError: ``size`` is negative, or less than the first bytes; or the digest cannot be computed,
                see `asynccam.model.digest`.
        """
        if size is not None and size < len(first):
            raise UsageError(f"size must be >= {len(first)}, not {size}")
        part = cls(directory, safe_name(name), size, checked_digest(digest))
        try:
            await on_disk(part._create, first)
            part.update_digest()
        except BaseException:
            await part.keep()  # what was received of the first bytes; nothing if there were none
            raise
        return part

    @property
    def fd(self) -> int:
        """Open descriptor, for transfers that move bytes past Python.

        Raises:
            StateError: The file has been ended.
        """
        if self._state is not _State.OPEN:
            raise StateError(f"{self.path.name} is {self._state.value} and takes no more bytes")
        return self._fd

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; return when the system has the bytes. Several callers are served in order.

        Raises:
            RemoteProtocolError: More bytes than ``size``.
            StorageError: The disk refuses; what it took counts as received.
            StateError: The file has been ended.
        """
        view = memoryview(data).cast("B")
        async with self._lock:
            if self.size is not None and self.received + len(view) > self.size:
                raise RemoteProtocolError(
                    f"more than the announced {self.size} bytes were received for {self._name}"
                )
            await on_disk(self.write_blocking, view)
            self.update_digest()

    def write_blocking(self, data: memoryview) -> None:
        """Append, blocking: `write` for a transfer that is in a thread already."""
        with storage_errors("write", self.path):
            while data:
                count = os.write(self.fd, data)
                self.received += count
                data = data[count:]

    def update_digest(self) -> None:
        """Let the digest continue up to ``received``; called in the loop."""
        if self._digest is not None:
            self._digest.update(self.received)

    async def digest(self) -> str:
        """Return the digest of everything received, in lower-case hex, or ``""`` without one.

        To be called at the end: what is written afterwards does not count.
        """
        return "" if self._digest is None else await self._digest.result(self.received)

    async def drop_head(self, count: int) -> None:
        """Remove the first ``count`` bytes: `size`, `received` and the digest are of what is left.

        To be called at the end. Bytes are moved within the part, so no space is needed.

        Raises:
            StorageError: The disk refuses.
            StateError: The file has been ended.
            UsageError: There are fewer bytes.
        """
        if not 0 <= count <= self.received:
            raise UsageError(f"cannot remove {count} of {self.received} bytes")
        async with self._lock:
            if self._digest is not None:
                await self._digest.stop()
            await on_disk(self._remove_head, count)
            if self._digest is not None:
                self._digest.close()
                self._digest = await on_disk(self._new_digest)

    async def commit(self, source: str) -> LocalFile:
        """Check the size, sync the file to disk and rename it to its final name in one step.

        An existing file is never replaced. If anything fails the part is kept.

        ``source`` is the device's name for the file, for the result.

        Raises:
            TransferError: Fewer bytes were received than announced.
            StorageError: The disk refuses.
            StateError: The file has been ended.
        """
        if self.fd >= 0 and self.size is not None and self.received < self.size:
            raise TransferError(
                f"{self._name} ended after {self.received} of {self.size} bytes",
                part=await self.keep(),
                received=self.received,
                expected=self.size,
            )
        try:
            async with self._lock:
                if self._digest is None or self._digest.is_tail(self.received):
                    digest = await on_disk(self._publish_with_tail)
                else:
                    digest = await self.digest()
                    await on_disk(self._publish)
        except BaseException:
            await self.keep()
            raise
        seconds = time.monotonic() - self._began
        digests = digest_fields(self._algorithm, digest)
        return LocalFile(self.target, self.received, source=source, seconds=seconds, **digests)

    async def keep(self) -> Path | None:
        """End and leave the part, synced to disk, with exactly what was received.

        Return None if there is no part: nothing was received, or the file was ended otherwise.
        """
        if self._state is _State.OPEN:
            await finish(self._end(_State.KEPT if self.received else _State.DISCARDED))
        return self.path if self._state is _State.KEPT else None

    async def discard(self) -> None:
        """End and remove the part; a committed or kept file stays."""
        if self._state is _State.OPEN:
            await finish(self._end(_State.DISCARDED))

    async def __aenter__(self) -> "PartFile":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.keep()

    async def _end(self, state: _State) -> None:
        async with self._lock:
            if self._state is not _State.OPEN:
                return
            self._state = state
            if self._digest is not None:
                await self._digest.stop()
            await on_disk(self._close_part)

    # -- in a thread ----------------------------------------------------------------------------

    def _create(self, first: bytes) -> None:
        with storage_errors("make a file in", self._directory):
            # Held open, so that the file stays in this directory even if its path is renamed or replaced.
            self._folder = Folder(self._directory, make=True)
            if self.size is not None and self.size > self._free():
                raise self._space_error(self.size)
            self._take_name(self._folder)
            if self.size is not None:
                try:
                    reserve_space(self._fd, self.size)
                except OSError as error:
                    if error.errno in _DISK_FULL:
                        raise self._space_error(self.size) from error
                    raise
            self._digest = self._new_digest()
        if first:
            self.write_blocking(memoryview(first))

    def _new_digest(self) -> BackgroundDigest | None:
        if self._algorithm is None:
            return None
        if hasattr(os, "preadv"):
            # The two share a position, which reading does not use.
            return BackgroundDigest(self.path, os.dup(self._fd), algorithm=self._algorithm)
        assert self._folder is not None
        return BackgroundDigest(self.path, self._folder.open(self.path.name), algorithm=self._algorithm)

    def _take_name(self, folder: Folder) -> None:
        def claim(target: Path) -> None:
            self.target, self.path = target, target.with_name(target.name + ".part")
            if folder.exists(target.name):
                raise FileExistsError(target)
            self._fd = folder.create(self.path.name)
            self._made = True

        unique_path(self._directory / self._name, claim)

    def _free(self) -> int:
        return shutil.disk_usage(self._directory).free

    def _space_error(self, needed: int) -> InsufficientSpaceError:
        free = self._free()
        message = f"{self._name} needs {needed} bytes, {self._directory} has room for {free}"
        return InsufficientSpaceError(message, needed=needed, free=free)

    def _remove_head(self, count: int) -> None:
        with storage_errors("write", self.path):
            left = self.received - count
            moved = 0
            while moved < left:
                os.lseek(self.fd, count + moved, os.SEEK_SET)
                data = memoryview(os.read(self.fd, min(_COPY_SIZE, left - moved)))
                if not data:
                    raise StorageError(f"{self.path} became shorter while it was being written")
                os.lseek(self.fd, moved, os.SEEK_SET)
                moved += len(data)
                while data:
                    data = data[os.write(self.fd, data) :]
            os.ftruncate(self.fd, left)
            os.lseek(self.fd, left, os.SEEK_SET)
            self.received = left
            if self.size is not None:
                self.size -= count

    def _publish_with_tail(self) -> str:
        digest = "" if self._digest is None else self._digest.finish_tail(self.received)
        self._publish()
        return digest

    def _publish(self) -> None:
        with storage_errors("put on disk", self.path):
            os.fsync(self.fd)
            found = os.fstat(self._fd).st_size
            if found != self.received:
                raise StorageError(f"{self.path} holds {found} bytes, {self.received} were written")
            self._close()  # Windows renames no open file
            assert self._folder is not None
            try:
                self._publish_as(self.target)
            except FileExistsError:  # another process took the name meanwhile
                unique_path(self._directory / self._name, self._publish_as)
            self._state = _State.COMMITTED
            try:
                self._folder.sync()
            finally:
                self._folder.close()

    def _publish_as(self, target: Path) -> None:
        assert self._folder is not None
        self._folder.rename_new(self.path.name, target.name)
        self.target = target

    def _close_part(self) -> None:
        with storage_errors("close", self.path if self._made else self._directory):
            try:
                if self._state is _State.KEPT and self._fd >= 0:
                    os.ftruncate(self._fd, self.received)  # gives back what was reserved and not used
                    os.fsync(self._fd)
            finally:
                self._close()
                if self._folder is not None:
                    if self._state is _State.DISCARDED and self._made:
                        self._folder.remove(self.path.name)
                    self._folder.close()

    def _close(self) -> None:
        if self._digest is not None:
            self._digest.close()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
