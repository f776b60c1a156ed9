"""Recorders: ready at the first frame, telling what happens, ended by limits, verdicts at the end."""

import asyncio
import itertools
import time
from fractions import Fraction
from pathlib import Path

import pytest

from asynccam.errors import RecordingError, StateError, UsageError
from asynccam.model.events import Event
from asynccam.recording import (
    EndReason,
    Limits,
    Pipeline,
    Recorder,
    RecorderDiskLow,
    RecorderEnded,
    RecorderProgress,
    RecorderSegmentClosed,
    RecorderStarted,
    RecorderState,
    SingleFile,
    SplitFiles,
    TestPattern,
    Verdict,
    Watch,
    verify_file,
)
from asynccam.recording.recorder import TRANSITIONS
from asynccam.runtime.event_hub import EventHub
from tests.support.gst import gst_processes
from tests.support.waiting import eventually

SMALL = TestPattern(width=64, height=48, fps=Fraction(20), time_code=False)
JPEG = TestPattern(width=64, height=48, fps=Fraction(20), time_code=False, codec="jpeg")


async def test_start_returns_at_first_frame_and_stop_with_verdict(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    async with Recorder(Pipeline(SMALL, SingleFile(path)), name="cam") as recorder:
        before = time.time()
        first = await recorder.start()
        assert before < first <= time.time()
        assert recorder.first_frame_at == first
        assert path.exists()
        await asyncio.sleep(0.5)  # the length of the recording
        recorded_for = time.time() - first
        (verdict,) = await recorder.stop()
    assert recorder.state is RecorderState.ENDED
    assert (recorder.reason, recorder.error) == (EndReason.STOPPED, None)
    assert (verdict.path, verdict.verdict) == (path, Verdict.COMPLETE)
    assert verdict.duration == pytest.approx(recorded_for, abs=0.2)
    assert gst_processes(path) == []


async def test_events_of_a_recording(tmp_path: Path) -> None:
    hub = EventHub()
    events: list[Event] = []
    output = SplitFiles(tmp_path, "cam", max_seconds=0.5)
    hub.subscribe(events.append)
    recorder = Recorder(Pipeline(JPEG, output), name="cam", events=hub, watch=Watch(interval=0.1))
    await recorder.start()
    await eventually(lambda: [one for one in events if isinstance(one, RecorderProgress) and one.fps])
    verdicts = await recorder.stop()
    await eventually(lambda: isinstance(events[-1], RecorderEnded))
    await recorder.aclose()
    await hub.aclose()  # handed in, so not closed by the recorder

    assert isinstance(events[0], RecorderStarted)
    assert events[0].first_frame_at == recorder.first_frame_at
    progress = [one for one in events if isinstance(one, RecorderProgress)]
    assert progress[-1].frames >= 20
    assert 15 < (progress[-1].fps or 0) < 25
    assert progress[-1].dropped == 0
    assert progress[-1].bytes > 1000
    assert all(a.bytes <= b.bytes and a.frames <= b.frames for a, b in itertools.pairwise(progress))
    closed = [one for one in events if isinstance(one, RecorderSegmentClosed)]
    assert [one.path for one in closed] == [verdict.path for verdict in verdicts]
    assert closed[0].duration == pytest.approx(0.5, abs=0.06)
    ended = events[-1]
    assert isinstance(ended, RecorderEnded)
    assert (ended.reason, ended.verdicts, ended.error) == (EndReason.STOPPED, verdicts, None)
    assert {one.recorder for one in events if isinstance(one, (RecorderStarted, RecorderProgress))} == {"cam"}


async def test_limit_of_seconds_ends_recording(tmp_path: Path) -> None:
    pipeline = Pipeline(SMALL, SingleFile(tmp_path / "a.mp4"))
    async with Recorder(pipeline, limits=Limits(seconds=0.6)) as recorder:
        await recorder.start()
        (verdict,) = await recorder.wait()
    assert recorder.reason is EndReason.LIMIT
    assert verdict.verdict is Verdict.COMPLETE
    assert verdict.duration == pytest.approx(0.6, abs=0.25)


async def test_limit_of_segments_ends_recording(tmp_path: Path) -> None:
    pipeline = Pipeline(JPEG, SplitFiles(tmp_path, "a", max_seconds=1))
    async with Recorder(pipeline, limits=Limits(segments=2)) as recorder:
        await recorder.start()
        verdicts = await recorder.wait()
    assert recorder.reason is EndReason.LIMIT
    assert {one.verdict for one in verdicts} == {Verdict.COMPLETE}
    assert 2 <= len(verdicts) <= 3


async def test_limit_of_bytes_ends_recording(tmp_path: Path) -> None:
    pipeline = Pipeline(JPEG, SplitFiles(tmp_path, "a", max_seconds=0.3))
    async with Recorder(pipeline, limits=Limits(size=20_000), watch=Watch(interval=0.1)) as recorder:
        await recorder.start()
        verdicts = await recorder.wait()
    assert recorder.reason is EndReason.LIMIT
    assert sum(one.size for one in verdicts) >= 20_000


async def test_low_disk_space_is_reported_once(tmp_path: Path) -> None:
    pipeline = Pipeline(JPEG, SplitFiles(tmp_path, "a"))
    low: list[RecorderDiskLow] = []
    watch = Watch(interval=0.05, low_space=1 << 60)
    async with Recorder(pipeline, watch=watch) as recorder:
        recorder.events.subscribe(low.append, RecorderDiskLow)
        looks = recorder.events.stream(RecorderProgress)
        await recorder.start()
        for _ in range(5):
            await anext(looks)
    assert len(low) == 1
    assert 0 < low[0].free < 1 << 60


async def test_time_code_is_visible_and_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    pipeline = Pipeline(TestPattern(label="Süd 1", pattern="black"), SingleFile(path))
    async with Recorder(pipeline, limits=Limits(seconds=0.8)) as recorder:
        await recorder.start()
        await recorder.wait()
    assert (await verify_file(path, decode=True)).verdict is Verdict.COMPLETE
    crop = ["videocrop", "right=0", "!", "video/x-raw,format=GRAY8"]
    process = await asyncio.create_subprocess_exec(
        *["gst-launch-1.0", "-q", "filesrc", f"location={path}", "!", "decodebin", "!", "videoconvert"],
        *["!", *crop, "!", "fdsink", "fd=1", "sync=false"],
        stdout=asyncio.subprocess.PIPE,
    )
    pictures, _ = await process.communicate()
    size = 640 * 360
    frames = [pictures[at : at + size] for at in range(0, len(pictures), size)]
    inked = [sum(pixel > 128 for pixel in frame[: 640 * 60]) for frame in frames]
    # The frame into which the end of the stream falls may have lost its time code.
    assert min(inked[:-1]) > 500, str(inked)
    assert max(sum(pixel > 128 for pixel in frame[640 * 60 :]) for frame in frames) == 0
    # Each frame says another time.
    assert len(set(frames)) == len(frames) > 1


async def test_recorder_starts_once_and_stops_any_number_of_times(tmp_path: Path) -> None:
    async with Recorder(Pipeline(SMALL, SingleFile(tmp_path / "a.mp4"))) as recorder:
        for call in (recorder.stop, recorder.wait):
            with pytest.raises(StateError, match="was not started"):
                await call()
        await recorder.start()
        with pytest.raises(StateError, match="records once"):
            await recorder.start()
        one, other = await asyncio.gather(recorder.stop(), recorder.stop())
        assert one == other == await recorder.stop() == await recorder.wait()
        with pytest.raises(StateError, match="records once"):
            await recorder.start()
    await recorder.aclose()


async def test_leaving_the_context_finishes_the_recording(tmp_path: Path) -> None:
    async with Recorder(Pipeline(SMALL, SingleFile(tmp_path / "a.mp4"))) as recorder:
        await recorder.start()
        await asyncio.sleep(0.2)  # the length of the recording
    assert recorder.verdicts[0].verdict is Verdict.COMPLETE


async def test_recorder_not_started_closes_silently(tmp_path: Path) -> None:
    async with Recorder(Pipeline(SMALL, SingleFile(tmp_path / "a.mp4"))) as recorder:
        pass
    assert recorder.state is RecorderState.IDLE


async def test_variables_reach_the_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    variables = {"GST_DEBUG": "1,default:4", "GST_DEBUG_FILE": str(log)}
    pipeline = Pipeline(SMALL, SingleFile(tmp_path / "a.mkv"))
    async with Recorder(pipeline, environment=variables) as recorder:
        await recorder.start()
    assert log.exists()


def test_every_state_is_reachable_and_only_final_ones_stay() -> None:
    assert set(TRANSITIONS) == set(RecorderState)
    reached = set().union(*TRANSITIONS.values())
    assert reached == set(RecorderState) - {RecorderState.IDLE}
    assert [state for state, ways in TRANSITIONS.items() if not ways] == [
        RecorderState.ENDED,
        RecorderState.FAILED,
    ]


def test_invalid_limits_and_watches_are_refused() -> None:
    for number in (0, -5):
        with pytest.raises(UsageError):
            Limits(seconds=number)
        with pytest.raises(UsageError):
            Limits(size=number)
        with pytest.raises(UsageError):
            Limits(segments=number)
    with pytest.raises(UsageError):
        Watch(interval=0)
    with pytest.raises(UsageError):
        Watch(stall=1)


async def test_hundred_recorders_start_stop_and_verify(tmp_path: Path) -> None:
    tiny = TestPattern(width=32, height=32, fps=Fraction(2), time_code=False, codec="jpeg")
    recorders = [
        Recorder(Pipeline(tiny, SingleFile(tmp_path / f"{number}.mkv")), name=f"cam{number}")
        for number in range(100)
    ]
    try:
        firsts = await asyncio.gather(*(recorder.start(timeout=50) for recorder in recorders))
        assert len(set(firsts)) == 100
        verdicts = await asyncio.gather(*(recorder.stop() for recorder in recorders))
    finally:
        await asyncio.gather(*(recorder.aclose() for recorder in recorders))
    for number, (verdict,) in enumerate(verdicts):
        assert verdict.path == tmp_path / f"{number}.mkv"
        assert verdict.verdict is Verdict.COMPLETE, verdict
        assert (verdict.frames or 0) >= 1
    assert gst_processes(tmp_path) == []


async def test_name_is_in_every_error(tmp_path: Path) -> None:
    pipeline = Pipeline(TestPattern(pattern="no-such-pattern"), SingleFile(tmp_path / "a.mp4"))
    async with Recorder(pipeline, name="cam 7") as recorder:
        with pytest.raises(RecordingError, match="cam 7: ") as caught:
            await recorder.start()
    assert "no-such-pattern" in str(caught.value) + caught.value.output
