"""Who may ask, and from where: host rule, same-origin rule, token, headers. See docs/snapshot-server.md.

A browser is the one client that carries out what strangers tell it to. So what changes something is
refused when another site's page asked for it, and a host name that could be a stranger's is
refused altogether, which is what stops DNS rebinding. Programs without a browser pass unseen.
"""

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from multidict import istr

from asynccam.errors import UsageError
from asynccam.wall_clock import unix_now

COOKIE: Final = "asynccam-snapshot"
COOKIE_SECONDS: Final = 30 * 24 * 3600
MIN_TOKEN: Final = 16

_BEARER: Final = "bearer "
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ACTING_PATHS: Final = ("/api/snapshot/",)
"""What acts even when it is asked for by GET, as in the field."""
_BROWSERS: Final = ("Mozilla/", "Opera/")
_OF_BROWSERS: Final = ("Sec-Fetch-Mode", "Sec-Fetch-Dest", "Upgrade-Insecure-Requests", "Sec-GPC", "DNT")
_OPEN_PATHS: Final = ("/healthz", "/login", "/static/")
_PRIVATE_SUFFIXES: Final = (".local", ".localhost", ".lan", ".internal", ".home.arpa")
"""Names that no stranger can register, so that none can point them here."""

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
"""Go with every answer."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes no further.

    Attributes:
        status: The HTTP status.
        code: One word for programs.
        words: For people.
    """

    status: int
    code: str
    words: str


class Guard:
    """Decides about every request before anything else sees it.

    Args:
        token: What a request has to show, or None.
        hosts: Names under which the server is reached, besides those that are always allowed: addresses,
            names without a dot, and names that only a local network has.
        clock: Gives Unix seconds.

    Raises:
        UsageError: The token is shorter than 16 characters, so could be guessed.
    """

    def __init__(
        self, *, token: str | None = None, hosts: Iterable[str] = (), clock: Callable[[], float] = unix_now
    ) -> None:
        if token is not None and len(token) < MIN_TOKEN:
            raise UsageError(f"a token has {MIN_TOKEN} characters at least, not {len(token)}")
        self._clock = clock
        self._digest = None if token is None else _sha256(token)
        self._key = hashlib.sha256(b"asynccam snapshot cookie\0" + (self._digest or b"")).digest()
        self._named = frozenset(host.lower().rstrip(".") for host in hosts)
        self._own = self._named | {socket.gethostname().lower()}
        self._known: set[str] = set()

    @property
    def wants_token(self) -> bool:
        """Whether requests have to show one."""
        return self._digest is not None

    def check(self, request: web.BaseRequest) -> Refusal | None:
        """Why the request is refused, or None."""
        host = request.headers.get(hdrs.HOST)
        if host is None:
            # Programs that speak HTTP/1.0, which need not say it; every browser does, and HTTP/1.1 has to.
            host = ""
        elif host not in self._known and not self._admit(host):
            return Refusal(
                421, "unknown_host", f"This server does not go by the name {host!r}; --allow-host adds one."
            )
        path = request.path
        acting = request.method not in _READING or path.startswith(_ACTING_PATHS)
        if acting and not self._same_origin(request, host):
            return Refusal(403, "cross_site", "A page of another site must not ask for this.")
        if self._digest is None or path.startswith(_OPEN_PATHS) or self._is_signed_in(request):
            return None
        return Refusal(401, "token_needed", "This server asks for its token.")

    def accepts(self, token: str) -> bool:
        """Whether a token is the right one; takes as long either way."""
        return self._digest is not None and hmac.compare_digest(_sha256(token), self._digest)

    def cookie(self) -> str:
        """A cookie's value that signs in for `COOKIE_SECONDS`."""
        # A cookie outlives this process, so its end is a time of day: RFC 6265 5.2.1.
        until = str(int(self._clock()) + COOKIE_SECONDS)
        return f"{until}.{self._sign(until)}"

    # -- within ---------------------------------------------------------------------------------

    def _admit(self, host: str) -> bool:
        name = _host_name(host)
        if name is None or not self._is_ours(name):
            return False
        if len(self._known) < 256:  # so that no flood of names fills the memory
            self._known.add(host)
        return True

    def _is_ours(self, name: str) -> bool:
        return name in self._own or "." not in name or name.endswith(_PRIVATE_SUFFIXES) or _is_address(name)

    def _same_origin(self, request: web.BaseRequest, host: str) -> bool:
        headers = request.headers
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return False
        # Over plain HTTP browsers send no Sec-Fetch-Site; a GET then has no Origin either.
        source = headers.get(hdrs.ORIGIN) or headers.get(hdrs.REFERER)
        if source is None:
            # A page can hide where a GET comes from, but not that a browser carries it out. POST has an
            # Origin in every browser.
            return (
                request.method not in _READING
                or "Sec-Fetch-Site" in headers
                or not _is_browser(headers)
                or (self.wants_token and self._is_signed_in(request))  # which another site's page is not
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


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this computer only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_browser(headers: Mapping[str, str]) -> bool:
    """Return whether a request was sent by a browser, which carries out what any page tells it to.

    Every browser's ``User-Agent`` begins alike (RFC 9110, 10.1.5), and programs have names of their own. The
    other headers are the browser's alone: no page can set or remove them.
    """
    return headers.get(hdrs.USER_AGENT, "").startswith(_BROWSERS) or any(
        name in headers for name in _OF_BROWSERS
    )


def _host_name(host: str) -> str | None:
    """The name in a ``Host`` header, or None when it is none."""
    if not host or any(letter in host for letter in "/\\@?# \t,"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - raises for one that is no number
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
