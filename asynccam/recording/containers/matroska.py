"""Reader of Matroska and WebM files (RFC 9559): blocks and their frames, not the pictures."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from asynccam.recording.containers import payloads
from asynccam.recording.containers.ebml import (
    BLOCK,
    BLOCK_GROUP,
    CHECKSUM,
    CLUSTER,
    CUES,
    EBML,
    INFO,
    MAX_HEAD,
    SEEK_HEAD,
    SEGMENT,
    SIMPLE_BLOCK,
    TIMESTAMP,
    TRACKS,
    UNKNOWN,
    VOID,
    BadElementError,
    EbmlElement,
    ElementWalker,
    parse_vint,
    read_elements,
    read_uint,
)
from asynccam.recording.containers.payloads import FrameChecker, FrameCounter
from asynccam.recording.containers.reader import CutShortError, FileView, Scan
from asynccam.recording.containers.timeline import Timeline

_TRACK_ENTRY, _CODEC, _CODEC_PRIVATE, _ENCODINGS, _DOC_TYPE = 0xAE, 0x86, 0x63A2, 0x6D80, 0x4282
_SCALE, _DURATION, _BLOCK_DURATION, _TRACK_SCALE = 0x2AD7B1, 0x4489, 0x9B, 0x23314F
_TRACK_NUMBER, _TRACK_TYPE, _FRAME_DURATION, _ENABLED, _DEFAULT = 0xD7, 0x83, 0x23E383, 0xB9, 0x88
_SEEK, _SEEK_POSITION, _CUE_POINT, _CUE_POSITIONS, _CUE_CLUSTER = 0x4DBB, 0x53AC, 0xBB, 0xB7, 0xF1
_VIDEO: Final = 1
_SECOND: Final = 1_000_000_000  # nanoseconds
_WRAP: Final = (1 << 64) - 1
_DEFAULT_TICK: Final = 1_000_000  # nanoseconds where the file has no TimestampScale
_MAX_RUN: Final = 4096  # blocks that are held at once
_READ_AHEAD: Final = 64 * 1024  # bytes
_LARGE: Final = 8192  # bytes of a block from which on reading ahead costs more than it saves
_MAX_TRACKS: Final = 256
_MAX_CHOICES: Final = 4  # video tracks that are tried until one has a frame
_LACE_HEAD: Final = 1 << 16  # bytes that the sizes of the frames in a laced block may take up
_MAX_CUES: Final = 1 << 16
_MAX_CHECKSUMMED: Final = 256 << 20
"""Bytes of a file that are read to compare them with its checksums, at most."""


@dataclass(slots=True)
class MatroskaTrack:
    """Description of a track."""

    number: int = 0  # its number in blocks
    video: bool = False
    codec: str = ""  # Matroska's name of the codec, ``V_MJPEG`` for example
    encoded: bool = False  # whether the bytes in its blocks are compressed or encrypted once more
    enabled: bool = True  # whether a player may use it
    default: bool = True  # whether a player uses it by default
    frame_duration: int = 0  # nanoseconds of every frame, or 0 if unknown
    scale: float = 1.0  # factor of the times in its blocks
    private: bytes = b""  # beginning of the codec's own parameters


@dataclass(slots=True)
class _SegmentHeaders:
    """Headers of a segment, wherever they stand."""

    tick: int = _DEFAULT_TICK  # nanoseconds of a tick
    duration: float = 0.0  # announced ticks, or 0
    tracks: list[MatroskaTrack] | None = None  # the tracks, or None where they are not described


def is_matroska(head: bytes) -> bool:
    """Return whether a file that begins so is read here."""
    return head[:4] == EBML.to_bytes(4, "big")


def scan_matroska(view: FileView) -> Scan:
    """Return frames, duration and flaws of a Matroska or WebM file."""
    frames, timeline, count = _count(view, 0)
    for choice in range(1, min(frames.video_tracks, _MAX_CHOICES)):
        if count or frames.announced:
            break
        # A player passes over a track without a frame.
        other, times, found = _count(view, choice)
        if found or other.announced:
            frames, timeline, count = other, times, found
    if not frames.is_matroska:
        return Scan(None, None, note="is of a format that is not understood", understood=False)
    seconds, interval = timeline.finish(frames.frame_duration)
    walk = frames.walk
    damaged = frames.damage(count) + timeline.flaws
    truncated, note = frames.ending(view.size, seconds)
    if frames.has_unknown_tracks:
        damaged.append("does not describe its tracks")
    elif not count and truncated and not frames.announced:
        # A file that was created and never got a frame is empty, wherever its headers end.
        truncated, note = "", truncated
    notes = [note] if note else []
    if walk.trailing is not None:
        notes.append(f"has {view.size - walk.trailing} bytes behind its end")
    if walk.documents > 1:
        notes.append(f"is followed by another Matroska file at byte {walk.joined}")
    notes += frames.counter.endless(count)
    if not count and not frames.has_unknown_tracks and not frames.has_video:
        notes.append("has no video track")
    return Scan(
        None if frames.has_unknown_tracks else count,
        seconds,
        truncated,
        "; ".join(damaged),
        "; ".join(notes),
        interval,
        timeline.longest,
    )


def _count(view: FileView, choice: int) -> tuple["MatroskaFrames", Timeline, int]:
    """Count the frames of one of the video tracks; return its reader, their times, and their number."""
    frames, timeline, count = MatroskaFrames(view, choice), Timeline(_SECOND), 0
    for time, duration in frames:
        count += 1
        if time is not None:
            timeline.add(time, duration)
    return frames, timeline, count


class MatroskaFrames:
    """Frames of a file's video track of index ``choice``, in the order in which a player chooses one.

    Iterating gives presentation time and duration of each frame that is really there, in nanoseconds, in the
    order of the file and in constant memory; None where one is not known. The attributes hold after that.
    """

    def __init__(self, view: FileView, choice: int = 0) -> None:
        self.walk = ElementWalker(view)
        self.video_tracks = 0  # number of video tracks
        self._choice = choice
        self.frame_duration: int | None = None  # nanoseconds of every frame as the track declares it, or None
        self.is_matroska = True  # false for EBML of another kind
        self.has_video = False
        self.has_unknown_tracks = False  # whether there are blocks and their tracks are not described
        self.counter = FrameCounter(view)  # also hidden frames, and all before the first key frame
        self.announced = False  # whether the file claims to have had a frame
        self._view = view
        self._headers = _SegmentHeaders()
        self._track: MatroskaTrack | None = None
        self._segment = 0
        self._evidence = _EndEvidence()
        self._checksums = _ChecksumCounter(view)
        self._cluster: int | None = None
        self._early: list[tuple[int, int, int | None]] = []
        self._latest = 0
        self._lace = _LaceTimes()

    def __iter__(self) -> Iterator[tuple[int | None, int | None]]:
        group: tuple[int, int] | None = None
        group_end = 0
        duration: int | None = None
        try:
            for element in self.walk:
                kind, begin, size = element
                if group is not None and kind in (SIMPLE_BLOCK, BLOCK_GROUP, CLUSTER):
                    # Only here has the group ended: a duration may stand behind its block.
                    yield from self._take_block(*group, duration)
                    group = duration = None
                if kind == SIMPLE_BLOCK:
                    yield from self._take_block(begin, size or 0, None)
                elif kind == BLOCK:
                    group = (begin, size or 0)
                elif kind == _BLOCK_DURATION:
                    duration = read_uint(self._view, element)
                elif kind == TIMESTAMP:
                    self._cluster = read_uint(self._view, element)
                    yield from self._flush()
                elif group is None:
                    duration = None
                    if kind == BLOCK_GROUP:
                        group_end = begin + (size or 0)
                    else:
                        yield from self._take_other(element)
            if group is not None and group_end <= self._view.size:
                yield from self._take_block(*group, duration)
            elif group is not None:
                self.announced = True  # players drop a group that is cut off
        except CutShortError:  # only where the file is cut while it is read
            self.walk.cut = self.walk.position
        yield from self._flush()
        yield from self._lace.finish()

    @property
    def tick(self) -> float:
        """Nanoseconds of a step in the times."""
        return self._headers.tick * (1.0 if self._track is None else self._track.scale)

    def damage(self, count: int) -> list[str]:
        """Return the damage inside the file of so many frames, in sentences."""
        sentences = self.walk.loss + self.counter.undecodable(count) + self.counter.spoiled(count)
        if self._checksums.wrong and self._checksums.right:
            # Where no checksum is right, they say something of the program that wrote them.
            sentences.append(f"has {self._checksums.wrong} wrong checksums")
        return sentences

    def ending(self, size: int, seconds: float | None) -> tuple[str, str]:
        """Return why the end of a file of that size and length is missing, or ``""``; and a remark."""
        walk, evidence = self.walk, self._evidence
        self.announced |= walk.segment_end is not None and walk.segment_end > size
        if walk.cut is not None:
            self.announced |= walk.cut_kind in (SIMPLE_BLOCK, BLOCK_GROUP, BLOCK)
        if walk.missing_end:
            return walk.missing_end, ""
        for end in (walk.segment_end, walk.cluster_end):
            if end is not None and end > size:
                return f"is {end - size} bytes short of the length in its header", ""
        if evidence.beyond is not None:
            self.announced = True
            return f"has an index entry for byte {evidence.beyond} of {size}", ""
        if walk.segment_end is not None or not evidence.segments:
            return "", ""
        if evidence.reserved or (evidence.closed and evidence.open_last):
            return "was never finalized: its length and index were not written", ""
        announced = self._headers.duration * self._headers.tick / _SECOND
        there = max(seconds or 0.0, self._latest * self._headers.tick / _SECOND)
        if there > 0 and there + max(1.0, 0.05 * there) < announced < _YEAR:
            return f"announces {announced:.1f} s and ends before", ""
        return "", "was never finalized, as live streams are: whether more was to follow is unknown"

    def _take_other(self, element: EbmlElement) -> Iterator[tuple[int | None, int | None]]:
        """Take an element that is neither a block nor within a group of one."""
        kind, begin, size = element
        evidence = self._evidence
        if kind == CLUSTER:
            yield from self._flush()
            self._cluster = None
            evidence.clusters += 1
            evidence.open_last = size is None
            evidence.closed |= size is not None
        elif kind == SEGMENT:
            yield from self._flush()
            self._begin_segment(element)
        elif kind == EBML:
            for child in read_elements(self._view, begin, begin + (size or 0)):
                if child.kind == _DOC_TYPE and self.walk.documents == 1:
                    name = self._view.read(child.begin, min(child.size or 0, 16)).rstrip(b"\0")
                    self.is_matroska = name in (b"matroska", b"webm", b"")
        elif kind == SEEK_HEAD:
            evidence.read_seek_head(self._view, element, self._segment)
        elif kind == CUES and not evidence.clusters:
            evidence.read_cues(self._view, element, self._segment)
        elif kind == VOID and begin - self._segment <= MAX_HEAD:
            evidence.reserved = True  # of an index, which a live stream does not reserve room for
        elif kind == CHECKSUM and self.walk.cluster_end is not None:
            self._checksums.check(element, self.walk.cluster_end)
        if kind in (SEEK_HEAD, INFO, TRACKS, CUES) and size:
            first = next(read_elements(self._view, begin, begin + size), None)
            if first is not None and first.kind == CHECKSUM:
                self._checksums.check(first, begin + size)

    def _begin_segment(self, element: EbmlElement) -> None:
        self._segment = element.begin
        self._evidence.segments += 1
        headers = _find_headers(self._view, element)
        if headers.tracks is None:  # a second segment without any of its own
            headers.tracks = self._headers.tracks
        self._headers = headers
        video = _video_tracks(headers.tracks or [])
        self.video_tracks = max(self.video_tracks, len(video))
        self._track = video[self._choice] if self._choice < len(video) else None
        self.has_video |= self._track is not None
        if self._track is not None:
            self.frame_duration = self._track.frame_duration or None
            self.counter.check = _checker_for(self._track)
            self._lace.step = self._track.frame_duration or None

    def _flush(self) -> Iterator[tuple[int | None, int | None]]:
        """Yield the blocks that stand before their cluster's timestamp."""
        early, self._early = self._early, []
        for begin, size, duration in early:
            yield from self._take_timed_block(begin, size, duration)

    def _take_block(
        self, begin: int, size: int, duration: int | None
    ) -> Iterator[tuple[int | None, int | None]]:
        if self._cluster is None:
            # RFC 9559 5.1.3.1 only recommends that the timestamp comes first.
            if len(self._early) >= _MAX_RUN:
                yield from self._flush()
            self._early.append((begin, size, duration))
        else:
            yield from self._take_timed_block(begin, size, duration)

    def _take_timed_block(
        self, begin: int, size: int, duration: int | None
    ) -> Iterator[tuple[int | None, int | None]]:
        """Yield the frames of a block (RFC 9559, 10.2)."""
        head = self.walk.payload(begin, min(size, payloads.bytes_to_read(size, self._view.size) + MAX_HEAD))
        if self._headers.tracks is None:
            self.has_unknown_tracks = True
            return
        try:
            of, at = parse_vint(head, 0)
        except (CutShortError, BadElementError):
            return
        if at + 3 > len(head):
            return
        relative = int.from_bytes(head[at : at + 2], "big", signed=True)
        self._latest = max(self._latest, min((self._cluster or 0) + relative, _WRAP))
        track = self._track
        if track is None or of != track.number:
            return
        flags, at = head[at + 2], at + 3
        time = None if self._cluster is None else self._time(relative, track)
        if duration is not None:
            duration = int(duration * self._headers.tick * track.scale) or None
        if not flags & 0x06:  # RFC 9559, 10.2: the two bits of lacing
            if self._is_shown(begin + at, size - at, head[at:]):
                yield from self._lace.single(time, duration)
            return
        sizes = self._laced(begin + at, size - at, flags & 0x06)
        yield from self._lace.several(time, duration, [self._is_shown(*place) for place in sizes])

    def _time(self, relative: int, track: MatroskaTrack) -> int:
        scale = self._headers.tick
        time = (self._cluster or 0) * scale
        time += relative * scale if track.scale == 1.0 else round(relative * scale * track.scale)
        # Programs count in 64 bits of nanoseconds, in which a time below zero wraps.
        return time if time <= _WRAP else time & _WRAP

    def _is_shown(self, begin: int, size: int, data: bytes | None = None) -> bool:
        """Return whether bytes of the file are a frame that a player shows."""
        if size <= 0:
            return False
        self.announced = True
        return self.counter.is_shown(begin, size, data)

    def _laced(self, begin: int, size: int, lacing: int) -> list[tuple[int, int]]:
        """Return begin and size of each frame of a laced block (RFC 9559, 10.3)."""
        sizes = _lace_sizes(self._view.read(begin, max(0, min(size, _LACE_HEAD))), size, lacing)
        if sizes is None:
            self.announced = True
            self.counter.count_broken()
            return []
        begin += size - sum(sizes)
        frames = []
        for length in sizes:
            frames.append((begin, length))
            begin += length
        return frames


_YEAR: Final = 366 * 86400.0


class _LaceTimes:
    """Times of the frames in laced blocks, where only the first has one (RFC 9559, 10.3.4)."""

    def __init__(self) -> None:
        self.step: int | None = None
        self._waiting: tuple[int, list[bool]] | None = None
        self._found: int | None = None

    def single(self, time: int | None, duration: int | None) -> Iterator[tuple[int | None, int | None]]:
        if self._waiting is not None:
            yield from self._release(time)
        yield time, duration

    def several(
        self, time: int | None, duration: int | None, shown: list[bool]
    ) -> Iterator[tuple[int | None, int | None]]:
        yield from self._release(time)
        if not shown:
            return
        step = self.step if duration is None else duration // len(shown)
        if time is None:
            yield from ((None, step) for is_shown in shown if is_shown)
        elif step is None:
            self._waiting = (time, shown)  # until the next block gives this one's length
        else:
            yield from ((time + index * step, step) for index, is_shown in enumerate(shown) if is_shown)

    def finish(self) -> Iterator[tuple[int | None, int | None]]:
        yield from self._release(None)

    def _release(self, until: int | None) -> Iterator[tuple[int | None, int | None]]:
        if self._waiting is None:
            return
        (time, shown), self._waiting = self._waiting, None
        if until is not None and time < until < time + _YEAR * _SECOND:
            self._found = (until - time) // len(shown)
        step = self._found
        for index, is_shown in enumerate(shown):
            if is_shown:
                yield (time if not index else None if step is None else time + index * step), step


def _lace_sizes(data: bytes, size: int, lacing: int) -> list[int] | None:
    """Return the sizes of the frames in a laced block's payload, or None if they do not fit into it."""
    if not data:
        return []
    count, at, sizes = data[0] + 1, 1, []
    if lacing == 0x04:
        one, rest = divmod(size - 1, count)
        return None if rest else [one] * count
    try:
        for index in range(count - 1):
            if lacing == 0x02:  # Xiph: as many 255 as there are, and the rest
                begin = at
                while data[at] == 255:
                    at += 1
                sizes.append(255 * (at - begin) + data[at])
                at += 1
            else:
                value, end = parse_vint(data, at)
                # EBML lacing: but for the first, differences, signed by half of their range.
                sizes.append(value if not index else sizes[-1] + value - (UNKNOWN[end - at] >> 1))
                at = end
    except (IndexError, CutShortError, BadElementError):
        return None
    sizes.append(size - at - sum(sizes))
    return None if min(sizes) < 0 else sizes


class _EndEvidence:
    """Evidence of where a segment ends."""

    def __init__(self) -> None:
        self.segments = self.clusters = 0
        self.closed = self.open_last = False  # whether any cluster, or not the last one, states its size
        self.reserved = False  # whether there is room for an unwritten index
        self.beyond: int | None = None  # offset behind the end of the file that an index points to, or None

    def read_seek_head(self, view: FileView, element: EbmlElement, segment: int) -> None:
        for seek in _within(view, element):
            if seek.kind == _SEEK:
                for child in _within(view, seek):
                    if child.kind == _SEEK_POSITION:
                        self._point(view, read_uint(view, child), segment)

    def read_cues(self, view: FileView, element: EbmlElement, segment: int) -> None:
        for index, point in enumerate(_within(view, element)):
            if index == _MAX_CUES:
                return
            if point.kind != _CUE_POINT:
                continue
            for positions in _within(view, point):
                if positions.kind == _CUE_POSITIONS:
                    for child in _within(view, positions):
                        if child.kind == _CUE_CLUSTER:
                            self._point(view, read_uint(view, child), segment)

    def _point(self, view: FileView, position: int, segment: int) -> None:
        if position == _WRAP:  # GStreamer's placeholder
            self.reserved = True
        elif segment + position >= view.size and self.beyond is None:
            self.beyond = segment + position


class _ChecksumCounter:
    """Count of right and wrong CRC-32 that some elements begin with (RFC 8794, 11.3.1)."""

    def __init__(self, view: FileView) -> None:
        self.right = self.wrong = 0
        self._view = view
        self._left = _MAX_CHECKSUMMED

    def check(self, checksum: EbmlElement, end: int) -> None:
        """Check the element that ends there, whose first child the checksum is."""
        at = checksum.begin + (checksum.size or 0)
        if checksum.size != 4 or end > self._view.size or end - at > self._left:
            return
        self._left -= end - at
        expected = int.from_bytes(self._view.read(checksum.begin, 4), "little")
        found = 0
        while at < end and (block := self._view.read_some(at, min(end - at, _READ_AHEAD))):
            found = zlib.crc32(block, found)
            at += len(block)
        if found == expected:
            self.right += 1
        else:
            self.wrong += 1


def _within(view: FileView, element: EbmlElement) -> Iterator[EbmlElement]:
    return read_elements(view, element.begin, element.begin + (element.size or 0))


def _find_headers(view: FileView, segment: EbmlElement) -> _SegmentHeaders:
    """Read the headers of a segment and its tracks, which may stand behind its clusters."""
    headers, informed = _SegmentHeaders(), False
    walk = ElementWalker(view, segment.begin)
    walk.segment_end = None if segment.size is None else segment.begin + segment.size
    for element in walk:
        kind, begin, size = element
        if kind in (EBML, SEGMENT):
            break
        if kind == INFO and not informed:
            informed = True
            _read_info(view, element, headers)
        elif kind == TRACKS and headers.tracks is None:
            headers.tracks = _read_tracks(view, element)
        elif kind == CLUSTER:
            if informed and headers.tracks is not None:
                break
            if size is not None and begin + size <= view.size:
                walk.position = begin + size
    return headers


def _read_info(view: FileView, info: EbmlElement, headers: _SegmentHeaders) -> None:
    for child in _within(view, info):
        if child.kind == _SCALE:
            headers.tick = read_uint(view, child) or _DEFAULT_TICK
        elif child.kind == _DURATION:
            headers.duration = _float(view, child)


def _read_tracks(view: FileView, tracks: EbmlElement) -> list[MatroskaTrack]:
    """Read the tracks that an element lists, in its order."""
    entries = (entry for entry in _within(view, tracks) if entry.kind == _TRACK_ENTRY)
    return [_read_track(view, entry) for entry in islice(entries, _MAX_TRACKS)]


def _read_track(view: FileView, entry: EbmlElement) -> MatroskaTrack:
    track = MatroskaTrack()
    for child in _within(view, entry):
        kind = child.kind
        if kind == _TRACK_NUMBER:
            track.number = read_uint(view, child)
        elif kind == _TRACK_TYPE:
            track.video = read_uint(view, child) == _VIDEO
        elif kind == _FRAME_DURATION:
            track.frame_duration = read_uint(view, child)
        elif kind == _ENABLED:
            track.enabled = bool(read_uint(view, child))
        elif kind == _DEFAULT:
            track.default = bool(read_uint(view, child))
        elif kind == _CODEC:
            name = view.read(child.begin, min(child.size or 0, 64)).rstrip(b"\0")
            track.codec = name.decode("ascii", "replace")
        elif kind == _CODEC_PRIVATE:
            track.private = view.read(child.begin, min(child.size or 0, 256))
        elif kind == _ENCODINGS:
            track.encoded = True
        elif kind == _TRACK_SCALE:
            scale = _float(view, child)
            # As in libavformat: a scale next to 0 is an error and ignored.
            track.scale = scale if 0.01 <= scale <= 1000 else 1.0
    return track


def _float(view: FileView, element: EbmlElement) -> float:
    """Read the number of an element; 0.0 where it is invalid."""
    if element.size not in (4, 8):
        return 0.0
    (value,) = struct.unpack(">f" if element.size == 4 else ">d", view.read(element.begin, element.size))
    return float(value) if 0 <= value < 1e300 else 0.0


def _video_tracks(tracks: list[MatroskaTrack]) -> list[MatroskaTrack]:
    """Return the video tracks in the order in which a player chooses one: enabled and default ones first."""
    video = [track for track in tracks if track.video]
    return sorted(video, key=lambda one: (not one.enabled, not one.default))


def _checker_for(track: MatroskaTrack) -> FrameChecker:
    """Return the check of a track's frames."""
    private = track.private
    if track.encoded:
        return payloads.check_anything
    if track.codec == "V_MPEG4/ISO/AVC":
        if len(private) > 4 and private[0] == 1:  # ISO/IEC 14496-15, 5.3.3.1
            return payloads.NalChecker((private[4] & 3) + 1, hevc=False)
        return payloads.NalChecker(0, hevc=False)
    if track.codec == "V_MPEGH/ISO/HEVC":
        if len(private) > 21 and private[0] <= 1:  # ISO/IEC 14496-15, 8.3.3.1
            return payloads.NalChecker((private[21] & 3) + 1, hevc=True)
        return payloads.NalChecker(0, hevc=True)
    if track.codec == "V_MS/VFW/FOURCC":
        return payloads.checker_for(private[16:20])
    return _CHECKERS.get(track.codec, payloads.check_anything)


_CHECKERS: Final[dict[str, FrameChecker]] = {
    "V_MJPEG": payloads.check_jpeg,
    "V_VP8": payloads.check_vp8,
    "V_VP9": payloads.check_vp9,
    "V_AV1": payloads.check_av1,
    **dict.fromkeys(
        ("V_MPEG1", "V_MPEG2", "V_MPEG4/ISO/SP", "V_MPEG4/ISO/ASP", "V_MPEG4/ISO/AP"),
        payloads.check_start_codes,
    ),
}


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Blocks that follow each other within one cluster, of all tracks.

    A head is the first bytes of a block: track number, relative time (2 bytes), flags (1), then the frame.
    """

    time: int | None  # the cluster's timestamp, to which the times in the blocks are relative, or None
    heads: list[bytes] = field(default_factory=list)  # shorter than asked for only where a block is


class BlockReader:
    """Reader of only the first ``length`` bytes of every block, in constant memory; for use in a thread."""

    def __init__(self, view: FileView, length: int) -> None:
        self.tracks: list[MatroskaTrack] = []  # the tracks; complete when the first run is given
        self.flaw = ""  # why the file is not complete, or ``""``; known after the last run
        self._view = view
        self._length = length
        self._heads: list[bytes] = []

    def runs(self) -> Iterator[BlockRun]:
        """Yield every whole block, in the order of the file."""
        walk = ElementWalker(self._view)
        time: int | None = None
        try:
            for element in walk:
                kind, begin, size = element
                if kind in (SIMPLE_BLOCK, BLOCK):
                    self._heads.append(walk.payload(begin, min(size or 0, self._length)))
                    walk.position = self._skip_simple_blocks(begin + (size or 0))
                elif kind in (CLUSTER, TIMESTAMP):
                    yield from self._run(time)
                    time = None if kind == CLUSTER else read_uint(self._view, element)
                elif kind == SEGMENT and not self.tracks:
                    self.tracks = _find_headers(self._view, element).tracks or []
                if len(self._heads) >= _MAX_RUN:
                    yield from self._run(time)
        except CutShortError:
            walk.cut = walk.position
        self.flaw = _flaw(walk, self._view.size)
        yield from self._run(time)

    def _run(self, time: int | None) -> Iterator[BlockRun]:
        heads, self._heads = self._heads, []
        if heads:
            yield BlockRun(time, heads)

    def _skip_simple_blocks(self, position: int) -> int:
        """Read the simple blocks that begin here, the usual case, fast; return the offset of anything else.

        Whatever is not a whole simple block with a whole neighbourhood is left to the walk.
        """
        heads, length, end = self._heads, self._length, self._view.size
        ahead = _READ_AHEAD
        while len(heads) < _MAX_RUN:
            data = self._view.read_some(position, ahead)
            here, last, size = 0, len(data) - length - MAX_HEAD, 0
            while here <= last and data[here] == SIMPLE_BLOCK:
                width = 9 - data[here + 1].bit_length()
                if width > 8:
                    return position + here
                begin = here + 1 + width
                size = int.from_bytes(data[here + 1 : begin], "big") & UNKNOWN[width]
                if size == UNKNOWN[width] or position + begin + size > end:
                    return position + here
                here = begin + size
                heads.append(data[begin : begin + length] if size >= length else data[begin:here])
            if here == 0:
                return position
            if here <= last:
                return position + here
            position += here
            ahead = length + MAX_HEAD if size > _LARGE else _READ_AHEAD
        return position


def _flaw(walk: ElementWalker, size: int) -> str:
    """Return why a file that was read to its end is not complete, or ``""``."""
    if walk.cut is not None:
        return f"cut off at byte {walk.cut} of {size}"
    if walk.lost or walk.zeros is not None:
        return f"cannot be read at byte {walk.first_lost if walk.lost else walk.zeros}"
    if walk.segment_end is None:
        return "never finalized: its length and index were not written"
    if walk.segment_end > size:
        return f"{walk.segment_end - size} bytes short of the length in its header"
    return ""
