"""Files that are whole and end too soon: told, and never told of a stream that lasted to its stop."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from asynccam.model.coverage import EarlyEnd, LateBegin, begin_tolerance, end_tolerance
from asynccam.recording import (
    EndReason,
    Gap,
    HlsFiles,
    Limits,
    Pipeline,
    Recorder,
    RecorderEnded,
    RecorderSegmentClosed,
    RecorderStalled,
    RtpSource,
    RtspSource,
    SingleFile,
    SplitFiles,
    SrtJpegSource,
    TestPattern,
    Verdict,
    Watch,
)
from asynccam.recording.coverage import CoverageResult
from asynccam.recording.outputs import PictureFiles, RecorderOutput
from tests.support.gst import free_udp_port, recorder_process, rtp_sender, running, srt_sender
from tests.support.rtsp import RtspServer

SMALL = TestPattern(width=64, height=48, fps=Fraction(20), time_code=False)
SLOW = TestPattern(width=64, height=48, fps=Fraction(1), time_code=False)
QUICK = Watch(interval=0.1, stall=2.0)
SILENCE = 1.6
"""Seconds, more than the rule lets pass at 20 frames a second."""

Sender = Callable[[], AbstractAsyncContextManager[object]]


def srt(output: RecorderOutput, latency: int = 20) -> tuple[Pipeline, Sender]:
    port = free_udp_port()
    return Pipeline(SrtJpegSource("127.0.0.1", port, latency), output), lambda: running(*srt_sender(port))


def rtp(output: RecorderOutput) -> tuple[Pipeline, Sender]:
    port = free_udp_port()
    return Pipeline(RtpSource(port, "127.0.0.1", latency=20), output), lambda: running(*rtp_sender(port))


def way(name: str, directory: Path) -> tuple[Pipeline, Sender]:
    match name:
        case "srt to split files":
            return srt(SplitFiles(directory, "cam", max_seconds=1))
        case "srt with a long latency":
            return srt(SplitFiles(directory, "cam"), latency=800)
        case "rtp to mkv":
            return rtp(SingleFile(directory / "a.mkv"))
        case "rtp to mp4":
            return rtp(SingleFile(directory / "a.mp4"))
        case "rtp to hls":
            return rtp(HlsFiles(directory, segment_seconds=1))
        case "srt to pictures":
            return srt(PictureFiles(directory))
    raise AssertionError(name)


WAYS = [
    "srt to split files",
    "srt with a long latency",
    "rtp to mkv",
    "rtp to mp4",
    "rtp to hls",
    "srt to pictures",
]


async def let_pass(seconds: float) -> None:
    """So much time, and not less."""
    await asyncio.sleep(seconds)


async def side_by_side(check: Callable[[str, Path], Coroutine[Any, Any, None]], directory: Path) -> None:
    """Check every way at once, as each waits more than it works."""
    async with asyncio.TaskGroup() as group:
        for number, name in enumerate(WAYS):
            place = directory / str(number)
            place.mkdir()
            group.create_task(check(name, place), name=name)


async def test_killed_sender_is_an_early_end_of_whole_files(tmp_path: Path) -> None:
    async def check(name: str, directory: Path) -> None:
        pipeline, sender = way(name, directory)
        async with Recorder(pipeline) as recorder:
            ended = recorder.events.stream(RecorderEnded)
            async with sender():
                await recorder.start()
                await let_pass(1.2)  # so that frames were counted
                assert recorder.ended_early is None, name
                killed_at = time.time()
            await let_pass(SILENCE + 2.0)
            asked_at = time.time()
            verdicts = await recorder.stop()
            early = recorder.ended_early
            assert (await anext(ended)).ended_early == early
        assert verdicts, name
        assert {one.verdict for one in verdicts} == {Verdict.COMPLETE}, name
        assert (recorder.reason, recorder.error) == (EndReason.STOPPED, None), name
        assert early is not None, name
        assert early.reason == "no more frames arrived"
        assert early.seconds is not None
        assert early.seconds > SILENCE, name
        assert early.at < killed_at + 1.5, name
        assert early.at + early.seconds == pytest.approx(asked_at, abs=0.5), name

    await side_by_side(check, tmp_path)


async def test_lasting_stream_is_not_early(tmp_path: Path) -> None:
    async def check(name: str, directory: Path) -> None:
        pipeline, sender = way(name, directory)
        async with sender(), Recorder(pipeline) as recorder:
            await recorder.start()
            await let_pass(2.3)
            await recorder.stop()
        assert recorder.ended_early is None, name

    await side_by_side(check, tmp_path)


@pytest.mark.parametrize("killed", [True, False])
async def test_armed_recording_counts_from_own_first_frame(tmp_path: Path, *, killed: bool) -> None:
    pipeline, sender = way("srt with a long latency", tmp_path)
    async with AsyncExitStack() as stack, Recorder(pipeline) as recorder:
        await stack.enter_async_context(sender())
        await recorder.arm()
        await let_pass(1.5)
        await recorder.start()
        await let_pass(1.2)
        if killed:
            await stack.aclose()
            await let_pass(SILENCE + 2.0)
        await recorder.stop()
    assert (recorder.ended_early is not None) is killed


async def test_one_frame_a_second_is_early_only_when_dead(tmp_path: Path) -> None:
    async with Recorder(Pipeline(SLOW, SingleFile(tmp_path / "a.mkv"))) as recorder:
        await recorder.start()
        await let_pass(3.9)  # the next frame is almost due
        (verdict,) = await recorder.stop()
    assert verdict.interval == pytest.approx(1.0, abs=0.2)
    assert recorder.ended_early is None


async def test_recording_stopped_at_first_frame_is_whole(tmp_path: Path) -> None:
    for number in range(4):
        pipeline, sender = srt(SplitFiles(tmp_path, f"cam{number}"), latency=500)
        async with sender(), Recorder(pipeline) as recorder:
            await recorder.start()
            (verdict,) = await recorder.stop()
        assert verdict.verdict is Verdict.COMPLETE, verdict
        assert verdict.frames
        assert recorder.ended_early is None


async def test_rotated_files_are_not_an_early_end(tmp_path: Path) -> None:
    output = SplitFiles(tmp_path, "cam", max_files=1, max_seconds=0.5)
    async with Recorder(Pipeline(SMALL, output), watch=QUICK) as recorder:
        closed = recorder.events.stream(RecorderSegmentClosed)
        await recorder.start()
        for _ in range(6):
            await anext(closed)
        (verdict,) = await recorder.stop()
    assert verdict.duration is not None
    assert verdict.duration < 1.0
    assert recorder.ended_early is None


async def test_clock_step_does_not_change_coverage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_time = time.time
    async with Recorder(Pipeline(SMALL, SingleFile(tmp_path / "a.mp4")), watch=QUICK) as recorder:
        await recorder.start()
        monkeypatch.setattr(time, "time", lambda: true_time() + 86_400)
        await let_pass(1.2)
        await recorder.stop()
    assert recorder.ended_early is None


async def test_stall_to_the_end_is_gap_without_return(tmp_path: Path) -> None:
    pipeline, sender = rtp(SingleFile(tmp_path / "a.mkv"))
    async with Recorder(pipeline, watch=QUICK) as recorder:
        stalls = recorder.events.stream(RecorderStalled)
        async with sender():
            await recorder.start()
        await anext(stalls)
        await recorder.stop()
    (gap,) = recorder.gaps
    assert gap == Gap(gap.began, gap.ended, restarted=False, resumed=False)
    assert recorder.ended_early is not None


async def test_stream_ending_by_itself_is_early_until_stopped(tmp_path: Path) -> None:
    async with RtspServer("h264").serving() as server:
        pipeline = Pipeline(RtspSource(server.url, latency=20), SingleFile(tmp_path / "a.mp4"))
        async with Recorder(pipeline, watch=QUICK) as recorder:
            ended = recorder.events.stream(RecorderEnded)
            await recorder.start()
            await let_pass(0.5)
            server.hang_up()
            event = await anext(ended)
            assert event.ended_early is not None
            assert (event.ended_early.seconds, recorder.ended_early) == (None, event.ended_early)
            await let_pass(SILENCE + 1.0)
            await recorder.stop()
    early = recorder.ended_early
    assert early is not None
    assert early.seconds is not None
    assert early.seconds > SILENCE
    assert early.reason == ("the stream ended" if recorder.error is None else str(recorder.error))


async def test_stream_ending_just_before_stop_is_not_early(tmp_path: Path) -> None:
    why = "the stream ended"
    ending = CoverageResult(
        5.0, by_length_at=5.0, seen_at=5.0, began_at=0.0, interval=0.05, reason=why, by_count_at=5.0
    )
    assert ending.early(None) == EarlyEnd(5.0, None, "the stream ended")
    assert ending.early(5.06) is None
    assert ending.early(5.5) == EarlyEnd(5.0, 0.5, "the stream ended")
    assert ending.early(7.5) == EarlyEnd(5.0, 2.5, "the stream ended")


async def test_killed_process_is_an_early_end_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    async with Recorder(Pipeline(SMALL, SingleFile(path)), watch=QUICK) as recorder:
        await recorder.start()
        await let_pass(1.2)
        os.kill(recorder_process(path), signal.SIGKILL)
        (verdict,) = await recorder.wait()
        await let_pass(SILENCE + 1.5)
        await recorder.stop()
    assert verdict.verdict is not Verdict.COMPLETE
    assert recorder.ended_early is not None
    assert recorder.ended_early.reason == str(recorder.error)


async def test_limit_reached_in_silence_is_an_early_end(tmp_path: Path) -> None:
    pipeline, sender = rtp(SingleFile(tmp_path / "a.mkv"))
    async with Recorder(pipeline, limits=Limits(seconds=3.5), watch=QUICK) as recorder:
        async with sender():
            await recorder.start()
        await recorder.wait()
    assert recorder.reason is EndReason.LIMIT
    assert recorder.ended_early is not None


async def test_reached_limit_is_not_an_early_end(tmp_path: Path) -> None:
    pipeline = Pipeline(SMALL, SingleFile(tmp_path / "a.mkv"))
    async with Recorder(pipeline, limits=Limits(seconds=1.5), watch=QUICK) as recorder:
        await recorder.start()
        await recorder.wait()
        assert recorder.reason is EndReason.LIMIT
        assert recorder.ended_early is None
        await let_pass(SILENCE)
    assert recorder.ended_early is None


@pytest.mark.parametrize("name", ["srt with a long latency", "rtp to mkv", "rtp to mp4"])
async def test_last_frames_before_the_stop_are_recorded(tmp_path: Path, name: str) -> None:
    """What the source holds back at the stop still comes to the file."""
    pipeline, sender = way(name, tmp_path)
    delay = pipeline.source.stream(frozenset()).latency
    async with sender(), Recorder(pipeline) as recorder:
        began = await recorder.start()
        await let_pass(1.5)
        asked_at = time.time()
        verdicts = await recorder.stop()
    assert verdicts[-1].verdict is Verdict.COMPLETE
    length = sum(one.duration or 0.0 for one in verdicts)
    shown_until = began + length - delay
    assert shown_until > asked_at - 0.1
    assert recorder.ended_early is None


async def test_missing_latency_is_reported(tmp_path: Path) -> None:
    """A sender that dies at the stop: its last frames never leave it, and the file is short by them."""
    pipeline, sender = way("srt with a long latency", tmp_path)
    async with AsyncExitStack() as stack, Recorder(pipeline) as recorder:
        await stack.enter_async_context(sender())
        await recorder.start()
        await let_pass(1.5)
        stopping = asyncio.ensure_future(recorder.stop())
        await let_pass(0.05)
        os.kill(recorder_process(tmp_path), signal.SIGINT)  # before they could arrive
        await stopping
    assert recorder.ended_early is not None
    assert recorder.ended_early.seconds is not None
    assert recorder.ended_early.seconds > 0.5


def test_missing_quarter_of_a_recording_is_reported() -> None:
    ending = CoverageResult(
        2.75, by_length_at=2.75, seen_at=2.6, began_at=0.0, interval=1 / 30, reason="", by_count_at=2.75
    )
    assert ending.early(4.0) == EarlyEnd(2.75, 1.25, "")
    assert ending.early(2.79) is None


def test_late_frames_count_from_when_they_were_made() -> None:
    ending = CoverageResult(
        4.0, by_length_at=4.0, seen_at=4.0, began_at=0.0, interval=0.03, reason="", by_count_at=4.0, delay=0.5
    )
    assert ending.early(3.5) is None
    assert ending.early(4.0) == EarlyEnd(3.5, 0.5, "")


def test_early_end_after_one_frame_is_reported() -> None:
    ending = CoverageResult(
        0.0, by_length_at=0.03, seen_at=0.0, began_at=0.0, interval=1.0, reason="", by_count_at=0.0
    )
    assert ending.early(4.0) == EarlyEnd(0.0, 3.97, "")
    assert ending.early(0.9) is None


def test_late_first_frame_is_reported() -> None:
    ending = CoverageResult(
        9.0, by_length_at=9.0, seen_at=9.0, began_at=1.4, interval=0.05, reason="", delay=0.5
    )
    assert ending.late(101.4, 1.4, 1.35) is None
    assert ending.late(101.4, 1.4, 0.0) == LateBegin(100.9, 1.4, "no frame arrived at the start")


def test_busy_computer_is_not_early() -> None:
    lags = CoverageResult(ended_at=3.0, by_length_at=3.0, seen_at=9.5, began_at=0.0, interval=0.05, reason="")
    assert lags.early(10.0) is None  # frames were counted to the end, though their own time lags behind
    unread = CoverageResult(
        ended_at=9.9, by_length_at=9.95, seen_at=3.0, began_at=0.0, interval=0.05, reason=""
    )
    assert unread.early(10.0) is None  # the file has them, though nobody came to read their count
    assert CoverageResult(
        ended_at=3.0, by_length_at=3.0, seen_at=3.0, began_at=0.0, interval=0.05, reason=""
    ).early(10.0)


def test_habitually_pausing_stream_is_not_early() -> None:
    pauses = CoverageResult(
        ended_at=30.0, by_length_at=30.0, seen_at=30.0, began_at=0.0, interval=3.0, reason=""
    )
    assert pauses.early(33.0) is None
    assert pauses.early(38.0) is not None


def test_unknown_file_length_allows_a_second_more() -> None:
    counted = CoverageResult(
        ended_at=5.0, by_length_at=None, seen_at=5.0, began_at=0.0, interval=0.05, reason=""
    )
    assert counted.early(6.0) is None
    assert counted.early(7.5) == EarlyEnd(5.0, 2.5, "")


def test_end_tolerance() -> None:
    assert end_tolerance(5.0, 1 / 30, bound=0.01) == pytest.approx(0.01 + 1 / 30 + 0.01)
    assert end_tolerance(5.0, 1.0, bound=0.0) == pytest.approx(1.01)
    assert end_tolerance(3600.0, 1 / 30, bound=0.1) < 8
    assert end_tolerance(5.0, 1.0, files=3, bound=0.1) == pytest.approx(3.11)
    assert begin_tolerance(1 / 30, bound=0.1) == pytest.approx(0.1 + 1 / 30)


def test_late_frame_was_made_earlier() -> None:
    assert EarlyEnd(10.0, 2.0, "so").shifted_back(0.5) == EarlyEnd(9.5, 2.5, "so")
    assert EarlyEnd(10.0, None, "so").shifted_back(0.5) == EarlyEnd(9.5, None, "so")
