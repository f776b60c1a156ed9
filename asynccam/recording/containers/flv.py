"""Reader of Flash video files (Adobe FLV 10.1, enhanced RTMP v2): tags, not pictures."""

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from asynccam.recording.containers import payloads
from asynccam.recording.containers.payloads import FrameChecker, FrameCounter
from asynccam.recording.containers.reader import CutShortError, FileView, Scan, UnitWalk
from asynccam.recording.containers.timeline import Timeline

_HEADER: Final = 9
_TAG: Final = 11
_POINTER: Final = 4  # bytes of the size behind each tag (E.3)
_VIDEO, _SCRIPT = 9, 18
_TAG_KINDS: Final = frozenset({8, _VIDEO, _SCRIPT})
_AVC: Final = 7  # codec ID of H.264 (FLV 10.1, E.4.3.1)
_COMMAND: Final = 5  # frame type of a tag without a picture (E.4.3.1)
_SEQUENCE_START, _CODED, _SEQUENCE_END, _CODED_X = 0, 1, 2, 3
_MULTITRACK, _MODIFIED = 6, 7
_SCRIPT_READ: Final = 1 << 16  # bytes of a script tag that are read
_PLACEHOLDER: Final = 86400.0  # seconds that GStreamer announces until it knows better
# A tag: its kind, 7 bytes of anything, and the number of its stream, which is always 0 (FLV 10.1, E.4.1).
_TAG_HEAD: Final = re.compile(rb"(?=[\x08\x09\x12].{7}\0\0\0)", re.DOTALL)


def is_flv(head: bytes) -> bool:
    """Return whether a file that begins so is read here."""
    return head[:4] == b"FLV\1"


def scan_flv(view: FileView) -> Scan:
    """Return frames, duration and flaws of a Flash video file."""
    frames = FlvFrames(view)
    timeline = Timeline(1000)
    count = 0
    for time in frames:
        count += 1
        timeline.add(time)
    seconds, interval = timeline.finish(frames.frame_duration)
    truncated, note = frames.ending()
    if not count and truncated and not frames.announced:
        truncated, note = "", truncated
    damaged = frames.damage(count) + timeline.flaws
    notes = [note] if note else []
    if frames.joined is not None:
        notes.append(f"is followed by another Flash video at byte {frames.joined}")
    if frames.trailing is not None:
        notes.append(f"has {view.size - frames.trailing} bytes behind its end")
    return Scan(count, seconds, truncated, "; ".join(damaged), "; ".join(notes), interval, timeline.longest)


class _FlvTag(NamedTuple):
    kind: int
    time: int
    begin: int
    size: int


class FlvFrames(UnitWalk):
    """Presentation times of the frames that are really there, in milliseconds; for use in a thread.

    It takes constant memory. The attributes hold after iterating.
    """

    unit_head = _TAG_HEAD

    def __init__(self, view: FileView) -> None:
        super().__init__(view)
        self.announced = False  # whether the file claims to have had a frame
        self.joined: int | None = None  # offset of another file of the kind behind this one, or None
        self._right = self._wrong = 0
        self._counter = FrameCounter(view)
        self._latest = 0
        self._configured = b"", b""
        self._metadata: dict[str, float] = {}
        self._avc = self._ended = False

    @property
    def frame_duration(self) -> int | None:
        """Milliseconds of every frame as the file announces it, or None."""
        rate = self._metadata.get("framerate", 0.0)
        return round(1000 / rate) if 0.001 <= rate <= 1000 else None

    def __iter__(self) -> Iterator[int]:
        try:
            for tag in self._tags():
                if tag.kind == _VIDEO:
                    offset = self._frame(tag)
                    if offset is not None:
                        yield tag.time + offset
                elif tag.kind == _SCRIPT and not self._metadata:
                    data = self.view.read(tag.begin, min(tag.size, _SCRIPT_READ))
                    self._metadata = _read_metadata(data)
                if tag.size:
                    self._latest = max(self._latest, tag.time)
        except CutShortError:  # only where the file is cut while it is read
            self.cut = self.position

    def damage(self, count: int) -> list[str]:
        """Return the damage inside the file of so many frames, in sentences."""
        sentences = self.loss
        if self._wrong and self._right and not self.lost:
            sentences.append(f"has {self._wrong} tags whose sizes do not match")
        return sentences + self._counter.undecodable(count) + self._counter.spoiled(count)

    def ending(self) -> tuple[str, str]:
        """Return why the end of the file is missing, or ``""``; and a remark on its end."""
        size = self.view.size
        length, seconds = self._metadata.get("filesize"), self._metadata.get("duration", 0.0)
        self.announced |= length is not None and length > size
        if self.missing_end:
            return self.missing_end, ""
        if length is not None and size < length < 1 << 62:
            return f"is {int(length) - size} bytes short of the length in its header", ""
        if length == 0 and not self._ended and (self._avc or seconds == _PLACEHOLDER):
            return "was never finalized: its length was not written", ""
        there = self._latest / 1000
        if self.announced and not self._ended and there + max(0.5, 0.05 * there) < seconds < _PLACEHOLDER:
            return f"announces {seconds:.1f} s and ends before", ""
        if self._ended or length:
            return "", ""
        return "", "does not state its length: whether more was to follow is unknown"

    def _tags(self) -> Iterator[_FlvTag]:
        view = self.view
        if view.size < _HEADER:
            self.cut = 0
            return
        offset = int.from_bytes(view.read(5, 4), "big")
        self.position = (offset if _HEADER <= offset <= view.size else _HEADER) + _POINTER
        if self.position > view.size:
            self.cut = self.position - _POINTER
        while self.position < view.size:
            position = self.position
            head = view.read(position, min(_TAG, view.size - position))
            if head[:4] == b"FLV\1":
                self.joined = position  # players show the first only
                return
            if head[0] & 0xDF not in _TAG_KINDS:
                length = self._metadata.get("filesize")
                if length and position >= length:
                    self.trailing = position
                    return
                if not self.recover(view.size):
                    return
                continue
            size = int.from_bytes(head[1:4], "big")
            end = position + _TAG + size
            if len(head) < _TAG or end + _POINTER > view.size:
                if not self.resume(position + 1):
                    self.cut = position
                    self.announced |= head[0] & 0x1F == _VIDEO and len(head) == _TAG and size > 5
                    # A frame with all of its bytes counts, even if its tag's trailing size is missing.
                    if len(head) == _TAG and end <= view.size:
                        yield _tag(head, position + _TAG)
                    return
                continue
            if not self._is_linked(end, size) and not self._is_tag(end + _POINTER):
                # Neither the size behind the tag nor the next tag confirms its size.
                if self.recover(view.size):
                    continue
                return
            yield _tag(head, position + _TAG)
            self.position = end + _POINTER

    def _is_linked(self, end: int, size: int) -> bool:
        """Return whether the size that stands behind a tag is the tag's (FLV 10.1, E.3)."""
        linked = int.from_bytes(self.view.read(end, _POINTER), "big") == _TAG + size
        self._right += linked
        self._wrong += not linked
        return linked

    def _is_tag(self, position: int) -> bool:
        if position >= self.view.size:
            return True
        head = self.view.read_some(position, _TAG)
        return head[0] & 0xDF in _TAG_KINDS and (len(head) < _TAG or head[8:] == b"\0\0\0")

    def _frame(self, tag: _FlvTag) -> int | None:
        """Return the composition time of the frame in a video tag, or None if it has none that is shown."""
        data = self.view.read(tag.begin, payloads.bytes_to_read(tag.size, self.view.size))
        # FLV 10.1, E.4.3.1: the upper bits are the frame type, the lower the codec.
        if not data or data[0] >> 4 & 0x7 == _COMMAND:
            return None
        if data[0] & 0x80:
            return self._enhanced_frame(data, tag)
        if data[0] & 0x0F != _AVC:
            return 0 if self._is_shown(data, tag, 1) else None
        self._avc = True
        if len(data) < 5:
            return None
        # FLV 10.1, E.4.3.2: 0 is the configuration, 2 the end of the sequence.
        if data[1] == _SEQUENCE_START:
            self._configure(b"avc1", data[5:])
        self._ended = data[1] == _SEQUENCE_END
        if data[1] != _CODED or not self._is_shown(data, tag, 5):
            return None
        return int.from_bytes(data[2:5], "big", signed=True)

    def _enhanced_frame(self, data: bytes, tag: _FlvTag) -> int | None:
        """Do as `_frame` for a tag with a four-letter codec (enhanced RTMP v2, "Enhanced Video")."""
        kind, at = data[0] & 0x0F, 1
        while kind == _MODIFIED and at + 3 < len(data):
            length = data[at] + 1
            if length == 256:
                length, at = int.from_bytes(data[at + 1 : at + 3], "big") + 1, at + 2
            at += 1 + length
            kind, at = (data[at] & 0x0F if at < len(data) else _SEQUENCE_START), at + 1
        tracks = 0
        if kind == _MULTITRACK and at < len(data):
            tracks, kind, at = 1 + (data[at] >> 4), data[at] & 0x0F, at + 1
        codec, at = data[at : at + 4], at + 4
        if tracks:
            if data[at : at + 1] != b"\0":  # the first track is the one that counts
                return None
            at += 1 if tracks == 1 else 4
        if kind == _SEQUENCE_START:
            self._configure(codec, data[at:])
        self._ended = kind == _SEQUENCE_END
        if kind not in (_CODED, _CODED_X):
            return None
        offset = 0
        if kind == _CODED and codec in (b"avc1", b"hvc1"):
            offset, at = int.from_bytes(data[at : at + 3], "big", signed=True), at + 3
        return offset if self._is_shown(data, tag, at) else None

    def _configure(self, codec: bytes, private: bytes) -> None:
        """Take a codec's parameters, which some servers repeat."""
        if (codec, private) != self._configured:
            self._configured = codec, private
            self._counter.check = _checker_for(codec, private)

    def _is_shown(self, data: bytes, tag: _FlvTag, at: int) -> bool:
        if tag.size <= at:
            return False
        self.announced = True
        return self._counter.is_shown(tag.begin + at, tag.size - at, data[at:])

    def is_unit(self, position: int) -> bool:
        """Return whether a tag stands there, by the size behind it."""
        size = int.from_bytes(self.view.read_some(position + 1, 3), "big")
        pointer = self.view.read_some(position + _TAG + size, _POINTER) if size else b""
        return len(pointer) == _POINTER and int.from_bytes(pointer, "big") == _TAG + size


def _tag(head: bytes, begin: int) -> _FlvTag:
    # FLV 10.1, E.4.1: 24 bits of milliseconds, then the upper 8, signed together.
    time = int.from_bytes(head[7:8] + head[4:7], "big", signed=True)
    return _FlvTag(head[0] & 0x1F, time, begin, int.from_bytes(head[1:4], "big"))


def _checker_for(codec: bytes, private: bytes) -> FrameChecker:
    # ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1: how long the lengths in front of NAL units are.
    if codec == b"avc1" and len(private) > 4 and private[0] == 1:
        return payloads.NalChecker((private[4] & 3) + 1, hevc=False)
    if codec == b"hvc1" and len(private) > 21:
        return payloads.NalChecker((private[21] & 3) + 1, hevc=True)
    return _CHECKERS.get(codec, payloads.check_anything)


_CHECKERS: Final[dict[bytes, FrameChecker]] = {
    b"av01": payloads.check_av1,
    b"vp09": payloads.check_vp9,
    b"vp08": payloads.check_vp8,
}
_NUMBERS: Final = re.compile(rb"\0(?:\x08(?:duration|filesize)|\x09framerate)\0")


def _read_metadata(data: bytes) -> dict[str, float]:
    """Return the numbers in ``onMetaData`` about the file's end (FLV 10.1, E.5; AMF0, 2.2)."""
    found: dict[str, float] = {}
    if b"onMetaData" not in data[:16]:
        return found
    for match in _NUMBERS.finditer(data):
        value = data[match.end() : match.end() + 8]
        if len(value) == 8:
            (number,) = struct.unpack(">d", value)
            if 0 <= number < 1 << 62:
                found.setdefault(match.group()[2:-1].decode(), number)
    return found
