"""A take that is cancelled, at every point there is: nothing goes on recording, what exists comes home."""

import asyncio
import builtins
from collections.abc import Callable
from pathlib import Path

import pytest

from asynccam.errors import StateError
from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.take import Take, TakeLimits, TakeState
from tests.support.scripted_camera import ScriptedCamera, hang
from tests.support.waiting import eventually, passes

SHORT = TakeLimits(
    clock_timeout=0.2,
    arm_timeout=0.2,
    start_timeout=0.2,
    start_answer_grace=0.05,
    late_start_grace=0.03,
    stop_timeout=0.2,
    status_timeout=0.2,
    stall_timeout=0.2,
    cancel_timeout=2.0,
)


class Fleet:
    """Three unlike cameras that count every call; the caller is cancelled at the ``cancel_at``-th."""

    def __init__(self, directory: Path, cancel_at: int) -> None:
        self.directory = directory
        self.calls = 0
        self.cancel_at = cancel_at
        self.task: asyncio.Task[object] | None = None
        self.cameras = [
            ScriptedCamera("plain", on_call=self.call),
            ScriptedCamera("scheduled", scheduled=True, clock=0.0, stubborn=True, on_call=self.call),
            ScriptedCamera("local", local=True, on_call=self.call),
        ]
        self.take = Take(self.cameras, directory, name="take", limits=SHORT)

    async def call(self, camera: ScriptedCamera, step: str) -> None:
        self.calls += 1
        if self.calls == self.cancel_at and self.task is not None:
            self.task.cancel()
        await asyncio.sleep(0)

    async def run(self) -> bool:
        """Return whether the take was cancelled before it ended."""
        async with asyncio.TaskGroup() as group:
            self.task = group.create_task(self.take.run(duration=0.03, start_in=0.03))
        return self.task.cancelled()

    async def check_end(self) -> Manifest:
        assert self.take.state is TakeState.DONE
        assert not [camera for camera in self.cameras if camera.recording or camera.held]
        manifest = await Manifest.load(self.directory / "take")
        assert manifest == self.take.manifest
        for camera, record in zip(self.cameras, manifest.cameras, strict=True):
            home = [file for file in record.files if file.state is FileState.ARRIVED]
            assert len(home) == len(record.files)
            assert bool(home) == (record.stopped_at is not None), (camera.calls, record)
        return manifest


async def test_cancelled_at_every_call_to_a_camera(tmp_path: Path) -> None:
    whole = Fleet(tmp_path / "whole", 0)
    assert not await whole.run()
    await whole.check_end()
    assert whole.take.ok
    stopped_with_files = 0
    for number in range(1, whole.calls + 1):
        fleet = Fleet(tmp_path / str(number), number)
        cancelled = await fleet.run()
        manifest = await fleet.check_end()
        assert cancelled
        assert manifest.outcome is Outcome.CANCELLED
        stopped_with_files += any(record.files for record in manifest.cameras)
    assert 0 < stopped_with_files < whole.calls


@pytest.mark.parametrize("step", range(0, 130, 10))
async def test_cancelled_after_any_time(tmp_path: Path, step: int) -> None:
    fleet = Fleet(tmp_path, 0)
    task = asyncio.ensure_future(fleet.take.run(duration=0.03, start_in=0.03))
    await asyncio.wait({task}, timeout=step / 1000)
    was_done = task.done()
    task.cancel()
    await asyncio.wait({task})
    assert fleet.take.state is TakeState.DONE
    if (tmp_path / "take").is_dir():
        manifest = await fleet.check_end()
        assert (manifest.outcome is Outcome.COMPLETE) or (
            not was_done and manifest.outcome is Outcome.CANCELLED
        )


@pytest.mark.parametrize("count", range(25))
async def test_cancelled_after_any_number_of_passes_of_the_loop(tmp_path: Path, count: int) -> None:
    fleet = Fleet(tmp_path, 0)
    task = asyncio.ensure_future(fleet.take.run(duration=0.03, start_in=0.03))
    for _ in range(count):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fleet.take.state in (TakeState.DONE, TakeState.NEW)
    if (tmp_path / "take").is_dir():
        assert (await fleet.check_end()).outcome is Outcome.CANCELLED


async def cancelled_when(take: Take, ready: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(take.run(duration=30, start_in=0.3))
    await eventually(ready)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_while_recording_downloads_the_files(tmp_path: Path) -> None:
    cameras = [ScriptedCamera("one"), ScriptedCamera("two", scheduled=True)]
    take = Take(cameras, tmp_path, limits=SHORT)
    await cancelled_when(take, lambda: all(camera.recording for camera in cameras))
    manifest = await Manifest.load(take.directory)
    assert manifest.outcome is Outcome.CANCELLED
    assert [camera.outcome for camera in manifest.cameras] == [Outcome.COMPLETE, Outcome.COMPLETE]
    assert (take.directory / "one" / "video.mp4").is_file()


async def test_cancelled_before_t0_no_camera_starts(tmp_path: Path) -> None:
    plain, scheduled = ScriptedCamera("plain"), ScriptedCamera("scheduled", scheduled=True)
    take = Take([plain, scheduled], tmp_path, limits=SHORT)
    await cancelled_when(take, lambda: "accepted" in scheduled.calls)
    assert "release" not in plain.calls
    assert scheduled.calls.count("stop") == 1
    manifest = take.manifest
    assert [camera.outcome for camera in manifest.cameras] == [Outcome.CANCELLED, Outcome.CANCELLED]
    assert not [error for camera in manifest.cameras for error in camera.errors]


async def test_scheduled_start_that_fires_despite_a_stop_is_stopped_again(tmp_path: Path) -> None:
    camera = ScriptedCamera("stubborn", scheduled=True, stubborn=True)
    take = Take([camera], tmp_path, limits=SHORT)
    await cancelled_when(take, lambda: "accepted" in camera.calls)
    assert camera.calls.count("stop") == 2
    assert not camera.recording
    assert take.manifest.cameras[0].files[0].state is FileState.ARRIVED


async def test_cancelled_take_does_not_repeat_a_stop(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def pack() -> None:
        reached.set()
        await go_on.wait()

    camera.script["stop"] = pack
    take = Take([camera], tmp_path)
    task = asyncio.ensure_future(take.run(duration=0.02, start_in=0))
    await reached.wait()
    task.cancel()
    await passes()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert camera.calls.count("stop") == 1
    assert take.manifest.cameras[0].outcome is Outcome.COMPLETE
    assert take.manifest.outcome is Outcome.CANCELLED


@pytest.mark.parametrize("step", ["stop", "download"])
async def test_cancelled_take_ends_by_its_deadline(tmp_path: Path, step: str) -> None:
    camera = ScriptedCamera("one", script={step: hang})
    take = Take([camera], tmp_path, limits=TakeLimits(cancel_timeout=0.2))
    async with asyncio.timeout(20):
        await cancelled_when(take, lambda: camera.recording)
    manifest = await Manifest.load(take.directory)
    assert [error.step for error in manifest.errors] == ["end"]
    (error,) = manifest.cameras[0].errors
    assert (error.step, error.error) == ({"stop": "stop", "download": "collect"}[step], "TimeoutError")
    assert "no time was left" in error.message


async def test_abort_cuts_the_ending_short(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def on_call(camera: ScriptedCamera, step: str) -> None:
        if step == "download":
            reached.set()
            await hang()

    take = Take([ScriptedCamera("one", on_call=on_call)], tmp_path)
    task = asyncio.ensure_future(take.run(duration=30, start_in=0))
    await eventually(lambda: take.state is TakeState.RECORDING)
    task.cancel()
    await reached.wait()
    await take.abort()
    with pytest.raises(asyncio.CancelledError):
        await task
    manifest = await Manifest.load(take.directory)
    assert (manifest.outcome, manifest.phase) == (Outcome.CANCELLED, "done")
    assert manifest.cameras[0].files[0].state is FileState.FAILED
    assert [error.step for error in manifest.errors] == ["end"]
    assert "aborted" in manifest.errors[0].message


async def test_timeout_around_a_take_is_a_cancellation(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    take = Take([camera], tmp_path)
    with pytest.raises(builtins.TimeoutError):
        async with asyncio.timeout(0.2):
            await take.run(duration=30, start_in=0)
    assert take.manifest.outcome is Outcome.CANCELLED
    assert take.manifest.cameras[0].outcome is Outcome.COMPLETE


async def test_leaving_the_block_ends_the_take(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    async with Take([camera], tmp_path) as take:
        await take.arm()
        await take.start(start_in=0)
    assert take.state is TakeState.DONE
    assert not camera.recording
    assert (await Manifest.load(take.directory)).outcome is Outcome.CANCELLED
    assert take.manifest.cameras[0].outcome is Outcome.COMPLETE


async def test_closing_a_take_from_elsewhere_ends_its_step(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    take = Take([camera], tmp_path)
    running = asyncio.ensure_future(take.run(duration=30, start_in=0))
    await eventually(lambda: take.state is TakeState.RECORDING)
    await take.aclose()
    with pytest.raises(StateError, match="was ended during"):
        await running
    assert take.manifest.cameras[0].outcome is Outcome.COMPLETE


async def test_closing_a_take_that_never_began(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    take = Take([camera], tmp_path)
    await take.aclose()
    await take.aclose()
    assert take.state is TakeState.DONE
    assert not camera.calls
    assert not list(tmp_path.iterdir())
