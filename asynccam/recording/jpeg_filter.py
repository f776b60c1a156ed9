"""Filter of spoiled pictures in Motion JPEG: a program between two pipes, and the splitter it is made of.

GStreamer's ``jpegparse`` fails at a picture without its end, and swallows what follows one whose headers
lie. So a stream goes through this program instead. It runs in a process of its own, like GStreamer, so that
neither a busy nor a dead Python holds up a recording, and imports only the standard library.
"""

import contextlib
import os
import re
import struct
import sys
import time
from typing import Final

_START: Final = b"\xff\xd8"
_END: Final = 0xD9
_SCAN: Final = 0xDA
_START_MARKER: Final = 0xD8
_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header, which has the size of the picture: ITU-T T.81, table B.1."""
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length: ITU-T T.81, B.1.1.3
_NEXT_MARKER: Final = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""The next marker within a scan: FF is followed by 00 in data, and by D0 to D7 in restart markers."""
_MAX_PICTURE: Final = 64 << 20  # bytes of a picture; more are taken for one without an end
_SIZE_CHANGE: Final = 3
"""Pictures of another size, one after the other, that are taken for a change and not for spoiled ones."""
_READ_SIZE: Final = 1 << 18
_SEGMENT_HEAD: Final = 9  # bytes of a segment that are read: those of a frame header to its size
_PADDING: Final = 1024  # zeros before the first picture that are taken for one
_HEADER: Final = struct.Struct(">BBBxHIQQQQHQ10s")
_BUFFER: Final = 1
_CAPS: Final = 2
_NONE: Final = (1 << 64) - 1
_MIN_INTERVAL: Final = 1_000_000
"""Nanoseconds from one frame to the next at least: Matroska counts milliseconds."""


class _PendingPicture:
    """A picture in the making: how far its segments were followed."""

    __slots__ = ("_in_scan", "_offset", "scanned", "size", "waits")

    def __init__(self, start: int) -> None:
        self.size = b""  # height and width, as in the frame header
        self.waits = False  # for the rest of a segment before the scan
        self.scanned = False  # whether it has a scan
        self._offset = start + len(_START)
        self._in_scan = False

    def find_end(self, data: bytearray) -> int | None:
        """Return where it ends; None while that is not known, and minus where to look on if it is spoiled."""
        while True:
            if self._in_scan:
                found = _NEXT_MARKER.search(data, self._offset)
                if found is None:
                    self._offset = max(self._offset, len(data) - 1)  # which may begin a marker
                    return None
                self._offset, self._in_scan = found.start(), False
            here = self._offset
            if len(data) < here + 2:
                self.waits = not self.scanned
                return None
            kind = data[here + 1]
            if data[here] != 0xFF or kind == 0:
                return -len(_START)
            if kind == _END:
                return here + 2 if self.scanned and self.size else -len(_START)
            if kind == _START_MARKER:
                return -here
            if kind == 0xFF:  # ITU-T T.81, B.1.1.2: any number of fill bytes may precede a marker
                self._offset += 1
            elif kind in _STANDALONE:
                self._offset += 2
            elif len(data) < here + _SEGMENT_HEAD:
                self.waits = not self.scanned
                return None
            elif not self._enter(kind, data[here + 2 : here + _SEGMENT_HEAD]):
                return -len(_START)

    def _enter(self, kind: int, head: bytearray) -> bool:
        """Step over a segment; return False if it cannot be one."""
        length = int.from_bytes(head[:2])
        if kind in _FRAME_HEADERS:
            self.size = bytes(head[3:7])
        elif kind == _SCAN:
            self.scanned = self._in_scan = True
        self._offset += 2 + length
        return length >= 2


class JpegFilter:
    """Splitter of a Motion JPEG stream that leaves out spoiled pictures, wherever its pieces are cut.

    A picture is whole if its segments follow each other as their lengths say, from a start marker by a frame
    header and a scan to the end marker, with no other start marker on the way. Its size has to be that of the
    others: a thumbnail in the remains of a picture looks like a picture.
    """

    def __init__(self) -> None:
        # Pictures that were left out. Bytes between two whole pictures that belong to neither count as one,
        # however many they are; zeros and FF only if there are as many as in half a picture.
        self.spoiled = 0
        self._data = bytearray()
        self._picture: _PendingPicture | None = None
        self._size: bytes | None = None  # of the pictures that are handed on
        self._half = _PADDING
        self._other_sizes: list[bytes] = []  # sizes of pictures since the last whole one
        self._in_garbage = False
        self._padding = 0

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take the next piece; return the whole pictures that it completes.

        Each has its height and width as in its header: two big-endian numbers of 16 bits.
        """
        self._data += data
        pictures: list[tuple[bytes, bytes]] = []
        while self._find_start():
            assert self._picture is not None
            end = self._picture.find_end(self._data)
            if end is None and (len(self._data) > _MAX_PICTURE or self._is_overrun()):
                end = -len(_START)
            if end is None:
                break
            if end < 0:
                self._skip_picture(-end)
            elif (picture := self._complete(end, self._picture.size)) is not None:
                pictures.append(picture)
        return pictures

    def _find_start(self) -> bool:
        """Discard the bytes before the next start marker; return False if there is none yet."""
        if self._picture is not None:
            return True
        at = self._data.find(_START)
        found = at >= 0
        self._discard(at if found else len(self._data) - self._data.endswith(_START[:1]))
        if found:
            self._picture = _PendingPicture(0)
        return found

    def _discard(self, count: int) -> None:
        junk = self._data[:count]
        del self._data[:count]
        self._padding += len(junk)
        if junk.strip(b"\0\xff") or self._padding >= self._half:
            self._note_spoiled()

    def _note_spoiled(self) -> None:
        if not self._in_garbage:
            self._in_garbage = True
            self.spoiled += 1

    def _skip_picture(self, count: int) -> None:
        """Leave a spoiled picture out, and look for the next one in what follows its start marker."""
        assert self._picture is not None
        if self._picture.scanned:
            self._in_garbage = False  # certainly a picture, unlike the bytes before it
        self._note_spoiled()
        del self._data[:count]
        self._picture = None

    def _is_overrun(self) -> bool:
        """Return whether pictures have arrived that the length of a segment would swallow."""
        assert self._picture is not None
        if not self._picture.waits:
            return False
        at, seen = self._data.find(_START, len(_START)), self._size
        while at >= 0:
            other = _PendingPicture(at)
            if (other.find_end(self._data) or 0) > 0:
                if seen == other.size:
                    return True
                seen = other.size if self._size is None else seen
            at = self._data.find(_START, at + len(_START))
        return False

    def _complete(self, end: int, size: bytes) -> tuple[bytes, bytes] | None:
        """Return the picture that ends there, unless it is one of another size."""
        picture = bytes(self._data[:end])
        del self._data[:end]
        self._picture = None
        if self._size is not None and size != self._size:
            self._other_sizes = (
                [*self._other_sizes, size] if self._other_sizes[-1:] in ([], [size]) else [size]
            )
            if len(self._other_sizes) < _SIZE_CHANGE:
                self.spoiled += not self._in_garbage
                return None
        self._size, self._other_sizes, self._in_garbage, self._padding = size, [], False, 0
        self._half = len(picture) // 2
        return picture, size


class FrameWriter:
    """Writer of GStreamer's data protocol 1.0, which ``gdpdepay`` reads: frames, each with its size and time.

    So a frame stays one buffer, however many arrive at once. ``jpegparse`` gives the second of two pictures
    in one buffer no time, and ``matroskamux`` 1.22 makes 584 years of that.
    """

    def __init__(self) -> None:
        self._size: bytes | None = None
        self._last = -_MIN_INTERVAL

    def frame(self, picture: bytes, size: bytes, at: int) -> bytes:
        """Return the bytes for a JPEG with its height and width as in its header.

        ``at`` is in nanoseconds since the first one; made later where it is not after the one before.
        """
        head = b"" if self._size is not None else _EVENT_STREAM_START
        if size != self._size:
            height, width = struct.unpack(">HH", size)
            form = f"image/jpeg, parsed=(boolean)true, width=(int){width}, height=(int){height}"
            head += _packet(_CAPS, form.encode() + b"\0")
        if self._size is None:
            head += _EVENT_SEGMENT
        self._size = size
        self._last = max(at, self._last + _MIN_INTERVAL)
        return head + _packet(_BUFFER, picture, self._last)


def _packet(kind: int, payload: bytes, at: int = 0) -> bytes:
    """Return a packet: version 1.0, flags, kind, length, times, offsets, and checksums that are not used."""
    times = (at, _NONE, _NONE, _NONE, 0, at) if kind == _BUFFER else (0, 0, 0, 0, 0, 0)
    return _HEADER.pack(1, 0, 0, kind, len(payload), *times, b"") + payload


_EVENT_STREAM_START: Final = _packet(0x284E, b"GstEventStreamStart, stream-id=(string)pictures;\0")
_EVENT_SEGMENT: Final = _packet(
    0x464E,
    b'GstEventSegment, segment=(GstSegment)"segment, flags=(GstSegmentFlags)GST_SEGMENT_FLAG_NONE,'
    b" rate=(double)1, applied-rate=(double)1, format=(GstFormat)time, base=(guint64)0, offset=(guint64)0,"
    b" start=(guint64)0, stop=(guint64)18446744073709551615, time=(guint64)0, position=(guint64)0,"
    b' duration=(guint64)18446744073709551615;";\0',
)


def main(source: int, target: int) -> None:
    """Copy whole pictures from one descriptor to another; print how many were spoiled when that changes."""
    pictures, writer, reported, began = JpegFilter(), FrameWriter(), 0, None
    while data := os.read(source, _READ_SIZE):
        now = time.monotonic_ns()
        for picture, size in pictures.feed(data):
            began = now if began is None else began
            view = memoryview(writer.frame(picture, size, now - began))
            while view:
                view = view[os.write(target, view) :]
        if pictures.spoiled != reported:
            reported = pictures.spoiled
            # Python may have died; the recording goes on.
            with contextlib.suppress(OSError):
                os.write(1, b"spoiled %d\n" % reported)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
