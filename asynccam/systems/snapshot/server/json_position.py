"""Position of each value in a JSON document, to show an error at its line; and strict parsing of JSON."""

import json
import math
import re
from collections.abc import Mapping
from typing import Final

from asynccam.outside import is_bounded

Path = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

_BETWEEN: Final = re.compile(r"[ \t\r\n,:]*")
"""Blanks and separators, which need no check in a valid document."""
_DECODER: Final = json.JSONDecoder()
_MAX_DEPTH: Final = 50
_MAX_DIGITS: Final = 20


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of a character, both from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def offsets(text: str) -> Mapping[Path, int]:
    """Return the offset of every value of a valid document, by path; ``()`` is the whole."""
    found: dict[Path, int] = {}
    _record(text, _next_token(text, 0), (), found)
    return found


def offset_of(path: Path, found: Mapping[Path, int]) -> int:
    """Return the offset of a value; of a missing one, that of its parent."""
    while path not in found:
        path = path[:-1]
    return found[path]


def _record(text: str, at: int, path: Path, found: dict[Path, int]) -> int:
    """Record the value at an offset and all below it; return the offset after it."""
    found[path] = at
    if text[at] not in "{[":
        return _DECODER.raw_decode(text, at)[1]
    is_object = text[at] == "{"
    at, index = _next_token(text, at + 1), 0
    while text[at] not in "}]":
        step: str | int = index
        if is_object:
            step, at = _DECODER.raw_decode(text, at)
        at = _next_token(text, _record(text, _next_token(text, at), (*path, step), found))
        index += 1
    return at + 1


def _next_token(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    assert match is not None  # it also matches an empty text
    return match.end()


def parse(text: str) -> object:
    """Parse JSON, and refuse what other programs could not read again.

    Raises:
        ValueError: Not JSON (a `json.JSONDecodeError` says where); or it contains ``NaN``, ``Infinity``, a
            number out of range, text that is not Unicode, or more than 50 levels.
        RecursionError: Too many levels.
    """

    def invalid(word: str, message: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(message, text, max(text.find(word), 0))

    def refuse(word: str) -> object:
        raise invalid(word, f"{word} is not a JSON number")

    def finite(word: str) -> float:
        number = float(word)
        if not math.isfinite(number):
            raise invalid(word, f"{word} is too large a number")
        return number

    def whole(word: str) -> int:
        if len(word) > _MAX_DIGITS or not is_bounded(number := int(word)):
            raise invalid(word, f"{word[:20]}... is too large a number")
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
                try:
                    item.encode()
                except UnicodeEncodeError as error:
                    code = ord(item[error.start])
                    raise ValueError(f"\\u{code:04x} is a lone surrogate, which is not text") from None
            elif isinstance(item, list):
                below += item
            elif isinstance(item, dict):
                below += [*item, *item.values()]
        if not below:
            return
        level = below
    raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
