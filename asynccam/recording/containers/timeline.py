"""Presentation times of frames: their span and their order, in one pass and in constant memory."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from asynccam.recording.containers.reader import Intervals

_MAX_REORDERED: Final = 32
"""Frames that may be decoded before one that is shown earlier: H.264 (table A-1) allows 16, as fields 32."""
_MAX_STEP: Final = 366 * 86400  # seconds between two frames above which one of the two times is implausible
_MAX_GROUPS: Final = 16
_MAX_RATIO: Final = 4  # how many times the usual interval a declared frame duration may be


@dataclass(slots=True)
class _TimeGroup:
    """Frames whose times lie within reach of each other."""

    first: int
    last: int
    seen: int
    duration: int | None
    count: int = 1


class Timeline:
    """Span of the frames of one track, in any order; ``second`` in ticks.

    One time that has wrapped below zero would make a file of four seconds last 584 years. Times that lie
    more than a year from all others are counted, and left out of the span.
    """

    def __init__(self, second: float) -> None:
        self.intervals = Intervals()  # times between frames, in presentation order, in ticks
        self._second = second
        self._max_step = _MAX_STEP * second
        self._groups: list[_TimeGroup] = []
        self._current: _TimeGroup | None = None
        self._ungrouped = 0
        self._waiting: list[int] = []
        self._latest: int | None = None

    def add(self, time: int, duration: int | None = None) -> None:
        """Add the next frame: its time, and its duration if that is declared."""
        current = self._current
        if current is None or not -self._max_step < time - current.seen < self._max_step:
            current = self._find_group(time, duration)
            if current is None:
                self._ungrouped += 1
                return
        else:
            current.count += 1
        current.seen = time
        if time >= current.last:
            current.last, current.duration = time, duration
        elif time < current.first:
            current.first = time
        if len(self._waiting) < _MAX_REORDERED:
            heapq.heappush(self._waiting, time)
        else:
            self._note_in_order(heapq.heappushpop(self._waiting, time))

    @property
    def longest(self) -> float | None:
        """Longest time between two frames in seconds, once it is finished; None if unknown."""
        longest = self.intervals.longest
        return None if longest is None else longest / self._second

    @property
    def flaws(self) -> list[str]:
        """Frames whose times are too far from those of the others, in words."""
        most = max((group.count for group in self._groups), default=0)
        implausible = self._ungrouped + sum(group.count for group in self._groups) - most
        return [f"has {implausible} implausible time stamps"] if implausible else []

    def finish(self, declared: int | None = None) -> tuple[float | None, float | None]:
        """Return the time from the first frame to the end of the last, and the usual interval, in seconds.

        ``declared`` is the duration of every frame of the track in ticks, if the file declares one.
        """
        while self._waiting:
            self._note_in_order(heapq.heappop(self._waiting))
        usual = self.intervals.usual
        interval = None if usual is None else usual / self._second
        main = max(self._groups, key=lambda group: group.count, default=None)
        if main is None:
            return None, interval
        length = self._length(main, declared)
        if length is None:
            return None, interval
        return (main.last - main.first + length) / self._second, interval

    def _length(self, main: _TimeGroup, declared: int | None) -> float | None:
        """Return how long the last frame is shown."""
        if main.duration is not None and 0 < main.duration < self._max_step:
            return main.duration
        usual = self.intervals.usual
        if usual is not None and main.count > 1:
            # An outage is no frame's length, also where there were two.
            usual = min(usual, (main.last - main.first) / (main.count - 1))
        if declared and declared < self._max_step and (usual is None or declared <= _MAX_RATIO * usual):
            return declared
        return usual

    def _find_group(self, time: int, duration: int | None) -> _TimeGroup | None:
        for group in self._groups:
            if -self._max_step < time - group.seen < self._max_step:
                group.count += 1
                self._current = group
                return group
        if len(self._groups) == _MAX_GROUPS:
            return None
        self._current = _TimeGroup(time, time, time, duration)
        self._groups.append(self._current)
        return self._current

    def _note_in_order(self, time: int) -> None:
        if self._latest is not None and 0 < time - self._latest < self._max_step:
            self.intervals.add(time - self._latest)
        self._latest = time if self._latest is None else max(time, self._latest)


_JUMP: Final = 10.0
"""Seconds back that are not reordering but another clock: a second file behind the first, for example."""


class FrameStamp(NamedTuple):
    """Times of one frame in a file's ticks."""

    time: int | None  # when it is shown, or None where the file does not say
    stated: int | None = None  # for how long, if the file says so for this frame
    usual: int | None = None  # for how long if no other frame follows, or None


def reorder(stamps: Iterable[FrameStamp], rate: float) -> Iterator[FrameStamp]:
    """Yield frames in the order of their times, from the order of decoding; ``rate`` in ticks a second.

    A frame without a time stays behind those before it. A jump back of the clock ends the reordering.
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
