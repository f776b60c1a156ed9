"""Reading the metadata of every frame of a ten-minute recording: asynccam beside the maker's way.

    python -m benchmarks.metadata [--quick] [--json] [--frame-bytes N]

The maker's way is to demultiplex every packet with PyAV, unpack each one's numbers, and make an array of
the list of tuples at the end. Both read the same file, in turns, after both were seen to give the same
array. Frames are small here, which is kind to the rival: it reads them whole, asynccam only their beginning.
"""

import asyncio
import re
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from asynccam.systems.thorvision.metadata import FRAME, iter_metadata, read_metadata
from benchmarks._report import Row, arguments, emit, interleave

SECONDS = 600
MAKER, OURS, PARTS = "PyAV, packet by packet", "read_metadata", "iter_metadata"


def write_recording(path: Path, frames: int, frame_bytes: int) -> None:
    """A recording of so many frames in ten minutes, put into Matroska by GStreamer as recordings are."""
    filler = b"\x55" * (frame_bytes - 46)
    unpacked = path.with_suffix(".avi")  # GStreamer takes the frames' times from it
    with av.open(str(unpacked), "w") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(frames, SECONDS))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(frames):
            numbers = struct.pack("<QQIIIIQ", number * 6_000_000, number * 600_000, number * 180, 1, 2, 3, 0)
            packet = av.Packet(b"\xff\xd8\xff\xef\x00\x2a" + numbers + filler)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(SECONDS, frames), True
            packet.pts = packet.dts = number
            container.mux(packet)
    remux = f"filesrc location={unpacked} ! avidemux ! matroskamux ! filesink location={path}"
    subprocess.run(["gst-launch-1.0", "-q", *remux.split()], check=True)
    unpacked.unlink()


def maker(path: Path) -> NDArray[np.void]:
    rows = []
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.pts is None:
                continue
            data = bytes(packet)
            if len(data) < 46:
                continue
            rows.append((packet.pts, *struct.unpack("<QQIII", data[6:34])))
    return np.array(rows, dtype=FRAME)


def ours(path: Path) -> NDArray[np.void]:
    return asyncio.run(read_metadata(path)).frames


async def count(path: Path) -> int:
    total = 0
    async for part in iter_metadata(path):
        total += len(part.frames)
    return total


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def grown(call: Callable[[], object]) -> float:
    """MiB by which this process was larger during a call than before it."""

    def memory(field: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(re.findall(rf"{field}:\s+(\d+)", status)[0])

    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    call()
    return max(0, memory("VmHWM") - before) / 1024


def measure(frames: int, frame_bytes: int, rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        path, small = Path(scratch) / "recording.mkv", Path(scratch) / "small.mkv"
        write_recording(path, frames, frame_bytes)
        write_recording(small, frames // 10, frame_bytes)
        expected = maker(path)
        if len(expected) != frames or not np.array_equal(expected, ours(path)):
            raise RuntimeError("the two do not give the same array")
        del expected
        asyncio.run(count(small))  # what is allocated once and kept is not counted below
        memory = {
            f"{PARTS}, {frames // 10:,} frames": grown(lambda: asyncio.run(count(small))),
            f"{PARTS}, {frames:,} frames": grown(lambda: asyncio.run(count(path))),
            f"{MAKER}, {frames:,} frames": grown(lambda: maker(path)),
        }
        cases: dict[str, Callable[[], float]] = {
            MAKER: lambda: timed(lambda: maker(path)),
            OURS: lambda: timed(lambda: ours(path)),
            PARTS: lambda: timed(lambda: asyncio.run(count(path))),
        }
        speed = {
            name: statistics.median(frames / seconds for seconds in results)
            for name, results in interleave(cases, rounds).items()
        }
    rows = [
        Row("metadata", name, value, "frames/s", MAKER, value / speed[MAKER]) for name, value in speed.items()
    ]
    return rows + [Row("metadata", f"memory: {name}", value, "MiB") for name, value in memory.items()]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--frame-bytes", type=int, default=4000, help="bytes in a frame")
    options = parser.parse_args()
    frames, rounds = (2_000, 1) if options.quick else (100_000, 5)
    emit(measure(frames, options.frame_bytes, rounds), as_json=options.json)


if __name__ == "__main__":
    main()
