"""Events of a Snapshot server."""

from dataclasses import dataclass
from typing import Literal

from asynccam.model.events import Event
from asynccam.systems.snapshot.server.models import Problem, Shot


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureEvent(Event):
    """An event of a capture with one camera, given by its name."""

    camera: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureQueued(CaptureEvent):
    """A capture was requested and waits for its device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureStarted(CaptureEvent):
    """The device is being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureDone(CaptureEvent):
    """A picture is in the store."""

    shot: Shot


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFailed(CaptureEvent):
    """A capture failed; ``error`` says why."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDeleted(Event):
    """A picture was deleted.

    Attributes:
        filename: Its name.
        camera: Its camera, or None if the file name does not contain one.
        reason: ``asked``, ``age`` or ``size``; ``found`` if another program deleted it.
    """

    filename: str
    camera: str | None
    reason: Literal["asked", "age", "size", "found"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged(Event):
    """``config.json`` was changed: names of its cameras, and what in it cannot be used."""

    cameras: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTrouble(Event):
    """A systemd service could not be stopped, or not restarted, which is retried; ``error`` says why."""

    service: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRestored(Event):
    """A systemd service runs again after trouble or a crash."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImuChanged(Event):
    """The connection to the broker was made or lost; ``error`` says why, or is ``""``."""

    connected: bool
    error: str = ""
