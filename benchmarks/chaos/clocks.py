"""This process's clocks, set by signals while everything runs.

SIGURG sets the time of day by ``CHAOS_CLOCK_STEP`` seconds. SIGWINCH tells that the computer was asleep for
as many seconds as the file ``CHAOS_SLEPT`` says. Monotonic time has stood still meanwhile, as on Linux.
Both are signals that a process without a handler ignores, as one that is about to end.
"""

import os
import signal
import time
from pathlib import Path
from types import FrameType


class Clocks:
    """Takes the place of the functions of `time`; made once, before asynccam is imported."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._asleep = 0.0
        self._of_day, self._monotonic = time.time, time.monotonic
        self._step = float(os.environ.get("CHAOS_CLOCK_STEP", "0"))
        self._slept = Path(os.environ.get("CHAOS_SLEPT", "/nonexistent"))

    def install(self) -> None:
        """Have this process go by these clocks."""
        time.time = lambda: self._of_day() + self._ahead
        time.monotonic = lambda: self._monotonic() - self._asleep
        signal.signal(signal.SIGURG, self._on_step)
        signal.signal(signal.SIGWINCH, self._on_wake)

    def _on_step(self, number: int, frame: FrameType | None) -> None:
        self._ahead += self._step

    def _on_wake(self, number: int, frame: FrameType | None) -> None:
        self._asleep += float(self._slept.read_text())
