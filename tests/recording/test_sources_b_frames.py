"""Frames that are decoded in another order than they are shown in, over RTP and RTSP."""

import asyncio
import itertools
import time
from pathlib import Path
from typing import Literal

import pytest

from asynccam.cli import checks
from asynccam.recording import (
    HlsFiles,
    Pipeline,
    Recorder,
    RtpSource,
    RtspSource,
    SingleFile,
    Verdict,
    Watch,
)
from asynccam.recording.bus_messages import LatencyChanged, parse_line
from asynccam.recording.events import RecorderProgress, RecorderStalled
from asynccam.recording.gstreamer import Installation, find_installation
from asynccam.recording.outputs import RecorderOutput
from asynccam.recording.sources import Source
from tests.support.gst import (
    b_frame_sender,
    decoded_frames,
    free_udp_port,
    listened_at,
    packets,
    rtp_sender,
    running,
    shown_times,
)
from tests.support.rtsp import RtspServer

Codec = Literal["h264", "h265"]

SENT = 120
INTERVAL = 1 / 20
GROUP = 4
"""Frames from one that others refer to, to the next: so many are received in another order than shown in."""


async def recorded_to_the_end(source: Source, output: RecorderOutput) -> Recorder:
    """Record until no frame has come for a while."""
    recorder = Recorder(Pipeline(source, output), watch=Watch(interval=0.1, stall=2))
    async with recorder:
        with recorder.events.stream(RecorderStalled) as stalls:
            await recorder.start()
            async with asyncio.timeout(30):
                await anext(stalls)
        await recorder.stop()
    assert recorder.error is None
    return recorder


async def recorded(source: Source, output: RecorderOutput, frames: int) -> Recorder:
    """Record until so many frames are counted."""
    recorder = Recorder(Pipeline(source, output), watch=Watch(interval=0.1))
    async with recorder:
        with recorder.events.stream(RecorderProgress) as progress:
            await recorder.start()
            async with asyncio.timeout(30):
                async for event in progress:
                    if event.frames >= frames:
                        break
        await recorder.stop()
    assert recorder.error is None
    return recorder


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
async def test_file_has_as_many_seconds_as_sent(tmp_path: Path, codec: Codec, name: str) -> None:
    port = free_udp_port()
    recording = asyncio.create_task(
        recorded_to_the_end(RtpSource(port, "127.0.0.1", codec), SingleFile(tmp_path / name))
    )
    await listened_at(port)
    async with running(*b_frame_sender(port, codec, SENT)):
        (verdict,) = (await recording).verdicts
    assert verdict.verdict is Verdict.COMPLETE
    assert await decoded_frames(verdict.path) == SENT
    shown = await shown_times(verdict.path)
    assert len(shown) == SENT
    assert all(earlier < later for earlier, later in itertools.pairwise(shown))
    length = shown[-1] - shown[0] + INTERVAL
    assert length == pytest.approx(SENT * INTERVAL, abs=0.01)
    assert verdict.frames == SENT
    assert verdict.duration == pytest.approx(length, abs=INTERVAL)


@pytest.mark.parametrize("codec", ["h264", "h265"])
async def test_mp4_frames_are_decoded_in_order_before_shown(tmp_path: Path, codec: Codec) -> None:
    async with RtspServer(codec, b_frame_sender).serving() as server:
        (verdict,) = (
            await recorded(RtspSource(server.url, codec, latency=50), SingleFile(tmp_path / "a.mp4"), 40)
        ).verdicts
    assert verdict.verdict is Verdict.COMPLETE
    decoded = [at for at, _ in await packets(verdict.path)]
    assert decoded == sorted(decoded)
    shown = await shown_times(verdict.path)
    assert all(earlier < later for earlier, later in itertools.pairwise(shown))
    # Twice as long, and more, without decoding times.
    assert shown[-1] - shown[0] <= (len(shown) + GROUP) * INTERVAL


@pytest.mark.parametrize("over", ["rtp", "rtsp"])
async def test_every_hls_segment_begins_with_a_key_frame(tmp_path: Path, over: str) -> None:
    output = HlsFiles(tmp_path, "b", segment_seconds=1, playlist_length=0, max_files=0)
    if over == "rtsp":
        async with RtspServer("h264", b_frame_sender).serving() as server:
            verdicts = (await recorded(RtspSource(server.url, latency=50), output, 60)).verdicts
    else:
        port = free_udp_port()
        async with running(*b_frame_sender(port, "h264")):
            verdicts = (await recorded(RtpSource(port, "127.0.0.1"), output, 60)).verdicts
    assert len(verdicts) >= 3
    for verdict in verdicts:
        assert verdict.verdict is Verdict.COMPLETE, verdict
        rows = await packets(verdict.path)
        assert rows[0][1] == "K"
        times = [at for at, _ in rows]
        assert times == sorted(times)


async def test_first_frame_is_reported_despite_late_decoding_times(tmp_path: Path) -> None:
    """GStreamer holds 18 frames of such a stream back: at 2 frames a second that takes 9 s."""

    def slow(port: int) -> list[str]:
        words = rtp_sender(port)
        encode = words.index("x264enc")
        words[:encode] = [word.replace("framerate=20/1", "framerate=2/1") for word in words[:encode]]
        # Without a bitstream restriction every frame that a decoder can hold may come in another order.
        return words

    port = free_udp_port()
    async with (
        running(*slow(port)),
        Recorder(Pipeline(RtpSource(port, "127.0.0.1"), SingleFile(tmp_path / "a.mp4"))) as recorder,
    ):
        called = time.time()
        first = await recorder.start()
        assert called - recorder.first_frame_bound <= first <= time.time()
        (verdict,) = await recorder.stop()
    assert (verdict.verdict, (verdict.frames or 0) >= 1) == (Verdict.COMPLETE, True)


async def test_missing_timestamper_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = await find_installation()
    lacking = tools.elements - {"h264timestamper", "h265timestamper"}
    old = Installation(tools.launch, lacking, tools.guard)

    async def found(needed: object = ()) -> Installation:
        return old

    monkeypatch.setattr("asynccam.recording.recorder.find_installation", found)
    monkeypatch.setattr("asynccam.recording.gstreamer.find_installation", found)
    port = free_udp_port()
    async with running(*rtp_sender(port)):
        (verdict,) = (
            await recorded(RtpSource(port, "127.0.0.1"), SingleFile(tmp_path / "a.mp4"), 5)
        ).verdicts
    assert verdict.verdict is Verdict.COMPLETE
    assert "B frames would have wrong times: h264timestamper is missing" in verdict.detail
    notes = [one for one in await checks.check_gstreamer() if "B frames" in one.found]
    assert [one.cure for one in notes] == ["GStreamer 1.22 or newer"]


def test_timestamper_latency_is_parsed() -> None:
    line = 'Got message #104 from element "timestamper" (latency): no message details'
    assert parse_line(line) == LatencyChanged("timestamper")
