"""Files: work off the loop to its end, atomic writes, secrets, and errors as asynccam's own."""

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple, cast

from asynccam.errors import BusyError, StorageError, UsageError
from asynccam.model.safe_files import UNFINISHED, Folder, Root, confined
from asynccam.runtime.tasks import in_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE of linux/falloc.h
_MAX_SECRET: Final = 64 * 1024
"""Bytes; a larger file holds something other than a secret."""
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF}


async def on_disk(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run a blocking file operation in the loop's own executor.

    A cancelled caller still waits for it, as `in_thread` explains.

    Raises:
        StorageError: No thread can be started; nothing was done.
    """
    try:
        work = await in_thread(function, *args)
    except BusyError as error:
        raise StorageError(f"cannot use the disk: {error}") from error
    return work.result()


def absolute_path(path: Path) -> Path:
    """Return an absolute path, with ``~`` and ``~USER`` expanded.

    Raises:
        OSError: There is no such user, or the current directory was removed.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, f"{path.parts[0]}: {error}", str(path)) from None


@contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Turn the system's errors into `StorageError`: "cannot ACTION PATH: REASON"."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot {action} {path}: {error.strerror or error}") from error


def atomic_write(path: Path, data: bytes, *, root: Root | None = None, mode: int | None = None) -> None:
    """Replace a file in one step, synced to disk: a reader sees the old content or the new; blocking.

    The data goes to a temporary file in the same directory, which then takes the name. After a `StorageError`
    the old file is untouched. ``root`` is a directory that must not be left, by a link for example; see
    `confined`. Without it a symbolic link stays one: the file that it names is replaced. ``mode`` is for a
    new file, by default what the umask leaves; an old file keeps its own.
    """
    with storage_errors("write", path), nullcontext() if root is None else confined(root):
        target = Path(os.path.realpath(path)) if root is None else path
        with Folder(target.parent) as folder:
            folder.write_new(target.name, data, mode=mode)
            folder.sync()


def remove_unfinished(path: Path) -> None:
    """Remove what a killed process left of `atomic_write` beside a file; blocking.

    Raises:
        StorageError: The directory cannot be read, or a file in it not removed.
    """
    with storage_errors("tidy up", path.parent):
        target = Path(os.path.realpath(path))
        for other in target.parent.iterdir() if target.parent.is_dir() else ():
            # Versions before 0.2 ended the names with ".part".
            if other.name.startswith(f".{target.name}.") and other.name.endswith((UNFINISHED, ".part")):
                other.unlink(missing_ok=True)


def reserve_space(fd: int, size: int) -> bool:
    """Reserve ``size`` bytes of disk for a file without making it longer, so that downloads do not compete.

    Unlike after `os.posix_fallocate`, a killed process leaves no file padded with zeros. Return False if the
    system or the file system cannot do this.

    Raises:
        OSError: There is no space (``ENOSPC``, ``EDQUOT``, ``EFBIG``).
    """
    if sys.platform != "linux" or size == 0:
        return False
    while _fallocate()(fd, _KEEP_SIZE, 0, size) != 0:
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


@cache  # looking it up takes longer than the call
def _fallocate() -> Callable[[int, int, int, int], int]:
    libc = ctypes.CDLL(None, use_errno=True)
    function = getattr(libc, "fallocate64", None) or libc.fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int
    return cast("Callable[[int, int, int, int], int]", function)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file in one step, never over another.

    Raises:
        FileExistsError: ``target`` exists; ``source`` is untouched.
    """
    if os.name == "nt":
        source.rename(target)  # Windows refuses to replace
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links: FAT, and some network shares
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            source.replace(target)
        except OSError:
            target.unlink()
            raise
    else:
        source.unlink()


def read_secret_file(path: Path, *, only_line: bool = False) -> str:
    """Return the secret in a file, its first line that is not blank, without white space around it; blocking.

    With ``only_line`` a file with further lines, or with characters that cannot be printed, is refused: it is
    likely to be another file.

    Raises:
        StorageError: The file cannot be read.
        UsageError: The file holds no secret: it is empty, larger than 64 KiB or not text.
    """
    with storage_errors("read the secret in", path), path.open("rb") as file:
        data = file.read(_MAX_SECRET + 1)
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise UsageError(f"{path} holds no secret: it is not UTF-8") from None
    if only_line and not text.isprintable():
        raise UsageError(f"{path} holds no secret: it must be one line of text")
    secret = text.partition("\n")[0].rstrip()
    if not secret or len(data) > _MAX_SECRET or any(ord(c) < 32 and c != "\t" for c in secret):
        raise UsageError(f"{path} holds no secret: its first line must be the secret, as text")
    return secret
