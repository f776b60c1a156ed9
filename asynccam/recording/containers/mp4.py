"""Reads the structure of MP4 and QuickTime files, fragmented ones too (ISO/IEC 14496-12)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from asynccam.recording.containers.reader import CutShortError, FileView, Intervals, Scan

_CONTAINERS: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf"})
_MAX_TABLE: Final = 256 << 20
_HAS_BASE, _HAS_DESCRIPTION, _HAS_DURATION = 0x1, 0x2, 0x8
_RUN_DURATION, _RUN_SIZE, _RUN_FLAGS, _RUN_OFFSET = 0x100, 0x200, 0x400, 0x800


@dataclass(slots=True)
class _Track:
    number: int = 0
    handler: bytes = b""
    timescale: int = 0
    frames: int = 0
    unseen: int = 0
    ticks: int = 0
    default_ticks: int = 0
    intervals: Intervals = field(default_factory=Intervals)


@dataclass(slots=True)
class _Movie:
    tracks: list[_Track] = field(default_factory=list)
    fragmented: bool = False
    current: _Track | None = None  # the track a fragment's runs belong to
    fragment_ticks: int = 0

    def track(self, number: int) -> _Track | None:
        return next((track for track in self.tracks if track.number == number), None)


def is_mp4(head: bytes) -> bool:
    """Whether a file that begins so is read here."""
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"styp")


def scan_mp4(view: FileView) -> Scan:
    """Frames, duration and flaws of an MP4 or QuickTime file."""
    movie = _Movie()
    flaw = ""
    order: list[bytes] = []
    try:
        for kind, begin, end in _boxes(view, 0, view.size):
            order.append(kind)
            if end > view.size:
                raise CutShortError
            if kind in (b"moov", b"moof"):
                _descend(view, begin, end, movie)
    except CutShortError:
        flaw = f"cut off inside its last box ({order[-1].decode('latin-1')})" if order else "cut off at once"
    if b"moov" not in order:
        media = any(kind == b"mdat" for kind in order)
        return Scan(None if media else 0, None, truncated="its index was never written" if media else "")
    if not flaw and movie.fragmented and b"mdat" in order and order.index(b"mdat") < order.index(b"moov"):
        # GStreamer's first-moov-then-finalise: only the final pass puts an index over all of it.
        flaw = "never finalized: what came after its last fragment is not indexed"
    video = [track for track in movie.tracks if track.handler == b"vide"]
    # A lone picture is shown however short its time is.
    frames = sum(max(track.frames - track.unseen, min(track.frames, 1)) for track in video)
    durations = [track.ticks / track.timescale for track in video if track.timescale]
    intervals = [
        usual / track.timescale for track in video if track.timescale and (usual := track.intervals.usual)
    ]
    return Scan(frames, max(durations, default=None), truncated=flaw, interval=max(intervals, default=None))


def _boxes(view: FileView, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the contents of each box; an end may lie beyond the file's."""
    while begin < end:
        head = view.read(begin, 8)
        size, kind, header = int.from_bytes(head[:4], "big"), head[4:], 8
        if size == 1:
            size, header = int.from_bytes(view.read(begin + 8, 8), "big"), 16
        elif size == 0:
            size = end - begin
        if size < header or not all(0x20 <= letter < 0x7F or letter == 0xA9 for letter in kind):
            raise CutShortError
        yield kind, begin + header, begin + size
        begin += size


def _descend(view: FileView, begin: int, end: int, movie: _Movie) -> None:
    for kind, start, stop in _boxes(view, begin, end):
        if stop > end:
            raise CutShortError
        if kind == b"trak":
            movie.tracks.append(_Track())
        elif kind == b"mvex":
            movie.fragmented = True
        if kind in _CONTAINERS:
            _descend(view, start, stop, movie)
        elif kind in _READERS:
            if stop - start > _MAX_TABLE:
                raise CutShortError
            _READERS[kind](_Fields(view.read(start, stop - start)), movie)


class _Fields:
    """A full box's contents, read number by number."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 4
        self.version = data[0] if data else 0
        self.flags = int.from_bytes(data[1:4], "big")

    def number(self, size: int = 4) -> int:
        piece = self.data[self.at : self.at + size]
        if len(piece) < size:
            raise CutShortError
        self.at += size
        return int.from_bytes(piece, "big")

    def skip(self, size: int) -> None:
        self.at += size


def _track_header(box: _Fields, movie: _Movie) -> None:
    box.skip(16 if box.version else 8)
    if movie.tracks:
        movie.tracks[-1].number = box.number()


def _media_header(box: _Fields, movie: _Movie) -> None:
    box.skip(16 if box.version else 8)
    if movie.tracks:
        movie.tracks[-1].timescale = box.number()


def _handler(box: _Fields, movie: _Movie) -> None:
    box.skip(4)
    # QuickTime has a second handler box, inside minf, that says how data is referenced.
    if movie.tracks and not movie.tracks[-1].handler:
        movie.tracks[-1].handler = box.data[8:12]


def _sample_sizes(box: _Fields, movie: _Movie) -> None:
    box.skip(4)
    if movie.tracks:
        movie.tracks[-1].frames = box.number()


def _sample_times(box: _Fields, movie: _Movie) -> None:
    if movie.tracks:
        times = [(box.number(), box.number()) for _ in range(box.number())]
        for count, ticks in times:
            movie.tracks[-1].intervals.add(ticks, count)
        movie.tracks[-1].ticks = sum(count * ticks for count, ticks in times)
        # GStreamer gives the last picture of some streams no time at all; no player shows it.
        movie.tracks[-1].unseen = sum(count for count, ticks in times if not ticks)


def _fragment_defaults(box: _Fields, movie: _Movie) -> None:
    track = movie.track(box.number())
    box.skip(4)
    if track is not None:
        track.default_ticks = box.number()


def _fragment_header(box: _Fields, movie: _Movie) -> None:
    movie.current = movie.track(box.number())
    box.skip((8 if box.flags & _HAS_BASE else 0) + (4 if box.flags & _HAS_DESCRIPTION else 0))
    if movie.current is not None:
        given = bool(box.flags & _HAS_DURATION)
        movie.fragment_ticks = box.number() if given else movie.current.default_ticks


def _fragment_run(box: _Fields, movie: _Movie) -> None:
    track = movie.current
    if track is None:
        return
    count = box.number()
    box.skip(4 * bool(box.flags & 0x1) + 4 * bool(box.flags & 0x4))
    track.frames += count
    if not box.flags & _RUN_DURATION:
        track.ticks += count * movie.fragment_ticks
        track.intervals.add(movie.fragment_ticks, count)
        return
    others = 4 * sum(bool(box.flags & flag) for flag in (_RUN_SIZE, _RUN_FLAGS, _RUN_OFFSET))
    for _ in range(count):
        ticks = box.number()
        track.ticks += ticks
        track.intervals.add(ticks)
        box.skip(others)


_READERS: Final = {
    b"tkhd": _track_header,
    b"mdhd": _media_header,
    b"hdlr": _handler,
    b"stsz": _sample_sizes,
    b"stts": _sample_times,
    b"trex": _fragment_defaults,
    b"tfhd": _fragment_header,
    b"trun": _fragment_run,
}
