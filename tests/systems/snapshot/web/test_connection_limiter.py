"""ConnectionLimiter: making room, and refused connections."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from asynccam.systems.snapshot.server.middleware import ConnectionLimiter, LimitedConnection
from tests.support.waiting import eventually
from tests.systems.snapshot.web.rig import exchange

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def standing(limit: int) -> AsyncIterator[tuple[int, list[asyncio.Protocol], ConnectionLimiter]]:
    """A port with a limiter, and every protocol it makes."""

    async def hello(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hello")

    made: list[asyncio.Protocol] = []
    server = web.Server(hello)
    limiter = ConnectionLimiter(server, limit=limit)

    def make() -> asyncio.Protocol:
        made.append(limiter())
        return made[-1]

    listening = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], made, limiter
    finally:
        listening.close()
        await server.shutdown(0)
        await limiter.aclose()
        await eventually(lambda: not len(limiter))


async def test_limiter_drops_slow_first_request() -> None:
    async with standing(2) as (port, made, limiter):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in held:
            writer.write(b"GET / HTTP/1.1\r\nHost: lo")
        await eventually(lambda: len(limiter) == 2)
        assert (await exchange(port, ASK)).startswith(b"HTTP/1.1 503 ")
        first = made[0]
        assert isinstance(first, LimitedConnection)
        assert first.idle_since is not None
        first.idle_since -= 6  # seconds that it has waited
        assert (await exchange(port, ASK)).startswith(b"HTTP/1.1 200 ")
        assert (limiter.refused, limiter.dropped) == (1, 1)
        for _, writer in held:
            writer.close()


async def test_limiter_refusal_can_be_read() -> None:
    async with standing(0) as (port, _, limiter):
        for _ in range(20):
            # All is sent before the server is at its turn: closed with it unread, it would answer by a reset.
            ready = socket.create_connection(("127.0.0.1", port))
            ready.sendall(ASK)
            reader, writer = await asyncio.open_connection(sock=ready)
            answer = await asyncio.wait_for(reader.read(), 20)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert answer.endswith(b"try again soon.")
            writer.close()
        assert limiter.refused == 20


async def test_limiter_closes_refused_connection() -> None:
    async with standing(0) as (port, _, limiter):
        for _ in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await eventually(lambda: limiter.refused == 101)
