"""The client on uvloop: bare sockets there go through other code."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import ConnectionError, TimeoutError, TransferError
from asynccam.systems.multicam.client import MultiCamClient
from tests.support.waiting import eventually
from tests.systems.multicam.peers import Android, DropsIdle, Peer, framed, says, silent

uvloop = pytest.importorskip("uvloop")
uvloop.new_event_loop().close()  # opens the pipe that libuv keeps for the life of the process


def client(peer: Peer, timeout: float = 5.0) -> MultiCamClient:
    return MultiCamClient("127.0.0.1", peer.port, timeout=timeout, retries=0)


async def commands_and_a_file(directory: Path) -> None:
    async with Peer(Android({"v.mp4": b"x" * 3_000_000}).talk) as peer:
        assert (await client(peer).device_status()).status == "ready"
        assert (await client(peer).download("v.mp4", directory)).size == 3_000_000
        assert (await client(peer).measure_clock(samples=2)).samples == 2


async def an_armed_start_on_a_connection_that_was_replaced(directory: Path) -> None:
    device = DropsIdle(2)
    async with Peer(device.talk) as peer, client(peer) as controller:
        armed = await controller.arm()
        await eventually(lambda: armed.rearmed == 2 and armed.ready)
        armed.release(None)
        assert (await armed.accepted()).status == "scheduled_recording_accepted"
        assert len(device.commands) == 1


async def what_fails(directory: Path) -> None:
    async with Peer(silent) as peer:
        with pytest.raises(TimeoutError):
            await client(peer, timeout=0.1).stop_recording()
        armed = await client(peer).arm()
        await eventually(lambda: peer.opened == 2)
    await eventually(lambda: not armed.ready)
    armed.release(None)
    with pytest.raises(ConnectionError):
        await armed.accepted()
    header = b'{"deviceId":"a","fileName":"v.mp4","fileSize":900,"status":"ready"}'
    async with Peer(says(framed(header, b"half"), then="close")) as peer:
        with pytest.raises(TransferError) as caught:
            await client(peer).download("v.mp4", directory)
    assert caught.value.received == 4


@pytest.mark.parametrize(
    "story", [commands_and_a_file, an_armed_start_on_a_connection_that_was_replaced, what_fails]
)
def test_on_uvloop(story: Callable[[Path], Coroutine[Any, Any, None]], tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story(tmp_path))
