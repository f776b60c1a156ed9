"""Zeros inside JPEG pictures: whether they are part of the picture (ITU-T T.81, annexes B and F)."""

from collections.abc import Callable
from typing import Final

_MARKER: Final = 0xFF
_TABLES: Final = 0xC4
_ZEROS: Final = 32
"""Zeros in a row that no table has: 16 counts and a symbol are the most."""
_SCAN: Final = 0xDA
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_MAX_SEGMENTS: Final = 256
_LUMINANCE: Final = 0x10
"""Class 1 (AC) and destination 0, which encoders have brightness in."""
_END_OF_BLOCK: Final = 0x00
_ZEROS_ONLY: Final = 0xF0


def has_zeroed_header(take: Callable[[int, int], bytes], size: int) -> bool:
    """Return whether zeros stand where a marker or a table should be, before the first scan."""
    return _find_scan(take, size)[0] == 0


def zeros_are_damage(take: Callable[[int, int], bytes], size: int) -> int | None:
    """Where the coded data begins in which a run of zeros cannot be, or None if it can be anywhere.

    Tables made for the picture may give the end of a block the code that is zeros, and then an area of one
    colour is nothing but zeros. The usual tables have a coefficient there, which no area repeats.
    """
    begin, may_be_flat = _find_scan(take, size)
    return None if may_be_flat else begin


def _find_scan(take: Callable[[int, int], bytes], size: int) -> tuple[int, bool]:
    """Where the first scan's data begins, 0 if zeros stand before it, and whether zeros are allowed in it."""
    at, may_be_flat = 2, False
    for _ in range(_MAX_SEGMENTS):
        if at + 4 > size:
            break
        head = take(at, 4)
        if head[0] != _MARKER:
            return (0, False) if not any(take(at, min(16, size - at))) else (size, True)
        marker, length = head[1], int.from_bytes(head[2:])
        if marker == _MARKER or marker in _ALONE:
            at += 1 if marker == _MARKER else 2
            continue
        if marker in _FRAMES and marker not in _SEQUENTIAL:
            may_be_flat = True
        if marker == _TABLES:
            tables = take(at + 4, max(min(length - 2, size - at - 4), 0))
            if bytes(_ZEROS) in tables:
                return 0, False
            may_be_flat = may_be_flat or _have_zero_code(tables)
        at += 2 + length
        if marker == _SCAN:
            return at, may_be_flat
    return size, True


def _have_zero_code(tables: bytes) -> bool:
    """Whether the luminance's AC table gives the code that is zeros to the end of a block, or to zeros.

    That of the chrominance always does; but brightness is coded in between.
    """
    at = 0
    while at + 17 < len(tables):
        symbols = sum(tables[at + 1 : at + 17])
        if tables[at] == _LUMINANCE and symbols and tables[at + 17] in (_END_OF_BLOCK, _ZEROS_ONLY):
            return True
        at += 17 + symbols
    return False
