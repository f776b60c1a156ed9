"""Waits between tries, and the loop that tries again."""

import asyncio
import math
from collections.abc import Callable
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import AuthenticationError, BusyError, ConnectionError, UsageError
from asynccam.runtime.retry import Backoff, retry
from tests.support.fake_clock import FakeClock


def waits(backoff: Backoff, count: int, rng: Callable[[], float]) -> list[float]:
    return list(islice(backoff.delays(rng), count))


def test_waits_grow_up_to_the_longest() -> None:
    backoff = Backoff(initial=1, factor=3, maximum=20, jitter=0)
    assert waits(backoff, 5, lambda: 0.9) == [1, 3, 9, 20, 20]


def test_the_first_retry_may_come_at_once() -> None:
    assert waits(Backoff(initial=1, immediate=True, jitter=0), 3, lambda: 0.0) == [0, 1, 2]


def test_jitter_shortens_by_its_share() -> None:
    assert waits(Backoff(initial=8, maximum=8, jitter=0.25), 2, lambda: 0.5) == [7, 7]
    assert waits(Backoff(initial=8, maximum=8, jitter=1), 1, lambda: 0.0) == [8]


def test_clients_of_one_server_do_not_come_back_in_step() -> None:
    assert len({next(Backoff().delays()) for _ in range(20)}) > 1


@given(
    st.floats(0.001, 10),
    st.floats(1, 1e9),
    st.floats(10, 1e9),
    st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_no_wait_is_longer_than_allowed_or_negative(
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
def test_a_senseless_backoff_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="not a usable backoff"):
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


async def run(flaky: Flaky, clock: FakeClock, attempts: int) -> str:
    backoff = Backoff(initial=1, jitter=0)
    task = asyncio.create_task(retry(flaky, attempts=attempts, backoff=backoff, clock=clock, rng=lambda: 0.0))
    while not task.done():
        await clock.advance(100.0)
        await asyncio.sleep(0)
    return await task


async def test_success_needs_one_call() -> None:
    flaky, clock = Flaky(), FakeClock()
    assert await run(flaky, clock, 3) == "done"
    assert (flaky.calls, clock.sleeps) == (1, [])


async def test_what_may_pass_is_tried_again_after_growing_waits() -> None:
    flaky, clock = Flaky(ConnectionError("gone"), BusyError("busy")), FakeClock()
    assert await run(flaky, clock, 3) == "done"
    assert (flaky.calls, clock.sleeps) == (3, [1, 2])


async def test_the_last_failure_is_raised() -> None:
    flaky, clock = Flaky(ConnectionError("first"), ConnectionError("last")), FakeClock()
    with pytest.raises(ConnectionError, match="last"):
        await run(flaky, clock, 2)
    assert clock.sleeps == [1]


@pytest.mark.parametrize("error", [AuthenticationError("who?"), UsageError("what?"), KeyError("bug")])
async def test_what_will_not_pass_is_raised_at_once(error: Exception) -> None:
    flaky, clock = Flaky(error), FakeClock()
    with pytest.raises(type(error)):
        await run(flaky, clock, 5)
    assert (flaky.calls, clock.sleeps) == (1, [])


async def test_no_attempts_are_refused() -> None:
    flaky = Flaky()
    with pytest.raises(UsageError, match="at least 1"):
        await retry(flaky, attempts=0)
    assert flaky.calls == 0


async def test_cancelling_ends_the_wait() -> None:
    flaky, clock = Flaky(ConnectionError("gone")), FakeClock()
    task = asyncio.create_task(retry(flaky, attempts=2, clock=clock))
    await clock.until_sleeping()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flaky.calls == 1
