"""Waits between tries, the loop that can be woken, and many of them side by side."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import AuthenticationError, BusyError, ConnectionError, UsageError
from asynccam.runtime.retry import Backoff, Retrier, RetryScheduler, retry
from asynccam.runtime.tasks import TaskScope
from tests.support.fake_clock import FakeClock
from tests.support.waiting import eventually, passes


def waits(backoff: Backoff, count: int, rng: Callable[[], float]) -> list[float]:
    return list(islice(backoff.delays(rng), count))


def test_backoff_waits_grow_to_the_maximum() -> None:
    backoff = Backoff(initial=1, factor=3, maximum=20, jitter=0)
    assert waits(backoff, 5, lambda: 0.9) == [1, 3, 9, 20, 20]


def test_backoff_first_retry_may_be_immediate() -> None:
    assert waits(Backoff(initial=1, immediate=True, jitter=0), 3, lambda: 0.0) == [0, 1, 2]


def test_backoff_jitter_shortens_waits() -> None:
    assert waits(Backoff(initial=8, maximum=8, jitter=0.25), 2, lambda: 0.5) == [7, 7]
    assert waits(Backoff(initial=8, maximum=8, jitter=1), 1, lambda: 0.0) == [8]


def test_backoff_clients_do_not_retry_in_step() -> None:
    assert len({next(Backoff().delays()) for _ in range(20)}) > 1


@given(
    st.floats(0.001, 10),
    st.floats(1, 1e9),
    st.floats(10, 1e9),
    st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_backoff_waits_are_bounded(
    initial: float, factor: float, maximum: float, jitter: float, draw: float
) -> None:
    backoff = Backoff(initial, factor, maximum, jitter)
    for wait in waits(backoff, 100, lambda: draw):
        assert 0 <= wait <= maximum


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial": 0},
        {"initial": -1},
        {"initial": math.nan},
        {"initial": 31},
        {"factor": 0.5},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"maximum": math.nan},
    ],
)
def test_backoff_invalid_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="invalid backoff"):
        Backoff(**wrong)  # type: ignore[arg-type]


# -- retry --------------------------------------------------------------------------------------


class Flaky:
    """Fails with each of its errors in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


BACKOFF = Backoff(initial=1, maximum=8, jitter=0)


async def run(flaky: Flaky, clock: FakeClock, attempts: int | None, backoff: Backoff | None = BACKOFF) -> str:
    task = asyncio.create_task(retry(flaky, attempts=attempts, backoff=backoff, clock=clock, rng=lambda: 0.0))
    while not task.done():
        await clock.advance(100.0)
        await passes()
    return await task


async def test_retry_success_needs_one_call() -> None:
    flaky, clock = Flaky(), FakeClock()
    assert await run(flaky, clock, 3) == "done"
    assert (flaky.calls, clock.sleeps) == (1, [])


async def test_retry_repeats_retryable_errors() -> None:
    flaky, clock = Flaky(ConnectionError("gone"), BusyError("busy")), FakeClock()
    assert await run(flaky, clock, 3) == "done"
    assert (flaky.calls, clock.sleeps) == (3, [1, 2])


async def test_retry_raises_the_last_failure() -> None:
    flaky, clock = Flaky(ConnectionError("first"), ConnectionError("last")), FakeClock()
    with pytest.raises(ConnectionError, match="last"):
        await run(flaky, clock, 2)
    assert clock.sleeps == [1]


@pytest.mark.parametrize("error", [AuthenticationError("who?"), UsageError("what?"), KeyError("bug")])
async def test_retry_raises_other_errors_at_once(error: Exception) -> None:
    flaky, clock = Flaky(error), FakeClock()
    with pytest.raises(type(error)):
        await run(flaky, clock, 5)
    assert (flaky.calls, clock.sleeps) == (1, [])


async def test_retry_refuses_zero_attempts() -> None:
    flaky = Flaky()
    with pytest.raises(UsageError, match="at least 1"):
        await retry(flaky, attempts=0)
    assert flaky.calls == 0


async def test_retry_cancelled_while_waiting() -> None:
    flaky, clock = Flaky(ConnectionError("gone")), FakeClock()
    task = asyncio.create_task(retry(flaky, attempts=2, clock=clock))
    await clock.until_sleeping()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flaky.calls == 1


async def test_retry_without_limit_until_success() -> None:
    flaky, clock = Flaky(*[ConnectionError("gone")] * 5), FakeClock()
    assert await run(flaky, clock, None) == "done"
    assert (flaky.calls, clock.sleeps) == (6, [1, 2, 4, 8, 8])


async def test_retry_immediate_backoff() -> None:
    flaky, clock = Flaky(*[ConnectionError("gone")] * 2), FakeClock()
    assert await run(flaky, clock, None, Backoff(immediate=True)) == "done"
    assert clock.sleeps == [0, 0.5]


async def test_retry_long_run_resets_the_waits() -> None:
    clock = FakeClock()
    lengths = iter([0, 0, 9, 0, 8])

    async def function() -> None:
        length = next(lengths, None)
        if length is not None:
            clock.move(length)
            raise ConnectionError("gone")

    task = asyncio.create_task(
        retry(function, attempts=None, backoff=BACKOFF, settled_after=BACKOFF.maximum, clock=clock)
    )
    await clock.until_sleeping()
    await clock.advance(100)
    await task
    assert clock.sleeps == [1, 2, 1, 2, 4]


# -- Retrier ------------------------------------------------------------------------------------


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_retrier_counts_failures_until_reset() -> None:
    clock = FakeClock()
    retrier = Retrier(BACKOFF, clock=clock)
    assert [retrier.next_delay() for _ in range(3)] == [1, 2, 4]
    assert retrier.failures == 3
    retrier.reset()
    assert (retrier.failures, retrier.next_delay()) == (0, 1)


async def test_retrier_retry_now_ends_the_wait() -> None:
    clock = FakeClock()
    retrier = Retrier(BACKOFF, clock=clock)
    async with running(retrier.wait_after_failure()) as task:
        await clock.until_sleeping()
        retrier.retry_now()
        await asyncio.wait_for(task, 5)
    assert (clock.monotonic(), clock.sleeping) == (0, 0)


async def test_retrier_retry_now_during_a_try_skips_one_wait() -> None:
    clock = FakeClock()
    retrier = Retrier(BACKOFF, clock=clock)
    retrier.retry_now()
    await asyncio.wait_for(retrier.wait_after_failure(), 5)
    assert clock.sleeps == []
    async with running(retrier.wait_after_failure()) as task:
        await clock.until_sleeping()
        await clock.advance(1.9)
        assert not task.done()
        await clock.advance(0.1)
        await task


async def test_retrier_infinite_wait_ends_by_retry_now() -> None:
    clock = FakeClock()
    retrier = Retrier(BACKOFF, clock=clock)
    async with running(retrier.wait(math.inf)) as task:
        await passes()
        await clock.advance(1e6)
        assert not task.done()
        retrier.retry_now()
        await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("waiting", [False, True])
async def test_retrier_retry_within_only_shortens_a_wait(*, waiting: bool) -> None:
    clock = FakeClock()
    retrier = Retrier(BACKOFF, clock=clock)
    if not waiting:
        retrier.retry_within(3)
    async with running(retrier.wait(60)) as task:
        await clock.until_sleeping()
        if waiting:
            retrier.retry_within(3)
            await eventually(lambda: clock.sleeps == [60, 3])
        retrier.retry_within(30)
        await passes()
        await clock.advance(2.9)
        assert not task.done()
        await clock.advance(0.1)
        await task


async def test_retrier_cancelled_wait_leaves_no_task() -> None:
    clock = FakeClock()
    task = asyncio.ensure_future(Retrier(BACKOFF, clock=clock).wait(60))
    await clock.until_sleeping()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.sleeping == 0


async def test_retrier_retry_now_of_a_cancelled_wait_does_not_skip_the_next() -> None:
    clock = FakeClock()
    retrier = Retrier(BACKOFF, clock=clock)
    async with running(retrier.wait(60)):
        await clock.until_sleeping()
        retrier.retry_now()
    async with running(retrier.wait(5)) as task:
        await clock.until_sleeping()
        assert not task.done()
    assert clock.sleeps == [60, 5]


async def test_retrier_waits_without_a_task_of_its_own() -> None:
    clock = FakeClock()
    retrier = Retrier(BACKOFF, clock=clock)
    async with running(retrier.wait(60)):
        await clock.until_sleeping()
        before = asyncio.all_tasks()
        retrier.retry_within(30)
        await eventually(lambda: clock.sleeps == [60, 30])
        assert asyncio.all_tasks() == before
        retrier.retry_now()
        retrier.retry_now()
        retrier.retry_within(5)


async def test_retrier_cancelled_and_woken_at_once_is_cancelled() -> None:
    clock = FakeClock()
    retrier = Retrier(BACKOFF, clock=clock)
    task = asyncio.ensure_future(retrier.wait(60))
    await clock.until_sleeping()
    retrier.retry_now()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.sleeping == 0


async def test_retrier_does_not_swallow_the_timeout_of_its_caller() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Retrier(BACKOFF).wait(60)


# -- RetryScheduler -----------------------------------------------------------------------------


class Jobs:
    """A scheduler with a fake clock, and what its jobs did."""

    def __init__(self, scope: TaskScope) -> None:
        self.clock = FakeClock()
        self.scheduler = RetryScheduler(scope, BACKOFF, clock=self.clock)
        self.calls: list[float] = []
        self.errors: list[str] = []

    def schedule(self, *errors: Exception, interval: float | None = None) -> asyncio.Event:
        flaky = Flaky(*errors)

        async def attempt() -> None:
            self.calls.append(self.clock.monotonic())
            await flaky()

        return self.scheduler.schedule(
            "one", attempt, lambda error: self.errors.append(str(error)), interval=interval
        )


async def test_scheduler_tries_a_job_until_success() -> None:
    async with TaskScope("test") as scope:
        jobs = Jobs(scope)
        tried = jobs.schedule(ConnectionError("first"), ConnectionError("second"))
        await asyncio.wait_for(tried.wait(), 5)
        assert "one" in jobs.scheduler
        await jobs.clock.until_sleeping()
        await jobs.clock.advance(10)
        await eventually(lambda: "one" not in jobs.scheduler)
    assert jobs.errors == ["first", "second"]
    assert jobs.calls == pytest.approx([0, 1.05, 3.1])


async def test_scheduler_repeats_a_job_with_an_interval() -> None:
    async with TaskScope("test") as scope:
        jobs = Jobs(scope)
        jobs.schedule(interval=10)
        await jobs.clock.until_sleeping()
        await jobs.clock.advance(32)
        assert len(jobs.calls) >= 4
        assert all(
            7.9 < later - earlier < 10.1 for earlier, later in zip(jobs.calls, jobs.calls[1:], strict=False)
        )
        jobs.scheduler.cancel("one")
        await eventually(lambda: not scope.tasks)


async def test_scheduler_refused_credentials_wait_for_retry_now() -> None:
    early = AuthenticationError("too early")
    early.may_pass = True
    async with TaskScope("test") as scope:
        jobs = Jobs(scope)
        jobs.schedule(early, AuthenticationError("refused"))
        await jobs.clock.until_sleeping()
        await jobs.clock.advance(1000)
        assert jobs.errors == ["too early", "refused"]
        jobs.scheduler.retry_now()
        await eventually(lambda: "one" not in jobs.scheduler)


async def test_scheduler_job_that_calls_for_the_next_try_does_not_keep_the_loop_busy() -> None:
    clock = FakeClock()
    calls = []
    async with TaskScope("test") as scope:
        scheduler = RetryScheduler(scope, BACKOFF, clock=clock)

        async def attempt() -> None:
            calls.append(clock.monotonic())
            scheduler.retry_now("one")

        scheduler.schedule("one", attempt, lambda error: None, interval=10)
        await clock.until_sleeping()
        await clock.advance(1)
        scheduler.cancel("one")
        await eventually(lambda: not scope.tasks)
    assert 15 < len(calls) < 25


async def test_scheduler_retry_now_of_failed_or_named_jobs() -> None:
    async with TaskScope("test") as scope:
        jobs = Jobs(scope)
        jobs.schedule(interval=1000)
        await jobs.clock.until_sleeping()
        jobs.scheduler.retry_now()
        await jobs.clock.advance(1)
        assert len(jobs.calls) == 1
        jobs.scheduler.retry_now("one")
        await passes()
        await jobs.clock.advance(1)
        assert len(jobs.calls) == 2


async def test_scheduler_retry_now_of_a_named_job_looks_at_no_other() -> None:
    class Key:
        compared = 0

        def __hash__(self) -> int:
            return id(self)

        def __eq__(self, other: object) -> bool:
            Key.compared += 1
            return self is other

    async def succeed() -> None:
        pass

    keys = [Key() for _ in range(100)]
    async with TaskScope("test") as scope:
        scheduler = RetryScheduler(scope, BACKOFF, clock=FakeClock())
        for key in keys:
            scheduler.schedule(key, succeed, lambda error: None, interval=10)
        Key.compared = 0
        scheduler.retry_now(keys[50])
        assert Key.compared < 5


async def test_scheduler_ignores_a_replaced_job() -> None:
    go_on = asyncio.Event()

    async def slow() -> None:
        await go_on.wait()
        raise ConnectionError("old")

    async with TaskScope("test") as scope:
        jobs = Jobs(scope)
        old = jobs.scheduler.schedule(
            "one", slow, lambda error: jobs.errors.append(str(error)), interval=None
        )
        await passes()
        await asyncio.wait_for(jobs.schedule().wait(), 5)
        go_on.set()
        await asyncio.wait_for(old.wait(), 5)
        await eventually(lambda: not scope.tasks)
    assert jobs.errors == []


async def test_scheduler_does_not_try_a_replaced_job_again() -> None:
    async def succeed() -> None:
        pass

    async with TaskScope("test") as scope:
        jobs = Jobs(scope)
        await asyncio.wait_for(jobs.schedule(ConnectionError("old")).wait(), 5)
        await jobs.clock.until_sleeping()
        jobs.scheduler.schedule("one", succeed, lambda error: None, interval=None)
        await passes()
        await jobs.clock.advance(10)
        await eventually(lambda: not scope.tasks)
    assert jobs.calls == [0]


async def test_scheduler_in_a_closed_scope_tries_nothing() -> None:
    scope = TaskScope("test")
    jobs = Jobs(scope)
    await scope.aclose()
    tried = jobs.schedule()
    await passes()
    assert (jobs.calls, tried.is_set()) == ([], False)
