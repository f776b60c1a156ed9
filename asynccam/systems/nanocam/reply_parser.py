"""A client's reader of answers, without I/O: the original's words and files, and our own framed ones.

See docs/protocols/nanocam.md, "Answers".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_args

from asynccam.errors import RemoteProtocolError
from asynccam.net.framing import LENGTH_SIZE
from asynccam.outside import read_json
from asynccam.systems.nanocam.media_end import HEAD, JPEG_START, Walker, Way, recognise
from asynccam.systems.nanocam.safe_pickle import MAX_ITEMS, PickleReader
from asynccam.systems.nanocam.wire_answers import (
    BUSY,
    DONE,
    MORE,
    OK,
    QUIT,
    Busy,
    FileEntry,
    FileList,
    Finished,
    Ok,
    RefusalKind,
    Refused,
)

MAX_FRAME: Final = 1 << 20
"""Bytes of a framed answer: a list of `MAX_ITEMS` names."""
_MAX_SIZE: Final = 1 << 50
_PICKLE_STARTS: Final = frozenset(b"\x80](")
_WORDS: Final[tuple[tuple[bytes, Busy | Ok], ...]] = ((BUSY, Busy()), (OK, Ok()))
_JPEG_SUFFIXES: Final = (".jpg", ".jpeg")
_MP4_SUFFIXES: Final = (".mp4", ".mov", ".m4v")


@dataclass(frozen=True, slots=True)
class FileBegins:
    """The bytes of this file follow."""

    file: FileEntry


@dataclass(frozen=True, slots=True)
class FileData:
    """The next bytes of the file."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class FileEnds:
    """The file is complete."""


ReplyEvent = Busy | Ok | Refused | FileList | FileBegins | FileData | FileEnds | Finished


class ReplyReader:
    """Reads all answers of one connection, cut anywhere, whichever kind of server sends them.

    It holds back a few bytes at most: memory does not grow with a file.

    Args:
        peer: Who answers, for errors.

    Attributes:
        framed: Whether the server was heard to speak our own variant; None before the first answer.
    """

    def __init__(self, *, peer: str = "the server") -> None:
        self.framed: bool | None = None
        self._peer = peer
        self._data = b""
        self._place = 0
        self._step: Callable[[], ReplyEvent | None] = self._between
        self._failure: RemoteProtocolError | None = None
        self._pickle: PickleReader | None = None
        self._files: list[FileEntry] = []
        self._walker: Walker | None = None
        self._missing = 0

    @property
    def between(self) -> bool:
        """Whether no answer has begun that is not complete."""
        return self._step == self._between and self._place == len(self._data)

    @property
    def bulk(self) -> int:
        """Bytes that come next and certainly belong to the file, whatever they hold.

        They may be taken past this reader, which is then told by `skip`.
        """
        if self._place < len(self._data):
            return 0
        if self._step == self._sized:
            return self._missing
        return self._walker.bulk if self._walker is not None and self._step == self._body else 0

    @property
    def may_be_over(self) -> bool:
        """Whether the answer is complete if nothing more comes.

        So it is with a last file that does not tell where it ends: its end is `QUIT`, and silence.
        """
        return (
            self._step in (self._head, self._search)
            and len(self._files) == 1
            and self._data.endswith(QUIT)
            and len(self._data) - self._place >= len(QUIT)
        )

    def feed(self, data: bytes) -> list[ReplyEvent]:
        """Take what was received, and give what it holds.

        What came before a fault is given first; the fault is raised by the next call.

        Raises:
            RemoteProtocolError: The server breaks the protocol; the connection is of no more use.
        """
        if self._failure is not None:
            raise self._failure
        self._data = self._data[self._place :] + data if self._place < len(self._data) else data
        self._place = 0
        events: list[ReplyEvent] = []
        try:
            while True:
                step = self._step
                event = step()
                if event is not None:
                    events.append(event)
                elif step == self._step:
                    break  # more bytes are needed
        except RemoteProtocolError as error:
            self._failure = error
            if not events:
                raise
        return events

    def skip(self, count: int) -> None:
        """Learn that ``count`` bytes, not more than `bulk`, were taken past this reader."""
        assert count <= self.bulk
        if self._step == self._sized:
            self._missing -= count
        elif self._walker is not None:
            self._walker.bulk -= count

    def conclude(self) -> list[ReplyEvent]:
        """Learn that nothing more comes: the server has fallen silent, or closed.

        Returns:
            The end of an answer that `may_be_over`, else nothing.

        Raises:
            RemoteProtocolError: A fault was still to be told.
        """
        if self._failure is not None:
            raise self._failure
        if not self.may_be_over:
            return []
        rest = memoryview(self._data)[self._place : -len(QUIT)]
        self._place = len(self._data)
        self._files.clear()
        self._step = self._between
        return [*([FileData(rest)] if rest else []), FileEnds(), Finished()]

    # -- between answers ----------------------------------------------------------------------------

    def _between(self) -> ReplyEvent | None:
        rest = self._data[self._place : self._place + len(BUSY)]
        if not rest:
            return None
        if rest[0] == 0:
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
                self._place += len(word)
                return event
            if word.startswith(rest):
                return None
        raise self._broken(f"answered {rest!r}")

    # -- our own variant ----------------------------------------------------------------------------

    def _frame(self) -> ReplyEvent | None:
        start = self._place + LENGTH_SIZE
        length = int.from_bytes(self._data[self._place : start].ljust(LENGTH_SIZE, b"\0"), "big")
        if length > MAX_FRAME:
            raise self._broken(f"announced an answer of {length} bytes")
        if len(self._data) < start + length:
            return None
        document = self._data[start : start + length]
        self._place = start + length
        self._step = self._between
        self.framed = True
        try:
            fields = read_json(document, lenient=True)
            event = _framed(fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._broken(f"sent an answer that makes no sense: {document[:80]!r}") from None
        if isinstance(event, FileList):
            self._files = list(event.files)
            self._step = self._next_sized
        return event

    def _next_sized(self) -> ReplyEvent | None:
        if not self._files:
            self._step = self._between
            return None
        self._missing = self._files[0].size or 0
        self._step = self._sized
        return FileBegins(self._files[0])

    def _sized(self) -> ReplyEvent | None:
        if not self._missing:
            del self._files[0]
            self._step = self._next_sized
            return FileEnds()
        count = min(self._missing, len(self._data) - self._place)
        self._missing -= count
        return self._pass_on(self._place + count)

    # -- the original's files -----------------------------------------------------------------------

    def _names(self) -> ReplyEvent | None:
        assert self._pickle is not None
        rest = self._pickle.feed(self._data[self._place :])
        self._place = len(self._data) - len(rest)
        items = self._pickle.items
        if items is None:
            return None
        self._pickle = None
        if not all(isinstance(item, str) for item in items):
            raise self._broken("sent numbers where names of files were expected")
        self._files = [FileEntry(str(item)) for item in items]
        self._step = self._done
        return FileList(tuple(self._files))

    def _done(self) -> ReplyEvent | None:
        found = self._word(DONE)
        if found is None:
            return None
        if not found:
            raise self._broken(f"sent no {DONE.decode()} behind the names of its files")
        self._step = self._first
        return None

    def _first(self) -> ReplyEvent | None:
        if not self._files:  # the original says neither more nor quit
            self._step = self._between
            return Finished()
        self._step = self._head
        return FileBegins(self._files[0])

    def _head(self) -> ReplyEvent | None:
        head = self._data[self._place : self._place + HEAD]
        self._walker = recognise(head)
        if self._walker is not None:
            self._step = self._body
        elif len(head) == HEAD:
            self._step = self._search
        return None

    def _body(self) -> ReplyEvent | None:
        assert self._walker is not None
        place, way = self._walker.walk(self._data, self._place)
        if way is Way.END:
            self._step = self._end
        elif way is Way.LOST:
            self._step = self._search
        return self._pass_on(place)

    def _end(self) -> ReplyEvent | None:
        """Where the file may end: it does if the word follows."""
        found = self._word(self._expected)
        if found is None:
            return None
        if not found:
            self._step = self._body
            return None
        return self._file_ends()

    def _search(self) -> ReplyEvent | None:
        """A file that does not tell where it ends: up to the word, if what follows the word fits."""
        word = self._expected
        place = self._data.find(word, self._place)
        if place < 0:
            return self._pass_on(len(self._data) - _overlap(self._data[self._place :], word))
        if place > self._place:
            return self._pass_on(place)
        fits = self._fits(self._data[place + len(word) : place + len(word) + HEAD])
        if fits is None:
            return None
        if not fits:
            return self._pass_on(place + 1)
        self._place += len(word)
        return self._file_ends()

    def _fits(self, following: bytes) -> bool | None:
        """Whether the next file begins like this; None if that cannot be said yet."""
        if len(self._files) == 1:
            return False if following else None  # nothing follows the last one: see conclude
        name = self._files[1].name.lower()
        if name.endswith(_JPEG_SUFFIXES):
            return following.startswith(JPEG_START) if len(following) >= len(JPEG_START) else None
        if name.endswith(_MP4_SUFFIXES):
            return recognise(following) is not None if len(following) == HEAD else None
        return True

    def _file_ends(self) -> ReplyEvent:
        del self._files[0]
        self._walker = None
        self._step = self._following
        return FileEnds()

    def _following(self) -> ReplyEvent | None:
        if not self._files:
            self._step = self._between
            return Finished()
        self._step = self._head
        return FileBegins(self._files[0])

    # -- within -------------------------------------------------------------------------------------

    @property
    def _expected(self) -> bytes:
        return MORE if len(self._files) > 1 else QUIT

    def _word(self, word: bytes) -> bool | None:
        """Whether the word comes next, and past it if so; None if it is not all there."""
        rest = self._data[self._place : self._place + len(word)]
        if rest == word:
            self._place += len(word)
            return True
        return None if word.startswith(rest) else False

    def _pass_on(self, place: int) -> ReplyEvent | None:
        data = memoryview(self._data)[self._place : place]
        self._place = place
        return FileData(data) if data else None

    def _broken(self, what: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self._peer} {what}")


def _overlap(data: bytes, word: bytes) -> int:
    """How many bytes of the word may have come at the end of the data."""
    return next((size for size in range(len(word) - 1, 0, -1) if data.endswith(word[:size])), 0)


def _framed(fields: Any) -> Busy | Ok | Refused | FileList | Finished:
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
            files = tuple(map(_entry, fields["files"]))
            if len(files) > MAX_ITEMS:
                raise ValueError(len(files))
            return FileList(files)
        case other:
            raise ValueError(other)


def _entry(fields: Any) -> FileEntry:
    name, size = fields["name"], fields["size"]
    if not isinstance(name, str) or type(size) is not int or not 0 <= size <= _MAX_SIZE:
        raise ValueError(fields)
    return FileEntry(name, size)
