"""What happens to good files: cuts, zeroed stretches, garbage, lost packets, bytes in front and behind."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

from tests.support.media_corpus.recipes import JPEG, MKV, MP4, RECIPES, TS, Recipe


class Kind(Enum):
    """What a mutation does to a file, and so which verdicts are right."""

    WHOLE = "whole"
    TRAILING = "trailing bytes"
    LEADING = "leading bytes"
    JOINED = "joined"
    CUT = "cut"
    ZEROED_TAIL = "zeroed tail"
    SPOILED = "spoiled"
    """A stretch inside is zeroed or garbage, or packets are lost."""


@dataclass(frozen=True)
class Mutation:
    """One thing that happens to a file.

    Attributes:
        name: What happens, in a word or two.
        kind: Which sort of thing that is.
        apply: Return the content afterwards.
        edges: Pictures that may have been hit in part; a decoder may make up the rest of such a picture.
    """

    name: str
    kind: Kind
    apply: Callable[[bytes], bytes]
    edges: int = 0


def _random(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def _head(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _first(data: bytes, length: int) -> bytes:
    return data[:length]


def _overwrite(data: bytes, begin: float, end: float, *, zeros: bool) -> bytes:
    first, last = int(len(data) * begin), int(len(data) * end)
    return data[:first] + (bytes(last - first) if zeros else _random(last - first)) + data[last:]


def packet_size(data: bytes) -> int:
    """Bytes a packet of an MPEG transport stream: 192 with a time stamp in front of each (M2TS), or 188."""
    return 192 if data[4:5] == b"G" and data[196:197] == b"G" else 188


def _packets(data: bytes) -> list[bytes]:
    size = packet_size(data)
    return [data[at : at + size] for at in range(0, len(data), size)]


def _without_one_in_20(data: bytes) -> bytes:
    return b"".join(packet for number, packet in enumerate(_packets(data)) if number % 20 != 13)


def _without_a_burst(data: bytes) -> bytes:
    packets = _packets(data)
    middle = len(packets) // 2
    return b"".join(packets[:middle] + packets[middle + 12 :])


def _with_a_wrong_sync_byte(data: bytes) -> bytes:
    packets = _packets(data)
    middle = sum(map(len, packets[: len(packets) // 2])) + packet_size(data) - 188
    return data[:middle] + b"\0" + data[middle + 1 :]


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of the boxes of an MP4 file (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        end = at + size if size else len(data)
        yield data[at + 4 : at + 8], at, end
        at = end


def elements(data: bytes, at: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Identifier, begin and end of Matroska elements, of Segment and Cluster what they hold (RFC 8794, 4)."""
    while at < len(data):
        begin = at
        identifier = data[at : at + 9 - data[at].bit_length()]
        at += len(identifier)
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") - (1 << 7 * width)
        at += width
        if identifier not in (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"):
            at += size
        yield identifier, begin, at


def unit_ends(recipe: Recipe, data: bytes) -> set[int]:
    """Positions at which a good file may end as well: nothing in it says that more was to come.

    Only for recipes that are `Recipe.open_ended`: MPEG-TS has no end mark, a live Matroska file no sizes, and
    a fragmented MP4 file without an index in front ends with any of its fragments.
    """
    if not recipe.open_ended:
        return set()
    if recipe.container == TS:
        return set(range(0, len(data), packet_size(data)))
    if recipe.container == MP4:
        return _ends_of_fragments(data)
    return {end for _, _, end in elements(data)}


def _ends_of_fragments(data: bytes) -> set[int]:
    """Ends of what comes in front of the fragments, and of those behind which an index lists no more."""
    found = list(boxes(data))
    kinds = [kind for kind, _, _ in found]
    ends = {end for kind, _, end in found if kind in (b"ftyp", b"moov", b"mdat", b"sidx", b"styp")}
    if b"sidx" in kinds[: kinds.index(b"moof")] and kinds.count(b"sidx") == 1:
        last = max(end for kind, _, end in found if kind == b"mdat")
        ends = {end for kind, _, end in found if kind in (b"ftyp", b"moov")} | {last}
    return ends


def without_cut_box(data: bytes) -> bytes:
    """A cut MP4 file whose last box ends where the last whole box within it ends; a fragment goes as a whole.

    ffmpeg refuses a file for a cut moov or moof, though the media of other tracks and fragments is there.
    """
    last = next((one for one in boxes(data) if one[2] > len(data)), None)
    if last is None or last[0] not in (b"moov", b"moof"):
        return data
    kind, begin, _ = last
    if kind == b"moof":
        return data[:begin]
    inside = data[begin + 8 :]
    length = max((end for _, _, end in boxes(inside) if end <= len(inside)), default=0)
    return data[:begin] + (length + 8).to_bytes(4, "big") + kind + inside[:length]


def _boundaries(recipe: Recipe, data: bytes) -> dict[str, int]:
    """Places where units of the format meet, somewhere in the middle of the file, by name."""
    if recipe.container == TS:
        return {"packet": len(data) // 2 // packet_size(data) * packet_size(data)}
    if recipe.container == MP4:
        ends: dict[str, int] = {}
        for kind, _, end in boxes(data):
            if kind in (b"moov", b"moof", b"mdat") and end < len(data):
                # Of fragments the second, as the first may be judged by other rules.
                ends[kind.decode()] = end if len(ends) < 4 else ends[kind.decode()]
        return ends
    if recipe.container == MKV:
        blocks = [end for kind, _, end in elements(data) if kind in (b"\xa3", b"\xa0")]
        return {"block": blocks[len(blocks) // 2]}
    return {}


def mutations_of(recipe: Recipe, data: bytes) -> list[Mutation]:
    """Return everything that happens to a file, nothing at all first.

    Files take turns at some of the cuts and of the bytes behind the end, which saves a third of the time.
    """
    turn = list(RECIPES).index(recipe.name)
    behind = (("5 random bytes behind", _random(5)), ("1000 letters behind", b"not media " * 100))[turn % 2]
    found = [
        Mutation("whole", Kind.WHOLE, bytes),
        Mutation("5 zeros behind", Kind.TRAILING, lambda data: data + bytes(5)),
        Mutation(behind[0], Kind.TRAILING, lambda data: data + behind[1]),
        Mutation("twice", Kind.JOINED, lambda data: data + data, edges=1),
        *(
            Mutation(f"cut at {share:.0%}", Kind.CUT, partial(_head, share=share), edges=1)
            for share in (0.5, 0.99, (0.25, 0.75, 0.9)[turn % 3])
        ),
        Mutation("last byte cut", Kind.CUT, lambda data: data[:-1], edges=1),
        *(
            Mutation(f"cut behind a {name}", Kind.CUT, partial(_first, length=end), edges=1)
            for name, end in _boundaries(recipe, data).items()
        ),
        Mutation("zeros inside", Kind.SPOILED, partial(_overwrite, begin=0.4, end=0.5, zeros=True), edges=2),
        Mutation(
            "zeros at the end", Kind.ZEROED_TAIL, partial(_overwrite, begin=0.6, end=1, zeros=True), edges=1
        ),
        Mutation(
            "garbage inside", Kind.SPOILED, partial(_overwrite, begin=0.55, end=0.62, zeros=False), edges=2
        ),
    ]
    if recipe.container in (TS, JPEG):
        found.append(
            Mutation("100 random bytes in front", Kind.LEADING, lambda data: _random(100) + data, edges=1)
        )
    if recipe.container == TS:
        found += [
            Mutation("one packet in 20 lost", Kind.SPOILED, _without_one_in_20, edges=10),
            Mutation("12 packets lost", Kind.SPOILED, _without_a_burst, edges=2),
            Mutation("a sync byte spoiled", Kind.SPOILED, _with_a_wrong_sync_byte, edges=1),
        ]
    return found
