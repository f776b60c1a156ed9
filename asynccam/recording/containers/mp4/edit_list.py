"""Edit lists and composition times: when frames are shown (ISO/IEC 14496-12, 8.6)."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final, NamedTuple

from asynccam.recording.containers.mp4.movie import Movie, Mp4Track
from asynccam.recording.containers.mp4.samples import Sample

_MAX_EDITS: Final = 1024
_EMPTY: Final = -1  # media time of a pause (8.6.6.1)
_FOREVER: Final = 1 << 70  # ticks; no file has such a time


class Edit(NamedTuple):
    """A stretch of media that is shown, in the track's ticks."""

    begin: int  # where it begins in the media
    end: int  # where it ends in the media
    shown: int  # when its beginning is shown


@dataclass(slots=True)
class _EditSpan:
    """Frames between two places at which an edit begins or ends."""

    frames: int = 0
    first: int = _FOREVER
    last: int = -_FOREVER


class EditedFrames:
    """Count of frames as a player shows them: an edit list leaves some out, and may show others twice."""

    def __init__(self, edits: tuple[Edit, ...]) -> None:
        self._edits = edits or (Edit(-_FOREVER, _FOREVER, -_FOREVER),)
        self._borders = sorted({place for edit in self._edits for place in (edit.begin, edit.end)})
        self._spans = [_EditSpan() for _ in range(len(self._borders) + 1)]

    def add(self, sample: Sample) -> None:
        """Add a frame."""
        begin = sample.time + sample.composition_offset
        stretch = self._spans[bisect_right(self._borders, begin)]
        stretch.frames += 1
        stretch.first = min(stretch.first, begin)
        # A duration below zero steps back with the next frame's time; this one is shown no shorter for it.
        stretch.last = max(stretch.last, begin + max(sample.ticks, 0))

    def total(self) -> tuple[int, int]:
        """Return the frames shown, and the ticks from the first one's begin to the last one's end."""
        frames, first, last = 0, _FOREVER, -_FOREVER
        for edit in self._edits:
            begin, end = bisect_right(self._borders, edit.begin), bisect_right(self._borders, edit.end)
            inside = [stretch for stretch in self._spans[begin:end] if stretch.frames]
            if not inside:
                continue
            frames += sum(stretch.frames for stretch in inside)
            offset = edit.shown - edit.begin
            # A frame that begins before the edit fills it up to the first frame inside.
            is_filled = self._spans[begin - 1].last > edit.begin
            start = edit.begin if is_filled else min(stretch.first for stretch in inside)
            first = min(first, offset + start)
            last = max(last, offset + min(max(stretch.last for stretch in inside), edit.end))
        return frames, max(last - first, 0) if frames else 0


def read_edits(movie: Movie, track: Mp4Track) -> tuple[Edit, ...]:
    """Read the edits of a track; nothing where there is no list that can be followed.

    As ffmpeg does, a frame is shown if it begins inside an edit, a media rate is left alone, and durations
    are rounded to the track's ticks. A duration of 0 is that of a file whose end was not known (8.6.6.1), and
    reaches to the end.
    """
    if track.edits is None or not movie.timescale or not track.timescale:
        return ()
    if not 0 < track.edits.count <= _MAX_EDITS:
        return ()
    edits: list[Edit] = []
    shown = 0
    for duration, begin, _ in track.edits:
        ticks = (duration * track.timescale + movie.timescale // 2) // movie.timescale
        if begin != _EMPTY:
            edits.append(Edit(begin, begin + ticks if ticks else _FOREVER, shown))
        shown += ticks
    return tuple(edits) or _PAUSES


_PAUSES: Final = (Edit(_FOREVER - 1, _FOREVER, 0),)
"""A list of nothing but pauses shows no frame: it has one edit without a frame."""


def shows_media(edits: tuple[Edit, ...]) -> bool:
    """Return whether edits of `read_edits` show anything but pauses."""
    return edits is not _PAUSES


def pauses_between(edits: tuple[Edit, ...]) -> int:
    """Return the ticks of all pauses before the last edit."""
    lengths = (edit.end - edit.begin for edit in edits[:-1] if edit.end < _FOREVER)
    return edits[-1].shown - sum(lengths)


def can_be_followed(track: Mp4Track) -> bool:
    """Return whether a track's edit list is short enough to be followed."""
    return track.edits is None or track.edits.count <= _MAX_EDITS
