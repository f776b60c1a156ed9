"""``/api/v1/events``: events of the server as Server-Sent Events.

Every event has an id. A client that reconnects with ``Last-Event-ID`` gets the events it missed, or ``state``
if they are no longer kept. A client that does not read is disconnected; it never delays another.
"""

import asyncio
import json
import secrets
from collections import deque
from typing import Any, Final

from aiohttp import hdrs, web

from asynccam.errors import BusyError, TimeoutError
from asynccam.model.events import Event
from asynccam.runtime.event_hub import Subscription
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server import events
from asynccam.systems.snapshot.server.models import Phase
from asynccam.systems.snapshot.server.schemas import (
    CaptureDocument,
    ImuDocument,
    StateDocument,
    capture_state,
)
from asynccam.systems.snapshot.server.service import SnapshotService

HEARTBEAT: Final = 15.0
"""Seconds without an event after which a comment is sent."""
KEPT: Final = 1024
"""Events kept for clients that reconnect."""
QUEUE: Final = 256
"""Events that may wait for one client."""
MAX_STREAMS: Final = 256
_WRITE_TIMEOUT: Final = 10.0
_IMU_INTERVAL: Final = 0.5
_BEAT: Final = b": still here\n\n"
_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",
}


class EventFeed:
    """Event streams of a service; ``let_go`` counts clients disconnected because they were too slow."""

    def __init__(self, service: SnapshotService) -> None:
        self._service = service
        self._streams: set[_EventStream] = set()
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        # Part of each id: the numbers of an earlier run mean nothing in this one.
        self._run = secrets.token_hex(4)
        self._last_id = 0
        self._subscription: Subscription | None = None
        self._scope = TaskScope("snapshot-events")
        self._imu_sent: object = None
        self.let_go = 0

    def __len__(self) -> int:
        """Return the number of open streams."""
        return len(self._streams)

    def open(self) -> None:
        """Subscribe to the events."""
        self._subscription = self._service.events.subscribe(self._on_event)
        self._scope.spawn(self._watch_imu(), name="imu")

    def end_streams(self) -> None:
        """End every stream."""
        for stream in self._streams:
            stream.end()

    async def aclose(self) -> None:
        """Unsubscribe, and end every stream."""
        if self._subscription is not None:
            self._subscription.cancel()
        self.end_streams()
        await self._scope.aclose()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/events``."""
        if len(self._streams) >= MAX_STREAMS:
            raise BusyError("Too many event streams are open.")
        if request.method == hdrs.METH_HEAD:  # without a body: there is nothing to wait for
            return web.Response(headers=_HEADERS)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        stream = _EventStream(self, request.transport)
        self._streams.add(stream)
        try:
            stream.put(self._first_message(request.headers.get("Last-Event-ID", "")))
            while (data := await stream.next()) is not None:
                async with deadline(_WRITE_TIMEOUT, "reading by the client"):
                    await response.write(data)
        except (TimeoutError, ConnectionError):
            stream.abort()
        finally:
            self._streams.discard(stream)
        return response

    def _first_message(self, last: str) -> bytes:
        run, _, text = last.partition("-")
        if run == self._run and text.isascii() and text.isdecimal() and len(text) < 16:
            seen = int(text)
            oldest = self._kept[0][0] if self._kept else self._last_id + 1
            if oldest - 1 <= seen <= self._last_id:
                return b"".join(data for number, data in self._kept if number > seen) or _BEAT
        return self._encoded("state", self._state())

    def _state(self) -> str:
        return StateDocument.of(self._service).model_dump_json()

    def _encoded(self, kind: str, data: str) -> bytes:
        return f"id: {self._run}-{self._last_id}\nevent: {kind}\ndata: {data}\n\n".encode()

    def _send(self, kind: str, data: str) -> None:
        self._last_id += 1
        message = self._encoded(kind, data)
        self._kept.append((self._last_id, message))
        for stream in tuple(self._streams):
            stream.put(message)

    def _on_event(self, event: Event) -> None:
        match event:
            case events.CaptureEvent():
                self._send("capture", json.dumps(self._capture(event)))
            case events.SnapshotDeleted():
                deleted = {"filename": event.filename, "camera": event.camera, "reason": event.reason}
                self._send("deleted", json.dumps(deleted))
            case events.ConfigChanged():
                self._send("state", self._state())
            case events.ServiceTrouble():
                self._send("trouble", json.dumps({"service": event.service, "error": event.error}))
            case events.ServiceRestored():
                self._send("restored", json.dumps({"service": event.service}))
            case events.ImuChanged():
                self._send_imu()

    def _capture(self, event: events.CaptureEvent) -> dict[str, Any]:
        message: dict[str, Any] = {"camera": event.camera, "at": event.at, "error": None, "snapshot": None}
        match event:
            case events.CaptureQueued():
                phase = Phase.WAITING
            case events.CaptureStarted():
                phase = Phase.CAPTURING
            case events.CaptureDone(shot=shot):
                # Another capture of the same camera may be running by now.
                phase = capture_state(self._service, event.camera).phase
                message["snapshot"] = CaptureDocument.model_validate(shot).model_dump(mode="json")
            case events.CaptureFailed(error=error):
                phase = Phase.FAILED
                message["error"] = error
            case _:
                phase = capture_state(self._service, event.camera).phase
        return message | {"phase": phase.value}

    async def _watch_imu(self) -> None:
        """Send the newest reading twice a second to clients that keep up."""
        while True:
            await asyncio.sleep(_IMU_INTERVAL)
            feed = self._service.imu
            if self._streams and feed is not None:
                seen = (feed.newest, feed.reading() is not None)
                if seen != self._imu_sent:
                    self._imu_sent = seen
                    self._send_imu()

    def _send_imu(self) -> None:
        # Only the newest reading counts: it has no id and is not kept.
        imu = ImuDocument.of(self._service)
        if imu is not None:
            message = f"event: imu\ndata: {imu.model_dump_json()}\n\n".encode()
            for stream in tuple(self._streams):
                if not stream.behind:
                    stream.put(message)


class _EventStream:
    """Queue of one client."""

    def __init__(self, feed: EventFeed, transport: asyncio.Transport | None) -> None:
        self._feed = feed
        self._transport = transport
        self._queue: deque[bytes] = deque()
        self._ready = asyncio.Event()
        self._ended = False

    @property
    def behind(self) -> bool:
        """True if messages wait to be sent."""
        return bool(self._queue)

    def put(self, data: bytes) -> None:
        """Queue a message; end the stream if there are too many."""
        if self._ended:
            return
        if len(self._queue) >= QUEUE:
            self._feed.let_go += 1
            self.end()
            self.abort()
            return
        self._queue.append(data)
        self._ready.set()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def end(self) -> None:
        """End the stream."""
        self._ended = True
        self._queue.clear()
        self._ready.set()

    async def next(self) -> bytes | None:
        """Return the queued messages, a comment after `HEARTBEAT` seconds, or None at the end."""
        try:
            async with deadline(HEARTBEAT, "event"):
                await self._ready.wait()
        except TimeoutError:
            return _BEAT
        if self._ended:
            return None
        self._ready.clear()
        data = b"".join(self._queue)
        self._queue.clear()
        return data
