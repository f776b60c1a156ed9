"""One camera's part in a take: its steps, bounded by `TakeLimits`, with every result and error recorded."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

from asynccam.errors import (
    AuthenticationError,
    BusyError,
    ConnectionError,
    DamagedFileError,
    DeviceError,
    RecordingError,
    StateError,
    TakenOverError,
    TimeoutError,
    UsageError,
)
from asynccam.model.camera import Camera
from asynccam.model.events import CameraFailed, ClockMeasured, Event, RecordingStarted, RecordingStopped
from asynccam.model.features import (
    AnswerMeaning,
    ArmedStart,
    ChecksPictures,
    DeviceClock,
    DeviceMoment,
    Files,
    Record,
    RecordPlan,
    ReportsRecording,
    ScheduledStart,
    Snapshot,
    StartReport,
    StopReport,
    SupportsRecord,
    TakesOver,
)
from asynccam.model.filenames import unique_path
from asynccam.model.info import CameraState, CameraStatus, ClockOffset, LocalFile, MediaFile
from asynccam.model.manifest import (
    CameraRecord,
    ClockRecord,
    DeviceMomentRecord,
    EarlyEndRecord,
    ErrorRecord,
    FileRecord,
    GapRecord,
    LateBeginRecord,
    Moment,
    VerdictRecord,
    record_bytes,
)
from asynccam.runtime.disk import on_disk, rename_new, storage_errors
from asynccam.runtime.tasks import TaskScope, finish, turn_limiter
from asynccam.runtime.timing import deadline, sleep_until
from asynccam.take.outcome import note_seen, note_status
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)

Emit = Callable[[Event], None]

_CREATION_TIME_ERROR: Final = 1.0
"""Seconds a file's creation time may be off: some devices give whole seconds."""
_FIRST_CLOCK_SAMPLES: Final = 8
"""Samples of a clock that a take always waits for; more are taken while there is time."""
_MORE_SAMPLES_TIMEOUT: Final = 1.5
"""Seconds that further samples of a clock may take while a take is armed."""
_SAMPLES_WHILE_RECORDING: Final = 4
_QUIET_BEFORE_T0: Final = 0.4
"""Seconds before T0 from which on no device is asked: the starts are to leave on time."""
_FIRST_POLL_AFTER_T0: Final = 0.1
"""Seconds from T0 to the first poll, and from there to the second."""
_LAST_POLL_BEFORE_T0: Final = 0.5
"""Seconds before T0 at which a scheduled device is asked whether it records already."""
_POLL_INTERVAL: Final = 0.5
"""Seconds between two polls, of a recording or for a file that a device may still be finishing."""
_MIN_STOP_TIMEOUT: Final = 0.05
"""Seconds that a stop gets though no time is left: a late stop is better than none."""
SURELY_REFUSED: Final = (DeviceError, AuthenticationError, BusyError, UsageError)
"""Errors after which the request has certainly not been carried out."""
_PICTURE_TAKEN: Final = "picture taken"


@dataclass(frozen=True, slots=True)
class TakeLimits:
    """Bounds of everything a take waits for; all times in seconds.

    Attributes:
        clock_samples: Round trips for the first measurement of each clock; only 8 where they are slow.
        clock_interval: Between two measurements of a clock while cameras record; of the time server's also
            while the take is armed.
        clock_timeout: For measuring all clocks, and for asking the NTP server.
        arm_timeout: For arming one camera.
        start_timeout: For one camera to accept the start once it has been sent.
        start_tolerance: How late after T0 a start may leave this computer; a camera whose start leaves later
            is incomplete. A running loop is late by some milliseconds, by tenths of a second only if
            something blocks it, and a device that starts by its own clock may be late by 0.1 s.
        start_answer_grace: How long past T0 the start waits for cameras that have not answered; they may
            still answer later, up to ``start_timeout``. A camera that has stopped waits as long for
            the others before its files are downloaded.
        late_start_grace: How long past T0 a scheduled start that was cancelled may still begin.
        stop_timeout: For one camera to stop; phones pack the file before they answer. Where the stop fails,
            all that follows (status, second stop, list of files) gets what is left of it, and no more than
            ``status_timeout`` beyond it.
        status_timeout: For the status of a camera after an error.
        stall_timeout: For a transfer without one new byte. There is no total timeout.
        verify_timeout: For checking one file.
        cancel_timeout: For stopping and collecting after a cancellation, all together.
        transfers: Maximum number of concurrent downloads.
        measurements: Maximum number of clocks measured concurrently; more of them disturb one another.
    """

    clock_samples: int = 32
    clock_interval: float = 60.0
    clock_timeout: float = 10.0
    arm_timeout: float = 30.0
    start_timeout: float = 60.0
    start_tolerance: float = 0.25
    start_answer_grace: float = 5.0
    late_start_grace: float = 1.0
    stop_timeout: float = 75.0
    status_timeout: float = 10.0
    stall_timeout: float = 630.0
    verify_timeout: float = 120.0
    cancel_timeout: float = 120.0
    transfers: int = 16
    measurements: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise UsageError(f"{field.name} must be > 0, not {value}")


class Participant:
    """One camera in a take. No step raises for what a camera does: errors are recorded and emitted."""

    def __init__(
        self,
        camera: Camera,
        record: CameraRecord,
        limits: TakeLimits,
        emit: Emit,
        computer_time: Callable[[float], float] = lambda when: when,
    ) -> None:
        self.camera = camera
        self.record = record  # record of the camera in the manifest, kept up to date
        # Files that the camera reported at its stop, parallel to ``record.files``.
        self.files: tuple[MediaFile, ...] = ()
        self.names: tuple[str, ...] = ()  # file names that the camera announced at its start
        pictures_only = camera.supports(Snapshot) and not camera.supports(Record)
        self._snapshot = SnapshotRecorder(camera) if pictures_only else None
        if self._snapshot is not None:
            record.kind = "still"
        # Whether the camera starts by its own clock.
        self.scheduled = camera.supports(ScheduledStart) and self._snapshot is None
        self.armed: ArmedStart | None = None  # the armed start until it is released and answered, or None
        self._released_at = 0.0
        self._release_error: Exception | None = None
        # Task that waits for the answer to the start, or None.
        self.answer_task: asyncio.Task[None] | None = None
        # Whether a start may have reached the camera and nothing says that it did not begin.
        self.may_record = False
        self._idle = False
        self._stop_deadline = math.inf  # in the loop's time
        self._limits = limits
        self._emit = emit
        self._computer_time = computer_time

    # -- clock ----------------------------------------------------------------------------------

    async def measure_clock(self, slots: asyncio.Semaphore) -> None:
        """Measure the camera's clock, if it has one.

        All `TakeLimits.clock_samples` are taken only if the first of them show that this is quick.
        """
        if not self.camera.supports(DeviceClock):
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        first = min(_FIRST_CLOCK_SAMPLES, self._limits.clock_samples)
        with self.recording_errors("clock"):
            await self._measure(first, self._limits.clock_timeout, slots)
        took = loop.time() - began
        further = self._limits.clock_samples - first
        left = min(_MORE_SAMPLES_TIMEOUT, self._limits.clock_timeout - took)
        if self.record.clock is not None and further > 0 and took * further / first <= left:
            await self._measure_more(further, left, slots)

    async def measure_clock_again(self, slots: asyncio.Semaphore) -> None:
        """Measure the clock once more, for its drift."""
        if self.record.clock is not None:
            await self._measure_more(_FIRST_CLOCK_SAMPLES, self._limits.clock_timeout, slots)

    async def measure_clock_while_recording(self, slots: asyncio.Semaphore) -> None:
        """Measure the clock by a few samples, so that the recording is not disturbed."""
        if self.record.clock is not None and self.accepted and self.record.stop_commanded_at is None:
            await self._measure_more(_SAMPLES_WHILE_RECORDING, self._limits.status_timeout, slots)

    async def _measure(self, samples: int, timeout: float, slots: asyncio.Semaphore) -> None:
        async with deadline(timeout, f"clock of {self.camera.id}"), slots:
            offset = await self.camera.feature(DeviceClock).measure_clock(samples=samples)
        self._add_measurement(offset)

    async def _measure_more(self, samples: int, timeout: float, slots: asyncio.Semaphore) -> None:
        try:
            await self._measure(samples, timeout, slots)
        except Exception as error:  # noqa: BLE001 - as in `recording_errors`; the first measurement is kept
            _LOG.info("the clock of %s was not measured again: %s", self.camera.id, error)

    def _add_measurement(self, offset: ClockOffset) -> None:
        known = self.record.clock
        self.record.clock = ClockRecord.of(offset) if known is None else known.with_measurement(offset)
        self._emit(ClockMeasured(camera=self.camera.id, offset=offset))

    # -- arming ---------------------------------------------------------------------------------

    async def arm(self, directory: Path, duration: float | None) -> None:
        """Prepare the start, so that only its command is left to send."""
        plan = RecordPlan(directory, duration, self._limits.start_timeout, self._computer_time)
        with self.recording_errors("arm"):
            async with deadline(self._limits.arm_timeout, f"readiness of {self.camera.id} to start"):
                self.armed = await self._recorder().arm(plan)
        if isinstance(self.armed, TakesOver) and self.armed.took_over:
            self.record.took_over = True
            _LOG.warning("%s", self.armed.took_over)

    async def disarm(self) -> None:
        """Release what arming opened."""
        armed, self.armed = self.armed, None
        if armed is None:
            return
        with self.recording_errors("disarm"):
            async with deadline(self._limits.status_timeout, f"end of the armed start of {self.camera.id}"):
                await armed.aclose()

    # -- the start ------------------------------------------------------------------------------

    def release(self, at: float | None) -> None:
        """Send the start without waiting; `await_answer` does the rest, since this runs in a tight loop."""
        assert self.armed is not None
        self.may_record = True
        self._released_at = WALL_CLOCK.elapsed()
        try:
            self.armed.release(at)
        except Exception as error:  # noqa: BLE001 - as in `recording_errors`, without its cost in the loop
            self._release_error = error

    def record_lateness(self, t0: float, tolerance: float, cause: Callable[[float], str]) -> None:
        """Record how many seconds after T0 (elapsed time) the start left, and an error above the tolerance.

        ``cause`` returns what delayed the start until a moment of elapsed time, to append to the error.
        """
        lateness = self.record.start_lateness = self._released_at - t0
        if lateness > tolerance:
            text = f"its start left {lateness:.2f} s after T0, at most {tolerance:g} s are allowed"
            self.fail("start", TimeoutError(text + cause(self._released_at), maybe_executed=True))

    async def await_answer(self) -> None:
        """Wait for the camera's answer to the start, record it, and disarm."""
        assert self.armed is not None
        self.record.commanded_at = Moment.of(WALL_CLOCK.at(self._released_at))
        with self.recording_errors("start"):
            try:
                report = await self._receive_answer(self.armed)
            except Exception as error:
                self.may_record = self._snapshot is None and _may_have_started(error)
                raise
            finally:
                await finish(self.disarm())
            self._record_start(report)

    async def _receive_answer(self, armed: ArmedStart) -> StartReport:
        if self._release_error is not None:
            raise self._release_error
        awaited = f"answer of {self.camera.id} to the start"
        async with deadline(_with_grace(self._limits.start_timeout), awaited, maybe_executed=True):
            return await armed.accepted()

    def _record_start(self, report: StartReport) -> None:
        record = self.record
        record.commanded_at = Moment.of(report.commanded_at)
        record.accepted_at = Moment.of(report.accepted_at)
        record.scheduled_for = Moment.maybe(report.scheduled_for)
        record.start_status = report.status
        record.frame_drift = report.frame_drift
        record.answer_meaning = AnswerMeaning(report.meaning).value
        record.already_recording = report.already_recording
        self.names = report.names
        if report.already_recording:
            self.may_record = not report.started_by_other
            then = "the stop of this take ends it" if self.may_record else "it is left alone and records on"
            text = f"{self.camera.id} was recording already, so somebody else's recording runs; {then}"
            self.fail("start", BusyError(text))
        for each in report.seen:
            note_status(record, each)
        self._record_device_moment(report.first_frame)
        self._record_first_frame(report.first_frame_at, report.first_frame_bound)
        due = None if report.scheduled_for is None else self._computer_time(report.scheduled_for)
        self._emit(RecordingStarted(camera=self.camera.id, scheduled_for=report.scheduled_for, due=due))

    @property
    def is_answer_pending(self) -> bool:
        """Return whether the answer to the start is awaited."""
        return self.answer_task is not None and not self.answer_task.done()

    @property
    def accepted(self) -> bool:
        """Return whether the camera accepted the start."""
        return self.record.accepted_at is not None

    # -- while it records -----------------------------------------------------------------------

    @property
    def can_report_recording(self) -> bool:
        """Return whether the camera accepted the start and can be asked whether it records."""
        return self.accepted and self._snapshot is None and isinstance(self._recorder(), ReportsRecording)

    async def confirm_recording(self, t0: float, slots: asyncio.Semaphore) -> None:
        """Poll the device until it reports that it records, but not shortly before T0 (loop time)."""
        recorder = self._recorder()
        if not isinstance(recorder, ReportsRecording):
            return
        loop = asyncio.get_running_loop()
        if loop.time() < t0 - _LAST_POLL_BEFORE_T0:
            # A device that records before its time was started by another controller, or its clock is wrong.
            await turn_limiter().sleep(t0 - _LAST_POLL_BEFORE_T0 - loop.time())
            async with slots:
                if loop.time() < t0 - _QUIET_BEFORE_T0:
                    await self._poll_recording(recorder)
        await turn_limiter().sleep(max(0.0, t0 + _FIRST_POLL_AFTER_T0 - loop.time()))
        pause, until = _FIRST_POLL_AFTER_T0, loop.time() + self._limits.status_timeout
        while loop.time() < until:
            async with slots:
                if await self._poll_recording(recorder):
                    return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _POLL_INTERVAL)

    async def _poll_recording(self, recorder: ReportsRecording) -> bool:
        try:
            async with deadline(self._limits.status_timeout, f"status of {self.camera.id}"):
                report = await recorder.recording_report(timeout=self._limits.status_timeout)
        except Exception as error:  # noqa: BLE001 - as in `recording_errors`; it stays unknown
            _LOG.info("%s did not report whether it records: %s", self.camera.id, error)
            return False
        note_status(self.record, report)
        self._record_device_moment(report.first_frame)
        return report.recording

    # -- the stop -------------------------------------------------------------------------------

    async def stop(self, *, answer_timeout: float | None, t0: float) -> None:
        """Stop the camera if it may record, and record which files it made.

        Args:
            answer_timeout: Seconds to wait for the answer to the start, or None for what is left of
                `TakeLimits.start_timeout`. A camera that does not answer until then is stopped as well.
            t0: T0 by elapsed time.
        """
        try:
            await self._wait_for_answer(answer_timeout)
            if not self.may_record or (self._snapshot is not None and not self.accepted):
                return  # nothing to stop: a picture that was not taken has no recording
            self.limit_stop(t0)
            if self.scheduled and WALL_CLOCK.elapsed() < t0:
                await self._cancel_scheduled_start(t0)
            elif self.accepted:
                await self._stop_recording(self._limits.stop_timeout)
            else:
                await self._stop_unanswered()
        except asyncio.CancelledError:
            self.record_not_stopped()
            raise

    @property
    def may_still_record(self) -> bool:
        """Return whether it may have started, and neither a stop's answer nor its status says it is idle."""
        started = self.may_record and self._snapshot is None
        return started and self.record.stopped_at is None and not self._idle

    def record_not_stopped(self) -> None:
        """Record that the camera may still record, unless an error of the stop is recorded."""
        if not any(error.step == "stop" for error in self.record.errors):
            text = f"no time was left to stop {self.camera.id}; it may still record"
            self.fail("stop", TimeoutError(text))

    def limit_stop(self, t0: float) -> None:
        """Bound everything that stopping takes from now on; a cancelled schedule is watched until T0."""
        ahead = max(0.0, t0 + self._limits.late_start_grace - WALL_CLOCK.elapsed()) if self.scheduled else 0.0
        total = _with_grace(self._limits.stop_timeout) + self._limits.status_timeout
        self._stop_deadline = asyncio.get_running_loop().time() + ahead + total

    def _time_left(self, timeout: float) -> float:
        return max(0.0, min(timeout, self._stop_deadline - asyncio.get_running_loop().time()))

    async def _wait_for_answer(self, timeout: float | None) -> None:
        if self.answer_task is None or self.answer_task.done():
            return
        _, pending = await asyncio.wait({self.answer_task}, timeout=timeout)
        if pending:
            self.answer_task.cancel()
            await asyncio.wait(pending)
            text = f"no answer of {self.camera.id} to the start before it was stopped"
            self.fail("start", TimeoutError(text, maybe_executed=True))

    async def _stop_unanswered(self) -> None:
        """Stop a camera that may not have received the start, unless it reports that it is idle."""
        status = await self._status()
        if status is None:
            await self._stop_recording(self._limits.status_timeout)
        elif status.state is not CameraState.READY:
            await self._stop_recording(self._limits.stop_timeout)

    async def _cancel_scheduled_start(self, t0: float) -> None:
        """Stop before T0, and check after T0: some devices start even so."""
        try:
            await self._send_stop(self._limits.stop_timeout)
        except Exception as error:  # noqa: BLE001 - many devices refuse to stop what has not begun
            _LOG.info("%s answered a stop before T0 with: %s", self.camera.id, error)
        try:
            await sleep_until(t0 + self._limits.late_start_grace)
            status = await self._status()
        except asyncio.CancelledError:
            self.record.stopped_at = None  # an answer before T0 does not say that it stays idle
            raise
        if status is None:
            self.record.stopped_at = None
            text = f"{self.camera.id} does not say whether its scheduled start was cancelled"
            self.fail("stop", TimeoutError(text, maybe_executed=True))
        elif status.state is CameraState.RECORDING:
            self.record.stopped_at = None
            await self._stop_recording(self._limits.stop_timeout)

    async def _stop_recording(self, timeout: float) -> None:
        """Stop the recording; if that fails, try a second time or list its files."""
        try:
            await self._send_stop(timeout)
        except Exception as error:  # noqa: BLE001 - recorded there, unless the second try succeeds
            await self._recover_from_failed_stop(error, timeout)
        if self.record.stopped_at is not None and not self.files:
            self.fail("stop", RecordingError(f"{self.camera.id} stopped and named no file"))

    async def _recover_from_failed_stop(self, error: Exception, timeout: float) -> None:
        """Stop once more if the camera still records; otherwise record the error and look for files."""
        status = await self._status()
        if isinstance(error, TakenOverError):
            self.may_record = (
                False  # another controller's recording must not be stopped, also not by `resume`
            )
            self.fail("stop", error)
        elif status is not None and status.state in (CameraState.RECORDING, CameraState.STOPPING):
            with self.recording_errors("stop"):
                await self._send_stop(timeout)
                _LOG.info("%s stopped at the second try; the first: %s", self.camera.id, error)
                return
        else:
            self.fail("stop", error)
        # Without valid credentials files may still be listed: services differ in what needs them.
        if self.accepted and (status is not None or isinstance(error, AuthenticationError)):
            await self._find_files()

    async def _send_stop(self, timeout: float) -> None:
        awaited = f"answer of {self.camera.id} to the stop"
        timeout = max(self._time_left(timeout), _MIN_STOP_TIMEOUT)
        async with deadline(_with_grace(timeout), awaited, maybe_executed=True):
            report = await self._recorder().stop(timeout=timeout)
        self._record_stop(report)

    def _record_stop(self, report: StopReport) -> None:
        record = self.record
        record.stop_commanded_at = Moment.of(report.commanded_at)
        record.stopped_at = Moment.of(report.stopped_at)
        record.stop_status = report.status
        self._record_device_moment(report.first_frame)
        self._record_first_frame(report.first_frame_at, report.first_frame_bound)
        record.gaps = [
            GapRecord(
                began_at=Moment.of(gap.began),
                ended_at=Moment.maybe(gap.ended),
                restarted=gap.restarted,
                reason=gap.reason,
            )
            for gap in report.gaps
        ]
        early, late = report.ended_early, report.begins_late
        if early is not None:
            missing = report.commanded_at - early.at if early.seconds is None else early.seconds
            record.ended_early = EarlyEndRecord(at=Moment.of(early.at), seconds=missing, reason=early.reason)
        if late is not None:
            record.begins_late = LateBeginRecord(
                at=Moment.of(late.at), seconds=late.seconds, reason=late.reason
            )
        record.contradictions_seen = list(report.contradictions)
        record.spoiled_frames = report.spoiled_frames
        record.frame_drift = report.frame_drift
        self._record_files(report.files)
        names = tuple(file.name for file in report.files)
        self._emit(RecordingStopped(camera=self.camera.id, files=names))

    async def _find_files(self) -> None:
        """List the device's files, to find those that an unanswered stop did not name.

        That is the file the start named, once the device has finished it, or else all made since the start.
        """
        if not self.camera.supports(Files):
            return
        with self.recording_errors("stop"):
            left = self._time_left(self._limits.status_timeout)
            async with deadline(left, f"list of files of {self.camera.id}"):
                listed = await self.camera.feature(Files).list_files()
                while self.names and not any(file.name in self.names for file in listed):
                    await asyncio.sleep(_POLL_INTERVAL)
                    listed = await self.camera.feature(Files).list_files()
            began = self.record.commanded_at.unix if self.record.commanded_at else 0.0
            since = began + self._device_offset(began) - _CREATION_TIME_ERROR
            if self.names:  # the other files may belong to other cameras of the service
                self._record_files(tuple(file for file in listed if file.name in self.names))
            else:
                made = tuple(file for file in listed if file.created and file.created >= since)
                self._record_files(made)

    def _device_offset(self, when: float) -> float:
        """Return the camera's clock minus this computer's; if not measured, it is assumed to be T0's."""
        if self.record.clock is not None:
            return self.record.clock.line().offset(when)
        return when - self._computer_time(when)

    async def _status(self) -> CameraStatus | None:
        left = self._time_left(self._limits.status_timeout)
        if left > 0:
            with self.recording_errors("status"):
                async with deadline(left, f"status of {self.camera.id}"):
                    status = await self.camera.status()
                self._idle = status.state is CameraState.READY
                return status
        return None

    # -- the record -----------------------------------------------------------------------------

    def journal_facts(self) -> dict[str, Any]:
        """Return what a journal holds of the camera: JSON values, and the record as encoded JSON."""
        return {
            "camera": self.camera.id,
            "may_record": self.may_record and self.record.stopped_at is None,
            "names": list(self.names),
            "record": record_bytes(self.record),
        }

    def fail(self, step: str, error: Exception) -> None:
        """Record an error and emit it."""
        self.record.errors.append(ErrorRecord.of(step, error))
        self._emit(CameraFailed(camera=self.camera.id, step=step, error=error))

    @contextmanager
    def recording_errors(self, step: str) -> Iterator[None]:
        """Record an exception of the block instead of raising it; a cancellation is raised."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a camera does must not disturb the others
            self.fail(step, error)

    def _record_first_frame(self, at: float | None, bound: float | None) -> None:
        if at is not None:
            note_seen(self.record, at, bound or 0.0)

    def _record_device_moment(self, reported: DeviceMoment | None) -> None:
        if reported is not None:
            self.record.device_first_frame = DeviceMomentRecord(unix=reported.time, bound=reported.bound)

    def _record_files(self, files: tuple[MediaFile, ...]) -> None:
        self.files = files
        self.record.files = [
            FileRecord(
                name=file.name,
                id=file.id,
                # A picture has a path because it was downloaded; no recorder here made it.
                source="local" if file.path is not None and self._snapshot is None else "device",
                size=file.size,
                verdict=None if file.verdict is None else VerdictRecord.of(file.verdict),
            )
            for file in files
        ]
        if self._snapshot is not None:
            for record in self.record.files:
                record.verdict = self._snapshot.verdict

    def _recorder(self) -> SupportsRecord:
        return self._snapshot or self.camera.feature(Record)


def _may_have_started(error: Exception) -> bool:
    """Return whether a camera may record although its start ended with this error."""
    if isinstance(error, ConnectionError | TimeoutError):
        return error.maybe_executed
    return not isinstance(error, SURELY_REFUSED)


def _with_grace(timeout: float) -> float:
    """Return a little more than the camera's own timeout, so that its error is raised first."""
    return timeout + min(1.0, timeout / 10)


# -- one picture instead of a recording -------------------------------------------------------------


class SnapshotRecorder:
    """`Record` feature for a camera that has only `Snapshot`: a start takes one picture, a stop names it.

    It is its own armed start, since it is armed once.
    """

    def __init__(self, camera: Camera) -> None:
        # Result of checking the picture while it was downloaded, or None.
        self.verdict: VerdictRecord | None = None
        self._camera = camera
        self._directory = Path()
        # `accepted` raises the error of a picture that fails, so the scope does not report it.
        self._scope = TaskScope("picture", on_failure=lambda name, error: None)
        self._commanded_at = 0.0
        self._capturing: asyncio.Task[float] | None = None
        self._picture: LocalFile | None = None

    async def arm(self, plan: RecordPlan) -> ArmedStart:
        """Check that the camera is available and reports no error."""
        status = await self._camera.status()
        if status.state is CameraState.UNAVAILABLE:
            raise ConnectionError(f"{self._camera.id} is unavailable: {status.detail}")
        if status.state is CameraState.ERROR:
            raise DeviceError(f"{self._camera.id} reports an error: {status.detail}", status=status.detail)
        self._directory = plan.directory
        return self

    def release(self, at: float | None) -> None:
        """Request the picture without waiting."""
        self._commanded_at = unix_now()
        self._capturing = self._scope.spawn(self._capture(), name="take")

    async def accepted(self) -> StartReport:
        """Wait for the picture, which was taken at some time between command and arrival."""
        if self._capturing is None:
            raise StateError("a picture is waited for that was not asked for")
        await asyncio.wait({self._capturing})
        arrived_at = self._capturing.result()
        half = (arrived_at - self._commanded_at) / 2
        return StartReport(
            self._commanded_at,
            arrived_at,
            _PICTURE_TAKEN,
            first_frame_at=self._commanded_at + half,
            first_frame_bound=half,
            meaning=AnswerMeaning.RECORDING,
        )

    async def aclose(self) -> None:
        """Give up a picture that has not arrived."""
        await self._scope.aclose()

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Return the picture; `RecordingError` if none was taken."""
        now = unix_now()
        if self._picture is None:
            raise RecordingError(f"{self._camera.id} has taken no picture")
        picture = self._picture
        file = MediaFile(picture.source or picture.path.name, picture.size, path=picture.path)
        return StopReport(now, now, _PICTURE_TAKEN, (file,))

    async def _capture(self) -> float:
        """Take and download the picture, and return when it arrived; a damaged one is kept, as a video is."""
        camera = self._camera.feature(Snapshot)
        try:
            self._picture = await camera.snapshot(self._directory)
            if isinstance(camera, ChecksPictures):
                self.verdict = VerdictRecord(verdict="complete", frames=1)
        except DamagedFileError as error:
            if error.part is None:
                raise
            path = await on_disk(_rename_part, error.part)
            self._picture = LocalFile(path, error.received)
            self.verdict = VerdictRecord(verdict=error.verdict, frames=0, detail=str(error))
        return unix_now()


def _rename_part(part: Path) -> Path:
    """Give a part file its final name, in a thread; never over an existing file."""
    with storage_errors("rename", part):
        name = part.with_suffix("") if part.suffix == ".part" else part
        return unique_path(name, partial(rename_new, part))
