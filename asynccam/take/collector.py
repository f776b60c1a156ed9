"""Bringing a take's files home: fetch or find, hash, look into, record."""

import asyncio
import builtins
import hashlib
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from asynccam.errors import TimeoutError, TransferError
from asynccam.model.events import FileArrived, FileProgress
from asynccam.model.features import Files
from asynccam.model.filenames import safe_name
from asynccam.model.info import CheckResult, LocalFile, MediaFile
from asynccam.model.manifest import FileRecord, FileState, VerdictRecord
from asynccam.model.safe_files import Folder, confined, open_file
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.timing import deadline
from asynccam.take.limits import TakeLimits
from asynccam.take.manifest_store import ManifestStore
from asynccam.take.outcome import note_hole
from asynccam.take.participant import Emit, Participant

_SLICE: Final = 32 * 1024 * 1024
"""Bytes hashed in one go; a cancellation waits for no more than that."""
_READ: Final = 1024 * 1024
_LOOK: Final = 0.5
"""Seconds between two looks at a file that nobody named; once it is the same, nothing writes to it."""
_UNFINISHED: Final = frozenset({".part", ".interrupted", ".log"})
"""Endings of transfers that broke off, and of GStreamer's debug logs."""


FileCheck = Callable[[Path], Awaitable[CheckResult]]
"""Looks into a video or a still picture; `asynccam.recording` has one."""


class Collector:
    """Brings files home, a bounded number at a time.

    Args:
        folder: The take's folder.
        limits: How long to wait, and how many at a time.
        emit: Where events go.
        verify: Looks into each file that arrived, or None.
        arrived: Awaited with the camera's part after each file, whatever became of it.
    """

    def __init__(
        self,
        folder: ManifestStore,
        limits: TakeLimits,
        emit: Emit,
        verify: FileCheck | None,
        arrived: Callable[[Participant], Awaitable[None]],
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._emit = emit
        self._verify = verify
        self._arrived = arrived
        self._slots = asyncio.Semaphore(limits.transfers)

    async def collect(self, member: Participant) -> None:
        """Bring home what one camera recorded, one file after another."""
        for file, record in zip(member.files, member.record.files, strict=True):
            if record.state is FileState.PENDING:
                async with self._slots:
                    local = await self._bring_home(member, file, record)
                    if local is not None and self._verify is not None:
                        await self._look_into(member, self._verify, local.path, record)
                await self._arrived(member)

    async def _bring_home(self, member: Participant, file: MediaFile, record: FileRecord) -> LocalFile | None:
        record.state = FileState.FAILED  # until the opposite is shown
        with member.recording_errors("collect"):
            try:
                with confined(self._folder.root):
                    local = await (
                        self._fetch(member, file) if file.path is None else _measure(file.path, file.name)
                    )
            except asyncio.CancelledError:
                member.fail("collect", TimeoutError(f"no time was left to bring {file.name!r} home"))
                raise
            except TransferError as error:
                record.part = None if error.part is None else self._folder.relative(error.part)
                record.received = error.received
                raise
            self._arrive(member, record, local)
            return local
        return None

    async def take_in(self, member: Participant, record: FileRecord, path: Path) -> None:
        """Take for home what a process before this one had brought here whole, and look into it."""
        with member.recording_errors("collect"):
            with confined(self._folder.root):
                self._arrive(member, record, await _measure(path, record.name))
            if self._verify is not None:
                await self._look_into(member, self._verify, path, record)

    async def take_in_left(self, member: Participant) -> None:
        """Put on record what lies in the camera's directory though no answer named it.

        The answer to a stop may not have come in time. Parts of transfers and links are passed over. An
        empty file of a camera that never answered a start is what arming left of a take that was called
        off: it is removed.
        """
        place = self._folder.path / member.record.directory
        known = {self._folder.path / file.path for file in member.record.files if file.path}
        named: dict[str, list[FileRecord]] = {}
        for file in member.record.files:
            named.setdefault(safe_name(file.name), []).append(file)
        for path, size in (await self._left_in(member, place, known)).items():
            record = next((one for one in named.get(path.name, ()) if _is_copy(one, size)), None)
            if record is None and size == 0 and member.record.accepted_at is None:
                with member.recording_errors("collect"), confined(self._folder.root):
                    await on_disk(_remove_empty, path)
                    continue
            if record is None:
                record = FileRecord(name=path.name, source="local")
                member.record.files.append(record)
            record.state, record.size = FileState.FAILED, size  # until the opposite is shown
            record.path = self._folder.relative(path)
            with member.recording_errors("collect"):
                async with deadline(self._limits.verify_timeout, f"digest of {path}"):
                    await self.take_in(member, record, path)

    async def _left_in(self, member: Participant, place: Path, known: set[Path]) -> dict[Path, int]:
        """Files in a directory that are not known, with their sizes, once nothing writes to them."""
        left: dict[Path, tuple[int, float]] = {}
        with member.recording_errors("collect"), confined(self._folder.root):
            async with deadline(self._limits.status_timeout, f"end of the files in {place}"):
                left = await on_disk(_look_in, place, known)
                while left:
                    await asyncio.sleep(_LOOK)
                    before, left = left, await on_disk(_look_in, place, known)
                    if left == before:
                        break
        return {path: size for path, (size, _) in left.items()}

    def _arrive(self, member: Participant, record: FileRecord, local: LocalFile) -> None:
        record.state = FileState.ARRIVED
        record.path = self._folder.relative(local.path)
        record.size = local.size
        record.sha256 = local.sha256 or None
        record.seconds = local.seconds
        record.part = record.received = None
        self._emit(FileArrived(camera=member.camera.id, file=local))

    async def _fetch(self, member: Participant, file: MediaFile) -> LocalFile:
        """Download one file; given up when no new byte came for `TakeLimits.stall_timeout`."""
        files = member.camera.feature(Files)
        loop = asyncio.get_running_loop()
        stall = self._limits.stall_timeout
        watch = asyncio.timeout(stall)
        most = -1

        def progress(received: int, total: int | None) -> None:
            nonlocal most
            if received > most:
                most = received
                with suppress(RuntimeError):  # a last word after the deadline, or after the end
                    watch.reschedule(loop.time() + stall)
            self._emit(FileProgress(camera=member.camera.id, name=file.name, received=received, total=total))

        directory = self._folder.path / member.record.directory
        await on_disk(_see_directory, directory)
        try:
            async with watch:
                return await files.download(file, directory, progress=progress)
        except builtins.TimeoutError:
            if not watch.expired():
                raise
            raise TimeoutError(
                f"no new byte of {file.name!r} from {member.camera.id} in {stall:g} s"
            ) from None

    async def _look_into(
        self, member: Participant, verify: FileCheck, path: Path, record: FileRecord
    ) -> None:
        with member.recording_errors("verify"):
            async with deadline(self._limits.verify_timeout, f"verdict on {path}"):
                with confined(self._folder.root):
                    await on_disk(_see_regular, path)  # for a ``verify`` that opens any path
                    finding = await verify(path)
            record.verdict = VerdictRecord.of(finding)
            note_hole(member.record, record, finding)


async def _measure(path: Path, name: str) -> LocalFile:
    """Size and digest of a file that is already on this computer."""
    sha = hashlib.sha256()
    size = 0
    while count := await on_disk(_hash_slice, path, size, sha):
        size += count
    return LocalFile(path=path, size=size, sha256=sha.hexdigest(), source=name)


def _is_copy(record: FileRecord, size: int) -> bool:
    """Return whether a file is what a record of its name names, come whole and not written down."""
    return record.state is not FileState.ARRIVED and record.size in (None, size)


def _look_in(place: Path, known: set[Path]) -> dict[Path, tuple[int, float]]:
    """Files in a directory that are not known: their sizes and times, in the order of their names."""
    found: dict[Path, tuple[int, float]] = {}
    with storage_errors("read", place):
        try:
            folder = Folder(place)
        except FileNotFoundError:
            return {}
        with folder:
            for name, seen in folder.files().items():
                path = place / name
                hidden = name.startswith(".") or path.suffix.lower() in _UNFINISHED
                if path not in known and not hidden:
                    found[path] = seen.st_size, seen.st_mtime
    return found


def _see_directory(path: Path) -> None:
    with storage_errors("store files in", path):
        Folder(path, make=True).close()


def _see_regular(path: Path) -> None:
    with storage_errors("read", path):
        os.close(open_file(path))


def _remove_empty(path: Path) -> None:
    with storage_errors("remove", path), Folder(path.parent) as folder:
        found = folder.find(path.name)
        if found is not None and found.st_size == 0:
            folder.remove(path.name)


def _hash_slice(path: Path, offset: int, sha: "hashlib._Hash") -> int:
    hashed = 0
    with storage_errors("read", path), os.fdopen(open_file(path), "rb", buffering=0) as file:
        file.seek(offset)
        while hashed < _SLICE and (data := file.read(min(_READ, _SLICE - hashed))):
            sha.update(data)
            hashed += len(data)
    return hashed
