"""Checks whether bytes can be a frame of their codec: the beginning and the end, not the picture."""

from collections.abc import Callable
from enum import Enum
from typing import Final

from asynccam.recording.containers.reader import FileView

Read = Callable[[int, int], bytes]
"""Reads so many bytes at an offset within the payload."""
FrameChecker = Callable[[bytes, int, Read], "FrameState"]
"""Takes the first bytes of a payload (`HEAD` at least, or all), its size and a function to read more."""


class FrameState(Enum):
    """State of a payload."""

    SHOWN = "shown"
    """A frame that a player shows."""
    SPOILED = "spoiled"
    """A frame that a decoder shows as well as it can: a part of it is missing."""
    ENDLESS = "endless"
    """A JPEG without its end marker."""
    HIDDEN = "hidden"
    """Not a frame of its own: parameters, or a reference that is never shown."""
    BROKEN = "broken"
    """Nothing a decoder can make a frame of."""


HEAD: Final = 1024  # bytes at the beginning of a payload that a `FrameChecker` needs at least
_SMALL: Final = 8192  # bytes of a payload that is read whole in a file of any size
_MAX_WHOLE: Final = 1 << 22  # bytes of a payload above which only its head is read
_CHECKED_WHOLE: Final = 256 << 20  # bytes of a file up to which whole payloads are read
_LOOK_BACK: Final = 1 << 16  # bytes at either end of a picture in which its markers are looked for
_MAX_UNITS: Final = 1024  # NAL units of a frame that are followed
_MAX_SEGMENTS: Final = 256  # JPEG segments in front of a scan that are followed
_LUMA_AC: Final = 0x10  # class and number of the table of luminance AC codes (T.81, B.2.4.2)
_TAIL: Final = 64
_ZEROS: Final = bytes(_TAIL)
_START: Final = b"\0\0\1"
_START_WITHIN: Final = 64  # bytes in which the first start code begins
_TABLE_ZEROS: Final = bytes(32)
"""More zeros than stand in a row in any JPEG table that a picture can be decoded with."""


def bytes_to_read(size: int, file_size: int) -> int:
    """Return how many bytes of a payload its checker gets: a zeroed stretch may lie anywhere in it.

    Only of large files less is read, where all of it would take longer than a verdict may.
    """
    is_read = size <= _SMALL or (size <= _MAX_WHOLE and file_size <= _CHECKED_WHOLE)
    return size if is_read else HEAD


def check_anything(data: bytes, size: int, read: Read) -> FrameState:
    """Check a frame of an unknown codec: only an empty one is broken."""
    return FrameState.SHOWN if size else FrameState.BROKEN


class FrameCounter:
    """Count of a track's frames by their state; ``check`` is of the track's codec."""

    def __init__(self, view: FileView) -> None:
        self.check: FrameChecker = check_anything
        self._endless = 0  # JPEG pictures without an end marker
        self._view = view
        self._spoiled = self._broken = self._hidden = 0

    def is_shown(self, begin: int, size: int, data: bytes | None = None) -> bool:
        """Count the frame of a payload in the file; return whether a player shows it.

        ``data`` are its first `bytes_to_read` where they were read before.
        """
        view = self._view
        if data is None:
            data = view.read(begin, bytes_to_read(size, view.size))
        state = self.check(data, size, lambda at, length: view.read(begin + at, min(length, size - at)))
        self._spoiled += state is FrameState.SPOILED
        self._endless += state is FrameState.ENDLESS
        self._broken += state is FrameState.BROKEN
        self._hidden += state is FrameState.HIDDEN
        return state in (FrameState.SHOWN, FrameState.SPOILED, FrameState.ENDLESS)

    def count_broken(self) -> None:
        """Count a frame that cannot be found."""
        self._broken += 1

    def undecodable(self, count: int) -> list[str]:
        """Return the frames that cannot be decoded, in words, of a file that shows ``count`` frames."""
        sentences = [f"has {self._broken} frames without a picture"] if self._broken else []
        if self._hidden and not count:
            sentences.append(f"has {self._hidden} frames, and none that decoding can begin with")
        return sentences

    def spoiled(self, count: int) -> list[str]:
        """Return the spoiled pictures in words. An encoder that never writes end markers spoils none."""
        spoiled = self._spoiled + (self._endless if self._endless < count else 0)
        return [f"has {spoiled} spoiled pictures"] if spoiled else []

    def endless(self, count: int) -> list[str]:
        """Return the remark on an encoder that never writes end markers."""
        return ["has no end marker in any of its pictures"] if self._endless == count > 0 else []


def check_jpeg(data: bytes, size: int, read: Read) -> FrameState:
    """Check a JPEG picture by its two ends (ITU-T T.81, B.1.1.3); some encoders fill up behind the end."""
    zeroed = False
    if data[:2] != b"\xff\xd8":
        # A few encoders put bytes of their own in front, which decoders step over.
        start = data.find(b"\xff\xd8\xff")
        if start < 0 or not any(data[:start]):
            return FrameState.BROKEN
    elif _TABLE_ZEROS in data:
        scan = _find_scan(data, size, read)
        if scan is None:
            return FrameState.BROKEN
        zeroed = _has_zeroed_scan(data, scan)
    tail = data if len(data) == size else read(max(0, size - _TAIL), min(_TAIL, size))
    if tail.endswith(b"\xff\xd9"):
        return FrameState.SPOILED if zeroed else FrameState.SHOWN
    if len(data) < size:
        tail = read(max(0, size - _LOOK_BACK), min(_LOOK_BACK, size))
    filled = len(tail)
    tail = tail.rstrip(b"\0")
    if tail.endswith(b"\xff\xd9") or (filled - len(tail) < len(_ZEROS) and b"\xff\xd9" in tail):
        return FrameState.SPOILED if zeroed else FrameState.SHOWN
    return FrameState.SPOILED if filled - len(tail) >= len(_ZEROS) else FrameState.ENDLESS


def _find_scan(data: bytes, size: int, read: Read) -> int | None:
    """Return the offset of a JPEG's scan, or None if its segments do not lead there, or one is zeroed."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        if at + 4 > len(data) and len(data) < min(size, _LOOK_BACK):
            data = read(0, min(size, _LOOK_BACK))
        if at + 4 > len(data):
            return size if len(data) < size else None  # longer headers than are read
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDA:
            return at
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        # T.81 table B.1: DQT and the frame headers with DHT among them; all else is not decoded with.
        if (marker == 0xDB or 0xC0 <= marker < 0xD0) and _TABLE_ZEROS in data[at:end]:
            return None
        at = end
    return size


def _has_zeroed_scan(data: bytes, scan: int) -> bool:
    """Return whether zeros stand in a scan whose codes cannot make them up.

    They can where the end of a luminance block is coded by the first code of the table, which is all zeros,
    as tables that are made for a picture with large even areas have it. The usual table (T.81, K.3.3.2) has
    not.
    """
    end = data.find(b"\xff\xd9", scan)
    if data.find(_ZEROS, scan, len(data) if end < 0 else end) < 0:
        return False
    at = data.find(b"\xff\xc4")
    while 0 <= at < scan:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        place, stop = at + 4, min(at + 2 + length, scan)
        while place + 17 < stop:
            count = sum(data[place + 1 : place + 17])
            if data[place] == _LUMA_AC and not data[place + 17]:
                return False
            place += 17 + count
        at = data.find(b"\xff\xc4", max(stop, at + 2))
    return True


def check_start_codes(data: bytes, size: int, read: Read) -> FrameState:
    """Check a frame of a codec whose units begin with 00 00 01: MPEG-1, 2 and 4."""
    start = data.find(_START, 0, _START_WITHIN)
    if start < 0 or any(data[:start]):
        return FrameState.BROKEN
    return _state(data, size, read)


class NalChecker:
    """Checker of the frames of one H.264 or H.265 stream, in their order.

    Args:
        length: Bytes of the length in front of each NAL unit (ISO/IEC 14496-15, 5.3.3.1); 0 for start codes.
        hevc: Whether it is H.265.
        parameters: Whether the container has the parameter sets, rather than the stream.
    """

    def __init__(self, length: int, *, hevc: bool, parameters: bool = False) -> None:
        self._length = length
        self._hevc = hevc
        self._parameters = parameters or length > 0
        # H.265 decoders replace missing references of a first picture, if they have the parameters.
        self._begun = hevc and self._parameters

    def __call__(self, data: bytes, size: int, read: Read) -> FrameState:
        """Check the next frame."""
        if self._length:
            picture, begins = self._units(data, size, read)
        else:
            picture, begins = self._start_codes(data, size, read)
        if picture in (FrameState.SHOWN, FrameState.SPOILED) and not self._begun:
            # Decoders show nothing before a key frame.
            self._begun = begins
            return picture if begins else FrameState.HIDDEN
        return picture

    def _units(self, data: bytes, size: int, read: Read) -> tuple[FrameState, bool]:
        length, at, known = self._length, 0, len(data)
        found = begins = False
        for _ in range(_MAX_UNITS):
            if at + length >= size:
                break
            end = at + length + 2
            head = data[at:end] if end <= known else read(at, length + 2)
            unit = int.from_bytes(head[:length], "big")
            # H.264 7.3.1, H.265 7.3.1.2: the first bit of a unit is zero.
            if not unit or head[length] & 0x80:
                return FrameState.BROKEN, False
            at += length + unit
            slices, begin = self._kind(head[length:])
            found |= slices
            begins |= begin
        else:
            at = size  # more units than a frame has by any level: not followed to the end
        if at != size:
            return FrameState.BROKEN, False
        if not found:
            return FrameState.HIDDEN, begins
        return _state(data, size, read), begins

    def _start_codes(self, data: bytes, size: int, read: Read) -> tuple[FrameState, bool]:
        picture = check_start_codes(data, size, read)
        begins = self._begun
        at = 0
        while not begins and 0 <= (at := data.find(_START, at)) < len(data) - 3:
            at += 3
            # Without a sequence parameter set no picture can be decoded: type 7 of H.264, 33 of H.265.
            begins = data[at] >> 1 & 0x3F == 33 if self._hevc else data[at] & 0x1F == 7
            begins |= self._parameters and self._kind(data[at : at + 2])[1]
        return picture, begins

    def _kind(self, head: bytes) -> tuple[bool, bool]:
        """Return whether a unit is a slice, and whether decoding may begin at its picture."""
        if self._hevc:
            # H.265 table 7-1: 0 to 31 are slices, 16 to 23 of pictures that can be begun at.
            kind = head[0] >> 1 & 0x3F
            return kind < 32, 16 <= kind < 24
        # H.264 table 7-1: 1 to 5 are slices, 5 of an IDR picture; 6 with payload 6 is a recovery point (D.1).
        kind = head[0] & 0x1F
        return 1 <= kind <= 5, kind == 5 or (kind == 6 and head[1:2] == b"\6")


def check_vp8(data: bytes, size: int, read: Read) -> FrameState:
    """Check a VP8 frame by its tag and, of a key frame, its start code (RFC 6386, 9.1)."""
    if len(data) < 3:
        return FrameState.BROKEN
    key = not data[0] & 0x01
    if key and data[3:6] != b"\x9d\x01\x2a":
        return FrameState.BROKEN
    return _state(data, size, read) if data[0] & 0x10 else FrameState.HIDDEN


def check_vp9(data: bytes, size: int, read: Read) -> FrameState:
    """Check a VP9 frame or superframe by its uncompressed header (VP9 bitstream, 6.2 and annex B)."""
    if not data or data[0] >> 6 != 2:
        return FrameState.BROKEN
    last = data[-1] if len(data) == size else read(size - 1, 1)[0]
    if last & 0xE0 == 0xC0:  # the index of a superframe, which has one shown frame
        return _state(data, size, read)
    bits = data[0] << 8 | (data[1] if len(data) > 1 else 0)
    at = 12 if bits >> 12 & 3 != 3 else 11  # profile 3 has one reserved bit more
    existing, shown = bits >> at - 1 & 1, bits >> at - 3 & 1
    return _state(data, size, read) if existing or shown else FrameState.HIDDEN


def check_av1(data: bytes, size: int, read: Read) -> FrameState:
    """Check an AV1 temporal unit by its first header, whose first bit is zero (AV1 bitstream, 5.3.2)."""
    if not data or data[0] & 0x80 or not data[0] >> 3 & 0x0F:
        return FrameState.BROKEN
    return _state(data, size, read)


_CHECKERS: Final[dict[bytes, FrameChecker]] = {
    **dict.fromkeys((b"MJPG", b"JPEG", b"AVRN", b"DMB1"), check_jpeg),
    **dict.fromkeys((b"XVID", b"DIVX", b"DX50", b"FMP4", b"MP4V", b"MPG1", b"MPG2"), check_start_codes),
    b"VP80": check_vp8,
    b"VP90": check_vp9,
    b"AV01": check_av1,
}


def checker_for(letters: bytes, private: bytes = b"") -> FrameChecker:
    """Return the checker of a stream by its codec's four letters and private data (parameter sets)."""
    letters = letters.upper()
    if letters in (b"H264", b"X264", b"AVC1", b"HEVC", b"H265", b"HEV1"):
        hevc = letters[:1] == b"H" and letters != b"H264"
        return NalChecker(0, hevc=hevc, parameters=private.startswith((_START, b"\0" + _START)))
    return _CHECKERS.get(letters, check_anything)


def _state(data: bytes, size: int, read: Read) -> FrameState:
    """Return the state of a frame by zeros that no encoder writes: H.264 7.4.1; nor do arithmetic coders."""
    zeroed = _ZEROS in data or (len(data) < size and read(max(0, size - _TAIL), min(_TAIL, size)) == _ZEROS)
    return FrameState.SPOILED if zeroed else FrameState.SHOWN
