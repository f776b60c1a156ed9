"""The commands on a simulated MediaMTX service: by token, by key, and by neither."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asynccam.systems.mediamtx import MediaMTXSimulator
from tests.support.command import asynccam


@pytest_asyncio.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MediaMTXSimulator]:
    async with MediaMTXSimulator(generation=2, api_keys={"key-1": "admin"}) as simulator:
        monkeypatch.setenv("MEDIAMTX_HTTP_PORT", str(simulator.http_port))
        monkeypatch.setenv("ASYNCCAM_TOKEN", simulator.token("admin"))
        yield simulator


def uri(service: MediaMTXSimulator, camera: str = "") -> str:
    return f"mediamtx://127.0.0.1:{service.port}{camera}"


async def test_cameras_of_a_mediamtx_service(service: MediaMTXSimulator) -> None:
    ended = await asynccam("cameras", uri(service), "--json")
    assert (ended.code, ended.err) == (0, "")
    assert [camera["address"] for camera in ended.json()["cameras"]] == [
        uri(service, "/camera0"),
        uri(service, "/camera1"),
    ]


async def test_api_key_works_and_wrong_token_exits_5(
    service: MediaMTXSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASYNCCAM_TOKEN")
    ended = await asynccam("cameras", uri(service), "--api-key", "key-1", "--json")
    assert ended.code == 0
    ended = await asynccam("cameras", uri(service), "--token", "wr0ng")
    assert (ended.code, ended.out) == (5, "")
    assert "wr0ng" not in ended.err


async def test_service_with_several_cameras_needs_a_name(service: MediaMTXSimulator) -> None:
    ended = await asynccam("status", uri(service))
    assert ended.code == 2
    assert "camera0" in ended.err


async def test_snapshot_is_downloaded(service: MediaMTXSimulator, tmp_path: Path) -> None:
    ended = await asynccam("snapshot", uri(service, "/camera0"), "--to", str(tmp_path), "--json")
    assert (ended.code, ended.err) == (0, "")
    [picture] = tmp_path.iterdir()
    assert ended.json()["file"]["path"] == str(picture)
    assert (await asyncio.to_thread(picture.read_bytes)).startswith(b"\xff\xd8\xff")


async def test_record_two_cameras_of_one_service(service: MediaMTXSimulator, tmp_path: Path) -> None:
    ended = await asynccam(
        "record",
        uri(service, "/camera0"),
        uri(service, "/camera1"),
        *("--duration", "0.3", "--start-in", "0.1", "--to", str(tmp_path), "--json"),
    )
    assert (ended.code, ended.err) == (0, "")
    assert service.accepted == 1  # one connection for both
    manifest = json.loads(next(tmp_path.glob("*/manifest.json")).read_text())
    assert manifest["outcome"] == "complete"
    assert len(list(tmp_path.glob("*/*/*.mp4"))) == 2


async def test_watch_prints_json_lines(service: MediaMTXSimulator) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "asynccam", "watch", uri(service, "/camera0"), "--json"),
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            seen = set()
            while "ready" not in seen:
                event = json.loads(await process.stdout.readline())
                seen.add(event.get("state"))
            service.remove_camera("camera1")
            while event["event"] != "CameraLost":
                event = json.loads(await process.stdout.readline())
            assert event["camera"] == uri(service, "/camera1")
            process.terminate()
            assert await process.wait() == 143
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_simulate_prints_address_and_token(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "asynccam", "simulate", "mediamtx", "--port", "0", "--http-port", "0"),
        *("--directory", str(tmp_path), "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            said = json.loads(await process.stdout.readline())
            ended = await asynccam("cameras", said["address"], "--token", said["token"], "--json")
            assert len(ended.json()["cameras"]) == 2
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_simulate_api_key_without_role() -> None:
    ended = await asynccam("simulate", "mediamtx", "--port", "0", "--http-port", "0", "--api-key", "x")
    assert ended.code == 2
    assert "KEY=ROLE" in ended.err
