"""The REST API as it is in the field. See docs/protocols/snapshot.md.

Whatever is asked here is answered as the servers in the field answer, down to the HTML of an unknown
path, so that clients and scripts written for them go on working.
"""

import json
import re
from typing import Any, Final
from urllib.parse import quote

from aiohttp import hdrs, web

from asynccam.errors import AsynccamError, BusyError, NotFoundError, StateError
from asynccam.systems.snapshot.server.answers import RETRY_SECONDS, html_error, json_answer, json_bytes
from asynccam.systems.snapshot.server.models import ShotResult
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import CameraConfig

_NO_CAMERAS: Final = "No cameras configured"
_NO_STEREO: Final = "No stereo cameras configured"
_PICTURE_SECONDS: Final = 86_400
_JPEG: Final = "image/jpeg"
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9_.,+() ~-]")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.+~-]+")


class FieldApi:
    """The routes of the servers in the field, but for their pages.

    Args:
        service: Takes the pictures.
    """

    def __init__(self, service: SnapshotService) -> None:
        self._service = service
        self._listed: tuple[CameraConfig, ...] | None = None
        self._list = b"[]"

    def routes(self) -> list[web.RouteDef]:
        """Where everything is; a camera named ``all`` or ``stereo`` is behind the group, as in the field."""
        get_or_post = (
            ("/api/snapshot/all", self.capture_all),
            ("/api/snapshot/stereo", self.capture_stereo),
            ("/api/snapshot/{camera_name}", self.capture),
        )
        return [
            web.get("/api/cameras", self.cameras),
            *(web.route(method, path, run) for path, run in get_or_post for method in ("GET", "POST")),
            web.post("/ui/snapshot/all", self.ui_all),
            web.post("/ui/snapshot/stereo", self.ui_stereo),
            web.post("/ui/snapshot/{camera_name}", self.ui_capture),
            web.get("/snapshots/{filename}", self.picture),
            web.get("/download/{filename}", self.download),
        ]

    async def cameras(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/cameras``."""
        cameras = self._service.cameras()
        if cameras is not self._listed:
            self._list = json.dumps([camera.entry() for camera in cameras]).encode()
            self._listed = cameras
        return json_bytes(self._list)

    async def capture(self, request: web.Request) -> web.StreamResponse:
        """``GET`` or ``POST`` ``/api/snapshot/{camera_name}``."""
        name = request.match_info["camera_name"]
        try:
            shot = await self._service.capture(name)
        except NotFoundError:
            # In the field a name with a slash matches no route at all.
            return html_error(404) if "/" in name else _failure("Camera not found", 404)
        except AsynccamError as error:
            return _failed(error)
        return json_answer(
            {
                "success": True,
                "filename": shot.filename,
                "message": f"Snapshot of {name} taken",
                "image_url_path": _image(shot.filename),
            }
        )

    async def capture_all(self, request: web.Request) -> web.StreamResponse:
        """``GET`` or ``POST`` ``/api/snapshot/all``."""
        try:
            results = await self._service.capture_all()
        except AsynccamError as error:
            return _failed(error, results=[])
        return _results(results, _NO_CAMERAS)

    async def capture_stereo(self, request: web.Request) -> web.StreamResponse:
        """``GET`` or ``POST`` ``/api/snapshot/stereo``."""
        try:
            results = await self._service.capture_stereo()
        except AsynccamError as error:
            return _failed(error, results=[])
        return _results(results, _NO_STEREO)

    async def ui_capture(self, request: web.Request) -> web.StreamResponse:
        """``POST /ui/snapshot/{camera_name}``: 200 whatever comes of it."""
        name = request.match_info["camera_name"]
        try:
            shot = await self._service.capture(name)
        except NotFoundError:
            return json_answer({"success": False, "error": "Camera not found"})
        except AsynccamError as error:
            return json_answer({"success": False, "error": str(error)})
        message = f"Snapshot of {name} taken"
        return json_answer({"success": True, "message": message, **_ui_picture(shot.filename)})

    async def ui_all(self, request: web.Request) -> web.StreamResponse:
        """``POST /ui/snapshot/all``."""
        try:
            results = await self._service.capture_all(prefix="all_cams")
        except AsynccamError as error:
            return json_answer({"success": False, "error": str(error), "results": []})
        return _ui_results(results, _NO_CAMERAS)

    async def ui_stereo(self, request: web.Request) -> web.StreamResponse:
        """``POST /ui/snapshot/stereo``."""
        try:
            results = await self._service.capture_stereo(prefix="stereo")
        except AsynccamError as error:
            return json_answer({"success": False, "error": str(error), "results": []})
        return _ui_results(results, _NO_STEREO)

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """``GET /snapshots/{filename}``: the JPEG, to be shown."""
        return await self._file(request, "inline")

    async def download(self, request: web.Request) -> web.StreamResponse:
        """``GET /download/{filename}``: the JPEG, to be kept."""
        return await self._file(request, "attachment")

    async def _file(self, request: web.Request, disposition: str) -> web.StreamResponse:
        name = request.match_info["filename"]
        try:
            path = await self._service.store.path_of(name)
        except NotFoundError:
            return html_error(404)
        except AsynccamError as error:
            return html_error(500, str(error))
        headers = {
            hdrs.CONTENT_TYPE: _JPEG,
            hdrs.CONTENT_DISPOSITION: _disposition(disposition, name),
            hdrs.CACHE_CONTROL: f"private, max-age={_PICTURE_SECONDS}",
        }
        return web.FileResponse(path, headers=headers)


def _disposition(kind: str, name: str) -> str:
    """How a picture is called: plainly, as the field does and as ``curl -J`` needs it, and exactly."""
    plain = _NOT_PLAIN.sub("_", name)
    said = f"{kind}; filename={plain}" if _TOKEN.fullmatch(plain) else f'{kind}; filename="{plain}"'
    # Quoted, a name is letters, digits, "_.-~" and "%" alone: nothing that could end the header.
    return said if plain == name else f"{said}; filename*=UTF-8''{quote(name, safe='')}"


def _results(results: tuple[ShotResult, ...], none: str) -> web.Response:
    if not results:
        return _failure(none, 404, results=[])
    return json_answer({"results": [_result(one) for one in results]})


def _result(result: ShotResult) -> dict[str, Any]:
    if result.shot is None:
        return {"camera_name": result.camera, "status": "failure", "error": result.error}
    name = result.shot.filename
    return {
        "camera_name": result.camera,
        "status": "success",
        "filename": name,
        "image_url_path": _image(name),
    }


def _ui_results(results: tuple[ShotResult, ...], none: str) -> web.Response:
    if not results:
        return json_answer({"success": False, "error": none, "results": []})
    listed = [
        _result(one) | (_ui_picture(one.shot.filename) if one.shot is not None else {}) for one in results
    ]
    return json_answer({"success": all(one.shot is not None for one in results), "results": listed})


def _ui_picture(name: str) -> dict[str, str]:
    return {"filename": name, "image_url": _image(name), "download_url": f"/download/{quote(name, safe='')}"}


def _image(name: str) -> str:
    return f"/snapshots/{quote(name, safe='')}"


def _failed(error: AsynccamError, **more: Any) -> web.Response:
    """500 as in the field; 503 where only the moment is wrong, which the field does not know."""
    later = isinstance(error, BusyError | StateError)
    answer = _failure(str(error), 503 if later else 500, **more)
    if later:
        answer.headers[hdrs.RETRY_AFTER] = RETRY_SECONDS
    return answer


def _failure(words: str, status: int, **more: Any) -> web.Response:
    return json_answer({"success": False, "error": words, **more}, status=status)
