"""Recordings on this computer: the armed start, and the reports, of systems whose cameras only stream.

Apart from `_base`, because a session need not load the recorder for cameras that record themselves.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from asynccam.errors import AsynccamError, StateError, UsageError
from asynccam.model.coverage import EarlyEnd
from asynccam.model.features import RecordingGap, StartReport
from asynccam.model.info import CameraState, MediaFile
from asynccam.recording import FileVerdict, Gap, RecorderState, Verdict
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.wall_clock import unix_now

_CAMERA_STATES: Final = {
    RecorderState.RECORDING: CameraState.RECORDING,
    RecorderState.STALLED: CameraState.RECORDING,
    RecorderState.RESTARTING: CameraState.RECORDING,
    RecorderState.STOPPING: CameraState.STOPPING,
}


class LocalRecorderStart:
    """`ArmedStart` of a recorder on this computer: released once, accepted at the first frame."""

    def __init__(
        self,
        system: str,
        start: Callable[[float], Coroutine[Any, Any, StartReport]],  # gets the time of the release
        discard: Callable[[], Coroutine[Any, Any, None]],  # cleans up if no recording was started
        *,
        took_over: str = "",
    ) -> None:
        self.took_over = took_over  # another program's stream that arming ended, or ``""``
        self._system = system
        self._start = start
        self._discard = discard
        self._scope = TaskScope("armed start", on_failure=_raised_by_accepted)
        self._starting: asyncio.Task[StartReport] | None = None
        self._closed = False

    def release(self, at: float | None) -> None:
        """Start to record; `accepted` raises what goes wrong."""
        if at is not None:
            raise UsageError(f"a {self._system} camera starts at once; it has no scheduled start")
        if self._closed or self._starting is not None:
            raise StateError("this start was released or closed before")
        self._starting = self._scope.spawn(self._start(unix_now()), name="start")

    async def accepted(self) -> StartReport:
        """Wait for the first frame.

        Raises:
            BusyError: The server streams to another client.
            RecordingError, TimeoutError: No frame arrived.
            StorageError: The files cannot be written.
            StateError: `release` was not called, or the start was closed meanwhile.
            AsynccamError: The server is unavailable or refuses.
        """
        if self._starting is None:
            raise StateError("this start was not released")
        await asyncio.wait({self._starting})
        if self._starting.cancelled():
            raise StateError("this start was closed before the first frame")
        return self._starting.result()

    async def aclose(self) -> None:
        """Clean up if no recording was started; harmless otherwise, and when called twice."""
        if self._closed:
            return
        self._closed = True
        await finish(self._close())

    async def _close(self) -> None:
        await self._scope.aclose()
        if self._starting is None or self._starting.cancelled() or self._starting.exception():
            await self._discard()


def _raised_by_accepted(task: str, error: Exception) -> None:
    """Leave a failed start to `LocalRecorderStart.accepted`, which raises its error."""


def camera_state(recorder: RecorderState | None) -> CameraState:
    """Return the state of a camera whose recorder is in this state; None for no recorder."""
    return CameraState.READY if recorder is None else _CAMERA_STATES.get(recorder, CameraState.READY)


def recording_gaps(gaps: Iterable[Gap], reason: str) -> tuple[RecordingGap, ...]:
    """Return a recorder's gaps as a `StopReport` has them."""
    return tuple(
        RecordingGap(gap.began, gap.ended if gap.resumed else None, gap.restarted, reason) for gap in gaps
    )


def media_files(verdicts: Iterable[FileVerdict]) -> tuple[MediaFile, ...]:
    """Return a recorder's files as a `StopReport` has them."""
    return tuple(
        MediaFile(verdict.path.name, verdict.size, path=verdict.path, verdict=verdict) for verdict in verdicts
    )


def early_end(error: AsynccamError | None, ended: EarlyEnd | None) -> str:
    """Return the remark on a recording that ended before its stop, or ``""``."""
    reason = error or (ended.reason if ended is not None else None)
    return "" if reason is None else f"ended early: {reason}"


def stop_status(verdicts: Iterable[FileVerdict], *remarks: str) -> str:
    """Return the status of a `StopReport`: ``complete`` or the files that are not, then the remarks."""
    flawed = [
        f"{verdict.path.name}: {verdict.verdict.value}"
        for verdict in verdicts
        if verdict.verdict is not Verdict.COMPLETE
    ]
    return "; ".join([*(flawed or ["complete"]), *filter(None, remarks)])
