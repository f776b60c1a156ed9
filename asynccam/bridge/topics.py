"""Topics and payloads of the bridge, as plain values. See docs/mqtt.md."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from asynccam.errors import UsageError

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_KEY: Final = 60

ONLINE: Final = "online"
OFFLINE: Final = "offline"
ON: Final = "ON"
OFF: Final = "OFF"
PRESS: Final = "PRESS"
ALL: Final = "take"
"""Stands where a camera's key would, and means all of them."""


def key_of(camera: str) -> str:
    """A camera's id as one level of a topic, which is also fit to be an id in Home Assistant.

    Ids that differ never give the same key: what had to be changed gets a digest of the id behind it.
    """
    fit = _UNFIT.sub("_", camera.replace("://", "_")).strip("_")[:_MAX_KEY]
    if fit == camera != ALL:
        return fit
    return f"{fit}_{hashlib.sha256(camera.encode()).hexdigest()[:6]}"


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic of one bridge.

    Attributes:
        prefix: In front of all; may have several levels.
    """

    prefix: str = "asynccam"

    def __post_init__(self) -> None:
        levels = self.prefix.split("/")
        if not all(levels) or any(char in self.prefix for char in "+#\0") or self.prefix.startswith("$"):
            raise UsageError(f"{self.prefix!r} cannot stand in front of MQTT topics")

    @property
    def status(self) -> str:
        """Whether the bridge is there: `ONLINE` or `OFFLINE`, retained."""
        return f"{self.prefix}/status"

    @property
    def event(self) -> str:
        """Events about no camera."""
        return f"{self.prefix}/event"

    @property
    def take(self) -> str:
        """The take over all cameras: its state, retained."""
        return f"{self.prefix}/take"

    @property
    def commands(self) -> str:
        """A filter for every command."""
        return f"{self.prefix}/+/set/+"

    def of(self, key: str, what: str) -> str:
        """One topic of a camera: ``state``, ``availability``, ``event``, ``picture`` or ``result``."""
        return f"{self.prefix}/{key}/{what}"

    def command(self, key: str, name: str) -> str:
        """Where a command is awaited; the key of the take over all cameras is ``take``."""
        return f"{self.prefix}/{key}/set/{name}"

    def read_command(self, topic: str) -> tuple[str, str] | None:
        """Key and name of a command, or None for any other topic."""
        start = f"{self.prefix}/"
        parts = topic.removeprefix(start).split("/")
        if not topic.startswith(start) or len(parts) != 3 or parts[1] != "set":
            return None
        return parts[0], parts[2]


def encoded(value: Any) -> str:
    """A JSON payload."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
