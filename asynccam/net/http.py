"""HTTP by aiohttp: a session that is borrowed or our own, and its errors as asynccam's."""

import builtins
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from asynccam.errors import (
    AddressError,
    AsynccamError,
    AuthenticationError,
    BusyError,
    ConnectionError,
    DeviceError,
    NotFoundError,
    PermissionDeniedError,
    RemoteProtocolError,
    StateError,
    TimeoutError,
    UsageError,
)
from asynccam.net.tcp import resolve_by_mdns
from asynccam.net.tls import untrusted
from asynccam.outside import clean_text
from asynccam.redaction import loggable
from asynccam.runtime.tasks import thread_errors

_LOG = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
"""Seconds for DNS, connecting and TLS."""


class _LocalResolver(ThreadedResolver):
    """The system's resolver, and mDNS for names below ``local.`` that it does not know."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            return await super().resolve(host, port, family)
        except OSError:
            # Many systems do not ask the local network: containers, and those without nss-mdns.
            found = await resolve_by_mdns(host)
            answers = [_resolved(host, address, port) for address in found]
            chosen = [answer for answer in answers if family in (socket.AF_UNSPEC, answer["family"])]
            if not chosen:
                raise
            return chosen


def _resolved(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST,
    )


def new_session() -> aiohttp.ClientSession:
    """Return a session, for the caller to close, that resolves ``.local`` names by mDNS if need be."""
    # Connections are kept alive, so a name is seldom resolved, and a device that moved is found at once.
    connector = aiohttp.TCPConnector(resolver=_LocalResolver(), use_dns_cache=False)
    return aiohttp.ClientSession(connector=connector)


class HttpResponse(NamedTuple):
    """A response with its whole body."""

    status: int
    body: bytes
    location: str = ""  # target of a redirect
    # Whether the server said where the body ends. If not, the connection's end does, even broken (RFC 9112).
    bounded: bool = True


class HttpClient:
    """Requests on one aiohttp session: borrowed and never closed, or our own, made at the first request.

    Without ``tls``, made by `asynccam.net.tls.client_context`, aiohttp's own context verifies.
    """

    def __init__(
        self, session: aiohttp.ClientSession | None = None, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.tls = tls
        self._session = session
        self._borrowed = session is not None
        self._closed = False

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str | URL,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = 30.0,
        quiet_timeout: float | None = None,
        maybe_executed: bool = False,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield the response, whatever its status; redirects are not followed.

        ``timeout`` is for the whole block, ``quiet_timeout`` for each byte, both in seconds or None.
        ``maybe_executed`` goes into the errors of a lost request: True unless it only reads. ``options`` are
        those of `aiohttp.ClientSession.request`.

        Raises:
            AddressError: The URL is invalid.
            ConnectionError: No connection, or it was lost.
            TimeoutError: No answer in time.
            AuthenticationError: The certificate is not trusted.
            RemoteProtocolError: The answer is not HTTP.
            StateError: The client or the borrowed session is closed.
            UsageError: A header or the address cannot be sent.
        """
        _log_request(method, url)
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT, sock_read=quiet_timeout)
        if self.tls is not None:
            options["ssl"] = self.tls
        options.setdefault("allow_redirects", False)  # credentials go only where the caller sends them
        options.setdefault("raise_for_status", False)  # a borrowed session may be set otherwise
        sending = True
        try:
            with http_errors(url, maybe_executed=maybe_executed):
                async with self._require_session().request(
                    method, url, headers=headers, timeout=limits, **options
                ) as response:
                    sending = False
                    _log_answer(method, url, response)
                    yield response
        except ValueError as error:
            if not sending or isinstance(error, AsynccamError):
                raise
            raise _usage_error(url, error) from error

    async def fetch(
        self,
        method: str,
        url: URL,
        *,
        limits: aiohttp.ClientTimeout,
        max_size: int,
        headers: Mapping[str, str] | None = None,
        maybe_executed: bool = False,
    ) -> HttpResponse:
        """Send a request and read the whole response, whatever its status, into memory.

        The fast path for frequent requests: ``limits`` are made once, by `limits_of`. Redirects are not
        followed. Errors are those of `request`, and `RemoteProtocolError` for over ``max_size`` bytes.
        """
        session = self._require_session()
        logs = _LOG.isEnabledFor(logging.DEBUG)
        if logs:
            _log_request(method, url)
        tls = True if self.tls is None else self.tls
        try:
            async with session.request(
                method,
                url,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
                raise_for_status=False,
                ssl=tls,
            ) as response:
                if logs:
                    _log_answer(method, url, response)
                content = response.content
                body = await content.readany()
                if not content.at_eof() and len(body) <= max_size:
                    body = await _read_rest(content, body, max_size)
                if len(body) > max_size:
                    raise RemoteProtocolError(f"{bare_url(url)} answered with more than {max_size} bytes")
                received = response.headers
                bounded = "Content-Length" in received or "Transfer-Encoding" in received
                location = clean_text(received["Location"]) if "Location" in received else ""
                return HttpResponse(response.status, body, location, bounded)
        except (aiohttp.ClientError, OSError, RuntimeError):
            with http_errors(
                url, maybe_executed=maybe_executed
            ):  # entered only for an error, because it costs time
                raise
        except ValueError as error:
            raise _usage_error(url, error) from error

    async def close_idle(self) -> None:
        """Close the session if it is our own; the next request creates another."""
        if not self._borrowed:
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    async def aclose(self) -> None:
        """Close the session if it is our own; harmless when called twice."""
        self._closed = True
        await self.close_idle()

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _require_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise StateError("the HTTP client is closed")
        if self._session is None:
            self._session = new_session()
        elif self._session.closed:
            raise StateError("the HTTP session is closed")
        return self._session


def _log_request(method: str, url: str | URL) -> None:
    if _LOG.isEnabledFor(logging.DEBUG):
        _LOG.debug("%s %s", method, bare_url(url))


def _log_answer(method: str, url: str | URL, response: aiohttp.ClientResponse) -> None:
    if _LOG.isEnabledFor(logging.DEBUG):
        headers = response.headers
        _LOG.debug(
            "%s %s: HTTP %d, %s, %s bytes",
            method,
            bare_url(url),
            response.status,
            loggable(headers.get("Content-Type", "no type")),
            loggable(headers.get("Content-Length", "unknown")),
        )


def _usage_error(url: str | URL, error: ValueError) -> UsageError:
    """Return the error for what aiohttp does not send: a header of several lines, an invalid host name."""
    return UsageError(f"{bare_url(url)} cannot be requested: {' '.join(str(error).split())}")


async def _read_rest(content: aiohttp.StreamReader, body: bytes, max_size: int) -> bytes:
    """Return the whole body, which begins with ``body``, or a little more than ``max_size`` bytes of it."""
    pieces = [body]
    length = len(body)
    while length <= max_size and (body := await content.readany()):
        pieces.append(body)
        length += len(body)
    return b"".join(pieces)


def limits_of(timeout: float | None) -> aiohttp.ClientTimeout:
    """Return the limits for `HttpClient.fetch`: ``timeout`` seconds for the whole, and `CONNECT_TIMEOUT`."""
    return aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)


@contextmanager
def http_errors(url: str | URL, *, maybe_executed: bool = False) -> Iterator[None]:
    """Turn aiohttp's errors into asynccam's, naming the address without credentials."""
    try:
        with thread_errors():  # host names are looked up in threads
            yield
    except AsynccamError:
        raise
    except aiohttp.InvalidURL as error:
        raise AddressError(f"not an HTTP address: {bare_url(url)}") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise AuthenticationError(untrusted(bare_url(url), error.certificate_error)) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise TimeoutError(f"no connection to {bare_url(url)} within {CONNECT_TIMEOUT:g} s") from error
    except builtins.TimeoutError as error:
        raise TimeoutError(
            f"no answer from {bare_url(url)} in time", maybe_executed=maybe_executed
        ) from error
    except aiohttp.ClientConnectorError as error:
        raise ConnectionError(
            f"cannot reach {bare_url(url)}: {error.os_error.strerror or error.os_error}"
        ) from error
    except aiohttp.ClientResponseError as error:
        words = " ".join(error.message.split())  # aiohttp draws an arrow below
        raise RemoteProtocolError(f"{bare_url(url)} does not speak HTTP: {words}") from error
    except aiohttp.ClientPayloadError as error:
        if isinstance(error.__cause__, ContentEncodingError):
            encoded = error.__cause__.message
            raise RemoteProtocolError(
                f"{bare_url(url)} sent a body that is not encoded as announced: {encoded}"
            ) from error
        raise ConnectionError(
            f"the connection to {bare_url(url)} was lost in the middle of its answer",
            maybe_executed=maybe_executed,
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionError(
            f"the connection to {bare_url(url)} was lost: {error}", maybe_executed=maybe_executed
        ) from error


def status_error(response: aiohttp.ClientResponse, what: str) -> AsynccamError:
    """Return the error for an unexpected status; ``what`` names the request in its text."""
    status = response.status
    reason = clean_text(response.reason or "")
    words = f"{what}: {bare_url(response.url)} answered HTTP {status} {reason}".rstrip()
    if status == 401:
        return AuthenticationError(words)
    if status == 403:
        return PermissionDeniedError(words)
    if status in (404, 410):
        return NotFoundError(words, status=str(status))
    if status in (408, 429, 502, 503, 504):
        return BusyError(words)
    if status < 400:
        return RemoteProtocolError(words)
    return DeviceError(words, status=str(status))


def bare_url(url: str | URL) -> str:
    """Return an address without user, password, query and fragment, for errors and the log."""
    try:
        plain = URL(url) if isinstance(url, str) else url
        return str(plain.with_query(None).with_fragment(None).with_user(None))
    except ValueError:
        return "an invalid address"
