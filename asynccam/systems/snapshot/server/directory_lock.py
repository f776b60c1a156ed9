"""One server to a directory: a second one would tidy up, and restart, what the first is at work with."""

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from asynccam.errors import BusyError
from asynccam.runtime.disk import on_disk, storage_errors


@asynccontextmanager
async def claimed(*directories: Path) -> AsyncIterator[None]:
    """Keep directories from other servers; the system lets go of them too when the process dies.

    Args:
        directories: Made if missing; one may be given twice.

    Raises:
        BusyError: Another server has one of them.
        StorageError: One cannot be made or opened.
    """
    held: dict[tuple[int, int], int] = {}
    try:
        await on_disk(_claim, directories, held)
        yield
    finally:
        for fd in held.values():
            os.close(fd)


def _claim(directories: tuple[Path, ...], held: dict[tuple[int, int], int]) -> None:
    """Lock the directories themselves, so that no file is left; blocking."""
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
            raise BusyError(f"another Snapshot server works in {directory}") from None
        except OSError:  # file systems that know no locks are used without
            continue
