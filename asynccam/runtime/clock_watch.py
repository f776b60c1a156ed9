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
"""Seconds by which a comparison has to be late to count as a pause; a busy loop is late by less."""
_SAME_STEP: Final = 0.005
"""Seconds within which two departures of the wall clock are one and the same."""


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The system's wall clock was set.

    Attributes:
        at: When that was noticed, Unix seconds on the scale of this process.
        seconds: By how much, forward above 0.
    """

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing of this program ran.

    Attributes:
        began: When it was last seen running, Unix seconds on the scale of this process.
        seconds: How long nothing ran.
        slept: Whether the computer slept; False for a stopped process or a blocked event loop.
    """

    began: float
    seconds: float
    slept: bool


class ClockWatch:
    """Compares wall, elapsed and monotonic time now and then, and reports where they part.

    Args:
        on_step: Called with each step of the wall clock.
        on_pause: Called with each pause.
        wall: The scale that the reports' times are on.
        reference: Where steps show, never pinned or read by anything else; a new one by default.
        monotonic: A clock that may stand still while the computer sleeps.
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
        # Pinned for good: the program's own scale may follow the system before this looks.
        self._reference.pin()
        self._timer: asyncio.TimerHandle | None = None
        self._departed = 0.0
        self._seen = self._reference.elapsed()
        self._seen_monotonic = monotonic()

    def start(self) -> None:
        """Compare from now on, by a timer of the running loop, until `stop`; there is no task to await."""
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._tick)

    def stop(self) -> None:
        """Compare no longer; harmless when called twice."""
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
        """Compare now; `run` does so all the time, and a caller does before it relies on the clocks."""
        now, monotonic = self._reference.elapsed(), self._monotonic()
        passed, ran = now - self._seen, monotonic - self._seen_monotonic
        if passed - _INTERVAL > _PAUSE:
            # Elapsed time counts during a suspend, monotonic time does not.
            slept = passed - ran > _PAUSE / 2
            self._on_pause(Pause(self._wall.at(self._seen), passed, slept))
        self._seen, self._seen_monotonic = now, monotonic
        departed = self._reference.step()
        if abs(departed - self._departed) > _SAME_STEP:
            self._on_step(ClockStep(self._wall.at(now), departed - self._departed))
            self._departed = departed
