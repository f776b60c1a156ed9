"""The web of a Snapshot server: every request through one front, and the sockets it listens at."""

import asyncio
import logging
import resource
from collections.abc import Iterable
from types import TracebackType
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from asynccam.errors import AsynccamError, ConnectionError
from asynccam.systems.snapshot.server.answers import (
    html_error,
    is_described,
    json_answer,
    plain_error,
    problem,
    status_of,
)
from asynccam.systems.snapshot.server.api_legacy import FieldApi
from asynccam.systems.snapshot.server.api_v1 import ApiV1
from asynccam.systems.snapshot.server.metrics import Metrics
from asynccam.systems.snapshot.server.middleware import SILENCE, Connection, Door
from asynccam.systems.snapshot.server.pages import Pages, read_static
from asynccam.systems.snapshot.server.security import HEADERS, Guard, Refusal
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.sse import EventFeed

MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body; nothing is ever uploaded."""
MAX_CONNECTIONS: Final = 4096
MAX_REQUESTS: Final = 2048
_BACKLOG: Final = 1024
_KEEP_ALIVE: Final = 30.0
_SPARE_DESCRIPTORS: Final = 200
"""For cameras, files and processes, which must never want for one because of the web."""
_LINGERING: Final = 1.0
"""Seconds that a body nobody wants is read for, before the connection is closed."""
_SENDING_SECONDS: Final = 300.0
_SHUTDOWN_SECONDS: Final = 6.0

_CODES: Final = {404: "not_found", 405: "method_not_allowed", 408: "too_slow", 413: "too_large"}

_LOG = logging.getLogger(__name__)


class SnapshotWeb:
    """The REST APIs, the page and the event stream of a `SnapshotService`; an async context manager.

    Args:
        service: What takes the pictures; entered, and left, by the caller.
        host: Address to listen at.
        port: TCP port; 0 takes a free one.
        token: What every request has to show, or None.
        hosts: Names under which it is reached, see `asynccam.systems.snapshot.server.security.Guard`.
        max_connections: Connections at once; never more than the system gives descriptors for.
        max_requests: Requests being answered at once; more are told 503.
        silence: Seconds a connection may be without a request.

    Attributes:
        metrics: What ``/metrics`` shows.

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
        silence: float = SILENCE,
    ) -> None:
        self._service = service
        self._host = host
        self._port = port
        self._guard = Guard(token=token, hosts=hosts)
        self._max_connections = min(max_connections, _descriptors())
        self._max_requests = max_requests
        self._silence = silence
        self._running = 0
        self._feed = EventFeed(service)
        self.metrics = Metrics(service, self._feed)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._door: Door | None = None

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
        """Whether requests have to show a token."""
        return self._guard.wants_token

    async def __aenter__(self) -> "SnapshotWeb":
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    # -- opening and closing --------------------------------------------------------------------

    async def _open(self) -> None:
        @web.middleware
        async def front(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._front(request, handler)

        app = web.Application(middlewares=[front], client_max_size=MAX_BODY)
        pages = Pages(self._service, self._guard, await read_static())
        app.add_routes(FieldApi(self._service).routes())
        app.add_routes(ApiV1(self._service, self._feed).routes())
        app.add_routes(pages.routes())
        app.add_routes([web.get("/metrics", self.metrics.show)])
        app.on_response_prepare.append(_add_headers)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            lingering_time=_LINGERING,
            max_line_size=8190,
        )
        await self._runner.setup()
        make = self._runner.server
        assert make is not None
        self._door = Door(make, limit=self._max_connections, silence=self._silence)
        self.metrics.watch(self._door)
        self.metrics.open()
        self._feed.open()
        self._door.open()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._door, self._host, self._port, backlog=_BACKLOG)
        except OSError as error:
            words = error.strerror or str(error)
            raise ConnectionError(f"cannot listen at {self._host}:{self._port}: {words}") from error
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._feed.end_streams()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._door is not None:
            await self._door.aclose()
        await self._feed.aclose()
        self.metrics.close()

    # -- every request --------------------------------------------------------------------------

    async def _front(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse, or answer; note both."""
        transport = request.transport
        connection = transport.get_protocol() if transport is not None else None
        if isinstance(connection, Connection):
            connection.begin()
        sending = 0.0
        try:
            response: web.StreamResponse | None = self._refused(request)
            if response is None:
                self._running += 1
                try:
                    response = await _answered(request, handler)
                finally:
                    self._running -= 1
            if isinstance(response, web.FileResponse):
                sending = _SENDING_SECONDS
        finally:
            if isinstance(connection, Connection):
                connection.end(sending)
        resource_ = request.match_info.route.resource
        self.metrics.answered(
            request.method, resource_.canonical if resource_ is not None else "none", response.status
        )
        return response

    def _refused(self, request: web.Request) -> web.Response | None:
        refusal = self._guard.check(request)
        if refusal is None:
            if self._running >= self._max_requests:
                refusal = Refusal(503, "busy", "Too many requests at once; try again soon.")
            elif (request.content_length or 0) > MAX_BODY:
                refusal = Refusal(413, "too_large", f"A body has {MAX_BODY} bytes at most.")
            elif request.content_type.startswith("multipart/"):
                refusal = Refusal(415, "no_uploads", "Nothing is uploaded here.")
            else:
                return None
        self.metrics.refused(refusal.code)
        return _refusal(request, refusal)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or that of the error it raised."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = plain_error(request, error.status, _code(error.status))
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        return response
    except AsynccamError as error:
        status, code = status_of(error)
        return plain_error(request, status, code, str(error))
    except Exception:  # noqa: BLE001 - a fault of ours is one request's end, told as an answer and in the log
        _LOG.exception("%s %s failed", request.method, request.path)
        return plain_error(request, 500, "internal")


def _refusal(request: web.Request, refusal: Refusal) -> web.Response:
    if refusal.status == 401 and request.path in ("/", "/settings") and request.method == "GET":
        return web.Response(status=302, headers={hdrs.LOCATION: f"login?next={request.path.strip('/')}"})
    if is_described(request):
        response = problem(refusal.status, refusal.code, refusal.words)
    elif request.path.startswith(("/api/", "/ui/")):
        response = json_answer({"success": False, "error": refusal.words}, status=refusal.status)
    else:
        response = html_error(refusal.status, refusal.words)
    if refusal.status == 401:
        response.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="Snapshot"'
    if refusal.status == 413:
        response.force_close()  # rather than read what is not wanted
    return response


def _code(status: int) -> str:
    return {404: "not_found", 405: "method_not_allowed", 408: "too_slow", 413: "too_large"}.get(
        status, "refused"
    )


async def _add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _descriptors() -> int:
    """How many connections leave enough descriptors for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(16, soft - _SPARE_DESCRIPTORS)
