"""Armed starts: released in place, on connections that devices may close meanwhile."""

import asyncio
import json
import resource
import socket
import time

import pytest

from asynccam.errors import (
    ClockNotSynchronizedError,
    ConnectionError,
    RemoteProtocolError,
    StateError,
    TimeoutError,
    UsageError,
)
from asynccam.runtime.retry import Backoff
from asynccam.systems.multicam.client import MultiCamClient
from asynccam.wall_clock import WALL_CLOCK
from tests.support.waiting import eventually
from tests.systems.multicam.peers import Android, DropsIdle, Peer, says, silent

ACCEPTED = b'{"deviceId":"a","status":"scheduled_recording_accepted","timestamp":1.5}'


def client(peer: Peer | int, **options: object) -> MultiCamClient:
    port = peer if isinstance(peer, int) else peer.port
    backoff = Backoff(initial=0.01, jitter=0)
    return MultiCamClient("127.0.0.1", port, timeout=5.0, backoff=backoff, **options)  # type: ignore[arg-type]


async def test_release_and_accepted() -> None:
    device = Android()
    async with Peer(device.talk) as peer:
        armed = await client(peer, device_id="lab").arm()
        assert armed.ready
        await eventually(lambda: peer.opened == 1)
        assert device.reads == []
        before = time.time()
        armed.release(1729000003.5)
        answer = await armed.accepted()
        assert answer.status == "scheduled_recording_accepted"
        assert armed.commanded_at is not None
        assert armed.answered_at is not None
        assert before <= armed.commanded_at <= armed.answered_at <= time.time()
    assert len(device.reads) == 1
    command = json.loads(device.reads[0])
    assert (command["command"], command["timestamp"], command["deviceId"]) == (
        "START_RECORDING",
        1729000003.5,
        "lab",
    )


async def test_release_for_now_sends_the_present_time() -> None:
    device = Android()
    async with Peer(device.talk) as peer:
        armed = await client(peer).arm()
        armed.release(None)
        await armed.accepted()
        assert device.commands[0]["timestamp"] == armed.commanded_at


async def test_release_sends_before_it_returns() -> None:
    """Read by a bare socket without giving the loop a turn."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        armed = await client(listener.getsockname()[1]).arm()
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(2)
            armed.release(5.5)
            sent = await asyncio.to_thread(accepted.recv, 65536)
            assert json.loads(sent)["timestamp"] == 5.5
            accepted.sendall(ACCEPTED)
            assert (await armed.accepted()).status == "scheduled_recording_accepted"


async def test_release_a_thousand_in_one_turn() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(1000, (hard - 200) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count + 200), hard))
    device = Android()
    try:
        async with Peer(device.talk) as peer, client(peer) as controller:
            armed = [await controller.arm() for _ in range(count)]
            for one in armed:
                one.release(1729000003.5)
            answers = await asyncio.gather(*(one.accepted() for one in armed))
            assert len(answers) == count == len(device.reads)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_accepted_refusal() -> None:
    device = Android()
    device.synchronized = False
    async with Peer(device.talk) as peer:
        armed = await client(peer).arm()
        armed.release(time.time() + 3)
        with pytest.raises(ClockNotSynchronizedError):
            await armed.accepted()
        assert armed.closed


async def test_arm_unreachable_device() -> None:
    async with Peer(silent) as gone:
        pass
    with pytest.raises(ConnectionError) as caught:
        await client(gone).arm()
    assert not caught.value.maybe_executed


@pytest.mark.parametrize("by_reset", [False, True])
async def test_armed_connection_dropped_is_replaced(by_reset: bool) -> None:
    device = DropsIdle(2, by_reset=by_reset)
    async with Peer(device.talk) as peer:
        armed = await client(peer).arm()
        await eventually(lambda: armed.rearmed == 2 and armed.ready)
        armed.release(None)
        assert (await armed.accepted()).status == "scheduled_recording_accepted"
        assert len(device.commands) == 1


async def test_armed_skips_heartbeats() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"command":"HEARTBEAT","timestamp":1729000000.25,"deviceId":"iPhone-7"}')
        await reader.read(4096)
        writer.write(ACCEPTED)
        await reader.read()

    async with Peer(talk) as peer:
        armed = await client(peer).arm()
        await asyncio.sleep(0.05)  # in which the heartbeat arrives
        assert armed.rearmed == 0
        armed.release(None)
        assert (await armed.accepted()).deviceId == "a"


async def test_release_for_now_while_disconnected() -> None:
    async with Peer(silent) as peer:
        armed = await client(peer).arm()
        await eventually(lambda: peer.opened == 1)
    await eventually(lambda: not armed.ready)
    armed.release(None)
    with pytest.raises(ConnectionError, match="was not sent") as caught:
        await armed.accepted()
    assert not caught.value.maybe_executed


async def test_release_for_later_is_sent_after_reconnect() -> None:
    device = Android()
    async with Peer(silent) as peer:
        armed = await client(peer).arm()
        await eventually(lambda: peer.opened == 1)
    await eventually(lambda: not armed.ready)
    at = time.time() + 3
    armed.release(at)
    async with Peer(device.talk, port=peer.port):
        assert (await armed.accepted()).status == "scheduled_recording_accepted"
        assert device.commands[0]["timestamp"] == at
        assert armed.commanded_at is not None
        assert armed.commanded_at < at
    device.close()


async def test_close_before_late_delivery() -> None:
    async with Peer(silent) as peer:
        armed = await client(peer).arm()
        await eventually(lambda: peer.opened == 1)
    await eventually(lambda: not armed.ready)
    armed.release(time.time() + 60)
    with pytest.raises(TimeoutError) as caught:
        await armed.accepted(timeout=0.1)
    assert not caught.value.maybe_executed
    await armed.aclose()


async def test_release_for_later_fails_when_due() -> None:
    async with Peer(silent) as peer:
        armed = await client(peer).arm()
        await eventually(lambda: peer.opened == 1)
    await eventually(lambda: not armed.ready)
    armed.release(time.time() + 0.2)
    with pytest.raises(ConnectionError, match="was not sent") as caught:
        await armed.accepted()
    assert not caught.value.maybe_executed


async def test_start_is_not_sent_after_a_suspend_past_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Android()
    async with Peer(silent) as peer:
        armed = await client(peer).arm()
        await eventually(lambda: peer.opened == 1)
    await eventually(lambda: not armed.ready)
    armed.release(time.time() + 3600)
    elapsed = WALL_CLOCK.elapsed
    monkeypatch.setattr(type(WALL_CLOCK), "elapsed", lambda self: elapsed() + 7200)
    async with Peer(device.talk, port=peer.port):
        with pytest.raises(ConnectionError, match="was not sent") as caught:
            await armed.accepted()
        assert device.commands == []
    assert not caught.value.maybe_executed
    device.close()


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_connection_lost_after_release(then: str) -> None:
    async with Peer(says(then=then)) as peer:
        armed = await client(peer).arm()
        armed.release(None)
        with pytest.raises(ConnectionError) as caught:
            await armed.accepted()
        assert caught.value.maybe_executed
        assert peer.opened == 1


async def test_no_reply_after_release() -> None:
    async with Peer(silent) as peer:
        armed = await client(peer).arm()
        armed.release(None)
        with pytest.raises(TimeoutError) as caught:
            await armed.accepted(timeout=0.1)
        assert caught.value.maybe_executed
        await armed.aclose()


async def test_garbage_after_release() -> None:
    async with Peer(says(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as peer:
        armed = await client(peer).arm()
        armed.release(None)
        with pytest.raises(RemoteProtocolError):
            await armed.accepted()


async def test_armed_calls_in_wrong_order() -> None:
    async with Peer(Android().talk) as peer:
        armed = await client(peer).arm()
        with pytest.raises(StateError):
            await armed.accepted()
        for nonsense in (float("nan"), float("inf")):
            with pytest.raises(UsageError):
                armed.release(nonsense)
        armed.release(None)
        with pytest.raises(StateError):
            armed.release(None)
        await armed.accepted()


async def test_close_before_release_sends_nothing() -> None:
    device = Android()
    async with Peer(device.talk) as peer:
        armed = await client(peer).arm()
        await armed.aclose()
        await armed.aclose()
        assert armed.closed
        with pytest.raises(StateError):
            armed.release(None)
        await client(peer).heartbeat()
    assert device.told("START_RECORDING") == 0


async def test_close_while_accepted_waits() -> None:
    async with Peer(silent) as peer:
        armed = await client(peer).arm()
        armed.release(None)
        waiting = asyncio.ensure_future(armed.accepted())
        await asyncio.sleep(0)
        await armed.aclose()
        with pytest.raises(StateError, match="closed before its reply"):
            await waiting


async def test_client_close_closes_armed_starts() -> None:
    closed = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closed
        await reader.read()
        closed += 1

    async with Peer(talk) as peer:
        async with client(peer) as controller:
            armed = [await controller.arm() for _ in range(3)]
            await armed[0].aclose()
        assert all(one.closed for one in armed)
        await eventually(lambda: closed == 3)


async def test_cancelled_accepted_closes_connection() -> None:
    async with Peer(silent) as peer, client(peer) as controller:
        armed = await controller.arm()
        armed.release(None)
        waiting = asyncio.ensure_future(armed.accepted())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
