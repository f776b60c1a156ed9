"""The bridge on a real mosquitto: what it tells, and how it comes back."""

import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asynccam import Session
from asynccam.bridge.mqtt import MqttBridge
from asynccam.bridge.topics import Topics, decoded, key_of, node_of
from asynccam.errors import AuthenticationError, StateError, TimeoutError
from asynccam.model.events import (
    CameraFailed,
    CameraLost,
    CameraStateChanged,
    MissedEvents,
    RecordingStarted,
    RecordingStopped,
    TakePhaseChanged,
)
from asynccam.model.info import CameraState
from tests.bridge.rig import QUICK, place, watching
from tests.support.broker import Broker, free_port
from tests.support.broker import broker as running_broker
from tests.support.scripted_camera import ScriptedCamera
from tests.support.waiting import eventually

HILL = ScriptedCamera("Hill").id
KEY = key_of(HILL)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path / "broker") as running:
        yield running


async def test_camera_and_its_states_are_published(broker: Broker) -> None:
    async with watching(broker) as watcher, Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        async with MqttBridge(session, place(broker), backoff=QUICK) as bridge:
            await bridge.wait_connected(timeout=20)
            await watcher.sees_word("asynccam/status", "online")
            told = await watcher.sees(f"asynccam/{KEY}/state", state="ready", id=HILL, name="Hill")
            assert "record" in told["features"]
            await watcher.sees_word(f"asynccam/{KEY}/availability", "online")

            session.emit(RecordingStarted(camera=HILL))
            await watcher.sees(f"asynccam/{KEY}/state", state="recording")
            session.emit(RecordingStopped(camera=HILL, files=("a.mp4",)))
            await watcher.sees(f"asynccam/{KEY}/state", state="ready")
            session.emit(CameraStateChanged(camera=HILL, state=CameraState.ERROR, reason="hot"))
            await watcher.sees(f"asynccam/{KEY}/state", state="error", reason="hot")
            session.emit(CameraLost(camera=HILL))
            await watcher.sees_word(f"asynccam/{KEY}/availability", "offline")
        await watcher.sees_word("asynccam/status", "offline")


async def test_events_are_published_once(broker: Broker) -> None:
    async with watching(broker) as watcher, Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        async with MqttBridge(session, place(broker), backoff=QUICK) as bridge:
            await bridge.wait_connected(timeout=20)
            await watcher.sees(f"asynccam/{KEY}/state", state="ready")
            session.emit(CameraFailed(camera=HILL, step="stop", error=StateError("nothing runs")))
            session.emit(TakePhaseChanged(take="first", phase="armed"))
            session.emit(MissedEvents(camera="mediamtx://127.0.0.1:1", began=1.0, ended=2.0))
            failed = await watcher.hears(f"asynccam/{KEY}/event", event="CameraFailed")
            assert failed["step"] == "stop"
            assert failed["error"]["message"] == "nothing runs"
            await watcher.hears("asynccam/event", event="TakePhaseChanged", phase="armed")
            service = key_of("mediamtx://127.0.0.1:1")
            await watcher.hears(f"asynccam/{service}/event", event="Gap", ended=2.0)
        assert [topic for topic, _ in watcher.heard].count(f"asynccam/{KEY}/event") == 1


@pytest.mark.parametrize("step", [-7200.0, 7200.0, -3.0, -31_536_000.0])
async def test_events_are_published_at_once_after_a_clock_step(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    real = time.time
    async with watching(broker) as watcher, Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        async with MqttBridge(session, place(broker), backoff=QUICK) as bridge:
            await bridge.wait_connected(timeout=20)
            await watcher.sees(f"asynccam/{KEY}/state", state="ready")
            monkeypatch.setattr(time, "time", lambda: real() + step)
            session.emit(CameraFailed(camera=HILL, step="stop", error=StateError("nothing runs")))
            await watcher.hears(f"asynccam/{KEY}/event", event="CameraFailed")


async def test_latest_states_are_published_after_an_outage(broker: Broker) -> None:
    async with Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        async with MqttBridge(session, place(broker), backoff=QUICK) as bridge:
            await bridge.wait_connected(timeout=20)
            await broker.stop()
            await eventually(lambda: not bridge.is_connected)
            session.emit(RecordingStarted(camera=HILL))
            session.add(ScriptedCamera("Lake"))
            await broker.start()
            await bridge.wait_connected(timeout=20)
            assert bridge.connects == 2
            async with watching(broker) as watcher:
                await watcher.sees(f"asynccam/{KEY}/state", state="recording")
                await watcher.sees(f"asynccam/{key_of('scripted://Lake')}/state", state="ready")
                assert f"asynccam/{KEY}/event" not in watcher.latest


async def test_broker_that_starts_later_is_reached(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    broker.port = free_port()
    async with (
        Session(poll_interval=None) as session,
        MqttBridge(session, place(broker), backoff=QUICK) as bridge,
    ):
        with pytest.raises(TimeoutError):
            await bridge.wait_connected(timeout=0.2)
        try:
            await broker.start()
            await bridge.wait_connected(timeout=20)
        finally:
            await broker.stop()


async def test_will_reports_a_vanished_bridge(broker: Broker, tmp_path: Path) -> None:
    async with (
        watching(broker) as watcher,
        Session(poll_interval=None) as session,
        MqttBridge(session, place(broker), backoff=QUICK) as bridge,
    ):
        await watcher.sees_word("asynccam/status", "online")
        watcher.heard.clear()
        assert bridge._client is not None
        connection: Any = bridge._client._client.socket()
        connection.shutdown(socket.SHUT_RDWR)  # the network goes, without an MQTT goodbye
        await eventually(lambda: bridge.connects == 2)
        await eventually(lambda: len([one for one in watcher.heard if one[0] == "asynccam/status"]) == 2)
        told = [payload for topic, payload in watcher.heard if topic == "asynccam/status"]
        assert told == [b"offline", b"online"]


async def test_wrong_credentials_end_the_bridge(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path / "broker", {"lab": "secret"}) as broker,
        Session(poll_interval=None) as session,
    ):
        wrong = place(broker, username="lab", password="wrong")
        assert "wrong" not in repr(wrong)
        async with MqttBridge(session, wrong, backoff=QUICK) as bridge:
            with pytest.raises(AuthenticationError, match="refuses"):
                await bridge.wait_connected(timeout=20)
            with pytest.raises(AuthenticationError):
                await bridge.wait_over()
        right = place(broker, username="lab", password="secret")
        async with MqttBridge(session, right, backoff=QUICK) as bridge:
            await bridge.wait_connected(timeout=20)
            with pytest.raises(StateError):
                await bridge.__aenter__()


async def test_removed_camera_leaves_nothing_retained(broker: Broker) -> None:
    async with watching(broker) as watcher, Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        async with MqttBridge(session, place(broker), backoff=QUICK):
            await watcher.sees(f"asynccam/{KEY}/state", state="ready")
            await session.remove(HILL)
            await watcher.sees_word(f"asynccam/{KEY}/state", None)
            await watcher.sees_word(f"asynccam/{KEY}/availability", None)
            lost = f"asynccam/{KEY}/event"  # is told, and kept by nobody
            await eventually(lambda: {topic for topic in watcher.latest if KEY in topic} == {lost})


async def test_home_assistant_gets_everything_at_its_start(broker: Broker) -> None:
    async with watching(broker) as watcher, Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        async with MqttBridge(session, place(broker), topics=Topics("lab/cams"), backoff=QUICK):
            node = node_of("lab/cams", KEY)
            config = f"homeassistant/switch/{node}/record/config"
            switch = await watcher.sees(config, command_topic=f"lab/cams/{KEY}/set/record")
            assert switch["state_topic"] == f"lab/cams/{KEY}/state"
            assert switch["device"]["name"] == "Hill"
            assert switch["unique_id"] == f"{node}_record"
            assert switch["device"]["identifiers"] == [node]
            assert {one["topic"] for one in switch["availability"]} == {
                "lab/cams/status",
                f"lab/cams/{KEY}/availability",
            }
            bridge = f"asynccam_bridge_{key_of('lab/cams')}"
            await watcher.sees(f"homeassistant/switch/{bridge}/take/config", state_topic="lab/cams/take")
            assert f"homeassistant/button/{node}/snapshot/config" not in watcher.latest

            watcher.heard.clear()
            await watcher.say("homeassistant/status", "online")
            await watcher.hears(config, command_topic=f"lab/cams/{KEY}/set/record")


async def test_without_discovery_no_configuration_is_published(broker: Broker) -> None:
    async with watching(broker) as watcher, Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        async with MqttBridge(session, place(broker), discovery=None, backoff=QUICK):
            await watcher.sees_word("asynccam/status", "online")
            await watcher.sees(f"asynccam/{KEY}/state", state="ready")
        assert not [topic for topic in watcher.latest if topic.startswith("homeassistant")]


async def test_keys_are_valid_and_unique() -> None:
    ids = ["multicam://Hill-A1", "multicam://Hill/A1", "multicam:Hill-A1", "take", "x" * 200, "x" * 201]
    keys = [key_of(one) for one in ids]
    assert len(set(keys)) == len(ids)
    assert all(key.replace("_", "").replace("-", "").isalnum() and len(key) < 80 for key in keys)
    assert "take" not in keys
    assert json.loads(json.dumps(keys)) == keys


def test_decoded_document_can_be_encoded_again() -> None:
    assert decoded(b'{"id": "a\\ud800", "at": 1e999}') == {"id": "a?", "at": None}
    assert decoded(b'{"at": ' + b"9" * 4000 + b"}") == {"at": None}
    for odd in (
        b"[1]",
        b"{",
        b"\xff",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"a": "%s"}' % (b"x" * 1_000_000),
    ):
        assert decoded(odd) is None
