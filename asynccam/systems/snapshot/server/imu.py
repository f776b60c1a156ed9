"""The IMU's readings, by MQTT. See docs/protocols/snapshot.md."""

from asynccam.runtime.hub import EventHub
from asynccam.systems.snapshot.server.settings import ImuSettings
from asynccam.systems.snapshot.server.shots import Reading


class ImuFeed:
    """The newest reading of an IMU, from an MQTT broker that may come and go.

    Args:
        settings: Broker, topic and how old a reading may be.
        events: Where `ImuChanged` is told, or None.
    """

    def __init__(self, settings: ImuSettings | None = None, *, events: EventHub | None = None) -> None:
        raise NotImplementedError

    connected: bool
    error: str
    garbage: int

    @property
    def newest(self) -> Reading | None:
        """The newest reading, however old, or None."""
        raise NotImplementedError

    def reading(self) -> Reading | None:
        """The newest reading, or None when there is none or it is too old."""
        raise NotImplementedError
