"""Check that entropy-coded data of sequential JPEG has every block of its picture (ITU-T T.81, annex F).

Nothing is reconstructed: each code is read, its extra bits are skipped, blocks are counted.
"""

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

_WINDOW: Final = 16  # bits of the longest code (T.81 C.2), and so of one lookup in a table
_BLOCK_END: Final = 1 << 12  # added to the advance of an entry that ends its block (EOB)
_LENGTH_BITS: Final = 6
_LENGTH: Final = (1 << _LENGTH_BITS) - 1
# The longest block: 64 codes of 16 bits, each with up to 16 extra bits.
_PADDING: Final = bytes(64 * 4 + 4)

_RUNS_FROM: Final = 1 << 16  # bytes from which on tables of runs save more time than it takes to make them
# By other tables zero bits are coefficients of -1 and the like, 63 of them a block. No picture has such
# blocks one after the other, and 64 bytes are two of them at least.
_ZEROS: Final = bytes(64)
_LACKS_DATA: Final = "lacks a part of its picture data"

# T.81 K.3: the tables that Motion JPEG leaves out, counts of each length and values in order.
_LUMINANCE_DC: Final = bytes.fromhex("00010501010101010100000000000000 000102030405060708090a0b")
_CHROMINANCE_DC: Final = bytes.fromhex("00030101010101010101010000000000 000102030405060708090a0b")
_LUMINANCE_AC: Final = bytes.fromhex(
    "0002010303020403050504040000017d 01020300041105122131410613516107227114328191a1082342b1c11552d1f0"
    "2433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a"
    "737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6"
    "c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
)
_CHROMINANCE_AC: Final = bytes.fromhex(
    "00020102040403040705040400010277 000102031104052131061241510761711322328108144291a1b1c109233352f0"
    "156272d10a162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768"
    "696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3"
    "c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)
MOTION_JPEG_TABLES: Final = {
    0x00: _LUMINANCE_DC,
    0x01: _CHROMINANCE_DC,
    0x10: _LUMINANCE_AC,
    0x11: _CHROMINANCE_AC,
}
"""By class and number, as a DHT segment names them (T.81 B.2.4.2)."""

BlockTables = tuple[bytes, bytes]
"""The DC and the AC table of a block: 16 counts and their values."""


def is_huffman_table(table: bytes) -> bool:
    """Return whether the counts of a table leave no code ambiguous (T.81 C.2)."""
    free = 1
    for count in table[:_WINDOW]:
        free = 2 * free - count
        if free < 0:
            return False
    return any(table[:_WINDOW])


def flaw_of_interval(data: bytes, blocks: Sequence[BlockTables], units: int) -> str:
    """Return the flaw of the data up to a restart marker or the end of a scan, or ``""``.

    Args:
        data: Its bytes, still stuffed.
        blocks: The tables of each block in a minimum coded unit (MCU).
        units: MCUs it has to hold. More data is not wrong: encoders pad.
    """
    data = data.replace(b"\xff\x00", b"\xff")
    total = 8 * len(data)
    padded = data + _PADDING
    # Each byte with the two behind it: a table look-up needs 16 bits from any bit of the first one.
    words = array(
        "I", (a << 16 | b << 8 | c for a, b, c in zip(padded, padded[1:], padded[2:], strict=False))
    )
    long = len(data) > _RUNS_FROM
    tables = [
        (_table(dc, False), _table(ac, True), _runs(ac) if long else _table(ac, True)) for dc, ac in blocks
    ]
    at = 0
    for _ in range(units):
        for dc, ac, runs in tables:
            at = _skip_block(words, at, dc, ac, runs)
            if at < 0:
                return _LACKS_DATA if ~at >= total else "has an invalid code in its picture data"
            if at > total:
                return _LACKS_DATA
    if data.find(_ZEROS, 0, at >> 3) >= 0 and not all(_zeros_end_blocks(ac) for _, ac in blocks):
        return "has zeros in place of its picture data"
    return ""


def _zeros_end_blocks(table: bytes) -> bool:
    """Return whether zero bits mean "end of block" by this AC table, so that flat pictures are zeros."""
    # C.2: the first value has the code that is all zeros.
    return table[_WINDOW : _WINDOW + 1] == b"\x00"


def _skip_block(words: "array[int]", at: int, dc: "array[int]", ac: "array[int]", runs: "array[int]") -> int:
    """Return the bit behind the block that begins at bit ``at``, or its complement (~) where none is."""
    entry = dc[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
    if not entry:
        return ~at
    at += entry & _LENGTH
    index = 1
    while index < 64:
        window = words[at >> 3] >> (8 - (at & 7)) & 0xFFFF
        entry = runs[window]
        after = index + (entry >> _LENGTH_BITS)
        # A run of codes may reach into the next block where this one is full and ends without EOB.
        if not (after <= 64 or _BLOCK_END < after < _BLOCK_END + 64):
            entry = ac[window]
            after = index + (entry >> _LENGTH_BITS)
            if not (after <= 64 or after >= _BLOCK_END):
                return ~at
        if not entry:
            return ~at
        at += entry & _LENGTH
        index = after
    return at


@lru_cache(maxsize=32)
def _table(table: bytes, is_ac: bool) -> "array[int]":
    """Return each 16 bits' first code: the bits it takes with its extra bits, and the coefficients it passes.

    An entry of 0 is not a code.
    """
    entries = array("I", bytes(4 << _WINDOW))
    code, place = 0, _WINDOW
    for length, count in enumerate(table[:_WINDOW], 1):
        for value in table[place : place + count]:
            # F.1.2.2: an AC value is a run of zeros and a size in bits, 00 ends the block, F0 is 16 zeros.
            size = value & 15 if is_ac else value
            advance = ((value >> 4) + 1 if value & 15 or value == 0xF0 else _BLOCK_END) if is_ac else 0
            entry = advance << _LENGTH_BITS | length + size
            width = 1 << (_WINDOW - length)
            entries[code : code + width] = array("I", [entry]) * width
            code += width
        place += count
    return entries


@lru_cache(maxsize=16)
def _runs(table: bytes) -> "array[int]":
    """Return `_table` for AC, with all codes that lie within the 16 bits taken at once."""
    single = _table(table, True)
    runs = array("I", single)
    for window in range(1 << _WINDOW):
        entry = single[window]
        used, advance = entry & _LENGTH, entry >> _LENGTH_BITS
        while entry and advance < 64 and used < _WINDOW:
            entry = single[window << used & 0xFFFF]
            length = entry & _LENGTH
            if not entry or used + length > _WINDOW:
                break
            used, advance = used + length, advance + (entry >> _LENGTH_BITS)
        runs[window] = advance << _LENGTH_BITS | used
    return runs
