"""Keeping something running."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from asynccam.errors import AuthenticationError, ConnectionError, RetryableError
from asynccam.runtime.retry import Backoff
from asynccam.runtime.supervisor import Supervisor, SupervisorState
from tests.support.fake_clock import FakeClock
from tests.support.waiting import eventually

BACKOFF = Backoff(initial=1, maximum=8, jitter=0)


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(supervisor.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


def failing(
    times: int, *, then: Callable[[], Awaitable[None]] | None = None
) -> Callable[[], Awaitable[None]]:
    calls = iter(range(times))

    async def function() -> None:
        if next(calls, None) is not None:
            raise ConnectionError("gone")
        if then is not None:
            await then()

    return function


async def test_a_function_that_returns_ends_it() -> None:
    supervisor = Supervisor(failing(0))
    assert supervisor.state is SupervisorState.IDLE
    await supervisor.run()
    assert (supervisor.state, supervisor.failures) == (SupervisorState.DONE, 0)


async def test_failures_that_may_pass_lead_to_growing_waits() -> None:
    clock, told = FakeClock(), list[tuple[str, float]]()

    def tell(error: RetryableError, wait: float) -> None:
        told.append((str(error), wait))

    supervisor = Supervisor(failing(5), backoff=BACKOFF, clock=clock, on_retry=tell)
    async with running(supervisor) as task:
        await clock.until_sleeping()
        assert supervisor.state is SupervisorState.WAITING
        await clock.advance(100)
        await task
    assert told == [("gone", wait) for wait in (1, 2, 4, 8, 8)]
    assert (supervisor.state, supervisor.failures) == (SupervisorState.DONE, 5)


async def test_by_default_the_first_retry_comes_at_once() -> None:
    clock = FakeClock()
    supervisor = Supervisor(failing(2), clock=clock, rng=lambda: 0.0)
    async with running(supervisor) as task:
        await clock.until_sleeping()
        await clock.advance(1)
        await task
    assert clock.sleeps == [0, 0.5]


@pytest.mark.parametrize("error", [AuthenticationError("who?"), KeyError("bug")])
async def test_what_will_not_pass_is_raised(error: Exception) -> None:
    async def function() -> None:
        raise error

    clock = FakeClock()
    supervisor = Supervisor(function, clock=clock)
    with pytest.raises(type(error)):
        await supervisor.run()
    assert (supervisor.state, clock.sleeps) == (SupervisorState.FAILED, [])


async def test_a_long_run_starts_the_waits_afresh() -> None:
    clock = FakeClock()
    lengths = iter([0, 0, BACKOFF.maximum + 1, 0, BACKOFF.maximum])

    async def function() -> None:
        length = next(lengths, None)
        if length is None:
            return
        clock.move(length)
        raise ConnectionError("gone")

    async with running(Supervisor(function, backoff=BACKOFF, clock=clock)) as task:
        await clock.until_sleeping()
        await clock.advance(100)
        await task
    assert clock.sleeps == [1, 2, 1, 2, 4]


async def test_waking_cuts_the_wait_short() -> None:
    clock, up = FakeClock(), asyncio.Event()

    async def stay() -> None:
        up.set()
        await asyncio.sleep(30)

    supervisor = Supervisor(failing(1, then=stay), backoff=BACKOFF, clock=clock)
    async with running(supervisor):
        await clock.until_sleeping()
        supervisor.wake()
        await asyncio.wait_for(up.wait(), 5)
        assert supervisor.state is SupervisorState.RUNNING
        assert clock.monotonic() == 0


async def test_waking_before_the_run_fails_is_not_forgotten() -> None:
    clock = FakeClock()
    supervisor: Supervisor

    async def function() -> None:
        if not supervisor.failures:
            supervisor.wake()
            raise ConnectionError("gone")

    supervisor = Supervisor(function, backoff=BACKOFF, clock=clock)
    await asyncio.wait_for(supervisor.run(), 5)
    assert clock.monotonic() == 0


async def test_an_old_wake_does_not_shorten_a_later_wait() -> None:
    clock = FakeClock()
    supervisor = Supervisor(failing(2), backoff=BACKOFF, clock=clock)
    async with running(supervisor) as task:
        await clock.until_sleeping()
        supervisor.wake()
        await eventually(lambda: clock.sleeps == [1, 2])
        await asyncio.sleep(0.01)
        assert not task.done()
        await clock.advance(2)
        await task


@pytest.mark.parametrize("where", ["running", "waiting"])
async def test_cancelling_ends_it_wherever_it_is(where: str) -> None:
    clock, inside = FakeClock(), asyncio.Event()

    async def stay() -> None:
        inside.set()
        await asyncio.sleep(30)

    supervisor = Supervisor(failing(1 if where == "waiting" else 0, then=stay), backoff=BACKOFF, clock=clock)
    task = asyncio.create_task(supervisor.run())
    await (clock.until_sleeping() if where == "waiting" else inside.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert supervisor.state is SupervisorState.FAILED
    assert clock.sleeping == 0
