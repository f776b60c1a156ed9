"""Connection to one service, and calls on it.

Every new connection is authenticated, its generation is detected (the service may have been replaced), events
are subscribed to again and the cameras are fetched; after a loss the difference is emitted as `MissedEvents`.

A call that was refused (not authenticated, rate limit) was not executed, so it may be sent again whatever it
does. A call whose connection was lost may have been, so only a read is repeated. See
docs/protocols/mediamtx.md.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from asynccam.errors import AsynccamError, RemoteProtocolError, StateError, TimeoutError
from asynccam.model.events import Event
from asynccam.net.jsonrpc import JsonRpcClient, JsonRpcConnection, RpcError
from asynccam.net.reconnecting import ConnectionState, ConnectionStateChanged
from asynccam.net.websocket import WebSocketOptions
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.runtime.timing import deadline
from asynccam.systems.mediamtx.auth import (
    NO_SUCH_METHOD,
    NOT_AUTHENTICATED,
    ServiceCapabilities,
    advice,
    authenticate_with_fallback,
    call_authenticated,
    open_session,
    translate_error,
    translated_errors,
)
from asynccam.systems.mediamtx.errors import AuthenticationError, ConnectionError, RateLimitedError
from asynccam.systems.mediamtx.events import (
    CameraStatusUpdate,
    RecordingStatusUpdate,
    ServiceNotice,
    parse_notification,
)
from asynccam.systems.mediamtx.models import CameraInfo, CameraList, RecordingInfo
from asynccam.systems.mediamtx.settings import Endpoint, ServiceCredentials
from asynccam.systems.mediamtx.state_cache import ServiceStateCache
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)

SLOW_METHODS: Final = frozenset({"start_recording", "stop_recording", "take_snapshot"})
SLOW_METHOD_TIME: Final = 15.0
"""Seconds for which a slow method delays the other calls of a connection in generation 1."""
_DRAIN_TIMEOUT: Final = 2.0
"""Seconds for the calls on a connection to be answered before it is replaced."""
_EARLY_TOKEN_PAUSE: Final = 0.5
"""Seconds between authentications with a token that may be too early for the service's clock."""
_RATE_BACKOFF: Final = Backoff(initial=0.5, maximum=10.0)
_CONNECT_RESULTS: Final = (ConnectionState.READY, ConnectionState.REFUSED, ConnectionState.CLOSED)

Subscriptions = dict[str, dict[str, Any] | None]
"""Topic -> filters."""


@dataclass(slots=True)
class _Call:
    """A call under way."""

    method: str
    params: dict[str, Any] | None = field(repr=False)
    until: float  # loop time
    repeat: bool = False
    posted: "asyncio.Future[Any] | None" = field(default=None, repr=False)  # first response, if sent already
    refusals: int = 0
    rate_delays: Iterator[float] | None = None  # waits after refusals that name none
    secret: str | None = field(default=None, repr=False)  # sent with the call itself
    link: JsonRpcConnection | None = field(default=None, repr=False)  # that it was last sent on
    capabilities: ServiceCapabilities = field(init=False, repr=False)  # of ``link``

    @property
    def left(self) -> float:
        return max(self.until - asyncio.get_running_loop().time(), 0.001)


class ServiceConnection:
    """A connection that is restored whenever it is lost, with calls on it."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: ServiceCredentials,
        state: ServiceStateCache,
        subscriptions: Subscriptions,
        hub: EventHub,
        options: WebSocketOptions,
        *,
        timeout: float,
        backoff: Backoff,
    ) -> None:
        self.bad_notifications: Counter[str] = Counter()  # invalid ones by topic
        self.capabilities = ServiceCapabilities(generation=2)  # of the service on the present connection
        self._service = str(endpoint.address)
        self._credentials = credentials
        self._state = state
        self._subscriptions = subscriptions  # for every new connection; may change at any time
        self._hub = hub
        self._timeout = timeout  # seconds, default for a call
        self._slow = 0
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._renewing = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.rpc = JsonRpcClient(
            endpoint.url,
            options,
            authenticate=self._set_up,
            on_notification=self._on_notification,
            on_state=self._on_state,
            room=hub.room,
            backoff=backoff,
            authentication_timeout=timeout,
        )

    async def start(self, attempts: int, timeout: float) -> None:
        """Connect within ``timeout`` seconds; raise the last try's error as the client's own."""
        with translated_errors():
            await self.rpc.start(attempts=attempts, timeout=timeout)

    def emit(self, events: Iterable[Event]) -> None:
        """Emit events in order."""
        for event in events:
            self._hub.emit(event)

    # -- hooks of the connection ------------------------------------------------------------------

    async def _set_up(self, link: JsonRpcConnection, gap: float | None) -> None:
        """Authenticate a new connection, subscribe and fetch the cameras; ``gap`` is an outage in seconds."""
        # As elapsed time: signing in takes a while, in which the wall clock may be set.
        lost_at = None if gap is None else WALL_CLOCK.elapsed() - gap
        self.capabilities = await open_session(link, self._credentials)
        if self.capabilities.generation == 2 and self._subscriptions:
            try:
                await self._subscribe(link)
            except RpcError as refusal:
                _LOG.warning("%s does not send events: %s", self._service, refusal)
        cameras = await self._fetch_cameras(link)
        if lost_at is None:
            self.emit(self._state.update_cameras(cameras))
        else:
            now, elapsed = WALL_CLOCK.pair()
            self.emit(self._state.update_after_gap(now - (elapsed - lost_at), now, cameras))

    async def _subscribe(self, link: JsonRpcConnection) -> None:
        """Subscribe to all topics, with one call for those that have the same filters."""
        groups: list[tuple[dict[str, Any] | None, list[str]]] = []
        for topic, filters in self._subscriptions.items():
            topics = next((topics for known, topics in groups if known == filters), None)
            if topics is None:
                groups.append((filters, [topic]))
            else:
                topics.append(topic)
        for filters, topics in groups:
            params = {"topics": topics} if filters is None else {"topics": topics, "filters": filters}
            await call_authenticated(link, self.capabilities, "subscribe_events", params)

    async def _fetch_cameras(self, link: JsonRpcConnection) -> Sequence[CameraInfo]:
        """Return all cameras; those known already if this service does not list them."""
        try:
            value = await call_authenticated(link, self.capabilities, "get_camera_list")
            return CameraList.read(value, method="get_camera_list").cameras
        except (RpcError, RemoteProtocolError) as error:
            _LOG.warning("%s does not list its cameras: %s", self._service, error)
            return tuple(self._state.cameras.values())

    def _on_notification(self, method: str, params: Any) -> None:
        try:
            topic, payload, update = parse_notification(method, params)
        except RemoteProtocolError:
            self.bad_notifications[method] += 1
            topic, payload, update = method, params, None
        if type(update) is CameraInfo:  # pydantic's `isinstance` is slow where the type is another
            self.emit(self._state.update_camera(update))
            info = self._state.cameras.get(update.device, update)
            self._hub.emit(CameraStatusUpdate(camera=self._state.camera_id(update.device), info=info))
        elif isinstance(update, RecordingInfo):
            self.emit(self._state.update_recording(update))
            update = self._state.with_known_id(update)
            camera = self._state.camera_id(update.device)
            self._hub.emit(RecordingStatusUpdate(camera=camera, recording=update))
        else:
            self._hub.emit(ServiceNotice(service=self._service, topic=topic, data=payload))

    def _on_state(self, state: ConnectionState, previous: ConnectionState, reason: str) -> None:
        self._hub.emit(
            ConnectionStateChanged(service=self._service, state=state, previous=previous, reason=reason)
        )

    # -- calls ------------------------------------------------------------------------------------

    def post(self, method: str, params: dict[str, Any], *, timeout: float) -> "PostedCall":
        """Send a call without waiting; raise `ConnectionError` if not connected."""
        link = self.rpc.connection
        if link is None:
            raise ConnectionError(
                f"not connected to {self.rpc.name} ({self.rpc.state.value}); {method} was not sent"
            )
        with translated_errors(self.capabilities.generation, self.capabilities.secret):
            future = link.post(method, params, timeout=timeout)
        return PostedCall(self, _Call(method, params, self._loop.time() + timeout), future)

    async def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        repeat: bool = False,
    ) -> Any:
        """Call a method and return the ``result``; see `CameraClient.call`."""
        if timeout is None:
            delay = SLOW_METHOD_TIME * self._slow if self.capabilities.generation == 1 else 0.0
            timeout = self._timeout + delay
        return await self.run(_Call(method, params, self._loop.time() + timeout, repeat))

    async def run(self, call: "_Call") -> Any:
        """Send a call until it is answered, or refused for good, and return the result.

        A slow call delays later calls at a service of generation 1.
        """
        slow = call.method in SLOW_METHODS
        self._slow += slow
        try:
            while True:
                if self._renewing.locked():  # a call sent meanwhile would only be refused
                    async with self._renewal_deadline(call), self._renewing:
                        pass
                call.link, call.capabilities = self.rpc.connection, self.capabilities
                try:
                    value = await self._send(call)
                except AsynccamError as error:
                    capabilities = call.capabilities
                    problem = translate_error(error, capabilities.generation, capabilities.secret)
                    if problem is error:
                        raise
                    await self._wait_or_renew(call, problem, error)
                else:
                    call.capabilities.working.add(call.method)
                    return value
        finally:
            self._slow -= slow

    async def _wait_or_renew(self, call: "_Call", problem: AsynccamError, cause: AsynccamError) -> None:
        """Return once a call that was refused may be sent again, or raise the problem."""
        call.posted = None
        if isinstance(cause, RpcError) and cause.code == NO_SUCH_METHOD:
            call.capabilities.missing.add(call.method)
        if isinstance(problem, RateLimitedError):
            wait = problem.retry_after
            if wait is None:
                call.rate_delays = call.rate_delays or _RATE_BACKOFF.delays()
                wait = next(call.rate_delays)
            if self._loop.time() + wait >= call.until:
                raise problem from cause
            await asyncio.sleep(wait)
        elif (
            isinstance(problem, AuthenticationError)
            and isinstance(cause, RpcError)
            and cause.code == NOT_AUTHENTICATED
            and call.capabilities.secret is not None
        ):
            call.secret = await self._renew_in_time(call, problem)
            call.refusals += 1
        else:
            raise problem from cause

    async def _send(self, call: "_Call") -> Any:
        self._active += 1
        self._idle.clear()  # `_reconnect` waits for it, so that no answer is lost
        try:
            if call.posted is not None:
                return await call.posted
            params = (
                call.params if call.secret is None else {**(call.params or {}), "auth_token": call.secret}
            )
            return await self.rpc.call(call.method, params, timeout=call.left, repeat=call.repeat)
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    # -- renewed authentication -------------------------------------------------------------------

    def _renewal_deadline(self, call: "_Call") -> AbstractAsyncContextManager[object]:
        return deadline(call.left, f"renewed sign-in at {self.rpc.name} for {call.method}")

    async def _renew_in_time(self, call: "_Call", problem: AuthenticationError) -> str | None:
        """Call `_renew`, with the token provider and the authentication inside the call's deadline."""
        try:
            async with self._renewal_deadline(call):
                return await self._renew(call, problem)
        except TimeoutError:
            reason = self.rpc.error
            if isinstance(reason, AuthenticationError):  # more precise than the timeout
                raise reason from None
            raise

    async def _renew(self, call: "_Call", problem: AuthenticationError) -> str | None:
        """Take the next step to get a refused call accepted; return the secret to send with it, or None."""
        secret = call.capabilities.secret
        if call.capabilities.generation == 2:
            if not call.refusals:
                await self._authenticate_again(call)
                return None
        # Generation 1 marks the last connection as authenticated, regardless of the caller: the call itself
        # carries the token. After the token's expiry only a new connection helps, and then once more.
        elif call.refusals in (0, 2):
            return secret
        elif call.refusals == 1 and self._credentials.can_renew(secret):
            await self._reconnect(call)
            return None
        hint = advice(secret, problem.message, provided=self._credentials.has_provider)
        raise AuthenticationError(
            f"{problem.message}{hint}", code=problem.code, data=problem.data, method=problem.method
        )

    async def _authenticate_again(self, call: "_Call") -> None:
        """Generation 2: authenticate the same connection with a new token."""
        link, capabilities = call.link, call.capabilities
        used = capabilities.secret
        async with self._renewing:
            if link is None or self.rpc.connection is not link or capabilities.secret != used:
                return  # another call has renewed it
            secret = await self._credentials.secret()
            if secret is None:
                return
            while True:
                try:
                    with translated_errors(capabilities.generation, secret):
                        capabilities.role, capabilities.secret = await authenticate_with_fallback(
                            link, self._credentials, secret
                        )
                    return
                except AuthenticationError as error:
                    if (
                        not error.may_pass
                        or call.until <= asyncio.get_running_loop().time() + _EARLY_TOKEN_PAUSE
                    ):
                        raise
                    await asyncio.sleep(_EARLY_TOKEN_PAUSE)

    async def _reconnect(self, call: "_Call") -> None:
        """Generation 1: replace the connection, unless another call has done so."""
        reconnecting, link = self.rpc, call.link
        async with self._renewing:
            if link is not None and reconnecting.connection is link:
                # Before the connection is closed: a provider that fails leaves it as it is.
                await self._credentials.renew()
                # The service answers the other calls on it one after another; none must be lost.
                with suppress(TimeoutError):
                    async with deadline(_DRAIN_TIMEOUT, "end of the other calls"):
                        await self._idle.wait()
                await link.aclose()
                if reconnecting.connection is link:
                    await reconnecting.wait_for(
                        ConnectionState.LOST, ConnectionState.WAITING, *_CONNECT_RESULTS[1:]
                    )
        state = await reconnecting.wait_for(*_CONNECT_RESULTS, timeout=call.left)
        if state is not ConnectionState.READY and reconnecting.error is not None:
            raise translate_error(reconnecting.error, 1, None)


class PostedCall:
    """A call that has been sent and is not answered yet; made by `ServiceConnection.post`."""

    def __init__(self, connection: ServiceConnection, call: _Call, response: "asyncio.Future[Any]") -> None:
        self.sent_at = unix_now()
        self.answered_at: float | None = None  # Unix seconds of the response that counts
        self._connection = connection
        self._call = call
        self._response = call.posted = response
        response.add_done_callback(self._on_response)

    async def result(self) -> Any:
        """Wait for the response; after a temporary refusal the call is sent again."""
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        try:
            # A copy: a second caller gets the same response, and sends nothing again.
            value = await self._connection.run(replace(self._call))
        except asyncio.CancelledError:
            # The future is cancelled by `forget`; a cancellation of this task must go on.
            if self._response.cancelled() and task is not None and task.cancelling() <= before:
                raise StateError(f"{self._call.method} was forgotten before it was answered") from None
            raise
        if self._response.exception() is not None:  # another response than the first one
            self.answered_at = unix_now()
        return value

    def forget(self) -> None:
        """Stop waiting; the call is not cancelled at the service."""
        self._response.cancel()

    def _on_response(self, response: "asyncio.Future[Any]") -> None:
        self.answered_at = unix_now()
