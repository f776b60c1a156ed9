"""Boxes: the units that MP4 and QuickTime files consist of (ISO/IEC 14496-12, 4.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from asynccam.recording.containers.reader import CutShortError, FileView

HEADER: Final = 8
_LARGE_HEADER: Final = 16
_MAX_CHILDREN: Final = 1 << 16  # boxes inside one that are read


class Box(NamedTuple):
    """A box of a file; it may announce more bytes than the file has."""

    kind: bytes
    begin: int  # offset of its header
    start: int  # offset of its contents
    end: int  # offset of its end, by its size
    is_open: bool = False  # whether it has no size of its own and reaches as far as the box around it


@dataclass(slots=True)
class Flaws:
    """Flaws of the structure found while reading."""

    cut: bool = False  # whether a box goes on behind the end of the file
    spoiled: int | None = None  # offset where a box is not one or does not fit, or None

    def note_short(self, view: FileView, box: Box) -> None:
        """Note a box shorter than its contents: because of the file's end, or else it is spoiled."""
        if box.end > view.size:
            self.cut = True
        else:
            self.note_spoiled(box.begin)

    def note_spoiled(self, offset: int) -> None:
        """Note the first spoiled offset."""
        if self.spoiled is None:
            self.spoiled = offset


def read_box(view: FileView, begin: int, limit: int) -> Box | None:
    """Read the header of a box, or return None where none can be.

    ISO/IEC 14496-12, 4.2: size 0 reaches to the end of the box around it; size 1 is followed by 64 bits.
    """
    head = view.read(begin, HEADER)
    size, kind, start = int.from_bytes(head[:4]), head[4:], begin + HEADER
    if not is_kind(kind):
        return None
    if size == 0:
        return Box(kind, begin, start, limit, True)
    if size == 1:
        size, start = int.from_bytes(view.read(begin + HEADER, 8)), begin + _LARGE_HEADER
    return Box(kind, begin, start, begin + size) if size >= start - begin else None


def is_kind(kind: bytes) -> bool:
    """Return whether four bytes can be the type of a box: printable, or QuickTime's copyright sign."""
    return all(0x20 <= letter < 0x7F or letter == 0xA9 for letter in kind)


def read_boxes(view: FileView, begin: int, end: int, trouble: Flaws) -> Iterator[Box]:
    """Read the boxes inside a box as far as they are in the file and fit.

    QuickTime File Format, "Atoms": a list may end in 32 bits that are zero. Anything else that is not a
    box ends the list too, and spoils it.
    """
    for _ in range(_MAX_CHILDREN):
        if begin >= end:
            return
        if begin >= view.size:
            trouble.cut = True
            return
        if end - begin < HEADER:
            _check_rest(view, begin, end, trouble)
            return
        try:
            box = read_box(view, begin, end)
        except CutShortError:
            trouble.cut = True
            return
        if box is None or box.is_open:
            _check_rest(view, begin, end, trouble)
            return
        if box.end > end:
            trouble.note_spoiled(begin)
            box = box._replace(end=end)
        if box.end > view.size:
            trouble.cut = True
        yield box
        begin = box.end
    trouble.note_spoiled(begin)


def _check_rest(view: FileView, begin: int, end: int, trouble: Flaws) -> None:
    """Check that only zeros stand where the next box should begin."""
    if end > view.size:
        trouble.cut = True
    while begin < min(end, view.size):
        block = view.read_some(begin, min(end - begin, 1 << 16))
        if not block:
            raise CutShortError
        if any(block):
            trouble.note_spoiled(begin)
            return
        begin += len(block)


class Fields:
    """Numbers of a full box, one after another (ISO/IEC 14496-12, 4.2: version and flags come first)."""

    __slots__ = ("_end", "_view", "at", "flags", "version")

    def __init__(self, view: FileView, box: Box) -> None:
        self._view = view
        self._end = box.end
        self.at = box.start  # offset of the next number
        head = self.read_int()
        self.version, self.flags = head >> 24, head & 0xFFFFFF

    def read_int(self, size: int = 4, *, signed: bool = False) -> int:
        """Read a number; raise CutShortError if the box or the file ends before it does."""
        if self.at + size > self._end:
            raise CutShortError
        self.at += size
        return int.from_bytes(self._view.read(self.at - size, size), signed=signed)

    def skip(self, size: int) -> None:
        """Skip bytes."""
        self.at += size
