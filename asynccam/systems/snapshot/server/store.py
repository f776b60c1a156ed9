"""Pictures on disk: file names, list (newest first), thumbnails, deletion by request, age or total size.

File names are ``PREFIX_CAMERA_YYYYmmdd_HHMMSSffffff.jpg``, see docs/protocols/snapshot.md. Letters, digits
and a few signs of a camera's name are kept; each byte of any other character is written as ``~2f``, so that
the camera's name can be recovered from the file name.
"""

import asyncio
import bisect
import hashlib
import io
import logging
import math
import os
import re
import secrets
import shutil
import stat
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Literal

from PIL import Image, ImageOps

from asynccam.errors import DeviceError, NotFoundError, StorageError, UsageError
from asynccam.model.safe_files import Folder
from asynccam.recording.containers.jpeg import find_picture
from asynccam.runtime.disk import on_disk, rename_new, storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, slept
from asynccam.systems.snapshot.server.events import SnapshotDeleted
from asynccam.systems.snapshot.server.models import Page, StoredSnapshot
from asynccam.systems.snapshot.server.settings import Retention

THUMBNAIL_SIDE: Final = 320
"""Default length of a thumbnail's longest side, pixels."""
PREFIXES: Final = ("snapshot", "api_all_cams", "api_stereo", "all_cams", "stereo")
"""First part of a file name, by how the picture was requested."""
SUFFIXES: Final = (".jpg", ".jpeg")
PART_PREFIX: Final = ".asynccam-"
"""First part of the names of unfinished pictures; the dot keeps them out of the list."""

_LOG = logging.getLogger(__name__)
_Reason = Literal["asked", "age", "size", "found"]
_Stamp = tuple[int, int]
"""Nanoseconds and size; another stamp means another picture of the same name."""

_DAY: Final = 86400.0
_MEGABYTE: Final = 1_000_000
_NANOSECONDS: Final = 1e9
_NAME_TRIES: Final = 1000
_MISSING: Final = -1
"""Time stamp of a directory that does not exist."""
_CLOCK_UNSET_BEFORE: Final = 10**9
"""Unix seconds; an earlier time comes from a computer whose clock was not set yet."""
_THUMBNAIL_SIDES: Final = (16, 1024)
_MAX_DECODING: Final = 2
_THUMBNAIL_QUALITY: Final = 75
_MAX_PIXELS: Final = 1 << 28
_MAX_LIMIT: Final = 1000
_CURSOR_DIGITS: Final = 20

_KEPT_SIGNS: Final = frozenset(" -_.,+()")
_ESCAPE: Final = "~"
_ESCAPED: Final = re.compile(r"(?:~[0-9a-f]{2})+")
_MAX_CAMERA_BYTES: Final = 180
_DIGEST_LENGTH: Final = 16
_SHORTENED: Final = re.compile(r"(.*)~~([0-9a-f]{16})", re.DOTALL)
_NAME: Final = re.compile(
    rf"({'|'.join(PREFIXES)})_(.+)_(\d{{8}}_\d{{12}})\.jpe?g", re.DOTALL | re.IGNORECASE
)
_MAX_NAME_BYTES: Final = 255


class SnapshotStore:
    """A directory of pictures; an async context manager that maintains it.

    The list is kept in memory, and follows files that other programs add or delete. Names are never paths,
    and symbolic links are not followed.

    Args:
        directory: Created if missing.
        events: Where `SnapshotDeleted` is emitted, or None.
        retention: How long pictures are kept; only files named like this server's are deleted.
        cameras: Returns the names of the configured cameras, to recognize names shortened in a file name.
        look: Seconds between two checks of the directory and of the retention.
        thumbnail_bytes: Memory for thumbnails.
        clock: For tests.

    Attributes:
        directory: Where the pictures are.
        retention: May be replaced at any time; `wake` applies it at once.
        cameras: May be replaced at any time.
        events: Where `SnapshotDeleted` is emitted, or None.
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
            raise UsageError(f"look must be > 0 s, not {look:g}")
        self.directory = directory
        self.retention = retention or Retention()
        self.cameras = cameras
        self.events = events
        self._poll_interval = look
        self._index = _Index()
        self._thumbnails = _Thumbnails(thumbnail_bytes)
        self._scope = TaskScope("snapshot-store")
        self._ages = _Ages(clock)
        self._wake = asyncio.Event()
        self._stamp = _MISSING
        self._changes: dict[str, StoredSnapshot | None] = {}  # since the latest scan began
        self._deleting: dict[str, _Reason] = {}  # files a thread is deleting now, and why

    # -- reading --------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._index)

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return self._index.bytes

    def page(self, *, limit: int = 50, after: str | None = None, camera: str | None = None) -> Page:
        """Return pictures, newest first.

        Args:
            limit: Maximum number, 1 to 1000.
            after: `Page.next` of the previous page; pictures added or deleted in between shift nothing.
            camera: Only pictures of this camera.

        Raises:
            UsageError: ``limit`` is out of range, or ``after`` is not a cursor of a page.
        """
        return self._index.page(limit, after, camera)

    def newest(self, camera: str) -> StoredSnapshot | None:
        """Return the newest picture of a camera, or None."""
        return self._index.newest(camera)

    async def path_of(self, name: str) -> Path:
        """Return the path of a picture.

        Raises:
            NotFoundError: There is no such picture, or the name is not valid for one.
        """
        path = self._path(name)
        await on_disk(_stat_picture, path)
        return path

    async def thumbnail(self, name: str, *, side: int = THUMBNAIL_SIDE) -> bytes:
        """Return a small JPEG of a picture, its longest side at most ``side`` pixels (16 to 1024).

        Raises:
            NotFoundError: There is no such picture.
            DeviceError: The file is not a picture, or is damaged.
            StorageError: The file cannot be read.
            UsageError: ``side`` is out of range.
        """
        path = self._path(name)
        found = await on_disk(_stat_picture, path)
        return await self._thumbnails.of(path, (found.st_mtime_ns, found.st_size), side)

    # -- writing --------------------------------------------------------------------------------

    @asynccontextmanager
    async def part(self) -> AsyncIterator[Path]:
        """Provide a temporary file for a picture; removed at the end unless `add` has moved it.

        Raises:
            StorageError: Its directory cannot be created.
        """
        # The name is chosen before the directory exists: if cancelled in between, it is removed all the same.
        directory = self.directory / f"{PART_PREFIX}{secrets.token_hex(8)}"
        try:
            await on_disk(_make_part_directory, directory)
            yield directory / "picture.jpg"
        finally:
            await finish(on_disk(partial(shutil.rmtree, directory, ignore_errors=True)))

    async def add(
        self,
        part: Path,
        *,
        prefix: str,
        camera: str,
        taken_at: float,
        whole: bool = False,
    ) -> StoredSnapshot:
        """Move a finished picture into the store atomically, and sync it to disk.

        Args:
            part: The file, from `part`.
            prefix: One of `PREFIXES`.
            camera: The camera's name.
            taken_at: When it was taken, Unix seconds.
            whole: True if the picture was checked already, so that its thumbnails need no second check.

        Raises:
            StorageError: The file cannot be written.
            UsageError: The prefix is invalid.
        """
        names = (file_name(prefix, camera, taken_at, later=later) for later in range(_NAME_TRIES))
        name, size, taken_ns = await on_disk(_publish, part, self.directory, names, taken_at)
        picture = StoredSnapshot(name, camera, prefix, size, taken_ns)
        if whole:
            self._thumbnails.trust(self.directory / name, (taken_ns, size))
        self._changes[name] = picture
        self._index.add(picture)
        self._ages.add(picture, made_here=True)
        self.wake()
        return picture

    async def delete(self, name: str) -> None:
        """Delete a picture.

        Raises:
            NotFoundError: There is no such picture.
            StorageError: The file cannot be deleted.
        """
        path = self._path(name)
        with self._reasons({name: "asked"}):
            await on_disk(_delete, path)
            self._removed(name, "asked")

    def wake(self) -> None:
        """Apply the retention now."""
        self._wake.set()

    async def __aenter__(self) -> "SnapshotStore":
        await on_disk(_tidy, self.directory)
        await self.look_again()
        self._scope.spawn(self._maintain(), name="maintenance")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._scope.aclose()

    async def look_again(self) -> None:
        """Update the list from the directory.

        Raises:
            StorageError: The directory cannot be read.
        """
        self._changes = {}
        known = self._index.by_name.copy()
        stamp, index = await on_disk(_scan, self.directory, known, tuple(self.cameras()))
        for name, picture in self._changes.items():  # added or deleted while the thread was scanning
            if picture is None:
                index.remove(name)
            else:
                index.add(picture)
        self._stamp, self._index = stamp, index
        self._ages.update(index)
        for name, picture in known.items():
            if name not in index.by_name and name not in self._changes:
                self._thumbnails.forget(self.directory / name)
                self._report_deleted(picture, self._deleting.get(name, "found"))

    async def sweep(self) -> tuple[str, ...]:
        """Delete the pictures that the retention does not keep; return their names."""
        reasons = self._expired()
        if not reasons:
            return ()
        with self._reasons(reasons):
            deleted = await on_disk(_delete_all, self.directory, tuple(reasons))
            for name in deleted:
                self._removed(name, reasons[name])
            return deleted

    def _expired(self) -> dict[str, _Reason]:
        days, megabytes = self.retention.max_age_days, self.retention.max_size_mb
        max_age = math.inf if days is None else days * _DAY
        excess = 0 if megabytes is None else self._index.own_bytes - megabytes * _MEGABYTE
        expired: dict[str, _Reason] = {}
        for name in self._ages:
            if excess <= 0 and self._ages.counted(name) <= max_age:
                break
            picture = self._index.by_name.get(name)
            if picture is None:
                continue
            dated = picture.taken_ns > _CLOCK_UNSET_BEFORE * _NANOSECONDS
            too_old = dated and self._ages.certain(name) > max_age
            if too_old or excess > 0:
                expired[name] = "age" if too_old else "size"
                excess -= picture.size
        return expired

    async def _maintain(self) -> None:
        while True:
            self._wake.clear()
            try:
                stamp = await on_disk(_directory_stamp, self.directory)
                if stamp != self._stamp:
                    if stamp == _MISSING:
                        _LOG.warning("%s no longer exists", self.directory)
                    await self.look_again()
                await self.sweep()
            except StorageError as error:  # the disk may come back
                _LOG.warning("cannot maintain %s: %s", self.directory, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval):
                    await self._wake.wait()

    def _path(self, name: str) -> Path:
        if not is_safe(name):
            raise NotFoundError(f"{name!r} is not the name of a picture")
        return self.directory / name

    @contextmanager
    def _reasons(self, reasons: Mapping[str, _Reason]) -> Iterator[None]:
        """Keep the reasons for a scan that finds the files deleted before this task goes on."""
        self._deleting.update(reasons)
        try:
            yield
        finally:
            for name in reasons:
                self._deleting.pop(name, None)

    def _removed(self, name: str, reason: _Reason) -> None:
        self._changes[name] = None
        self._thumbnails.forget(self.directory / name)
        self._ages.forget(name)
        picture = self._index.remove(name)
        if picture is not None:
            self._report_deleted(picture, reason)

    def _report_deleted(self, picture: StoredSnapshot, reason: _Reason) -> None:
        if self.events is not None:
            self.events.emit(SnapshotDeleted(filename=picture.filename, camera=picture.camera, reason=reason))


# -- file names ---------------------------------------------------------------------------------


def file_name(prefix: str, camera: str, taken_at: float, *, later: int = 0) -> str:
    """Return the file name of a picture; its time is local time, as existing servers write it.

    ``later`` is a number of microseconds to add if the name is taken.

    Raises:
        UsageError: The prefix is invalid.
    """
    if prefix not in PREFIXES:
        raise UsageError(f"invalid prefix {prefix!r}; expected one of {', '.join(PREFIXES)}")
    # Round to microseconds first: datetime.fromtimestamp may round a float to another one.
    moment = datetime.fromtimestamp(0).astimezone() + timedelta(microseconds=round(taken_at * 1e6) + later)
    return f"{prefix}_{encode_camera(camera)}_{moment.astimezone():%Y%m%d_%H%M%S%f}.jpg"


def parse_name(name: str) -> tuple[str, str] | None:
    """Return prefix and encoded camera name of a file name, or None for another name."""
    match = _NAME.fullmatch(name)
    return None if match is None else (match[1].lower(), match[2])


def encode_camera(camera: str) -> str:
    """Encode a camera's name for a file name; a long one is shortened, with a digest at its end."""
    text = "".join(
        letter
        if letter.isalnum() or letter in _KEPT_SIGNS
        else "".join(f"{_ESCAPE}{byte:02x}" for byte in letter.encode())
        for letter in camera
    )
    data = text.encode()
    if len(data) <= _MAX_CAMERA_BYTES:
        return text
    digest = hashlib.sha256(camera.encode()).hexdigest()[:_DIGEST_LENGTH]
    start = data[: _MAX_CAMERA_BYTES - _DIGEST_LENGTH - 2].decode(errors="ignore")
    return f"{start.rstrip(_ESCAPE)}{_ESCAPE}{_ESCAPE}{digest}"


def camera_of(encoded: str, cameras: Iterable[str]) -> str:
    """Decode a camera's name; a shortened one is looked up among the configured ``cameras``."""
    if _SHORTENED.fullmatch(encoded):
        return next((camera for camera in cameras if encode_camera(camera) == encoded), encoded)
    return _ESCAPED.sub(_unescape, encoded)


def _unescape(match: re.Match[str]) -> str:
    try:
        return bytes.fromhex(match[0].replace(_ESCAPE, "")).decode()
    except UnicodeDecodeError:
        return match[0]


def is_safe(name: str) -> bool:
    """Return whether a name is valid for a picture: one component, not hidden, ends like a JPEG."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        0 < size <= _MAX_NAME_BYTES
        and not name.startswith(".")
        and not any(letter in name for letter in "/\\\0")
        and name.lower().endswith(SUFFIXES)
    )


# -- in memory ----------------------------------------------------------------------------------

_ByTime = tuple[int, str]
"""Unix nanoseconds and file name."""


class _Index:
    """All pictures by name, by time, and by camera and time: a page does not read the disk.

    ``bytes`` is the size of all pictures, ``own_bytes`` of those named like this server's; ``by_name`` is
    changed by `add` and `remove` only.
    """

    def __init__(self, pictures: Iterable[StoredSnapshot] = ()) -> None:
        self.bytes = 0
        self.own_bytes = 0
        self.by_name = {picture.filename: picture for picture in pictures}
        self._keys: list[_ByTime] = sorted(map(_time_key, self.by_name.values()))
        self._by_camera: dict[str | None, list[_ByTime]] = {}
        for key in self._keys:
            picture = self.by_name[key[1]]
            self._by_camera.setdefault(picture.camera, []).append(key)
            self._count(picture, 1)

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[StoredSnapshot]:
        """Iterate over the pictures, oldest first."""
        return (self.by_name[name] for _, name in self._keys)

    def add(self, picture: StoredSnapshot) -> None:
        """Add a picture; it replaces one of the same name."""
        self.remove(picture.filename)
        self.by_name[picture.filename] = picture
        bisect.insort(self._keys, _time_key(picture))
        bisect.insort(self._by_camera.setdefault(picture.camera, []), _time_key(picture))
        self._count(picture, 1)

    def remove(self, name: str) -> StoredSnapshot | None:
        """Remove and return a picture, or return None."""
        picture = self.by_name.pop(name, None)
        if picture is not None:
            key = _time_key(picture)
            for keys in (self._keys, self._by_camera[picture.camera]):
                del keys[bisect.bisect_left(keys, key)]
            self._count(picture, -1)
        return picture

    def newest(self, camera: str) -> StoredSnapshot | None:
        """Return the newest picture of a camera, or None."""
        keys = self._by_camera.get(camera)
        return self.by_name[keys[-1][1]] if keys else None

    def page(self, limit: int, after: str | None, camera: str | None) -> Page:
        """Return a page, see `SnapshotStore.page`."""
        if not 1 <= limit <= _MAX_LIMIT:
            raise UsageError(f"limit must be 1 to {_MAX_LIMIT}, not {limit}")
        keys = self._keys if camera is None else self._by_camera.get(camera, [])
        end = len(keys) if after is None else bisect.bisect_left(keys, _parse_cursor(after))
        start = max(0, end - limit)
        items = tuple(self.by_name[name] for _, name in reversed(keys[start:end]))
        return Page(items, "{}-{}".format(*keys[start]) if start else None, len(keys))

    def _count(self, picture: StoredSnapshot, sign: int) -> None:
        self.bytes += sign * picture.size
        if picture.prefix is not None:
            self.own_bytes += sign * picture.size


def _time_key(picture: StoredSnapshot) -> _ByTime:
    return picture.taken_ns, picture.filename


def _parse_cursor(text: str) -> _ByTime:
    number, dash, name = text.partition("-")
    if not dash or not (number.isascii() and number.isdecimal()) or len(number) > _CURSOR_DIGITS:
        raise UsageError(f"{text!r} is not a cursor of a page")
    return int(number), name


@dataclass(frozen=True, slots=True)
class _Age:
    """Age of one picture; ``key`` is its time by elapsed time, its own in nanoseconds, and its name."""

    key: tuple[float, int, str]
    made_here: bool


class _Ages:
    """Ages of pictures by elapsed time, so that setting the clock makes no picture old.

    A picture's age when it is first seen is computed from its own time, against both the time of day and the
    time of day at the start plus elapsed time; the younger result counts. The age of a picture that was found
    must also agree with the present time of day: the clock may have been wrong at the start and set since.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall = clock.time() - self._elapsed()
        self._known: dict[str, _Age] = {}
        self._order: list[tuple[float, int, str]] = []

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, oldest first."""
        return (key[2] for key in self._order)

    def update(self, index: _Index) -> None:
        """Add the pictures of an index that a scan found, and forget all others."""
        for name in self._known.keys() - index.by_name.keys():
            self.forget(name)
        for picture in index:
            if picture.prefix is not None:  # never delete files that something else has put here
                self.add(picture, made_here=False)

    def add(self, picture: StoredSnapshot, *, made_here: bool) -> None:
        """Add a picture; a known one of the same name and time keeps its age, unless it was just taken."""
        known = self._known.get(picture.filename)
        if known is not None and known.key[1] == picture.taken_ns and not made_here:
            return
        self.forget(picture.filename)
        now = self._elapsed()
        age = max(0.0, min(self._clock.time(), self._wall + now) - picture.taken_at)
        key = now - age, picture.taken_ns, picture.filename
        self._known[picture.filename] = _Age(key, made_here)
        bisect.insort(self._order, key)

    def forget(self, name: str) -> None:
        """Remove a picture, if it is known."""
        known = self._known.pop(name, None)
        if known is not None:
            del self._order[bisect.bisect_left(self._order, known.key)]

    def counted(self, name: str) -> float:
        """Return the age in seconds by elapsed time; decreases in the order of iteration."""
        return self._elapsed() - self._known[name].key[0]

    def certain(self, name: str) -> float:
        """Return the age in seconds that every clock confirms."""
        known = self._known[name]
        counted = self.counted(name)
        if known.made_here:
            return counted
        return min(counted, self._clock.time() - known.key[1] / _NANOSECONDS)

    def _elapsed(self) -> float:
        # Without suspended time, a computer that sleeps at night would keep pictures for twice as many days.
        return self._clock.monotonic() + slept()


# -- thumbnails ---------------------------------------------------------------------------------


class _Thumbnails:
    """Thumbnails, made two at a time, each once; the least recently used are dropped beyond ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[Path, int], tuple[_Stamp, bytes]] = OrderedDict()
        self._bytes = 0
        self._whole: dict[Path, _Stamp] = {}
        self._slots = asyncio.Semaphore(_MAX_DECODING)
        self._making: dict[tuple[Path, int], asyncio.Lock] = {}

    async def of(self, path: Path, stamp: _Stamp, side: int) -> bytes:
        """Return a thumbnail, see `SnapshotStore.thumbnail`."""
        if not _THUMBNAIL_SIDES[0] <= side <= _THUMBNAIL_SIDES[1]:
            raise UsageError("side must be {} to {} pixels, not {}".format(*_THUMBNAIL_SIDES, side))
        key = (path, side)
        kept = self._get(key, stamp)
        if kept is not None:
            return kept
        lock = self._making.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                kept = self._get(key, stamp)  # made while this task waited
                if kept is None:
                    async with self._slots:
                        kept = await on_disk(_shrink, path, side, self._whole.get(path) == stamp)
                    self._keep(key, stamp, kept)
                return kept
        finally:
            if not lock.locked():
                self._making.pop(key, None)

    def trust(self, path: Path, stamp: _Stamp) -> None:
        """Record that a picture was checked and is complete; others are checked before they are decoded."""
        self._whole[path] = stamp

    def forget(self, path: Path) -> None:
        """Drop a picture's thumbnails."""
        self._whole.pop(path, None)
        for key in [key for key in self._kept if key[0] == path]:
            self._drop(key)

    def _get(self, key: tuple[Path, int], stamp: _Stamp) -> bytes | None:
        found = self._kept.get(key)
        if found is None or found[0] != stamp:
            return None
        self._kept.move_to_end(key)
        return found[1]

    def _keep(self, key: tuple[Path, int], stamp: _Stamp, data: bytes) -> None:
        self._drop(key)
        self._kept[key] = (stamp, data)
        self._bytes += len(data)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[Path, int]) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._bytes -= len(found[1])


def _shrink(path: Path, side: int, checked: bool) -> bytes:
    with storage_errors("read", path):
        data = path.read_bytes()
    if not checked:
        found = find_picture(data)
        if found.flaw:
            raise DeviceError(f"{path.name} is not a complete picture: it {found.flaw}")
        data = data[found.begin :]
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
            picture.draft("RGB", (side, side))  # decodes at an eighth of the size if that is enough
            upright = ImageOps.exif_transpose(picture)
            upright.thumbnail((side, side))
            small = io.BytesIO()
            upright.convert("RGB").save(small, "JPEG", quality=_THUMBNAIL_QUALITY)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DeviceError(f"{path.name} is not a picture: {error}") from error
    return small.getvalue()


# -- in a thread --------------------------------------------------------------------------------


def _tidy(directory: Path) -> None:
    """Create the directory, and remove unfinished pictures of a killed server."""
    with storage_errors("tidy up", directory):
        directory.mkdir(parents=True, exist_ok=True)
        for entry in directory.iterdir():
            if entry.name.startswith(PART_PREFIX) and entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)


def _make_part_directory(directory: Path) -> None:
    with storage_errors("create", directory):
        try:
            directory.mkdir(0o700)
        except FileNotFoundError:
            # Do not create the parent: it may be a memory card that was removed, and will be back.
            raise StorageError(f"the directory of the pictures does not exist: {directory.parent}") from None


def _directory_stamp(directory: Path) -> int:
    with storage_errors("look at", directory):
        try:
            return directory.stat().st_mtime_ns
        except FileNotFoundError:
            return _MISSING


def _scan(directory: Path, known: Mapping[str, StoredSnapshot], cameras: Iterable[str]) -> tuple[int, _Index]:
    stamp = _directory_stamp(directory)
    if stamp == _MISSING:
        return stamp, _Index()
    pictures = []
    with storage_errors("read", directory), os.scandir(directory) as entries:
        for entry in entries:
            if not is_safe(entry.name):
                continue
            picture = known.get(entry.name)
            if picture is None:
                with suppress(FileNotFoundError):
                    picture = _read_entry(entry.name, entry.stat(follow_symlinks=False), cameras)
            if picture is not None:
                pictures.append(picture)
    return stamp, _Index(pictures)


def _read_entry(name: str, found: os.stat_result, cameras: Iterable[str]) -> StoredSnapshot | None:
    if not stat.S_ISREG(found.st_mode):
        return None
    parsed = parse_name(name)
    prefix, camera = (None, None) if parsed is None else (parsed[0], camera_of(parsed[1], cameras))
    return StoredSnapshot(name, camera, prefix, found.st_size, found.st_mtime_ns)


def _stat_picture(path: Path) -> os.stat_result:
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
        # The file's time is when it was taken: a scan after a restart reads it from there.
        taken_ns = round(taken_at * 1e6) * 1000
        os.utime(part, ns=(taken_ns, taken_ns))
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
        for name in names:
            with suppress(FileExistsError):
                rename_new(part, directory / name)
                with Folder(directory) as folder:
                    folder.sync()
                # Read back: some file systems round it, FAT to two seconds.
                return name, size, (directory / name).stat().st_mtime_ns
    raise StorageError(f"no file name is free for a picture in {directory}")


def _delete(path: Path) -> None:
    _stat_picture(path)
    with storage_errors("delete", path):
        path.unlink(missing_ok=True)


def _delete_all(directory: Path, names: Iterable[str]) -> tuple[str, ...]:
    deleted = []
    for name in names:
        with suppress(OSError):  # go on with the others; this one is tried again
            (directory / name).unlink(missing_ok=True)
            deleted.append(name)
    return tuple(deleted)
