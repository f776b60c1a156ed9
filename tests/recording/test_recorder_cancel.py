"""Cancelled at any await, a recorder leaves no process, no task, and no file without a frame."""

import asyncio
import signal
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from asynccam.recording import Pipeline, Recorder, SingleFile, TestPattern, Verdict, verify_file
from tests.support.cancelling import cancelled_at
from tests.support.gst import decoded_frames, gst_processes
from tests.support.waiting import eventually, eventually_awaited

SMALL = TestPattern(width=64, height=48, fps=Fraction(20), time_code=False)

PARENT = """
import asyncio, sys
from pathlib import Path
from asynccam.recording import Pipeline, Recorder, SingleFile, TestPattern

async def main():
    path = Path(sys.argv[1])
    async with Recorder(Pipeline(TestPattern(width=64, height=48, label="x"), SingleFile(path))) as recorder:
        await recorder.start()
        print("recording", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


DIES_AFTER_THE_STOP = """
import asyncio, os, signal, sys, threading
from pathlib import Path
from asynccam.recording import Pipeline, Recorder, SingleFile, TestPattern

def die():
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    path, seconds = Path(sys.argv[1]), float(sys.argv[2])
    source = TestPattern(width=64, height=48, time_code=False)
    async with Recorder(Pipeline(source, SingleFile(path))) as recorder:
        await recorder.start()
        await asyncio.sleep(0.3)  # the length of the recording
        timer = threading.Timer(seconds, die)
        timer.start()
        await recorder.stop()
        timer.join()

asyncio.run(main())
"""


DIES_AT_ITS_START = """
import asyncio, os, signal, sys, threading
from pathlib import Path
from asynccam.recording import Pipeline, Recorder, SingleFile, TestPattern

async def main():
    path, seconds = Path(sys.argv[1]), float(sys.argv[2])
    source = TestPattern(width=64, height=48, time_code=False)
    async with Recorder(Pipeline(source, SingleFile(path))) as recorder:
        await recorder.arm()
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        await recorder.start()
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_recording_cancelled_at_any_await_leaves_nothing(tmp_path: Path) -> None:
    count = 0

    async def record() -> None:
        path = tmp_path / f"{count}.mp4"
        async with Recorder(Pipeline(SMALL, SingleFile(path))) as recorder:
            await recorder.start()
            await asyncio.sleep(0.05)  # the length of the recording
            await recorder.stop()

    while await cancelled_at(record(), count := count + 1):
        assert gst_processes(tmp_path) == []
        path = tmp_path / f"{count}.mp4"
        if path.exists():
            assert (await verify_file(path)).verdict is Verdict.COMPLETE
    assert count >= 4


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 10, 20, 40, 80])
async def test_recorder_task_cancelled_at_any_time_leaves_nothing(tmp_path: Path, milliseconds: int) -> None:
    path = tmp_path / "a.mp4"
    recorder = Recorder(Pipeline(SMALL, SingleFile(path)))
    start = asyncio.ensure_future(recorder.start())
    await asyncio.sleep(milliseconds / 1000)
    start.cancel()
    await asyncio.wait({start})
    await recorder.aclose()
    assert gst_processes(tmp_path) == []
    if path.exists():  # it was recording when the cancellation came
        assert (await verify_file(path)).verdict is Verdict.COMPLETE


async def test_crash_of_another_task_finishes_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"

    async def record(recording: asyncio.Event) -> None:
        async with Recorder(Pipeline(SMALL, SingleFile(path))) as recorder:
            await recorder.start()
            recording.set()
            await asyncio.sleep(60)

    async def crash(recording: asyncio.Event) -> None:
        await recording.wait()
        raise ZeroDivisionError

    async def both() -> None:
        recording = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(record(recording))
            group.create_task(crash(recording))

    with pytest.raises(ExceptionGroup):
        await both()
    assert gst_processes(tmp_path) == []
    assert (await verify_file(path)).verdict is Verdict.COMPLETE


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_killed_python_leaves_whole_file_and_no_orphan(tmp_path: Path, how: signal.Signals) -> None:
    path = tmp_path / "a.mp4"
    parent = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", PARENT, str(path)],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"recording\n"
    await asyncio.sleep(0.3)  # the length of the recording
    parent.send_signal(how)
    await parent.wait()
    await eventually(lambda: not gst_processes(path))
    verdict = await verify_file(path)
    assert verdict.verdict is Verdict.COMPLETE
    assert verdict.frames == await decoded_frames(path)
    assert (verdict.frames or 0) >= 5


@pytest.mark.timeout(240)  # twenty programs
async def test_python_killed_after_a_stop_leaves_whole_files(tmp_path: Path) -> None:
    """GStreamer finishes its file at the first interrupt and dies of a second one."""
    paths = [tmp_path / f"{number}.mp4" for number in range(20)]
    for first in range(0, len(paths), 4):
        programs = [
            await asyncio.create_subprocess_exec(
                *[sys.executable, "-c", DIES_AFTER_THE_STOP, str(paths[number]), str(number * 0.001)]
            )
            for number in range(first, first + 4)
        ]
        for program in programs:
            assert await program.wait() == -signal.SIGKILL
    await eventually(lambda: not gst_processes(tmp_path))
    unfinished = [one for path in paths if (one := await verify_file(path)).verdict is not Verdict.COMPLETE]
    assert unfinished == []


@pytest.mark.timeout(180)  # twelve programs
async def test_python_killed_at_start_leaves_nothing_broken(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.mp4" for number in range(12)]
    for first in range(0, len(paths), 4):
        programs = [
            await asyncio.create_subprocess_exec(
                *[sys.executable, "-c", DIES_AT_ITS_START, str(paths[number]), str(number * 0.005)]
            )
            for number in range(first, first + 4)
        ]
        for program in programs:
            assert await program.wait() == -signal.SIGKILL
    await eventually(lambda: not gst_processes(tmp_path))
    for path in paths:
        verdict = await verify_file(path)
        whole = verdict.verdict is Verdict.COMPLETE and verdict.frames == await decoded_frames(path)
        assert whole or (verdict.verdict, verdict.frames) == (Verdict.EMPTY, 0), verdict


async def test_killed_python_without_setpriv_leaves_no_orphan(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    unguarded = "from asynccam.recording import gstreamer; gstreamer._guard = tuple\n" + PARENT
    parent = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", unguarded, str(path)], stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"recording\n"
    (pid,) = (pid for pid in gst_processes(path) if pid != parent.pid)
    assert b"--pdeathsig" not in Path(f"/proc/{pid}/cmdline").read_bytes()

    async def has_frames() -> bool:
        return bool((await verify_file(path)).frames)

    await eventually_awaited(has_frames)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not gst_processes(path))
    verdict = await verify_file(path)
    assert verdict.verdict is Verdict.TRUNCATED
    assert (verdict.frames or 0) > 0
