"""EBML, the structure below Matroska (RFC 8794): numbers, elements, and a walk that gets over garbage."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from asynccam.recording.containers.reader import CutShortError, FileView, UnitWalk

EBML, SEGMENT, CLUSTER, VOID, CHECKSUM = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xEC, 0xBF
SEEK_HEAD, INFO, TRACKS, CUES = 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B
TAGS, CHAPTERS, ATTACHMENTS = 0x1254C367, 0x1043A770, 0x1941A469
BLOCK_GROUP, SIMPLE_BLOCK, BLOCK, TIMESTAMP = 0xA0, 0xA3, 0xA1, 0xE7
_MAX_ID_LENGTH: Final = 0x42F2
MASTERS: Final = frozenset({SEGMENT, CLUSTER, BLOCK_GROUP})
"""Elements whose children a walk gives one by one; all others it gives whole."""
UNKNOWN: Final = tuple((1 << 7 * length) - 1 for length in range(9))
"""Sizes of the elements of unknown size, by the length of that number (RFC 8794, 6.2)."""
MAX_HEAD: Final = 16
"""Bytes of an element's id and size, at most."""
_READ_AHEAD: Final = 64 * 1024
_LARGE: Final = 8192
"""Above it, a block is skipped and not read, which saves more than the larger number of reads costs."""
_READ_AHEAD_LARGE: Final = 2048  # bytes read ahead where blocks are large
_TOP: Final = frozenset({SEEK_HEAD, INFO, TRACKS, CUES, TAGS, CHAPTERS, ATTACHMENTS, CLUSTER})
"""Elements directly within a segment (RFC 9559, 5.1)."""
_FIRST_CHILDREN: Final[dict[int, frozenset[int]]] = {
    EBML: frozenset({0x4282, 0x4285, 0x4286, 0x4287, 0x42F2, 0x42F3, 0x42F7}),
    SEGMENT: _TOP,
    CLUSTER: frozenset({TIMESTAMP, 0xA7, 0xAB, SIMPLE_BLOCK, BLOCK_GROUP, 0x5854}),
    SEEK_HEAD: frozenset({0x4DBB}),
    INFO: frozenset({0x73A4, 0x7384, 0x2AD7B1, 0x4489, 0x4461, 0x7BA9, 0x4D80, 0x5741}),
    TRACKS: frozenset({0xAE}),
    CUES: frozenset({0xBB}),
    TAGS: frozenset({0x7373}),
    CHAPTERS: frozenset({0x45B9}),
    ATTACHMENTS: frozenset({0x61A7}),
}
"""First child that an element may have, besides the global ones; distinguishes it from bytes of a picture."""
_IDS: Final = re.compile(b"|".join(re.escape(kind.to_bytes(4, "big")) for kind in _FIRST_CHILDREN))


class BadElementError(Exception):
    """No element can begin with these bytes; never leaves a public call."""


class EbmlElement(NamedTuple):
    """An element: its id, the offset of its contents, and their size, or None where it is unknown."""

    kind: int
    begin: int
    size: int | None


def parse_vint(data: bytes, at: int, *, longest: int = 8, keep_marker: bool = False) -> tuple[int, int]:
    """Return a number of variable length (RFC 8794, 4) and the offset behind it, unless cut or too long."""
    if at >= len(data):
        raise CutShortError
    # RFC 8794, 4: as many zero bits before the marker bit as bytes follow the first one.
    length = 9 - data[at].bit_length()
    if length > longest:
        raise BadElementError
    end = at + length
    if end > len(data):
        raise CutShortError
    value = int.from_bytes(data[at:end], "big")
    return (value if keep_marker else value & UNKNOWN[length]), end


def parse_element(data: bytes, at: int, position: int, id_length: int = 4) -> EbmlElement:
    """Return the element at ``at``, unless cut or bad, in bytes from ``position - at`` of the file on."""
    kind, middle = parse_vint(data, at, longest=id_length, keep_marker=True)
    size, end = parse_vint(data, middle)
    return EbmlElement(kind, position + end, None if size == UNKNOWN[end - middle] else size)


def read_elements(view: FileView, begin: int, end: int) -> Iterator[EbmlElement]:
    """Yield the elements within one that is small, as far as they make sense."""
    end = min(end, view.size)
    while begin < end:
        try:
            element = parse_element(view.read(begin, min(MAX_HEAD, end - begin)), 0, begin)
        except (CutShortError, BadElementError):
            return
        if element.size is None or element.begin + element.size > end:
            return
        yield element
        begin = element.begin + element.size
        if element.kind == VOID and begin < end and view.read(begin, 1) == b"\0":
            # GStreamer strikes out an unknown duration by a void that is a byte too short. No element begins
            # with a zero.
            begin += 1


def read_uint(view: FileView, element: EbmlElement) -> int:
    """Read the unsigned integer of an element (RFC 8794, 7.2)."""
    return int.from_bytes(view.read(element.begin, min(element.size or 0, 8)), "big")


class ElementWalker(UnitWalk):
    """Elements of a file in one flat pass, across bytes that are not an element.

    Masters in `MASTERS` are followed by their children; all other elements are given whole, voids too. Where
    no element can be, the walk goes on at the next one that stands directly in a segment, as players do.
    """

    unit_head = _IDS

    def __init__(self, view: FileView, position: int = 0) -> None:
        super().__init__(view, position)  # the caller may move the position on while iterating
        self.data = b""  # bytes read ahead, at offset ``data_at`` of the file
        self.data_at = position
        self.cut_kind = 0  # id of the element that is cut off, 0 where even its head is cut off
        self.segment_end: int | None = None  # where the present segment ends, None if unknown
        self.cluster_end: int | None = None  # where the present cluster ends, None if unknown
        self.documents = 0  # EBML headers that were seen: above 1 where files are joined
        self.joined = 0  # offset of the second one
        self.id_length = 4  # bytes of an id, at most (RFC 8794, 11.2.4)
        self._size = view.size
        self._large = False

    def __iter__(self) -> Iterator[EbmlElement]:
        while self.position < self._size:
            position = self.position
            if self.segment_end is not None and position >= self.segment_end and self._is_over(position):
                return
            here = position - self.data_at
            if here < 0 or here + MAX_HEAD > len(self.data):
                length = _READ_AHEAD_LARGE if self._large else _READ_AHEAD
                self.data, self.data_at, here = self.view.read_some(position, length), position, 0
            try:
                element = parse_element(self.data, here, self.data_at, self.id_length)
            except CutShortError:
                if not self.resume(position + 1):
                    self.cut = position
                    return
                continue
            except BadElementError:
                end = self._size if self.segment_end is None else min(self.segment_end, self._size)
                if not self.recover(end):
                    return
                continue
            kind, begin, size = element
            if kind in MASTERS and not (kind == BLOCK_GROUP and self._is_too_long(begin, size)):
                self._enter(element)
                self.position = begin
                yield element
                continue
            end = begin + (size or 0)
            if size is None or end > self._size:
                if size is None and kind in _TOP:  # not allowed, and yet its children can be stepped over
                    self.position = begin
                    yield element
                    continue
                if not self._skip_overlong(position, begin, kind):
                    return
                continue
            limit = self.cluster_end
            if limit is not None and end > limit > position:
                if self._is_border(limit):
                    self.note_lost(position, limit)
                    self.position = limit
                    continue
                self.cluster_end = None
            if kind == EBML:
                self._note_document(position, element)
            elif kind in _TOP:
                self.cluster_end = None
            self._large = end - begin > _LARGE
            yield element
            self.position = max(self.position, end)

    def payload(self, begin: int, length: int) -> bytes:
        """Return at most so many bytes of the present element, from those read ahead if possible."""
        here = begin - self.data_at
        if here >= 0 and here + length <= len(self.data):
            return self.data[here : here + length]
        return self.view.read(begin, length)

    def _enter(self, element: EbmlElement) -> None:
        end = None if element.size is None else element.begin + element.size
        if element.kind == SEGMENT:
            self.segment_end, self.cluster_end = end, None
        elif element.kind == CLUSTER:
            self.cluster_end = end
            if self.segment_end is not None and end is not None and self.segment_end < end <= self._size:
                self.segment_end = None  # a segment is no shorter than what is in it

    def _note_document(self, position: int, header: EbmlElement) -> None:
        self.documents += 1
        self.segment_end = self.cluster_end = None
        if self.documents == 2:
            self.joined = position
        self.id_length = 4
        for child in read_elements(self.view, header.begin, header.begin + (header.size or 0)):
            if child.kind == _MAX_ID_LENGTH:
                self.id_length = max(4, min(read_uint(self.view, child), 8))

    def _is_over(self, position: int) -> bool:
        """Return whether the walk is over at the end of a segment: neither a file nor more of it follows."""
        head = self.view.read_some(position, MAX_HEAD)
        try:
            element = parse_element(head, 0, position)
        except (CutShortError, BadElementError):
            self.trailing = position
            return True
        whole = element.size is not None and element.begin + element.size <= self._size
        if element.kind in (EBML, SEGMENT) or (element.kind == VOID and whole):
            return False
        if element.kind in _TOP and self.is_unit(position):
            self.segment_end = None
            return False
        self.trailing = position
        return True

    def _skip_overlong(self, position: int, begin: int, kind: int) -> bool:
        """Return whether the walk goes on though an element says that it ends behind the file."""
        end = self.cluster_end
        if end is not None and position < end < self._size and self._is_border(end):
            self.note_lost(position, end)
            self.position = end
            return True
        if self.resume(begin):
            return True
        if self.segment_end is not None and self.segment_end <= self._size:
            # Nothing is cut off: the size itself is wrong.
            self.note_lost(position, self._size)
        else:
            self.cut, self.cut_kind = position, kind
        return False

    def _is_too_long(self, begin: int, size: int | None) -> bool:
        """Return whether an element's size is wrong: it ends behind a file that is not cut off."""
        whole = self.segment_end is not None and self.segment_end <= self._size
        return size is not None and begin + size > self._size and whole

    def note_lost(self, begin: int, end: int) -> None:
        """Count lost bytes, behind which the present cluster's end is no longer known."""
        super().note_lost(begin, end)
        self.cluster_end = None

    def _is_border(self, position: int) -> bool:
        """Return whether another element of a segment, or nothing at all, stands where a cluster ends."""
        return position in (self._size, self.segment_end) or self.is_unit(position)

    def is_unit(self, position: int) -> bool:
        """Return whether an element stands there, by its id and its first child's."""
        head = self.view.read_some(position, 2 * MAX_HEAD)
        try:
            kind, begin, size = parse_element(head, 0, position)
            allowed = _FIRST_CHILDREN.get(kind)
            if allowed is None or size == 0:
                return False
            child = parse_element(head, begin - position, position)
        except (CutShortError, BadElementError):
            return False
        return child.kind in allowed or child.kind in (VOID, CHECKSUM)
