"""JPEG pictures as cheap cameras and their services hand them out, made from a good one."""

import io
import random
import re
from typing import Final

from PIL import Image

_SCAN: Final = b"\xff\xda"
_TABLES: Final = b"\xff\xc4"

WHOLE: Final = (
    "ok",
    "padzero",
    "junk512",
    "leadjunk",
    "leadzero",
    "leadlong",
    "leadpart",
    "dhav",
    "nodht",
    "partialnext",
    "tworesult",
    "progressive",
)
"""Kinds that hold a whole picture."""

BROKEN: Final = ("cut60", "noeoi", "grey", "greyend", "twosoi", "twostarts", "cut60end", "tables")
"""Kinds whose picture is broken."""

NONE: Final = ("raw", "page", "empty")
"""Kinds that hold no JPEG at all."""


def noise(seed: int = 1, *, size: tuple[int, int] = (64, 48), progressive: bool = False) -> bytes:
    """A whole picture in which each block has many codes, so that none of its bytes is idle."""
    target = io.BytesIO()
    pixels = random.Random(seed).randbytes(size[0] * size[1] * 3)
    Image.frombytes("RGB", size, pixels).save(target, "JPEG", progressive=progressive)
    return target.getvalue()


def jpeg_of_kind(kind: str, *, seed: int = 1, size: tuple[int, int] = (64, 48)) -> bytes:
    """A picture of a kind, one of `WHOLE`, `BROKEN` and `NONE`."""
    good = noise(seed, size=size)
    junk = random.Random(seed + 1000).randbytes(513).replace(b"\xff", b"\x7f")
    scan = good.index(_SCAN)
    data = scan + 2 + int.from_bytes(good[scan + 2 : scan + 4])
    half = data + (len(good) - data) * 6 // 10
    kinds = {
        "ok": good,
        "padzero": good + bytes(512),
        "junk512": good + junk,
        "leadjunk": junk[:3] + good,
        "leadzero": bytes(2) + good,
        "leadlong": junk * 8 + good,
        # The multipart header of a stream's part, in front of the picture.
        "leadpart": b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + good,
        "dhav": good + b"dhav\x59\x19\x01\x00",  # Dahua's trailer
        "nodht": _without_tables(good),
        "partialnext": good + noise(seed + 1, size=size)[:700],
        "tworesult": good + noise(seed + 1, size=size),
        "progressive": noise(seed, size=size, progressive=True),
        "cut60": good[:half],
        "noeoi": good[:-2],
        "grey": good[:data] + bytes(5000),
        "greyend": good[:data] + bytes(5000) + good[-2:],
        "twosoi": good[:2] + good,
        "twostarts": good[:half] + good,
        "cut60end": good[:half] + good[-2:],
        "tables": good[:scan] + good[-2:],
        "raw": bytes([16, 128, 16, 128]) * 1600,
        "page": b"<!doctype html><title>500</title><p>no",
        "empty": b"",
    }
    return kinds[kind]


def picture_in(kind: str, *, seed: int = 1, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return what has to be left of a kind of `WHOLE`: everything from its first byte on."""
    data = jpeg_of_kind(kind, seed=seed, size=size)
    return data[data.index(b"\xff\xd8\xff") :]


def _without_tables(picture: bytes) -> bytes:
    """Leave the Huffman tables out, as Motion JPEG does: they are those of T.81 K.3 here."""
    pieces, at = [picture[:2]], 2
    while picture[at : at + 2] != _SCAN:
        end = at + 2 + int.from_bytes(picture[at + 2 : at + 4])
        if not re.match(re.escape(_TABLES), picture[at : at + 2]):
            pieces.append(picture[at:end])
        at = end
    return b"".join([*pieces, picture[at:]])
