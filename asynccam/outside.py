"""One rule for data from outside: text that can be written, numbers that fit, bounded depth. Does no I/O.

JSON lets through what cannot be written again: half of a surrogate pair (RFC 8259, section 8.2) and, in
Python, ``NaN`` and numbers of any length. Readers of JSON go through `read_json` or `clean_json`, or through
pydantic, which refuses such text; other text goes through `clean_text`. Control characters other than NUL
stay: they may be part of a file's name, and terminals get them escaped.
"""

import json
import math
import re
from typing import Any, Final

from pydantic_core import from_json

MAX_DEPTH: Final = 200
"""Nesting beyond which a document is refused; as deep as pydantic reads."""
OVERLAP: Final = 32
"""Bytes; longer than anything `is_suspicious` looks for."""
MAX_TEXT: Final = 16_384
"""Characters of one text in a manifest or journal."""
_INTEGER_LIMIT: Final = 2**64
"""Integers lie between its negative half and this: signed and unsigned integers of 64 bits."""
_MAX_DIGITS: Final = 20
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_ESCAPED: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_SHAPE: Final = bytes.maketrans(b"123456789E", b"000000000e")
_LONG: Final = b"0" * 19
_BEFORE_NUMBER: Final = b" \t\r\n:,[-"


def clean_text(text: str, *, most: int | None = None) -> str:
    """Return text that can be written: every lone surrogate and every NUL becomes a question mark.

    The text may be a file name that is not UTF-8 (``surrogateescape``). A cut to ``most`` characters shows as
    ``...``.
    """
    if most is not None and len(text) > most:
        text = text[: most - 3] + "..."
    text = text.replace("\0", "?")  # the same object if there is none
    return text if text.isascii() else _SURROGATES.sub("?", text)


def is_bounded(value: int | float) -> bool:
    """Return whether a number is finite and, if it is an integer, has 64 bits."""
    if isinstance(value, int):
        return -_INTEGER_LIMIT // 2 <= value < _INTEGER_LIMIT
    return math.isfinite(value)


def read_json(data: bytes | bytearray | str, *, lenient: bool = False, suspicious: bool | None = None) -> Any:
    """Read one JSON document from outside.

    Args:
        data: The document, as UTF-8 or as text.
        lenient: Whether a number that is out of bounds becomes None instead of spoiling the document.
        suspicious: What `is_suspicious` said of its pieces, for a long one; by default it is asked here.

    Returns:
        Any JSON value: its text without lone surrogates, its integers of 64 bits, its floats finite.

    Raises:
        ValueError: It is not JSON, has a number out of bounds, or is nested more than `MAX_DEPTH` deep.
    """
    encoded = data if isinstance(data, bytes) else _encoded(data)
    if suspicious is None:
        suspicious = is_suspicious(encoded)
    if not suspicious:
        try:
            return from_json(encoded, allow_inf_nan=False)
        except ValueError:
            pass  # read below, where more is understood
    return _read_slowly(encoded, lenient=lenient)


def clean_json(data: bytes | bytearray | str) -> bytes | bytearray | str:
    """Return a JSON document in clean text, for a parser of JSON; numbers out of bounds become null.

    The same object is returned if nothing was to be cleaned, also where it is not JSON at all. `ValueError`
    if what has to be cleaned is not JSON, or nested more than `MAX_DEPTH` deep.
    """
    encoded = _encoded(data)
    # NaN, Infinity, and half of a surrogate pair that was encoded alone.
    odd = b"NaN" in encoded or b"Infinity" in encoded or b"\xed" in encoded
    return json.dumps(_read_slowly(encoded, lenient=True)) if odd or is_suspicious(encoded) else data


def clean_values(value: Any, *, depth: int = MAX_DEPTH) -> Any:
    """Return a JSON value with no lone surrogate in its text.

    Raises:
        ValueError: It is nested more than ``depth`` deep.
    """
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATES.sub("?", value)
    if not isinstance(value, (dict, list)):
        return value
    if not depth:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        return {clean_values(key): clean_values(inner, depth=depth - 1) for key, inner in value.items()}
    return [clean_values(inner, depth=depth - 1) for inner in value]


def _encoded(data: bytes | bytearray | str) -> bytes | bytearray:
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data


def is_suspicious(data: bytes | bytearray) -> bool:
    """Return whether a document, or a piece of one, may hold text or numbers that have to be cleaned.

    Pieces must overlap by `OVERLAP` bytes.
    """
    # One byte is found faster than two. Every digit becomes a 0: faster than a regular expression.
    if b"\\" in data and b"\\u" in data and _ESCAPED.search(data) is not None:
        return True
    shape = data.translate(_SHAPE)
    if _LONG in shape and _has_number(shape, _LONG, digits=b"0"):
        return True
    return (b"e000" in shape and _has_number(shape, b"0e000", digits=b"0.")) or (
        b"e+000" in shape and _has_number(shape, b"0e+000", digits=b"0.")
    )


def _has_number(shape: bytes | bytearray, part: bytes, *, digits: bytes) -> bool:
    """Return whether some ``part`` belongs to a number: not to a name, a digest, or the digits of a fraction.

    A number begins behind `_BEFORE_NUMBER`, or before this piece; ``digits`` are what it has before the part.
    """
    start = shape.find(part)
    while start >= 0:
        before = shape[max(0, start - OVERLAP) : start].rstrip(digits)
        if not before or before[-1] in _BEFORE_NUMBER:
            return True
        start = shape.find(part, start + len(part))
    return False


def _read_slowly(data: bytes | bytearray, *, lenient: bool) -> Any:
    def refused(why: str) -> None:
        if not lenient:
            raise ValueError(why)

    def integer(digits: str) -> int | None:
        # Python refuses to read more than 4,300 digits, and takes long for fewer.
        value = int(digits) if len(digits) <= _MAX_DIGITS else _INTEGER_LIMIT
        if not is_bounded(value):
            refused(f"an integer of {len(digits)} digits is too large")
            return None
        return value

    def number(digits: str) -> float | None:
        value = float(digits)
        if not math.isfinite(value):
            refused(f"the number {digits[:20]} is too large")
            return None
        return value

    try:
        document = json.loads(
            data.decode("utf-8", "surrogatepass"),
            parse_int=integer,
            parse_float=number,
            parse_constant=lambda word: refused(f"{word} is not a JSON number"),
        )
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from None
    return clean_values(document)
