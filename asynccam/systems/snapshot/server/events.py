"""What happens on a Snapshot server, as events."""

from dataclasses import dataclass
from typing import Literal

from asynccam.model.events import Event
from asynccam.systems.snapshot.server.models import Shot
from asynccam.systems.snapshot.server.settings import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureEvent(Event):
    """Something about one camera's capture.

    Attributes:
        camera: The camera's name.
    """

    camera: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureQueued(CaptureEvent):
    """A capture was asked for and waits for its device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureStarted(CaptureEvent):
    """The device is being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureDone(CaptureEvent):
    """A picture is in the store."""

    shot: Shot


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFailed(CaptureEvent):
    """There is no picture.

    Attributes:
        error: Why, in words.
    """

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDeleted(Event):
    """A picture is gone from the store.

    Attributes:
        filename: Its name.
        camera: The camera it was of, or None if its name tells none.
        reason: ``asked``, ``age`` or ``size``; ``found`` when it was deleted by others.
    """

    filename: str
    camera: str | None
    reason: Literal["asked", "age", "size", "found"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged(Event):
    """``config.json`` was changed, by the page or by hand.

    Attributes:
        cameras: Names of the cameras there are now.
        problems: What in it cannot be used.
    """

    cameras: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTrouble(Event):
    """A service could not be stopped, or could not be started again, which is tried on.

    Attributes:
        service: Its name.
        error: Why, in words.
    """

    service: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRestored(Event):
    """A service runs again after trouble or after a crash.

    Attributes:
        service: Its name.
    """

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImuChanged(Event):
    """The broker was reached, or lost.

    Attributes:
        connected: Whether it is reached.
        error: Why not, in words, or ``""``.
    """

    connected: bool
    error: str = ""
