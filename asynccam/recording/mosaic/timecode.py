"""A visible time code made of plain pictures, so that it needs no font and no text plugin.

The pictures are passed to ``gst-launch-1.0`` through its standard input, one for every frame of
the test picture, and laid over it by ``compositor``. Backpressure paces them: the pipe holds about
a second's worth, so a busy loop does not hold up the recording.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime
from fractions import Fraction
from typing import Final

from asynccam.wall_clock import unix_now

# Columns of five-by-seven letters, lowest bit on top, for the characters " " to "_" in order.
_GLYPHS: Final = bytes.fromhex(
    """
    0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649552250 0005030000
    001c224100 0041221c00 082a1c2a08 08083e0808 0050300000 0808080808 0060600000 2010080402
    3e5149453e 00427f4000 4261514946 2141454b31 1814127f10 2745454539 3c4a494930 0171090503
    3649494936 064949291e 0036360000 0056360000 0008142241 1414141414 4122140800 0201510906
    324979413e 7e1111117e 7f49494936 3e41414122 7f4141221c 7f49494941 7f09090101 3e41415132
    7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f0204027f 7f0408107f 3e4141413e
    7f09090906 3e4151215e 7f09192946 4649494931 01017f0101 3f4040403f 1f2040201f 7f2018207f
    6314081463 0304780403 6151494543 00007f4141 0204081020 41417f0000 0402010204 4040404040
    """
)
_COLUMNS: Final = 6  # five and a gap
_ROWS: Final = 9  # seven and a margin above and below
_FOREGROUND: Final = 235
_BACKGROUND: Final = 16
CODE_LENGTH: Final = len("00:00:00.000")
_UNKNOWN_TIME: Final = "--:--:--.---"
_AHEAD: Final = 4
"""Pictures that are on their way inside the process when the next one is read at the last moment.

Measured with GStreamer 1.22 at 15 to 30 frames a second, by when pictures leave the pipeline.
"""
_PIPE: Final = 4096  # bytes that wait in the pipe to it


@functools.cache
def _glyph(letter: str, scale: int) -> tuple[bytes, ...]:
    """Return one letter as rows of grey pixels."""
    index = ord(letter.upper()) - 32 if letter.isascii() else -1
    if not 0 <= index < len(_GLYPHS) // 5:
        index = ord("?") - 32
    columns = (*_GLYPHS[index * 5 : index * 5 + 5], 0)
    rows: list[bytes] = []
    for bit in range(-1, _ROWS - 1):
        row = b"".join(
            bytes([_FOREGROUND if 0 <= bit < 7 and column >> bit & 1 else _BACKGROUND]) * scale
            for column in columns
        )
        rows.extend([row] * scale)
    return tuple(rows)


def text_size(length: int, scale: int) -> tuple[int, int]:
    """Return width and height in pixels of a line of ``length`` letters."""
    # GStreamer takes rows of grey pixels to begin at multiples of four bytes.
    return -(-length * _COLUMNS * scale // 4) * 4, _ROWS * scale


def draw(text: str, scale: int) -> bytes:
    """Return a line of text as grey pixels, row by row."""
    letters = [_glyph(letter, scale) for letter in text]
    width, _ = text_size(len(text), scale)
    paper = bytes([_BACKGROUND])
    return b"".join(b"".join(rows).ljust(width, paper) for rows in zip(*letters, strict=True))


def running_time(frame: int, fps: Fraction) -> str:
    """Return the running time of a frame, ``HH:MM:SS.mmm``, cut to whole milliseconds."""
    milliseconds = int(frame * 1000 / fps)
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours % 100:02d}:{minutes:02d}:{seconds:02d}.{milliseconds:03d}"


def running_time_pictures(label: str, fps: Fraction, scale: int) -> Iterator[bytes]:
    """Yield frame after frame of label and running time code, without end."""
    for frame in itertools.count():
        yield draw(f"{label} {running_time(frame, fps)}" if label else running_time(frame, fps), scale)


class DayTimeCode:
    """Frame after frame of label and this computer's time of day, without end.

    The pictures are made as late as the process can bear, see `asynccam.recording.process`. How late
    that is shows when the first ones have gone in, and those have dashes in place of a time; later ones
    are right to within a frame or two.
    """

    prompt: Final = True
    """Asks the writer of a process's standard input to buffer none."""

    def __init__(self, label: str, fps: Fraction, scale: int, now: Callable[[], float] = unix_now) -> None:
        self._label = label
        self._fps = fps
        self._scale = scale
        self._now = now
        self._frame = 0
        self._began: float | None = None
        width, height = text_size(len(self._text()), scale)
        self._ahead = _AHEAD + _PIPE // (width * height)  # whole pictures: one is read at a time

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._frame > self._ahead + 1:
            # A busy loop makes this later than it was, and never earlier.
            seen = self._now() - (self._frame - self._ahead) / float(self._fps)
            self._began = seen if self._began is None else min(self._began, seen)
        text = self._text()
        self._frame += 1
        return draw(text, self._scale)

    def _text(self) -> str:
        time = (
            _UNKNOWN_TIME if self._began is None else day_time(self._began + float(self._frame / self._fps))
        )
        return f"{self._label} {time}" if self._label else time


def day_time(unix: float) -> str:
    """Return this computer's time of day at a moment, ``HH:MM:SS.mmm``."""
    return datetime.fromtimestamp(unix).astimezone().strftime("%H:%M:%S.%f")[:-3]
