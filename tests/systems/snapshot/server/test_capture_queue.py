"""CaptureQueue: order, limits and cancellation."""

import asyncio
from pathlib import Path

import pytest

from asynccam.errors import BusyError, UsageError
from asynccam.systems.snapshot.server.service import CaptureQueue, device_key
from tests.support.waiting import passes


async def test_queue_refuses_beyond_its_capacity() -> None:
    queue = CaptureQueue(2, 3)
    tickets = [queue.admit()[0] for _ in range(5)]
    with pytest.raises(BusyError):
        queue.admit()
    tickets[0].close()
    tickets[0].close()
    with pytest.raises(BusyError):
        queue.admit(2)
    queue.admit()
    assert queue.inside == 5


async def test_empty_queue_admits_any_number() -> None:
    queue = CaptureQueue(1, 0)
    tickets = queue.admit(10)
    for ticket in tickets:
        ticket.close()
    assert queue.inside == 0


async def test_queue_runs_one_capture_per_device() -> None:
    queue = CaptureQueue(2, 100)
    order: list[str] = []
    go = asyncio.Event()

    async def use(device: str, name: str) -> None:
        async with queue.device(device), queue.slot():
            order.append(name)
            await go.wait()
            order.append(f"-{name}")

    tasks = [asyncio.create_task(use("a", f"a{number}")) for number in range(5)]
    await passes()
    tasks.append(asyncio.create_task(use("b", "b")))
    await passes()
    assert order == ["a0", "b"]
    assert queue.running == 2
    go.set()
    await asyncio.gather(*tasks)
    only = [one for one in order if "a" in one]
    assert only == [one for number in range(5) for one in (f"a{number}", f"-a{number}")]
    assert queue.running == 0


async def test_waits_for_several_devices_never_deadlock() -> None:
    queue = CaptureQueue(2, 100)
    done = 0

    async def use(*devices: str) -> None:
        nonlocal done
        async with queue.devices(devices):
            assert queue.running <= 2
            await passes(3)
        done += 1

    async def single(device: str) -> None:
        nonlocal done
        async with queue.device(device), queue.slot():
            await passes(2)
        done += 1

    jobs = [use("a", "b"), use("b", "a"), use("c", "a"), *(single(one) for one in "abcabc")]
    async with asyncio.timeout(20):
        await asyncio.gather(*jobs)
    assert done == 9


async def test_cancelled_wait_releases_everything() -> None:
    queue = CaptureQueue(1, 10)
    async with queue.device("a"), queue.slot():
        waiting = [
            asyncio.create_task(coroutine)
            for coroutine in (queue.devices(["a"]).__aenter__(), queue.device("a").__aenter__())
        ]
        await passes()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(20), queue.devices(["a"]):
        assert queue.running == 1


async def test_device_key_follows_links(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    (tmp_path / "front").symlink_to("video0")
    assert await device_key(str(tmp_path / "front")) == await device_key(str(tmp_path / "video0"))
    assert await device_key("test:ball") == await device_key("test:ball")


def test_queue_checks_its_limits() -> None:
    with pytest.raises(UsageError):
        CaptureQueue(0, 0)
    with pytest.raises(UsageError):
        CaptureQueue(1, -1)
