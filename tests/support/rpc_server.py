"""A WebSocket server whose every answer a test decides, on websockets' own server."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Handler = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]


def answer(request: dict[str, Any], result: Any) -> str:
    """The text of an answer."""
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result})


class RpcServer:
    """Counts what it gets and hands every request to ``handler``.

    Attributes:
        requests: Everything received, in order.
        connections: Connections open now.
        accepted: Connections ever.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.connections: set[ServerConnection] = set()
        self.accepted = 0
        self.handler: Handler = self.echo
        self.port = 0
        self._server: Server | None = None

    async def echo(self, connection: ServerConnection, request: dict[str, Any]) -> None:
        """Answer with the request's own params."""
        await connection.send(answer(request, request.get("params")))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(request.get("method") == method for request in self.requests)

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await serve(self._serve, "127.0.0.1", self.port, compression=None, max_size=None)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Drop every connection without a word and listen no more."""
        assert self._server is not None
        self.drop()
        self._server.close()
        await self._server.wait_closed()

    def drop(self) -> None:
        """Drop every connection without a word."""
        for connection in self.connections:
            connection.transport.abort()

    async def send(self, message: str | bytes) -> None:
        """Send something to every connection."""
        for connection in tuple(self.connections):
            await connection.send(message)

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        self.accepted += 1
        try:
            with suppress(ConnectionClosed):
                async for message in connection:
                    request = json.loads(message)
                    self.requests.append(request)
                    await self.handler(connection, request)
        finally:
            self.connections.discard(connection)


@asynccontextmanager
async def rpc_server() -> AsyncIterator[RpcServer]:
    """A started server, stopped at the end."""
    server = RpcServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def never(connection: ServerConnection, request: dict[str, Any]) -> None:
    """A handler that does not answer, and does not stop reading either."""
