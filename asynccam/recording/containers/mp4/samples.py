"""Samples of a track, one by one in decoding order, merged from the tables without ever holding them."""

from collections.abc import Iterator
from itertools import islice, repeat
from typing import Final, NamedTuple

from asynccam.recording.containers.mp4.boxes import Box, Fields, Flaws, read_box, read_boxes
from asynccam.recording.containers.mp4.layout import BoxLayout
from asynccam.recording.containers.mp4.movie import Movie, Mp4Track, SampleDefaults
from asynccam.recording.containers.mp4.tables import RunValues, SampleDurations, Table
from asynccam.recording.containers.reader import CutShortError, FileView

# Flags of tfhd and trun (ISO/IEC 14496-12, 8.8.7 and 8.8.8).
_BASE, _DESCRIPTION, _TICKS, _SIZE, _FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
_MOOF_IS_BASE: Final = 0x20000
_RUN_OFFSET, _RUN_FIRST_FLAGS = 0x1, 0x4
_RUN_TICKS, _RUN_SIZE, _RUN_FLAGS, _RUN_COMPOSITION_OFFSET = 0x100, 0x200, 0x400, 0x800
_COLUMNS: Final = ((_RUN_TICKS, "I"), (_RUN_SIZE, "I"), (_RUN_FLAGS, "I"), (_RUN_COMPOSITION_OFFSET, "i"))
_IS_NOT_SYNC: Final = 0x10000  # sample_is_non_sync_sample, in the flags of a sample (8.8.3.1)
_LONGEST_PAUSE: Final = 86_400  # seconds by which the time may step between two fragments


class Sample(NamedTuple):
    """A sample of a track; times are in the track's ticks."""

    offset: int  # offset of its media in the file
    size: int
    time: int  # when it is decoded
    composition_offset: int  # how much later it is shown
    ticks: int  # how long it lasts
    is_sync: bool  # whether decoding can begin here
    description: int  # number of its sample description, counting from 1


def indexed_samples(view: FileView, track: Mp4Track) -> Iterator[Sample]:
    """Yield the samples that the index itself has, in its order.

    Of samples with one constant size those are left out that lie behind the end of the file: there may be
    billions of them. Tables that are cut are used as far as they go.
    """
    sizes, own = track.sizes, None
    if sizes is None:
        return
    if sizes.constant is None:
        own = iter(sizes)
    times, shifts = SampleDurations(track.durations), RunValues(track.composition_offsets, goes_on=False)
    sync = None if track.sync is None else (row[0] for row in track.sync)
    next_sync = next(sync, 0) if sync is not None else 0
    time = number = 0
    for offset, count, description in _chunks(track, sizes.announced):
        there = count
        if sizes.constant is not None:
            there = min(count, max(view.size - offset, 0) // sizes.constant)
        for _ in range(there):
            size = sizes.constant if own is None else next(own, None)
            if size is None:
                return
            if not times.left:
                times.advance()
            times.left -= 1
            if not shifts.left:
                shifts.advance()
            shifts.left -= 1
            number += 1
            while sync is not None and 0 < next_sync < number:
                next_sync = next(sync, 0)
            yield Sample(
                *(offset, size, time, shifts.value, times.value),
                *(sync is None or next_sync == number, description),
            )
            offset += size
            time += times.value
        if there < count:
            time += times.skip(count - there)
            shifts.skip(count - there)
            number += count - there


def indexed_end(track: Mp4Track) -> int:
    """Return where the media ends that the index has for a track, by the bytes of whole chunks."""
    sizes = track.sizes
    if sizes is None:
        return 0
    own = iter(sizes)
    end = 0
    for offset, count, _ in _chunks(track, sizes.announced):
        if sizes.constant is not None:
            end = max(end, offset + count * sizes.constant)
        else:
            end = max(end, offset + sum(islice(own, count)))
    return end


def placed_samples(track: Mp4Track) -> int:
    """Count the samples that the index has a place and a size for."""
    sizes = track.sizes
    if sizes is None:
        return 0
    placed = sum(count for _, count, _ in _chunks(track, sizes.announced))
    return placed if sizes.constant is not None else min(placed, sizes.count)


def _chunks(track: Mp4Track, samples: int) -> Iterator[tuple[int, int, int]]:
    """Yield offset, samples and sample description of each chunk that has samples (8.7.4, 8.7.5)."""
    if track.chunks is None or track.chunk_runs is None or not track.chunk_runs.count:
        return
    runs = iter(track.chunk_runs)
    first, count, description = next(runs)
    following = next(runs, None)
    # A row of a table that is cut holds for its own chunk; how many follow is no longer known.
    last = track.chunk_runs.last()[0] if track.chunk_runs.count < track.chunk_runs.announced else None
    for number, (offset,) in enumerate(track.chunks, 1):
        while following is not None and number >= following[0]:
            (first, count, description), following = following, next(runs, None)
        if last is not None and number > last:
            return
        if number < first:
            continue
        if samples <= 0:
            return
        yield offset, min(count, samples), description
        samples -= count


class TrackRun(NamedTuple):
    """A run of samples of a fragment, one behind another in the file (``trun``, 8.8.8)."""

    track_id: int
    offset: int  # offset of their media
    length: int  # number of samples
    time: int | None  # when the first is decoded, or None to go on where the last run of the track ended
    table: Table | None  # values of each sample, or None
    fields: int  # flags of the run: which numbers a row has
    defaults: SampleDefaults  # values that a row leaves out
    first_flags: int | None  # flags of the first sample, or None

    def rows(self, limit: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield duration, size, flags and composition offset of samples; without a table, up to ``limit``."""
        usual = (self.defaults.ticks, self.defaults.size, self.defaults.flags, 0)
        if self.table is None:
            yield from repeat(usual, self.count_there(limit))
            return
        # The numbers that a row has, with those it leaves out behind them.
        named = [flag for flag, _ in _COLUMNS if self.fields & flag]
        missing = [flag for flag, _ in _COLUMNS if not self.fields & flag]
        first, second, third, fourth = ((named + missing).index(flag) for flag, _ in _COLUMNS)
        rest = tuple(value for value, (flag, _) in zip(usual, _COLUMNS, strict=True) if flag in missing)
        for row in self.table:
            full = row + rest
            yield full[first], full[second], full[third], full[fourth]

    @property
    def announced(self) -> int:
        """Number of samples with media by the run."""
        return self.length if self.fields & _RUN_SIZE or self.defaults.size else 0

    def count_there(self, limit: int) -> int:
        """Return how many of these `rows` yields."""
        if self.table is not None:
            return min(self.announced, self.table.count)
        size = self.defaults.size
        return min(self.length, max(limit - self.offset, 0) // size) if size else 0

    def ticks(self, limit: int) -> int:
        """Return how long the samples last that `rows` yields."""
        if self.fields & _RUN_TICKS:
            return sum(ticks for ticks, _, _, _ in self.rows(limit))
        return self.count_there(limit) * self.defaults.ticks

    def bytes(self) -> int:
        """Return the bytes of all of its media."""
        if self.table is None or not self.fields & _RUN_SIZE:
            return self.length * self.defaults.size
        place = 1 if self.fields & _RUN_TICKS else 0
        return sum(row[place] for row in self.table)


class Fragments:
    """Fragments of a file: the samples they announce, and where these are."""

    def __init__(self, view: FileView, layout: BoxLayout, movie: Movie) -> None:
        self._view = view
        self._layout = layout
        self._movie = movie
        self.flaws = Flaws()

    def runs(self) -> Iterator[TrackRun]:
        """Yield all runs of all tracks, in their order."""
        for begin in self._layout.moofs:
            try:
                box = read_box(self._view, begin, self._view.size)
            except CutShortError:
                box = None
            if box is not None:
                yield from self._fragment_runs(box)

    def samples(self, runs: Iterator[TrackRun], time: int, timescale: int) -> Iterator[Sample]:
        """Yield the samples of one track's runs; ``time`` is the end of the index's own samples, or 0."""
        has_begun = time > 0
        for run in runs:
            # Times may begin anywhere, the time of day included; later no camera leaps by days.
            step = 0 if run.time is None else run.time - time
            if run.time is not None and (not has_begun or abs(step) <= _LONGEST_PAUSE * timescale):
                time = run.time
            has_begun = True
            offset, flags = run.offset, run.first_flags
            for ticks, size, own, shift in run.rows(self._view.size):
                given = own if flags is None else flags
                is_sync = not given & _IS_NOT_SYNC
                yield Sample(offset, size, time, shift, ticks, is_sync, run.defaults.description)
                offset, time, flags = offset + size, time + ticks, None

    def _fragment_runs(self, moof: Box) -> Iterator[TrackRun]:
        # Without a base the first track's media is counted from the fragment, and the next track's from the
        # end of the media before it (8.8.7).
        base = moof.begin
        for traf in read_boxes(self._view, moof.start, moof.end, self.flaws):
            if traf.kind == b"traf":
                for run in self._track_runs(traf, moof.begin, base):
                    base = run.offset + run.bytes()
                    yield run

    def _track_runs(self, traf: Box, moof: int, base: int) -> Iterator[TrackRun]:
        defaults: SampleDefaults | None = None
        track_id = following = 0
        time: int | None = None
        for box in read_boxes(self._view, traf.start, traf.end, self.flaws):
            try:
                if box.kind == b"tfhd":
                    track_id, base, defaults = self._read_header(Fields(self._view, box), moof, base)
                    following = base
                elif box.kind == b"tfdt":
                    fields = Fields(self._view, box)
                    time = fields.read_int(8 if fields.version == 1 else 4)
                elif box.kind == b"trun" and defaults is not None:
                    run = self._read_run(box, track_id, (base, following), time, defaults)
                    following, time = run.offset + run.bytes(), None
                    yield run
            except CutShortError:
                self.flaws.note_short(self._view, box)

    def _read_header(self, fields: Fields, moof: int, base: int) -> tuple[int, int, SampleDefaults]:
        """Read track, base of offsets and defaults of a track's part of a fragment (8.8.7)."""
        track_id = fields.read_int()
        usual = self._movie.defaults.get(track_id, SampleDefaults())
        if fields.flags & _BASE:
            base = fields.read_int(8)
        elif fields.flags & _MOOF_IS_BASE:
            base = moof
        description = fields.read_int() if fields.flags & _DESCRIPTION else usual.description
        ticks = fields.read_int() if fields.flags & _TICKS else usual.ticks
        size = fields.read_int() if fields.flags & _SIZE else usual.size
        flags = fields.read_int() if fields.flags & _FLAGS else usual.flags
        return track_id, base, SampleDefaults(description, ticks, size, flags)

    def _read_run(
        self, box: Box, track_id: int, places: tuple[int, int], time: int | None, defaults: SampleDefaults
    ) -> TrackRun:
        """Read a run; without an offset from the base it goes on behind the run before it (8.8.8)."""
        fields = Fields(self._view, box)
        count = fields.read_int()
        base, following = places
        offset = base + fields.read_int(signed=True) if fields.flags & _RUN_OFFSET else following
        first_flags = fields.read_int() if fields.flags & _RUN_FIRST_FLAGS else None
        # Offsets of version 0 are unsigned by the standard, and negative in files all the same.
        row = "".join(letter for flag, letter in _COLUMNS if fields.flags & flag)
        table = Table(self._view, box, fields.at, count, row, self.flaws) if row else None
        if table is not None and table.count < count and box.end > self._view.size:
            self.flaws.cut = True
        return TrackRun(track_id, max(offset, 0), count, time, table, fields.flags, defaults, first_flags)
