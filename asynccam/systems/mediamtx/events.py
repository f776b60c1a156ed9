"""What a MediaMTX Camera Service tells without being asked, as frozen events.

Beside these the client emits what all systems share: `CameraFound`, `CameraLost`,
`CameraStateChanged`, `RecordingStarted`, `RecordingStopped` and `Gap` of `asynccam.model.events`.
"""

from dataclasses import dataclass
from typing import Any

from asynccam.model.events import CameraEvent, Event
from asynccam.net.reconnecting import ConnectionStateChanged as ConnectionStateChanged
from asynccam.systems.mediamtx.models import CameraInfo, RecordingInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraStatusUpdate(CameraEvent):
    """The service told of a camera's status."""

    info: CameraInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingStatusUpdate(CameraEvent):
    """The service told of a recording."""

    recording: RecordingInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceNotice(Event):
    """The service told of something else.

    Attributes:
        service: The service's address.
        topic: What it is about, ``system.health`` for example.
        data: As it came.
    """

    service: str
    topic: str
    data: Any
