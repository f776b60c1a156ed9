"""What recorders do besides filling files with video: RTP, raw frames and pictures; and with more time."""

import asyncio
import os
from fractions import Fraction
from pathlib import Path

import pytest

from asynccam.errors import RecordingError, StorageError, TargetExistsError, UsageError
from asynccam.recording import (
    EndReason,
    Limits,
    Pipeline,
    Recorder,
    RecorderState,
    RtpSource,
    SingleFile,
    SplitFiles,
    TestPattern,
    Verdict,
    Watch,
    verify_file,
)
from asynccam.recording.elements import Chain, Codec, Graph, GstElement, caps, encode
from asynccam.recording.events import RecorderProgress
from asynccam.recording.gstreamer import (
    find_installation,
    forget_installation,
    known_installation,
)
from asynccam.recording.outputs import PictureFiles, RawFrames, RecorderOutput, RtpOutput
from asynccam.recording.sources import Stream
from tests.support.gst import decoded_frames, free_udp_port

SMALL = TestPattern(width=64, height=48, fps=Fraction(20), time_code=False)


BYTES = 'capsfilter caps="video/x-h{},stream-format=byte-stream"'


class Few:
    """A source of so many frames, at once or at its own pace."""

    def __init__(self, frames: int, codec: Codec, *, live: bool = False) -> None:
        self.frames = frames
        self.codec = codec
        self.live = live

    def stream(self, installed: frozenset[str]) -> Stream:
        source = GstElement("videotestsrc", {"num-buffers": self.frames, "is-live": self.live})
        picture: Chain = (source, caps("video/x-raw", width=64, height=48, framerate=Fraction(20)))
        if self.codec == "raw":
            return Stream(picture, "raw")
        return Stream((*picture, *encode(self.codec, None, installed, 300, Fraction(20))), self.codec)


def arguments(chain: Chain) -> str:
    return " ".join(Graph((chain,)).arguments())


async def run_out(source: Few, output: RecorderOutput) -> Recorder:
    """Record to the end of the stream."""
    async with Recorder(Pipeline(source, output)) as recorder:
        await recorder.start()
        async with asyncio.timeout(20):
            await recorder.wait()
    return recorder


# -- RTP --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "chain"),
    [
        ("h264", f"{BYTES.format(264)} ! rtph264pay pt=96 config-interval=-1"),
        ("h265", f"{BYTES.format(265)} ! rtph265pay pt=96 config-interval=-1"),
        ("vp8", "rtpvp8pay pt=96"),
        ("vp9", "rtpvp9pay pt=96"),
    ],
)
def test_rtp_of_every_codec(codec: Codec, chain: str) -> None:
    sink = RtpOutput("fe80::1", 5004).sink(codec, 0)
    assert arguments(sink.chain) == f"{chain} ! udpsink host=fe80::1 port=5004"
    assert sink.files.sizes() == {}


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_rtp_refuses_other_codecs(codec: Codec) -> None:
    with pytest.raises(UsageError, match=codec):
        RtpOutput("host", 5004).sink(codec, 0)


@pytest.mark.parametrize("wrong", [("", 5004, 96), ("host", 0, 96), ("host", 65536, 96), ("host", 1, 128)])
def test_invalid_rtp_receiver_is_refused(wrong: tuple[str, int, int]) -> None:
    with pytest.raises(UsageError):
        RtpOutput(*wrong)


async def test_recorder_records_the_rtp_of_another(tmp_path: Path) -> None:
    port = free_udp_port()
    async with Recorder(Pipeline(SMALL, RtpOutput("127.0.0.1", port)), watch=Watch(interval=0.1)) as sender:
        await sender.start()
        receiving = Pipeline(RtpSource(port, "127.0.0.1", latency=50), SingleFile(tmp_path / "a.mp4"))
        async with Recorder(receiving, limits=Limits(seconds=0.3)) as receiver:
            await receiver.start()
            await receiver.wait()
        assert await sender.stop() == ()
        assert (sender.reason, sender.error) == (EndReason.STOPPED, None)
    assert await decoded_frames(tmp_path / "a.mp4") > 0


# -- raw frames -------------------------------------------------------------------------------------


def test_raw_frames_decode_only_encoded_streams() -> None:
    tail = (
        'videoconvert ! capsfilter caps="video/x-raw,format=BGR" ! '
        "gdppay crc-header=false ! fdsink fd=9 sync=false"
    )
    assert arguments(RawFrames(9).sink("raw", 0).chain) == tail
    assert arguments(RawFrames(9).sink("h264", 0).chain) == f"decodebin ! {tail}"
    assert RawFrames(9).sink("raw", 0).pass_fds == (9,)


@pytest.mark.parametrize("codec", ["raw", "h264", "jpeg"])
async def test_raw_frames_are_written_to_a_descriptor(codec: Codec) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        everything = asyncio.ensure_future(asyncio.to_thread(pipe.read))
        try:
            recorder = await run_out(Few(3, codec), RawFrames(writing, "GRAY8"))
        finally:
            os.close(writing)
        data = await everything
    assert (recorder.reason, recorder.verdicts) == (EndReason.END_OF_STREAM, ())
    for form in (b"format=(string)GRAY8", b"width=(int)64", b"height=(int)48"):
        assert form in data
    header = bytes.fromhex("0001 00000c00")  # a buffer of 3072 bytes
    assert data.count(header) == 3


# -- pictures ---------------------------------------------------------------------------------------


async def test_picture_files_one_for_every_picture(tmp_path: Path) -> None:
    recorder = await run_out(Few(4, "jpeg"), PictureFiles(tmp_path, 'a "1" 100%d'))
    names = [f'a "1" 100%d-0000{number}.jpg' for number in range(4)]
    assert [one.path.name for one in recorder.verdicts] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for one in recorder.verdicts:
        assert (one.verdict, one.frames) == (Verdict.COMPLETE, 1)
        assert await decoded_frames(one.path) == 1


async def test_picture_files_keep_only_the_newest(tmp_path: Path) -> None:
    await run_out(Few(5, "jpeg"), PictureFiles(tmp_path, "a", max_files=1))
    assert [path.name for path in tmp_path.iterdir()] == ["a-00004.jpg"]


async def test_pictures_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "frame-00007.jpg").write_bytes(b"mine")
    with pytest.raises(TargetExistsError, match="frame-NUMBER"):
        await run_out(Few(1, "jpeg"), PictureFiles(tmp_path))
    restarted = await asyncio.to_thread(PictureFiles(tmp_path).sink, "jpeg", 1)
    assert "index=8" in arguments(restarted.chain)
    assert await asyncio.to_thread(restarted.files.sizes) == {}


def test_picture_files_refuse_invalid_arguments(tmp_path: Path) -> None:
    for wrong in ("", "a/b"):
        with pytest.raises(UsageError):
            PictureFiles(tmp_path, wrong)
    with pytest.raises(UsageError):
        PictureFiles(tmp_path, max_files=-1)
    with pytest.raises(UsageError, match="h264"):
        PictureFiles(tmp_path).sink("h264", 0)


# -- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "words"),
    [
        ("a.mp4", "jpeg", "an .mp4 cannot hold jpeg; record it to .mov or .mkv"),
        ("a.mp4", "vp8", "an .mp4 cannot hold vp8; record it to .mkv"),
        ("a.mov", "vp9", "record it to .mkv"),
        ("a.mkv", "raw", "record it to memory"),
    ],
)
def test_container_refuses_a_codec_it_cannot_hold(
    tmp_path: Path, name: str, codec: Codec, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        SingleFile(tmp_path / name).sink(codec, 0)
    if not name.endswith("mov"):
        with pytest.raises(UsageError, match=words):
            SplitFiles(tmp_path, "a", "mkv" if name.endswith("mkv") else "mp4").sink(codec, 0)


@pytest.mark.parametrize("codec", ["h265", "vp8", "vp9"])
async def test_every_software_encoder_fills_a_file(tmp_path: Path, codec: Codec) -> None:
    recorder = await run_out(Few(5, codec), SingleFile(tmp_path / "a.mkv"))
    assert [(one.verdict, one.frames) for one in recorder.verdicts] == [(Verdict.COMPLETE, 5)]
    assert await decoded_frames(tmp_path / "a.mkv") == 5


def test_unknown_encoder_is_refused() -> None:
    with pytest.raises(UsageError, match="x263enc"):
        encode("h264", "x263enc", frozenset(), 1, None)
    with pytest.raises(UsageError, match="raw"):
        encode("raw", None, frozenset(), 1, None)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
async def test_plain_file_works_with_older_gstreamers(tmp_path: Path, suffix: str) -> None:
    output = SingleFile(tmp_path / f"a{suffix}", plain=True)
    assert (
        arguments((await asyncio.to_thread(output.sink, "h264", 0)).chain)
        == f"qtmux ! filesink location={output.path}"
    )
    recorder = await run_out(Few(10, "h264", live=True), output)
    assert [(one.verdict, one.frames) for one in recorder.verdicts] == [(Verdict.COMPLETE, 10)]


async def test_raw_frames_to_a_closed_descriptor_fail() -> None:
    with pytest.raises(RecordingError):
        await run_out(Few(1, "raw"), RawFrames(999_999))


async def test_reserved_name_is_filled_or_released_without_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    with pytest.raises(TargetExistsError):
        await run_out(Few(1, "h264"), SingleFile(path))
    assert path.exists()
    async with Recorder(
        Pipeline(RtpSource(free_udp_port(), "127.0.0.1"), SingleFile(path, reserved=True))
    ) as one:
        with pytest.raises(TimeoutError):
            await one.start(timeout=0.1)
    assert not path.exists()
    path.touch()
    await run_out(Few(3, "h264"), SingleFile(path, reserved=True))
    assert await decoded_frames(path) == 3
    with pytest.raises(TargetExistsError):
        await run_out(Few(1, "h264"), SingleFile(path, reserved=True))


async def test_stream_of_one_frame_is_a_recording(tmp_path: Path) -> None:
    for name, codec in (("a.mkv", "h264"), ("b.mkv", "jpeg")):
        recorder = await run_out(Few(1, "jpeg" if codec == "jpeg" else "h264"), SingleFile(tmp_path / name))
        assert [(one.verdict, one.frames) for one in recorder.verdicts] == [(Verdict.COMPLETE, 1)]


# -- the verdict on a picture -----------------------------------------------------------------------


@pytest.fixture
async def jpeg(tmp_path: Path) -> bytes:
    """A picture with restart markers and, by chance of its noise, many bytes FF."""
    recorder = await run_out(Few(1, "jpeg"), PictureFiles(tmp_path))
    return recorder.verdicts[0].path.read_bytes()


async def verdict_on(tmp_path: Path, data: bytes) -> tuple[Verdict, int | None, str]:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    found = await verify_file(path)
    assert found.size == len(data)
    return found.verdict, found.frames, found.detail


async def test_picture_cut_anywhere_is_not_whole(tmp_path: Path, jpeg: bytes) -> None:
    assert await verdict_on(tmp_path, jpeg) == (Verdict.COMPLETE, 1, "")
    scan = jpeg.index(b"\xff\xda")
    for end in (*range(3, len(jpeg), 37), scan + 1, scan + 2, scan + 20, len(jpeg) - 2, len(jpeg) - 1):
        assert await verdict_on(tmp_path, jpeg[:end]) == (
            Verdict.TRUNCATED,
            0,
            "is cut off before its end of image",
        ), end


# -- more time, and what is known without looking ---------------------------------------------------


@pytest.mark.parametrize("limit", [None, 1000.0])
async def test_reset_timer_ends_recording_earlier(tmp_path: Path, limit: float | None) -> None:
    recorder = Recorder(Pipeline(SMALL, SingleFile(tmp_path / "a.mkv")), limits=Limits(seconds=limit))
    async with recorder:
        assert recorder.reset_timer(5) is False
        await recorder.start()
        for wrong in (0, -1.0, float("nan")):
            with pytest.raises(UsageError):
                recorder.reset_timer(wrong)
        assert recorder.state is RecorderState.RECORDING
        assert recorder.reset_timer(0.01) is True
        await recorder.wait()
        assert recorder.reason is EndReason.LIMIT
        assert recorder.reset_timer(5) is False


async def test_reset_timer_gives_recording_more_time(tmp_path: Path) -> None:
    pipeline = Pipeline(SMALL, SingleFile(tmp_path / "a.mkv"))
    async with Recorder(pipeline, limits=Limits(seconds=1.5), watch=Watch(interval=0.1)) as recorder:
        with recorder.events.stream(RecorderProgress) as progress:
            await recorder.start()
            recorder.reset_timer(1000)
            async with asyncio.timeout(30):
                async for event in progress:
                    if event.frames > 32:
                        break
        assert recorder.state is RecorderState.RECORDING
        await recorder.stop()
        assert recorder.reason is EndReason.STOPPED


async def test_missing_directory_is_an_error_only_if_needed(
    tmp_path: Path,
) -> None:
    with pytest.raises(StorageError):
        await run_out(Few(1, "jpeg"), PictureFiles(tmp_path / "missing"))
    port = free_udp_port()
    async with Recorder(
        Pipeline(SMALL, RtpOutput("127.0.0.1", port)), watch=Watch(interval=0.05)
    ) as recorder:
        with recorder.events.stream(RecorderProgress) as progress:
            await recorder.start()
            async with asyncio.timeout(20):
                assert (await anext(progress)).bytes == 0


async def test_known_installation_after_a_lookup() -> None:
    forget_installation()
    assert known_installation() is None
    found = await find_installation()
    assert known_installation() == found
