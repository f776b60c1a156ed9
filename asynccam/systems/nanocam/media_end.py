"""Where a picture or a film ends, told by its own format while it passes by.

The protocol puts a word behind each file, and the word may also stand inside one. So a file is followed
here: a JPEG marker by marker, an MP4 box by box. What is neither has no end of its own; for that the
word itself has to do. Nothing of a file is kept. See docs/protocols/nanocam.md, "Answers".
"""

import re
from enum import Enum
from typing import Final, Protocol

JPEG_START: Final = b"\xff\xd8\xff"
HEAD: Final = 8
"""Bytes by which a format is recognised."""

_BOX_HEADER: Final = 8
_LARGE_BOX_HEADER: Final = 16
_FIRST_BOXES: Final = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
# Inside of a scan: a marker other than a stuffed byte, a restart or filling.
_SCAN_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class Way(Enum):
    """How a walk stopped."""

    MORE = "more"
    """The file goes on; the next bytes are needed."""
    END = "end"
    """The file may end here."""
    LOST = "lost"
    """This is not what the format allows; its end cannot be told."""


class Walker(Protocol):
    """Follows one file.

    Attributes:
        bulk: Bytes from here on that certainly are the file's, whatever they hold.
    """

    bulk: int

    def walk(self, data: bytes, start: int) -> tuple[int, Way]:
        """Go on through ``data`` from ``start``.

        Returns:
            Up to where the bytes are the file's, and why it stopped there. What lies beyond has to be
            shown again, with more behind it.
        """
        ...


def recognise(head: bytes) -> "JpegWalker | Mp4Walker | None":
    """What follows a file that begins with these (up to `HEAD`) bytes, or None for an unknown format."""
    if head.startswith(JPEG_START):
        return JpegWalker()
    if head[4:8] in _FIRST_BOXES:
        return Mp4Walker()
    return None


class JpegWalker:
    """A JPEG from marker to marker; several pictures in one file (MPF) are one file.

    Attributes:
        bulk: See `Walker`.
    """

    def __init__(self) -> None:
        self.bulk = 0
        self._in_scan = False
        self._ended = False
        self._fresh = True

    def walk(self, data: bytes, start: int) -> tuple[int, Way]:
        """See `Walker.walk`; after an end it goes on only with another picture."""
        place = start
        while True:
            if self.bulk:
                step = min(self.bulk, len(data) - place)
                self.bulk -= step
                place += step
                if self.bulk:
                    return place, Way.MORE
            if self._in_scan:
                place = self._through_scan(data, place)
            found = self._marker(data, place)
            if found is None:
                return place, Way.MORE
            place, way = found
            if way is not Way.MORE:
                return place, way

    def _through_scan(self, data: bytes, place: int) -> int:
        """To the marker that ends the scan, or to the end of the data, but for a last 0xFF."""
        match = _SCAN_MARKER.search(data, place)
        if match is not None:
            self._in_scan = False
            return match.start()
        return len(data) - 1 if data.endswith(b"\xff") and len(data) > place else len(data)

    def _marker(self, data: bytes, place: int) -> tuple[int, Way] | None:
        """Past one marker, or None if it is not all there."""
        if self._in_scan or place >= len(data):
            return None
        if data[place] != 0xFF:
            return place, Way.LOST
        code = data[place + 1 : place + 2]
        if not code:
            return None
        if self._ended:
            if code != b"\xd8":
                return place, Way.LOST
            self._ended, self._fresh = False, True
        if code == b"\xff":  # filling before a marker
            return place + 1, Way.MORE
        if code == b"\xd9":
            self._ended = True
            return place + 2, Way.END
        if code == b"\xd8" and not self._fresh:  # the next picture: this one never ended
            return place, Way.LOST
        if code in (b"\xd8", b"\x01") or b"\xd0" <= code <= b"\xd7":
            self._fresh = False
            return place + 2, Way.MORE
        if len(data) < place + 4:
            return None
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if code == b"\x00" or length < 2:
            return place, Way.LOST
        self._in_scan = code == b"\xda"
        self.bulk = length - 2
        return place + 4, Way.MORE


class Mp4Walker:
    """An MP4 or QuickTime file from one top-level box to the next.

    It may end after any box once it has both a ``moov`` and media.

    Attributes:
        bulk: See `Walker`.
    """

    def __init__(self) -> None:
        self.bulk = 0
        self._has_movie = False
        self._has_media = False
        self._asked = False

    def walk(self, data: bytes, start: int) -> tuple[int, Way]:
        """See `Walker.walk`; shown the place of an end once more, it goes on with the next box."""
        place = start
        while True:
            step = min(self.bulk, len(data) - place)
            self.bulk -= step
            place += step
            if self.bulk:
                return place, Way.MORE
            if self._has_movie and self._has_media and not self._asked:
                self._asked = True
                return place, Way.END
            length = self._box(data[place : place + _LARGE_BOX_HEADER])
            if length is None:
                return place, Way.MORE
            if length == 0:
                return place, Way.LOST
            self._asked = False
            self.bulk = length

    def _box(self, header: bytes) -> int | None:
        """Length of a box with its header; None if that is not all there, 0 if it ends nowhere."""
        if len(header) < _BOX_HEADER:
            return None
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            if len(header) < _LARGE_BOX_HEADER:
                return None
            length = int.from_bytes(header[8:16], "big")
            if length < _LARGE_BOX_HEADER:
                return 0
        elif length < _BOX_HEADER:
            return 0  # 0 is a box that reaches to the end of the file, as of a muxer that was killed
        self._has_movie |= kind == b"moov"
        self._has_media |= kind in (b"mdat", b"moof")
        return length
