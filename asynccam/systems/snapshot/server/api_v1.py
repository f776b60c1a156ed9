"""``/api/v1/``: cameras, settings, captures, pictures and events, described by its own OpenAPI document."""

import asyncio
import json
import secrets
from collections import deque
from typing import Any, Final

from aiohttp import hdrs, web
from pydantic import ValidationError

from asynccam.errors import BusyError, TimeoutError, UsageError
from asynccam.model.events import Event
from asynccam.runtime.event_hub import Subscription
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server import events, json_position, schemas
from asynccam.systems.snapshot.server.middleware import BODY_TIMEOUT, HEALTH, RequestError
from asynccam.systems.snapshot.server.models import VERSION, Phase, Problem
from asynccam.systems.snapshot.server.openapi import (
    Operation,
    ResponseSpec,
    openapi_document,
    operation,
    operations_of,
)
from asynccam.systems.snapshot.server.schemas import json_response
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import CameraConfig

_PAGE_SIZE: Final = 50
_MAX_DIGITS: Final = 9
_JPEG: Final = "image/jpeg"
_BODY_ERRORS: Final = {
    400: "The body is not a JSON object.",
    413: "The body is too large.",
    415: "The body is not announced as JSON.",
    422: "A field is invalid; problems says which.",
}
"""Possible errors of a body."""
_SAVE_ERRORS: Final = {
    **_BODY_ERRORS,
    409: "config.json is invalid at the moment and must be fixed first.",
    507: "The disk refuses.",
}
"""Possible errors of a body that is saved."""
_BUSY: Final = {409: "The server is being shut down.", 503: "Too many captures wait already."}
_NO_CAMERA: Final = {404: "There is no such camera."}
_NO_PICTURE: Final = {404: "There is no such picture."}
_DISK: Final = {507: "The disk refuses."}
_CHECK_ERRORS: Final = {status: _BODY_ERRORS[status] for status in (400, 413, 415)}
_CAPTURE_ERRORS: Final = {502: "There is no picture, and why.", 504: "It took too long.", **_DISK}
_DELETED: Final = {204: ResponseSpec("It was deleted.")}
_FOUND: Final = {200: ResponseSpec("The problems found.", schemas.CheckOutcome)}


def _parameter(kind: str, description: str, **limits: int) -> dict[str, Any]:
    return {"type": kind, **limits, "description": description}


_INSTEAD_OF: Final = {"instead_of": _parameter("string", "The camera that is being changed.")}
_PAGE_QUERY: Final = {
    "limit": _parameter("integer", "Maximum number.", minimum=1, maximum=1000, default=_PAGE_SIZE),
    "after": _parameter("string", "The next of the previous page."),
    "camera": _parameter("string", "Only pictures of this camera."),
}
_SIDE: Final = {"side": _parameter("integer", "Pixels of its longest side.", minimum=16, maximum=1024)}


class ApiV1:
    """The operations under ``/api/v1/``, and ``/healthz``."""

    def __init__(self, service: SnapshotService, feed: "EventFeed") -> None:
        self._service = service
        self._feed = feed
        self._document = b""

    def routes(self) -> list[web.RouteDef]:
        """Return every operation, and the document that describes them."""
        return [
            *(operation.route() for operation in self.operations()),
            web.get("/api/v1/openapi.json", self.openapi),
        ]

    def operations(self) -> tuple[Operation, ...]:
        """Return every operation."""
        return operations_of(self)

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """Return the OpenAPI document."""
        if not self._document:
            document = openapi_document(self.operations(), version=VERSION)
            self._document = json.dumps(document).encode()
        return json_response(self._document)

    @operation(
        f"GET {HEALTH}", "health", {200: ResponseSpec("It is running.", schemas.HealthDocument)}, open=True
    )
    async def health(self, request: web.Request) -> web.StreamResponse:
        """Check that the server is running."""
        return json_response(schemas.HealthDocument())

    @operation("GET /api/v1/state", "state", schemas.StateDocument)
    async def state(self, request: web.Request) -> web.StreamResponse:
        """Everything the page shows."""
        return json_response(schemas.StateDocument.of(self._service))

    @operation(
        "GET /api/v1/events",
        "streamEvents",
        {200: ResponseSpec("The stream.", None, "text/event-stream")},
        errors={503: "Too many streams are open."},
    )
    async def events(self, request: web.Request) -> web.StreamResponse:
        """Events as Server-Sent Events: state, capture, deleted, imu, trouble, restored."""
        return await self._feed.stream(request)

    # -- cameras --------------------------------------------------------------------------------

    @operation("GET /api/v1/cameras", "listCameras", schemas.CameraListDocument)
    async def cameras(self, request: web.Request) -> web.StreamResponse:
        """Every camera."""
        return json_response(schemas.CameraListDocument.of(self._service))

    @operation("GET /api/v1/cameras/{name}", "getCamera", schemas.CameraDocument, errors=_NO_CAMERA)
    async def camera(self, request: web.Request) -> web.StreamResponse:
        """One camera."""
        return self._camera_response(request.match_info["name"])

    @operation(
        "POST /api/v1/cameras",
        "addCamera",
        {201: ResponseSpec("The camera was added.", schemas.CameraDocument)},
        body=CameraConfig,
        errors=_SAVE_ERRORS,
    )
    async def add(self, request: web.Request) -> web.StreamResponse:
        """Add a camera."""
        fields = await _camera_fields(request)
        _refuse_invalid(self._service.config.check_camera(fields))
        camera = await self._service.config.add_camera(fields)
        return self._camera_response(camera.name, status=201)

    @operation(
        "PATCH /api/v1/cameras/{name}",
        "changeCamera",
        {200: ResponseSpec("The camera as it is now.", schemas.CameraDocument)},
        body=CameraConfig,
        partial=True,
        errors=_SAVE_ERRORS | _NO_CAMERA,
    )
    async def change(self, request: web.Request) -> web.StreamResponse:
        """Change fields of a camera; those left out stay."""
        name = request.match_info["name"]
        fields = await _camera_fields(request)
        before = self._service.config.camera(name).entry()
        _refuse_invalid(self._service.config.check_camera({**before, **fields}, instead_of=name))
        camera = await self._service.config.replace_camera(name, fields)
        return self._camera_response(camera.name)

    @operation(
        "DELETE /api/v1/cameras/{name}",
        "deleteCamera",
        _DELETED,
        errors=_NO_CAMERA | {status: _SAVE_ERRORS[status] for status in (409, 507)},
    )
    async def remove(self, request: web.Request) -> web.StreamResponse:
        """Delete a camera; its pictures stay."""
        await self._service.config.delete_camera(request.match_info["name"])
        return web.Response(status=204)

    @operation(
        "POST /api/v1/camera-check",
        "checkCamera",
        _FOUND,
        body=CameraConfig,
        partial=True,
        query=_INSTEAD_OF,
        errors=_CHECK_ERRORS,
    )
    async def check(self, request: web.Request) -> web.StreamResponse:
        """Check a camera's fields without saving them."""
        fields, instead_of = await _camera_fields(request), request.query.get("instead_of")
        return _check_response(self._service.config.check_camera(fields, instead_of=instead_of))

    # -- settings -------------------------------------------------------------------------------

    @operation(
        "GET /api/v1/settings",
        "getSettings",
        {200: ResponseSpec("The settings in force.", schemas.SettingsDocument)},
    )
    async def settings(self, request: web.Request) -> web.StreamResponse:
        """Retention, limits and the IMU."""
        return json_response(schemas.SettingsDocument.of(self._service.config.current))

    @operation(
        "PATCH /api/v1/settings",
        "changeSettings",
        {200: ResponseSpec("The settings as they are now.", schemas.SettingsDocument)},
        body=schemas.SettingsChange,
        errors=_SAVE_ERRORS,
    )
    async def change_settings(self, request: web.Request) -> web.StreamResponse:
        """Change settings; those left out stay, null restores the default."""
        changes = await _json_object(request)
        _refuse_invalid(self._service.config.check_settings(changes))
        await self._service.config.change_settings(changes)
        return await self.settings(request)

    @operation(
        "POST /api/v1/settings-check",
        "checkSettings",
        _FOUND,
        body=schemas.SettingsChange,
        errors=_CHECK_ERRORS,
    )
    async def check_settings(self, request: web.Request) -> web.StreamResponse:
        """Check a change of settings without saving it."""
        return _check_response(self._service.config.check_settings(await _json_object(request)))

    # -- captures -------------------------------------------------------------------------------

    @operation(
        "POST /api/v1/cameras/{name}/captures",
        "capture",
        {201: ResponseSpec("The picture.", schemas.CaptureDocument)},
        errors=_NO_CAMERA | _BUSY | _CAPTURE_ERRORS,
    )
    async def capture(self, request: web.Request) -> web.StreamResponse:
        """Take a picture with one camera."""
        shot = await self._service.capture(request.match_info["name"])
        return json_response(schemas.CaptureDocument.model_validate(shot), status=201)

    @operation(
        "POST /api/v1/captures",
        "captureGroup",
        {200: ResponseSpec("The result of each camera; some may have failed.", schemas.CaptureResults)},
        body=schemas.CaptureOrder,
        errors=_BODY_ERRORS | _BUSY | {404: "There is no such camera at all."},
    )
    async def capture_group(self, request: web.Request) -> web.StreamResponse:
        """Take a picture with all cameras, or with the stereo pair."""
        try:
            order = schemas.CaptureOrder.model_validate(await _json_object(request))
        except ValidationError as error:
            flaws = error.errors()
            problems = tuple(Problem(flaw["msg"], ".".join(map(str, flaw["loc"]))) for flaw in flaws)
            raise _invalid(problems) from None
        service = self._service
        results = await (service.capture_all() if order.group == "all" else service.capture_stereo())
        if not results:
            which = "is configured" if order.group == "all" else "is marked stereo"
            raise RequestError(404, "no_cameras", f"No camera {which}.")
        return json_response(schemas.CaptureResults.of(results))

    # -- pictures -------------------------------------------------------------------------------

    @operation(
        "GET /api/v1/snapshots",
        "listSnapshots",
        schemas.SnapshotPage,
        query=_PAGE_QUERY,
        errors={422: "A parameter is out of range."},
    )
    async def snapshots(self, request: web.Request) -> web.StreamResponse:
        """Pictures, newest first."""
        page = self._service.store.page(
            limit=_whole_number(request, "limit", _PAGE_SIZE),
            after=request.query.get("after") or None,
            camera=request.query.get("camera"),
        )
        return json_response(schemas.SnapshotPage.model_validate(page))

    @operation("DELETE /api/v1/snapshots/{filename}", "deleteSnapshot", _DELETED, errors=_NO_PICTURE | _DISK)
    async def delete_snapshot(self, request: web.Request) -> web.StreamResponse:
        """Delete a picture."""
        await self._service.store.delete(request.match_info["filename"])
        return web.Response(status=204)

    @operation(
        "GET /api/v1/snapshots/{filename}/thumbnail",
        "getThumbnail",
        {200: ResponseSpec("The JPEG.", None, _JPEG)},
        query=_SIDE,
        errors=_NO_PICTURE | {422: "The side is out of range.", 502: "The file is not a picture."},
    )
    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """A small JPEG of a picture."""
        side = {"side": _whole_number(request, "side", 0)} if "side" in request.query else {}
        data = await self._service.store.thumbnail(request.match_info["filename"], **side)
        headers = {hdrs.CONTENT_TYPE: _JPEG, hdrs.CACHE_CONTROL: "private, max-age=86400"}
        return web.Response(body=data, headers=headers)

    def _camera_response(self, name: str, *, status: int = 200) -> web.Response:
        camera = self._service.config.camera(name)
        return json_response(schemas.CameraDocument.of(self._service, camera), status=status)


def _check_response(problems: tuple[Problem, ...]) -> web.Response:
    found = schemas.field_problems(problems)
    return json_response(schemas.CheckOutcome(ok=not found, problems=found))


def _refuse_invalid(problems: tuple[Problem, ...]) -> None:
    if problems:
        raise _invalid(problems)


def _invalid(problems: tuple[Problem, ...]) -> RequestError:
    return RequestError(422, "invalid", "; ".join(map(str, problems)), problems=problems)


async def _json_object(request: web.Request) -> dict[str, Any]:
    """Read a request's body; raise `RequestError` if it is not a JSON object or does not arrive in time."""
    if request.content_type != "application/json":
        raise RequestError(415, "not_json", "The body must be application/json.")
    try:
        async with deadline(BODY_TIMEOUT, "request body"):
            value = json_position.parse((await request.read()).decode())
    except TimeoutError as error:
        raise RequestError(408, "too_slow", str(error)) from None
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "not_json", f"The body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError(400, "not_json", "The body must be a JSON object.")
    return value


async def _camera_fields(request: web.Request) -> dict[str, Any]:
    """Read a camera from a request's body, without the state that a client may send back; it is not saved."""
    fields = await _json_object(request)
    return {key: value for key, value in fields.items() if key not in schemas.STATE_FIELDS}


def _whole_number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise UsageError(f"{name} must be a whole number, not {text!r}")
    return int(text)


# -- events -------------------------------------------------------------------------------------

HEARTBEAT: Final = 15.0
"""Seconds without an event after which a comment is sent."""
KEPT: Final = 1024
"""Events kept for clients that reconnect."""
QUEUE: Final = 256
"""Events that may wait for one client."""
MAX_STREAMS: Final = 256
_WRITE_TIMEOUT: Final = 10.0
_IMU_INTERVAL: Final = 0.5
_BEAT: Final = b": still here\n\n"  # HTML, 9.2.6: a line that begins with a colon is a comment
_EVENT_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # nginx as a proxy would keep events back to fill its buffer
}


class EventFeed:
    """Event streams of a service; ``let_go`` counts clients disconnected because they were too slow.

    Every event has an id. A client that reconnects with ``Last-Event-ID`` gets the events it missed, or
    ``state`` if they are no longer kept. A client that does not read is disconnected and delays no other.
    """

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
            return web.Response(headers=_EVENT_HEADERS)
        response = web.StreamResponse(headers=_EVENT_HEADERS)
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
        return schemas.StateDocument.of(self._service).model_dump_json()

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
                phase = schemas.capture_state(self._service, event.camera).phase
                message["snapshot"] = schemas.CaptureDocument.model_validate(shot).model_dump(mode="json")
            case events.CaptureFailed(error=error):
                phase = Phase.FAILED
                message["error"] = error
            case _:
                phase = schemas.capture_state(self._service, event.camera).phase
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
        imu = schemas.ImuDocument.of(self._service)
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
