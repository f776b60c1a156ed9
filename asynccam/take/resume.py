"""Finishing a take whose process died: stop what still runs, bring home what exists. See docs/take.md."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from asynccam.errors import (
    AuthenticationError,
    NotFoundError,
    RecordingError,
    StateError,
    StorageError,
    TimeoutError,
)
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import Event, TakePhaseChanged
from asynccam.model.features import FeatureKey
from asynccam.model.filenames import safe_name
from asynccam.model.identity import stranger
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, MediaFile
from asynccam.model.manifest import (
    MANIFEST_NAME,
    MANIFEST_VERSION,
    CameraRecord,
    FileRecord,
    FileState,
    Manifest,
    Moment,
    Outcome,
)
from asynccam.model.safe_files import Folder, Root, confined
from asynccam.runtime.disk import absolute_path, on_disk, storage_errors
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.take.clocks import TakeClock
from asynccam.take.collector import Collector, FileCheck
from asynccam.take.coverage import judge_coverage
from asynccam.take.hosts import Hosts, KnownHosts
from asynccam.take.journal import JOURNAL_NAME, Journal
from asynccam.take.leftover import ResumedParticipant
from asynccam.take.limits import TakeLimits
from asynccam.take.manifest_store import ManifestStore
from asynccam.take.participant import Emit, Participant, error_record
from asynccam.take.replay import Leftover, missing_files, read_leftover
from asynccam.take.timing import infer_first_frames
from asynccam.take.work import outcome_of, outcome_of_all
from asynccam.wall_clock import WALL_CLOCK, unix_now

_MEDIA: Final = frozenset({".mp4", ".mov", ".mkv", ".webm", ".ts", ".avi", ".jpg", ".jpeg", ".png"})
_QUIET: Final = 2.0
"""Seconds without a change after which a file is taken to be finished."""
_LOOK: Final = 0.2
_AT_ONCE: Final = 256
"""Cameras that are seen to at the same time; a manifest from elsewhere may name any number."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A file on the disk; ``written`` is when it last was, Unix seconds of the file system."""

    path: Path
    size: int
    written: float


class Connector(Protocol):
    """What resuming needs of a `Session`."""

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Cameras at hand, by id."""
        ...

    async def connect(self, address: str, *, credentials: Credentials | None = None) -> Camera:
        """The camera at an address."""
        ...

    def emit(self, event: Event) -> None:
        """Tell everyone who listens."""
        ...


async def resume_take(
    directory: str | Path,
    session: Connector,
    *,
    credentials: Credentials | None = None,
    hosts: Hosts = (),
    limits: TakeLimits | None = None,
    verify: FileCheck | None = None,
    emit: Emit | None = None,
) -> Manifest:
    """Finish a take whose process died: stop what still runs, bring home what exists, close the manifest.

    Also for a take that ended with files or cameras it could not reach. Interrupted, it can be done again.
    Cancelled, however often, it still stops what may record, within `TakeLimits.cancel_timeout`, and leaves
    the files to the next time.

    Args:
        directory: The take's own directory.
        session: Reaches the cameras, at the addresses they had.
        credentials: For the services at ``hosts`` that want them; a take keeps none.
        hosts: ``HOST`` or ``HOST:PORT`` of services that may be sent credentials; as a mapping, with their
            own. A host that only the take names is sent none, not even those of the environment. Hosts of
            places that the session looks at need not be named.
        limits: Bounds of every wait.
        verify: Looks into each file.
        emit: Where events go; by default the session's.

    Returns:
        The manifest as it is on the disk; its ``outcome`` is ``resumed`` if every camera's files are home.

    Raises:
        StateError: The take has ended, and nothing of it is left to do.
        BusyError: The process that runs it, or another one that resumes it, is alive.
        StorageError: It is no take, or the disk refuses; or a link, a pipe or a device has the name of the
            journal. Nothing outside of the directory is read or written.
        UsageError: One of ``hosts`` is not a host.
    """
    known = KnownHosts(hosts, credentials, session)
    folder = ManifestStore.existing(await on_disk(_take_directory, Path(directory)))
    journal = Journal(folder.root)
    settled = False
    try:
        entries = await journal.reopen()
        left = await read_leftover(folder.manifest_path, entries, str(folder.path), journal.boot)
        if left.is_settled:
            settled = True
            ended = left.manifest.outcome.value
            raise StateError(f"take {folder.name} has ended ({ended}); nothing of it is left to resume")
        work = _Resumption(left, folder, journal, session, known, limits, verify, emit or session.emit)
        await work.run()
        settled = True
        return left.manifest
    finally:
        await finish(journal.close(remove=settled))


class _Resumption:
    """One resuming of one take."""

    def __init__(
        self,
        left: Leftover,
        folder: ManifestStore,
        journal: Journal,
        session: Connector,
        hosts: KnownHosts,
        limits: TakeLimits | None,
        verify: FileCheck | None,
        emit: Emit,
    ) -> None:
        self._left = left
        self._manifest = left.manifest
        self._folder = folder
        self._journal = journal
        self._session = session
        self._hosts = hosts
        self._cameras = asyncio.Semaphore(_AT_ONCE)
        self._limits = limits or TakeLimits()
        self._verify = verify
        self._emit = emit
        self._collector = Collector(folder, self._limits, emit, verify, self._note)
        self._clock = TakeClock(self._manifest, emit)
        self._scope = TaskScope(f"resuming {folder.name}", on_failure=lambda name, error: None)
        self._transfers: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._called_off = True
        self._t0 = self._latest_t0 = 0.0

    async def run(self) -> None:
        """All cameras side by side; then the manifest for the last time."""
        self._clock.pin(self._left.scale)
        try:
            await self._run()
        finally:
            self._clock.release()

    def _place_t0(self) -> None:
        """Find T0 in elapsed time."""
        now, t0 = WALL_CLOCK.elapsed(), self._left.t0
        if t0 is None:
            self._t0 = self._latest_t0 = now
            return
        # T0 was decided on before this began.
        latest = now + self._left.start_in
        if self._left.scale is not None:
            wall, elapsed = self._left.scale
            self._t0 = self._latest_t0 = min(elapsed + (t0 - wall), latest)
        else:
            # Only wall time tells, and it may have been set since.
            self._t0, self._latest_t0 = min(now + t0 - unix_now(), latest), latest
        self._called_off = self._t0 > now

    async def _run(self) -> None:
        self._place_t0()
        self._manifest.version = MANIFEST_VERSION  # what is written from here on has today's words
        self._manifest.resumed.append(Moment.of(unix_now()))
        await self._journal.write("resumed", cameras=sorted(self._left.may_record))
        await self._enter("resuming")
        parts = {record.id: record for record in self._manifest.cameras if self._left.has_work(record)}
        work = self._scope.spawn(self._settle_all(parts), name="resume")
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            await finish(self._leave(work))
            raise
        finally:
            await self._scope.aclose()
        work.result()
        self._clock.check()
        infer_first_frames(self._manifest)
        start, duration = self._manifest.start, self._manifest.duration
        planned = None if start is None or duration is None else start.t0_local.unix + duration
        ends = [end for end in (planned, self._left.stopping_at) if end is not None]
        until = min(ends, default=None)
        for record in parts.values():
            judge_coverage(record, self._manifest, until)
            started = record.id in self._left.told and not self._called_off
            unfinished = Outcome.FAILED if started else Outcome.CANCELLED
            record.outcome = outcome_of(record, unfinished, late=self._manifest.started_late(record))
        outcome = outcome_of_all(self._manifest)
        self._manifest.outcome = Outcome.RESUMED if outcome is Outcome.COMPLETE else outcome
        await self._enter("done")

    async def _settle_all(self, parts: Mapping[str, CameraRecord]) -> None:
        jobs = {key: self._settle(record) for key, record in parts.items()}
        for key, result in (await self._scope.gather(jobs, name="resume")).items():
            if isinstance(result, Exception):
                parts[key].errors.append(error_record("resume", result))

    async def _leave(self, work: "asyncio.Task[None]") -> None:
        """Cancelled, still stop what may record; files are left to the next resuming."""
        self._leaving = True
        for transfer in self._transfers:
            transfer.cancel()
        _, late = await asyncio.wait({work}, timeout=self._limits.cancel_timeout)
        if late:
            words = f"it could not be left in order within {self._limits.cancel_timeout:g} s"
            self._manifest.errors.append(error_record("resume", TimeoutError(words)))
        await self._scope.aclose()
        await self._enter("resuming")

    async def _enter(self, phase: str) -> None:
        self._manifest.phase = phase
        self._emit(TakePhaseChanged(take=self._folder.name, phase=phase))
        self._manifest.take = self._folder.name
        self._manifest.written_at = Moment.of(unix_now())
        self._manifest.journal_lines = self._journal.lines
        infer_first_frames(self._manifest)
        await self._folder.write_manifest(self._manifest.to_bytes())

    async def _settle(self, record: CameraRecord) -> None:
        """One camera: reach it, stop it, bring its files home."""
        async with self._cameras:
            await self._settle_in_turn(record)

    async def _settle_in_turn(self, record: CameraRecord) -> None:
        may_record = record.id in self._left.may_record
        member = ResumedParticipant(
            await self._reach(record), record, self._limits, self._emit, self._computer_time
        )
        member.may_record = may_record
        member.names = self._left.names.get(record.id, ())
        if not self._left.ended or may_record:
            await member.end_leftovers()
        if may_record and (record.kind == "still" or "files" not in record.features):
            await self._find_here(member)
        elif may_record and not isinstance(member.camera, _Away):
            stop_sent = self._left.stopping_at is not None
            await member.stop_leftover(self._t0, self._latest_t0, stop_sent=stop_sent)
        await self._note(member)
        if not self._leaving:
            transfer = self._scope.spawn(self._bring_home(member), name=f"files of {record.id}")
            self._transfers.add(transfer)
            await asyncio.wait({transfer})
            if not transfer.cancelled():
                transfer.result()

    def _computer_time(self, when: float) -> float:
        """Convert a time of the scale that T0 is on."""
        start = self._manifest.start
        return when if start is None else when - (start.t0.unix - start.t0_local.unix)

    async def _reach(self, record: CameraRecord) -> Camera:
        """The camera, where it was; one that cannot be reached is stood in for."""
        away = _Away(record)
        member = Participant(away, record, self._limits, self._emit)
        with member.recording_errors("resume"):
            async with deadline(self._limits.arm_timeout, f"connection to {record.id}"):
                camera = self._session.cameras.get(record.id)
                if camera is None:
                    camera = await self._connect(Address.parse(record.address))
            if camera.id != record.id:
                raise NotFoundError(f"{camera.id} is at {record.address} now, not {record.id}")
            other = stranger(record.address, record.identity, camera.info.identity)
            if other:
                raise NotFoundError(other)
            return camera
        return away

    async def _connect(self, address: Address) -> Camera:
        """Connect to an address of the take, with credentials only for a host that a person named."""
        try:
            return await self._session.connect(str(address), credentials=self._hosts.credentials_for(address))
        except AuthenticationError as error:
            hint = self._hosts.hint(address)
            if not hint:
                raise
            raise AuthenticationError(f"{error}{hint}") from error

    async def _find_here(self, member: Participant) -> None:
        """A picture; or the files of a recorder here, which was interrupted when its process died."""
        record, still = member.record, member.record.kind == "still"
        with member.recording_errors("resume"), confined(self._folder.root):
            place = self._folder.path / record.directory
            async with deadline(self._limits.stop_timeout, f"end of the files in {place}"):
                found = await _finished_media(place)
            if self._called_off:  # an empty file is what arming made, and is removed below
                found = [one for one in found if one.size]
            member.may_record = False
            member.files = tuple(MediaFile(one.path.name, one.size, path=one.path) for one in found)
            record.files = [FileRecord(name=one.name, source="local", size=one.size) for one in member.files]
            if still:
                # A picture that was on its way is brought home from the camera, if the camera has kept it.
                record.files += [
                    FileRecord(name=name, source="device", state=FileState.FAILED)
                    for name in await on_disk(_pictures_under_way, place)
                ]
            if found:
                record.stopped_at = Moment.of(_on_scale(_last(found), record))
                record.stop_status = (
                    "picture taken" if still else "its recorder ended with the process of the take"
                )
            elif still and not self._called_off:
                raise RecordingError("its picture was not here when the process of the take died")

    async def _bring_home(self, member: Participant) -> None:
        record = member.record
        place = self._folder.path / record.directory
        parts: dict[int, Path] = {}
        for number in missing_files(record):
            file = record.files[number]
            with member.recording_errors("collect"):
                with confined(self._folder.root):
                    whole, part = await on_disk(_look_for, place, file.name, file.size)
                if whole is not None:
                    await self._collector.take_in(member, file, whole)
                    continue
                if part is not None:
                    parts[number] = part
            file.state = FileState.PENDING
        for file in record.files:
            if file.state is FileState.ARRIVED and file.path and file.verdict is None and self._verify:
                await self._collector.take_in(member, file, self._folder.path / file.path)
        member.files = tuple(
            MediaFile(one.name, one.size, one.id, path=place / one.name if one.source == "local" else None)
            for one in record.files
        )
        if not isinstance(member.camera, _Away) or all(file.source == "local" for file in record.files):
            await self._collector.collect(member)
        for number, part in parts.items():
            await self._settle_part(member, record.files[number], part)
        await self._collector.take_in_left(member)
        await self._note(member)

    async def _settle_part(self, member: Participant, file: FileRecord, part: Path) -> None:
        """What the dead process had of a file: let go once the file is here, and else kept."""
        with member.recording_errors("collect"), confined(self._folder.root):
            if file.state is FileState.ARRIVED:
                await on_disk(_remove, part)
            elif file.part is None:
                file.part = self._folder.relative(part)
                file.received = await on_disk(_size, part)

    async def _note(self, member: Participant) -> None:
        await self._journal.write("camera", **member.state())


class _Away(Camera):
    """Stands in for a camera that cannot be reached."""

    def __init__(self, record: CameraRecord) -> None:
        self._info = CameraInfo(record.id, record.system, record.name, record.serial, record.address)

    @property
    def info(self) -> CameraInfo:
        return self._info

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        return MappingProxyType({})

    async def status(self) -> CameraStatus:
        return CameraStatus(CameraState.AWAY)

    async def aclose(self) -> None:
        pass


async def _finished_media(place: Path) -> list[_Found]:
    """The recordings in a camera's directory, once nothing has written to them for a while."""
    found = await on_disk(_media_in, place)
    # Their times are the file system's, which the clock may have been set between: only a change tells.
    quiet_since = time.monotonic()
    while found and time.monotonic() - quiet_since < _QUIET:
        await asyncio.sleep(_LOOK)
        before, found = found, await on_disk(_media_in, place)
        if found != before:
            quiet_since = time.monotonic()
    return found


def _on_scale(written: float, record: CameraRecord) -> float:
    """When a file was written last on the manifest's scale, by its time in the file system.

    That is of the system's clock as it was then. If it was set later, the time is on the scale already.
    """
    began = record.commanded_at.unix if record.commanded_at else 0.0
    now = unix_now()
    fits = [one for one in (written, written - WALL_CLOCK.step()) if began <= one <= now]
    return fits[0] if fits else min(max(written, began), now)


# -- in a thread ----------------------------------------------------------------------------------


def _last(found: Sequence[_Found]) -> float:
    return max(one.written for one in found)


def _take_directory(directory: Path) -> Root:
    with storage_errors("read", directory):
        root = Root.of(absolute_path(directory))
        with confined(root), Folder(root.given) as folder:
            found = folder.exists(MANIFEST_NAME) or folder.exists(JOURNAL_NAME)
    if not found:
        raise StorageError(f"{directory} is not the directory of a take: it has no manifest and no journal")
    return root


def _media_in(place: Path) -> list[_Found]:
    """The recordings in a camera's directory, in the order of their names."""
    with storage_errors("read", place), Folder(place) as folder:
        found = folder.files()
    return [
        _Found(place / name, seen.st_size, seen.st_mtime)
        for name, seen in found.items()
        if Path(name).suffix.lower() in _MEDIA
    ]


def _pictures_under_way(place: Path) -> list[str]:
    """Names of the pictures of which a directory has a part only."""
    with storage_errors("read", place), Folder(place) as folder:
        return [name.removesuffix(".part") for name in folder.files() if name.endswith(".part")]


def _look_for(place: Path, name: str, size: int | None) -> tuple[Path | None, Path | None]:
    """The whole file of a name, or what there is of it, moved out of the way of a new transfer."""
    whole = place / safe_name(name)
    part, kept = f"{whole.name}.part", f"{whole.name}.interrupted"
    with storage_errors("look for", whole), Folder(place, make=True) as folder:
        found = folder.find(whole.name)
        if found is not None and size in (None, found.st_size):
            return whole, None
        if folder.find(part) is not None:
            folder.replace(part, kept)
        return None, place / kept if folder.find(kept) is not None else None


def _remove(path: Path) -> None:
    with storage_errors("remove", path), Folder(path.parent) as folder:
        folder.remove(path.name)


def _size(path: Path) -> int:
    with storage_errors("read", path), Folder(path.parent) as folder:
        return folder.status(path.name).st_size
