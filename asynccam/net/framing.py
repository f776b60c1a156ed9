"""Messages of a byte stream that may be cut anywhere: JSON objects, bare or with a length before them.

`ObjectScanner` finds the end of a JSON object by its brackets and strings only, so that the work is linear in
the bytes. Whether the object is valid JSON is left to the parser. `FrameReader` cuts a stream into messages.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from asynccam.errors import RemoteProtocolError

MAX_DEPTH: Final = 200
"""Deeper nesting is refused here, before a parser has to."""

# Possessive, so that nothing is tried twice: up to the next bracket, or to a string that is not over.
_TO_BRACKET: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_OPENING: Final = frozenset(b"{[")
_QUOTE: Final = ord('"')


class ObjectScanner:
    """Finds the end of one JSON object in a growing buffer; each object needs a new scanner."""

    __slots__ = ("_depth", "_in_string", "_position", "peer")

    def __init__(self, *, peer: str = "the peer") -> None:
        self.peer = peer
        self._position = 0
        self._depth = 0
        self._in_string = False

    def find_end(self, buffer: bytes | bytearray) -> int | None:
        """Return the end of the object that begins ``buffer``, or None if it is incomplete.

        Call it again with the same buffer, grown. Nesting over `MAX_DEPTH` is a `RemoteProtocolError`.
        """
        while self._position < len(buffer):
            if self._in_string:
                self._advance(_IN_STRING, buffer)
                if buffer[self._position : self._position + 1] != b'"':
                    return None  # at the end, or before a backslash whose second half is missing
                self._in_string = False
                self._position += 1
            self._advance(_TO_BRACKET, buffer)
            if self._position == len(buffer):
                return None
            byte = buffer[self._position]
            self._position += 1
            if byte == _QUOTE:
                self._in_string = True
            elif byte in _OPENING:
                self._depth += 1
                if self._depth > MAX_DEPTH:
                    raise RemoteProtocolError(f"{self.peer} sent JSON nested more than {MAX_DEPTH} deep")
            else:
                self._depth -= 1
                if self._depth == 0:
                    return self._position
        return None

    def _advance(self, pattern: re.Pattern[bytes], buffer: bytes | bytearray) -> None:
        match = pattern.match(buffer, self._position)
        assert match is not None, "both patterns match the empty string"
        self._position = match.end()


Event = TypeVar("Event")


class EventReader(ABC, Generic[Event]):
    """Returns the events before an error first and raises the error next, so that cuts change nothing."""

    def __init__(self) -> None:
        self._failure: RemoteProtocolError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that received bytes complete.

        Events before a `RemoteProtocolError`, which ends the connection, come first; the next call raises it.
        """
        self._raise_failure()
        events: list[Event] = []
        try:
            self._receive(data)
            while (event := self._next_event()) is not None:
                events.append(event)
        except RemoteProtocolError as error:
            self._failure = error
            if not events:
                raise
        return events

    @abstractmethod
    def _receive(self, data: bytes) -> None:
        """Add received bytes."""

    @abstractmethod
    def _next_event(self) -> Event | None:
        """Return the next event, or None if it is incomplete."""

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


LENGTH_SIZE: Final = 4
_BRACE: Final = ord("{")
_WHITESPACE: Final = re.compile(rb"[ \t\r\n]*+")
_NULS: Final = re.compile(rb"\0*+")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: its bytes without the length, and whether it had a length."""

    document: bytes
    prefixed: bool


def encode_frame(document: bytes) -> bytes:
    """Return ``document`` with its length before it."""
    return len(document).to_bytes(LENGTH_SIZE, "big") + document


class FrameReader:
    """Cuts a stream into messages of up to ``max_size`` bytes; ``peer`` is named in errors.

    White space before a message, and NULs after a bare object, are ignored.
    """

    def __init__(self, *, max_size: int, peer: str = "the peer") -> None:
        self._max_size = max_size
        self._peer = peer
        self._buffer = bytearray()
        self._scanner: ObjectScanner | None = None
        self._after_bare = False

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """Return the next message, or None if it is incomplete.

        Raises `RemoteProtocolError` for one that is too large, empty or nested too deep. The next message
        cannot be found then, so the stream is unusable.
        """
        if self._scanner is None and not self._skip_padding():
            return None
        return self._next_bare() if self._buffer[0] == _BRACE else self._next_prefixed()

    def take_remaining(self) -> bytes:
        """Return and remove the bytes after the last message."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _next_bare(self) -> Frame | None:
        self._scanner = self._scanner or ObjectScanner(peer=self._peer)
        end = self._scanner.find_end(self._buffer)
        self._check_size(end or len(self._buffer))
        if end is None:
            return None
        self._scanner = None
        self._after_bare = True
        return Frame(self._cut(end), prefixed=False)

    def _next_prefixed(self) -> Frame | None:
        # Missing bytes count as 0, for the smallest possible length: garbage is refused at once.
        length = int.from_bytes(self._buffer[:LENGTH_SIZE].ljust(LENGTH_SIZE, b"\0"), "big")
        self._check_size(length)
        if len(self._buffer) < LENGTH_SIZE:
            return None
        if length == 0:
            raise RemoteProtocolError(f"{self._peer} announced an empty message")
        if len(self._buffer) < LENGTH_SIZE + length:
            return None
        self._cut(LENGTH_SIZE)
        self._after_bare = False
        return Frame(self._cut(length), prefixed=True)

    def _check_size(self, size: int) -> None:
        if size > self._max_size:
            raise RemoteProtocolError(
                f"{self._peer} sent or announced a message of {size} bytes; the limit is {self._max_size}"
            )

    def _cut(self, size: int) -> bytes:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece

    def _skip_padding(self) -> bool:
        """Drop what is allowed before a message; return whether a message begins there."""
        while True:
            self._drop(_WHITESPACE, keep=0)
            if not self._buffer or self._buffer[0] != 0 or not self._after_bare:
                return bool(self._buffer)
            # NULs may end a bare object, or begin a length (three of them at most). A message begins with a
            # brace, so what follows decides.
            self._drop(_NULS, keep=LENGTH_SIZE - 1)
            if len(self._buffer) <= LENGTH_SIZE:
                return False
            length = int.from_bytes(self._buffer[:LENGTH_SIZE], "big")
            if self._buffer[LENGTH_SIZE] == _BRACE and 2 <= length <= self._max_size:
                return True
            del self._buffer[0]

    def _drop(self, pattern: re.Pattern[bytes], *, keep: int) -> None:
        match = pattern.match(self._buffer)
        assert match is not None, "a pattern that matches the empty string"
        size = match.end() - keep
        del match  # it exports the buffer, which cannot shrink meanwhile
        if size > 0:
            del self._buffer[:size]
