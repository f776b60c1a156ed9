"""The index of a file: its ``moov`` box with its tracks and their tables (ISO/IEC 14496-12, 8.2 to 8.8)."""

from dataclasses import dataclass, field
from typing import Final

from asynccam.recording.containers.mp4.boxes import Box, Fields, Trouble, children
from asynccam.recording.containers.mp4.formats import Format, read_formats
from asynccam.recording.containers.mp4.tables import Sizes, Table
from asynccam.recording.containers.reader import CutShortError, FileView

_MAX_TRACKS: Final = 256
_WITHIN: Final = {
    b"trak": (b"edts", b"mdia"),
    b"mdia": (b"minf",),
    b"minf": (b"stbl", b"dinf"),
}
"""Boxes that are looked into, by the box around them, so that no nesting is deeper than the format's."""
_UNKNOWN_DURATIONS: Final = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for samples in fragments that say nothing else (``trex``, 8.8.3)."""

    description: int = 1
    ticks: int = 0
    size: int = 0
    flags: int = 0


@dataclass(slots=True)
class Track:
    """A track and where its tables are.

    Attributes:
        number: Its ID, which fragments name it by.
        is_enabled: Whether a player shows it (``tkhd``, flag 1).
        handler: What it holds: ``vide``, ``soun``, ...
        timescale: Ticks a second, 0 where that is not known.
        ticks: Length of its media by the media header, or 0 where that is not known.
        edits: Rows of its edit list: duration in the movie's ticks, media time, media rate.
        formats: Sample descriptions, which samples name counting from 1.
        is_external: Whether its media is in another file.
        times: Rows of count and duration (``stts``).
        shifts: Rows of count and composition offset (``ctts``).
        chunks: Offsets (``stco`` or ``co64``).
        runs: First chunk, samples a chunk and sample description (``stsc``).
        sizes: Sizes of the samples (``stsz`` or ``stz2``).
        sync: Numbers of the samples that decoding can begin at, or None where it can at each (``stss``).
    """

    number: int = 0
    is_enabled: bool = True
    handler: bytes = b""
    timescale: int = 0
    ticks: int = 0
    edits: Table | None = None
    formats: tuple[Format, ...] = ()
    is_external: bool = False
    times: Table | None = None
    shifts: Table | None = None
    chunks: Table | None = None
    runs: Table | None = None
    sizes: Sizes | None = None
    sync: Table | None = None


@dataclass(slots=True)
class Movie:
    """The index of a file.

    Attributes:
        timescale: Ticks a second of edit lists and of ``fragment_ticks``.
        tracks: The tracks, in order.
        is_fragmented: Whether fragments may follow.
        fragment_ticks: Length of the whole with all fragments (``mehd``), or 0 where that is not given.
        defaults: By the track's ID.
        is_compressed: Whether the index itself is compressed (QuickTime's ``cmov``), which is not read here.
        trouble: Flaws of the index.
    """

    timescale: int = 0
    tracks: list[Track] = field(default_factory=list)
    is_fragmented: bool = False
    fragment_ticks: int = 0
    defaults: dict[int, Defaults] = field(default_factory=dict)
    is_compressed: bool = False
    trouble: Trouble = field(default_factory=Trouble)

    def track(self, number: int) -> Track | None:
        """Find a track by its ID."""
        return next((track for track in self.tracks if track.number == number), None)

    def video(self) -> list[Track]:
        """Return the video tracks in the order in which a player chooses one: enabled ones first."""
        tracks = [track for track in self.tracks if track.handler == b"vide"]
        return sorted(tracks, key=lambda track: not track.is_enabled)


def read_movie(view: FileView, box: Box) -> Movie:
    """Read a ``moov`` box as far as it is in the file."""
    movie = Movie()
    for child in children(view, box.start, box.end, movie.trouble):
        try:
            if child.kind == b"mvhd":
                movie.timescale, _ = _times(Fields(view, child))
            elif child.kind == b"trak" and len(movie.tracks) < _MAX_TRACKS:
                track = Track()
                movie.tracks.append(track)
                _read_track(view, child, track, movie.trouble)
            elif child.kind == b"mvex":
                movie.is_fragmented = True
                _read_extends(view, child, movie)
            elif child.kind == b"cmov":
                movie.is_compressed = True
        except CutShortError:
            _note_short(view, child, movie.trouble)
    return movie


def _note_short(view: FileView, box: Box, trouble: Trouble) -> None:
    """A box is shorter than what it holds: because of the file's end, or else it is spoiled."""
    if box.end > view.size:
        trouble.cut = True
    else:
        trouble.spoil(box.begin)


def _times(fields: Fields) -> tuple[int, int]:
    """Timescale and duration of a movie or media header, behind the times of creation and change."""
    size = 8 if fields.version == 1 else 4
    fields.skip(2 * size)
    timescale = fields.number()
    duration = fields.number(size)
    return timescale, 0 if duration in _UNKNOWN_DURATIONS else duration


def _read_extends(view: FileView, box: Box, movie: Movie) -> None:
    for child in children(view, box.start, box.end, movie.trouble):
        fields = Fields(view, child)
        if child.kind == b"mehd":
            movie.fragment_ticks = fields.number(8 if fields.version == 1 else 4)
        elif child.kind == b"trex":
            number = fields.number()
            movie.defaults[number] = Defaults(*(fields.number() for _ in range(4)))


def _read_track(view: FileView, box: Box, track: Track, trouble: Trouble) -> None:
    """Read what a track has, box by box; one that is cut or spoiled costs only itself."""
    for child in children(view, box.start, box.end, trouble):
        try:
            match child.kind:
                case kind if kind in _WITHIN.get(box.kind, ()):
                    _read_track(view, child, track, trouble)
                case b"tkhd":
                    fields = Fields(view, child)
                    track.is_enabled = bool(fields.flags & 1)
                    fields.skip(16 if fields.version == 1 else 8)
                    track.number = fields.number()
                case b"mdhd":
                    track.timescale, track.ticks = _times(Fields(view, child))
                case b"hdlr" if not track.handler:
                    # QuickTime has a second handler box, inside minf, that says how data is referenced.
                    track.handler = view.read(child.start + 8, 4)
                case b"vmhd" if not track.handler.strip(b"\0"):
                    track.handler = b"vide"  # this header is of video alone (ISO/IEC 14496-12, 12.1.2)
                case b"dref":
                    track.is_external = _is_external(view, child, trouble)
                case b"stsd" if not track.formats:
                    track.formats = read_formats(view, child, trouble)
                case _:
                    _read_table(view, child, track, trouble)
        except CutShortError:
            _note_short(view, child, trouble)


def _read_table(view: FileView, box: Box, track: Track, trouble: Trouble) -> None:
    """Open one of a track's tables; of two of a kind the first one counts."""

    def table(row: str) -> Table:
        fields = Fields(view, box)
        announced = fields.number()
        return Table(view, box, fields.at, announced, row, trouble)

    match box.kind:
        case b"elst" if track.edits is None:
            # Rates are 16.16 numbers; version 1 has 64 bits for duration and media time (8.6.6).
            track.edits = table("Qqi" if Fields(view, box).version == 1 else "Iii")
        case b"stts" if track.times is None:
            # ISO has unsigned durations. Writers that step back in time write a negative number, and no
            # duration of 2**31 ticks and more is meant as one.
            track.times = table("Ii")
        case b"ctts" if track.shifts is None:
            # The same here: version 0 has unsigned offsets, and files have negative ones in it.
            track.shifts = table("Ii")
        case b"stss" if track.sync is None:
            track.sync = table("I")
        case b"stsc" if track.runs is None:
            track.runs = table("III")
        case b"stco" | b"co64" if track.chunks is None:
            track.chunks = table("I" if box.kind == b"stco" else "Q")
        case b"stsz" | b"stz2" if track.sizes is None:
            track.sizes = Sizes(view, box, trouble)


def _is_external(view: FileView, box: Box, trouble: Trouble) -> bool:
    """Return whether each data reference names another file: flag 1 says that it is this one (8.7.2)."""
    entries = list(children(view, box.start + 8, box.end, trouble))[:_MAX_TRACKS]
    # An entry without a name in it can only mean this file, whatever its flag says.
    return bool(entries) and all(
        not Fields(view, entry).flags & 1 and entry.end - entry.start > 5 for entry in entries
    )
