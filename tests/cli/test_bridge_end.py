"""``asynccam bridge`` ends in its time whatever runs, and the next one finishes what it left."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.bridge.rig import Watcher, watching
from tests.support.broker import Broker
from tests.support.broker import broker as running_broker
from tests.support.command import started
from tests.support.mqtt_peer import Peer, mqtt_peer
from tests.support.multicam_device import BytesRecorder, running
from tests.support.waiting import eventually

LOOPBACK = ("--interface", "127.0.0.1")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path / "broker") as one:
        yield one


def _command(broker: Broker, device: Any, tmp_path: Path) -> tuple[object, ...]:
    place = ("--broker", f"127.0.0.1:{broker.port}", "--to", tmp_path / "takes", "--json")
    return ("bridge", f"multicam://127.0.0.1:{device.port}", *LOOPBACK, *place)


async def _ready(watcher: Watcher) -> str:
    """Wait until the camera is ready; give its key."""

    def key() -> str | None:
        for topic, payload in watcher.latest.items():
            if topic.endswith("/state") and json.loads(payload)["state"] == "ready":
                return topic.split("/")[1]
        return None

    found = await eventually(key, 40.0, what="a camera that is ready")
    assert found is not None
    return found


async def _ended(process: asyncio.subprocess.Process) -> str:
    """See it end by SIGTERM; give what stands on stderr."""
    process.terminate()
    assert process.stderr is not None
    async with asyncio.timeout(15):  # five seconds, and what a busy machine adds
        told = (await process.stderr.read()).decode()
        assert await process.wait() == 0
    return told


@pytest.mark.parametrize("wish", ["ON", '{"start_in": 3600}', '{"start_in": 100000}'])
@pytest.mark.parametrize("stops", [True, False])
async def test_bridge_ends_within_five_seconds_of_a_signal(
    broker: Broker, tmp_path: Path, wish: str, stops: bool
) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path / "device", recorder) as device, watching(broker) as watcher:
        async with started(*_command(broker, device, tmp_path)) as process:
            await _ready(watcher)
            await watcher.say("asynccam/take/set/record", wish)
            if wish == "ON":
                assert (await watcher.sees("asynccam/take/result"))["ok"] is True
            elif "3600" in wish:
                await watcher.sees("asynccam/take", running=True)
            else:
                assert (await watcher.sees("asynccam/take/result"))["ok"] is False
            if not stops:
                recorder.may_stop.clear()
            told = await _ended(process)
            recorder.may_stop.set()
        assert "Traceback" not in told
        await watcher.sees_word("asynccam/status", "offline")


async def test_bridge_ends_while_connecting_to_a_silent_broker(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = ("--broker", f"127.0.0.1:{silent.getsockname()[1]}")
        async with started("bridge", "multicam://127.0.0.1:9", *LOOPBACK, *place) as process:
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                await _ended(process)


async def test_bridge_off_stops_recording_of_a_killed_bridge(broker: Broker, tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path / "device", recorder) as device, watching(broker) as watcher:
        async with started(*_command(broker, device, tmp_path)) as process:
            key = await _ready(watcher)
            await watcher.say(f"asynccam/{key}/set/record", "ON")
            begun = await watcher.sees(f"asynccam/{key}/result", ok=True)
            assert begun["cameras"][0]["accepted"]
            await watcher.sees(f"asynccam/{key}/state", state="recording", recording_by="bridge")
            process.kill()
            await process.wait()
        await watcher.sees_word("asynccam/status", "offline")
        watcher.latest.pop(f"asynccam/{key}/state")
        async with started(*_command(broker, device, tmp_path)) as process:
            await watcher.sees(f"asynccam/{key}/state", state="recording", recording_by="interrupted")
            assert json.loads(watcher.latest["asynccam/notice"])["problems"][0]["take"] == begun["take"]
            assert recorder.stops == 0
            await watcher.say(f"asynccam/{key}/set/record", "OFF")
            ended = await watcher.sees(f"asynccam/{key}/result", take=begun["take"], files=1)
            assert ended["ok"] is True
            assert recorder.stops == 1
            await watcher.sees(f"asynccam/{key}/state", state="ready")
            await _ended(process)


async def test_bridge_reports_refused_subscription(tmp_path: Path) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.let_in()
        await peer.serve(suback=0x80)

    async with mqtt_peer(behaviour) as port:
        place = ("--broker", f"127.0.0.1:{port}")
        async with started("bridge", "multicam://127.0.0.1:9", *LOOPBACK, *place) as process:
            async with asyncio.timeout(40):
                _, told = await process.communicate()
            assert process.returncode == 5
    assert "refuses the subscription to asynccam/+/set/+" in told.decode()


async def test_bridge_reconnect_prints_nothing(broker: Broker, tmp_path: Path) -> None:
    async with (
        running(tmp_path / "device") as device,
        started(*_command(broker, device, tmp_path), env={"PYTHONDEVMODE": "1"}) as process,
    ):
        for _ in range(5):
            async with watching(broker) as watcher:
                await watcher.sees_word("asynccam/status", "online")
            await broker.restart()
        async with watching(broker) as watcher:
            await watcher.sees_word("asynccam/status", "online")
        told = await _ended(process)
    for words in ("never retrieved", "ad file descriptor", "Traceback", "refuses"):
        assert words not in told
