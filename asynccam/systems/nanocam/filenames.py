"""Names of captured files: by the second, as on the maker's server, and never one that is taken."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from asynccam.model.filenames import unique_path
from asynccam.runtime.disk import rename_new, storage_errors


def stamp(at: float) -> str:
    """A time as the beginning of a file name, ``2020-07-29 14+54+15``, in this computer's time zone.

    The maker's server has colons for the ``+``, which not every file system can take; the maker's client
    keeps its files with ``+`` too.

    Args:
        at: Unix seconds.
    """
    return time.strftime("%Y-%m-%d %H+%M+%S", time.localtime(at))


def reserve(directory: Path, stem: str, suffix: str) -> Path:
    """Make an empty file of a name that nobody has; for use in a thread.

    Raises:
        StorageError: There is no such directory, or it cannot be written.
    """
    with storage_errors("write to", directory):
        return unique_path(directory / f"{stem}{suffix}", _create, suffix=suffix)


def settle(source: Path, directory: Path, stem: str) -> Path:
    """Move a finished file to a name that nobody has, in one step as seen from there; for use in a thread.

    Raises:
        StorageError: It cannot be moved.
    """
    with storage_errors("write to", directory):
        if source.stat().st_dev != directory.stat().st_dev:
            part = reserve(directory, f".{stem}", f"{source.suffix}.part")
            try:
                shutil.copyfile(source, part)
                path = _move(part, directory, stem, source.suffix)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            source.unlink()
            return path
        return _move(source, directory, stem, source.suffix)


def drop_empty(path: Path) -> None:
    """Give a name back that nothing was written to; for use in a thread.

    Raises:
        StorageError: The file cannot be removed.
    """
    with storage_errors("remove", path), suppress(FileNotFoundError):
        if path.stat().st_size == 0:
            path.unlink()


def _create(path: Path) -> Path:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    return path


def _move(source: Path, directory: Path, stem: str, suffix: str) -> Path:
    def claim(path: Path) -> Path:
        rename_new(source, path)
        return path

    return unique_path(directory / f"{stem}{suffix}", claim, suffix=suffix)
