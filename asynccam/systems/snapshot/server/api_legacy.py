"""REST API of existing servers, see docs/protocols/snapshot.md.

Requests are answered as existing servers answer them, so that clients and scripts written for them keep
working; errors too, see `asynccam.systems.snapshot.server.middleware.error_response`.
"""

import json
import re
from typing import Any, Final
from urllib.parse import quote

from aiohttp import hdrs, web

from asynccam.errors import NotFoundError
from asynccam.systems.snapshot.server.models import Shot, ShotResult
from asynccam.systems.snapshot.server.schemas import json_response
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import CameraConfig

_NO_CAMERAS: Final = "No cameras configured"
_NO_STEREO: Final = "No stereo cameras configured"
_PICTURE_MAX_AGE: Final = 86_400
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9_.,+() ~-]")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.+~-]+")


class LegacyApi:
    """Routes of existing servers, except their pages."""

    def __init__(self, service: SnapshotService) -> None:
        self._service = service
        self._listed: tuple[CameraConfig, ...] | None = None
        self._list = b"[]"

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; the groups hide cameras named ``all`` or ``stereo``, as on existing servers."""
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
        return json_response(self._list)

    async def capture(self, request: web.Request) -> web.StreamResponse:
        """``GET`` or ``POST`` ``/api/snapshot/{camera_name}``."""
        name = request.match_info["camera_name"]
        shot = await self._service.capture(name)
        return json_response(
            {
                "success": True,
                "filename": shot.filename,
                "message": f"Snapshot of {name} taken",
                "image_url_path": shot.image_url_path,
            }
        )

    async def capture_all(self, request: web.Request) -> web.StreamResponse:
        """``GET`` or ``POST`` ``/api/snapshot/all``."""
        results = _some(await self._service.capture_all(), _NO_CAMERAS)
        return json_response({"results": [_result(one) for one in results]})

    async def capture_stereo(self, request: web.Request) -> web.StreamResponse:
        """``GET`` or ``POST`` ``/api/snapshot/stereo``."""
        results = _some(await self._service.capture_stereo(), _NO_STEREO)
        return json_response({"results": [_result(one) for one in results]})

    async def ui_capture(self, request: web.Request) -> web.StreamResponse:
        """``POST /ui/snapshot/{camera_name}``; errors have the status 200 too."""
        name = request.match_info["camera_name"]
        shot = await self._service.capture(name)
        return json_response({"success": True, "message": f"Snapshot of {name} taken", **_page_picture(shot)})

    async def ui_all(self, request: web.Request) -> web.StreamResponse:
        """``POST /ui/snapshot/all``."""
        return _page_results(_some(await self._service.capture_all(prefix="all_cams"), _NO_CAMERAS))

    async def ui_stereo(self, request: web.Request) -> web.StreamResponse:
        """``POST /ui/snapshot/stereo``."""
        return _page_results(_some(await self._service.capture_stereo(prefix="stereo"), _NO_STEREO))

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """``GET /snapshots/{filename}``: the JPEG, to be shown."""
        return await self._file(request, "inline")

    async def download(self, request: web.Request) -> web.StreamResponse:
        """``GET /download/{filename}``: the JPEG, to be saved."""
        return await self._file(request, "attachment")

    async def _file(self, request: web.Request, disposition: str) -> web.StreamResponse:
        name = request.match_info["filename"]
        headers = {
            hdrs.CONTENT_TYPE: "image/jpeg",
            hdrs.CONTENT_DISPOSITION: _disposition(disposition, name),
            hdrs.CACHE_CONTROL: f"private, max-age={_PICTURE_MAX_AGE}",
        }
        return web.FileResponse(await self._service.store.path_of(name), headers=headers)


def _disposition(kind: str, name: str) -> str:
    """Return the name both plainly, as existing servers do and as ``curl -J`` needs it, and exactly."""
    plain = _NOT_PLAIN.sub("_", name)
    header = f"{kind}; filename={plain}" if _TOKEN.fullmatch(plain) else f'{kind}; filename="{plain}"'
    # Quoted, a name is letters, digits, "_.-~" and "%" only: nothing that could end the header.
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='')}"


def _some(results: tuple[ShotResult, ...], message: str) -> tuple[ShotResult, ...]:
    if not results:
        raise NotFoundError(message)
    return results


def _result(result: ShotResult) -> dict[str, Any]:
    if result.shot is None:
        return {"camera_name": result.camera, "status": "failure", "error": result.error}
    return {
        "camera_name": result.camera,
        "status": "success",
        "filename": result.shot.filename,
        "image_url_path": result.shot.image_url_path,
    }


def _page_results(results: tuple[ShotResult, ...]) -> web.Response:
    listed = [_result(one) | ({} if one.shot is None else _page_picture(one.shot)) for one in results]
    return json_response({"success": all(one.shot is not None for one in results), "results": listed})


def _page_picture(shot: Shot) -> dict[str, str]:
    return {
        "filename": shot.filename,
        "image_url": shot.image_url_path,
        "download_url": shot.download_url_path,
    }
