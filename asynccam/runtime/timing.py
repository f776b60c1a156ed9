"""Clocks that can be replaced in tests, and deadlines."""

import asyncio
import builtins
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from asynccam.errors import TimeoutError
from asynccam.wall_clock import WALL_CLOCK, unix_now

_TIMER_SLACK: Final = 0.003
"""Seconds by which an event loop's timer may be late."""
_LONGEST_SLEEP: Final = 0.25
"""Seconds between two checks of elapsed time: timers stop while the computer sleeps."""


class Clock(Protocol):
    """Source of time; tests pass in their own."""

    def time(self) -> float:
        """Return Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """This computer's clock and the running event loop's timers."""

    def time(self) -> float:
        """Return Unix seconds."""
        return unix_now()

    def monotonic(self) -> float:
        """Return seconds of the system's monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def slept() -> float:
    """Return the seconds that the computer has slept since a fixed moment, such as its start."""
    return WALL_CLOCK.elapsed() - time.monotonic()


SYSTEM_CLOCK: Clock = SystemClock()


@asynccontextmanager
async def deadline(seconds: float | None, what: str, *, maybe_executed: bool = False) -> AsyncIterator[None]:
    """Raise `asynccam.errors.TimeoutError` if the block takes longer than so many seconds; None: no limit.

    ``what`` is named in the error, ``answer from multicam://host:8080`` for example; ``maybe_executed`` is
    passed on to it.
    """
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except builtins.TimeoutError:
        # Only this scope's own expiry is translated: a timeout raised in the block is raised unchanged.
        if not scope.expired():
            raise
        raise TimeoutError(f"no {what} within {seconds:g} s", maybe_executed=maybe_executed) from None


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
