"""The states of a connection that comes back, walked against a real server."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request
from websockets.server import ServerProtocol

from asynccam.errors import (
    AddressError,
    AuthenticationError,
    ConnectionError,
    StateError,
    TimeoutError,
    UsageError,
)
from asynccam.net.jsonrpc import JsonRpcClient, JsonRpcConnection
from asynccam.net.reconnecting import TRANSITIONS, ConnectionState, ReconnectingConnection
from asynccam.net.websocket import CloseInfo, WebSocketOptions, open_websocket
from asynccam.runtime.retry import Backoff
from tests.support.fake_clock import FakeClock
from tests.support.rpc_client import connect
from tests.support.rpc_server import RpcServer, never, rpc_server
from tests.support.set_clock import SetClock
from tests.support.waiting import eventually

QUICK = Backoff(initial=0.01, maximum=0.05, immediate=True)
HOUR = Backoff(initial=3600, maximum=3600, jitter=0)


@pytest.fixture
async def server() -> AsyncIterator[RpcServer]:
    async with rpc_server() as running:
        yield running


async def accept_websocket(read: Callable[[int], Awaitable[bytes]], write: Callable[[bytes], object]) -> None:
    """Shake hands as a server does, and then do nothing more."""
    core = ServerProtocol()
    while True:
        core.receive_data(await read(65536))
        for event in core.events_received():
            assert isinstance(event, Request)
            core.send_response(core.accept(event))
            write(b"".join(core.data_to_send()))
            return


def test_transitions_cover_every_state() -> None:
    assert set(TRANSITIONS) == set(ConnectionState)
    assert all(
        ConnectionState.CLOSED in nexts
        for state, nexts in TRANSITIONS.items()
        if state is not ConnectionState.CLOSED
    )


async def test_transitions_of_a_loss_and_a_reconnect(server: RpcServer) -> None:
    walked: list[tuple[ConnectionState, ConnectionState]] = []
    async with connect(
        server.url, backoff=QUICK, on_state=lambda new, old, why: walked.append((old, new))
    ) as client:
        server.drop()
        await eventually(lambda: client.connects == 2)
    assert walked == [
        (ConnectionState.CLOSED, ConnectionState.CONNECTING),
        (ConnectionState.CONNECTING, ConnectionState.AUTHENTICATING),
        (ConnectionState.AUTHENTICATING, ConnectionState.READY),
        (ConnectionState.READY, ConnectionState.LOST),
        (ConnectionState.LOST, ConnectionState.WAITING),
        (ConnectionState.WAITING, ConnectionState.CONNECTING),
        (ConnectionState.CONNECTING, ConnectionState.AUTHENTICATING),
        (ConnectionState.AUTHENTICATING, ConnectionState.READY),
        (ConnectionState.READY, ConnectionState.CLOSED),
    ]
    assert all(new in TRANSITIONS[old] for old, new in walked)


async def test_state_is_lost_when_a_call_fails(server: RpcServer) -> None:
    async with connect(server.url, backoff=QUICK) as client:
        server.handler = never
        call = client.connection.post("ping") if client.connection else None
        assert call is not None
        await eventually(lambda: server.count("ping"))
        server.drop()
        with pytest.raises(ConnectionError):
            await call
        assert client.state is ConnectionState.LOST
        assert client.connection is None
        await client.wait_for(ConnectionState.READY, timeout=5)
        server.handler = server.echo
        assert await client.call("ping", {"a": 1}) == {"a": 1}


async def test_one_log_line_per_loss_and_reconnect(
    server: RpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="asynccam.net.reconnecting")
    async with connect(server.url, backoff=QUICK) as client:
        await server.stop()
        await eventually(lambda: client.error is not None and "refused" in str(client.error))
        await server.start()
        await client.wait_for(ConnectionState.READY, timeout=5)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_authenticate_gets_the_length_of_the_outage(server: RpcServer) -> None:
    gaps: list[float | None] = []

    async def sign_in(link: JsonRpcConnection, gap: float | None) -> None:
        gaps.append(gap)

    async with connect(server.url, backoff=QUICK, authenticate=sign_in) as client:
        server.drop()
        await eventually(lambda: client.connects == 2)
    assert gaps[0] is None
    assert gaps[1] is not None
    assert gaps[1] >= 0


@pytest.mark.parametrize("step", [-7200.0, 7200.0, -3.0, -31_536_000.0])
async def test_outage_ignores_clock_steps(
    server: RpcServer, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    gaps: list[float | None] = []
    real, began = time.time, time.monotonic()

    async def sign_in(link: JsonRpcConnection, gap: float | None) -> None:
        gaps.append(gap)

    async with connect(server.url, backoff=QUICK, authenticate=sign_in) as client:
        server.drop()
        monkeypatch.setattr(time, "time", lambda: real() + step)
        await eventually(lambda: client.connects == 2)
    assert gaps[1] is not None
    assert 0 <= gaps[1] <= time.monotonic() - began  # an outage lies between two readings


@pytest.mark.parametrize("step", [0.0, -7200.0, 7200.0, -31_536_000.0])
@pytest.mark.parametrize("slept", [0.0, 3600.0])
async def test_outage_includes_sleep_of_the_computer(
    server: RpcServer, monkeypatch: pytest.MonkeyPatch, slept: float, step: float
) -> None:
    clock = SetClock(monkeypatch)
    gaps: list[float | None] = []
    began = time.monotonic()

    async def sign_in(link: JsonRpcConnection, gap: float | None) -> None:
        gaps.append(gap)

    async with connect(server.url, backoff=QUICK, authenticate=sign_in) as client:
        clock.sleep(500.0)  # before the loss: no part of the gap
        await server.stop()
        await eventually(lambda: client.error is not None and "refused" in str(client.error))
        clock.sleep(slept)
        clock.step(step)
        await server.start()
        await eventually(lambda: client.connects == 2)
    (_, gap) = gaps
    assert gap is not None
    assert slept <= gap <= slept + time.monotonic() - began  # and lies between two readings


async def test_wrong_credentials_at_first_are_raised(server: RpcServer) -> None:
    async def refuse(link: JsonRpcConnection, gap: float | None) -> None:
        raise AuthenticationError("wrong token")

    client = JsonRpcClient(server.url, authenticate=refuse, backoff=QUICK)
    with pytest.raises(AuthenticationError, match="wrong token"):
        await client.start(attempts=5)
    assert client.state is ConnectionState.CLOSED
    assert server.accepted == 1


async def test_credentials_refused_later_stop_the_retries(server: RpcServer) -> None:
    good = True

    async def sign_in(link: JsonRpcConnection, gap: float | None) -> None:
        if not good:
            raise AuthenticationError("expired")

    async with connect(server.url, authenticate=sign_in, backoff=QUICK) as client:
        good = False
        server.drop()
        await client.wait_for(ConnectionState.REFUSED, timeout=5)
        client.retry_now()  # says that the peer is back; of no use against wrong credentials
        with pytest.raises(AuthenticationError, match="expired"):
            await client.call("ping", repeat=True)
        assert server.accepted == 2
        good = True
        client.retry_authentication()
        await client.wait_for(ConnectionState.READY, timeout=5)
        assert await client.call("ping", [1]) == [1]


async def test_retry_now_ends_the_wait(server: RpcServer) -> None:
    async with connect(server.url, backoff=HOUR) as client:
        server.drop()
        await client.wait_for(ConnectionState.WAITING, timeout=5)
        client.retry_now()
        await client.wait_for(ConnectionState.READY, timeout=5)


async def test_waits_grow_and_reset_after_a_settled_connection(
    server: RpcServer,
) -> None:
    clock = FakeClock()

    async def open_link() -> JsonRpcConnection:
        return await JsonRpcConnection.open(server.url)

    async def sign_in(link: JsonRpcConnection, gap: float | None) -> None:
        """Nothing to do."""

    live = ReconnectingConnection(
        "server",
        open_link,
        sign_in,
        backoff=Backoff(initial=1, factor=2, maximum=5, jitter=0),
        settled_after=60,
        clock=clock,
    )
    await live.start()
    await server.stop()
    for _ in range(4):
        await clock.until_sleeping()
        await clock.advance(clock.sleeps[-1])
    await clock.until_sleeping()
    assert clock.sleeps[:5] == [1, 2, 4, 5, 5]
    await server.start()
    await clock.advance(5)
    await live.wait_for(ConnectionState.READY, timeout=5)
    clock.move(61)
    server.drop()
    await clock.until_sleeping()
    assert clock.sleeps[-1] == 1
    await live.aclose()


async def test_wait_for_has_a_deadline(server: RpcServer) -> None:
    async with connect(server.url) as client:
        with pytest.raises(TimeoutError, match="refused"):
            await client.wait_for(ConnectionState.REFUSED, timeout=0.02)
        assert await client.wait_for(ConnectionState.READY) is ConnectionState.READY


async def test_authentication_timeout_is_retried(server: RpcServer) -> None:
    forever = asyncio.Event()

    async def sign_in(link: JsonRpcConnection, gap: float | None) -> None:
        if server.accepted == 1:
            await forever.wait()

    async with connect(
        server.url, authenticate=sign_in, authentication_timeout=0.05, attempts=2, backoff=QUICK
    ) as client:
        assert client.state is ConnectionState.READY
    assert server.accepted == 2


async def test_connection_lost_while_authenticating_is_retried(server: RpcServer) -> None:
    async def sign_in(link: JsonRpcConnection, gap: float | None) -> None:
        if server.accepted == 1:
            server.drop()
            await link.closed

    async with connect(server.url, authenticate=sign_in, attempts=2, backoff=QUICK):
        assert server.accepted == 2


async def test_bug_in_authenticate_closes_and_is_logged(
    server: RpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def sign_in(link: JsonRpcConnection, gap: float | None) -> None:
        if gap is not None:
            raise ZeroDivisionError

    client = await connect(server.url, authenticate=sign_in, backoff=QUICK)
    server.drop()
    await client.wait_for(ConnectionState.CLOSED, timeout=5)
    await eventually(lambda: "ZeroDivisionError" in caplog.text)
    with pytest.raises(ConnectionError):
        await client.call("ping", repeat=True)
    await client.aclose()


async def test_impossible_transition_raises() -> None:
    client = JsonRpcClient("ws://127.0.0.1:1/ws")
    with pytest.raises(StateError, match="cannot go from closed to ready"):
        client._set_state(ConnectionState.READY, "")


async def test_handshake_then_closed_at_once() -> None:
    async def limit(connection: ServerConnection) -> None:
        await connection.close(1013, "try again later")

    async with serve(limit, "127.0.0.1", 0) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]

        async def ask(link: JsonRpcConnection, gap: float | None) -> None:
            await link.call("ping")

        with pytest.raises(ConnectionError, match="try again later"):
            await connect(f"ws://127.0.0.1:{port}/ws", authenticate=ask)


async def test_frame_over_the_limit_ends_the_connection(server: RpcServer) -> None:
    async with connect(server.url, options=WebSocketOptions(max_message=1000), backoff=HOUR) as client:
        await server.send("x" * 5000)
        await client.wait_for(ConnectionState.WAITING, timeout=5)
        assert client.error is not None


async def test_probe_without_a_pong_ends_the_connection() -> None:
    doubted = asyncio.Event()

    async def frozen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_websocket(reader.read, writer.write)
        doubted.set()
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(frozen, "127.0.0.1", 0) as listener:
        url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}/ws"
        sock = await open_websocket(url, print, WebSocketOptions(ping_interval=None))
        await doubted.wait()
        sock.probe(3000.0)
        sock.probe(0.05)  # one that was asked for sooner is meant
        closed = await asyncio.wait_for(asyncio.shield(sock.closed), 20)
        assert closed.reason == "no pong within 0.05 s"


async def test_probe_with_a_pong_keeps_the_connection(server: RpcServer) -> None:
    sock = await open_websocket(server.url, print, WebSocketOptions(ping_interval=None))
    for pongs in (1, 2):
        sock.probe(30.0)
        await eventually(lambda pongs=pongs: sock.pongs == pongs)  # type: ignore[misc]
    assert sock.is_open
    await sock.aclose()


async def test_ping_without_a_pong_ends_the_connection() -> None:
    async def frozen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_websocket(reader.read, writer.write)
        await reader.read(-1)  # takes the pings and answers none
        writer.close()

    async with await asyncio.start_server(frozen, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        url = f"ws://127.0.0.1:{port}/ws"
        for sock in (
            await open_websocket(url, print, WebSocketOptions(ping_interval=0.02, ping_timeout=0.05)),
            await open_websocket(url, print, WebSocketOptions(ping_interval=None, quiet_limit=0.05)),
        ):
            closed = await asyncio.wait_for(asyncio.shield(sock.closed), 5)
            assert closed.reason in {"no pong within 0.05 s", "silent for 0.05 s"}
            assert not sock.is_open
            with pytest.raises(ConnectionError):
                sock.send(b"{}")
            await sock.aclose()


async def test_pings_keep_a_quiet_connection_alive(server: RpcServer) -> None:
    states: list[ConnectionState] = []
    async with connect(
        server.url,
        options=WebSocketOptions(ping_interval=0.01, ping_timeout=1.0, quiet_limit=1.0),
        on_state=lambda new, old, why: states.append(new),
    ) as client:
        before = client.connection
        await eventually(lambda: client.connection is not None and client.connection.socket.pongs >= 5)
        assert client.connection is before
    assert ConnectionState.LOST not in states


async def test_slow_peer_makes_callers_wait() -> None:
    """The peer's window is small and nobody reads: calls wait for room instead of piling up."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.setblocking(False)
    loop = asyncio.get_running_loop()

    async def shake_hands() -> socket.socket:
        peer, _ = await loop.sock_accept(listener)
        await accept_websocket(lambda count: loop.sock_recv(peer, count), peer.send)
        return peer

    port = listener.getsockname()[1]
    opened, peer = await asyncio.gather(JsonRpcConnection.open(f"ws://127.0.0.1:{port}/ws"), shake_hands())
    big = "x" * 8_000_000
    calls = [asyncio.create_task(opened.call("put", [big], timeout=30)) for _ in range(3)]
    await eventually(lambda: not opened.socket.is_writable)
    late = [asyncio.create_task(opened.call("late", [n], timeout=0.05)) for n in range(3)]
    results = await asyncio.gather(*late, return_exceptions=True)
    assert all(isinstance(result, TimeoutError) and not result.maybe_executed for result in results)
    assert opened.pending == 3
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    peer.close()
    listener.close()
    await opened.aclose()


@pytest.mark.parametrize("url", ["http://127.0.0.1/ws", "ws://", "nonsense", "ws://127.0.0.1:99999999/ws"])
async def test_invalid_url_is_refused(url: str) -> None:
    with pytest.raises((AddressError, UsageError)):
        await connect(url)


async def test_wss_without_a_context_is_refused() -> None:
    with pytest.raises(UsageError, match="TLS"):
        await connect("wss://127.0.0.1:1/ws")


class BareLink:
    """A link that is closed at the very moment the test says."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[CloseInfo] = asyncio.get_running_loop().create_future()

    async def aclose(self) -> None:
        if not self.closed.done():
            self.closed.set_result(CloseInfo(1000, ""))


@pytest.mark.parametrize("turns", range(4))
async def test_connection_lost_while_closing(turns: int) -> None:
    """The future of the connection's end calls back even after its callback was removed."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    link = BareLink()

    async def open_link() -> BareLink:
        return link

    async def sign_in(_: BareLink, gap: float | None) -> None:
        """There is nothing to say."""

    live = ReconnectingConnection("bare", open_link, sign_in)
    await live.start()
    closing = asyncio.create_task(live.aclose())
    for _ in range(turns):
        await asyncio.sleep(0)
    if not link.closed.done():
        link.closed.set_result(CloseInfo(1006, "it went"))
    await closing
    await asyncio.sleep(0)
    assert complaints == []
    assert live.state is ConnectionState.CLOSED
    assert live.connection is None
