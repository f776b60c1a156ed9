"""Connections to a broker: refused, silent, lost and cancelled; the broker is a real one where it can be."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import UsageError
from asynccam.net.mqtt import MqttBroker, stay_connected
from asynccam.runtime.retry import Backoff
from tests.support.broker import broker as running_broker
from tests.support.waiting import eventually

QUICK = Backoff(initial=0.02, maximum=0.05)


@pytest.mark.parametrize("wrong", [{"host": ""}, {"port": 0}, {"port": 65536}, {"keepalive": 0}])
def test_mqtt_broker_invalid_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        MqttBroker(**{"host": "127.0.0.1", **wrong})


async def test_stay_connected_retries_a_missing_broker(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    caplog.set_level("INFO", "asynccam.net.mqtt")
    staying = asyncio.create_task(stay_connected(MqttBroker("127.0.0.1", port), _nothing, backoff=QUICK))
    await eventually(lambda: len(caplog.messages) >= 3, timeout=20)
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    assert str(port) in caplog.messages[0]


@pytest.mark.parametrize("passes", [0, 1, 3, 10, 50, 200])
async def test_stay_connected_cancelled_with_a_silent_broker(passes: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = MqttBroker("127.0.0.1", server.getsockname()[1], answer_timeout=0.3)
        staying = asyncio.create_task(stay_connected(place, _nothing, backoff=QUICK))
        for _ in range(passes):
            await asyncio.sleep(0.001)  # how far it got by then differs
        staying.cancel()
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await staying


async def test_stay_connected_ends_when_work_returns(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def work(client: Any) -> None:
        await client.subscribe("a/+")
        await client.publish("a/b", b"hello")
        async for message in client.messages:
            heard.append(message.payload)
            return

    async with running_broker(tmp_path) as broker:
        async with asyncio.timeout(20):
            await stay_connected(MqttBroker(broker.host, broker.port), work, backoff=QUICK)
    assert heard == [b"hello"]


async def test_publish_never_loses_a_cancellation(tmp_path: Path) -> None:
    began = asyncio.Event()

    async def work(client: Any) -> None:
        while True:
            await client.publish("a", b"x")
            began.set()

    async with running_broker(tmp_path) as broker:
        for passes in range(30):
            began.clear()
            staying = asyncio.create_task(
                stay_connected(MqttBroker(broker.host, broker.port), work, backoff=QUICK)
            )
            async with asyncio.timeout(20):
                await began.wait()
                for _ in range(passes):
                    await asyncio.sleep(0)
                staying.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await staying


async def _nothing(client: object) -> None:
    pytest.fail("connected")
