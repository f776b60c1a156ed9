"""Recording of a MultiCam device: start now or at a given time, and stop.

One operation at a time holds the lock; every operation runs to its end even if the connection that
requested it is lost. See docs/protocols/multicam.md for the statuses.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from asynccam.errors import AsynccamError, InsufficientSpaceError, RecordingError, StateError, TimeoutError
from asynccam.recording.events import RecorderState
from asynccam.recording.outputs import SingleFile
from asynccam.recording.pipeline import Pipeline
from asynccam.recording.recorder import Recorder
from asynccam.recording.sources import Source
from asynccam.recording.verify import FileVerdict, Verdict
from asynccam.runtime.tasks import TaskScope, finish, finish_on_error
from asynccam.runtime.timing import Clock, deadline
from asynccam.systems.multicam.device.storage import Storage

_LOG = logging.getLogger(__name__)

ARM_LEAD: Final = 2.0
"""Seconds before a scheduled start at which the camera is opened; at once if there is less time."""
SHORT_LEAD: Final = 0.2
"""Seconds: a start no further ahead is awaited before the reply, which is then ``recording``."""
MAX_LATE: Final = 5.0
"""Seconds: an older timestamp shows that two clocks disagree, where synchronization is required."""
MAX_AHEAD: Final = 3600.0
"""Seconds: a later timestamp must be a mistake (milliseconds, another day)."""
_SPACE_INTERVAL: Final = 2.0
"""Seconds between checks of the free space while recording."""

OffsetProvider = Callable[[], float | None]
"""Returns reference time minus this computer's clock in seconds, or None while unknown."""


class RecorderHook(Protocol):
    """Recorder of a `MultiCamDevice`; one recording at a time.

    Any exception is sent to the controller as ``error`` with the exception's text.
    """

    async def start(self, path: Path) -> float:
        """Record into ``path``; return the time of the first frame once that is recorded.

        The time is Unix seconds of this computer. If cancelled or failed, nothing may be left running.
        """
        ...

    async def stop(self) -> FileVerdict:
        """Finish the file, also when the recording has ended by itself, and check it."""
        ...

    async def ended(self) -> str:
        """Wait until the recording ends by itself, and return the reason."""
        ...


@runtime_checkable
class ArmsAhead(Protocol):
    """Optional methods of a `RecorderHook` whose camera can be opened ahead of a scheduled start."""

    async def arm(self, path: Path) -> None:
        """Prepare to record into ``path``, so that `RecorderHook.start` has its first frame at once.

        If cancelled or failed, nothing may be left running; the start is then tried without it.
        """
        ...

    async def disarm(self) -> None:
        """Release what was armed, if anything, and delete its file."""
        ...


@runtime_checkable
class BoundsFirstFrame(Protocol):
    """Optional property of a `RecorderHook` that knows the uncertainty of its first frame's time."""

    @property
    def first_frame_bound(self) -> float:
        """Seconds by which the result of the latest `RecorderHook.start` may be wrong."""
        ...


class RecordingPhase(Enum):
    """Phase of a device's recorder."""

    READY = "ready"
    SCHEDULED = "scheduled"
    STARTING = "starting"
    RECORDING = "recording"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class OperationResult:
    """Result of a start or stop: the protocol's status, a text for people, and the file of a stop."""

    status: str
    message: str = ""
    file: FileVerdict | None = None


@dataclass(eq=False)
class RecordingControl:
    """Starts and stops the recorder, one operation at a time, and monitors whether it ends by itself.

    Arguments are those of `MultiCamDevice` and `DeviceLimits`. ``message`` is the reason of a failure,
    ``path`` the file being written, ``first_frame_at`` that of the latest recording (Unix seconds).
    """

    recorder: RecorderHook
    _: KW_ONLY
    clock: Clock
    offset: OffsetProvider
    require_sync: bool
    reserve: int
    start_timeout: float
    stop_timeout: float

    def __post_init__(self) -> None:
        self._scope = TaskScope("multicam-recording")
        self._lock = asyncio.Lock()
        self._schedule: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._ended: OperationResult | None = None  # of a recording that ended by itself
        self._closing = False
        self.phase = RecordingPhase.READY
        self.message = ""
        self.path: Path | None = None
        self.first_frame_at: float | None = None
        self.first_frame_bound: float | None = None

    def now(self) -> float:
        """Return the reference time as far as it is known, Unix seconds."""
        return self.clock.time() + (self.offset() or 0.0)

    async def start(self, storage: Storage, at: float | None) -> OperationResult:
        """Start at a time of the reference clock (Unix seconds), or at once if it is None or has passed.

        The status is ``recording`` once the first frame is recorded (also if it was recording already),
        ``scheduled_recording_accepted``, ``time_not_synchronized`` or ``error``.
        """
        ahead = 0.0 if at is None else at - self.now()
        if self.require_sync and self.offset() is None:
            return OperationResult("time_not_synchronized", "this device does not know the time yet")
        if not ahead <= MAX_AHEAD or (self.require_sync and ahead < -MAX_LATE):
            return OperationResult(
                "time_not_synchronized", f"the start lies {ahead:+.1f} s from this device's clock"
            )
        if self.phase is RecordingPhase.STOPPING:
            return OperationResult("error", "the last recording is still being finished")
        return await self._operate(self._start(storage, at, ahead), "start")

    async def stop(self) -> OperationResult:
        """Stop the recording or cancel a scheduled start: ``recording_stopped``, or ``error``."""
        return await self._operate(self._stop(), "stop")

    async def aclose(self, *, timeout: float) -> None:
        """Finish the recording and refuse further starts.

        Raises:
            TimeoutError: That took more than ``timeout`` seconds; the recorder was cancelled.
        """
        self._closing = True
        try:
            async with deadline(timeout, "end of the recording"):
                await self._operate(self._stop(), "close")
        finally:
            await self._scope.aclose()

    async def _operate(self, operation: Coroutine[Any, Any, OperationResult], name: str) -> OperationResult:
        return await asyncio.shield(self._scope.spawn(operation, name=name))

    async def _start(self, storage: Storage, at: float | None, ahead: float) -> OperationResult:
        async with self._lock:
            if self._closing:
                return OperationResult("error", "the device is shutting down")
            if self.phase is RecordingPhase.RECORDING:
                return OperationResult("recording", "already recording")
            await self._unschedule()
            if at is not None and ahead > SHORT_LEAD:
                shortage = await self._space_shortage(storage)
                if shortage:
                    return OperationResult("error", shortage)
                self.phase = RecordingPhase.SCHEDULED
                self._schedule = self._scope.spawn(self._start_later(storage, at), name="schedule")
                return OperationResult("scheduled_recording_accepted", f"recording starts in {ahead:.3f} s")
            if at is not None and ahead > 0:
                return await self._begin_at(storage, at)
            return await self._begin(storage)

    async def _stop(self) -> OperationResult:
        async with self._lock:
            if self.phase is RecordingPhase.SCHEDULED:
                await self._unschedule()
                return OperationResult("recording_stopped", "the scheduled start was cancelled")
            if self._ended is not None:
                result, self._ended = self._ended, None
                self.phase = RecordingPhase.READY
                return result
            if self.phase is not RecordingPhase.RECORDING:
                return OperationResult("error", "not recording")
            if self._watch is not None:
                self._watch.cancel()
            return await self._finish()

    async def _until(self, at: float | None) -> None:
        # In steps, because the offset may be corrected while we wait.
        while at is not None and (wait := at - self.now()) > 0:
            await self.clock.sleep(min(wait, 1.0))

    async def _start_later(self, storage: Storage, at: float) -> None:
        async with finish_on_error(self._disarm):
            path = await self._arm(storage, at)
            await self._until(at)
            async with self._lock:
                self._schedule = None
                result = await self._begin(storage, path)
        if result.status != "recording":
            _LOG.error("the scheduled recording did not start: %s", result.message)

    async def _arm(self, storage: Storage, at: float) -> Path | None:
        """Arm the recorder for a time; return the path, or None if it is not armed."""
        if not isinstance(self.recorder, ArmsAhead):
            return None
        await self._until(at - ARM_LEAD)
        try:
            self.path = await storage.new_path(at - (self.offset() or 0.0))
            async with deadline(self.start_timeout, "camera"):
                await self.recorder.arm(self.path)
        except Exception as error:  # noqa: BLE001 - as in `_begin`, which reports it if it persists
            _LOG.info("the recorder is not ready ahead of its start: %s", error)
            await self._disarm()
            return None
        return self.path

    async def _disarm(self) -> None:
        self.path = None
        if isinstance(self.recorder, ArmsAhead):
            try:
                async with deadline(self.stop_timeout, "end of what was armed"):
                    await self.recorder.disarm()
            except Exception as error:  # noqa: BLE001 - as in `_begin`
                _LOG.error("the recorder did not release a scheduled start", exc_info=error)

    async def _unschedule(self) -> None:
        schedule, self._schedule = self._schedule, None
        if schedule is not None:
            schedule.cancel()
            await asyncio.wait({schedule})  # it disarms the recorder
        if self.phase is RecordingPhase.SCHEDULED:
            self.phase = RecordingPhase.READY

    async def _space_shortage(self, storage: Storage) -> str:
        free = await storage.free()
        if free >= self.reserve:
            return ""
        return f"{free:,} bytes are free for recordings, {self.reserve:,} are needed"

    async def _begin_at(self, storage: Storage, at: float) -> OperationResult:
        """Start the recorder at a time less than `SHORT_LEAD` ahead; the lock is held."""
        async with finish_on_error(self._disarm):
            path = await self._arm(storage, at)
            await self._until(at)
        return await self._begin(storage, path)

    async def _begin(self, storage: Storage, armed: Path | None = None) -> OperationResult:
        """Start the recorder, which may be armed for a path; the lock is held."""
        self.phase = RecordingPhase.STARTING
        self.message = ""
        self._ended = None
        try:
            shortage = await self._space_shortage(storage)
            if shortage:
                raise InsufficientSpaceError(shortage, needed=self.reserve, free=0)
            path = self.path = armed or await storage.new_path(self.clock.time())
            async with deadline(self.start_timeout, "first frame"):
                self.first_frame_at = await self.recorder.start(path)
            recorder: object = self.recorder
            self.first_frame_bound = (
                recorder.first_frame_bound if isinstance(recorder, BoundsFirstFrame) else None
            )
        except Exception as error:  # noqa: BLE001 - the recorder is the caller's code and may raise anything
            failed, self.path = self.path, None
            if armed is not None:
                await self._disarm()
            self._fail(error)
            if failed is not None:
                await storage.delete_empty(failed)
            return OperationResult("error", self.message)
        self.phase = RecordingPhase.RECORDING
        self._watch = self._scope.spawn(self._end_if_needed(storage), name="watch")
        return OperationResult("recording")

    async def _finish(self) -> OperationResult:
        """Stop the recorder; the lock is held."""
        self.phase = RecordingPhase.STOPPING
        try:
            async with deadline(self.stop_timeout, "finished file"):
                verdict = await self.recorder.stop()
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)
            return OperationResult("error", self.message)
        finally:
            self.path = None
        self.phase = RecordingPhase.READY
        if verdict.verdict is Verdict.EMPTY:
            return OperationResult("error", f"nothing was recorded: {verdict.detail}", verdict)
        return OperationResult("recording_stopped", verdict.detail, verdict)

    async def _end_if_needed(self, storage: Storage) -> None:
        """Finish the file when the recorder ends by itself or the disk is nearly full."""
        reason: str | None = None
        while reason is None:
            try:
                async with deadline(_SPACE_INTERVAL, "end"):
                    reason = await self.recorder.ended()
            except TimeoutError:
                if await storage.free() < self.reserve // 2:
                    reason = "the disk is nearly full"
            except Exception as error:  # noqa: BLE001 - as above
                reason = str(error) or type(error).__name__
        async with self._lock:
            result = await self._finish()
            _LOG.error("the recording ended by itself: %s", reason)
            self._ended = OperationResult(result.status, reason, result.file)
            self.phase, self.message = RecordingPhase.FAILED, reason

    def _fail(self, error: Exception) -> None:
        self.phase = RecordingPhase.FAILED
        self.message = str(error) or type(error).__name__
        if not isinstance(error, AsynccamError):
            _LOG.error("the recorder failed", exc_info=error)


_ENCODING_TIME: Final = 0.05
"""Seconds from a frame to its arrival at the muxer on a busy computer. Assumed."""
_FIRST_FRAME_TIMEOUT: Final = 15.0
"""Seconds for a camera to open."""


class GstRecorder:
    """A `RecorderHook` with `ArmsAhead` that records a GStreamer source in a new process per recording."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._armed: tuple[Path, Recorder] | None = None
        self._recorder: Recorder | None = None

    async def arm(self, path: Path) -> None:
        """Open the camera ahead of a start, and drop its frames; returns when it delivers them.

        If this raises, as `start` does, the camera is closed again.
        """
        await self.disarm()
        recorder = self._recorder_for(path)
        async with finish_on_error(recorder.aclose):
            await recorder.arm(timeout=_FIRST_FRAME_TIMEOUT)
        self._armed = path, recorder

    async def disarm(self) -> None:
        """Cancel an armed start, if any: neither a process nor a file is left."""
        armed, self._armed = self._armed, None
        if armed is not None:
            await finish(armed[1].aclose())

    async def start(self, path: Path) -> float:
        """Record into ``path``; return the time of the first frame when it was written.

        A recorder that is armed for this path is used; if its camera failed meanwhile, it is opened again.

        Raises:
            RecordingError: GStreamer or an element is missing, or the camera did not open.
            TimeoutError: No frame came.
            StorageError: The file cannot be written.
        """
        if self._armed is not None and self._armed[0] == path and self._armed[1].state is RecorderState.ARMED:
            recorder, self._armed = self._armed[1], None
            try:
                return await self._begin(recorder)
            except RecordingError as error:
                _LOG.warning("%s: the armed camera failed and is opened again: %s", path.name, error)
        await self.disarm()
        return await self._begin(self._recorder_for(path))

    async def stop(self) -> FileVerdict:
        """Finish the file and check it; raise `RecordingError` if none was written."""
        recorder, self._recorder = self._running(), None
        try:
            verdicts = await recorder.stop()
        finally:
            await finish(recorder.aclose())
        if not verdicts:
            raise RecordingError(f"{recorder.name}: {recorder.error or 'no file was written'}")
        return verdicts[-1]

    @property
    def first_frame_bound(self) -> float:
        """Uncertainty of the first frame's time in seconds: the recorder's own, and encoding."""
        return self._running().first_frame_bound + _ENCODING_TIME

    async def ended(self) -> str:
        """Wait until the recording ends by itself, and return the reason."""
        recorder = self._running()
        await recorder.wait()
        return str(recorder.error or "the source has ended")

    async def _begin(self, recorder: Recorder) -> float:
        async with finish_on_error(recorder.aclose):
            first_frame_at = await recorder.start(timeout=_FIRST_FRAME_TIMEOUT)
        self._recorder = recorder
        return first_frame_at

    def _recorder_for(self, path: Path) -> Recorder:
        return Recorder(Pipeline(self._source, SingleFile(path)), name=path.name)

    def _running(self) -> Recorder:
        if self._recorder is None:
            raise StateError("nothing is being recorded")
        return self._recorder
