"""Calls: what refusals become, what is sent again, and what never is."""

import asyncio

import pytest

from asynccam.errors import RemoteProtocolError, StateError, TimeoutError, UsageError
from asynccam.net.reconnecting import ConnectionState
from asynccam.systems.mediamtx import (
    AuthenticationError,
    CameraBusyError,
    CameraNotFoundError,
    CameraServiceError,
    ConnectionError,
    MediaMTXError,
    PermissionDeniedError,
    RateLimitedError,
    StorageFullError,
    UnsupportedError,
)
from tests.support.waiting import eventually, outlasting
from tests.systems.mediamtx.clients import client_of, connected
from tests.systems.mediamtx.peer import Gen1, Gen2, Held, Peer, Request, Visitor, Words, error, never, running

GENERATION_1 = [
    (-32600, CameraServiceError),
    (-32602, CameraServiceError),
    (-32603, CameraServiceError),
    (-32003, PermissionDeniedError),
    (-32004, CameraNotFoundError),
    (-1000, CameraNotFoundError),
    (-32005, CameraBusyError),
    (-1002, CameraBusyError),
    (-1006, CameraBusyError),
    (-32006, MediaMTXError),
    (-1003, MediaMTXError),
    (-1004, MediaMTXError),
    (-32007, StorageFullError),
    (-1008, StorageFullError),
    (-1010, StorageFullError),
    (-32008, UnsupportedError),
    (-1001, UnsupportedError),
    (-1005, CameraNotFoundError),
    (-31000, CameraServiceError),
]
GENERATION_2 = [
    (-32002, PermissionDeniedError),
    (-32010, CameraNotFoundError),
    (-32020, CameraBusyError),
    (-32030, UnsupportedError),
    (-32050, MediaMTXError),
    (-32003, CameraServiceError),
]


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [(Gen1, *row) for row in GENERATION_1] + [(Gen2, *row) for row in GENERATION_2],
)
async def test_error_code_gives_exception_of_its_generation(
    kind: type[Peer], code: int, expected: type[CameraServiceError]
) -> None:
    async with running(kind()) as peer, connected(peer) as client:
        peer.answers["start_recording"] = lambda visitor, request: error(code, "why", '{"id": "x"}')
        with pytest.raises(CameraServiceError, match="why") as raised:
            await client.start_recording("camera0")
        assert type(raised.value) is expected
        assert (raised.value.code, raised.value.message[:5]) == (code, "start")
        assert raised.value.data == {"id": "x"}
        assert len(peer.called("start_recording")) == 1


async def test_permission_denied_names_required_role() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        peer.answers["delete_recording"] = lambda visitor, request: error(
            -32002, "denied", '{"required_role": "operator", "have_role": "viewer"}'
        )
        with pytest.raises(PermissionDeniedError) as raised:
            await client.delete_recording("a.mp4")
        assert raised.value.required_role == "operator"
        assert len(peer.called("authenticate")) == 2, "a role is no matter of signing in again"


async def test_rate_limit_of_generation_2_waits_as_announced() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        answers = iter([error(-32040, "slow down", '{"retry_after_ms": 60}')] * 2)
        good = peer.answers["get_camera_list"]
        peer.answers["get_camera_list"] = lambda visitor, request: (
            next(answers, None) or good(visitor, request)
        )
        async with asyncio.timeout(20):
            with outlasting(0.12):
                assert await client.get_camera_list()


async def test_rate_limited_start_is_retried() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        answers = iter([error(-32002, "Rate limit exceeded")])
        good = peer.answers["start_recording"]
        peer.answers["start_recording"] = lambda visitor, request: (
            next(answers, None) or good(visitor, request)
        )
        assert (await client.start_recording("/dev/video0")).filename == "a.mp4"


async def test_rate_limit_beyond_deadline_is_raised_before_it() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        peer.answers["ping"] = lambda visitor, request: error(-32040, "x", '{"retry_after_ms": 60000}')
        async with asyncio.timeout(20):
            with pytest.raises(RateLimitedError) as raised:
                await client.ping()
            assert raised.value.retry_after == 60


async def test_unanswered_call_ends_at_its_deadline_as_maybe_executed() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["stop_recording"] = never
        with pytest.raises(TimeoutError, match="stop_recording") as raised:
            await client.stop_recording("/dev/video0", timeout=0.1)
        assert raised.value.maybe_executed
        assert len(peer.called("stop_recording")) == 1


async def test_slow_call_extends_the_default_deadline_of_others() -> None:
    held = Held('"result": {"device": "/dev/video0", "filename": "a.mp4", "status": "STARTED"}')
    async with running(Gen1()) as peer, connected(peer, timeout=0.2) as client:
        peer.answers["start_recording"] = held
        async with asyncio.TaskGroup() as group:
            start = group.create_task(client.start_recording("/dev/video0", timeout=5))
            await held.asked.wait()
            patient = group.create_task(client.get_camera_list())
            with pytest.raises(TimeoutError):
                await client.call("ping", timeout=0.3)
            assert not patient.done()
            held.let_go.set()
        assert patient.result()
        assert start.result().filename == "a.mp4"


async def test_lost_start_is_maybe_executed_and_not_repeated() -> None:
    def go(visitor: Visitor, request: Request) -> Words:
        visitor.drop()
        return None

    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["start_recording"] = go
        with pytest.raises(ConnectionError) as raised:
            await client.start_recording("/dev/video0")
        assert raised.value.maybe_executed
        await client.wait_until_connected(timeout=5)
        assert await client.ping() == "pong"
        assert len(peer.called("start_recording")) == 1


async def test_read_is_sent_again_after_lost_connection() -> None:
    answers = 0

    def go_once(visitor: Visitor, request: Request) -> Words:
        nonlocal answers
        answers += 1
        if answers == 1:
            visitor.drop()
            return None
        return '"result": {"device": "/dev/video0", "status": "CONNECTED"}'

    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["get_camera_status"] = go_once
        assert (await client.get_camera_status("/dev/video0")).status == "CONNECTED"
        assert peer.accepted == 2


async def test_start_without_connection_is_not_sent() -> None:
    async with running(Gen1()) as peer, connected(peer, retry_delay=30) as client:
        await peer.stop()
        await eventually(lambda: client.state is ConnectionState.WAITING)
        with pytest.raises(ConnectionError) as raised:
            await client.start_recording("/dev/video0")
        assert not raised.value.maybe_executed
        with pytest.raises(TimeoutError):
            await client.call("ping", repeat=True, timeout=0.05)
        await peer.start()
        client.retry_now()
        await client.wait_until_connected(timeout=5)


async def test_calls_before_connecting_are_refused_in_words() -> None:
    client = client_of(Gen1_at(1))
    with pytest.raises(ConnectionError, match="connect"):
        await client.get_camera_list()
    assert client.state is ConnectionState.CLOSED


def Gen1_at(port: int) -> Peer:  # noqa: N802 - stands for the class
    peer = Gen1()
    peer.port = port
    return peer


async def test_nobody_there_is_a_connection_error_after_the_tries_asked_for() -> None:
    peer = Gen1()
    await peer.start()
    await peer.stop()
    with pytest.raises(ConnectionError):
        await client_of(peer, max_retries=2).connect()


async def test_connecting_twice_is_refused_and_connecting_again_works() -> None:
    async with running(Gen1()) as peer:
        client = client_of(peer)
        await client.connect()
        with pytest.raises(StateError):
            await client.connect()
        await client.disconnect()
        await client.disconnect()
        async with client:
            assert await client.ping() == "pong"


async def test_answers_of_another_shape_are_a_protocol_error() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["get_camera_list"] = lambda visitor, request: '"result": "none"'
        with pytest.raises(RemoteProtocolError, match="get_camera_list"):
            await client.get_camera_list()
        peer.answers["start_recording"] = lambda visitor, request: '"result": {"duration": "long"}'
        with pytest.raises(RemoteProtocolError, match="start_recording"):
            await client.start_recording("/dev/video0")


async def test_unknown_fields_are_kept_and_reports_take_anything() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["get_camera_list"] = lambda visitor, request: (
            '"result": {"cameras": [{"device": "x", "colour": "red"}]}, "metadata": {"took": 3}'
        )
        peer.answers["get_status"] = lambda visitor, request: '"result": [1, 2]'
        peer.answers["get_metrics"] = lambda visitor, request: '"result": {"cpu": 3}'
        peer.answers["get_streams"] = lambda visitor, request: '"result": [{"name": "camera0"}]'
        assert (await client.get_camera_list())[0].model_dump()["colour"] == "red"
        assert (await client.get_status()).model_dump() == {"value": [1, 2]}
        assert (await client.get_metrics()).model_dump() == {"cpu": 3}
        assert [stream.model_dump() for stream in await client.get_streams()] == [{"name": "camera0"}]


async def test_camera_is_named_by_exactly_one_argument() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        await client.get_camera_status(device="/dev/video0")
        await client.get_camera_status(device_path="/dev/video0")
        assert {request["params"]["device"] for request in peer.called("get_camera_status")} == {
            "/dev/video0"
        }
        with pytest.raises(UsageError):
            await client.get_camera_status()
        with pytest.raises(UsageError):
            await client.get_camera_status("/dev/video0", device="/dev/video1")


async def test_garbage_between_answers_disturbs_nobody() -> None:
    async def babble(visitor: Visitor, request: Request) -> Words:
        for frame in ("not json", "[]", '{"jsonrpc": "2.0", "id": null, "error": {"code": -32603}}', "7"):
            await visitor.connection.send(frame)
        await visitor.connection.send(b"\xff\x00")
        await visitor.connection.send('{"jsonrpc": "2.0", "id": 99999, "result": 1}')
        return '"result": "pong"'

    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["ping"] = babble
        assert await client.ping() == "pong"
        assert await client.get_camera_list()


async def test_cancelling_a_call_leaves_the_connection_as_it_was() -> None:
    held = Held('"result": "pong"')
    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["ping"] = held
        call = asyncio.ensure_future(client.ping())
        await held.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        held.let_go.set()
        assert await client.get_camera_list()
        assert peer.accepted == 1


@pytest.mark.parametrize("method", ["connect", "disconnect"])
async def test_connecting_and_leaving_can_be_cancelled_anywhere(method: str) -> None:
    async with running(Gen2()) as peer:
        for steps in range(1, 40, 3):
            client = client_of(peer)
            if method == "disconnect":
                await client.connect()
            task = asyncio.ensure_future(getattr(client, method)())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            await client.disconnect()
            assert client.state is ConnectionState.CLOSED
        await eventually(lambda: not peer.visitors)


async def test_handshake_authentication_error_is_translated() -> None:
    with pytest.raises(AuthenticationError):
        await refused_with(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")


async def test_connect_to_plain_web_server_fails() -> None:
    with pytest.raises(RemoteProtocolError):
        await refused_with(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


async def refused_with(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        peer = Gen1()
        peer.port = server.sockets[0].getsockname()[1]
        await client_of(peer, max_retries=1).connect()
