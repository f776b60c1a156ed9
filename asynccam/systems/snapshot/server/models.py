"""What comes of a capture, as plain values."""

from dataclasses import dataclass, replace
from enum import Enum


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the camera looked.

    Attributes:
        roll: Degrees.
        pitch: Degrees.
        yaw: Degrees.
        at: When the reading came, Unix seconds.
    """

    roll: float
    pitch: float
    yaw: float
    at: float

    def turned(self, roll: float | None, pitch: float | None, yaw: float | None) -> "Reading":
        """The reading with a camera's offsets added, in degrees."""
        return replace(
            self, roll=self.roll + (roll or 0), pitch=self.pitch + (pitch or 0), yaw=self.yaw + (yaw or 0)
        )


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture that was taken.

    Attributes:
        camera: The camera's name.
        filename: Its name in the store.
        taken_at: The moment of the picture, Unix seconds.
        size: Bytes.
        imu: What went into its EXIF, or None.
    """

    camera: str
    filename: str
    taken_at: float
    size: int
    imu: Reading | None = None


@dataclass(frozen=True, slots=True)
class ShotResult:
    """One camera's part of a capture of several.

    Attributes:
        camera: The camera's name.
        shot: The picture, or None.
        error: Why there is none, in words, or None.
    """

    camera: str
    shot: Shot | None = None
    error: str | None = None


class Phase(Enum):
    """What a camera does."""

    IDLE = "idle"
    WAITING = "waiting"
    CAPTURING = "capturing"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CaptureState:
    """Where a camera stands.

    Attributes:
        phase: ``failed`` stays until its next capture.
        last: Name of its newest picture in the store, or None.
        last_taken_at: When that was taken, Unix seconds, or None.
        error: Why its latest capture failed, or None if it did not.
    """

    phase: Phase = Phase.IDLE
    last: str | None = None
    last_taken_at: float | None = None
    error: str | None = None
