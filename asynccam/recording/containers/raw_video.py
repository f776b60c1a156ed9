"""Raw H.264 and H.265 (ITU-T H.264 and H.265, annex B), as OAK devices write them.

Such a stream has no end mark, no length and no times: its pictures can be counted, and whether there were
more is unknown.
"""

import re
from enum import Enum
from typing import Final

from asynccam.recording.containers.reader import FileView, Scan


class VideoCodec(Enum):
    """Codec of an elementary stream, as far as its pictures are told apart here."""

    MPEG2 = "MPEG-2"
    H264 = "H.264"
    H265 = "H.265"
    OTHER = "other"


_BLOCK: Final = 1 << 20
_PARAMETER_BYTES: Final = 512
"""Bytes in which the first fields of a sequence parameter set are, scaling lists included."""
_HEAD: Final = 1 << 14
# A start code (B.1.1) with the header of its unit and the first byte of what is in it.
_UNIT_HEAD: Final = re.compile(b"\0\0\1(.)(.)(.)", re.DOTALL)
_UNIT_SIZE: Final = 6
_START: Final = re.compile(b"\0{2,3}\1")
ZEROS_IN_UNIT: Final = re.compile(b"(?<!\0)\0{32,}+[^\0\1]")
"""7.4.1: within a unit there are never three zero bytes in a row; behind it there may be any number."""

# H.264 table 7-1.
_H264_SLICES: Final = frozenset({1, 2, 5})
_H264_SPS: Final = 7
_H264_PPS: Final = 8
_H264_FIRST_UNITS: Final = frozenset({6, 7, 8, 9, 14, 15, 16, 17, 18})
_H264_PROFILES: Final = frozenset({44, 66, 77, 83, 86, 88, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
_WITH_CHROMA: Final = _H264_PROFILES - {66, 77, 88}
# H.265 table 7-1.
_H265_SLICES: Final = frozenset({*range(10), *range(16, 22)})
_H265_VPS: Final = 32
_H265_SPS: Final = 33
_H265_PPS: Final = 34
_H265_FIRST_UNITS: Final = frozenset({32, 33, 34, 35, 39, *range(41, 45), *range(48, 56)})
_RASL: Final = frozenset({8, 9})
_IRAP: Final = range(16, 24)
_BROKEN_LINKS: Final = frozenset({16, 17, 18})
_CLEAN_RANDOM_ACCESS: Final = 21


def begins_picture(codec: VideoCodec, data: bytes) -> bool | None:
    """Return whether a piece of a stream begins with a new picture, None if that is unknown."""
    start = _START.match(data)
    if codec is VideoCodec.OTHER or start is None or len(data) < start.end() + 3:
        return None
    first, second, third = data[start.end() : start.end() + 3]
    if codec is VideoCodec.H264:
        # 7.4.1.2.3; a slice's header begins with first_mb_in_slice, which is a bit of 1 where it is 0.
        kind = first & 31
        begins, is_slice, is_first = kind in _H264_FIRST_UNITS, kind in _H264_SLICES, second >= 0x80
    elif codec is VideoCodec.H265:
        # 7.4.2.4.4; first_slice_segment_in_pic_flag.
        kind = first >> 1 & 63
        begins, is_slice, is_first = kind in _H265_FIRST_UNITS, kind in _H265_SLICES, third >= 0x80
    else:
        # ISO/IEC 13818-2, 6.2: picture, sequence or group, and slices.
        begins, is_slice, is_first = first in (0x00, 0xB3, 0xB8), 0 < first < 0xB0, False
    if begins or is_slice:
        return begins or is_first
    return None


def has_parameters(codec: VideoCodec, data: bytes) -> bool:
    """Return whether a parameter set begins in a piece of an H.264 or H.265 stream.

    Without one nothing can be decoded, and streams repeat them in front of pictures that can be begun at.
    """
    kinds = (unit[1][0] for unit in _UNIT_HEAD.finditer(data))
    if codec is VideoCodec.H264:
        return any(not kind & 0x80 and kind & 31 == _H264_SPS for kind in kinds)
    return any(kind >> 1 in (_H265_VPS, _H265_SPS) for kind in kinds)


def count_slices(codec: VideoCodec, data: bytes) -> int:
    """Return the number of slices that begin in a piece of an H.264 or H.265 stream."""
    kinds = [unit[1][0] for unit in _UNIT_HEAD.finditer(data)]
    if codec is VideoCodec.H264:
        return sum(kind & 31 in _H264_SLICES for kind in kinds)
    return sum(kind >> 1 & 63 in _H265_SLICES for kind in kinds)


class PictureCounter:
    """Count of the pictures of a raw stream, which may come in pieces."""

    def __init__(self, codec: VideoCodec) -> None:
        self._codec = codec
        self._rest = b""
        self._pictures = 0
        self._has_parameters = False
        self._is_sure = True
        # A sequence parameter set that goes on in the next piece.
        self._parameters = b""
        # 8.1.3 of H.265: pictures that refer to others before the point where decoding begins.
        self._skips_leading = True
        self._began = False
        self.has_zeros = False  # whether there are zeros within its units, where none can be

    @property
    def pictures(self) -> int | None:
        """Pictures so far, or None if they may be fields."""
        return self._pictures if self._is_sure and self._are_frames(self._parameters) else None

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        if self._parameters:
            self._note_parameters(self._parameters + data)
        data = self._rest + data
        take = self._count_h264 if self._codec is VideoCodec.H264 else self._count_h265
        for unit in _UNIT_HEAD.finditer(data):
            take(unit[1][0], unit[2][0], unit[3][0], data, unit.start() + 3)
        if not self.has_zeros and bytes(32) in data:
            self.has_zeros = self._began and ZEROS_IN_UNIT.search(data) is not None
        keep = _UNIT_SIZE - 1
        # Zeros at the end are kept, some of them: the next piece decides about them.
        if data.endswith(b"\0" * 8):
            keep = min(len(data) - len(data.rstrip(b"\0")), 64)
        self._rest = data[-keep:]

    def _count_h264(self, head: int, first: int, second: int, data: bytes, at: int) -> None:
        kind = head & 31
        if kind == _H264_SPS:
            self._has_parameters = True
            self._note_parameters(data[at + 1 : at + 1 + _PARAMETER_BYTES])
        elif kind in _H264_SLICES and self._has_parameters:
            self._began = True
            self._pictures += first >= 0x80

    def _note_parameters(self, data: bytes) -> None:
        if len(data) < _PARAMETER_BYTES:
            self._parameters = data
            return
        self._is_sure = self._is_sure and self._are_frames(data)
        self._parameters = b""

    @staticmethod
    def _are_frames(parameters: bytes) -> bool:
        """Return whether each picture is a frame: of a frame of fields two slices begin at macroblock 0."""
        return not parameters or _has_only_frames(parameters[:_PARAMETER_BYTES]) is True

    def _count_h265(self, head: int, first: int, second: int, data: bytes, at: int) -> None:
        kind = head >> 1 & 63
        if kind == _H265_SPS:
            self._has_parameters = True
        if kind not in _H265_SLICES or not self._has_parameters or head & 1 or first >> 3:
            return
        if kind in _IRAP:
            is_point = kind in _BROKEN_LINKS or (kind == _CLEAN_RANDOM_ACCESS and not self._began)
            if second >= 0x80:
                self._skips_leading = is_point
                self._began = True
        if self._began and not (kind in _RASL and self._skips_leading):
            self._pictures += second >= 0x80


def find_codec(head: bytes) -> VideoCodec | None:
    """Return the codec of a raw stream that begins with its parameter sets, before any slice, or None."""
    if _START.match(head) is None:
        return None
    units = list(_UNIT_HEAD.finditer(head[:_HEAD]))
    return VideoCodec.H264 if _is_h264(units) else VideoCodec.H265 if _is_h265(units) else None


def _is_h264(units: list[re.Match[bytes]]) -> bool:
    seen = set()
    for unit in units:
        head, profile, constraints = unit[1][0], unit[2][0], unit[3][0]
        kind, reference = head & 31, head >> 5
        # 7.4.1: nal_ref_idc is not 0 for parameter sets, and 0 for delimiters and SEI.
        if kind == _H264_SPS and 0 < reference < 4 and profile in _H264_PROFILES and not constraints & 3:
            seen.add(kind)
        elif kind == _H264_PPS and 0 < reference < 4 and _H264_SPS in seen:
            return True
        elif not (kind in (6, 9) and reference == 0):
            return False
    return False


def _is_h265(units: list[re.Match[bytes]]) -> bool:
    seen = set()
    for unit in units:
        head, second = unit[1][0], unit[2][0]
        kind = head >> 1 & 63
        if head & 0x81 or second != 1:  # 7.4.2.2: layer 0, temporal layer 0
            return False
        if kind == _H265_VPS or (kind == _H265_SPS and _H265_VPS in seen):
            seen.add(kind)
        elif kind == _H265_PPS and _H265_SPS in seen:
            return True
        elif kind not in (35, 39, 40):
            return False
    return False


def is_raw_video(head: bytes) -> bool:
    """Return whether a file that begins so is read here."""
    return find_codec(head) is not None


def scan_raw_video(view: FileView) -> Scan:
    """Count the pictures of a raw stream; whether it is cut off is unknown."""
    codec = find_codec(view.read_some(0, _HEAD))
    if codec is None:
        return Scan(None, None, note="is of a format that is not understood", understood=False)
    counter = PictureCounter(codec)
    offset = 0
    while data := view.read_some(offset, _BLOCK):
        counter.feed(data)
        offset += len(data)
    if counter.has_zeros:
        return Scan(counter.pictures, None, damaged="has zeros within its pictures")
    note = f"is a raw {codec.value} stream, which has no end mark"
    return Scan(counter.pictures, None, note=note, understood=False)


class _BitReader:
    """Bits of a parameter set, without the bytes that keep start codes out (7.4.1)."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data)
        self.left = 8 * len(data)  # below 0 once more was read than there is

    def read(self, count: int) -> int:
        """Return ``count`` bits; 0 behind the end."""
        self.left -= count
        return self._value >> self.left & (1 << count) - 1 if self.left >= 0 else 0

    def read_golomb(self) -> int:
        """Return an Exp-Golomb number (9.1); 0 behind the end."""
        zeros = 0
        while self.left > 0 and not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)


def _has_only_frames(data: bytes) -> bool | None:
    """Return frame_mbs_only_flag of a sequence parameter set (7.3.2.1.1), or None if it is not whole."""
    bits = _BitReader(data)
    profile = bits.read(8)
    bits.read(16)
    bits.read_golomb()
    if profile in _WITH_CHROMA:
        chroma = bits.read_golomb()
        if chroma == 3:
            bits.read(1)
        bits.read_golomb()
        bits.read_golomb()
        bits.read(1)
        if bits.read(1):
            _skip_scaling_lists(bits, 8 if chroma != 3 else 12)
    bits.read_golomb()
    order = bits.read_golomb()
    if order == 0:
        bits.read_golomb()
    elif order == 1:
        bits.read(1)
        bits.read_golomb()
        bits.read_golomb()
        for _ in range(min(bits.read_golomb(), 255)):
            bits.read_golomb()
    bits.read_golomb()
    bits.read(1)
    bits.read_golomb()
    bits.read_golomb()
    only = bool(bits.read(1))
    return None if bits.left < 0 else only


def _skip_scaling_lists(bits: _BitReader, count: int) -> None:
    """Skip lists of 16 or 64 differences, which end where the next scale is 0 (7.3.2.1.1.1)."""
    for index in range(count):
        if not bits.read(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                code = bits.read_golomb()
                step = (code + 1) // 2 if code & 1 else -(code // 2)
                following = (last + step) % 256
            last = following or last
