"""Scan of an MP4 or QuickTime file: its contents in words."""

from collections.abc import Iterator
from typing import Final

from asynccam.recording.containers.mp4.boxes import Fields, Flaws, read_box, read_boxes
from asynccam.recording.containers.mp4.count import Tally, TooLongError, TrackCounter
from asynccam.recording.containers.mp4.edit_list import can_be_followed
from asynccam.recording.containers.mp4.layout import BoxLayout
from asynccam.recording.containers.mp4.movie import Movie, Mp4Track, read_movie
from asynccam.recording.containers.mp4.samples import indexed_end
from asynccam.recording.containers.mp4.tables import Table
from asynccam.recording.containers.reader import CutShortError, FileView, Scan

_SEGMENT_INDEXES: Final = 64  # those at the beginning that are read


def lists_missing_segments(view: FileView, layout: BoxLayout) -> bool:
    """Return whether a segment index (``sidx``, 8.16.3) lists media behind the end of the file."""
    # One is at the beginning, or one in front of each fragment; of more only the last can go beyond the end.
    for begin in (*layout.sidx[:_SEGMENT_INDEXES], *layout.sidx[-1:]):
        try:
            if _segments_end(view, begin) > view.size:
                return True
        except CutShortError:  # the layout has noted that the file is cut here
            return False
    return False


def ends_where_listed(view: FileView, layout: BoxLayout) -> bool:
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
    end = box.end + fields.read_int(width)
    fields.skip(2)
    for _ in range(fields.read_int(2)):
        # The first bit says whether it refers to media or to another index; both are in this file.
        end += fields.read_int() & 0x7FFFFFFF
        fields.skip(8)
    return end


def missing_fragments(view: FileView, layout: BoxLayout) -> int:
    """Count the fragments that a fragment index (``mfra``, 8.8.9 to 8.8.11) lists in the wrong place.

    An index that fits nowhere is of another file, or of this one before it was edited; it says nothing.
    """
    if layout.mfra is None:
        return 0
    found = missing = behind = 0
    trouble = Flaws()
    for box in read_boxes(view, layout.mfra.start, layout.mfra.end, trouble):
        if box.kind != b"tfra":
            continue
        try:
            fields = Fields(view, box)
            fields.skip(4)  # track ID
            lengths = fields.read_int()
            count = fields.read_int()
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


_NO_INDEX: Final = "has no index: it was never finished"
_TERMINATOR: Final = 4  # zero bytes that may end a list of boxes in QuickTime
_TOLERANCE: Final = 0.1  # seconds by which the times of writers differ from each other


def scan_mp4(view: FileView) -> Scan:
    """Read an MP4 or QuickTime file: its boxes, the tables of its samples, and the media of each sample."""
    try:
        opened = open_movie(view)
        return opened if isinstance(opened, Scan) else _scan_movie(view, *opened)
    except TooLongError:
        return _not_understood("announces more frames than are read")
    except CutShortError:
        return Scan(None, None, truncated="became shorter while it was read")


def open_movie(view: FileView) -> tuple[BoxLayout, Movie] | Scan:
    """Read the boxes and the index of a file; return a scan of it if the index cannot be read."""
    layout = BoxLayout(view)
    if layout.is_overlong:
        return _not_understood("has more boxes than are read")
    if layout.is_still:
        return _not_understood("is a still picture in boxes (HEIF), which is not read")
    if layout.moov is None:
        return _scan_without_index(layout)
    movie = read_movie(view, layout.moov)
    if movie.is_compressed:
        return _not_understood("has a compressed index, which is not read")
    return layout, movie


def _not_understood(note: str) -> Scan:
    return Scan(None, None, note=note, understood=False)


def _scan_without_index(layout: BoxLayout) -> Scan:
    if layout.spoiled is not None:
        return Scan(None, None, damaged=f"does not consist of boxes from byte {layout.spoiled} on")
    if layout.moofs:
        return _not_understood("is a segment whose index is in another file")
    if layout.media_bytes or layout.cut in ("mdat", "imda"):
        return Scan(None, None, truncated=_NO_INDEX)
    if layout.rest is not None and layout.is_zeros:
        return Scan(0, None, damaged=f"is zeros from byte {layout.rest} on")
    if layout.rest is not None:
        return Scan(None, None, truncated=_NO_INDEX)
    return Scan(0, None, note="holds no frame: it ends before any media")


def _scan_movie(view: FileView, layout: BoxLayout, movie: Movie) -> Scan:
    count: TrackCounter | None = None
    for track in movie.video_tracks():
        count = TrackCounter(view, layout, movie, track)
        count.count()
        if count.tally.announced:
            break  # a player passes over a track without a sample
    if count is None:
        count = TrackCounter(view, layout, movie, Mp4Track())
        count.count()
    track, tally = count.track, count.tally
    if tally.announced and not tally.there and track.is_external:
        return _not_understood("is an index of media that is in another file")
    words = _Findings(view, layout, movie, count)
    truncated = "; ".join(words.truncations())
    frames: int | None = tally.frames
    if not truncated and is_unindexed(layout, movie):
        truncated, frames = "has media that its index does not list: it was never finished", None
    scale, usual, longest = track.timescale, tally.intervals.usual, tally.intervals.longest
    return Scan(
        frames,
        tally.ticks / scale if scale and tally.frames else None,
        truncated=truncated,
        damaged="; ".join(words.damages()),
        note="; ".join(words.notes()),
        interval=usual / scale if scale and usual else None,
        longest=longest / scale if scale and longest else None,
    )


def is_unindexed(layout: BoxLayout, movie: Movie) -> bool:
    """Return whether there is media without any sample in the index."""
    has_samples = any(track.sizes is not None and track.sizes.announced for track in movie.tracks)
    return bool(layout.media_bytes and not layout.moofs and not has_samples)


class _Findings:
    """Sentences about a file with an index; each follows the file's name."""

    def __init__(self, view: FileView, layout: BoxLayout, movie: Movie, count: TrackCounter) -> None:
        self._view = view
        self._layout = layout
        self._movie = movie
        self._count = count
        self._tally: Tally = count.tally
        places = (movie.flaws.spoiled, count.fragments.flaws.spoiled)
        self._spoiled = next((place for place in places if place is not None), None)
        self._has_lost = self._tally.there < self._tally.announced

    def truncations(self) -> Iterator[str]:
        """Yield why the end is missing."""
        layout, tally = self._layout, self._tally
        # Zeros behind fragments are where more of them should be, unless an index says that these are all.
        is_zero_tail = (
            layout.rest is not None
            and layout.is_zeros
            and self._is_fragmented
            and self._rest != _TERMINATOR
            and layout.mfra is None
            and not ends_where_listed(self._view, layout)
        )
        match layout.cut:
            case "":
                pass
            case "?":
                yield "is cut off inside the header of its last box"
            case "moov":
                yield "is cut off inside its index (moov)"
            case kind:
                yield f"is cut off inside its last box ({kind})"
        if self._movie.is_fragmented and layout.is_media_first:
            # GStreamer's first-moov-then-finalise: only the final pass puts an index over all of it.
            yield "was never finalized: media after its last fragment is not indexed"
        if tally.beyond:
            yield f"lacks {tally.beyond} of {tally.announced} frames"
        elif self._lacks_other_media():
            yield "lacks media of another track"
        if self._movie.flaws.cut and tally.unplaced:
            yield f"has no place for {tally.unplaced} of {tally.announced} frames in what is left of it"
        if tally.zeros_at_end:
            yield f"is zeros from byte {tally.zeros_from} on"
        elif is_zero_tail:
            yield f"is zeros from byte {layout.rest} on"
        if lists_missing_segments(self._view, layout):
            yield "lists segments that are missing (sidx)"
        if lost := missing_fragments(self._view, layout):
            yield f"lists {lost} fragments that are missing (mfra)"
        if (seconds := self._announced_seconds()) is not None:
            yield f"announces {seconds:.1f} s (mehd), and is shorter"

    def damages(self) -> Iterator[str]:
        """Yield missing or spoiled content inside."""
        tally = self._tally
        if self._layout.spoiled is not None:
            yield f"does not consist of boxes from byte {self._layout.spoiled} on"
        if self._spoiled is not None and (self._has_lost or not tally.announced):
            yield f"has a spoiled index at byte {self._spoiled}"
        if tally.announced and not self._count.track.formats and not self._movie.flaws.cut:
            yield "does not say how its media is coded"
        if zeros := tally.zeros - tally.zeros_at_end:
            yield f"has zeros in {zeros} of {tally.announced} frames"
        if tally.spoiled:
            yield f"has {tally.spoiled} of {tally.announced} frames whose media is not of their format"
        if tally.outside:
            yield f"has {tally.outside} of {tally.announced} frames outside its media boxes"
        if tally.unplaced and not self._movie.flaws.cut:
            yield f"has no place for {tally.unplaced} of {tally.announced} frames in its index"
        if tally.unusable:
            yield f"has {tally.unusable} frames whose key frame is missing"
        if tally.there > tally.unusable and not tally.frames:
            yield f"has an edit list that shows none of its {tally.there} frames"

    def notes(self) -> Iterator[str]:
        """Yield remarks that are not failures."""
        layout, tally = self._layout, self._tally
        if layout.second_file is not None:
            yield f"has a second file joined on at byte {layout.second_file}, which players do not show"
        if layout.rest is not None and layout.spoiled is None:
            yield f"has {self._rest} bytes behind its last box"
        if self._spoiled is not None and tally.announced and not self._has_lost:
            yield f"has bytes in its index that are not a box, at byte {self._spoiled}"
        if not can_be_followed(self._count.track):
            yield "has an edit list too long to be followed"
        if not tally.announced and not layout.cut:
            if self._movie.video_tracks():
                yield "holds no frame"
            elif any(track.handler == b"soun" for track in self._movie.tracks):
                yield "has no video track, only sound"
            else:
                yield "has no video track"
        if self._is_fragmented and tally.announced and not self._has_end:
            yield "does not say whether more fragments followed"

    @property
    def _rest(self) -> int:
        """Bytes behind the last box."""
        return self._view.size - self._layout.rest if self._layout.rest is not None else 0

    @property
    def _is_fragmented(self) -> bool:
        return self._movie.is_fragmented or bool(self._layout.moofs)

    @property
    def _has_end(self) -> bool:
        layout = self._layout
        return bool(layout.mfra is not None or layout.sidx or self._movie.fragment_ticks or layout.cut)

    def _lacks_other_media(self) -> bool:
        size = self._view.size
        if any(other.end > size for other in self._count.others.values()):
            return True
        return any(
            indexed_end(track) > size
            for track in self._movie.tracks
            if track is not self._count.track and not track.is_external and not _has_odd_sizes(track)
        )

    def _announced_seconds(self) -> float | None:
        """Return the length that a fragmented file announces, if its frames are shorter."""
        movie, tally = self._movie, self._tally
        if not movie.timescale or not movie.fragment_ticks or not self._count.track.timescale:
            return None
        lengths = [tally.ticks / self._count.track.timescale]
        for track_id, other in self._count.others.items():
            track = movie.find_track(track_id)
            if track is not None and track.timescale:
                lengths.append(other.ticks / track.timescale)
        announced = movie.fragment_ticks / movie.timescale
        usual = (tally.intervals.usual or 0.0) / self._count.track.timescale
        return announced if max(lengths) + 2 * usual + _TOLERANCE < announced else None


def _has_odd_sizes(track: Mp4Track) -> bool:
    """Return whether sizes are not in bytes: QuickTime calls one sample of compressed sound one byte long."""
    return track.handler == b"soun" and track.sizes is not None and track.sizes.constant == 1
