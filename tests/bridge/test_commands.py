"""What messages may ask for: takes and pictures, and every way to ask wrongly."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam import Session
from asynccam.bridge.mqtt import MqttBridge
from asynccam.bridge.take_request import TakeRequest, parse_take_request
from asynccam.bridge.topics import Topics, key_of
from asynccam.errors import DeviceError, UsageError
from asynccam.model.features import FeatureKey, Snapshot
from asynccam.model.info import LocalFile
from tests.bridge.rig import QUICK, Watcher, place, watching
from tests.support.broker import Broker
from tests.support.broker import broker as running_broker
from tests.support.scripted_camera import ScriptedCamera, hang, refuse
from tests.support.set_clock import SetClock
from tests.support.waiting import eventually, outlasting

KEY = key_of("scripted://Hill")
RECORD = f"asynccam/{KEY}/set/record"
RESULT = f"asynccam/{KEY}/result"


class PictureCamera(ScriptedCamera):
    """A scripted camera that also takes pictures."""

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        return MappingProxyType({**super().features, Snapshot: self})

    async def snapshot(self, directory: Path) -> LocalFile:
        await self.act("snapshot")
        path = directory / "a.jpg"
        await asyncio.to_thread(path.write_bytes, b"\xff\xd8picture\xff\xd9")
        return LocalFile(path, 11)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
async def watcher(broker: Broker) -> AsyncIterator[Watcher]:
    async with watching(broker) as watcher:
        yield watcher


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Session(poll_interval=None) as session:
        yield session


@pytest.fixture
async def bridge(session: Session, broker: Broker, tmp_path: Path) -> AsyncIterator[MqttBridge]:
    async with MqttBridge(session, place(broker), directory=tmp_path / "takes", backoff=QUICK) as bridge:
        await bridge.wait_connected(timeout=20)
        yield bridge


@pytest.fixture
def camera(session: Session) -> PictureCamera:
    camera = PictureCamera("Hill")
    session.add(camera)
    return camera


async def test_on_and_off_record_with_a_camera(
    watcher: Watcher, bridge: MqttBridge, camera: PictureCamera
) -> None:
    await watcher.sees(f"asynccam/{KEY}/state", state="ready")
    await watcher.say(RECORD, "ON")
    begun = await watcher.sees(RESULT, command="record", ok=True)
    await watcher.sees(f"asynccam/{KEY}/state", state="recording")
    assert camera.recording
    await watcher.say(RECORD, "OFF")
    ended = await watcher.sees(RESULT, outcome="complete")
    assert (ended["take"], ended["files"]) == (begun["take"], 1)
    await watcher.sees(f"asynccam/{KEY}/state", state="ready")
    manifest = json.loads((Path(ended["directory"]) / "manifest.json").read_text())
    assert manifest["cameras"][0]["files"][0]["sha256"]


async def test_take_of_all_cameras_with_duration_and_name(
    watcher: Watcher, bridge: MqttBridge, camera: PictureCamera, session: Session
) -> None:
    session.add(ScriptedCamera("Lake"))
    wish = {"duration": 0.3, "start_in": 0.05, "name": "../first"}
    await watcher.say("asynccam/take/set/record", json.dumps(wish))
    begun = await watcher.sees("asynccam/take/result", command="record", ok=True)
    assert begun["take"] == "first"
    await watcher.hears("asynccam/take", running=True, name="first")
    await watcher.sees("asynccam/take", running=False)
    manifest = json.loads((Path(begun["directory"]) / "manifest.json").read_text())
    assert manifest["outcome"] == "complete"
    assert len(manifest["cameras"]) == 2


@pytest.mark.parametrize("step", [3.0, -3.0, 7200.0, -7200.0, -31_536_000.0])
async def test_take_keeps_its_duration_over_a_clock_step(
    watcher: Watcher,
    bridge: MqttBridge,
    camera: PictureCamera,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    step: float,
) -> None:
    clock = SetClock(monkeypatch)

    async def set_clock() -> None:
        clock.step(step)

    camera.script["accepted"] = set_clock
    wish = {"duration": 0.8, "start_in": 0.05}
    with outlasting(0.8):
        await watcher.say("asynccam/take/set/record", json.dumps(wish))
        await watcher.hears("asynccam/take", running=True)
        await watcher.sees("asynccam/take", running=False)
    manifest = json.loads(next((tmp_path / "takes").glob("*/manifest.json")).read_text())
    assert manifest["outcome"] == "complete"
    assert [one["seconds"] for one in manifest["clock_steps"]] == [pytest.approx(step, abs=0.05)]


async def test_take_of_some_cameras(
    watcher: Watcher, bridge: MqttBridge, camera: PictureCamera, session: Session
) -> None:
    lake = ScriptedCamera("Lake")
    session.add(lake)
    wish = {"duration": 0.1, "start_in": 0.05, "cameras": [KEY]}
    await watcher.say("asynccam/take/set/record", json.dumps(wish))
    await watcher.hears("asynccam/take", running=True)
    await watcher.sees("asynccam/take", running=False)
    assert camera.calls
    assert not lake.calls


async def test_picture_is_stored_and_published(
    watcher: Watcher, bridge: MqttBridge, camera: PictureCamera
) -> None:
    await watcher.say(f"asynccam/{KEY}/set/snapshot", "PRESS")
    result = await watcher.sees(RESULT, command="snapshot", ok=True)
    assert Path(result["file"]).read_bytes() == watcher.latest[f"asynccam/{KEY}/picture"]


@pytest.mark.parametrize(
    ("topic", "payload", "words"),
    [
        (RECORD, "maybe", "ON, OFF or a JSON object"),
        (RECORD, "OFF", "nothing that was started"),
        (RECORD, '{"cameras": ["scripted://Hill"]}', "only in commands for 'take'"),
        (RECORD, "x" * 5000, "too long"),
        (f"asynccam/{KEY}/set/snapshot", "maybe", "PRESS"),
        (f"asynccam/{KEY}/set/explode", "ON", "no command explode"),
        ("asynccam/take/set/snapshot", "PRESS", "no command snapshot"),
        ("asynccam/nobody/set/record", "ON", "no camera nobody"),
        ("asynccam/take/set/record", '{"cameras": ["nobody"]}', "no camera nobody"),
        ("asynccam/take/set/record", '{"length": 3}', "no length"),
    ],
)
async def test_invalid_commands_are_answered(
    watcher: Watcher, bridge: MqttBridge, camera: PictureCamera, topic: str, payload: str, words: str
) -> None:
    await watcher.say(topic, payload)
    result = await watcher.sees(f"{topic.rpartition('/set/')[0]}/result", ok=False)
    assert words in result["message"]
    assert camera.calls == []


async def test_refused_start_is_published(
    watcher: Watcher, bridge: MqttBridge, camera: PictureCamera
) -> None:
    camera.script["snapshot"] = refuse(DeviceError("the lens cap is on"))
    await watcher.say(f"asynccam/{KEY}/set/snapshot", "PRESS")
    result = await watcher.sees(RESULT, ok=False)
    assert (result["error"], result["message"]) == ("DeviceError", "the lens cap is on")


async def test_second_start_is_refused(watcher: Watcher, bridge: MqttBridge, camera: PictureCamera) -> None:
    await watcher.say(RECORD, "ON")
    await watcher.sees(RESULT, ok=True)
    await watcher.say(RECORD, "ON")
    assert "is running" in (await watcher.sees(RESULT, ok=False))["message"]
    await watcher.say(RECORD, "OFF")
    await watcher.sees(RESULT, outcome="complete")


async def test_full_queue_refuses_commands(
    watcher: Watcher, bridge: MqttBridge, camera: PictureCamera
) -> None:
    camera.script["snapshot"] = hang
    for _ in range(9):
        await watcher.say(f"asynccam/{KEY}/set/snapshot", "PRESS")
    assert (await watcher.sees(RESULT, ok=False))["error"] == "BusyError"


async def test_retained_message_is_not_a_command(
    broker: Broker, watcher: Watcher, session: Session, camera: PictureCamera, tmp_path: Path
) -> None:
    await watcher.say(RECORD, "ON", retain=True)
    await watcher.sees_word(RECORD, "ON")
    async with MqttBridge(session, place(broker), directory=tmp_path / "takes", backoff=QUICK) as bridge:
        await bridge.wait_connected(timeout=20)
        await watcher.say(f"asynccam/{KEY}/set/snapshot", "PRESS")  # what came before it has been heeded
        await watcher.sees(RESULT, command="snapshot", ok=True)
    assert camera.calls == ["snapshot"]


async def test_without_commands_no_command_is_received(
    broker: Broker, watcher: Watcher, session: Session, camera: PictureCamera
) -> None:
    async with MqttBridge(session, place(broker), commands=False, backoff=QUICK) as bridge:
        await bridge.wait_connected(timeout=20)
        await watcher.say(RECORD, "ON")
        await watcher.sees_word(RECORD, "ON")
        await watcher.sees(f"asynccam/{KEY}/state", state="ready")
    assert RESULT not in watcher.latest
    assert camera.calls == []


async def test_close_ends_takes_and_downloads_files(
    broker: Broker, watcher: Watcher, session: Session, camera: PictureCamera, tmp_path: Path
) -> None:
    async with MqttBridge(session, place(broker), directory=tmp_path / "takes", backoff=QUICK) as bridge:
        await bridge.wait_connected(timeout=20)
        await watcher.say(RECORD, "ON")
        begun = await watcher.sees(RESULT, ok=True)
    assert not camera.recording
    manifest = json.loads((Path(begun["directory"]) / "manifest.json").read_text())
    assert manifest["outcome"] == "complete"
    await watcher.sees_word("asynccam/status", "offline")


async def test_recording_goes_on_without_a_broker(
    broker: Broker, session: Session, bridge: MqttBridge, camera: PictureCamera
) -> None:
    async with watching(broker) as watcher:
        await watcher.say(RECORD, "ON")
        await watcher.sees(RESULT, ok=True)
    await broker.stop()
    await eventually(lambda: not bridge.is_connected)
    assert camera.recording
    await broker.start()
    await bridge.wait_connected(timeout=20)
    async with watching(broker) as watcher:
        await watcher.sees(f"asynccam/{KEY}/state", state="recording")
        await watcher.say(RECORD, "OFF")
        await watcher.sees(RESULT, outcome="complete")


def test_take_request_is_parsed() -> None:
    assert parse_take_request(b"ON") == TakeRequest()
    assert parse_take_request(b"OFF") is None
    assert parse_take_request(b"{}") == TakeRequest()
    whole = b'{"cameras": ["a"], "duration": 2, "start_in": 0, "name": "n"}'
    assert parse_take_request(whole) == TakeRequest(("a",), 2.0, 0.0, "n")


DOCUMENTS = st.recursive(
    st.none() | st.floats() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
)


@given(st.binary(max_size=40) | DOCUMENTS.map(json.dumps).map(str.encode))
def test_any_payload_is_parsed_or_a_usage_error(payload: bytes) -> None:
    with suppress(UsageError):
        parse_take_request(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"duration": -1}',
        b'{"duration": true}',
        b'{"duration": "3"}',
        b'{"duration": NaN}',
        b'{"start_in": Infinity}',
        b'{"start_in": ' + b"9" * 400 + b"}",
        b'{"duration": ' + b"9" * 5000 + b"}",
        b'{"duration": 1e999}',
        b'{"cameras": ' + b"[" * 100_000,
        b'{"cameras": "a"}',
        b'{"cameras": [1]}',
        b'{"name": 1}',
        b"[]",
        b"\xff",
        b"",
    ],
)
def test_invalid_take_request_is_refused(payload: bytes) -> None:
    with pytest.raises(UsageError):
        parse_take_request(payload)


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a//b", "a/+", "#", "$SYS", "a\0"])
def test_invalid_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError):
        Topics(prefix)


def test_only_command_topics_are_commands() -> None:
    topics = Topics("lab/cams")
    assert topics.read_command(topics.command("k", "record")) == ("k", "record")
    for other in ("lab/cams/k/state", "lab/k/set/record", "lab/cams/a/b/set/record", "lab/cams/set/record"):
        assert topics.read_command(other) is None
