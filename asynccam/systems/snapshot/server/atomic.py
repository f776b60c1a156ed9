"""Small files that are either the old one or the new one, whatever happens in between."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from asynccam.runtime.disk import storage_errors, sync_directory

_LEFTOVER: Final = ".part"


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` in the place of a file in one step, safe on disk; blocking, for `on_disk`.

    Args:
        path: A symbolic link stays one: what it names is replaced.
        data: The whole content.
        mode: Permissions of a new file; one that is there keeps its own.

    Raises:
        StorageError: The disk refuses; the old file is untouched.
    """
    with storage_errors("write", path):
        target = Path(os.path.realpath(path))
        with suppress(FileNotFoundError):
            mode = target.stat().st_mode & 0o7777
        fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_LEFTOVER)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_directory(target.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what a killed process left of `replace_file` beside a file; blocking."""
    with storage_errors("tidy up", path.parent):
        target = Path(os.path.realpath(path))
        prefix = f".{target.name}."
        for one in target.parent.iterdir() if target.parent.is_dir() else ():
            if one.name.startswith(prefix) and one.name.endswith(_LEFTOVER):
                one.unlink(missing_ok=True)
