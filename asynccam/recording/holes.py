"""Stretches without a frame inside recorded files, by the presentation times of their frames."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from asynccam.errors import AsynccamError
from asynccam.recording.events import Gap
from asynccam.recording.frame_times import frame_times
from asynccam.recording.verdict import FileVerdict

HOLE: Final = 1.0
"""Seconds between two frames above which something is missing; a busy computer is late by less."""
_SLOW: Final = 3.0
"""How many times the usual interval: a stream of a frame a second is not full of holes."""


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
        least = max(HOLE, _SLOW * (verdict.interval or 0.0))
        if verdict.longest is not None and verdict.longest > least:
            gaps += await _holes_in(verdict, began, least)
        if verdict.duration is None:
            break
        began += verdict.duration
    return gaps


async def _holes_in(verdict: FileVerdict, began: float, least: float) -> list[Gap]:
    try:
        times = [one.time async for one in frame_times(verdict.path) if one.time is not None]
    except AsynccamError:  # removed meanwhile, or of a format that tells only how long the longest is
        return [Gap(began, began + (verdict.longest or 0.0), restarted=False)]
    return [
        Gap(began + before - times[0], began + after - times[0], restarted=False)
        for before, after in pairwise(times)
        if after - before > least
    ]
