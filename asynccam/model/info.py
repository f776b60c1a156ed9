"""Plain values that describe cameras, their state and their files."""

from collections.abc import Mapping
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
    """What a camera is doing, in the words all five systems share."""

    UNKNOWN = "unknown"
    READY = "ready"
    RECORDING = "recording"
    STOPPING = "stopping"
    UNAVAILABLE = "away"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """Who a camera is.

    Attributes:
        id: Stable identity as a URI, such as ``multicam://Mountain-A1B2C3D4``; never an address
            where the system has something better.
        system: One of the five systems.
        name: What to show a person.
        serial: The device's own identifier, or ``""``.
        address: Where it was last reached, as ``SYSTEM://HOST:PORT[/CAMERA]``, or ``""``.
        model: Kind of device, or ``""``.
        extra: Whatever else the system tells, by its own names.
        identity: Facts by which another device at this address is noticed, such as ``deviceId``; empty where
            the system tells none.
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
    """What a camera said when it was last asked.

    Attributes:
        state: The common word for it.
        detail: The system's own word or sentence.
        device_time: The device's clock in Unix seconds, or None if it does not tell.
        battery: Charge from 0 to 100 percent, or None.
        extra: Whatever else the system tells.
    """

    state: CameraState
    detail: str = ""
    device_time: float | None = None
    battery: float | None = None
    extra: Mapping[str, Any] = field(default_factory=_empty)


class CheckResult(Protocol):
    """What a look into a video file found."""

    @property
    def verdict(self) -> Enum:
        """``complete``, ``truncated``, ``damaged``, ``empty`` or ``unknown``."""
        ...

    @property
    def frames(self) -> int | None:
        """Frames that are there and that a player shows, or None."""
        ...

    @property
    def duration(self) -> float | None:
        """Presentation time of these frames in seconds, or None."""
        ...

    @property
    def detail(self) -> str:
        """The finding in words."""
        ...


@runtime_checkable
class ReportsOutages(Protocol):
    """Further words of a `Finding` that knows the times between frames."""

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
        name: The device's name for it, as it came; **not** safe as a path.
        size: Bytes, or None if the device does not tell (or told 0 before packing).
        id: A second name the system uses to fetch it, or ``""``.
        created: Unix seconds, or None.
        path: Set when the file is already on this computer (recorders that run here).
        verdict: What the recorder found in it, or None where nobody has looked.
    """

    name: str
    size: int | None = None
    id: str = ""
    created: float | None = None
    path: Path | None = None
    verdict: CheckResult | None = None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that came home whole.

    Attributes:
        path: Where it is.
        size: Bytes.
        sha256: Lower-case hexadecimal digest of its contents, or ``""`` when none was asked for.
        source: The device's name for it.
        seconds: How long the transfer took.
    """

    path: Path
    size: int
    sha256: str = ""
    source: str = ""
    seconds: float = 0.0


DRIFT_LIMIT: Final = 500e-6
"""Seconds per second by which two clocks are assumed to run apart at most. Quartz clocks stay within 100 ppm
each, and the kernel's NTP discipline steers by up to 500 ppm (ntp_adjtime(2)). Assumed, not measured."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How far a device's clock is from this computer's.

    Attributes:
        offset: Device minus computer, in seconds.
        bound: The true offset at ``measured_at`` lies within ``offset`` plus or minus this many seconds.
        round_trip: The shortest round trip seen, in seconds.
        samples: How many usable answers there were; all of them set the bound together.
        measured_at: Computer's time for which the offset holds, Unix seconds.
        resolution: Step of the device's stamps in seconds, as seen in them or as the device states it,
            whichever is coarser; it is part of the bound.
        consistent: Whether one clock can have given all answers. If not, the clock was set meanwhile or
            its answers are wrong, and the bound covers all of them.
        drift_limit: Seconds per second by which the two clocks are assumed to run apart at most.
        source_bound: How far a time server says that it may be from true time, in seconds (half its root
            delay plus its root dispersion, RFC 5905); None where nothing says it. Not part of ``bound``.
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
