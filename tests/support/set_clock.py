"""This computer's clocks, set by a test while everything runs."""

import time

import pytest


class SetClock:
    """Sets the time of day, and lets the computer sleep, for the process of the test.

    Args:
        monkeypatch: Puts everything right again.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        self._slept = 0.0
        self.true_time = time.time
        gettime = time.clock_gettime

        def clock_gettime(clock: int) -> float:
            return gettime(clock) + (self._slept if clock == time.CLOCK_BOOTTIME else 0.0)

        monkeypatch.setattr(time, "time", lambda: self.true_time() + self._ahead)
        monkeypatch.setattr(time, "clock_gettime", clock_gettime)

    def step(self, seconds: float) -> None:
        """Set the time of day."""
        self._ahead += seconds

    def sleep(self, seconds: float) -> None:
        """Let time go by in which nothing of the program runs and its timers stand still."""
        self._ahead += seconds
        self._slept += seconds
