"""Plain values that describe cameras, their state and their files."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def _empty() -> Mapping[str, Any]:
    # Not a plain default: Python 3.11 takes every unhashable one for mutable.
    return _EMPTY


class CameraState(Enum):
    """State of a camera, the same for all systems."""

    UNKNOWN = "unknown"
    READY = "ready"
    RECORDING = "recording"
    STOPPING = "stopping"
    UNAVAILABLE = "away"
    AWAY = UNAVAILABLE  # the name of earlier versions
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """Description of a camera.

    Attributes:
        id: Stable identity as a URI, such as ``multicam://Mountain-A1B2C3D4``; an address only if the system
            has nothing better.
        system: Name of the camera system.
        name: Name to display.
        serial: The device's own identifier, or ``""``.
        address: Address where it was last reached, ``SYSTEM://HOST:PORT[/CAMERA]``, or ``""``.
        model: Kind of device, or ``""``.
        extra: Other data of the system, by its own names.
        identity: Facts that detect another device at this address, such as ``deviceId``; may be empty.
    """

    id: str
    system: str
    name: str
    serial: str = ""
    address: str = ""
    model: str = ""
    extra: Mapping[str, Any] = field(default_factory=_empty)
    identity: Mapping[str, str] = field(default_factory=_empty)


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """Status of a camera, as it last reported it.

    Attributes:
        state: State common to all systems.
        detail: The system's own status text.
        device_time: The device's clock in Unix seconds, or None.
        battery: Charge from 0 to 100 percent, or None.
        extra: Other data of the system.
    """

    state: CameraState
    detail: str = ""
    device_time: float | None = None
    battery: float | None = None
    extra: Mapping[str, Any] = field(default_factory=_empty)


class CheckResult(Protocol):
    """Result of checking a video file."""

    @property
    def verdict(self) -> Enum:
        """``complete``, ``truncated``, ``damaged``, ``empty`` or ``unknown``."""
        ...

    @property
    def frames(self) -> int | None:
        """Number of frames that a player shows, or None."""
        ...

    @property
    def duration(self) -> float | None:
        """Presentation time of these frames in seconds, or None."""
        ...

    @property
    def detail(self) -> str:
        """Result in words."""
        ...


@runtime_checkable
class ReportsOutages(Protocol):
    """Optional part of `CheckResult`: seconds between frames."""

    @property
    def interval(self) -> float | None:
        """Longest usual time between two frames in seconds, or None."""
        ...

    @property
    def longest(self) -> float | None:
        """Longest time between two frames in seconds, which may be an outage, or None."""
        ...


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A recording or picture on a device.

    Attributes:
        name: The device's name for it, as received; **not** safe as a path.
        size: Bytes, or None if the device does not report it (or reported 0 before packing).
        id: A second name by which the system serves it, or ``""``.
        created: Unix seconds, or None.
        path: Set if the file is already on this computer (recorders that run here).
        verdict: Result of the recorder's check, or None if not checked.
    """

    name: str
    size: int | None = None
    id: str = ""
    created: float | None = None
    path: Path | None = None
    verdict: CheckResult | None = None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that was downloaded completely.

    Attributes:
        size: Bytes.
        sha256: Lower-case hexadecimal digest, or ``""`` if it was not requested.
        source: The device's name for the file.
        seconds: Seconds that the transfer took.
        digest: Digest by another algorithm, ``blake3:HEX`` or ``xxh3:HEX``, or ``""``.
    """

    path: Path
    size: int
    sha256: str = ""
    source: str = ""
    seconds: float = 0.0
    digest: str = ""


DRIFT_LIMIT: Final = 500e-6
"""Maximum drift between two clocks, in seconds per second. Quartz clocks stay within 100 ppm
each, and the kernel's NTP discipline steers by up to 500 ppm (ntp_adjtime(2)). Assumed, not measured."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Offset of a device's clock from this computer's.

    Attributes:
        offset: Device minus computer, in seconds.
        bound: The true offset at ``measured_at`` lies within ``offset`` plus or minus this many seconds.
        round_trip: The shortest round trip seen, in seconds.
        samples: Number of usable answers; together they set the bound.
        measured_at: Computer's time for which the offset holds, Unix seconds.
        resolution: Step of the device's stamps in seconds, as observed or as the device states it, whichever
            is coarser; part of the bound.
        consistent: Whether all answers can be from one clock. If not, the clock was set meanwhile or its
            answers are wrong, and the bound covers all of them.
        drift_limit: Assumed maximum drift between the two clocks, in seconds per second.
        source_bound: Uncertainty of a time server's own time, in seconds (half its root delay plus its root
            dispersion, RFC 5905), or None. Not part of ``bound``.
    """

    offset: float
    bound: float
    round_trip: float
    samples: int
    measured_at: float = field(default=0.0)
    resolution: float = 0.0
    consistent: bool = True
    drift_limit: float = DRIFT_LIMIT
    source_bound: float | None = None

    def bound_at(self, when: float) -> float:
        """Return the bound of the same offset at another time, Unix seconds of the computer."""
        return self.bound + self.drift_limit * abs(when - self.measured_at)


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
