"""CameraClient: a MediaMTX Camera Service of either generation. See docs/mediamtx.md."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Any, Final

import aiohttp

from asynccam.errors import StateError
from asynccam.model import info as model
from asynccam.model.credentials import TokenProvider
from asynccam.model.events import Event
from asynccam.model.info import CameraState
from asynccam.net.http import HttpClient
from asynccam.net.reconnecting import ConnectionState, ConnectionStateChanged
from asynccam.net.tls import client_context
from asynccam.net.websocket import WebSocketOptions
from asynccam.runtime.event_hub import EventHub, Subscription
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import finish
from asynccam.systems.mediamtx.auth import LinkFacts
from asynccam.systems.mediamtx.connection import ServiceConnection, Subscriptions
from asynccam.systems.mediamtx.errors import ConnectionError
from asynccam.systems.mediamtx.events import (
    CameraStatusUpdate,
    RecordingStatusUpdate,
)
from asynccam.systems.mediamtx.files import FileMethods
from asynccam.systems.mediamtx.methods import CameraMethods
from asynccam.systems.mediamtx.models import CameraInfo, RecordingInfo
from asynccam.systems.mediamtx.notifications import TOPICS
from asynccam.systems.mediamtx.rpc import PostedCall
from asynccam.systems.mediamtx.service import ServiceMethods
from asynccam.systems.mediamtx.settings import credentials, endpoint
from asynccam.systems.mediamtx.state_cache import Roster
from asynccam.systems.mediamtx.stop_timers import TimedStops
from asynccam.wall_clock import WALL_CLOCK

CameraHandler = Callable[[CameraInfo], Awaitable[object] | object]
RecordingHandler = Callable[[RecordingInfo], Awaitable[object] | object]
LossHandler = Callable[[], Awaitable[object] | object]

_OPEN_TIMEOUT: Final = 5.0
"""Seconds at most for one try to open a connection.

TCP repeats its first segment after 1, 3 and 7 s: a try that is older than 5 s is slower than a new one.
"""
_PRESS: Final = 1.0
"""Seconds between two pushes of `CameraClient.pressing`."""
_PONG: Final = 3.0
"""Seconds a service that is silent has to answer a ping."""


class CameraClient(CameraMethods, FileMethods, ServiceMethods):
    """One MediaMTX Camera Service, over a connection that comes back by itself.

    What is None comes from the environment (``MEDIAMTX_HOST``, ``_PORT``, ``_USE_SSL``, ``_AUTH_TYPE``,
    ``_AUTH_TOKEN``, ``_API_KEY``, ``_HTTP_PORT``), then from the defaults ``localhost``, 8080, no TLS,
    ``jwt`` and 8003. The three
    ``on_...`` handlers may be set at any time and be functions or coroutine functions; what they raise is
    counted and logged, and never ends anything.

    Args:
        host: Name or address of the service.
        port: Of its WebSocket; services in the field listen on 8002.
        use_ssl: Whether to speak TLS.
        auth_type: ``jwt``, ``api_key`` or ``auto``; by default the one that a secret was given for.
        auth_token: The JWT, or an async callable that gives a valid one whenever the client signs in.
        api_key: The key for ``api_key``.
        max_retries: Tries of the first connection, all within ``timeout``; a lost one is tried again
            without end.
        retry_delay: Seconds before the second retry; each following wait is twice as long.
        max_retry_delay: Seconds no wait exceeds.
        path: Of the WebSocket.
        http_port: Of the file server.
        verify: Whether certificates are checked; False accepts whoever answers.
        timeout: Seconds that `connect` may take with all its tries, and a call that is given none of its own.
        stall_timeout: Seconds without a byte after which a download is given up.
        topics: What to be told of by a service of generation 2.
        quiet_limit: Seconds of silence after which the service counts as dead, or None.
        http: A session to fetch files with; never closed. By default one of our own.
        events: Where events go; never closed. By default a hub of our own, in `events`.

    Attributes:
        endpoint: Where the service is.
        on_camera_status_update: Called with a `CameraInfo` when the service tells of a camera.
        on_recording_status_update: Called with a `RecordingInfo` when it tells of a recording.
        on_connection_lost: Called when the connection is lost.
        environment: Whether credentials that are not given may come from the environment.

    Raises:
        UsageError: An argument, or the environment, makes no sense.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        use_ssl: bool | None = None,
        auth_type: str | None = None,
        auth_token: str | TokenProvider | None = None,
        api_key: str | None = None,
        max_retries: int = 3,
        retry_delay: float = 1.0,
        *,
        path: str = "/ws",
        http_port: int | None = None,
        verify: bool = True,
        timeout: float = 30.0,
        stall_timeout: float = 600.0,
        max_retry_delay: float = 30.0,
        topics: Sequence[str] = TOPICS,
        quiet_limit: float | None = None,
        http: aiohttp.ClientSession | None = None,
        events: EventHub | None = None,
        environment: bool = True,
    ) -> None:
        self.endpoint = endpoint(host, port, use_ssl, path, http_port)
        self.on_camera_status_update: CameraHandler | None = None
        self.on_recording_status_update: RecordingHandler | None = None
        self.on_connection_lost: LossHandler | None = None
        self._credentials = credentials(auth_type, auth_token, api_key, environment=environment)
        self._attempts = max(max_retries, 1)
        self._backoff = Backoff(
            initial=retry_delay, maximum=max(max_retry_delay, retry_delay), immediate=True
        )
        self._verify = verify
        self._timeout = timeout
        self._stall_timeout = stall_timeout
        self._quiet_limit = quiet_limit
        self._subscriptions: Subscriptions = dict.fromkeys(topics)
        self._roster = Roster(self.endpoint.address)
        self._timed = TimedStops(self._stop_when_connected)
        self._session = http
        self._http: HttpClient | None = None
        self._borrowed_hub = events
        self._hub = events or EventHub(str(self.endpoint.address))
        self._handlers: tuple[Subscription, ...] = ()
        self._connection: ServiceConnection | None = None
        self._pressing = 0  # blocks of `pressing`, each with one call at most

    def __repr__(self) -> str:
        return f"<CameraClient {self.endpoint.address} {self.state.value}>"

    # -- what is known without asking ---------------------------------------------------------------

    @property
    def bad_notifications(self) -> Counter[str]:
        """Notifications whose payload did not fit their topic, by method, since connecting."""
        return self._connected().bad_notifications

    def describe(self, device: str) -> model.CameraInfo:
        """A camera in the words all systems share; what the service has not told is left empty."""
        return self._roster.describe(self._roster.cameras.get(device) or CameraInfo(device=device))

    def camera_state(self, device: str, info: CameraInfo | None = None) -> CameraState:
        """What a camera does, in the words all systems share.

        Args:
            device: The camera.
            info: What was just answered about it, or None to go by what was last told.
        """
        return self._roster.state(device, info)

    def facts(self, device: str, info: CameraInfo | None = None) -> Mapping[str, str]:
        """What the service tells to know a camera by; empty if it tells nothing, or the camera is away.

        Args:
            device: The camera.
            info: What was just answered about it, or None to go by what was last told.
        """
        return self._roster.facts(info or self._roster.cameras.get(device))

    def recording(self, device: str) -> RecordingInfo | None:
        """A camera's present or last recording, as far as this client was told."""
        return self._roster.recordings.get(device)

    def note_recording(self, recording: RecordingInfo) -> None:
        """Take note of a recording learned of by `post` or `call`, and tell who listens."""
        self._learned(self._roster.recorded(recording))

    def note_lost_start(self, device: str) -> None:
        """Take note that the answer to a start was lost, so that the camera may record."""
        self._learned(self._roster.start_lost(device))

    def note_uptime(self, device: str, uptime: float) -> None:
        """Take note of how many seconds a camera has been served without a break, by an answer of now."""
        self._learned(self._roster.up_since(device, WALL_CLOCK.elapsed() - uptime))

    @property
    def calls_under_way(self) -> int:
        """Calls that have been sent on the present connection and have no answer yet."""
        link = None if self._connection is None else self._connection.rpc.reconnecting.connection
        return 0 if link is None else link.pending

    # -- the connection ---------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect and sign in; from then on the connection comes back whenever it is lost.

        All tries together take the client's ``timeout`` at most. A token that may only be too early for
        the service's clock is tried again for as long.

        Raises:
            AuthenticationError: The credentials, or the certificate, are refused.
            ConnectionError, TimeoutError: The service cannot be reached.
            RemoteProtocolError: What answers is no such service.
            StateError: Already connected.
        """
        tls = await client_context(verify=self._verify) if self.endpoint.secure else None
        if self._connection is not None:
            raise StateError(f"{self.endpoint.address} is connected already")
        # No step of a connection may take longer than a call: whoever allows 2 s is not to wait for 5.
        open_timeout = min(self._timeout, _OPEN_TIMEOUT)
        connection = self._connection = ServiceConnection(
            self.endpoint,
            self._credentials,
            self._roster,
            self._subscriptions,
            self._hub,
            WebSocketOptions(tls=tls, timeout=open_timeout, quiet_limit=self._quiet_limit),
            timeout=self._timeout,
            backoff=self._backoff,
        )
        self._handlers = (
            self._hub.subscribe(self._on_camera, CameraStatusUpdate),
            self._hub.subscribe(self._on_recording, RecordingStatusUpdate),
            self._hub.subscribe(self._on_state, ConnectionStateChanged),
        )
        try:
            await connection.start(self._attempts, self._timeout)
        except BaseException:
            await finish(self._release())
            raise

    async def disconnect(self) -> None:
        """Stop timed recordings that are still running, then close everything; harmless when called twice."""
        async with AsyncExitStack() as stack:  # each step is taken, whatever becomes of the one before
            stack.push_async_callback(self._release)
            await self._timed.aclose()

    async def __aenter__(self) -> "CameraClient":
        if self._connection is None:
            await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await finish(self.disconnect())

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return ConnectionState.CLOSED if self._connection is None else self._connection.rpc.state

    @property
    def generation(self) -> int:
        """The service's generation, 1 or 2, as found out at the last sign-in.

        Raises:
            StateError: Never connected.
        """
        return self._facts.generation

    @property
    def role(self) -> str:
        """The role the service gave us at the last sign-in, or ``""`` if it did not tell."""
        return self._facts.role

    @property
    def events(self) -> EventHub:
        """Events of `asynccam.systems.mediamtx.events` and `asynccam.model.events`.

        Unless it is borrowed, disconnecting ends it, and a new one takes its place.
        """
        return self._hub

    async def wait_until_connected(self, *, timeout: float | None = None) -> None:
        """Wait out a lost connection.

        Raises:
            ConnectionError: Not connected, and not about to be.
            AuthenticationError: The credentials are refused.
            TimeoutError: Not within ``timeout`` seconds.
        """
        live = self._connected().rpc.reconnecting
        if self._credentials.provided:  # it may have another token by now
            live.retry_authentication()
        state = await live.wait_for(
            ConnectionState.READY, ConnectionState.REFUSED, ConnectionState.CLOSED, timeout=timeout
        )
        if state is not ConnectionState.READY:
            await self.ping()  # raises why not

    def retry_now(self) -> None:
        """Try again now, because something says that the service is back."""
        if self._connection is not None:
            self._connection.rpc.reconnecting.retry_now()

    @contextmanager
    def pressing(self) -> Iterator[None]:
        """Find out in the block, within seconds, whether the service is there.

        A lost connection is tried again at once and every second, whatever its waits are. One that is silent
        for a second is pinged, and counts as lost without a pong within three seconds; not while another call
        is under way, which may hold up a service of generation 1.
        """
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle
        self._pressing += 1

        def push() -> None:
            nonlocal timer
            timer = loop.call_later(_PRESS, push)
            link = None if self._connection is None else self._connection.rpc.reconnecting.connection
            if link is None:
                self.retry_now()
            elif link.pending <= self._pressing:
                link.probe(_PONG)

        timer = loop.call_later(_PRESS, push)
        try:
            self.retry_now()
            yield
        finally:
            self._pressing -= 1
            timer.cancel()

    def set_credentials(
        self,
        *,
        auth_type: str | None = None,
        auth_token: str | TokenProvider | None = None,
        api_key: str | None = None,
    ) -> None:
        """Use other credentials from the next sign-in on; one that was refused is tried again at once.

        Raises:
            UsageError: No such ``auth_type``.
        """
        self._credentials.replace(credentials(auth_type, auth_token, api_key))
        if self._connection is not None:
            self._connection.rpc.reconnecting.retry_authentication()

    async def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        repeat: bool = False,
    ) -> Any:
        """Call any remote method, with or without a method of its own here.

        Args:
            method: The remote method.
            params: By name.
            timeout: Seconds for everything, or None for the client's own, which is longer while slow
                calls of this client hold up a service of generation 1.
            repeat: Whether the call changes nothing on the service. Only then it waits out a
                reconnect, and is sent again if the connection goes before its answer.

        Returns:
            The answer's ``result``: any JSON value.

        Raises:
            CameraServiceError: What the service's refusal means; `ConnectionError` is one of them.
            TimeoutError: No answer in time; ``maybe_executed`` says whether the request had left.
        """
        return await self._connected().caller.call(method, params, timeout=timeout, repeat=repeat)

    def post(self, method: str, params: dict[str, Any], *, timeout: float) -> PostedCall:
        """Send a call in place, for starts that must leave now.

        Raises:
            ConnectionError: Not connected at this moment; nothing was sent.
            UsageError: The parameters cannot be JSON.
        """
        return self._connected().caller.post(method, params, timeout=timeout)

    # -- inside -----------------------------------------------------------------------------------

    @property
    def _facts(self) -> LinkFacts:
        return self._connected().caller.facts

    def _connected(self) -> ServiceConnection:
        if self._connection is None:
            raise ConnectionError(f"not connected to {self.endpoint.address}; call connect() first")
        return self._connection

    def _learned(self, events: Iterable[Event]) -> None:
        for event in events:
            self._hub.emit(event)

    async def _http_client(self) -> HttpClient:
        if self._http is not None:
            return self._http
        unverified = self.endpoint.secure and not self._verify
        http = HttpClient(self._session, tls=await client_context(verify=False) if unverified else None)
        if self._http is None:  # nobody was faster while the context was built
            self._http = http
        return self._http

    async def _stop_when_connected(self, camera: str) -> None:
        await self.wait_until_connected()
        await self.stop_recording(camera)

    async def _release(self) -> None:
        connection, self._connection = self._connection, None
        http, self._http = self._http, None
        handlers, self._handlers = self._handlers, ()
        async with AsyncExitStack() as stack:
            if self._borrowed_hub is None:
                hub, self._hub = self._hub, EventHub(str(self.endpoint.address))
                stack.push_async_callback(hub.aclose)
            for handler in handlers:
                stack.callback(handler.cancel)
            if http is not None:
                stack.push_async_callback(http.aclose)
            if connection is not None:
                await connection.rpc.aclose()

    def _on_camera(self, event: CameraStatusUpdate) -> Awaitable[object] | object:
        handler = self.on_camera_status_update
        return handler(event.info) if handler is not None and self._is_ours(event.camera) else None

    def _on_recording(self, event: RecordingStatusUpdate) -> Awaitable[object] | object:
        handler = self.on_recording_status_update
        return handler(event.recording) if handler is not None and self._is_ours(event.camera) else None

    def _is_ours(self, camera: str) -> bool:
        """A borrowed hub may serve other services too."""
        return camera.startswith(f"{self.endpoint.address}/")

    def _on_state(self, event: ConnectionStateChanged) -> Awaitable[object] | object:
        handler = self.on_connection_lost
        lost = event.state is ConnectionState.LOST and event.service == str(self.endpoint.address)
        return handler() if handler is not None and lost else None
