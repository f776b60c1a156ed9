"""Takes cancelled by every kind of host: however often they are told, they end in order."""

import asyncio
import builtins
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from aiohttp import ClientSession, web
from starlette.responses import StreamingResponse

from asynccam.errors import StateError
from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.session import Session
from asynccam.take import Take, TakeLimits, TakeState, resume_take
from asynccam.take.store import JOURNAL_NAME
from tests.support.scripted_camera import ScriptedCamera, hang, in_turn
from tests.support.waiting import eventually, passes

LIMITS = TakeLimits(
    start_answer_grace=0.05, late_start_grace=0.03, stop_timeout=5.0, status_timeout=5.0, cancel_timeout=20.0
)

Host = Callable[[Take, asyncio.Event], Awaitable[None]]


async def run(take: Take) -> None:
    await take.run(duration=60, start_in=0)


async def move_on_after(take: Take, recording: asyncio.Event) -> None:
    with anyio.move_on_after(60) as scope:
        async with asyncio.TaskGroup() as group:
            group.create_task(when(recording, lambda: setattr(scope, "deadline", anyio.current_time())))
            await run(take)
    assert scope.cancelled_caught


async def fail_after(take: Take, recording: asyncio.Event) -> None:
    async def body() -> None:
        with anyio.fail_after(60) as scope:
            async with asyncio.TaskGroup() as group:
                group.create_task(when(recording, lambda: setattr(scope, "deadline", anyio.current_time())))
                await run(take)

    with pytest.raises(builtins.TimeoutError):
        await body()


async def cancel_scope(take: Take, recording: asyncio.Event) -> None:
    with anyio.CancelScope() as scope:
        helper = asyncio.ensure_future(when(recording, scope.cancel))
        await run(take)
    await helper
    assert scope.cancelled_caught


async def nested_scopes(take: Take, recording: asyncio.Event) -> None:
    with anyio.CancelScope() as outer:
        with anyio.CancelScope() as inner:
            helper = asyncio.ensure_future(when(recording, inner.cancel, outer.cancel))
            await run(take)
        await anyio.lowlevel.checkpoint()
    await helper


async def failing_sibling_in_anyio(take: Take, recording: asyncio.Event) -> None:
    async def body() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(run, take)
            await recording.wait()
            raise ValueError("the sibling")

    with pytest.raises(ExceptionGroup) as caught:
        await body()
    assert [str(error) for error in caught.value.exceptions] == ["the sibling"]


async def failing_sibling(take: Take, recording: asyncio.Event) -> None:
    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run(take))
            await recording.wait()
            raise ValueError("the sibling")

    with pytest.raises(ExceptionGroup) as caught:
        await body()
    assert [str(error) for error in caught.value.exceptions] == ["the sibling"]


async def nested_timeouts(take: Take, recording: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    inner, outer = asyncio.timeout(60), asyncio.timeout(60)

    async def body() -> None:
        async with outer, inner:
            await run(take)

    ends = (
        lambda: inner.reschedule(loop.time()),
        lambda: outer.reschedule(loop.time() + 0.1),
    )
    helper = asyncio.ensure_future(when(recording, *ends))
    with pytest.raises(builtins.TimeoutError):
        await body()
    await helper
    assert inner.expired()
    assert outer.expired()


async def timeout_in_a_scope(take: Take, recording: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:
        async with asyncio.timeout(60) as limit:
            helper = asyncio.ensure_future(
                when(recording, lambda: limit.reschedule(loop.time()), scope.cancel)
            )
            await run(take)
    await helper


def cancelled_twice(apart: float) -> Host:
    async def host(take: Take, recording: asyncio.Event) -> None:
        task = asyncio.ensure_future(run(take))
        await recording.wait()
        task.cancel()
        await asyncio.sleep(apart)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    return host


async def streaming_response(take: Take, recording: asyncio.Event) -> None:
    async def lines() -> Any:
        yield "begun\n"
        await run(take)
        yield "never\n"

    async def receive() -> dict[str, Any]:
        await recording.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    scope = {"type": "http", "asgi": {"spec_version": "2.0"}}
    await StreamingResponse(lines())(scope, receive, send)


async def aiohttp_handler(take: Take, recording: asyncio.Event) -> None:
    ended = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        try:
            await run(take)
        finally:
            ended.set()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with ClientSession() as client:
            asked = asyncio.ensure_future(client.get(f"http://127.0.0.1:{runner.addresses[0][1]}/"))
            await recording.wait()
            asked.cancel()
            with suppress(asyncio.CancelledError):
                await asked
        await asyncio.wait_for(ended.wait(), 20)
    finally:
        await runner.cleanup()


async def when(event: asyncio.Event, *acts: Callable[[], object]) -> None:
    await event.wait()
    for act in acts:
        act()


HOSTS: dict[str, Host] = {
    "anyio move_on_after": move_on_after,
    "anyio fail_after": fail_after,
    "anyio CancelScope": cancel_scope,
    "anyio nested scopes": nested_scopes,
    "anyio sibling": failing_sibling_in_anyio,
    "TaskGroup sibling": failing_sibling,
    "nested timeouts": nested_timeouts,
    "timeout in a scope": timeout_in_a_scope,
    "twice at once": cancelled_twice(0),
    "twice, 0.1 s apart": cancelled_twice(0.1),
    "starlette": streaming_response,
    "aiohttp": aiohttp_handler,
}


async def slowly() -> None:
    await asyncio.sleep(0.15)  # long enough for a cancellation while it lasts


@pytest.mark.parametrize("host", HOSTS)
async def test_take_ends_in_order_in_every_host(tmp_path: Path, host: str) -> None:
    cameras = [ScriptedCamera(name, script={"stop": slowly, "download": slowly}) for name in ("one", "two")]
    take = Take(cameras, tmp_path, limits=LIMITS)
    recording = asyncio.Event()
    watch = asyncio.ensure_future(when_recording(take, recording))
    await HOSTS[host](take, recording)
    await watch
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert take.state is TakeState.DONE
    assert not any(camera.recording or camera.held for camera in cameras)
    manifest = await Manifest.load(take.directory)
    assert manifest.outcome is Outcome.CANCELLED
    assert not manifest.errors
    for record in manifest.cameras:
        assert not record.errors
        assert [file.state for file in record.files] == [FileState.ARRIVED]
    assert not (take.directory / JOURNAL_NAME).exists()


async def when_recording(take: Take, recording: asyncio.Event) -> None:
    await eventually(lambda: take.state is TakeState.RECORDING)
    recording.set()


@pytest.mark.parametrize("host", HOSTS)
async def test_ending_over_its_deadline_is_reported_and_resumable(tmp_path: Path, host: str) -> None:
    camera = ScriptedCamera("one", script={"stop": in_turn(hang, None)})
    limits = TakeLimits(start_answer_grace=0.05, cancel_timeout=0.3)
    take = Take([camera], tmp_path, limits=limits)
    recording = asyncio.Event()
    watch = asyncio.ensure_future(when_recording(take, recording))
    await HOSTS[host](take, recording)
    await watch
    await check_resumable(take, camera)


async def check_resumable(take: Take, camera: ScriptedCamera) -> None:
    assert camera.recording
    assert not take.ok
    manifest = await Manifest.load(take.directory)
    assert manifest.outcome is Outcome.RUNNING
    assert manifest.phase != "done"
    assert [error.step for error in manifest.errors] == ["end"]
    assert "it may still record" in manifest.cameras[0].errors[0].message
    assert (take.directory / JOURNAL_NAME).exists()
    async with Session() as session:
        session.add(camera)
        resumed = await resume_take(take.directory, session)
    assert not camera.recording
    assert resumed.outcome is Outcome.RESUMED
    assert [file.state for file in resumed.cameras[0].files] == [FileState.ARRIVED]
    assert not (take.directory / JOURNAL_NAME).exists()


@pytest.mark.parametrize("first", ["cancel", "abort"])
async def test_abort_leaves_recording_cameras_to_resume(tmp_path: Path, first: str) -> None:
    camera = ScriptedCamera("one", script={"stop": in_turn(hang, None)})
    take = Take([camera], tmp_path, limits=LIMITS)
    task = asyncio.ensure_future(run(take))
    await eventually(lambda: camera.recording)
    if first == "cancel":
        task.cancel()
        await eventually(lambda: "stop" in camera.calls)
    else:
        camera.script["stop"] = in_turn(None)
    take.abort()
    expected = asyncio.CancelledError if first == "cancel" else StateError
    with pytest.raises(expected):
        await task
    await take.abort()
    await check_resumable(take, camera)


async def test_abort_of_a_take_that_is_not_running(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    take = Take([camera], tmp_path)
    await take.abort()
    assert take.state is TakeState.DONE
    assert not list(tmp_path.iterdir())
    other = Take([camera], tmp_path, limits=LIMITS)
    await other.run(duration=0.02, start_in=0)
    await other.abort()
    assert other.ok


async def test_abort_while_a_scheduled_start_is_cancelled(tmp_path: Path) -> None:
    """A device that answered a stop before T0 and starts at T0 all the same."""
    camera = ScriptedCamera("one", scheduled=True, stubborn=True)
    take = Take([camera], tmp_path, limits=TakeLimits(start_answer_grace=0.05))
    task = asyncio.ensure_future(take.run(duration=60, start_in=0.4))
    await eventually(lambda: take.manifest.cameras[0].accepted_at is not None)
    task.cancel()
    await eventually(lambda: "stop" in camera.calls)
    await take.abort()
    await asyncio.wait({task})
    assert (await Manifest.load(take.directory)).outcome is Outcome.RUNNING
    async with Session() as session:
        session.add(camera)
        await resume_take(take.directory, session)
    assert not camera.recording


async def test_session_in_a_task_cancelled_before_raises_its_own_error(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        camera = ScriptedCamera("one", script={"arm": in_turn(refuse_to_arm)})
        async with Session(fail_fast=True) as session:
            session.add(camera)
            await session.take(duration=60, directory=tmp_path, start_in=0)

    with pytest.raises(ValueError, match="no arm"):
        await asyncio.ensure_future(body())


async def refuse_to_arm() -> None:
    raise ValueError("no arm")


async def test_session_in_an_anyio_scope_ends_its_takes(tmp_path: Path) -> None:
    camera = ScriptedCamera("one", script={"stop": slowly, "download": slowly, "close": slowly})
    with anyio.CancelScope() as scope:
        async with Session() as session:
            session.add(camera)
            take = session.new_take(directory=tmp_path, limits=LIMITS)
            await take.arm()
            await take.start(start_in=0)
            scope.cancel()
            await passes()
    assert scope.cancelled_caught
    assert camera.closed
    assert not camera.recording
    manifest = await Manifest.load(take.directory)
    assert [file.state for file in manifest.cameras[0].files] == [FileState.ARRIVED]
