"""What a MultiCam device records: start now or at a given time, stop, and what came of it.

One operation at a time holds the lock; every operation runs to its end even if the connection that
asked for it goes. See docs/protocols/multicam.md for the statuses.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from asynccam.errors import AsynccamError, InsufficientSpaceError, TimeoutError
from asynccam.recording.verify import FileVerdict, Verdict
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import Clock, deadline
from asynccam.systems.multicam.device.storage import Storage

_LOG = logging.getLogger(__name__)

ARM_LEAD: Final = 2.0
"""Seconds before a scheduled start at which the camera is opened, or at once if there is less time."""
SHORT_LEAD: Final = 0.2
"""Seconds: a start no further ahead is waited for before it is answered, with ``recording``."""
MAX_LATE: Final = 5.0
"""Seconds: an older timestamp shows that two clocks disagree, where the device has to be in step."""
MAX_AHEAD: Final = 3600.0
"""Seconds: a later timestamp can only be a mistake (milliseconds, another day)."""
_SPACE_INTERVAL: Final = 2.0
"""Seconds between looks at the free space while recording."""

OffsetProvider = Callable[[], float | None]
"""Reference time minus this computer's clock in seconds, or None while that is not known."""


class RecorderHook(Protocol):
    """What does the recording for a `MultiCamDevice`; one recording at a time.

    Any exception is answered to the controller as ``error`` with the exception's words.
    """

    async def start(self, path: Path) -> float:
        """Record into ``path``, and return once the first frame is truly recorded.

        Cancelling it, or an exception from it, leaves nothing running.

        Returns:
            When the first frame was taken, Unix seconds of this computer.
        """
        ...

    async def stop(self) -> FileVerdict:
        """Finish the file, also when the recording has ended by itself, and say what it is worth."""
        ...

    async def ended(self) -> str:
        """Wait until the recording ends without having been asked to, and say why."""
        ...


@runtime_checkable
class ArmsAhead(Protocol):
    """What a `RecorderHook` has besides if its camera can be opened ahead of a scheduled start."""

    async def arm(self, path: Path) -> None:
        """Get ready to record into ``path``, so that `RecorderHook.start` has its first frame at once.

        Cancelling it, or an exception from it, leaves nothing running; the start is then tried without it.
        """
        ...

    async def disarm(self) -> None:
        """Let go of what was armed, and remove its file; harmless if there is nothing."""
        ...


@runtime_checkable
class BoundsFirstFrame(Protocol):
    """What a `RecorderHook` has besides if it knows how exact the time of its first frame is."""

    @property
    def first_frame_bound(self) -> float:
        """Seconds by which the time that the latest `RecorderHook.start` returned may be wrong."""
        ...


class Phase(Enum):
    """What the device is doing."""

    READY = "ready"
    SCHEDULED = "scheduled"
    STARTING = "starting"
    RECORDING = "recording"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a start or stop went.

    Attributes:
        status: The protocol's word for it.
        message: What to say to a person, or ``""``.
        file: What a stop left behind, or None.
    """

    status: str
    message: str = ""
    file: FileVerdict | None = None


class RecordingControl:
    """Starts and stops the recorder, never twice at once, and notices when it ends by itself.

    Args:
        recorder: Does the recording.
        clock: This device's clock.
        offset: Reference time minus ``clock``.
        require_sync: Refuse starts while the offset is unknown, or that are long past.
        reserve: Bytes that stay free: less refuses a start, and half of it ends a recording.
        start_timeout: Seconds until the first frame.
        stop_timeout: Seconds the recorder has to finish its file.

    Attributes:
        phase: What it is doing.
        message: Why it failed, while ``phase`` is ``FAILED``.
        path: The file being written, or None.
        first_frame_at: First frame of the latest recording, Unix seconds, or None.
        first_frame_bound: Seconds by which that may be wrong, or None if the recorder does not say.
    """

    def __init__(
        self,
        recorder: RecorderHook,
        *,
        clock: Clock,
        offset: OffsetProvider,
        require_sync: bool,
        reserve: int,
        start_timeout: float,
        stop_timeout: float,
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._offset = offset
        self._require_sync = require_sync
        self._reserve = reserve
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._scope = TaskScope("multicam-recording")
        self._lock = asyncio.Lock()
        self._schedule: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._left: Outcome | None = None
        self._closing = False
        self.phase = Phase.READY
        self.message = ""
        self.path: Path | None = None
        self.first_frame_at: float | None = None
        self.first_frame_bound: float | None = None

    def now(self) -> float:
        """Reference time, as far as it is known: Unix seconds."""
        return self._clock.time() + (self._offset() or 0.0)

    async def start(self, storage: Storage, at: float | None) -> Outcome:
        """Start at a time, or at once if it has come or none is given.

        Args:
            storage: Where the recording goes.
            at: Unix seconds of the reference clock.

        Returns:
            ``recording`` once the first frame is recorded (also if it was recording already),
            ``scheduled_recording_accepted``, ``time_not_synchronized`` or ``error``.
        """
        ahead = 0.0 if at is None else at - self.now()
        if self._require_sync and self._offset() is None:
            return Outcome("time_not_synchronized", "this device does not know the time yet")
        if not ahead <= MAX_AHEAD or (self._require_sync and ahead < -MAX_LATE):
            return Outcome("time_not_synchronized", f"the start lies {ahead:+.1f} s from this device's clock")
        if self.phase is Phase.STOPPING:
            return Outcome("error", "the last recording is still being finished")
        return await self._operate(self._start(storage, at, ahead), "start")

    async def stop(self) -> Outcome:
        """Stop the recording, or forget a start that has not come yet.

        Returns:
            ``recording_stopped`` with the file if there was a recording, or ``error``.
        """
        return await self._operate(self._stop(), "stop")

    async def aclose(self, *, timeout: float) -> None:
        """Finish what is being recorded; no start is accepted afterwards.

        Raises:
            TimeoutError: That took more than ``timeout`` seconds; the recorder was cancelled.
        """
        self._closing = True
        try:
            async with deadline(timeout, "end of the recording"):
                await self._operate(self._stop(), "close")
        finally:
            await self._scope.aclose()

    async def _operate(self, operation: Coroutine[Any, Any, Outcome], name: str) -> Outcome:
        return await asyncio.shield(self._scope.spawn(operation, name=name))

    async def _start(self, storage: Storage, at: float | None, ahead: float) -> Outcome:
        async with self._lock:
            if self._closing:
                return Outcome("error", "the device is shutting down")
            if self.phase is Phase.RECORDING:
                return Outcome("recording", "already recording")
            await self._unschedule()
            if at is not None and ahead > SHORT_LEAD:
                lack = await self._lack_of_space(storage)
                if lack:
                    return Outcome("error", lack)
                self.phase = Phase.SCHEDULED
                self._schedule = self._scope.spawn(self._start_later(storage, at), name="schedule")
                return Outcome("scheduled_recording_accepted", f"recording starts in {ahead:.3f} s")
            if at is not None and ahead > 0:
                return await self._begin_at(storage, at)
            return await self._begin(storage)

    async def _stop(self) -> Outcome:
        async with self._lock:
            if self.phase is Phase.SCHEDULED:
                await self._unschedule()
                return Outcome("recording_stopped", "the scheduled start was cancelled")
            if self._left is not None:
                left, self._left = self._left, None
                self.phase = Phase.READY
                return left
            if self.phase is not Phase.RECORDING:
                return Outcome("error", "not recording")
            if self._watch is not None:
                self._watch.cancel()
            return await self._finish()

    async def _until(self, at: float | None) -> None:
        # In steps, because the offset may be corrected while we wait.
        while at is not None and (wait := at - self.now()) > 0:
            await self._clock.sleep(min(wait, 1.0))

    async def _start_later(self, storage: Storage, at: float) -> None:
        try:
            path = await self._arm(storage, at)
            await self._until(at)
            async with self._lock:
                self._schedule = None
                outcome = await self._begin(storage, path)
        except BaseException:
            await finish(self._disarm())
            raise
        if outcome.status != "recording":
            _LOG.error("the scheduled recording did not start: %s", outcome.message)

    async def _arm(self, storage: Storage, at: float) -> Path | None:
        """Have the recorder ready for a time; the path if it is."""
        if not isinstance(self._recorder, ArmsAhead):
            return None
        await self._until(at - ARM_LEAD)
        try:
            self.path = await storage.new_path(at - (self._offset() or 0.0))
            async with deadline(self._start_timeout, "camera"):
                await self._recorder.arm(self.path)
        except Exception as error:  # noqa: BLE001 - as in `_begin`, which will tell if it lasts
            _LOG.info("the recorder is not ready ahead of its start: %s", error)
            await self._disarm()
            return None
        return self.path

    async def _disarm(self) -> None:
        self.path = None
        if isinstance(self._recorder, ArmsAhead):
            try:
                async with deadline(self._stop_timeout, "end of what was armed"):
                    await self._recorder.disarm()
            except Exception as error:  # noqa: BLE001 - as in `_begin`
                _LOG.error("the recorder did not let go of a scheduled start", exc_info=error)

    async def _unschedule(self) -> None:
        schedule, self._schedule = self._schedule, None
        if schedule is not None:
            schedule.cancel()
            await asyncio.wait({schedule})  # it lets go of what it armed
        if self.phase is Phase.SCHEDULED:
            self.phase = Phase.READY

    async def _lack_of_space(self, storage: Storage) -> str:
        free = await storage.free()
        if free >= self._reserve:
            return ""
        return f"{free:,} bytes are free for recordings, {self._reserve:,} are needed"

    async def _begin_at(self, storage: Storage, at: float) -> Outcome:
        """Start the recorder at a time that is about to come; the lock is held."""
        try:
            path = await self._arm(storage, at)
            await self._until(at)
        except BaseException:
            await finish(self._disarm())
            raise
        return await self._begin(storage, path)

    async def _begin(self, storage: Storage, armed: Path | None = None) -> Outcome:
        """Start the recorder, which may be armed for a path; the lock is held."""
        self.phase = Phase.STARTING
        self.message = ""
        self._left = None
        try:
            lack = await self._lack_of_space(storage)
            if lack:
                raise InsufficientSpaceError(lack, needed=self._reserve, free=0)
            path = self.path = armed or await storage.new_path(self._clock.time())
            async with deadline(self._start_timeout, "first frame"):
                self.first_frame_at = await self._recorder.start(path)
            recorder: object = self._recorder
            self.first_frame_bound = (
                recorder.first_frame_bound if isinstance(recorder, BoundsFirstFrame) else None
            )
        except Exception as error:  # noqa: BLE001 - the recorder is the caller's code and may raise anything
            begun, self.path = self.path, None
            if armed is not None:
                await self._disarm()
            self._fail(error)
            if begun is not None:
                await storage.drop_empty(begun)
            return Outcome("error", self.message)
        self.phase = Phase.RECORDING
        self._watch = self._scope.spawn(self._end_if_needed(storage), name="watch")
        return Outcome("recording")

    async def _finish(self) -> Outcome:
        """Stop the recorder; the lock is held."""
        self.phase = Phase.STOPPING
        try:
            async with deadline(self._stop_timeout, "finished file"):
                verdict = await self._recorder.stop()
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)
            return Outcome("error", self.message)
        finally:
            self.path = None
        self.phase = Phase.READY
        if verdict.verdict is Verdict.EMPTY:
            return Outcome("error", f"nothing was recorded: {verdict.detail}", verdict)
        return Outcome("recording_stopped", verdict.detail, verdict)

    async def _end_if_needed(self, storage: Storage) -> None:
        """Finish the file when the recorder ends by itself or the disk fills up."""
        reason: str | None = None
        while reason is None:
            try:
                async with deadline(_SPACE_INTERVAL, "end"):
                    reason = await self._recorder.ended()
            except TimeoutError:
                if await storage.free() < self._reserve // 2:
                    reason = "the disk is nearly full"
            except Exception as error:  # noqa: BLE001 - as above
                reason = str(error) or type(error).__name__
        async with self._lock:
            outcome = await self._finish()
            _LOG.error("the recording ended by itself: %s", reason)
            self._left = Outcome(outcome.status, reason, outcome.file)
            self.phase, self.message = Phase.FAILED, reason

    def _fail(self, error: Exception) -> None:
        self.phase = Phase.FAILED
        self.message = str(error) or type(error).__name__
        if not isinstance(error, AsynccamError):
            _LOG.error("the recorder failed", exc_info=error)
