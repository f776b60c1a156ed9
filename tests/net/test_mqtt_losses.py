"""Brokers that refuse, drop, restart and flood: refusals, losses, and work in portions."""

import asyncio
import random
import sys
import threading
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from asynccam.errors import AuthenticationError, ConnectionError, PermissionDeniedError
from asynccam.net.mqtt import MqttBroker, MqttConnection, connect_mqtt, stay_connected
from asynccam.runtime.retry import Backoff
from tests.support.broker import broker as running_broker
from tests.support.mqtt_peer import Peer, mqtt_peer, published
from tests.support.waiting import eventually

QUICK = Backoff(initial=0.02, maximum=0.05)


async def test_mqtt_restarting_broker_is_not_a_refusal(tmp_path: Path) -> None:
    rng = random.Random(14)
    connects = 0

    async def work(client: MqttConnection) -> None:
        nonlocal connects
        await client.subscribe("a/+")
        connects += 1
        while True:
            await client.publish("a/b", b"x" * rng.randrange(4000))

    def came_back(before: int) -> bool:
        return connects > before or staying.done()

    async with running_broker(tmp_path, {"lab": "secret"}) as broker:
        place = MqttBroker(broker.host, broker.port, username="lab", password="secret")
        staying = asyncio.create_task(stay_connected(place, work, backoff=QUICK))
        for _ in range(8):
            before = connects
            await broker.restart()
            # Now and then the next restart comes before the client is through with its subscription.
            if rng.random() < 0.6:
                await eventually(partial(came_back, before))
            for _ in range(rng.randrange(60)):
                await asyncio.sleep(0.001)  # the next restart comes at any moment
            assert not staying.done(), staying
        before = connects
        await broker.restart()
        await eventually(partial(came_back, before))
        staying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await staying


@pytest.mark.parametrize("code", [4, 5])
async def test_mqtt_connack_refuses_credentials(code: int) -> None:
    async with mqtt_peer(lambda peer: peer.let_in(code)) as port:
        with pytest.raises(AuthenticationError, match="refuses the credentials"):
            await stay_connected(MqttBroker("127.0.0.1", port), _never, backoff=QUICK)


@pytest.mark.parametrize("code", [1, 2, 3])
async def test_mqtt_other_refusals_are_retried(code: int) -> None:
    async with mqtt_peer(lambda peer: peer.let_in(code)) as port:
        with pytest.raises(ConnectionError):
            async with connect_mqtt(MqttBroker("127.0.0.1", port)):
                pass


async def test_mqtt_without_a_thread_connects_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accepted = 0

    async def behaviour(peer: Peer) -> None:
        nonlocal accepted
        accepted += 1
        await peer.let_in()
        await peer.serve()

    async with mqtt_peer(behaviour) as port:
        broker = MqttBroker("127.0.0.1", port)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", _no_thread)
            with pytest.raises(ConnectionError, match="cannot start another thread"):
                async with connect_mqtt(broker):
                    pass
        async with connect_mqtt(broker) as client:  # the executor would do first what it kept
            await client.publish("a/b", "x")
    assert accepted == 1


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_mqtt_refusal_after_success_is_retried() -> None:
    served = asyncio.Event()

    async def behaviour(peer: Peer) -> None:
        await peer.let_in(5 if peer.number in (2, 3) else 0)
        if peer.number == 1:
            await peer.packet()
            peer.drop()
        await peer.serve()

    async def work(client: MqttConnection) -> None:
        await client.publish("a", b"x")
        served.set()

    async with mqtt_peer(behaviour) as port, asyncio.timeout(20):
        await stay_connected(MqttBroker("127.0.0.1", port), work, backoff=QUICK)
    assert served.is_set()


async def test_mqtt_refused_subscription() -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.let_in()
        await peer.serve(suback=0x80)

    async def work(client: MqttConnection) -> None:
        await client.subscribe("lab/+/set/+")
        pytest.fail("subscribed")

    async with mqtt_peer(behaviour) as port, asyncio.timeout(20):
        with pytest.raises(PermissionDeniedError, match="lab/"):
            await stay_connected(MqttBroker("127.0.0.1", port), work, backoff=QUICK)


async def test_mqtt_flood_loses_nothing() -> None:
    many = 30_000

    async def behaviour(peer: Peer) -> None:
        await peer.let_in()
        for start in range(0, many, 100):
            await peer.send(b"".join(published("a", b"%d" % n) for n in range(start, start + 100)))
        await peer.serve()

    got: list[int] = []
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(len(got))
            await asyncio.sleep(0)

    async with mqtt_peer(behaviour) as port, connect_mqtt(MqttBroker("127.0.0.1", port)) as client:
        other = asyncio.create_task(others())
        async with asyncio.timeout(50):
            async for message in client.messages:
                got.append(int(message.payload))
                if len(got) == many:
                    break
        other.cancel()
        with suppress(asyncio.CancelledError):
            await other
    assert got == list(range(many))
    assert max(after - before for before, after in pairwise(turns)) <= 64


async def test_mqtt_unread_messages_pause_reading() -> None:
    sent = 0

    async def behaviour(peer: Peer) -> None:
        nonlocal sent
        await peer.let_in()
        payload = published("a", b"x" * 10_000)
        while True:
            await peer.send(payload)
            sent += 1

    async with mqtt_peer(behaviour) as port, connect_mqtt(MqttBroker("127.0.0.1", port)) as client:
        before = -1
        while before != sent:  # until the peer gets rid of nothing more
            before = sent
            await asyncio.sleep(0.2)  # in which the peer would send more
        taken = 0  # and reading goes on once somebody takes them
        async for _ in client.messages:
            taken += 1
            if taken == 3 * before:
                break


NOISY = """
import asyncio, sys
from asynccam.net.mqtt import MqttBroker, connect_mqtt
from asynccam.errors import ConnectionError, TimeoutError

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # of a busy computer, debug mode says nothing here
    for number in range(60):
        try:
            async with connect_mqtt(MqttBroker("127.0.0.1", int(sys.argv[1]))) as client:
                async with asyncio.TaskGroup() as group:
                    group.create_task(client.subscribe("a"))
                    for _ in range(30):
                        group.create_task(client.publish("a", b"x" * 20000))
                    await asyncio.sleep(0.001 * (number % 10))  # left at any moment
                    if number % 7 == 0:
                        raise ConnectionError("left")
        except* (ConnectionError, TimeoutError):
            pass
    import gc
    gc.collect()
    await asyncio.sleep(0)

asyncio.run(main())
"""


async def test_mqtt_dropped_connections_log_nothing() -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.let_in()
        for _ in range(peer.number % 5):
            await peer.packet()
        peer.drop()

    async with mqtt_peer(behaviour) as port:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-c", NOISY, str(port)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(50):
            _, told = await process.communicate()
    assert (process.returncode, told.decode()) == (0, "")


async def _never(client: object) -> None:
    pytest.fail("connected")
