"""Finishing a take whose process died: stop what still runs, bring home what exists. See docs/take.md."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

from asynccam.errors import (
    AsynccamError,
    AuthenticationError,
    BusyError,
    NotFoundError,
    RecordingError,
    StateError,
    StorageError,
    TakenOverError,
    TimeoutError,
)
from asynccam.model.address import Address, host_and_port
from asynccam.model.camera import Camera
from asynccam.model.credentials import CREDENTIALS_LOG, Credentials
from asynccam.model.events import Event, TakePhaseChanged
from asynccam.model.features import FeatureKey, Record, ReportsRecording, StopsOrphanedRecording
from asynccam.model.filenames import safe_name
from asynccam.model.identity import device_mismatch
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
from asynccam.runtime.timing import deadline, sleep_until
from asynccam.take.clocks import TakeClock
from asynccam.take.collector import Collector, FileCheck
from asynccam.take.journal import JOURNAL_NAME, Journal, Leftover, missing_files, read_leftover, replay
from asynccam.take.limits import TakeLimits
from asynccam.take.manifest_store import ManifestStore
from asynccam.take.outcome import judge_coverage, outcome_of, outcome_of_all
from asynccam.take.participant import SURELY_REFUSED, Emit, Participant, error_record
from asynccam.take.timing import infer_first_frames
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)
_CREDENTIALS_LOG = logging.getLogger(CREDENTIALS_LOG)

_SAME_CLOCK: Final = 2.0
"""Seconds by which a device's clock, or its word on one first frame, may differ between two programs."""


class ResumedParticipant(Participant):
    """A camera that another process had told to start."""

    async def stop_leftover(self, t0: float, latest: float, *, stop_sent: bool) -> None:
        """Stop what a process that died had started, and learn what files it made.

        Unlike `stop`, a camera that refuses is no failure: it may have ended by itself meanwhile.

        Args:
            t0: T0 by elapsed time, as far as it is known; a start that was scheduled may be ahead still.
            latest: The same as late as it can have been; after ``t0`` where only wall time tells.
            stop_sent: Whether that process may have stopped it. Then one that is idle has been stopped in
                order, though the answer was not heard; else it ended by itself.
        """
        self.bound_stop(max(t0, latest))
        if await self._records_for_another():
            words = f"{self.camera.id} records for somebody else now; that recording is left alone"
            self.fail("resume", TakenOverError(words))
            await self._look_for_files()
            self.may_record = False
            return
        if self.scheduled and WALL_CLOCK.elapsed() < t0 + self._limits.late_start_grace:
            ahead = WALL_CLOCK.elapsed() < t0
            await self._call_off(t0)
            if self.record.stopped_at is None and ahead:  # it did not start
                self.may_record = False
                return
        else:
            try:
                await self._ask_to_stop(self._limits.stop_timeout)
            except SURELY_REFUSED as error:
                _LOG.info("%s answered a stop after its controller's death with: %s", self.camera.id, error)
                self.record.stop_status = str(error)
            except Exception as error:  # noqa: BLE001 - as in `recording_errors`; tried once more if it records
                await self._stop_again(error, self._limits.stop_timeout)
            if (
                self.scheduled
                and not self.files
                and WALL_CLOCK.elapsed() < latest + self._limits.late_start_grace
            ):
                await self._stop_late_fire(latest)
        if not self.files:
            await self._look_for_files()
        if self.record.stopped_at is None and self.files and stop_sent:
            status = await self._status()
            if status is not None and status.state is CameraState.READY:
                self.record.stopped_at = Moment.of(unix_now())  # no later than this
        self.may_record = False

    async def _records_for_another(self) -> bool:
        """Return whether the device tells of a first frame that is later than the one of this take.

        Both are words of its own clock; one that was set meanwhile tells nothing, and what runs is stopped.
        """
        told, clock = self.record.device_first_frame, self.record.clock
        recorder = self.camera.feature(Record)
        if told is None or clock is None or not isinstance(recorder, ReportsRecording):
            return False
        try:
            async with deadline(self._limits.status_timeout, f"status of {self.camera.id}"):
                seen = await recorder.recording_report(timeout=self._limits.status_timeout)
                status = await self.camera.status()
        except Exception as error:  # noqa: BLE001 - as in `recording_errors`; unknown, so it is stopped
            _LOG.info("%s does not say what it records: %s", self.camera.id, error)
            return False
        if not seen.recording or seen.first_frame is None or status.device_time is None:
            return False
        now = unix_now()
        expected = clock.line().interval(now)  # wider the longer ago it was measured
        offset = status.device_time - now
        was_set = not expected.low - _SAME_CLOCK <= offset <= expected.high + _SAME_CLOCK
        return not was_set and seen.first_frame.time - told.unix > _SAME_CLOCK

    async def _stop_late_fire(self, until: float) -> None:
        """Stop a camera that did not record yet, if it starts after all by a moment of elapsed time."""
        if WALL_CLOCK.elapsed() >= until:
            return
        await sleep_until(until)
        status = await self._status()
        if status is not None and status.state is CameraState.RECORDING:
            await self._stop(self._limits.stop_timeout)

    async def stop_orphaned_recording(self) -> None:
        """End what a process that died left at the camera and a stop would not reach."""
        record = self.camera.feature(Record) if self.camera.supports(Record) else None
        if isinstance(record, StopsOrphanedRecording):
            with self.recording_errors("stop"):
                async with deadline(self._limits.stop_timeout, f"end of what runs at {self.camera.id}"):
                    await record.stop_orphaned_recording(timeout=self._limits.stop_timeout)


Hosts = Collection[str] | Mapping[str, Credentials | None]
"""``HOST`` or ``HOST:PORT``; as a mapping with credentials of their own, or None for those of the call."""


_WITHHELD: Final = Credentials(environment=False)
_WITH_CREDENTIALS: Final = frozenset({"mediamtx", "snapshot", "nanocam"})


@runtime_checkable
class NamesHosts(Protocol):
    """A `Session`, which may know the credentials of a host from its fleet."""

    def credentials_at(self, address: Address) -> Credentials | None:
        """Credentials for a host that was named to the session, or None."""
        ...


class KnownHosts:
    """Decides which credentials a host gets.

    Args:
        hosts: The hosts that were named.
        credentials: For those that have none of their own.
        session: Asked for hosts that are not among them, if it is a `NamesHosts`.

    Raises:
        UsageError: One is not a host.
    """

    def __init__(self, hosts: Hosts, credentials: Credentials | None, session: object) -> None:
        named = {hosts: None} if isinstance(hosts, str) else hosts
        own = named if isinstance(named, Mapping) else dict.fromkeys(named)
        self._named = {host_and_port(name): found or credentials for name, found in own.items()}
        self._given = credentials
        self._session = session
        self._told: set[str] = set()

    def credentials_for(self, address: Address) -> Credentials | None:
        """Return the credentials that may be sent to an address; those for no host are empty.

        With None, and for a host that was named, a system's environment variables count as well.
        """
        host = address.host.lower()
        for key in ((host, address.port), (host, None)):
            if key in self._named:
                return self._named[key]
        if isinstance(self._session, NamesHosts):
            found = self._session.credentials_at(address)
            if found is not None:
                return found
        if self._given is not None and address.system in _WITH_CREDENTIALS:
            self._tell(address)
        return _WITHHELD

    def hint(self, address: Address) -> str:
        """Return what to do about a host that refused to answer without credentials, or ``""``."""
        if self.credentials_for(address) is not _WITHHELD:
            return ""
        return (
            f"; no credentials were sent to {address.authority}, which only the take names: if it is yours,"
            f" name it (--host {address.authority}, or hosts=)"
        )

    def _tell(self, address: Address) -> None:
        if address.authority not in self._told:
            self._told.add(address.authority)
            _CREDENTIALS_LOG.warning(
                "the token or key is not sent to %s, which only the take names; if it is yours, name it"
                " (--host %s, or hosts=)",
                address.authority,
                address.authority,
            )


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
            await member.stop_orphaned_recording()
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
            other = device_mismatch(record.address, record.identity, camera.info.identity)
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
        return CameraStatus(CameraState.UNAVAILABLE)

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


_MOST: Final = 500
"""Takes that are looked at, the ones that were changed last."""


@dataclass(frozen=True, slots=True)
class InterruptedTake:
    """A take that nobody is at work on and that is not finished.

    Attributes:
        name: Its name.
        directory: Its own directory.
        cameras: Ids of all its cameras, with the addresses they had.
        left: Ids of those of which something is left to do.
        may_record: Ids of those that may record still.
        devices: Those of ``may_record`` that keep their recordings themselves. A recorder on this computer
            has ended with its process.
        ends_at: Elapsed time at which the take was to end, or None if it had no length.
    """

    name: str
    directory: Path
    cameras: Mapping[str, str]
    left: frozenset[str]
    may_record: frozenset[str]
    devices: frozenset[str]
    ends_at: float | None = None


async def interrupted_takes(directory: Path) -> list[InterruptedTake]:
    """Find the interrupted takes in a directory of takes; one that cannot be read is passed over and logged.

    A take that ended is among them if it was cut short, files of it are still at their cameras, and nobody
    has tried to resume it.
    """
    found = [await _look_at(path, has_journal) for path, has_journal in await on_disk(_candidates, directory)]
    return [one for one in found if one is not None]


async def _look_at(path: Path, has_journal: bool) -> InterruptedTake | None:
    try:
        if not has_journal:
            manifest = await Manifest.load(path / MANIFEST_NAME)
            return _described(replay(manifest, (), str(path)), path) if _was_cut(manifest) else None
        journal = Journal(path)
        try:
            entries = await journal.reopen(make=False)
            left = await read_leftover(path / MANIFEST_NAME, entries, str(path), journal.boot)
        finally:
            await finish(journal.close(remove=False))
        return _described(left, path)
    except BusyError:
        return None  # whoever runs it is alive
    except AsynccamError as error:
        _LOG.warning("%s is not looked at: %s", path, error)
        return None


def _described(left: Leftover, path: Path) -> InterruptedTake | None:
    with_work = [record for record in left.manifest.cameras if left.has_work(record)]
    if not with_work:
        return None
    devices = {one.id for one in with_work if one.kind == "video" and "files" in one.features}
    return InterruptedTake(
        path.name,
        path,
        MappingProxyType({record.id: record.address for record in left.manifest.cameras}),
        frozenset(record.id for record in with_work),
        frozenset(left.may_record),
        frozenset(left.may_record & devices),
        _end_of(left),
    )


def _end_of(left: Leftover) -> float | None:
    if left.t0 is None or left.manifest.duration is None:
        return None
    wall, elapsed = left.scale or (unix_now(), WALL_CLOCK.elapsed())
    return elapsed + (left.t0 - wall) + left.manifest.duration


def _was_cut(manifest: Manifest) -> bool:
    cut = any(error.step == "end" for error in manifest.errors) and not manifest.resumed
    return cut and any(missing_files(record) for record in manifest.cameras)


def _candidates(directory: Path) -> Sequence[tuple[Path, bool]]:
    """In a thread: the takes in a directory, and which of them have a journal; links are not followed."""
    takes: list[tuple[bool, float, Path]] = []
    try:
        paths = sorted(absolute_path(directory).iterdir())
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            _LOG.warning("%s is not looked through: %s", directory, error)
        return ()
    for path in paths:
        try:
            if path.is_symlink() or not path.is_dir():
                continue
            with confined(Root.of(path)), Folder(path) as folder:
                has_journal = folder.find(JOURNAL_NAME) is not None
                if has_journal or folder.find(MANIFEST_NAME) is not None:
                    takes.append((has_journal, path.stat().st_mtime, path))
        except OSError as error:  # one that is gone, or closed to this user, hides no other
            _LOG.warning("%s is not looked at: %s", path, error)
    takes.sort(reverse=True)
    return [(path, has_journal) for has_journal, _, path in takes[:_MOST]]
