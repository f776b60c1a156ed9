"""Our own client and our own server, over everything they can do together, and cancelled at every await."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from asynccam.errors import BusyError, DeviceError
from asynccam.recording import Verdict, verify_file
from asynccam.systems.nanocam.client import MediaClient
from asynccam.systems.nanocam.server.server import MediaServer
from tests.support.cancelling import cancelled_at
from tests.support.gst import decoded_frames, free_udp_port
from tests.support.waiting import eventually
from tests.systems.nanocam.original import original, video

SIZE: dict[str, Any] = {"width": 160, "height": 120}


@pytest.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with MediaServer(0, host="127.0.0.1", media_port=free_udp_port()) as one:
        yield one


@pytest.fixture
async def client(server: MediaServer, tmp_path: Path) -> AsyncIterator[MediaClient]:
    port = free_udp_port()
    async with MediaClient("127.0.0.1", server.port, media_path=tmp_path, media_port=port) as one:
        yield one


async def test_pictures(client: MediaClient) -> None:
    files, arrays = await client.image_request(2, 0.5, **SIZE)
    assert client.framed
    assert arrays == []
    for path in files:
        with Image.open(path) as picture:
            picture.load()
            assert picture.size == (160, 120)


@pytest.mark.parametrize("src", ["file", "udp"])
async def test_videos(client: MediaClient, src: Any) -> None:
    ((path,), _) = await client.video_request(1.5, src=src, **SIZE)
    verdict = await verify_file(path)
    assert verdict.verdict is Verdict.COMPLETE, verdict
    assert await decoded_frames(path) == verdict.frames


async def test_stream_extended_and_killed(server: MediaServer, client: MediaClient) -> None:
    receiving = asyncio.create_task(client.video_request(60, src="udp", **SIZE))
    await eventually(lambda: server.capturing == "udp" and client._recorder is not None, 30)
    await eventually(lambda: any(client.media_path.iterdir()), 30)
    await client.send_timer_reset(30)
    await client.kill()
    await asyncio.wait_for(asyncio.wait({receiving}), 30)
    await eventually(lambda: server.capturing is None, 30)
    receiving.exception()


async def test_timer_reset_without_a_stream(client: MediaClient) -> None:
    await client.image_request(1, 0.5, **SIZE)
    with pytest.raises(DeviceError, match="no video"):
        await client.send_timer_reset(5)
    await client.kill()  # harmless


async def test_override(server: MediaServer, client: MediaClient) -> None:
    async with original(server) as old:
        old.say(video(60, "udp"))
        await old.word(b"OK")
        with pytest.raises(BusyError):
            await client.image_request(1, 0.5, **SIZE)
        files, _ = await client.image_request(1, 0.5, override=True, **SIZE)
        assert len(files) == 1
        await old.quiet()


Call = Callable[[MediaClient], Coroutine[Any, Any, object]]
CALLS: dict[str, Call] = {
    "image": lambda client: client.image_request(1, 0.5, **SIZE),
    "file": lambda client: client.video_request(0.5, src="file", **SIZE),
    "udp": lambda client: client.video_request(0.5, src="udp", **SIZE),
}


@pytest.mark.parametrize("name", CALLS)
async def test_cancelled_request_frees_the_server(
    name: str, server: MediaServer, client: MediaClient
) -> None:
    async def call() -> None:
        await CALLS[name](client)

    count = 1
    while await cancelled_at(call(), count):
        await eventually(lambda: server.capturing is None, 30)
        count += 4
    assert count > 5
