"""Tries again and again what may fail, each thing with waits of its own, and side by side.

What is tried (connecting to an address, asking a camera how it is) is not known here.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from asynccam.errors import AuthenticationError, RetryableError, UsageError
from asynccam.runtime.tasks import TaskScope
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


_AT_ONCE: Final = 64
"""Tries under way at the same time."""
_SLACK: Final = 0.05
"""Seconds between two rounds, so that what is due at nearly the same time is one round's work."""
_SPREAD: Final = 0.2
"""Part of a wait after a success that is left to chance, so that hundreds are not tried in step."""


@dataclass(slots=True)
class _Charge:
    """One thing that is tried.

    Attributes:
        attempt: Does it.
        failed: Told of every try that failed.
        pauses: Seconds from a try that succeeded to the next; None if one success is enough.
        due: When the next try is, in the loop's time.
        delays: Waits between failed tries; None while all is well.
        trying: Its try that is under way.
        tried: Set at the end of its first try.
    """

    attempt: Callable[[], Awaitable[None]]
    failed: Callable[[Exception], None]
    pauses: Iterator[float] | None
    due: float
    tried: asyncio.Event
    delays: Iterator[float] | None = None
    trying: "asyncio.Task[None] | None" = None


class RetryScheduler:
    """Keeps trying.

    A try that fails is followed by another after a wait that grows; wrong credentials are not tried
    again until `wake` says that something has changed, unless they may only be too early.

    Args:
        scope: Owns the tasks.
        backoff: The waits after failures.
    """

    def __init__(self, scope: TaskScope, backoff: Backoff) -> None:
        self._scope = scope
        self._backoff = backoff
        self._charges: dict[Hashable, _Charge] = {}
        self._changed = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._runs = False

    def __contains__(self, key: Hashable) -> bool:
        return key in self._charges

    def keep(
        self,
        key: Hashable,
        attempt: Callable[[], Awaitable[None]],
        failed: Callable[[Exception], None],
        *,
        every: float | None,
        after: float = 0.0,
    ) -> asyncio.Event:
        """Begin to try something.

        Args:
            key: Names it, for `wake` and `drop`.
            attempt: Does it; raises if it fails.
            failed: Called with the error of each failure.
            every: Seconds from a success to the next try, at most; None to be done with it then.
            after: Seconds to the first try.

        Returns:
            Set when the first try has ended, however it did.
        """
        due = asyncio.get_running_loop().time() + after
        pauses = None
        if every is not None:
            pauses = Backoff(initial=every, factor=1.0, maximum=every, jitter=_SPREAD).delays()
        charge = self._charges[key] = _Charge(attempt, failed, pauses, due, asyncio.Event())
        if not self._runs:
            self._runs = True
            self._scope.spawn(self._run(), name="keeper")
        self._changed.set()
        return charge.tried

    def drop(self, key: Hashable) -> None:
        """Try it no more; a try that is under way is broken off."""
        charge = self._charges.pop(key, None)
        if charge is not None and charge.trying is not None:
            charge.trying.cancel()

    def retry_now(self, key: Hashable | None = None) -> None:
        """Try something again now, or everything that waits after a failure."""
        for name, charge in self._charges.items():
            if name == key or (key is None and charge.delays is not None):
                charge.due = 0.0
        self._changed.set()

    def within(self, key: Hashable, seconds: float) -> None:
        """Have the next try no later than so many seconds from now; for a try that is under way, too."""
        charge = self._charges.get(key)
        if charge is not None:
            charge.due = min(charge.due, asyncio.get_running_loop().time() + seconds)
            self._changed.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            now = loop.time()
            waiting = [(key, charge) for key, charge in self._charges.items() if charge.trying is None]
            for key, charge in waiting:
                if charge.due <= now:
                    charge.trying = self._scope.spawn(self._try(key, charge), name=f"try {key}")
            due = min((charge.due for _, charge in waiting if charge.due > now), default=math.inf)
            timer = None if due == math.inf else loop.call_at(due, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                if timer is not None:
                    timer.cancel()
            await asyncio.sleep(_SLACK)

    async def _try(self, key: Hashable, charge: _Charge) -> None:
        charge.due = math.inf  # `wake` during the try sets another
        try:
            async with self._slots:
                await charge.attempt()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and tried again
            wait = self._after(charge, error)
            if self._charges.get(key) is charge:
                charge.failed(error)
        else:
            charge.delays = None
            wait = math.inf if charge.pauses is None else next(charge.pauses)
            if charge.pauses is None and self._charges.get(key) is charge:
                del self._charges[key]
        charge.due = min(charge.due, asyncio.get_running_loop().time() + wait)
        charge.trying = None
        charge.tried.set()
        self._changed.set()

    def _after(self, charge: _Charge, error: Exception) -> float:
        """Seconds to wait after a failure."""
        if charge.delays is None:
            charge.delays = self._backoff.delays()
        refused = isinstance(error, AuthenticationError) and not error.may_pass
        return math.inf if refused else next(charge.delays)
