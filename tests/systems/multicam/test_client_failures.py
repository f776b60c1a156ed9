"""MultiCamClient when the device is silent, resets, floods or is away; what is repeated and what is not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from asynccam.errors import AsynccamError, ConnectionError, DeviceError, TimeoutError
from asynccam.runtime.retry import Backoff
from asynccam.systems.multicam.client import MultiCamClient
from asynccam.systems.multicam.models import CommandMessage
from tests.support.waiting import outlasting
from tests.systems.multicam.peers import Android, Peer, reset, resets_at_once, says, silent

READY = b'{"deviceId":"a","status":"ready","timestamp":1.5}'
SOON = Backoff(initial=0.01, jitter=0)
Call = Callable[[MultiCamClient], Awaitable[object]]

NEVER_REPEATED: list[Call] = [
    lambda client: client.start_recording(),
    lambda client: client.stop_recording(),
    lambda client: client.upload_to_cloud("v.mp4", upload_url="https://bucket/v"),
    lambda client: client.send(CommandMessage.heartbeat()),
]
REPEATED: list[Call] = [
    lambda client: client.device_status(),
    lambda client: client.heartbeat(),
    lambda client: client.list_files(),
]


def client(peer: Peer | int, *, timeout: float = 5.0, retries: int = 2) -> MultiCamClient:
    port = peer if isinstance(peer, int) else peer.port
    return MultiCamClient("127.0.0.1", port, timeout=timeout, retries=retries, backoff=SOON)


class FailsFirst:
    """Loses the first connections after reading the command, then answers."""

    def __init__(self, failures: int, answer: bytes) -> None:
        self._failures = failures
        self._answer = answer

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        if self._failures > 0:
            self._failures -= 1
            reset(writer)
            return
        writer.write(self._answer)
        await reader.read()


async def free_port() -> int:
    async with Peer(silent) as peer:
        return peer.port


@pytest.mark.parametrize("call", REPEATED)
async def test_queries_are_retried(call: Call) -> None:
    answer = READY[:-1] + b',"files":[]}'
    async with Peer(FailsFirst(2, answer).talk) as peer:
        await call(client(peer))
        assert peer.opened == 3


@pytest.mark.parametrize("call", REPEATED)
async def test_query_retries_are_limited(call: Call) -> None:
    async with Peer(FailsFirst(99, READY).talk) as peer:
        with pytest.raises(ConnectionError) as caught:
            await call(client(peer, retries=1))
        assert peer.opened == 2
        assert caught.value.maybe_executed


@pytest.mark.parametrize("call", NEVER_REPEATED)
async def test_commands_that_change_state_are_sent_once(call: Call) -> None:
    async with Peer(FailsFirst(1, READY).talk) as peer:
        with pytest.raises(ConnectionError) as caught:
            await call(client(peer))
        assert peer.opened == 1
        assert caught.value.maybe_executed


@pytest.mark.parametrize("call", NEVER_REPEATED)
async def test_unreachable_device_did_not_execute(call: Call) -> None:
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1") as caught:
        await call(client(await free_port()))
    assert not caught.value.maybe_executed


@pytest.mark.parametrize("call", NEVER_REPEATED + REPEATED)
async def test_silent_device_times_out(call: Call) -> None:
    async with Peer(silent) as peer:
        async with asyncio.timeout(20):
            with (
                outlasting(0.1),
                pytest.raises(TimeoutError, match=rf"answer from multicam://127.0.0.1:{peer.port}") as caught,
            ):
                await call(client(peer, timeout=0.15))
        assert caught.value.maybe_executed
        assert peer.opened == 1


async def test_timeout_of_one_call() -> None:
    async with Peer(silent) as peer:
        async with asyncio.timeout(20):
            with pytest.raises(TimeoutError):
                await client(peer, timeout=60).stop_recording(timeout=0.1)


async def test_slow_stop_reply() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        await asyncio.sleep(0.3)  # what makes the stop slow
        writer.write(
            b'{"deviceId":"a","status":"recording_stopped","timestamp":1,"fileName":"v.mp4","fileSize":5}'
        )
        await reader.read()

    async with Peer(slow) as peer:
        assert (await client(peer, timeout=10).stop_recording()).fileName == "v.mp4"


async def test_truncated_reply() -> None:
    for then in ("close", "reset"):
        async with Peer(says(READY[:20], then=then)) as peer:
            with pytest.raises(ConnectionError) as caught:
                await client(peer).start_recording()
            assert caught.value.maybe_executed


async def test_connection_reset() -> None:
    async with Peer(resets_at_once) as peer:
        with pytest.raises(ConnectionError):
            await client(peer).start_recording()


async def test_heartbeat_flood_keeps_deadlines() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        while True:
            writer.write(b'{"command":"HEARTBEAT","timestamp":1.5}' * 1000)
            await writer.drain()

    async with Peer(flood) as peer:
        async with asyncio.timeout(20):
            with pytest.raises(TimeoutError):
                await client(peer, timeout=0.3).device_status()


@pytest.mark.parametrize("call", [NEVER_REPEATED[0], REPEATED[0]])
async def test_cancelled_call_closes_connection(call: Call) -> None:
    closed = asyncio.Event()
    heard = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        heard.set()
        await reader.read()
        closed.set()

    async with Peer(talk) as peer:
        task = asyncio.ensure_future(call(client(peer)))
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(2):
            await closed.wait()


SECRETS = {
    "s3_bucket": "films",
    "s3_key": "a/b.mp4",
    "aws_access_key_id": "ASIAVERYSECRETID",
    "aws_secret_access_key": "wJalrXUtnFEMIK7MDENG",
    "aws_session_token": "FwoGZXIvYXdzEBYaD",
    "aws_region": "eu-central-1",
}
HIDDEN = ["ASIAVERYSECRETID", "wJalrXUtnFEMIK7MDENG", "FwoGZXIvYXdzEBYaD", "X-Amz-Signature", "abc123"]


@pytest.mark.parametrize(
    "credentials", [SECRETS, {"upload_url": "https://films.example/v.mp4?X-Amz-Signature=abc123"}]
)
@pytest.mark.parametrize("ending", ["echo", "garbage", "reset", "silence"])
async def test_credentials_are_never_shown(
    credentials: dict[str, str], ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = await reader.read(65536)
        if ending == "echo":
            words = sent.replace(b'"', b"'").replace(b"\\", b"")
            writer.write(b'{"deviceId":"a","status":"error","timestamp":1,"message":"bad: %b"}' % words)
        elif ending == "garbage":
            writer.write(sent.replace(b'"command"', b'"status": 7, "message"'))
        elif ending == "reset":
            reset(writer)
        await reader.read()

    caplog.set_level(logging.DEBUG)
    async with Peer(talk) as peer:
        controller = client(peer, timeout=0.2)
        with pytest.raises(AsynccamError) as caught:
            await controller.upload_to_cloud("v.mp4", **credentials)  # type: ignore[arg-type]
    if ending == "echo":
        assert isinstance(caught.value, DeviceError)
        assert "bad: " in str(caught.value)
    chain: list[BaseException] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__
    shown = caplog.text + repr(controller) + "".join(str(one) + repr(one) for one in chain)
    assert not [secret for secret in HIDDEN if secret in shown]


async def test_many_calls_at_once_do_not_mix() -> None:
    device = Android()
    async with Peer(device.talk) as peer:
        controller = client(peer)
        answers = await asyncio.gather(*(controller.heartbeat() for _ in range(100)))
        assert len(answers) == 100
        assert device.told("HEARTBEAT") == 100
