"""Reader for the one pickle of the protocol, a list of file names; it never runs the pickle.

A pickle is a program. This machine knows only the opcodes that make a flat list of text and integers. It
refuses every other one by name before it looks at the argument, so nothing is imported, called or built. See
docs/protocols/nanocam.md, "Answers".
"""

import pickletools
import re
import struct
from collections.abc import Sequence
from typing import Final

from asynccam.errors import RemoteProtocolError

MAX_PICKLE: Final = 1 << 20
"""Maximum bytes of a list of names."""
MAX_ITEMS: Final = 10_000
"""Maximum names in a list."""
MAX_STEPS: Final = 8 * MAX_ITEMS
"""Maximum opcodes of one pickle: a few for each name."""
_MAX_PROTOCOL: Final = 5
_MAX_LONG: Final = 8
"""Maximum bytes of an integer; sizes and counts need no more."""

_ALLOWED: Final = {
    *("PROTO", "FRAME", "MARK", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "STOP"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
}
_OPCODES: Final = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_LENGTH_SIZES: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_INTEGER: Final = re.compile(rb"-?(0|[1-9][0-9]{0,18})")
_QUOTED: Final = re.compile(rb"""(['"])(?:[^\\]|\\[\\'"nrt]|\\x[0-9a-fA-F]{2})*\1""")
"""String as Python 2 writes it; it uses no other escapes."""
_MARK: Final = object()

Item = str | int


def write_names(names: Sequence[str]) -> bytes:
    """Return a pickle (protocol 2) of a list of text, as the original server sends it."""
    items = (text.encode() for text in names)
    body = b"".join(b"X" + struct.pack("<I", len(text)) + text for text in items)
    return b"\x80\x02](" + body + b"e."


class PickleReader:
    """Reads one pickle, cut anywhere."""

    def __init__(self, *, peer: str = "the server") -> None:
        self.items: list[Item] | None = None  # None until the list is complete
        self._peer = peer
        self._buffer = bytearray()
        self._position = 0
        self._searched = 0
        self._steps = 0
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def feed(self, data: bytes | memoryview) -> bytes:
        """Add data; return what follows the pickle once it is complete, until then nothing."""
        self._buffer += data
        while self.items is None:
            if not self._step():
                # Only an incomplete opcode may be held back, so a flood ends here.
                if len(self._buffer) > MAX_PICKLE:
                    raise self._refused(f"it is longer than {MAX_PICKLE} bytes")
                return b""
        rest = bytes(self._buffer[self._position :])
        self._buffer.clear()
        return rest

    def _step(self) -> bool:
        """Execute one opcode; return False if its bytes are incomplete."""
        start = self._position
        if start >= len(self._buffer):
            return False
        if start >= MAX_PICKLE:
            raise self._refused(f"it is longer than {MAX_PICKLE} bytes")
        if self._steps >= MAX_STEPS:
            raise self._refused(f"it has more than {MAX_STEPS} instructions")
        code = self._buffer[start]
        opcode = _OPCODES.get(code)
        if opcode is None or opcode.name not in _ALLOWED:
            raise self._refused(f"it holds {opcode.name if opcode else f'the unknown opcode {code:#04x}'}")
        self._position = start + 1
        argument = self._argument(opcode.arg.n if opcode.arg is not None else 0)
        if argument is None:
            self._position = start
            return False
        self._steps += 1
        try:
            self._execute(opcode.name, argument)
        except (IndexError, KeyError):
            raise self._refused("it uses an item that it has not made") from None
        except UnicodeError:
            raise self._refused("it holds text that cannot be decoded") from None
        return True

    # -- arguments: their bytes, or None if they are incomplete ---------------------------------------

    def _argument(self, size: int) -> bytes | None:
        if size == pickletools.UP_TO_NEWLINE:
            return self._line()
        if size in _LENGTH_SIZES:
            length = self._bytes(_LENGTH_SIZES[size])
            return None if length is None else self._bytes(int.from_bytes(length, "little"))
        return self._bytes(size)

    def _bytes(self, count: int) -> bytes | None:
        end = self._position + count
        if end > MAX_PICKLE:
            raise self._refused(f"it is longer than {MAX_PICKLE} bytes")
        if end > len(self._buffer):
            return None
        found = bytes(self._buffer[self._position : end])
        self._position = end
        return found

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", max(self._position, self._searched))
        if end < 0:
            self._searched = len(self._buffer)  # so that a line that arrives byte by byte costs no more
            return None
        found = bytes(self._buffer[self._position : end])
        self._position = end + 1
        return found

    # -- opcodes ------------------------------------------------------------------------------------

    def _execute(self, name: str, argument: bytes) -> None:
        match name:
            case "PROTO":
                if argument[0] > _MAX_PROTOCOL:
                    raise self._refused(f"its protocol is {argument[0]}")
            case "FRAME":
                pass  # only a hint for readers of files
            case "MARK":
                self._stack.append(_MARK)
            case "EMPTY_LIST":
                self._stack.append([])
            case "LIST":
                items = self._pop_to_mark()
                self._stack.append([])
                self._extend(items)
            case "APPEND":
                item = self._stack.pop()
                self._extend([item])
            case "APPENDS":
                self._extend(self._pop_to_mark())
            case "STOP":
                result = self._stack.pop()
                if self._stack or not isinstance(result, list):
                    raise self._refused("it is not a list")
                self.items = result
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                if self._stack[-1] is _MARK:
                    raise self._refused("it uses an item that it has not made")
                index = len(self._memo) if name == "MEMOIZE" else self._index(name, argument)
                self._memo[index] = self._stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[self._index(name, argument)])
            case _:
                self._stack.append(self._value(name, argument))

    def _value(self, name: str, argument: bytes) -> Item:
        match name:
            case "UNICODE":
                text = argument.decode("raw-unicode-escape")
                text.encode()  # refuses a lone surrogate
                return text
            case "STRING":
                if not _QUOTED.fullmatch(argument):
                    raise self._refused("it holds text without quotes")
                return argument[1:-1].decode("unicode-escape").encode("latin-1").decode()
            case "INT" | "LONG":
                return self._decimal(argument.removesuffix(b"L"))  # the L of Python 2's long integers
            case "BININT1" | "BININT2":
                return int.from_bytes(argument, "little")
            case "BININT" | "LONG1":
                if len(argument) > _MAX_LONG:
                    raise self._refused(f"it holds an integer of {len(argument)} bytes")
                return int.from_bytes(argument, "little", signed=True)
            case _:
                return argument.decode()

    def _index(self, name: str, argument: bytes) -> int:
        return self._decimal(argument) if name in ("PUT", "GET") else int.from_bytes(argument, "little")

    def _decimal(self, digits: bytes) -> int:
        if not _INTEGER.fullmatch(digits):
            raise self._refused("it holds an integer that is not valid")
        return int(digits)

    def _pop_to_mark(self) -> list[object]:
        index = len(self._stack) - 1
        while self._stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise self._refused("it uses an item that it has not made")
        items = self._stack[index + 1 :]
        del self._stack[index:]
        return items

    def _extend(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise self._refused("it appends to an item that is not a list")
        if len(target) + len(items) > MAX_ITEMS:
            raise self._refused(f"it has more than {MAX_ITEMS} items")
        if not all(isinstance(item, Item) for item in items):
            raise self._refused("it holds a list in a list")
        target += items

    def _refused(self, reason: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self._peer} sent a pickle that is not read: {reason}")
