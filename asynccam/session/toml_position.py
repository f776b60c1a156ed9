"""Lines of keys in a TOML text: `tomllib` gives values without them.

Nothing of TOML is parsed here. A text cut at the end of a statement is a TOML document, cut anywhere else it
is not (a string or an array is open), and its content only grows from cut to cut: so the parser itself says
with which line a key is added.
"""

import re
import tomllib
from collections.abc import Sequence
from typing import Any, Final

Path = Sequence[str | int]
"""Keys of tables and indices of arrays, from the outside in."""

_POSITION: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_DIGITS: Final = re.compile(r"[0-9_]+")
_BRACKETS: Final = re.compile(r"[\[{]+")


def line_of(text: str, path: Path) -> int:
    """Return the line, from 1, of the statement that adds a key; for a missing key, that of its table."""
    lines = text.splitlines(keepends=True)
    while path and not _holds(tomllib.loads(text), path):
        path = path[:-1]
    if not path:
        return 1
    document: dict[str, Any] | None = None
    without, holding = 0, len(lines)  # lines after which it is not there, and after which it is
    while True:
        middle = (without + holding) // 2
        while middle > without and (document := _document(lines[:middle])) is None:
            middle -= 1
        if middle > without:
            assert document is not None
            if _holds(document, path):
                holding = middle
            else:
                without = middle
            continue
        # No statement ends between `without` and the old middle: search above it, in order.
        middle = (without + holding) // 2 + 1
        while middle < holding and (document := _document(lines[:middle])) is None:
            middle += 1
        if middle >= holding:
            return without + 1
        assert document is not None
        if _holds(document, path):
            holding = middle
        else:
            without = middle


def syntax_error(error: ValueError | RecursionError, text: str) -> tuple[int, str]:
    """Return the line, from 1, of a syntax error, and its message."""
    if isinstance(error, RecursionError):
        return _line_of_longest(_BRACKETS, text), "values are nested too deep"
    if not isinstance(error, tomllib.TOMLDecodeError):
        # Python refuses to convert an integer of more than 4,300 digits from text.
        return _line_of_longest(_DIGITS, text), "a number has too many digits"
    message = str(error)
    position = _POSITION.search(message)
    line = int(position[1]) if position and position[1] else max(len(text.splitlines()), 1)
    return line, _POSITION.sub("", message)


def _line_of_longest(pattern: re.Pattern[str], text: str) -> int:
    longest = max(pattern.finditer(text), key=lambda match: len(match[0]), default=None)
    return 1 if longest is None else text.count("\n", 0, longest.start()) + 1


def _document(lines: Sequence[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("".join(lines))
    except (ValueError, RecursionError):
        return None


def _holds(document: Any, path: Path) -> bool:
    for key in path:
        if isinstance(key, int):
            if not isinstance(document, list) or key >= len(document):
                return False
            document = document[key]
        elif not isinstance(document, dict) or key not in document:
            return False
        else:
            document = document[key]
    return True
