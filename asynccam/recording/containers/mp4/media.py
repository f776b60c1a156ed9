"""Checks of the bytes of samples: whether they can be media of their format.

Zeros inside JPEG pictures may be part of the picture (ITU-T T.81, annexes B and F).
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from asynccam.recording.containers.mp4.movie import Coding, Format
from asynccam.recording.containers.reader import FileView

_MARKER: Final = 0xFF
_TABLES: Final = 0xC4
_LONG_ZEROS: Final = 32  # more zeros in a row than any table has: 16 counts and a symbol are the most
_SCAN: Final = 0xDA
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_MAX_SEGMENTS: Final = 256
_LUMINANCE: Final = 0x10  # class 1 (AC) and destination 0, which encoders use for brightness
_END_OF_BLOCK: Final = 0x00
_ZERO_RUN: Final = 0xF0


def _find_scan(take: Callable[[int, int], bytes], size: int) -> tuple[int, bool]:
    """Return the offset of the first scan's data, 0 if zeros are before it, and whether it may have zeros.

    Tables made for the picture may give the end of a block the code that is zeros, and then an area of one
    colour is nothing but zeros. The usual tables have a coefficient there, which no area repeats.
    """
    at, may_be_flat = 2, False
    for _ in range(_MAX_SEGMENTS):
        if at + 4 > size:
            break
        head = take(at, 4)
        if head[0] != _MARKER:
            return (0, False) if not any(take(at, min(16, size - at))) else (size, True)
        marker, length = head[1], int.from_bytes(head[2:])
        if marker == _MARKER or marker in _STANDALONE:
            at += 1 if marker == _MARKER else 2
            continue
        if marker in _FRAMES and marker not in _SEQUENTIAL:
            may_be_flat = True
        if marker == _TABLES:
            tables = take(at + 4, max(min(length - 2, size - at - 4), 0))
            if bytes(_LONG_ZEROS) in tables:
                return 0, False
            may_be_flat = may_be_flat or _have_zero_code(tables)
        at += 2 + length
        if marker == _SCAN:
            return at, may_be_flat
    return size, True


def _have_zero_code(tables: bytes) -> bool:
    """Return whether the luminance's AC table has the code of zeros for the end of a block, or for zeros.

    That of the chrominance always does; but brightness is coded in between.
    """
    at = 0
    while at + 17 < len(tables):
        symbols = sum(tables[at + 1 : at + 17])
        if tables[at] == _LUMINANCE and symbols and tables[at + 17] in (_END_OF_BLOCK, _ZERO_RUN):
            return True
        at += 17 + symbols
    return False


_PROBE: Final = 64  # zeros in a row that no coding of `_NEVER_ZEROS` has
_BLOCK: Final = 1 << 20
_CHECKED_WHOLE: Final = 256 << 20  # bytes of media up to which every byte is checked
_MAX_UNITS: Final = 1 << 12
"""NAL units of a sample that are read: H.264 has at most one slice a macroblock row and field."""
_JPEG_START: Final = b"\xff\xd8"
_LARGEST_JPEG: Final = 16 << 20  # bytes of a picture whose coded data is searched for zeros
_JPEG_END: Final = b"\xff\xd9"
_OBUS: Final = frozenset({*range(1, 9), 15})
_START_CODE: Final = b"\0\0\0\1"
_NEVER_ZEROS: Final = frozenset({Coding.H264, Coding.H265, Coding.H266}) | {
    Coding.MPEG4,
    Coding.VP9,
    Coding.AV1,
    Coding.COMPRESSED,
    Coding.ENCRYPTED,
}
"""Codings whose samples have no long run of zeros anywhere: NAL units and MPEG-4 part 2 forbid a few zero
bytes in a row, arithmetic coders and ciphers do not make them. JPEG is not among them: a picture of one
colour can be zeros but for its headers, and cameras fill pictures up with zeros behind their end.
"""


class MediaState(Enum):
    """State of a sample's media."""

    GOOD = auto()
    ZEROS = auto()
    """Zeros where media should be, throughout or in part."""
    SPOILED = auto()
    """Bytes that are not of this format."""
    NO_PICTURE = auto()
    """Nothing wrong, and no picture in it: parameter sets alone, for example."""


class MediaChecker:
    """Check of the media of samples.

    - Every sample: its first and its last 64 bytes are not zeros. Uncompressed video is exempt, where black
      is zeros; of codings that may end in zeros only the beginning is checked.
    - H.264, H.265 and H.266: the lengths before the NAL units lead from the first to the end of the sample,
      each unit's header is one, and one of them is part of a picture.
    - JPEG: the first two bytes are a start marker, segments lead from there to the first scan, and zeros at
      the end come behind an end marker.
    - MPEG-4 part 2, VP9, AV1 and ProRes: the first bytes are those of a picture's header.
    - Files with up to 256 MB of media: no 64 zeros in a row anywhere in a sample of a coding that never has
      them. In larger files that would take longer than a verdict may; there a zeroed stretch is found if it
      covers the beginning or the end of a sample, or a NAL unit's header.
    """

    def __init__(self, view: FileView, media_bytes: int) -> None:
        self._view = view
        self._is_thorough = media_bytes <= _CHECKED_WHOLE

    def check(self, form: Format, offset: int, size: int) -> MediaState:
        """Return the state of a sample that lies in the file."""
        if form.coding is Coding.RAW:
            return MediaState.GOOD
        take = self._reader(form, offset, size)
        head = take(0, min(size, _PROBE))
        if not any(head):
            return MediaState.ZEROS
        if form.coding is Coding.JPEG:
            return self._check_jpeg(head, take, size)
        if not _is_frame_head(form.coding, head):
            return MediaState.SPOILED
        # In the order of the file: the end of a sample is read together with the beginning of the next.
        state = _check_units(form, take, size) if form.length_size else MediaState.GOOD
        if form.coding in _NEVER_ZEROS:
            if size > 2 * _PROBE and not any(take(size - _PROBE, _PROBE)):
                return MediaState.ZEROS
            if self._is_thorough and self._has_zeros(offset, size):
                return MediaState.ZEROS
        return state

    def _reader(self, form: Format, offset: int, size: int) -> Callable[[int, int], bytes]:
        """Return a function that reads the sample: all of it at once where all of it is read anyhow."""
        view = self._view
        if self._is_thorough and form.coding in _NEVER_ZEROS and size <= _BLOCK:
            data = view.read(offset, size)
            return lambda at, length: data[at : at + length]
        return lambda at, length: view.read(offset + at, length)

    def _has_zeros(self, offset: int, size: int) -> bool:
        end = offset + size
        zeros = bytes(_PROBE)
        while offset < end:
            length = min(_BLOCK, end - offset)
            if zeros in self._view.read(offset, length):
                return True
            # The next block begins early enough to see what crosses the border.
            offset += length if offset + length == end else length - _PROBE
        return False

    def _check_jpeg(self, head: bytes, take: Callable[[int, int], bytes], size: int) -> MediaState:
        if not head.startswith(_JPEG_START):
            return MediaState.SPOILED
        if _find_scan(take, size)[0] == 0:
            return MediaState.ZEROS
        end = size
        while end > 0:
            length = min(_PROBE if end == size else _BLOCK, end)
            block = take(end - length, length).rstrip(b"\0")
            if block:
                end += len(block) - length
                # Zeros in front of the end marker are where the rest of the picture should be.
                if end < size - _PROBE and not block.endswith(_JPEG_END):
                    return MediaState.ZEROS
                return self._check_jpeg_scan(take, end)
            end -= length
        return MediaState.ZEROS

    def _check_jpeg_scan(self, take: Callable[[int, int], bytes], size: int) -> MediaState:
        if not self._is_thorough or size > _LARGEST_JPEG:
            return MediaState.GOOD
        begin, may_have_zeros = _find_scan(take, size)
        if may_have_zeros:
            return MediaState.GOOD
        data = take(begin, size - begin)
        place = data.find(bytes(_PROBE))
        # Of a sample with two fields the first may be filled up with zeros behind its end too.
        is_padding = place < 0 or data[:place].endswith(_JPEG_END)
        return MediaState.GOOD if is_padding else MediaState.ZEROS


def _check_units(form: Format, take: Callable[[int, int], bytes], size: int) -> MediaState:
    """Check the NAL units of a sample (ISO/IEC 14496-15, 4.3.3): a length and a unit each."""
    at, width = 0, form.length_size
    has_picture = False
    for _ in range(_MAX_UNITS):
        if at + width > size:
            break
        head = take(at, min(width + 2, size - at))
        length, header = int.from_bytes(head[:width]), head[width:]
        if length == 0:
            # No unit is that short, and zeros have that length. ffmpeg loses the picture then.
            return MediaState.ZEROS if not any(take(at, min(size - at, _PROBE))) else MediaState.SPOILED
        if length > size - at - width or not _is_unit_header(form.coding, header):
            # Some cameras write start codes (H.264, annex B) in place of lengths, and decoders take them.
            return MediaState.GOOD if take(0, 4) == _START_CODE else MediaState.SPOILED
        has_picture = has_picture or _is_slice(form.coding, header)
        at += width + length
    return MediaState.GOOD if has_picture else MediaState.NO_PICTURE


def _is_frame_head(coding: Coding, head: bytes) -> bool:
    """Return whether a sample can begin so."""
    match coding:
        case Coding.MPEG4:
            # ISO/IEC 14496-2, 6.2: a start code, or a short video header. Packed B frames leave samples of a
            # few bytes behind, in which no picture is coded.
            return (
                len(head) < 8 or head.startswith(b"\0\0\1") or (head[:2] == b"\0\0" and head[2] & 0x80 != 0)
            )
        case Coding.VP9:
            return head[0] >> 6 == 0b10  # frame_marker (VP9 bitstream, 7.2)
        case Coding.AV1:
            # obu_header (AV1 bitstream, 5.3.2): a bit that is 0, a type of which 0 and 9 to 14 are reserved.
            return not head[0] & 0x80 and (head[0] >> 3 & 0xF) in _OBUS
        case Coding.PRORES:
            return head[4:8] == b"icpf"
        case _:
            return True


def _is_unit_header(coding: Coding, header: bytes) -> bool:
    """Return whether a NAL unit can begin so: its first bit is 0, and the byte with its type is not zero.

    H.264, 7.3.1: type 0 is unspecified. H.265, 7.3.1.2 and H.266, 7.3.1.2: nuh_temporal_id_plus1, the last
    three bits, is not 0.
    """
    if header[0] & 0x80:
        return False
    if coding is Coding.H264:
        return header[0] != 0
    return len(header) > 1 and header[1] & 0x07 != 0


def _is_slice(coding: Coding, header: bytes) -> bool:
    """Return whether a NAL unit holds a slice (H.264 table 7-1, H.265 table 7-1, H.266 table 5)."""
    match coding:
        case Coding.H264:
            return 1 <= header[0] & 0x1F <= 5
        case Coding.H265:
            return header[0] >> 1 <= 31
        case _:
            return header[1] >> 3 <= 11
