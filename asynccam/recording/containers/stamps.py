"""Frames put in the order in which they are shown, with their durations, in constant memory."""

import heapq
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_MAX_REORDERED: Final = 32
"""Frames that may be decoded before one that is shown earlier: H.264 and H.265 allow 16, as fields 32."""
_JUMP: Final = 10.0
"""Seconds back that are not reordering but another clock: a second file behind the first, for example."""


class FrameStamp(NamedTuple):
    """Times of one frame in a file's ticks."""

    time: int | None  # when it is shown, or None where the file does not say
    stated: int | None = None  # for how long, if the file says so for this frame
    usual: int | None = None  # for how long if no other frame follows, or None


def reorder(stamps: Iterable[FrameStamp], rate: float) -> Iterator[FrameStamp]:
    """Yield frames in the order of their times, from the order of decoding; ``rate`` in ticks a second.

    A frame without a time stays behind those before it. Where the clock jumps back, all frames before the
    jump come first.
    """
    waiting: list[tuple[int, int, FrameStamp]] = []
    latest: int | None = None
    given: int | None = None
    for index, stamp in enumerate(stamps):
        time = stamp.time if stamp.time is not None else latest if latest is not None else 0
        is_late = given is not None and time < given
        if is_late or (latest is not None and time < latest - _JUMP * rate):
            while waiting:
                yield heapq.heappop(waiting)[2]
            latest = None
        latest = time if latest is None else max(latest, time)
        heapq.heappush(waiting, (time, index, stamp))
        if len(waiting) > _MAX_REORDERED:
            given, _, earliest = heapq.heappop(waiting)
            yield earliest
        elif is_late:
            given = None
    while waiting:
        yield heapq.heappop(waiting)[2]


def with_durations(stamps: Iterable[FrameStamp]) -> Iterator[tuple[int | None, int | None]]:
    """Yield the time and duration of frames in shown order: as stated, or until the next one, or None."""
    before: FrameStamp | None = None
    for stamp in stamps:
        if before is not None:
            yield before.time, _duration(before, stamp)
        before = stamp
    if before is not None:
        yield before.time, _duration(before, None)


def _duration(stamp: FrameStamp, following: FrameStamp | None) -> int | None:
    if stamp.stated is not None and stamp.stated > 0:
        return stamp.stated
    if following is None:
        return stamp.usual
    if stamp.time is None or following.time is None:
        return None
    # Behind a jump back, the next frame does not give this one's duration.
    return following.time - stamp.time if following.time >= stamp.time else stamp.usual
