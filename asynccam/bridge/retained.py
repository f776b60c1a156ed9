"""What a broker has retained of a bridge's cameras, and which of it nobody will ever replace."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from asynccam.bridge.home_assistant import kept_filter, key_of_config
from asynccam.bridge.topics import Topics, decoded, this_computer
from asynccam.net.mqtt import MqttMessage

_OURS: Final = ("id", "system", "features")
"""Fields that every state of a camera has had in every version."""


class Retained:
    """Collects what is retained, from `begin` to `end`.

    Args:
        topics: The topics of this bridge.
        discovery: Prefix of Home Assistant's configurations, or None.

    Attributes:
        complete: Set once the bridge has heard itself, behind everything that is retained.
    """

    def __init__(self, topics: Topics, discovery: str | None) -> None:
        self._topics = topics
        self._discovery = discovery
        self._token: bytes | None = None
        self._kept: dict[str, dict[str, bytes]] = {}
        self._configs: dict[str, str] = {}
        self.complete = asyncio.Event()

    @property
    def filters(self) -> tuple[str, ...]:
        """What has to be subscribed to; the bridge's own echo comes last."""
        configs = () if self._discovery is None else (kept_filter(self._discovery),)
        return (*self._topics.kept, *configs, self._topics.sync)

    def begin(self, token: str) -> None:
        """Collect; the token is published by the bridge itself behind all subscriptions."""
        self._token = token.encode()
        self._kept.clear()
        self._configs.clear()
        self.complete.clear()

    def end(self) -> None:
        """Collect no more."""
        self._token = None

    def heard(self, message: MqttMessage) -> None:
        """Take a message in, if it is retained and may be of this bridge."""
        if self._token is None:
            return
        if message.topic == self._topics.sync:
            if message.payload == self._token:
                self.complete.set()
            return
        if not message.retain or not message.payload:
            return
        found = self._topics.read_kept(message.topic)
        if found is not None:
            key, what = found
            # A picture is large, and only its being there matters.
            self._kept.setdefault(key, {})[what] = message.payload if what == "state" else b""
        elif (key_ := key_of_config(message.payload, self._topics)) is not None:
            self._configs[message.topic] = key_

    def states(self) -> Mapping[str, dict[str, Any]]:
        """Return the states that a bridge of this prefix on this computer has left, by key."""
        read = {key: decoded(kept.get("state", b"")) for key, kept in self._kept.items()}
        return {
            key: state
            for key, state in read.items()
            if state is not None and all(name in state for name in _OURS) and not self._is_foreign(state)
        }

    def ghosts(self, keys: Collection[str], configs: Collection[str]) -> Iterator[str]:
        """Topics that are to be taken away.

        Args:
            keys: Of the cameras that are here or expected.
            configs: Topics of the configurations that are wanted.
        """
        ours = self.states()
        foreign = {
            key
            for key, kept in self._kept.items()
            if "state" in kept and key not in ours  # of another computer, or of somebody else altogether
        }
        for topic, key in self._configs.items():
            if topic not in configs and key not in foreign:
                yield topic
        for key in ours:
            if key not in keys:
                yield from (self._topics.of(key, what) for what in self._kept[key])
        for key in set(self._configs.values()) - {""} - set(ours) - set(keys) - foreign:
            yield from (self._topics.of(key, what) for what in self._kept.get(key, ()))

    def _is_foreign(self, state: Mapping[str, Any]) -> bool:
        return bool(state.get("host", this_computer()) != this_computer())
