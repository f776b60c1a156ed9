"""``/api/v1/``: cameras, settings, captures, pictures and events, described by its own OpenAPI document."""

import json
from typing import Any, Final

from aiohttp import hdrs, web
from pydantic import ValidationError

from asynccam.errors import UsageError
from asynccam.systems.snapshot.server.middleware import HEALTH
from asynccam.systems.snapshot.server.models import VERSION
from asynccam.systems.snapshot.server.openapi import Handler, Operation, ResponseSpec, openapi_document
from asynccam.systems.snapshot.server.request_parsing import (
    BODY_ERRORS,
    SAVE_ERRORS,
    RequestError,
    camera_fields,
    field_problems,
    invalid_fields,
    json_object,
)
from asynccam.systems.snapshot.server.schemas import (
    CameraDocument,
    CameraFields,
    CameraListDocument,
    CaptureDocument,
    CaptureOrder,
    CaptureResults,
    CheckOutcome,
    FieldProblem,
    HealthDocument,
    SettingsChange,
    SettingsDocument,
    SnapshotPage,
    StateDocument,
    json_response,
)
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import CameraConfig, Problem, check_reachable
from asynccam.systems.snapshot.server.sse import EventFeed

_PAGE_SIZE: Final = 50
_MAX_DIGITS: Final = 9
_JPEG: Final = "image/jpeg"
_BUSY: Final = {409: "The server is being shut down.", 503: "Too many captures wait already."}
_NO_CAMERA: Final = {404: "There is no such camera."}
_NO_PICTURE: Final = {404: "There is no such picture."}
_CHECK_ERRORS: Final = {status: BODY_ERRORS[status] for status in (400, 413, 415)}
_CAMERA: Final = "/api/v1/cameras/{name}"
_SNAPSHOTS: Final = "/api/v1/snapshots"
_SETTINGS: Final = "/api/v1/settings"


class ApiV1:
    """The operations under ``/api/v1/``, and ``/healthz``."""

    def __init__(self, service: SnapshotService, feed: EventFeed) -> None:
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
        return (
            _get("/api/v1/state", self.state, "state", "Everything the page shows.", StateDocument),
            *self._camera_operations(),
            *self._settings_operations(),
            *self._capture_operations(),
            *self._picture_operations(),
            Operation(
                "GET",
                "/api/v1/events",
                self._feed.stream,
                "streamEvents",
                "Events as Server-Sent Events: state, capture, deleted, imu, trouble, restored.",
                {200: ResponseSpec("The stream.", None, "text/event-stream")},
                errors={503: "Too many streams are open."},
            ),
            Operation(
                "GET",
                HEALTH,
                self.health,
                "health",
                "Check that the server is running.",
                {200: ResponseSpec("It is running.", HealthDocument)},
                open=True,
            ),
        )

    def _camera_operations(self) -> tuple[Operation, ...]:
        return (
            _get("/api/v1/cameras", self.cameras, "listCameras", "Every camera.", CameraListDocument),
            _get(_CAMERA, self.camera, "getCamera", "One camera.", CameraDocument, errors=_NO_CAMERA),
            Operation(
                "POST",
                "/api/v1/cameras",
                self.add,
                "addCamera",
                "Add a camera.",
                {201: ResponseSpec("The camera was added.", CameraDocument)},
                body=CameraConfig,
                errors=SAVE_ERRORS,
            ),
            Operation(
                "PATCH",
                _CAMERA,
                self.change,
                "changeCamera",
                "Change fields of a camera; those left out stay.",
                {200: ResponseSpec("The camera as it is now.", CameraDocument)},
                body=CameraConfig,
                partial=True,
                errors=SAVE_ERRORS | _NO_CAMERA,
            ),
            Operation(
                "DELETE",
                _CAMERA,
                self.remove,
                "deleteCamera",
                "Delete a camera; its pictures stay.",
                {204: ResponseSpec("It was deleted.")},
                errors=_NO_CAMERA | {status: SAVE_ERRORS[status] for status in (409, 507)},
            ),
            Operation(
                "POST",
                "/api/v1/camera-check",
                self.check,
                "checkCamera",
                "Check a camera's fields without saving them.",
                {200: ResponseSpec("The problems found.", CheckOutcome)},
                body=CameraConfig,
                partial=True,
                query={"instead_of": {"type": "string", "description": "The camera that is being changed."}},
                errors=_CHECK_ERRORS,
            ),
        )

    def _settings_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                "GET",
                _SETTINGS,
                self.settings,
                "getSettings",
                "Retention, limits and the IMU.",
                {200: ResponseSpec("The settings in force.", SettingsDocument)},
            ),
            Operation(
                "PATCH",
                _SETTINGS,
                self.change_settings,
                "changeSettings",
                "Change settings; those left out stay, null restores the default.",
                {200: ResponseSpec("The settings as they are now.", SettingsDocument)},
                body=SettingsChange,
                errors=SAVE_ERRORS,
            ),
            Operation(
                "POST",
                "/api/v1/settings-check",
                self.check_settings,
                "checkSettings",
                "Check a change of settings without saving it.",
                {200: ResponseSpec("The problems found.", CheckOutcome)},
                body=SettingsChange,
                errors=_CHECK_ERRORS,
            ),
        )

    def _capture_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                "POST",
                f"{_CAMERA}/captures",
                self.capture,
                "capture",
                "Take a picture with one camera.",
                {201: ResponseSpec("The picture.", CaptureDocument)},
                errors=_NO_CAMERA
                | _BUSY
                | {502: "There is no picture, and why.", 504: "It took too long.", 507: "The disk refuses."},
            ),
            Operation(
                "POST",
                "/api/v1/captures",
                self.capture_group,
                "captureGroup",
                "Take a picture with all cameras, or with the stereo pair.",
                {200: ResponseSpec("The result of each camera; some may have failed.", CaptureResults)},
                body=CaptureOrder,
                errors=BODY_ERRORS | _BUSY | {404: "There is no such camera at all."},
            ),
        )

    def _picture_operations(self) -> tuple[Operation, ...]:
        side = {
            "type": "integer",
            "minimum": 16,
            "maximum": 1024,
            "description": "Pixels of its longest side.",
        }
        return (
            _get(
                _SNAPSHOTS,
                self.snapshots,
                "listSnapshots",
                "Pictures, newest first.",
                SnapshotPage,
                query={
                    "limit": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": 1000,
                        "default": _PAGE_SIZE,
                        "description": "Maximum number.",
                    },
                    "after": {"type": "string", "description": "The next of the previous page."},
                    "camera": {"type": "string", "description": "Only pictures of this camera."},
                },
                errors={422: "A parameter is out of range."},
            ),
            Operation(
                "DELETE",
                f"{_SNAPSHOTS}/{{filename}}",
                self.delete_snapshot,
                "deleteSnapshot",
                "Delete a picture.",
                {204: ResponseSpec("It was deleted.")},
                errors=_NO_PICTURE | {507: "The disk refuses."},
            ),
            Operation(
                "GET",
                f"{_SNAPSHOTS}/{{filename}}/thumbnail",
                self.thumbnail,
                "getThumbnail",
                "A small JPEG of a picture.",
                {200: ResponseSpec("The JPEG.", None, _JPEG)},
                query={"side": side},
                errors=_NO_PICTURE | {422: "The side is out of range.", 502: "The file is not a picture."},
            ),
        )

    # -- reading --------------------------------------------------------------------------------

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/openapi.json``."""
        if not self._document:
            document = openapi_document(self.operations(), version=VERSION)
            self._document = json.dumps(document).encode()
        return json_response(self._document)

    async def health(self, request: web.Request) -> web.StreamResponse:
        """``GET /healthz``."""
        return json_response(HealthDocument())

    async def state(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/state``."""
        return json_response(StateDocument.of(self._service))

    async def cameras(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/cameras``."""
        return json_response(CameraListDocument.of(self._service))

    async def camera(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/cameras/{name}``."""
        return json_response(self._camera(request.match_info["name"]))

    async def settings(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/settings``."""
        return json_response(SettingsDocument.of(self._service.config.current))

    async def snapshots(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/snapshots``."""
        page = self._service.store.page(
            limit=_whole_number(request, "limit", _PAGE_SIZE),
            after=request.query.get("after") or None,
            camera=request.query.get("camera"),
        )
        return json_response(SnapshotPage.model_validate(page))

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/snapshots/{filename}/thumbnail``."""
        side = {"side": _whole_number(request, "side", 0)} if "side" in request.query else {}
        data = await self._service.store.thumbnail(request.match_info["filename"], **side)
        headers = {hdrs.CONTENT_TYPE: _JPEG, hdrs.CACHE_CONTROL: "private, max-age=86400"}
        return web.Response(body=data, headers=headers)

    # -- changing -------------------------------------------------------------------------------

    async def add(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/cameras``."""
        fields = await camera_fields(request)
        if problems := self._camera_problems(fields, None):
            raise invalid_fields(problems)
        camera = await self._service.config.add_camera(fields)
        return json_response(self._camera(camera.name), status=201)

    async def change(self, request: web.Request) -> web.StreamResponse:
        """``PATCH /api/v1/cameras/{name}``."""
        name = request.match_info["name"]
        fields = await camera_fields(request)
        before = self._service.config.camera(name).entry()
        if problems := self._camera_problems({**before, **fields}, name):
            raise invalid_fields(problems)
        camera = await self._service.config.replace_camera(name, fields)
        return json_response(self._camera(camera.name))

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """``DELETE /api/v1/cameras/{name}``."""
        await self._service.config.delete_camera(request.match_info["name"])
        return web.Response(status=204)

    async def check(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/camera-check``."""
        found = self._camera_problems(await camera_fields(request), request.query.get("instead_of"))
        return json_response(CheckOutcome(ok=not found, problems=found))

    async def change_settings(self, request: web.Request) -> web.StreamResponse:
        """``PATCH /api/v1/settings``."""
        changes = await json_object(request)
        if problems := field_problems(self._service.config.check_settings(changes)):
            raise invalid_fields(problems)
        await self._service.config.change_settings(changes)
        return json_response(SettingsDocument.of(self._service.config.current))

    async def check_settings(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/settings-check``."""
        found = field_problems(self._service.config.check_settings(await json_object(request)))
        return json_response(CheckOutcome(ok=not found, problems=found))

    async def capture(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/cameras/{name}/captures``."""
        shot = await self._service.capture(request.match_info["name"])
        return json_response(CaptureDocument.model_validate(shot), status=201)

    async def capture_group(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/captures``."""
        try:
            order = CaptureOrder.model_validate(await json_object(request))
        except ValidationError as error:
            problems = tuple(
                FieldProblem(field=".".join(map(str, flaw["loc"])), message=flaw["msg"])
                for flaw in error.errors()
            )
            raise invalid_fields(problems) from None
        service = self._service
        results = await (service.capture_all() if order.group == "all" else service.capture_stereo())
        if not results:
            which = "is configured" if order.group == "all" else "is marked stereo"
            raise RequestError(404, "no_cameras", f"No camera {which}.")
        return json_response(CaptureResults.of(results))

    async def delete_snapshot(self, request: web.Request) -> web.StreamResponse:
        """``DELETE /api/v1/snapshots/{filename}``."""
        await self._service.store.delete(request.match_info["filename"])
        return web.Response(status=204)

    # -- private --------------------------------------------------------------------------------

    def _camera(self, name: str) -> CameraDocument:
        return CameraDocument.of(self._service, self._service.config.camera(name))

    def _camera_problems(self, fields: CameraFields, instead_of: str | None) -> tuple[FieldProblem, ...]:
        taken = [camera.name for camera in self._service.cameras() if camera.name != instead_of]
        camera, problems = check_reachable(fields, taken=taken)
        if camera is not None:
            problems = self._service.config.allowed.problems(camera)
        elif fields.get("name") in taken and all(problem.field != "name" for problem in problems):
            # `check_camera` compares names last; report this problem together with the others.
            problems = (Problem("another camera already has this name", "name"), *problems)
        return field_problems(problems)


def _get(path: str, handler: Handler, name: str, summary: str, model: Any, **more: Any) -> Operation:
    return Operation("GET", path, handler, name, summary, {200: ResponseSpec(summary, model)}, **more)


def _whole_number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise UsageError(f"{name} must be a whole number, not {text!r}")
    return int(text)
