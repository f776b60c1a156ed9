"""The recordings of a MultiCam device: one flat directory, read off the loop, never left.

See docs/protocols/multicam.md for how the two dialects name a recording.
"""

import asyncio
import os
import re
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.errors import StorageError
from asynccam.runtime.tasks import finish

SUFFIXES: Final = frozenset({".mp4", ".mov", ".mkv"})
"""Files in the directory that count as recordings; everything else there is never shown or sent."""
_STARTED: Final = re.compile(r"_(\d{10})(\d{3})?(?:-\d+)?$")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A recording on the device's disk.

    Attributes:
        name: File name, ``video_1729000000.mp4``.
        size: Bytes.
        created: When it was begun, Unix seconds: from its name where that tells, else ``modified``.
        modified: When it was last written, Unix seconds.
    """

    name: str
    size: int
    created: float
    modified: float

    @property
    def file_id(self) -> str:
        """What dialect 1 calls it: the name without its suffix."""
        return Path(self.name).stem


class OpenFile:
    """A recording being read. The descriptor belongs to the `Storage.reading` block that gave it.

    Attributes:
        name: File name.
        size: Bytes when it was opened.
        fd: Descriptor, for reads at a given offset.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name
        self.size = 0
        self.fd = -1

    def open(self) -> None:
        """Open a regular file, never through a link; waits for no FIFO."""
        self.fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(self.fd)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(self.name)
        self.size = found.st_size

    def close(self) -> None:
        """Close the descriptor if it was opened."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Storage:
    """The directory of recordings. It is read at every question, so a restart finds everything again.

    Args:
        directory: Where the recordings are; made if it is missing.
        device_id: Goes into the names of dialect 1.
        dialect: 1 or 2: how new recordings are named.
        unfinished: Names the recording being written, which is neither shown nor sent, or None.
    """

    def __init__(
        self, directory: Path, *, device_id: str, dialect: int, unfinished: Callable[[], str | None]
    ) -> None:
        self.directory = directory
        self._prefix = "video" if dialect == 2 else re.sub(r"[^A-Za-z0-9._-]", "_", device_id).lstrip(".")
        self._milliseconds = dialect == 1
        self._unfinished = unfinished

    async def prepare(self) -> None:
        """Make the directory; raises `StorageError` if that or writing there is impossible."""

        def prepare() -> None:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(f"no permission to write in {self.directory}")

        try:
            await asyncio.to_thread(prepare)
        except OSError as error:
            raise StorageError(f"cannot record in {self.directory}: {error}") from error

    async def free(self) -> int:
        """Bytes free for recordings; raises `StorageError`."""
        try:
            return (await asyncio.to_thread(shutil.disk_usage, self.directory)).free
        except OSError as error:
            raise StorageError(f"cannot look at {self.directory}: {error}") from error

    async def files(self) -> list[StoredFile]:
        """Every finished recording, oldest first; raises `StorageError`."""
        try:
            return await asyncio.to_thread(self._scan)
        except OSError as error:
            raise StorageError(f"cannot list {self.directory}: {error}") from error

    async def find(self, *names: str | None) -> StoredFile | None:
        """The recording that one of the names or ids means, the first one first; None if none does.

        A name is compared with what is there and never made into a path.
        """
        wanted = [name for name in names if name]
        files = await self.files() if wanted else []
        by_name = {file.name: file for file in files}
        by_id = {file.file_id: file for file in files}
        return next((found for name in wanted if (found := by_name.get(name) or by_id.get(name))), None)

    @asynccontextmanager
    async def reading(self, file: StoredFile) -> AsyncIterator[OpenFile]:
        """Open a recording that `find` gave.

        Raises:
            StorageError: It has gone, or cannot be read.
        """
        opened = OpenFile(self.directory / file.name)
        try:
            try:
                # Seen to its end even when cancelled: the thread must not open it after close().
                await finish(asyncio.to_thread(opened.open))
            except OSError as error:
                raise StorageError(f"cannot open {file.name}: {error.strerror or error}") from error
            yield opened
        finally:
            opened.close()

    async def delete(self, name: str) -> None:
        """Remove a recording that `files` gave; harmless if it has gone; raises `StorageError`."""
        try:
            await finish(asyncio.to_thread((self.directory / name).unlink, missing_ok=True))
        except OSError as error:
            raise StorageError(f"cannot delete {name}: {error.strerror or error}") from error

    async def new_path(self, started: float) -> Path:
        """A path for a recording begun at ``started`` (Unix seconds) that nothing exists at."""
        stem = f"{self._prefix}_{int(started * 1000) if self._milliseconds else int(started)}"

        def unused() -> Path:
            path, number = self.directory / f"{stem}.mp4", 0
            while os.path.lexists(path):
                number += 1
                path = self.directory / f"{stem}-{number}.mp4"
            return path

        return await asyncio.to_thread(unused)

    async def drop_empty(self, path: Path) -> None:
        """Remove what a recording that never began left behind, if it is empty."""

        def drop() -> None:
            if path.exists() and path.stat().st_size == 0:
                path.unlink()

        try:
            await finish(asyncio.to_thread(drop))
        except OSError as error:
            raise StorageError(f"cannot remove {path.name}: {error.strerror or error}") from error

    def _scan(self) -> list[StoredFile]:
        unfinished = self._unfinished()
        found = []
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name == unfinished or not _is_recording(entry.name):
                    continue
                try:
                    if not entry.is_file(follow_symlinks=False):
                        continue
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # Deleted since the directory was read.
                    continue
                found.append(_describe(entry.name, status))
        return sorted(found, key=lambda file: (file.created, file.name))


def _is_recording(name: str) -> bool:
    # A name that is not UTF-8 cannot be said on the wire; isprintable() is false for it.
    return not name.startswith(".") and name.isprintable() and Path(name).suffix.lower() in SUFFIXES


def _describe(name: str, status: os.stat_result) -> StoredFile:
    digits = _STARTED.search(Path(name).stem)
    created = status.st_mtime
    if digits:
        created = int(digits[1]) + int(digits[2] or 0) / 1000
    return StoredFile(name, status.st_size, created, status.st_mtime)
