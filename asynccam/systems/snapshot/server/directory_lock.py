"""Lock of directories: a second server would remove files and restart services that the first one uses."""

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from asynccam.errors import BusyError
from asynccam.runtime.disk import on_disk, storage_errors


@asynccontextmanager
async def lock_directories(*directories: Path) -> AsyncIterator[None]:
    """Lock directories, which are created if missing; the kernel releases them too if the process dies.

    Raises:
        BusyError: Another server uses one of them.
        StorageError: One cannot be created or opened.
    """
    held: dict[tuple[int, int], int] = {}
    try:
        await on_disk(_lock, directories, held)
        yield
    finally:
        for fd in held.values():
            os.close(fd)


def _lock(directories: tuple[Path, ...], held: dict[tuple[int, int], int]) -> None:
    """Lock the directories themselves, so that no file remains; blocking."""
    for directory in directories:
        with storage_errors("use", directory):
            directory.mkdir(parents=True, exist_ok=True)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            found = os.fstat(fd)
        if held.setdefault((found.st_dev, found.st_ino), fd) != fd:
            os.close(fd)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another Snapshot server uses {directory}") from None
        except OSError:  # a file system without locks is used without
            continue
