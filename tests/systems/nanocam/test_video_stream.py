"""Video from a camera and from UDP to every sink there is, with real pipelines."""

import asyncio
import http.server
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from asynccam.errors import (
    RecordingError,
    StateError,
    StorageError,
    TargetExistsError,
    TimeoutError,
    UsageError,
)
from asynccam.recording import EndReason, Verdict, verify_file
from asynccam.recording.events import RecorderProgress, RecorderStarted
from asynccam.runtime.event_hub import EventHub
from asynccam.systems.nanocam.csi import streams
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.csi.streams import VideoStream
from tests.support.gst import decoded_frames, free_udp_port, gst_processes, rtp_sender, running
from tests.support.waiting import eventually

Src = Literal["camera", "udp"]
Sink = Literal["file", "opencv", "udp", "hls"]
SOURCES: list[Src] = ["camera", "udp"]


def small(**settings: object) -> CSIcamera:
    return CSIcamera().copy(resolution=(160, 120), **settings)


@asynccontextmanager
async def stream(
    tmp_path: Path, src: Src, sink: Sink, duration: float | None = 0.5, **options: Any
) -> AsyncIterator[VideoStream]:
    """A stream whose source, if it is UDP, is being sent to, 64x48."""
    async with VideoStream(duration, src=src, sink=sink, **options) as video:
        video.media_path = tmp_path
        video.hls_playloc, video.hls_loc = tmp_path / "live.m3u8", tmp_path / "part%05d.ts"
        video.set_host("127.0.0.1")
        video.port = free_udp_port()
        if src == "camera":
            video.connect_camera(small())
            yield video
        else:
            video.source_address, video.source_port = "127.0.0.1", free_udp_port()
            async with running(*rtp_sender(video.source_port)):
                yield video


async def probe(where: str) -> dict[str, Any]:
    """Return what ffprobe reads of a file or a URL, every frame decoded.

    Raises:
        AssertionError: It does not play to its end without a complaint.
    """
    process = await asyncio.create_subprocess_exec(
        *["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", where],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    (found,) = json.loads(output)["streams"]
    assert isinstance(found, dict)
    return found


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """A directory over HTTP; gives its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's word
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# -- every source to every sink ---------------------------------------------------------------------


@pytest.mark.parametrize("src", SOURCES)
async def test_video_to_a_file(tmp_path: Path, src: Src) -> None:
    async with stream(tmp_path, src, "file") as video:
        result = await video.start_stream()
    (path,) = result.files
    assert [path] == list(tmp_path.iterdir())
    assert path.suffix == ".mp4"
    (verdict,) = result.verdicts
    assert (verdict.verdict, result.reason, result.gaps) == (Verdict.COMPLETE, EndReason.LIMIT, ())
    assert abs(result.first_frame_at - time.time()) < 3600
    assert video.verdicts == result.verdicts
    seen = await probe(str(path))
    assert (seen["width"], seen["height"]) == ((160, 120) if src == "camera" else (64, 48))
    assert seen["codec_name"] == "h264"
    assert int(seen["nb_read_frames"]) == verdict.frames
    assert (verdict.frames or 0) >= 5
    assert gst_processes(tmp_path) == []


@pytest.mark.parametrize("src", SOURCES)
async def test_video_to_memory(tmp_path: Path, src: Src) -> None:
    async with stream(tmp_path, src, "opencv") as video:
        result = await video.start_stream()
    assert (result.files, result.verdicts, result.reason) == ((), (), EndReason.LIMIT)
    assert len(result.frames) >= 5
    shape = (120, 160, 3) if src == "camera" else (48, 64, 3)
    assert {(one.shape, one.dtype.name, one.flags.c_contiguous) for one in result.frames} == {
        (shape, "uint8", True)
    }
    assert any((one != result.frames[0]).any() for one in result.frames)  # the ball moves
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("src", SOURCES)
async def test_video_to_rtp(tmp_path: Path, src: Src) -> None:
    async with stream(tmp_path, src, "udp", None) as video:
        async with VideoStream(0.5, src="udp", sink="file") as receiver:
            receiver.media_path = tmp_path
            receiver.source_address = "127.0.0.1"
            receiver.set_port(video.port)
            assert receiver.source_port == video.port
            await video.start()
            received = await receiver.start_stream()
        sent = await video.stop()
    assert sent is not None
    assert (sent.files, sent.verdicts, sent.reason) == ((), (), EndReason.STOPPED)
    (path,) = received.files
    assert received.verdicts[0].verdict is Verdict.COMPLETE
    assert int((await probe(str(path)))["nb_read_frames"]) >= 5


@pytest.mark.parametrize("src", SOURCES)
async def test_video_to_hls(tmp_path: Path, src: Src) -> None:
    with served(tmp_path) as url:
        async with stream(tmp_path, src, "hls", None) as video:
            video.hls_root, video.hls_duration, video.hls_len = url, 1, 0
            await video.start()
            await eventually(lambda: (tmp_path / "part00001.ts").exists(), 30)
            result = await video.stop()
        assert result is not None
        playlist = (tmp_path / "live.m3u8").read_text()
        assert playlist.rstrip().endswith("#EXT-X-ENDLIST")
        names = [path.name for path in result.files]
        assert len(names) >= 2
        assert [line for line in playlist.splitlines() if not line.startswith("#") and line] == [
            f"{url}{name}" for name in names
        ]
        assert {one.verdict for one in result.verdicts} == {Verdict.COMPLETE}
        seen = await probe(f"{url}live.m3u8")
        assert int(seen["nb_read_frames"]) == sum(one.frames or 0 for one in result.verdicts)


async def test_hls_limits_of_segments(tmp_path: Path) -> None:
    async with stream(tmp_path, "camera", "hls", None) as video:
        video.connect_camera(small(framerate=30))
        video.hls_duration, video.hls_len, video.hls_maxfiles = 1, 1, 1
        await video.start()
        first, second = tmp_path / "part00000.ts", tmp_path / "part00001.ts"
        await eventually(lambda: second.exists() and not first.exists(), 30)
        await video.stop()
    assert not first.exists()
    assert (tmp_path / "live.m3u8").read_text().count(".ts") == 1


@pytest.mark.parametrize(
    ("encoder", "suffix", "codec"),
    [("omxh265enc", ".mp4", "hevc"), ("omxvp8enc", ".mkv", "vp8"), ("nvv4l2vp9enc", ".mkv", "vp9")],
)
async def test_other_encoders_have_stand_ins(tmp_path: Path, encoder: str, suffix: str, codec: str) -> None:
    async with stream(tmp_path, "camera", "file", 0.3) as video:
        video.connect_camera(small(encoder=encoder))
        (path,) = (await video.start_stream()).files
    assert path.suffix == suffix
    assert (await probe(str(path)))["codec_name"] == codec
    assert (await verify_file(path)).verdict is Verdict.COMPLETE


# -- its time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("duration", [1000, None])
async def test_reset_timer_shortens(tmp_path: Path, duration: float | None) -> None:
    async with stream(tmp_path, "camera", "file", duration) as video:
        assert not video.reset_timer(0.1)
        await video.start()
        assert video.reset_timer(0.1)
        result = await video.wait()
        assert result.reason is EndReason.LIMIT
        assert not video.reset_timer(10)


async def test_reset_timer_extends(tmp_path: Path) -> None:
    hub = EventHub()
    async with stream(tmp_path, "camera", "file", 1.5, events=hub) as video:
        await video.start()
        video.reset_timer(1000)
        waiting = asyncio.ensure_future(video.wait())
        with hub.stream(RecorderProgress) as progress:
            async with asyncio.timeout(30):
                async for event in progress:
                    if event.frames >= 35:  # 1.75 s of them
                        break
        assert not waiting.done()
        await video.stop()
        assert (await waiting).reason is EndReason.STOPPED
    await hub.aclose()


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_reset_timer_refuses_zero(tmp_path: Path, seconds: float) -> None:
    async with stream(tmp_path, "camera", "file") as video:
        await video.start()
        with pytest.raises(UsageError):
            video.reset_timer(seconds)


async def test_size_limit_leaves_a_complete_file(tmp_path: Path) -> None:
    async with stream(tmp_path, "camera", "file", None, size=4_000) as video:
        async with asyncio.timeout(30):
            result = await video.start_stream()
    assert result.reason is EndReason.LIMIT
    assert result.verdicts[0].verdict is Verdict.COMPLETE
    assert result.verdicts[0].size >= 4_000


async def test_full_memory_ends_the_stream(tmp_path: Path) -> None:
    async with stream(tmp_path, "camera", "opencv", None) as video:
        video.memory = 7 * 160 * 120 * 3 + 1
        async with asyncio.timeout(30):
            result = await video.start_stream()
    assert (len(result.frames), result.reason) == (7, EndReason.LIMIT)


async def test_no_memory_ends_the_stream(tmp_path: Path) -> None:
    async with stream(tmp_path, "camera", "opencv", None) as video:
        video.memory = 1
        async with asyncio.timeout(30):
            result = await video.start_stream()
    assert (result.frames, result.reason) == ((), EndReason.LIMIT)


# -- again, and never over another's file -----------------------------------------------------------


async def test_streams_in_the_same_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "timestamp", lambda _: "now")
    (tmp_path / "now-1.mp4").write_bytes(b"mine")

    async def record() -> Path:
        async with stream(tmp_path, "camera", "file", 0.3) as video:
            (path,) = (await video.start_stream()).files
            return path

    paths = await asyncio.gather(record(), record(), record())
    assert sorted(path.name for path in paths) == ["now-2.mp4", "now-3.mp4", "now.mp4"]
    assert (tmp_path / "now-1.mp4").read_bytes() == b"mine"
    for path in paths:
        assert await decoded_frames(path) > 0


async def test_start_again_after_the_end(tmp_path: Path) -> None:
    async with stream(tmp_path, "camera", "file", None) as video:
        with pytest.raises(StateError, match="never started"):
            await video.wait()
        assert await video.stop() is None
        for number in (1, 2):
            await video.start()
            with pytest.raises(StateError, match="running"):
                await video.start()
            assert video.running
            first = await video.stop()
            assert not video.running
            assert await video.stop() == await video.wait() == first
            assert len(list(tmp_path.iterdir())) == number


async def test_hls_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "part00000.ts").write_bytes(b"mine")
    async with stream(tmp_path, "camera", "hls") as video:
        with pytest.raises(TargetExistsError, match="part00000"):
            await video.start()
        assert not video.running
    assert (tmp_path / "part00000.ts").read_bytes() == b"mine"


# -- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "options"),
    [
        (0, {}),
        (-1, {}),
        (float("nan"), {}),
        (1, {"src": "file"}),
        (1, {"sink": "display"}),
        (1, {"size": 0}),
    ],
)
def test_invalid_arguments(duration: float, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        VideoStream(duration, **options)


async def test_start_without_camera_or_paths(tmp_path: Path) -> None:
    async def refused(video: VideoStream, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            await video.start()
        assert not video.running
        await video.aclose()

    await refused(VideoStream(1), StateError, "connect_camera")
    for sink, words in (("file", "media_path"), ("udp", "receiver"), ("hls", "hls_playloc")):
        video = VideoStream(1, sink=sink)  # type: ignore[arg-type] # one of the four
        video.connect_camera(small())
        await refused(video, UsageError, words)
    video = VideoStream(1)
    video.connect_camera(small())
    video.media_path = tmp_path / "missing"
    await refused(video, StorageError, "missing")
    assert list(tmp_path.iterdir()) == []


async def test_hls_refuses_other_codecs(tmp_path: Path) -> None:
    async with stream(tmp_path, "camera", "hls") as video:
        video.connect_camera(small(encoder="omxvp8enc"))
        with pytest.raises(UsageError, match="h264"):
            await video.start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sink", ["file", "opencv"])
async def test_stream_never_arrives(tmp_path: Path, sink: Sink) -> None:
    async with VideoStream(1, src="udp", sink=sink) as video:
        video.media_path = tmp_path
        video.source_address, video.source_port = "127.0.0.1", free_udp_port()
        with pytest.raises(TimeoutError, match="no frame"):
            await video.start(timeout=0.2)
        assert isinstance(video.error, TimeoutError)
        assert await video.stop() is None
    assert list(tmp_path.iterdir()) == []


async def test_missing_device_is_named(tmp_path: Path) -> None:
    async with stream(tmp_path, "camera", "file") as video:
        video.connect_camera(CSIcamera(device="/dev/video-none", resolution=(160, 120)))
        with pytest.raises(RecordingError, match="/dev/video-none"):
            await video.start()
    assert list(tmp_path.iterdir()) == []


async def test_stand_in(tmp_path: Path) -> None:
    async with stream(tmp_path, "camera", "file", None) as video:
        await video.start()
        assert video.stand_in == "test picture (videotestsrc) and software encoders"


async def test_recorder_events(tmp_path: Path) -> None:
    hub = EventHub()
    with hub.stream(RecorderStarted) as events:
        async with stream(tmp_path, "camera", "file", 0.2, events=hub) as video:
            at = await video.start()
            assert (await anext(events)).first_frame_at == at
    await hub.aclose()
