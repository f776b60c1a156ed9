"""Verdicts on MP4 and QuickTime files: whole, odd, cut, spoiled and hostile ones, held against ffprobe."""

import asyncio
import re
import struct
import subprocess
import threading
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynccam.recording.containers.mp4 import count, media
from asynccam.recording.containers.reader import FileView, Scan
from asynccam.recording.containers.scan import scan_file
from asynccam.recording.verify import FileVerdict, Verdict, verify_file
from tests.support.gst import LAUNCH
from tests.support.mp4 import STBL, box, boxes, cut_out, find, full_box, replace, shifted, words
from tests.support.probe import probe

FRAMES = 50
SECONDS = 2.0
TICKS = 512
SCALE = 12_800
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "25"]
B_FRAMES = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "25"]
MJPEG = ["-c:v", "mjpeg", "-huffman", "default"]
SOUND = ["-map", "1:a", "-c:a", "aac"]
FRAGMENTS = "+frag_keyframe+empty_moov"
FFMPEG = {
    "plain.mp4": X264,
    "fast.mp4": [*X264, "-movflags", "+faststart"],
    "b.mp4": B_FRAMES,
    "b_negative.mp4": [*B_FRAMES, "-movflags", "+negative_cts_offsets"],
    "sound.mp4": [*B_FRAMES, *SOUND],
    "sound_fast.mp4": [*B_FRAMES, *SOUND, "-movflags", "+faststart"],
    "frag.mp4": [*X264, "-movflags", FRAGMENTS],
    "frag_b.mp4": [*B_FRAMES, "-movflags", FRAGMENTS],
    "frag_sound.mp4": [*B_FRAMES, *SOUND, "-movflags", FRAGMENTS],
    "frag_moov.mp4": [*B_FRAMES, "-movflags", "+frag_keyframe"],
    "frag_delay.mp4": [*B_FRAMES, "-movflags", FRAGMENTS + "+delay_moov"],
    "frag_separate.mp4": [*B_FRAMES, *SOUND, "-movflags", FRAGMENTS + "+separate_moof"],
    "frag_base.mp4": [*X264, *SOUND, "-movflags", FRAGMENTS + "+default_base_moof"],
    "frag_omit.mp4": [*X264, *SOUND, "-movflags", FRAGMENTS + "+omit_tfhd_offset"],
    "dash.mp4": [*B_FRAMES, "-movflags", "+dash+frag_keyframe"],
    "sidx.mp4": [*X264, "-movflags", "+dash+global_sidx+frag_keyframe"],
    "hevc.mp4": ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=25"],
    "vp9.mp4": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
    "av1.mp4": ["-c:v", "libsvtav1", "-preset", "12"],
    "mpeg4.mp4": ["-c:v", "mpeg4", "-bf", "2"],
    "mjpeg.mp4": MJPEG,
    "mjpeg.mov": MJPEG,
    "prores.mov": ["-c:v", "prores"],
    "raw.mov": ["-c:v", "rawvideo", "-pix_fmt", "rgb24"],
    "timecode.mov": [*X264, "-timecode", "00:00:00:00"],
}
H264 = ["x264enc", "tune=zerolatency", "key-int-max=4", "!", "h264parse", "!"]
GSTREAMER = {
    "gst.mp4": [*H264, "mp4mux"],
    "gst_fast.mp4": [*H264, "mp4mux", "faststart=true"],
    "gst_frag.mp4": [*H264, "mp4mux", "fragment-duration=200"],
    "gst_final.mp4": [*H264, "mp4mux", "fragment-duration=200", "fragment-mode=first-moov-then-finalise"],
    "gst_jpeg.mov": ["jpegenc", "!", "jpegparse", "!", "qtmux"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two seconds of 25 frames from ffmpeg, twelve frames of a tenth of a second from GStreamer."""
    directory = tmp_path_factory.mktemp("mp4")
    picture = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-f", "lavfi", "-i", "sine"]
    outputs: list[str] = []
    for name, options in FFMPEG.items():
        outputs += ["-map", "0:v", *options, "-t", str(SECONDS), str(directory / name)]
    audio = ["-map", "1:a", "-t", str(SECONDS), str(directory / "audio.m4a")]
    subprocess.run(["ffmpeg", "-v", "error", *picture, *outputs, *audio], check=True)
    chains: list[str] = []
    for name, chain in GSTREAMER.items():
        source = ["videotestsrc", "num-buffers=12", "!", "video/x-raw,width=64,height=48,framerate=10/1", "!"]
        chains += [*source, *chain, "!", "filesink", f"location={directory / name}"]
    subprocess.run([LAUNCH, "-q", *chains], check=True)
    return {name: directory / name for name in (*FFMPEG, *GSTREAMER, "audio.m4a")}


Judge = Callable[[bytes], FileVerdict]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """A function that gives the verdict on a file of some bytes."""

    def verdict(data: bytes) -> FileVerdict:
        path = tmp_path / "file.mp4"
        path.write_bytes(data)
        return asyncio.run(verify_file(path, timeout=30))

    return verdict


def scan(path: Path) -> Scan:
    with FileView(path, threading.Event()) as view:
        return scan_file(view)


def test_whole_files_match_ffprobe(files: dict[str, Path]) -> None:
    for name in (*FFMPEG, *GSTREAMER):
        result = scan(files[name])
        frames, seconds = probe(files[name])
        assert (result.frames, result.truncated, result.damaged, result.note) == (frames, "", "", ""), name
        assert result.duration == pytest.approx(seconds, abs=0.02), name
        assert result.interval == pytest.approx(0.1 if name in GSTREAMER else 0.04, abs=0.002), name


# What muxers do not write by themselves: `plain.mp4` has its index behind the media, so that it can change.


def compact_sizes(data: bytes) -> bytes:
    stsz = cut_out(data, STBL + "stsz")
    sizes = struct.unpack_from(f">{FRAMES}I", stsz, 20)
    return replace(
        data,
        STBL + "stsz",
        full_box(b"stz2", words(16, FRAMES), b"".join(struct.pack(">H", size) for size in sizes)),
    )


def wide_offsets(data: bytes) -> bytes:
    (offset,) = struct.unpack_from(">I", cut_out(data, STBL + "stco"), 16)
    return replace(data, STBL + "stco", full_box(b"co64", words(1), struct.pack(">Q", offset)))


def wide_media(data: bytes) -> bytes:
    """The eight bytes of a `free` box in front make room for a size of 64 bits."""
    free, mdat = find(data, "free")[-1], find(data, "mdat")[-1]
    size = mdat[1] - free[0]
    return data[: free[0]] + struct.pack(">I4sQ", 1, b"mdat", size) + data[mdat[0] + 8 :]


def sample_times(*rows: int) -> Callable[[bytes], bytes]:
    table = full_box(b"stts", words(len(rows) // 2, *rows))
    return lambda data: replace(data, STBL + "stts", table)


def edits(*rows: tuple[int, int]) -> Callable[[bytes], bytes]:
    """Edits of milliseconds, shown from a tick of the media on."""
    table = full_box(b"elst", words(len(rows)), *(words(length, at, 1 << 16) for length, at in rows))
    return lambda data: replace(data, "moov/trak/edts/elst", table)


def in_front(*added: bytes) -> Callable[[bytes], bytes]:
    front = b"".join(added)
    return lambda data: shifted(front + data, len(front))


def behind(added: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data + added


def two_tracks(data: bytes) -> bytes:
    trak = cut_out(data, "moov/trak")
    return replace(data, "moov/trak", trak + trak)


def first_disabled(data: bytes) -> bytes:
    """Two tracks, of which the first is disabled and has half a second less."""
    trak = cut_out(data, "moov/trak")
    tkhd = cut_out(data, "moov/trak/tkhd")
    data = replace(data, "moov/trak/tkhd", tkhd[:11] + b"\0" + tkhd[12:])
    data = replace(data, STBL + "stts", full_box(b"stts", words(1, FRAMES, 2 * TICKS)))
    return replace(data, "moov/trak", cut_out(data, "moov/trak") + trak)


def none_enabled(data: bytes) -> bytes:
    tkhd = cut_out(data, "moov/trak/tkhd")
    return replace(data, "moov/trak/tkhd", tkhd[:11] + b"\0" + tkhd[12:])


def ended_list(data: bytes) -> bytes:
    """32 zero bits at the end of the index and of the track (QuickTime's terminator)."""
    data = replace(data, "moov/trak", box(b"trak", cut_out(data, "moov/trak")[8:], bytes(4)))
    return replace(data, "moov", box(b"moov", cut_out(data, "moov")[8:], bytes(4)))


def without_sample(data: bytes) -> bytes:
    """A sample of no bytes after the tenth: the picture before it goes on."""
    stsz = cut_out(data, STBL + "stsz")
    sizes = [*struct.unpack_from(f">{FRAMES}I", stsz, 20)]
    data = replace(data, STBL + "stsz", full_box(b"stsz", words(0, FRAMES, *sizes[:10], 0, *sizes[10:-1])))
    return replace(data, STBL + "stsc", full_box(b"stsc", words(1, 1, FRAMES, 1)))


def encrypted(data: bytes) -> bytes:
    begin, end = find(data, "mdat")[-1]
    noise = b"\xa5\x3c" * (end - begin)
    data = data[: begin + 8] + noise[: end - begin - 8] + data[end:]
    return data.replace(b"avc1\0\0\0\0\0\0\0\1", b"encv\0\0\0\0\0\0\0\1")


WHOLE: dict[str, tuple[Callable[[bytes], bytes], int, float, str]] = {
    "stz2": (compact_sizes, FRAMES, SECONDS, ""),
    "co64": (wide_offsets, FRAMES, SECONDS, ""),
    "mdat_64_bit": (wide_media, FRAMES, SECONDS, ""),
    "stts_negative": (sample_times(25, TICKS, 1, -TICKS, 24, TICKS), FRAMES, SECONDS - 0.08, ""),
    "stts_zero_last": (sample_times(49, TICKS, 1, 0), FRAMES, SECONDS - 0.04, ""),
    "stts_zero_inside": (sample_times(20, TICKS, 2, 0, 28, TICKS), FRAMES, SECONDS - 0.08, ""),
    "stts_zero": (sample_times(50, 0), FRAMES, SECONDS, ""),
    "stts_short": (sample_times(10, TICKS), FRAMES, SECONDS, ""),
    "stts_huge_last": (sample_times(49, TICKS, 1, 0x7FFFFFFF), FRAMES, SECONDS, ""),
    "edit_trim": (edits((1000, SCALE // 2)), 25, 1.0, ""),
    "edit_start": (edits((2000, SCALE)), 25, 1.0, ""),
    "edit_empty_first": (edits((1000, -1), (2000, 0)), FRAMES, SECONDS, ""),
    "edit_pause": (edits((400, 0), (1000, -1), (400, SCALE)), 20, 1.8, ""),
    "edit_twice": (edits((1000, 0), (1000, 0)), 50, 2.0, ""),
    "edit_overlap": (edits((1000, 0), (1000, SCALE // 2)), 50, 2.0, ""),
    "edit_no_length": (edits((0, 0)), FRAMES, SECONDS, ""),
    "edit_none": (edits(), FRAMES, SECONDS, ""),
    "edit_too_many": (edits(*[(1, 0)] * 2000), FRAMES, SECONDS, "edit list too long"),
    "skip_first": (in_front(box(b"skip", b"camera")), FRAMES, SECONDS, ""),
    "uuid_first": (in_front(box(b"uuid", bytes(40))), FRAMES, SECONDS, ""),
    "wide_first": (in_front(box(b"wide")), FRAMES, SECONDS, ""),
    "pnot_first": (in_front(box(b"pnot", bytes(12)), box(b"PICT", bytes(90))), FRAMES, SECONDS, ""),
    "junk_first": (in_front(box(b"junk", b"?" * 9)), FRAMES, SECONDS, ""),
    "any_first": (in_front(box(b"abcd", b"?" * 9)), FRAMES, SECONDS, ""),
    "terminators": (ended_list, FRAMES, SECONDS, ""),
    "behind_5": (behind(b"\1\2\3\4\5"), FRAMES, SECONDS, "5 bytes behind its last box"),
    "behind_1": (behind(b"\n"), FRAMES, SECONDS, "1 bytes behind its last box"),
    "behind_text": (behind(b"GPS 52.1 N 4.3 E " * 9), FRAMES, SECONDS, "153 bytes behind"),
    "behind_zeros_4": (behind(bytes(4)), FRAMES, SECONDS, "4 bytes behind"),
    "behind_zeros": (behind(bytes(4096)), FRAMES, SECONDS, "4096 bytes behind"),
    "joined": (lambda data: data + data, FRAMES, SECONDS, "second file joined on at byte"),
    "joined_bare": (lambda data: data + data[32:], FRAMES, SECONDS, "second file joined on at byte"),
    "two_tracks": (two_tracks, FRAMES, SECONDS, ""),
    "first_disabled": (first_disabled, FRAMES, SECONDS, ""),
    "none_enabled": (none_enabled, FRAMES, SECONDS, ""),
    "no_bytes": (without_sample, FRAMES - 1, SECONDS, ""),
    "encrypted": (encrypted, FRAMES, SECONDS, ""),
}


@pytest.mark.parametrize("name", WHOLE)
def test_rare_structures_are_complete(files: dict[str, Path], judge: Judge, name: str) -> None:
    change, frames, seconds, detail = WHOLE[name]
    verdict = judge(change(files["plain.mp4"].read_bytes()))
    assert (verdict.verdict, verdict.frames) == (Verdict.COMPLETE, frames), verdict
    assert verdict.duration == pytest.approx(seconds, abs=0.001)
    assert verdict.detail == "" if not detail else detail in verdict.detail


REFERENCE = sorted(
    {*WHOLE}
    # ffprobe shows frames in a pause and none in an edit without a length, gives an edit its whole length
    # where media is missing, takes a disabled track, gives samples without a time none, and has no key.
    - {"edit_pause", "edit_no_length", "edit_too_many", "edit_start", "first_disabled"}
    - {"encrypted", "stts_negative", "stts_short"}
)


@pytest.mark.parametrize("name", REFERENCE)
def test_ffprobe_agrees(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    change, frames, seconds, _ = WHOLE[name]
    path = tmp_path / "odd.mp4"
    path.write_bytes(change(files["plain.mp4"].read_bytes()))
    decoded, length = probe(path)
    assert decoded == frames
    assert length == pytest.approx(seconds, abs=0.05)


def test_last_picture_of_qtmux_is_outside_the_edit_list(files: dict[str, Path]) -> None:
    result = scan(files["gst_jpeg.mov"])
    assert result.frames == 11
    assert result.duration == pytest.approx(1.1)


def test_sizes_of_four_bits(files: dict[str, Path], judge: Judge) -> None:
    """Samples of 9, 10 and 11 bytes, one unit of an H.264 picture each."""
    sizes = [9, 10, 11]
    samples = [words(size - 4) + b"\x65" + bytes(range(1, size - 4)) for size in sizes]
    data = files["plain.mp4"].read_bytes()
    begin, end = find(data, "mdat")[-1]
    data = data[: begin + 8] + b"".join(samples).ljust(end - begin - 8, b"\1") + data[end:]
    data = replace(data, STBL + "stsz", full_box(b"stz2", words(4, 3), bytes([0x9A, 0xB0])))
    verdict = judge(data)
    assert (verdict.verdict, verdict.frames) == (Verdict.COMPLETE, 3)
    assert verdict.duration == pytest.approx(0.12)


def test_open_media_box_reaches_to_the_end(files: dict[str, Path], judge: Judge) -> None:
    data = bytearray(files["fast.mp4"].read_bytes())
    begin, _ = find(bytes(data), "mdat")[-1]
    struct.pack_into(">I", data, begin, 0)
    verdict = judge(bytes(data))
    assert (verdict.verdict, verdict.frames, verdict.duration) == (Verdict.COMPLETE, FRAMES, SECONDS)
    first = begin + 8
    half = judge(bytes(data[: first + sum(sizes_of(bytes(data))[:20]) + 5]))
    assert (half.verdict, half.frames) == (Verdict.TRUNCATED, 20)
    assert half.duration == pytest.approx(0.8)
    assert "lacks 30 of 50 frames" in half.detail


def sizes_of(data: bytes, path: str = STBL) -> list[int]:
    return [*struct.unpack_from(f">{FRAMES}I", cut_out(data, path + "stsz"), 20)]


def test_sound_that_is_missing_behind_the_last_picture(files: dict[str, Path], judge: Judge) -> None:
    data = bytearray(files["sound_fast.mp4"].read_bytes())
    begin, _ = find(bytes(data), "mdat")[-1]
    struct.pack_into(">I", data, begin, 0)
    verdict = judge(bytes(data[:-1]))
    assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, FRAMES)
    assert "another track" in verdict.detail


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 0.9])
def test_only_frames_whose_media_is_there_count(files: dict[str, Path], judge: Judge, part: float) -> None:
    data = files["fast.mp4"].read_bytes()
    begin = find(data, "mdat")[-1][0] + 8
    sizes = sizes_of(data)
    there = int(FRAMES * part)
    verdict = judge(data[: begin + sum(sizes[:there]) + sizes[there] // 2])
    assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, there)
    assert verdict.duration == (pytest.approx(there * 0.04) if there else None)


def test_index_without_its_media_is_truncated(files: dict[str, Path], judge: Judge) -> None:
    data = files["fast.mp4"].read_bytes()
    verdict = judge(data[: find(data, "mdat")[-1][0]])
    assert (verdict.verdict, verdict.frames, verdict.duration) == (Verdict.TRUNCATED, 0, None)
    assert f"lacks {FRAMES} of {FRAMES} frames" in verdict.detail


def zeroed(data: bytes, first: int, last: int) -> bytes:
    """Zeros where the media of some frames is, from the first to before the last."""
    (begin,) = struct.unpack_from(">I", cut_out(data, STBL + "stco"), 16)
    ends = [begin, *accumulate(sizes_of(data), initial=begin)][1:]
    return data[: ends[first]] + bytes(ends[last] - ends[first]) + data[ends[last] :]


@pytest.mark.parametrize("name", ["plain.mp4", "mjpeg.mp4", "mjpeg.mov", "hevc.mp4", "vp9.mp4", "mpeg4.mp4"])
def test_zeros_inside_are_damage_and_at_the_end_a_cut(
    files: dict[str, Path], judge: Judge, name: str
) -> None:
    data = files[name].read_bytes()
    verdict = judge(zeroed(data, 30, 33))
    assert (verdict.verdict, verdict.frames) == (Verdict.DAMAGED, FRAMES - 3), verdict
    assert "zeros in 3 of 50 frames" in verdict.detail
    verdict = judge(zeroed(data, 20, FRAMES))
    assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, 20), verdict
    assert re.search("is zeros from byte [0-9]+ on", verdict.detail)


def test_no_frame_is_shown_before_a_key_frame(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "head.mp4"
    path.write_bytes(zeroed(files["plain.mp4"].read_bytes(), 0, 2))
    result = scan(path)
    assert (result.frames, probe(path)[0]) == (25, 25)
    assert "23 frames whose key frame is missing" in result.damaged


def test_zeros_inside_a_frame_are_found(files: dict[str, Path], judge: Judge) -> None:
    data = files["plain.mp4"].read_bytes()
    begin = struct.unpack_from(">I", cut_out(data, STBL + "stco"), 16)[0]
    size = sizes_of(data)[0]
    for place, length in ((size // 2, 64), (size - 200, 200), (0, 4), (4, 80)):
        spoiled = data[: begin + place] + bytes(length) + data[begin + place + length :]
        verdict = judge(spoiled)
        assert verdict.verdict is Verdict.DAMAGED, (place, length)


def test_zeros_inside_a_jpeg_are_found(files: dict[str, Path], judge: Judge) -> None:
    data = files["mjpeg.mov"].read_bytes()
    begin = struct.unpack_from(">I", cut_out(data, STBL + "stco"), 16)[0]
    size = sizes_of(data)[0]
    for place in (200, size // 2, size - 300):
        verdict = judge(data[: begin + place] + bytes(200) + data[begin + place + 200 :])
        assert (verdict.verdict, verdict.frames) == (Verdict.DAMAGED, FRAMES - 1), place


def test_black_jpeg_with_tables_of_its_own_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "black.mov"
    source = ["-f", "lavfi", "-i", "color=black:size=640x480:rate=25", "-frames:v", "3"]
    subprocess.run(["ffmpeg", "-v", "error", *source, "-c:v", "mjpeg", str(path)], check=True)
    assert bytes(64) in path.read_bytes()[path.read_bytes().index(b"\xff\xda") :][:2000]
    result = scan(path)
    assert (result.frames, result.damaged) == (3, "")


def test_zeros_at_the_ends_of_frames_in_large_files_are_found(
    files: dict[str, Path], judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "_CHECKED_WHOLE", 0)
    data = files["plain.mp4"].read_bytes()
    assert judge(data).verdict is Verdict.COMPLETE
    begin = struct.unpack_from(">I", cut_out(data, STBL + "stco"), 16)[0]
    size = sizes_of(data)[0]
    for place, length in ((0, 40), (size - 64, 64)):
        spoiled = data[: begin + place] + bytes(length) + data[begin + place + length :]
        assert judge(spoiled).verdict is Verdict.DAMAGED, place


def test_only_a_sample_is_checked_after_many_frames(
    files: dict[str, Path], judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count, "_ALL_CHECKED", 10)
    data = files["plain.mp4"].read_bytes()
    assert judge(data).verdict is Verdict.COMPLETE
    assert judge(zeroed(data, 20, FRAMES)).verdict is Verdict.TRUNCATED
    monkeypatch.setattr(count, "_MAX_SAMPLES", 10)
    verdict = judge(data)
    assert (verdict.verdict, verdict.frames) == (Verdict.UNKNOWN, None)
    assert "more frames than are read" in verdict.detail


def test_bytes_that_are_not_of_the_format(files: dict[str, Path], judge: Judge) -> None:
    for name in ("plain.mp4", "hevc.mp4", "mjpeg.mov", "vp9.mp4", "mpeg4.mp4", "prores.mov", "av1.mp4"):
        data = files[name].read_bytes()
        begin = struct.unpack_from(">I", cut_out(data, STBL + "stco"), 16)[0]
        verdict = judge(data[:begin] + b"\xf7" * 40 + data[begin + 40 :])
        assert verdict.verdict is Verdict.DAMAGED, name
        assert "1 of 50 frames whose media is not of their format" in verdict.detail


def test_black_uncompressed_pictures_and_padded_jpegs_are_whole(files: dict[str, Path], judge: Judge) -> None:
    data = files["raw.mov"].read_bytes()
    begin, end = find(data, "mdat")[-1]
    assert judge(data[: begin + 8] + bytes(end - begin - 8) + data[end:]).verdict is Verdict.COMPLETE
    data = files["mjpeg.mov"].read_bytes()
    begin = struct.unpack_from(">I", cut_out(data, STBL + "stco"), 16)[0]
    size = sizes_of(data)[0]
    picture = data[begin : begin + size]
    assert picture.endswith(b"\xff\xd9")
    # The end marker earlier, and zeros behind it, as encoders do that fill their buffers up.
    padded = picture[: size - 500] + b"\xff\xd9" + bytes(498)
    assert judge(data[:begin] + padded + data[begin + size :]).verdict is Verdict.COMPLETE
    cut = picture[: size - 500] + bytes(500)
    assert judge(data[:begin] + cut + data[begin + size :]).verdict is Verdict.DAMAGED


def test_start_codes_in_place_of_lengths_are_accepted(files: dict[str, Path], judge: Judge) -> None:
    data = files["plain.mp4"].read_bytes()
    begin = struct.unpack_from(">I", cut_out(data, STBL + "stco"), 16)[0]
    at = begin + sizes_of(data)[0]
    assert judge(data[:at] + words(1) + data[at + 4 :]).verdict is Verdict.COMPLETE


def test_media_outside_of_media_boxes_does_not_count(files: dict[str, Path], judge: Judge) -> None:
    data = bytearray(files["plain.mp4"].read_bytes())
    begin, _ = find(bytes(data), "mdat")[-1]
    data[begin + 4 : begin + 8] = b"free"
    verdict = judge(bytes(data))
    assert (verdict.verdict, verdict.frames) == (Verdict.DAMAGED, 0)
    assert "50 of 50 frames outside its media boxes" in verdict.detail


def test_index_showing_nothing_is_damage_not_empty(files: dict[str, Path], judge: Judge) -> None:
    data = files["plain.mp4"].read_bytes()
    for rows in (((1000, 90_000),), ((1000, -1),)):
        verdict = judge(edits(*rows)(data))
        assert (verdict.verdict, verdict.frames) == (Verdict.DAMAGED, 0)
        assert "edit list that shows none of its 50 frames" in verdict.detail


def test_tables_too_short_for_the_frames(files: dict[str, Path], judge: Judge) -> None:
    data = files["plain.mp4"].read_bytes()
    verdict = judge(replace(data, STBL + "stsc", full_box(b"stsc", words(1, 1, 20, 1))))
    assert (verdict.verdict, verdict.frames) == (Verdict.DAMAGED, 20)
    assert "no place for 30 of 50 frames" in verdict.detail
    stsz = cut_out(data, STBL + "stsz")
    verdict = judge(replace(data, STBL + "stsz", box(b"stsz", stsz[8 : 20 + 40])))
    assert (verdict.verdict, verdict.frames) == (Verdict.DAMAGED, 10)
    assert "spoiled index" in verdict.detail


@pytest.mark.parametrize("name", ["plain.mp4", "b.mp4", "mjpeg.mov", "timecode.mov", "sound.mp4"])
def test_cut_index_is_truncated_with_its_remaining_frames(
    files: dict[str, Path], judge: Judge, name: str
) -> None:
    data = files[name].read_bytes()
    begin, end = find(data, "moov")[-1]
    proven = []
    for size in (*range(begin + 8, end, 7), end - 1):
        verdict = judge(data[:size])
        assert verdict.verdict is Verdict.TRUNCATED, size
        assert verdict.frames is not None
        proven.append(verdict.frames)
    assert proven == sorted(proven)
    assert (proven[0], proven[-1]) == (0, FRAMES)
    assert judge(data[: begin + 6]).verdict is Verdict.TRUNCATED


def fragment_begins(data: bytes) -> list[int]:
    return [begin for kind, begin, _ in boxes(data) if kind == b"moof"]


@pytest.mark.parametrize("name", ["frag.mp4", "frag_b.mp4", "sidx.mp4", "dash.mp4", "frag_separate.mp4"])
def test_right_after_a_fragments_header_its_frames_are_missing(
    files: dict[str, Path], judge: Judge, name: str
) -> None:
    data = files[name].read_bytes()
    places = list(boxes(data))
    last = max(at for at, (kind, begin, _) in enumerate(places) if kind == b"moof")
    if name == "frag_separate.mp4":
        verdict = judge(data[: places[last][2]])
        assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, FRAMES)
        assert "another track" in verdict.detail
    else:
        verdict = judge(data[: places[last][2]])
        assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, 25)
        assert "lacks 25 of 50 frames" in verdict.detail
        assert verdict.duration == pytest.approx(1.0, abs=0.09)


def test_inside_a_fragments_media_the_frames_before_count(files: dict[str, Path], tmp_path: Path) -> None:
    data = files["frag.mp4"].read_bytes()
    _, begin, end = [place for place in boxes(data) if place[0] == b"mdat"][1]
    path = tmp_path / "cut.mp4"
    for part in (1, 2, 3):
        path.write_bytes(data[: begin + (end - begin) * part // 4])
        result = scan(path)
        assert result.truncated
        assert result.frames is not None
        assert 25 < result.frames <= probe(path)[0] <= result.frames + 1
        assert result.duration == pytest.approx(result.frames * 0.04)


def test_segment_index_reveals_missing_segments(files: dict[str, Path], judge: Judge) -> None:
    data = files["sidx.mp4"].read_bytes()
    verdict = judge(data[: fragment_begins(data)[1]])
    assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, 25)
    assert "sidx" in verdict.detail
    data = files["dash.mp4"].read_bytes()
    verdict = judge(data[: fragment_begins(data)[1]])
    assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, 25)


def test_fragment_index_reveals_missing_fragments(files: dict[str, Path], judge: Judge) -> None:
    data = files["frag.mp4"].read_bytes()
    second = fragment_begins(data)[1]
    verdict = judge(data[:second] + cut_out(data, "mfra"))
    assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, 25)
    assert "lists 1 fragments that are missing (mfra)" in verdict.detail


def test_announced_length_is_compared_with_fragments(files: dict[str, Path], judge: Judge) -> None:
    data = files["gst_frag.mp4"].read_bytes()
    for at, begin in enumerate(fragment_begins(data)[1:-1], 1):
        verdict = judge(data[:begin])
        assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, 2 * at)
        assert "announces 1.2 s" in verdict.detail


def test_cut_between_fragments_is_noted(files: dict[str, Path], judge: Judge) -> None:
    data = files["frag.mp4"].read_bytes()
    second = fragment_begins(data)[1]
    verdict = judge(data[:second])
    assert (verdict.verdict, verdict.frames) == (Verdict.COMPLETE, 25)
    assert "whether more fragments followed" in verdict.detail
    for size in range(second + 2, second + 16):
        assert judge(data[:size]).verdict is Verdict.TRUNCATED, size - second
    assert judge(data[:second] + bytes(500)).verdict is Verdict.TRUNCATED
    for behind_index in (b"\1\2\3\4\5", bytes(3), bytes(4), bytes(500)):
        assert judge(data + behind_index).verdict is Verdict.COMPLETE
    listed = files["sidx.mp4"].read_bytes()
    assert judge(listed + bytes(3)).verdict is Verdict.COMPLETE


def test_spoiled_box_between_fragments_is_damage(files: dict[str, Path], judge: Judge) -> None:
    data = files["gst_frag.mp4"].read_bytes()
    third = fragment_begins(data)[2]
    verdict = judge(data[:third] + bytes(16) + data[third + 16 :])
    assert verdict.verdict in (Verdict.DAMAGED, Verdict.TRUNCATED)
    assert verdict.frames == 4
    assert f"does not consist of boxes from byte {third} on" in verdict.detail
    data = files["plain.mp4"].read_bytes()
    media_begin = find(data, "mdat")[-1][0]
    verdict = judge(data[:media_begin] + bytes(16) + data[media_begin + 16 :])
    assert verdict.verdict is Verdict.DAMAGED


def test_joined_fragmented_files_count_the_first(files: dict[str, Path], judge: Judge) -> None:
    data = files["frag.mp4"].read_bytes()
    verdict = judge(data + data)
    assert (verdict.verdict, verdict.frames, verdict.duration) == (Verdict.COMPLETE, FRAMES, SECONDS)
    assert f"second file joined on at byte {len(data)}" in verdict.detail


def test_headers_without_a_frame_are_empty(files: dict[str, Path], judge: Judge) -> None:
    data = files["frag.mp4"].read_bytes()
    init = data[: fragment_begins(data)[0]]
    head = data[: find(data, "moov")[0][0]]
    for empty in (init, head, head[:20], head + words(0) + b"mdat", head + box(b"free") + box(b"mdat")):
        verdict = judge(empty)
        assert (verdict.verdict, verdict.frames) == (Verdict.EMPTY, 0)
        assert "frame" in verdict.detail
    verdict = judge(files["audio.m4a"].read_bytes())
    assert (verdict.verdict, verdict.frames) == (Verdict.EMPTY, 0)
    assert verdict.detail == "has no video track, only sound"


def test_media_without_an_index_is_truncated(files: dict[str, Path], judge: Judge) -> None:
    data = files["plain.mp4"].read_bytes()
    begin, end = find(data, "mdat")[-1]
    for size in (begin + 8, begin + 9, end - 1, end, end + 4):
        verdict = judge(data[:size])
        assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, None), size - begin
    still_open = data[:begin] + words(0) + data[begin + 4 : end]
    assert judge(still_open).verdict is Verdict.TRUNCATED
    fragments = files["frag.mp4"].read_bytes()
    unlisted = fragments[: fragment_begins(fragments)[0]] + cut_out(fragments, "mdat")
    assert judge(unlisted).verdict is Verdict.TRUNCATED
    assert judge(data[:begin] + bytes(5000)).verdict is Verdict.DAMAGED


def test_incomplete_movie_is_unknown(files: dict[str, Path], judge: Judge) -> None:
    fragments = files["frag.mp4"].read_bytes()
    segment = box(b"styp", b"msdh", bytes(4)) + fragments[fragment_begins(fragments)[0] :]
    data = files["fast.mp4"].read_bytes()
    elsewhere = full_box(b"dref", words(1), full_box(b"url ", b"http://camera/media.mp4\0"))
    moov = cut_out(data, "moov")
    unknown = {
        "another file": segment,
        "still picture": box(b"ftyp", b"heic", bytes(4)) + full_box(b"meta", bytes(90)) + box(b"mdat", b"?"),
        "compressed index": box(b"ftyp", b"qt  ", bytes(4)) + box(b"moov", box(b"cmov", bytes(90))),
        "index of media": box(b"ftyp", b"qt  ", bytes(4))
        + replace(moov, "moov/trak/mdia/minf/dinf/dref", elsewhere),
    }
    for words_in_detail, contents in unknown.items():
        verdict = judge(contents)
        assert (verdict.verdict, verdict.frames) == (Verdict.UNKNOWN, None), words_in_detail
        assert words_in_detail in verdict.detail


def tracks_of_2000_boxes(data: bytes) -> bytes:
    return replace(data, "moov/trak", cut_out(data, "moov/trak") * 2000)


def nested(data: bytes) -> bytes:
    deep = box(b"free")
    for _ in range(5000):
        deep = box(b"stbl", deep)
    return replace(data, STBL[:-1], deep)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "constant_size": lambda data: replace(
        replace(data, STBL + "stsz", full_box(b"stsz", words(1, -1))),
        STBL + "stsc",
        full_box(b"stsc", words(1, 1, -1, 1)),
    ),
    "constant_size_many_chunks": lambda data: replace(
        replace(
            replace(data, STBL + "stsz", full_box(b"stsz", words(1, -1))),
            STBL + "stsc",
            full_box(b"stsc", words(1, 1, -1, 1)),
        ),
        STBL + "stco",
        full_box(b"stco", words(2000, *[48] * 2000)),
    ),
    "many_sizes": lambda data: replace(data, STBL + "stsz", full_box(b"stsz", words(0, -1, *[7] * 900))),
    "huge_sizes": lambda data: replace(data, STBL + "stsz", full_box(b"stsz", words(0, 50, *[-1] * 50))),
    "half_sizes": lambda data: replace(data, STBL + "stsz", full_box(b"stz2", words(3, -1))),
    "times": sample_times(*[0xFFFFFFFF, 0x7FFFFFFF] * 500),
    "no_times": sample_times(*[0, 0x7FFFFFFF] * 500),
    "offsets": lambda data: replace(
        data, STBL + "stco", full_box(b"co64", words(-1), struct.pack(">3Q", *[(1 << 64) - 1] * 3))
    ),
    "chunks": lambda data: replace(data, STBL + "stsc", full_box(b"stsc", words(-1, *[-1] * 60))),
    "backward_chunks": lambda data: replace(
        data, STBL + "stsc", full_box(b"stsc", words(3, 9, 1, 1, 1, 9, 1, 5, 5, 7))
    ),
    "edits": edits(*[(-1, 0x7FFFFFFF), (-1, -1), (-1, 0)] * 300),
    "no_scale": lambda data: replace(data, "moov/trak/mdia/mdhd", full_box(b"mdhd", bytes(20))),
    "tracks": tracks_of_2000_boxes,
    "nested": nested,
    "empty_tables": lambda data: replace(
        data, STBL[:-1], box(b"stbl", *(box(kind) for kind in (b"stsd", b"stsz", b"stts", b"stsc", b"stco")))
    ),
    "huge_box": lambda data: data + struct.pack(">I4sQ", 1, b"free", (1 << 64) - 1),
    "small_boxes": lambda data: data + box(b"free") * 50_000,
    "huge_inside": lambda data: replace(
        data, "moov/trak/mdia", struct.pack(">I4sQ", 1, b"mdia", (1 << 64) - 1) + bytes(8)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_a_verdict_in_bounded_time(files: dict[str, Path], judge: Judge, name: str) -> None:
    verdict = judge(HOSTILE[name](files["plain.mp4"].read_bytes()))
    assert isinstance(verdict.verdict, Verdict)
    assert verdict.frames is None or verdict.frames <= FRAMES or name == "edits"
    if name not in ("huge_box", "small_boxes", "edits", "times", "no_times", "no_scale", "tracks"):
        assert verdict.verdict is not Verdict.COMPLETE, verdict


def fragmented(*runs: bytes, defaults: tuple[int, ...] = (1, TICKS, 100, 0)) -> bytes:
    """A fragment of one track with some runs, and media of a thousand bytes behind it."""
    header = full_box(b"tfhd", words(1), flags=0x20000)
    traf = box(b"traf", header, full_box(b"tfdt", struct.pack(">Q", 0), version=1), *runs)
    return box(b"moof", full_box(b"mfhd", words(1)), traf) + box(b"mdat", (words(96) + b"\x65" * 96) * 10)


def test_runs_without_tables_and_offsets(files: dict[str, Path], judge: Judge) -> None:
    data = files["frag.mp4"].read_bytes()
    init = data[: fragment_begins(data)[0]]
    trex = full_box(b"trex", words(1, 1, TICKS, 100, 0))
    init = replace(init, "moov/mvex/trex", trex)
    probe_run = full_box(b"trun", words(4, 0), flags=0x1)
    offset = fragmented(probe_run, full_box(b"trun", words(6))).index(b"mdat") + 4
    whole = init + fragmented(full_box(b"trun", words(4, offset), flags=0x1), full_box(b"trun", words(6)))
    verdict = judge(whole)
    assert (verdict.verdict, verdict.frames) == (Verdict.COMPLETE, 10), verdict
    assert verdict.duration == pytest.approx(0.4)
    verdict = judge(whole[:-250])
    assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, 7)
    assert "lacks 3 of 10 frames" in verdict.detail
    offset = fragmented(probe_run).index(b"mdat") + 4
    billions = init + fragmented(full_box(b"trun", words(-1, offset), flags=0x1))
    verdict = judge(billions)
    assert (verdict.verdict, verdict.frames) == (Verdict.TRUNCATED, 10)


def test_implausible_fragment_times_are_left_out(files: dict[str, Path], judge: Judge) -> None:
    data = bytearray(files["frag.mp4"].read_bytes())
    second = bytes(data).index(b"tfdt", fragment_begins(bytes(data))[1])
    struct.pack_into(">Q", data, second + 8, (1 << 64) - 1000)
    verdict = judge(bytes(data))
    assert (verdict.frames, verdict.duration) == (FRAMES, SECONDS)


CUTS = ["plain.mp4", "fast.mp4", "b.mp4", "sound_fast.mp4", "mjpeg.mp4", "hevc.mp4", "sidx.mp4", "frag_b.mp4"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(CUTS), part=st.floats(0, 1, exclude_max=True), near_end=st.booleans())
def test_cut_anywhere_is_never_complete_with_extra_frames(
    files: dict[str, Path], tmp_path: Path, name: str, part: float, near_end: bool
) -> None:
    data = files[name].read_bytes()
    size = int((len(data) - 1200) * part) if not near_end else len(data) - 1 - int(1200 * part)
    if name == "frag_b.mp4" and size in {begin for _, begin, _ in boxes(data)}:
        return  # nothing says that a fragment followed, and the note says so
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[:size])
    result = scan(path)
    verdict = asyncio.run(verify_file(path))
    assert verdict.verdict is not Verdict.COMPLETE
    decoded, _ = probe(path)
    kind, begin = next((kind, begin) for kind, begin, end in boxes(data) if end > size)
    if kind == b"moov" and begin > find(data, "mdat")[0][0]:
        # ffprobe refuses most files whose index is cut; what is left of it proves frames of the whole file.
        decoded = FRAMES
    elif kind in (b"moof", b"mfra") and not decoded:
        # It refuses those with a fragment's header cut too, where every player shows the fragments before.
        path.write_bytes(data[:begin])
        decoded, _ = probe(path)
    assert (result.frames or 0) <= decoded


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["plain.mp4", "frag_sound.mp4", "dash.mp4", "gst_frag.mp4"]),
    at=st.integers(0, 4000),
    value=st.sampled_from([0, 1, 2, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]) | st.integers(0, 0xFFFFFFFF),
)
def test_any_number_may_be_wrong(
    files: dict[str, Path], tmp_path: Path, name: str, at: int, value: int
) -> None:
    data = bytearray(files[name].read_bytes())
    begin = find(bytes(data), "moov")[0][0]
    place = begin + at % (len(data) - begin - 4)
    struct.pack_into(">I", data, place, value)
    path = tmp_path / "wrong.mp4"
    path.write_bytes(data)
    result = scan(path)
    assert result.frames is None or 0 <= result.frames <= 2 * FRAMES


def test_track_without_a_handler_is_video_by_its_media_header(files: dict[str, Path], judge: Judge) -> None:
    data = files["plain.mp4"].read_bytes()
    hdlr = cut_out(data, "moov/trak/mdia/hdlr")
    for changed in (b"", hdlr[:16] + bytes(4) + hdlr[20:]):
        verdict = judge(replace(data, "moov/trak/mdia/hdlr", changed))
        assert (verdict.verdict, verdict.frames) == (Verdict.COMPLETE, FRAMES), verdict


def test_undescribed_media_is_damage(files: dict[str, Path], judge: Judge) -> None:
    data = files["plain.mp4"].read_bytes()
    verdict = judge(replace(data, STBL + "stsd", b""))
    assert verdict.verdict is Verdict.DAMAGED
    assert "does not say how its media is coded" in verdict.detail


def test_large_step_back_in_time_loses_no_frame(files: dict[str, Path], judge: Judge) -> None:
    data = files["plain.mp4"].read_bytes()
    verdict = judge(sample_times(25, TICKS, 1, -25 * TICKS, 24, TICKS)(data))
    assert (verdict.verdict, verdict.frames) == (Verdict.COMPLETE, FRAMES), verdict
    verdict = judge(sample_times(1, -TICKS, 49, TICKS)(data))
    assert (verdict.verdict, verdict.frames) == (Verdict.COMPLETE, FRAMES), verdict


def test_first_fragment_far_in_the_future_is_ignored(files: dict[str, Path], judge: Judge) -> None:
    data = bytearray(files["frag.mp4"].read_bytes())
    at = data.index(b"tfdt") + 8
    data[at : at + 4] = b"\x10\0\0\0"
    verdict = judge(bytes(data))
    assert verdict.duration == pytest.approx(SECONDS, abs=0.05)


def test_filler_of_many_boxes_is_given_up(files: dict[str, Path], judge: Judge) -> None:
    verdict = judge(files["plain.mp4"].read_bytes() + box(b"free") * 200_000)
    assert verdict.verdict is Verdict.UNKNOWN
