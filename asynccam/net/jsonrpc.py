"""JSON-RPC over a WebSocket that comes back.

`JsonRpcClient` keeps a `JsonRpcConnection` alive and adds deadlines, waits for a reconnect where the caller
allows it, and repeats idempotent calls. See docs/reconnecting.md.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import Any, Final

from asynccam.errors import (
    AsynccamError,
    AuthenticationError,
    ConnectionError,
    FatalError,
    RemoteProtocolError,
    TimeoutError,
)
from asynccam.net.jsonrpc_codec import (
    ErrorResponse,
    Event,
    Id,
    JsonRpcCodec,
    Notification,
    Params,
    Result,
    UnexpectedMessage,
)
from asynccam.net.reconnecting import ConnectionState, ReconnectingConnection, StateListener
from asynccam.net.websocket import MAX_MESSAGE, CloseInfo, Room, WebSocket, open_websocket
from asynccam.outside import OVERLAP, is_suspicious
from asynccam.redaction import loggable
from asynccam.runtime.retry import Backoff
from asynccam.runtime.timing import deadline

_LOG = logging.getLogger(__name__)

DEFAULT_TIMEOUT: Final = 30.0
_GOODBYE: Final = 2.0
"""Seconds a peer gets to agree to the end of the connection."""
_SHORT_GOODBYE: Final = 0.2
"""The same for a peer that has not answered a call on it, whatever else it sends."""

_LARGE: Final = 128 << 10
"""Bytes of a message that are looked through in one go."""
_MOST_VALUES: Final = 200_000
"""Values of one message; reading a message cannot be interrupted, and so many take about 20 ms."""
_MOST_TO_CLEAN: Final = 60_000
"""The same where something in it has to be replaced, which takes longer."""

NoticeHandler = Callable[[str, Any], None]
"""Called with a notification's method and params; must not block."""


class RpcError(FatalError):
    """The peer answered a call with an error.

    Attributes:
        code: The peer's number for it.
        message: The peer's words.
        data: Whatever else it told, or None.
        method: The method that was called.
    """

    def __init__(self, code: int, message: str, data: Any = None, *, method: str = "") -> None:
        super().__init__(f"{method or 'the call'} was answered with error {code}: {message}")
        self.code = code
        self.message = message
        self.data = data
        self.method = method


class JsonRpcConnection:
    """One WebSocket connection with calls on it; gone when the socket is.

    Attributes:
        name: For errors; the address without credentials.
        caller: The protocol's state; ``caller.oddities`` counts what fitted nothing.
    """

    def __init__(
        self,
        name: str,
        on_notice: NoticeHandler | None,
        on_oddity: Callable[[UnexpectedMessage], None] | None,
    ) -> None:
        self.name = name
        self.caller = JsonRpcCodec()
        self._on_notice = on_notice
        self._on_oddity = on_oddity
        self._calls: dict[Id, tuple[asyncio.Future[Any], str]] = {}
        self._socket: WebSocket | None = None
        self._answered = False
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        on_notice: NoticeHandler | None = None,
        on_oddity: Callable[[UnexpectedMessage], None] | None = None,
        room: Room | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 10.0,
        max_message: int = MAX_MESSAGE,
        ping_interval: float | None = 20.0,
        ping_timeout: float = 20.0,
        quiet_limit: float | None = None,
    ) -> "JsonRpcConnection":
        """Connect; see `open_websocket` for the arguments and the errors."""
        link = cls(url, on_notice, on_oddity)
        link._socket = await open_websocket(
            url,
            link._received,
            room=room,
            headers=headers,
            tls=tls,
            timeout=timeout,
            max_message=max_message,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            quiet_limit=quiet_limit,
        )
        link._socket.closed.add_done_callback(link._lost)
        return link

    @property
    def closed(self) -> "asyncio.Future[CloseInfo]":
        """Done when the connection has ended."""
        assert self._socket is not None
        return self._socket.closed

    @property
    def is_writable(self) -> bool:
        """Whether the peer takes what is sent; while it does not, calls wait for room."""
        return self._socket is not None and self._socket.is_writable

    @property
    def pongs(self) -> int:
        """Pings the peer has answered on this connection."""
        return 0 if self._socket is None else self._socket.pongs

    @property
    def pending(self) -> int:
        """Calls without an answer."""
        return len(self._calls)

    def probe(self, timeout: float) -> None:
        """Ping now; without a pong within ``timeout`` seconds the connection is lost."""
        if self._socket is not None:
            self._socket.probe(timeout)

    async def call(
        self, method: str, params: Params = None, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> Any:
        """Call a method and wait for its answer.

        Args:
            method: The remote method.
            params: By name, by place, or None.
            timeout: Seconds to the answer, or None.

        Returns:
            The answer's ``result``: any JSON value.

        Raises:
            RpcError: The peer answered with an error.
            ConnectionError: The socket is gone; ``maybe_executed`` says whether the request had left.
            TimeoutError: No answer in time; the request may have been carried out.
            UsageError: The parameters cannot be JSON.
        """
        if self._socket is not None and not self._socket.is_writable:
            await self._until_writable(self._socket, method, timeout)
        request_id, future, timer = self._begin(method, params, timeout)
        try:
            return await future
        finally:
            self._end(request_id, timer)

    def post(
        self, method: str, params: Params = None, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> "asyncio.Future[Any]":
        """Send a call in place and hand out the future of its answer; nobody has to await it.

        For starts that must leave now: `call`, without its wait for a peer that does not keep up.

        Args:
            method: The remote method.
            params: By name, by place, or None.
            timeout: Seconds to the answer, or None.

        Returns:
            Ends with the ``result``, or with what `call` raises; cancel it to forget the call.

        Raises:
            ConnectionError: Not connected; nothing was sent.
            UsageError: The parameters cannot be JSON.
        """
        request_id, future, timer = self._begin(method, params, timeout)

        def done(future: "asyncio.Future[Any]") -> None:
            self._end(request_id, timer)
            if not future.cancelled():
                future.exception()  # retrieved: whoever posted may not look

        future.add_done_callback(done)
        return future

    def _begin(
        self, method: str, params: Params, timeout: float | None
    ) -> tuple[Id, "asyncio.Future[Any]", asyncio.TimerHandle | None]:
        socket = self._socket
        if socket is None or not socket.is_open:
            why = "" if socket is None else socket.last_words
            raise ConnectionError(f"{method} was not sent, as {self.name} is not connected{why}")
        request_id, message = self.caller.request(method, params)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: request %s %s %s", self.name, request_id, method, loggable(params))
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls[request_id] = (future, method)
        try:
            socket.send(message)
        except BaseException:
            self._end(request_id, None)
            raise
        timer = (
            None
            if timeout is None
            else self._loop.call_later(timeout, self._expired, future, method, timeout)
        )
        return request_id, future, timer

    def _end(self, request_id: Id, timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
        if self._calls.pop(request_id, None) is not None:
            self.caller.forget(request_id)

    def notify(self, method: str, params: Params = None) -> None:
        """Send a notification, which has no answer.

        Raises:
            ConnectionError: Not connected; nothing was sent.
        """
        if self._socket is None:
            raise ConnectionError(f"{method} was not sent, as {self.name} is not connected")
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: notification sent %s %s", self.name, method, loggable(params))
        self._socket.send(self.caller.notification(method, params))

    async def aclose(self) -> None:
        """Close the connection; open calls fail."""
        if self._socket is not None:
            await self._socket.aclose(timeout=_GOODBYE if self._answered else _SHORT_GOODBYE)

    async def _until_writable(self, socket: WebSocket, method: str, timeout: float | None) -> None:
        async with deadline(timeout, f"room to send {method} to {self.name}"):
            await socket.drain()

    def _received(self, message: bytes) -> Iterator[None] | None:
        """Take a message; what a batch holds is taken one by one, as the socket's reader has time for it."""
        if len(message) > _LARGE:
            return self._receive_large(message)
        events = self.caller.receive(message)
        if len(events) > 1:
            return self._take_in_turn(events)
        self._take(events[0])
        return None

    def _receive_large(self, message: bytes) -> Iterator[None]:
        values, suspicious = 0, False
        for start in range(0, len(message), _LARGE):
            suspicious = suspicious or is_suspicious(message[start : start + _LARGE + OVERLAP])
            values += sum(message.count(sign, start, start + _LARGE) for sign in (b",", b"[", b"{"))
            most = _MOST_TO_CLEAN if suspicious else _MOST_VALUES
            if values > most:
                raise RemoteProtocolError(f"{self.name} sent a message of more than {most:,} values")
            yield
        yield from self._take_in_turn(self.caller.receive(message, suspicious=suspicious))

    def _take_in_turn(self, events: list[Event]) -> Iterator[None]:
        for event in events:
            self._take(event)
            yield

    def _take(self, event: Event) -> None:
        if _LOG.isEnabledFor(logging.DEBUG):
            self._log(event)
        if type(event) is Notification:
            if self._on_notice is not None:
                self._on_notice(event.method, event.params)
        elif type(event) is Result:
            self._answered = True
            call = self._calls.pop(event.id, None)
            if call is not None and not call[0].done():
                call[0].set_result(event.value)
        elif type(event) is ErrorResponse:
            self._answered = True
            call = self._calls.pop(event.id, None)
            if call is not None and not call[0].done():
                call[0].set_exception(RpcError(event.code, event.message, event.data, method=call[1]))
        elif type(event) is UnexpectedMessage and self._on_oddity is not None:
            self._on_oddity(event)

    def _log(self, event: Event) -> None:
        if type(event) is Notification:
            _LOG.debug("%s: notification %s %s", self.name, loggable(event.method), loggable(event.params))
        elif type(event) is Result:
            _LOG.debug("%s: response %s %s", self.name, event.id, loggable(event.value))
        elif type(event) is ErrorResponse:
            _LOG.debug(
                "%s: error reply %s code %s: %s", self.name, event.id, event.code, loggable(event.message)
            )
        else:
            _LOG.debug("%s: invalid message: %s", self.name, loggable(event))

    def _expired(self, future: "asyncio.Future[Any]", method: str, timeout: float) -> None:
        if not future.done():
            future.set_exception(
                TimeoutError(f"{self.name} did not answer {method} within {timeout:g} s", maybe_executed=True)
            )

    def _lost(self, closed: "asyncio.Future[CloseInfo]") -> None:
        reason = closed.result().reason
        for future, method in tuple(self._calls.values()):
            if not future.done():
                future.set_exception(
                    ConnectionError(
                        f"the connection to {self.name} went before {method} was answered: {reason}",
                        maybe_executed=True,
                    )
                )


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
