"""Calls over a WebSocket: every one gets an answer or an error, and nothing is sent twice by itself."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from asynccam.errors import (
    AuthenticationError,
    ConnectionError,
    RemoteProtocolError,
    StateError,
    TimeoutError,
    UsageError,
)
from asynccam.net.jsonrpc import JsonRpcClient, JsonRpcConnection, RpcError
from asynccam.net.reconnecting import ConnectionState
from asynccam.net.websocket import WebSocketOptions
from asynccam.runtime.retry import Backoff
from tests.support.raw_websocket import RawPeer
from tests.support.rpc_client import connect
from tests.support.rpc_server import RpcServer, answer, never, rpc_server
from tests.support.waiting import eventually

QUICK = Backoff(initial=0.01, maximum=0.05, immediate=True)


@pytest.fixture
async def server() -> AsyncIterator[RpcServer]:
    async with rpc_server() as running:
        yield running


@pytest.fixture
async def client(server: RpcServer) -> AsyncIterator[JsonRpcClient]:
    async with connect(server.url, backoff=QUICK) as ready:
        yield ready


async def test_call_returns_the_result(client: JsonRpcClient) -> None:
    assert await client.call("echo", {"a": [1, "ü", None]}) == {"a": [1, "ü", None]}


async def test_call_error_reply_is_raised_at_once(server: RpcServer, client: JsonRpcClient) -> None:
    async def refuse(connection: ServerConnection, request: dict[str, Any]) -> None:
        error = {"code": -32004, "message": "no such camera", "data": {"device": "camera9"}}
        await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}))

    server.handler = refuse
    with pytest.raises(RpcError, match="no such camera") as caught:
        await client.call("get_camera_status", {"device": "camera9"})
    assert (caught.value.code, caught.value.data) == (-32004, {"device": "camera9"})
    assert caught.value.method == "get_camera_status"


async def test_calls_answered_out_of_order(server: RpcServer, client: JsonRpcClient) -> None:
    held: list[dict[str, Any]] = []

    async def hold(connection: ServerConnection, request: dict[str, Any]) -> None:
        held.append(request)
        if len(held) == 50:
            for late in reversed(held):
                await connection.send(answer(late, late["params"]))

    server.handler = hold
    results = await asyncio.gather(*(client.call("n", [n]) for n in range(50)))
    assert results == [[n] for n in range(50)]


@pytest.mark.parametrize(
    "oddity",
    [
        "not json",
        b"\x00\x01 not text either",
        '{"id": 12345, "result": 1}',
        '{"id": null, "error": {"code": -32700, "message": "?"}}',
        "[]",
        "[" * 20_000,
    ],
)
async def test_unexpected_message_is_counted_and_ignored(
    server: RpcServer, client: JsonRpcClient, oddity: str | bytes
) -> None:
    async def odd_first(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(oddity)
        await connection.send(answer(request, "fine"))
        await connection.send(answer(request, "twice"))

    server.handler = odd_first
    assert await client.call("ping") == "fine"
    assert await client.call("ping") == "fine"
    link = client.connection
    assert link is not None
    assert sum(link.codec.unexpected.values()) >= 3
    assert link.pending == 0


async def test_call_answered_by_a_binary_frame(server: RpcServer, client: JsonRpcClient) -> None:
    async def binary(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer(request, "bytes").encode())

    server.handler = binary
    assert await client.call("ping") == "bytes"


async def test_call_fragmented_reply(server: RpcServer, client: JsonRpcClient) -> None:
    async def fragments(connection: ServerConnection, request: dict[str, Any]) -> None:
        text = answer(request, "ü" * 1000)
        await connection.send([text[n : n + 7] for n in range(0, len(text), 7)])

    server.handler = fragments
    assert await client.call("ping") == "ü" * 1000


async def test_call_reply_of_16_mib(server: RpcServer, client: JsonRpcClient) -> None:
    async def large(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer(request, "x" * (16 * 1024 * 1024)))

    server.handler = large
    assert len(await client.call("get_log")) == 16 * 1024 * 1024


async def test_notifications_are_delivered_in_order(server: RpcServer) -> None:
    seen: list[tuple[str, Any]] = []
    async with connect(
        server.url, on_notification=lambda method, params: seen.append((method, params))
    ) as client:
        await client.call("ping")
        for n in range(100):
            await server.send(json.dumps({"jsonrpc": "2.0", "method": "tick", "params": n}))
        await eventually(lambda: len(seen) == 100)
    assert seen == [("tick", n) for n in range(100)]


async def test_call_deadline_forgets_the_call(server: RpcServer, client: JsonRpcClient) -> None:
    server.handler = never
    with pytest.raises(TimeoutError, match="start_recording") as caught:
        await client.call("start_recording", timeout=0.05)
    assert caught.value.maybe_executed
    link = client.connection
    assert link is not None
    assert link.pending == 0
    assert not link.codec.pending


async def test_call_cancelled_is_forgotten(server: RpcServer, client: JsonRpcClient) -> None:
    server.handler = never
    task = asyncio.create_task(client.call("slow"))
    await eventually(lambda: server.count("slow") == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    link = client.connection
    assert link is not None
    assert link.pending == 0
    server.handler = server.echo
    assert await client.call("ping", [1]) == [1]


async def test_calls_end_each_at_its_own_deadline(server: RpcServer, client: JsonRpcClient) -> None:
    server.handler = never
    ended: list[float] = []

    async def call(timeout: float) -> None:
        with pytest.raises(TimeoutError, match=f"did not answer n within {timeout:g} s"):
            await client.call("n", timeout=timeout)
        ended.append(timeout)

    waiting = asyncio.create_task(client.call("n", timeout=30))
    await asyncio.gather(*(call(timeout) for timeout in (0.3, 0.1, 0.5, 0.2, 0.4)))
    assert ended == [0.1, 0.2, 0.3, 0.4, 0.5]
    waiting.cancel()


async def test_wait_for_room_counts_as_time_of_a_call() -> None:
    loop = asyncio.get_running_loop()
    async with RawPeer() as peer:
        opening = asyncio.create_task(JsonRpcConnection.open(peer.url))
        await peer.respond()
        connection = await opening
        peer.pause_reading()
        connection.post("n", ["*" * (16 << 20)])
        await eventually(lambda: not connection.socket.is_writable)
        began = loop.time()
        call = asyncio.create_task(connection.call("n", timeout=1.0))
        await asyncio.sleep(0.6)
        peer.resume_reading()
        with pytest.raises(TimeoutError, match="did not answer"):
            await call
        assert loop.time() - began < 1.4
        await connection.socket.abort()


@pytest.mark.own_loop
async def test_calls_share_a_timer(
    server: RpcServer, client: JsonRpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at

    def counted(when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **kwargs)

    monkeypatch.setattr(loop, "call_at", counted)
    for _ in range(5):
        await asyncio.gather(*(client.call("echo", [n], timeout=30) for n in range(100)))
    assert len([when for when in timers if when > loop.time() + 25]) <= 1


async def test_lost_connection_fails_open_calls_at_once(server: RpcServer, client: JsonRpcClient) -> None:
    server.handler = never
    tasks = [asyncio.create_task(client.call("start_recording", timeout=30)) for _ in range(20)]
    await eventually(lambda: len(server.requests) == 20)
    server.drop()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(isinstance(result, ConnectionError) and result.maybe_executed for result in results)
    assert server.count("start_recording") == 20  # and none of them was sent again


async def test_answer_in_a_batch_that_is_cut_off_fails_its_call_at_once(server: RpcServer) -> None:
    async def batch(connection: ServerConnection, request: dict[str, Any]) -> None:
        notification = json.dumps({"jsonrpc": "2.0", "method": "tick"})
        await connection.send(f"[{notification}, {answer(request, 1)}]")

    def fail(method: str, params: Any) -> None:
        raise ValueError("a handler's error ends the connection")

    server.handler = batch
    async with connect(server.url, on_notification=fail, backoff=QUICK) as client:
        with pytest.raises(ConnectionError) as caught:
            await asyncio.wait_for(client.call("start_recording", timeout=30), 5)
    assert caught.value.maybe_executed


async def test_call_while_disconnected_fails_at_once(server: RpcServer, client: JsonRpcClient) -> None:
    await server.stop()
    await client.wait_for(ConnectionState.WAITING, timeout=5)
    with pytest.raises(ConnectionError, match="start_recording was not sent") as caught:
        await client.call("start_recording")
    assert not caught.value.maybe_executed
    await server.start()


async def test_repeatable_call_waits_for_a_reconnect(server: RpcServer, client: JsonRpcClient) -> None:
    await server.stop()
    await client.wait_for(ConnectionState.WAITING, timeout=5)
    task = asyncio.create_task(client.call("get_camera_list", ["x"], repeat=True))
    await server.start()
    assert await asyncio.wait_for(task, 5) == ["x"]


async def test_repeatable_call_is_sent_again_after_a_loss(server: RpcServer, client: JsonRpcClient) -> None:
    async def drop_first(connection: ServerConnection, request: dict[str, Any]) -> None:
        if server.count("get_camera_list") == 1:
            connection.transport.abort()
        else:
            await connection.send(answer(request, "second time"))

    server.handler = drop_first
    assert await client.call("get_camera_list", repeat=True, timeout=5) == "second time"
    assert server.accepted == 2


async def test_repeatable_call_has_one_deadline(server: RpcServer, client: JsonRpcClient) -> None:
    await server.stop()
    with pytest.raises(TimeoutError):
        await client.call("get_camera_list", repeat=True, timeout=0.1)
    await server.start()


async def test_repeatable_call_ends_when_the_client_is_closed(server: RpcServer) -> None:
    client = await connect(server.url, backoff=QUICK)
    await server.stop()
    task = asyncio.create_task(client.call("get_camera_list", repeat=True, timeout=30))
    await client.wait_for(ConnectionState.WAITING, timeout=5)
    await client.aclose()
    with pytest.raises(ConnectionError, match="closed"):
        await asyncio.wait_for(task, 5)
    await server.start()


async def test_call_refuses_bad_parameters_before_sending(server: RpcServer, client: JsonRpcClient) -> None:
    with pytest.raises(UsageError):
        await client.call("start_recording", {"duration": float("nan")})
    assert not server.requests


async def test_start_twice_is_refused(client: JsonRpcClient) -> None:
    with pytest.raises(StateError, match="already"):
        await client.start()


async def test_start_fails_after_the_given_attempts() -> None:
    states: list[ConnectionState] = []
    with pytest.raises(ConnectionError, match="refused"):
        await connect(
            "ws://127.0.0.1:1/ws",
            attempts=3,
            backoff=QUICK,
            on_state=lambda new, old, why: states.append(new),
        )
    assert states.count(ConnectionState.CONNECTING) == 3
    assert states[-1] is ConnectionState.CLOSED


async def test_start_with_a_peer_that_is_not_a_websocket_server() -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 smtp.example ready\r\n")
        writer.close()

    async with await asyncio.start_server(hello, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(RemoteProtocolError, match="handshake"):
            await connect(f"ws://127.0.0.1:{port}/ws")


async def test_start_handshake_refused_for_credentials() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(AuthenticationError, match="401"):
            await connect(f"ws://127.0.0.1:{port}/ws")


async def test_start_silent_handshake_deadline() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError, match="WebSocket"):
            await connect(f"ws://127.0.0.1:{port}/ws", options=WebSocketOptions(timeout=0.05))


async def test_start_cancelled_anywhere_leaves_nothing(server: RpcServer) -> None:
    """The suite's own checks see to the sockets and tasks; here every await is cut off in turn."""
    for passes in range(40):
        task: asyncio.Task[JsonRpcClient] = asyncio.ensure_future(connect(server.url)._start())
        for _ in range(passes):
            await asyncio.sleep(0)
        task.cancel()
        try:
            client = await task
        except asyncio.CancelledError:
            continue
        await client.aclose()
