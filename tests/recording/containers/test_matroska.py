"""Matroska and WebM: what is really there, in files of muxers and in files that no muxer writes."""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ebml import (
    OPEN,
    PICTURE,
    block,
    block_contents,
    cluster,
    clusters,
    element,
    group,
    header,
    info,
    number,
    segment,
    size,
    track,
    tracks,
    unsized,
)
from tests.support.media import FRAMES, decoded, ffmpeg, gstreamer, scan, scan_bytes, word
from tests.support.waiting import eventually

X264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "8"]
X265 = ["-c:v", "libx265", "-x265-params", "log-level=0"]
SINE = ["-f", "lavfi", "-i", "sine=d=2"]
FFMPEG = {
    "h264.mkv": [*X264, "-bf", "2"],
    "h265.mkv": X265,
    "mjpeg.mkv": ["-c:v", "mjpeg"],
    "mpeg4.mkv": ["-c:v", "mpeg4", "-bf", "2"],
    "mpeg2.mkv": ["-c:v", "mpeg2video"],
    "ffv1.mkv": ["-c:v", "ffv1"],
    "vp8.webm": ["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "10"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-cpu-used", "8"],
    "av1.webm": ["-c:v", "libaom-av1", "-cpu-used", "8"],
    "live.mkv": [*X264, "-live", "1"],
    "front.mkv": [*X264, "-reserve_index_space", "2000"],
    "audio.mkv": [*SINE, *X264, "-c:a", "aac"],
    "two.mkv": ["-map", "0", "-map", "0", "-c:v", "mjpeg"],
}
GSTREAMER = {
    "g264.mkv": "x264enc key-int-max=8 ! matroskamux",
    "gjpeg.mkv": "jpegenc ! matroskamux",
    "gvp8.webm": "vp8enc ! webmmux",
    "gstream.mkv": "jpegenc ! matroskamux streamable=true",
}
HEADERS = 64
"""Bytes within which the segment has told its length."""
SEALED = [name for name in (*FFMPEG, *GSTREAMER) if name not in ("live.mkv", "gstream.mkv")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("matroska")
    made = {name: ffmpeg(directory / name, *options) for name, options in FFMPEG.items()}
    return made | {name: gstreamer(directory / name, chain) for name, chain in GSTREAMER.items()}


@pytest.mark.parametrize("name", [*FFMPEG, *GSTREAMER])
def test_files_of_muxers_are_complete_with_the_frames_that_decode(files: dict[str, Path], name: str) -> None:
    found = scan(files[name])
    assert (word(found), found.frames) == ("complete", FRAMES), found
    assert found.frames == decoded(files[name])
    assert found.duration == pytest.approx(FRAMES / 25, abs=0.005)
    assert found.interval == pytest.approx(0.04, abs=0.002)


@pytest.mark.parametrize("name", SEALED)
def test_cut_is_never_complete_with_extra_frames(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = files[name].read_bytes()
    counts = []
    places = (
        range(len(whole)) if len(whole) < 3000 else sorted(random.Random(1).sample(range(len(whole)), 600))
    )
    for cut in [*(place for place in places if place > 3), len(whole) - 1]:
        found = scan_bytes(tmp_path, whole[:cut])
        assert word(found) in (("truncated",) if cut > HEADERS else ("truncated", "empty")), cut
        assert found.frames is not None
        counts.append(found.frames)
    assert counts == sorted(counts)
    for cut in (len(whole) // 3, len(whole) // 2, len(whole) * 4 // 5):
        path = tmp_path / "cut.mkv"
        path.write_bytes(whole[:cut])
        assert (scan(path).frames or 0) <= decoded(path), cut


def test_cut_inside_an_element_of_unknown_length_is_truncated(files: dict[str, Path], tmp_path: Path) -> None:
    """At the end of a cluster nothing tells whether more was to follow, and the note says that."""
    for name in ("live.mkv", "gstream.mkv"):
        whole = files[name].read_bytes()
        assert "live streams" in scan(files[name]).note
        complete = [
            cut
            for cut in range(whole.index(b"\x1f\x43\xb6\x75"), len(whole), 7)
            if word(scan_bytes(tmp_path, whole[:cut])) == "complete"
        ]
        for cut in complete:
            found = scan_bytes(tmp_path, whole[:cut])
            assert "whether more was to follow is unknown" in found.note
            path = tmp_path / "cut.mkv"
            path.write_bytes(whole[:cut])
            assert found.frames == decoded(path)


def test_quarter_of_a_file_lasts_a_quarter(files: dict[str, Path], tmp_path: Path) -> None:
    whole = files["mjpeg.mkv"].read_bytes()
    found = scan_bytes(tmp_path, whole[: len(whole) // 4])
    assert word(found) == "truncated"
    assert found.frames is not None
    assert 3 <= found.frames <= 5
    assert found.duration == pytest.approx(found.frames / 25, abs=0.002)


@pytest.mark.parametrize("name", ["h264.mkv", "mjpeg.mkv", "g264.mkv", "gjpeg.mkv", "vp8.webm"])
def test_bytes_behind_the_end_are_not_a_failure(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = files[name].read_bytes()
    for tail in (b"abcde", bytes(5000), b"\xa3", b"\x1f\x43", random.Random(2).randbytes(999)):
        found = scan_bytes(tmp_path, whole + tail)
        assert (word(found), found.frames) == ("complete", FRAMES)
        assert f"{len(tail)} bytes behind its end" in found.note


@pytest.mark.parametrize("name", ["h264.mkv", "mjpeg.mkv", "gjpeg.mkv"])
def test_zeroed_frames_are_damage_and_do_not_count(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = files[name].read_bytes()
    length = len(whole) // 5
    for begin in range(len(whole) // 5, len(whole) * 7 // 10, len(whole) // 7):
        path = tmp_path / name
        path.write_bytes(whole[:begin] + bytes(length) + whole[begin + length :])
        found = scan(path)
        assert word(found) in ("damaged", "truncated")
        assert found.frames is not None
        assert 0 < found.frames <= decoded(path)
        path.write_bytes(whole[:begin] + bytes(len(whole) - begin))
        found = scan(path)
        assert word(found) == "truncated"
        assert found.frames is not None
        assert found.frames <= decoded(path)


def test_wrong_checksum_is_damage_unless_all_are_wrong(files: dict[str, Path], tmp_path: Path) -> None:
    whole = bytearray(files["mjpeg.mkv"].read_bytes())
    whole[len(whole) // 2] ^= 1
    assert "checksums" in scan_bytes(tmp_path, bytes(whole)).damaged
    garbage = element("BF", b"\1\2\3\4")
    parts = [element("1F43B675", garbage, number("E7", 0), block(), block(relative=40))]
    assert word(scan_bytes(tmp_path, segment(info(), tracks(), *parts))) == "complete"


def test_joined_files_are_named(files: dict[str, Path], tmp_path: Path) -> None:
    whole = files["h264.mkv"].read_bytes()
    path = tmp_path / "joined.mkv"
    path.write_bytes(whole + whole)
    found = scan(path)
    assert (word(found), found.frames) == ("complete", decoded(path))
    assert f"another Matroska file at byte {len(whole)}" in found.note
    assert found.duration == pytest.approx(0.8, abs=0.01)
    assert word(scan_bytes(tmp_path, whole + whole[:-100])) == "truncated"


def is_larger_than(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size > size


async def test_recorder_that_was_killed_leaves_a_truncated_file(tmp_path: Path) -> None:
    for name, words in {
        "gst": "gst-launch-1.0 -q videotestsrc is-live=true ! video/x-raw,width=64,height=48 ! jpegenc"
        " ! matroskamux ! filesink buffer-mode=unbuffered location=",
        "ffmpeg": "ffmpeg -v error -re -f lavfi -i testsrc=s=64x48:r=25:d=60 -c:v mjpeg -flush_packets 1"
        " -cluster_time_limit 200 ",
    }.items():
        path = tmp_path / f"{name}.mkv"
        arguments = f"{words}{path}".split()
        process = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.DEVNULL)
        await eventually(partial(is_larger_than, path, 40_000))
        process.kill()
        await process.wait()
        found = await asyncio.to_thread(scan, path)
        assert word(found) == "truncated", name
        assert found.frames
        assert found.frames <= decoded(path)


def test_headers_without_a_frame_are_empty(tmp_path: Path) -> None:
    path = gstreamer(tmp_path / "a.mkv", "jpegenc ! identity drop-probability=1 ! matroskamux")
    assert (word(scan(path)), scan(path).frames) == ("empty", 0)
    # GStreamer 1.26 writes a block without a payload.
    for nothing in (block(b""), group(data=b""), block(b"\1", flags=0x84)):
        found = scan_bytes(tmp_path, segment(info(), tracks(), cluster(0, nothing)))
        assert (word(found), found.frames) == ("empty", 0)
    unfinished = header() + unsized("18538067", info(duration=0.0), tracks())
    for cut in range(len(unfinished)):
        assert word(scan_bytes(tmp_path, unfinished[: cut + 1])) in ("empty", "unknown")
    assert word(scan_bytes(tmp_path, unfinished + cluster(0, block())[:-1])) == "truncated"


JPEGS = clusters()
FIVE = [block(relative=index * 40) for index in range(5)]
UNSIZED = [unsized("1F43B675", number("E7", first * 200), *FIVE) for first in range(4)]
# Frames of 50, 50, 55, 52 and 50 bytes: the first size, three differences, and the rest.
EBML_LACED = b"\4" + size(50) + b"\xbf\xc4\xbc" + PICTURE * 3 + b"U" * 5 + PICTURE + b"UU" + PICTURE
HEAD = (info(), tracks())


def of_five(contents: Callable[[int], bytes], start: int = 0, step: int = 200) -> list[bytes]:
    """Four clusters, a fifth of a second apart, of five blocks each."""
    return [cluster(start + first * step, *(contents(index) for index in range(5))) for first in range(4)]


SHAPES = {
    "plain": segment(*HEAD, *JPEGS),
    "type first": segment(info(), tracks(track(type_first=True)), *JPEGS),
    "tracks last": segment(info(), *JPEGS, tracks()),
    "tracks between": segment(info(), *JPEGS[:2], tracks(), *JPEGS[2:]),
    "info last": segment(tracks(), *JPEGS, info()),
    "all last": segment(*JPEGS, element("1254C367", element("7373", b"")), tracks(), info()),
    "wrong duration": segment(info(duration=1e15), tracks(), *JPEGS),
    "no duration": segment(info(duration=0.0), tracks(), *JPEGS),
    "large number": segment(
        info(), tracks(track(300)), *of_five(lambda index: block(relative=index * 40, index=300))
    ),
    "void": segment(element("EC", JPEGS[0]), *HEAD, element("EC", b""), *JPEGS, element("EC", b"\xa3" * 99)),
    "unknown clusters": segment(*HEAD, *UNSIZED),
    "unknown all": header() + unsized("18538067", *HEAD, *UNSIZED),
    "timestamp last": segment(
        *HEAD, *(element("1F43B675", *FIVE, number("E7", first * 200)) for first in range(4))
    ),
    "clusters backwards": segment(*HEAD, *reversed(JPEGS)),
    "other scale": segment(
        info(scale=100_000), tracks(), *of_five(lambda index: block(relative=index * 400), step=2000)
    ),
    "negative relative": segment(*HEAD, *of_five(lambda index: block(relative=index * 40 - 1000), 1000)),
    "groups": segment(*HEAD, *of_five(lambda index: group(number("9B", 40), relative=index * 40))),
    "duration in front": segment(
        *HEAD,
        *of_five(
            lambda index: element(
                "A0", number("9B", 40), element("A1", block_contents(relative=index * 40, flags=0))
            )
        ),
    ),
    "fixed lacing": segment(
        *HEAD, *(cluster(first * 200, block(b"\4" + PICTURE * 5, flags=0x84)) for first in range(4))
    ),
    "xiph lacing": segment(
        info(),
        tracks(track(1, 1, number("23E383", 40_000_000))),
        *(
            cluster(first * 200, block(b"\4" + bytes([len(PICTURE)] * 4) + PICTURE * 5, flags=0x82))
            for first in range(4)
        ),
    ),
    "ebml lacing": segment(
        *HEAD, *(cluster(first * 200, block(EBML_LACED, flags=0x86)) for first in range(4))
    ),
    "other tracks": segment(
        info(),
        tracks(track(2, 2, codec=b"A_OPUS"), track(), track(3)),
        cluster(9, block(index=2), block(index=3), block(b"x", index=9)),
        *JPEGS,
    ),
    "disabled first": segment(
        info(), tracks(track(4, 1, number("B9", 0)), track()), cluster(0, block(index=4)), *JPEGS
    ),
    "default second": segment(
        info(), tracks(track(4, 1, number("88", 0)), track()), cluster(0, block(index=4)), *JPEGS
    ),
    "attachments": segment(
        element("1941A469", element("61A7", segment(*HEAD, *JPEGS))), info(), tracks(), *JPEGS
    ),
    "segment too short": header()
    + bytes.fromhex("18538067 42bc")
    + info()
    + tracks()
    + cluster(0, *(block(relative=index * 40) for index in range(20))),
    "first without a frame": segment(info(), tracks(track(4), track()), *JPEGS),
    "segment size 0": header() + bytes.fromhex("18538067 80") + info() + tracks() + b"".join(JPEGS),
    "stripped headers": segment(
        info(),
        tracks(track(1, 1, element("6D80", element("6240", b"")))),
        *of_five(lambda index: block(PICTURE[3:], index * 40)),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_that_the_format_allows_are_complete(shape: str, tmp_path: Path) -> None:
    found = scan_bytes(tmp_path, SHAPES[shape])
    assert (word(found), found.frames) == ("complete", 20), found
    assert found.duration == pytest.approx(0.8, abs=0.001)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_that_are_cut_are_never_complete(shape: str, tmp_path: Path) -> None:
    whole = SHAPES[shape]
    for cut in range(0, len(whole), 3):
        found = scan_bytes(tmp_path, whole[:cut])
        if word(found) == "complete":
            assert shape in ("unknown all", "segment size 0", "segment too short")
            assert "whether more was to follow is unknown" in found.note
        assert found.frames is None or found.frames <= 20


def test_index_beyond_the_end_is_truncated(tmp_path: Path) -> None:
    seek = element(
        "114D9B74", element("4DBB", element("53AB", bytes.fromhex("1C53BB6B")), number("53AC", 99_999))
    )
    cues = element(
        "1C53BB6B", element("BB", number("B3", 0), element("B7", number("F7", 1), number("F1", 99_999)))
    )
    for index in (seek, cues):
        for whole in (
            header() + unsized("18538067", index, info(), tracks(), *JPEGS),
            segment(index, info(), tracks(), *JPEGS),
        ):
            found = scan_bytes(tmp_path, whole)
            assert (word(found), found.frames) == ("truncated", 20)
    announced = header() + unsized("18538067", info(duration=4000.0), tracks(), *JPEGS)
    assert word(scan_bytes(tmp_path, announced)) == "truncated"


def test_implausible_time_stamps_are_left_out_of_the_length(tmp_path: Path) -> None:
    # 98 ms below zero, as an unsigned number of nanoseconds, in milliseconds.
    below = ((1 << 64) - 98_000_000) // 1_000_000
    frames = [block(relative=index * 40) for index in range(100)]
    found = scan_bytes(tmp_path, segment(info(), tracks(), cluster(0, block()), cluster(below, *frames)))
    assert found.frames == 101
    assert found.duration is not None
    assert 3.8 < found.duration < 4.1
    assert "time stamps" in found.damaged
    for time in ((1 << 64) - 1, 1 << 63):
        found = scan_bytes(
            tmp_path, segment(info(scale=(1 << 64) - 1), tracks(), cluster(time, block(), block()))
        )
        assert found.frames == 2
        assert found.duration is None or found.duration < 1000


def test_invalid_frames_do_not_count(tmp_path: Path) -> None:
    blocks = [block(relative=index * 40) for index in range(4)]
    for spoiled in (bytes(50), b"U" * 50, b"\xff" + PICTURE[1:].replace(b"\xd8", b"\0", 1)):
        found = scan_bytes(tmp_path, segment(info(), tracks(), cluster(0, *blocks, block(spoiled, 160))))
        assert (word(found), found.frames) == ("damaged", 4), spoiled
    private = element("63A2", bytes.fromhex("0164000bffe1000067"))
    avc = tracks(track(1, 1, private, codec=b"V_MPEG4/ISO/AVC"))
    good = b"\0\0\0\3\x65ab"
    config = b"\0\0\0\3\x67ab"
    bad = [bytes(20), b"\0\0\0\x99\x65ab", b"\0\0\0\3\xe5ab", good + b"\0\0\1", b"\0\0\0\0" + good]
    for one in bad:
        found = scan_bytes(tmp_path, segment(info(), avc, cluster(0, block(good), block(one, 40))))
        assert (word(found), found.frames) == ("damaged", 1), one
    found = scan_bytes(tmp_path, segment(info(), avc, cluster(0, block(config), block(config + good, 40))))
    assert (word(found), found.frames) == ("complete", 1)
    # Nothing before a picture that stands for itself is shown; a file full of such frames is not empty.
    late = b"\0\0\0\3\x41ab"
    found = scan_bytes(
        tmp_path, segment(info(), avc, cluster(0, block(late), block(good, 40), block(late, 80)))
    )
    assert found.frames == 2
    assert word(scan_bytes(tmp_path, segment(info(), avc, cluster(0, block(late))))) == "damaged"


def test_invalid_lacing_counts_no_frame(tmp_path: Path) -> None:
    for lacing in (0x82, 0x84, 0x86):
        for data in (
            b"\xff" + b"\xff" * 300,
            b"\xff\x01",
            b"\x02\x08\xff\xff",
            b"\x01" + b"\x01" + b"\xff" * 7,
        ):
            found = scan_bytes(tmp_path, segment(info(), tracks(), cluster(0, block(data, flags=lacing))))
            assert found.frames == 0
            assert word(found) in ("damaged", "empty")


def test_file_without_a_list_of_tracks_is_not_empty(tmp_path: Path) -> None:
    found = scan_bytes(tmp_path, segment(info(), *JPEGS))
    assert (word(found), found.frames) == ("damaged", None)
    assert word(scan_bytes(tmp_path, segment(info(), *JPEGS, tracks())[:-20])) == "truncated"
    assert not scan_bytes(tmp_path, header(b"other") + OPEN).understood


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_gives_a_scan(data: st.DataObject, tmp_path: Path) -> None:
    whole = bytearray(SHAPES[data.draw(st.sampled_from(sorted(SHAPES)))])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        change = data.draw(st.binary(max_size=12))
        whole[at : at + data.draw(st.integers(0, 12))] = change
        whole = whole or bytearray(b"\0")
    found = scan_bytes(tmp_path, bytes(whole))
    assert found.frames is None or found.frames <= 4 * 256
    assert found.duration is None or 0 <= found.duration < 366 * 86400 * 16


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_garbage_behind_a_header_is_never_complete(tmp_path: Path, garbage: bytes) -> None:
    found = scan_bytes(tmp_path, header() + garbage)
    assert word(found) != "complete"


@pytest.mark.parametrize(
    "kind", ["A3", "A0", "1F43B675", "EC", "1654AE6B", "114D9B74", "1C53BB6B", "1549A966", "42F3"]
)
def test_sizes_of_a_hostile_file_are_only_numbers(kind: str, tmp_path: Path) -> None:
    huge = bytes.fromhex(kind) + b"\x01" + b"\xff" * 6 + b"\xfe"
    for whole in (segment(info(), tracks(), *JPEGS, huge), segment(huge, *JPEGS), header() + huge * 500):
        assert word(scan_bytes(tmp_path, whole)) != "complete"
    nested = header() + (bytes.fromhex("18538067") + OPEN + bytes.fromhex("1F43B675") + OPEN) * 20_000
    assert word(scan_bytes(tmp_path, nested)) != "complete"


@pytest.mark.parametrize("codec", [b"V_VP8", b"V_VP9", b"V_AV1", b"V_MPEG4/ISO/AVC", b"V_MJPEG"])
def test_zeros_in_the_middle_of_a_large_frame_are_damage(codec: bytes, tmp_path: Path) -> None:
    noise = bytes(random.Random(3).choices(range(1, 255), k=50_000))
    begin = {
        b"V_VP8": b"\x10\0\0\x9d\x01\x2a",
        b"V_VP9": b"\x82",
        b"V_AV1": b"\x12\0",
        b"V_MPEG4/ISO/AVC": b"\0\0\1\x67\0\0\1\x65",
        b"V_MJPEG": PICTURE[:-2],
    }[codec]
    end = b"\xff\xd9" if codec == b"V_MJPEG" else b"\1"
    whole, spoiled = (begin + noise + middle + noise + end for middle in (b"", bytes(4096)))
    head = (info(), tracks(track(codec=codec)))
    found = scan_bytes(tmp_path, segment(*head, cluster(0, block(whole), block(whole, 40))))
    assert (word(found), found.frames) == ("complete", 2), found
    found = scan_bytes(tmp_path, segment(*head, cluster(0, block(whole), block(spoiled, 40))))
    assert word(found) == "damaged", found
