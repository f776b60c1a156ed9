"""Retries: waits that grow (`Backoff`), one loop that can be woken (`Retrier`), many side by side.

`retry` is for a function that is safe to repeat, `Retrier` for a loop with states of its own, and
`RetryScheduler` for many things of which each is tried at its own times.
"""

import asyncio
import itertools
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
    """Exponential waits with jitter."""

    initial: float = 0.5  # seconds before the second retry (the first is immediate if ``immediate``)
    factor: float = 2.0  # each wait is this many times the one before
    maximum: float = 30.0  # no wait is longer, in seconds
    # Each wait is drawn from ``[wait * (1 - jitter), wait]``, so that a hundred clients of one server do not
    # retry in step.
    jitter: float = 0.5
    immediate: bool = False  # whether the first retry has no wait

    def __post_init__(self) -> None:
        if not (0 < self.initial <= self.maximum and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise UsageError(f"invalid backoff: {self}")

    def delays(self, rng: Callable[[], float] = random.random) -> Iterator[float]:
        """Yield waits in seconds, without end; ``rng`` returns numbers in [0, 1)."""
        if self.immediate:
            yield 0.0
        wait = self.initial
        while True:
            yield wait * (1 - self.jitter * rng())
            wait = min(wait * self.factor, self.maximum)


async def retry(
    function: Callable[[], Awaitable[T]],
    *,
    attempts: int | None,
    backoff: Backoff | None = None,
    settled_after: float = math.inf,
    clock: Clock = SYSTEM_CLOCK,
    rng: Callable[[], float] = random.random,
) -> T:
    """Call ``function`` until it succeeds, up to ``attempts`` times; only for what is safe to repeat.

    Only `RetryableError` is tried again; the last one is raised. With ``attempts=None`` there is no last
    one. A call that failed after more than ``settled_after`` seconds starts the waits afresh.
    """
    if attempts is not None and attempts < 1:
        raise UsageError(f"attempts must be at least 1, not {attempts}")
    retrier: Retrier | None = None  # made only when it is needed: most things succeed at once
    for attempt in itertools.count(1):
        began = clock.monotonic()
        try:
            return await function()
        except RetryableError:
            if attempt == attempts:
                raise
        if retrier is None:
            retrier = Retrier(backoff or Backoff(), clock=clock, rng=rng)
        if clock.monotonic() - began > settled_after:
            retrier.reset()
        await retrier.wait_after_failure()
    raise AssertionError("unreachable")


class Retrier:
    """Waits between the tries of one thing: longer after each failure, and cut short by `retry_now`.

    A `retry_now` during a try is kept for the wait that follows it, so that news of a peer's return is
    not lost to a try that began before the peer was back.
    """

    def __init__(
        self, backoff: Backoff, *, clock: Clock = SYSTEM_CLOCK, rng: Callable[[], float] = random.random
    ) -> None:
        self.failures = 0  # failures since the start or the last `reset`
        self._backoff = backoff
        self._clock = clock
        self._rng = rng
        self._delays = backoff.delays(rng)
        self._latest = math.inf  # monotonic time at which the wait ends at the latest; set by `retry_within`
        self._waiting: asyncio.Timeout | None = None  # ends the sleep of `wait`, while there is one
        self._woken = False  # whether the sleep was ended to look at `_latest` again

    def reset(self) -> None:
        """Begin with the shortest wait again, because a try succeeded."""
        self.failures = 0
        self._delays = self._backoff.delays(self._rng)

    def retry_now(self) -> None:
        """End the wait, or skip the next one."""
        self._latest = -math.inf
        self._wake()

    def retry_within(self, seconds: float) -> None:
        """End the wait, or the next one, no later than so many seconds from now."""
        self._latest = min(self._latest, self._clock.monotonic() + seconds)
        self._wake()

    def next_delay(self) -> float:
        """Return the seconds to wait after one more failure."""
        self.failures += 1
        return next(self._delays)

    async def wait_after_failure(self) -> None:
        """Wait before the next try."""
        await self.wait(self.next_delay())

    async def wait(self, seconds: float) -> None:
        """Wait so many seconds (`math.inf`: for `retry_now` alone), whatever the backoff says."""
        due = self._clock.monotonic() + seconds
        try:
            while self._latest != -math.inf:
                self._woken = False
                await self._sleep_until(min(due, self._latest))
                if not self._woken:
                    break
        finally:
            self._latest = math.inf

    async def _sleep_until(self, end: float) -> None:
        """Sleep until ``end`` or `_wake`. No task of its own: thousands of cameras wait here."""
        try:
            async with asyncio.timeout(None) as self._waiting:
                if end == math.inf:
                    await asyncio.get_running_loop().create_future()
                else:
                    await self._clock.sleep(max(0.0, end - self._clock.monotonic()))
        except TimeoutError:
            if not self._woken:
                raise  # the clock's own
        finally:
            self._waiting = None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None  # a timeout must not be set again once it has expired
        if waiting is not None:
            self._woken = True
            waiting.reschedule(-math.inf)


_MAX_CONCURRENT: Final = 64
"""Tries under way at the same time."""
_SHORTEST_WAIT: Final = 0.05
"""Seconds between two tries, so that one which calls for the next does not keep the loop busy."""
_INTERVAL_JITTER: Final = 0.2
"""Part of a wait after a success that is left to chance, so that hundreds are not tried in step."""


@dataclass(slots=True, eq=False)
class _Job:
    attempt: Callable[[], Awaitable[None]]
    on_failure: Callable[[Exception], None]
    intervals: Iterator[float] | None
    retrier: Retrier
    tried: asyncio.Event
    task: "asyncio.Task[None] | None" = None


class RetryScheduler:
    """Tries many things side by side, each until it succeeds, or at intervals.

    A try that fails is followed by another after a wait that grows. Credentials that were refused are not
    tried again until `retry_now`, unless they may only be too early. Once ``scope`` is closed, nothing is
    tried.
    """

    def __init__(self, scope: TaskScope, backoff: Backoff, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._scope = scope
        self._backoff = backoff
        self._clock = clock
        self._jobs: dict[Hashable, _Job] = {}
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._jobs

    def schedule(
        self,
        key: Hashable,
        attempt: Callable[[], Awaitable[None]],
        on_failure: Callable[[Exception], None],
        *,
        interval: float | None,
    ) -> asyncio.Event:
        """Begin to try something, in place of the job of this key; a try of that job ends without effect.

        ``interval`` is seconds from a success to the next try, at most; None to end with a success. The event
        returned is set when the first try has ended, with success or not.
        """
        intervals = None
        if interval is not None:
            constant = Backoff(initial=interval, factor=1.0, maximum=interval, jitter=_INTERVAL_JITTER)
            intervals = constant.delays()
        retrier = Retrier(self._backoff, clock=self._clock)
        replaced = self._jobs.get(key)
        job = self._jobs[key] = _Job(attempt, on_failure, intervals, retrier, asyncio.Event())
        if replaced is not None:
            replaced.retrier.retry_now()  # its task ends instead of waiting for a next try
        if not self._scope.closed:
            job.task = self._scope.spawn(self._run(key, job), name=f"try {key}")
        return job.tried

    def cancel(self, key: Hashable) -> None:
        """Try it no more; a try that is under way is cancelled."""
        job = self._jobs.pop(key, None)
        if job is not None and job.task is not None:
            job.task.cancel()

    def retry_now(self, key: Hashable | None = None) -> None:
        """Try something again now, or everything whose last try failed."""
        if key is not None:
            if key in self._jobs:
                self._jobs[key].retrier.retry_now()
            return
        for job in self._jobs.values():
            if job.retrier.failures:
                job.retrier.retry_now()

    def retry_within(self, key: Hashable, seconds: float) -> None:
        """Make the next try no later than so many seconds from now; ignore an unknown key."""
        job = self._jobs.get(key)
        if job is not None:
            job.retrier.retry_within(seconds)

    async def _run(self, key: Hashable, job: _Job) -> None:
        retrier = job.retrier
        while self._jobs.get(key) is job:
            error: Exception | None = None
            try:
                async with self._slots:
                    await job.attempt()
            except Exception as caught:  # noqa: BLE001 - whatever it is, it is reported, and tried again
                error = caught
            current = self._jobs.get(key) is job
            if error is not None and current:
                job.on_failure(error)
            elif current and job.intervals is None:
                del self._jobs[key]
            job.tried.set()
            if self._jobs.get(key) is not job:
                return
            if error is not None:
                wait = retrier.next_delay()
                if isinstance(error, AuthenticationError) and not error.may_pass:
                    wait = math.inf
            else:
                retrier.reset()
                assert job.intervals is not None
                wait = next(job.intervals)
            ended = self._clock.monotonic()
            await retrier.wait(wait + _SHORTEST_WAIT)
            if (left := ended + _SHORTEST_WAIT - self._clock.monotonic()) > 0:
                await self._clock.sleep(left)
