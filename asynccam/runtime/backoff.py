"""How long to wait before the next try, and a loop that tries again."""

import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from asynccam.errors import RetryableError, UsageError
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waits with jitter.

    Attributes:
        initial: Seconds before the second retry (the first comes at once if ``immediate``).
        factor: Each wait is this many times the one before.
        maximum: No wait is longer, in seconds.
        jitter: Each wait is drawn from ``[wait * (1 - jitter), wait]``, so that a hundred clients
            of one server do not come back in step.
        immediate: Whether the first retry comes at once.
    """

    initial: float = 0.5
    factor: float = 2.0
    maximum: float = 30.0
    jitter: float = 0.5
    immediate: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.initial <= self.maximum and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise UsageError(f"not a usable backoff: {self}")

    def delays(self, rng: Callable[[], float] = random.random) -> Iterator[float]:
        """Waits in seconds, without end; ``rng`` gives numbers in [0, 1)."""
        if self.immediate:
            yield 0.0
        wait = self.initial
        while True:
            yield wait * (1 - self.jitter * rng())
            wait = min(wait * self.factor, self.maximum)


async def retry(
    function: Callable[[], Awaitable[T]],
    *,
    attempts: int,
    backoff: Backoff | None = None,
    clock: Clock = SYSTEM_CLOCK,
    rng: Callable[[], float] = random.random,
) -> T:
    """Call ``function`` until it succeeds, up to ``attempts`` times; only for what is safe to repeat.

    Only `RetryableError` is tried again; the last one is raised.
    """
    delays = (backoff or Backoff()).delays(rng)
    for remaining in range(attempts - 1, -1, -1):
        try:
            return await function()
        except RetryableError:
            if not remaining:
                raise
        await clock.sleep(next(delays))
    raise UsageError(f"attempts must be at least 1, not {attempts}")
