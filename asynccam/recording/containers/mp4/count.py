"""Count of a track's samples by their state: there, missing, zeros, spoiled."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from asynccam.recording.containers.mp4.edit_list import EditedFrames, read_edits
from asynccam.recording.containers.mp4.layout import BoxLayout
from asynccam.recording.containers.mp4.media import MediaChecker, MediaState
from asynccam.recording.containers.mp4.movie import Coding, Format, Movie, Mp4Track
from asynccam.recording.containers.mp4.samples import (
    Fragments,
    Sample,
    TrackRun,
    indexed_samples,
    placed_samples,
)
from asynccam.recording.containers.reader import FileView, Intervals

_MAX_SAMPLES: Final = 1 << 23  # samples that are read: 38 hours at 60 frames a second
_ALL_CHECKED: Final = 1 << 20
_CHECK_STEP: Final = 16
"""Behind the first million samples every sixteenth is checked; those between count as the last one."""
_ABORT_STEP: Final = 4096
_UNDESCRIBED: Final = Format(Coding.OTHER)


class TooLongError(Exception):
    """The index has more samples than are read; never leaves a public call."""


@dataclass(slots=True)
class Tally:
    """Samples of a track by their state."""

    announced: int = 0  # samples with a picture by index and fragments
    there: int = 0  # those whose media is in the file and can be media
    beyond: int = 0  # those whose media lies behind the end of the file
    outside: int = 0  # those whose media lies in no media box
    unplaced: int = 0  # those that the index has no place for
    zeros: int = 0  # those that are zeros, wholly or in part
    zeros_at_end: int = 0  # number of these behind the last one that is there
    zeros_from: int = 0  # offset of the first of those
    spoiled: int = 0  # those whose media is not of their format
    unusable: int = 0  # those that are there and refer to frames of which none is
    frames: int = 0  # frames that a player shows
    ticks: int = 0  # time from the first of these to the end of the last, in the track's ticks
    intervals: Intervals = field(default_factory=Intervals)  # times between samples, in the track's ticks


@dataclass(slots=True)
class OtherTrack:
    """Fragments of a track that is not counted: the end of their media, and their ticks if wanted."""

    end: int = 0
    ticks: int = 0


class TrackCounter:
    """Count of the samples of one track."""

    def __init__(self, view: FileView, layout: BoxLayout, movie: Movie, track: Mp4Track) -> None:
        self.track = track
        self.tally = Tally()  # the result, known when `count` has returned or the last of `frames` was given
        self.others: dict[int, OtherTrack] = {}  # fragments of the other tracks, by their IDs
        self.fragments = Fragments(view, layout, movie)  # the fragments, with their flaws
        self._view = view
        self._layout = layout
        self._checker = MediaChecker(view, layout.media_bytes)
        self._seen = 0
        self._last_state = MediaState.GOOD
        self._movie = movie

    def count(self) -> None:
        """Count the samples; raise TooLongError if there are more than are read."""
        layout, track, tally = self._layout, self.track, self.tally
        # Edits of a fragmented file are about the samples before its first fragment at most: ffmpeg leaves
        # nothing of the fragments out for them.
        edits = () if layout.moofs else read_edits(self._movie, track)
        presentation = EditedFrames(edits)
        for sample in self.frames():
            presentation.add(sample)
        tally.frames, tally.ticks = presentation.total()
        if tally.frames and track.ticks and not layout.moofs and not (edits and tally.ticks):
            # As ffmpeg does: a last frame that is said to last for days lasts no longer than its track.
            tally.ticks = min(tally.ticks or track.ticks, track.ticks)

    def frames(self) -> Iterator[Sample]:
        """Yield the samples that are frames and really there, in decoding order, without regard to edits."""
        track, tally = self.track, self.tally
        announced = tally.announced = track.sizes.announced if track.sizes is not None else 0
        time = 0
        for sample in indexed_samples(self._view, track):
            time = sample.time + sample.ticks
            if self._count_sample(sample):
                yield sample
        placed = placed_samples(track)
        tally.unplaced += announced - placed
        # Those that were not given lie behind the end of the file.
        tally.beyond += placed - self._seen
        for sample in self.fragments.samples(self._runs(), time, track.timescale):
            if self._count_sample(sample):
                yield sample

    def _runs(self) -> Iterator[TrackRun]:
        """Yield runs of the track; those of the other tracks are added up."""
        for run in self.fragments.runs():
            if run.track_id == self.track.track_id:
                self.tally.announced += run.announced
                self.tally.beyond += run.announced - run.count_there(self._view.size)
                yield run
            else:
                other = self.others.setdefault(run.track_id, OtherTrack())
                other.end = max(other.end, run.offset + run.bytes())
                if self._movie.fragment_ticks:
                    other.ticks += run.ticks(self._view.size)

    def _count_sample(self, sample: Sample) -> bool:
        """Count a sample; return whether it is a frame that is there."""
        self._seen += 1
        if self._seen > _MAX_SAMPLES:
            raise TooLongError
        if not self._seen % _ABORT_STEP:
            self._view.check_abort()
        end = sample.offset + sample.size
        if not sample.size:
            # QuickTime: the picture before it goes on. ffmpeg does not count it as a frame either.
            self.tally.announced -= 1
        elif end > self._view.size:
            self.tally.beyond += 1
        elif not self._layout.holds(sample.offset, end):
            self.tally.outside += 1
        else:
            return self._count_media(sample, self._check_media(sample))
        return False

    def _count_media(self, sample: Sample, state: MediaState) -> bool:
        tally = self.tally
        if state is MediaState.ZEROS:
            if not tally.zeros_at_end:
                tally.zeros_from = sample.offset
            tally.zeros += 1
            tally.zeros_at_end += 1
        elif state is MediaState.SPOILED:
            tally.spoiled += 1
        elif state is MediaState.NO_PICTURE:
            tally.announced -= 1
        else:
            lost = tally.zeros + tally.spoiled + tally.outside + tally.beyond
            # Nothing before it could be decoded, and it refers to something before it.
            is_unusable = bool(lost and tally.there == tally.unusable and not sample.is_sync)
            if is_unusable:
                tally.unusable += 1
            else:
                tally.intervals.add(sample.ticks)
            tally.there += 1
            tally.zeros_at_end = 0
            return not is_unusable
        return False

    def _check_media(self, sample: Sample) -> MediaState:
        if self._seen <= _ALL_CHECKED or self._seen % _CHECK_STEP == 0:
            formats, index = self.track.formats, sample.description - 1
            form = formats[index] if 0 <= index < len(formats) else _UNDESCRIBED
            self._last_state = self._checker.check(form, sample.offset, sample.size)
        return self._last_state
