"""Raw H.264 and H.265, whose pictures are counted and whose end nobody knows."""

import json
import random
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynccam.recording.containers.raw_video import PictureCounter, VideoCodec, find_codec
from asynccam.recording.containers.reader import FileView, Scan
from asynccam.recording.containers.scan import scan_file
from asynccam.recording.verify import Verdict, verify_file
from tests.support.gst import LAUNCH

FRAMES = 50
SOURCE = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=2"]
QUIET = ["-x265-params", "log-level=none:open-gop=1:keyint=10"]
FFMPEG = {
    "b_frames.h264": [*SOURCE, "-c:v", "libx264", "-bf", "3"],
    "slices.h264": [*SOURCE, "-c:v", "libx264", "-x264-params", "slices=4"],
    "baseline.h264": [*SOURCE, "-c:v", "libx264", "-profile:v", "baseline", "-pix_fmt", "yuv420p"],
    "high444.h264": [*SOURCE, "-c:v", "libx264", "-pix_fmt", "yuv444p", "-x264-params", "cqm=jvt"],
    "open.h265": [*SOURCE, "-c:v", "libx265", *QUIET],
    "slices.h265": [*SOURCE, "-c:v", "libx265", "-x265-params", "log-level=none:slices=4:aud=1"],
}
GSTREAMER = {
    "gst.h264": ["x264enc", "!", "h264parse", "!", "video/x-h264,stream-format=byte-stream"],
    "gst.h265": ["x265enc", "!", "h265parse", "!", "video/x-h265,stream-format=byte-stream"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("raw")
    for name, words in FFMPEG.items():
        subprocess.run(["ffmpeg", "-v", "error", *words, directory / name], check=True)
    words = []
    for name, chain in GSTREAMER.items():
        words += ["videotestsrc", f"num-buffers={FRAMES}", "!", "video/x-raw,width=160,height=120", "!"]
        words += [*chain, "!", "filesink", f"location={directory / name}"]
    subprocess.run([LAUNCH, "-q", *words], check=True)
    return {name: directory / name for name in (*FFMPEG, *GSTREAMER)}


def probed(path: Path) -> int:
    """Frames as ffprobe decodes them."""
    words = ["ffprobe", "-v", "quiet", "-count_frames", "-of", "json", "-show_entries"]
    out = subprocess.run([*words, "stream=nb_read_frames", path], capture_output=True, check=True)
    return int(json.loads(out.stdout)["streams"][0]["nb_read_frames"])


def scan(path: Path, data: bytes) -> Scan:
    path.write_bytes(data)
    with FileView(path, threading.Event()) as view:
        return scan_file(view)


@pytest.mark.parametrize("name", [*FFMPEG, *GSTREAMER])
async def test_pictures_are_counted_and_the_end_is_unknown(files: dict[str, Path], name: str) -> None:
    verdict = await verify_file(files[name])
    assert (verdict.verdict, verdict.duration) == (Verdict.UNKNOWN, None)
    assert verdict.frames == FRAMES == probed(files[name])
    codec = "H.264" if name.endswith("h264") else "H.265"
    assert verdict.detail == f"is a raw {codec} stream, which has no end mark"


@pytest.mark.parametrize("name", [*FFMPEG, *GSTREAMER])
async def test_cut_stream_is_never_complete(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    data, path = files[name].read_bytes(), tmp_path / "a"
    for size in range(0, len(data), len(data) // 50 + 1):
        path.write_bytes(data[:size])
        verdict = await verify_file(path)
        assert verdict.verdict is (Verdict.UNKNOWN if size else Verdict.EMPTY)
        assert verdict.frames is None or verdict.frames <= FRAMES


def test_fields_are_not_counted_as_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    words = [*SOURCE, "-c:v", "libx264", "-flags", "+ildct+ilme", "-x264-params", "tff=1", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", *words], check=True)
    assert scan(path, path.read_bytes()).frames is None


def test_pictures_before_the_point_of_entry_are_not_shown(tmp_path: Path, files: dict[str, Path]) -> None:
    """A stream that begins with an open group of pictures: its first leading pictures cannot be decoded."""
    data = files["open.h265"].read_bytes()
    units = data.split(b"\0\0\1")
    points = [index for index, unit in enumerate(units) if unit and unit[0] >> 1 & 63 == 21]
    parameters = [unit for unit in units[1:8] if unit[0] >> 1 & 63 in (32, 33, 34)]
    path = tmp_path / "a.h265"
    path.write_bytes(b"".join(b"\0\0\1" + unit for unit in [*parameters, *units[points[1] :]]))
    shown = scan(path, path.read_bytes()).frames
    assert shown == probed(path)


def test_zeros_within_a_unit_are_damage(tmp_path: Path, files: dict[str, Path]) -> None:
    data = files["b_frames.h264"].read_bytes()
    half = len(data) // 2
    found = scan(tmp_path / "a.h264", data[:half] + bytes(5000) + data[half + 5000 :])
    assert found.damaged == "has zeros within its pictures"
    # Behind a unit there may be any number of them (B.1.2).
    padded = data.replace(b"\0\0\1\x41", bytes(99) + b"\1\x41").replace(b"\0\0\1\x01", bytes(99) + b"\1\x01")
    assert scan(tmp_path / "a.h264", padded).frames == FRAMES
    assert not scan(tmp_path / "a.h264", padded).damaged


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000, 4093])
def test_same_pictures_are_counted_wherever_a_stream_is_split(files: dict[str, Path], step: int) -> None:
    for name, codec in (("b_frames.h264", VideoCodec.H264), ("open.h265", VideoCodec.H265)):
        data = files[name].read_bytes()[:20_000]
        whole, split = PictureCounter(codec), PictureCounter(codec)
        whole.feed(data)
        for at in range(0, len(data), step):
            split.feed(data[at : at + step])
        assert split.pictures == whole.pictures
        assert not split.has_zeros


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\1\xba" + bytes(100),  # an MPEG program stream
        b"\0\0\1\xb3\x16\x01\x20" + bytes(100),  # MPEG-2 video
        b"\0\0\1\xb0\x01\0\0\1\xb5" + bytes(100),  # MPEG-4 video
        b"\0\0\1\0\1\0\x10\x10" + bytes(100),  # an icon
        bytes(400) + b"\1",
        b"\0\0\1\x67\x99\0\x1e\0\0\1\x68\xce\0\0\0\1\x65\x88",  # a profile that there is not
        b"\0\0\1\x65\x88\x84\0\0\1\x67\x42\0\x1e\0\0\1\x68\xce\0\0",  # a slice first
        b"\0\0\1" + random.Random(2).randbytes(9000),
    ],
)
def test_other_files_are_not_taken_for_raw_video(data: bytes) -> None:
    assert find_codec(data) is None


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["high444.h264", "open.h265"]),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=40)), max_size=5),
    st.integers(0, 9000),
)
def test_any_bytes_raise_nothing(
    files: dict[str, Path], tmp_path: Path, name: str, spoils: list[tuple[int, bytes]], size: int
) -> None:
    data = bytearray(files[name].read_bytes()[:size])
    for at, spoil in spoils:
        data[at : at + len(spoil)] = spoil
    scan(tmp_path / "a", bytes(data))
