"""The rule that tells a video which ended early, recorded here or on a device. See docs/recording.md."""

from dataclasses import dataclass
from typing import Final

END_BOUND: Final = 1.0
"""Seconds that may be missing at any frame rate, for encoders, networks and busy computers."""
_INTERVALS: Final = 2
"""Frame intervals: one that had not passed when the recording was stopped, and one to spare."""
_DRIFT: Final = 0.002
"""By which a video's time may run slower than ours: clocks that drift, 29.97 frames a second called 30."""


@dataclass(frozen=True, slots=True)
class EarlyEnd:
    """A video ends clearly before its recording was told to.

    Attributes:
        at: When its last frame was, Unix seconds of this computer.
        seconds: What is missing from there to the stop or the limit; None while nobody has told it to end.
        reason: Why, in words.
    """

    at: float
    seconds: float | None
    reason: str

    def made_earlier(self, delay: float) -> "EarlyEnd":
        """The same, by when its frames were made and not when they arrived, ``delay`` seconds later."""
        seconds = None if self.seconds is None else self.seconds + delay
        return EarlyEnd(self.at - delay, seconds, self.reason)


def end_tolerance(length: float, interval: float, *, files: int = 1, bound: float = END_BOUND) -> float:
    """Seconds that a video may lack at its end before it is said to have ended early.

    Args:
        length: Seconds it should last.
        interval: Longest usual time between two of its frames, in seconds.
        files: How many files it is in; each may leave out how long its last frame lasts.
        bound: What may be missing whatever the frame rate, in seconds.
    """
    return bound + (_INTERVALS + files - 1) * interval + _DRIFT * length
