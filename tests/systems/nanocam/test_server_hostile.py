"""MediaServer against clients that mean harm, or know no better: it goes on serving the others."""

import asyncio
import json
import logging
import struct
from typing import Any

import pytest

from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.server.options import ServerLimits, ServerPolicy, WhenBusy
from asynccam.systems.nanocam.server.server import MediaServer
from tests.support.gst import free_udp_port
from tests.support.waiting import eventually, passes
from tests.systems.nanocam.original import KILL, OriginalClient, image, original, video


def server_at(**options: Any) -> MediaServer:
    return MediaServer(0, host="127.0.0.1", **options)


async def still_serves(server: MediaServer) -> None:
    async with original(server) as client:
        client.say(image())
        assert len(await client.names()) == 1
        await client.rest()


WRONG: dict[str, bytes | dict[str, Any]] = {
    "no JSON": b"GET / HTTP/1.1\r\n\r\n",
    "broken JSON": b"{type: image}",
    "another word": b"HELLO",
    "random bytes": bytes(range(256)) * 8,
    "too long": b'{"type": "' + b"a" * 20_000,
    "too long and complete": json.dumps({**image(), "more": "a" * 20_000}).encode(),
    "deep": b'{"a":' * 3000,
    "unknown type": {"type": "shutdown"},
    "no type": {},
    "a list as type": {"type": ["image"]},
    "missing fields": {"type": "image"},
    "no number": image(width="wide"),
    "not finite": b'{"type":"image","width":NaN,"height":1,"frames":1,"interval":1,"format":"file"}',
    "interval 0": image(interval=0),
    "no picture": image(frames=0),
    "negative": video(-1),
    "endless": video(1e300),
    "longer than allowed": video(100),
    "more than allowed": image(6),
    "too large": image(width=10_000),
    "too small": image(height=2),
    "a pickled array": image(format="opencv"),
    "no timer": {"type": "reset_timer"},
    "a timer of words": {"type": "reset_timer", "duration": "ten"},
    "a command as duration": video("10; rm -rf /"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_invalid_requests_close_the_connection(name: str, caplog: pytest.LogCaptureFixture) -> None:
    limits = ServerLimits(duration=50, frames=5, width=1000, height=1000)
    async with server_at(limits=limits) as server:
        async with original(server) as client:
            client.say(WRONG[name])
            assert await client.gone() == b""
        await eventually(lambda: server.connections == 0, 30)
        assert server.capturing is None
        (line,) = [one for one in caplog.records if "disconnected" in one.message]
        assert (line.levelno, "127.0.0.1" in line.message) == (logging.WARNING, True)
        assert len(line.message) < 300
        await still_serves(server)


async def test_requests_cut_anywhere() -> None:
    request = json.dumps(KILL).encode()
    async with server_at() as server, original(server) as client:
        for cut in range(1, len(request)):
            client.say(request[:cut])
            await client.writer.drain()
            await passes(3)
            client.say(request[cut:])
            await client.word(b"OK")


async def test_request_beyond_1024_bytes() -> None:
    async with server_at() as server, original(server) as client:
        client.say({**image(), "comment": "a" * 8000})
        assert len(await client.names()) == 1
        await client.rest()


async def test_requests_in_one_packet_run_in_order() -> None:
    async with server_at() as server, original(server) as client:
        client.say(json.dumps(image()).encode() * 2 + b"OK")
        assert len(await client.names()) == 1
        assert len(await client.names()) == 1  # the first one's picture, and QUIT, stand before the pickle
        await client.rest()
        await client.quiet()


async def test_limit_of_requests_ahead() -> None:
    limits = ServerLimits(ahead=2)
    async with server_at(limits=limits) as server, original(server) as client:
        client.say(json.dumps(image(2, 30)).encode() * 4)
        assert await client.gone() == b""
        await eventually(lambda: server.capturing is None, 30)


@pytest.mark.parametrize("word", [b"", b'{"type"', b"GOOD"])
async def test_silent_client_times_out(word: bytes) -> None:
    limits = ServerLimits(idle_timeout=0.3, request_timeout=0.3)
    async with server_at(limits=limits) as server, original(server) as client:
        client.say(word)
        assert await client.gone() == b""
        await eventually(lambda: server.connections == 0, 30)


async def test_capture_is_not_idle() -> None:
    limits = ServerLimits(idle_timeout=0.2, request_timeout=5)
    async with server_at(limits=limits) as server, original(server) as client:
        client.say(video(1))
        assert len(await client.names()) == 1
        await client.rest()
        assert await client.gone() == b""


async def test_oldest_idle_client_makes_room() -> None:
    limits = ServerLimits(connections=3)
    async with server_at(limits=limits) as server, original(server) as first, original(server) as second:
        second.say(image(2, 30))
        await eventually(lambda: server.capturing, 30)
        async with original(server) as third:
            await third.alive()
            async with original(server) as fourth:
                assert await first.gone() == b""
                await fourth.alive()
                assert server.capturing == "image"


async def test_limit_of_connections_per_address() -> None:
    limits = ServerLimits(per_address=1)
    async with server_at(limits=limits) as server, original(server):
        await eventually(lambda: server.connections == 1, 30)
        async with original(server) as second:
            assert await second.gone() == b""
        async with original(server, "127.0.0.2") as other:
            await other.alive()


async def test_limit_of_waiting_requests() -> None:
    limits = ServerLimits(waiting=1)
    async with server_at(limits=limits) as server, original(server) as first, original(server) as second:
        first.say(image(2, 30))
        await eventually(lambda: server.capturing, 30)
        second.say(image())
        await eventually(lambda: server.waiting == 1, 30)
        async with original(server) as third:
            third.say(image())
            assert await third.gone() == b""


async def test_waiting_request_times_out() -> None:
    limits = ServerLimits(waiting_timeout=0.2)
    async with server_at(limits=limits) as server, original(server) as first, original(server) as second:
        first.say(image(2, 30))
        await eventually(lambda: server.capturing, 30)
        second.say(image())
        assert await second.gone() == b""
        assert server.capturing == "image"


async def test_no_capture_on_a_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    limits = ServerLimits()
    async with server_at(limits=limits) as server:
        object.__setattr__(limits, "reserve", 1 << 60)
        async with original(server) as client:
            client.say(image())
            assert await client.gone() == b""
        assert "have to stay free" in caplog.text


@pytest.mark.parametrize("form", ["file", "udp"])
async def test_camera_that_fails(form: str, caplog: pytest.LogCaptureFixture) -> None:
    async with server_at(camera=CSIcamera(device="/dev/null")) as server, original(server) as client:
        client.say(video(2, form))
        assert await client.gone() == b""
        assert server.capturing is None
        assert "disconnected" in caplog.text


# -- our own clients --------------------------------------------------------------------------------


class OurClient(OriginalClient):
    """Frames, read by hand."""

    def ask(self, message: dict[str, Any], **ours: Any) -> None:
        self.say({**message, "asynccam": {"v": 1, **ours}})

    async def answer(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", await asyncio.wait_for(self.reader.readexactly(4), 30))
        answer = json.loads(await asyncio.wait_for(self.reader.readexactly(length), 30))
        assert isinstance(answer, dict)
        return answer


def ours(client: OriginalClient) -> OurClient:
    return OurClient(client.reader, client.writer)


async def test_framed_client_gets_sizes() -> None:
    async with server_at() as server, original(server) as one:
        client = ours(one)
        client.ask(image(2))
        answer = await client.answer()
        assert answer["answer"] == "files"
        for file in answer["files"]:
            data = await asyncio.wait_for(client.reader.readexactly(file["size"]), 30)
            assert data[:3] == b"\xff\xd8\xff"
            assert data[-2:] == b"\xff\xd9"
        assert await client.answer() == {"answer": "finished"}


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"type": "shutdown"}, "request"),
        (image(width="wide"), "request"),
        (video(100), "request"),
        (image(6), "request"),
        (image(width=10_000), "request"),
        ({"type": "reset_timer", "duration": "5"}, "request"),
    ],
)
async def test_framed_client_gets_a_refusal_and_stays(asked: dict[str, Any], kind: str) -> None:
    async with server_at(limits=ServerLimits(duration=50, frames=5)) as server, original(server) as one:
        client = ours(one)
        client.ask(asked)
        answer = await client.answer()
        assert (answer["answer"], answer["kind"]) == ("refused", kind)
        assert answer["reason"]
        client.ask(KILL)
        assert await client.answer() == {"answer": "ok"}


async def test_token_is_required(caplog: pytest.LogCaptureFixture) -> None:
    policy = ServerPolicy(token="secret-word")
    async with server_at(policy=policy) as server, original(server) as one:
        client = ours(one)
        for shown in ({}, {"token": "wrong"}, {"token": "secret-wörd"}, {"token": "secret-word "}):
            for request in (image(), video(1, "udp"), KILL, {"type": "reset_timer", "duration": 1}):
                client.ask(request, **shown)
                assert (await client.answer())["kind"] == "token"
        client.ask(image(), token="secret-word")
        assert (await client.answer())["answer"] == "files"
        async with original(server) as old:
            old.say(image())
            assert await old.gone() == b""
    assert "secret" not in caplog.text
    assert "secret" not in repr(policy)


async def test_originals_admitted_beside_a_token() -> None:
    policy = ServerPolicy(token="secret-word", originals=True)
    async with server_at(policy=policy) as server:
        await still_serves(server)
        async with original(server) as one:
            client = ours(one)
            client.ask(image(), token="wrong")
            assert (await client.answer())["kind"] == "token"


@pytest.mark.parametrize("request_", [image(2, 30), video(60)])
async def test_framed_client_is_notified_of_a_kill(request_: dict[str, Any]) -> None:
    async with server_at() as server, original(server) as one, original(server) as other:
        client = ours(one)
        client.ask(request_)
        await eventually(lambda: server.capturing, 30)
        other.say(KILL)
        await other.word(b"OK")
        assert (await client.answer())["kind"] == "killed"
        client.ask(request_)
        await eventually(lambda: server.capturing, 30)
        client.ask(KILL)
        assert (await client.answer())["kind"] == "killed"
        assert await client.answer() == {"answer": "ok"}


async def test_stream_killed_while_the_camera_opens() -> None:
    port = free_udp_port()
    async with server_at(media_port=port) as server, original(server) as one, original(server) as other:
        client = ours(one)
        client.ask(video(60, "udp"))
        await eventually(lambda: server.capturing, 30)
        other.say(KILL)
        await other.word(b"OK")
        answer = await client.answer()
        assert answer == {"answer": "ok"} or answer["kind"] == "killed"
        await still_serves(server)


async def test_framed_client_takes_over() -> None:
    async with (
        server_at(media_port=free_udp_port()) as server,
        original(server) as one,
        original(server) as old,
    ):
        old.say(video(60, "udp"))
        await old.word(b"OK")
        client = ours(one)
        client.ask(video(60, "udp"), port=free_udp_port())
        assert await client.answer() == {"answer": "busy"}
        client.ask(KILL)
        assert await client.answer() == {"answer": "ok"}
        assert await client.answer() == {"answer": "ok"}
        assert server.capturing == "udp"
        client.ask({"type": "reset_timer", "duration": "1"})
        assert await client.answer() == {"answer": "ok"}
        await eventually(lambda: server.capturing is None, 30)
        await old.quiet()


async def test_framed_client_is_refused_by_policy() -> None:
    policy = ServerPolicy(when_busy=WhenBusy.REFUSE)
    async with server_at(policy=policy) as server, original(server) as one, original(server) as old:
        old.say(image(2, 30))
        await eventually(lambda: server.capturing, 30)
        client = ours(one)
        client.ask(image())
        assert (await client.answer())["kind"] == "busy"


async def test_duration_limit_includes_extensions() -> None:
    limits = ServerLimits(duration=3)
    async with server_at(limits=limits, media_port=free_udp_port()) as server, original(server) as client:
        client.say(video(2, "udp"))
        await client.word(b"OK")
        client.say({"type": "reset_timer", "duration": "1000000"})
        await client.word(b"BUSY")
        await eventually(lambda: server.capturing is None, 30)
