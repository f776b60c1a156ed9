"""Every request: limit of connections, access policy, and the one place where errors become HTTP.

See docs/snapshot-server.md, "Safety".
"""

import asyncio
import hashlib
import hmac
import html
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from multidict import istr

from asynccam.errors import (
    AsynccamError,
    BusyError,
    NotFoundError,
    RecordingError,
    StateError,
    StorageError,
    TimeoutError,
    UsageError,
)
from asynccam.redaction import loggable
from asynccam.runtime.tasks import TaskScope
from asynccam.systems.snapshot.server.models import Problem
from asynccam.systems.snapshot.server.schemas import (
    PROBLEM_JSON,
    ProblemDocument,
    field_problems,
    json_response,
)
from asynccam.wall_clock import unix_now

MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body; there are no uploads."""
BODY_TIMEOUT: Final = 10.0
"""Seconds for a request's body to arrive."""
HEALTH: Final = "/healthz"
COOKIE: Final = "asynccam-snapshot"
COOKIE_SECONDS: Final = 30 * 24 * 3600
MIN_TOKEN: Final = 16
IDLE_TIMEOUT: Final = 30.0
"""Seconds for a new connection to send a complete request head."""

_LOG = logging.getLogger(__name__)

HEADERS: Final[Mapping[str, str]] = {
    istr("Server"): "asynccam",
    istr("Content-Security-Policy"): (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
    ),
    istr("X-Content-Type-Options"): "nosniff",
    istr("X-Frame-Options"): "DENY",
    istr("Referrer-Policy"): "same-origin",
    istr("Cross-Origin-Opener-Policy"): "same-origin",
    istr("Permissions-Policy"): "camera=(), microphone=(), geolocation=()",
}
"""Headers of every response."""

_FILE_SECONDS: Final = 300.0
"""Seconds that sending a picture may take."""
_FIRST_REQUEST_SHARE: Final = 1 / 6
"""Share of the idle timeout after which a connection without a first request makes room for another."""
_MAX_REFUSING: Final = 64
"""Refused connections that are kept open to read the response; more are closed at once."""
_REFUSING_SECONDS: Final = 1.0
_TOO_MANY_CONNECTIONS: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 37\r\n\r\n"
    b"Too many connections; try again soon."
)

_BEARER: Final = "bearer "
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_CHANGING_PATHS: Final = ("/api/snapshot/",)
"""Paths whose GET takes a picture, as on existing servers."""
_BROWSER_AGENTS: Final = ("Mozilla/", "Opera/")
_BROWSER_HEADERS: Final = ("Sec-Fetch-Mode", "Sec-Fetch-Dest", "Upgrade-Insecure-Requests", "Sec-GPC", "DNT")
_OPEN_PATHS: Final = (HEALTH, "/login", "/static/")
_PRIVATE_SUFFIXES: Final = (".local", ".localhost", ".lan", ".internal", ".home.arpa")
"""Names that nobody can register, and point to this server."""

_RETRY_SECONDS: Final = "2"
_HTML_TEXT: Final = {
    400: "The server could not understand the request.",
    404: "The requested URL was not found on the server. If you entered the URL manually please check your "
    "spelling and try again.",
    405: "The method is not allowed for the requested URL.",
    413: "The data value transmitted exceeds the capacity limit.",
    415: "The server does not support the media type transmitted in the request.",
    500: "The server encountered an internal error and was unable to complete your request.",
    503: "The server has too much to do at the moment. Please try again soon.",
}
_HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed", 408: "too_slow", 413: "too_large"}
_ERROR_CODES: Final[tuple[tuple[type[AsynccamError], int, str], ...]] = (
    (NotFoundError, 404, "not_found"),
    (BusyError, 503, "busy"),
    (StateError, 409, "not_now"),
    (UsageError, 422, "invalid"),
    (TimeoutError, 504, "timeout"),
    (RecordingError, 502, "capture_failed"),
    (StorageError, 507, "storage"),
    (AsynccamError, 502, "device"),
)
"""Status and code of each error of the library; the first match counts."""


# -- errors -------------------------------------------------------------------------------------


class RequestError(Exception):
    """A refused request: HTTP status, ``code`` for programs, message for people, and invalid fields."""

    def __init__(self, status: int, code: str, message: str, *, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.problems = problems


def error_response(request: web.Request, error: Exception) -> web.Response:
    """Return the response to a request that failed with ``error``.

    ``/api/v1/`` and ``/healthz`` respond with problem objects (RFC 9457), the API of existing servers with
    its own JSON, everything else with HTML.
    """
    match error:
        case RequestError():
            return _refusal(request, error)
        case AsynccamError():
            response = _legacy_error(request, error)
            if response is not None:
                return response
            status, code = next(
                (status, code) for kind, status, code in _ERROR_CODES if isinstance(error, kind)
            )
            return _problem_or_html(request, status, code, str(error))
        case web.HTTPException():  # aiohttp's own: unknown path, wrong method, body too large
            response = _problem_or_html(request, error.status, _HTTP_CODES.get(error.status, "refused"))
            if hdrs.ALLOW in error.headers:  # RFC 9110 15.5.6: a 405 must have it
                response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
            return response
        case _:
            _LOG.error("%s %s failed", request.method, request.path, exc_info=error)
            return _problem_or_html(request, 500, "internal")


def _refusal(request: web.Request, error: RequestError) -> web.Response:
    if error.status == 401 and request.path in ("/", "/settings") and request.method == "GET":
        return web.Response(status=302, headers={hdrs.LOCATION: f"login?next={request.path.strip('/')}"})
    if not _is_described(request) and request.path.startswith(("/api/", "/ui/")):
        response = json_response({"success": False, "error": error.message}, status=error.status)
    else:
        response = _problem_or_html(request, error.status, error.code, error.message, error.problems)
    if error.status == 401:
        # RFC 9110 15.5.2: "The server generating a 401 response MUST send a WWW-Authenticate header field".
        response.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="Snapshot"'
    if error.status == 413:
        response.force_close()  # rather than read a body that nobody needs
    return response


def _legacy_error(request: web.Request, error: AsynccamError) -> web.Response | None:
    """Return the response of existing servers; None for a path that they do not have."""
    path, missing = request.path, isinstance(error, NotFoundError)
    if path.startswith(("/snapshots/", "/download/")):
        return _html(404) if missing else _html(500, str(error))
    if not path.startswith(("/api/snapshot/", "/ui/snapshot/")):
        return None
    body = {"success": False, "error": str(error)}
    name = request.match_info.get("camera_name")
    if name is None:
        body["results"] = []
    elif missing:
        if "/" in name and path.startswith("/api/"):  # on existing servers such a name matches no route
            return _html(404)
        body["error"] = "Camera not found"
    if path.startswith("/ui/"):
        return json_response(body)
    # Existing servers know 500 only. A client must be able to tell an error that passes by itself.
    busy = isinstance(error, BusyError | StateError)
    response = json_response(body, status=404 if missing else 503 if busy else 500)
    if busy:
        response.headers[hdrs.RETRY_AFTER] = _RETRY_SECONDS
    return response


def _is_described(request: web.BaseRequest) -> bool:
    """Return whether a path is in the OpenAPI document."""
    return request.path.startswith("/api/v1/") or request.path == HEALTH


def _problem_or_html(
    request: web.BaseRequest, status: int, code: str, text: str = "", problems: tuple[Problem, ...] = ()
) -> web.Response:
    if not _is_described(request):
        return _html(status, text)
    title = HTTPStatus(status).phrase
    document = ProblemDocument(
        type=f"urn:asynccam:snapshot:{code}",
        title=title,
        status=status,
        detail=text or _HTML_TEXT.get(status, title),
        code=code,
        problems=field_problems(problems),
    )
    return _retry_later(json_response(document, status=status, content_type=PROBLEM_JSON))


def _html(status: int, text: str = "") -> web.Response:
    """Return an error page like that of the web framework of existing servers."""
    name = HTTPStatus(status).phrase
    text = html.escape(text or _HTML_TEXT.get(status, name))
    body = (
        f"<!doctype html>\n<html lang=en>\n<title>{status} {name}</title>\n<h1>{name}</h1>\n<p>{text}</p>\n"
    )
    return _retry_later(web.Response(text=body, status=status, content_type="text/html"))


def _retry_later(response: web.Response) -> web.Response:
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers[hdrs.RETRY_AFTER] = _RETRY_SECONDS
    return response


# -- every request ------------------------------------------------------------------------------


class RequestMiddleware:
    """Refuses or answers every request, at most ``max_requests`` at once.

    ``on_response`` is called with method, route and status of every response, ``on_refused`` with the code of
    every refusal.
    """

    def __init__(
        self,
        policy: "AccessPolicy",
        *,
        max_requests: int,
        on_response: Callable[[str, str, int], None],
        on_refused: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._max_requests = max_requests
        self._on_response = on_response
        self._on_refused = on_refused
        self._running = 0

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle a request, as a middleware of aiohttp."""
        transport = request.transport
        connection = transport.get_protocol() if transport is not None else None
        if isinstance(connection, LimitedConnection):
            connection.begin()
        sending = 0.0
        try:
            response = await self._respond(request, handler)
            if isinstance(response, web.FileResponse):
                sending = _FILE_SECONDS
        finally:
            if isinstance(connection, LimitedConnection):
                connection.end(sending)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s %s: %d", request.method, loggable(request.path_qs), response.status)
        resource = request.match_info.route.resource
        self._on_response(request.method, "none" if resource is None else resource.canonical, response.status)
        return response

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check(request)
        except RequestError as error:
            self._on_refused(error.code)
            return error_response(request, error)
        self._running += 1
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - an error ends one request, as a response and in the log
            return error_response(request, error)
        finally:
            self._running -= 1

    def _check(self, request: web.Request) -> None:
        self._policy.check(request)
        if self._running >= self._max_requests:
            raise RequestError(503, "busy", "Too many requests at once; try again soon.")
        if (request.content_length or 0) > MAX_BODY:
            raise RequestError(413, "too_large", f"A body must have at most {MAX_BODY} bytes.")
        if request.content_type.startswith("multipart/"):
            raise RequestError(415, "no_uploads", "This server accepts no uploads.")


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add `HEADERS` to a response."""
    response.headers.update(HEADERS)


# -- access -------------------------------------------------------------------------------------


class AccessPolicy:
    """Checks host, origin and token of every request before anything else sees it.

    A browser carries out what any page tells it to. A request that changes something is therefore refused if
    a page of another site sent it, and a host name that a stranger could own is always refused, which
    prevents DNS rebinding. Other programs than browsers are not affected.

    Args:
        token: Required of every request, or None.
        hosts: Host names of the server, besides those that are always allowed: addresses, names without a dot
            and names of a local network.
        clock: Returns Unix seconds.

    Raises:
        UsageError: The token is shorter than 16 characters, and could be guessed.
    """

    def __init__(
        self, *, token: str | None = None, hosts: Iterable[str] = (), clock: Callable[[], float] = unix_now
    ) -> None:
        if token is not None and len(token) < MIN_TOKEN:
            raise UsageError(f"a token must have at least {MIN_TOKEN} characters, not {len(token)}")
        self._clock = clock
        self._digest = None if token is None else _sha256(token)
        self._key = hashlib.sha256(b"asynccam snapshot cookie\0" + (self._digest or b"")).digest()
        self._named = frozenset(host.lower().rstrip(".") for host in hosts)
        self._own = self._named | {socket.gethostname().lower()}

    @property
    def wants_token(self) -> bool:
        """True if requests need a token."""
        return self._digest is not None

    def check(self, request: web.BaseRequest) -> None:
        """Check a request; raise `RequestError` if it is refused."""
        host = request.headers.get(hdrs.HOST)
        if host is None:
            # RFC 9112 3.2: HTTP/1.1 must send Host. HTTP/1.0, which no browser speaks, need not.
            host = ""
        elif not self._is_ours(host):
            # RFC 9110 15.5.20: 421 is for a host that this server does not answer for.
            message = f"This server does not go by the name {host!r}; --allow-host adds one."
            raise RequestError(421, "unknown_host", message)
        path = request.path
        changing = request.method not in _SAFE_METHODS or path.startswith(_CHANGING_PATHS)
        if changing and not self._same_origin(request, host):
            raise RequestError(403, "cross_site", "A page of another site must not ask for this.")
        if self._digest is not None and not path.startswith(_OPEN_PATHS) and not self._is_signed_in(request):
            raise RequestError(401, "token_needed", "This server asks for its token.")

    def accepts(self, token: str) -> bool:
        """Return whether a token is valid, in constant time."""
        return self._digest is not None and hmac.compare_digest(_sha256(token), self._digest)

    def cookie(self) -> str:
        """Return the value of a cookie that signs in for `COOKIE_SECONDS`."""
        # RFC 6265 5.2.1: a cookie expires at a time of day; it outlives this process.
        until = str(int(self._clock()) + COOKIE_SECONDS)
        return f"{until}.{self._sign(until)}"

    def _is_ours(self, host: str) -> bool:
        name = _host_name(host)
        return name is not None and (
            name in self._own or "." not in name or name.endswith(_PRIVATE_SUFFIXES) or _is_address(name)
        )

    def _same_origin(self, request: web.BaseRequest, host: str) -> bool:
        headers = request.headers
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return False
        # Over plain HTTP browsers do not send Sec-Fetch-Site, and no Origin with a GET.
        source = headers.get(hdrs.ORIGIN) or headers.get(hdrs.REFERER)
        if source is None:
            # A page can hide the source of a GET, but not that a browser sends it. Every browser sends an
            # Origin with a POST.
            return (
                request.method not in _SAFE_METHODS
                or "Sec-Fetch-Site" in headers
                or not _is_browser(headers)
                or (
                    self.wants_token and self._is_signed_in(request)
                )  # a page of another site is not: the cookie is SameSite=Strict
            )
        try:
            origin = urlsplit(source)
            name = (origin.hostname or "").rstrip(".")
            port = origin.port or {"http": 80, "https": 443}.get(origin.scheme)
        except ValueError:
            return False
        if name in self._named:  # a proxy in front may have changed Host
            return True
        default = 443 if origin.scheme == "https" else 80
        try:
            own = urlsplit(f"//{host}")
            return name == (own.hostname or "").rstrip(".") and port == (own.port or default) and bool(name)
        except ValueError:
            return False

    def _is_signed_in(self, request: web.BaseRequest) -> bool:
        shown = request.headers.get(hdrs.AUTHORIZATION, "")
        if shown[: len(_BEARER)].lower() == _BEARER:
            return self.accepts(shown[len(_BEARER) :].strip())
        until, _, signature = request.cookies.get(COOKIE, "").partition(".")
        right = hmac.compare_digest(signature.encode(errors="replace"), self._sign(until).encode())
        return right and until.isascii() and until.isdecimal() and int(until) > self._clock()

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(errors="replace"), hashlib.sha256).hexdigest()


def _is_browser(headers: Mapping[str, str]) -> bool:
    """Return whether a browser sent a request."""
    # Every browser's User-Agent begins alike (RFC 9110 10.1.5), and programs have their own names.
    # No page can set or remove the other headers.
    return headers.get(hdrs.USER_AGENT, "").startswith(_BROWSER_AGENTS) or any(
        name in headers for name in _BROWSER_HEADERS
    )


def _host_name(host: str) -> str | None:
    """Return the name in a ``Host`` header, or None if it is invalid."""
    if not host or any(letter in host for letter in "/\\@?# \t,"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - raises if it is not a number
    except ValueError:
        return None
    return (parts.hostname or "").rstrip(".") or None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


# -- connections --------------------------------------------------------------------------------


class ConnectionLimiter:
    """Creates the protocol of each new connection, and limits their number and idle time.

    Beyond the limit an idle connection is closed, or one that has not sent its first request for some
    seconds, so that silent clients keep no other out. If there is none, the new connection gets a 503 and is
    closed. ``refused`` counts the connections refused, ``dropped`` those closed because they were idle.
    """

    def __init__(
        self, make: Callable[[], web.RequestHandler], *, limit: int, idle_timeout: float = IDLE_TIMEOUT
    ) -> None:
        self._make = make
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._open: dict[LimitedConnection, None] = {}
        self._refusing: set[_RefusedConnection] = set()
        self._scope = TaskScope("snapshot-connections")
        self.refused = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        if len(self._open) >= self._limit and not self._make_room():
            self.refused += 1
            return _RefusedConnection(self._refusing)
        return LimitedConnection(self._make(), self._open)

    def open(self) -> None:
        """Begin to close idle connections."""
        self._scope.spawn(self._close_idle(), name="idle connections")

    async def aclose(self) -> None:
        """Stop, and close refused connections."""
        await self._scope.aclose()
        for refusing in tuple(self._refusing):
            refusing.end()

    def _make_room(self) -> bool:
        # In order of arrival: the first idle connection has waited about longest.
        now = asyncio.get_running_loop().time()
        for connection in self._open:
            least = 0.0 if connection.served else self._idle_timeout * _FIRST_REQUEST_SHARE
            if connection.idle_since is not None and connection.idle_since <= now - least:
                self._drop(connection)
                return True
        return False

    async def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._idle_timeout / 6)
            until = loop.time() - self._idle_timeout
            for connection in tuple(self._open):
                if connection.idle_since is not None and connection.idle_since < until:
                    self._drop(connection)

    def _drop(self, connection: "LimitedConnection") -> None:
        self.dropped += 1
        self._open.pop(connection, None)
        connection.drop()


class LimitedConnection(asyncio.Protocol):
    """aiohttp's protocol, and since when it waits for a request: ``idle_since`` is None during a request."""

    def __init__(self, inner: web.RequestHandler, opened: "dict[LimitedConnection, None]") -> None:
        self._inner = inner
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.idle_since: float | None = self._loop.time()
        self.served = False

    def begin(self) -> None:
        """Record the beginning of a request."""
        self.idle_since = None
        self.served = True

    def end(self, sending: float = 0.0) -> None:
        """Record the end of a request whose response may take up to ``sending`` seconds to send."""
        self.idle_since = self._loop.time() + sending

    def drop(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._opened[self] = None
        self._inner.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See `asyncio.Protocol`."""
        self._opened.pop(self, None)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._inner.data_received(data)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.resume_writing()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.eof_received()


class _RefusedConnection(asyncio.Protocol):
    """Sends a 503, and waits a moment for the client to read it.

    Closing with a request unread would reset the connection, and the client would not get the response.
    """

    def __init__(self, refusing: "set[_RefusedConnection]") -> None:
        self._refusing = refusing
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_TOO_MANY_CONNECTIONS)
        if len(self._refusing) >= _MAX_REFUSING:
            self._transport.close()
            return
        self._refusing.add(self)
        self._transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(_REFUSING_SECONDS, self.end)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._refusing.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def end(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()
