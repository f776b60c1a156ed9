"""Connecting: to names and addresses, and to what does not answer."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from asynccam.errors import BusyError, ConnectionError, TimeoutError, UsageError
from asynccam.net.clock import query_sntp
from asynccam.net.tcp import connect_tcp, host_for_others, receive_some
from tests.support.turns import Turns
from tests.support.waiting import passes


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    port = server.getsockname()[1]
    assert isinstance(port, int)
    return port


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A listener whose queue is full: further attempts are neither accepted nor refused."""
    with ExitStack() as held:
        server = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield port_of(server)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_connect_tcp_socket_options(listener: socket.socket, host: str) -> None:
    with await connect_tcp(host, port_of(listener), timeout=5) as sock:
        assert sock.getpeername() == listener.getsockname()
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        accepted, _ = listener.accept()
        with accepted:
            await asyncio.get_running_loop().sock_sendall(sock, b"hello")
            assert accepted.recv(5) == b"hello"


async def test_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        sock = await connect_tcp("::1", port_of(server), timeout=5)
        with sock:
            assert sock.getpeername()[:2] == server.getsockname()[:2]


@pytest.mark.parametrize(("host", "named"), [("127.0.0.1", "127.0.0.1:{}"), ("::1", "[::1]:{}")])
async def test_connect_tcp_refused(host: str, named: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as bound:
        bound.bind((host, 0))  # bound and not listening: nobody else gets the port, and it refuses
        with pytest.raises(ConnectionError, match=r"[Rr]efused") as refused:
            await connect_tcp(host, port_of(bound), timeout=5)
        assert named.format(port_of(bound)) in str(refused.value)


async def test_connect_tcp_unknown_name() -> None:
    # A zone that does not exist is refused by the resolver itself, without asking a server.
    with pytest.raises(ConnectionError, match="no-such-zone"):
        await connect_tcp("fe80::1%no-such-zone", 8080, timeout=5)


async def test_connect_tcp_timeout(deaf_port: int) -> None:
    with pytest.raises(TimeoutError, match=f"127.0.0.1:{deaf_port} within 0.1 s"):
        await connect_tcp("127.0.0.1", deaf_port, timeout=0.1)


async def test_connect_tcp_cancelled(deaf_port: int) -> None:
    attempt = asyncio.create_task(connect_tcp("127.0.0.1", deaf_port, timeout=30))
    await passes()
    assert not attempt.done()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


@pytest.mark.parametrize("host", ["", "a\0b", "a..b", "x" * 70])
async def test_connect_tcp_invalid_host(host: str) -> None:
    with pytest.raises(UsageError, match="not a host name"):
        await connect_tcp(host, 8080, timeout=5)


@pytest.mark.parametrize("port", [-1, 0, 65536])
async def test_connect_tcp_invalid_port(port: int) -> None:
    with pytest.raises(UsageError, match="not a TCP port"):
        await connect_tcp("127.0.0.1", port, timeout=5)


async def test_connect_tcp_several_hosts(listener: socket.socket) -> None:
    hosts = ["fe80::1%no-such-zone", "127.0.0.1"]
    with await connect_tcp(hosts, port_of(listener), timeout=5) as sock:
        assert sock.getpeername() == listener.getsockname()


async def test_connect_tcp_several_unknown_hosts() -> None:
    with pytest.raises(ConnectionError, match=r"no-such-zone.* or .*nor-this-one"):
        await connect_tcp(["fe80::1%no-such-zone", "fe80::1%nor-this-one"], 8080, timeout=5)


@pytest.mark.own_loop
async def test_connect_tcp_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(BusyError, match="cannot start another thread"):
        await connect_tcp("localhost", 1, timeout=5)
    with pytest.raises(BusyError, match="cannot start another thread"):
        await host_for_others("camera.local")
    with pytest.raises(BusyError, match="cannot start another thread"):
        await query_sntp("localhost", 1)


# -- receiving ------------------------------------------------------------------------------------


async def test_receive_some_returns_bytes_and_the_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        before = time.monotonic()
        theirs.sendall(b"abc")
        data, at = await receive_some(ours, 2)
        assert data == b"ab"
        assert before <= at <= time.monotonic()
        assert (await receive_some(ours, 2))[0] == b"c"
        theirs.close()
        assert (await receive_some(ours, 2))[0] == b""


async def test_receive_some_takes_a_turn_for_each_portion() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Turns() as turns:
        ours.setblocking(False)
        theirs.sendall(b"a" * 1000)
        for _ in range(100):
            await receive_some(ours, 10)
            turns.mark("read")
    assert turns.most("read") == 1


async def test_receive_some_raises_what_the_connection_reports(listener: socket.socket) -> None:
    sock = await connect_tcp("127.0.0.1", port_of(listener), timeout=5)
    with sock:
        peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()  # a reset
        with pytest.raises(ConnectionResetError):
            await receive_some(sock, 10)


async def test_receive_some_cancelled_no_longer_reads() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        receiving = asyncio.create_task(receive_some(ours, 10))
        await passes()
        receiving.cancel()
        await asyncio.wait({receiving})
        assert receiving.cancelled()
        assert not asyncio.get_running_loop().remove_reader(ours)
        theirs.sendall(b"kept")
        await passes()
        assert ours.recv(10) == b"kept"


async def test_replies_of_hundreds_are_read_at_once_and_returned_in_turns() -> None:
    with ExitStack() as held:
        pairs = [socket.socketpair() for _ in range(200)]
        for ours, theirs in pairs:
            held.enter_context(ours)
            held.enter_context(theirs)
            ours.setblocking(False)

        async def receive(sock: socket.socket) -> float:
            data, at = await receive_some(sock, 10)
            turns.mark(data.decode())
            return at

        with Turns() as turns:
            receiving = [asyncio.create_task(receive(ours)) for ours, _ in pairs]
            await passes()
            for _, theirs in pairs:
                theirs.sendall(b"reply")
            await asyncio.wait(receiving)
    assert turns.total("reply") == 200
    assert 1 < turns.most("reply") <= 32


async def test_receive_some_of_a_closed_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await receive_some(pair[0], 100)
