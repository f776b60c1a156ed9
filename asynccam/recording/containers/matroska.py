"""Reads the structure of Matroska and WebM files (RFC 9559): block headers, not their contents."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from asynccam.recording.containers.reader import CutShortError, FileView, Intervals, Scan

_EBML, _SEGMENT, _CLUSTER, _BLOCK_GROUP = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xA0
_INFO, _TRACKS, _TRACK_ENTRY = 0x1549A966, 0x1654AE6B, 0xAE
_TIMESTAMP, _SIMPLE_BLOCK, _BLOCK = 0xE7, 0xA3, 0xA1
_CODEC, _ENCODINGS, _VOID = 0x86, 0x6D80, 0xEC
_SCALE, _DURATION, _TRACK_NUMBER, _TRACK_TYPE, _FRAME_DURATION = 0x2AD7B1, 0x4489, 0xD7, 0x83, 0x23E383
_OPENED: Final = frozenset({_SEGMENT, _CLUSTER, _BLOCK_GROUP, _INFO, _TRACKS, _TRACK_ENTRY})
"""Elements whose children are walked in one flat pass; every other one is stepped over."""
_VIDEO: Final = 1
_RUN: Final = 4096
_AHEAD: Final = 64 * 1024
_LARGE: Final = 8192
"""Above it, a block is stepped over and not read, which saves more than the larger number of reads costs."""
_LONGEST: Final = 12
"""Bytes of an element's id and size, at most."""
_UNKNOWN: Final = tuple((1 << 7 * length) - 1 for length in range(9))
"""Sizes of the elements that do not tell their size, by the length of that number."""


@dataclass(slots=True)
class _Contents:
    scale: int = 1_000_000
    duration: float = 0.0
    track: int = 0
    video: set[int] = field(default_factory=set)
    frame_duration: int = 0
    cluster: int = 0
    frames: int = 0
    first: int | None = None
    last: int = 0
    intervals: Intervals = field(default_factory=Intervals)


def is_matroska(head: bytes) -> bool:
    """Whether a file that begins so is read here."""
    return head[:4] == _EBML.to_bytes(4, "big")


def scan_matroska(view: FileView) -> Scan:
    """Frames, duration and flaws of a Matroska file."""
    found = _Contents()
    walk = _Walk(view)
    try:
        for kind, begin, size in walk:
            _take(view, kind, begin, size, found)
        flaw = walk.flaw()
    except CutShortError:
        flaw = walk.cut()
    usual = found.intervals.usual
    interval = None if usual is None else usual * found.scale / 1e9
    return Scan(found.frames, _seconds(found), truncated=flaw, interval=interval)


class _Walk:
    """The elements of a file in one flat pass: id, begin and size of what is in them (0 for what is opened).

    Raises CutShortError where the file ends, or stops making sense, within an element.

    Attributes:
        position: Where the present element begins; who iterates may move it on.
    """

    def __init__(self, view: FileView) -> None:
        self.position = 0
        self._view = view
        self._segment_end: int | None = None

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        while self.position < self._view.size:
            kind, size, begin = _element(self._view, self.position)
            if kind in _OPENED:
                if kind == _SEGMENT:
                    self._segment_end = None if size is None else begin + size
                self.position = begin
                yield kind, begin, 0
                continue
            if size is None or begin + size > self._view.size:
                raise CutShortError
            yield kind, begin, size
            self.position = max(self.position, begin + size)
            if kind == _VOID and self._view.read_some(self.position, 1) == b"\0":
                # GStreamer strikes out the length of a single frame by a void that is a byte too short. No
                # element begins with a zero.
                self.position += 1

    def cut(self) -> str:
        """The flaw of a file at whose present position nothing more can be read."""
        return f"cut off at byte {self.position} of {self._view.size}"

    def flaw(self) -> str:
        """The flaw of a file that was read to its end."""
        if self._segment_end is None:
            return "never finalized: its length and index were not written"
        if self._segment_end > self._view.size:
            return f"{self._segment_end - self._view.size} bytes short of the length in its header"
        return ""


@dataclass(slots=True)
class Track:
    """What a file says of one of its tracks.

    Attributes:
        number: Its number in blocks.
        video: Whether it holds pictures.
        codec: Matroska's name of the codec, ``V_MJPEG`` for example.
        encoded: Whether the bytes in its blocks are compressed or encrypted once more.
    """

    number: int = 0
    video: bool = False
    codec: str = ""
    encoded: bool = False


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Blocks that follow each other within one cluster, of all tracks.

    Attributes:
        time: The cluster's timestamp, to which the times in the blocks are relative, or None.
        heads: The first bytes of each block: track number, relative time (2 bytes), flags (1), then the
            frame. Shorter only where a block is.
    """

    time: int | None
    heads: list[bytes]


class BlockReader:
    """Reads only the beginning of every block, in constant memory; for use in a thread.

    Args:
        view: The file.
        length: Bytes wanted of each block.

    Attributes:
        tracks: The tracks; complete when the first run is given.
        flaw: Why the file is not complete, or ``""``; known after the last run.
    """

    def __init__(self, view: FileView, length: int) -> None:
        self.tracks: list[Track] = []
        self.flaw = ""
        self._view = view
        self._length = length
        self._heads: list[bytes] = []

    def runs(self) -> Iterator[BlockRun]:
        """Every whole block, in the order of the file."""
        walk = _Walk(self._view)
        time: int | None = None
        try:
            for kind, begin, size in walk:
                if kind in (_SIMPLE_BLOCK, _BLOCK):
                    self._heads.append(self._view.read(begin, min(size, self._length)))
                    walk.position = self._hop(begin + size)
                elif kind in (_CLUSTER, _TIMESTAMP):
                    yield from self._run(time)
                    time = None if kind == _CLUSTER else _number(self._view, begin, size)
                else:
                    self._note(kind, begin, size)
                if len(self._heads) >= _RUN:
                    yield from self._run(time)
            self.flaw = walk.flaw()
        except CutShortError:
            self.flaw = walk.cut()
        yield from self._run(time)

    def _run(self, time: int | None) -> Iterator[BlockRun]:
        heads, self._heads = self._heads, []
        if heads:
            yield BlockRun(time, heads)

    def _note(self, kind: int, begin: int, size: int) -> None:
        """Take what is said of tracks."""
        if kind == _TRACK_ENTRY:
            self.tracks.append(Track())
        elif not self.tracks:
            return
        elif kind == _TRACK_NUMBER:
            self.tracks[-1].number = _number(self._view, begin, size)
        elif kind == _TRACK_TYPE:
            self.tracks[-1].video = _number(self._view, begin, size) == _VIDEO
        elif kind == _CODEC:
            name = self._view.read(begin, min(size, 64)).rstrip(b"\0")
            self.tracks[-1].codec = name.decode("ascii", "replace")
        elif kind == _ENCODINGS:
            self.tracks[-1].encoded = True

    def _hop(self, position: int) -> int:
        """Take the simple blocks that begin here, the usual case, fast; gives where something else begins.

        Whatever is not a whole simple block with a whole neighbourhood is left to the walk.
        """
        heads, length, end = self._heads, self._length, self._view.size
        ahead = _AHEAD
        while len(heads) < _RUN:
            data = self._view.read_some(position, ahead)
            here, last = 0, len(data) - length - _LONGEST
            while here <= last and data[here] == _SIMPLE_BLOCK:
                width = 9 - data[here + 1].bit_length()
                if width > 8:
                    return position + here
                begin = here + 1 + width
                size = int.from_bytes(data[here + 1 : begin], "big") & _UNKNOWN[width]
                if size == _UNKNOWN[width] or position + begin + size > end:
                    return position + here
                here = begin + size
                heads.append(data[begin : begin + length] if size >= length else data[begin:here])
            if here == 0:
                return position
            if here <= last:
                return position + here
            position += here
            ahead = length + _LONGEST if size > _LARGE else _AHEAD
        return position


def _seconds(found: _Contents) -> float | None:
    if found.first is None:
        return None
    if found.duration > 0:
        return found.duration * found.scale / 1e9
    return ((found.last - found.first) * found.scale + found.frame_duration) / 1e9


def _element(view: FileView, position: int) -> tuple[int, int | None, int]:
    """Id, size (None if open-ended) and begin of the contents of the element at a position."""
    head = view.read(position, min(12, view.size - position))
    kind, length = _variable(head, 0, keep_marker=True)
    size, size_length = _variable(head, length, keep_marker=False)
    open_ended = size == (1 << 7 * size_length) - 1
    return kind, None if open_ended else size, position + length + size_length


def _variable(data: bytes, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """An EBML number of variable length, and that length."""
    if at >= len(data) or data[at] == 0:
        raise CutShortError
    length = 9 - data[at].bit_length()
    if at + length > len(data) or (keep_marker and length > 4):
        raise CutShortError
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep_marker else value & ((1 << 7 * length) - 1)), length


def _take(view: FileView, kind: int, begin: int, size: int, found: _Contents) -> None:
    if kind in (_SIMPLE_BLOCK, _BLOCK):
        head = view.read(begin, min(size, 12))
        track, length = _variable(head, 0, keep_marker=False)
        if track in found.video:
            when = found.cluster + int.from_bytes(head[length : length + 2], "big", signed=True)
            if found.first is None:
                found.first = found.last = when
            elif when > found.last:
                found.intervals.add(when - found.last)
                found.last = when
            else:
                found.first = min(found.first, when)
            found.frames += 1
    elif kind == _TIMESTAMP:
        found.cluster = _number(view, begin, size)
    elif kind == _SCALE:
        found.scale = _number(view, begin, size)
    elif kind == _DURATION and size in (4, 8):
        found.duration = struct.unpack(">f" if size == 4 else ">d", view.read(begin, size))[0]
    elif kind == _TRACK_NUMBER:
        found.track = _number(view, begin, size)
    elif kind == _TRACK_TYPE and _number(view, begin, size) == _VIDEO:
        found.video.add(found.track)
    elif kind == _FRAME_DURATION:
        found.frame_duration = _number(view, begin, size)


def _number(view: FileView, begin: int, size: int) -> int:
    return int.from_bytes(view.read(begin, min(size, 8)), "big")
