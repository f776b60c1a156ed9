"""Find where a JSON object ends in a stream of bytes that may be cut anywhere.

Only brackets and strings are looked at, so that the work is linear in the bytes however they are cut;
whether what lies between is JSON is left to the parser that gets the whole object.
"""

import re
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
