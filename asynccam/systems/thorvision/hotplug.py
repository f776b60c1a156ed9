"""Cameras that come and go: the server's ``/ws``, kept open, and what it means.

The server replays nothing, so all cameras are fetched on every fresh connection; what was told
while they were being fetched is heard afterwards. See docs/protocols/thorvision.md.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from asynccam.errors import RemoteProtocolError
from asynccam.model.events import CameraChanged, Event, MissedEvents
from asynccam.model.info import CameraInfo
from asynccam.net.reconnecting import ConnectionState, ConnectionStateChanged, ReconnectingConnection
from asynccam.net.websocket import WebSocket, WebSocketOptions, open_websocket
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.systems.thorvision.events import (
    CameraAdded,
    CameraRemoved,
    ServerNotice,
)
from asynccam.systems.thorvision.models import ADDED, REMOVED, Camera, parse_hot_plug
from asynccam.wall_clock import WALL_CLOCK

_MAX_MESSAGE: Final = 1 << 20
_MAX_HELD: Final = 1000
_BATCH: Final = 32
"""Events that were held which are taken in one turn of the loop."""


def describe(server: str, camera: Camera) -> CameraInfo:
    """A camera in the words all systems share.

    Args:
        server: The server's address, ``thorvision://HOST:PORT``.
        camera: As the server tells of it.
    """
    place = f"{server}/{quote(camera.key, safe='')}"
    extra = {"server_id": camera.id, "capabilities": tuple(map(str, camera.caps))}
    return CameraInfo(
        id=place,
        system="thorvision",
        name=camera.name or camera.key,
        serial=camera.device_id or "",
        address=place,
        extra=MappingProxyType(extra | (camera.model_extra or {})),
        identity=camera.facts,
    )


class Roster:
    """The cameras of one server, by its numbers for them.

    Args:
        server: The server's address.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._cameras: dict[int, Camera] = {}

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Those that are there, as far as known."""
        return tuple(self._cameras.values())

    def added(self, camera: Camera) -> Iterator[Event]:
        """A camera was plugged in; a server says so twice at times, and the second time gives nothing."""
        known = self._cameras.get(camera.id)
        if known is not None and known.key != camera.key:
            yield from self.removed(camera.id)  # its number is another camera's now
            known = None
        self._cameras[camera.id] = camera
        info = describe(self._server, camera)
        if known is None:
            yield CameraAdded(camera=info.id, info=info, device=camera)
        elif known != camera:
            yield CameraChanged(camera=info.id, info=info)

    def removed(self, camera_id: int) -> Iterator[Event]:
        """A camera was unplugged; gives nothing for one nobody knew."""
        camera = self._cameras.pop(camera_id, None)
        if camera is not None:
            yield CameraRemoved(camera=describe(self._server, camera).id, device=camera)

    def listed(self, cameras: Iterable[Camera]) -> Iterator[Event]:
        """All cameras there are; gives what this changes."""
        before = _by_key(self.cameras)
        after = _by_key(cameras)
        self._cameras = {camera.id: camera for camera in after.values()}
        for key in before.keys() - after.keys():
            yield CameraRemoved(camera=describe(self._server, before[key]).id, device=before[key])
        for key, camera in after.items():
            info = describe(self._server, camera)
            if key not in before:
                yield CameraAdded(camera=info.id, info=info, device=camera)
            elif before[key] != camera:
                yield CameraChanged(camera=info.id, info=info)

    def gap(self, began: float, ended: float, cameras: Iterable[Camera]) -> Iterator[Event]:
        """All cameras there are after the connection was away; gives the gap, then what changed."""
        before = _by_key(self.cameras)
        after = _by_key(cameras)
        yield MissedEvents(
            camera=self._server,
            began=began,
            ended=ended,
            appeared=self._ids(after[key] for key in after.keys() - before.keys()),
            vanished=self._ids(before[key] for key in before.keys() - after.keys()),
            changed=self._ids(
                camera for key, camera in after.items() if key in before and before[key] != camera
            ),
        )
        yield from self.listed(after.values())

    def _ids(self, cameras: Iterable[Camera]) -> tuple[str, ...]:
        return tuple(sorted(describe(self._server, camera).id for camera in cameras))


class HotPlug:
    """Keeps ``/ws`` open and emits what happens.

    Args:
        server: The server's address, for events.
        url: ``ws://HOST:PORT/ws``.
        fetch: Gets all cameras.
        events: Where events go.
        timeout: Seconds that connecting and fetching may take each.
        backoff: Waits between tries.

    Attributes:
        live: The connection beneath.
        roster: The cameras, as far as known.
        garbage: Messages that nobody can read, counted.
    """

    def __init__(
        self,
        server: str,
        url: str,
        fetch: Callable[[], Awaitable[tuple[Camera, ...]]],
        events: EventHub,
        *,
        timeout: float,
        backoff: Backoff | None = None,
    ) -> None:
        self.roster = Roster(server)
        self.garbage = 0
        self._server = server
        self._url = url
        self._fetch = fetch
        self._events = events
        self._timeout = timeout
        self._held: deque[bytes] | None = None
        self.live: ReconnectingConnection[WebSocket] = ReconnectingConnection(
            server,
            self._open,
            self._catch_up,
            backoff=backoff,
            authentication_timeout=timeout,
            on_state=self._moved,
        )

    async def _open(self) -> WebSocket:
        self._held = deque()
        return await open_websocket(
            self._url,
            self._heard,
            WebSocketOptions(timeout=self._timeout, max_message=_MAX_MESSAGE, ping_interval=10.0),
            room=self._events.room,
        )

    async def _catch_up(self, link: WebSocket, gap: float | None) -> None:
        lost = None if gap is None else WALL_CLOCK.elapsed() - gap
        cameras = await self._fetch()
        now, elapsed = WALL_CLOCK.pair()
        if lost is None:
            self._tell(self.roster.listed(cameras))
        else:
            self._tell(self.roster.gap(now - (elapsed - lost), now, cameras))
        held = self._held or deque()
        for number in itertools.count(1):
            if not held:
                break
            self._take(held.popleft())
            if number % _BATCH == 0:
                await asyncio.sleep(0)  # what comes meanwhile is held behind the others
        self._held = None

    def _heard(self, message: bytes) -> None:
        if self._held is not None:
            if len(self._held) >= _MAX_HELD:  # ends the connection
                raise RemoteProtocolError(f"{self._server} sends events faster than it lists its cameras")
            self._held.append(message)
            return
        self._take(message)

    def _take(self, message: bytes) -> None:
        try:
            kind, what = parse_hot_plug(message, self._server)
        except RemoteProtocolError:
            self.garbage += 1
            return
        if kind == ADDED and isinstance(what, Camera):
            self._tell(self.roster.added(what))
        elif kind == REMOVED and isinstance(what, int):
            self._tell(self.roster.removed(what))
        else:
            self._events.emit(ServerNotice(server=self._server, event_type=kind))

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._events.emit(event)

    def _moved(self, state: ConnectionState, previous: ConnectionState, reason: str) -> None:
        self._events.emit(
            ConnectionStateChanged(service=self._server, state=state, previous=previous, reason=reason)
        )


def _by_key(cameras: Iterable[Camera]) -> Mapping[str, Camera]:
    return {camera.key: camera for camera in cameras}
