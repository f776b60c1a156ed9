"""Events of a ThorVision server.

A client also emits `CameraChanged` and `MissedEvents` of `asynccam.model.events`, and for its recordings the
`RecorderEvent` kinds of `asynccam.recording`, with the camera's id as ``recorder``.
"""

from dataclasses import dataclass

from asynccam.model.events import CameraEvent, CameraFound, CameraLost, Event
from asynccam.net.reconnecting import ConnectionStateChanged as ConnectionStateChanged
from asynccam.systems.thorvision.models import Camera


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraAdded(CameraFound):
    """A camera was plugged in, or was there at the first request; ``device`` is the server's entry for it."""

    device: Camera


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraRemoved(CameraLost):
    """A camera was unplugged; ``device`` is the server's last entry for it."""

    device: Camera


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTakenOver(CameraEvent):
    """The server was sending the camera's stream to another client, and was asked to stop it for this one.

    Another program was recording it, or a program that crashed had left it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTakenAway(CameraEvent):
    """The server accepts a new start of the camera's stream and sends nothing here.

    Another program has taken the stream over, or the server hangs. The stream is requested again until it
    is free; it is not taken back.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerNotice(Event):
    """The server at address ``server`` sent an event of an unknown ``event_type``."""

    server: str
    event_type: str
