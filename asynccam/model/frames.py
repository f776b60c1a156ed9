"""Times of the frames in a recorded file."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FrameTime:
    """When one frame of a file is shown.

    Attributes:
        index: Number of the frame in the order in which frames are shown, from 0.
        time: Its presentation time on the file's own time line in seconds, which need not begin at 0; None
            where the file gives this frame no time.
        duration: Seconds for which it is shown: as the file states for this frame, else until the next one.
            None where neither is known, as for the last frame of many files.
        resolution: Step of the file's times in seconds: ``time`` may be rounded or cut off by that much.
    """

    index: int
    time: float | None
    duration: float | None
    resolution: float = 0.0


FrameTimeReader = Callable[[Path], AsyncGenerator[FrameTime, None]]
"""Reads the times of a file's frames: `asynccam.recording.frame_times`, for example."""
