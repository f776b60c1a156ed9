"""Position of each value in a JSON document, to show an error at its line; and strict parsing of JSON."""

import json
import math
import re
from collections.abc import Mapping
from typing import Final

from asynccam.outside import is_bounded

Path = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

_BLANK: Final = " \t\r\n"
_END: Final = ",]} \t\r\n"
_MAX_DEPTH: Final = 50
_MAX_DIGITS: Final = 20
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of a character, both from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def offsets(text: str) -> Mapping[Path, int]:
    """Return the offset of every value of a valid document, by path; ``()`` is the whole."""
    found: dict[Path, int] = {}
    _value(text, _skip_blanks(text, 0), (), found)
    return found


def offset_of(path: Path, found: Mapping[Path, int]) -> int:
    """Return the offset of a value; of a missing one, that of its parent."""
    while path not in found:
        path = path[:-1]
    return found[path]


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _value(text: str, at: int, path: Path, found: dict[Path, int]) -> int:
    """Record a value and all below it; return the offset after it."""
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
    assert match is not None  # valid JSON
    return match.end()


def _members(text: str, at: int, path: Path, found: dict[Path, int]) -> int:
    at = _skip_blanks(text, at + 1)
    while text[at] != "}":
        if text[at] == ",":
            at = _skip_blanks(text, at + 1)
        end = _string_end(text, at)
        key = str(json.loads(text[at:end]))
        at = _skip_blanks(text, _skip_blanks(text, end) + 1)
        at = _skip_blanks(text, _value(text, at, (*path, key), found))
    return at + 1


def _items(text: str, at: int, path: Path, found: dict[Path, int]) -> int:
    at = _skip_blanks(text, at + 1)
    index = 0
    while text[at] != "]":
        if text[at] == ",":
            at = _skip_blanks(text, at + 1)
        at = _skip_blanks(text, _value(text, at, (*path, index), found))
        index += 1
    return at + 1


def parse(text: str) -> object:
    """Parse JSON, and refuse what other programs could not read again.

    Raises:
        ValueError: Not JSON (a `json.JSONDecodeError` says where); or it contains ``NaN``, ``Infinity``, a
        number
            out of range, text that is not Unicode, or more than 50 levels.
        RecursionError: Too many levels.
    """

    def refuse(word: str) -> object:
        raise json.JSONDecodeError(f"{word} is not a JSON number", text, max(text.find(word), 0))

    def finite(word: str) -> float:
        number = float(word)
        if not math.isfinite(number):
            raise json.JSONDecodeError(f"{word} is too large a number", text, max(text.find(word), 0))
        return number

    def whole(word: str) -> int:
        number = int(word) if len(word) <= _MAX_DIGITS else None
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
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, list):
                below += item
            elif isinstance(item, dict):
                below += [*item, *item.values()]
        if not below:
            return
        level = below
    raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(f"\\u{code:04x} is a lone surrogate, which is not text") from None
