"""Starts that are prepared ahead of time: nothing of before the start is in the file."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from asynccam.errors import RecordingError, StateError, TargetExistsError, TimeoutError
from asynccam.recording import (
    Pipeline,
    Recorder,
    RecorderState,
    RtpSource,
    SingleFile,
    SplitFiles,
    SrtJpegSource,
    TestPattern,
    V4l2Source,
    Verdict,
    verify_file,
)
from asynccam.recording.sources import Source
from asynccam.runtime.tasks import TaskScope
from tests.support.cancelling import cancelled_at
from tests.support.gst import free_udp_port, gst_processes, running, srt_sender
from tests.support.waiting import eventually

FRAME = 1 / 30
PARENT = """
import asyncio, sys
from pathlib import Path
from asynccam.recording import Pipeline, Recorder, SingleFile, TestPattern

async def main():
    source = TestPattern(width=64, height=48, time_code=sys.argv[2] == "True")
    async with Recorder(Pipeline(source, SingleFile(Path(sys.argv[1])))) as recorder:
        await recorder.arm()
        print("armed", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
SOURCES = {
    "a picture with a time code": TestPattern(width=160, height=120),
    "a picture with the time of day": TestPattern(width=160, height=120, time_code="day"),
    "a live picture": TestPattern(width=160, height=120, time_code=False),
}


def recorder(path: Path, source: Source) -> Recorder:
    return Recorder(Pipeline(source, SingleFile(path)), name="armed")


def processes() -> list[int]:
    """Children of this process that are still there."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return [int(one) for one in listed.split()]


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
async def test_only_frames_after_the_start_are_recorded(tmp_path: Path, source: TestPattern) -> None:
    async with recorder(tmp_path / "a.mp4", source) as one:
        await one.arm()
        assert (one.state.value, one.first_frame_at) == ("armed", None)
        await asyncio.sleep(1.5)  # in which frames come that are not recorded
        called = time.time()
        at = await one.start()
        assert one.state.value == "recording"
        await asyncio.sleep(0.5)  # the length of the recording
        (verdict,) = await one.stop()
        over = time.time()
    assert verdict.verdict is Verdict.COMPLETE
    assert verdict.duration is not None
    assert verdict.duration <= over - called + 2 * FRAME, "nothing that was thrown away is in the file"
    assert called <= at <= over
    assert at - one.first_frame_bound >= called - 0.02


async def test_frames_of_an_srt_stream_wait_for_the_start(tmp_path: Path) -> None:
    port = free_udp_port()
    output = SplitFiles(tmp_path, "srt")
    one = Recorder(Pipeline(SrtJpegSource("127.0.0.1", port, 20), output), name="srt")
    async with running(*srt_sender(port)), one:
        await one.arm()
        assert list(tmp_path.iterdir()) == []
        called = time.time()
        await one.start()
        await asyncio.sleep(0.5)  # the length of the recording
        (verdict,) = await one.stop()
        over = time.time()
    assert verdict.verdict is Verdict.COMPLETE
    assert verdict.duration is not None
    assert verdict.duration <= over - called + 0.1


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
async def test_stop_before_start_leaves_no_process_and_no_file(tmp_path: Path, source: TestPattern) -> None:
    async with recorder(tmp_path / "a.mp4", source) as one:
        await one.arm()
        assert processes()
        await one.stop()
        assert one.state is RecorderState.FAILED
        with pytest.raises(RecordingError, match="stopped before"):
            await one.start()
    assert list(tmp_path.iterdir()) == []
    await eventually(lambda: not processes())


@pytest.mark.parametrize("delay", [0, 0.005, 0.05, 0.1, 0.2])
async def test_cancelled_arm_leaves_nothing(tmp_path: Path, delay: float) -> None:
    one = recorder(tmp_path / "a.mp4", SOURCES["a live picture"])
    async with TaskScope("test") as scope:
        arming = scope.spawn(one.arm(), name="arm")
        await asyncio.sleep(delay)
        arming.cancel()
        await asyncio.wait({arming})
    await one.aclose()
    assert list(tmp_path.iterdir()) == []
    await eventually(lambda: not processes())


@pytest.mark.parametrize("delay", [0, 0.05, 0.29, 0.31])
async def test_cancelled_armed_start_leaves_no_process(tmp_path: Path, delay: float) -> None:
    one = recorder(tmp_path / "a.mp4", SOURCES["a live picture"])
    await one.arm()
    async with TaskScope("test") as scope:
        starting = scope.spawn(one.start(), name="start")
        await asyncio.sleep(delay)
        starting.cancel()
        await asyncio.wait({starting})
    assert one.state in (RecorderState.FAILED, RecorderState.ENDED)
    await one.aclose()
    await eventually(lambda: not processes())
    assert one.first_frame_at is not None or list(tmp_path.iterdir()) == []


async def test_armed_recording_cancelled_at_any_await_leaves_nothing(tmp_path: Path) -> None:
    count = 0

    async def record() -> None:
        async with recorder(tmp_path / f"{count}.mp4", SOURCES["a live picture"]) as one:
            await one.arm()
            await one.start()
            await one.stop()

    while await cancelled_at(record(), count := count + 1):
        assert gst_processes(tmp_path) == []
        path = tmp_path / f"{count}.mp4"
        if path.exists():
            assert (await verify_file(path)).verdict is Verdict.COMPLETE
    assert count >= 4


@pytest.mark.parametrize("time_code", [True, False])
async def test_no_process_outlives_a_program_dying_before_start(tmp_path: Path, time_code: bool) -> None:
    path = tmp_path / "a.mp4"
    program = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", PARENT, str(path), str(time_code)], stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    assert await program.stdout.readline() == b"armed\n"
    assert gst_processes(path)
    program.kill()
    await program.wait()
    await eventually(lambda: not gst_processes(path))


async def test_process_killed_while_armed_fails_the_start(tmp_path: Path) -> None:
    async with recorder(tmp_path / "a.mp4", SOURCES["a live picture"]) as one:
        await one.arm()
        for process in processes():
            os.killpg(process, signal.SIGKILL)
        await eventually(lambda: one.state is RecorderState.FAILED)
        with pytest.raises(RecordingError, match="before the first frame"):
            await one.start()
    assert list(tmp_path.iterdir()) == []


async def test_arm_fails_for_a_missing_camera(tmp_path: Path) -> None:
    async with recorder(tmp_path / "a.mp4", V4l2Source("/dev/video-none")) as one:
        with pytest.raises(RecordingError, match="/dev/video-none"):
            await one.arm()
    assert list(tmp_path.iterdir()) == []


async def test_arm_fails_for_a_source_without_frames(tmp_path: Path) -> None:
    source = SrtJpegSource("127.0.0.1", free_udp_port())
    async with Recorder(Pipeline(source, SplitFiles(tmp_path, "srt")), name="srt") as one:
        with pytest.raises(TimeoutError, match=r"no frame arrived within 0\.5 s"):
            await one.arm(timeout=0.5)
    await eventually(lambda: not processes())


async def test_arm_fails_for_an_existing_output(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"mine")
    async with recorder(tmp_path / "a.mp4", SOURCES["a live picture"]) as one:
        with pytest.raises(TargetExistsError):
            await one.arm()
    assert (tmp_path / "a.mp4").read_bytes() == b"mine"


async def test_dependent_frames_are_not_held_back(tmp_path: Path) -> None:
    async with recorder(tmp_path / "a.mp4", RtpSource(free_udp_port())) as one:
        await one.arm()
        assert one.state is RecorderState.ARMED
        assert processes() == []
        with pytest.raises(TimeoutError):
            await one.start(timeout=0.5)
    assert list(tmp_path.iterdir()) == []


async def test_recorder_is_armed_once(tmp_path: Path) -> None:
    async with recorder(tmp_path / "a.mp4", SOURCES["a live picture"]) as one:
        await one.arm()
        with pytest.raises(StateError):
            await one.arm()
        await one.start()
        with pytest.raises(StateError):
            await one.start()
