"""Reader of AVI files (RIFF, with the OpenDML extensions): chunks, not the pictures in them."""

import re
from collections.abc import Iterator
from typing import Final

from asynccam.recording.containers import payloads
from asynccam.recording.containers.payloads import FrameCounter
from asynccam.recording.containers.reader import CutShortError, FileView, Scan, UnitWalk
from asynccam.recording.containers.timeline import Timeline

_LISTS: Final = frozenset({b"hdrl", b"strl", b"movi", b"rec "})
"""Lists whose chunks are read; all others are skipped."""
_MEDIA: Final = re.compile(rb"[0-9][0-9](?:dc|db|wb|tx|pc|iv|sb)")
_CHUNK: Final = re.compile(rb"[0-9][0-9](?:dc|db|wb|tx|pc|iv|sb)|ix[0-9][0-9]|idx1|LIST|RIFF|JUNK")
"""Chunks among or behind the media (OpenDML 1.02, "Stream Data" and "Index Locations in RIFF File")."""
_PRINTABLE: Final = re.compile(rb"[ -~]{4}")
_UNKNOWN_SIZE: Final = 0xFFFFFFFF  # of a file that is longer than 32 bits can say, or was never finalized
_HAS_INDEX: Final = 0x10  # AVIF_HASINDEX, in the flags of the main header
_DISABLED: Final = 0x1  # AVISF_DISABLED, in the flags of a stream header
_BITMAP_HEADER: Final = 40  # bytes of a stream format in front of the codec's own data (BITMAPINFOHEADER)
_INDEX_ENTRY: Final = 16  # bytes of an entry of the index (``idx1``)
_MAX_HEADER: Final = 1 << 20  # bytes of a header chunk that are read
_NOT_CODED: Final = 7
"""Bytes of an MPEG-4 frame without a picture, at most: packed B frames leave such frames behind."""
_PACKED: Final = frozenset({b"XVID", b"DIVX", b"DX50", b"FMP4", b"MP4V"})


def is_avi(head: bytes) -> bool:
    """Return whether a file that begins so is read here."""
    return head[:4] == b"RIFF" and head[8:12] == b"AVI "


def scan_avi(view: FileView) -> Scan:
    """Return frames, duration and flaws of an AVI file."""
    frames = AviFrames(view)
    timeline = Timeline(frames.rate)
    count = 0
    for time in frames:
        if not count:
            timeline = Timeline(frames.rate)
        count += 1
        timeline.add(time, 1)
    seconds, interval = timeline.finish()
    if seconds is not None and frames.rate:
        # A chunk without bytes shows the picture before it once more, also at the end.
        seconds = (frames.ticks - frames.first_tick) / frames.rate
    if not frames.has_rate:
        seconds = interval = None
    truncated, note = frames.ending()
    if not count and truncated and not frames.announced:
        truncated, note = "", truncated
    notes = [note] if note else []
    if frames.trailing is not None:
        notes.append(f"has {view.size - frames.trailing} bytes behind its end")
    notes += frames.counter.endless(count)
    if frames.stream is None and not truncated:
        notes.append("has no video stream")
    return Scan(count, seconds, truncated, "; ".join(frames.damage(count)), "; ".join(notes), interval)


class AviFrames(UnitWalk):
    """Frames of a file's first video stream, one by one, in constant memory; for use in a thread.

    Iterating gives the presentation time of each frame that is really there, in ticks, of which a second has
    `rate`. The other attributes hold after that. ``ticks`` counts chunks without bytes too.
    """

    unit_head = _CHUNK

    def __init__(self, view: FileView) -> None:
        super().__init__(view)
        self.rate = 1.0  # ticks of a second; known with the first frame
        self.has_rate = False  # whether the file says so
        self.stream: int | None = None  # index of the video stream, or None
        self.ticks = self.first_tick = 0
        self.announced = False  # whether the file claims to have had a frame
        self.counter = FrameCounter(view)
        self._end = 0
        self._streams = 0
        self._flags = 0
        self._wrong_size = self._open = self._indexed = self._is_index_zeroed = False
        self._beyond: int | None = None
        self._packed = self._disabled = False
        self._ids: frozenset[bytes] = frozenset()
        self._candidate = False

    def __iter__(self) -> Iterator[int]:
        try:
            for kind, begin, size in self._chunks():
                if kind in self._ids:
                    self.ticks += 1
                    if size and self._is_shown(begin, size):
                        if not self.announced:
                            self.first_tick = self.ticks - 1
                        self.announced = True
                        yield self.ticks - 1
                    elif size:
                        self.announced = True
                elif not _MEDIA.match(kind):
                    self._take_header(kind, begin, size)
        except CutShortError:  # only where the file is cut while it is read
            self.cut = self.position

    def damage(self, count: int) -> list[str]:
        """Return the damage inside the file of so many frames, in sentences."""
        sentences = self.loss + self.counter.undecodable(count)
        if self._is_index_zeroed:
            sentences.append("has zeros in its index")
        return sentences + self.counter.spoiled(count)

    def ending(self) -> tuple[str, str]:
        """Return why the end of the file is missing, or ``""``; and a remark on its end."""
        size = self.view.size
        self.announced |= not self._open and self._end > size
        if self.missing_end:
            return self.missing_end, ""
        if not self._open and self._end > size:
            return f"is {self._end - size} bytes short of the length in its header", ""
        if self._beyond is not None:
            self.announced = True
            return f"has an index entry for byte {self._beyond} of {size}", ""
        if not self._open and not self._wrong_size:
            return "", ""
        if self._indexed:
            return "", "does not state its length"
        if self._wrong_size or self._flags & _HAS_INDEX:
            return "was never finalized: its length and index were not written", ""
        return "", "was never finalized, as streams are: whether more was to follow is unknown"

    def _chunks(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield id, begin and size of each chunk in one flat pass; lists that are read are chunks too."""
        view = self.view
        while self.position + 8 <= view.size:
            position = self.position
            head = view.read(position, min(12, view.size - position))
            kind, size, begin = head[:4], int.from_bytes(head[4:8], "little"), position + 8
            if self._end and position >= self._end and not self._open and self._is_over(position, head):
                return
            if kind in (b"RIFF", b"LIST") and len(head) == 12 and self._enter(kind, head[8:], begin, size):
                continue
            if not _PRINTABLE.match(kind) or kind in (b"RIFF", b"\0\0\0\0"):
                if self._step_back(position) or self.recover(self._known_end):
                    continue
                return
            if begin + size > view.size:
                if self.resume(begin):
                    continue
                if self._end and self._end <= view.size and not self._open:
                    self.note_lost(position, view.size)  # nothing is cut off: the size itself is wrong
                else:
                    self.cut = position
                    self.announced |= kind in self._ids
                return
            yield kind, begin, size
            self.position = begin + size + (size & 1)
        if self.position < view.size and self._end > self.position and self._end <= view.size:
            self.zeros = self.position
        elif self.position < view.size and (
            self._open
            or self._end > view.size
            or _begins_riff(view.read(self.position, view.size - self.position))
        ):
            self.cut = self.position
        elif self.position < view.size:
            self.trailing = self.position

    def _enter(self, kind: bytes, form: bytes, begin: int, size: int) -> bool:
        """Return whether a list is entered."""
        if kind == b"RIFF":
            if form not in (b"AVI ", b"AVIX"):
                return False
            self._open |= size in (0, _UNKNOWN_SIZE)
            self._end = begin + size + (size & 1)
        elif form not in _LISTS:
            return False
        elif form == b"strl":
            self._streams += 1
        elif form == b"movi" and size not in (0, _UNKNOWN_SIZE) and begin + size <= self.view.size:
            # GStreamer writes a list of no chunk, and its size when all is done.
            self._wrong_size |= size == 4 and self.is_unit(begin + size)
        self.position = begin + 4
        return True

    def _is_over(self, position: int, head: bytes) -> bool:
        """Return whether the walk is over at the end of a RIFF: neither another nor more of it follows."""
        if head[:4] == b"RIFF" and head[8:] == b"AVIX":
            return False
        if _begins_riff(head):
            self.cut = position
            return True
        if self._wrong_size or (head[:4] not in (b"RIFF", b"LIST", b"JUNK") and self.is_unit(position)):
            self._wrong_size, self._end = True, 0
            return False
        self.trailing = position
        return True

    def is_unit(self, position: int) -> bool:
        """Return whether a chunk stands there: among or behind the media, with another behind it."""
        head = self.view.read_some(position, 8)
        if len(head) < 8 or not _CHUNK.match(head):
            return False
        end = position + 8 + int.from_bytes(head[4:8], "little")
        if head[:4] in (b"LIST", b"RIFF"):
            return self.view.read_some(position + 8, 4) in (b"movi", b"rec ", b"AVIX")
        if end >= self.view.size:
            return head[:4] == b"idx1" or end == self.view.size
        # One chunk alone may be part of a picture; it is believed with the one behind it.
        return any(_CHUNK.match(self.view.read_some(end + pad, 4)) for pad in (end & 1, 0))

    def _take_header(self, kind: bytes, begin: int, size: int) -> None:
        """Read a chunk of the headers."""
        data = self.view.read(begin, min(size, _MAX_HEADER))
        # AVIMAINHEADER: microseconds a frame at 0, flags at 12. AVISTREAMHEADER: type, handler, flags.
        if kind == b"avih":
            self._flags = int.from_bytes(data[12:16], "little")
            if not self.has_rate and (micros := int.from_bytes(data[:4], "little")):
                self.rate, self.has_rate = 1e6 / micros, True
        elif kind == b"strh" and self._streams:
            self._candidate = data[:4] == b"vids" and (
                self.stream is None or (self._disabled and not data[8] & _DISABLED)
            )
            if self._candidate:
                self._take_stream(data)
        elif kind == b"strf" and self._candidate:
            codec = data[16:20].upper()
            self.counter.check = payloads.checker_for(codec, data[_BITMAP_HEADER:])
            self._packed = codec in _PACKED
        elif kind == b"indx":
            self._read_index(data)
        elif kind == b"idx1":
            self._indexed = True
            # Each entry begins with the id of its chunk.
            self._is_index_zeroed = size >= _INDEX_ENTRY and not any(
                self.view.read(begin + size - _INDEX_ENTRY, _INDEX_ENTRY)
            )

    def _take_stream(self, data: bytes) -> None:
        self.stream = self._streams - 1
        self._disabled = bool(data[8] & _DISABLED) if len(data) > 8 else False
        number = b"%02d" % min(self.stream, 99)
        self._ids = frozenset({number + b"dc", number + b"db", number + b"iv"})
        # AVISTREAMHEADER: dwRate / dwScale are the frames a second.
        scale, rate = (int.from_bytes(data[at : at + 4], "little") for at in (20, 24))
        if scale and rate:
            self.rate, self.has_rate = rate / scale, True

    def _read_index(self, data: bytes) -> None:
        """Compare an index of indexes with the file (OpenDML 1.02, "AVI Super Index Chunk")."""
        if len(data) < 24 or data[3] != 0 or data[:2] != b"\4\0":
            return
        used = int.from_bytes(data[4:8], "little")
        for at in range(24, min(len(data) - 15, 24 + 16 * used), 16):
            end = int.from_bytes(data[at : at + 8], "little") + int.from_bytes(
                data[at + 8 : at + 12], "little"
            )
            if end > self.view.size:
                self._beyond = int.from_bytes(data[at : at + 8], "little")
                return

    def _is_shown(self, begin: int, size: int) -> bool:
        if self._packed and size <= _NOT_CODED:
            return False
        return self.counter.is_shown(begin, size)

    def _step_back(self, position: int) -> bool:
        """Go to the chunk behind one of an odd size that was not padded; return whether there is one."""
        before = position - 1
        if before > 0 and before & 1 and self.is_unit(before):
            self.position = before
            return True
        return False

    @property
    def _known_end(self) -> int:
        """End of the present part of the file, or of the file where that is unknown."""
        return min(self._end, self.view.size) if self._end and not self._open else self.view.size


def _begins_riff(head: bytes) -> bool:
    """Return whether these bytes are the head of another part of the file, cut off (OpenDML 1.02)."""
    return len(head) < 12 and b"RIFF".startswith(head[:4]) and b"AVIX".startswith(head[8:])
