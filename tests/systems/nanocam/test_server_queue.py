"""Who has the camera, and in which order."""

import asyncio

import pytest

from asynccam.errors import BusyError, TimeoutError
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.protocol import ImageRequest, VideoRequest
from asynccam.systems.nanocam.server.camera import (
    CaptureJob,
    JobKind,
    RequestQueue,
    ServerCamera,
)
from asynccam.systems.nanocam.server.options import ServerLimits
from tests.support.waiting import passes


def make_job(kind: JobKind = "image") -> CaptureJob:
    camera = ServerCamera(CSIcamera(), None, ServerLimits())
    if kind == "image":
        return CaptureJob(camera, ImageRequest(1, 1.0, 160, 120), "127.0.0.1")
    return CaptureJob(camera, VideoRequest(1.0, 160, 120, "udp" if kind == "udp" else "file"), "127.0.0.1")


async def test_one_job_at_a_time() -> None:
    queue = RequestQueue(max_waiting=1)
    first, second = make_job(), make_job()
    assert queue.enqueue(first)
    assert queue.enqueue(first)
    assert not queue.enqueue(second)
    assert not queue.enqueue(second)
    assert queue.waiting == 1
    queue.release(make_job())
    assert queue.job is first
    queue.release(first)
    queue.release(first)
    assert queue.job is second
    await queue.wait_turn(second, 20)
    queue.release(second)
    assert queue.job is None


@pytest.mark.parametrize(("kind", "streaming"), [("udp", True), ("video", False), ("image", False)])
def test_only_udp_is_streaming(kind: JobKind, streaming: bool) -> None:
    queue = RequestQueue(max_waiting=1)
    assert not queue.streaming
    job = make_job(kind)
    assert not queue.taken
    queue.enqueue(job)
    assert queue.streaming is streaming
    assert queue.taken
    job.ending = True
    assert not queue.streaming
    assert not queue.taken


async def test_turns_in_order_except_after_a_kill() -> None:
    queue = RequestQueue(max_waiting=2)
    jobs = [make_job() for _ in range(4)]
    assert queue.enqueue(jobs[0])
    had: list[CaptureJob] = []

    async def wait(job: CaptureJob) -> None:
        await queue.wait_turn(job, 20)
        had.append(job)
        queue.release(job)

    async with asyncio.TaskGroup() as group:
        for job in jobs[1:3]:
            queue.enqueue(job)
            group.create_task(wait(job))
        queue.enqueue_first(jobs[3])  # although the line is full
        group.create_task(wait(jobs[3]))
        await passes()
        assert queue.waiting == 3
        queue.release(jobs[0])
    assert had == [jobs[3], jobs[1], jobs[2]]
    assert queue.job is None


def test_enqueue_first_on_a_free_camera() -> None:
    queue = RequestQueue(max_waiting=1)
    job = make_job()
    queue.enqueue_first(job)
    assert queue.job is job
    queue.enqueue_first(job)
    assert (queue.job, queue.waiting) == (job, 0)


async def test_full_queue_and_turn_timeout() -> None:
    queue = RequestQueue(max_waiting=1)
    first, second, third = make_job(), make_job(), make_job()
    queue.enqueue(first)
    queue.enqueue(second)
    with pytest.raises(BusyError, match="1 requests wait"):
        queue.enqueue(third)
    with pytest.raises(TimeoutError, match="turn"):
        await queue.wait_turn(second, 0.01)
    assert queue.waiting == 0
    queue.enqueue(third)
    waiting = asyncio.create_task(queue.wait_turn(third, 20))
    await passes()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert queue.waiting == 0
    assert queue.job is first


async def test_turn_during_a_cancellation_goes_to_the_next() -> None:
    queue = RequestQueue(max_waiting=2)
    first, second, third = make_job(), make_job(), make_job()
    for job in (first, second, third):
        queue.enqueue(job)
    cancelled = asyncio.create_task(queue.wait_turn(second, 20))
    waiting = asyncio.create_task(queue.wait_turn(third, 20))
    await passes()
    queue.release(first)
    cancelled.cancel()
    await waiting
    assert cancelled.cancelled()
    assert queue.job is third
