"""Time as a thing that can be handed in: clocks and deadlines."""

import asyncio
import builtins
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from asynccam.errors import TimeoutError
from asynccam.wall_clock import unix_now


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
