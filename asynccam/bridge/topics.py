"""Topics and payloads of the bridge, as plain values. See docs/mqtt.md."""

import hashlib
import ipaddress
import json
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asynccam.errors import UsageError
from asynccam.outside import read_json

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_KEY: Final = 60  # characters of a key, besides the digest
_MAX_DOCUMENT: Final = 256 * 1024
"""Bytes of a document that is read; a broker may retain any, and to read one takes the loop's time."""

DEFAULT_PREFIX: Final = "asynccam"
ONLINE: Final = "online"
OFFLINE: Final = "offline"
ON: Final = "ON"
OFF: Final = "OFF"
PRESS: Final = "PRESS"
KEPT: Final = ("state", "availability", "picture")
"""Last parts of the topics that are retained for a camera."""
ALL: Final = "take"
"""Key of all cameras together."""


def key_of(camera: str) -> str:
    """Return a camera's id as one level of a topic, which is also fit to be an id in Home Assistant.

    Ids that differ never give the same key: what had to be changed gets a digest of the id behind it. An id
    that names this computer (``thorvision://127.0.0.1:8000/cam``) gives another key on each computer.
    """
    fit = _UNFIT.sub("_", camera.replace("://", "_")).strip("_")[:_MAX_KEY]
    if fit == camera != ALL:
        return fit
    text = f"{camera} at {this_computer()}" if _names_this_computer(camera) else camera
    return f"{fit}_{_digest(text)}"


def node_of(prefix: str, key: str) -> str:
    """Return the id of a camera's device in Home Assistant, which differs where prefix or key differ."""
    if prefix == DEFAULT_PREFIX:
        return f"asynccam_{key}"
    fit = _UNFIT.sub("_", prefix).strip("_")[:_MAX_KEY]
    return f"asynccam_{fit}_{_digest(prefix)}_{key}"


def this_computer() -> str:
    """Return what tells this computer from others: a digest of its name and of its machine id."""
    return _THIS_COMPUTER


def _read_this_computer() -> str:
    known = ""
    for place in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with suppress(OSError):
            known = known or Path(place).read_text(errors="replace").strip()
    return hashlib.sha256(f"{socket.gethostname()}\n{known}".encode()).hexdigest()[:12]


_THIS_COMPUTER: Final = _read_this_computer()  # at import, because keys are made in the event loop


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:6]


def _names_this_computer(camera: str) -> bool:
    place = camera.partition("://")[2].partition("/")[0]
    host = place[1:].partition("]")[0] if place.startswith("[") else place.rpartition(":")[0] or place
    if host.casefold().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics of one bridge; ``prefix`` may have several levels."""

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        levels = self.prefix.split("/")
        if not all(levels) or any(char in self.prefix for char in "+#\0") or self.prefix.startswith("$"):
            raise UsageError(f"{self.prefix!r} is not a valid prefix of MQTT topics")

    @property
    def status(self) -> str:
        """State of the bridge: `ONLINE` or `OFFLINE`, retained."""
        return f"{self.prefix}/status"

    @property
    def event(self) -> str:
        """Events that are not about a camera."""
        return f"{self.prefix}/event"

    @property
    def take(self) -> str:
        """State of the take of all cameras, retained."""
        return f"{self.prefix}/take"

    @property
    def notice(self) -> str:
        """Problems for a person to solve, retained."""
        return f"{self.prefix}/notice"

    @property
    def sync(self) -> str:
        """Topic of the bridge's own message, which comes back after everything that is retained."""
        return f"{self.prefix}/sync"

    @property
    def kept(self) -> tuple[str, ...]:
        """Filters for retained messages of cameras."""
        return tuple(f"{self.prefix}/+/{what}" for what in KEPT)

    @property
    def commands(self) -> str:
        """Filter for every command."""
        return f"{self.prefix}/+/set/+"

    def of(self, key: str, what: str) -> str:
        """Return a topic of a camera: ``state``, ``availability``, ``event``, ``picture`` or ``result``."""
        return f"{self.prefix}/{key}/{what}"

    def command(self, key: str, name: str) -> str:
        """Return the topic of a command; the key for a take of all cameras is ``take``."""
        return f"{self.prefix}/{key}/set/{name}"

    def read_kept(self, topic: str) -> tuple[str, str] | None:
        """Return key and kind of a retained topic of a camera, or None for any other topic."""
        match self._levels(topic):
            case [key, kind] if kind in KEPT:
                return key, kind
        return None

    def read_command(self, topic: str) -> tuple[str, str] | None:
        """Return key and name of a command's topic, or None for any other topic."""
        match self._levels(topic):
            case [key, "set", name]:
                return key, name
        return None

    def _levels(self, topic: str) -> list[str]:
        """Return the levels of a topic behind the prefix; none for a topic of another prefix."""
        start = f"{self.prefix}/"
        return topic.removeprefix(start).split("/") if topic.startswith(start) else []


def encoded(value: Any) -> str:
    """Return a JSON payload; a lone surrogate, which UTF-8 cannot encode, becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace").decode()


def decoded(payload: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a payload, or None if there is none or it is longer than one of ours."""
    if len(payload) > _MAX_DOCUMENT:
        return None
    try:
        document = read_json(payload, lenient=True)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
