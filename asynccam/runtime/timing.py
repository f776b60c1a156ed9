"""Time as a thing that can be handed in: clocks and deadlines."""

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
"""Seconds after which elapsed time is looked at again: a timer stands still while the computer sleeps."""


class Clock(Protocol):
    """What the runtime needs of time; tests hand in their own."""

    def time(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """This computer's clock and the running event loop's timers."""

    def time(self) -> float:
        """Unix seconds."""
        return unix_now()

    def monotonic(self) -> float:
        """Seconds of the system's monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running loop."""
        await asyncio.sleep(seconds)


def slept() -> float:
    """Return how long the computer has slept since it was started, or since some other fixed moment."""
    return WALL_CLOCK.elapsed() - time.monotonic()


SYSTEM_CLOCK: Clock = SystemClock()


@asynccontextmanager
async def deadline(seconds: float | None, what: str, *, maybe_executed: bool = False) -> AsyncIterator[None]:
    """Bound the block by a deadline, in asynccam's own error.

    Args:
        seconds: How long the block may take; None for no bound.
        what: Names the wait in the error, ``answer from multicam://host:8080`` for example.
        maybe_executed: Goes into the error, see `asynccam.errors.TimeoutError`.

    Raises:
        TimeoutError: The block took longer.
    """
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except builtins.TimeoutError:
        # Only this scope's own expiry is translated: a timeout raised in the block keeps its words.
        if not scope.expired():
            raise
        raise TimeoutError(f"no {what} within {seconds:g} s", maybe_executed=maybe_executed) from None


async def sleep_until(moment: float) -> None:
    """Wait for a moment of elapsed time, closer than timers can: the last bit in turns of the loop.

    A moment that comes while the computer sleeps is noticed within a quarter of a second after it wakes up.

    Args:
        moment: Of `asynccam.wall_clock.elapsed`, which counts while the computer sleeps.
    """
    left = moment - _TIMER_SLACK - WALL_CLOCK.elapsed()
    while left > 0:
        await asyncio.sleep(min(left, _LONGEST_SLEEP))
        left = moment - _TIMER_SLACK - WALL_CLOCK.elapsed()
    while WALL_CLOCK.elapsed() < moment:  # noqa: ASYNC110 - nothing sets an event at a moment
        await asyncio.sleep(0)
