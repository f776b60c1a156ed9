"""Per-frame metadata of an XDAQ, read from recordings; needs NumPy (the extra ``video``).

Only the first bytes of each frame are read, so the time needed depends on the number of frames, not on
their size. See docs/protocols/thorvision.md.
"""

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asynccam.errors import NotFoundError, StorageError, UsageError
from asynccam.model.info import FrameTime
from asynccam.recording.containers.matroska import BlockReader, BlockRun, is_matroska
from asynccam.recording.containers.reader import AbortedError, FileView, SteppedReader
from asynccam.runtime.tasks import finish

FRAME: Final = np.dtype(
    [
        ("frame_pts", "i8"),
        ("gstreamer_pts", "u8"),
        ("xdaq_timestamp", "u8"),
        ("sample_index", "u4"),
        ("ttl_in", "u4"),
        ("ttl_out", "u4"),
    ]
)
"""One frame: its time in the recording (ticks of the file, milliseconds in GStreamer's files; -1 in ``.bin``
files, which have none), then the fields of the protocol page."""

_RECORD: Final = [
    ("gstreamer_pts", "<u8"),
    ("xdaq_timestamp", "<u8"),
    ("sample_index", "<u4"),
    ("ttl_in", "<u4"),
    ("ttl_out", "<u4"),
    ("spi_perf_counter", "<u4"),
    ("reserved", "<u8"),
]
_RECORD_TYPE: Final = np.dtype(_RECORD)
_BLOCK_TYPE: Final = np.dtype(
    [
        ("track", "u1"),
        ("time", ">i2"),
        ("flags", "u1"),
        ("start", ">u2"),
        ("marker", ">u2"),
        ("length", ">u2"),
        *_RECORD,
    ]
)
_BLOCK_HEAD: Final = 4
_COPIED_FIELDS: Final = _RECORD_TYPE.names[:5] if _RECORD_TYPE.names else ()
_LACED: Final = 0x06
Clock = Literal["gstreamer_pts", "xdaq_timestamp", "sample_index"]
"""Field of the metadata that counts time."""
_RATES: Final[dict[Clock, float | None]] = {
    "gstreamer_pts": 1e9,
    "xdaq_timestamp": None,
    "sample_index": None,
}
"""Ticks per second; None where the maker states none."""
_CODECS: Final = ("V_MJPEG", "V_MS/VFW/FOURCC")


@dataclass(frozen=True, slots=True, eq=False)
class Metadata:
    """Metadata of a recording, or of a part of it.

    Attributes:
        frames: A row of `FRAME` for each frame that has metadata, in the order of the file.
        without_metadata: Number of frames without metadata, which have no row.
        positions: For each row, the index of its frame in this part, counting those without metadata.
        flaw: Why the file is incomplete (all that can be read is here), or ``""``.
    """

    frames: NDArray[np.void]
    without_metadata: int
    flaw: str = ""
    positions: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    def align(
        self,
        neural_timestamps: ArrayLike,
        *,
        field: Literal["sample_index", "xdaq_timestamp"] = "sample_index",
    ) -> NDArray[np.intp]:
        """Return, for each frame, the index of the neural sample that is nearest in time.

        ``neural_timestamps`` are the samples' timestamps on the clock of ``field``, ascending. Of two
        samples equally near, the earlier is taken. A frame before the first sample or after the last has -1.

        Raises:
            UsageError: The timestamps are not a one-dimensional array of numbers in ascending order.
        """
        samples = np.asarray(neural_timestamps)
        if samples.ndim != 1 or samples.dtype.kind not in "iuf":
            raise UsageError("neural timestamps must be a one-dimensional array of numbers")
        # As floats, integers above 2**53 could not be distinguished.
        clock: type[np.number[Any]] = np.float64 if samples.dtype.kind == "f" else np.int64
        samples, wanted = samples.astype(clock), self.frames[field].astype(clock)
        if not np.all(samples[1:] >= samples[:-1]) or (samples.size and np.isnan(samples[0])):
            raise UsageError("neural timestamps must be in ascending order")
        if not samples.size:
            return np.full(wanted.shape, -1, np.intp)
        after = np.searchsorted(samples, wanted)
        late = samples[np.minimum(after, samples.size - 1)]
        before = np.maximum(after - 1, 0)
        nearest = np.where(wanted - samples[before] <= late - wanted, before, after)
        # Of equal samples the first, which searchsorted returns.
        nearest = np.searchsorted(samples, samples[np.minimum(nearest, samples.size - 1)])
        inside = (wanted >= samples[0]) & (wanted <= samples[-1])
        return np.where(inside, nearest, -1).astype(np.intp)


async def read_metadata(path: Path) -> Metadata:
    """Read all metadata of a recording, off the loop.

    The file is a Matroska recording of Motion JPEG, also one that is cut off or still being written, or a
    ``.bin`` file.

    Raises:
        NotFoundError: There is no such file.
        StorageError: The file cannot be read.
        UsageError: The file is of another kind.
    """
    parts, positions, without, flaw = [np.empty(0, FRAME)], [np.empty(0, np.intp)], 0, ""
    count = 0
    async for part in iter_metadata(path):
        parts.append(part.frames)
        positions.append(part.positions + count)
        count += len(part.frames) + part.without_metadata
        without += part.without_metadata
        flaw = part.flaw
    frames: NDArray[np.void] = np.concatenate(parts)
    return Metadata(frames, without, flaw, np.concatenate(positions))


async def xdaq_frame_times(
    path: Path, *, clock: Clock = "gstreamer_pts", rate: float | None = None
) -> AsyncGenerator[FrameTime, None]:
    """Yield the times of a recording's frames by the XDAQ's own clock, from the metadata in each frame.

    Pass it to `asynccam.take.FrameTimes.of_camera` instead of `asynccam.recording.frame_times`. The times do
    not depend on when each frame arrived here. The server's clock may drift from this computer's, so pass
    ``drift`` as well. The steps between frames are used; the manifest has the first frame's time.

    Args:
        path: As for `read_metadata`.
        clock: Field to take the times from. Wraps of a 32-bit counter are handled.
        rate: Ticks per second of that field; may be omitted for ``gstreamer_pts``, which is in nanoseconds.
            The makers state no rate for the others.

    Yields:
        Each frame in the order of the file; ``time`` is None for one without metadata. Times count from the
        first frame with metadata.

    Raises:
        NotFoundError, StorageError: As for `read_metadata`.
        UsageError: As for `read_metadata`, or the rate is missing or not above 0.
    """
    if clock not in _RATES:
        raise UsageError(f"{clock!r} is not a clock of an XDAQ; expected one of {', '.join(_RATES)}")
    ticks = _RATES[clock] if rate is None else rate
    if ticks is None or not 0 < ticks < math.inf:
        raise UsageError(f"the rate of {clock} must be given, in ticks per second above 0, not {rate}")
    wrap = 1 << (8 * FRAME[clock].itemsize)
    first: int | None = None
    latest = elapsed = index = 0
    before: FrameTime | None = None
    async with aclosing(iter_metadata(path)) as parts:
        async for part in parts:
            stamps = dict(zip(part.positions.tolist(), part.frames[clock].tolist(), strict=True))
            for position in range(len(part.frames) + part.without_metadata):
                stamp: int | None = stamps.get(position)
                time = None
                if stamp is not None:
                    if first is None:
                        first = latest = stamp
                    # The smaller of both directions: a clock that went back a little has not wrapped.
                    step = (stamp - latest + wrap // 2) % wrap - wrap // 2
                    latest, elapsed = stamp, elapsed + step
                    time = elapsed / ticks
                if before is not None:
                    yield _until(before, time)
                before = FrameTime(index, time, None, 1 / ticks)
                index += 1
    if before is not None:
        yield before


def _until(frame: FrameTime, following: float | None) -> FrameTime:
    if frame.time is None or following is None or following < frame.time:
        return frame
    return replace(frame, duration=following - frame.time)


async def iter_metadata(path: Path, *, rows: int = 8192) -> AsyncGenerator[Metadata, None]:
    """Yield the metadata of a recording in parts, in constant memory, read off the loop.

    Parts have about ``rows`` frames; there is at least one part, and only the last has a ``flaw``. Errors as
    of `read_metadata`.
    """
    if rows < 1:
        raise UsageError(f"rows must be at least 1, not {rows}")
    reader = SteppedReader(partial(_parts, Path(path), rows), 1)
    try:
        while parts := await asyncio.to_thread(reader.step):
            yield parts[0]
    finally:
        reader.abort.set()
        await finish(asyncio.to_thread(reader.close))


def _parts(path: Path, rows: int, abort: threading.Event) -> Generator[Metadata, None, None]:
    try:
        with FileView(path, abort) as view:
            if path.suffix.lower() == ".bin":
                yield from _records(view, rows)
            elif not is_matroska(view.read_some(0, 4)):
                raise UsageError(f"{path} is neither a Matroska recording nor a .bin file")
            else:
                yield from _recording(view, rows, path)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except AbortedError:
        return
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}") from error


def _records(view: FileView, rows: int) -> Iterator[Metadata]:
    """Yield the parts of a file that consists of records only."""
    width, position = _RECORD_TYPE.itemsize, 0
    while True:
        data = view.read_some(position, rows * width)
        position += len(data)
        count, rest = divmod(len(data), width)
        frames = np.empty(count, FRAME)
        frames["frame_pts"] = -1
        _copy(np.frombuffer(data, _RECORD_TYPE, count), frames)
        if len(data) < rows * width:
            flaw = f"{rest} bytes at the end are not a complete record" if rest else ""
            yield Metadata(frames, 0, flaw, np.arange(count))
            return
        yield Metadata(frames, 0, "", np.arange(count))


def _recording(view: FileView, rows: int, path: Path) -> Iterator[Metadata]:
    """Yield the parts of a Matroska file."""
    reader = BlockReader(view, _BLOCK_TYPE.itemsize)
    track: int | None = None
    waiting: list[BlockRun] = []
    count = 0
    for run in reader.runs():
        if track is None:
            track = _video_track(reader, path)
        waiting.append(run)
        count += len(run.heads)
        if count >= rows:
            yield _part(waiting, track, path)
            waiting, count = [], 0
    if track is None and not reader.flaw:
        track = _video_track(reader, path)
    yield _part(waiting, track or 0, path, reader.flaw)


def _video_track(reader: BlockReader, path: Path) -> int:
    track = next((track for track in reader.tracks if track.video), None)
    if track is None:
        raise UsageError(f"{path} has no video track")
    if track.codec not in _CODECS:
        raise UsageError(f"the video in {path} is {track.codec or 'of an unknown codec'}, not Motion JPEG")
    if track.encoded or not 0 < track.number < 0x7F:
        raise UsageError(f"{path} stores its frames as no recorder of ThorVision streams does")
    return track.number


def _part(runs: list[BlockRun], track: int, path: Path, flaw: str = "") -> Metadata:
    """Return the metadata in some blocks, decoded together as one array."""
    heads = [head for run in runs for head in run.heads]
    data = b"".join(heads)
    width = _BLOCK_TYPE.itemsize
    if len(data) < len(heads) * width:  # a frame that short has no metadata
        data = b"".join(
            head if len(head) == width else head[:_BLOCK_HEAD].ljust(width, b"\0") for head in heads
        )
    blocks = np.frombuffer(data, _BLOCK_TYPE)
    clusters = np.array([-(1 << 62) if run.time is None else min(run.time, 1 << 62) for run in runs], "i8")
    pts = np.repeat(clusters, [len(run.heads) for run in runs]) + blocks["time"]
    # A block begins with its track as a variable-length number, of one byte: 0x80 | track (RFC 9559, 10.1).
    # Other demuxers give these no time either: outside a timed cluster, or before zero.
    chosen = (blocks["track"] == 0x80 | track) & (pts >= 0)
    if np.any(blocks["flags"][chosen] & _LACED):
        raise UsageError(f"{path} has several frames in one block, as no recorder of ThorVision streams does")
    # Right behind FF D8 an application segment (FFE0 to FFEF) or a comment (FFFE), long enough for a record.
    marker = blocks["marker"]
    marked = ((marker >= 0xFFE0) & (marker <= 0xFFEF)) | (marker == 0xFFFE)
    valid = chosen & marked & (blocks["start"] == 0xFFD8) & (blocks["length"] >= 2 + _RECORD_TYPE.itemsize)
    frames = np.empty(int(np.count_nonzero(valid)), FRAME)
    frames["frame_pts"] = pts[valid]
    _copy(blocks[valid], frames)
    positions = np.flatnonzero(valid[chosen])
    return Metadata(frames, int(np.count_nonzero(chosen)) - len(frames), flaw, positions)


def _copy(source: NDArray[np.void], target: NDArray[np.void]) -> None:
    for name in _COPIED_FIELDS:
        target[name] = source[name]
