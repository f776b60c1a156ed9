"""Where in a JSON document each value stands, so that an error can be shown at its line."""

import json
import math
import re
from collections.abc import Mapping
from typing import Final

from asynccam.outside import is_bounded

Path = tuple[str | int, ...]
"""Keys and indices from the document's top down to a value."""

_BLANK: Final = " \t\r\n"
_END: Final = ",]} \t\r\n"
_MAX_DEPTH: Final = 50
_MOST_DIGITS: Final = 20
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, both from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def offsets(text: str) -> Mapping[Path, int]:
    """The offset of every value in a document that `json.loads` has accepted; ``()`` is the whole."""
    found: dict[Path, int] = {}
    _value(text, _skip(text, 0), (), found)
    return found


def offset_of(path: Path, found: Mapping[Path, int]) -> int:
    """Where a value stands; for one that is missing, what should hold it."""
    while path not in found:
        path = path[:-1]
    return found[path]


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _value(text: str, at: int, path: Path, found: dict[Path, int]) -> int:
    """Note a value and all below it; the offset behind it."""
    found[path] = at
    if text[at] == "{":
        return _members(text, at, path, found)
    if text[at] == "[":
        return _items(text, at, path, found)
    if text[at] == '"':
        return _string_end(text, at)
    while at < len(text) and text[at] not in _END:
        at += 1
    return at


def _string_end(text: str, at: int) -> int:
    match = _STRING.match(text, at)
    assert match is not None  # json.loads has accepted it
    return match.end()


def _members(text: str, at: int, path: Path, found: dict[Path, int]) -> int:
    at = _skip(text, at + 1)
    while text[at] != "}":
        if text[at] == ",":
            at = _skip(text, at + 1)
        end = _string_end(text, at)
        key = str(json.loads(text[at:end]))
        at = _skip(text, _skip(text, end) + 1)
        at = _skip(text, _value(text, at, (*path, key), found))
    return at + 1


def _items(text: str, at: int, path: Path, found: dict[Path, int]) -> int:
    at = _skip(text, at + 1)
    index = 0
    while text[at] != "]":
        if text[at] == ",":
            at = _skip(text, at + 1)
        at = _skip(text, _value(text, at, (*path, index), found))
        index += 1
    return at + 1


def parse(text: str) -> object:
    """`json.loads` that takes only what can be written as JSON again, and read by everybody.

    Raises:
        ValueError: Not JSON; a `json.JSONDecodeError` says where. ``NaN``, ``Infinity`` and numbers beyond
            every float are none; nor is text that is no Unicode, nor what is nested deeper than 50 levels.
        RecursionError: Nested beyond all reason.
    """

    def refuse(word: str) -> object:
        raise json.JSONDecodeError(f"{word} is no JSON number", text, max(text.find(word), 0))

    def finite(word: str) -> float:
        number = float(word)
        if not math.isfinite(number):
            raise json.JSONDecodeError(f"{word} is too large a number", text, max(text.find(word), 0))
        return number

    def whole(word: str) -> int:
        number = int(word) if len(word) <= _MOST_DIGITS else None
        if number is None or not is_bounded(number):
            raise json.JSONDecodeError(f"{word[:20]}... is too large a number", text, max(text.find(word), 0))
        return number

    value: object = json.loads(text, parse_constant=refuse, parse_float=finite, parse_int=whole)
    _check(value)
    return value


def _check(value: object) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        below: list[object] = []
        for one in level:
            if isinstance(one, str):
                _check_text(one)
            elif isinstance(one, list):
                below += one
            elif isinstance(one, dict):
                below += [*one, *one.values()]
        if not below:
            return
        level = below
    raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(f"\\u{code:04x} alone is half a character, and no text") from None
