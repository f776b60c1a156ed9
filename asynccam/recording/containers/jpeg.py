"""JPEG pictures (ITU-T T.81): their markers, their scans, and the bytes before and behind them.

Cameras put bytes before, between and behind their pictures, and some leave the Huffman tables out, as
Motion JPEG does. Decoders show all of these. A picture is whole when its end stands where its markers
lead to, and, unless it is progressive or arithmetic, when each block of it has a code.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from asynccam.recording.containers.jpeg_entropy import (
    MOTION_JPEG_TABLES,
    BlockTables,
    flaw_of_interval,
    is_huffman_table,
)
from asynccam.recording.containers.reader import FileView, Scan

_HUFFMAN: Final = 0xC4
_ARITHMETIC: Final = 0xCC
_START: Final = 0xD8
_END: Final = 0xD9
_SCAN: Final = 0xDA
_QUANTIZATION: Final = 0xDB
_LINES: Final = 0xDC
_RESTART_INTERVAL: Final = 0xDD
_RESTARTS: Final = range(0xD0, 0xD8)
# SOF0 to SOF15 begin a frame; the three numbers left out are tables and JPG.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {_HUFFMAN, 0xC8, _ARITHMETIC}
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
# Table B.1: segments between two scans and before the first, apart from frames.
_SEGMENTS: Final = frozenset({_HUFFMAN, _ARITHMETIC, *range(0xDA, 0xF0), 0xFE}) | _FRAMES

# SOI with another marker behind it (B.2.1), as far as the data goes.
_BEGIN: Final = re.compile(rb"\xff\xd8(?:\xff(?:[\xc0-\xff]|\Z)|\Z)")
# In a scan FF 00 is the byte FF itself, and any number of FF may precede a marker (B.1.1.2).
_MARKER: Final = re.compile(rb"\xff[\x01-\xfe]")

_MAX_LEAD: Final = 1 << 16  # bytes that may stand before a picture
_DECODE_BUDGET: Final = 1 << 24
"""Bytes of picture data of which every block is read, in a call; more would take seconds."""
# What a scan and an interval cost besides their bytes, in bytes.
_SCAN_COST: Final = 1 << 15
_INTERVAL_COST: Final = 1 << 8
_MAX_COMPONENTS: Final = 4
_MAX_RESTARTS: Final = 1 << 20
_CUT_OFF: Final = "is cut off before its end of image"


@dataclass(frozen=True, slots=True)
class JpegPicture:
    """Place and size of a JPEG picture within some bytes."""

    begin: int  # offset of its start marker (SOI)
    end: int  # offset behind its end marker (EOI); behind the bytes read of it where it has a flaw
    width: int  # in pixels; 0 where unknown
    height: int  # in pixels; 0 where unknown
    flaw: str  # flaw in words, "is cut off before its end of image", or ``""`` for a whole picture


def find_picture(data: bytes | bytearray | memoryview) -> JpegPicture:
    """Return the first picture in the data, which may stand behind up to 64 KiB of other bytes.

    Raises nothing, whatever the bytes are. Takes about a second for each 4 MB: call it in a thread.
    """
    data = bytes(data)
    begin = _BEGIN.search(data, 0, min(len(data), _MAX_LEAD))
    if begin is None:
        return JpegPicture(0, 0, 0, 0, "holds no picture")
    reading = _PictureReader(data, begin.start(), _DECODE_BUDGET)
    reading.read()
    return JpegPicture(reading.begin, reading.at, reading.width, reading.height, reading.flaw)


class _FlawError(Exception):
    """A picture is not whole; never leaves this module."""


class _CutError(_FlawError):
    """The data ends before the picture."""


@dataclass(slots=True)
class _Component:
    """A component of a frame (B.2.2)."""

    across: int
    down: int
    quantization: int
    scanned: bool = False


@dataclass(slots=True)
class _PictureReader:
    """Reader of one picture's markers; ``budget`` is in bytes of picture data that may still be decoded."""

    data: bytes
    begin: int
    budget: int
    at: int = 0
    width: int = 0
    height: int = 0
    flaw: str = ""
    is_cut: bool = False
    is_too_large: bool = False
    is_one_of_several: bool = False
    """True if it has the index of a multi-picture file (CIPA DC-007)."""
    process: int | None = None
    components: dict[int, _Component] = field(default_factory=dict)
    quantizations: set[int] = field(default_factory=set)
    huffman: dict[int, bytes] = field(default_factory=dict)
    restart_interval: int = 0

    def read(self) -> None:
        """Read the picture to its end, or to its flaw."""
        try:
            self.at = self.begin + 2
            while (marker := self._next_marker()) != _END:
                self._read_segment(marker)
            self._check_scanned()
        except _FlawError as error:
            self.flaw, self.is_cut = str(error), isinstance(error, _CutError)

    def _next_marker(self) -> int:
        # B.1.1.2 wants markers to follow each other; decoders skip the bytes between them, and so does this.
        found = _MARKER.search(self.data, self.at)
        if found is None:
            self.at = len(self.data)
            raise _CutError(_CUT_OFF)
        self.at = found.end()
        return self.data[self.at - 1]

    def _read_segment(self, marker: int) -> None:
        if marker == 0x01 or marker in _RESTARTS:  # markers without a segment
            return
        if marker == _START:
            raise _FlawError("begins a second time before its end of image")
        if marker not in _SEGMENTS:
            raise _FlawError(f"has an invalid marker at byte {self.at - 2}")
        length = int.from_bytes(self.data[self.at : self.at + 2])
        body = self.data[self.at + 2 : self.at + length]
        if len(self.data) < self.at + max(length, 2):
            self.at = len(self.data)
            raise _CutError(_CUT_OFF)
        if length < 2:
            raise _FlawError(f"has a segment of {length} bytes at byte {self.at}")
        self.at += length
        if marker in _FRAMES:
            self._read_frame_header(marker, body)
        elif marker == _QUANTIZATION:
            self._read_quantization_tables(body)
        elif marker == _HUFFMAN:
            self._read_huffman_tables(body)
        elif marker == _RESTART_INTERVAL:
            self.restart_interval = int.from_bytes(self._check_length(body, 2))
        elif marker == _LINES:
            self.height = int.from_bytes(self._check_length(body, 2))
        elif marker == _SCAN:
            self._read_scan(body)
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            self.is_one_of_several = True

    def _check_length(self, body: bytes, length: int) -> bytes:
        if len(body) != length:
            raise _FlawError(f"has a segment of a wrong length before byte {self.at}")
        return body

    def _read_frame_header(self, marker: int, body: bytes) -> None:
        """B.2.2: precision, lines, samples a line, and three bytes a component."""
        if self.process is not None:
            raise _FlawError("has two frame headers")
        self._check_length(body, 6 + 3 * (body[5] if len(body) > 5 else 0))
        self.height, self.width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
        for at in range(6, len(body), 3):
            factors = body[at + 1]
            self.components[body[at]] = _Component(factors >> 4, factors & 15, body[at + 2])
        valid = all(
            0 < component.across < 5 and 0 < component.down < 5 for component in self.components.values()
        )
        if not self.width or not 0 < len(self.components) <= _MAX_COMPONENTS or not valid:
            raise _FlawError("has an invalid frame header")
        self.process = marker

    def _read_quantization_tables(self, body: bytes) -> None:
        """B.2.4.1: 64 values of one or two bytes, none of them 0."""
        at = 0
        while at < len(body):
            size = 2 if body[at] >> 4 else 1
            values = body[at + 1 : at + 1 + 64 * size]
            if (
                len(values) < 64 * size
                or body[at] >> 4 > 1
                or any(not any(values[place : place + size]) for place in range(0, len(values), size))
            ):
                raise _FlawError("has an invalid quantization table")
            self.quantizations.add(body[at] & 15)
            at += 1 + len(values)

    def _read_huffman_tables(self, body: bytes) -> None:
        """B.2.4.2: class and number, 16 counts, the values."""
        at = 0
        while at < len(body):
            end = at + 17 + sum(body[at + 1 : at + 17])
            table = body[at + 1 : end]
            # F.1.2.1 and F.1.2.2: sizes of DC differences go up to 15, values of AC are any byte.
            is_dc = body[at] >> 4 == 0
            if (
                len(body) < max(end, at + 17)
                or not is_huffman_table(table)
                or (is_dc and max(table[16:]) > 16)
            ):
                raise _FlawError("has an invalid Huffman table")
            self.huffman[body[at]] = table
            at = end

    def _read_scan(self, body: bytes) -> None:
        """B.2.3: the components with their tables, then the data up to a marker that is not a restart."""
        if self.process is None:
            raise _FlawError("has a scan before its frame header")
        count = body[0] if body else 0
        self._check_length(body, 4 + 2 * count)
        chosen = [(self.components.get(body[at]), body[at + 1]) for at in range(1, 1 + 2 * count, 2)]
        parts = [(component, tables) for component, tables in chosen if component is not None]
        if not count or len(parts) != count:
            raise _FlawError("has an invalid scan header")
        if (
            self.process != 0xC3
            and not {component.quantization for component, _ in parts} <= self.quantizations
        ):
            raise _FlawError("lacks a quantization table")
        begin, restarts = self.at, self._skip_scan()
        if not self.height and self.data[self.at + 1] == _LINES:
            # B.2.5: where the frame header has no number of lines, the first scan is followed by it.
            self.height = int.from_bytes(self.data[self.at + 4 : self.at + 6])
        if not self.height:
            raise _FlawError("has an invalid frame header")
        if self.process in _SEQUENTIAL:
            begins, ends = [begin, *(at + 2 for at in restarts)], [*restarts, self.at]
            self._check_blocks(parts, list(zip(begins, ends, strict=True)))
        for component, _ in parts:
            component.scanned = True

    def _skip_scan(self) -> list[int]:
        """Go to the marker behind a scan, and return the offsets of its restart markers."""
        restarts: list[int] = []
        for found in _MARKER.finditer(self.data, self.at):
            self.at = found.start()
            marker = self.data[self.at + 1]
            if marker not in _RESTARTS:
                return restarts
            # B.1.1.3, E.1.4: restart markers are numbered modulo 8.
            if marker != _RESTARTS[len(restarts) % 8] or not self.restart_interval:
                raise _FlawError(f"has a restart marker out of order at byte {self.at}")
            restarts.append(self.at)
            if len(restarts) > _MAX_RESTARTS:
                raise _FlawError("has more restart markers than any picture")
        self.at = len(self.data)
        raise _CutError(_CUT_OFF)

    def _check_blocks(self, parts: list[tuple[_Component, int]], intervals: list[tuple[int, int]]) -> None:
        """Compare a scan's data, from restart to restart, with the blocks that it has to have."""
        across = max(component.across for component in self.components.values())
        down = max(component.down for component in self.components.values())
        if len(parts) > 1:  # A.2.3: interleaved
            units = -(-self.width // (8 * across)) * -(-self.height // (8 * down))
            blocks = [
                self._block_tables(tables)
                for component, tables in parts
                for _ in range(component.across * component.down)
            ]
        else:  # A.2.2: only the blocks that the component itself has
            component, tables = parts[0]
            columns, rows = (
                -(-self.width * component.across // across),
                -(-self.height * component.down // down),
            )
            units = -(-columns // 8) * -(-rows // 8)
            blocks = [self._block_tables(tables)]
        # B.2.3: ten blocks a unit at most; each component is in one scan.
        if len(blocks) > 10 or any(component.scanned for component, _ in parts):
            raise _FlawError("has an invalid scan header")
        step = self.restart_interval or units
        wanted = -(-units // step)
        # Some encoders write a restart marker behind the last interval, too.
        # A block has two codes at least, of a bit at least.
        bits = 8 * sum(end - begin for begin, end in intervals)
        if not wanted <= len(intervals) <= wanted + 1 or bits < 2 * units * len(blocks):
            raise _FlawError("lacks a part of its picture data")
        self.budget -= _SCAN_COST
        for index, (begin, end) in enumerate(intervals[:wanted]):
            self.budget -= end - begin + _INTERVAL_COST
            if self.budget < 0:
                return
            flaw = flaw_of_interval(self.data[begin:end], blocks, min(step, units - index * step))
            if flaw:
                raise _FlawError(flaw)

    def _block_tables(self, tables: int) -> BlockTables:
        huffman = self.huffman or MOTION_JPEG_TABLES
        direct, alternating = huffman.get(tables >> 4), huffman.get(0x10 | tables & 15)
        if direct is None or alternating is None:
            raise _FlawError("lacks a Huffman table")
        return direct, alternating

    def _check_scanned(self) -> None:
        if not any(component.scanned for component in self.components.values()):
            raise _FlawError("holds no picture data")
        if not all(component.scanned for component in self.components.values()):
            raise _FlawError("lacks a part of its picture data")


# A still has one picture, or two where a camera answers twice; more of them are Motion JPEG.
_MIN_STREAM: Final = 3
_WINDOW: Final = 1 << 20
_MAX_WINDOW: Final = 1 << 26
_MAX_FILE_LEAD: Final = 512  # bytes that may stand before the picture of a file; a tar archive has as many
# What begins so and has a JPEG inside is something else.
_OTHER_FORMATS: Final = (
    b"%PDF",
    b"ID3",
    b"II*\0",
    b"MM\0*",
    b"8BPS",
    b"RIFF",
    b"OggS",
    b"fLaC",
    b"PK",
    b"MZ",
    b"\x7fELF",
)


# Types of MP4 boxes and AVI lists, and ids of Matroska's segment, headers and clusters.
_CONTAINER: Final = re.compile(
    rb"mdat|moov|ftyp|wide|AVI |LIST|movi|\x18\x53\x80\x67|\x15\x49\xa9\x66|\x16\x54\xae\x6b|\x1f\x43\xb6\x75"
)


def is_jpeg(head: bytes) -> bool:
    """Return whether a file that begins so is read here: a picture, maybe behind other bytes."""
    begin = _BEGIN.search(head, 0, min(len(head), _MAX_FILE_LEAD))
    if begin is None or head.startswith(_OTHER_FORMATS):
        return False
    at = begin.start()
    if at == 0:
        return len(head) > 2
    # Three bytes occur anywhere by chance, a segment with a marker behind it hardly.
    end = at + 4 + int.from_bytes(head[at + 4 : at + 6])
    return head[end : end + 1] == b"\xff" or head[at + 2 : at + 4] == b"\xff\xd8"


def scan_jpeg(view: FileView) -> Scan:
    """Read a picture's markers and data; of Motion JPEG, those of each picture."""
    whole = spoiled = end = 0
    first: _PictureReader | None = None
    flaw, is_cut, is_stream, last_is_cut = "", False, True, False
    for offset, reading in _read_pictures(view):
        if reading.is_too_large:
            return Scan(None, None, note="holds a picture that is too large to be read", understood=False)
        if first is None:
            first, end = reading, offset
            flaw, is_cut, is_stream = reading.flaw, reading.is_cut, not reading.is_one_of_several
        if (reading.width, reading.height) == (first.width, first.height):
            whole += not reading.flaw
        spoiled += bool(reading.flaw)
        last_is_cut = reading.is_cut
    if first is None:
        return Scan(0, None, note="holds no picture")
    if is_stream and whole >= _MIN_STREAM:
        broken = spoiled - last_is_cut
        flaws = [f"has {broken} spoiled picture{'s' * (broken != 1)}"] if broken else []
        if _begins_with_container(view.read_some(0, 2 * _MAX_FILE_LEAD)):
            flaws.append("begins with the remains of another container")
        return Scan(
            whole,
            None,
            truncated="is cut off inside its last picture" if last_is_cut else "",
            damaged="; ".join(flaws),
        )
    if flaw:
        return Scan(0, None, truncated=flaw if is_cut else "", damaged="" if is_cut else flaw)
    behind = view.size - end
    return Scan(1, None, note=f"has {behind} bytes behind its picture" if behind else "")


def _begins_with_container(head: bytes) -> bool:
    """Return whether zeros, or a container's headers, stand in front of the first picture of a stream."""
    begin = _BEGIN.search(head)
    lead = head if begin is None else head[: begin.start()]
    return bool(lead) and (not any(lead[:4]) or _CONTAINER.search(lead) is not None)


def _read_pictures(view: FileView) -> Iterator[tuple[int, "_PictureReader"]]:
    """Yield the offset behind each picture of a file, and its reader; a large one is too much for memory."""
    offset, place, window, budget = 0, 0, _WINDOW, _DECODE_BUDGET
    data = view.read_some(0, window)
    while data:
        is_last = offset + len(data) >= view.size
        found = _BEGIN.search(data, place)
        if found is not None:
            place = found.start()
            reading = _PictureReader(data, place, budget)
            reading.read()
            if not reading.is_cut or is_last:
                place, budget = max(reading.at, place + 2), reading.budget
                yield offset + place, reading
                continue
            if place == 0 and window >= _MAX_WINDOW:
                reading.is_too_large = True
                yield view.size, reading
                return
            window = window if place else 4 * window
        elif is_last:
            return
        else:  # a start may lie across the end of the window
            place, window = max(place, len(data) - 2), _WINDOW
        offset, place = offset + place, 0
        data = view.read_some(offset, window)
