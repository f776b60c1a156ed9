"""Keeps something running: starts it again after failures that may pass, gives up on those that will not."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from enum import Enum

from asynccam.errors import RetryableError
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock


class SupervisorState(Enum):
    """Where a supervisor stands."""

    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class Supervisor:
    """Runs an async function again and again until it returns or fails for good.

    A `RetryableError` leads to a wait and another run; a run that lasted longer than the longest
    wait starts the waits afresh. Everything else ends the supervisor and is raised by `run`.

    Args:
        function: What to run.
        backoff: The waits between runs.
        clock: Time, for tests.
        rng: Randomness, for tests.
        on_retry: Called with the error and the wait in seconds before each wait.
    """

    def __init__(
        self,
        function: Callable[[], Awaitable[None]],
        *,
        backoff: Backoff | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: Callable[[], float] = random.random,
        on_retry: Callable[[RetryableError, float], None] | None = None,
    ) -> None:
        self._function = function
        self._backoff = backoff or Backoff(immediate=True)
        self._clock = clock
        self._rng = rng
        self._on_retry = on_retry
        self._wake = asyncio.Event()
        self.state = SupervisorState.IDLE
        self.failures = 0
        """Runs that ended with a `RetryableError` so far."""

    def wake(self) -> None:
        """Cut a wait short, because something says the next run has a better chance."""
        self._wake.set()

    async def run(self) -> None:
        """Supervise until the function returns; raises what it cannot mend."""
        delays = self._backoff.delays(self._rng)
        try:
            while True:
                self.state = SupervisorState.RUNNING
                self._wake.clear()
                began = self._clock.monotonic()
                try:
                    await self._function()
                except RetryableError as error:
                    self.failures += 1
                    if self._clock.monotonic() - began > self._backoff.maximum:
                        delays = self._backoff.delays(self._rng)
                    wait = next(delays)
                    if self._on_retry is not None:
                        self._on_retry(error, wait)
                    self.state = SupervisorState.WAITING
                    await self._pause(wait)
                else:
                    self.state = SupervisorState.DONE
                    return
        finally:
            if self.state is not SupervisorState.DONE:
                self.state = SupervisorState.FAILED

    async def _pause(self, seconds: float) -> None:
        async with TaskScope("supervisor") as scope:
            sleeper = scope.spawn(self._clock.sleep(seconds), name="wait")
            waker = scope.spawn(self._wake.wait(), name="wake")
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
