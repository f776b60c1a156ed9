"""JPEG frames of a simulated camera: told apart in a byte stream, and given their metadata.

Nothing here is shared with what reads recordings. See docs/protocols/thorvision.md.
"""

import struct
from fractions import Fraction
from typing import Final

_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_SCAN: Final = 0xDA
# An application segment of a kind that no standard has taken: GStreamer's parser passes it on as it is.
_MARKER: Final = b"\xff\xef"
_RECORD: Final = struct.Struct("<QQIIIIQ")
_SAMPLE_RATE: Final = 30_000
_TICKS_PER_SECOND: Final = 100_000_000
_MAX_FRAME: Final = 64 << 20


class JpegSplitter:
    """Cuts a Motion JPEG stream into its frames, wherever the pieces it comes in are cut."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._looked = 0
        self._in_scan = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece; gives the frames that are whole now."""
        self._data += data
        frames = []
        while (end := self._frame_end()) is not None:
            frames.append(bytes(self._data[:end]))
            del self._data[:end]
            self._looked, self._in_scan = 0, False
        if len(self._data) > _MAX_FRAME:
            raise ValueError("a picture without an end")
        return frames

    def _frame_end(self) -> int | None:
        """Where the first frame ends, or None while it is not whole."""
        if not self._in_scan and not self._find_scan():
            return None
        # Within a scan FF is followed by 00 or a restart marker, so this can only be the end.
        end = self._data.find(_END, self._looked)
        if end < 0:
            self._looked = max(self._looked, len(self._data) - 1)
            return None
        return end + len(_END)

    def _find_scan(self) -> bool:
        """Walk over the headers, whose segments tell their lengths."""
        if self._looked == 0:
            start = self._data.find(_START)
            if start < 0:
                return False
            del self._data[:start]
            self._looked = len(_START)
        while len(self._data) >= self._looked + 4:
            _, kind, length = struct.unpack_from(">BBH", self._data, self._looked)
            self._looked += 2 + length
            if kind == _SCAN:
                self._in_scan = True
                return True
        return False


def with_metadata(frame: bytes, number: int, fps: Fraction) -> bytes:
    """A frame with the metadata that an XDAQ puts into it, right after its first two bytes.

    The numbers are such that a reader can check them: the picture's time in nanoseconds, ticks of a
    100 MHz clock, samples at 30 kHz, a square wave on the first TTL line, a frame counter.
    """
    seconds = number / fps
    second, sample = int(seconds), int(seconds * _SAMPLE_RATE)
    record = _RECORD.pack(
        int(seconds * 1_000_000_000),
        int(seconds * _TICKS_PER_SECOND),
        sample & 0xFFFFFFFF,
        second & 1,
        number & 1,
        number & 0xFFFFFFFF,
        0,
    )
    return b"".join((frame[:2], _MARKER, struct.pack(">H", 2 + len(record)), record, frame[2:]))
