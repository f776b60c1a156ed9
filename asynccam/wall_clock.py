"""The wall clock: the only module that asks this computer for the time of day.

The time of day can be set at any moment, by a person or by NTP. Whatever waits or measures uses monotonic
time. Whatever writes a wall time uses `unix_now`, which counts on from one pair of wall and elapsed time, so
that all times of one take are of one scale. See docs/clocks.md.
"""

import time
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

_AGREES: Final = 0.005
"""Seconds within which two readings of the same clocks agree; readings are some microseconds apart."""
_SIMULTANEOUS: Final = 0.001
"""Seconds that one reading of both clocks may take before it is read again."""
_ATTEMPTS: Final = 5


def _boot_time() -> float:
    """Return seconds that also count while the computer sleeps, where the system has such a clock."""
    # CLOCK_MONOTONIC stands still during a suspend on Linux; CLOCK_BOOTTIME does not.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


elapsed: Final[Callable[[], float]] = _boot_time if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Seconds from an arbitrary start that never go back, and that count while the computer sleeps (on Linux)."""


def _system_time() -> float:
    # Looked up at each call, so that a test can set the clock.
    return time.time()


class WallClock:
    """Wall time that is counted by elapsed time from one pair of both.

    While nothing has pinned it, it takes a new pair whenever the system's clock was set, so that a program
    which runs for months follows the system. While it is pinned, the pair stays.

    Args:
        time_of_day: The system's wall clock, Unix seconds.
        elapsed: Seconds that never go back.
    """

    def __init__(
        self,
        time_of_day: Callable[[], float] = _system_time,
        elapsed: Callable[[], float] = elapsed,
    ) -> None:
        self._time_of_day = time_of_day
        self._elapsed = elapsed
        self._pins = 0
        self._scale = self._pair()  # one value, because threads read it too

    def now(self) -> float:
        """Return the time of this scale, Unix seconds."""
        now = self.at(self._elapsed())
        # One reading of each clock shows nearly always that they agree; only `step` shows that they do not.
        if not self._pins and abs(self._time_of_day() - now) > _AGREES:
            self._follow()
            now = self.at(self._elapsed())
        return now

    def at(self, elapsed: float) -> float:
        """Return the Unix time of this scale at a moment of elapsed time."""
        wall, origin = self._scale
        return wall + (elapsed - origin)

    def elapsed(self) -> float:
        """Return seconds from an arbitrary start that never go back and count while the computer sleeps."""
        return self._elapsed()

    def step(self) -> float:
        """Return the system's wall clock minus this scale in seconds; 0 where they agree within 5 ms."""
        wall, moment = self._pair()
        apart = wall - self.at(moment)
        return apart if abs(apart) > _AGREES else 0.0

    def pair(self) -> tuple[float, float]:
        """Return the time of this scale and elapsed time at the same moment."""
        if not self._pins:
            self._follow()
        moment = self._elapsed()
        return self.at(moment), moment

    def pin(self, scale: tuple[float, float] | None = None) -> None:
        """Keep the scale as it is now, until `unpin` was called as often as this.

        Args:
            scale: Another process's scale to go on with, as its `pair` returned it since this computer was
                started. It has no effect while something else has pinned this clock.
        """
        if not self._pins:
            if scale is None:
                self._follow()
            else:
                self._scale = scale
        self._pins += 1

    @property
    def is_pinned(self) -> bool:
        """Return whether the scale is kept although the system's clock may have been set."""
        return self._pins > 0

    def unpin(self) -> None:
        """Let the clock follow the system again, once nothing else has pinned it."""
        self._pins -= 1

    def _follow(self) -> None:
        if self.step():
            self._scale = self._pair()

    def _pair(self) -> tuple[float, float]:
        """Return wall and elapsed time of the same moment; a reading that was interrupted is made again."""
        best: tuple[float, float, float] | None = None
        for _ in range(_ATTEMPTS):
            before = self._elapsed()
            wall = self._time_of_day()
            took = self._elapsed() - before
            if best is None or took < best[0]:
                best = took, wall, before + took / 2
            if took <= _SIMULTANEOUS:
                break
        assert best is not None
        return best[1], best[2]


@cache
def boot_id() -> str | None:
    """Return what names this run of the computer, or None where the system does not say; reads a file.

    `elapsed` of two processes can be compared if both ran under the same name.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


WALL_CLOCK: Final = WallClock()
"""The scale of this process."""


def unix_now() -> float:
    """Return the time of day as Unix seconds, on the scale of this process."""
    return WALL_CLOCK.now()


def local_now() -> datetime:
    """Return the time of day in the local time zone, on the scale of this process."""
    return datetime.fromtimestamp(WALL_CLOCK.now()).astimezone()
