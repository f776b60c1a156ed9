"""Boxes of a file from its beginning to its end, and the bytes that are not in one."""

import re
from array import array
from bisect import bisect_right
from typing import Final

from asynccam.recording.containers.mp4.boxes import HEADER, Box, is_kind, read_box
from asynccam.recording.containers.reader import CutShortError, FileView

_MAX_BOXES: Final = 1 << 22  # boxes at the top level that are read
_MAX_FILLERS: Final = 1 << 17  # boxes besides those that each fragment may have
_BLOCK: Final = 1 << 20
_LEADING: Final = frozenset(
    {b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"sidx", b"free", b"skip", b"wide", b"uuid", b"pnot"}
    | {b"pdin", b"junk", b"prfl", b"imda"}
)
"""Boxes that a file is recognised by: ISO/IEC 14496-12, QuickTime, and those that cameras put in front."""
_FRAGMENT_BOXES: Final = frozenset({b"moof", b"mdat", b"imda", b"styp", b"sidx", b"emsg", b"prft"})
_KNOWN: Final = _LEADING | {b"mfra", b"meta", b"udta", b"emsg", b"prft", b"ssix", b"meco", b"PICT", b"pict"}
_INDEX_HEAD: Final = re.compile(
    rb"moof\0\0\0.mfhd|moov\0\0\0.(?:mvhd|trak|cmov)|mfra\0\0..(?:tfra|mfro)", re.DOTALL
)
"""The beginning of a box with an index, by its type and the type of its first child."""
_STILL_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"avif", b"jp2 ", b"jpx ", b"jxl ", b"miaf"}
)


def is_mp4(head: bytes) -> bool:
    """Return whether a file that begins so is read here; its first box may be of an unknown type."""
    at = 0
    for _ in range(4):
        if head[at + 4 : at + 8] in _LEADING:
            return True
        size = int.from_bytes(head[at : at + 4])
        if size < HEADER or at + size + HEADER > len(head) or not is_kind(head[at + 4 : at + 8]):
            return False
        at += size
    return False


class BoxLayout:
    """Relevant boxes of a file, found without reading their contents."""

    def __init__(self, view: FileView) -> None:
        self._view = view
        self.moov: Box | None = None  # the first index, or None
        self.moofs = array("Q")  # offsets of fragments
        self.mfra: Box | None = None  # index of fragments, or None
        self.sidx = array("Q")  # offsets of segment indexes
        self.has_meta = False  # whether there is a ``meta`` box at the top, as still pictures have
        self.brand = b""  # major brand, or ``b""``
        self.is_media_first = False  # whether media comes before the index
        self.cut = ""  # type of the box that goes on behind the end; ``"?"`` if even that is missing
        self.spoiled: int | None = None  # offset of other bytes that boxes follow, or None
        self.rest: int | None = None  # offset of the bytes behind the last box, or None
        self.is_zeros = False  # whether these are all zeros
        self.second_file: int | None = None  # offset of a second file, or None
        self.is_overlong = False  # whether there are more boxes than are read
        self._begins = array("Q")
        self._ends = array("Q")
        self._read_boxes()

    @property
    def media_bytes(self) -> int:
        """Bytes of media boxes that are in the file."""
        return sum(map(int.__sub__, self._ends, self._begins))

    @property
    def is_still(self) -> bool:
        """Return whether it is a still picture (HEIF, AVIF, JPEG 2000), without index and fragments."""
        return self.moov is None and not self.moofs and (self.has_meta or self.brand in _STILL_BRANDS)

    def holds(self, begin: int, end: int) -> bool:
        """Return whether bytes lie wholly in one media box, and in the file."""
        place = bisect_right(self._begins, begin) - 1
        return place >= 0 and end <= self._ends[place]

    def has_fragment(self, offset: int) -> bool:
        """Return whether a fragment begins at an offset."""
        place = bisect_right(self.moofs, offset) - 1
        return place >= 0 and self.moofs[place] == offset

    def _read_boxes(self) -> None:
        view, at = self._view, 0
        fillers = 0
        for _ in range(_MAX_BOXES):
            if at >= view.size:
                return
            try:
                box = read_box(view, at, view.size)
            except CutShortError:
                self._end_in_header(at)
                return
            if box is None or (box.end > view.size and box.kind not in _KNOWN and at):
                self._end_at_rest(at)
                return
            if box.kind == b"ftyp" and (self.moov is not None or self.moofs or self._begins):
                self.second_file = at
                return
            self._note_box(box)
            at = box.end
            fillers += box.kind not in _FRAGMENT_BOXES
            if fillers > _MAX_FILLERS:
                break
        self.is_overlong = True

    def _note_box(self, box: Box) -> None:
        size = self._view.size
        if box.end > size:
            self.cut = box.kind.decode("latin-1")
        match box.kind:
            case b"moov" if self.moov is None:
                self.moov = box
                self.is_media_first = bool(self._begins)
            case b"moov":
                self.second_file = box.begin
            case b"moof":
                self.moofs.append(box.begin)
            case b"mdat" | b"imda" if box.start < size:
                self._begins.append(box.start)
                self._ends.append(min(box.end, size))
            case b"sidx":
                self.sidx.append(box.begin)
            case b"mfra":
                self.mfra = box
            case b"meta":
                self.has_meta = True
            case b"ftyp" if box.start + 4 <= size:
                self.brand = self._view.read(box.start, 4)

    def _end_in_header(self, at: int) -> None:
        """Note a rest that is shorter than a box's header, or than one with a size of 64 bits."""
        tail = self._view.read_some(at, 2 * HEADER)
        may_be_box = (
            tail[4:8] in _KNOWN
            if len(tail) >= HEADER
            # The types begin with letters, and a box whose size begins so is no larger than 16 MB.
            else tail[:1] == b"\0" and any(kind.startswith(tail[4:]) for kind in _KNOWN)
        )
        if may_be_box and any(tail):
            self.cut = "?"
        else:
            self.rest, self.is_zeros = at, not any(tail)

    def _end_at_rest(self, at: int) -> None:
        """Note a rest that is not a box: find out whether boxes with an index follow, or only zeros."""
        self.rest, self.is_zeros = at, True
        before = b""
        offset = at
        while block := self._view.read_some(offset, _BLOCK):
            self.is_zeros = self.is_zeros and block.count(0) == len(block)
            if _INDEX_HEAD.search(before + block):
                self.spoiled = at
                return
            before = block[-12:]
            offset += len(block)
