"""Presentation times of frames, gathered in one pass and in constant memory."""

import heapq
from typing import Final

from asynccam.recording.containers.reader import Intervals

_REORDERED: Final = 32
"""Frames that may be stored between one and its successor in time; H.264 allows 16 (table A-1)."""
_LEAP: Final = 366 * 86400
"""Seconds between two frames above which one of the two times is not believed."""
_STRETCHES: Final = 16
_LONG: Final = 4
"""How many times the usual interval a declared frame duration may be."""


class _Stretch:
    """Frames whose times lie within reach of each other."""

    __slots__ = ("count", "duration", "first", "last", "seen")

    def __init__(self, time: int, duration: int | None) -> None:
        self.first = self.last = self.seen = time
        self.duration = duration
        self.count = 1


class Timeline:
    """The span of the frames of one track, in any order.

    One time that has wrapped below zero would make a file of four seconds last 584 years. Times that lie
    more than a year from all others are counted, and left out of the span.

    Args:
        second: Ticks of the times in a second.

    Attributes:
        intervals: Times between frames, in presentation order, in ticks.
    """

    def __init__(self, second: float) -> None:
        self.intervals = Intervals()
        self._second = second
        self._leap = _LEAP * second
        self._stretches: list[_Stretch] = []
        self._current: _Stretch | None = None
        self._astray = 0
        self._waiting: list[int] = []
        self._latest: int | None = None

    def add(self, time: int, duration: int | None = None) -> None:
        """Take the next frame: its time, and how long it is shown if that is declared."""
        current = self._current
        if current is None or not -self._leap < time - current.seen < self._leap:
            current = self._find(time, duration)
            if current is None:
                self._astray += 1
                return
        else:
            current.count += 1
        current.seen = time
        if time >= current.last:
            current.last, current.duration = time, duration
        elif time < current.first:
            current.first = time
        if len(self._waiting) < _REORDERED:
            heapq.heappush(self._waiting, time)
        else:
            self._pass(heapq.heappushpop(self._waiting, time))

    @property
    def longest(self) -> float | None:
        """Longest time between two frames in seconds, once it is finished; None if that is not known."""
        longest = self.intervals.longest
        return None if longest is None else longest / self._second

    @property
    def astray(self) -> int:
        """Frames whose times are too far from those of the others to be believed."""
        most = max((one.count for one in self._stretches), default=0)
        return self._astray + sum(one.count for one in self._stretches) - most

    def finish(self, declared: int | None = None) -> tuple[float | None, float | None]:
        """Return the time from the first frame to the end of the last, and the usual interval, in seconds.

        Args:
            declared: How long every frame of the track is shown, in ticks, if the file says so.
        """
        while self._waiting:
            self._pass(heapq.heappop(self._waiting))
        usual = self.intervals.usual
        interval = None if usual is None else usual / self._second
        main = max(self._stretches, key=lambda one: one.count, default=None)
        if main is None:
            return None, interval
        length = self._length(main, declared)
        if length is None:
            return None, interval
        return (main.last - main.first + length) / self._second, interval

    def _length(self, main: _Stretch, declared: int | None) -> float | None:
        """How long the last frame is shown."""
        if main.duration is not None and 0 < main.duration < self._leap:
            return main.duration
        usual = self.intervals.usual
        if usual is not None and main.count > 1:
            # An outage is no frame's length, also where there were two.
            usual = min(usual, (main.last - main.first) / (main.count - 1))
        if declared and declared < self._leap and (usual is None or declared <= _LONG * usual):
            return declared
        return usual

    def _find(self, time: int, duration: int | None) -> _Stretch | None:
        for one in self._stretches:
            if -self._leap < time - one.seen < self._leap:
                one.count += 1
                self._current = one
                return one
        if len(self._stretches) == _STRETCHES:
            return None
        self._current = _Stretch(time, duration)
        self._stretches.append(self._current)
        return self._current

    def _pass(self, time: int) -> None:
        if self._latest is not None and 0 < time - self._latest < self._leap:
            self.intervals.add(time - self._latest)
        self._latest = time if self._latest is None else max(time, self._latest)
