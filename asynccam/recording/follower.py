"""What ends a run that has its first frame: a limit, a stall, its own end, or being told to stop."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from asynccam.errors import RecordingError
from asynccam.recording.events import EndReason, RecorderSegmentClosed, RecorderState
from asynccam.recording.options import Limits, Watch
from asynccam.recording.process import LaunchProcess
from asynccam.recording.process_run import Run, survey
from asynccam.recording.progress import ProgressReporter
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.timing import deadline

_DISK_SECONDS: Final = 30.0


class RecordingMonitor:
    """Follows a recorder's runs, one after the other.

    Args:
        recorder: Its name.
        events: Where to tell of finished segments.
        limits: When the recording ends by itself.
        watch: What to look for meanwhile.
        teller: Told of what is seen.
        move: Called with the state the recorder is to take.

    Attributes:
        stop: Done when the recording is to end.
        runs: All runs so far, the present one last.
    """

    def __init__(
        self,
        recorder: str,
        events: EventHub,
        limits: Limits,
        watch: Watch,
        teller: ProgressReporter,
        move: Callable[[RecorderState], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.stop: asyncio.Future[None] = loop.create_future()
        self.runs: list[Run] = []
        self._enough: asyncio.Future[None] = loop.create_future()
        self._until: float | None = None
        self._recorder = recorder
        self._events = events
        self._limits = limits
        self._watch = watch
        self._teller = teller
        self._move = move

    def begin_at(self, first_frame: float) -> None:
        """Count the limit's seconds from the recording's first frame, monotonic seconds."""
        if self._limits.seconds is not None:
            self.go_on_for(self._limits.seconds - (time.monotonic() - first_frame))

    def go_on_for(self, seconds: float) -> None:
        """End so many seconds from now, whatever the limit was."""
        self._until = time.monotonic() + seconds

    def segment_closed(self, path: Path | None, duration: float) -> None:
        """Tell of a finished file, and see whether that was the last one wanted."""
        self._events.emit(RecorderSegmentClosed(recorder=self._recorder, path=path, duration=duration))
        limit = self._limits.segments
        if limit is not None and sum(run.segments for run in self.runs) >= limit and not self._enough.done():
            self._enough.set_result(None)

    async def first_frame(self, process: LaunchProcess, timeout: float) -> EndReason | None:
        """Wait for the last run's first frame, its end, or the stop, which is told.

        Args:
            process: The run's.
            timeout: Seconds that may take; nobody hears when they are over.
        """
        came = self.runs[-1].first_frame
        signs: set[asyncio.Future[Any]] = {came, process.exited, self.stop}
        await asyncio.wait(signs, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return EndReason.STOPPED if self.stop.done() and not came.done() else None

    async def follow(self, process: LaunchProcess) -> EndReason | None:
        """Watch the last run until something ends it; None if another is to follow.

        Args:
            process: The run's.

        Raises:
            RecordingError: It gave up.
            StorageError, TimeoutError: The disk.
        """
        run = self.runs[-1]
        stalled = False
        while True:
            left = self._until - time.monotonic() if self._until is not None else self._watch.interval
            await asyncio.wait(
                {process.exited, self.stop, self._enough},
                timeout=max(0.0, min(left, self._watch.interval)),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self.stop.done():
                return EndReason.STOPPED
            async with deadline(_DISK_SECONDS, f"answer from the disk of {self._recorder}"):
                seen = await asyncio.to_thread(survey, [one.files for one in self.runs])
            if self._at_limit(self._teller.look(self.runs, seen)):
                return EndReason.LIMIT
            if process.exited.done():
                return self._ended_by_itself(run, process, stalled=stalled)
            was_stalled, stalled = stalled, time.monotonic() - run.grown_at >= self._watch.stall
            if stalled and not was_stalled:
                self._move(RecorderState.STALLED)
                others = f"; {run.rtp.trouble}" if run.rtp.trouble else ""
                self._teller.open_gap(run, f"nothing came for {self._watch.stall:g} s{others}")
            elif was_stalled and not stalled:
                self._move(RecorderState.RECORDING)
                self._teller.close_gap(run.grown_wall)
            if stalled and self._watch.restart:
                self._move(RecorderState.RESTARTING)
                return None

    def _at_limit(self, total: int) -> bool:
        if self._enough.done() or (self._until is not None and time.monotonic() >= self._until):
            return True
        return self._limits.size is not None and total >= self._limits.size

    def _ended_by_itself(self, run: Run, process: LaunchProcess, *, stalled: bool) -> EndReason | None:
        finished = run.end_of_stream and process.returncode == 0
        why = run.failure or (
            "the stream ended" if finished else f"gst-launch-1.0 ended with status {process.returncode}"
        )
        if self._watch.restart:
            self._move(RecorderState.RESTARTING)
            if not stalled:
                self._teller.open_gap(run, why)
            return None
        if finished:
            return EndReason.END_OF_STREAM
        raise RecordingError(f"{self._recorder}: {why}", output=process.output)
