"""What a file says about fragments besides the fragments: segment and fragment indexes."""

from typing import Final

from asynccam.recording.containers.mp4.boxes import Fields, Trouble, children, read_box
from asynccam.recording.containers.mp4.layout import Layout
from asynccam.recording.containers.mp4.tables import Table
from asynccam.recording.containers.reader import CutShortError, FileView

_SEGMENT_INDEXES: Final = 64


def lists_missing_segments(view: FileView, layout: Layout) -> bool:
    """Whether a segment index (``sidx``, ISO/IEC 14496-12, 8.16.3) lists media behind the end of the file."""
    # One is at the beginning, or one in front of each fragment; of more only the last can go beyond the end.
    for begin in (*layout.sidx[:_SEGMENT_INDEXES], *layout.sidx[-1:]):
        try:
            if _segments_end(view, begin) > view.size:
                return True
        except CutShortError:  # the layout has noted that the file is cut here
            return False
    return False


def ends_where_listed(view: FileView, layout: Layout) -> bool:
    """Return whether the boxes of a file end where its one segment index says that its media ends."""
    try:
        return len(layout.sidx) == 1 and _segments_end(view, layout.sidx[0]) == layout.rest
    except CutShortError:
        return False


def _segments_end(view: FileView, begin: int) -> int:
    box = read_box(view, begin, view.size)
    if box is None:
        raise CutShortError
    fields = Fields(view, box)
    fields.skip(8)  # reference ID, timescale
    width = 8 if fields.version else 4
    fields.skip(width)  # earliest presentation time
    end = box.end + fields.number(width)
    fields.skip(2)
    for _ in range(fields.number(2)):
        # The first bit says whether it refers to media or to another index; both are in this file.
        end += fields.number() & 0x7FFFFFFF
        fields.skip(8)
    return end


def missing_fragments(view: FileView, layout: Layout) -> int:
    """Count what a fragment index (``mfra``, 8.8.9 to 8.8.11) lists and is not where it should be.

    An index that fits nowhere is of another file, or of this one before it was edited; it says nothing.
    """
    if layout.mfra is None:
        return 0
    found = missing = behind = 0
    trouble = Trouble()
    for box in children(view, layout.mfra.start, layout.mfra.end, trouble):
        if box.kind != b"tfra":
            continue
        try:
            fields = Fields(view, box)
            fields.skip(4)  # track ID
            lengths = fields.number()
            count = fields.number()
        except CutShortError:
            continue
        # Numbers of the track's part, the run and the sample have 1 to 4 bytes each.
        others = sum((lengths >> shift & 3) + 1 for shift in (4, 2, 0))
        row = ("QQ" if fields.version else "II") + f"{others}x"
        if not fields.version and view.size > 1 << 32:
            continue  # 32 bits do not reach far enough
        for _, offset in Table(view, box, fields.at, count, row, trouble):
            if layout.has_fragment(offset):
                found += 1
            else:
                missing += 1
                behind += offset >= layout.mfra.begin
    return missing if found or behind else 0
