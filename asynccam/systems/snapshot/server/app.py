"""Web server of a Snapshot server: its routes and the socket it listens at."""

import asyncio
import resource
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from asynccam.errors import ConnectionError
from asynccam.systems.snapshot.server.api_legacy import LegacyApi
from asynccam.systems.snapshot.server.api_v1 import ApiV1
from asynccam.systems.snapshot.server.metrics import ServerMetrics
from asynccam.systems.snapshot.server.middleware import (
    IDLE_TIMEOUT,
    MAX_BODY,
    AccessPolicy,
    ConnectionLimiter,
    RequestMiddleware,
    add_headers,
)
from asynccam.systems.snapshot.server.pages import Pages, read_files
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.sse import EventFeed

MAX_CONNECTIONS: Final = 4096
MAX_REQUESTS: Final = 2048
_BACKLOG: Final = 1024
_KEEP_ALIVE: Final = 30.0
_SPARE_DESCRIPTORS: Final = 200
"""File descriptors reserved for cameras, files and processes."""
_LINGERING: Final = 1.0
"""Seconds to read an unwanted body before the connection is closed."""
_SHUTDOWN_TIMEOUT: Final = 6.0


class SnapshotWeb:
    """REST APIs, page and event stream of a `SnapshotService`; an async context manager.

    Args:
        service: Entered and left by the caller.
        host: Address to listen at.
        port: TCP port; 0 takes a free one.
        token: Required of every request, or None.
        hosts: Host names of the server, see `asynccam.systems.snapshot.server.middleware.AccessPolicy`.
        max_connections: Maximum number of connections; also limited by the file descriptors of the process.
        max_requests: Requests answered at once; more get a 503.
        silence: Seconds a connection may be open without a request.

    Attributes:
        metrics: Served at ``/metrics``.

    Raises:
        UsageError: The token is too short.
    """

    def __init__(
        self,
        service: SnapshotService,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        hosts: Iterable[str] = (),
        max_connections: int = MAX_CONNECTIONS,
        max_requests: int = MAX_REQUESTS,
        silence: float = IDLE_TIMEOUT,
    ) -> None:
        self._service = service
        self._host = host
        self._port = port
        self._policy = AccessPolicy(token=token, hosts=hosts)
        self._max_connections = min(max_connections, _available_descriptors())
        self._max_requests = max_requests
        self._idle_timeout = silence
        self._feed = EventFeed(service)
        self.metrics = ServerMetrics(service, self._feed)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._limiter: ConnectionLimiter | None = None

    @property
    def port(self) -> int:
        """The port it listens at."""
        return self._port

    @property
    def url(self) -> str:
        """Its base URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def wants_token(self) -> bool:
        """True if requests need a token."""
        return self._policy.wants_token

    async def __aenter__(self) -> "SnapshotWeb":
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _open(self) -> None:
        middleware = RequestMiddleware(
            self._policy,
            max_requests=self._max_requests,
            on_response=self.metrics.answered,
            on_refused=self.metrics.refused,
        )
        app = web.Application(middlewares=[middleware.handle], client_max_size=MAX_BODY)
        app.add_routes(LegacyApi(self._service).routes())
        app.add_routes(ApiV1(self._service, self._feed).routes())
        app.add_routes(Pages(self._service, self._policy, await read_files()).routes())
        app.add_routes([web.get("/metrics", self.metrics.show)])
        app.on_response_prepare.append(add_headers)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
            lingering_time=_LINGERING,
            max_line_size=8190,
        )
        await self._runner.setup()
        make = self._runner.server
        assert make is not None
        self._limiter = ConnectionLimiter(make, limit=self._max_connections, idle_timeout=self._idle_timeout)
        self.metrics.watch(self._limiter)
        self.metrics.open()
        self._feed.open()
        self._limiter.open()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._limiter, self._host, self._port, backlog=_BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectionError(f"cannot listen at {self._host}:{self._port}: {reason}") from error
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._feed.end_streams()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._limiter is not None:
            await self._limiter.aclose()
        await self._feed.aclose()
        self.metrics.close()


def _available_descriptors() -> int:
    """Return how many connections leave enough descriptors for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(16, soft - _SPARE_DESCRIPTORS)
