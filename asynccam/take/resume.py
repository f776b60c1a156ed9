"""Resuming of a take whose process died: stop what still records, download what exists. See docs/take.md."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, cast, runtime_checkable

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
    UsageError,
)
from asynccam.model.address import Address, host_and_port
from asynccam.model.camera import Camera
from asynccam.model.credentials import CREDENTIALS_LOG, Credentials
from asynccam.model.digest import SHA256, DigestName, checked_digest
from asynccam.model.events import Event, TakePhaseChanged
from asynccam.model.features import FeatureKey, Record, ReportsRecording, StopsOrphanedRecording
from asynccam.model.filenames import safe_name
from asynccam.model.identity import device_mismatch
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, MediaFile
from asynccam.model.manifest import (
    MANIFEST_NAME,
    MANIFEST_VERSION,
    CameraRecord,
    ErrorRecord,
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
from asynccam.take.outcome import infer_first_frames, judge_coverage, outcome_of, outcome_of_all
from asynccam.take.participant import SURELY_REFUSED, Emit, Participant, TakeLimits
from asynccam.take.store import (
    JOURNAL_NAME,
    Journal,
    TakeDirectory,
    TakeProgress,
    missing_files,
    read_progress,
    replay,
    write_manifest,
)
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)
_CREDENTIALS_LOG = logging.getLogger(CREDENTIALS_LOG)

_SAME_CLOCK: Final = 2.0
"""Seconds by which a device's clock, or its report of one first frame, may differ between two programs."""
_MEDIA_SUFFIXES: Final = frozenset({".mp4", ".mov", ".mkv", ".webm", ".ts", ".avi", ".jpg", ".jpeg", ".png"})
_FINISHED_AFTER: Final = 2.0
"""Seconds without a change after which a file is assumed to be finished."""
_POLL_INTERVAL: Final = 0.2
_MAX_CONCURRENT: Final = 256
"""Cameras that are resumed concurrently; a manifest from elsewhere may name any number."""
_MAX_INTERRUPTED: Final = 500
"""Takes that `interrupted_takes` reads, the most recently changed ones."""
_WITHHELD: Final = Credentials(environment=False)
_SYSTEMS_WITH_CREDENTIALS: Final = frozenset({"mediamtx", "snapshot", "nanocam"})

Hosts = Collection[str] | Mapping[str, Credentials | None]
"""``HOST`` or ``HOST:PORT``; as a mapping with credentials of their own, or None for those of the call."""


class Connector(Protocol):
    """The part of a `Session` that resuming a take needs."""

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Cameras that are connected, by id."""
        ...

    async def connect(self, address: str, *, credentials: Credentials | None = None) -> Camera:
        """Connect to the camera at an address."""
        ...

    def emit(self, event: Event) -> None:
        """Deliver an event to the subscribers."""
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
    """Finish a take whose process died: stop what still records, download what exists, close the manifest.

    Also for a take that ended with files or cameras it could not reach. An interrupted call can be repeated.
    A cancelled one, however often, still stops what may record, within `TakeLimits.cancel_timeout`, and
    leaves the files to the next call.

    Files get digests by the algorithm that the take was begun with, or SHA-256 where its package is not
    installed.

    Args:
        directory: The take's own directory.
        session: Connects to the cameras, at the addresses they had.
        credentials: For the services at ``hosts``; a take stores none.
        hosts: ``HOST`` or ``HOST:PORT`` of services that may be sent credentials; as a mapping, with their
            own. A host that only the take names is sent none, not even those of the environment. Hosts that
            the session has targets at need not be named.
        limits: Bounds of every wait.
        verify: Checks each file.
        emit: Receives the events; by default the session's.

    Returns:
        The manifest as it is on the disk; ``outcome`` is ``resumed`` if every camera's part is complete.

    Raises:
        StateError: The take has ended, and nothing is left to do.
        BusyError: The process that runs it, or another one that resumes it, is alive.
        StorageError: The directory is not a take, cannot be read or written, or has a link, a pipe or a
            device in the journal's place. Nothing outside of the directory is read or written.
        UsageError: One of ``hosts`` is not a host.
    """
    known_hosts = KnownHosts(hosts, credentials, session)
    take = TakeDirectory.existing(await on_disk(_take_root, Path(directory)))
    journal = Journal(take.root)
    settled = False
    try:
        entries = await journal.reopen()
        progress = await read_progress(take.path / MANIFEST_NAME, entries, str(take.path), journal.boot)
        if progress.is_settled:
            settled = True
            outcome = progress.manifest.outcome.value
            raise StateError(f"take {take.name} has ended ({outcome}); nothing of it is left to resume")
        resumption = _Resumption(
            progress, take, journal, session, known_hosts, limits, verify, emit or session.emit
        )
        with _polling_paused(session, [record.id for record in progress.manifest.cameras]):
            await resumption.run()
        settled = True
        return progress.manifest
    finally:
        await finish(journal.close(remove=settled))


class _Resumption:
    """One resuming of one take."""

    def __init__(
        self,
        progress: TakeProgress,
        directory: TakeDirectory,
        journal: Journal,
        session: Connector,
        hosts: "KnownHosts",
        limits: TakeLimits | None,
        verify: FileCheck | None,
        emit: Emit,
    ) -> None:
        self._progress = progress
        self._manifest = progress.manifest
        self._directory = directory
        self._journal = journal
        self._session = session
        self._hosts = hosts
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._limits = limits or TakeLimits()
        self._verify = verify
        self._emit = emit
        digest = _digest_of(self._manifest)
        self._collector = Collector(directory, self._limits, emit, verify, self._journal_camera, digest)
        self._clock = TakeClock(self._manifest, emit)
        self._scope = TaskScope(f"resuming {directory.name}", on_failure=lambda name, error: None)
        self._downloads: set[asyncio.Task[None]] = set()
        self._cancelled = False
        self._never_started = True
        self._t0 = self._latest_t0 = 0.0

    async def run(self) -> None:
        """Settle all cameras concurrently, then write the final manifest."""
        self._clock.pin(self._progress.scale)
        try:
            self._place_t0()
            self._manifest.version = MANIFEST_VERSION  # what is written from here on is of this version
            self._manifest.resumed.append(Moment.of(unix_now()))
            await self._journal.write("resumed", cameras=sorted(self._progress.may_record))
            await self._enter("resuming")
            records = {
                record.id: record for record in self._manifest.cameras if self._progress.has_work(record)
            }
            work = self._scope.spawn(self._settle_all(records), name="resume")
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError:
                await finish(self._stop_only(work))
                raise
            finally:
                await self._scope.aclose()
            work.result()
            self._judge(records)
            await self._enter("done")
        finally:
            self._clock.release()

    def _place_t0(self) -> None:
        """Set T0 in elapsed time, and the latest it can have been if only wall time is known."""
        now, t0 = WALL_CLOCK.elapsed(), self._progress.t0
        if t0 is None:
            self._t0 = self._latest_t0 = now
            return
        # T0 was decided on before this began.
        latest = now + self._progress.start_in
        if self._progress.scale is not None:
            wall, elapsed = self._progress.scale
            self._t0 = self._latest_t0 = min(elapsed + (t0 - wall), latest)
        else:
            # Wall time may have been set since.
            self._t0, self._latest_t0 = min(now + t0 - unix_now(), latest), latest
        self._never_started = self._t0 > now

    def _judge(self, records: Mapping[str, CameraRecord]) -> None:
        self._clock.check()
        infer_first_frames(self._manifest)
        start, duration = self._manifest.start, self._manifest.duration
        planned = None if start is None or duration is None else start.t0_local.unix + duration
        ends = [end for end in (planned, self._progress.stopping_at) if end is not None]
        until = min(ends, default=None)
        for record in records.values():
            judge_coverage(record, self._manifest, until)
            started = record.id in self._progress.commanded and not self._never_started
            unfinished = Outcome.FAILED if started else Outcome.CANCELLED
            record.outcome = outcome_of(record, unfinished, late=self._manifest.started_late(record))
        outcome = outcome_of_all(self._manifest)
        self._manifest.outcome = Outcome.RESUMED if outcome is Outcome.COMPLETE else outcome

    async def _stop_only(self, work: "asyncio.Task[None]") -> None:
        """After a cancellation: leave the files, but stop what may record within the time allowed."""
        self._cancelled = True
        for download in self._downloads:
            download.cancel()
        _, late = await asyncio.wait({work}, timeout=self._limits.cancel_timeout)
        if late:
            text = f"it could not be left in order within {self._limits.cancel_timeout:g} s"
            self._manifest.errors.append(ErrorRecord.of("resume", TimeoutError(text)))
        await self._scope.aclose()
        await self._enter("resuming")

    async def _enter(self, phase: str) -> None:
        self._manifest.phase = phase
        self._emit(TakePhaseChanged(take=self._directory.name, phase=phase))
        await write_manifest(self._directory, self._manifest, self._journal)

    async def _journal_camera(self, participant: Participant) -> None:
        await self._journal.write("camera", **participant.journal_facts())

    # -- one camera -----------------------------------------------------------------------------

    async def _settle_all(self, records: Mapping[str, CameraRecord]) -> None:
        jobs = {key: self._settle(record) for key, record in records.items()}
        for key, result in (await self._scope.gather(jobs, name="resume")).items():
            if isinstance(result, Exception):
                records[key].errors.append(ErrorRecord.of("resume", result))

    async def _settle(self, record: CameraRecord) -> None:
        """Connect to one camera, stop it, and download its files."""
        async with self._slots:
            may_record = record.id in self._progress.may_record
            camera = await self._reach(record)
            participant = ResumedParticipant(camera, record, self._limits, self._emit, self._local_time)
            participant.may_record = may_record
            participant.names = self._progress.names.get(record.id, ())
            if not self._progress.ended or may_record:
                await participant.stop_orphaned_recording()
            if may_record and (record.kind == "still" or "files" not in record.features):
                await self._find_local_files(participant)
            elif may_record and not isinstance(camera, _UnreachableCamera):
                stop_sent = self._progress.stopping_at is not None
                await participant.stop_leftover(self._t0, self._latest_t0, stop_sent=stop_sent)
            await self._journal_camera(participant)
            if not self._cancelled:
                download = self._scope.spawn(self._download(participant), name=f"files of {record.id}")
                self._downloads.add(download)
                await asyncio.wait({download})
                if not download.cancelled():
                    download.result()

    def _local_time(self, when: float) -> float:
        """Convert a time of the scale that T0 is on to this computer's."""
        start = self._manifest.start
        return when if start is None else when - (start.t0.unix - start.t0_local.unix)

    async def _reach(self, record: CameraRecord) -> Camera:
        """Return the camera, or an `_UnreachableCamera` after recording why it cannot be reached."""
        substitute = _UnreachableCamera(record)
        participant = Participant(substitute, record, self._limits, self._emit)
        with participant.recording_errors("resume"):
            async with deadline(self._limits.arm_timeout, f"connection to {record.id}"):
                camera = self._session.cameras.get(record.id)
                if camera is None:
                    camera = await self._connect(Address.parse(record.address))
            if camera.id != record.id:
                raise NotFoundError(f"{camera.id} is at {record.address} now, not {record.id}")
            mismatch = device_mismatch(record.address, record.identity, camera.info.identity)
            if mismatch:
                raise NotFoundError(mismatch)
            return camera
        return substitute

    async def _connect(self, address: Address) -> Camera:
        try:
            return await self._session.connect(str(address), credentials=self._hosts.credentials_for(address))
        except AuthenticationError as error:
            hint = self._hosts.hint(address)
            if not hint:
                raise
            raise AuthenticationError(f"{error}{hint}") from error

    async def _find_local_files(self, participant: Participant) -> None:
        """Record a picture, or the files of a recorder here, which ended with its process."""
        record, still = participant.record, participant.record.kind == "still"
        with participant.recording_errors("resume"), confined(self._directory.root):
            directory = self._directory.path / record.directory
            async with deadline(self._limits.stop_timeout, f"end of the files in {directory}"):
                found = await _finished_media(directory)
            if self._never_started:  # an empty file was made by arming, and is removed below
                found = [file for file in found if file.size]
            participant.may_record = False
            participant.files = tuple(MediaFile(each.path.name, each.size, path=each.path) for each in found)
            record.files = [
                FileRecord(name=file.name, source="local", size=file.size) for file in participant.files
            ]
            if still:
                # A picture whose download was interrupted is downloaded again, if the camera has kept it.
                record.files += [
                    FileRecord(name=name, source="device", state=FileState.FAILED)
                    for name in await on_disk(_partial_names, directory)
                ]
            if found:
                written = max(each.written for each in found)
                record.stopped_at = Moment.of(_time_written(written, record))
                record.stop_status = (
                    "picture taken" if still else "its recorder ended with the process of the take"
                )
            elif still and not self._never_started:
                raise RecordingError("its picture was not here when the process of the take died")

    async def _download(self, participant: Participant) -> None:
        """Adopt files that are here already, download the others, and check all that were not checked."""
        record = participant.record
        directory = self._directory.path / record.directory
        parts: dict[int, Path] = {}
        for index in missing_files(record):
            file = record.files[index]
            with participant.recording_errors("collect"):
                with confined(self._directory.root):
                    whole, part = await on_disk(_find_whole_or_part, directory, file.name, file.size)
                if whole is not None:
                    await self._collector.adopt(participant, file, whole)
                    continue
                if part is not None:
                    parts[index] = part
            file.state = FileState.PENDING
        for file in record.files:
            if file.state is FileState.ARRIVED and file.path and file.verdict is None and self._verify:
                await self._collector.adopt(participant, file, self._directory.path / file.path)
        participant.files = tuple(
            MediaFile(
                file.name, file.size, file.id, path=directory / file.name if file.source == "local" else None
            )
            for file in record.files
        )
        reachable = not isinstance(participant.camera, _UnreachableCamera)
        if reachable or all(file.source == "local" for file in record.files):
            await self._collector.collect(participant)
        for index, part in parts.items():
            await self._settle_part(participant, record.files[index], part)
        await self._collector.collect_unlisted(participant)
        await self._journal_camera(participant)

    async def _settle_part(self, participant: Participant, file: FileRecord, part: Path) -> None:
        """Remove the part of a download by the dead process if the file is here now; else record it."""
        with participant.recording_errors("collect"), confined(self._directory.root):
            if file.state is FileState.ARRIVED:
                await on_disk(_remove, part)
            elif file.part is None:
                file.part = self._directory.relative(part)
                file.received = await on_disk(_size, part)


def _digest_of(manifest: Manifest) -> DigestName | None:
    """Return the algorithm that a take was begun with; SHA-256 if this computer cannot compute that one."""
    # The manifest may be of another computer, or of a later version.
    try:
        return checked_digest(cast("DigestName | None", manifest.digest))
    except UsageError as error:
        _LOG.warning("take %s: files get SHA-256 digests: %s", manifest.take, error)
        return SHA256


class ResumedParticipant(Participant):
    """A camera that a process which died had started."""

    async def stop_leftover(self, t0: float, latest: float, *, stop_sent: bool) -> None:
        """Stop what the process that died had started, and record which files it made.

        Unlike `stop`, a refusal is not a failure: the camera may have ended by itself meanwhile.

        ``t0`` is T0 by elapsed time, as far as it is known; a scheduled start may still be ahead. ``latest``
        is the latest T0 can have been: after ``t0`` if only wall time is known. If the process may have sent
        a stop, an idle camera was stopped in order, though the answer was not received; else it ended by
        itself.
        """
        self.limit_stop(max(t0, latest))
        if await self._records_for_another():
            text = f"{self.camera.id} records for somebody else now; that recording is left alone"
            self.fail("resume", TakenOverError(text))
            await self._find_files()
            self.may_record = False
            return
        if self.scheduled and WALL_CLOCK.elapsed() < t0 + self._limits.late_start_grace:
            ahead = WALL_CLOCK.elapsed() < t0
            await self._cancel_scheduled_start(t0)
            if self.record.stopped_at is None and ahead:  # it did not start
                self.may_record = False
                return
        else:
            try:
                await self._send_stop(self._limits.stop_timeout)
            except SURELY_REFUSED as error:
                _LOG.info("%s answered a stop after its controller's death with: %s", self.camera.id, error)
                self.record.stop_status = str(error)
            except Exception as error:  # noqa: BLE001 - as in `recording_errors`; retried once if it records
                await self._recover_from_failed_stop(error, self._limits.stop_timeout)
            grace_ends = latest + self._limits.late_start_grace
            if self.scheduled and not self.files and WALL_CLOCK.elapsed() < grace_ends:
                await self._stop_late_start(latest)
        if not self.files:
            await self._find_files()
        if self.record.stopped_at is None and self.files and stop_sent:
            status = await self._status()
            if status is not None and status.state is CameraState.READY:
                self.record.stopped_at = Moment.of(unix_now())  # no later than this
        self.may_record = False

    async def _records_for_another(self) -> bool:
        """Return whether the device reports a first frame that is later than the one of this take.

        Both are times of its own clock; if that was set meanwhile they prove nothing, and it is stopped.
        """
        first, clock = self.record.device_first_frame, self.record.clock
        recorder = self.camera.feature(Record)
        if first is None or clock is None or not isinstance(recorder, ReportsRecording):
            return False
        try:
            async with deadline(self._limits.status_timeout, f"status of {self.camera.id}"):
                report = await recorder.recording_report(timeout=self._limits.status_timeout)
                status = await self.camera.status()
        except Exception as error:  # noqa: BLE001 - as in `recording_errors`; unknown, so it is stopped
            _LOG.info("%s did not report what it records: %s", self.camera.id, error)
            return False
        if not report.recording or report.first_frame is None or status.device_time is None:
            return False
        now = unix_now()
        expected = clock.line().interval(now)  # the longer ago it was measured, the wider
        offset = status.device_time - now
        was_set = not expected.low - _SAME_CLOCK <= offset <= expected.high + _SAME_CLOCK
        return not was_set and report.first_frame.time - first.unix > _SAME_CLOCK

    async def _stop_late_start(self, until: float) -> None:
        """Stop a camera that did not record yet, if it starts by a moment of elapsed time after all."""
        if WALL_CLOCK.elapsed() >= until:
            return
        await sleep_until(until)
        status = await self._status()
        if status is not None and status.state is CameraState.RECORDING:
            await self._stop_recording(self._limits.stop_timeout)

    async def stop_orphaned_recording(self) -> None:
        """End what a process that died left running at the camera and a stop would not reach."""
        record = self.camera.feature(Record) if self.camera.supports(Record) else None
        if isinstance(record, StopsOrphanedRecording):
            with self.recording_errors("stop"):
                async with deadline(self._limits.stop_timeout, f"end of what runs at {self.camera.id}"):
                    await record.stop_orphaned_recording(timeout=self._limits.stop_timeout)


class _UnreachableCamera(Camera):
    """Substitute for a camera that cannot be reached."""

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


# -- hosts that may be sent credentials -------------------------------------------------------------


@runtime_checkable
class KnowsCredentials(Protocol):
    """A `Session`, which may know the credentials of a host from its fleet."""

    def credentials_at(self, address: Address) -> Credentials | None:
        """Return the credentials for a host that was named to the session, or None."""
        ...


@runtime_checkable
class PausesPolling(Protocol):
    """A `Session`, which polls its cameras."""

    def pause_polling(self, cameras: Collection[str]) -> AbstractContextManager[None]:
        """Do not poll these cameras during the block."""
        ...


def _polling_paused(session: object, cameras: Collection[str]) -> AbstractContextManager[None]:
    # A device that serves one connection at a time must be free for the stop.
    return session.pause_polling(cameras) if isinstance(session, PausesPolling) else nullcontext()


class KnownHosts:
    """Credentials by host: a host that only a take's manifest names is sent none.

    ``credentials`` are for ``hosts`` without their own; other hosts may be known to the session.
    """

    def __init__(self, hosts: Hosts, credentials: Credentials | None, session: object) -> None:
        named = {hosts: None} if isinstance(hosts, str) else hosts
        own = named if isinstance(named, Mapping) else dict.fromkeys(named)
        self._named = {host_and_port(name): found or credentials for name, found in own.items()}
        self._given = credentials
        self._session = session
        self._warned: set[str] = set()

    def credentials_for(self, address: Address) -> Credentials | None:
        """Return the credentials that may be sent to an address; empty ones for an unknown host.

        With None, and for a host that was named, a system's environment variables count as well.
        """
        host = address.host.lower()
        for key in ((host, address.port), (host, None)):
            if key in self._named:
                return self._named[key]
        if isinstance(self._session, KnowsCredentials):
            found = self._session.credentials_at(address)
            if found is not None:
                return found
        if self._given is not None and address.system in _SYSTEMS_WITH_CREDENTIALS:
            self._warn(address.authority)
        return _WITHHELD

    def hint(self, address: Address) -> str:
        """Return how to send credentials to a host that refused to answer without, or ``""``."""
        if self.credentials_for(address) is not _WITHHELD:
            return ""
        return (
            f"; no credentials were sent to {address.authority}, which only the take names: if it is yours,"
            f" name it (--host {address.authority}, or hosts=)"
        )

    def _warn(self, host: str) -> None:
        if host not in self._warned:
            self._warned.add(host)
            _CREDENTIALS_LOG.warning(
                "the token or key is not sent to %s, which only the take names; if it is yours, name it"
                " (--host %s, or hosts=)",
                host,
                host,
            )


# -- takes that were interrupted --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InterruptedTake:
    """A take that no process works on and that is not finished."""

    name: str
    directory: Path
    cameras: Mapping[str, str]  # addresses of all its cameras, by id
    left: frozenset[str]  # ids of the cameras of which something is left to do
    may_record: frozenset[str]  # ids of the cameras that may still record
    # Ids of those in ``may_record`` that keep their recordings themselves. A recorder on this computer has
    # ended with its process.
    devices: frozenset[str]
    ends_at: float | None = None  # elapsed time at which the take was to end, or None if it had no length


async def interrupted_takes(directory: Path) -> list[InterruptedTake]:
    """Find the interrupted takes in a directory of takes; one that cannot be read is logged and left out.

    A take that ended is among them if it was cut short, files of it are still at their cameras, and it was
    never resumed.
    """
    candidates = await on_disk(_take_candidates, directory)
    found = [await _inspect(path, has_journal) for path, has_journal in candidates]
    return [take for take in found if take is not None]


async def _inspect(path: Path, has_journal: bool) -> InterruptedTake | None:
    try:
        if not has_journal:
            manifest = await Manifest.load(path / MANIFEST_NAME)
            return _interrupted(replay(manifest, (), str(path)), path) if _was_cut_short(manifest) else None
        journal = Journal(path)
        try:
            entries = await journal.reopen(make=False)
            progress = await read_progress(path / MANIFEST_NAME, entries, str(path), journal.boot)
        finally:
            await finish(journal.close(remove=False))
        return _interrupted(progress, path)
    except BusyError:
        return None  # the process that runs it is alive
    except AsynccamError as error:
        _LOG.warning("%s is not looked at: %s", path, error)
        return None


def _interrupted(progress: TakeProgress, path: Path) -> InterruptedTake | None:
    manifest = progress.manifest
    with_work = [record for record in manifest.cameras if progress.has_work(record)]
    if not with_work:
        return None
    devices = {record.id for record in with_work if record.kind == "video" and "files" in record.features}
    ends_at = None
    if progress.t0 is not None and manifest.duration is not None:
        wall, elapsed = progress.scale or (unix_now(), WALL_CLOCK.elapsed())
        ends_at = elapsed + (progress.t0 - wall) + manifest.duration
    return InterruptedTake(
        path.name,
        path,
        MappingProxyType({record.id: record.address for record in manifest.cameras}),
        left=frozenset(record.id for record in with_work),
        may_record=frozenset(progress.may_record),
        devices=frozenset(progress.may_record & devices),
        ends_at=ends_at,
    )


def _was_cut_short(manifest: Manifest) -> bool:
    cut_short = any(error.step == "end" for error in manifest.errors) and not manifest.resumed
    return cut_short and any(missing_files(record) for record in manifest.cameras)


# -- files of a recorder here -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """A file on the disk; ``written`` is when it last was, Unix seconds of the file system."""

    path: Path
    size: int
    written: float


async def _finished_media(directory: Path) -> list[_Found]:
    """Return the recordings in a camera's directory, once nothing has written to them for a while."""
    found = await on_disk(_media_in, directory)
    # Not by their times, which are the file system's: the clock may have been set between them.
    unchanged_since = time.monotonic()
    while found and time.monotonic() - unchanged_since < _FINISHED_AFTER:
        await asyncio.sleep(_POLL_INTERVAL)
        before, found = found, await on_disk(_media_in, directory)
        if found != before:
            unchanged_since = time.monotonic()
    return found


def _time_written(written: float, record: CameraRecord) -> float:
    """Convert a file's time of modification to the manifest's scale.

    It is of the system's clock as it was then. If that was set later, the time is on the scale already.
    """
    began = record.commanded_at.unix if record.commanded_at else 0.0
    now = unix_now()
    possible = [each for each in (written, written - WALL_CLOCK.step()) if began <= each <= now]
    return possible[0] if possible else min(max(written, began), now)


# -- in a thread ------------------------------------------------------------------------------------


def _take_root(directory: Path) -> Root:
    with storage_errors("read", directory):
        root = Root.of(absolute_path(directory))
        with confined(root), Folder(root.given) as folder:
            found = folder.exists(MANIFEST_NAME) or folder.exists(JOURNAL_NAME)
    if not found:
        raise StorageError(f"{directory} is not the directory of a take: it has no manifest and no journal")
    return root


def _take_candidates(directory: Path) -> list[tuple[Path, bool]]:
    """Return the takes in a directory, and whether they have a journal; links are not followed."""
    takes: list[tuple[bool, float, Path]] = []
    try:
        paths = sorted(absolute_path(directory).iterdir())
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            _LOG.warning("%s is not looked through: %s", directory, error)
        return []
    for path in paths:
        try:
            if path.is_symlink() or not path.is_dir():
                continue
            with confined(Root.of(path)), Folder(path) as folder:
                has_journal = folder.find(JOURNAL_NAME) is not None
                if has_journal or folder.find(MANIFEST_NAME) is not None:
                    takes.append((has_journal, path.stat().st_mtime, path))
        except OSError as error:  # one that was removed, or is not readable, hides no other
            _LOG.warning("%s is not looked at: %s", path, error)
    takes.sort(reverse=True)
    return [(path, has_journal) for has_journal, _, path in takes[:_MAX_INTERRUPTED]]


def _media_in(directory: Path) -> list[_Found]:
    """Return the recordings in a camera's directory, ordered by name."""
    with storage_errors("read", directory), Folder(directory) as folder:
        found = folder.files()
    return [
        _Found(directory / name, status.st_size, status.st_mtime)
        for name, status in found.items()
        if Path(name).suffix.lower() in _MEDIA_SUFFIXES
    ]


def _partial_names(directory: Path) -> list[str]:
    """Return the names of the files of which a directory has a part only."""
    with storage_errors("read", directory), Folder(directory) as folder:
        return [name.removesuffix(".part") for name in folder.files() if name.endswith(".part")]


def _find_whole_or_part(directory: Path, name: str, size: int | None) -> tuple[Path | None, Path | None]:
    """Return the complete file of a name, or its part, renamed out of the way of a new download."""
    whole = directory / safe_name(name)
    part, kept = f"{whole.name}.part", f"{whole.name}.interrupted"
    with storage_errors("look for", whole), Folder(directory, make=True) as folder:
        found = folder.find(whole.name)
        if found is not None and size in (None, found.st_size):
            return whole, None
        if folder.find(part) is not None:
            folder.replace(part, kept)
        return None, directory / kept if folder.find(kept) is not None else None


def _remove(path: Path) -> None:
    with storage_errors("remove", path), Folder(path.parent) as folder:
        folder.remove(path.name)


def _size(path: Path) -> int:
    with storage_errors("read", path), Folder(path.parent) as folder:
        return folder.status(path.name).st_size
