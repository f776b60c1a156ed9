"""Watch of this computer's clocks: steps of the wall clock, sleep of the computer, a blocked event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from asynccam.wall_clock import WALL_CLOCK, WallClock

_INTERVAL: Final = 0.25
"""Seconds between two comparisons."""
_PAUSE: Final = 0.5
"""Seconds by which a comparison is late to count as a pause; a busy loop is late by less."""
_SAME_STEP: Final = 0.005
"""Seconds within which two deviations of the wall clock are the same step."""


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The system's wall clock was set.

    Attributes:
        at: Time of detection, Unix seconds on the scale of this process.
        seconds: Size of the step, forward above 0.
    """

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """The program did not run for a while.

    Attributes:
        began: Time when it last ran, Unix seconds on the scale of this process.
        seconds: Length.
        slept: Whether the computer slept; False for a stopped process or a blocked event loop.
    """

    began: float
    seconds: float
    slept: bool


class ClockWatch:
    """Compares wall, elapsed and monotonic time at intervals, and reports deviations.

    Args:
        on_step: Called with each step of the wall clock.
        on_pause: Called with each pause.
        wall: Scale of the reported times.
        reference: Clock that shows steps, not used by anything else; a new one by default.
        monotonic: Clock that may stop while the computer sleeps.
        sleep: Waits; for tests.
    """

    def __init__(
        self,
        on_step: Callable[[ClockStep], None],
        on_pause: Callable[[Pause], None],
        *,
        wall: WallClock = WALL_CLOCK,
        reference: WallClock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._on_step = on_step
        self._on_pause = on_pause
        self._wall = wall
        self._reference = reference or WallClock()
        self._monotonic = monotonic
        self._sleep = sleep
        # Pinned forever: the program's own scale may follow the system before the next comparison.
        self._reference.pin()
        self._timer: asyncio.TimerHandle | None = None
        self._deviation = 0.0
        self._seen = self._reference.elapsed()
        self._seen_monotonic = monotonic()

    def start(self) -> None:
        """Compare by a timer of the running loop until `stop`; there is no task to await."""
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._tick)

    def stop(self) -> None:
        """Stop comparing; harmless when called twice."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _tick(self) -> None:
        self.start()  # first, so that a callback may stop it
        self.check()

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            await self._sleep(_INTERVAL)
            self.check()

    def check(self) -> None:
        """Compare now, before the clocks are relied on for example."""
        now, monotonic = self._reference.elapsed(), self._monotonic()
        passed, ran = now - self._seen, monotonic - self._seen_monotonic
        if passed - _INTERVAL > _PAUSE:
            # Elapsed time counts during a suspend, monotonic time does not.
            slept = passed - ran > _PAUSE / 2
            self._on_pause(Pause(self._wall.at(self._seen), passed, slept))
        self._seen, self._seen_monotonic = now, monotonic
        deviation = self._reference.step()
        if abs(deviation - self._deviation) > _SAME_STEP:
            self._on_step(ClockStep(self._wall.at(now), deviation - self._deviation))
            self._deviation = deviation
