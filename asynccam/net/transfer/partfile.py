"""A file on its way here: ``NAME.part`` until every byte is on disk, then ``NAME`` in one step."""

import asyncio
import errno
import os
import shutil
import time
from enum import Enum
from pathlib import Path
from types import TracebackType

from asynccam.errors import (
    InsufficientSpaceError,
    RemoteProtocolError,
    StateError,
    StorageError,
    TransferError,
    UsageError,
)
from asynccam.model.filenames import safe_name, unique_path
from asynccam.model.info import LocalFile
from asynccam.model.safe_files import Folder
from asynccam.net.transfer.digest import BackgroundDigest
from asynccam.runtime.disk import on_disk, reserve_space, storage_errors
from asynccam.runtime.tasks import finish

_MOVED = 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _State(Enum):
    OPEN = "open"
    KEPT = "kept"
    COMMITTED = "committed"
    DISCARDED = "discarded"


class PartFile:
    """Takes bytes in order and ends as a whole file, as a kept part or as nothing.

    Made by `PartFile.open`; ended by `commit`, `keep` or `discard`. As a context manager it keeps
    what was not committed. Every step that touches the disk runs off the loop, and to its end even
    when the caller is cancelled meanwhile, so no descriptor and no thread is left behind.

    Attributes:
        path: The part, ``NAME.part``.
        target: What it becomes; `commit` takes another free name if somebody was faster.
        size: Bytes announced, or None.
        received: Bytes written so far.
    """

    path: Path
    target: Path

    def __init__(self, directory: Path, name: str, size: int | None) -> None:
        self.size = size
        self.received = 0
        self._directory = directory
        self._name = name
        self._fd = -1
        self._folder: Folder | None = None
        self._made = False
        self._digest: BackgroundDigest | None = None
        self._state = _State.OPEN
        self._in_turn = asyncio.Lock()
        self._began = time.monotonic()

    @classmethod
    async def open(cls, directory: Path, name: str, *, size: int | None, digest: bool = True) -> "PartFile":
        """Reserve a name, and the space where the system can, and begin.

        A name counts as taken when the file or its part exists; ``a-1.mp4`` and so on are tried
        then. Any number of downloads may ask for the same name at the same time.

        Args:
            directory: Made if missing.
            name: The device's word, made safe by `safe_name`.
            size: Bytes to come, or None if not announced.
            digest: Compute SHA-256 beside the transfer.

        Raises:
            InsufficientSpaceError: Less than ``size`` bytes are free.
            StorageError: The directory or file cannot be made.
            UsageError: ``size`` is negative.
        """
        if size is not None and size < 0:
            raise UsageError(f"a file of {size} bytes cannot be")
        part = cls(directory, safe_name(name), size)
        try:
            await on_disk(part._create, digest)
        except BaseException:
            await part.discard()
            raise
        return part

    @property
    def fd(self) -> int:
        """The open descriptor, for engines that move bytes past Python.

        Raises:
            StateError: The file has been ended.
        """
        if self._state is not _State.OPEN:
            raise StateError(f"{self.path.name} is {self._state.value} and takes no more bytes")
        return self._fd

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; returns when the system has the bytes. Several callers are served in order.

        Raises:
            RemoteProtocolError: More came than ``size``.
            StorageError: The disk refuses; what it took counts as received.
            StateError: The file has been ended.
        """
        view = memoryview(data).cast("B")
        async with self._in_turn:
            if self.size is not None and self.received + len(view) > self.size:
                raise RemoteProtocolError(f"more than the announced {self.size} bytes came for {self._name}")
            await on_disk(self.put, view)
            self.follow()

    def put(self, data: memoryview) -> None:
        """Append, blocking: `write` for an engine that is in a thread already."""
        with storage_errors("write", self.path):
            while data:
                count = os.write(self.fd, data)
                self.received += count
                data = data[count:]

    def follow(self) -> None:
        """Let the digest catch up with ``received``; for engines, from the loop."""
        if self._digest is not None:
            self._digest.follow(self.received)

    async def digest(self) -> str:
        """SHA-256 of everything received, in lower-case hex, or ``""`` if none was asked for.

        For when no more is to come: what is written afterwards has no part in it.
        """
        return "" if self._digest is None else await self._digest.result(self.received)

    async def drop_head(self, count: int) -> None:
        """Remove the first ``count`` bytes: `size`, `received` and the digest are of what is left.

        For when no more is to come. Bytes are moved within the part, so no room is needed.

        Raises:
            StorageError: The disk refuses.
            StateError: The file has been ended.
            UsageError: There are not so many bytes.
        """
        if not 0 <= count <= self.received:
            raise UsageError(f"{count} of {self.received} bytes cannot be removed")
        async with self._in_turn:
            if self._digest is not None:
                await self._digest.stop()
            await on_disk(self._move_up, count)
            if self._digest is not None:
                self._digest.close()
                self._digest = await on_disk(self._new_digest)

    async def commit(self, source: str) -> LocalFile:
        """Check the size, put the file on disk for good and give it its name in one step.

        An existing file is never replaced. If anything fails the part is kept.

        Args:
            source: The device's name for the file, for the result.

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
            async with self._in_turn:
                digest = await self.digest()
                await on_disk(self._publish)
        except BaseException:
            await self.keep()
            raise
        return LocalFile(self.target, self.received, digest, source, time.monotonic() - self._began)

    async def keep(self) -> Path | None:
        """End here and leave the part, safely on disk, with exactly what was received.

        Returns:
            The part, or None if there is none: nothing was received, or the file was ended otherwise.
        """
        if self._state is _State.OPEN:
            await finish(self._end(_State.KEPT if self.received else _State.DISCARDED))
        return self.path if self._state is _State.KEPT else None

    async def discard(self) -> None:
        """End here and remove the part, whatever it holds; a committed or kept file stays."""
        if self._state is _State.OPEN:
            await finish(self._end(_State.DISCARDED))

    async def __aenter__(self) -> "PartFile":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.keep()

    async def _end(self, state: _State) -> None:
        async with self._in_turn:
            if self._state is not _State.OPEN:
                return
            self._state = state
            if self._digest is not None:
                await self._digest.stop()
            await on_disk(self._settle)

    # -- in a thread ----------------------------------------------------------------------------

    def _create(self, digest: bool) -> None:
        with storage_errors("make a file in", self._directory):
            # Held open, so that the file ends where it began, whatever becomes of the path meanwhile.
            self._folder = Folder(self._directory, make=True)
            if self.size is not None and self.size > self._free():
                raise self._no_room(self.size)
            self._take_name(self._folder)
            if self.size is not None:
                try:
                    reserve_space(self._fd, self.size)
                except OSError as error:
                    if error.errno in _FULL:
                        raise self._no_room(self.size) from error
                    raise
            if digest:
                self._digest = self._new_digest()

    def _new_digest(self) -> BackgroundDigest:
        assert self._folder is not None
        return BackgroundDigest(self.path, self._folder.open(self.path.name))

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

    def _no_room(self, needed: int) -> InsufficientSpaceError:
        free = self._free()
        message = f"{self._name} needs {needed} bytes, {self._directory} has room for {free}"
        return InsufficientSpaceError(message, needed=needed, free=free)

    def _move_up(self, count: int) -> None:
        with storage_errors("write", self.path):
            left = self.received - count
            moved = 0
            while moved < left:
                os.lseek(self.fd, count + moved, os.SEEK_SET)
                data = memoryview(os.read(self.fd, min(_MOVED, left - moved)))
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

    def _settle(self) -> None:
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
