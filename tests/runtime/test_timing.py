"""Clocks and deadlines."""

import asyncio
import builtins
import time

import pytest

from asynccam.errors import TimeoutError
from asynccam.runtime.timing import SYSTEM_CLOCK, deadline
from tests.support.fake_clock import FakeClock
from tests.support.waiting import outlasting


async def test_system_clock_is_this_computers() -> None:
    assert SYSTEM_CLOCK.time() == pytest.approx(time.time(), abs=5)
    before = SYSTEM_CLOCK.monotonic()
    with outlasting(0.01):
        await SYSTEM_CLOCK.sleep(0.01)
    assert SYSTEM_CLOCK.monotonic() > before


async def test_outlasting_fails_if_the_block_is_shorter() -> None:
    with pytest.raises(AssertionError, match=r"over before a timer of 0\.05 s"), outlasting(0.05):
        await SYSTEM_CLOCK.sleep(0.01)


async def test_deadline_met() -> None:
    async with deadline(5, "answer"):
        await asyncio.sleep(0)
    async with deadline(None, "answer"):
        await asyncio.sleep(0)


async def test_deadline_missed_names_what_was_awaited() -> None:
    with pytest.raises(TimeoutError, match=r"^no answer from hill within 0\.01 s$") as caught:
        async with deadline(0.01, "answer from hill", maybe_executed=True):
            await asyncio.sleep(30)
    assert caught.value.maybe_executed
    assert caught.value.__cause__ is None


async def test_deadline_already_past() -> None:
    with pytest.raises(TimeoutError):
        async with deadline(-1, "answer"):
            await asyncio.sleep(30)


async def test_deadline_keeps_a_timeout_of_the_block() -> None:
    with pytest.raises(builtins.TimeoutError, match="the socket's own") as caught:
        async with deadline(30, "answer"):
            raise builtins.TimeoutError("the socket's own")
    assert not isinstance(caught.value, TimeoutError)


async def test_deadline_inner_of_two_is_reported() -> None:
    with pytest.raises(TimeoutError, match="no inner"):
        async with deadline(30, "outer"), deadline(0.01, "inner"):
            await asyncio.sleep(30)
    with pytest.raises(TimeoutError, match="no outer"):
        async with deadline(0.01, "outer"), deadline(30, "inner"):
            await asyncio.sleep(30)


async def test_deadline_cancelled_raises_the_cancellation() -> None:
    async def wait() -> None:
        async with deadline(30, "answer"):
            await asyncio.sleep(30)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_deadline_passes_other_errors() -> None:
    with pytest.raises(KeyError):
        async with deadline(30, "answer"):
            raise KeyError


async def test_fake_clock_wakes_sleepers_in_order() -> None:
    clock = FakeClock(100.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *waits: float) -> None:
        for wait in waits:
            await clock.sleep(wait)
            woken.append((name, clock.time()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("slow", 3.0))
        group.create_task(sleeper("twice", 1.0, 1.0))
        await clock.until_sleeping(2)
        await clock.advance(2.5)
        assert woken == [("twice", 101.0), ("twice", 102.0)]
        assert (clock.time(), clock.monotonic(), clock.sleeping) == (102.5, 2.5, 1)
        await clock.advance(0.5)
    assert woken[-1] == ("slow", 103.0)
    assert clock.sleeps == [3.0, 1.0, 1.0]
