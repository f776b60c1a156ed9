"""AVI: chunks that are there, lengths that say more, and what writers leave that were killed."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.media import FRAMES, decoded, ffmpeg, gstreamer, scan, scan_bytes, word

FFMPEG = {
    "mjpeg.avi": ["-c:v", "mjpeg"],
    "h264.avi": ["-c:v", "libx264", "-g", "5", "-pix_fmt", "yuv420p"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-bf", "2"],
    "raw.avi": ["-c:v", "rawvideo", "-pix_fmt", "bgr24"],
    "audio.avi": ["-f", "lavfi", "-i", "sine=d=0.8", "-c:v", "mjpeg", "-c:a", "pcm_s16le"],
    "skipping.avi": ["-vf", "select='not(mod(n,3))'", "-vsync", "0", "-c:v", "mjpeg"],
}
GSTREAMER = {"gjpeg.avi": "jpegenc ! avimux", "g264.avi": "x264enc ! avimux"}
PICTURE = b"\xff\xd8\xff\xe0\0\4\1\2" + b"U" * 40 + b"\xff\xd9"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("avi")
    made = {name: ffmpeg(directory / name, *options) for name, options in FFMPEG.items()}
    return made | {name: gstreamer(directory / name, chain) for name, chain in GSTREAMER.items()}


def chunk(kind: bytes, data: bytes) -> bytes:
    return kind + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) & 1)


def listed(kind: bytes, form: bytes, *contents: bytes) -> bytes:
    return chunk(kind, form + b"".join(contents))


def stream(fourcc: bytes = b"MJPG", kind: bytes = b"vids", flags: int = 0, *more: bytes) -> bytes:
    words = [1, 25]
    head = kind + fourcc + flags.to_bytes(4, "little") + bytes(8)
    head += b"".join(word.to_bytes(4, "little") for word in words) + bytes(28)
    return listed(
        b"LIST", b"strl", chunk(b"strh", head), chunk(b"strf", bytes(16) + fourcc + bytes(20)), *more
    )


def avi(*media: bytes, streams: tuple[bytes, ...] = (), rest: bytes = b"") -> bytes:
    main = chunk(b"avih", (40_000).to_bytes(4, "little") + bytes(52))
    headers = listed(b"LIST", b"hdrl", main, *(streams or (stream(),)))
    return listed(b"RIFF", b"AVI ", headers, listed(b"LIST", b"movi", *media)) + rest


@pytest.mark.parametrize("name", [*FFMPEG, *GSTREAMER])
def test_files_of_muxers_are_complete_with_the_frames_that_decode(files: dict[str, Path], name: str) -> None:
    found = scan(files[name])
    assert (word(found), found.frames) == ("complete", decoded(files[name])), found
    assert found.frames in (FRAMES, 7)
    assert found.duration == pytest.approx(0.8, abs=0.09)


@pytest.mark.parametrize("name", [*FFMPEG, *GSTREAMER])
def test_cut_is_never_complete_with_extra_frames(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = files[name].read_bytes()
    counts = []
    for cut in [*sorted(random.Random(1).sample(range(12, len(whole)), 400)), len(whole) - 1]:
        found = scan_bytes(tmp_path, whole[:cut])
        assert word(found) == "truncated", cut
        assert found.frames is not None
        counts.append(found.frames)
    assert counts == sorted(counts)
    for cut in (len(whole) // 3, len(whole) * 2 // 3, len(whole) - 1):
        path = tmp_path / "cut.avi"
        path.write_bytes(whole[:cut])
        assert (scan(path).frames or 0) <= decoded(path)


@pytest.mark.parametrize("name", ["mjpeg.avi", "gjpeg.avi"])
def test_bytes_behind_the_end_and_zeroed_stretches(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = files[name].read_bytes()
    for tail in (b"abcde", bytes(3000), b"x"):
        found = scan_bytes(tmp_path, whole + tail)
        assert (word(found), found.frames) == ("complete", FRAMES)
        assert f"{len(tail)} bytes behind its end" in found.note
    length = len(whole) // 5
    for begin in (len(whole) // 3, len(whole) // 2):
        path = tmp_path / "zeroed.avi"
        path.write_bytes(whole[:begin] + bytes(length) + whole[begin + length :])
        found = scan(path)
        assert word(found) == "damaged"
        assert found.frames is not None
        assert 0 < found.frames <= decoded(path)
        path.write_bytes(whole[:begin] + bytes(len(whole) - begin))
        assert word(scan(path)) == "truncated"


def test_unfinalized_file_is_truncated(files: dict[str, Path], tmp_path: Path) -> None:
    """As ffmpeg and GStreamer leave a file when they are killed."""
    whole = bytearray(files["mjpeg.avi"].read_bytes())
    end = whole.index(b"idx1")
    movi = whole.index(b"movi")
    whole[4:8] = whole[movi - 4 : movi] = b"\xff" * 4
    found = scan_bytes(tmp_path, bytes(whole[:end]))
    assert (word(found), found.frames) == ("truncated", FRAMES)
    assert "never finalized" in found.truncated
    whole[44] &= ~0x10  # no index was promised: a stream
    found = scan_bytes(tmp_path, bytes(whole[:end]))
    assert (word(found), found.frames) == ("complete", FRAMES)
    assert "whether more was to follow is unknown" in found.note
    whole = bytearray(files["gjpeg.avi"].read_bytes())
    movi, end = whole.index(b"movi"), whole.index(b"idx1")
    whole[4:8] = (movi - 4).to_bytes(4, "little")
    whole[movi - 4 : movi] = (4).to_bytes(4, "little")
    found = scan_bytes(tmp_path, bytes(whole[:end]))
    assert (word(found), found.frames) == ("truncated", FRAMES)


def test_shapes_that_the_format_allows(tmp_path: Path) -> None:
    frame = chunk(b"00dc", PICTURE)
    junk = chunk(b"JUNK", frame)
    nothing = chunk(b"00dc", b"")
    more = listed(b"RIFF", b"AVIX", listed(b"LIST", b"movi", frame, frame))
    for whole, frames, seconds in (
        (avi(frame, junk, frame, chunk(b"01wb", b"abc"), frame, frame), 4, 0.16),
        (avi(listed(b"LIST", b"rec ", frame, frame), listed(b"LIST", b"rec ", frame, frame)), 4, 0.16),
        (avi(frame, nothing, frame, nothing), 2, 0.16),
        (avi(frame, frame, rest=more), 4, 0.16),
        (avi(chunk(b"01dc", PICTURE), frame, streams=(stream(b"MJPG", b"auds"), stream())), 1, 0.04),
        (avi(chunk(b"00dc", PICTURE), chunk(b"01dc", PICTURE), streams=(stream(), stream())), 1, 0.04),
        (avi(frame, frame, chunk(b"01dc", PICTURE), streams=(stream(flags=1), stream())), 1, 0.04),
        (avi(chunk(b"00db", PICTURE + b"U"), chunk(b"00db", PICTURE)), 2, 0.08),
    ):
        found = scan_bytes(tmp_path, whole)
        assert (word(found), found.frames) == ("complete", frames), found
        assert found.duration == pytest.approx(seconds, abs=0.001)
        for cut in range(12, len(whole)):
            if word(scan_bytes(tmp_path, whole[:cut])) == "complete":
                assert whole[cut:] == more  # without an index of indexes nothing tells of it
    assert word(scan_bytes(tmp_path, avi())) == "empty"
    found = scan_bytes(tmp_path, avi(frame, chunk(b"00dc", bytes(50)), frame))
    assert (word(found), found.frames) == ("damaged", 2)


def test_index_of_indexes_reveals_missing_parts(tmp_path: Path) -> None:
    entry = (1 << 31).to_bytes(8, "little") + (100).to_bytes(4, "little") + bytes(4)
    index = chunk(b"indx", b"\4\0\0\0" + (1).to_bytes(4, "little") + b"00dc" + bytes(12) + entry)
    found = scan_bytes(tmp_path, avi(chunk(b"00dc", PICTURE), streams=(stream(b"MJPG", b"vids", 0, index),)))
    assert (word(found), found.frames) == ("truncated", 1)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_gives_a_scan(data: st.DataObject, tmp_path: Path) -> None:
    whole = bytearray(avi(*[chunk(b"00dc", PICTURE)] * 4))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(12, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
        whole += bytes(max(0, 13 - len(whole)))
    found = scan_bytes(tmp_path, bytes(whole))
    assert found.frames is None or found.frames <= 8


def test_zeros_in_place_of_the_index_are_damage(tmp_path: Path) -> None:
    body = avi(*[chunk(b"00dc", PICTURE)] * 5)[8:]
    entry = b"00dc" + bytes(12)
    for last, verdict in ((entry, "complete"), (bytes(16), "damaged")):
        whole = chunk(b"RIFF", body + chunk(b"idx1", entry * 4 + last))
        found = scan_bytes(tmp_path, whole)
        assert (word(found), found.frames) == (verdict, 5), found
