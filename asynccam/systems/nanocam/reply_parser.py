"""A client's reader of responses, without I/O: the original's words and files, and asynccam's framed ones.

The original puts a word behind each file, and the word may also occur inside one. So a file is followed by
its own format: a JPEG marker by marker, an MP4 box by box. A file of another format has no end of its own;
for that the word has to do. Nothing of a file is kept. See docs/protocols/nanocam.md, "Answers".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, get_args

from asynccam.errors import RemoteProtocolError
from asynccam.net.framing import LENGTH_SIZE, EventReader
from asynccam.outside import read_json
from asynccam.systems.nanocam.protocol import (
    BUSY,
    DONE,
    MORE,
    OK,
    QUIT,
    Busy,
    FileEntry,
    FileListing,
    Finished,
    Ok,
    RefusalKind,
    Refused,
)
from asynccam.systems.nanocam.safe_pickle import MAX_ITEMS, PickleReader

MAX_FRAME: Final = 1 << 20
"""Maximum bytes of a framed response: a list of `MAX_ITEMS` names."""
_MAX_SIZE: Final = 1 << 50
# 0x80 begins a pickle of protocol 2 or later, "]" and "(" a list of protocol 1 and 0.
_PICKLE_STARTS: Final = frozenset(b"\x80](")
_WORDS: Final[tuple[tuple[bytes, Busy | Ok], ...]] = ((BUSY, Busy()), (OK, Ok()))
_JPEG_SUFFIXES: Final = (".jpg", ".jpeg")
_MP4_SUFFIXES: Final = (".mp4", ".mov", ".m4v")

_JPEG_START: Final = b"\xff\xd8\xff"
_HEAD: Final = 8
"""Bytes by which a format is detected."""
_BOX_HEADER: Final = 8
_LARGE_BOX_HEADER: Final = 16
_FIRST_BOXES: Final = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
# ITU-T T.81 B.1.1.5: inside a scan, a marker other than a stuffed byte, a restart or filling.
_SCAN_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class BoundaryState(Enum):
    """Reason why the scan of a file stopped."""

    MORE = "more"
    """The file goes on; the next bytes are needed."""
    END = "end"
    """The file may end here."""
    INVALID = "invalid"
    """The bytes break the format; the end of the file is unknown."""


class JpegBoundary:
    """Finds the end of a JPEG, marker by marker; several pictures in one file (MPF) are one file."""

    def __init__(self) -> None:
        self.bulk = 0  # number of bytes from here on that belong to the file, whatever they are
        self._in_scan = False
        self._ended = False
        self._fresh = True

    def advance(self, data: bytes, start: int) -> tuple[int, BoundaryState]:
        """Scan ``data`` from ``start``; return how far it is the file's, and why the scan stopped there.

        Bytes beyond have to be passed again, with more behind them. After an end it goes on only with
        another picture.
        """
        position = start
        while True:
            if self.bulk:
                step = min(self.bulk, len(data) - position)
                self.bulk -= step
                position += step
                if self.bulk:
                    return position, BoundaryState.MORE
            if self._in_scan:
                position = self._through_scan(data, position)
            found = self._marker(data, position)
            if found is None:
                return position, BoundaryState.MORE
            position, state = found
            if state is not BoundaryState.MORE:
                return position, state

    def _through_scan(self, data: bytes, position: int) -> int:
        """Return the position of the marker that ends the scan, or of the data's end except a last 0xFF."""
        match = _SCAN_MARKER.search(data, position)
        if match is not None:
            self._in_scan = False
            return match.start()
        return len(data) - 1 if data.endswith(b"\xff") and len(data) > position else len(data)

    def _marker(self, data: bytes, position: int) -> tuple[int, BoundaryState] | None:
        """Go past one marker; None if it is incomplete."""
        if self._in_scan or position >= len(data):
            return None
        if data[position] != 0xFF:
            return position, BoundaryState.INVALID
        code = data[position + 1 : position + 2]
        if not code:
            return None
        if self._ended:
            if code != b"\xd8":
                return position, BoundaryState.INVALID
            self._ended, self._fresh = False, True
        if code == b"\xff":  # filling before a marker
            return position + 1, BoundaryState.MORE
        if code == b"\xd9":
            self._ended = True
            return position + 2, BoundaryState.END
        if code == b"\xd8" and not self._fresh:  # the next picture: this one has no end
            return position, BoundaryState.INVALID
        if code in (b"\xd8", b"\x01") or b"\xd0" <= code <= b"\xd7":  # markers without a length
            self._fresh = False
            return position + 2, BoundaryState.MORE
        if len(data) < position + 4:
            return None
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if code == b"\x00" or length < 2:
            return position, BoundaryState.INVALID
        self._in_scan = code == b"\xda"
        self.bulk = length - 2
        return position + 4, BoundaryState.MORE


class Mp4Boundary:
    """Finds the end of an MP4 or QuickTime file, top-level box by box.

    The file may end after any box once it has both a ``moov`` and media. ``bulk`` and `advance` as of
    `JpegBoundary`; called again at the place of an end, it goes on with the next box.
    """

    def __init__(self) -> None:
        self.bulk = 0
        self._has_movie = False
        self._has_media = False
        self._end_reported = False

    def advance(self, data: bytes, start: int) -> tuple[int, BoundaryState]:
        """Scan ``data`` from ``start``, as `JpegBoundary.advance`."""
        position = start
        while True:
            step = min(self.bulk, len(data) - position)
            self.bulk -= step
            position += step
            if self.bulk:
                return position, BoundaryState.MORE
            if self._has_movie and self._has_media and not self._end_reported:
                self._end_reported = True
                return position, BoundaryState.END
            length = self._box(data[position : position + _LARGE_BOX_HEADER])
            if length is None:
                return position, BoundaryState.MORE
            if length == 0:
                return position, BoundaryState.INVALID
            self._end_reported = False
            self.bulk = length

    def _box(self, header: bytes) -> int | None:
        """Return the length of a box with its header; None if incomplete, 0 if the box has no end."""
        if len(header) < _BOX_HEADER:
            return None
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:  # ISO 14496-12 4.2: a 64-bit length follows
            if len(header) < _LARGE_BOX_HEADER:
                return None
            length = int.from_bytes(header[8:16], "big")
            if length < _LARGE_BOX_HEADER:
                return 0
        elif length < _BOX_HEADER:
            return 0  # 0 is a box up to the end of the file, as of a muxer that was killed
        self._has_movie |= kind == b"moov"
        self._has_media |= kind in (b"mdat", b"moof")
        return length


def detect_format(head: bytes) -> JpegBoundary | Mp4Boundary | None:
    """Return the boundary finder for a file that begins with these bytes; None for an unknown format."""
    if head.startswith(_JPEG_START):
        return JpegBoundary()
    if head[4:8] in _FIRST_BOXES:
        return Mp4Boundary()
    return None


@dataclass(frozen=True, slots=True)
class FileBegins:
    """The bytes of this file follow."""

    file: FileEntry


@dataclass(frozen=True, slots=True)
class FileBytes:
    """The next bytes of the file."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class FileEnds:
    """The file is complete."""


ReplyEvent = Busy | Ok | Refused | FileListing | FileBegins | FileBytes | FileEnds | Finished


class ReplyReader(EventReader[ReplyEvent]):
    """Parses all responses of one connection, cut anywhere, of either kind of server.

    It holds back a few bytes at most: memory does not grow with a file.
    """

    def __init__(self, *, peer: str = "the server") -> None:
        super().__init__()
        self.framed: bool | None = None  # None before the first response
        self._peer = peer
        self._data = b""
        self._position = 0
        self._step: Callable[[], ReplyEvent | None] = self._idle
        self._pickle: PickleReader | None = None
        self._files: list[FileEntry] = []
        self._boundary: JpegBoundary | Mp4Boundary | None = None
        self._missing = 0

    @property
    def between(self) -> bool:
        """Return whether no response is incomplete."""
        return self._step == self._idle and self._position == len(self._data)

    @property
    def bulk(self) -> int:
        """Return how many next bytes are the file's; they may be read past this reader, with `skip`."""
        if self._position < len(self._data):
            return 0
        if self._step == self._sized:
            return self._missing
        return self._boundary.bulk if self._boundary is not None and self._step == self._body else 0

    @property
    def ends_at_silence(self) -> bool:
        """Return whether the response is complete if nothing follows."""
        # A last file of unknown format ends with `QUIT` and silence.
        return (
            self._step in (self._head, self._search)
            and len(self._files) == 1
            and self._data.endswith(QUIT)
            and len(self._data) - self._position >= len(QUIT)
        )

    def _receive(self, data: bytes) -> None:
        self._data = self._data[self._position :] + data if self._position < len(self._data) else data
        self._position = 0

    def _next_event(self) -> ReplyEvent | None:
        while True:
            step = self._step
            event = step()
            if event is not None or step == self._step:  # the same step without an event needs more bytes
                return event

    def skip(self, count: int) -> None:
        """Report that ``count`` bytes, at most `bulk`, were read past this reader."""
        assert count <= self.bulk
        if self._step == self._sized:
            self._missing -= count
        elif self._boundary is not None:
            self._boundary.bulk -= count

    def conclude(self) -> list[ReplyEvent]:
        """Report silence or end of file; return the last events of a response that `ends_at_silence`."""
        self._raise_failure()
        if not self.ends_at_silence:
            return []
        rest = memoryview(self._data)[self._position : -len(QUIT)]
        self._position = len(self._data)
        self._files.clear()
        self._step = self._idle
        return [*([FileBytes(rest)] if rest else []), FileEnds(), Finished()]

    # -- steps: each returns an event, or None if the step has changed or more bytes are needed --------

    def _idle(self) -> ReplyEvent | None:
        rest = self._data[self._position : self._position + len(BUSY)]
        if not rest:
            return None
        if rest[0] == 0:  # a length of at most `MAX_FRAME`, big-endian; no word and no pickle begins so
            self._step = self._frame
            return None
        if rest[0] in _PICKLE_STARTS:
            self.framed = False
            self._pickle = PickleReader(peer=self._peer)
            self._step = self._names
            return None
        for word, event in _WORDS:
            if rest.startswith(word):
                self.framed = False
                self._position += len(word)
                return event
            if word.startswith(rest):
                return None
        raise self._error(f"answered {rest!r}")

    # framed

    def _frame(self) -> ReplyEvent | None:
        start = self._position + LENGTH_SIZE
        length = int.from_bytes(self._data[self._position : start].ljust(LENGTH_SIZE, b"\0"), "big")
        if length > MAX_FRAME:
            raise self._error(f"announced an answer of {length} bytes")
        if len(self._data) < start + length:
            return None
        document = self._data[start : start + length]
        self._position = start + length
        self._step = self._idle
        self.framed = True
        try:
            event = _parse_framed(read_json(document, lenient=True))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._error(f"sent an invalid answer: {document[:80]!r}") from None
        if isinstance(event, FileListing):
            self._files = list(event.files)
            self._step = self._next_sized
        return event

    def _next_sized(self) -> ReplyEvent | None:
        if not self._files:
            self._step = self._idle
            return None
        self._missing = self._files[0].size or 0
        self._step = self._sized
        return FileBegins(self._files[0])

    def _sized(self) -> ReplyEvent | None:
        if not self._missing:
            del self._files[0]
            self._step = self._next_sized
            return FileEnds()
        count = min(self._missing, len(self._data) - self._position)
        self._missing -= count
        return self._chunk(self._position + count)

    # original

    def _names(self) -> ReplyEvent | None:
        assert self._pickle is not None
        rest = self._pickle.feed(self._data[self._position :])
        self._position = len(self._data) - len(rest)
        items = self._pickle.items
        if items is None:
            return None
        self._pickle = None
        if not all(isinstance(item, str) for item in items):
            raise self._error("sent numbers where names of files were expected")
        self._files = [FileEntry(str(item)) for item in items]
        self._step = self._done
        return FileListing(tuple(self._files))

    def _done(self) -> ReplyEvent | None:
        found = self._word(DONE)
        if found is None:
            return None
        if not found:
            raise self._error(f"sent no {DONE.decode()} behind the names of its files")
        return self._next_file()

    def _next_file(self) -> ReplyEvent:
        if not self._files:  # without any file the original sends neither MORE nor QUIT
            self._step = self._idle
            return Finished()
        self._step = self._head
        return FileBegins(self._files[0])

    def _head(self) -> ReplyEvent | None:
        head = self._data[self._position : self._position + _HEAD]
        self._boundary = detect_format(head)
        if self._boundary is not None:
            self._step = self._body
        elif len(head) == _HEAD:
            self._step = self._search
        return None

    def _body(self) -> ReplyEvent | None:
        assert self._boundary is not None
        position, state = self._boundary.advance(self._data, self._position)
        if state is BoundaryState.END:
            self._step = self._end
        elif state is BoundaryState.INVALID:
            self._step = self._search
        return self._chunk(position)

    def _end(self) -> ReplyEvent | None:
        """End the file here if the word follows."""
        found = self._word(self._end_word)
        if found is None:
            return None
        if not found:
            self._step = self._body
            return None
        return self._file_ends()

    def _search(self) -> ReplyEvent | None:
        """Go to the word in a file of unknown format, if what follows the word fits."""
        word = self._end_word
        position = self._data.find(word, self._position)
        if position < 0:
            return self._chunk(len(self._data) - _overlap(self._data[self._position :], word))
        if position > self._position:
            return self._chunk(position)
        fits = self._begins_next_file(self._data[position + len(word) : position + len(word) + _HEAD])
        if fits is None:
            return None
        if not fits:
            return self._chunk(position + 1)
        self._position += len(word)
        return self._file_ends()

    def _begins_next_file(self, following: bytes) -> bool | None:
        """Return whether the next file begins like this; None if more bytes are needed."""
        if len(self._files) == 1:
            return False if following else None  # nothing follows the last one: see conclude
        name = self._files[1].name.lower()
        if name.endswith(_JPEG_SUFFIXES):
            return following.startswith(_JPEG_START) if len(following) >= len(_JPEG_START) else None
        if name.endswith(_MP4_SUFFIXES):
            return detect_format(following) is not None if len(following) == _HEAD else None
        return True

    def _file_ends(self) -> ReplyEvent:
        del self._files[0]
        self._boundary = None
        self._step = self._next_file
        return FileEnds()

    # -- helpers ------------------------------------------------------------------------------------

    @property
    def _end_word(self) -> bytes:
        return MORE if len(self._files) > 1 else QUIT

    def _word(self, word: bytes) -> bool | None:
        """Go past the word; False if something else comes next, None if more bytes are needed."""
        rest = self._data[self._position : self._position + len(word)]
        if rest == word:
            self._position += len(word)
            return True
        return None if word.startswith(rest) else False

    def _chunk(self, end: int) -> ReplyEvent | None:
        data = memoryview(self._data)[self._position : end]
        self._position = end
        return FileBytes(data) if data else None

    def _error(self, text: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self._peer} {text}")


def _overlap(data: bytes, word: bytes) -> int:
    """Return how many bytes of the word may be at the end of the data."""
    return next((size for size in range(len(word) - 1, 0, -1) if data.endswith(word[:size])), 0)


def _parse_framed(fields: Any) -> Busy | Ok | Refused | FileListing | Finished:
    match fields["answer"]:
        case "busy":
            return Busy()
        case "ok":
            ssrc = fields.get("ssrc")
            if ssrc is not None and (type(ssrc) is not int or not 0 <= ssrc < 1 << 32):
                raise ValueError(ssrc)
            return Ok(ssrc)
        case "finished":
            return Finished()
        case "refused":
            kind, reason = fields["kind"], fields["reason"]
            if kind not in get_args(RefusalKind) or not isinstance(reason, str):
                raise ValueError(kind)
            return Refused(kind, reason)
        case "files":
            files = tuple(map(_parse_entry, fields["files"]))
            if len(files) > MAX_ITEMS:
                raise ValueError(len(files))
            return FileListing(files)
        case other:
            raise ValueError(other)


def _parse_entry(fields: Any) -> FileEntry:
    name, size = fields["name"], fields["size"]
    if not isinstance(name, str) or type(size) is not int or not 0 <= size <= _MAX_SIZE:
        raise ValueError(fields)
    return FileEntry(name, size)
