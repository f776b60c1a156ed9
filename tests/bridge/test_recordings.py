"""Answers say what became of a recording, and entities how a camera really is."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asynccam import Session, Take
from asynccam.bridge.mqtt import MqttBridge
from asynccam.bridge.topics import key_of
from asynccam.errors import ConnectionError, DeviceError
from asynccam.model.events import CameraStateChanged, RecordingStarted
from asynccam.model.info import CameraState
from tests.bridge.rig import QUICK, Watcher, place, watching
from tests.support.broker import Broker
from tests.support.broker import broker as running_broker
from tests.support.scripted_camera import ScriptedCamera, hang, late, refuse
from tests.support.waiting import eventually

HILL, LAKE = "scripted://Hill", "scripted://Lake"
KEY, LAKE_KEY = key_of(HILL), key_of(LAKE)
RECORD, RESULT, STATE = (f"asynccam/{KEY}/{what}" for what in ("set/record", "result", "state"))
ALL = "asynccam/take/set/record"
DEAD = refuse(ConnectionError("no route to host"))


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
    async with Session(poll_interval=0.3) as session:
        yield session


@pytest.fixture
async def bridge(session: Session, broker: Broker, tmp_path: Path) -> AsyncIterator[MqttBridge]:
    async with _bridge(session, broker, tmp_path) as bridge:
        await bridge.wait_connected(timeout=20)
        yield bridge


@pytest.fixture
async def camera(session: Session) -> ScriptedCamera:
    camera = ScriptedCamera("Hill")
    session.add(camera)
    return camera


def _bridge(session: Session, broker: Broker, tmp_path: Path, **more: Any) -> MqttBridge:
    return MqttBridge(session, place(broker), directory=tmp_path / "takes", backoff=QUICK, **more)


async def _answer(watcher: Watcher, payload: str, topic: str = RECORD) -> dict[str, Any]:
    """Return what is answered to a command."""
    result = f"{topic.rpartition('/set/')[0]}/result"
    watcher.latest.pop(result, None)
    await watcher.say(topic, payload)
    return await watcher.sees(result)


def _die(camera: ScriptedCamera) -> None:
    for step in ("status", "arm", "accepted", "stop", "list"):
        camera.script[step] = DEAD


async def test_on_for_an_unavailable_camera_is_an_error(
    watcher: Watcher, bridge: MqttBridge, session: Session, camera: ScriptedCamera
) -> None:
    await watcher.sees(STATE, state="ready")
    _die(camera)
    answer = await _answer(watcher, "ON")
    assert (answer["ok"], answer["error"]) == (False, "ConnectionError")
    assert "no route" in answer["message"]
    assert session.take_of(camera) is None
    await watcher.sees_word(f"asynccam/{KEY}/availability", "offline")
    assert (await _answer(watcher, "ON"))["ok"] is False  # known to be unavailable by now
    camera.script.clear()
    await watcher.sees(STATE, state="ready")
    begun = await _answer(watcher, "ON")
    assert begun["ok"] is True
    assert begun["cameras"] == [{"id": HILL, "key": KEY, "accepted": True, "recording": False}]
    assert (await _answer(watcher, "OFF"))["outcome"] == "complete"


async def test_refused_start_ends_the_take(
    watcher: Watcher, bridge: MqttBridge, session: Session, camera: ScriptedCamera
) -> None:
    camera.script["accepted"] = refuse(DeviceError("the storage is full"))
    answer = await _answer(watcher, "ON")
    assert (answer["ok"], answer["error"]) == (False, "DeviceError")
    assert "storage is full" in answer["message"]
    await watcher.sees(STATE, state="ready", recording_by=None)
    assert session.take_of(camera) is None
    camera.script.clear()
    assert (await _answer(watcher, "ON"))["ok"] is True


async def test_result_names_the_cameras_that_failed(
    watcher: Watcher, bridge: MqttBridge, session: Session, camera: ScriptedCamera
) -> None:
    lake = ScriptedCamera("Lake", script={"arm": refuse(DeviceError("the lens cap is on"))})
    session.add(lake)
    answer = await _answer(watcher, "ON", ALL)
    assert (answer["ok"], answer["failed"]) == (True, [LAKE])
    assert {one["id"]: one["accepted"] for one in answer["cameras"]} == {HILL: True, LAKE: False}
    ended = await _answer(watcher, "OFF", ALL)
    assert (ended["ok"], ended["outcome"], ended["files"]) == (True, "incomplete", 1)
    _die(camera)
    answer = await _answer(watcher, "ON", ALL)
    assert answer["ok"] is False


async def test_take_without_files_is_not_ok(
    watcher: Watcher, bridge: MqttBridge, camera: ScriptedCamera
) -> None:
    assert (await _answer(watcher, "ON"))["ok"] is True
    _die(camera)
    ended = await _answer(watcher, "OFF")
    assert (ended["ok"], ended["files"]) == (False, 0)
    assert "no route" in ended["message"]


async def test_camera_in_a_take_of_the_session_is_refused(
    watcher: Watcher, bridge: MqttBridge, session: Session, camera: ScriptedCamera, tmp_path: Path
) -> None:
    take = session.new_take([camera], tmp_path / "own", name="field")
    await take.arm()
    assert "take field" in (await _answer(watcher, "ON"))["message"]
    await take.start(start_in=0.05)
    await watcher.sees(STATE, state="recording", recording_by="session", take="field")
    for topic in (RECORD, ALL):
        answer = await _answer(watcher, "ON", topic)
        assert (answer["ok"], answer["error"]) == (False, "BusyError")
        assert HILL in answer["message"]
        assert "field" in answer["message"]
    answer = await _answer(watcher, "OFF")
    assert (answer["ok"], "field" in answer["message"]) == (False, True)
    assert camera.recording
    await take.stop()
    await take.collect()
    assert take.ok


async def test_foreign_recording_is_left_alone(
    watcher: Watcher, bridge: MqttBridge, camera: ScriptedCamera
) -> None:
    camera.recording = True
    await watcher.sees(STATE, state="recording", recording_by="other", take=None)
    answer = await _answer(watcher, "ON")
    assert (answer["ok"], answer["error"]) == (False, "BusyError")
    assert "another program" in answer["message"]
    assert (await _answer(watcher, "OFF"))["ok"] is False
    assert camera.recording
    assert "stop" not in camera.calls


async def test_two_commands_at_once_do_not_share_a_camera(
    watcher: Watcher, bridge: MqttBridge, camera: ScriptedCamera
) -> None:
    await watcher.say(RECORD, "ON")
    await watcher.say(ALL, "ON")
    results = [await watcher.sees(RESULT), await watcher.sees("asynccam/take/result")]
    assert sorted(one["ok"] for one in results) == [False, True]
    assert camera.calls.count("arm") == 1


async def test_camera_in_a_take_is_polled(
    watcher: Watcher, bridge: MqttBridge, camera: ScriptedCamera
) -> None:
    assert (await _answer(watcher, "ON"))["ok"] is True
    await watcher.sees(STATE, state="recording", recording_by="bridge")
    camera.script["status"] = DEAD
    await watcher.sees_word(f"asynccam/{KEY}/availability", "offline")
    camera.script.clear()
    await watcher.sees_word(f"asynccam/{KEY}/availability", "online")
    await watcher.sees(STATE, state="recording", recording_by="bridge")
    camera.recording = False  # it was started anew meanwhile
    await watcher.sees(STATE, state="ready")
    camera.recording = True
    assert (await _answer(watcher, "OFF"))["ok"] is True


async def test_off_ends_a_start_far_ahead(
    watcher: Watcher, bridge: MqttBridge, session: Session, camera: ScriptedCamera
) -> None:
    await watcher.say(RECORD, '{"start_in": 3000}')
    await watcher.sees(STATE, state="starting", recording_by="bridge")
    await eventually(lambda: "arm" in camera.calls)
    watcher.heard.clear()
    await watcher.say(RECORD, "OFF")
    await eventually(lambda: len([one for one in watcher.heard if one[0] == RESULT]) == 2)
    told = [json.loads(payload) for topic, payload in watcher.heard if topic == RESULT]
    assert [one["ok"] for one in told] == [False, False]
    assert "was ended" in told[0]["message"]
    assert session.take_of(camera) is None
    assert not camera.recording


async def test_off_ends_a_start_during_the_status_check(
    watcher: Watcher, bridge: MqttBridge, session: Session, camera: ScriptedCamera
) -> None:
    await watcher.sees(STATE, state="ready")
    camera.script["status"] = late(1.0)
    watcher.heard.clear()
    await watcher.say(RECORD, '{"start_in": 3000}')
    await watcher.say(RECORD, "OFF")
    await eventually(lambda: len([one for one in watcher.heard if one[0] == RESULT]) == 2)
    told = [json.loads(payload) for topic, payload in watcher.heard if topic == RESULT]
    assert [one["ok"] for one in told] == [False, False]
    assert "was ended" in told[0]["message"]
    assert session.take_of(camera) is None


NUMBERS = [
    "1" * 400,
    "-" + "1" * 400,
    "1e400",
    "NaN",
    "-Infinity",
    "-1",
    "true",
    '"3"',
    "[3]",
    "{}",
    "100000000",
]


@pytest.mark.parametrize("what", ["duration", "start_in"])
@pytest.mark.parametrize("number", NUMBERS)
async def test_numbers_have_limits(
    watcher: Watcher, bridge: MqttBridge, camera: ScriptedCamera, what: str, number: str
) -> None:
    answer = await _answer(watcher, f'{{"{what}": {number}}}', ALL)
    assert (answer["ok"], answer["error"]) == (False, "UsageError")
    assert f"{what} is a number of seconds from 0 to" in answer["message"]
    assert "arm" not in camera.calls


@pytest.mark.parametrize(
    "payload", ["[" * 4000, '{"name": "\\ud800"}', '{"cameras": ["\\udfff"]}', '{"a": 1, "\\ud800": 2}']
)
async def test_odd_documents_get_a_result(
    watcher: Watcher, bridge: MqttBridge, camera: ScriptedCamera, payload: str
) -> None:
    assert (await _answer(watcher, payload, ALL))["error"] == "UsageError"


async def test_flood_of_commands_is_refused_in_order(
    watcher: Watcher, bridge: MqttBridge, session: Session, camera: ScriptedCamera
) -> None:
    session.add(ScriptedCamera("Lake"))
    camera.script["status"] = hang  # the first ON is at work for a while
    for _ in range(8):  # fewer in all than mosquitto keeps for a client that is slow
        await asyncio.gather(*(watcher.say(RECORD, "ON") for _ in range(25)))
        await asyncio.gather(*(watcher.say(f"asynccam/nobody{n}/set/record", "ON") for n in range(25)))
    camera.script.clear()
    answer = await _answer(watcher, "ON", f"asynccam/{LAKE_KEY}/set/record")
    assert answer["ok"] is True
    await watcher.hears(RESULT, error="BusyError", command="record")
    assert bridge._commands is not None
    assert len(bridge._commands._queues) <= 3  # nothing is kept of strangers
    await eventually(lambda: _answered(watcher) == 200, what="an answer for every command")


def _answered(watcher: Watcher) -> int:
    told = [json.loads(payload) for topic, payload in watcher.heard if topic == RESULT]
    return sum(one.get("refused", 1) for one in told)


async def test_switch_does_not_flap_on_a_restart(broker: Broker, watcher: Watcher, tmp_path: Path) -> None:
    for polls in (0.3, None):
        async with Session(poll_interval=polls) as session:
            camera = ScriptedCamera("Hill")
            camera.recording = True
            session.add(camera)
            if polls is None:
                session.emit(RecordingStarted(camera=HILL))
            for _ in range(3):
                async with _bridge(session, broker, tmp_path) as bridge:
                    await bridge.wait_connected(timeout=20)
                    await watcher.sees(STATE, state="recording")
                    await watcher.sees_word(f"asynccam/{KEY}/availability", "online")
                await watcher.sees_word("asynccam/status", "offline")
            told = {json.loads(payload)["state"] for topic, payload in watcher.heard if topic == STATE}
            assert told == {"recording"}


async def test_replayed_found_event_is_not_ready(broker: Broker, tmp_path: Path) -> None:
    async with Session(poll_interval=None) as session, _bridge(session, broker, tmp_path) as bridge:
        session.add(ScriptedCamera("Hill"))
        session.emit(CameraStateChanged(camera=HILL, state=CameraState.ERROR, reason="hot"))
        async with watching(broker) as watcher:
            await watcher.sees(STATE, state="error")
        await broker.restart()
        async with watching(broker) as watcher:
            await eventually(lambda: bridge.connects == 2)
            await watcher.sees(STATE)
            told = {json.loads(payload)["state"] for topic, payload in watcher.heard if topic == STATE}
            assert told == {"error"}


async def test_hanging_take_does_not_delay_the_bridge(
    broker: Broker, watcher: Watcher, session: Session, camera: ScriptedCamera, tmp_path: Path
) -> None:
    bridge = _bridge(session, broker, tmp_path, shutdown_timeout=0.5)
    async with bridge:
        await bridge.wait_connected(timeout=20)
        begun = await _answer(watcher, "ON")
        camera.script["stop"] = hang
    assert not bridge.is_connected
    await watcher.sees_word("asynccam/status", "offline")
    camera.script.clear()
    await Take.resume(begun["directory"], session)
    assert not camera.recording
