"""The commands on a simulated ThorVision server, with real SRT streams."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from asynccam.systems.thorvision import ThorVisionSimulator, simulated_camera
from tests.support.command import asynccam


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ThorVisionSimulator]:
    cameras = [simulated_camera(n, device_id=f"sim-{n}", width=64, height=64) for n in range(2)]
    async with ThorVisionSimulator(cameras) as simulator:
        yield simulator


def uri(server: ThorVisionSimulator, camera: str = "") -> str:
    return f"thorvision://127.0.0.1:{server.port}{camera}"


async def test_cameras_of_a_thorvision_server(server: ThorVisionSimulator) -> None:
    ended = await asynccam("cameras", uri(server), "--json")
    assert (ended.code, ended.err) == (0, "")
    assert [camera["address"] for camera in ended.json()["cameras"]] == [
        uri(server, "/sim-0"),
        uri(server, "/sim-1"),
    ]


async def test_record_two_cameras_of_one_server(server: ThorVisionSimulator, tmp_path: Path) -> None:
    ended = await asynccam(
        "record",
        uri(server, "/sim-0"),
        uri(server, "/sim-1"),
        *("--duration", "1", "--start-in", "0.2", "--to", str(tmp_path), "--json"),
    )
    assert (ended.code, ended.err) == (0, ""), ended.out
    manifest = json.loads(next(tmp_path.glob("*/manifest.json")).read_text())
    for camera in manifest["cameras"]:
        assert camera["first_frame_at"] is not None
        [file] = camera["files"]
        assert file["verdict"]["verdict"] == "complete"
        assert file["sha256"]


async def test_simulate_prints_its_address() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "asynccam", "simulate", "thorvision", "--port", "0", "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            said = json.loads(await process.stdout.readline())
            ended = await asynccam("status", said["address"] + "/simulated-0", "--json")
            assert ended.json()["status"]["state"] == "ready"
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
