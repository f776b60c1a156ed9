"""The HTTP side of a simulated service: the way to its WebSocket, and its file server."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from aiohttp import web

from asynccam.systems.mediamtx.simulator.access import Access, BadCredentialError
from asynccam.systems.mediamtx.simulator.service import Service
from asynccam.systems.mediamtx.simulator.store import KINDS, StoredFile

_CHUNK: Final = 64 * 1024
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_BEARER: Final = "Bearer "
_CLOSE_SECONDS: Final = 1.0

SocketHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def web_app(service: Service, access: Access, on_socket: SocketHandler) -> web.Application:
    """What listens at a service's ports: ``/ws`` and ``/files``."""
    files = FileServer(service, access)

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        if not service.ways.other_paths_1008 or "Upgrade" not in request.headers:
            raise web.HTTPNotFound
        socket = web.WebSocketResponse(timeout=_CLOSE_SECONDS)
        await socket.prepare(request)
        await socket.close(code=aiohttp.WSCloseCode.POLICY_VIOLATION, message=b"Invalid path")
        return socket

    app = web.Application()
    app.router.add_get("/ws", on_socket)
    app.router.add_get("/files/{kind}/{name}", files.get)
    app.router.add_get("/{anywhere:.*}", elsewhere)
    return app


class FileServer:
    """Hands out the files of a service to whoever shows a credential.

    Args:
        service: Whose files they are.
        access: Knows credentials.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET`` and ``HEAD`` of ``/files/recordings/NAME`` and ``/files/snapshots/NAME``."""
        self._admit(request)
        kind, name = request.match_info["kind"], request.match_info["name"]
        file = self._service.store.files[kind].get(name) if kind in KINDS else None
        if file is None:
            raise web.HTTPNotFound
        asked = _RANGE.fullmatch(request.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if start >= file.size and asked and self._service.ways.empty_416:
            return await self._empty_416(request, file)
        if self._service.faults.cut_files_after is not None and start < file.size:
            return await self._cut(request, file, start, self._service.faults.cut_files_after)
        return web.FileResponse(file.path, chunk_size=_CHUNK)

    def _admit(self, request: web.Request) -> None:
        header = request.headers.get("Authorization", "")
        try:
            if "X-API-Key" in request.headers:
                self._access.check(request.headers["X-API-Key"], "api_key")
            else:
                self._access.check(header.removeprefix(_BEARER) if header.startswith(_BEARER) else "", "jwt")
        except BadCredentialError as error:
            raise web.HTTPUnauthorized(text=str(error), headers={"WWW-Authenticate": "Bearer"}) from None

    async def _empty_416(self, request: web.Request, file: StoredFile) -> web.StreamResponse:
        """Promise a body and send none; the connection stays open, as on the real server."""
        headers = {"Content-Range": f"bytes */{file.size}", "Content-Length": str(file.size)}
        response = web.StreamResponse(status=416, headers=headers)
        await response.prepare(request)
        return response

    async def _cut(
        self, request: web.Request, file: StoredFile, start: int, limit: int
    ) -> web.StreamResponse:
        """Begin to send a file, and drop the socket after ``limit`` bytes."""
        headers = {"Content-Length": str(file.size - start), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{file.size - 1}/{file.size}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        data = await self._service.store.part(file, start, limit)
        await response.write(data)
        if start + len(data) < file.size and request.transport is not None:
            request.transport.close()
        return response
