"""The device with its own recorder: real GStreamer, real files, and cameras that are not there."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from asynccam.errors import StateError
from asynccam.recording.sources import TestPattern, V4l2Source
from asynccam.recording.verify import Verdict, verify_file
from asynccam.runtime.tasks import TaskScope
from asynccam.systems.multicam.device import recording
from asynccam.systems.multicam.device.device import MultiCamDevice
from asynccam.systems.multicam.device.recording import GstRecorder, RecordingPhase
from tests.support.gst import gst_processes
from tests.support.multicam_device import ROOMY, ask, fetch
from tests.support.waiting import eventually


def small_picture() -> GstRecorder:
    return GstRecorder(TestPattern(label="bench", width=160, height=120))


async def test_recording_is_complete_mp4_of_reported_size(tmp_path: Path) -> None:
    async with MultiCamDevice(tmp_path, recorder=small_picture(), port=0, limits=ROOMY) as device:
        assert (await ask(device, "START_RECORDING"))["status"] == "recording"
        assert device.first_frame_at is not None
        await asyncio.sleep(0.5)  # the length of the recording
        stopped = await ask(device, "STOP_RECORDING")
        _, footage = await fetch(device, fileName=stopped["fileName"])
    path = tmp_path / stopped["fileName"]
    assert stopped["fileSize"] == path.stat().st_size == len(footage) > 0
    verdict = await verify_file(path)
    assert verdict.verdict is Verdict.COMPLETE
    assert verdict.frames is not None
    assert verdict.frames >= 10


async def test_close_leaves_complete_mp4(tmp_path: Path) -> None:
    async with MultiCamDevice(tmp_path, recorder=small_picture(), port=0, limits=ROOMY) as device:
        await ask(device, "START_RECORDING")
    (path,) = tmp_path.iterdir()
    assert (await verify_file(path)).verdict is Verdict.COMPLETE


async def test_missing_camera_leaves_nothing(tmp_path: Path) -> None:
    recorder = GstRecorder(V4l2Source("/dev/video-none"))
    async with MultiCamDevice(tmp_path, recorder=recorder, port=0, limits=ROOMY, dialect=1) as device:
        answer = await ask(device, "START_RECORDING")
    assert answer["status"] == "error"
    assert "/dev/video-none" in answer["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("delay", [0, 0.001, 0.005, 0.02])
async def test_cancelled_start_leaves_no_process(tmp_path: Path, delay: float) -> None:
    recorder = small_picture()
    async with TaskScope("test") as scope:
        starting = scope.spawn(recorder.start(tmp_path / "a.mp4"), name="start")
        await asyncio.sleep(delay)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    with pytest.raises(StateError):
        await recorder.stop()


async def test_killed_recorder_is_detected_and_its_file_is_returned(tmp_path: Path) -> None:
    async with MultiCamDevice(tmp_path, recorder=small_picture(), port=0, limits=ROOMY, dialect=1) as device:
        await ask(device, "START_RECORDING")
        await eventually(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
        for process in await asyncio.to_thread(processes_that_write, tmp_path):
            os.kill(process, signal.SIGKILL)
        await eventually(lambda: device.phase is RecordingPhase.FAILED)
        status = await ask(device, "DEVICE_STATUS")
        stopped = await ask(device, "STOP_RECORDING")
    assert status["status"] == "error"
    assert status["message"]
    assert stopped["status"] == "recording_stopped"
    assert stopped["fileSize"] == (tmp_path / f"{stopped['fileId']}.mp4").stat().st_size > 0


async def test_cancelled_device_finishes_recording(tmp_path: Path) -> None:
    opened: asyncio.Future[MultiCamDevice] = asyncio.get_running_loop().create_future()

    async def serve() -> None:
        async with MultiCamDevice(
            tmp_path, port=0, device_id="bench-served", announce=True, interfaces=["127.0.0.1"]
        ) as device:
            opened.set_result(device)
            await asyncio.Event().wait()

    async with TaskScope("test") as scope:
        running = scope.spawn(serve(), name="serve")
        device = await asyncio.wait_for(opened, 10)
        assert (await ask(device, "START_RECORDING"))["deviceId"] == "bench-served"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    (path,) = tmp_path.iterdir()
    assert (await verify_file(path)).verdict is Verdict.COMPLETE


def processes_that_write(directory: Path) -> list[int]:
    """Ids of this process's descendants with a file of the directory open."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd"):
        try:
            files = [os.readlink(link) for link in entry.iterdir()]  # noqa: PTH115 - not a path to follow
        except OSError:  # another user's, or gone
            continue
        if int(entry.parent.name) != os.getpid() and any(file.startswith(f"{directory}/") for file in files):
            found.append(int(entry.parent.name))
    return found


async def test_scheduled_start_opens_the_camera_ahead_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ARM_LEAD", 1000.0)
    async with MultiCamDevice(tmp_path, recorder=small_picture(), port=0, limits=ROOMY) as device:
        at = time.time() + 4
        assert (await ask(device, "START_RECORDING", timestamp=at))[
            "status"
        ] == "scheduled_recording_accepted"
        await eventually(lambda: list(tmp_path.iterdir()))
        assert (time.time() < at, device.phase) == (True, RecordingPhase.SCHEDULED)
        assert (await ask(device, "LIST_FILES"))["files"] == []
        await eventually(lambda: device.phase is RecordingPhase.RECORDING)
        await asyncio.sleep(0.5)  # the length of the recording
        stopped = await ask(device, "STOP_RECORDING")
        over = time.time()
    assert device.first_frame_at is not None
    assert device.first_frame_at >= at
    verdict = await verify_file(tmp_path / stopped["fileName"])
    assert verdict.verdict is Verdict.COMPLETE
    assert verdict.duration is not None
    assert verdict.duration <= over - at + 0.1


@pytest.mark.parametrize("command", ["STOP_RECORDING", "START_RECORDING", None])
async def test_cancelled_scheduled_start_leaves_no_process_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str | None
) -> None:
    monkeypatch.setattr(recording, "ARM_LEAD", 1000.0)
    async with MultiCamDevice(tmp_path, recorder=small_picture(), port=0, limits=ROOMY) as device:
        await ask(device, "START_RECORDING", timestamp=time.time() + 500)
        await eventually(lambda: list(tmp_path.iterdir()))
        (armed,) = tmp_path.iterdir()
        if command is not None:
            await ask(device, command)
            assert not armed.exists()
    assert not armed.exists()
    assert gst_processes(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == (command == "START_RECORDING")


@pytest.mark.parametrize("noticed", [True, False])
async def test_armed_camera_that_fails_is_opened_again(tmp_path: Path, *, noticed: bool) -> None:
    recorder = small_picture()
    path = tmp_path / "a.mp4"
    await recorder.arm(path)
    for process in gst_processes(tmp_path):
        os.kill(process, signal.SIGKILL)
    if noticed:
        await eventually(lambda: not gst_processes(tmp_path) and not path.exists())
    await recorder.start(path)
    assert (await recorder.stop()).verdict is Verdict.COMPLETE
    await recorder.disarm()


async def test_recorder_armed_for_another_file_is_released(tmp_path: Path) -> None:
    recorder = small_picture()
    await recorder.arm(tmp_path / "a.mp4")
    await recorder.arm(tmp_path / "b.mp4")
    await recorder.start(tmp_path / "c.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["c.mp4"]
    await recorder.stop()
