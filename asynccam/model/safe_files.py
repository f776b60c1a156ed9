"""Files of a directory that another user may have made, such as a take's, opened without following links.

Within `confined`, everything that is opened here lies below one directory: a path is walked one directory at
a time, each opened relative to the one before it and never through a symbolic link (POSIX ``openat`` with
``O_NOFOLLOW``). So a link that appears between a check and the use of a path has no effect. Everything here
blocks and is for use in a thread; `confined` also applies to threads that run in a copy of the context.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_HAS_DIR_FD: Final = os.open in os.supports_dir_fd
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)  # only Windows tells text from binary
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)
_DIRECTORY: Final = getattr(os, "O_DIRECTORY", 0)
_PASSING: Final = getattr(os, "O_PATH", os.O_RDONLY) | _DIRECTORY | _CLOEXEC
"""For directories on the way; ``O_PATH`` needs no permission to list them."""
_IS_LINK: Final = "it is a symbolic link, which is not followed here"
_PIECE: Final = 1 << 20
UNFINISHED: Final = ".new"
"""End of the names of files that `Folder.write_new` has not finished."""


@dataclass(frozen=True, slots=True)
class Root:
    """A directory that files must be in."""

    given: Path  # its path as given; links in it are followed once, by `of`
    real: Path  # the same without links

    @classmethod
    def of(cls, directory: Path) -> "Root":
        """Resolve a directory; one that does not exist fails when a file in it is opened.

        Raises:
            OSError: The path cannot be resolved.
        """
        given = directory.absolute()
        try:
            return cls(given, given.resolve())
        except (RuntimeError, ValueError) as error:  # a ring of links, or a zero byte
            raise OSError(errno.EINVAL, str(error), str(directory)) from None

    def locate(self, path: Path) -> Path:
        """Return a path in this directory, without links on the way to the directory.

        Raises:
            OSError: The path leads out of the directory.
        """
        place = path if path.is_absolute() else Path.cwd() / path
        for base in (self.given, self.real):
            if place.is_relative_to(base):
                inner = place.relative_to(base)
                if ".." not in inner.parts:
                    return self.real / inner
        raise OSError(errno.EXDEV, f"it is outside of {self.given}", str(path))


_CONFINED: ContextVar[Root | None] = ContextVar("directory that files are confined to", default=None)


@contextmanager
def confined(root: Root | None) -> Iterator[None]:
    """Open only files below a directory in the block, and follow no link in it; None lifts that.

    Tasks that are created in the block, and threads that run in a copy of its context, are confined too.
    """
    token = _CONFINED.set(root)
    try:
        yield
    finally:
        _CONFINED.reset(token)


class Folder:
    """A directory held open, and the files in it; names are single path components.

    If `confined`, links are refused, and so are files with a second name outside of the directory. Otherwise
    the directory and files that are read may be links. With ``make``, missing directories are created.

    Raises:
        OSError: It cannot be opened, or a link or ``..`` would have to be followed.
    """

    def __init__(self, path: Path, *, make: bool = False) -> None:
        root = _CONFINED.get()
        self.path = path
        self._strict = root is not None
        self._fd = -1
        if root is None:
            if make:
                path.mkdir(parents=True, exist_ok=True)
            if _HAS_DIR_FD:
                self._fd = _open(path, _PASSING)
        else:
            self._place = root.locate(path)
            if _HAS_DIR_FD:
                self._fd = _walk(self._place, make=make)
            else:
                _check_way(root.real, self._place, make=make)
        if not _HAS_DIR_FD and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory; harmless when called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def open(self, name: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """Open a regular file without waiting, and return its descriptor.

        Raises:
            OSError: It cannot be opened, is a link that may not be followed, or is not a regular file:
                ``EINVAL`` for a directory, a pipe, a socket or a device.
        """
        flags |= _CLOEXEC | _BINARY | _NONBLOCK  # a pipe without a writer would block
        if self._strict or flags & os.O_CREAT:
            flags |= _NOFOLLOW
        with suppress(FileNotFoundError):  # before opening it: opening a device may have effects
            self._check(name, self.status(name, follow=not flags & _NOFOLLOW))
        fd = _open(*self._at(name), flags, mode, **self._beside)
        try:
            self._check(name, os.fstat(fd))
        except OSError:
            os.close(fd)
            raise
        return fd

    def create(self, name: str, mode: int = 0o666) -> int:
        """Create a new file, open for reading and writing.

        Raises:
            FileExistsError: The name exists, also as a link.
            OSError: It cannot be created.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC | _BINARY
        return _open(*self._at(name), flags, mode, **self._beside)

    def status(self, name: str, *, follow: bool = False) -> os.stat_result:
        """Return the status of a name, by default of a link itself."""
        try:
            return os.stat(*self._at(name), follow_symlinks=follow, **self._beside)
        except ValueError as error:  # a zero byte
            raise FileNotFoundError(errno.ENOENT, str(error), name) from None

    def exists(self, name: str) -> bool:
        """Return whether a name exists, of a file or anything else."""
        try:
            self.status(name)
        except FileNotFoundError:
            return False
        return True

    def find(self, name: str) -> os.stat_result | None:
        """Return the status of a regular file; None for anything else, links included, or nothing."""
        try:
            found = self.status(name)
        except FileNotFoundError:
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def files(self) -> dict[str, os.stat_result]:
        """Return the status of the regular files, ordered by name, without links."""
        found = ((name, self.find(name)) for name in sorted(self._names()))
        return {name: status for name, status in found if status is not None}

    def remove(self, name: str) -> None:
        """Remove a file, or a link itself; harmless if there is none."""
        with suppress(FileNotFoundError):
            os.unlink(*self._at(name), **self._beside)

    def replace(self, name: str, target: str) -> None:
        """Rename a file over whatever has that name; a link is not followed."""
        if _HAS_DIR_FD:
            os.replace(name, target, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        else:
            (self.path / name).replace(self.path / target)

    def rename_new(self, name: str, target: str) -> None:
        """Rename a file in one step, never over another.

        Raises:
            FileExistsError: The name is taken; nothing has changed.
        """
        if not _HAS_DIR_FD:
            (self.path / name).rename(self.path / target)  # Windows refuses to replace
            return
        both: dict[str, Any] = {"src_dir_fd": self._fd, "dst_dir_fd": self._fd}
        try:
            os.link(name, target, follow_symlinks=False, **both)
        except FileExistsError:
            raise
        except OSError:  # no hard links here: FAT, and some network shares
            os.close(self.create(target))
            try:
                self.replace(name, target)
            except OSError:
                self.remove(target)
                raise
        else:
            self.remove(name)

    def write_new(self, name: str, data: bytes, *, mode: int | None = None) -> None:
        """Replace a file in one step, synced to disk: a reader gets the old or the new content.

        A file that is there keeps its permissions; a new one gets ``mode``, or what the umask leaves.

        Raises:
            OSError: It cannot be written; the old file is unchanged.
        """
        old = self.find(name)
        if old is not None:
            mode = stat.S_IMODE(old.st_mode)
        fresh = f".{name}.{secrets.token_hex(8)}{UNFINISHED}"
        fd = self.create(fresh)
        try:
            try:
                # Only to change it: a mount that decides on owners and permissions refuses any `fchmod`.
                given = stat.S_IMODE(os.fstat(fd).st_mode)
                if mode is not None and mode != given and hasattr(os, "fchmod"):
                    os.fchmod(fd, mode)
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            self.replace(fresh, name)
        except BaseException:
            with suppress(OSError):  # the first error is the one to report
                self.remove(fresh)
            raise

    def sync(self) -> None:
        """Sync the directory, so that its names survive a power cut, if the system supports that."""
        if not _HAS_DIR_FD:
            return
        fd = os.open(".", os.O_RDONLY | _DIRECTORY | _CLOEXEC, dir_fd=self._fd)
        try:
            os.fsync(fd)
        except OSError as error:  # some network file systems sync files only
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF):
                raise
        finally:
            os.close(fd)

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _beside(self) -> dict[str, Any]:
        return {"dir_fd": self._fd} if _HAS_DIR_FD else {}

    def _at(self, name: str) -> tuple[str]:
        """Return a name, which must be one path component, as the argument of system calls."""
        if name in ("", ".", "..") or "/" in name or (os.sep != "/" and set(name) & {os.sep, ":"}):
            raise OSError(errno.EINVAL, "it is not the name of a file", name)
        return (name if _HAS_DIR_FD else str(self.path / name),)

    def _names(self) -> list[str]:
        if not _HAS_DIR_FD:
            return os.listdir(self.path)  # noqa: PTH208 - names are wanted
        fd = os.open(".", os.O_RDONLY | _DIRECTORY | _CLOEXEC, dir_fd=self._fd)
        try:
            return os.listdir(fd)  # noqa: PTH208 - Path takes no descriptor
        finally:
            os.close(fd)

    def _check(self, name: str, status: os.stat_result) -> None:
        """Raise an error unless the status is that of a file of this directory."""
        path = str(self.path / name)
        if stat.S_ISLNK(status.st_mode):
            raise OSError(errno.ELOOP, _IS_LINK, path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        if self._strict and status.st_nlink > 1 and status.st_nlink > self._count(status):
            raise OSError(errno.EMLINK, "it is also a file outside of its directory (a hard link)", path)

    def _count(self, status: os.stat_result) -> int:
        """Return how many names a file has in this directory: a killed download may have left it two."""
        inode = (status.st_dev, status.st_ino)
        return sum((each.st_dev, each.st_ino) == inode for each in self.files().values())


def open_file(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file without waiting and return its descriptor; errors as of `Folder.open`."""
    with Folder(path.parent) as folder:
        return folder.open(path.name, flags)


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a regular file; `OSError` ``EFBIG`` if it has more than ``most`` bytes."""
    fd = open_file(path)
    try:
        return read_descriptor(fd, most, path)
    finally:
        os.close(fd)


def read_descriptor(fd: int, most: int, path: Path) -> bytes:
    """Return the content of an open file, as `read_file` does."""
    pieces: list[bytes] = []
    size = 0
    while piece := os.pread(fd, min(_PIECE, most + 1 - size), size):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return b"".join(pieces)


def _open(path: str | Path, flags: int, mode: int = 0o777, **options: Any) -> int:
    try:
        return os.open(path, flags, mode, **options)
    except ValueError as error:  # a zero byte in the name
        raise FileNotFoundError(errno.ENOENT, str(error), str(path)) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, _IS_LINK, str(path)) from None
        raise


def _walk(place: Path, *, make: bool) -> int:
    """Open a directory, step by step from the root of the file system, through no link."""
    fd = os.open(place.anchor, _PASSING)
    try:
        for part in place.parts[1:]:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=fd)
            inner = _step(part, fd, place)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


def _step(part: str, fd: int, place: Path) -> int:
    try:
        return _open(part, _PASSING | _NOFOLLOW, dir_fd=fd)
    except NotADirectoryError:
        # Linux says that of a link, too: open(2), O_PATH with O_NOFOLLOW and O_DIRECTORY.
        found = os.stat(part, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            words = f"{part} in it is a symbolic link, which is not followed here"
            raise OSError(errno.ELOOP, words, str(place)) from None
        raise


def _check_way(root: Path, place: Path, *, make: bool) -> None:
    """Check for links as `_walk` does, if the system cannot open relative to a directory (not race-free)."""
    way = root
    for part in place.relative_to(root).parts:
        way /= part
        if make:
            way.mkdir(exist_ok=True)
        if way.is_symlink():
            raise OSError(errno.ELOOP, f"{part} in it is a symbolic link", str(place))
