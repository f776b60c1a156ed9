"""MPEG transport streams by ffmpeg and GStreamer: whole, lossy, cut, shifted, joined."""

import json
import random
import subprocess
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynccam.recording.containers.reader import FileView, Scan
from asynccam.recording.containers.scan import scan_file
from asynccam.recording.verify import Verdict, verify_file
from tests.support.gst import LAUNCH

FRAMES = 50
SECONDS = 2.0
PACKET = 188
SOURCE = ["-f", "lavfi", "-i", f"testsrc2=s=160x120:r=25:d={SECONDS:g}"]
SOUND = ["-f", "lavfi", "-i", f"sine=d={SECONDS:g}"]
X264 = ["-c:v", "libx264", "-g", "10"]
PICTURE = [
    *["videotestsrc", f"num-buffers={FRAMES}", "!"],
    *["video/x-raw,width=160,height=120,framerate=25/1", "!"],
]
FFMPEG = {
    "b_frames.ts": [*SOURCE, *X264, "-bf", "3"],
    "sound.ts": [*SOUND, *SOURCE, *X264, "-bf", "2", "-c:a", "aac"],
    "h265.ts": [*SOURCE, "-c:v", "libx265", "-x265-params", "log-level=none"],
    "mpeg2.ts": [*SOURCE, "-c:v", "mpeg2video", "-bf", "2"],
    "mpeg4.ts": [*SOURCE, "-c:v", "mpeg4"],
    "mjpeg.ts": [*SOURCE, "-c:v", "mjpeg"],
    "disc.m2ts": [*SOURCE, *X264, "-mpegts_m2ts_mode", "1"],
    "slices.ts": [*SOURCE, *X264, "-tune", "zerolatency", "-x264-params", "slices=4"],
    # 33 bits of 90 kHz wrap after 95443.7 s.
    "wrap.ts": [*SOURCE, *X264, "-bf", "3", "-output_ts_offset", "95441.5"],
    "lengths.ts": [*SOURCE, "-c:v", "mpeg2video", "-omit_video_pes_length", "0"],
    "slow.ts": ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=1/15:d=120", *X264],
}
GSTREAMER = {
    "gst.ts": [*PICTURE, "x264enc", "bframes=2", "key-int-max=10", "!", "h264parse", "!", "mpegtsmux"],
    "gst_units.ts": [
        *[*PICTURE, "x264enc", "tune=zerolatency", "option-string=slices=2", "!", "h264parse"],
        *["!", "video/x-h264,alignment=nal", "!", "mpegtsmux"],
    ],
    "gst_disc.ts": [*PICTURE, "x265enc", "!", "h265parse", "!", "mpegtsmux", "m2ts-mode=true"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("ts")
    for name, words in FFMPEG.items():
        subprocess.run(["ffmpeg", "-v", "error", *words, directory / name], check=True)
    words = []
    for name, chain in GSTREAMER.items():
        words += [*chain, "!", "filesink", f"location={directory / name}"]
    subprocess.run([LAUNCH, "-q", *words], check=True)
    return {name: directory / name for name in (*FFMPEG, *GSTREAMER)}


@pytest.fixture(scope="module")
def plain(files: dict[str, Path]) -> bytes:
    return files["b_frames.ts"].read_bytes()


def scan(path: Path, data: bytes) -> Scan:
    path.write_bytes(data)
    with FileView(path, threading.Event()) as view:
        return scan_file(view)


def probed(path: Path) -> int:
    """Frames as ffprobe counts them."""
    words = ["ffprobe", "-v", "quiet", "-select_streams", "v:0", "-count_packets", "-of", "json"]
    out = subprocess.run([*words, "-show_entries", "stream=nb_read_packets", path], capture_output=True)
    return int(json.loads(out.stdout)["streams"][0]["nb_read_packets"])


def pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3]) & 0x1FFF


def packets(data: bytes) -> list[bytes]:
    return [data[at : at + PACKET] for at in range(0, len(data), PACKET)]


@pytest.mark.parametrize("name", [*FFMPEG, *GSTREAMER])
async def test_whole_stream_is_complete_with_its_frames_and_length(files: dict[str, Path], name: str) -> None:
    verdict = await verify_file(files[name])
    assert (verdict.verdict, verdict.detail) == (Verdict.COMPLETE, "")
    frames, seconds = (8, 120) if name == "slow.ts" else (FRAMES, SECONDS)
    assert verdict.frames == frames
    if name != "mjpeg.ts":  # ffprobe takes it for data
        assert verdict.frames == probed(files[name])
    assert verdict.duration == pytest.approx(seconds, abs=0.001)
    assert verdict.interval == pytest.approx(seconds / frames, abs=0.001)


def test_packets_of_204_bytes_are_those_of_188_with_parity(tmp_path: Path, plain: bytes) -> None:
    parity = b"".join(packet + bytes(range(16)) for packet in packets(plain))
    assert scan(tmp_path / "a.ts", parity) == scan(tmp_path / "b.ts", plain)
    assert scan(tmp_path / "a.ts", parity[:-3]).truncated == "ends inside a packet"
    assert scan(tmp_path / "a.ts", parity[:-33]).truncated == "ends inside a packet"


@pytest.mark.parametrize("size", [1, 100, 187, 188, 3000, 60_000])
def test_bytes_before_the_first_packet_are_passed(tmp_path: Path, plain: bytes, size: int) -> None:
    junk = random.Random(size).randbytes(size).replace(b"\x47", b"\x48")
    found = scan(tmp_path / "a.ts", junk + plain)
    assert (found.frames, found.truncated, found.damaged) == (FRAMES, "", "")
    assert found.note == f"has {size} byte{'s' * (size > 1)} before its first packet"


@pytest.mark.parametrize("where", [1, 2, 5, 40, -3, -1])
def test_one_spoiled_sync_byte_costs_its_packet(tmp_path: Path, plain: bytes, where: int) -> None:
    all_packets = packets(plain)
    place = where % len(all_packets) * PACKET
    found = scan(tmp_path / "a.ts", plain[:place] + b"\0" + plain[place + 1 :])
    assert found.frames in (FRAMES - 1, FRAMES)
    assert found.damaged or found.truncated or found.note
    if where > 0:
        assert "188 bytes that are not of packets" in found.damaged


@pytest.mark.parametrize("change", [b"", b"\1\2\3", bytes(50), random.Random(3).randbytes(900)])
def test_bytes_taken_out_or_put_in_are_damage(tmp_path: Path, plain: bytes, change: bytes) -> None:
    for place in (PACKET * 3 + 20, len(plain) // 2, len(plain) - 900):
        found = scan(tmp_path / "a.ts", plain[:place] + change + plain[place + (0 if change else 77) :])
        assert found.damaged, place
        assert found.frames is not None
        assert FRAMES - 3 <= found.frames <= FRAMES
        assert found.duration == pytest.approx(SECONDS, abs=0.13)


def test_lost_packets_are_counted(tmp_path: Path, plain: bytes) -> None:
    every = packets(plain)
    kept = [packet for index, packet in enumerate(every) if index % 20 != 7]
    found = scan(tmp_path / "a.ts", b"".join(kept))
    assert found.damaged == f"has lost {len(every) - len(kept)} packets"
    assert found.frames is not None
    assert found.frames <= FRAMES
    # ffprobe takes a frame whose first slice is lost for a part of the one before.
    assert 0 <= found.frames - probed(tmp_path / "a.ts") <= 1
    assert found.duration == pytest.approx(SECONDS, abs=0.13)


def test_frame_whose_beginning_is_lost_does_not_count(tmp_path: Path, plain: bytes) -> None:
    starts = [one for one in packets(plain) if pid(one) == 0x100 and one[1] & 0x40]
    found = scan(tmp_path / "a.ts", plain.replace(starts[20], b"").replace(starts[30], b""))
    assert (found.frames, found.damaged) == (FRAMES - 2, "has lost 2 packets")


def test_packet_may_come_twice_and_not_thrice(tmp_path: Path, plain: bytes) -> None:
    every = packets(plain)
    twice = b"".join([*every[:31], *every[30:]])
    assert scan(tmp_path / "a.ts", twice) == scan(tmp_path / "b.ts", plain)
    thrice = b"".join([*every[:31], every[30], *every[30:]])
    assert scan(tmp_path / "a.ts", thrice).damaged == "has lost 15 packets"


def with_adaptation(packet: bytes, flags: int) -> bytes:
    """A packet of the same PID and counter that has an adaptation field and no payload."""
    return (
        packet[:1] + bytes([packet[1] & 0x1F, packet[2], 0x20 | packet[3] & 15, 183, flags]) + b"\xff" * 182
    )


def test_announced_discontinuity_is_not_a_loss(tmp_path: Path, plain: bytes) -> None:
    every = packets(plain)
    at = next(index for index in range(40, 90) if {pid(one) for one in every[index : index + 3]} == {0x100})
    lost = b"".join([*every[:at], *every[at + 1 :]])
    assert scan(tmp_path / "a.ts", lost).damaged == "has lost 1 packet"
    announced = [*every[:at], with_adaptation(every[at], 0x80), *every[at + 1 :]]
    assert scan(tmp_path / "a.ts", b"".join(announced)).damaged == ""
    # Without a payload the counter stays as it is (2.4.3.3).
    clock = [*every[:at], with_adaptation(every[at - 1], 0), *every[at:]]
    assert scan(tmp_path / "a.ts", b"".join(clock)) == scan(tmp_path / "b.ts", plain)


def test_packets_with_the_error_flag_are_damage(tmp_path: Path, plain: bytes) -> None:
    every = packets(plain)
    spoiled = [
        one[:1] + bytes([one[1] | 0x80]) + one[2:] if index in (50, 51) else one
        for index, one in enumerate(every)
    ]
    assert "has 2 packets with errors" in scan(tmp_path / "a.ts", b"".join(spoiled)).damaged


@pytest.mark.parametrize(("begin", "end"), [(0.2, 0.4), (0.3, 0.31), (0.5, 1), (0.98, 1), (0, 0.2)])
def test_zeroed_stretches_are_damage(tmp_path: Path, plain: bytes, begin: float, end: float) -> None:
    low, high = int(len(plain) * begin) // 512 * 512, int(len(plain) * end)
    found = scan(tmp_path / "a.ts", plain[:low] + bytes(high - low) + plain[high:])
    assert found.damaged
    assert found.frames is not None
    assert 0 < found.frames <= FRAMES


def test_zeros_within_a_packet_are_damage(tmp_path: Path, plain: bytes) -> None:
    every = packets(plain)
    index = next(i for i, one in enumerate(every) if i > 40 and pid(one) == 0x100 and one[3] & 0x30 == 0x10)
    place = index * PACKET
    found = scan(tmp_path / "a.ts", plain[: place + 50] + bytes(64) + plain[place + 114 :])
    assert found.damaged == "has 1 run of zeros in its pictures"


async def test_cut_inside_a_packet_is_truncated(tmp_path: Path, plain: bytes) -> None:
    path = tmp_path / "a.ts"
    for size in range(PACKET + 1, len(plain), len(plain) // 97):
        if size % PACKET:
            path.write_bytes(plain[:size])
            verdict = await verify_file(path)
            assert verdict.verdict is Verdict.TRUNCATED, size
            assert verdict.frames is not None
            assert verdict.frames <= FRAMES


def test_bytes_behind_that_are_not_a_packet_are_named(tmp_path: Path, plain: bytes) -> None:
    found = scan(tmp_path / "a.ts", plain + b"hello")
    assert (found.truncated, found.damaged) == ("", "")
    assert found.note == "has 5 bytes behind its last packet"
    assert scan(tmp_path / "a.ts", plain + bytes(600)).damaged == "ends with 600 zero bytes"


def test_elementary_packet_shorter_than_it_says_is_truncated(tmp_path: Path, files: dict[str, Path]) -> None:
    every = packets(files["lengths.ts"].read_bytes())
    last = max(index for index, one in enumerate(every) if pid(one) == 0x100 and one[1] & 0x40)
    assert int.from_bytes(every[last].partition(b"\0\0\1\xe0")[2][:2])
    found = scan(tmp_path / "a.ts", b"".join(every[: last + 1]))
    assert (found.frames, found.truncated) == (FRAMES - 1, "ends inside an elementary packet")
    # Of sound, too.
    every = packets(files["sound.ts"].read_bytes())
    sound = [index for index, one in enumerate(every) if pid(one) == 0x101 or pid(one) == 0x100]
    starts = [i for i in sound if every[i][1] & 0x40 and b"\0\0\1\xc0" in every[i]]
    found = scan(tmp_path / "a.ts", b"".join(every[: starts[-2] + 1]))
    assert found.truncated == "ends inside an elementary packet"


def test_last_frame_without_a_picture_does_not_count(tmp_path: Path, plain: bytes) -> None:
    """Its first packets have parameters and x264's own words."""
    every = packets(plain)
    first = next(index for index, one in enumerate(every) if pid(one) == 0x100 and one[1] & 0x40)
    found = scan(tmp_path / "a.ts", b"".join(every[: first + 2]))
    assert found.frames == 0
    assert found.truncated == "is cut off before its last frame's picture"


def test_last_frame_with_fewer_slices_is_cut_off(tmp_path: Path, files: dict[str, Path]) -> None:
    every = packets(files["slices.ts"].read_bytes())
    starts = [index for index, one in enumerate(every) if pid(one) == 0x100 and one[1] & 0x40]
    found = None
    for start, end in pairwise(starts[20:]):
        if end - start > 3 and every[start + 1][3] & 0x30 == 0x10:
            found = scan(tmp_path / "a.ts", b"".join(every[: start + 2]))
            break
    assert found is not None
    assert found.truncated == "is cut off inside its last frame"


async def test_possible_cut_between_packets_is_noted(tmp_path: Path, plain: bytes) -> None:
    every = packets(plain)
    starts = [index for index, one in enumerate(every) if pid(one) == 0x100 and one[1] & 0x40]
    start = next(one for one, two in pairwise(starts) if one and two - one > 5)
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(every[: start + 5]))
    verdict = await verify_file(path)
    assert (verdict.verdict, verdict.detail) == (Verdict.COMPLETE, "may be cut off inside its last frame")


def test_open_group_of_pictures_has_its_own_length(tmp_path: Path, plain: bytes) -> None:
    """Cut at the front: the first time is later than the next, and was 26 hours of video."""
    every = packets(plain)
    starts = [index for index, one in enumerate(every) if pid(one) == 0x100 and one[1] & 0x40]
    tables = [one for one in every[:3] if pid(one) != 0x100]
    for first in range(8, 16):
        found = scan(tmp_path / "a.ts", b"".join([*tables, *every[starts[first] :]]))
        assert found.frames == FRAMES - first
        assert found.duration == pytest.approx((FRAMES - first) / 25, abs=0.13)


def shifted(data: bytes, ticks: int, from_frame: int) -> bytes:
    """The stream with the times of its frames moved."""
    out, frame = [], 0
    for one in packets(data):
        place = one.find(b"\0\0\1\xe0")
        if place > 0 and one[1] & 0x40:
            frame += 1
            for flag, at in ((0x80, place + 9), (0x40, place + 14)):
                if frame > from_frame and one[place + 7] & flag:
                    old = one[at : at + 5]
                    time = (old[0] >> 1 & 7) << 30 | (old[1] << 7 | old[2] >> 1) << 15
                    time = (time | old[3] << 7 | old[4] >> 1) + ticks & (1 << 33) - 1
                    high = old[0] & 0xF0 | time >> 29 & 14 | 1
                    new = bytes([high]) + (time >> 15 << 1 & 0xFFFF | 1).to_bytes(2)
                    one = one[:at] + new + (time << 1 & 0xFFFF | 1).to_bytes(2) + one[at + 5 :]
        out.append(one)
    return b"".join(out)


@pytest.mark.parametrize("hours", [-20, -1, 1, 13, 25])
def test_jumps_in_time_are_not_hours_of_video(tmp_path: Path, plain: bytes, hours: float) -> None:
    found = scan(tmp_path / "a.ts", shifted(plain, int(hours * 3600 * 90_000), 20))
    assert (found.frames, found.damaged, found.note) == (FRAMES, "", "jumps in time 1 time")
    assert found.duration == pytest.approx(SECONDS, abs=0.13)


def test_implausible_times_are_not_added_up(tmp_path: Path, plain: bytes) -> None:
    """A minute to an hour between all frames, never the same."""
    noise = random.Random(9)
    data = plain
    for frame in range(0, FRAMES, 2):
        data = shifted(data, noise.randrange(60, 3600) * 90_000, frame)
    found = scan(tmp_path / "a.ts", data)
    assert found.frames == FRAMES
    assert found.duration is None or found.duration < 60


def test_outage_of_seconds_is_a_part_of_the_presentation(tmp_path: Path, plain: bytes) -> None:
    found = scan(tmp_path / "a.ts", shifted(plain, 3 * 90_000, 20))
    assert found.duration == pytest.approx(SECONDS + 3, abs=0.13)


def test_joined_streams_are_counted_together(tmp_path: Path, plain: bytes, files: dict[str, Path]) -> None:
    found = scan(tmp_path / "a.ts", plain + plain)
    assert found.frames == 2 * FRAMES
    assert found.duration == pytest.approx(2 * SECONDS)
    assert (found.truncated, found.damaged) == ("", "")
    sound = files["sound.ts"].read_bytes()
    found = scan(tmp_path / "a.ts", sound * 3)
    assert (found.frames, found.damaged) == (3 * FRAMES, "")
    assert found.note == "is joined to another stream 2 times"


def test_frames_without_a_time_are_counted(tmp_path: Path, plain: bytes) -> None:
    """As receivers leave them: a time for some frames only."""
    out, frame = [], 0
    for one in packets(plain):
        place = one.find(b"\0\0\1\xe0")
        if place > 0 and one[1] & 0x40:
            frame += 1
            if frame in (10, 11, 12, FRAMES):
                one = one[: place + 7] + b"\0" + one[place + 8 :]
        out.append(one)
    found = scan(tmp_path / "a.ts", b"".join(out))
    assert found.frames == FRAMES == probed(tmp_path / "a.ts")
    assert found.duration == pytest.approx(SECONDS, abs=0.05)


def test_without_tables_the_video_is_found_by_its_stream_id(tmp_path: Path, plain: bytes) -> None:
    found = scan(tmp_path / "a.ts", b"".join(one for one in packets(plain) if pid(one) == 0x100))
    assert (found.frames, found.truncated, found.damaged) == (FRAMES, "", "")


def test_first_video_stream_is_read(tmp_path: Path, files: dict[str, Path]) -> None:
    two = tmp_path / "two.ts"
    names = ["b_frames.ts", "slow.ts"]
    for frames in (FRAMES, 8):
        inputs = [word for name in names for word in ("-i", str(files[name]))]
        words = [*inputs, "-map", "0:v", "-map", "1:v", "-c", "copy", str(two)]
        subprocess.run(["ffmpeg", "-v", "error", "-y", *words], check=True)
        assert scan(two, two.read_bytes()).frames == frames
        names.reverse()


def test_file_with_only_sound_has_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "sound.ts"
    subprocess.run(["ffmpeg", "-v", "error", *SOUND, "-c:a", "aac", path], check=True)
    assert scan(path, path.read_bytes()) == Scan(0, None)


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a" + bytes(100),
        b"G" * 5000,
        b"Good morning",
        (b"G" + bytes(187)) * 40,
        random.Random(5).randbytes(70_000),
    ],
)
def test_other_files_are_not_taken_for_a_transport_stream(tmp_path: Path, data: bytes) -> None:
    assert not scan(tmp_path / "a", data).understood


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["sound.ts", "disc.m2ts", "lengths.ts", "gst_units.ts"]),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 400), st.binary(max_size=200)), max_size=5),
    st.integers(0, 30_000),
)
def test_any_bytes_raise_nothing_and_claim_no_hour(
    files: dict[str, Path], tmp_path: Path, name: str, spoils: list[tuple[int, int, bytes]], size: int
) -> None:
    data = bytearray(files[name].read_bytes()[:size])
    for at, length, spoil in spoils:
        data[at : at + length] = spoil
    found = scan(tmp_path / "a.ts", bytes(data))
    assert found.frames is None or found.frames <= FRAMES + 2 * len(spoils)
    assert found.duration is None or found.duration < 60


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.binary(min_size=3, max_size=12), st.integers(0, 255)), max_size=40))
def test_invalid_packets_are_read_to_their_end(tmp_path: Path, heads: list[tuple[bytes, int]]) -> None:
    tables = b"\x47\x40\x00\x10" + bytes(184)
    data = b"".join((b"\x47" + head).ljust(PACKET, bytes([fill])) for head, fill in heads)
    scan(tmp_path / "a.ts", tables + data)


def test_zeroed_beginning_is_damage_wherever_it_ends(tmp_path: Path, plain: bytes) -> None:
    assert "begins with" in scan(tmp_path / "a.ts", bytes(2000) + plain[2000:]).damaged


def test_frames_before_the_first_key_frame_are_named(tmp_path: Path, plain: bytes) -> None:
    all_packets = packets(plain)
    video = pid(next(one for one in all_packets if one[4:7] != b"" and pid(one) not in (0, 17, 4096)))
    starts = [at for at, one in enumerate(all_packets) if pid(one) == video and one[1] & 0x40]
    without = all_packets[: starts[0]] + all_packets[starts[1] :]
    found = scan(tmp_path / "a.ts", b"".join(without))
    assert "whose key frame is missing" in found.note
