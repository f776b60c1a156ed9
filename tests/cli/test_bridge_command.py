"""``asynccam bridge`` as a process, on a real broker."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from asynccam.bridge.topics import key_of
from asynccam.systems.thorvision import ThorVisionSimulator, simulated_camera
from tests.bridge.rig import watching
from tests.support.broker import broker as running_broker
from tests.support.command import asynccam, started

LOOPBACK = ("--interface", "127.0.0.1")
SIMULATED = simulated_camera(0, device_id="sim")


async def test_bridge_publishes_cameras_until_sigterm(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path, {"lab": "secret"}) as broker,
        ThorVisionSimulator([SIMULATED]) as server,
    ):
        place = ("--broker", f"127.0.0.1:{broker.port}", "--username", "lab", "--prefix", "lab/one")
        command = started(
            *("bridge", server.address, *LOOPBACK, *place, "--to", tmp_path, "--json"),
            env={"ASYNCCAM_MQTT_PASSWORD": "secret"},
        )
        async with watching(broker, username="lab", password="secret") as watcher, command as process:
            assert process.stdout is not None
            async with asyncio.timeout(40):
                said = json.loads(await process.stdout.readline())
            assert said == {
                "event": "connected",
                "host": "127.0.0.1",
                "port": broker.port,
                "prefix": "lab/one",
            }
            camera = f"{server.address}/sim"
            await watcher.sees(f"lab/one/{key_of(camera)}/state", id=camera, state="ready")
            await watcher.sees_word("lab/one/status", "online")
            process.terminate()
            async with asyncio.timeout(40):
                assert await process.wait() == 0
            await watcher.sees_word("lab/one/status", "offline")


async def test_bridge_reads_password_file_and_reports_wrong_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong\n")
    async with running_broker(tmp_path, {"lab": "secret"}) as broker:
        ended = await asynccam(
            *("bridge", "multicam://127.0.0.1:9", *LOOPBACK, "--broker", f"127.0.0.1:{broker.port}"),
            *("--username", "lab", "--password-file", tmp_path / "password"),
        )
    assert (ended.code, ended.out) == (5, "")
    assert "refuses the credentials" in ended.err
    assert "wrong" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("bridge",), 2, "--fleet"),
        (("bridge", "multicam://127.0.0.1:9", "--broker", "http://127.0.0.1"), 2, "not a broker address"),
        (("bridge", "multicam://127.0.0.1:9", "--broker", "127.0.0.1:x"), 2, "not a broker address"),
        (("bridge", "multicam://127.0.0.1:9", "--prefix", "a/#"), 2, "not a valid prefix of MQTT topics"),
        (("bridge", "multicam://127.0.0.1:9", "--password-file", "/does/not/exist"), 6, "cannot read"),
        (("bridge", "nonsense"), 2, "nonsense"),
    ],
)
async def test_bridge_wrong_command_line(arguments: tuple[str, ...], code: int, words: str) -> None:
    ended = await asynccam(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.err


async def test_bridge_waits_for_broker_until_ctrl_c(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with started(
        "bridge", "multicam://127.0.0.1:9", *LOOPBACK, "--broker", f"127.0.0.1:{port}"
    ) as process:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), 3.0)
        process.terminate()
        async with asyncio.timeout(40):
            assert await process.wait() == 0
