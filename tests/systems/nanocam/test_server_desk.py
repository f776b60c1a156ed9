"""Who has the camera, and in which order."""

import asyncio

import pytest

from asynccam.errors import BusyError, TimeoutError
from asynccam.systems.nanocam.server.queue import Desk, JobKind
from tests.support.waiting import passes


class SomeJob:
    def __init__(self, name: str, kind: JobKind = "image") -> None:
        self.name = name
        self.kind: JobKind = kind
        self.address = "127.0.0.1"
        self.ending = False

    async def kill(self) -> None:
        """Never asked for here."""

    def extend(self, seconds: float) -> bool:
        return False

    def __repr__(self) -> str:
        return self.name


async def test_one_job_at_a_time() -> None:
    desk = Desk(waiting=1)
    first, second = SomeJob("first"), SomeJob("second")
    assert desk.ask(first)
    assert desk.ask(first)
    assert not desk.ask(second)
    assert not desk.ask(second)
    assert desk.waiting == 1
    desk.leave(SomeJob("stranger"))
    assert desk.job is first
    desk.leave(first)
    desk.leave(first)
    assert desk.job is second
    await desk.turn(second, 20)
    desk.leave(second)
    assert desk.job is None


@pytest.mark.parametrize(("kind", "streaming"), [("udp", True), ("video", False), ("image", False)])
def test_only_udp_is_called_a_stream(kind: JobKind, streaming: bool) -> None:
    desk = Desk(waiting=1)
    assert not desk.streaming
    job = SomeJob("one", kind)
    assert not desk.taken
    desk.ask(job)
    assert desk.streaming is streaming
    assert desk.taken
    job.ending = True
    assert not desk.streaming
    assert not desk.taken


async def test_turns_come_in_order_but_for_who_ended_the_job() -> None:
    desk = Desk(waiting=2)
    jobs = [SomeJob(str(number)) for number in range(4)]
    assert desk.ask(jobs[0])
    had: list[SomeJob] = []

    async def wait(job: SomeJob) -> None:
        await desk.turn(job, 20)
        had.append(job)
        desk.leave(job)

    async with asyncio.TaskGroup() as group:
        for job in jobs[1:3]:
            desk.ask(job)
            group.create_task(wait(job))
        desk.ask_first(jobs[3])  # although the line is full
        group.create_task(wait(jobs[3]))
        await passes()
        assert desk.waiting == 3
        desk.leave(jobs[0])
    assert had == [jobs[3], jobs[1], jobs[2]]
    assert desk.job is None


def test_who_ends_nothing_has_the_camera_at_once() -> None:
    desk = Desk(waiting=1)
    job = SomeJob("only")
    desk.ask_first(job)
    assert desk.job is job
    desk.ask_first(job)
    assert (desk.job, desk.waiting) == (job, 0)


async def test_a_line_that_is_too_long_and_a_turn_that_does_not_come() -> None:
    desk = Desk(waiting=1)
    first, second, third = SomeJob("first"), SomeJob("second"), SomeJob("third")
    desk.ask(first)
    desk.ask(second)
    with pytest.raises(BusyError, match="1 requests wait"):
        desk.ask(third)
    with pytest.raises(TimeoutError, match="turn"):
        await desk.turn(second, 0.01)
    assert desk.waiting == 0
    desk.ask(third)
    waiting = asyncio.create_task(desk.turn(third, 20))
    await passes()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert desk.waiting == 0
    assert desk.job is first


async def test_a_turn_that_comes_in_the_moment_of_a_cancellation_goes_to_the_next() -> None:
    desk = Desk(waiting=2)
    first, second, third = SomeJob("first"), SomeJob("second"), SomeJob("third")
    for job in (first, second, third):
        desk.ask(job)
    cancelled = asyncio.create_task(desk.turn(second, 20))
    waiting = asyncio.create_task(desk.turn(third, 20))
    await passes()
    desk.leave(first)
    cancelled.cancel()
    await waiting
    assert cancelled.cancelled()
    assert desk.job is third
