"""Reads label and time of day in pictures that carry `asynccam.recording.mosaic.timecode`, as a person would.

Written from what is seen: letters of five by seven dots, each ``scale`` pixels wide, light on dark, in a line
whose corner is two dots from that of the picture.
"""

import asyncio
import re
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

from asynccam.recording.mosaic.timecode import draw

_COLUMNS: Final = 6
_ROWS: Final = 9
_LETTERS: Final = "".join(map(chr, range(32, 96)))
_SCALES: Final = range(1, 13)
_WRONG: Final = 2
"""Dots of a letter that may be misread: pictures are compressed."""
_CUT: Final = 0.0025
"""Seconds by which a step may seem shorter because both times are cut to milliseconds."""
_TIME: Final = re.compile(r"(\d\d):(\d\d):(\d\d)\.(\d{3,6})")


@cache
def _dots() -> dict[str, int]:
    """Every letter as bits, as it is drawn at the least size."""
    return {letter: _bits(draw(letter, 1), len(draw(letter, 1)) // _ROWS, 0, 0, 1) for letter in _LETTERS}


def _bits(picture: bytes, width: int, left: int, top: int, scale: int) -> int:
    """The dots of one letter, by the pixel in the middle of each."""
    bits = 0
    for row in range(_ROWS):
        line = (top + row * scale + scale // 2) * width + left + scale // 2
        for column in range(_COLUMNS - 1):
            bits = bits << 1 | (picture[line + column * scale] > 128)
    return bits


def read_line(picture: bytes, width: int, scale: int) -> str:
    """The letters of a picture of grey pixels, up to the first that is none."""
    left = top = 2 * scale
    text = ""
    while left + _COLUMNS * scale <= width and (top + _ROWS * scale) * width <= len(picture):
        seen = _bits(picture, width, left, top, scale)
        wrong, letter = min(((seen ^ dots).bit_count(), letter) for letter, dots in _dots().items())
        if wrong > _WRONG:
            break
        text += letter
        left += _COLUMNS * scale
    return text


def read_time(picture: bytes, width: int, *, near: float) -> float | None:
    """The time of day in a picture as Unix seconds, cut to the code's millisecond; None if there is none.

    Args:
        picture: Grey pixels, row by row.
        width: Pixels in a row.
        near: A time within half a day of it.
    """
    for scale in _SCALES:
        found = _TIME.search(read_line(picture, width, scale))
        if found:
            hours, minutes, seconds, fraction = found.groups()
            day = datetime.fromtimestamp(near).astimezone()
            shown = day.replace(
                hour=int(hours),
                minute=int(minutes),
                second=int(seconds),
                microsecond=int(fraction.ljust(6, "0")),
            )
            whole = round((day - shown) / timedelta(days=1))
            return (shown + timedelta(days=whole)).timestamp()
    return None


def put_right(shown: Sequence[float | None]) -> list[float | None]:
    """The times in successive pictures, without what the code itself was late.

    A server whose loop was blocked when its pictures began shows times that are too late. It finds out, and
    one step between two pictures is then shorter than all others. What later steps take back was too much.
    """
    steps = sorted(b - a for a, b in pairwise(shown) if a is not None and b is not None)
    usual = statistics.median(steps) if steps else 0.0
    late, right = 0.0, list(shown)
    for at in range(len(shown) - 2, -1, -1):
        here, following = shown[at], shown[at + 1]
        if here is not None and following is not None:
            lacks = usual - (following - here)
            late += lacks if lacks > _CUT else 0.0
            right[at] = here - late
    return right


async def pictures_of(path: Path) -> tuple[int, list[bytes]]:
    """All pictures of a video or photo in order, grey, only their upper part; and their width."""
    return await asyncio.to_thread(lambda: _pictures(path))


def _pictures(path: Path) -> tuple[int, list[bytes]]:
    shown = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height"]
    probed = subprocess.run([*shown, "-of", "csv=p=0", str(path)], check=True, capture_output=True, text=True)
    width, height = (int(number) for number in probed.stdout.strip().strip(",").split(",")[:2])
    rows = min(height, 12 * _SCALES.stop) // 2 * 2  # colours have half the rows
    picked = ["-fps_mode", "passthrough", "-vf", f"crop={width}:{rows}:0:0", "-pix_fmt", "gray"]
    command = ["ffmpeg", "-v", "error", "-i", str(path), *picked, "-f", "rawvideo", "-"]
    done = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return width, list(_split(done.stdout, width * rows))


def _split(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data) - size + 1, size):
        yield data[at : at + size]
