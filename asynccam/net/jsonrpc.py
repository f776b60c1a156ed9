"""JSON-RPC calls over a WebSocket that reconnects.

`JsonRpcConnection` is one connection and the calls on it. `JsonRpcClient` keeps one open, and repeats a call
after a reconnect where the caller allows that. See docs/reconnecting.md.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
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
    ErrorReply,
    Event,
    JsonRpcCodec,
    Notification,
    Params,
    Result,
    UnexpectedMessage,
)
from asynccam.net.reconnecting import ConnectionState, ReconnectingConnection, StateListener
from asynccam.net.websocket import CloseInfo, Room, WebSocket, WebSocketOptions, open_websocket
from asynccam.outside import OVERLAP, is_suspicious
from asynccam.redaction import loggable
from asynccam.runtime.retry import Backoff
from asynccam.runtime.timing import deadline

_LOG = logging.getLogger(__name__)

DEFAULT_TIMEOUT: Final = 30.0
_DEFAULTS: Final = WebSocketOptions()
_CLOSE_TIMEOUT: Final = 2.0
"""Seconds a peer gets to agree to the end of the connection."""
_SILENT_CLOSE_TIMEOUT: Final = 0.2
"""The same for a peer that never answered a call, whatever else it sent."""

_LARGE_MESSAGE: Final = 128 << 10
"""Bytes of a message that are scanned in one go."""
_MAX_VALUES: Final = 200_000
"""Values of one message: parsing cannot be interrupted, and so many take about 20 ms."""
_MAX_VALUES_TO_CLEAN: Final = 60_000
"""The same where something in the message has to be replaced, which takes longer."""

NotificationHandler = Callable[[str, Any], None]
"""Called with a notification's method and params; must not block."""
UnexpectedHandler = Callable[[UnexpectedMessage], None]
"""Called with a message that fits nothing; must not block."""


class RpcError(FatalError):
    """The peer answered a call with an error; ``data`` is further details from the peer, or None."""

    def __init__(self, code: int, message: str, data: Any = None, *, method: str = "") -> None:
        super().__init__(f"{method or 'the call'} was answered with error {code}: {message}")
        self.code = code
        self.message = message
        self.data = data
        self.method = method


@dataclass(slots=True, eq=False)
class _PendingCall:
    method: str
    future: "asyncio.Future[Any]"
    timeout: float
    until: float  # loop time, or infinity


class JsonRpcConnection:
    """One WebSocket connection and the calls on it; made by `JsonRpcConnection.open`."""

    def __init__(
        self,
        name: str,
        on_notification: NotificationHandler | None,
        on_unexpected: UnexpectedHandler | None,
    ) -> None:
        self.name = name  # for errors; the address without credentials
        self.codec = JsonRpcCodec()
        self._on_notification = on_notification
        self._on_unexpected = on_unexpected
        self._sweep: asyncio.TimerHandle | None = None  # at the earliest deadline, or before
        self.socket: WebSocket  # set by `open`
        self._answered = False
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(
        cls,
        url: str,
        options: WebSocketOptions = _DEFAULTS,
        *,
        on_notification: NotificationHandler | None = None,
        on_unexpected: UnexpectedHandler | None = None,
        room: Room | None = None,
    ) -> "JsonRpcConnection":
        """Connect; see `open_websocket` for the arguments and the errors."""
        connection = cls(url, on_notification, on_unexpected)
        connection.socket = await open_websocket(url, connection._on_message, options, room=room)
        connection.socket.closed.add_done_callback(connection._on_closed)
        return connection

    @property
    def closed(self) -> "asyncio.Future[CloseInfo]":
        """Done when the connection has ended."""
        return self.socket.closed

    @property
    def pending(self) -> int:
        """Number of calls without an answer."""
        return len(self.codec.contexts)

    async def call(
        self, method: str, params: Params = None, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> Any:
        """Call a method and return the ``result`` of its answer: any JSON value.

        Raises:
            RpcError: The peer answered with an error.
            ConnectionError: The connection was lost; ``maybe_executed`` says whether the request had left.
            TimeoutError: No answer within ``timeout`` seconds; the request may have been carried out.
            UsageError: The parameters cannot be JSON.
        """
        waited = 0.0
        if not self.socket.is_writable:
            began = self._loop.time()
            async with deadline(timeout, f"room to send {method} to {self.name}"):
                await self.socket.drain()
            waited = self._loop.time() - began
        request_id, future = self._send_request(method, params, timeout, waited)
        try:
            return await future
        except BaseException:
            self.codec.forget(request_id)
            raise

    def post(
        self, method: str, params: Params = None, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> "asyncio.Future[Any]":
        """Send a call before returning, and return the future of its answer, which need not be awaited.

        For starts that must leave now: `call`, without its wait for a peer that does not keep up. The future
        ends with the ``result``, or with what `call` raises; cancel it to forget the call.

        Raises:
            ConnectionError: Not connected; nothing was sent.
            UsageError: The parameters cannot be JSON.
        """
        request_id, future = self._send_request(method, params, timeout)

        def done(future: "asyncio.Future[Any]") -> None:
            self.codec.forget(request_id)
            if not future.cancelled():
                future.exception()  # retrieved: the caller may not await it

        future.add_done_callback(done)
        return future

    async def aclose(self) -> None:
        """Close the connection; open calls fail."""
        await self.socket.aclose(timeout=_CLOSE_TIMEOUT if self._answered else _SILENT_CLOSE_TIMEOUT)

    # -- requests ---------------------------------------------------------------------------------

    def _send_request(
        self, method: str, params: Params, timeout: float | None, waited: float = 0.0
    ) -> tuple[int, "asyncio.Future[Any]"]:
        socket = self.socket
        if not socket.is_open:
            raise ConnectionError(
                f"{method} was not sent, as {self.name} is not connected{socket.close_reason}"
            )
        future = self._loop.create_future()
        limit = math.inf if timeout is None else timeout
        call = _PendingCall(method, future, limit, self._loop.time() + limit - waited)
        # Registered before it is sent: an answer may come in the same turn of the loop.
        request_id, message = self.codec.request(method, params, context=call)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: request %s %s %s", self.name, request_id, method, loggable(params))
        try:
            socket.send(message)
        except BaseException:
            self.codec.forget(request_id)
            raise
        if self._sweep is None or call.until < self._sweep.when():
            self._sweep_at(call.until)
        return request_id, future

    def _sweep_at(self, when: float) -> None:
        """Check deadlines at a time: one timer serves all calls; one for each costs as much as its frame."""
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep = None if when == math.inf else self._loop.call_at(when, self._end_overdue_calls)

    def _end_overdue_calls(self) -> None:
        now, earliest = self._loop.time(), math.inf
        for call in tuple(self.codec.contexts):
            if call.until > now:
                earliest = min(earliest, call.until)
            elif not call.future.done():
                text = f"{self.name} did not answer {call.method} within {call.timeout:g} s"
                call.future.set_exception(TimeoutError(text, maybe_executed=True))
        self._sweep = None
        self._sweep_at(earliest)

    def _on_closed(self, closed: "asyncio.Future[CloseInfo]") -> None:
        reason = closed.result().reason
        self._sweep_at(math.inf)
        for call in tuple(self.codec.contexts):
            if not call.future.done():
                text = f"the connection to {self.name} was lost before {call.method} was answered: {reason}"
                call.future.set_exception(ConnectionError(text, maybe_executed=True))

    # -- messages ---------------------------------------------------------------------------------

    def _on_message(self, message: bytes) -> Iterator[None] | None:
        """Dispatch a message; the parts of a large one or of a batch in steps, as the reader has time."""
        if len(message) > _LARGE_MESSAGE:
            return self._dispatch_large(message)
        return self._dispatch_received(self.codec.receive(message))

    def _dispatch_large(self, message: bytes) -> Iterator[None]:
        values, suspicious = 0, False
        for start in range(0, len(message), _LARGE_MESSAGE):
            end = start + _LARGE_MESSAGE
            suspicious = suspicious or is_suspicious(message[start : end + OVERLAP])
            values += sum(message.count(sign, start, end) for sign in (b",", b"[", b"{"))
            limit = _MAX_VALUES_TO_CLEAN if suspicious else _MAX_VALUES
            if values > limit:
                raise RemoteProtocolError(f"{self.name} sent a message of more than {limit:,} values")
            yield
        yield from self._dispatch_received(self.codec.receive(message, suspicious=suspicious)) or ()

    def _dispatch_received(self, received: tuple[Event] | Iterator[Event]) -> Iterator[None] | None:
        if isinstance(received, tuple):
            self._dispatch(received[0])
            return None
        # `map` decodes each part of a batch when it is its turn.
        return map(self._dispatch, received)

    def _dispatch(self, event: Event) -> None:
        if _LOG.isEnabledFor(logging.DEBUG):
            self._log(event)
        if isinstance(event, Notification):
            if self._on_notification is not None:
                self._on_notification(event.method, event.params)
        elif isinstance(event, UnexpectedMessage):
            if self._on_unexpected is not None:
                self._on_unexpected(event)
        else:
            self._answered = True
            call: _PendingCall = event.context
            if call.future.done():
                return
            if isinstance(event, Result):
                call.future.set_result(event.value)
            else:
                error = RpcError(event.code, event.message, event.data, method=call.method)
                call.future.set_exception(error)

    def _log(self, event: Event) -> None:
        if type(event) is Notification:
            _LOG.debug("%s: notification %s %s", self.name, loggable(event.method), loggable(event.params))
        elif type(event) is Result:
            _LOG.debug("%s: response %s %s", self.name, event.id, loggable(event.value))
        elif type(event) is ErrorReply:
            text = loggable(event.message)
            _LOG.debug("%s: error reply %s code %s: %s", self.name, event.id, event.code, text)
        else:
            _LOG.debug("%s: invalid message: %s", self.name, loggable(event))


Authenticate = Callable[[JsonRpcConnection, float | None], Awaitable[None]]
"""Makes a new connection usable; called with the length of the outage in seconds, or None at first."""

_NOT_READY: Final = tuple(state for state in ConnectionState if state is not ConnectionState.READY)


class JsonRpcClient(ReconnectingConnection[JsonRpcConnection]):
    """JSON-RPC calls over a connection that is kept open.

    The ``url`` has no credentials: ``authenticate`` is called with every new connection before anyone else
    may use it. ``on_notification`` gets every notification's method and params, ``on_unexpected`` what fits
    nothing; neither may block. For ``on_state`` see `ReconnectingConnection`. While there is no ``room``
    (`EventHub.room`), nothing more is read from the socket.
    """

    def __init__(
        self,
        url: str,
        options: WebSocketOptions = _DEFAULTS,
        *,
        authenticate: Authenticate | None = None,
        on_notification: NotificationHandler | None = None,
        on_unexpected: UnexpectedHandler | None = None,
        on_state: StateListener | None = None,
        room: Room | None = None,
        backoff: Backoff | None = None,
        authentication_timeout: float = 30.0,
    ) -> None:
        async def open_connection() -> JsonRpcConnection:
            return await JsonRpcConnection.open(
                url, options, on_notification=on_notification, on_unexpected=on_unexpected, room=room
            )

        async def no_authentication(connection: JsonRpcConnection, outage: float | None) -> None:
            """Do nothing: every connection is usable as it is."""

        super().__init__(
            url,
            open_connection,
            authenticate or no_authentication,
            backoff=backoff,
            authentication_timeout=authentication_timeout,
            on_state=on_state,
        )

    async def __aenter__(self) -> "JsonRpcClient":
        if self.state is ConnectionState.CLOSED:
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def call(
        self, method: str, params: Params = None, *, timeout: float = DEFAULT_TIMEOUT, repeat: bool = False
    ) -> Any:
        """Call a method and return the ``result`` of its answer: any JSON value.

        Args:
            method: The remote method.
            params: By name, by place, or None.
            timeout: Seconds for everything, waiting for a reconnect included.
            repeat: Whether the call changes nothing on the other side. Only then it waits out a
                reconnect, and is sent again if the connection is lost before its answer.

        Raises:
            RpcError: The peer answered with an error.
            ConnectionError: Not connected; ``maybe_executed`` says whether the request had left.
            TimeoutError: No answer in time; ``maybe_executed`` likewise.
            AuthenticationError: The peer refuses the credentials.
        """
        if not repeat:
            if self.connection is None:
                raise self._not_ready(method)
            return await self.connection.call(method, params, timeout=timeout)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            connection = self.connection
            left = max(until - loop.time(), 0.001)
            if connection is None:
                await self._until_ready(method, left)
                continue
            try:
                return await connection.call(method, params, timeout=left)
            except ConnectionError:
                # The connection is being lost; the reconnecting loop notices on its own next pass.
                if self.connection is connection:
                    left = max(until - loop.time(), 0.001)
                    await self.wait_for(*_NOT_READY, timeout=left)

    async def _until_ready(self, method: str, timeout: float) -> None:
        states = (ConnectionState.READY, ConnectionState.REFUSED, ConnectionState.CLOSED)
        if self.state in states[1:]:
            raise self._not_ready(method)
        await self.wait_for(*states, timeout=timeout)

    def _not_ready(self, method: str) -> AsynccamError:
        if self.state is ConnectionState.REFUSED and isinstance(self.error, AuthenticationError):
            return AuthenticationError(f"{method} was not sent: {self.error}")
        reason = f" ({self.reason})" if self.reason else ""
        return ConnectionError(
            f"not connected to {self.name}; it is {self.state.value}{reason}; {method} was not sent"
        )
