"""How a recorder is told to behave: limits, and what it watches for."""

from dataclasses import dataclass
from typing import Final

from asynccam.errors import UsageError
from asynccam.runtime.retry import Backoff

_BACKOFF: Final = Backoff(initial=0.5, maximum=10.0, immediate=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a recording ends by itself; None for never.

    Attributes:
        seconds: From the first frame.
        size: Bytes on disk, noticed within a second.
        segments: Finished files of a split recording. What arrives until the process has heard of
            it stands in one more, short file.
    """

    seconds: float | None = None
    size: int | None = None
    segments: int | None = None

    def __post_init__(self) -> None:
        if any(limit is not None and not limit > 0 for limit in (self.seconds, self.size, self.segments)):
            raise UsageError(f"a limit is above 0, or None: {self}")


@dataclass(frozen=True, slots=True)
class Watch:
    """What a recorder looks for while it runs.

    Attributes:
        interval: Seconds between looks, and between progress events.
        stall: Seconds without growth that make a stall; at least 2, since frames are counted once
            a second.
        restart: Whether a stall or a stream that ends leads to a new process with a new file,
            again and again until frames come or the recorder is stopped.
        low_space: Bytes free below which `RecorderDiskLow` is told.
        backoff: Waits between restarts.
    """

    interval: float = 1.0
    stall: float = 5.0
    restart: bool = False
    low_space: int = 1 << 30
    backoff: Backoff = _BACKOFF

    def __post_init__(self) -> None:
        if self.interval <= 0 or self.stall < 2:
            raise UsageError(f"not a usable watch: {self}")


NO_LIMITS: Final = Limits()
DEFAULT_WATCH: Final = Watch()
