"""Frames in memory: the packets, cut at every place, and the pipe they come through."""

import asyncio
import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccam.errors import RecordingError, TimeoutError
from asynccam.systems.nanocam.csi.frames import FramePipe, GdpFrameReader
from tests.support.cuts import every_cut
from tests.support.gst import LAUNCH
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from asynccam.systems.nanocam.csi.frames import Frame

# Written by hand: version 1.0, flags, padding, type, length, and 52 bytes that say when.
CAPS = b"video/x-raw, format=(string)BGR, width=(int)3, height=(int)2, framerate=(fraction)30/1"
EVENT = b"GstEventStreamStart;"
FIRST = bytes(range(9)) + b"\0\0\0" + bytes(range(9, 18)) + b"\0\0\0"
SECOND = b"\xff" * 24


def packet(kind: int, payload: bytes) -> bytes:
    return bytes.fromhex(f"0100 00 00 {kind:04x} {len(payload):08x}") + b"\0" * 52 + payload


STREAM = packet(0x4E, EVENT) + packet(2, CAPS) + packet(65, b"") + packet(1, FIRST) + packet(1, SECOND)


def read(pieces: list[bytes]) -> "list[Frame]":
    reader = GdpFrameReader()
    return [frame for piece in pieces for frame in reader.feed(piece)]


def test_reader_with_cuts_anywhere() -> None:
    row = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    for pieces in every_cut(STREAM):
        first, second = read(pieces)
        assert first.tolist() == [row, [[blue + 9, green + 9, red + 9] for blue, green, red in row]]
        assert (first.shape, first.dtype.name) == ((2, 3, 3), "uint8")
        assert first.flags.c_contiguous
        assert first.flags.writeable
        assert second.min() == 255


@settings(deadline=None)
@given(st.lists(st.integers(0, len(STREAM))))
def test_reader_with_many_cuts(places: list[int]) -> None:
    ends = [0, *sorted(places), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(ends)]
    assert [frame.tobytes() for frame in read(pieces)] == [frame.tobytes() for frame in read([STREAM])]


@settings(deadline=None)
@given(st.binary(max_size=400) | st.binary(max_size=200).map(lambda data: STREAM[:170] + data))
def test_reader_with_random_bytes(data: bytes) -> None:
    try:
        read([data])
    except RecordingError:
        return


def test_reader_with_new_caps() -> None:
    other = CAPS.replace(b"width=(int)3", b"width=(int)4").replace(b"height=(int)2", b"height=(int)1")
    shapes = [one.shape for one in read([STREAM + packet(2, other) + packet(1, bytes(12))])]
    assert shapes == [(2, 3, 3), (2, 3, 3), (1, 4, 3)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (packet(1, FIRST), "before its caps"),
        (packet(2, CAPS) + packet(1, FIRST[:-1]), "23 bytes is not 3x2"),
        (b"\x00\x02" + bytes(60), "another protocol"),
        (packet(2, CAPS.replace(b"BGR", b"NV12")), "not of BGR frames"),
        (packet(2, CAPS.replace(b"width=(int)3", b"width=(int)0")), "not of BGR frames"),
        (packet(2, CAPS.replace(b"width=(int)3", b"width=(int)99999")), "not of BGR frames"),
        (packet(2, CAPS.replace(b"height=(int)2, ", b"")), "not of BGR frames"),
        (bytes.fromhex("0100 0000 0002 7fffffff") + bytes(52), "exceed the limit"),
    ],
)
def test_reader_refuses_other_formats(data: bytes, words: str) -> None:
    with pytest.raises(RecordingError, match=words):
        read([data])


@pytest.mark.parametrize("width", [16, 17, 18, 19])
def test_packets_of_gstreamer(width: int) -> None:
    form = f"video/x-raw,format=BGR,width={width},height=5"
    source = ["videotestsrc", "num-buffers=2", "pattern=blue", "!", form]
    command = [LAUNCH, "-q", *source, "!", "gdppay", "!", "fdsink", "fd=1"]
    output = subprocess.run(command, check=True, capture_output=True).stdout
    pictures = read([output])
    assert [one.shape for one in pictures] == [(5, width, 3)] * 2
    for picture in pictures:
        assert (picture == (255, 0, 0)).all()  # blue first, and no row out of step


# -- the pipe ---------------------------------------------------------------------------------------


async def write(pipe: FramePipe, data: bytes) -> None:
    """Return what the process would do; then it ends."""
    await asyncio.to_thread(os.write, pipe.fd, data)
    pipe.close_writing_end()


async def test_pipe_keeps_all_frames() -> None:
    pipe = FramePipe("all", 1 << 20)
    await pipe.open()
    try:
        await write(pipe, STREAM)
        await pipe.drained(10)
        assert [one.tobytes()[:1] for one in pipe.frames] == [b"\0", b"\xff"]
        assert not pipe.full
    finally:
        await pipe.aclose()
        await pipe.aclose()


async def test_pipe_keeps_the_last_frame() -> None:
    pipe = FramePipe("last", 18)
    await pipe.open()
    await write(pipe, STREAM)
    await pipe.drained(10)
    await pipe.aclose()
    (frame,) = pipe.frames
    assert frame.min() == 255


@pytest.mark.parametrize(("keep", "memory", "kept"), [("all", 35, 1), ("all", 17, 0), ("last", 17, 0)])
async def test_pipe_reports_full_memory_once(keep: str, memory: int, kept: int) -> None:
    told: list[bool] = []
    pipe = FramePipe("all" if keep == "all" else "last", memory, lambda: told.append(True))
    await pipe.open()
    await write(pipe, STREAM + packet(1, SECOND) * 50)
    await pipe.drained(10)
    await pipe.aclose()
    assert (len(pipe.frames), pipe.full, told) == (kept, True, [True])


async def test_pipe_raises_invalid_data_at_the_end() -> None:
    pipe = FramePipe("all", 1 << 20)
    await pipe.open()
    await write(pipe, STREAM + b"?" * 500_000)
    with pytest.raises(RecordingError, match="another protocol"):
        await pipe.drained(10)
    await pipe.aclose()
    assert len(pipe.frames) == 2


async def test_drained_times_out() -> None:
    pipe = FramePipe("all", 1 << 20)
    await pipe.open()
    with pytest.raises(TimeoutError, match="end of the frames"):
        await pipe.drained(0.01)
    await pipe.aclose()


async def test_frames_arrive_while_the_writer_runs() -> None:
    pipe = FramePipe("all", 1 << 20)
    await pipe.open()
    await asyncio.to_thread(os.write, pipe.fd, STREAM[:-1])
    await eventually(lambda: len(pipe.frames) == 1, 10)
    await pipe.aclose()


async def test_missing_numpy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    pipe = FramePipe("all", 1)
    with pytest.raises(RecordingError, match=r"asynccam\[video\]"):
        await pipe.open()
    await pipe.aclose()


async def test_failed_pipe_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe", none)
    pipe = FramePipe("all", 1)
    with pytest.raises(RecordingError, match="Too many open files"):
        await pipe.open()
    await pipe.aclose()
