"""Index of a file: its ``moov`` box with tracks and sample descriptions (ISO/IEC 14496-12, 8.2 to 8.8)."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, NamedTuple

from asynccam.recording.containers.mp4.boxes import Box, Fields, Flaws, read_boxes
from asynccam.recording.containers.mp4.tables import SampleSizes, Table
from asynccam.recording.containers.reader import CutShortError, FileView

_MAX_FORMATS: Final = 256
_ENTRY_SIZE: Final = 78  # bytes of a visual sample entry before the boxes in it (12.1.3)


class Coding(Enum):
    """Coding of samples, as far as it matters for their bytes."""

    H264 = auto()
    H265 = auto()
    H266 = auto()
    JPEG = auto()
    MPEG4 = auto()
    """MPEG-4 part 2."""
    VP9 = auto()
    AV1 = auto()
    PRORES = auto()
    COMPRESSED = auto()
    """Any other whose bytes are never zeros for long: VP8, H.263."""
    ENCRYPTED = auto()
    RAW = auto()
    """Uncompressed: a black picture is zeros throughout."""
    OTHER = auto()


class Format(NamedTuple):
    """A sample description (8.5.2)."""

    coding: Coding
    length_size: int = 0  # bytes of the length before each NAL unit, or 0 where there are none


_OTHER: Final = Format(Coding.OTHER)
_RAW: Final = frozenset(
    {b"raw ", b"rawv", b"uncv", b"yuv2", b"yuvs", b"2vuy", b"2Vuy", b"UYVY", b"YUY2", b"v210", b"v216"}
    | {b"v308", b"v408", b"v410", b"r210", b"R10k", b"R10g", b"b16g", b"b48r", b"b64a", b"BGRA", b"RGBA"}
    | {b"ABGR", b"I420", b"NV12", b"yv12", b"j420", b"DVOO", b"\0\0\0\0", b"NONE", b"twos", b"24BG"}
)
_BY_TYPE: Final = {
    **dict.fromkeys((b"encv", b"drmi"), Coding.ENCRYPTED),
    **dict.fromkeys((b"jpeg", b"mjpa", b"mjpg", b"MJPG", b"AVDJ", b"dmb1"), Coding.JPEG),
    **dict.fromkeys(_RAW, Coding.RAW),
    b"vp09": Coding.VP9,
    b"av01": Coding.AV1,
    **dict.fromkeys((b"vp08", b"s263", b"h263", b"H263"), Coding.COMPRESSED),
    **dict.fromkeys((b"apco", b"apcs", b"apcn", b"apch", b"ap4h", b"ap4x"), Coding.PRORES),
}
_CONFIGURATIONS: Final = {
    # Where lengthSizeMinusOne stands in the configuration: ISO/IEC 14496-15, 5.3.3.1.2, 8.3.2.1.2 and
    # 11.2.4.2.2. VVC's is a full box and has it one bit to the left.
    b"avcC": (Coding.H264, 4, 0),
    b"hvcC": (Coding.H265, 21, 0),
    b"vvcC": (Coding.H266, 4, 1),
}
_OBJECT_TYPES: Final = {
    # ISO/IEC 14496-1, 7.2.6.6.2 and the registration authority's list.
    0x20: Format(Coding.MPEG4),
    0x6C: Format(Coding.JPEG),
}


def read_formats(view: FileView, box: Box, trouble: Flaws) -> tuple[Format, ...]:
    """Read the entries of an ``stsd`` box, in order."""
    fields = Fields(view, box)
    count = min(fields.read_int(), _MAX_FORMATS)
    formats: list[Format] = []
    for entry in read_boxes(view, fields.at, box.end, trouble):
        if len(formats) < count:
            formats.append(_read_format(view, entry))
    return tuple(formats)


def _read_format(view: FileView, entry: Box) -> Format:
    if entry.kind in _BY_TYPE:
        return Format(_BY_TYPE[entry.kind])
    # Flaws behind an entry's fields do not count: writers put anything there.
    for child in read_boxes(view, entry.start + _ENTRY_SIZE, entry.end, Flaws()):
        try:
            if child.kind in _CONFIGURATIONS:
                return _read_configuration(view, child)
            if child.kind == b"esds":
                return _OBJECT_TYPES.get(_object_type(view, child), _OTHER)
        except CutShortError:
            break
    return _OTHER


def _read_configuration(view: FileView, box: Box) -> Format:
    coding, place, shift = _CONFIGURATIONS[box.kind]
    if box.start + place >= box.end:
        return _OTHER
    # ISO/IEC 14496-15: configurationVersion is 1. Writers that put NAL units with start codes there put
    # them into samples too.
    first, sized = view.read(box.start, 1)[0], view.read(box.start + place, 1)[0]
    if first != 1 and coding is not Coding.H266:
        return _OTHER
    return Format(coding, (sized >> shift & 3) + 1)


def _object_type(view: FileView, box: Box) -> int:
    """Return the objectTypeIndication of an elementary stream descriptor (ISO/IEC 14496-1, 7.2.6)."""
    at = box.start + 4
    tag, at = view.read(at, 1)[0], _after_length(view, at + 1)
    if tag == 0x03:  # ES_DescrTag: ES_ID, then flags for what may follow
        flags = view.read(at + 2, 1)[0]
        at += 3 + (2 if flags & 0x80 else 0) + (2 if flags & 0x20 else 0)
        if flags & 0x40:
            at += 1 + view.read(at, 1)[0]
        tag, at = view.read(at, 1)[0], _after_length(view, at + 1)
    return view.read(at, 1)[0] if tag == 0x04 and at < box.end else 0


def _after_length(view: FileView, at: int) -> int:
    """Return the offset of a descriptor's contents: its length has 7 bits a byte, at most four bytes."""
    for length in range(1, 5):
        if not view.read(at + length - 1, 1)[0] & 0x80:
            return at + length
    return at + 4


_MAX_TRACKS: Final = 256
_PARENTS: Final = {b"trak": (b"edts", b"mdia"), b"mdia": (b"minf",), b"minf": (b"stbl", b"dinf")}
"""Boxes that are read, by the box around them, so that no nesting is deeper than the format's."""
_UNKNOWN_DURATIONS: Final = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})


@dataclass(frozen=True, slots=True)
class SampleDefaults:
    """Values of samples in fragments that say nothing else (``trex``, 8.8.3)."""

    description: int = 1
    ticks: int = 0
    size: int = 0
    flags: int = 0


@dataclass(slots=True)
class Mp4Track:
    """A track and its tables."""

    track_id: int = 0  # ID in fragments
    is_enabled: bool = True  # whether a player shows it (``tkhd``, flag 1)
    handler: bytes = b""  # kind of its media: ``vide``, ``soun``,
    timescale: int = 0  # ticks a second, 0 where unknown
    ticks: int = 0  # length of its media by the media header, or 0 where unknown
    edits: Table | None = None  # rows of its edit list: duration in the movie's ticks, media time, media rate
    formats: tuple[Format, ...] = ()  # sample descriptions, which samples name counting from 1
    is_external: bool = False  # whether its media is in another file
    durations: Table | None = None  # rows of count and duration (``stts``)
    composition_offsets: Table | None = None  # rows of count and composition offset (``ctts``)
    chunks: Table | None = None  # offsets (``stco`` or ``co64``)
    chunk_runs: Table | None = None  # first chunk, samples a chunk and sample description (``stsc``)
    sizes: SampleSizes | None = None  # sizes of the samples (``stsz`` or ``stz2``)
    sync: Table | None = None  # numbers of the key frames (``stss``), or None for all


@dataclass(slots=True)
class Movie:
    """Index of a file."""

    timescale: int = 0  # ticks a second of edit lists and of ``fragment_ticks``
    tracks: list[Mp4Track] = field(default_factory=list)
    is_fragmented: bool = False  # whether fragments may follow
    fragment_ticks: int = 0  # length of the whole with all fragments (``mehd``), or 0 where that is not given
    defaults: dict[int, SampleDefaults] = field(default_factory=dict)  # by the track's ID
    is_compressed: bool = False  # whether it is compressed (``cmov``) and so not read
    flaws: Flaws = field(default_factory=Flaws)

    def find_track(self, track_id: int) -> Mp4Track | None:
        """Return the track with an ID, or None."""
        return next((track for track in self.tracks if track.track_id == track_id), None)

    def video_tracks(self) -> list[Mp4Track]:
        """Return the video tracks in the order in which a player chooses one: enabled ones first."""
        tracks = [track for track in self.tracks if track.handler == b"vide"]
        return sorted(tracks, key=lambda track: not track.is_enabled)


def read_movie(view: FileView, box: Box) -> Movie:
    """Read a ``moov`` box as far as it is in the file."""
    movie = Movie()
    for child in read_boxes(view, box.start, box.end, movie.flaws):
        try:
            if child.kind == b"mvhd":
                movie.timescale, _ = _read_timescale(Fields(view, child))
            elif child.kind == b"trak" and len(movie.tracks) < _MAX_TRACKS:
                track = Mp4Track()
                movie.tracks.append(track)
                _read_track(view, child, track, movie.flaws)
            elif child.kind == b"mvex":
                movie.is_fragmented = True
                _read_extends(view, child, movie)
            elif child.kind == b"cmov":
                movie.is_compressed = True
        except CutShortError:
            movie.flaws.note_short(view, child)
    return movie


def _read_timescale(fields: Fields) -> tuple[int, int]:
    """Read timescale and duration of a movie or media header, behind the times of creation and change."""
    size = 8 if fields.version == 1 else 4
    fields.skip(2 * size)
    timescale = fields.read_int()
    duration = fields.read_int(size)
    return timescale, 0 if duration in _UNKNOWN_DURATIONS else duration


def _read_extends(view: FileView, box: Box, movie: Movie) -> None:
    for child in read_boxes(view, box.start, box.end, movie.flaws):
        fields = Fields(view, child)
        if child.kind == b"mehd":
            movie.fragment_ticks = fields.read_int(8 if fields.version == 1 else 4)
        elif child.kind == b"trex":
            track_id = fields.read_int()
            movie.defaults[track_id] = SampleDefaults(*(fields.read_int() for _ in range(4)))


def _read_track(view: FileView, box: Box, track: Mp4Track, trouble: Flaws) -> None:
    """Read a track box by box; a box that is cut or spoiled costs only itself."""
    for child in read_boxes(view, box.start, box.end, trouble):
        try:
            match child.kind:
                case kind if kind in _PARENTS.get(box.kind, ()):
                    _read_track(view, child, track, trouble)
                case b"tkhd":
                    fields = Fields(view, child)
                    track.is_enabled = bool(fields.flags & 1)
                    fields.skip(16 if fields.version == 1 else 8)
                    track.track_id = fields.read_int()
                case b"mdhd":
                    track.timescale, track.ticks = _read_timescale(Fields(view, child))
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
            trouble.note_short(view, child)


def _read_table(view: FileView, box: Box, track: Mp4Track, trouble: Flaws) -> None:
    """Open one of a track's tables; of two of a kind the first one counts."""

    def table(row: str) -> Table:
        fields = Fields(view, box)
        announced = fields.read_int()
        return Table(view, box, fields.at, announced, row, trouble)

    match box.kind:
        case b"elst" if track.edits is None:
            # Rates are 16.16 numbers; version 1 has 64 bits for duration and media time (8.6.6).
            track.edits = table("Qqi" if Fields(view, box).version == 1 else "Iii")
        case b"stts" if track.durations is None:
            # ISO has unsigned durations. Writers that step back in time write a negative number, and no
            # duration of 2**31 ticks and more is meant as one.
            track.durations = table("Ii")
        case b"ctts" if track.composition_offsets is None:
            # The same here: version 0 has unsigned offsets, and files have negative ones in it.
            track.composition_offsets = table("Ii")
        case b"stss" if track.sync is None:
            track.sync = table("I")
        case b"stsc" if track.chunk_runs is None:
            track.chunk_runs = table("III")
        case b"stco" | b"co64" if track.chunks is None:
            track.chunks = table("I" if box.kind == b"stco" else "Q")
        case b"stsz" | b"stz2" if track.sizes is None:
            track.sizes = SampleSizes(view, box, trouble)


def _is_external(view: FileView, box: Box, trouble: Flaws) -> bool:
    """Return whether each data reference names another file: flag 1 says that it is this one (8.7.2)."""
    entries = list(read_boxes(view, box.start + 8, box.end, trouble))[:_MAX_TRACKS]
    # An entry without a name in it can only mean this file, whatever its flag says.
    return bool(entries) and all(
        not Fields(view, entry).flags & 1 and entry.end - entry.start > 5 for entry in entries
    )
