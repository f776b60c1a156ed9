"""Matroska written by hand, element by element, for files that no muxer writes."""

import struct

OPEN = b"\x01" + b"\xff" * 7
PICTURE = b"\xff\xd8\xff\xe0\0\4\1\2" + b"U" * 40 + b"\xff\xd9"


def size(value: int, length: int = 0) -> bytes:
    length = length or next(one for one in range(1, 9) if value < (1 << 7 * one) - 1)
    return (value | 1 << 7 * length).to_bytes(length, "big")


def element(kind: str, *contents: bytes, length: int = 0) -> bytes:
    data = b"".join(contents)
    return bytes.fromhex(kind) + size(len(data), length) + data


def unsized(kind: str, *contents: bytes) -> bytes:
    return bytes.fromhex(kind) + OPEN + b"".join(contents)


def number(kind: str, value: int) -> bytes:
    return element(kind, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def header(doctype: bytes = b"matroska") -> bytes:
    return element("1A45DFA3", element("4282", doctype))


def segment(*contents: bytes) -> bytes:
    return header() + element("18538067", *contents, length=8)


def info(scale: int = 1_000_000, duration: float | None = None) -> bytes:
    parts = [number("2AD7B1", scale)]
    if duration is not None:
        parts.append(element("4489", struct.pack(">d", duration)))
    return element("1549A966", *parts)


def track(
    index: int = 1, kind: int = 1, *more: bytes, codec: bytes = b"V_MJPEG", type_first: bool = False
) -> bytes:
    parts = [number("D7", index), number("83", kind)]
    return element("AE", *(reversed(parts) if type_first else parts), element("86", codec), *more)


def tracks(*entries: bytes) -> bytes:
    return element("1654AE6B", *(entries or (track(),)))


def block_contents(data: bytes = PICTURE, relative: int = 0, index: int = 1, flags: int = 0x80) -> bytes:
    return size(index) + relative.to_bytes(2, "big", signed=True) + bytes([flags]) + data


def block(data: bytes = PICTURE, relative: int = 0, index: int = 1, flags: int = 0x80) -> bytes:
    return element("A3", block_contents(data, relative, index, flags))


def group(*more: bytes, data: bytes = PICTURE, relative: int = 0) -> bytes:
    return element("A0", element("A1", block_contents(data, relative, flags=0)), *more)


def cluster(time: int, *contents: bytes) -> bytes:
    return element("1F43B675", number("E7", time), *contents)


def clusters(count: int = 4, each: int = 5, step: int = 40) -> list[bytes]:
    return [
        cluster(first * each * step, *(block(relative=index * step) for index in range(each)))
        for first in range(count)
    ]
