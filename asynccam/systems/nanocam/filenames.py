"""Names of captured files: by the second, as on the maker's server, and never that of an existing file."""

import shutil
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from asynccam.model.filenames import unique_path
from asynccam.runtime.disk import rename_new, storage_errors


def timestamp(at: float) -> str:
    """Return a time (Unix seconds) as the beginning of a file name, ``2020-07-29 14+54+15``, in local time.

    The maker's server has colons for the ``+``, which not every file system allows; the maker's client
    uses ``+`` too.
    """
    return time.strftime("%Y-%m-%d %H+%M+%S", time.localtime(at))


def reserve(directory: Path, stem: str, suffix: str) -> Path:
    """Make an empty file of a new name; for use in a thread."""
    with storage_errors("write to", directory):
        path = directory / f"{stem}{suffix}"
        return unique_path(path, lambda free: free.touch(exist_ok=False), suffix=suffix)


def publish(source: Path, directory: Path, stem: str) -> Path:
    """Move a finished file to a new name, in one step as seen there; for use in a thread."""
    with storage_errors("write to", directory):
        if source.stat().st_dev == directory.stat().st_dev:
            return _move(source, directory, stem, source.suffix)
        part = reserve(directory, f".{stem}", f"{source.suffix}.part")
        try:
            shutil.copyfile(source, part)
            path = _move(part, directory, stem, source.suffix)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        source.unlink()
        return path


def drop_empty(path: Path) -> None:
    """Remove a reserved file that nothing was written to; for use in a thread."""
    with storage_errors("remove", path), suppress(FileNotFoundError):
        if path.stat().st_size == 0:
            path.unlink()


def free_path(path: Path) -> Path:
    """Return this path, or a numbered one, where no file exists; for use in a thread."""

    def check(candidate: Path) -> None:
        if candidate.exists():
            raise FileExistsError(candidate)

    return unique_path(path, check)


def _move(source: Path, directory: Path, stem: str, suffix: str) -> Path:
    return unique_path(directory / f"{stem}{suffix}", partial(rename_new, source), suffix=suffix)
