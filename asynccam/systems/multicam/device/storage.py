"""Recordings of a MultiCam device: one flat directory, read outside the event loop.

See docs/protocols/multicam.md for the two dialects' names of a recording.
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
from asynccam.runtime.disk import storage_errors
from asynccam.runtime.tasks import finish

SUFFIXES: Final = frozenset({".mp4", ".mov", ".mkv"})
"""Suffixes of recordings; all other files in the directory are never listed or sent."""
_STARTED: Final = re.compile(r"_(\d{10})(\d{3})?(?:-\d+)?$")


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """A recording on the device's disk: size in bytes, times in Unix seconds.

    ``created`` is the start from the file's name, or else ``modified``.
    """

    name: str
    size: int
    created: float
    modified: float

    @property
    def file_id(self) -> str:
        """Id in dialect 1: the name without its suffix."""
        return Path(self.name).stem


class OpenFile:
    """A recording being read: its size when it was opened, and a descriptor that `Storage.reading` closes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name
        self.size = 0
        self.fd = -1

    def open(self) -> None:
        """Open a regular file, never through a link, and without waiting for a FIFO's writer."""
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
    """The directory of recordings; it is read for every request, so a restart loses nothing.

    ``unfinished`` returns the name of the recording being written, which is not listed or sent, or None.
    """

    def __init__(
        self, directory: Path, *, device_id: str, dialect: int, unfinished: Callable[[], str | None]
    ) -> None:
        self.directory = directory
        self._prefix = "video" if dialect == 2 else re.sub(r"[^A-Za-z0-9._-]", "_", device_id).lstrip(".")
        self._milliseconds = dialect == 1
        self._unfinished = unfinished

    async def prepare(self) -> None:
        """Create the directory; raise `StorageError` if that or writing there is impossible."""

        def prepare() -> None:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(f"no permission to write in {self.directory}")

        try:
            await asyncio.to_thread(prepare)
        except OSError as error:
            raise StorageError(f"cannot record in {self.directory}: {error}") from error

    async def free(self) -> int:
        """Return the bytes free for recordings, or raise `StorageError`."""
        try:
            return (await asyncio.to_thread(shutil.disk_usage, self.directory)).free
        except OSError as error:
            raise StorageError(f"cannot read {self.directory}: {error}") from error

    async def files(self) -> list[StoredRecording]:
        """Return all finished recordings, oldest first, or raise `StorageError`."""
        try:
            return await asyncio.to_thread(self._scan)
        except OSError as error:
            raise StorageError(f"cannot list {self.directory}: {error}") from error

    async def find(self, *names: str | None) -> StoredRecording | None:
        """Return the recording with the first of the names or ids that exists, or None."""
        # Names are compared, never made into a path: they are the controller's.
        wanted = [name for name in names if name]
        files = await self.files() if wanted else []
        by_name = {file.name: file for file in files}
        by_id = {file.file_id: file for file in files}
        return next((found for name in wanted if (found := by_name.get(name) or by_id.get(name))), None)

    @asynccontextmanager
    async def reading(self, file: StoredRecording) -> AsyncIterator[OpenFile]:
        """Open a recording that `find` returned, or raise `StorageError`."""
        opened = OpenFile(self.directory / file.name)
        try:
            with storage_errors("open", Path(file.name)):
                # Awaited even when cancelled: the thread must not open it after close().
                await finish(asyncio.to_thread(opened.open))
            yield opened
        finally:
            opened.close()

    async def delete(self, name: str) -> None:
        """Delete a recording that `files` returned, if it still exists; raise `StorageError` on failure."""
        with storage_errors("delete", Path(name)):
            await finish(asyncio.to_thread((self.directory / name).unlink, missing_ok=True))

    async def new_path(self, started: float) -> Path:
        """Return an unused path for a recording that starts at ``started`` (Unix seconds)."""
        stem = f"{self._prefix}_{int(started * 1000) if self._milliseconds else int(started)}"

        def unused() -> Path:
            path, suffix = self.directory / f"{stem}.mp4", 0
            while os.path.lexists(path):
                suffix += 1
                path = self.directory / f"{stem}-{suffix}.mp4"
            return path

        return await asyncio.to_thread(unused)

    async def delete_empty(self, path: Path) -> None:
        """Delete the file of a recording that failed to start, if it is empty."""

        def delete() -> None:
            if path.exists() and path.stat().st_size == 0:
                path.unlink()

        with storage_errors("remove", Path(path.name)):
            await finish(asyncio.to_thread(delete))

    def _scan(self) -> list[StoredRecording]:
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
    # A name that is not UTF-8 cannot be sent as JSON; isprintable() is false for it.
    return not name.startswith(".") and name.isprintable() and Path(name).suffix.lower() in SUFFIXES


def _describe(name: str, status: os.stat_result) -> StoredRecording:
    digits = _STARTED.search(Path(name).stem)
    created = status.st_mtime
    if digits:
        created = int(digits[1]) + int(digits[2] or 0) / 1000
    return StoredRecording(name, status.st_size, created, status.st_mtime)
