"""Every kind of source into every kind of file, with real streams."""

import asyncio
from fractions import Fraction
from pathlib import Path
from typing import Literal

import pytest

from asynccam.errors import StorageError, TargetExistsError, UsageError
from asynccam.recording import (
    HlsFiles,
    Pipeline,
    Recorder,
    RtpSource,
    RtspSource,
    SingleFile,
    SplitFiles,
    SrtJpegSource,
    TestPattern,
    V4l2Source,
    Verdict,
    Watch,
)
from asynccam.recording.events import RecorderProgress
from asynccam.recording.outputs import RecorderOutput
from asynccam.recording.sources import Source
from tests.support.gst import decoded_frames, free_udp_port, rtp_sender, running, srt_sender
from tests.support.rtsp import RtspServer

SMALL = TestPattern(width=64, height=48, fps=Fraction(20), time_code=False)


async def recorded(source: Source, output: RecorderOutput, frames: int = 3) -> tuple[Path, ...]:
    """Record until so many frames are counted; every file must be complete and play."""
    async with Recorder(Pipeline(source, output), watch=Watch(interval=0.1)) as recorder:
        with recorder.events.stream(RecorderProgress) as progress:
            await recorder.start(timeout=30)
            async with asyncio.timeout(30):
                async for event in progress:
                    if event.frames >= frames:
                        break
        verdicts = await recorder.stop()
    assert recorder.error is None
    assert verdicts
    for verdict in verdicts:
        assert verdict.verdict is Verdict.COMPLETE, verdict
        assert verdict.frames == await decoded_frames(verdict.path), verdict
    return tuple(verdict.path for verdict in verdicts)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", 'Süd "1" 100% \\ !.mp4'])
async def test_test_pattern_to_single_file(tmp_path: Path, name: str) -> None:
    assert await recorded(SMALL, SingleFile(tmp_path / name)) == (tmp_path / name,)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("encoder", ["x264enc", "openh264enc"])
async def test_either_encoder_records(tmp_path: Path, encoder: str) -> None:
    await recorded(TestPattern(width=64, height=48, encoder=encoder), SingleFile(tmp_path / "a.mp4"))


async def test_relative_path_is_recorded_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert await recorded(SMALL, SingleFile(Path("a.mkv"))) == (tmp_path / "a.mkv",)


async def test_srt_jpeg_to_split_matroska(tmp_path: Path) -> None:
    port = free_udp_port()
    output = SplitFiles(tmp_path, "-5_Caméra 100%_20250101", max_seconds=0.5)
    async with running(*srt_sender(port)):
        paths = await recorded(SrtJpegSource("127.0.0.1", port, latency=20), output, frames=22)
    assert [path.name for path in paths[:2]] == [f"-5_Caméra 100%_20250101-0{n}.mkv" for n in (0, 1)]


@pytest.mark.parametrize("codec", ["h264", "h265"])
async def test_rtp_to_a_file(tmp_path: Path, codec: Literal["h264", "h265"]) -> None:
    port = free_udp_port()
    async with running(*rtp_sender(port, codec)):
        await recorded(RtpSource(port, "127.0.0.1", codec, latency=50), SingleFile(tmp_path / "a.mp4"))


async def test_rtp_to_hls(tmp_path: Path) -> None:
    port = free_udp_port()
    output = HlsFiles(tmp_path, 'live "100%"', segment_seconds=1, playlist_length=0, max_files=0)
    async with running(*rtp_sender(port)):
        paths = await recorded(RtpSource(port, "127.0.0.1", latency=50), output, frames=22)
    assert [path.name for path in paths] == [f'live "100%"-{n:05}.ts' for n in range(len(paths))]
    playlist = (tmp_path / 'live "100%".m3u8').read_text()
    assert playlist.count("#EXTINF") == len(paths) >= 2
    assert "#EXT-X-ENDLIST" in playlist


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("codec", "name"), [("h264", "a.mp4"), ("h264", "a.mkv"), ("h265", "a.mp4"), ("h265", "a.mkv")]
)
async def test_rtsp_to_a_file(tmp_path: Path, codec: Literal["h264", "h265"], name: str) -> None:
    async with RtspServer(codec).serving() as server:
        await recorded(RtspSource(server.url, codec, latency=50), SingleFile(tmp_path / name))


async def test_second_recording_of_stem_continues_numbers(tmp_path: Path) -> None:
    jpeg = TestPattern(width=64, height=48, fps=Fraction(20), time_code=False, codec="jpeg")
    first = await recorded(jpeg, SplitFiles(tmp_path, "cam"), frames=5)
    other = tmp_path / "cam-1-07.mkv"
    other.touch()
    second = await recorded(jpeg, SplitFiles(tmp_path, "cam"), frames=5)
    assert [path.name for path in (*first, *second)] == ["cam-00.mkv", "cam-01.mkv"]


async def test_split_files_keep_only_own_newest(tmp_path: Path) -> None:
    (tmp_path / "cam-00.mkv").write_text("an older recording")
    jpeg = TestPattern(width=64, height=48, fps=Fraction(20), time_code=False, codec="jpeg")
    paths = await recorded(jpeg, SplitFiles(tmp_path, "cam", max_files=2, max_seconds=0.2), frames=25)
    assert len(paths) == 2
    assert paths[0].name >= "cam-04.mkv"
    assert (tmp_path / "cam-00.mkv").read_text() == "an older recording"
    assert len(list(tmp_path.iterdir())) == len(paths) + 1


async def test_v4l2_camera_is_asked_for_its_settings() -> None:
    installed = frozenset({"openh264enc"})
    stream = V4l2Source("/dev/video 7", width=1280, height=720, media="jpeg").stream(installed)
    plan = Pipeline(V4l2Source("/dev/video 7", media="jpeg"), SingleFile(Path("/a.mp4"))).plan
    words = await asyncio.to_thread(plan, installed)
    assert [part.factory for part in stream.chain if hasattr(part, "factory")] == [
        *[
            "v4l2src",
            "capsfilter",
            "queue",
            "jpegdec",
            "videoconvert",
            "capsfilter",
            "openh264enc",
            "h264parse",
        ]
    ]
    assert words.graph.arguments()[:2] == ["v4l2src", 'device="/dev/video 7"']


async def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("precious")
    (tmp_path / "b.m3u8").touch()
    for output in (SingleFile(tmp_path / "a.mp4"), HlsFiles(tmp_path, "b")):
        async with Recorder(Pipeline(SMALL, output)) as recorder:
            with pytest.raises(TargetExistsError, match="does not overwrite"):
                await recorder.start()
    assert (tmp_path / "a.mp4").read_text() == "precious"


async def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    async with Recorder(Pipeline(SMALL, SingleFile(tmp_path / "no" / "a.mp4"))) as recorder:
        with pytest.raises(StorageError, match="not a directory"):
            await recorder.start()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SingleFile(Path("a.avi")),
        lambda: SplitFiles(Path(), "a/b"),
        lambda: SplitFiles(Path(), ""),
        lambda: SplitFiles(Path(), "a", max_seconds=-1),
        lambda: HlsFiles(Path(), "a", segment_seconds=0),
        lambda: TestPattern(width=33),
        lambda: TestPattern(fps=Fraction(0)),
        lambda: TestPattern(encoder="magic").stream(frozenset()),
        lambda: SingleFile(Path("a.mp4")).sink("jpeg", 0),
        lambda: SplitFiles(Path(), "a", container="mp4").sink("jpeg", 0),
        lambda: HlsFiles(Path(), "a").sink("h265", 0),
    ],
)
def test_invalid_sources_and_outputs_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(UsageError):
        make()
