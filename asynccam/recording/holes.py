"""Stretches without a frame inside recorded files, by the presentation times of their frames."""

from collections.abc import Sequence
from contextlib import aclosing

from asynccam.errors import AsynccamError
from asynccam.model.coverage import is_hole, least_hole
from asynccam.recording.events import Gap
from asynccam.recording.frame_times import frame_times
from asynccam.recording.verify import FileVerdict


async def find_holes(verdicts: Sequence[FileVerdict], first_at: float) -> list[Gap]:
    """Find the stretches without a frame in the files of one run.

    A stream that stays away for less than a stall is not noticed while it is recorded. The frames that come
    after it tell, because they are stamped when they arrive. All files are read once more if one has a hole.

    Args:
        verdicts: On the files, oldest first.
        first_at: When the first frame was there, Unix seconds.
    """
    gaps: list[Gap] = []
    began = first_at
    for verdict in verdicts:
        if is_hole(verdict.longest, verdict.interval):
            gaps += await _holes_in(verdict, began, least_hole(verdict.interval))
        if verdict.duration is None:
            break
        began += verdict.duration
    return gaps


async def _holes_in(verdict: FileVerdict, began: float, least: float) -> list[Gap]:
    gaps: list[Gap] = []
    first = before = None
    try:
        async with aclosing(frame_times(verdict.path)) as frames:
            async for frame in frames:  # of a day there are millions: none is kept
                if frame.time is None:
                    continue
                if first is None:
                    first = frame.time
                elif before is not None and frame.time - before > least:
                    gaps.append(Gap(began + before - first, began + frame.time - first, restarted=False))
                before = frame.time
    except AsynccamError:  # removed meanwhile, or of a format that tells only how long the longest is
        return gaps or [Gap(began, began + (verdict.longest or 0.0), restarted=False)]
    return gaps
