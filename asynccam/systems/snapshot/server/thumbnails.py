"""Small pictures of pictures, made off the loop and kept in memory up to a bound."""

import asyncio
import io
from collections import OrderedDict
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from asynccam.errors import DeviceError, UsageError
from asynccam.recording.containers.jpeg import find_picture
from asynccam.runtime.disk import on_disk, storage_errors

THUMBNAIL_SIDE: Final = 320
"""Longest side in pixels where none is asked for."""
SIDES: Final = (16, 1024)
_AT_ONCE: Final = 2
_QUALITY: Final = 75
_MAX_PIXELS: Final = 1 << 28

Stamp = tuple[int, int]
"""Nanoseconds and size: another one means another picture under the same name."""


class Thumbnails:
    """Makes thumbnails, two at a time, each once.

    Args:
        max_bytes: Memory for those that are kept; the least lately asked for go first.
    """

    def __init__(self, max_bytes: int = 16 << 20) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[Path, int], tuple[Stamp, bytes]] = OrderedDict()
        self._bytes = 0
        self._whole: dict[Path, Stamp] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._making: dict[tuple[Path, int], asyncio.Lock] = {}

    async def of(self, path: Path, stamp: Stamp, side: int) -> bytes:
        """A JPEG whose longest side has ``side`` pixels at most.

        Raises:
            DeviceError: The file is no picture, or a broken one.
            StorageError: It cannot be read.
            UsageError: ``side`` is out of bounds.
        """
        if not SIDES[0] <= side <= SIDES[1]:
            raise UsageError(f"a thumbnail has {SIDES[0]} to {SIDES[1]} pixels a side, not {side}")
        key = (path, side)
        kept = self._get(key, stamp)
        if kept is not None:
            return kept
        turn = self._making.setdefault(key, asyncio.Lock())
        try:
            async with turn:
                kept = self._get(key, stamp)  # made while this one waited
                if kept is None:
                    async with self._slots:
                        kept = await on_disk(_shrink, path, side, self._whole.get(path) == stamp)
                    self._keep(key, stamp, kept)
                return kept
        finally:
            if not turn.locked():
                self._making.pop(key, None)

    def trust(self, path: Path, stamp: Stamp) -> None:
        """Take a picture for whole, as it was read before; any other is read first."""
        self._whole[path] = stamp

    def forget(self, path: Path) -> None:
        """Let go of a picture's thumbnails."""
        self._whole.pop(path, None)
        for key in [key for key in self._kept if key[0] == path]:
            self._drop(key)

    def _get(self, key: tuple[Path, int], stamp: Stamp) -> bytes | None:
        found = self._kept.get(key)
        if found is None or found[0] != stamp:
            return None
        self._kept.move_to_end(key)
        return found[1]

    def _keep(self, key: tuple[Path, int], stamp: Stamp, data: bytes) -> None:
        self._drop(key)
        self._kept[key] = (stamp, data)
        self._bytes += len(data)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[Path, int]) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._bytes -= len(found[1])


def _shrink(path: Path, side: int, known: bool) -> bytes:
    with storage_errors("read", path):
        data = path.read_bytes()
    if not known:
        found = find_picture(data)
        if found.flaw:
            raise DeviceError(f"{path.name} is no picture that is whole: it {found.flaw}")
        data = data[found.begin :]
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
            picture.draft("RGB", (side, side))  # decodes an eighth of it where that is enough
            upright = ImageOps.exif_transpose(picture)
            upright.thumbnail((side, side))
            small = io.BytesIO()
            upright.convert("RGB").save(small, "JPEG", quality=_QUALITY)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DeviceError(f"{path.name} is no picture: {error}") from error
    return small.getvalue()
