"""``/api/v1/``: cameras, captures, pictures and events, described by its own OpenAPI document."""

import json
from typing import Any, Final

from aiohttp import hdrs, web
from pydantic import ValidationError

from asynccam.errors import UsageError
from asynccam.systems.snapshot.server.answers import HEALTH, json_answer, json_bytes, problem
from asynccam.systems.snapshot.server.models import ShotResult
from asynccam.systems.snapshot.server.openapi import Answer, Handler, Operation, document
from asynccam.systems.snapshot.server.request_parsing import (
    BODY_ERRORS,
    SAVE_ERRORS,
    RefusedError,
    camera_fields,
    invalid,
    json_object,
    typed,
)
from asynccam.systems.snapshot.server.schemas import (
    CameraDocument,
    CameraFields,
    CameraList,
    CaptureDocument,
    CaptureOrder,
    CaptureResult,
    CaptureResults,
    CheckResult,
    FieldProblem,
    HealthDocument,
    SnapshotPage,
    StateDocument,
)
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import CameraConfig, Problem, check_reachable
from asynccam.systems.snapshot.server.sse import EventFeed
from asynccam.systems.snapshot.server.state import camera_document, camera_documents, state_document
from asynccam.systems.snapshot.server.v1_settings import SettingsApi
from asynccam.systems.snapshot.server.version import VERSION

_PAGE: Final = 50
_JPEG: Final = "image/jpeg"
_BUSY: Final = {409: "The server is being shut down.", 503: "Too many captures wait already."}
_NO_CAMERA: Final = {404: "There is no such camera."}
_NO_PICTURE: Final = {404: "There is no such picture."}


class ApiV1:
    """The operations under ``/api/v1/``, and ``/healthz``.

    Args:
        service: Takes the pictures.
        feed: Streams what happens.
    """

    def __init__(self, service: SnapshotService, feed: EventFeed) -> None:
        self._service = service
        self._feed = feed
        self._document = b""

    def routes(self) -> list[web.RouteDef]:
        """Every operation, and the document that describes them."""
        return [*(one.route() for one in self.operations()), web.get("/api/v1/openapi.json", self.openapi)]

    def operations(self) -> tuple[Operation, ...]:
        """Every operation there is."""
        camera, fields, pictures = "/api/v1/cameras/{name}", CameraConfig, "/api/v1/snapshots"
        return (
            self._get("/api/v1/state", self.state, "state", "Everything the page shows.", StateDocument),
            self._get("/api/v1/cameras", self.cameras, "listCameras", "Every camera.", CameraList),
            self._get(camera, self.camera, "getCamera", "One camera.", CameraDocument, errors=_NO_CAMERA),
            Operation(
                "POST",
                "/api/v1/cameras",
                typed(self.add),
                "addCamera",
                "Add a camera.",
                {201: Answer("The camera was added.", CameraDocument)},
                body=fields,
                errors=SAVE_ERRORS,
            ),
            Operation(
                "PATCH",
                camera,
                typed(self.change),
                "changeCamera",
                "Change fields of a camera; those not given stay.",
                {200: Answer("The camera as it is now.", CameraDocument)},
                body=fields,
                partial=True,
                errors=SAVE_ERRORS | _NO_CAMERA,
            ),
            Operation(
                "DELETE",
                camera,
                typed(self.remove),
                "deleteCamera",
                "Delete a camera; its pictures stay.",
                {204: Answer("It is gone.")},
                errors=_NO_CAMERA | {409: SAVE_ERRORS[409], 507: SAVE_ERRORS[507]},
            ),
            Operation(
                "POST",
                "/api/v1/camera-check",
                typed(self.check),
                "checkCamera",
                "Say what is wrong with a camera's fields, without saving them.",
                {200: Answer("What was found.", CheckResult)},
                body=fields,
                partial=True,
                query={"instead_of": {"type": "string", "description": "The camera that is being changed."}},
                errors={status: BODY_ERRORS[status] for status in (400, 413, 415)},
            ),
            *SettingsApi(self._service).operations(),
            Operation(
                "POST",
                f"{camera}/captures",
                typed(self.capture),
                "capture",
                "Take a picture with one camera.",
                {201: Answer("The picture.", CaptureDocument)},
                errors=_NO_CAMERA
                | _BUSY
                | {502: "There is no picture, and why.", 504: "It took too long.", 507: "The disk refuses."},
            ),
            Operation(
                "POST",
                "/api/v1/captures",
                typed(self.capture_group),
                "captureGroup",
                "Take a picture with all cameras, or with the stereo pair.",
                {200: Answer("What came of each; some may have failed.", CaptureResults)},
                body=CaptureOrder,
                errors=BODY_ERRORS | _BUSY | {404: "There is no such camera at all."},
            ),
            self._get(
                pictures,
                self.snapshots,
                "listSnapshots",
                "Pictures, newest first.",
                SnapshotPage,
                query={
                    "limit": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": 1000,
                        "default": _PAGE,
                        "description": "How many at most.",
                    },
                    "after": {"type": "string", "description": "The next of the page before."},
                    "camera": {"type": "string", "description": "Only those of this camera."},
                },
                errors={422: "A parameter is out of bounds."},
            ),
            Operation(
                "DELETE",
                f"{pictures}/{{filename}}",
                typed(self.delete_snapshot),
                "deleteSnapshot",
                "Delete a picture.",
                {204: Answer("It is gone.")},
                errors=_NO_PICTURE | {507: "The disk refuses."},
            ),
            Operation(
                "GET",
                f"{pictures}/{{filename}}/thumbnail",
                typed(self.thumbnail),
                "getThumbnail",
                "A small JPEG of a picture.",
                {200: Answer("The JPEG.", None, _JPEG)},
                query={
                    "side": {
                        "type": "integer",
                        "minimum": 16,
                        "maximum": 1024,
                        "description": "Pixels of its longest side.",
                    }
                },
                errors=_NO_PICTURE | {422: "The side is out of bounds.", 502: "The file is no picture."},
            ),
            Operation(
                "GET",
                "/api/v1/events",
                self._feed.stream,
                "streamEvents",
                "What happens, as Server-Sent Events: state, capture, deleted, imu, trouble, restored.",
                {200: Answer("The stream.", None, "text/event-stream")},
                errors={503: "Too many streams are open."},
            ),
            Operation(
                "GET",
                HEALTH,
                self.health,
                "health",
                "Say that the server answers.",
                {200: Answer("It does.", HealthDocument)},
                open=True,
            ),
        )

    # -- reading --------------------------------------------------------------------------------

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/openapi.json``."""
        if not self._document:
            self._document = json.dumps(document(self.operations(), version=VERSION)).encode()
        return json_bytes(self._document)

    async def health(self, request: web.Request) -> web.StreamResponse:
        """``GET /healthz``."""
        return json_answer(HealthDocument())

    async def state(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/state``."""
        return json_answer(state_document(self._service))

    async def cameras(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/cameras``."""
        return json_answer(CameraList(cameras=camera_documents(self._service)))

    async def camera(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/cameras/{name}``."""
        return json_answer(self._camera(request.match_info["name"]))

    async def snapshots(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/snapshots``."""
        page = self._service.store.page(
            limit=_number(request, "limit", _PAGE),
            after=request.query.get("after") or None,
            camera=request.query.get("camera"),
        )
        return json_answer(SnapshotPage.of(page))

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/snapshots/{filename}/thumbnail``."""
        name = request.match_info["filename"]
        store = self._service.store
        if "side" in request.query:
            data = await store.thumbnail(name, side=_number(request, "side", 0))
        else:
            data = await store.thumbnail(name)
        headers = {hdrs.CONTENT_TYPE: _JPEG, hdrs.CACHE_CONTROL: "private, max-age=86400"}
        return web.Response(body=data, headers=headers)

    # -- changing -------------------------------------------------------------------------------

    async def add(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/cameras``."""
        fields = await camera_fields(request)
        self._refuse_problems(self._problems(fields, None))
        camera = await self._service.config.add_camera(fields)
        return json_answer(self._camera(camera.name), status=201)

    async def change(self, request: web.Request) -> web.StreamResponse:
        """``PATCH /api/v1/cameras/{name}``."""
        name = request.match_info["name"]
        fields = await camera_fields(request)
        before = self._service.config.camera(name).entry()
        self._refuse_problems(self._problems({**before, **fields}, name))
        camera = await self._service.config.replace_camera(name, fields)
        return json_answer(self._camera(camera.name))

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """``DELETE /api/v1/cameras/{name}``."""
        await self._service.config.delete_camera(request.match_info["name"])
        return web.Response(status=204)

    async def check(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/camera-check``."""
        problems = self._problems(await camera_fields(request), request.query.get("instead_of"))
        found = tuple(FieldProblem(field=one.field, message=one.message) for one in problems)
        return json_answer(CheckResult(ok=not found, problems=found))

    async def capture(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/cameras/{name}/captures``."""
        shot = await self._service.capture(request.match_info["name"])
        return json_answer(CaptureDocument.taken(shot, "snapshot"), status=201)

    async def capture_group(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/captures``."""
        try:
            order = CaptureOrder.model_validate(await json_object(request))
        except ValidationError as error:
            found = tuple(
                FieldProblem(field=".".join(map(str, one["loc"])), message=one["msg"])
                for one in error.errors()
            )
            raise RefusedError(invalid(found)) from None
        if order.group == "all":
            prefix, results = "api_all_cams", await self._service.capture_all()
        else:
            prefix, results = "api_stereo", await self._service.capture_stereo()
        if not results:
            which = "is configured" if order.group == "all" else "is marked stereo"
            return problem(404, "no_cameras", f"No camera {which}.")
        return json_answer(_documents(results, prefix))

    async def delete_snapshot(self, request: web.Request) -> web.StreamResponse:
        """``DELETE /api/v1/snapshots/{filename}``."""
        await self._service.store.delete(request.match_info["filename"])
        return web.Response(status=204)

    # -- within ---------------------------------------------------------------------------------

    def _get(
        self, path: str, handler: Handler, name: str, summary: str, model: Any, **more: Any
    ) -> Operation:
        return Operation("GET", path, typed(handler), name, summary, {200: Answer(summary, model)}, **more)

    def _camera(self, name: str) -> CameraDocument:
        return camera_document(self._service, self._service.config.camera(name))

    def _problems(self, fields: CameraFields, instead_of: str | None) -> tuple[Problem, ...]:
        taken = [camera.name for camera in self._service.cameras() if camera.name != instead_of]
        camera, problems = check_reachable(fields, taken=taken)
        if camera is None and fields.get("name") in taken and all(one.field != "name" for one in problems):
            # Found out last, but told at once with the rest.
            problems = (Problem("another camera has this name already", "name"), *problems)
        if camera is not None:
            problems = self._service.config.allowed.problems(camera)
        return problems

    def _refuse_problems(self, problems: tuple[Problem, ...]) -> None:
        if problems:
            found = tuple(FieldProblem(field=one.field, message=one.message) for one in problems)
            raise RefusedError(invalid(found))


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"{name} is a whole number, not {text!r}")
    return int(text)


def _documents(results: tuple[ShotResult, ...], prefix: str) -> CaptureResults:
    moments = [one.shot.taken_at for one in results if one.shot is not None]
    return CaptureResults(
        results=tuple(
            CaptureResult(
                camera=one.camera,
                snapshot=None if one.shot is None else CaptureDocument.taken(one.shot, prefix),
                error=one.error,
            )
            for one in results
        ),
        spread=max(moments) - min(moments) if len(moments) > 1 else None,
    )
