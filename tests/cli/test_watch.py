"""``asynccam watch`` as a process: addresses, fleets, filters, and cameras that are away."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asynccam.systems.multicam.device.device import MultiCamDevice
from tests.support.command import asynccam
from tests.support.mediamtx_service import simulator, token
from tests.support.multicam_device import running

LOOPBACK = ("--interface", "127.0.0.1")


def uri(device: MultiCamDevice) -> str:
    return f"multicam://127.0.0.1:{device.port}"


@asynccontextmanager
async def watching(*arguments: str, **environment: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The command, and what it prints; ended by SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "asynccam", "watch", *arguments, "--json"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    assert process.stdout is not None

    async def documents(lines: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
        while line := await lines.readline():
            yield json.loads(line)

    try:
        async with asyncio.timeout(40):
            yield documents(process.stdout)
            process.terminate()
            assert await process.wait() == 143
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(documents: AsyncIterator[dict[str, Any]], event: str, **fields: Any) -> dict[str, Any]:
    async for document in documents:
        if document["event"] == event and fields.items() <= document.items():
            return document
    raise AssertionError(f"the command ended without {event} {fields}")


async def test_watch_unavailable_camera_is_an_event(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    address = f"multicam://127.0.0.1:{port}"
    async with watching(address, *LOOPBACK) as documents:
        away = await until(documents, "CameraStateChanged", camera=address)
        assert (away["state"], away["previous"]) == ("away", "unknown")
        async with running(tmp_path, port=port):
            found = await until(documents, "CameraFound")
            assert found["subject"] == "multicam://bench-1"
            assert found["info"]["address"] == address
            await until(documents, "CameraStateChanged", state="ready")


async def test_watch_filters_by_event_and_camera(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "a", device_id="a") as one,
        running(tmp_path / "b", device_id="b") as other,
        watching(
            *(uri(one), uri(other), *LOOPBACK),
            *("--camera", "multicam://b", "--event", "CameraStateChanged", "--event", "CameraLost"),
        ) as documents,
    ):
        first = await anext(documents)
        assert (first["event"], first["camera"], first["state"]) == (
            "CameraStateChanged",
            "multicam://b",
            "ready",
        )
        assert first["kinds"] == ["CameraStateChanged", "CameraEvent", "Event"]


async def test_watch_fleet_with_a_service(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path, cameras=2) as service:
        file = tmp_path / "fleet.toml"
        address = f"mediamtx://127.0.0.1:{service.port}"
        await asyncio.to_thread(
            file.write_text, f'[[camera]]\naddress = "{address}"\ntoken_env = "WATCHED"\n'
        )
        async with watching("--fleet", str(file), WATCHED=token()) as documents:
            seen: set[str] = set()
            while len(seen) < 2:
                seen.add((await until(documents, "CameraFound"))["camera"])
            assert all(camera.startswith(f"{address}/") for camera in seen)


async def test_watch_without_cameras() -> None:
    ended = await asynccam("watch")
    assert ended.code == 2
    assert "no cameras given" in ended.err


async def test_watch_wrong_fleet_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    await asyncio.to_thread(file.write_text, "[[camera]]\naddress = 'a'\n")
    ended = await asynccam("watch", "--fleet", str(file))
    assert ended.code == 2
    assert f"{file}:2: camera[0].address: 'a' is not a camera address" in ended.err
