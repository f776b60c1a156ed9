"""JSON-RPC over a WebSocket that comes back.

`JsonRpcClient` keeps a `JsonRpcConnection` alive and adds deadlines, waits for a reconnect where the caller
allows it, and repeats idempotent calls. See docs/reconnecting.md.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Final

from asynccam.errors import AsynccamError, AuthenticationError, ConnectionError
from asynccam.net.jsonrpc_codec import Params, UnexpectedMessage
from asynccam.net.reconnecting import ConnectionState, ReconnectingConnection, StateListener
from asynccam.net.rpc_link import DEFAULT_TIMEOUT, JsonRpcConnection, NoticeHandler
from asynccam.net.websocket import MAX_MESSAGE, Room
from asynccam.runtime.backoff import Backoff

SignIn = Callable[[JsonRpcConnection, float | None], Awaitable[None]]
"""Makes a fresh link usable; given the length of the gap in seconds, or None at first."""


class JsonRpcClient:
    """Calls over a connection that is kept alive.

    Args:
        url: ``ws://`` or ``wss://``, without credentials.
        sign_in: Called on every fresh link before anyone else may use it.
        on_notice: Called with every notification's method and params; must not block.
        on_oddity: Called with what fits nothing.
        on_state: Called at every change of state; see `ReconnectingConnection`.
        room: While there is no room, nothing more is read from the socket; see `EventHub.room`.
        headers: Sent with every handshake.
        tls: The context for ``wss://``.
        backoff: The waits between tries.
        open_timeout: Seconds for connecting and the handshake.
        sign_in_timeout: Seconds for ``sign_in``.
        max_message: Bytes an answer may have.
        ping_interval: Seconds between pings, or None.
        ping_timeout: Seconds a pong may take.
        quiet_limit: Seconds of silence after which the peer counts as dead, or None.
    """

    def __init__(
        self,
        url: str,
        *,
        sign_in: SignIn | None = None,
        on_notice: NoticeHandler | None = None,
        on_oddity: Callable[[UnexpectedMessage], None] | None = None,
        on_state: StateListener | None = None,
        room: Room | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        backoff: Backoff | None = None,
        open_timeout: float = 10.0,
        sign_in_timeout: float = 30.0,
        max_message: int = MAX_MESSAGE,
        ping_interval: float | None = 20.0,
        ping_timeout: float = 20.0,
        quiet_limit: float | None = None,
    ) -> None:
        async def open_link() -> JsonRpcConnection:
            return await JsonRpcConnection.open(
                url,
                on_notice=on_notice,
                on_oddity=on_oddity,
                room=room,
                headers=headers,
                tls=tls,
                timeout=open_timeout,
                max_message=max_message,
                ping_interval=ping_interval,
                ping_timeout=ping_timeout,
                quiet_limit=quiet_limit,
            )

        async def no_sign_in(link: JsonRpcConnection, gap: float | None) -> None:
            """Every link is usable as it is."""

        self.url = url
        self.live: ReconnectingConnection[JsonRpcConnection] = ReconnectingConnection(
            url,
            open_link,
            sign_in or no_sign_in,
            backoff=backoff,
            sign_in_timeout=sign_in_timeout,
            on_state=on_state,
        )

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self.live.state

    async def start(self, *, attempts: int = 1, timeout: float | None = None) -> None:
        """Connect and sign in; see `ReconnectingConnection.start`."""
        await self.live.start(attempts=attempts, timeout=timeout)

    async def aclose(self) -> None:
        """Close for good; open calls fail. Harmless when called twice."""
        await self.live.aclose()

    async def __aenter__(self) -> "JsonRpcClient":
        if self.state is ConnectionState.CLOSED:
            await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def call(
        self, method: str, params: Params = None, *, timeout: float = DEFAULT_TIMEOUT, repeat: bool = False
    ) -> Any:
        """Call a method and wait for its answer.

        Args:
            method: The remote method.
            params: By name, by place, or None.
            timeout: Seconds for everything, waiting for a reconnect included.
            repeat: Whether the call changes nothing on the other side. Only then it waits out a
                reconnect, and is sent again if the connection goes before its answer.

        Returns:
            The answer's ``result``: any JSON value.

        Raises:
            RpcError: The peer answered with an error.
            ConnectionError: Not connected; ``maybe_executed`` says whether the request had left.
            TimeoutError: No answer in time; ``maybe_executed`` likewise.
            AuthenticationError: The peer refuses the credentials.
        """
        link = self.live.link
        if not repeat:
            if link is None:
                raise self._not_ready(method)
            return await link.call(method, params, timeout=timeout)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            link = self.live.link
            if link is None:
                await self._until_ready(method, until - loop.time())
                continue
            try:
                return await link.call(method, params, timeout=max(until - loop.time(), 0.001))
            except ConnectionError:
                # The link is on its way out; the loop notices on its own next pass.
                if self.live.link is link:
                    await self.live.wait_for(*_NOT_READY, timeout=max(until - loop.time(), 0.001))

    async def connections(self) -> AsyncIterator["JsonRpcClient"]:
        """Yield this client each time its connection becomes ready, until it is closed.

        Raises:
            AuthenticationError: The peer refuses the credentials.
        """
        seen = 0
        while True:
            if self.live.link is not None and self.live.connects > seen:
                seen = self.live.connects
                yield self
            state = await self.live.wait_for(
                ConnectionState.READY, ConnectionState.REFUSED, ConnectionState.CLOSED
            )
            if state is ConnectionState.CLOSED:
                return
            if state is ConnectionState.REFUSED:
                raise self._not_ready("the connection")
            if self.live.connects == seen:
                await self.live.wait_for(*_NOT_READY)

    async def _until_ready(self, method: str, timeout: float) -> None:
        if self.state in (ConnectionState.CLOSED, ConnectionState.REFUSED):
            raise self._not_ready(method)
        await self.live.wait_for(
            ConnectionState.READY,
            ConnectionState.REFUSED,
            ConnectionState.CLOSED,
            timeout=max(timeout, 0.001),
        )

    def _not_ready(self, method: str) -> AsynccamError:
        if self.state is ConnectionState.REFUSED and isinstance(self.live.error, AuthenticationError):
            return AuthenticationError(f"{method} was not sent: {self.live.error}")
        reason = f" ({self.live.reason})" if self.live.reason else ""
        return ConnectionError(
            f"not connected to {self.url}; it is {self.state.value}{reason}; {method} was not sent"
        )


_NOT_READY: Final = tuple(state for state in ConnectionState if state is not ConnectionState.READY)


class connect:  # noqa: N801 - a call that can be awaited, entered or iterated, like websockets.connect
    """``await connect(url)``, ``async with connect(url) as client`` or ``async for client in connect(url)``.

    Awaited, it gives a ready `JsonRpcClient` that is to be closed; entered, it is closed at the end;
    iterated, it yields the client each time the connection becomes ready. Takes what `JsonRpcClient` takes.
    """

    def __init__(self, url: str, *, attempts: int = 1, **options: Any) -> None:
        self._client = JsonRpcClient(url, **options)
        self._attempts = attempts

    async def _start(self) -> JsonRpcClient:
        await self._client.start(attempts=self._attempts)
        return self._client

    def __await__(self) -> Generator[Any, None, JsonRpcClient]:
        return self._start().__await__()

    async def __aenter__(self) -> JsonRpcClient:
        return await self._start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def __aiter__(self) -> AsyncIterator[JsonRpcClient]:
        try:
            await self._start()
            async for client in self._client.connections():
                yield client
        finally:
            await self._client.aclose()
