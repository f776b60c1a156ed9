"""Collecting of a take's files: download or find, hash, check, record."""

import asyncio
import builtins
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from asynccam.errors import TimeoutError, TransferError
from asynccam.model.digest import SHA256, DigestName, Hasher, digest_fields, new_hasher
from asynccam.model.events import FileArrived, FileProgress
from asynccam.model.features import Files
from asynccam.model.filenames import safe_name
from asynccam.model.info import CheckResult, LocalFile, MediaFile
from asynccam.model.manifest import FileRecord, FileState, VerdictRecord
from asynccam.model.safe_files import Folder, confined, open_file
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.timing import deadline
from asynccam.take.outcome import note_hole
from asynccam.take.participant import Emit, Participant, TakeLimits
from asynccam.take.store import TakeDirectory

_HASH_SLICE: Final = 32 * 1024 * 1024
"""Bytes hashed in one thread call; a cancellation waits for no more than that."""
_READ_SIZE: Final = 1024 * 1024
_UNCHANGED_AFTER: Final = 0.5
"""Seconds after which an unlisted file is looked at again; if it is the same, nothing writes to it."""
_UNFINISHED_SUFFIXES: Final = frozenset({".part", ".interrupted", ".log"})
"""Suffixes of broken transfers, and of GStreamer's debug logs."""


FileCheck = Callable[[Path], Awaitable[CheckResult]]
"""Checks a video or a still picture; `asynccam.recording.verify_file` is one."""


class Collector:
    """Downloads and checks files, at most `TakeLimits.transfers` concurrently.

    ``file_done`` is awaited after each file, downloaded or failed. ``digest`` is the algorithm of the files'
    digests.
    """

    def __init__(
        self,
        directory: TakeDirectory,
        limits: TakeLimits,
        emit: Emit,
        verify: FileCheck | None,
        file_done: Callable[[Participant], Awaitable[None]],
        digest: DigestName | None = SHA256,
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._emit = emit
        self._verify = verify
        self._file_done = file_done
        self._digest: DigestName | None = digest
        self._slots = asyncio.Semaphore(limits.transfers)

    async def collect(self, participant: Participant) -> None:
        """Download or hash, and check, the pending files of one camera, one after another."""
        for file, record in zip(participant.files, participant.record.files, strict=True):
            if record.state is FileState.PENDING:
                async with self._slots:
                    local = await self._obtain(participant, file, record)
                    if local is not None:
                        await self._check(participant, local.path, record)
                await self._file_done(participant)

    async def adopt(self, participant: Participant, record: FileRecord, path: Path) -> None:
        """Record and check a file that is complete in the camera's directory already."""
        with participant.recording_errors("collect"):
            with confined(self._directory.root):
                self._record(participant, record, await _hash_file(path, record.name, self._digest))
            await self._check(participant, path, record)

    async def collect_unlisted(self, participant: Participant) -> None:
        """Record and check files in the camera's directory that no answer named, as when a stop timed out.

        Parts of transfers and links are ignored. An empty file of a camera that never answered a start was
        left by arming: it is removed.
        """
        directory = self._directory.path / participant.record.directory
        known = {self._directory.path / file.path for file in participant.record.files if file.path}
        by_name: dict[str, list[FileRecord]] = {}
        for file in participant.record.files:
            by_name.setdefault(safe_name(file.name), []).append(file)
        for path, size in (await self._unlisted_files(participant, directory, known)).items():
            record = next((each for each in by_name.get(path.name, ()) if _may_be(each, size)), None)
            if record is None and size == 0 and participant.record.accepted_at is None:
                with participant.recording_errors("collect"), confined(self._directory.root):
                    await on_disk(_remove_empty, path)
                    continue
            if record is None:
                record = FileRecord(name=path.name, source="local")
                participant.record.files.append(record)
            record.state, record.size = FileState.FAILED, size  # until it is hashed
            record.path = self._directory.relative(path)
            with participant.recording_errors("collect"):
                async with deadline(self._limits.verify_timeout, f"digest of {path}"):
                    await self.adopt(participant, record, path)

    async def _unlisted_files(
        self, participant: Participant, directory: Path, known: set[Path]
    ) -> dict[Path, int]:
        """Return the files in a directory that are not known, by size, once nothing writes to them."""
        found: dict[Path, tuple[int, float]] = {}
        with participant.recording_errors("collect"), confined(self._directory.root):
            async with deadline(self._limits.status_timeout, f"end of the files in {directory}"):
                found = await on_disk(_list_unknown, directory, known)
                while found:
                    await asyncio.sleep(_UNCHANGED_AFTER)
                    before, found = found, await on_disk(_list_unknown, directory, known)
                    if found == before:
                        break
        return {path: size for path, (size, _) in found.items()}

    async def _obtain(
        self, participant: Participant, file: MediaFile, record: FileRecord
    ) -> LocalFile | None:
        record.state = FileState.FAILED  # until it is complete
        with participant.recording_errors("collect"):
            try:
                with confined(self._directory.root):
                    if file.path is None:
                        local = await self._download(participant, file)
                    else:
                        local = await _hash_file(file.path, file.name, self._digest)
            except asyncio.CancelledError:
                participant.fail("collect", TimeoutError(f"no time was left to download {file.name!r}"))
                raise
            except TransferError as error:
                record.part = None if error.part is None else self._directory.relative(error.part)
                record.received = error.received
                raise
            self._record(participant, record, local)
            return local
        return None

    async def _download(self, participant: Participant, file: MediaFile) -> LocalFile:
        """Download one file, with `TakeLimits.stall_timeout` for each new byte."""
        files = participant.camera.feature(Files)
        loop = asyncio.get_running_loop()
        stall = self._limits.stall_timeout
        timeout = asyncio.timeout(stall)
        most_received = -1

        def progress(received: int, total: int | None) -> None:
            nonlocal most_received
            if received > most_received:
                most_received = received
                with suppress(RuntimeError):  # called after the deadline, or after the end
                    timeout.reschedule(loop.time() + stall)
            self._emit(
                FileProgress(camera=participant.camera.id, name=file.name, received=received, total=total)
            )

        directory = self._directory.path / participant.record.directory
        await on_disk(_make_directory, directory)
        try:
            async with timeout:
                if self._digest == SHA256:  # a camera of another package may know no other
                    return await files.download(file, directory, progress=progress)
                return await files.download(file, directory, progress=progress, digest=self._digest)
        except builtins.TimeoutError:
            if not timeout.expired():
                raise
            text = f"no new byte of {file.name!r} from {participant.camera.id} in {stall:g} s"
            raise TimeoutError(text) from None

    def _record(self, participant: Participant, record: FileRecord, local: LocalFile) -> None:
        record.state = FileState.ARRIVED
        record.path = self._directory.relative(local.path)
        record.size = local.size
        record.sha256 = local.sha256 or None
        record.digest = local.digest or None
        record.seconds = local.seconds
        record.part = record.received = None
        self._emit(FileArrived(camera=participant.camera.id, file=local))

    async def _check(self, participant: Participant, path: Path, record: FileRecord) -> None:
        if self._verify is None:
            return
        with participant.recording_errors("verify"):
            async with deadline(self._limits.verify_timeout, f"verdict on {path}"):
                with confined(self._directory.root):
                    await on_disk(_check_regular, path)  # a `verify` may open any path
                    result = await self._verify(path)
            record.verdict = VerdictRecord.of(result)
            note_hole(participant.record, record, result)


async def _hash_file(path: Path, name: str, digest: DigestName | None) -> LocalFile:
    if digest is None:
        return LocalFile(path=path, size=await on_disk(_size_of, path), source=name)
    hasher = new_hasher(digest)
    size = 0
    while count := await on_disk(_hash_slice, path, size, hasher):
        size += count
    return LocalFile(path=path, size=size, source=name, **digest_fields(digest, hasher.hexdigest()))


def _may_be(record: FileRecord, size: int) -> bool:
    """Return whether a file of a record's name and of this size may be its complete download."""
    return record.state is not FileState.ARRIVED and record.size in (None, size)


# -- in a thread ------------------------------------------------------------------------------------


def _list_unknown(directory: Path, known: set[Path]) -> dict[Path, tuple[int, float]]:
    """Return size and time of modification of the files that are not known, ordered by name."""
    found: dict[Path, tuple[int, float]] = {}
    with storage_errors("read", directory):
        try:
            folder = Folder(directory)
        except FileNotFoundError:
            return {}
        with folder:
            for name, status in folder.files().items():
                path = directory / name
                hidden = name.startswith(".") or path.suffix.lower() in _UNFINISHED_SUFFIXES
                if path not in known and not hidden:
                    found[path] = status.st_size, status.st_mtime
    return found


def _make_directory(path: Path) -> None:
    with storage_errors("store files in", path):
        Folder(path, make=True).close()


def _check_regular(path: Path) -> None:
    with storage_errors("read", path):
        os.close(open_file(path))


def _remove_empty(path: Path) -> None:
    with storage_errors("remove", path), Folder(path.parent) as folder:
        found = folder.find(path.name)
        if found is not None and found.st_size == 0:
            folder.remove(path.name)


def _size_of(path: Path) -> int:
    with storage_errors("read", path):
        fd = open_file(path)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)


def _hash_slice(path: Path, offset: int, hasher: Hasher) -> int:
    hashed = 0
    with storage_errors("read", path), os.fdopen(open_file(path), "rb", buffering=0) as file:
        file.seek(offset)
        while hashed < _HASH_SLICE and (data := file.read(min(_READ_SIZE, _HASH_SLICE - hashed))):
            hasher.update(data)
            hashed += len(data)
    return hashed
