"""Notifications of both generations, read into what they tell. See docs/protocols/mediamtx.md."""

from collections.abc import Mapping
from typing import Any, Final

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
"""What a client subscribes to by itself on a service of generation 2."""

# topic -> the status it stands for, where the payload does not say
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


def read_notice(method: str, params: Any) -> tuple[str, Any, CameraInfo | RecordingInfo | None]:
    """Tell what a notification is about.

    A topic of generation 2 comes as the method's name with the payload as its params, or inside the
    params as ``topic`` and ``data``.

    Returns:
        The topic, the payload as it came, and what it tells of a camera or a recording, or None.

    Raises:
        RemoteProtocolError: The payload does not fit its topic.
    """
    topic, payload = method, params
    if method not in _CAMERA and method not in _RECORDING and isinstance(params, Mapping):
        named = params.get("topic")
        if isinstance(named, str):
            topic, payload = named, params.get("data")
    if topic in _CAMERA:
        return topic, payload, CameraInfo.read(_filled(payload, _CAMERA[topic]), method=topic)
    if topic in _RECORDING:
        return topic, payload, RecordingInfo.read(_filled(payload, _RECORDING[topic]), method=topic)
    return topic, payload, None


def _filled(payload: Any, status: str) -> Any:
    if isinstance(payload, Mapping) and status and not payload.get("status"):
        return {**payload, "status": status}
    return payload
