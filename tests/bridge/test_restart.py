"""What a bridge finds that follows another one: on the broker, and in the directory of takes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asynccam import Session
from asynccam.bridge.mqtt import MqttBridge
from asynccam.bridge.topics import Topics, key_of, node_of
from asynccam.model.manifest import Manifest
from asynccam.systems.thorvision import ThorVisionSimulator, simulated_camera
from tests.bridge.rig import QUICK, Watcher, place, watching
from tests.support.broker import Broker
from tests.support.broker import broker as running_broker
from tests.support.scripted_camera import ScriptedCamera, hang
from tests.support.waiting import eventually

HILL, LAKE = "scripted://Hill", "scripted://Lake"
KEY, LAKE_KEY = key_of(HILL), key_of(LAKE)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
async def watcher(broker: Broker) -> AsyncIterator[Watcher]:
    async with watching(broker) as watcher:
        yield watcher


def _bridge(session: Session, broker: Broker, tmp_path: Path, **more: Any) -> MqttBridge:
    return MqttBridge(session, place(broker), directory=tmp_path / "takes", backoff=QUICK, **more)


# -- on the broker ----------------------------------------------------------------------------------


async def test_stale_cameras_are_cleared_and_others_kept(
    broker: Broker, watcher: Watcher, tmp_path: Path
) -> None:
    foreign = {
        "asynccam/garden/state": "on",
        "asynccam/pond/state": '{"state": "wet"}',
        "asynccam/elsewhere/state": json.dumps(
            {"id": "scripted://X", "system": "scripted", "features": [], "host": "another"}
        ),
        "asynccam/elsewhere/availability": "online",
        f"asynccam/lab/{LAKE_KEY}/state": '{"id": "x", "system": "y", "features": []}',
        "homeassistant/switch/other/record/config": '{"state_topic": "asynccam/a/state"}',
        f"homeassistant/switch/asynccam_lab_{LAKE_KEY}/record/config": json.dumps(
            {"origin": {"name": "asynccam"}, "command_topic": f"asynccam/lab/{LAKE_KEY}/set/record"}
        ),
    }
    for topic, payload in foreign.items():
        await watcher.say(topic, payload, retain=True)
    async with Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        session.add(ScriptedCamera("Lake"))
        async with _bridge(session, broker, tmp_path):
            for key in (KEY, LAKE_KEY):
                await watcher.sees(f"asynccam/{key}/state", state="ready")
                await watcher.sees(f"homeassistant/sensor/{node_of('asynccam', key)}/state/config")
    await watcher.say(f"asynccam/{LAKE_KEY}/picture", b"\xff\xd8\xff\xd9", retain=True)
    # As an earlier version wrote it.
    old = f"homeassistant/switch/asynccam_old_{KEY}/record/config"
    config = {"origin": {"name": "asynccam"}, "command_topic": f"asynccam/{KEY}/set/record"}
    await watcher.say(old, json.dumps(config), retain=True)
    async with Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        async with _bridge(session, broker, tmp_path) as bridge:
            await bridge.wait_connected(timeout=20)
            await eventually(lambda: not [one for one in watcher.latest if _is_of(one, LAKE_KEY)])
            await watcher.sees_word(old, None)
            await watcher.sees(f"asynccam/{KEY}/state", state="ready")
            await watcher.sees(f"homeassistant/sensor/{node_of('asynccam', KEY)}/state/config")
    assert {topic: watcher.latest[topic].decode() for topic in foreign} == foreign


def _is_of(topic: str, key: str) -> bool:
    kept = topic.startswith(f"asynccam/{key}/") and not topic.endswith(("/event", "/result"))
    return kept or (topic.startswith("homeassistant/") and f"/asynccam_{key}/" in topic)


async def test_expected_camera_is_unavailable_at_the_start(
    broker: Broker, watcher: Watcher, tmp_path: Path
) -> None:
    simulated = simulated_camera(0, device_id="sim")
    async with ThorVisionSimulator([simulated]) as server:
        address = server.address
        key = key_of(f"{address}/sim")
        async with Session.open(address, poll_interval=0.3) as session, _bridge(session, broker, tmp_path):
            await watcher.sees(f"asynccam/{key}/state", state="ready")
            await watcher.sees_word(f"asynccam/{key}/availability", "online")
    config = f"homeassistant/sensor/{node_of('asynccam', key)}/state/config"
    watcher.heard.clear()
    async with (
        Session.open(address, poll_interval=0.3, timeout=0) as session,
        _bridge(session, broker, tmp_path) as bridge,
    ):
        await bridge.wait_connected(timeout=20)
        await watcher.sees_word("asynccam/status", "online")
        await watcher.sees_word(f"asynccam/{key}/availability", "offline")
        await watcher.sees(config)
    # It is unavailable before the bridge says that it is there itself.
    told = [topic for topic, _ in watcher.heard]
    assert told.index(f"asynccam/{key}/availability") < told.index("asynccam/status")
    assert (config, b"") not in watcher.heard


async def test_two_prefixes_have_their_own_entities(broker: Broker, watcher: Watcher, tmp_path: Path) -> None:
    prefixes = ("asynccam", "lab/one", "lab_one", "asynccam/x")
    for _ in range(2):  # the second time all of it is retained
        sessions = [Session(poll_interval=None) for _ in prefixes]
        for prefix, session in zip(prefixes, sessions, strict=True):
            async with session:
                session.add(ScriptedCamera("Hill"))
                topics = Topics(prefix)
                async with _bridge(session, broker, tmp_path, topics=topics) as bridge:
                    await bridge.wait_connected(timeout=20)
                    await watcher.sees(f"{prefix}/{KEY}/state", state="ready")
                await watcher.sees_word(f"{prefix}/status", "offline")
    configs = {
        topic: json.loads(payload)
        for topic, payload in watcher.latest.items()
        if topic.startswith("homeassistant/")
    }
    for prefix in prefixes:
        own = [
            one for one in configs.values() if one.get("command_topic", "").startswith(f"{prefix}/{KEY}/set")
        ]
        assert len(own) == 1, prefix
    unique = [config["unique_id"] for config in configs.values()]
    assert len(set(unique)) == len(unique) == 4 * len(prefixes)
    devices = {one for config in configs.values() for one in config["device"]["identifiers"]}
    assert len(devices) == 2 * len(prefixes)


def test_loopback_ids_differ_between_computers(monkeypatch: pytest.MonkeyPatch) -> None:
    local = ["thorvision://127.0.0.1:8000/a", "mediamtx://localhost:8002/b", "nanocam://[::1]:1/c"]
    far = ["multicam://localhost-A1B2C3", "mediamtx://192.168.1.7:8002/b", "multicam://Hill-A1"]
    here = [key_of(one) for one in local], [key_of(one) for one in far]
    monkeypatch.setattr("asynccam.bridge.topics._THIS_COMPUTER", "another")
    there = [key_of(one) for one in local], [key_of(one) for one in far]
    assert not set(here[0]) & set(there[0])
    assert here[1] == there[1]


async def test_configurations_are_valid_for_home_assistant(
    broker: Broker, watcher: Watcher, tmp_path: Path
) -> None:
    async with Session(poll_interval=None) as session:
        session.add(ScriptedCamera("Hill"))
        async with _bridge(session, broker, tmp_path) as bridge:
            await bridge.wait_connected(timeout=20)
            await watcher.sees(f"asynccam/{KEY}/state", state="ready")
            configs = {
                topic: json.loads(payload)
                for topic, payload in watcher.latest.items()
                if topic.startswith("homeassistant/")
            }
    assert len(configs) == 4
    for topic, config in configs.items():
        _, component, node, name, last = topic.split("/")
        assert last == "config"
        assert all(char.isalnum() or char in "_-" for char in node + name)
        assert config["unique_id"]
        assert config["device"]["identifiers"]
        assert config["origin"] == {"name": "asynccam"}
        assert ("availability" in config) != ("availability_topic" in config)
        assert not set(config) - _ALLOWED - _ALLOWED_OF[component]


_ALLOWED = {
    "name", "icon", "unique_id", "device", "origin",
    "availability", "availability_mode", "availability_topic",
    "payload_available", "payload_not_available", "json_attributes_topic", "entity_category",
}  # fmt: skip
_ALLOWED_OF = {
    "sensor": {"device_class", "options", "state_topic", "value_template"},
    "switch": {"state_topic", "value_template", "command_topic"},
    "binary_sensor": {"device_class", "state_topic", "value_template"},
    "button": {"command_topic", "payload_press"},
    "image": {"content_type", "image_topic"},
}


# -- in the directory of takes -----------------------------------------------------------------------


async def _killed(session: Session, tmp_path: Path, *cameras: ScriptedCamera, **start: Any) -> Path:
    """Leave a take as a bridge does that is killed while it records; give its directory."""
    take = session.new_take(list(cameras), tmp_path / "takes", name="lost")
    await take.arm(**start)
    await take.start(start_in=0.05)
    directory = take.directory
    left = {one: (directory / one).read_bytes() for one in ("manifest.json", "journal.jsonl")}
    for camera in cameras:
        camera.recording = False  # so that this end changes nothing at the camera
    await take.abort()
    for camera in cameras:
        camera.recording = True
        camera.calls.clear()
    for one, content in left.items():
        (directory / one).write_bytes(content)
    return directory


async def test_off_finishes_an_interrupted_take(broker: Broker, watcher: Watcher, tmp_path: Path) -> None:
    async with Session(poll_interval=0.3) as session:
        hill = ScriptedCamera("Hill")
        session.add(hill)
        directory = await _killed(session, tmp_path, hill)
        async with _bridge(session, broker, tmp_path):
            notice = await watcher.sees("asynccam/notice")
            await eventually(lambda: json.loads(watcher.latest["asynccam/notice"])["problems"])
            notice = json.loads(watcher.latest["asynccam/notice"])
            assert notice["problems"][0]["take"] == "lost"
            assert "OFF" in notice["problems"][0]["message"]
            await watcher.sees(f"asynccam/{KEY}/state", state="recording", recording_by="interrupted")
            await watcher.say(f"asynccam/{KEY}/set/record", "ON")
            refused = await watcher.sees(f"asynccam/{KEY}/result", ok=False)
            assert "lost" in refused["message"]
            assert hill.recording
            await watcher.say(f"asynccam/{KEY}/set/record", "OFF")
            ended = await watcher.sees(f"asynccam/{KEY}/result", ok=True)
            assert (ended["take"], ended["files"]) == ("lost", 1)
            assert not hill.recording
            await watcher.sees("asynccam/notice", problems=[])
            await watcher.sees(f"asynccam/{KEY}/state", state="ready", recording_by=None)
            await watcher.say(f"asynccam/{KEY}/set/record", "ON")
            await watcher.sees(f"asynccam/{KEY}/result", ok=True, command="record")
    assert (await Manifest.load(directory / "manifest.json")).outcome.value == "resumed"


async def test_off_for_all_ends_an_interrupted_take_of_several(
    broker: Broker, watcher: Watcher, tmp_path: Path
) -> None:
    async with Session(poll_interval=0.3) as session:
        cameras = ScriptedCamera("Hill"), ScriptedCamera("Lake")
        for camera in cameras:
            session.add(camera)
        await _killed(session, tmp_path, *cameras)
        async with _bridge(session, broker, tmp_path):
            await watcher.sees("asynccam/take", running=True, name="lost", interrupted=True)
            await watcher.say("asynccam/take/set/record", "OFF")
            ended = await watcher.sees("asynccam/take/result", ok=True)
            assert ended["files"] == 2
            await watcher.sees("asynccam/take", running=False)
            assert not any(camera.recording for camera in cameras)


async def test_interrupted_take_with_duration_ends_by_itself(
    broker: Broker, watcher: Watcher, tmp_path: Path
) -> None:
    async with Session(poll_interval=0.3) as session:
        hill = ScriptedCamera("Hill")
        session.add(hill)
        directory = await _killed(session, tmp_path, hill, duration=1.0)
        async with _bridge(session, broker, tmp_path):
            await eventually(lambda: not hill.recording)
            await watcher.sees("asynccam/notice", problems=[])
    assert (await Manifest.load(directory / "manifest.json")).outcome.value == "resumed"


async def test_next_bridge_collects_the_files_left(broker: Broker, watcher: Watcher, tmp_path: Path) -> None:
    async with Session(poll_interval=0.3) as session:
        hill = ScriptedCamera("Hill")
        session.add(hill)
        async with _bridge(session, broker, tmp_path, shutdown_timeout=1.0) as bridge:
            await bridge.wait_connected(timeout=20)
            await watcher.say(f"asynccam/{KEY}/set/record", "ON")
            begun = await watcher.sees(f"asynccam/{KEY}/result", ok=True)
            hill.script["download"] = hang
        assert not hill.recording
        manifest = Path(begun["directory"]) / "manifest.json"
        assert (await Manifest.load(manifest)).cameras[0].files[0].state.value != "arrived"
        hill.script.clear()
        async with _bridge(session, broker, tmp_path):
            await eventually(lambda: json.loads(manifest.read_text())["outcome"] == "resumed")
            await watcher.sees("asynccam/notice", problems=[])
        loaded = await Manifest.load(manifest)
        assert loaded.cameras[0].files[0].state.value == "arrived"


async def test_interrupted_take_waits_for_its_camera(
    broker: Broker, watcher: Watcher, tmp_path: Path
) -> None:
    async with Session(poll_interval=0.3) as session:
        hill = ScriptedCamera("Hill")
        async with Session() as before:
            before.add(hill)
            await _killed(before, tmp_path, hill)
            async with _bridge(session, broker, tmp_path) as bridge:
                await bridge.wait_connected(timeout=20)
                await watcher.sees("asynccam/notice", problems=[])
                session.add(hill)
                await watcher.sees(f"asynccam/{KEY}/state", state="recording", recording_by="interrupted")
                await watcher.say(f"asynccam/{KEY}/set/record", "OFF")
                await watcher.sees(f"asynccam/{KEY}/result", ok=True)
        assert not hill.recording


async def test_take_of_foreign_cameras_is_left_alone(
    broker: Broker, watcher: Watcher, tmp_path: Path
) -> None:
    async with Session() as other:
        lake = ScriptedCamera("Lake")
        other.add(lake)
        directory = await _killed(other, tmp_path, lake)
        async with Session(poll_interval=None) as session:
            session.add(ScriptedCamera("Hill"))
            async with _bridge(session, broker, tmp_path) as bridge:
                await bridge.wait_connected(timeout=20)
                await watcher.say("asynccam/take/set/record", "OFF")
                await watcher.sees("asynccam/take/result", ok=False)
        assert lake.recording
        assert lake.calls == []
        assert (directory / "journal.jsonl").exists()
