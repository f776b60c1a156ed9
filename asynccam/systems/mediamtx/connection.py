"""The connection to one service: what is done on every fresh link, and what becomes of notifications.

On every fresh link the client signs in, asks for the generation (the service may have been
replaced), subscribes again and fetches the cameras; after a loss the difference goes into a `Gap`.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from asynccam.errors import AsynccamError, RemoteProtocolError
from asynccam.model.events import Event
from asynccam.net.jsonrpc import JsonRpcClient, JsonRpcConnection, RpcError
from asynccam.net.reconnecting import ConnectionState, ConnectionStateChanged
from asynccam.net.websocket import WebSocketOptions
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.systems.mediamtx.auth import ask, sign_in, translated
from asynccam.systems.mediamtx.events import (
    CameraStatusUpdate,
    RecordingStatusUpdate,
    ServiceNotice,
)
from asynccam.systems.mediamtx.models import CameraInfo, CameraList, RecordingInfo
from asynccam.systems.mediamtx.notifications import read_notice
from asynccam.systems.mediamtx.rpc import Caller
from asynccam.systems.mediamtx.settings import Credentials, Endpoint
from asynccam.systems.mediamtx.state_cache import Roster
from asynccam.wall_clock import WALL_CLOCK

_LOG = logging.getLogger(__name__)

Subscriptions = dict[str, dict[str, Any] | None]
"""Topic -> filters."""


class ServiceConnection:
    """A connection that is kept alive, and what is known through it.

    Args:
        endpoint: Where the service is.
        credentials: What to sign in with.
        roster: What is known of the cameras; kept from one connection to the next.
        subscriptions: What to subscribe to on every fresh link; may change at any time.
        hub: Where events go.
        options: Settings of the WebSocket.
        timeout: Seconds a call may take.
        backoff: Waits between tries.

    Attributes:
        rpc: The calls below.
        caller: Calls with the service's ways known.
        bad_notifications: Notifications whose payload did not fit, by topic.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        roster: Roster,
        subscriptions: Subscriptions,
        hub: EventHub,
        options: WebSocketOptions,
        *,
        timeout: float,
        backoff: Backoff,
    ) -> None:
        self.bad_notifications: Counter[str] = Counter()
        self._service = str(endpoint.address)
        self._credentials = credentials
        self._roster = roster
        self._subscriptions = subscriptions
        self._hub = hub
        self.rpc = JsonRpcClient(
            endpoint.url,
            options,
            authenticate=self._sign_in,
            on_notification=self._noticed,
            on_state=self._moved,
            room=hub.room,
            backoff=backoff,
            authentication_timeout=timeout,
        )
        self.caller = Caller(self.rpc, credentials, timeout)

    async def start(self, attempts: int, timeout: float) -> None:
        """Connect in ``timeout`` seconds; raises what the last try failed with, in the client's own words."""
        try:
            await self.rpc.start(attempts=attempts, timeout=timeout)
        except AsynccamError as error:
            problem = translated(error, 2, None)
            if problem is error:
                raise
            raise problem from error

    def emit(self, events: Iterable[Event]) -> None:
        """Hand events over to whoever listens."""
        for event in events:
            self._hub.emit(event)

    # -- hooks of the connection ------------------------------------------------------------------

    async def _sign_in(self, link: JsonRpcConnection, gap: float | None) -> None:
        lost = None if gap is None else WALL_CLOCK.elapsed() - gap
        facts = await sign_in(link, self._credentials)
        self.caller.facts = facts
        if facts.generation == 2 and self._subscriptions:
            try:
                await self._subscribe(link)
            except RpcError as refusal:
                _LOG.warning("%s does not send events: %s", self._service, refusal)
        cameras = await self._cameras(link)
        if lost is None:
            self.emit(self._roster.listed(cameras))
        else:
            now, elapsed = WALL_CLOCK.pair()
            self.emit(self._roster.gap(now - (elapsed - lost), now, cameras))

    async def _subscribe(self, link: JsonRpcConnection) -> None:
        groups: list[tuple[dict[str, Any] | None, list[str]]] = []
        for topic, filters in self._subscriptions.items():
            topics = next((topics for known, topics in groups if known == filters), None)
            if topics is None:
                groups.append((filters, [topic]))
            else:
                topics.append(topic)
        for filters, topics in groups:
            params: dict[str, Any] = {"topics": topics}
            if filters is not None:
                params["filters"] = filters
            await ask(link, self.caller.facts, "subscribe_events", params)

    async def _cameras(self, link: JsonRpcConnection) -> Sequence[CameraInfo]:
        """All cameras; those known already if this service does not tell."""
        try:
            value = await ask(link, self.caller.facts, "get_camera_list")
            return CameraList.read(value, method="get_camera_list").cameras
        except (RpcError, RemoteProtocolError) as error:
            _LOG.warning("%s does not tell its cameras: %s", self._service, error)
            return tuple(self._roster.cameras.values())

    def _noticed(self, method: str, params: Any) -> None:
        try:
            topic, payload, told = read_notice(method, params)
        except RemoteProtocolError:
            self.bad_notifications[method] += 1
            topic, payload, told = method, params, None
        if isinstance(told, CameraInfo):
            self.emit(self._roster.told(told))
            known = self._roster.cameras.get(told.device, told)
            self._hub.emit(CameraStatusUpdate(camera=self._roster.camera_id(told.device), info=known))
        elif isinstance(told, RecordingInfo):
            self.emit(self._roster.recorded(told))
            told = self._roster.identified(told)
            self._hub.emit(RecordingStatusUpdate(camera=self._roster.camera_id(told.device), recording=told))
        else:
            self._hub.emit(ServiceNotice(service=self._service, topic=topic, data=payload))

    def _moved(self, state: ConnectionState, previous: ConnectionState, reason: str) -> None:
        self._hub.emit(
            ConnectionStateChanged(service=self._service, state=state, previous=previous, reason=reason)
        )
