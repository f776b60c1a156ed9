"""A clock that stands still until a test moves it."""

import asyncio

from asynccam.runtime.timing import Clock
from tests.support.waiting import eventually, passes


class FakeClock(Clock):
    """A clock moved by hand.

    Attributes:
        sleeps: Every wait that was asked for, in seconds and in order.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.sleeps: list[float] = []

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        sleeper = (self._elapsed + seconds, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1]
        finally:
            self._sleepers.remove(sleeper)

    @property
    def sleeping(self) -> int:
        """How many are asleep."""
        return len(self._sleepers)

    def move(self, seconds: float) -> None:
        """Let time go by without waking anyone: a call that took this long."""
        self._now += seconds
        self._elapsed += seconds

    def leap(self, seconds: float) -> None:
        """Set the time of day to another one, while no time goes by."""
        self._now += seconds

    async def advance(self, seconds: float) -> None:
        """Let time go by; everyone due wakes at their own moment, in order, and may sleep again."""
        end = self._elapsed + seconds
        while due := [one for one in self._sleepers if one[0] <= end and not one[1].done()]:
            when, future = min(due, key=lambda one: one[0])
            self.move(max(0.0, when - self._elapsed))
            future.set_result(None)
            await passes()
        self.move(end - self._elapsed)

    async def until_sleeping(self, count: int = 1) -> None:
        """Wait until at least ``count`` are asleep."""
        await eventually(lambda: len(self._sleepers) >= count, what=f"{count} asleep")
