"""MP4 files taken apart and put together again, box by box, for what no muxer writes."""

import struct
from collections.abc import Iterator

STBL = "moov/trak/mdia/minf/stbl/"


def box(kind: bytes, *contents: bytes) -> bytes:
    """A box."""
    payload = b"".join(contents)
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def full_box(kind: bytes, *contents: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *contents)


def words(*numbers: int) -> bytes:
    """Numbers of 32 bits, negative ones too."""
    return b"".join(struct.pack(">I", number & 0xFFFFFFFF) for number in numbers)


def boxes(data: bytes, begin: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of each box, by sizes of 32 bits."""
    end = len(data) if end is None else end
    while begin < end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        yield kind, begin, begin + (size or end - begin)
        begin += size or end - begin


def find(data: bytes, path: str) -> list[tuple[int, int]]:
    """Begin and end of a box, behind those it is in: ``moov/trak#1/tkhd`` is in the second track."""
    found: list[tuple[int, int]] = []
    begin, end = 0, len(data)
    for part in path.split("/"):
        name, _, number = part.partition("#")
        places = [place[1:] for place in boxes(data, begin, end) if place[0] == name.encode()]
        found.append(places[int(number or 0)])
        begin, end = found[-1][0] + 8, found[-1][1]
    return found


def cut_out(data: bytes, path: str) -> bytes:
    """A box of a file."""
    begin, end = find(data, path)[-1]
    return data[begin:end]


def replace(data: bytes, path: str, new: bytes) -> bytes:
    """A file with another box in a box's place, and the sizes of those around it made right."""
    *around, (begin, end) = find(data, path)
    out = bytearray(data[:begin] + new + data[end:])
    for place, _ in around:
        (size,) = struct.unpack_from(">I", out, place)
        struct.pack_into(">I", out, place, size + len(new) - (end - begin))
    return bytes(out)


def shifted(data: bytes, by: int) -> bytes:
    """A file whose chunks are said to lie elsewhere by some bytes, in every track."""
    out = bytearray(data)
    track = 0
    while True:
        try:
            begin, _ = find(data, f"moov/trak#{track}/mdia/minf/stbl/stco")[-1]
        except IndexError:
            return bytes(out)
        (count,) = struct.unpack_from(">I", data, begin + 12)
        for place in range(begin + 16, begin + 16 + 4 * count, 4):
            struct.pack_into(">I", out, place, struct.unpack_from(">I", data, place)[0] + by)
        track += 1
