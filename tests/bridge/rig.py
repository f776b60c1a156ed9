"""Somebody else on the broker: sees everything, and says what it is told to say."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiomqtt import Client

from asynccam.net.mqtt import MqttBroker
from asynccam.runtime.retry import Backoff
from tests.support.broker import Broker
from tests.support.waiting import eventually

QUICK = Backoff(initial=0.05, maximum=0.2)


def place(broker: Broker, **more: Any) -> MqttBroker:
    return MqttBroker(broker.host, broker.port, **more)


class Watcher:
    """Attributes:
    latest: The newest payload of each topic; empty ones take a topic away.
    heard: Every message, in order.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.latest: dict[str, bytes] = {}
        self.heard: list[tuple[str, bytes]] = []

    async def read(self) -> None:
        async for message in self._client.messages:
            topic, payload = str(message.topic), message.payload
            assert isinstance(payload, bytes)
            self.heard.append((topic, payload))
            if payload:
                self.latest[topic] = payload
            else:
                self.latest.pop(topic, None)

    async def say(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        await self._client.publish(topic, payload, qos=1, retain=retain)

    async def sees(self, topic: str, **fields: Any) -> dict[str, Any]:
        """Wait until a topic's document has these fields; give the document."""

        def matching() -> dict[str, Any] | None:
            if topic not in self.latest:
                return None
            document: dict[str, Any] = json.loads(self.latest[topic])
            return document if fields.items() <= document.items() else None

        found = await eventually(matching, what=f"{fields} at {topic}")
        assert found is not None
        return found

    async def sees_word(self, topic: str, word: str | None) -> None:
        """Wait until a topic has this payload, or none at all."""
        expected = None if word is None else word.encode()
        await eventually(lambda: self.latest.get(topic) == expected, what=f"{word} at {topic}")

    async def hears(self, topic: str, **fields: Any) -> dict[str, Any]:
        """Wait for a message, now or before, whose document has these fields."""

        def matching() -> dict[str, Any] | None:
            for place, payload in self.heard:
                if place == topic and fields.items() <= (document := json.loads(payload)).items():
                    assert isinstance(document, dict)
                    return document
            return None

        found = await eventually(matching, what=f"{fields} at {topic}")
        assert found is not None
        return found


@asynccontextmanager
async def watching(broker: Broker, **credentials: Any) -> AsyncIterator[Watcher]:
    async with Client(broker.host, broker.port, **credentials) as client:
        watcher = Watcher(client)
        await client.subscribe("#", qos=1)
        reading = asyncio.create_task(watcher.read())
        try:
            yield watcher
        finally:
            reading.cancel()
            await asyncio.wait({reading})
