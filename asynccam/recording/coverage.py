"""The stretch of time that a recording covers, told by its files and by what was counted meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asynccam.model.coverage import (
    SINGLE_FRAME_INTERVAL,
    EarlyEnd,
    LateBegin,
    begin_tolerance,
    end_tolerance,
)
from asynccam.recording.events import EndReason
from asynccam.recording.process_run import FIRST_FRAME_BOUND, Run
from asynccam.recording.verify import FileVerdict

if TYPE_CHECKING:
    from asynccam.recording.recorder import Recorder

_COUNTED_EVERY: Final = 1.0
"""Seconds between two counts of frames: so much later than the last count the last frame may have come."""


@dataclass(frozen=True, slots=True)
class CoverageResult:
    """The end of a recording's video.

    Attributes:
        at: When the last frame was there, Unix seconds.
        came_at: The same by the length of the files, monotonic seconds, or None where they do not tell.
        seen_at: When a frame was last counted, monotonic seconds.
        began_at: When the first frame of the last run was there, monotonic seconds.
        interval: Seconds that usually lie between two frames at most.
        reason: What ended it before it was asked to, in words.
        counted_at: When the last frame came by the number of frames in the files and the pace at which
            frames were counted, monotonic seconds, or None where that is not known.
        delay: Seconds that the source holds every frame back.
        bound: Seconds by which ``began_at`` may be wrong.
    """

    at: float
    came_at: float | None
    seen_at: float
    began_at: float
    interval: float
    reason: str
    counted_at: float | None = None
    delay: float = 0.0
    bound: float = FIRST_FRAME_BOUND

    def early(self, asked_at: float | None) -> EarlyEnd | None:
        """Return whether it ended early.

        Both the files and the counts have to say so: the files alone would call it early when a busy computer
        makes a video whose time lags behind, the counts alone when a busy program has not read them yet.

        Args:
            asked_at: Until when it was to show what happens, monotonic seconds: when it was told to end or
                reached its limit; or None for not at all.
        """
        if asked_at is None:
            return EarlyEnd(self.at, None, self.reason).shifted_back(self.delay)
        # The frame that shows ``asked_at`` arrives ``delay`` seconds later.
        due_at = asked_at + self.delay
        counted_at = self.seen_at + _COUNTED_EVERY if self.counted_at is None else self.counted_at
        if self.came_at is None:
            missing, silent = due_at - self.seen_at, due_at - counted_at
        else:
            missing = due_at - self.came_at
            silent = min(missing, due_at - counted_at)
        tolerance = end_tolerance(due_at - self.began_at, self.interval, bound=self.bound)
        return EarlyEnd(self.at - self.delay, missing, self.reason) if silent > tolerance else None

    def late(self, first_at: float, came_at: float, wanted_at: float) -> LateBegin | None:
        """Return whether the recording began late.

        Args:
            first_at: When its very first frame was there, Unix seconds.
            came_at: The same, monotonic seconds.
            wanted_at: From when on frames were to be recorded, monotonic seconds.
        """
        missing = came_at - wanted_at
        if missing <= begin_tolerance(self.interval, bound=self.bound):
            return None
        return LateBegin(first_at - self.delay, missing, "no frame came at the start")


def ending_of(
    recorder: "Recorder", run: Run, verdicts: Sequence[FileVerdict], stall: float
) -> CoverageResult:
    """What is known of the end of a recording that is over.

    Args:
        recorder: Whose it is.
        run: The last one that had a frame.
        verdicts: On its files.
        stall: Seconds that count for a stall; a single frame's stream is not called slower than that.
    """
    length = run.length(verdicts)
    came_at = None if length is None else run.began_at + length
    last = run.seen_at if came_at is None else came_at
    reason = "no frame came any more"
    if recorder.error is not None:
        reason = str(recorder.error)
    elif recorder.reason is EndReason.END_OF_STREAM:
        reason = "the stream ended"
    if run.rtp.trouble:
        reason = f"{reason}; {run.rtp.trouble}"
    stalled = bool(recorder.gaps) and not recorder.gaps[-1].resumed
    return CoverageResult(
        at=run.first_frame.result() + last - run.began_at,
        came_at=came_at,
        seen_at=run.seen_at,
        began_at=run.began_at,
        # A stall has been longer than what is usual already.
        interval=0.0 if stalled else _interval(run, verdicts, length, stall),
        reason=reason,
        counted_at=_counted_at(run, verdicts, length),
        delay=run.latency,
        bound=run.first_frame_bound,
    )


def _interval(run: Run, verdicts: Sequence[FileVerdict], length: float | None, stall: float) -> float:
    known = [one.interval for one in verdicts if one.interval is not None]
    if known:
        return max(known)
    frames = max(run.frames, sum(one.frames or 0 for one in verdicts))
    passed = run.seen_at - run.began_at if length is None else length
    return passed / (frames - 1) if frames > 1 and passed > 0 else min(stall, SINGLE_FRAME_INTERVAL)


def _counted_at(run: Run, verdicts: Sequence[FileVerdict], length: float | None) -> float | None:
    """When the last frame came, told by frames that files hold beyond the last count; None if unknown."""
    if any(one.frames is None for one in verdicts) or not verdicts:
        return None
    held = sum(one.frames or 0 for one in verdicts)
    if held < run.frames:
        return None  # files were rotated away, or lost what had been counted
    if run.frames > 1 and run.seen_at > run.began_at:
        # By our own clock, since the time in the files may lag behind.
        pace = (run.seen_at - run.began_at) / (run.frames - 1)
    elif held > 1 and length is not None:
        return None if run.seen_at > run.began_at else run.began_at + length
    else:
        pace = 0.0
    return run.seen_at + (held - max(run.frames, 1)) * pace
