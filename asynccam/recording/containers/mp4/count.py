"""Count of a track's samples by what became of them: there, missing, zeros, spoiled."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from asynccam.recording.containers.mp4.formats import Coding, Format
from asynccam.recording.containers.mp4.layout import Layout
from asynccam.recording.containers.mp4.media import Look, Media
from asynccam.recording.containers.mp4.movie import Movie, Track
from asynccam.recording.containers.mp4.presentation import Presentation, read_edits
from asynccam.recording.containers.mp4.samples import (
    Fragments,
    Run,
    Sample,
    indexed_samples,
    placed_samples,
)
from asynccam.recording.containers.reader import FileView, Intervals

_MAX_SAMPLES: Final = 1 << 23
"""Samples that are read: 38 hours at 60 frames a second."""
_ALL_LOOKED_AT: Final = 1 << 20
_THEN_EVERY: Final = 16
"""Behind the first million samples every sixteenth is looked at; those between are as the last one was."""
_CHECKED_EVERY: Final = 4096
_UNDESCRIBED: Final = Format(Coding.OTHER)


class TooLongError(Exception):
    """The index has more samples than are read; never leaves a public call."""


@dataclass(slots=True)
class Tally:
    """Samples of a track, by what became of them.

    Attributes:
        announced: Samples with a picture that index and fragments say there are.
        there: Those whose media is in the file and looks like media.
        beyond: Those whose media lies behind the end of the file.
        outside: Those whose media lies in no media box.
        unplaced: Those that the index has no place for.
        zeros: Those that are zeros, wholly or in part.
        zeros_at_end: How many of these come after the last one that is there.
        zeros_from: Where the first of those lies.
        spoiled: Those whose media is not of their format.
        unusable: Those that are there and refer to frames of which none is.
        frames: Frames that a player shows.
        ticks: Time from the first of these to the end of the last, in the track's ticks.
        intervals: Times between samples, in the track's ticks.
    """

    announced: int = 0
    there: int = 0
    beyond: int = 0
    outside: int = 0
    unplaced: int = 0
    zeros: int = 0
    zeros_at_end: int = 0
    zeros_from: int = 0
    spoiled: int = 0
    unusable: int = 0
    frames: int = 0
    ticks: int = 0
    intervals: Intervals = field(default_factory=Intervals)


@dataclass(slots=True)
class OtherTrack:
    """What fragments have for a track that is not counted.

    Attributes:
        end: Where its media ends.
        ticks: How long it lasts; 0 unless that was asked for.
    """

    end: int = 0
    ticks: int = 0

    def take(self, run: Run, view: FileView, *, with_ticks: bool) -> None:
        """Take one of its runs."""
        self.end = max(self.end, run.offset + run.bytes())
        if with_ticks:
            self.ticks += run.ticks(view.size)


class TrackCount:
    """Counts the samples of one track.

    Attributes:
        track: The track.
        tally: The result, known when `count` has returned or the last of `frames` was given.
        others: What fragments have for the other tracks, by their IDs.
        fragments: The fragments, with their flaws.
    """

    def __init__(self, view: FileView, layout: Layout, movie: Movie, track: Track) -> None:
        self.track = track
        self.tally = Tally()
        self.others: dict[int, OtherTrack] = {}
        self.fragments = Fragments(view, layout, movie)
        self._view = view
        self._layout = layout
        self._media = Media(view, layout.media_bytes)
        self._with_ticks = bool(movie.fragment_ticks)
        self._seen = 0
        self._last_look = Look.GOOD
        self._movie = movie

    def count(self) -> None:
        """Count the samples.

        Raises:
            TooLongError: There are more than are read.
            CutShortError: The file became shorter meanwhile.
        """
        layout, track, tally = self._layout, self.track, self.tally
        # Edits of a fragmented file are about the samples before its first fragment at most: ffmpeg leaves
        # nothing of the fragments out for them.
        edits = () if layout.moofs else read_edits(self._movie, track)
        presentation = Presentation(edits)
        for sample in self.frames():
            presentation.add(sample)
        tally.frames, tally.ticks = presentation.total()
        if tally.frames and track.ticks and not layout.moofs and not (edits and tally.ticks):
            # As ffmpeg does: a last frame that is said to last for days lasts no longer than its track.
            tally.ticks = min(tally.ticks or track.ticks, track.ticks)

    def frames(self) -> Iterator[Sample]:
        """Give the samples that are frames and really there, in decoding order; an edit may leave them out.

        Raises:
            TooLongError, CutShortError: As for `count`.
        """
        track, tally = self.track, self.tally
        announced = tally.announced = track.sizes.announced if track.sizes is not None else 0
        time = 0
        for sample in indexed_samples(self._view, track):
            time = sample.time + sample.ticks
            if self._take(sample):
                yield sample
        placed = placed_samples(track)
        tally.unplaced += announced - placed
        # Those that were not given lie behind the end of the file.
        tally.beyond += placed - self._seen
        for sample in self.fragments.samples(self._runs(), time, track.timescale):
            if self._take(sample):
                yield sample

    def _runs(self) -> Iterator[Run]:
        """Runs of the track; what the other tracks' runs say is kept."""
        for run in self.fragments.runs():
            if run.track == self.track.number:
                self.tally.announced += run.announced
                self.tally.beyond += run.announced - run.count_there(self._view.size)
                yield run
            else:
                other = self.others.setdefault(run.track, OtherTrack())
                other.take(run, self._view, with_ticks=self._with_ticks)

    def _take(self, sample: Sample) -> bool:
        """Count a sample; return whether it is a frame that is there."""
        self._seen += 1
        if self._seen > _MAX_SAMPLES:
            raise TooLongError
        if not self._seen % _CHECKED_EVERY:
            self._view.check()
        end = sample.offset + sample.size
        if not sample.size:
            # QuickTime: the picture before it goes on. ffmpeg does not count it as a frame either.
            self.tally.announced -= 1
        elif end > self._view.size:
            self.tally.beyond += 1
        elif not self._layout.holds(sample.offset, end):
            self.tally.outside += 1
        else:
            return self._take_media(sample, self._look(sample))
        return False

    def _take_media(self, sample: Sample, look: Look) -> bool:
        tally = self.tally
        if look is Look.ZEROS:
            if not tally.zeros_at_end:
                tally.zeros_from = sample.offset
            tally.zeros += 1
            tally.zeros_at_end += 1
        elif look is Look.SPOILED:
            tally.spoiled += 1
        elif look is Look.NO_PICTURE:
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

    def _look(self, sample: Sample) -> Look:
        if self._seen <= _ALL_LOOKED_AT or self._seen % _THEN_EVERY == 0:
            formats, number = self.track.formats, sample.description - 1
            form = formats[number] if 0 <= number < len(formats) else _UNDESCRIBED
            self._last_look = self._media.look(form, sample.offset, sample.size)
        return self._last_look
