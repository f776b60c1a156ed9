"""Find where a JSON object ends in a stream of bytes that may be cut anywhere.

Only brackets and strings are looked at, so that the work is linear in the bytes however they are cut;
whether what lies between is JSON is left to the parser that gets the whole object.
"""

import re
from dataclasses import dataclass
from typing import Final

from asynccam.errors import RemoteProtocolError

MAX_DEPTH: Final = 200
"""Deeper nesting is refused here, before a parser has to."""

# Possessive, so that nothing is tried twice: up to the next bracket, or to a string that is not over.
_TO_BRACKET: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_OPENING: Final = frozenset(b"{[")
_QUOTE: Final = ord('"')


class ObjectScanner:
    """Follows one JSON object through a growing buffer; each object needs a new scanner.

    Attributes:
        peer: Who sends it, for errors.
    """

    __slots__ = ("_depth", "_in_string", "_position", "peer")

    def __init__(self, *, peer: str = "the peer") -> None:
        self.peer = peer
        self._position = 0
        self._depth = 0
        self._in_string = False

    def find_end(self, buffer: bytes | bytearray) -> int | None:
        """Where the object that begins ``buffer`` ends, or None as long as its end is not there.

        Call it again with the same buffer, grown: it goes on from where it was.

        Raises:
            RemoteProtocolError: The object is nested more than `MAX_DEPTH` deep.
        """
        while self._position < len(buffer):
            if self._in_string:
                self._advance(_IN_STRING, buffer)
                if buffer[self._position : self._position + 1] != b'"':
                    return None  # at the end, or before a backslash whose other half is to come
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


LENGTH_SIZE: Final = 4
_BRACE: Final = ord("{")
_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_NULS: Final = re.compile(rb"\0*+")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message.

    Attributes:
        document: Its bytes, without the length.
        prefixed: Whether a length stood before it.
    """

    document: bytes
    prefixed: bool


def encode_frame(document: bytes) -> bytes:
    """``document`` with its length before it."""
    return len(document).to_bytes(LENGTH_SIZE, "big") + document


class FrameReader:
    """Cuts a stream into its messages, however it was cut on the way.

    Blanks and line ends before a message, and NULs after a bare object, are passed over.

    Args:
        max_size: Bytes one message may have.
        peer: Who sends them, for errors.
    """

    def __init__(self, *, max_size: int, peer: str = "the peer") -> None:
        self._max_size = max_size
        self._peer = peer
        self._buffer = bytearray()
        self._scanner: ObjectScanner | None = None
        self._after_bare = False

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next message, or None if it is not complete.

        Raises:
            RemoteProtocolError: A message is too large, empty, or nested too deep. There is no way to
                find the next one, so the stream is of no more use.
        """
        if self._scanner is None and not self._skip_padding():
            return None
        return self._next_bare() if self._buffer[0] == _BRACE else self._next_prefixed()

    def take_rest(self) -> bytes:
        """Hand over what was received after the last message, and forget it."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def eof(self) -> None:
        """Tell that the stream has ended.

        Raises:
            RemoteProtocolError: It ended inside a message.
        """
        if self._buffer.strip(b" \t\r\n\0" if self._after_bare else b" \t\r\n"):
            raise RemoteProtocolError(
                f"{self._peer} ended the stream inside a message, after {len(self._buffer)} bytes of it"
            )

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
        # With bytes still missing this is the least the length can be: garbage is refused at once.
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
        """Drop what may stand before a message; whether one begins there now."""
        while True:
            self._drop(_BLANKS, keep=0)
            if not self._buffer or self._buffer[0] != 0 or not self._after_bare:
                return bool(self._buffer)
            # NULs may end a bare object, and begin a length (three of them at most): which of the two
            # shows in what follows, as a message begins with a brace.
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
        del match  # it holds the buffer, which cannot shrink meanwhile
        if size > 0:
            del self._buffer[:size]
