"""Coverage: the time that a video covers, compared with the time asked for. See docs/recording.md."""

from dataclasses import dataclass
from typing import Final

SINGLE_FRAME_INTERVAL: Final = 1.0
"""Seconds between two frames where there is one frame only: assumed, a slower stream is not called video."""
HOLE: Final = 1.0
"""Seconds between two frames above which something is missing; a busy computer is late by less."""
_SLOW: Final = 3.0
"""How many times the usual interval: a stream of a frame a second is not full of holes."""
MOST_REACTION: Final = 1.5
"""Seconds from a start to its answer that a camera without a schedule may need to begin.

What takes longer, such as a network that is down, is not a property of the camera.
"""
LENGTH_DRIFT: Final = 0.002
"""By which a video's time may run slower than ours: clocks that drift, 29.97 frames a second called 30."""


@dataclass(frozen=True, slots=True)
class LateBegin:
    """A video begins later than asked for.

    Attributes:
        at: When its first frame was made, Unix seconds of this computer.
        seconds: Seconds missing from the start that was asked for to there.
        reason: Reason, in words.
    """

    at: float
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class EarlyEnd:
    """A video ends earlier than asked for.

    Attributes:
        at: When its last frame was made, Unix seconds of this computer.
        seconds: Seconds missing from there to the stop or the limit; None before a stop.
        reason: Reason, in words.
    """

    at: float
    seconds: float | None
    reason: str

    def shifted_back(self, delay: float) -> "EarlyEnd":
        """Return the same by when its frames were made, ``delay`` seconds before they arrived."""
        seconds = None if self.seconds is None else self.seconds + delay
        return EarlyEnd(self.at - delay, seconds, self.reason)


def is_hole(longest: float | None, interval: float | None) -> bool:
    """Return whether frames are missing, by the longest and the longest usual seconds between two frames."""
    return longest is not None and longest > least_hole(interval)


def least_hole(interval: float | None) -> float:
    """Return the seconds between two frames above which frames are missing."""
    return max(HOLE, _SLOW * (interval or 0.0))


def begin_tolerance(interval: float, *, bound: float) -> float:
    """Return the seconds by which a first frame may be after the start that was asked for.

    Args:
        interval: Longest usual seconds between two frames: the next one was not due yet.
        bound: Seconds by which the first frame's time may be wrong.
    """
    return bound + interval


def end_tolerance(length: float, interval: float, *, bound: float, files: int = 1) -> float:
    """Return the seconds that a video may lack at its end without being judged to end early.

    Args:
        length: Seconds it should last.
        interval: Longest usual seconds between two of its frames: the next one was not due yet.
        bound: Seconds by which its first frame's time and the time of the stop may be wrong together.
        files: How many files it is in; each may leave out how long its last frame lasts.
    """
    return bound + files * interval + LENGTH_DRIFT * length
