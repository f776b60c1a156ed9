"""MediaServer spoken to as the maker's client speaks: bare bytes on a real socket, real pictures."""

import asyncio
import io
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from asynccam.errors import ConnectionError, StateError, UsageError
from asynccam.recording import Verdict, verify_file
from asynccam.systems.nanocam import mediaserver
from asynccam.systems.nanocam.server.options import ServerLimits, ServerPolicy, WhenBusy
from asynccam.systems.nanocam.server.server import MediaServer
from tests.support.gst import free_udp_port
from tests.support.waiting import eventually, passes
from tests.systems.nanocam.original import KILL, image, original, video

LONG = 60


def server_at(**options: Any) -> MediaServer:
    return MediaServer(0, host=options.pop("host", "127.0.0.1"), **options)


def split_pictures(data: bytes, count: int) -> list[bytes]:
    pictures = []
    for number in range(count):
        end = data.index(b"\xff\xd9MORE") + 2 if number < count - 1 else len(data)
        pictures.append(data[:end])
        data = data[end + 4 :]
    return pictures


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place for temporary files, which has to be empty in the end."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


async def test_pictures_for_an_original_client(temporary: Path) -> None:
    async with server_at() as server, original(server) as client:
        client.say(image(2))
        names = await client.names()
        pictures = split_pictures(await client.rest(), 2)
        assert len(set(names)) == 2
        assert all(name.endswith(".jpg") and "/" not in name for name in names)
        for picture in pictures:
            with Image.open(io.BytesIO(picture)) as opened:
                opened.load()
                assert opened.size == (64, 48)
        client.say(b"GOODBYE")
        assert await client.gone() == b""
    assert list(temporary.iterdir()) == []


async def test_video_is_a_complete_mp4(temporary: Path, tmp_path: Path) -> None:
    async with server_at() as server, original(server) as client:
        client.say(video(1))
        (name,) = await client.names()
        assert name.endswith(".mp4")
        path = tmp_path / "video.mp4"
        path.write_bytes(await client.rest())
        await client.quiet()
    verdict = await verify_file(path)
    assert verdict.verdict is Verdict.COMPLETE, verdict
    assert verdict.duration == pytest.approx(1, abs=0.5)
    assert list(temporary.iterdir()) == []


async def test_captured_files_can_be_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    async with server_at(media_path=kept) as server, original(server) as client:
        client.say(image())
        (name,) = await client.names()
        data = await client.rest()
        client.say(image())
        await client.names()
        await client.rest()
    assert (kept / name).read_bytes() == data
    assert len(list(kept.iterdir())) == 2


async def rtp(sock: socket.socket) -> bytes:
    """The next packet of a stream."""
    data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 65536), 30)
    assert data[0] >> 6 == 2
    return data


@pytest.fixture
def media() -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        yield sock


async def test_udp_stream_is_sent_to_the_client(media: socket.socket) -> None:
    port = media.getsockname()[1]
    async with server_at(media_port=port) as server, original(server) as client:
        client.say(video(LONG, "udp"))
        await client.word(b"OK")
        packet = await rtp(media)
        assert packet[1] & 0x7F == 96
        assert server.capturing == "udp"
        client.say(KILL)
        await client.word(b"OK")
        assert server.capturing is None
        await client.quiet()


async def test_kill_runs_the_refused_request(media: socket.socket) -> None:
    async with server_at(media_port=media.getsockname()[1]) as server, original(server) as client:
        client.say(video(LONG, "udp"))
        await client.word(b"OK")
        client.say(image())
        await client.word(b"BUSY")
        client.say(KILL)
        await client.word(b"OK")
        assert len(await client.names()) == 1
        await client.rest()
        client.say(video(LONG, "udp"))
        await client.word(b"OK")
        client.say(video(LONG, "udp"))
        await client.word(b"BUSY")
        client.say(KILL)
        await client.word(b"OK")  # for both
        assert server.capturing == "udp"
        await rtp(media)
        client.say(KILL)
        await client.word(b"OK")
        await client.quiet()


async def test_another_client_takes_over(media: socket.socket) -> None:
    async with server_at(media_port=media.getsockname()[1]) as server, original(server) as first:
        first.say(video(LONG, "udp"))
        await first.word(b"OK")
        async with original(server) as second:
            second.say(image())
            await second.word(b"BUSY")
            second.say(image(2))
            await second.word(b"BUSY")
            second.say(KILL)
            await second.word(b"OK")
            assert len(await second.names()) == 2
            await second.rest()
        await first.quiet()


async def test_stream_ends_and_can_be_extended(media: socket.socket) -> None:
    async with server_at(media_port=media.getsockname()[1]) as server, original(server) as client:
        client.say(video(LONG, "udp"))
        await client.word(b"OK")
        client.say({"type": "reset_timer", "duration": "1"})
        await client.word(b"BUSY")
        await eventually(lambda: server.capturing is None, 30)
        client.say({"type": "reset_timer", "duration": "1"})  # gets no answer; the original dies of it
        client.say(image())
        assert len(await client.names()) == 1
        await client.rest()


@pytest.mark.parametrize("request_", [image(2, 30), video(LONG), video(LONG, "udp")])
@pytest.mark.parametrize("whose", ["own", "another's"])
async def test_kill_of_every_format(request_: dict[str, Any], whose: str, temporary: Path) -> None:
    async with (
        server_at(media_port=free_udp_port()) as server,
        original(server) as client,
        original(server) as other,
    ):
        client.say(request_)
        await eventually(lambda: server.capturing, 30)
        if request_["format"] == "udp":
            await client.word(b"OK")
        killer = client if whose == "own" else other
        killer.say(KILL)
        await killer.word(b"OK")
        assert server.capturing is None
        if whose == "own" or request_["format"] == "udp":
            await client.quiet()
        else:
            assert await client.gone() == b""  # it waits for files, and there is no word for this
        await eventually(lambda: not list(temporary.iterdir()), 30)


@pytest.mark.parametrize("request_", [image(2, 30), video(LONG), video(LONG, "udp")])
@pytest.mark.parametrize("how", ["goodbye", "close", "reset"])
async def test_disconnect_ends_the_capture(request_: dict[str, Any], how: str, temporary: Path) -> None:
    async with server_at(media_port=free_udp_port()) as server:
        async with original(server) as client:
            client.say(request_)
            await eventually(lambda: server.capturing, 30)
            if how == "goodbye":
                client.say(b"GOODBYE")
                await client.gone()
            elif how == "reset":
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await eventually(lambda: server.connections == 0 and server.capturing is None, 30)
        async with original(server) as client:
            client.say(image())
            await client.names()
            await client.rest()
    assert list(temporary.iterdir()) == []


async def test_requests_are_queued(temporary: Path) -> None:
    async with server_at() as server, original(server) as first, original(server) as second:
        first.say(video(1))
        await eventually(lambda: server.capturing == "video", 30)
        second.say(image())
        await first.names()
        await second.names()
        await asyncio.gather(first.rest(), second.rest())


async def test_slow_reader_delays_no_other_client() -> None:
    async with server_at() as server, original(server) as slow, original(server) as quick:
        slow.say(image(1, width=3000, height=2000))
        slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await eventually(lambda: server.capturing == "image", 30)
        quick.say(image())
        await quick.names()
        await quick.rest()
        slow.reader._transport.resume_reading()  # type: ignore[attr-defined]
        await slow.names()
        await slow.rest()


async def test_policy_refuses_when_busy() -> None:
    policy = ServerPolicy(when_busy=WhenBusy.REFUSE)
    async with server_at(policy=policy) as server, original(server) as first, original(server) as second:
        first.say(image(2, 30))
        await eventually(lambda: server.capturing == "image", 30)
        second.say(image())
        assert await second.gone() == b""
        assert server.capturing == "image"


async def test_kill_without_override_needs_the_same_address() -> None:
    policy = ServerPolicy(override=False)
    async with server_at(policy=policy, media_port=free_udp_port()) as server, original(server) as first:
        first.say(video(LONG, "udp"))
        await first.word(b"OK")
        async with original(server, "127.0.0.2") as stranger:
            stranger.say(image())
            await stranger.word(b"BUSY")
            stranger.say(KILL)
            await stranger.word(b"BUSY")
            stranger.say({"type": "reset_timer", "duration": "1"})
            stranger.say(KILL)
            await stranger.word(b"BUSY")
            assert server.capturing == "udp"
        async with original(server) as same:
            same.say(KILL)
            await same.word(b"OK")


async def test_media_go_to_the_clients_address(media: socket.socket) -> None:
    port = media.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        other.bind(("127.0.0.3", port))
        async with server_at(media_port=port) as server, original(server, "127.0.0.3") as client:
            client.say(video(LONG, "udp", host="127.0.0.1", hostip="127.0.0.1"))
            await client.word(b"OK")
            await rtp(other)
            with pytest.raises(BlockingIOError):
                media.recv(1)


async def test_client_that_left_is_not_busy() -> None:
    async with server_at(media_port=free_udp_port()) as server:
        for _ in range(3):
            async with original(server) as client:
                client.say(video(LONG, "udp"))
                await client.word(b"OK")


async def test_close_ends_the_capture(temporary: Path) -> None:
    async with server_at() as server, original(server) as first, original(server) as second:
        first.say(video(LONG))
        await eventually(lambda: server.capturing == "video", 30)
        second.say(image())
        await passes()
        await server.aclose()
        assert await first.gone() == b""
        assert await second.gone() == b""
        assert (server.connections, server.capturing) == (0, None)
        await server.aclose()
    assert list(temporary.iterdir()) == []


async def test_start_twice_or_on_a_used_port() -> None:
    server = mediaserver.MediaServer(0, host="127.0.0.1")
    await server.start()
    with pytest.raises(StateError, match="before"):
        await server.start()
    with pytest.raises(ConnectionError, match="cannot listen"):
        await MediaServer(server.port, host="127.0.0.1").start()
    await server.aclose()
    with pytest.raises(UsageError, match="ports"):
        MediaServer(70000)
    with pytest.raises(UsageError, match="idle_timeout"):
        ServerLimits(idle_timeout=0)
    with pytest.raises(UsageError, match="token"):
        ServerPolicy(token="")


async def test_cancelled_server_leaves_nothing() -> None:
    server = server_at()

    async def run() -> None:
        async with server:
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    await eventually(lambda: server.port)
    async with original(server) as client:
        client.say(video(LONG))
        await eventually(lambda: server.capturing == "video", 30)
        running.cancel()
        assert await client.gone() == b""
    await asyncio.wait({running})
    assert running.cancelled()
