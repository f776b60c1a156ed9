"""Flash video: tags that are there, what the header announces, and what is no frame."""

import random
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.media import FRAMES, decoded, ffmpeg, gstreamer, scan, scan_bytes, word

FFMPEG = {
    "h264.flv": ["-c:v", "libx264", "-g", "5", "-bf", "2", "-pix_fmt", "yuv420p"],
    "flv1.flv": ["-c:v", "flv1"],
    "audio.flv": [*["-f", "lavfi", "-i", "sine=d=0.8"], "-c:v", "libx264", "-g", "5", "-c:a", "aac"],
}
GSTREAMER = {"g264.flv": "x264enc ! flvmux"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("flv")
    made = {name: ffmpeg(directory / name, *options) for name, options in FFMPEG.items()}
    return made | {name: gstreamer(directory / name, chain) for name, chain in GSTREAMER.items()}


def tag(kind: int, data: bytes, time: int = 0) -> bytes:
    stamp = (time & 0xFFFFFFFF).to_bytes(4, "big")
    head = bytes([kind]) + len(data).to_bytes(3, "big") + stamp[1:] + stamp[:1] + bytes(3)
    return head + data + (len(data) + 11).to_bytes(4, "big")


def flv(*tags: bytes) -> bytes:
    return b"FLV\1\1\0\0\0\x09\0\0\0\0" + b"".join(tags)


def metadata(**numbers: float) -> bytes:
    words = b"\2\0\x0aonMetaData\x08\0\0\0\1"
    for name, value in numbers.items():
        words += len(name).to_bytes(2, "big") + name.encode() + b"\0" + struct.pack(">d", value)
    return tag(18, words + b"\0\0\x09")


AVC = tag(9, b"\x17\0\0\0\0" + bytes.fromhex("0164000bffe1000067"))
KEY = b"\0\0\0\3\x65ab"
LATE = b"\0\0\0\3\x41ab"


def frame(time: int, data: bytes = LATE, offset: int = 0) -> bytes:
    return tag(9, b"\x27\1" + offset.to_bytes(3, "big", signed=True) + data, time)


FRAMES_OF_FOUR = (AVC, frame(0, KEY), frame(40), frame(80), frame(120))
END = tag(9, b"\x17\2\0\0\0", 120)


@pytest.mark.parametrize("name", [*FFMPEG, *GSTREAMER])
def test_files_of_muxers_are_complete_with_the_frames_that_decode(files: dict[str, Path], name: str) -> None:
    found = scan(files[name])
    assert (word(found), found.frames) == ("complete", FRAMES), found
    assert found.frames == decoded(files[name])
    assert found.duration == pytest.approx(0.8, abs=0.01)
    assert not found.note


@pytest.mark.parametrize("name", [*FFMPEG, *GSTREAMER])
def test_cut_is_never_complete_with_extra_frames(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = files[name].read_bytes()
    counts = []
    for cut in [*sorted(random.Random(1).sample(range(4, len(whole)), 500)), len(whole) - 1]:
        found = scan_bytes(tmp_path, whole[:cut])
        assert word(found) in ("truncated", "empty"), cut
        assert found.frames is not None
        counts.append(found.frames)
    assert counts == sorted(counts)
    for cut in (len(whole) // 3, len(whole) * 2 // 3, len(whole) - 1):
        path = tmp_path / "cut.flv"
        path.write_bytes(whole[:cut])
        assert (scan(path).frames or 0) <= decoded(path)


def test_bytes_behind_the_end_joined_files_and_zeroed_stretches(
    files: dict[str, Path], tmp_path: Path
) -> None:
    whole = files["h264.flv"].read_bytes()
    found = scan_bytes(tmp_path, whole + b"abcde")
    assert (word(found), found.frames) == ("complete", FRAMES)
    assert "5 bytes behind its end" in found.note
    path = tmp_path / "joined.flv"
    path.write_bytes(whole + whole)
    found = scan(path)
    assert (word(found), found.frames) == ("complete", decoded(path))
    assert "another Flash video" in found.note
    length = len(whole) // 5
    begin = len(whole) // 2
    assert word(scan_bytes(tmp_path, whole[:begin] + bytes(length) + whole[begin + length :])) == "damaged"
    assert word(scan_bytes(tmp_path, whole[:begin] + bytes(len(whole) - begin))) == "truncated"


def test_header_reveals_a_cut_between_tags(tmp_path: Path) -> None:
    whole = flv(metadata(duration=0.16, filesize=0.0), *FRAMES_OF_FOUR, END)
    assert (word(scan_bytes(tmp_path, whole)), scan_bytes(tmp_path, whole).frames) == ("complete", 4)
    sized = flv(metadata(duration=8.0, filesize=float(len(whole))), *FRAMES_OF_FOUR, END)
    assert word(scan_bytes(tmp_path, sized)) == "complete"
    assert word(scan_bytes(tmp_path, sized[: -len(END)])) == "truncated"
    assert word(scan_bytes(tmp_path, flv(metadata(duration=4.0), *FRAMES_OF_FOUR))) == "truncated"
    assert (
        word(scan_bytes(tmp_path, flv(metadata(duration=0.0, filesize=0.0), *FRAMES_OF_FOUR))) == "truncated"
    )
    found = scan_bytes(tmp_path, flv(*FRAMES_OF_FOUR))
    assert word(found) == "complete"
    assert "whether more was to follow is unknown" in found.note


def test_times_are_signed_and_reordered(tmp_path: Path) -> None:
    for start in (-80, 0, (1 << 31) - 60, 0x1000000 - 40):
        tags = [frame(start, KEY, 40), frame(start + 40, LATE, 80), frame(start + 80, LATE, 0)]
        found = scan_bytes(tmp_path, flv(AVC, *tags, END))
        assert found.frames == 3
        if start < 1 << 30:
            assert found.duration == pytest.approx(0.12, abs=0.001)
        assert found.duration is None or found.duration < 366 * 86400


def test_tags_without_a_frame_do_not_count(tmp_path: Path) -> None:
    nothing = [AVC, END, tag(9, b"\x57\0"), tag(9, b""), tag(9, b"\x17"), tag(8, b"\xaf\1a"), tag(18, b"x")]
    for one in nothing:
        found = scan_bytes(tmp_path, flv(AVC, frame(0, KEY), one, frame(40)))
        assert (word(found), found.frames) == ("complete", 2), one
    assert word(scan_bytes(tmp_path, flv(AVC, END))) == "empty"
    found = scan_bytes(tmp_path, flv(AVC, frame(0, KEY), frame(40, bytes(20)), frame(80)))
    assert (word(found), found.frames) == ("damaged", 2)


def test_enhanced_tags(tmp_path: Path) -> None:
    config = b"hvc1" + bytes(21) + b"\3" + bytes(5)
    picture = b"\0\0\0\4\x26\1ab"
    start, coded, plain = b"\x90" + config, b"\xa1hvc1\0\0\x28" + picture, b"\xa3hvc1" + picture
    found = scan_bytes(
        tmp_path, flv(tag(9, start), tag(9, coded, 0), tag(9, plain, 80), tag(9, b"\xa2hvc1", 80))
    )
    assert (word(found), found.frames) == ("complete", 2)
    assert found.duration == pytest.approx(0.08, abs=0.001)
    several = [b"\x96\0hvc1\0" + config[4:], b"\xa6\3hvc1\0" + picture, b"\xa6\3hvc1\1" + picture]
    found = scan_bytes(tmp_path, flv(*(tag(9, one, index * 40) for index, one in enumerate(several))))
    assert found.frames == 1
    changed = b"\xa7\2abc\3hvc1" + picture
    assert scan_bytes(tmp_path, flv(tag(9, start), tag(9, changed))).frames == 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_gives_a_scan(data: st.DataObject, tmp_path: Path) -> None:
    whole = bytearray(flv(metadata(duration=1.0, framerate=25.0), *FRAMES_OF_FOUR, END))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(4, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
        whole += bytes(max(0, 5 - len(whole)))
    found = scan_bytes(tmp_path, bytes(whole))
    assert found.frames is None or found.frames <= 8
