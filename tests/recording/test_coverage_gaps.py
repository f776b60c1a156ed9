"""Stretches without a frame that are too short for a stall: the files tell of them."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from asynccam.recording import Pipeline, Recorder, SplitFiles, SrtJpegSource, TestPattern, verify_file
from asynccam.recording.coverage import find_gaps
from tests.support.gst import free_udp_port, freeze, running, srt_sender, thaw
from tests.support.set_clock import SetClock
from tests.support.waiting import eventually

HOLE = 1.5


async def film(path: Path, kept: str, *options: str) -> Path:
    """Three seconds of 25 frames each, of which only some are kept."""
    source = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=3", "-vf", f"select='{kept}'"]
    line = ["ffmpeg", "-v", "error", "-y", *source, "-fps_mode", "passthrough", *options, str(path)]
    process = await asyncio.create_subprocess_exec(*line, stdin=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".flv"])
async def test_longest_interval_is_in_the_verdict(tmp_path: Path, suffix: str) -> None:
    whole = await verify_file(await film(tmp_path / f"whole{suffix}", "1"))
    assert whole.longest == pytest.approx(0.04, abs=0.002)
    holed = await verify_file(await film(tmp_path / f"holed{suffix}", "not(between(t,0.98,2.46))"))
    assert holed.longest == pytest.approx(1.56, abs=0.05)
    assert holed.interval == pytest.approx(0.04, abs=0.002)
    assert await find_gaps([whole], 100.0) == []
    (gap,) = await find_gaps([whole, holed], 100.0)
    assert gap.began == pytest.approx(103.96, abs=0.1)
    assert gap.ended == pytest.approx(105.52, abs=0.1)
    assert gap.resumed
    assert not gap.restarted


async def test_slow_stream_has_no_holes(tmp_path: Path) -> None:
    slow = await film(tmp_path / "slow.mkv", "not(mod(n,25))")
    assert await find_gaps([await verify_file(slow)], 0.0) == []


def srt(directory: Path, port: int) -> Recorder:
    return Recorder(Pipeline(SrtJpegSource("127.0.0.1", port, 20), SplitFiles(directory, "cam")))


async def test_outage_shorter_than_a_stall_is_a_gap(tmp_path: Path) -> None:
    port = free_udp_port()
    async with running(*srt_sender(port)) as sender, srt(tmp_path, port) as recorder:
        await recorder.start()
        await asyncio.sleep(0.5)  # the length of the recording before the outage
        freeze(sender.pid)
        frozen_at = time.time()
        await asyncio.sleep(HOLE)
        thaw(sender.pid)
        thawed_at = time.time()
        await asyncio.sleep(0.5)  # and after it
        await recorder.stop()
        (gap,) = recorder.gaps
        assert gap.began == pytest.approx(frozen_at, abs=0.5)
        assert gap.ended == pytest.approx(thawed_at, abs=0.5)


@pytest.mark.parametrize("returns", [True, False])
async def test_frames_waiting_at_the_gate_in_silence_are_old(tmp_path: Path, *, returns: bool) -> None:
    """The gate keeps the last ones that came, however long ago that was."""
    port = free_udp_port()
    async with running(*srt_sender(port)) as sender, srt(tmp_path, port) as recorder:
        await recorder.arm()
        await asyncio.sleep(0.5)  # in which frames come to the gate
        freeze(sender.pid)
        frozen_at = time.time()
        await asyncio.sleep(0.8)  # how old they are
        await recorder.start()
        await asyncio.sleep(0.5)  # the silence goes on
        if returns:
            thaw(sender.pid)
        await asyncio.sleep(1.0)  # the length of the recording afterwards
        await recorder.stop()
        thaw(sender.pid)
        assert recorder.first_frame_at is not None
        assert recorder.first_frame_at - recorder.first_frame_bound <= frozen_at
        assert recorder.gaps if returns else recorder.ended_early


PROGRAM = """
import asyncio, sys
from pathlib import Path
from asynccam.recording import Pipeline, Recorder, SplitFiles, TestPattern

async def main():
    picture = TestPattern(width=64, height=48, time_code=False)
    async with Recorder(Pipeline(picture, SplitFiles(Path(sys.argv[1]), "cam"))) as recorder:
        await recorder.arm()
        print("armed", flush=True)
        await recorder.start()
        print(recorder.first_frame_at - recorder.first_frame_bound, flush=True)

asyncio.run(main())
"""


async def test_first_frame_bound_covers_a_stopped_program(
    tmp_path: Path,
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        await eventually(lambda: bool(list(tmp_path.iterdir())))  # the first frame opens the file
        freeze(process.pid)
        frozen_at = time.time()
        await asyncio.sleep(1.5)  # as long as the program is stopped
        thaw(process.pid)
        earliest = float(await process.stdout.readline())
        assert earliest <= frozen_at + 0.2
    finally:
        process.kill()
        await process.wait()


async def test_first_frame_bound_covers_a_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = TestPattern(width=64, height=48, time_code=False)
    async with Recorder(Pipeline(picture, SplitFiles(tmp_path, "cam"))) as recorder:
        await recorder.arm()
        await asyncio.sleep(0.3)  # in which frames come to the gate
        SetClock(monkeypatch).sleep(5.0)
        await recorder.start()
        assert recorder.first_frame_bound > 5.0


async def test_first_frame_bound_covers_a_blocked_program(
    tmp_path: Path,
) -> None:
    picture = TestPattern(width=64, height=48, time_code=False)
    async with Recorder(Pipeline(picture, SplitFiles(tmp_path, "cam"))) as recorder:
        await recorder.arm()
        called = time.time()
        starting = asyncio.ensure_future(recorder.start())
        await asyncio.sleep(0.32)  # until the gate was opened
        time.sleep(1.0)  # noqa: ASYNC251 - nothing of the program runs, and its recorder does
        at = await starting
        assert at - recorder.first_frame_bound <= called + 0.32
        (verdict,) = await recorder.stop()
        assert recorder.begins_late is None
        assert verdict.duration is not None
        assert verdict.duration > 1.0
