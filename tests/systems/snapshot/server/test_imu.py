"""ImuFeed against a real broker."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.systems.snapshot.server.events import ImuChanged
from asynccam.systems.snapshot.server.imu import ImuFeed, parse_reading
from asynccam.systems.snapshot.server.models import Reading
from asynccam.systems.snapshot.server.settings import ImuSettings
from tests.support.broker import HOST, Broker, broker, free_port
from tests.support.waiting import eventually, eventually_awaited

QUICK = Backoff(initial=0.05, maximum=0.1)
LEVEL = {"roll": 1, "pitch": "2.5", "yaw": -3.0, "temperature": 20}


@pytest_asyncio.fixture
async def mqtt(tmp_path: Path) -> AsyncIterator[Broker]:
    async with broker(tmp_path) as one:
        yield one


def settings(port: int, **fields: object) -> ImuSettings:
    return ImuSettings.model_validate({"port": port, "max_age": 600.0, **fields})


async def send_until(one: Broker, feed: ImuFeed, payload: dict[str, object], topic: str = "status/") -> None:
    """Publish until it has arrived."""

    def angles(reading: Reading | None) -> tuple[float, ...]:
        return () if reading is None else (reading.roll, reading.pitch, reading.yaw)

    wanted = tuple(float(str(payload[key])) for key in ("roll", "pitch", "yaw"))

    async def arrived() -> bool:
        if angles(feed.newest) == wanted:
            return True
        await one.publish(topic, payload)
        return False

    await eventually_awaited(arrived, 30)


def test_imu_settings_have_defaults_of_existing_servers() -> None:
    assert (ImuSettings().broker, ImuSettings().port, ImuSettings().topic) == ("127.0.0.1", 1883, "status/")


async def test_imu_returns_newest_reading(mqtt: Broker) -> None:
    async with ImuFeed(settings(mqtt.port), backoff=QUICK) as feed:
        await eventually(lambda: feed.connected, 20)
        assert feed.reading() is None
        await mqtt.publish("status/", LEVEL)
        reading = await eventually(feed.reading, 20)
        assert reading is not None
        assert (reading.roll, reading.pitch, reading.yaw) == (1.0, 2.5, -3.0)
        assert abs(reading.at - time.time()) < 60
        await send_until(mqtt, feed, {**LEVEL, "roll": 9})
        assert feed.reading() == feed.newest
    assert not feed.connected


async def test_imu_ignores_old_reading(mqtt: Broker) -> None:
    async with ImuFeed(settings(mqtt.port, max_age=0.05), backoff=QUICK) as feed:
        await eventually(lambda: feed.connected, 20)
        await send_until(mqtt, feed, LEVEL)
        await eventually(lambda: feed.reading() is None, 20)
        assert feed.newest is not None


async def test_imu_counts_garbage_and_keeps_last_reading(mqtt: Broker) -> None:
    async with ImuFeed(settings(mqtt.port), backoff=QUICK) as feed:
        await eventually(lambda: feed.connected, 20)
        await send_until(mqtt, feed, LEVEL)
        for number, payload in enumerate([b"\xff\x00", "", "[]", '{"roll": 1}', b"x" * 100_000], 1):
            await mqtt.publish("status/", payload)
            await eventually(lambda n=number: feed.garbage == n, 20)  # type: ignore[misc]  # a lambda's default
        assert feed.newest is not None
        assert feed.newest.roll == 1.0


async def test_imu_ignores_retained_message(mqtt: Broker) -> None:
    await mqtt.publish("status/", {**LEVEL, "roll": 99}, retain=True)
    async with ImuFeed(settings(mqtt.port), backoff=QUICK) as feed:
        await eventually(lambda: feed.connected, 20)
        await send_until(mqtt, feed, LEVEL)
        assert feed.garbage == 0


async def test_imu_reconnects_to_broker(mqtt: Broker) -> None:
    hub = EventHub()
    with hub.stream(ImuChanged) as told:
        async with ImuFeed(settings(mqtt.port), events=hub, backoff=QUICK) as feed, asyncio.timeout(40):
            assert (await anext(told)).connected
            await mqtt.stop()
            event = await anext(told)
            assert not event.connected
            assert str(mqtt.port) in event.error
            await mqtt.start()
            while not (await anext(told)).connected:
                pass
            await send_until(mqtt, feed, LEVEL)
    await hub.aclose()


async def test_imu_waits_for_broker(tmp_path: Path) -> None:
    one = Broker(tmp_path)
    one.port = free_port()
    async with ImuFeed(settings(one.port), backoff=QUICK) as feed:
        await eventually(lambda: feed.error, 20)
        assert feed.reading() is None
        try:
            await one.start()
            feed_settings = settings(one.port, topic="other/topic")
            await feed.use(feed_settings)
            await eventually(lambda: feed.connected, 20)
            await send_until(one, feed, LEVEL, topic="other/topic")
        finally:
            await one.stop()


async def test_imu_reads_credentials_from_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pa55\n")
    async with broker(tmp_path, {"imu": "pa55"}) as one:
        wrong = settings(one.port, username="imu")
        async with ImuFeed(wrong, base=tmp_path, backoff=QUICK) as feed:
            await eventually(lambda: feed.error, 20)
            assert not feed.connected
            await feed.use(settings(one.port, username="imu", password_file="none"))
            await eventually(lambda: "none" in feed.error, 20)
            await feed.use(settings(one.port, username="imu", password_file="secret"))
            await eventually(lambda: feed.connected, 20)
            assert feed.error == ""
            await send_until(one, feed, LEVEL)


async def test_imu_keeps_connection_for_new_age_limit(mqtt: Broker) -> None:
    hub = EventHub()
    async with ImuFeed(settings(mqtt.port), events=hub, backoff=QUICK) as feed:
        await eventually(lambda: feed.connected, 20)
        await send_until(mqtt, feed, LEVEL)
        told = hub.emitted
        await feed.use(settings(mqtt.port, max_age=0.001))
        await eventually(lambda: feed.reading() is None, 20)
        assert (hub.emitted, feed.connected) == (told, True)
    await hub.aclose()


async def test_imu_disabled_does_not_connect(mqtt: Broker) -> None:
    async with ImuFeed(settings(mqtt.port, enabled=False)) as feed:
        await asyncio.sleep(0)
        assert not feed.connected
        await feed.use(settings(mqtt.port))
        await eventually(lambda: feed.connected, 20)
        await feed.use(settings(mqtt.port, enabled=False))
        assert not feed.connected
        assert feed.error == ""


async def test_imu_closed_while_connecting_leaves_nothing() -> None:
    async with ImuFeed(settings(free_port()), backoff=QUICK):
        pass


@pytest.mark.parametrize("patient", [False, True])
async def test_imu_times_out_on_silent_broker(patient: bool) -> None:
    """One that is left while it is waited for, and one whose answer is waited for in vain."""
    came, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()
        writer.close()
        gone.set()

    server = await asyncio.start_server(silent, HOST, 0)
    async with server, asyncio.timeout(40):
        port = server.sockets[0].getsockname()[1]
        once = Backoff(initial=600, maximum=600)
        async with ImuFeed(settings(port), backoff=once, timeout=0.3) as feed:
            await came.wait()
            if patient:
                await eventually(lambda: feed.error, 30)
                await gone.wait()
        await gone.wait()


@pytest.mark.parametrize("topic", ["#/x", "a+b"])
async def test_imu_reports_invalid_topic(mqtt: Broker, topic: str) -> None:
    async with ImuFeed(settings(mqtt.port, topic=topic), backoff=QUICK) as feed:
        await eventually(lambda: feed.error, 20)
        assert not feed.connected


@given(st.binary() | st.text())
def test_parse_reading_accepts_any_bytes(payload: bytes | str) -> None:
    assert parse_reading(payload, 0.0) is None or isinstance(parse_reading(payload, 0.0), Reading)


@pytest.mark.parametrize(
    "payload",
    [
        '{"roll": NaN, "pitch": 0, "yaw": 0}',
        '{"roll": true, "pitch": 0, "yaw": 0}',
        '{"roll": "1e999", "pitch": 0, "yaw": 0}',
        '{"roll": null, "pitch": 0, "yaw": 0}',
        '{"roll": 1' + "0" * 400 + ', "pitch": 0, "yaw": 0}',
        '{"pitch": 0, "yaw": 0}',
        "[" * 10_000,
        None,
        7,
    ],
)
def test_parse_reading_refuses_other_payloads(payload: object) -> None:
    assert parse_reading(payload, 0.0) is None
