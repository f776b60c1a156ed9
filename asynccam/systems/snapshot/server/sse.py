"""``/api/v1/events``: what happens, as Server-Sent Events.

Every event has an id. A client that comes back with ``Last-Event-ID`` gets what it missed, or, when that is
no longer known, a fresh ``state``. A client that does not read is let go; it never holds up another.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiohttp import hdrs, web

from asynccam.errors import TimeoutError
from asynccam.model.events import Event
from asynccam.runtime.event_hub import Subscription
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server import events
from asynccam.systems.snapshot.server.answers import problem
from asynccam.systems.snapshot.server.models import Phase
from asynccam.systems.snapshot.server.names import parse_name
from asynccam.systems.snapshot.server.schemas import CaptureDocument
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.state import capture_state, imu_document, state_document

HEARTBEAT: Final = 15.0
"""Seconds after which a silent stream says that it is alive."""
KEPT: Final = 1024
"""Events that are kept for clients that come back."""
QUEUE: Final = 256
"""Events a client may be behind."""
MAX_STREAMS: Final = 256
_WRITE_SECONDS: Final = 10.0
_IMU_SECONDS: Final = 0.5
_BEAT: Final = b": still here\n\n"
_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",
}


class EventFeed:
    """Turns the service's events into streams.

    Args:
        service: Whose events.
        heartbeat: Seconds after which a silent stream says that it is alive.
        queue: Events a client may be behind.
        kept: Events that are kept for clients that come back.

    Attributes:
        let_go: Clients that were too slow.
    """

    def __init__(
        self, service: SnapshotService, *, heartbeat: float = HEARTBEAT, queue: int = QUEUE, kept: int = KEPT
    ) -> None:
        self._service = service
        self._heartbeat = heartbeat
        self._queue = queue
        self._readers: set[_Reader] = set()
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=kept)
        # A number of an earlier run means nothing in this one.
        self._run = secrets.token_hex(4)
        self._number = 0
        self._subscription: Subscription | None = None
        self._scope = TaskScope("snapshot-events")
        self._imu_sent: object = None
        self.let_go = 0

    def __len__(self) -> int:
        """Streams that are open."""
        return len(self._readers)

    def open(self) -> None:
        """Begin to listen."""
        self._subscription = self._service.events.subscribe(self._on_event)
        self._scope.spawn(self._watch_imu(), name="imu")

    def end_streams(self) -> None:
        """Let every stream come to its end."""
        for reader in self._readers:
            reader.end()

    async def aclose(self) -> None:
        """Stop listening."""
        if self._subscription is not None:
            self._subscription.cancel()
        self.end_streams()
        await self._scope.aclose()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/events``."""
        if len(self._readers) >= MAX_STREAMS:
            return problem(503, "busy", "Too many event streams are open.")
        if request.method == hdrs.METH_HEAD:  # which has no body, so nothing to wait for
            return web.Response(headers=_HEADERS)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        with self._reading(request) as reader:
            reader.put(self._beginning(request.headers.get("Last-Event-ID", "")))
            while (data := await reader.next(self._heartbeat)) is not None:
                try:
                    async with deadline(_WRITE_SECONDS, "reading by the client"):
                        await response.write(data)
                except (TimeoutError, ConnectionError):
                    reader.abort()
                    break
        return response

    # -- within ---------------------------------------------------------------------------------

    def _reading(self, request: web.Request) -> "_Reader":
        transport = request.transport

        def abort() -> None:
            if transport is not None:
                transport.abort()

        return _Reader(self._readers, self._queue, abort, self._on_slow)

    def _on_slow(self) -> None:
        self.let_go += 1

    def _beginning(self, last: str) -> bytes:
        run, _, text = last.partition("-")
        if run == self._run and text.isascii() and text.isdecimal() and len(text) < 16:
            seen = int(text)
            oldest = self._kept[0][0] if self._kept else self._number + 1
            if oldest - 1 <= seen <= self._number:
                return b"".join(data for number, data in self._kept if number > seen) or _BEAT
        return self._encoded("state", state_document(self._service).model_dump_json())

    def _encoded(self, kind: str, data: str) -> bytes:
        return f"id: {self._run}-{self._number}\nevent: {kind}\ndata: {data}\n\n".encode()

    def _tell(self, kind: str, data: str) -> None:
        self._number += 1
        message = self._encoded(kind, data)
        self._kept.append((self._number, message))
        for reader in tuple(self._readers):
            reader.put(message)

    def _on_event(self, event: Event) -> None:
        match event:
            case events.CaptureEvent():
                self._tell("capture", json.dumps(self._capture(event)))
            case events.SnapshotDeleted():
                told = {"filename": event.filename, "camera": event.camera, "reason": event.reason}
                self._tell("deleted", json.dumps(told))
            case events.ConfigChanged():
                self._tell("state", state_document(self._service).model_dump_json())
            case events.ServiceTrouble():
                self._tell("trouble", json.dumps({"service": event.service, "error": event.error}))
            case events.ServiceRestored():
                self._tell("restored", json.dumps({"service": event.service}))
            case events.ImuChanged():
                self._tell_imu()

    def _capture(self, event: events.CaptureEvent) -> dict[str, Any]:
        told: dict[str, Any] = {"camera": event.camera, "at": event.at, "error": None, "snapshot": None}
        match event:
            case events.CaptureQueued():
                phase = Phase.WAITING
            case events.CaptureStarted():
                phase = Phase.CAPTURING
            case events.CaptureDone(shot=shot):
                # Another capture of the same camera may be running by now.
                phase = capture_state(self._service, event.camera).phase
                name = parse_name(shot.filename)
                document = CaptureDocument.taken(shot, name.prefix if name is not None else "")
                told["snapshot"] = document.model_dump(mode="json")
            case events.CaptureFailed(error=error):
                phase = Phase.FAILED
                told["error"] = error
            case _:
                phase = capture_state(self._service, event.camera).phase
        return told | {"phase": phase.value}

    async def _watch_imu(self) -> None:
        """Tell the newest reading twice a second, to those who keep up."""
        while True:
            await asyncio.sleep(_IMU_SECONDS)
            feed = self._service.imu
            if self._readers and feed is not None:
                seen = (feed.newest, feed.reading() is not None)
                if seen != self._imu_sent:
                    self._imu_sent = seen
                    self._tell_imu()

    def _tell_imu(self) -> None:
        # Only the newest counts, so it has no id and is not kept.
        imu = imu_document(self._service)
        if imu is not None:
            message = f"event: imu\ndata: {imu.model_dump_json()}\n\n".encode()
            for reader in tuple(self._readers):
                if not reader.behind:
                    reader.put(message)


class _Reader:
    """One client's queue; a context manager."""

    def __init__(
        self, readers: "set[_Reader]", limit: int, abort: Callable[[], None], on_slow: Callable[[], None]
    ) -> None:
        self._readers = readers
        self._limit = limit
        self._on_slow = on_slow
        self._queue: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._ended = False
        self.abort = abort

    def __enter__(self) -> "_Reader":
        self._readers.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.discard(self)

    @property
    def behind(self) -> bool:
        """Whether something waits to be read."""
        return bool(self._queue)

    def put(self, data: bytes) -> None:
        """Queue a message; one too many ends the stream."""
        if self._ended:
            return
        if len(self._queue) >= self._limit:
            self._on_slow()
            self.end()
            self.abort()
            return
        self._queue.append(data)
        self._news.set()

    def end(self) -> None:
        """No more messages."""
        self._ended = True
        self._queue.clear()
        self._news.set()

    async def next(self, heartbeat: float) -> bytes | None:
        """What waits to be read, a sign of life after ``heartbeat`` seconds, or None at the end."""
        try:
            async with deadline(heartbeat, "news"):
                await self._news.wait()
        except TimeoutError:
            return _BEAT
        if self._ended:
            return None
        self._news.clear()
        data = b"".join(self._queue)
        self._queue.clear()
        return data
