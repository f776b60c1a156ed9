"""Metadata of frames: from bytes written by hand, and from a real recording of a simulated camera."""

import asyncio
import struct
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import NotFoundError, StorageError, UsageError
from asynccam.model.manifest import CameraRecord
from asynccam.recording import frame_times
from asynccam.systems.thorvision import StreamSettings
from asynccam.systems.thorvision.metadata import (
    FRAME,
    Metadata,
    iter_metadata,
    read_metadata,
    xdaq_frame_times,
)
from asynccam.take import FrameTimes
from tests.support.cancelling import cancelled_at
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import PICTURE, frames_sent, numbers_sent, rig

OPEN = b"\x01\xff\xff\xff\xff\xff\xff\xff"
EBML = bytes.fromhex("1A45DFA3 84 42828121")
SEGMENT = bytes.fromhex("18538067")


def element(kind: str, content: bytes) -> bytes:
    return bytes.fromhex(kind) + (len(content) | 1 << 56).to_bytes(8, "big") + content


def track(number: int = 1, kind: int = 1, codec: bytes = b"V_MJPEG", more: bytes = b"") -> bytes:
    content = element("D7", bytes([number])) + element("83", bytes([kind])) + element("86", codec) + more
    return element("AE", content)


def cluster(time: int | None, *blocks: bytes) -> bytes:
    return element(
        "1F43B675", (b"" if time is None else element("E7", time.to_bytes(4, "big"))) + b"".join(blocks)
    )


def block(frame: bytes, time: int = 0, *, number: int = 1, flags: int = 0x80) -> bytes:
    return element("A3", struct.pack(">BhB", 0x80 | number, time, flags) + frame)


def group(frame: bytes, time: int = 0) -> bytes:
    return element("A0", element("A1", struct.pack(">BhB", 0x81, time, 0) + frame) + element("9B", b"\x21"))


def frame(number: int, *, marker: int = 0xFFEF, length: int = 42, rest: int = 100) -> bytes:
    numbers = struct.pack("<QQIIIIQ", 10**10 + number, 2**63 + number, 2**32 - 1 - number, number, 7, 99, 98)
    return b"\xff\xd8" + struct.pack(">HH", marker, length) + numbers + b"\x55" * rest


def row(pts: int, number: int) -> tuple[int, ...]:
    return pts, 10**10 + number, 2**63 + number, 2**32 - 1 - number, number, 7


def written(directory: Path, *clusters: bytes, tracks: bytes | None = None) -> Path:
    path = directory / "recording.mkv"
    content = element("1654AE6B", track() if tracks is None else tracks) + b"".join(clusters)
    path.write_bytes(EBML + element(SEGMENT.hex(), content))
    return path


def rows(metadata: Metadata) -> list[tuple[int, ...]]:
    assert metadata.frames.dtype == FRAME
    return [tuple(one) for one in metadata.frames.tolist()]


async def test_every_field_and_both_kinds_of_block(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        cluster(0, block(frame(0)), block(frame(1, marker=0xFFE0), 33), group(frame(2, marker=0xFFFE), 66)),
        cluster(1000, group(frame(3), -1), block(frame(4, rest=0)), block(frame(5, length=300, rest=400), 9)),
    )
    metadata = await read_metadata(path)
    assert rows(metadata) == [row(0, 0), row(33, 1), row(66, 2), row(999, 3), row(1000, 4), row(1009, 5)]
    assert (metadata.without_metadata, metadata.flaw) == (0, "")


@pytest.mark.parametrize(
    "plain",
    [
        frame(1, marker=0xFFDB),
        frame(1, marker=0xFFC0),
        frame(1, length=41),
        frame(1, rest=0)[:-1],
        b"\xff\xd9" + frame(1)[2:],
        bytes.fromhex("FFD8FFE000104A46494600010100000100010000") + b"\xff\xdb\0C" + b"\x01" * 90,
        b"",
    ],
    ids=["table", "picture", "short-segment", "cut-off", "no-start", "jfif", "empty"],
)
async def test_frames_without_metadata_have_no_row(tmp_path: Path, plain: bytes) -> None:
    path = written(tmp_path, cluster(5, block(frame(0)), block(plain, 1), block(frame(2), 2)))
    metadata = await read_metadata(path)
    assert rows(metadata) == [row(5, 0), row(7, 2)]
    assert metadata.without_metadata == 1


async def test_other_tracks_and_untimed_blocks_are_skipped(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        cluster(None, block(frame(0))),
        cluster(
            3, block(frame(1), -4), block(frame(2), number=1), block(frame(3)), block(frame(4), number=2)
        ),
        tracks=track(1, kind=2, codec=b"A_OPUS") + track(2),
    )
    metadata = await read_metadata(path)
    assert rows(metadata) == [row(3, 4)]
    assert metadata.without_metadata == 0
    untimed = written(tmp_path, cluster(None, block(frame(0))), cluster(3, block(frame(1), -4), block(b"")))
    assert len((await read_metadata(untimed)).frames) == 0
    assert (await read_metadata(untimed)).without_metadata == 1


async def test_open_ended_segments_of_a_killed_recorder(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    clusters = [
        bytes.fromhex("1F43B675") + OPEN + element("E7", bytes([time])) + block(frame(time))
        for time in range(3)
    ]
    path.write_bytes(EBML + SEGMENT + OPEN + element("1654AE6B", track()) + b"".join(clusters))
    metadata = await read_metadata(path)
    assert rows(metadata) == [row(0, 0), row(1, 1), row(2, 2)]
    assert "never finalized" in metadata.flaw


async def test_file_cut_anywhere_keeps_the_frames_before(tmp_path: Path) -> None:
    whole = written(tmp_path, cluster(0, block(frame(0)), block(frame(1), 1)), cluster(2, group(frame(2))))
    data, path = whole.read_bytes(), tmp_path / "cut.mkv"
    ends = [data.index(frame(number)) + len(frame(number)) for number in range(3)]
    for size in range(4, len(data)):
        path.write_bytes(data[:size])
        metadata = await read_metadata(path)
        assert rows(metadata) == [row(number, number) for number in range(3) if ends[number] <= size]
        assert metadata.flaw


@pytest.mark.parametrize("rest", [0, 20, 5_000, 9_000, 70_000])
async def test_frames_of_every_size_and_clusters_of_every_length(tmp_path: Path, rest: int) -> None:
    count = 200 if rest > 5_000 else 9_000
    blocks = [block(frame(number, rest=rest + number % 7), number % 1000) for number in range(count)]
    clusters = [cluster(place, *blocks[place : place + 1000]) for place in range(0, count, 1000)]
    expected = [row(number, number) for number in range(count)]
    path = written(tmp_path, *clusters)
    assert rows(await read_metadata(path)) == expected
    parts = [part async for part in iter_metadata(path, rows=50)]
    assert len(parts) > 1
    assert [one for part in parts for one in rows(part)] == expected


@given(st.data())
def test_corrupt_files_give_frames_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = written(
        tmp_path_factory.mktemp("corrupt"),
        cluster(0, block(frame(0)), block(frame(1), 1)),
        cluster(2, group(frame(2)), block(b"", 1)),
    )
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(4, len(content) - 1), max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        metadata = asyncio.run(read_metadata(path))
    except UsageError as error:
        assert str(path) in str(error)  # noqa: PT017 - an error is only one of two good ends
    else:
        assert len(metadata.frames) + metadata.without_metadata <= 40


@pytest.mark.parametrize(
    ("tracks", "words"),
    [
        (track(codec=b"V_MPEG4/ISO/AVC"), "V_MPEG4/ISO/AVC, not Motion JPEG"),
        (track(kind=2), "no video track"),
        (b"", "no video track"),
        (track(more=element("6D80", b"")), "stores its frames"),
        (track(number=0x7F), "stores its frames"),
    ],
)
@pytest.mark.parametrize("clusters", [(), (cluster(0, block(frame(0))),)])
async def test_recordings_of_other_kinds_are_refused(
    tmp_path: Path, tracks: bytes, words: str, clusters: tuple[bytes, ...]
) -> None:
    with pytest.raises(UsageError, match=words):
        await read_metadata(written(tmp_path, *clusters, tracks=tracks))


async def test_several_frames_in_a_block_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="several frames in one block"):
        await read_metadata(written(tmp_path, cluster(0, block(frame(0), flags=0x82))))


@pytest.mark.parametrize(
    "content", [b"", b"\x1a\x45\xdf", b"\0\0\0\x20ftypisom", b"RIFF....AVI ", b"some text"]
)
async def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="neither a Matroska recording nor"):
        await read_metadata(path)


async def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.mkv does not exist"):
        await read_metadata(tmp_path / "none.mkv")
    with pytest.raises(StorageError, match="cannot read"):
        await read_metadata(tmp_path)
    with pytest.raises(UsageError, match="at least 1"):
        _ = [part async for part in iter_metadata(tmp_path / "none.mkv", rows=0)]


async def test_records_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "camera.BIN"
    records = b"".join(frame(number)[6:46] for number in range(25))
    for rest in (b"", b"1234567"):
        path.write_bytes(records + rest)
        metadata = await read_metadata(path)
        assert rows(metadata) == [row(-1, number) for number in range(25)]
        assert metadata.flaw.startswith("7 bytes" if rest else "")
        assert bool(metadata.flaw) == bool(rest)
        parts = [part async for part in iter_metadata(path, rows=10)]
        assert [len(part.frames) for part in parts] == [10, 10, 5]
    path.write_bytes(b"")
    assert rows(await read_metadata(path)) == []


async def test_recording_read_while_it_grows_and_afterwards(tmp_path: Path) -> None:
    async with rig() as made:
        started = await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)
        (path,) = tmp_path.glob("*.mkv")
        await eventually(lambda: path.stat().st_size > 50_000)
        early = await read_metadata(path)
        stopped = await made.client.stop_stream(made.camera.id)
    assert started["first_frame_at"] > 0
    metadata = await read_metadata(path)
    assert metadata.frames[: len(early.frames)].tolist() == early.frames.tolist()
    assert early.flaw
    assert (len(metadata.frames), metadata.without_metadata) == (stopped["files"][0].frames, 0)
    assert len(metadata.frames) >= len(early.frames) > 0
    numbers = metadata.frames["sample_index"] // 1000
    assert metadata.frames["gstreamer_pts"].tolist() == [int(one) * 10**9 // 30 for one in numbers]
    assert metadata.frames["ttl_out"].tolist() == [int(one) & 1 for one in numbers]
    with av.open(str(path)) as container:
        packets = list(container.demux(container.streams.video[0]))
    assert metadata.frames["frame_pts"].tolist() == [one.pts for one in packets if one.pts is not None]


async def test_cancelled_at_every_await_and_left_early(tmp_path: Path) -> None:
    path = written(tmp_path, *(cluster(number, block(frame(number))) for number in range(3)))

    async def read() -> None:
        async for _ in iter_metadata(path, rows=1):
            pass

    count = 1
    while await cancelled_at(read(), count):
        count += 1
    assert count > 4
    async with aclosing(iter_metadata(path, rows=1)) as parts:
        async for part in parts:
            assert rows(part) == [row(0, 0)]
            break


def clocked(values: list[int], field: str = "sample_index") -> Metadata:
    frames = np.zeros(len(values), FRAME)
    frames[field] = values
    return Metadata(frames, 0)


def test_align_takes_the_nearest_sample_and_the_earlier_of_two() -> None:
    found = clocked([9, 10, 14, 15, 16, 20, 30, 31]).align([10, 20, 20, 30])
    assert found.tolist() == [-1, 0, 0, 0, 1, 1, 3, -1]
    assert found.dtype == np.intp
    assert clocked([10, 14, 16]).align(np.array([10.0, 12.5, 20.0])).tolist() == [0, 1, 1]
    assert clocked([1, 2]).align(np.array([], "u4")).tolist() == [-1, -1]
    assert clocked([]).align([1, 2]).tolist() == []


def test_align_distinguishes_large_timestamps() -> None:
    great = 2**60
    found = clocked([great + 1, great + 2, 2**63 + 5], "xdaq_timestamp").align(
        np.arange(great, great + 4, dtype="u8"), field="xdaq_timestamp"
    )
    assert found.tolist() == [1, 2, -1]


@pytest.mark.parametrize("wrong", [[2, 1], [[1, 2]], ["a"], [1.0, float("nan"), 2.0], [float("nan")], 5])
def test_align_refuses_invalid_timestamps(wrong: object) -> None:
    with pytest.raises(UsageError, match="neural timestamps"):
        clocked([1]).align(np.asarray(wrong))


@given(
    st.lists(st.integers(0, 50)),
    st.lists(st.integers(0, 50), min_size=1).map(sorted),
)
def test_align_equals_a_search_of_all_samples(values: list[int], samples: list[int]) -> None:
    def nearest(value: int) -> int:
        if not samples[0] <= value <= samples[-1]:
            return -1
        return min(range(len(samples)), key=lambda index: (abs(samples[index] - value), index))

    assert clocked(values).align(samples).tolist() == [nearest(value) for value in values]


# -- times of frames --------------------------------------------------------------------------------


async def test_frame_times_of_each_clock(tmp_path: Path) -> None:
    plain = b"\xff\xd8\xff\xdb" + bytes(60)
    path = written(
        tmp_path, cluster(0, block(frame(0)), block(plain, 33), block(frame(2), 66), block(frame(3), 99))
    )
    told = [one async for one in xdaq_frame_times(path)]
    assert [(one.index, one.time, one.duration) for one in told] == [
        *((0, 0.0, None), (1, None, None), (2, 2e-9, pytest.approx(1e-9)), (3, pytest.approx(3e-9), None))
    ]
    # The sample index of these frames counts down over 2**32 - 1; a step back is no wrap.
    back = [one.time async for one in xdaq_frame_times(path, clock="sample_index", rate=1000.0)]
    assert back == [0.0, None, -0.002, -0.003]
    for words in ({"clock": "xdaq_timestamp"}, {"clock": "sample_index", "rate": 0.0}, {"clock": "ttl_in"}):
        with pytest.raises(UsageError):
            await anext(xdaq_frame_times(path, **words))


async def test_frame_times_of_a_counter_that_wraps(tmp_path: Path) -> None:
    records = [struct.pack("<QQIIIIQ", 0, 0, (2**32 - 2 + 1000 * n) % 2**32, 0, 0, 0, 0) for n in range(5)]
    (tmp_path / "m.bin").write_bytes(b"".join(records))
    times = [
        one.time async for one in xdaq_frame_times(tmp_path / "m.bin", clock="sample_index", rate=30_000.0)
    ]
    assert times == pytest.approx([n / 30 for n in range(5)])


async def test_frame_times_of_a_real_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = numbers_sent(monkeypatch)
    async with rig(settings=StreamSettings()) as made:  # SRT repairs losses for half a second, not for 20 ms
        await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)
        await frames_sent(made.simulator, 30)
        (file,) = (await made.client.stop_stream(0)).files
    own = [one async for one in xdaq_frame_times(file.path)]
    container = [one async for one in frame_times(file.path)]
    assert len(own) == len(container) == file.frames
    ticks = [one.time async for one in xdaq_frame_times(file.path, clock="xdaq_timestamp", rate=1e8)]
    assert ticks == pytest.approx([one.time for one in own], abs=1e-6)
    metadata = await read_metadata(file.path)
    first = sent.index(round(int(metadata.frames["gstreamer_pts"][0]) * 30 / 1e9))
    steps = [after - before for before, after in pairwise(sent[first : first + len(own)])]
    assert [round((one.duration or 0) * 30, 3) for one in own[:-1]] == steps


async def test_take_aligned_by_the_clock_of_the_xdaq(tmp_path: Path) -> None:
    async with rig() as made:
        await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)
        await frames_sent(made.simulator, 30)
        (file,) = (await made.client.stop_stream(0)).files
    record = CameraRecord.model_validate(
        {
            "id": "thorvision://a",
            "name": "a",
            "system": "thorvision",
            "directory": "",
            "first_frame_at": {"unix": 1000.0, "utc": ""},
            "first_frame_bound": 0.01,
            "files": [{"name": "v", "source": "local", "state": "arrived", "path": file.path.name}],
        }
    )
    frames = await FrameTimes.of_camera(record, tmp_path, xdaq_frame_times, drift=1e-4, arrivals=frame_times)
    assert (len(frames), frames.problem) == (file.frames, "")
    tenth = frames.files[0].frame(10)
    assert frames.at(tenth.at + 0.004) == tenth
    begins = frames.files[0].begins_at
    assert tenth.bound == pytest.approx(0.01 + 1e-9 + (tenth.at - begins) * 1e-4)
    # The first frame waited for the caller. None was made after it arrived, and one at that moment.
    arrived = await FrameTimes.of_camera(record, tmp_path, frame_times)
    early = [one.at - made.at for one, made in zip(arrived, frames, strict=True)][:64]
    assert min(early) == pytest.approx(0.0, abs=0.002)
