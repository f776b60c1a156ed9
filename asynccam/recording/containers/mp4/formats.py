"""Sample descriptions: how the media of a track's samples is coded (ISO/IEC 14496-12, 8.5.2)."""

from enum import Enum, auto
from typing import Final, NamedTuple

from asynccam.recording.containers.mp4.boxes import Box, Fields, Trouble, children
from asynccam.recording.containers.reader import CutShortError, FileView

_MAX_FORMATS: Final = 256
_ENTRY: Final = 78
"""Bytes of a visual sample entry before the boxes in it (12.1.3)."""


class Coding(Enum):
    """How samples are coded, as far as it matters for what they must look like."""

    H264 = auto()
    H265 = auto()
    H266 = auto()
    JPEG = auto()
    MPEG4 = auto()
    """MPEG-4 part 2."""
    VP9 = auto()
    AV1 = auto()
    PRORES = auto()
    COMPRESSED = auto()
    """Any other whose bytes are never zeros for long: VP8, H.263."""
    ENCRYPTED = auto()
    RAW = auto()
    """Uncompressed: a black picture is zeros throughout."""
    OTHER = auto()


class Format(NamedTuple):
    """A sample description.

    Attributes:
        coding: How samples are coded.
        length_size: Bytes of the length before each NAL unit, or 0 where there are none.
    """

    coding: Coding
    length_size: int = 0


_OTHER: Final = Format(Coding.OTHER)
_JPEG: Final = frozenset({b"jpeg", b"mjpa", b"mjpg", b"MJPG", b"AVDJ", b"dmb1"})
_BY_TYPE: Final = {
    b"vp09": Coding.VP9,
    b"av01": Coding.AV1,
    **dict.fromkeys((b"vp08", b"s263", b"h263", b"H263"), Coding.COMPRESSED),
    **dict.fromkeys((b"apco", b"apcs", b"apcn", b"apch", b"ap4h", b"ap4x"), Coding.PRORES),
}
_ENCRYPTED: Final = frozenset({b"encv", b"drmi"})
_RAW: Final = frozenset(
    {b"raw ", b"rawv", b"uncv", b"yuv2", b"yuvs", b"2vuy", b"2Vuy", b"UYVY", b"YUY2", b"v210", b"v216"}
    | {b"v308", b"v408", b"v410", b"r210", b"R10k", b"R10g", b"b16g", b"b48r", b"b64a", b"BGRA", b"RGBA"}
    | {b"ABGR", b"I420", b"NV12", b"yv12", b"j420", b"DVOO", b"\0\0\0\0", b"NONE", b"twos", b"24BG"}
)
_CONFIGURATIONS: Final = {
    # Where lengthSizeMinusOne stands in the configuration: ISO/IEC 14496-15, 5.3.3.1.2, 8.3.2.1.2 and
    # 11.2.4.2.2. VVC's is a full box and has it one bit to the left.
    b"avcC": (Coding.H264, 4, 0),
    b"hvcC": (Coding.H265, 21, 0),
    b"vvcC": (Coding.H266, 4, 1),
}
_OBJECT_TYPES: Final = {
    # ISO/IEC 14496-1, 7.2.6.6.2 and the registration authority's list.
    0x20: Format(Coding.MPEG4),
    0x6C: Format(Coding.JPEG),
}


def read_formats(view: FileView, box: Box, trouble: Trouble) -> tuple[Format, ...]:
    """Read the entries of an ``stsd`` box, in order."""
    fields = Fields(view, box)
    count = min(fields.number(), _MAX_FORMATS)
    formats: list[Format] = []
    for entry in children(view, fields.at, box.end, trouble):
        if len(formats) < count:
            formats.append(_read_format(view, entry))
    return tuple(formats)


def _read_format(view: FileView, entry: Box) -> Format:
    if entry.kind in _ENCRYPTED:
        return Format(Coding.ENCRYPTED)
    if entry.kind in _JPEG:
        return Format(Coding.JPEG)
    if entry.kind in _BY_TYPE:
        return Format(_BY_TYPE[entry.kind])
    if entry.kind in _RAW:
        return Format(Coding.RAW)
    # What follows an entry's fields is none of this reader's business unless it can be read.
    for child in children(view, entry.start + _ENTRY, entry.end, Trouble()):
        try:
            if child.kind in _CONFIGURATIONS:
                return _read_configuration(view, child)
            if child.kind == b"esds":
                return _OBJECT_TYPES.get(_object_type(view, child), _OTHER)
        except CutShortError:
            break
    return _OTHER


def _read_configuration(view: FileView, box: Box) -> Format:
    coding, place, shift = _CONFIGURATIONS[box.kind]
    if box.start + place >= box.end:
        return _OTHER
    # ISO/IEC 14496-15: configurationVersion is 1. Writers that put NAL units with start codes there put
    # them into samples too.
    first, sized = view.read(box.start, 1)[0], view.read(box.start + place, 1)[0]
    if first != 1 and coding is not Coding.H266:
        return _OTHER
    return Format(coding, (sized >> shift & 3) + 1)


def _object_type(view: FileView, box: Box) -> int:
    """The objectTypeIndication of an elementary stream descriptor (ISO/IEC 14496-1, 7.2.6)."""
    at = box.start + 4
    tag, at = view.read(at, 1)[0], _after_length(view, at + 1)
    if tag == 0x03:  # ES_DescrTag: ES_ID, then flags for what may follow
        flags = view.read(at + 2, 1)[0]
        at += 3 + (2 if flags & 0x80 else 0) + (2 if flags & 0x20 else 0)
        if flags & 0x40:
            at += 1 + view.read(at, 1)[0]
        tag, at = view.read(at, 1)[0], _after_length(view, at + 1)
    return view.read(at, 1)[0] if tag == 0x04 and at < box.end else 0


def _after_length(view: FileView, at: int) -> int:
    """Where a descriptor's contents begin: its length has 7 bits a byte, at most four bytes."""
    for length in range(1, 5):
        if not view.read(at + length - 1, 1)[0] & 0x80:
            return at + length
    return at + 4
