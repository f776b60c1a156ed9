"""snapshot-server: the example of its README, against our server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.seeds.examples import Changes, blocks, run
from tests.support.command import started

BLOCKS = blocks("snapshot")
CALLS = ("client.get_cameras", "client.snapshot_camera")


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """Our server with two test pictures, as a process."""
    async with started("serve", "snapshot", "--test-cameras", 2, "--port", 0, "--json") as server:
        assert server.stdout is not None
        async with asyncio.timeout(60):
            said = json.loads(await server.stdout.readline())
        yield f"127.0.0.1:{said['port']}"
        server.terminate()
        async with asyncio.timeout(60):
            await server.wait()


def changes(address: str) -> Changes:
    return Changes({"snapshot_client": "asynccam.systems.snapshot"}, CALLS, {"your_server_ip:88": address})


async def test_picture_is_taken(address: str, tmp_path: Path) -> None:
    ran = await run(changes(address).to(BLOCKS["Python Client Library"]), tmp_path)
    assert (ran.code, ran.err) == (0, "")
    cameras, taken, url = ran.out.splitlines()
    assert cameras.startswith("Available cameras: ['")
    assert taken.startswith("Snapshot taken: snapshot_")
    assert taken.endswith(".jpg")
    assert url.startswith(f"Image URL: http://{address}/snapshots/")


async def test_nobody_there_is_the_makers_own_error(tmp_path: Path) -> None:
    ran = await run(changes("127.0.0.1:9").to(BLOCKS["Python Client Library"]), tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Client Error: ")
