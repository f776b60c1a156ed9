"""A Session: what it owns, in what order it ends, and how exceptions leave it."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from zeroconf.asyncio import AsyncZeroconf

from asynccam.errors import AddressError, DeviceError, StateError, StorageError, UsageError
from asynccam.model.events import CameraFailed, CameraFound, TakePhaseChanged
from asynccam.model.manifest import Outcome
from asynccam.runtime.retry import RetryScheduler
from asynccam.session import Session
from asynccam.take import Take, TakeLimits, TakeState
from tests.support.ntp_server import ntp_server, says
from tests.support.scripted_camera import ScriptedCamera, hang, late, refuse
from tests.support.waiting import eventually

BROKEN = DeviceError("broken", status="error")


def camera_with(step: str, name: str = "bad") -> ScriptedCamera:
    return ScriptedCamera(name, script={step: refuse(BROKEN)})


async def test_take_of_all_cameras(tmp_path: Path) -> None:
    async with Session() as session:
        cameras = [ScriptedCamera("one"), ScriptedCamera("two")]
        for camera in cameras:
            session.add(camera)
        take = await session.take(duration=0.02, directory=tmp_path, start_in=0, name="all")
        assert take.ok
        assert [record.name for record in take.manifest.cameras] == ["one", "two"]
        alone = await session.take([cameras[1]], duration=0.02, directory=tmp_path, start_in=0)
        assert [record.name for record in alone.manifest.cameras] == ["two"]
    assert [camera.closed for camera in cameras] == [1, 1]


async def test_cameras_are_a_live_view(tmp_path: Path) -> None:
    async with Session() as session:
        view = session.cameras
        one = ScriptedCamera("one")
        session.add(one)
        assert view == {"scripted://one": one}
        session.add(one)
        with pytest.raises(UsageError, match="another camera"):
            session.add(ScriptedCamera("one"))
        await session.remove("scripted://one")
        assert not view
        assert one.closed == 1
        with pytest.raises(UsageError, match="not in the session"):
            await session.remove(one)
        with pytest.raises(UsageError, match="needs cameras"):
            await session.take(duration=1, directory=tmp_path)


async def test_events_reach_subscribers(tmp_path: Path) -> None:
    found: list[CameraFound] = []
    phases: list[TakePhaseChanged] = []
    async with Session() as session:
        with session.subscribe(found.append, CameraFound), session.subscribe(phases.append, TakePhaseChanged):
            session.add(ScriptedCamera("one"))
            await session.take(duration=0.02, directory=tmp_path, start_in=0)
            await eventually(lambda: len(phases) == 8)
    assert [event.camera for event in found] == ["scripted://one"]


async def test_failed_camera_is_an_event(tmp_path: Path) -> None:
    failures: list[CameraFailed] = []
    async with Session() as session:
        session.subscribe(failures.append, CameraFailed)
        session.add(camera_with("arm"))
        session.add(ScriptedCamera("good"))
        take = await session.take(duration=0.02, directory=tmp_path, start_in=0)
        assert take.manifest.outcome is Outcome.INCOMPLETE
        await eventually(lambda: failures)
    assert [(event.camera, event.step, event.error) for event in failures] == [
        ("scripted://bad", "arm", BROKEN)
    ]


async def test_camera_that_fails_to_close_is_an_event() -> None:
    good = ScriptedCamera("good")
    async with Session() as session:
        session.add(camera_with("close"))
        session.add(good)
    assert good.closed == 1


@pytest.mark.parametrize("step", ["arm", "accepted", "stop", "download"])
async def test_fail_fast_raises_the_error_of_the_camera(tmp_path: Path, step: str) -> None:
    good = ScriptedCamera("good")
    takes: list[Take] = []

    async def block() -> None:
        async with Session(fail_fast=True) as session:
            session.add(good)
            session.add(camera_with(step))
            takes.append(session.new_take(directory=tmp_path, name="take"))
            await takes[0].run(duration=0.2 if step in ("stop", "download") else 300, start_in=0)
            pytest.fail("the block was not ended")

    async with asyncio.timeout(20):
        with pytest.raises(DeviceError) as caught:
            await block()
    (take,) = takes
    assert caught.value is BROKEN
    assert not good.recording
    assert take.state is TakeState.DONE
    assert take.manifest.outcome is Outcome.CANCELLED
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_fail_fast_with_several_failures_raises_a_group(tmp_path: Path) -> None:
    async def block() -> None:
        async with Session(fail_fast=True) as session:
            session.add(camera_with("arm", "bad1"))
            session.add(camera_with("arm", "bad2"))
            await session.take(duration=30, directory=tmp_path)

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert [str(error) for error in caught.value.exceptions] == ["broken", "broken"]


async def test_single_exception_leaves_unwrapped() -> None:
    error = ZeroDivisionError()
    camera = ScriptedCamera("one")

    async def block() -> None:
        async with Session() as session:
            session.add(camera)
            raise error

    with pytest.raises(ZeroDivisionError) as caught:
        await block()
    assert caught.value is error
    assert camera.closed == 1


async def test_exception_and_failed_close_leave_as_a_group(tmp_path: Path) -> None:
    async def block() -> None:
        async with Session() as session:
            session.add(ScriptedCamera("one"))
            await _spoiled_take(session, tmp_path)
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError, StorageError]


async def test_cancelled_block_raises_the_cancellation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def block() -> None:
        async with Session() as session:
            session.add(ScriptedCamera("one"))
            await _spoiled_take(session, tmp_path)
            await hang()

    task = asyncio.ensure_future(block())
    await eventually((tmp_path / "take" / "manifest.json").is_dir, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["while the session was closed"]


async def _spoiled_take(session: Session, directory: Path) -> None:
    """A take whose manifest can no longer be written."""
    take = session.new_take(directory=directory, name="take")
    await take.arm()
    manifest = take.directory / "manifest.json"
    await asyncio.to_thread(manifest.unlink)
    await asyncio.to_thread(manifest.mkdir)


async def test_running_takes_end_before_cameras_are_closed(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    async with Session() as session:
        session.add(camera)
        take = session.new_take(directory=tmp_path)
        await take.arm()
        await take.start(start_in=0)
    assert camera.calls[-3:] == ["stop", "download", "close"]
    assert take.manifest.outcome is Outcome.CANCELLED
    assert take.manifest.cameras[0].outcome is Outcome.COMPLETE


async def test_shutdown_is_bounded_if_everything_hangs(tmp_path: Path) -> None:
    camera = ScriptedCamera("one", script={"stop": hang, "close": hang})
    async with Session(shutdown_timeout=5.0) as session:
        session.add(camera)
        take = session.new_take(directory=tmp_path, limits=TakeLimits(start_timeout=1))
        await take.arm()
        await take.start(start_in=0)
    assert take.manifest.cameras[0].outcome is Outcome.CANCELLED


async def test_second_cancellation_does_not_cut_shutdown_short() -> None:
    camera = ScriptedCamera("one", script={"close": late(0.1)})

    inside = asyncio.Event()

    async def block() -> None:
        async with Session() as session:
            session.add(camera)
            inside.set()
            await hang()

    task = asyncio.ensure_future(block())
    await inside.wait()
    task.cancel()
    await eventually(lambda: "close" in camera.calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert camera.closed == 1


async def test_passed_in_resources_are_not_closed() -> None:
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
    async with aiohttp.ClientSession() as http:
        async with Session(http=http, zeroconf=zeroconf) as session:
            assert session.http is http
            await session.discover(timeout=0.05)
        assert not http.closed
        assert not zeroconf.zeroconf.done
    await zeroconf.async_close()


async def test_own_resources_are_made_when_needed_and_closed() -> None:
    async with Session(interfaces=["127.0.0.1"]) as session:
        http = session.http
        assert session.http is http
        await session.discover(timeout=0.05)
    assert http.closed


async def test_session_outside_its_block_raises_state_error() -> None:
    session = Session()
    with pytest.raises(StateError, match="async with"):
        await session.connect("multicam://127.0.0.1:1")
    async with session:
        pass
    with pytest.raises(StateError, match="async with"):
        session.add(ScriptedCamera("one"))
    with pytest.raises(StateError, match="entered once"):
        async with session:
            pass


async def test_unreachable_addresses_raise() -> None:
    async with Session() as session:
        with pytest.raises(AddressError, match="not a camera address"):
            await session.connect("127.0.0.1")
        with pytest.raises(AddressError, match="'other'"):
            await session.connect("other://127.0.0.1")
        with pytest.raises(AddressError, match="'other'"):
            await session.discover(timeout=0.01, systems=["other"])
    with pytest.raises(UsageError, match="not a time server"):
        Session(ntp_server="host:port")


async def test_t0_is_from_the_ntp_server(tmp_path: Path) -> None:
    async with (
        ntp_server(says(5.0, time.time)) as server,
        Session(ntp_server=f"127.0.0.1:{server.port}") as session,
    ):
        session.add(ScriptedCamera("one", scheduled=True, clock=5.0))
        take = await session.take(duration=0.02, directory=tmp_path, start_in=0.05)
        start = take.manifest.start
        assert start is not None
        assert (start.source, start.server) == ("ntp", f"127.0.0.1:{server.port}")
        assert start.t0.unix - start.t0_local.unix == pytest.approx(5.0, abs=0.05)
        assert take.ok


async def test_session_polls_every_ten_seconds_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    intervals: list[float | None] = []
    schedule = RetryScheduler.schedule

    def spy(self: RetryScheduler, *args: Any, interval: float | None) -> asyncio.Event:
        intervals.append(interval)
        return schedule(self, *args, interval=interval)

    monkeypatch.setattr(RetryScheduler, "schedule", spy)
    camera = ScriptedCamera("polled")
    async with Session() as session:
        assert session.polls
        session.add(camera)
        await eventually(lambda: "status" in camera.calls, 10.0)
        assert intervals == [10.0]


async def test_session_without_poll_interval_does_not_poll() -> None:
    camera, polled = ScriptedCamera("not polled"), ScriptedCamera("polled")
    async with Session(poll_interval=None) as session, Session() as other:
        assert not session.polls
        session.add(camera)
        other.add(polled)
        await eventually(lambda: "status" in polled.calls, 10.0)
        session.retry_now()
        await asyncio.sleep(0.1)  # in which it would be asked
    assert camera.calls == ["close"]
