"""Retained messages of a bridge's cameras, and those of them that are stale."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from asynccam.bridge.home_assistant import config_filter, key_of_config
from asynccam.bridge.topics import Topics, decoded, this_computer
from asynccam.net.mqtt import MqttMessage

_STATE_FIELDS: Final = ("id", "system", "features")
"""Fields of a camera's state in every version."""


class RetainedMessages:
    """Collector of retained messages, from `begin` to `end`."""

    def __init__(self, topics: Topics, discovery: str | None) -> None:
        self._topics = topics
        self._discovery = discovery
        self._token: bytes | None = None
        self._messages: dict[str, dict[str, bytes]] = {}
        self._configs: dict[str, str] = {}
        self.complete = asyncio.Event()  # set once the bridge's own message is back, behind all retained ones

    @property
    def filters(self) -> tuple[str, ...]:
        """Filters to subscribe to; that of the bridge's own message is the last."""
        configs = () if self._discovery is None else (config_filter(self._discovery),)
        return (*self._topics.kept, *configs, self._topics.sync)

    def begin(self, token: str) -> None:
        """Start collecting; the bridge publishes the token after all subscriptions."""
        self._token = token.encode()
        self._messages.clear()
        self._configs.clear()
        self.complete.clear()

    def end(self) -> None:
        """Stop collecting."""
        self._token = None

    def on_message(self, message: MqttMessage) -> None:
        """Collect a message, if it is retained and may be of this bridge."""
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
            key, kind = found
            # A picture is large, and only its existence matters.
            self._messages.setdefault(key, {})[kind] = message.payload if kind == "state" else b""
        elif (key_ := key_of_config(message.payload, self._topics)) is not None:
            self._configs[message.topic] = key_

    def states(self) -> Mapping[str, dict[str, Any]]:
        """Return the states that a bridge of this prefix on this computer has left, by key."""
        read = {key: decoded(kept.get("state", b"")) for key, kept in self._messages.items()}
        return {
            key: state
            for key, state in read.items()
            if state is not None
            and all(name in state for name in _STATE_FIELDS)
            and state.get("host", this_computer()) == this_computer()
        }

    def stale_topics(self, keys: Collection[str], configs: Collection[str]) -> Iterator[str]:
        """Yield topics to clear: not of these keys of known or expected cameras, nor these configurations."""
        ours = self.states()
        foreign = {
            key
            for key, kept in self._messages.items()
            if "state" in kept and key not in ours  # of another computer, or of another program
        }
        for topic, key in self._configs.items():
            if topic not in configs and key not in foreign:
                yield topic
        for key in ours:
            if key not in keys:
                yield from (self._topics.of(key, kind) for kind in self._messages[key])
        for key in set(self._configs.values()) - {""} - set(ours) - set(keys) - foreign:
            yield from (self._topics.of(key, kind) for kind in self._messages.get(key, ()))
