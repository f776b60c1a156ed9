"""A MediaMTX Camera Service of either generation, for tests and demonstrations.

It speaks docs/protocols/mediamtx.md from the other side, on aiohttp's server, and shares no codec
and no table with the client. Recordings and pictures are real files.
"""

import asyncio
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import aiohttp
from aiohttp import web

from asynccam.errors import ConnectionError, StateError, UsageError
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.systems.mediamtx.simulator.access import ROLES, Access
from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults, ServiceWays
from asynccam.systems.mediamtx.simulator.cameras import SimCamera
from asynccam.systems.mediamtx.simulator.connection import ClientConnection
from asynccam.systems.mediamtx.simulator.dispatch import Dispatcher
from asynccam.systems.mediamtx.simulator.http import web_app
from asynccam.systems.mediamtx.simulator.media import Clips
from asynccam.systems.mediamtx.simulator.service import Service
from asynccam.systems.mediamtx.simulator.store import Store

_CLOSE_SECONDS: Final = 1.0


class MediaMTXSimulator:
    """A service that behaves as a real one; use it as an async context manager.

    On leaving, running recordings are finished, connections closed with 1001, and the directory
    deleted if it was not given.

    Args:
        generation: 1 or 2.
        host: Address to listen at.
        port: Of the WebSocket; 0 takes a free one, see `port`.
        http_port: Of the file server; None for the WebSocket's.
        directory: Where recordings and pictures are kept; None for a temporary one.
        cameras: How many cameras there are at first, or their names.
        secret: Signs tokens (HS256, 32 bytes or more); a random one if empty.
        api_keys: Key -> role.
        ways: How it behaves; the generation's ways by default.
        faults: Trouble on purpose; none by default.
        clip: A file each recording is a copy of; by default one that GStreamer makes once.
        picture: A file each picture is a copy of; likewise.
        live: Record with GStreamer each time instead.
        tls: A server's context, for ``wss`` and ``https``.

    Attributes:
        ways: Change it while it runs to change how it behaves.
        faults: Likewise.

    Raises:
        UsageError: No such generation or role.
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
        self._wanted = (port, http_port)
        self._ports: tuple[int, int] | None = None
        self._directory = directory
        self._home: Path | None = None
        self._clip, self._picture, self._live = clip, picture, live
        self._tls = tls
        self._access = Access(secret, api_keys or {})
        self._service = Service(self.ways, self.faults, host)
        self._dispatcher = Dispatcher(self._service, self._access)
        self._connections: dict[int, ClientConnection] = {}
        self._accepted = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._runner: web.AppRunner | None = None
        self._stack = AsyncExitStack()
        self._plug_in(cameras)

    # -- where it is and who may come -----------------------------------------------------------

    @property
    def host(self) -> str:
        """The address it listens at."""
        return self._host

    @property
    def port(self) -> int:
        """The WebSocket's port.

        Raises:
            StateError: It was never started.
        """
        return self._listening()[0]

    @property
    def http_port(self) -> int:
        """The file server's port; raises what `port` does."""
        return self._listening()[1]

    @property
    def url(self) -> str:
        """The WebSocket's URL."""
        return f"{'ws' if self._tls is None else 'wss'}://{_bracketed(self._host)}:{self.port}/ws"

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return len(self._connections)

    @property
    def accepted(self) -> int:
        """Clients that ever connected."""
        return self._accepted

    @property
    def requests(self) -> int:
        """Requests it has read."""
        return self._service.requests

    def token(self, role: str = "admin", *, lifetime: float = 3600.0) -> str:
        """A JWT it accepts.

        Args:
            role: ``viewer``, ``operator`` or ``admin``.
            lifetime: Seconds; one below 0 gives a token that has expired.

        Raises:
            UsageError: No such role.
        """
        if role not in ROLES:
            raise UsageError(f"the roles are {', '.join(ROLES)}, not {role}")
        return self._access.token(role, lifetime)

    def expire_tokens(self) -> None:
        """Every token issued until now expires, those of open connections too; keys do not."""
        self._access.expire_tokens()

    # -- what is there ----------------------------------------------------------------------------

    @property
    def cameras(self) -> Mapping[str, SimCamera]:
        """The cameras by device; change one to see what clients make of it."""
        return self._service.cameras

    def add_camera(self, name: str = "", *, device: str = "") -> SimCamera:
        """Plug a camera in; whoever listens is told.

        Args:
            name: What people call it.
            device: ``/dev/video7`` or ``camera7``; the first that is free by default.

        Raises:
            UsageError: There is one of this device.
        """
        return self._service.add_camera(name, device)

    def remove_camera(self, device: str) -> None:
        """Pull a camera out; whoever listens is told.

        Raises:
            UsageError: There is none.
        """
        self._service.remove_camera(device)

    def tell(self, topic: str, payload: dict[str, Any]) -> None:
        """Send a notification, in the form of the generation, to whoever is to hear of the topic.

        Args:
            topic: ``camera.status_change`` for example.
            payload: What is told.
        """
        self._service.tell(topic, payload)

    # -- trouble ----------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Read nothing and send nothing, not even pongs, until `thaw`."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._flowing.set()

    def drop(self) -> None:
        """Cut every connection without a word."""
        for connection in self._connections.values():
            connection.drop()

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """Close every connection with a code: 1001 (going away), 1013 (try again later), 1008, 1009."""
        self.thaw()
        async with TaskScope("goodbye") as scope:
            jobs = {number: one.aclose(code, reason) for number, one in self._connections.items()}
            await scope.gather(jobs, name="close")

    async def restart(self, *, cameras: int | Sequence[str] | None = None) -> None:
        """Stop without a word, and come back at the same ports with the same files.

        Args:
            cameras: Those it has afterwards; the same as before by default.

        Raises:
            ConnectionError: Somebody else took the port meanwhile.
        """
        await self.stop(abruptly=True)
        if cameras is not None:
            self._service.cameras.clear()
            self._plug_in(cameras)
        await self.start()

    # -- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; again at the same ports after `stop`.

        Raises:
            ConnectionError: The address cannot be listened at.
            StateError: It listens already, or the context was not entered.
            StorageError: The directory cannot be used.
        """
        if self._runner is not None:
            raise StateError("the service is started already")
        if self._home is None:
            raise StateError("the service is an async context manager; enter it first")
        store = Store(self._home, Clips(self._home, self._clip, self._picture), live=self._live)
        await store.open()
        self._service.open(store)
        app = web_app(self._service, self._access, self._socket)
        runner = self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
        try:
            await runner.setup()
            self._ports = await self._listen(runner)
        except BaseException:
            await finish(self.stop(abruptly=True))
            raise

    async def stop(self, *, abruptly: bool = False) -> None:
        """Listen no more; files of running recordings are finished. Harmless when called twice.

        Args:
            abruptly: Cut connections without a word.
        """
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in runner.sites:
            await site.stop()
        if not abruptly:
            self._service.tell("system.shutdown", {"reason": "stopped"})
            await self.close(aiohttp.WSCloseCode.GOING_AWAY, "Server shutdown")
        self.drop()
        self.thaw()
        await self._service.aclose()
        await runner.cleanup()

    async def __aenter__(self) -> "MediaMTXSimulator":
        try:
            self._home = self._directory or await self._temporary()
            await self.start()
        except BaseException:
            await finish(self._stack.aclose())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await finish(self._leave())

    # -- inside -----------------------------------------------------------------------------------

    async def _leave(self) -> None:
        try:
            await self.stop()
        finally:
            self._home = None
            await self._stack.aclose()

    async def _temporary(self) -> Path:
        """A directory that is deleted in the end, also when this is cancelled meanwhile."""

        async def make() -> Path:
            temporary = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="asynccam-mediamtx-")
            self._stack.push_async_callback(asyncio.to_thread, temporary.cleanup)
            return Path(temporary.name)

        return await finish(make())

    def _plug_in(self, cameras: int | Sequence[str]) -> None:
        for name in [""] * cameras if isinstance(cameras, int) else cameras:
            self._service.add_camera(name, "")

    def _listening(self) -> tuple[int, int]:
        if self._ports is None:
            raise StateError("the service was never started")
        return self._ports

    async def _listen(self, runner: web.AppRunner) -> tuple[int, int]:
        port, http_port = self._ports or self._wanted
        port = await self._open(runner, port)
        return port, port if http_port in (None, port) else await self._open(runner, http_port or 0)

    async def _open(self, runner: web.AppRunner, port: int) -> int:
        before = len(runner.addresses)
        try:
            await web.TCPSite(runner, self._host, port, ssl_context=self._tls).start()
        except OSError as error:
            raise ConnectionError(f"cannot listen at {self._host}:{port}: {error.strerror}") from error
        return int(runner.addresses[before][1])

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """Serve one client of the WebSocket."""
        socket = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS, autoping=False, max_msg_size=self.ways.max_message
        )
        await socket.prepare(request)
        if self.ways.max_connections is not None and self.connections >= self.ways.max_connections:
            await socket.close(code=aiohttp.WSCloseCode.TRY_AGAIN_LATER, message=b"Too many connections")
            return socket
        self._accepted += 1
        number = self._accepted
        connection = ClientConnection(number, socket, request, self._service, self._dispatcher, self._flowing)
        self._connections[number] = connection
        self._service.callers.append(connection)
        try:
            await connection.run()
        finally:
            self._service.callers.remove(connection)
            del self._connections[number]
        return socket


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
