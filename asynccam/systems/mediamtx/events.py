"""Events and notifications of a MediaMTX Camera Service.

Besides the events here, the client emits those that all systems share: `CameraFound`, `CameraLost`,
`CameraStateChanged`, `RecordingStarted`, `RecordingStopped` and `MissedEvents` of `asynccam.model.events`.
See docs/protocols/mediamtx.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from asynccam.model.events import CameraEvent, Event
from asynccam.net.reconnecting import ConnectionStateChanged as ConnectionStateChanged
from asynccam.systems.mediamtx.models import CameraInfo, RecordingInfo

TOPICS: Final = (
    "camera.connected",
    "camera.disconnected",
    "camera.status_change",
    "recording.start",
    "recording.stop",
    "recording.error",
    "snapshot.taken",
)
"""Topics that a client subscribes to by default on a service of generation 2."""

_PAYLOADS: Final[dict[str, tuple[type[CameraInfo | RecordingInfo], str]]] = {
    "camera_status_update": (CameraInfo, ""),
    "camera.connected": (CameraInfo, "CONNECTED"),
    "camera.disconnected": (CameraInfo, "DISCONNECTED"),
    "camera.status_change": (CameraInfo, ""),
    "recording_status_update": (RecordingInfo, ""),
    "recording.start": (RecordingInfo, "STARTED"),
    "recording.stop": (RecordingInfo, "STOPPED"),
    "recording.error": (RecordingInfo, "ERROR"),
}
"""Topic -> type of its payload, and the status that it implies where the payload has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraStatusUpdate(CameraEvent):
    """A camera's status as the service reported it."""

    info: CameraInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingStatusUpdate(CameraEvent):
    """A recording's status as the service reported it."""

    recording: RecordingInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceNotice(Event):
    """Any other notification of the service.

    Attributes:
        service: The service's address.
        topic: ``system.health`` for example.
        data: Payload as received.
    """

    service: str
    topic: str
    data: Any


def parse_notification(method: str, params: Any) -> tuple[str, Any, CameraInfo | RecordingInfo | None]:
    """Return the topic, payload, and camera or recording or None; `RemoteProtocolError` if invalid."""
    # A topic of generation 2 is the method's name, or is inside the params as "topic" beside "data".
    topic, payload = method, params
    if method not in _PAYLOADS and isinstance(params, Mapping):
        named = params.get("topic")
        if isinstance(named, str):
            topic, payload = named, params.get("data")
    if topic not in _PAYLOADS:
        return topic, payload, None
    kind, status = _PAYLOADS[topic]
    value = payload
    if status and isinstance(payload, Mapping) and not payload.get("status"):
        value = {**payload, "status": status}
    return topic, payload, kind.read(value, method=topic)
