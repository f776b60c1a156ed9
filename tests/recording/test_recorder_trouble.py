"""Streams that never come, stop, or return; full disks; processes that die or freeze."""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import pytest

from asynccam.errors import RecordingError, StorageError, TimeoutError
from asynccam.recording import (
    EndReason,
    Pipeline,
    Recorder,
    RecorderEnded,
    RecorderResumed,
    RecorderStalled,
    RecorderState,
    RtpSource,
    RtspSource,
    SingleFile,
    SplitFiles,
    SrtJpegSource,
    StopDeadlines,
    TestPattern,
    Verdict,
    Watch,
)
from asynccam.recording.elements import GstElement
from asynccam.recording.process import DEFAULT_DEADLINES
from asynccam.recording.sources import Stream
from asynccam.runtime.retry import Backoff
from tests.support.devices import free_port
from tests.support.gst import (
    free_udp_port,
    freeze,
    gst_processes,
    recorder_process,
    rtp_sender,
    running,
    srt_sender,
    thaw,
)
from tests.support.rtsp import RtspServer
from tests.support.waiting import eventually

SMALL = TestPattern(width=64, height=48, fps=Fraction(20), time_code=False)
QUICK = Watch(interval=0.1, stall=2.0)
RESTARTING = Watch(
    interval=0.1, stall=2.0, restart=True, backoff=Backoff(initial=0.1, maximum=0.2, immediate=True)
)


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", mount], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield mount
    subprocess.run(["umount", mount], check=True)


class _NoFrames:
    """A source that ends at once."""

    def stream(self, installed: frozenset[str]) -> Stream:
        pictures = GstElement("videotestsrc", {"num-buffers": 1})
        nothing = GstElement("identity", {"drop-probability": 1.0})
        return Stream((pictures, nothing, GstElement("jpegenc"), GstElement("jpegparse")), "jpeg")


async def test_stream_without_data_is_an_error(tmp_path: Path) -> None:
    """gst-launch-1.0 itself leaves 336 bytes here and exits with 0."""
    pipeline = Pipeline(SrtJpegSource("127.0.0.1", free_udp_port(), 20), SplitFiles(tmp_path, "cam"))
    async with Recorder(pipeline, name="cam") as recorder:
        ended = recorder.events.stream(RecorderEnded)
        with pytest.raises(TimeoutError, match=r"cam: no frame arrived within 0\.5 s"):
            await recorder.start(timeout=0.5)
        assert (recorder.state, recorder.reason) == (RecorderState.FAILED, EndReason.FAILED)
        assert [one.verdict for one in recorder.verdicts] == [Verdict.EMPTY]
        assert (await anext(ended)).error is recorder.error
        assert await recorder.stop() == recorder.verdicts
    assert list(tmp_path.iterdir()) == []


async def test_stream_without_a_frame_is_an_error(tmp_path: Path) -> None:
    pipeline = Pipeline(_NoFrames(), SingleFile(tmp_path / "a.mkv"))
    async with Recorder(pipeline) as recorder:
        with pytest.raises(RecordingError, match="ended without a frame"):
            await recorder.start()
    assert list(tmp_path.iterdir()) == []


async def test_missing_camera_is_named_in_the_error(tmp_path: Path) -> None:
    server = RtspServer("h264")
    async with server.serving():
        pass
    pipeline = Pipeline(RtspSource(server.url), SingleFile(tmp_path / "a.mp4"))
    async with Recorder(pipeline, name="door") as recorder:
        with pytest.raises(RecordingError, match=r"door: rtspsrc0: .*open") as caught:
            await recorder.start()
    # GStreamer's debug text, which holds the address, is not always printed before it leaves.
    assert "rtspsrc0" in caught.value.output
    assert list(tmp_path.iterdir()) == []


async def test_pausing_stream_is_a_stall_and_a_gap(tmp_path: Path) -> None:
    port = free_udp_port()
    pipeline = Pipeline(RtpSource(port, "127.0.0.1", latency=20), SingleFile(tmp_path / "a.mkv"))
    async with running(*rtp_sender(port)) as sender, Recorder(pipeline, watch=QUICK) as recorder:
        stalls = recorder.events.stream(RecorderStalled)
        resumes = recorder.events.stream(RecorderResumed)
        await recorder.start()
        freeze(sender.pid)
        frozen_at = time.time()
        async with asyncio.timeout(20):
            stall = await anext(stalls)
        assert recorder.state is RecorderState.STALLED
        assert stall.since < frozen_at + 1.2
        assert stall.since + 1.9 < time.time()
        thaw(sender.pid)
        gap = (await anext(resumes)).gap
        assert recorder.gaps == (gap,)
        assert gap.ended - gap.began > 1.9
        assert not gap.restarted
        (verdict,) = await recorder.stop()
    assert verdict.verdict is Verdict.COMPLETE


async def test_stall_at_the_end_is_a_gap(tmp_path: Path) -> None:
    port = free_udp_port()
    pipeline = Pipeline(RtpSource(port, "127.0.0.1", latency=20), SingleFile(tmp_path / "a.mkv"))
    async with Recorder(pipeline, watch=QUICK) as recorder:
        async with running(*rtp_sender(port)):
            await recorder.start()
        await anext(recorder.events.stream(RecorderStalled))
        await recorder.stop()
    (gap,) = recorder.gaps
    assert gap.ended - gap.began > 1.9


async def test_returning_stream_continues_in_a_new_file(tmp_path: Path) -> None:
    port = free_udp_port()
    pipeline = Pipeline(SrtJpegSource("127.0.0.1", port, 20), SplitFiles(tmp_path, "cam"))
    async with Recorder(pipeline, watch=RESTARTING) as recorder:
        stalls = recorder.events.stream(RecorderStalled)
        resumes = recorder.events.stream(RecorderResumed)
        async with running(*srt_sender(port)):
            await recorder.start()
            await asyncio.sleep(0.3)  # the length of the first file
        await anext(stalls)
        await asyncio.sleep(0.3)  # the outage goes on
        async with running(*srt_sender(port)):
            gap = (await anext(resumes)).gap
            assert gap.restarted
            await asyncio.sleep(0.3)  # the length of the second file
            verdicts = await recorder.stop()
    assert recorder.gaps == (gap,)
    assert [one.path.name for one in verdicts] == ["cam-00.mkv", "cam-01.mkv"]
    assert [one.verdict for one in verdicts] == [Verdict.COMPLETE, Verdict.COMPLETE]
    assert recorder.reason is EndReason.STOPPED


async def test_server_hanging_up_ends_recording_with_whole_file(tmp_path: Path) -> None:
    async with RtspServer("h264").serving() as server:
        pipeline = Pipeline(RtspSource(server.url, latency=20), SingleFile(tmp_path / "a.mp4"))
        async with Recorder(pipeline, watch=Watch(interval=0.1)) as recorder:
            await recorder.start()
            await asyncio.sleep(0.3)  # the length of the recording
            server.hang_up()
            async with asyncio.timeout(10):
                (verdict,) = await recorder.wait()
    assert recorder.reason in (EndReason.END_OF_STREAM, EndReason.FAILED)
    assert verdict.frames


async def test_full_disk_is_an_error_and_truncates_file(little_disk: Path) -> None:
    noise = TestPattern(pattern="snow", width=320, height=240, time_code=False, codec="jpeg")
    pipeline = Pipeline(noise, SingleFile(little_disk / "a.mkv"))
    async with Recorder(pipeline, name="cam", watch=Watch(interval=0.1)) as recorder:
        with suppress(RecordingError):
            await recorder.start()
        async with asyncio.timeout(10):
            (verdict,) = await recorder.wait()
        assert recorder.reason is EndReason.FAILED
        assert "No space left" in str(recorder.error)
        assert isinstance(recorder.error, RecordingError)
        assert "No space left" in recorder.error.output
    assert verdict.verdict is Verdict.TRUNCATED


async def test_mp4_on_full_disk_keeps_what_was_written(little_disk: Path) -> None:
    noise = TestPattern(pattern="snow", width=64, height=48, time_code=False, bitrate=1000)
    pipeline = Pipeline(noise, SingleFile(little_disk / "a.mp4"))
    async with Recorder(pipeline, watch=Watch(interval=0.1)) as recorder:
        await recorder.start()
        async with asyncio.timeout(20):
            (verdict,) = await recorder.wait()
    assert "No space left" in str(recorder.error)
    assert verdict.verdict is Verdict.TRUNCATED
    assert (verdict.frames or 0) > 0


async def test_killed_process_leaves_truncated_file_and_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    async with Recorder(Pipeline(SMALL, SingleFile(path)), watch=QUICK) as recorder:
        await recorder.start()
        pid = recorder_process(path)
        os.kill(pid, signal.SIGKILL)
        (verdict,) = await recorder.wait()
    assert (recorder.reason, recorder.state) == (EndReason.FAILED, RecorderState.FAILED)
    assert "status -9" in str(recorder.error)
    assert verdict.verdict is not Verdict.COMPLETE


async def test_killed_process_is_restarted_into_a_new_file(tmp_path: Path) -> None:
    async with Recorder(Pipeline(SMALL, SingleFile(tmp_path / "a.mp4")), watch=RESTARTING) as recorder:
        resumes = recorder.events.stream(RecorderResumed)
        await recorder.start()
        (tmp_path / "a-1.mp4").write_text("somebody else's")
        pid = recorder_process(tmp_path)
        os.kill(pid, signal.SIGKILL)
        gap = (await anext(resumes)).gap
        assert gap.restarted
        await asyncio.sleep(0.2)  # the length of the second file
        verdicts = await recorder.stop()
    assert {one.path.name: one.verdict for one in verdicts}["a-2.mp4"] is Verdict.COMPLETE
    assert (tmp_path / "a-1.mp4").read_text() == "somebody else's"
    assert (tmp_path / "a-1.mp4") not in [one.path for one in verdicts]


class _NotedBackoff(Backoff):
    """Notes each wait that is drawn, and "begin" before the first."""

    drawn: ClassVar[list[object]] = []

    def delays(self, rng: Callable[[], float] = random.random) -> Iterator[float]:
        self.drawn.append("begin")
        for delay in super().delays(rng):
            self.drawn.append(delay)
            yield delay


@pytest.mark.parametrize("long_runs", [False, True])
async def test_restart_waits_begin_anew_after_a_long_run(tmp_path: Path, long_runs: bool) -> None:
    _NotedBackoff.drawn.clear()
    backoff = _NotedBackoff(initial=0.01, factor=2.0, maximum=0.02 if long_runs else 600.0, jitter=0.0)
    watch = Watch(interval=0.1, stall=2.0, restart=True, backoff=backoff)
    async with Recorder(Pipeline(SMALL, SingleFile(tmp_path / "a.mp4")), watch=watch) as recorder:
        resumes = recorder.events.stream(RecorderResumed)
        await recorder.start()
        for _ in range(2):
            run = recorder._runs[-1]
            await eventually(lambda run=run: run.seen_at - run.began_at > 0.02)  # type: ignore[misc]
            os.kill(recorder_process(tmp_path), signal.SIGKILL)
            await anext(resumes)
        await recorder.stop()
    if long_runs:
        assert _NotedBackoff.drawn == ["begin", 0.01, "begin", 0.01]
    else:
        assert _NotedBackoff.drawn == ["begin", 0.01, 0.02]


async def test_restart_waits_grow_while_no_frame_arrives(tmp_path: Path) -> None:
    """However long each process waits for its first frame."""
    _NotedBackoff.drawn.clear()
    backoff = _NotedBackoff(initial=0.01, factor=2.0, maximum=0.1, jitter=0.0)
    watch = Watch(interval=0.1, stall=2.0, restart=True, backoff=backoff)
    async with Recorder(Pipeline(SMALL, SingleFile(tmp_path / "a.mp4")), watch=watch) as recorder:
        await recorder.start()
        nowhere = RtspSource(f"rtsp://127.0.0.1:{free_port()}/camera")
        recorder._pipeline = Pipeline(nowhere, SingleFile(tmp_path / "b.mp4"))
        os.kill(recorder_process(tmp_path), signal.SIGKILL)
        await eventually(lambda: len(_NotedBackoff.drawn) >= 4)
        await recorder.stop()
    assert _NotedBackoff.drawn[:4] == ["begin", 0.01, 0.02, 0.04]


async def test_frozen_process_stalls_and_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    deadlines = StopDeadlines(interrupt=0.3, terminate=0.2, kill=5.0)
    async with Recorder(Pipeline(SMALL, SingleFile(path)), watch=QUICK, deadlines=deadlines) as recorder:
        await recorder.start()
        pid = recorder_process(path)
        freeze(pid)
        await anext(recorder.events.stream(RecorderStalled))
        (verdict,) = await recorder.stop()
    assert verdict.verdict is not Verdict.COMPLETE
    assert gst_processes(path) == []


async def test_removed_directory_ends_the_recording(tmp_path: Path) -> None:
    directory = tmp_path / "takes"
    directory.mkdir()
    async with Recorder(Pipeline(SMALL, SingleFile(directory / "a.mp4")), watch=QUICK) as recorder:
        await recorder.start()
        (directory / "a.mp4").unlink()
        directory.rmdir()
        assert await recorder.wait() == ()
    assert recorder.reason is EndReason.FAILED
    assert isinstance(recorder.error, StorageError)


async def test_interrupt_in_the_first_50_ms_leaves_no_process(tmp_path: Path) -> None:
    for delay in (0, 2, 5, 10, 15, 20, 30, 40, 50):
        path = tmp_path / f"{delay}.mp4"
        async with Recorder(Pipeline(SMALL, SingleFile(path))) as recorder:
            start = asyncio.ensure_future(recorder.start())
            await asyncio.sleep(delay / 1000)
            async with asyncio.timeout(DEFAULT_DEADLINES.interrupt):  # what it gives an interrupted process
                if recorder.state is RecorderState.IDLE:
                    start.cancel()
                else:
                    await recorder.stop()
                await asyncio.wait({start})
        await eventually(lambda path=path: not gst_processes(path))  # type: ignore[misc]
        if path.exists():
            assert recorder.verdicts[0].verdict is Verdict.COMPLETE
        elif not start.cancelled():
            assert isinstance(start.exception(), RecordingError)
