"""Time that a recording covers: early end, late begin, and gaps, by its files and by counted frames."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from asynccam.errors import AsynccamError
from asynccam.model.coverage import (
    SINGLE_FRAME_INTERVAL,
    EarlyEnd,
    LateBegin,
    begin_tolerance,
    end_tolerance,
    is_hole,
    least_hole,
)
from asynccam.recording.events import Gap
from asynccam.recording.frame_times import frame_times
from asynccam.recording.process_run import FIRST_FRAME_BOUND, ProcessRun
from asynccam.recording.verify import FileVerdict

_COUNT_INTERVAL: Final = 1.0
"""Seconds between two counts of frames: the last frame may have arrived so much later than the last count."""


@dataclass(frozen=True, slots=True)
class CoverageResult:
    """End of a recording's video. Times are monotonic seconds unless stated otherwise.

    Attributes:
        by_length_at: When the last frame was there by the length of the files, or None where that is unknown.
        by_count_at: When the last frame arrived by the number of frames in the files and the pace at which
            frames were counted, or None where that is unknown.
    """

    ended_at: float  # when the last frame was there, Unix seconds
    by_length_at: float | None
    seen_at: float  # when a frame was last counted
    began_at: float  # when the first frame of the last run was there
    interval: float  # seconds that usually lie between two frames at most
    reason: str  # why it ended before it was asked to end
    by_count_at: float | None = None
    delay: float = 0.0  # seconds that the source holds every frame back
    bound: float = FIRST_FRAME_BOUND  # seconds by which ``began_at`` may be wrong

    def early(self, asked_at: float | None) -> EarlyEnd | None:
        """Return the early end, if it ended before it was asked to (monotonic seconds, None if it was not).

        Both the files and the counts have to say so: the files alone would call it early when a busy computer
        makes a video whose time lags behind, the counts alone when a busy program has not read them yet.
        """
        if asked_at is None:
            return EarlyEnd(self.ended_at, None, self.reason).shifted_back(self.delay)
        # The frame that shows ``asked_at`` arrives ``delay`` seconds later.
        due_at = asked_at + self.delay
        by_count_at = self.seen_at + _COUNT_INTERVAL if self.by_count_at is None else self.by_count_at
        if self.by_length_at is None:
            missing, silent = due_at - self.seen_at, due_at - by_count_at
        else:
            missing = due_at - self.by_length_at
            silent = min(missing, due_at - by_count_at)
        tolerance = end_tolerance(due_at - self.began_at, self.interval, bound=self.bound)
        return EarlyEnd(self.ended_at - self.delay, missing, self.reason) if silent > tolerance else None

    def late(self, first_frame_at: float, began_at: float, wanted_at: float) -> LateBegin | None:
        """Return the late begin, if the recording began too long after it was wanted.

        ``first_frame_at`` is the Unix time of ``began_at``, when its very first frame was there.
        """
        missing = began_at - wanted_at
        if missing <= begin_tolerance(self.interval, bound=self.bound):
            return None
        return LateBegin(first_frame_at - self.delay, missing, "no frame arrived at the start")


def measure_coverage(
    run: ProcessRun, verdicts: Sequence[FileVerdict], *, reason: str, stall: float, is_stalled: bool
) -> CoverageResult:
    """Return the end of a recording that is over, by the last run that had a frame and its verdicts.

    ``stall`` is the seconds that count for a stall; the stream of a single frame is not called slower than
    that. ``is_stalled`` says that it stalled to the end.
    """
    length = run.length(verdicts)
    by_length_at = None if length is None else run.began_at + length
    last = run.seen_at if by_length_at is None else by_length_at
    return CoverageResult(
        ended_at=run.first_frame.result() + last - run.began_at,
        by_length_at=by_length_at,
        seen_at=run.seen_at,
        began_at=run.began_at,
        # A stall is longer than any usual interval.
        interval=0.0 if is_stalled else _interval(run, verdicts, length, stall),
        reason=reason,
        by_count_at=_by_count_at(run, verdicts, length),
        delay=run.plan.stream.latency,
        bound=run.first_frame_bound,
    )


def _interval(run: ProcessRun, verdicts: Sequence[FileVerdict], length: float | None, stall: float) -> float:
    known = [verdict.interval for verdict in verdicts if verdict.interval is not None]
    if known:
        return max(known)
    frames = max(run.frames, sum(verdict.frames or 0 for verdict in verdicts))
    passed = run.seen_at - run.began_at if length is None else length
    return passed / (frames - 1) if frames > 1 and passed > 0 else min(stall, SINGLE_FRAME_INTERVAL)


def _by_count_at(run: ProcessRun, verdicts: Sequence[FileVerdict], length: float | None) -> float | None:
    """Return when the last frame arrived, by the frames in files beyond the last count; None if unknown."""
    if any(verdict.frames is None for verdict in verdicts) or not verdicts:
        return None
    in_files = sum(verdict.frames or 0 for verdict in verdicts)
    if in_files < run.frames:
        return None  # files were rotated away, or lost what had been counted
    if run.frames > 1 and run.seen_at > run.began_at:
        # By this computer's clock, since the time in the files may lag behind.
        pace = (run.seen_at - run.began_at) / (run.frames - 1)
    elif in_files > 1 and length is not None:
        return None if run.seen_at > run.began_at else run.began_at + length
    else:
        pace = 0.0
    return run.seen_at + (in_files - max(run.frames, 1)) * pace


async def find_gaps(verdicts: Sequence[FileVerdict], first_frame_at: float) -> list[Gap]:
    """Find the times without a frame in the files of one run, oldest file first. Times are Unix seconds.

    An outage shorter than a stall is not noticed while it is recorded. The times of the frames after it show
    it, because frames are stamped when they arrive. A file with such a gap is read once more.
    """
    gaps: list[Gap] = []
    began = first_frame_at
    for verdict in verdicts:
        if is_hole(verdict.longest, verdict.interval):
            gaps += await _gaps_in(verdict, began, least_hole(verdict.interval))
        if verdict.duration is None:
            break
        began += verdict.duration
    return gaps


async def _gaps_in(verdict: FileVerdict, began: float, least: float) -> list[Gap]:
    gaps: list[Gap] = []
    first = before = None
    try:
        async with aclosing(frame_times(verdict.path)) as frames:
            async for frame in frames:  # a day has millions: none is kept
                if frame.time is None:
                    continue
                if first is None:
                    first = frame.time
                elif before is not None and frame.time - before > least:
                    gaps.append(Gap(began + before - first, began + frame.time - first, restarted=False))
                before = frame.time
    except AsynccamError:  # removed meanwhile, or of a format without frame times
        return gaps or [Gap(began, began + (verdict.longest or 0.0), restarted=False)]
    return gaps
