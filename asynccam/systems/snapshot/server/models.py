"""Plain values of the Snapshot server: pictures, pages of pictures, IMU readings, camera states, problems."""

from dataclasses import dataclass, replace
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from typing import Final, TypeAlias
from urllib.parse import quote


def _read_version() -> str:
    try:
        return version("asynccam")
    except PackageNotFoundError:  # run from sources that are not installed
        return "unknown"


VERSION: Final = _read_version()
"""Version of asynccam, in responses and in the EXIF of pictures."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Orientation of a camera: angles in degrees, and when they were received, ``at``, in Unix seconds."""

    roll: float
    pitch: float
    yaw: float
    at: float

    def turned(self, roll: float | None, pitch: float | None, yaw: float | None) -> "Reading":
        """Return the reading with a camera's offsets added, in degrees."""
        return replace(
            self, roll=self.roll + (roll or 0), pitch=self.pitch + (pitch or 0), yaw=self.yaw + (yaw or 0)
        )


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A picture in the store.

    Attributes:
        filename: One path component.
        camera: The camera's name, or None if the file name does not contain one.
        prefix: How the picture was requested (``snapshot`` for example), or None if the file name has none.
        size: Bytes.
        taken_ns: When it was taken, Unix nanoseconds.
        imu: The reading written into its EXIF; known for a picture just taken only, else None.
    """

    filename: str
    camera: str | None
    prefix: str | None
    size: int
    taken_ns: int
    imu: Reading | None = None

    @property
    def taken_at(self) -> float:
        """When it was taken, Unix seconds."""
        return self.taken_ns / 1e9

    @property
    def image_url_path(self) -> str:
        """URL path of the picture, below the server's base URL."""
        return f"/snapshots/{quote(self.filename, safe='')}"

    @property
    def download_url_path(self) -> str:
        """URL path of the picture as an attachment."""
        return f"/download/{quote(self.filename, safe='')}"

    @property
    def thumbnail_url_path(self) -> str:
        """URL path of its thumbnail."""
        return f"/api/v1/snapshots/{quote(self.filename, safe='')}/thumbnail"


Shot: TypeAlias = StoredSnapshot
"""A picture just taken; `StoredSnapshot.imu` is the reading in its EXIF."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the pictures, newest first.

    Attributes:
        items: The pictures.
        next: Cursor of the next page, for ``after``; None on the last page.
        total: Number of pictures of the requested camera, or of all cameras.
    """

    items: tuple[StoredSnapshot, ...]
    next: str | None
    total: int


@dataclass(frozen=True, slots=True)
class ShotResult:
    """One camera's result in a capture of several cameras: either ``shot`` or ``error`` is None."""

    camera: str
    shot: Shot | None = None
    error: str | None = None


class Phase(Enum):
    """Activity of a camera; ``FAILED`` lasts until its next capture."""

    IDLE = "idle"
    WAITING = "waiting"
    CAPTURING = "capturing"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CaptureState:
    """State of a camera.

    Attributes:
        phase: ``failed`` lasts until its next capture.
        last: File name of its newest picture, or None.
        last_taken_at: When that was taken, Unix seconds, or None.
        error: Why its latest capture failed, or None.
    """

    phase: Phase = Phase.IDLE
    last: str | None = None
    last_taken_at: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a configuration that cannot be used.

    Attributes:
        message: Describes the problem.
        field: ``cameras[1].width`` for example; ``""`` for the document as a whole.
        line: From 1, or None if the value is not from a file.
        column: From 1, or None.
        camera: Name of the camera entry it belongs to, or None.
    """

    message: str
    field: str = ""
    line: int | None = None
    column: int | None = None
    camera: str | None = None

    def __str__(self) -> str:
        """Return position, field and message in one line."""
        place = "" if self.line is None else f"line {self.line}, column {self.column}: "
        return place + (f"{self.field}: " if self.field else "") + self.message
