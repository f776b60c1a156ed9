"""A MediaMTX Camera Service of either generation, for tests and demonstrations.

It implements docs/protocols/mediamtx.md with aiohttp's server, and shares neither codec nor tables with the
client. Recordings and pictures are real files.
"""

import asyncio
import re
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from asynccam.errors import ConnectionError, StateError, UsageError
from asynccam.runtime.tasks import TaskScope, finish, finish_on_error
from asynccam.systems.mediamtx.simulator.access import ROLES, Access, BadCredentialError
from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults, ServiceWays
from asynccam.systems.mediamtx.simulator.cameras import SimCamera
from asynccam.systems.mediamtx.simulator.connection import ClientConnection, Dispatcher
from asynccam.systems.mediamtx.simulator.service import SimulatedService
from asynccam.systems.mediamtx.simulator.store import KINDS, FileStore, MediaTemplates, ServedFile

_CLOSE_TIMEOUT: Final = 1.0
_CHUNK: Final = 64 * 1024
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_BEARER: Final = "Bearer "


class MediaMTXSimulator:
    """A simulated MediaMTX Camera Service; use it as an async context manager.

    On leaving, running recordings are finished, connections closed with 1001, and the directory deleted if it
    was not given.

    Args:
        generation: 1 or 2.
        host: Address to listen at.
        port: Port of the WebSocket; 0 takes a free one, see `port`.
        http_port: Port of the file server; None for the WebSocket's.
        directory: Directory of recordings and pictures; None for a temporary one.
        cameras: Number of cameras, or their names.
        secret: Signs tokens (HS256, 32 bytes or more); a random one if empty.
        api_keys: Key -> role.
        ways: Behavior; by default that of the generation.
        faults: Faults to show; by default none.
        clip: A file that recordings are copies of; by default GStreamer makes one.
        picture: A file that pictures are copies of; by default GStreamer makes one.
        live: Record with GStreamer each time instead.
        tls: A server's context, for ``wss`` and ``https``.

    Attributes:
        ways: May be changed while the service runs.
        faults: May be changed while the service runs.

    Raises:
        UsageError: Not a valid generation or role.
    """

    def __init__(
        self,
        *,
        generation: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        http_port: int | None = None,
        directory: Path | None = None,
        cameras: int | Sequence[str] = 2,
        secret: str = "",
        api_keys: Mapping[str, str] | None = None,
        ways: ServiceWays | None = None,
        faults: ServiceFaults | None = None,
        clip: Path | None = None,
        picture: Path | None = None,
        live: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if ways is not None and ways.generation != generation:
            raise UsageError(f"these are the ways of generation {ways.generation}, not {generation}")
        unknown = set((api_keys or {}).values()) - set(ROLES)
        if unknown:
            raise UsageError(f"the roles are {', '.join(ROLES)}, not {', '.join(sorted(unknown))}")
        self.ways = ways or ServiceWays.of(generation)
        self.faults = faults or ServiceFaults()
        self._host = host
        self._wanted_ports = (port, http_port)
        self._ports: tuple[int, int] | None = None
        self._given_directory = directory
        self._directory: Path | None = None
        self._clip, self._picture, self._live = clip, picture, live
        self._tls = tls
        self._access = Access(secret, api_keys or {})
        self._service = SimulatedService(self.ways, self.faults, host)
        self._dispatcher = Dispatcher(self._service, self._access)
        self._connections: dict[int, ClientConnection] = {}
        self._accepted = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._runner: web.AppRunner | None = None
        self._stack = AsyncExitStack()
        self._add_cameras(cameras)

    # -- addresses and credentials ----------------------------------------------------------------

    @property
    def host(self) -> str:
        """Address it listens at."""
        return self._host

    @property
    def port(self) -> int:
        """Port of the WebSocket; raises `StateError` before the first start."""
        return self._listening_ports()[0]

    @property
    def http_port(self) -> int:
        """Port of the file server; raises as `port` does."""
        return self._listening_ports()[1]

    @property
    def url(self) -> str:
        """URL of the WebSocket."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'ws' if self._tls is None else 'wss'}://{host}:{self.port}/ws"

    @property
    def connections(self) -> int:
        """Number of connected clients."""
        return len(self._connections)

    @property
    def accepted(self) -> int:
        """Number of clients that ever connected."""
        return self._accepted

    @property
    def requests(self) -> int:
        """Number of received requests."""
        return self._service.requests

    def token(self, role: str = "admin", *, lifetime: float = 3600.0) -> str:
        """Return a JWT for ``viewer``, ``operator`` or ``admin``; expired if ``lifetime`` is negative."""
        if role not in ROLES:
            raise UsageError(f"the roles are {', '.join(ROLES)}, not {role}")
        return self._access.token(role, lifetime)

    def expire_tokens(self) -> None:
        """Expire all tokens issued until now, also those of open connections; keys stay valid."""
        self._access.expire_tokens()

    # -- cameras and notifications ----------------------------------------------------------------

    @property
    def cameras(self) -> Mapping[str, SimCamera]:
        """Cameras by device; their attributes may be changed."""
        return self._service.cameras

    def add_camera(self, name: str = "", *, device: str = "") -> SimCamera:
        """Add a camera and notify clients; ``device`` is ``camera7``, or ``/dev/video7`` in generation 1.

        It is by default the first that is free; one that is in use is a `UsageError`.
        """
        return self._service.add_camera(name, device)

    def remove_camera(self, device: str) -> None:
        """Remove a camera and notify clients; raise `UsageError` if there is none."""
        self._service.remove_camera(device)

    def tell(self, topic: str, payload: dict[str, Any]) -> None:
        """Send a notification of a topic (``camera.status_change`` for example) as the generation does."""
        self._service.notify(topic, payload)

    # -- connection faults ------------------------------------------------------------------------

    def freeze(self) -> None:
        """Read nothing and send nothing, not even pongs, until `thaw`."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Continue after `freeze`."""
        self._flowing.set()

    def drop(self) -> None:
        """Abort every connection without a close frame."""
        for connection in self._connections.values():
            connection.drop()

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """Close every connection with a code: 1001 (going away), 1013 (try again later), 1008, 1009."""
        self.thaw()
        async with TaskScope("goodbye") as scope:
            closes = {
                number: connection.aclose(code, reason) for number, connection in self._connections.items()
            }
            await scope.gather(closes, name="close")

    async def restart(self, *, cameras: int | Sequence[str] | None = None) -> None:
        """Abort all connections, and start at the same ports with the same files and other ``cameras``.

        Raises `ConnectionError` if a port is taken meanwhile.
        """
        await self.stop(abruptly=True)
        if cameras is not None:
            self._service.cameras.clear()
            self._add_cameras(cameras)
        await self.start()

    # -- start and stop ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; again at the same ports after `stop`.

        Raises `ConnectionError` or `StorageError` if the address or the directory cannot be used.
        """
        if self._runner is not None:
            raise StateError("the service is started already")
        if self._directory is None:
            raise StateError("the service is an async context manager; enter it first")
        templates = MediaTemplates(self._directory, self._clip, self._picture)
        store = FileStore(self._directory, templates, live=self._live)
        await store.open()
        self._service.open(store)
        runner = self._runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=_CLOSE_TIMEOUT
        )
        async with finish_on_error(lambda: self.stop(abruptly=True)):
            await runner.setup()
            self._ports = await self._listen(runner)

    async def stop(self, *, abruptly: bool = False) -> None:
        """Stop listening, and finish the files of running recordings; may be called twice.

        ``abruptly`` aborts connections without a close frame.
        """
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in runner.sites:
            await site.stop()
        if not abruptly:
            self._service.notify("system.shutdown", {"reason": "stopped"})
            await self.close(aiohttp.WSCloseCode.GOING_AWAY, "Server shutdown")
        self.drop()
        self.thaw()
        await self._service.aclose()
        await runner.cleanup()

    async def __aenter__(self) -> "MediaMTXSimulator":
        async with finish_on_error(self._stack.aclose):
            self._directory = self._given_directory or await self._temporary()
            await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await finish(self._close())

    async def _close(self) -> None:
        try:
            await self.stop()
        finally:
            self._directory = None
            await self._stack.aclose()

    async def _temporary(self) -> Path:
        """Create a directory that is deleted in the end, also if this is cancelled meanwhile."""

        async def make() -> Path:
            temporary = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="asynccam-mediamtx-")
            self._stack.push_async_callback(asyncio.to_thread, temporary.cleanup)
            return Path(temporary.name)

        return await finish(make())

    def _add_cameras(self, cameras: int | Sequence[str]) -> None:
        for name in [""] * cameras if isinstance(cameras, int) else cameras:
            self._service.add_camera(name, "")

    def _listening_ports(self) -> tuple[int, int]:
        if self._ports is None:
            raise StateError("the service was never started")
        return self._ports

    async def _listen(self, runner: web.AppRunner) -> tuple[int, int]:
        port, http_port = self._ports or self._wanted_ports
        port = await self._open(runner, port)
        return port, port if http_port in (None, port) else await self._open(runner, http_port or 0)

    async def _open(self, runner: web.AppRunner, port: int) -> int:
        before = len(runner.addresses)
        try:
            await web.TCPSite(runner, self._host, port, ssl_context=self._tls).start()
        except OSError as error:
            raise ConnectionError(f"cannot listen at {self._host}:{port}: {error.strerror}") from error
        return int(runner.addresses[before][1])

    # -- HTTP -------------------------------------------------------------------------------------

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/ws", self._serve_client)
        app.router.add_get("/files/{kind}/{name}", FileServer(self._service, self._access).get)
        app.router.add_get("/{anywhere:.*}", self._serve_other_path)
        return app

    async def _serve_client(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            timeout=_CLOSE_TIMEOUT, autoping=False, max_msg_size=self.ways.max_message
        )
        await socket.prepare(request)
        if self.ways.max_connections is not None and self.connections >= self.ways.max_connections:
            await socket.close(code=aiohttp.WSCloseCode.TRY_AGAIN_LATER, message=b"Too many connections")
            return socket
        self._accepted += 1
        number = self._accepted
        connection = ClientConnection(number, socket, request, self._service, self._dispatcher, self._flowing)
        self._connections[number] = connection
        self._service.clients.append(connection.session)
        try:
            await connection.run()
        finally:
            self._service.clients.remove(connection.session)
            del self._connections[number]
        return socket

    async def _serve_other_path(self, request: web.Request) -> web.StreamResponse:
        if not self.ways.other_paths_1008 or "Upgrade" not in request.headers:
            raise web.HTTPNotFound
        socket = web.WebSocketResponse(timeout=_CLOSE_TIMEOUT)
        await socket.prepare(request)
        await socket.close(code=aiohttp.WSCloseCode.POLICY_VIOLATION, message=b"Invalid path")
        return socket


class FileServer:
    """HTTP server of a service's files, for clients with a credential."""

    def __init__(self, service: SimulatedService, access: Access) -> None:
        self._service = service
        self._access = access

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serve ``GET`` and ``HEAD`` of ``/files/recordings/NAME`` and ``/files/snapshots/NAME``."""
        self._authenticate(request)
        kind, name = request.match_info["kind"], request.match_info["name"]
        file = self._service.store.files[kind].get(name) if kind in KINDS else None
        if file is None:
            raise web.HTTPNotFound
        requested = _RANGE.fullmatch(request.headers.get("Range", ""))
        start = int(requested[1]) if requested else 0
        if start >= file.size and requested and self._service.ways.empty_416:
            return await self._empty_416(request, file)
        if self._service.faults.cut_files_after is not None and start < file.size:
            return await self._send_cut(request, file, start, self._service.faults.cut_files_after)
        return web.FileResponse(file.path, chunk_size=_CHUNK)

    def _authenticate(self, request: web.Request) -> None:
        header = request.headers.get("Authorization", "")
        try:
            if "X-API-Key" in request.headers:
                self._access.check(request.headers["X-API-Key"], "api_key")
            else:
                self._access.check(header.removeprefix(_BEARER) if header.startswith(_BEARER) else "", "jwt")
        except BadCredentialError as error:
            raise web.HTTPUnauthorized(text=str(error), headers={"WWW-Authenticate": "Bearer"}) from None

    async def _empty_416(self, request: web.Request, file: ServedFile) -> web.StreamResponse:
        """Announce a body and send none; the connection stays open, as with the real server."""
        headers = {"Content-Range": f"bytes */{file.size}", "Content-Length": str(file.size)}
        response = web.StreamResponse(status=416, headers=headers)
        await response.prepare(request)
        return response

    async def _send_cut(
        self, request: web.Request, file: ServedFile, start: int, limit: int
    ) -> web.StreamResponse:
        """Send the first ``limit`` bytes, and close the connection."""
        headers = {"Content-Length": str(file.size - start), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{file.size - 1}/{file.size}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        data = await self._service.store.read(file, start, limit)
        await response.write(data)
        if start + len(data) < file.size and request.transport is not None:
            request.transport.close()
        return response
