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

# topic -> the status it implies, where the payload has none
_CAMERA: Final = {
    "camera_status_update": "",
    "camera.connected": "CONNECTED",
    "camera.disconnected": "DISCONNECTED",
    "camera.status_change": "",
}
_RECORDING: Final = {
    "recording_status_update": "",
    "recording.start": "STARTED",
    "recording.stop": "STOPPED",
    "recording.error": "ERROR",
}


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
    """Return a notification's topic, its payload, and the camera or recording it is about, or None.

    Raises `RemoteProtocolError` if the payload is not valid for its topic.
    """
    # A topic of generation 2 is the method's name, or is inside the params as "topic" beside "data".
    topic, payload = method, params
    if method not in _CAMERA and method not in _RECORDING and isinstance(params, Mapping):
        named = params.get("topic")
        if isinstance(named, str):
            topic, payload = named, params.get("data")
    if topic in _CAMERA:
        return topic, payload, CameraInfo.read(_with_status(payload, _CAMERA[topic]), method=topic)
    if topic in _RECORDING:
        return topic, payload, RecordingInfo.read(_with_status(payload, _RECORDING[topic]), method=topic)
    return topic, payload, None


def _with_status(payload: Any, status: str) -> Any:
    if isinstance(payload, Mapping) and status and not payload.get("status"):
        return {**payload, "status": status}
    return payload
