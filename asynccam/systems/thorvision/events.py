"""What happens at a ThorVision server, as frozen events.

Beside these a client emits what all systems share, `CameraChanged` and `Gap` of `asynccam.model.events`,
and for its recordings the `RecorderEvent` kinds of `asynccam.recording`, whose ``recorder`` is the
camera's id.
"""

from dataclasses import dataclass

from asynccam.model.events import CameraEvent, CameraFound, CameraLost, Event
from asynccam.net.reconnecting import ConnectionStateChanged as ConnectionStateChanged
from asynccam.systems.thorvision.models import Camera


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraAdded(CameraFound):
    """A camera was plugged in, or was there when the server was first asked.

    Attributes:
        device: As the server describes it.
    """

    device: Camera


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraRemoved(CameraLost):
    """A camera was unplugged.

    Attributes:
        device: As the server described it last.
    """

    device: Camera


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTakenOver(CameraEvent):
    """The server was sending the camera's stream for somebody else, and was told to end it for this client.

    Another program may have been recording it, or one that died had left it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTakenAway(CameraEvent):
    """The server accepts a new start of the camera's stream and sends nothing here.

    Another program has taken the stream over, or the server hangs. The stream is asked for again until it
    is free; it is never taken back by force.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerNotice(Event):
    """The server told of something that nobody here knows.

    Attributes:
        server: Its address.
        event_type: Its own word for it.
    """

    server: str
    event_type: str
