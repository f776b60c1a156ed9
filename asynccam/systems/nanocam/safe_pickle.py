"""The one pickle the protocol has, a list of file names, read without ever running it.

A pickle is a program. This is a machine for the few instructions that make a flat list of text and
integers; every other one is refused by name before its argument is looked at, so nothing is imported,
called or built. See docs/protocols/nanocam.md, "Answers".
"""

import pickletools
import re
import struct
from collections.abc import Callable, Sequence
from typing import Final

from asynccam.errors import RemoteProtocolError

MAX_PICKLE: Final = 1 << 20
"""Bytes of a list of names."""
MAX_ITEMS: Final = 10_000
"""Names in a list."""
MAX_STEPS: Final = 8 * MAX_ITEMS
"""Instructions of one pickle: a few for each name."""
_MAX_PROTOCOL: Final = 5
_MAX_LONG: Final = 8
"""Bytes of an integer; sizes and counts need no more."""

_INTEGER: Final = re.compile(rb"-?(0|[1-9][0-9]{0,18})")
_QUOTED: Final = re.compile(rb"""['"](?:[^\\]|\\[\\'"nrt]|\\x[0-9a-fA-F]{2})*['"]""")
"""What Python 2 writes for a string; other escapes it does not use."""
_MARK: Final = object()

Item = str | int


def write_names(names: Sequence[str]) -> bytes:
    """A pickle (protocol 2) of a list of text, as the original server sends it."""
    items = (text.encode() for text in names)
    body = b"".join(b"X" + struct.pack("<I", len(text)) + text for text in items)
    return b"\x80\x02](" + body + b"e."


class PickleReader:
    """Reads one pickle from bytes that come cut anywhere; each pickle needs a new reader.

    Attributes:
        items: The list, once it is complete, or None.
    """

    def __init__(self, *, peer: str = "the server") -> None:
        self.items: list[Item] | None = None
        self._peer = peer
        self._buffer = bytearray()
        self._position = 0
        self._searched = 0
        self._steps = 0
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take more bytes.

        Returns:
            What followed the pickle, once it is complete; until then nothing.

        Raises:
            RemoteProtocolError: It is no list of text and integers, or beyond the limits.
        """
        self._buffer += data
        while self.items is None:
            if not self._step():
                # Only an incomplete instruction may be held back, so a flood ends here.
                if len(self._buffer) > MAX_PICKLE:
                    raise self._refused(f"it is longer than {MAX_PICKLE} bytes")
                return b""
        rest = bytes(self._buffer[self._position :])
        self._buffer.clear()
        return rest

    def _step(self) -> bool:
        """Carry out one instruction; False if its bytes are not all there."""
        start = self._position
        if start >= len(self._buffer):
            return False
        if start >= MAX_PICKLE:
            raise self._refused(f"it is longer than {MAX_PICKLE} bytes")
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise self._refused(f"it has more than {MAX_STEPS} instructions")
        code = self._buffer[start : start + 1].decode("latin-1")
        instruction = _INSTRUCTIONS.get(code)
        if instruction is None:
            names = {one.code: one.name for one in pickletools.opcodes}
            raise self._refused(f"it holds {names.get(code, 'the unknown opcode ' + repr(code))}")
        take, act = instruction
        self._position = start + 1
        argument = take(self)
        if argument is None:
            self._position = start
            self._steps -= 1
            return False
        try:
            act(self, argument)
        except (IndexError, KeyError):
            raise self._refused("it uses what it has not made") from None
        except UnicodeError:
            raise self._refused("it holds text that is none") from None
        return True

    # -- arguments: their bytes, or None if they are not all there ----------------------------------

    def _bytes(self, count: int) -> bytes | None:
        end = self._position + count
        if end > MAX_PICKLE:
            raise self._refused(f"it is longer than {MAX_PICKLE} bytes")
        if end > len(self._buffer):
            return None
        found = bytes(self._buffer[self._position : end])
        self._position = end
        return found

    def _counted(self, width: int) -> bytes | None:
        count = self._bytes(width)
        return None if count is None else self._bytes(int.from_bytes(count, "little"))

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", max(self._position, self._searched))
        if end < 0:
            self._searched = len(self._buffer)  # so that a line that comes byte by byte costs no more
            return None
        found = bytes(self._buffer[self._position : end])
        self._position = end + 1
        return found

    # -- instructions -------------------------------------------------------------------------------

    def _protocol(self, argument: bytes) -> None:
        if argument[0] > _MAX_PROTOCOL:
            raise self._refused(f"its protocol is {argument[0]}")

    def _nothing(self, argument: bytes) -> None:
        """A frame's length: a hint for whoever reads files."""

    def _mark(self, argument: bytes) -> None:
        self._stack.append(_MARK)

    def _empty_list(self, argument: bytes) -> None:
        self._stack.append([])

    def _list(self, argument: bytes) -> None:
        self._stack.append(self._checked(self._above_mark()))

    def _append(self, argument: bytes) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _appends(self, argument: bytes) -> None:
        self._extend(self._above_mark())

    def _text(self, argument: bytes) -> None:
        self._stack.append(argument.decode())

    def _raw_text(self, argument: bytes) -> None:
        text = argument.decode("raw-unicode-escape")
        text.encode()  # halves of characters are no text
        self._stack.append(text)

    def _quoted(self, argument: bytes) -> None:
        """Python 2's text, as its source would have it."""
        if not _QUOTED.fullmatch(argument) or argument[-1:] != argument[:1]:
            raise self._refused("it holds text without quotes")
        self._stack.append(argument[1:-1].decode("unicode-escape").encode("latin-1").decode())

    def _little(self, argument: bytes) -> None:
        self._stack.append(int.from_bytes(argument, "little"))

    def _signed(self, argument: bytes) -> None:
        if len(argument) > _MAX_LONG:
            raise self._refused(f"it holds an integer of {len(argument)} bytes")
        self._stack.append(int.from_bytes(argument, "little", signed=True))

    def _decimal(self, argument: bytes) -> None:
        digits = argument.removesuffix(b"L")
        if not _INTEGER.fullmatch(digits):
            raise self._refused("it holds an integer that is none")
        self._stack.append(int(digits))

    def _memoize(self, argument: bytes) -> None:
        self._memo[len(self._memo)] = self._top()

    def _put(self, argument: bytes) -> None:
        self._memo[int.from_bytes(argument, "little")] = self._top()

    def _put_line(self, argument: bytes) -> None:
        self._memo[self._index(argument)] = self._top()

    def _get(self, argument: bytes) -> None:
        self._stack.append(self._memo[int.from_bytes(argument, "little")])

    def _get_line(self, argument: bytes) -> None:
        self._stack.append(self._memo[self._index(argument)])

    def _stop(self, argument: bytes) -> None:
        items = self._stack.pop()
        if self._stack or not isinstance(items, list):
            raise self._refused("it is no list")
        self.items = items

    # -- within -------------------------------------------------------------------------------------

    def _index(self, argument: bytes) -> int:
        if not _INTEGER.fullmatch(argument):
            raise self._refused("it holds an integer that is none")
        return int(argument)

    def _top(self) -> object:
        if self._stack[-1] is _MARK:
            raise self._refused("it uses what it has not made")
        return self._stack[-1]

    def _above_mark(self) -> list[object]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise self._refused("it uses what it has not made")
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items

    def _extend(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise self._refused("it appends to what is no list")
        if len(target) + len(items) > MAX_ITEMS:
            raise self._refused(f"it has more than {MAX_ITEMS} items")
        target += self._checked(items)

    def _checked(self, items: list[object]) -> list[Item]:
        found = [item for item in items if isinstance(item, Item)]
        if len(found) != len(items):
            raise self._refused("it holds a list in a list")
        if len(found) > MAX_ITEMS:
            raise self._refused(f"it has more than {MAX_ITEMS} items")
        return found

    def _refused(self, why: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self._peer} sent a pickle that is not read: {why}")


_Take = Callable[[PickleReader], bytes | None]
_Act = Callable[[PickleReader, bytes], None]


def _fixed(count: int) -> _Take:
    return lambda reader: reader._bytes(count)


def _counted(width: int) -> _Take:
    return lambda reader: reader._counted(width)


_LINE: Final[_Take] = PickleReader._line
_NO: Final[_Take] = _fixed(0)

_INSTRUCTIONS: Final[dict[str, tuple[_Take, _Act]]] = {
    "\x80": (_fixed(1), PickleReader._protocol),
    "\x95": (_fixed(8), PickleReader._nothing),
    "(": (_NO, PickleReader._mark),
    "]": (_NO, PickleReader._empty_list),
    "l": (_NO, PickleReader._list),
    "a": (_NO, PickleReader._append),
    "e": (_NO, PickleReader._appends),
    "V": (_LINE, PickleReader._raw_text),
    "X": (_counted(4), PickleReader._text),
    "\x8c": (_counted(1), PickleReader._text),
    "\x8d": (_counted(8), PickleReader._text),
    "S": (_LINE, PickleReader._quoted),
    "T": (_counted(4), PickleReader._text),
    "U": (_counted(1), PickleReader._text),
    "I": (_LINE, PickleReader._decimal),
    "L": (_LINE, PickleReader._decimal),
    "J": (_fixed(4), PickleReader._signed),
    "K": (_fixed(1), PickleReader._little),
    "M": (_fixed(2), PickleReader._little),
    "\x8a": (_counted(1), PickleReader._signed),
    "p": (_LINE, PickleReader._put_line),
    "q": (_fixed(1), PickleReader._put),
    "r": (_fixed(4), PickleReader._put),
    "\x94": (_NO, PickleReader._memoize),
    "g": (_LINE, PickleReader._get_line),
    "h": (_fixed(1), PickleReader._get),
    "j": (_fixed(4), PickleReader._get),
    ".": (_NO, PickleReader._stop),
}
"""How each instruction's argument is taken, and what it does. What is not here is refused."""
