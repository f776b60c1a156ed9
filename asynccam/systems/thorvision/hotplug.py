"""Hot-plug events: the server's ``/ws``, kept open, turned into events.

The server replays nothing, so all cameras are fetched on every fresh connection; messages that arrive
during the fetch are handled after it. See docs/protocols/thorvision.md.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from asynccam.errors import RemoteProtocolError
from asynccam.model.events import CameraChanged, CameraEvent, Event, MissedEvents
from asynccam.model.info import CameraInfo
from asynccam.net.reconnecting import ConnectionState, ConnectionStateChanged, ReconnectingConnection
from asynccam.net.websocket import WebSocket, WebSocketOptions, open_websocket
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.systems.thorvision.api import ServerApi
from asynccam.systems.thorvision.events import CameraAdded, CameraRemoved, ServerNotice
from asynccam.systems.thorvision.models import ADDED, REMOVED, Camera, parse_hot_plug
from asynccam.wall_clock import WALL_CLOCK

_MAX_MESSAGE: Final = 1 << 20
_MAX_HELD: Final = 1000
_BATCH: Final = 32
"""Held messages handled in one turn of the loop."""


def describe(server: str, camera: Camera) -> CameraInfo:
    """Return the `CameraInfo` of a camera at ``server``, which is ``thorvision://HOST:PORT``."""
    address = f"{server}/{quote(camera.key, safe='')}"
    extra = {"server_id": camera.id, "capabilities": tuple(map(str, camera.caps))}
    return CameraInfo(
        id=address,
        system="thorvision",
        name=camera.name or camera.key,
        serial=camera.device_id or "",
        address=address,
        extra=MappingProxyType(extra | (camera.model_extra or {})),
        identity=camera.facts,
    )


class KnownCameras:
    """Cameras of one server by their id there; each change yields the events for it."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._cameras: dict[int, Camera] = {}

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Return the cameras that are plugged in, as far as known."""
        return tuple(self._cameras.values())

    def add(self, camera: Camera) -> Iterator[Event]:
        """Add a camera that was plugged in; servers may report one twice, and the second yields nothing."""
        known = self._cameras.get(camera.id)
        if known is not None and known.key != camera.key:
            yield from self.remove(camera.id)  # its id is another camera's now
            known = None
        self._cameras[camera.id] = camera
        yield from self._difference(known, camera)

    def remove(self, camera_id: int) -> Iterator[Event]:
        """Remove a camera that was unplugged; yields nothing for an unknown one."""
        yield from self._difference(self._cameras.pop(camera_id, None), None)

    def replace(self, cameras: Iterable[Camera]) -> Iterator[Event]:
        """Take over the server's complete list of cameras."""
        before, after = _by_key(self.cameras), _by_key(cameras)
        self._cameras = {camera.id: camera for camera in after.values()}
        for key in before.keys() - after.keys():
            yield from self._difference(before[key], None)
        for key, camera in after.items():
            yield from self._difference(before.get(key), camera)

    def replace_after_loss(self, began: float, ended: float, cameras: Iterable[Camera]) -> Iterator[Event]:
        """Do the same after a loss of the connection; yields a `MissedEvents` first."""
        events = tuple(self.replace(cameras))

        def ids(kind: type[CameraEvent]) -> tuple[str, ...]:
            return tuple(sorted(event.camera for event in events if isinstance(event, kind)))

        yield MissedEvents(
            camera=self._server,
            began=began,
            ended=ended,
            appeared=ids(CameraAdded),
            vanished=ids(CameraRemoved),
            changed=ids(CameraChanged),
        )
        yield from events

    def _difference(self, before: Camera | None, after: Camera | None) -> Iterator[Event]:
        if after is None:
            if before is not None:
                yield CameraRemoved(camera=describe(self._server, before).id, device=before)
            return
        info = describe(self._server, after)
        if before is None:
            yield CameraAdded(camera=info.id, info=info, device=after)
        elif before != after:
            yield CameraChanged(camera=info.id, info=info)


def _by_key(cameras: Iterable[Camera]) -> dict[str, Camera]:
    return {camera.key: camera for camera in cameras}


class HotPlugWatcher:
    """Keeps a ``connection`` to ``/ws`` open and emits hot-plug events of the ``known`` cameras."""

    def __init__(
        self,
        server: str,
        api: ServerApi,
        events: EventHub,
        *,
        timeout: float,
        backoff: Backoff | None,
    ) -> None:
        self.known = KnownCameras(server)
        self._server = server
        self._api = api
        self._events = events
        self._timeout = timeout
        self._held: deque[bytes] | None = None
        self.connection: ReconnectingConnection[WebSocket] = ReconnectingConnection(
            server,
            self._open,
            self._catch_up,
            backoff=backoff,
            authentication_timeout=timeout,
            on_state=self._state_changed,
        )

    async def _open(self) -> WebSocket:
        self._held = deque()
        return await open_websocket(
            self._api.events_url,
            self._message_received,
            WebSocketOptions(timeout=self._timeout, max_message=_MAX_MESSAGE, ping_interval=10.0),
            room=self._events.room,
        )

    async def _catch_up(self, link: WebSocket, gap: float | None) -> None:
        """Fetch all cameras, then handle the messages that arrived meanwhile."""
        lost = None if gap is None else WALL_CLOCK.elapsed() - gap
        cameras = await self._api.cameras()
        # The held messages may repeat what the list has already; `KnownCameras` makes no event of that.
        now, elapsed = WALL_CLOCK.pair()
        if lost is None:
            self._emit(self.known.replace(cameras))
        else:
            self._emit(self.known.replace_after_loss(now - (elapsed - lost), now, cameras))
        held = self._held or deque()
        for count in itertools.count(1):
            if not held:
                break
            self._handle(held.popleft())
            if count % _BATCH == 0:
                await asyncio.sleep(0)  # messages that arrive meanwhile are held behind the others
        self._held = None

    def _message_received(self, message: bytes) -> None:
        if self._held is None:
            self._handle(message)
        elif len(self._held) >= _MAX_HELD:  # ends the connection
            raise RemoteProtocolError(f"{self._server} sends events faster than it lists its cameras")
        else:
            self._held.append(message)

    def _handle(self, message: bytes) -> None:
        try:
            kind, subject = parse_hot_plug(message, self._server)
        except RemoteProtocolError:
            return  # what it cannot say is in the next complete list
        if kind == ADDED and isinstance(subject, Camera):
            self._emit(self.known.add(subject))
        elif kind == REMOVED and isinstance(subject, int):
            self._emit(self.known.remove(subject))
        else:
            self._events.emit(ServerNotice(server=self._server, event_type=kind))

    def _emit(self, events: Iterable[Event]) -> None:
        for event in events:
            self._events.emit(event)

    def _state_changed(self, state: ConnectionState, previous: ConnectionState, reason: str) -> None:
        self._events.emit(
            ConnectionStateChanged(service=self._server, state=state, previous=previous, reason=reason)
        )
