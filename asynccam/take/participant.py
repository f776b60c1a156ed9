"""One camera's part in a take: its steps, bounded in time, with whatever happens put on record."""

import asyncio
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from asynccam.errors import (
    AuthenticationError,
    BusyError,
    ConnectionError,
    DamagedFileError,
    DeviceError,
    RecordingError,
    RetryableError,
    StateError,
    TakenOverError,
    TimeoutError,
    UsageError,
)
from asynccam.model.camera import Camera
from asynccam.model.events import (
    CameraFailed,
    ClockMeasured,
    Event,
    RecordingStarted,
    RecordingStopped,
)
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
)
from asynccam.runtime.disk import on_disk, rename_new, storage_errors
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline, sleep_until
from asynccam.take.limits import TakeLimits
from asynccam.take.timing import note_seen, note_status
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)

_TAKEN: Final = "picture taken"


class SnapshotRecord:
    """Stands in a take for the `Record` feature of a camera that has only `Snapshot`.

    The start asks for one picture and is answered once that is home; the stop only names it.

    Args:
        camera: The camera; only its common interface is used.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._picture: LocalFile | None = None
        self._verdict: VerdictRecord | None = None

    async def arm(self, plan: RecordPlan) -> ArmedStart:
        """See that the camera answers.

        Raises:
            ConnectionError: Whoever answers for the camera says that it is away.
            DeviceError: It says that it is in trouble.
            AsynccamError: Nobody answers, see `Camera.status`.
        """
        status = await self._camera.status()
        if status.state is CameraState.UNAVAILABLE:
            raise ConnectionError(f"{self._camera.id} is away: {status.detail}")
        if status.state is CameraState.ERROR:
            raise DeviceError(f"{self._camera.id} is in trouble: {status.detail}", status=status.detail)
        return _ArmedPicture(self, plan.directory)

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Name the picture.

        Raises:
            RecordingError: There is none.
        """
        now = unix_now()
        if self._picture is None:
            raise RecordingError(f"{self._camera.id} has taken no picture")
        picture = self._picture
        file = MediaFile(picture.source or picture.path.name, picture.size, path=picture.path)
        return StopReport(now, now, _TAKEN, (file,))

    @property
    def verdict(self) -> VerdictRecord | None:
        """What is known of the picture because it was read on its way here, or None."""
        return self._verdict

    async def take(self, directory: Path) -> None:
        """Take the picture and bring it home; one that is broken is kept, as a broken video is.

        Raises:
            AsynccamError: There is none, see `asynccam.model.features.SupportsSnapshot`.
        """
        camera = self._camera.feature(Snapshot)
        try:
            self._picture = await camera.snapshot(directory)
        except DamagedFileError as error:
            if error.part is None:
                raise
            path = await on_disk(_with_its_name, error.part)
            self._picture = LocalFile(path, error.received)
            self._verdict = VerdictRecord(verdict=error.verdict, frames=0, detail=str(error))
            return
        if isinstance(camera, ChecksPictures):
            self._verdict = VerdictRecord(verdict="complete", frames=1)


class _ArmedPicture:
    """A picture that waits for its moment."""

    def __init__(self, still: SnapshotRecord, directory: Path) -> None:
        self._still = still
        self._directory = directory
        # A picture that fails is told by `accepted`, and by nobody else.
        self._scope = TaskScope("picture", on_failure=lambda name, error: None)
        self._commanded_at = 0.0
        self._taking: asyncio.Task[float] | None = None

    def release(self, at: float | None) -> None:
        """Ask for the picture; never waits."""
        self._commanded_at = unix_now()
        self._taking = self._scope.spawn(self._take(), name="take")

    async def accepted(self) -> StartReport:
        """Wait for the picture; all that is known is that it was taken between command and arrival."""
        if self._taking is None:
            raise StateError("a picture is waited for that was not asked for")
        await asyncio.wait({self._taking})
        arrived_at = self._taking.result()
        half = (arrived_at - self._commanded_at) / 2
        return StartReport(
            self._commanded_at,
            arrived_at,
            _TAKEN,
            first_frame_at=self._commanded_at + half,
            first_frame_bound=half,
            meaning=AnswerMeaning.RECORDING,
        )

    async def aclose(self) -> None:
        """Give up a picture that has not come."""
        await self._scope.aclose()

    async def _take(self) -> float:
        await self._still.take(self._directory)
        return unix_now()


def _with_its_name(part: Path) -> Path:
    """Give a part the name it would have had, in a thread; never over an existing file."""
    plain = part.with_suffix("") if part.suffix == ".part" else part
    with storage_errors("rename", part):
        for number in itertools.count():
            target = plain.with_stem(f"{plain.stem}-{number}") if number else plain
            with suppress(FileExistsError):
                rename_new(part, target)
                break
    return target


Emit = Callable[[Event], None]

_COARSENESS: Final = 1.0
"""Seconds a file's creation time may be off: some devices give whole seconds."""
_FIRST_SAMPLES: Final = 8
"""Samples of a clock that a take waits for in any case; more are taken while there is time."""
_SPARE: Final = 1.5
"""Seconds that further samples of a clock may take while a take is armed."""
_BETWEEN_SAMPLES: Final = 4
"""Samples of each measurement while cameras record, which is to disturb nothing."""
_BEFORE_T0: Final = 0.4
"""Seconds before T0 from which on no device is asked anything: the starts are to leave on time."""
_AFTER_T0: Final = 0.1
"""Seconds after T0 at which a device is asked for the first time, and between the first two questions."""
_LAST_LOOK: Final = 0.5
"""Seconds before T0 at which a scheduled device is asked whether it records already."""
_LOOK_AGAIN: Final = 0.5
"""Seconds between two looks for a file that a device may still be finishing."""
_SHORTEST: Final = 0.05
"""Seconds that a stop gets though nothing is left: one that is sent late is better than none."""
SURELY_REFUSED: Final = (DeviceError, AuthenticationError, BusyError, UsageError)
"""Errors after which what was asked for has certainly not been done."""


class Participant:
    """One camera in a take. No step raises for what a camera does; it is recorded and emitted.

    Args:
        camera: The camera; only its common interface is used.
        record: Its place in the manifest, kept true at every moment.
        limits: How long to wait.
        emit: Where events go.
        computer_time: Converts times of the scale that T0 is on, see `RecordPlan`.

    Attributes:
        files: What the camera said it recorded, beside ``record.files``.
        names: What it said at its start that it would record.
        scheduled: Whether it starts by its own clock.
        armed: The start that waits for its release, or None.
        accepting: The task that waits for that answer.
        may_record: Whether a start may have reached the camera and nothing says it did not begin.
    """

    def __init__(
        self,
        camera: Camera,
        record: CameraRecord,
        limits: TakeLimits,
        emit: Emit,
        computer_time: Callable[[float], float] = lambda when: when,
    ) -> None:
        self.camera = camera
        self.record = record
        self.files: tuple[MediaFile, ...] = ()
        self.names: tuple[str, ...] = ()
        pictures_only = camera.supports(Snapshot) and not camera.supports(Record)
        self._still = SnapshotRecord(camera) if pictures_only else None
        if self._still is not None:
            record.kind = "still"
        self.scheduled = camera.supports(ScheduledStart) and self._still is None
        self.armed: ArmedStart | None = None
        self._released = 0.0
        self._release_error: Exception | None = None
        self.accepting: asyncio.Task[None] | None = None
        self.may_record = False
        self._idle = False
        self._stop_until = math.inf  # in the loop's time
        self._limits = limits
        self._emit = emit
        self._computer_time = computer_time

    # -- before T0 ------------------------------------------------------------------------------

    async def measure_clock(self, slots: asyncio.Semaphore) -> None:
        """Compare the camera's clock with this computer's, where it has one to compare.

        `TakeLimits.clock_samples` are taken if the first of them show that this is quick.
        """
        if not self.camera.supports(DeviceClock):
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        first = min(_FIRST_SAMPLES, self._limits.clock_samples)
        with self.recording_errors("clock"):
            await self._measure(first, self._limits.clock_timeout, slots)
        took = loop.time() - began
        further = self._limits.clock_samples - first
        left = min(_SPARE, self._limits.clock_timeout - took)
        if self.record.clock is not None and further > 0 and took * further / first <= left:
            await self._measure_quietly(further, left, slots)

    async def measure_clock_again(self, slots: asyncio.Semaphore) -> None:
        """Compare the clock once more, for its drift; a camera that does not answer is left alone."""
        if self.record.clock is not None:
            await self._measure_quietly(_FIRST_SAMPLES, self._limits.clock_timeout, slots)

    async def _measure(self, samples: int, timeout: float, slots: asyncio.Semaphore) -> None:
        async with deadline(timeout, f"clock of {self.camera.id}"), slots:
            offset = await self.camera.feature(DeviceClock).measure_clock(samples=samples)
        self._note_clock(offset)

    async def _measure_quietly(self, samples: int, timeout: float, slots: asyncio.Semaphore) -> None:
        try:
            await self._measure(samples, timeout, slots)
        except Exception as error:  # noqa: BLE001 - as in `recording_errors`; the first measurement stands
            _LOG.info("the clock of %s was not measured again: %s", self.camera.id, error)

    def _note_clock(self, offset: ClockOffset) -> None:
        known = self.record.clock
        self.record.clock = ClockRecord.of(offset) if known is None else known.with_measurement(offset)
        self._emit(ClockMeasured(camera=self.camera.id, offset=offset))

    async def arm(self, directory: Path, duration: float | None) -> None:
        """Have the camera do all that a start needs short of starting."""
        plan = RecordPlan(directory, duration, self._limits.start_timeout, self._computer_time)
        with self.recording_errors("arm"):
            async with deadline(self._limits.arm_timeout, f"readiness of {self.camera.id} to start"):
                self.armed = await self._recorder().arm(plan)
        if isinstance(self.armed, TakesOver) and self.armed.took_over:
            self.record.took_over = True
            _LOG.warning("%s", self.armed.took_over)

    async def disarm(self) -> None:
        """Let go of what arming opened."""
        armed, self.armed = self.armed, None
        if armed is None:
            return
        with self.recording_errors("disarm"):
            async with deadline(self._limits.status_timeout, f"end of the armed start of {self.camera.id}"):
                await armed.aclose()

    # -- the start ------------------------------------------------------------------------------

    def release(self, at: float | None) -> None:
        """Send the start; never waits. One of many in a tight loop, so the rest is left to `accept`."""
        assert self.armed is not None
        self.may_record = True
        self._released = WALL_CLOCK.elapsed()
        try:
            self.armed.release(at)
        except Exception as error:  # noqa: BLE001 - as in `recording_errors`, without its cost in the loop
            self._release_error = error

    def judge_start(self, t0: float, tolerance: float, why: Callable[[float], str]) -> None:
        """Put on record how long after T0 the start left, and that it was late if it was.

        Args:
            t0: T0 by elapsed time.
            tolerance: Seconds after T0 that are not late.
            why: Says what held it up until a moment of elapsed time, to be added to the error, or ``""``.
        """
        lateness = self.record.start_lateness = self._released - t0
        if lateness > tolerance:
            words = f"its start left {lateness:.2f} s after T0, at most {tolerance:g} s are allowed"
            self.fail("start", TimeoutError(words + why(self._released), maybe_executed=True))

    async def accept(self) -> None:
        """Wait for the camera's answer to the start that was released."""
        assert self.armed is not None
        self.record.commanded_at = Moment.of(WALL_CLOCK.at(self._released))
        with self.recording_errors("start"):
            try:
                report = await self._answer(self.armed)
            except Exception as error:
                self.may_record = self._still is None and _may_have_started(error)
                raise
            finally:
                await finish(self.disarm())
            self.record.commanded_at = Moment.of(report.commanded_at)
            self.record.accepted_at = Moment.of(report.accepted_at)
            self.record.scheduled_for = Moment.maybe(report.scheduled_for)
            self.record.start_status = report.status
            self.record.frame_drift = report.frame_drift
            self.names = report.names
            self._note_meaning(report)
            due = None if report.scheduled_for is None else self._computer_time(report.scheduled_for)
            self._emit(RecordingStarted(camera=self.camera.id, scheduled_for=report.scheduled_for, due=due))

    async def _answer(self, armed: ArmedStart) -> StartReport:
        if self._release_error is not None:
            raise self._release_error
        what = f"answer of {self.camera.id} to the start"
        async with deadline(_with_grace(self._limits.start_timeout), what, maybe_executed=True):
            return await armed.accepted()

    @property
    def is_awaited(self) -> bool:
        """Return whether its answer to the start is awaited."""
        return self.accepting is not None and not self.accepting.done()

    @property
    def accepted(self) -> bool:
        """Whether the camera said that it starts."""
        return self.record.accepted_at is not None

    def _note_meaning(self, report: StartReport) -> None:
        self.record.answer_meaning = AnswerMeaning(report.meaning).value
        self.record.already_recording = report.already_recording
        if report.already_recording:
            words = f"{self.camera.id} was recording already, so somebody else's recording runs"
            self.may_record = not report.started_by_other
            then = "the stop of this take ends it" if self.may_record else "it is left alone and records on"
            self.fail("start", BusyError(f"{words}; {then}"))
        for seen in report.seen:
            note_status(self.record, seen)
        self._note_device_moment(report.first_frame)
        self._first_frame(report.first_frame_at, report.first_frame_bound)

    # -- while it records -----------------------------------------------------------------------

    async def watch_begin(self, t0: float, slots: asyncio.Semaphore) -> None:
        """Ask the device whether it records until it says so, where it can be asked.

        Nothing is asked shortly before T0, and nothing while an armed start of this device waits.

        Args:
            t0: T0 in the loop's time.
            slots: Bounds how many cameras are asked at the same time.
        """
        recorder = self._recorder()
        if not isinstance(recorder, ReportsRecording):
            return
        loop = asyncio.get_running_loop()
        if loop.time() < t0 - _LAST_LOOK:
            # One that records before its time has been started by somebody else, or by another clock.
            await asyncio.sleep(t0 - _LAST_LOOK - loop.time())
            async with slots:
                if loop.time() < t0 - _BEFORE_T0:
                    await self._look(recorder)
        await asyncio.sleep(max(0.0, t0 + _AFTER_T0 - loop.time()))
        pause, until = _AFTER_T0, loop.time() + self._limits.status_timeout
        while loop.time() < until:
            async with slots:
                if await self._look(recorder):
                    return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LOOK_AGAIN)

    @property
    def tells_recording(self) -> bool:
        """Return whether it accepted the start, and the device itself can be asked whether it records."""
        return self.accepted and self._still is None and isinstance(self._recorder(), ReportsRecording)

    async def measure_clock_between(self, slots: asyncio.Semaphore) -> None:
        """Compare the clock of a camera that records, by a few samples."""
        if self.record.clock is not None and self.accepted and self.record.stop_commanded_at is None:
            await self._measure_quietly(_BETWEEN_SAMPLES, self._limits.status_timeout, slots)

    async def _look(self, recorder: ReportsRecording) -> bool:
        """Ask once; whether the device says that it records."""
        try:
            async with deadline(self._limits.status_timeout, f"status of {self.camera.id}"):
                seen = await recorder.recording_report(timeout=self._limits.status_timeout)
        except Exception as error:  # noqa: BLE001 - as in `recording_errors`; unknown stays unknown
            _LOG.info("%s does not say whether it records: %s", self.camera.id, error)
            return False
        note_status(self.record, seen)
        self._note_device_moment(seen.first_frame)
        return seen.recording

    # -- the stop -------------------------------------------------------------------------------

    async def stop(self, *, patience: float | None, t0: float) -> None:
        """Stop the camera if it may record, and learn what files it made.

        Args:
            patience: Seconds to wait for a start that has not been answered, or None for as long as
                `TakeLimits.start_timeout` allows. A camera silent until then is stopped all the same.
            t0: T0 by elapsed time.
        """
        try:
            await self._await_acceptance(patience)
            if not self.may_record or (self._still is not None and not self.accepted):
                return  # a picture that did not come cannot be stopped
            self.bound_stop(t0)
            if self.scheduled and WALL_CLOCK.elapsed() < t0:
                await self._call_off(t0)
            elif self.accepted:
                await self._stop(self._limits.stop_timeout)
            else:
                await self._stop_unanswered()
        except asyncio.CancelledError:
            self.note_not_stopped()
            raise

    @property
    def may_still_record(self) -> bool:
        """Whether it may have started, and neither an answer to a stop nor its status says it is idle."""
        started = self.may_record and self._still is None
        return started and self.record.stopped_at is None and not self._idle

    def note_not_stopped(self) -> None:
        """Put it on record that the camera may record still, if nothing on record says so."""
        if not any(error.step == "stop" for error in self.record.errors):
            words = f"no time was left to stop {self.camera.id}; it may still record"
            self.fail("stop", TimeoutError(words))

    def bound_stop(self, t0: float) -> None:
        """Bound everything that stopping takes from now on; a start that is called off is watched until T0.

        Args:
            t0: T0 by elapsed time.
        """
        ahead = max(0.0, t0 + self._limits.late_start_grace - WALL_CLOCK.elapsed()) if self.scheduled else 0.0
        most = _with_grace(self._limits.stop_timeout) + self._limits.status_timeout
        self._stop_until = asyncio.get_running_loop().time() + ahead + most

    def _left(self, timeout: float) -> float:
        """The timeout, or the time that is left for stopping if that is shorter."""
        return max(0.0, min(timeout, self._stop_until - asyncio.get_running_loop().time()))

    async def _await_acceptance(self, patience: float | None) -> None:
        if self.accepting is None or self.accepting.done():
            return
        _, pending = await asyncio.wait({self.accepting}, timeout=patience)
        if pending:
            self.accepting.cancel()
            await asyncio.wait(pending)
            silent = f"no answer of {self.camera.id} to the start before it was stopped"
            self.fail("start", TimeoutError(silent, maybe_executed=True))

    async def _stop_unanswered(self) -> None:
        """Stop a camera that may not have heard the start; one that stays silent is not waited for long."""
        status = await self._status()
        if status is None:
            await self._stop(self._limits.status_timeout)
        elif status.state is not CameraState.READY:
            await self._stop(self._limits.stop_timeout)

    async def _call_off(self, t0: float) -> None:
        """Stop before T0. Some devices start at T0 even so, which shows only afterwards."""
        try:
            await self._ask_to_stop(self._limits.stop_timeout)
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
            silent = f"{self.camera.id} does not say whether its scheduled start was called off"
            self.fail("stop", TimeoutError(silent, maybe_executed=True))
        elif status.state is CameraState.RECORDING:
            self.record.stopped_at = None
            await self._stop(self._limits.stop_timeout)

    async def _stop(self, timeout: float) -> None:
        try:
            await self._ask_to_stop(timeout)
        except Exception as error:  # noqa: BLE001 - recorded there, unless the second try succeeds
            await self._stop_again(error, timeout)
        if self.record.stopped_at is not None and not self.files:
            self.fail("stop", RecordingError(f"{self.camera.id} stopped and named no file"))

    async def _stop_again(self, first: Exception, timeout: float) -> None:
        """After a stop that failed: stop once more if the camera says that it still records."""
        status = await self._status()
        if isinstance(first, TakenOverError):
            self.may_record = False  # what records there now is not to be stopped, by a resuming either
            self.fail("stop", first)
        elif status is not None and status.state in (CameraState.RECORDING, CameraState.STOPPING):
            with self.recording_errors("stop"):
                await self._ask_to_stop(timeout)
                _LOG.info("%s stopped at the second try; the first: %s", self.camera.id, first)
                return
        else:
            self.fail("stop", first)
        # Whose sign-in is over may still list its files: services differ in what they ask credentials for.
        if self.accepted and (status is not None or isinstance(first, AuthenticationError)):
            await self._look_for_files()

    async def _look_for_files(self) -> None:
        """Find on the device what an unanswered stop did not name.

        That is the file the start named, once the device has finished it, or else all made since the start.
        """
        if not self.camera.supports(Files):
            return
        with self.recording_errors("stop"):
            left = self._left(self._limits.status_timeout)
            async with deadline(left, f"list of files of {self.camera.id}"):
                listed = await self.camera.feature(Files).list_files()
                while self.names and not any(file.name in self.names for file in listed):
                    await asyncio.sleep(_LOOK_AGAIN)
                    listed = await self.camera.feature(Files).list_files()
            began = self.record.commanded_at.unix if self.record.commanded_at else 0.0
            since = began + self._ahead(began) - _COARSENESS
            if self.names:  # others may be those of other cameras of one service
                self._made(tuple(file for file in listed if file.name in self.names))
            else:
                self._made(tuple(file for file in listed if file.created and file.created >= since))

    def _ahead(self, when: float) -> float:
        """Return the camera's clock minus this computer's; one that was not measured is taken for T0's."""
        if self.record.clock is not None:
            return self.record.clock.line().offset(when)
        return when - self._computer_time(when)

    async def _ask_to_stop(self, timeout: float) -> None:
        what = f"answer of {self.camera.id} to the stop"
        timeout = max(self._left(timeout), _SHORTEST)
        async with deadline(_with_grace(timeout), what, maybe_executed=True):
            report = await self._recorder().stop(timeout=timeout)
        self.record.stop_commanded_at = Moment.of(report.commanded_at)
        self.record.stopped_at = Moment.of(report.stopped_at)
        self.record.stop_status = report.status
        self._note_device_moment(report.first_frame)
        self._first_frame(report.first_frame_at, report.first_frame_bound)
        self.record.gaps = [
            GapRecord(
                began_at=Moment.of(gap.began),
                ended_at=Moment.maybe(gap.ended),
                restarted=gap.restarted,
                reason=gap.reason,
            )
            for gap in report.gaps
        ]
        early = report.ended_early
        if early is not None:
            missing = report.commanded_at - early.at if early.seconds is None else early.seconds
            self.record.ended_early = EarlyEndRecord(
                at=Moment.of(early.at), seconds=missing, reason=early.reason
            )
        late = report.begins_late
        if late is not None:
            self.record.begins_late = LateBeginRecord(
                at=Moment.of(late.at), seconds=late.seconds, reason=late.reason
            )
        self.record.contradictions_seen = list(report.contradictions)
        self.record.spoiled_frames = report.spoiled_frames
        self.record.frame_drift = report.frame_drift
        self._made(report.files)
        names = tuple(file.name for file in report.files)
        self._emit(RecordingStopped(camera=self.camera.id, files=names))

    async def _status(self) -> CameraStatus | None:
        left = self._left(self._limits.status_timeout)
        if left > 0:
            with self.recording_errors("status"):
                async with deadline(left, f"status of {self.camera.id}"):
                    status = await self.camera.status()
                self._idle = status.state is CameraState.READY
                return status
        return None

    # -- the record -----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What a journal has to hold of the camera, as JSON knows it."""
        return {
            "camera": self.camera.id,
            "may_record": self.may_record and self.record.stopped_at is None,
            "names": list(self.names),
            "record": self.record.model_dump(mode="json"),
        }

    def fail(self, step: str, error: Exception) -> None:
        """Put an error on record and tell the listeners."""
        self.record.errors.append(error_record(step, error))
        self._emit(CameraFailed(camera=self.camera.id, step=step, error=error))

    @contextmanager
    def recording_errors(self, step: str) -> Iterator[None]:
        """Put an exception of the block on record instead of raising it; a cancellation goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a camera does must not disturb the others
            self.fail(step, error)

    def _first_frame(self, at: float | None, bound: float | None) -> None:
        if at is not None:
            note_seen(self.record, at, bound or 0.0)

    def _note_device_moment(self, told: DeviceMoment | None) -> None:
        if told is not None:
            self.record.device_first_frame = DeviceMomentRecord(unix=told.time, bound=told.bound)

    def _made(self, files: tuple[MediaFile, ...]) -> None:
        self.files = files
        self.record.files = [
            FileRecord(
                name=file.name,
                id=file.id,
                source="local" if local else "device",
                size=file.size,
                verdict=None if file.verdict is None else VerdictRecord.of(file.verdict),
            )
            for file, local in ((file, file.path is not None and self._still is None) for file in files)
        ]
        if self._still is not None:
            for record in self.record.files:
                record.verdict = self._still.verdict

    def _recorder(self) -> SupportsRecord:
        return self._still or self.camera.feature(Record)


def _may_have_started(error: Exception) -> bool:
    """Whether a camera may record although its start ended with this error."""
    if isinstance(error, ConnectionError | TimeoutError):
        return error.maybe_executed
    return not isinstance(error, SURELY_REFUSED)


def _with_grace(timeout: float) -> float:
    """A little more than the timeout a camera was given, so that its own words reach the manifest first."""
    return timeout + min(1.0, timeout / 10)


def error_record(step: str, error: Exception) -> ErrorRecord:
    """An exception as it stands in the manifest."""
    return ErrorRecord(
        step=step,
        error=type(error).__name__,
        message=str(error) or type(error).__name__,
        retryable=isinstance(error, RetryableError),
        at=Moment.of(unix_now()),
    )
