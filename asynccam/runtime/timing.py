"""Clocks that can be replaced in tests, deadlines, and a watch for steps of the clock and pauses."""

import asyncio
import builtins
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from asynccam.errors import TimeoutError
from asynccam.model.events import ClockStepped, ProgramPaused
from asynccam.wall_clock import WALL_CLOCK, WallClock, unix_now

_TIMER_SLACK: Final = 0.003
"""Seconds by which an event loop's timer may be late."""
_LONGEST_SLEEP: Final = 0.25
"""Seconds between two checks of elapsed time: timers stop while the computer sleeps."""
_WATCH_INTERVAL: Final = 0.25
"""Seconds between two comparisons of the clocks."""
_PAUSE: Final = 0.5
"""Seconds by which a comparison is late to count as a pause; a busy loop is late by less."""
_SAME_STEP: Final = 0.005
"""Seconds within which two deviations of the wall clock are the same step."""


class Clock:
    """Source of time: this computer's clock and the running event loop's timers; tests pass in their own."""

    def time(self) -> float:
        """Return Unix seconds."""
        return unix_now()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def slept() -> float:
    """Return the seconds that the computer has slept since a fixed moment, such as its start."""
    return WALL_CLOCK.elapsed() - time.monotonic()


SYSTEM_CLOCK: Final = Clock()


def deadline(seconds: float | None, what: str, *, maybe_executed: bool = False) -> "Deadline":
    """Raise `asynccam.errors.TimeoutError` if the block takes longer than so many seconds; None: no limit.

    ``what`` is named in the error, ``answer from multicam://host:8080`` for example; ``maybe_executed`` is
    passed on to it.
    """
    return Deadline(seconds, what, maybe_executed)


class Deadline:
    """Context manager of `deadline`; a class, because a generator costs more than many blocks in it."""

    __slots__ = ("_maybe_executed", "_scope", "_seconds", "_what")

    def __init__(self, seconds: float | None, what: str, maybe_executed: bool) -> None:
        self._seconds = seconds
        self._what = what
        self._maybe_executed = maybe_executed
        self._scope = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._scope.__aexit__(kind, error, trace)
        except builtins.TimeoutError:
            raise self._timeout_error() from None
        # Only this scope's own expiry is translated: a timeout raised in the block is raised unchanged.
        if isinstance(error, builtins.TimeoutError) and self._scope.expired():
            raise self._timeout_error() from None

    def _timeout_error(self) -> TimeoutError:
        return TimeoutError(
            f"no {self._what} within {self._seconds:g} s", maybe_executed=self._maybe_executed
        )


async def sleep_until(moment: float) -> None:
    """Wait for a moment of `asynccam.wall_clock.elapsed`, more precisely than timers.

    The last milliseconds are waited in turns of the loop. A moment that passes while the computer sleeps is
    noticed within 0.25 s after it wakes up.
    """
    left = moment - _TIMER_SLACK - WALL_CLOCK.elapsed()
    while left > 0:
        await asyncio.sleep(min(left, _LONGEST_SLEEP))
        left = moment - _TIMER_SLACK - WALL_CLOCK.elapsed()
    while WALL_CLOCK.elapsed() < moment:  # noqa: ASYNC110 - nothing sets an event at a moment
        await asyncio.sleep(0)


class ClockWatch:
    """Compares wall, elapsed and monotonic time at intervals, and reports deviations.

    It finds steps of the wall clock, sleep of the computer, and a blocked event loop. ``wall`` is the scale
    of the reported times; ``reference`` shows steps, and nothing else may use it; ``monotonic`` may stop
    while the computer sleeps.
    """

    def __init__(
        self,
        on_event: Callable[[ClockStepped | ProgramPaused], None],
        *,
        wall: WallClock = WALL_CLOCK,
        reference: WallClock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_event = on_event
        self._wall = wall
        self._reference = reference or WallClock()
        self._monotonic = monotonic
        # Pinned forever: the program's own scale may follow the system before the next comparison.
        self._reference.pin()
        self._timer: asyncio.TimerHandle | None = None
        self._deviation = 0.0
        self._seen = self._reference.elapsed()
        self._seen_monotonic = monotonic()

    def start(self) -> None:
        """Compare by a timer of the running loop until `stop`; there is no task to await."""
        self._timer = asyncio.get_running_loop().call_later(_WATCH_INTERVAL, self._tick)

    def stop(self) -> None:
        """Stop comparing; harmless when called twice."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _tick(self) -> None:
        self.start()  # first, so that a callback may stop it
        self.check()

    def check(self) -> None:
        """Compare now, before the clocks are relied on for example."""
        now, monotonic = self._reference.elapsed(), self._monotonic()
        passed, ran = now - self._seen, monotonic - self._seen_monotonic
        if passed - _WATCH_INTERVAL > _PAUSE:
            # Elapsed time counts during a suspend, monotonic time does not.
            slept = passed - ran > _PAUSE / 2
            began = self._wall.at(self._seen)
            self._on_event(ProgramPaused(began=began, seconds=passed, slept=slept))
        self._seen, self._seen_monotonic = now, monotonic
        deviation = self._reference.step()
        if abs(deviation - self._deviation) > _SAME_STEP:
            step = deviation - self._deviation
            self._on_event(ClockStepped(at=self._wall.now(), seconds=step))
            self._deviation = deviation
