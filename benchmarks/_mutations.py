"""Changes to a file or message that a hostile or broken peer might make."""

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

_LARGEST: Final = 1 << 17
"""Bytes of a case; cases that grow beyond are cut."""
_NUMBERS: Final = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
_TEXTS: Final = (
    "\ud800",
    "a\udfffb",
    "\0",
    "\x1b[2J",
    "\u202e",
    "../../x",
    "/etc/passwd",
    "http://[::1",
    "NaN",
    "9" * 400,
    "-0",
    "",
    " ",
    "x" * 5000,
    "٣",
    "1e999",
    "null",
)
_VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63,
    2**64,
    10**400,
    -(10**400),
    0.0,
    -0.0,
    1e308,
    5e-324,
    [],
    {},
    [[]],
    [None],
    {"": ""},
    *_TEXTS,
)
_RAW_JSON: Final = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b'"\\ud800"',
    b'"\\u0000"',
    b"[" * 300,
    b'{"a":' * 300,
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"{}{}",
    b"\0",
    b"\n",
)

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def _flip(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set_bytes(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        at, length = chance.randrange(len(data)), chance.choice((1, 2, 4, 64))
        data[at : at + length] = bytes([chance.choice((0, 0xFF, 0x47, 0x80, chance.randrange(256)))]) * length


def _set_number(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        width = chance.choice((1, 2, 3, 4, 8))
        number = chance.choice((*_NUMBERS, len(data), len(data) + 1, chance.getrandbits(width * 8)))
        at = chance.randrange(len(data))
        order = chance.choice(("big", "little"))
        data[at : at + width] = (number & ((1 << width * 8) - 1)).to_bytes(width, order)  # type: ignore[arg-type]


def _cut(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        at = chance.randrange(len(data))
        if chance.random() < 0.5:
            del data[at:]
        else:
            del data[at : at + chance.choice((1, 2, 4, 188, 1000))]


def _repeat(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        at = chance.randrange(len(data))
        piece = data[at : at + chance.choice((1, 4, 16, 200, 4000))]
        data[at:at] = piece * chance.choice((1, 1, 2, 20))


def _insert(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.randbytes(chance.choice((1, 2, 8, 100)))


def _splice(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    if other and data:
        begin, at = chance.randrange(len(other)), chance.randrange(len(data))
        data[at : at + chance.choice((0, 16, 1000))] = other[begin : begin + chance.choice((4, 64, 2000))]


def _move(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if len(data) > 1:
        at, to, length = (
            chance.randrange(len(data)),
            chance.randrange(len(data)),
            chance.choice((4, 8, 188, 1024)),
        )
        piece = data[at : at + length]
        del data[at : at + length]
        data[to:to] = piece


_OF_BYTES: Final[tuple[Mutation, ...]] = (
    _flip,
    _set_bytes,
    _set_number,
    _cut,
    _repeat,
    _insert,
    _splice,
    _move,
)


def _raw_json(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    data[at : at + chance.choice((0, 1, 4))] = chance.choice(_RAW_JSON)


def mutated(chance: random.Random, seeds: Sequence[bytes], *, text: bool) -> bytes:
    """Return one of the seeds, changed once or a few times.

    Args:
        chance: Where every choice comes from.
        seeds: Cases to begin from.
        text: Change values of JSON and characters too.
    """
    data = bytearray(chance.choice(seeds))
    if text and chance.random() < 0.6:
        changed = _changed_json(chance, bytes(data))
        if changed is not None:
            data = bytearray(changed)
            if chance.random() < 0.7:
                return bytes(data[:_LARGEST])
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        mutation = _raw_json if text and chance.random() < 0.3 else chance.choice(_OF_BYTES)
        mutation(chance, data, seeds)
    return bytes(data[:_LARGEST])


def _changed_json(chance: random.Random, data: bytes) -> bytes | None:
    """Return a document with some of its values exchanged, or None for what is no JSON."""
    begin = data.find(b"{")
    try:
        document = json.loads(data[max(begin, 0) :])
    except ValueError:
        return None
    for _ in range(chance.choice((1, 1, 2, 5))):
        document = _exchange(chance, document)
    ascii_only = chance.random() < 0.7
    return json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


def _exchange(chance: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        what = chance.random()
        if what < 0.1:
            del value[key]
        elif what < 0.2:
            value[chance.choice(_TEXTS)] = copy.deepcopy(value[key])
        else:
            value[key] = _exchange(chance, value[key])
        return value
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        if chance.random() < 0.1:
            value.extend(copy.deepcopy(value[at]) for _ in range(chance.choice((1, 50))))
        else:
            value[at] = _exchange(chance, value[at])
        return value
    if isinstance(value, str) and chance.random() < 0.5:
        at = chance.randrange(len(value) + 1)
        return value[:at] + chance.choice(_TEXTS) + value[at:]
    return copy.deepcopy(chance.choice(_VALUES))
