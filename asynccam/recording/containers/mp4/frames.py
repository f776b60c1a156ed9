"""Times of the frames of an MP4 or QuickTime file, as its edit list shows them (ISO/IEC 14496-12, 8.6)."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from asynccam.recording.containers.mp4.count import TooLongError, TrackCounter
from asynccam.recording.containers.mp4.edit_list import Edit, pauses_between, read_edits, shows_media
from asynccam.recording.containers.mp4.layout import BoxLayout
from asynccam.recording.containers.mp4.movie import Movie, Mp4Track
from asynccam.recording.containers.mp4.scan import is_unindexed, open_movie
from asynccam.recording.containers.reader import CutShortError, FileView, NoTimesError, Scan
from asynccam.recording.containers.timeline import FrameStamp


class Mp4Frames:
    """Frames of the video track that a player shows, in constant memory; for use in a thread.

    Iterating gives each frame that is really there and that the edit list shows, in the order of decoding.
    A frame that is shown several times is given as often.
    """

    def __init__(self, view: FileView) -> None:
        self.rate = 1  # ticks of a second; known with the first frame
        self.pauses: int | None = None  # ticks of the edit list's pauses; None if no edit leaves frames out
        self._view = view

    def __iter__(self) -> Iterator[FrameStamp]:
        """Yield the frames; raise NoTimesError if the file's index is missing or cannot be read."""
        try:
            opened = open_movie(self._view)
            if not isinstance(opened, Scan):
                yield from self._movie_stamps(*opened)
            elif opened.frames is None:
                raise NoTimesError(opened.truncated or opened.damaged or opened.note)
        except TooLongError:
            raise NoTimesError("announces more frames than are read") from None
        except CutShortError:
            raise NoTimesError("became shorter while it was read") from None

    def _movie_stamps(self, layout: BoxLayout, movie: Movie) -> Iterator[FrameStamp]:
        # What is cut off inside its index holds no frame, by its verdict.
        if is_unindexed(layout, movie) and not layout.cut:
            raise NoTimesError("has media that its index does not list: it was never finished")
        for track in movie.video_tracks():
            count = TrackCounter(self._view, layout, movie, track)
            self.rate = track.timescale
            yield from self._track_stamps(count, layout, movie)
            if count.tally.announced:
                if not count.tally.there and track.is_external:
                    raise NoTimesError("is an index of media that is in another file")
                return  # a player passes over a track without a sample

    def _track_stamps(self, count: TrackCounter, layout: BoxLayout, movie: Movie) -> Iterator[FrameStamp]:
        track = count.track
        edits = read_edits(movie, track)
        if layout.moofs or not edits:
            # Nothing of the fragments is left out, and all of it is moved by the first edit, as ffmpeg does.
            shift = edits[0].shown - edits[0].begin if edits and shows_media(edits) else 0
            for sample in count.frames():
                begin = sample.time + sample.composition_offset
                yield self._stamp(track, begin + shift, sample.ticks)
            return
        self.pauses = pauses_between(edits)
        # One pass for all edits that go forward in the media, which is one pass for all files in use.
        passes = list(_forward_runs(edits))
        for index, some in enumerate(passes):
            again = count if not index else TrackCounter(self._view, layout, movie, track)
            begins = [edit.begin for edit in some]
            for sample in again.frames():
                begin = sample.time + sample.composition_offset
                place = bisect_right(begins, begin) - 1
                if place >= 0 and begin < some[place].end:
                    edit = some[place]
                    ticks = min(sample.ticks, edit.end - begin)
                    yield self._stamp(track, begin - edit.begin + edit.shown, ticks)

    def _stamp(self, track: Mp4Track, time: int, ticks: int) -> FrameStamp:
        if not track.timescale:
            raise NoTimesError("does not state its time scale")
        # A last frame that is said to last for days lasts no longer than its track, as for verdicts.
        usual = min(ticks, track.ticks) if track.ticks else ticks
        # Between two frames, how long a sample lasts is the step from one decoding time to the next.
        return FrameStamp(time, usual=usual if usual > 0 else None)


def _forward_runs(edits: Sequence[Edit]) -> Iterator[list[Edit]]:
    """Split edits into runs in each of which every edit begins where the one before it ends, or later."""
    run: list[Edit] = []
    for edit in edits:
        if run and edit.begin < run[-1].end:
            yield run
            run = []
        run.append(edit)
    if run:
        yield run
