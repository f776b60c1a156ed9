"""Pictures on disk: named, listed newest first, thumbnailed, deleted, and let go by age and size."""

import asyncio
import logging
import math
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from asynccam.errors import NotFoundError, StorageError, UsageError
from asynccam.runtime.disk import on_disk, rename_new, storage_errors, sync_directory
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock
from asynccam.systems.snapshot.server.ages import Ages
from asynccam.systems.snapshot.server.events import SnapshotDeleted
from asynccam.systems.snapshot.server.index import Index, Page, StoredSnapshot
from asynccam.systems.snapshot.server.names import camera_of, file_name, is_safe, parse_name
from asynccam.systems.snapshot.server.settings import Retention
from asynccam.systems.snapshot.server.thumbnails import THUMBNAIL_SIDE, Thumbnails

__all__ = ["Page", "Retention", "SnapshotStore", "StoredSnapshot"]

_LOG = logging.getLogger(__name__)
_Reason = Literal["asked", "age", "size", "found"]

PART_PREFIX: Final = ".asynccam-"
"""What the names of unfinished pictures begin with; a dot hides them from the list."""
_DAY: Final = 86400.0
_MEGABYTE: Final = 1_000_000
_TRIES: Final = 1000
_AWAY: Final = -1
"""Stands for the moment of change of a directory that is not there, and has no pictures."""
_NO_CLOCK: Final = 10**9
"""Unix seconds before which a moment is that of a computer whose clock was not set yet."""


class SnapshotStore:
    """A directory of pictures; an async context manager that looks after it.

    The list is held in memory and brought up to date when files come or go by other hands. Names are
    never paths, and symbolic links are not followed.

    Args:
        directory: Made if missing.
        events: Where `SnapshotDeleted` is told, or None.
        retention: How long pictures stay; only those that are named like this server's are deleted.
        cameras: Gives the names of the cameras there are, for names too long to stand in a file's.
        look: Seconds between two looks at the directory and at what is to be deleted.
        thumbnail_bytes: Memory for thumbnails.
        clock: For tests.

    Attributes:
        directory: Where the pictures are.
        retention: May be set anew at any time; `wake` makes it felt at once.
        cameras: May be set anew too.
        events: Where `SnapshotDeleted` is told, or None.
    """

    def __init__(
        self,
        directory: Path,
        *,
        events: EventHub | None = None,
        retention: Retention | None = None,
        cameras: Callable[[], Iterable[str]] = tuple,
        look: float = 5.0,
        thumbnail_bytes: int = 16 << 20,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if look <= 0:
            raise UsageError(f"a time between two looks is above 0 s, not {look:g}")
        self.directory = directory
        self.retention = retention or Retention()
        self.cameras = cameras
        self.events = events
        self._look = look
        self._index = Index()
        self._thumbnails = Thumbnails(thumbnail_bytes)
        self._scope = TaskScope("snapshot-store")
        self._ages = Ages(clock)
        self._wake = asyncio.Event()
        self._seen = _AWAY
        self._changes: dict[str, StoredSnapshot | None] = {}
        self._leaving: dict[str, _Reason] = {}  # what a thread is deleting, and why

    # -- reading --------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Pictures in all."""
        return len(self._index)

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return self._index.bytes

    def page(self, *, limit: int = 50, after: str | None = None, camera: str | None = None) -> Page:
        """Pictures, newest first.

        Args:
            limit: How many at most, 1 to 1000.
            after: `Page.next` of the page before; pictures that come or go meanwhile move nothing.
            camera: Only those of this camera.

        Raises:
            UsageError: ``limit`` is out of bounds, or ``after`` is not from a page.
        """
        return self._index.page(limit, after, camera)

    def newest(self, camera: str) -> StoredSnapshot | None:
        """The newest picture of a camera, or None."""
        return self._index.newest(camera)

    async def path_of(self, name: str) -> Path:
        """Where the picture of that name is.

        Raises:
            NotFoundError: There is none, or the name is none a picture can have.
        """
        path = self._path(name)
        await on_disk(_look_at, path)
        return path

    async def thumbnail(self, name: str, *, side: int = THUMBNAIL_SIDE) -> bytes:
        """A small JPEG of a picture, its longest side ``side`` pixels at most (16 to 1024).

        Raises:
            NotFoundError: There is no such picture.
            DeviceError: The file is no picture, or a broken one.
            StorageError: It cannot be read.
            UsageError: ``side`` is out of bounds.
        """
        path = self._path(name)
        found = await on_disk(_look_at, path)
        return await self._thumbnails.of(path, (found.st_mtime_ns, found.st_size), side)

    # -- writing --------------------------------------------------------------------------------

    @asynccontextmanager
    async def part(self) -> AsyncIterator[Path]:
        """A file of its own for a picture that is not there yet; removed at the end if it still is.

        Raises:
            StorageError: It cannot be made.
        """
        # The name is known before the folder is there: cancelled meanwhile, it is removed all the same.
        folder = self.directory / f"{PART_PREFIX}{secrets.token_hex(8)}"
        try:
            await on_disk(_make_folder, folder)
            yield folder / "picture.jpg"
        finally:
            await finish(on_disk(_remove_folder, folder))

    async def add(
        self, part: Path, *, prefix: str, camera: str, taken_at: float, whole: bool = False
    ) -> StoredSnapshot:
        """Give a finished picture its name, in one step and safe on disk.

        Args:
            part: The file, from `part`.
            prefix: One of `asynccam.systems.snapshot.server.names.PREFIXES`.
            camera: The camera's name.
            taken_at: The moment of the picture, Unix seconds.
            whole: Whether it was read and found whole, so that its thumbnails need not read it again.

        Raises:
            StorageError: The disk refuses.
            UsageError: There is no such prefix.
        """
        names = (file_name(prefix, camera, taken_at, later=later) for later in range(_TRIES))
        name, size, taken_ns = await on_disk(_publish, part, self.directory, names, taken_at)
        picture = StoredSnapshot(name, camera, prefix, size, taken_ns)
        if whole:
            self._thumbnails.trust(self.directory / name, (taken_ns, size))
        self._note(name, picture)
        self.wake()
        return picture

    async def delete(self, name: str) -> None:
        """Delete a picture.

        Raises:
            NotFoundError: There is none.
            StorageError: The disk refuses.
        """
        path = self._path(name)
        with self._letting_go({name: "asked"}):
            await on_disk(_delete, path)
            self._gone(name, "asked")

    def wake(self) -> None:
        """Look now at what is to be deleted."""
        self._wake.set()

    async def __aenter__(self) -> "SnapshotStore":
        await on_disk(_tidy, self.directory)
        await self.look_again()
        self._scope.spawn(self._keep_house(), name="house")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._scope.aclose()

    async def look_again(self) -> None:
        """Bring the list up to date with the directory.

        Raises:
            StorageError: The directory cannot be read.
        """
        self._changes = {}
        known = self._index.by_name()
        seen, index = await on_disk(_scan, self.directory, known, tuple(self.cameras()))
        for name, picture in self._changes.items():  # what came or went while the thread looked
            if picture is None:
                index.remove(name)
            else:
                index.add(picture)
        self._seen, self._index = seen, index
        self._see(index)
        for name, picture in known.items():
            if index.get(name) is None and name not in self._changes:
                self._thumbnails.forget(self.directory / name)
                self._tell(picture, self._leaving.get(name, "found"))

    async def sweep(self) -> tuple[str, ...]:
        """Delete what is older or more than may be kept; the names of what was deleted."""
        doomed = self._doomed()
        if not doomed:
            return ()
        with self._letting_go(doomed):
            deleted = await on_disk(_delete_all, self.directory, tuple(doomed))
            for name in deleted:
                self._gone(name, doomed[name])
            return deleted

    # -- within ---------------------------------------------------------------------------------

    def _doomed(self) -> dict[str, _Reason]:
        days, megabytes = self.retention.max_age_days, self.retention.max_size_mb
        limit = math.inf if days is None else days * _DAY
        excess = 0 if megabytes is None else self._index.own_bytes - megabytes * _MEGABYTE
        doomed: dict[str, _Reason] = {}
        for name in self._ages:
            if excess <= 0 and self._ages.counted(name) <= limit:
                break
            picture = self._index.get(name)
            if picture is None:
                continue
            too_old = picture.taken_ns > _NO_CLOCK * 1e9 and self._ages.certain(name) > limit
            if too_old or excess > 0:
                doomed[name] = "age" if too_old else "size"
                excess -= picture.size
        return doomed

    def _see(self, index: Index) -> None:
        """Begin to count the ages of pictures that were found, and forget those of others that went."""
        for name in self._ages.names():
            if index.get(name) is None:
                self._ages.forget(name)
        for picture in index:
            if picture.prefix is not None:  # others were put here by somebody who did not ask for this
                self._ages.add(picture, made_here=False)

    async def _keep_house(self) -> None:
        while True:
            self._wake.clear()
            try:
                stamp = await on_disk(_stamp, self.directory)
                if stamp != self._seen:
                    if stamp == _AWAY:
                        _LOG.warning("%s is not there any more", self.directory)
                    await self.look_again()
                await self.sweep()
            except StorageError as error:  # the disk may come back
                _LOG.warning("cannot look after %s: %s", self.directory, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look):
                    await self._wake.wait()

    def _path(self, name: str) -> Path:
        if not is_safe(name):
            raise NotFoundError(f"{name!r} is not the name of a picture")
        return self.directory / name

    def _note(self, name: str, picture: StoredSnapshot | None) -> None:
        self._changes[name] = picture
        if picture is not None:
            self._index.add(picture)
            self._ages.add(picture, made_here=True)

    @contextmanager
    def _letting_go(self, reasons: Mapping[str, _Reason]) -> Iterator[None]:
        """Keep the reasons for a look that sees them gone before it is known here that they are."""
        self._leaving.update(reasons)
        try:
            yield
        finally:
            for name in reasons:
                self._leaving.pop(name, None)

    def _gone(self, name: str, reason: _Reason) -> None:
        self._changes[name] = None
        self._thumbnails.forget(self.directory / name)
        self._ages.forget(name)
        picture = self._index.remove(name)
        if picture is not None:
            self._tell(picture, reason)

    def _tell(self, picture: StoredSnapshot, reason: _Reason) -> None:
        if self.events is not None:
            self.events.emit(SnapshotDeleted(filename=picture.filename, camera=picture.camera, reason=reason))


# -- in a thread --------------------------------------------------------------------------------


def _tidy(directory: Path) -> None:
    """Make the directory, and remove what a killed server left half done."""
    with storage_errors("tidy up", directory):
        directory.mkdir(parents=True, exist_ok=True)
        for one in directory.iterdir():
            if one.name.startswith(PART_PREFIX) and one.is_dir() and not one.is_symlink():
                shutil.rmtree(one, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    with storage_errors("make", folder):
        try:
            folder.mkdir(0o700)
        except FileNotFoundError:
            # Not made anew: it may be a card that was taken out, and will be back.
            raise StorageError(f"the directory of the pictures is not there: {folder.parent}") from None


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _stamp(directory: Path) -> int:
    with storage_errors("look at", directory):
        try:
            return directory.stat().st_mtime_ns
        except FileNotFoundError:
            return _AWAY


def _scan(directory: Path, known: Mapping[str, StoredSnapshot], cameras: Iterable[str]) -> tuple[int, Index]:
    stamp = _stamp(directory)
    if stamp == _AWAY:
        return stamp, Index()
    pictures = []
    with storage_errors("read", directory), os.scandir(directory) as entries:
        for entry in entries:
            if not is_safe(entry.name):
                continue
            picture = known.get(entry.name)
            if picture is None:
                with suppress(FileNotFoundError):
                    picture = _described(entry.name, entry.stat(follow_symlinks=False), cameras)
            if picture is not None:
                pictures.append(picture)
    return stamp, Index(pictures)


def _described(name: str, found: os.stat_result, cameras: Iterable[str]) -> StoredSnapshot | None:
    if not stat.S_ISREG(found.st_mode):
        return None
    parsed = parse_name(name)
    camera, prefix = (None, None) if parsed is None else (camera_of(parsed.camera, cameras), parsed.prefix)
    return StoredSnapshot(name, camera, prefix, found.st_size, found.st_mtime_ns)


def _look_at(path: Path) -> os.stat_result:
    with storage_errors("look at", path):
        try:
            found = path.lstat()
        except FileNotFoundError:
            raise NotFoundError(f"there is no picture named {path.name!r}") from None
    if not stat.S_ISREG(found.st_mode):
        raise NotFoundError(f"{path.name!r} is not a picture")
    return found


def _publish(part: Path, directory: Path, names: Iterable[str], taken_at: float) -> tuple[str, int, int]:
    with storage_errors("put on disk", part), part.open("rb") as file:
        taken_ns = round(taken_at * 1e6) * 1000
        os.utime(part, ns=(taken_ns, taken_ns))
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
        for name in names:
            with suppress(FileExistsError):
                rename_new(part, directory / name)
                sync_directory(directory)
                return name, size, (directory / name).stat().st_mtime_ns
    raise StorageError(f"no name is free for a picture in {directory}")


def _delete(path: Path) -> None:
    _look_at(path)
    with storage_errors("delete", path):
        path.unlink(missing_ok=True)


def _delete_all(directory: Path, names: Iterable[str]) -> tuple[str, ...]:
    deleted = []
    for name in names:
        with suppress(OSError):  # the others go all the same; this one is tried again
            (directory / name).unlink(missing_ok=True)
            deleted.append(name)
    return tuple(deleted)
