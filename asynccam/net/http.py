"""HTTP by aiohttp: a session that is borrowed or our own, and its errors in asynccam's words."""

import builtins
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
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
from asynccam.runtime.threads import thread_errors

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
            answers = [_resolved(host, one, port) for one in found]
            chosen = [one for one in answers if family in (socket.AF_UNSPEC, one["family"])]
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
    """Return a session that finds names below ``local.`` by mDNS where the system does not; the caller's."""
    # Connections are kept, so a name is seldom looked up; and whoever moves is to be found at once.
    connector = aiohttp.TCPConnector(resolver=_LocalResolver(), use_dns_cache=False)
    return aiohttp.ClientSession(connector=connector)


class HttpResponse(NamedTuple):
    """A whole answer.

    Attributes:
        status: HTTP status.
        body: All of it.
        location: Where a redirect points to, or ``""``.
        bounded: Whether the server said where the body ends; without, it ends with the connection, broken
            or not.
    """

    status: int
    body: bytes
    location: str = ""
    bounded: bool = True


class HttpClient:
    """Requests on one aiohttp session; a borrowed session is never closed.

    Args:
        session: The session to use, or None for one of our own, made at the first request.
        tls: The context for ``https``, or None for aiohttp's own, which verifies; see
            `asynccam.net.tls.client_context`.
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
        """Send a request and hand out the response, whatever its status; redirects are not followed.

        Args:
            method: ``GET`` for example.
            url: Sent as it is when it is a `yarl.URL`.
            headers: Sent with it.
            timeout: Seconds for everything in the block, or None.
            quiet_timeout: Seconds in which at least a byte has to come, or None.
            maybe_executed: What the errors say of a request that was lost: True unless it only reads.
            options: Anything else `aiohttp.ClientSession.request` takes.

        Raises:
            AddressError: Not an address.
            ConnectionError: Nobody there, or gone half way.
            TimeoutError: Too slow.
            AuthenticationError: The certificate is not trusted.
            RemoteProtocolError: What came is not HTTP.
            StateError: The client, or the session it was lent, is closed.
            UsageError: A header or the address cannot be sent.
        """
        _log_request(method, url)
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT, sock_read=quiet_timeout)
        if self.tls is not None:
            options["ssl"] = self.tls
        options.setdefault("allow_redirects", False)  # credentials go where the caller sends them
        options.setdefault("raise_for_status", False)  # whatever a borrowed session is set to
        sending = True
        try:
            with http_errors(url, maybe_executed=maybe_executed):
                async with self._open().request(
                    method, url, headers=headers, timeout=limits, **options
                ) as response:
                    sending = False
                    _log_answer(method, url, response)
                    yield response
        except ValueError as error:
            if not sending or isinstance(error, AsynccamError):
                raise
            raise _unsendable(url, error) from error

    async def fetch(
        self,
        method: str,
        url: URL,
        *,
        limits: aiohttp.ClientTimeout,
        most: int,
        headers: Mapping[str, str] | None = None,
        maybe_executed: bool = False,
    ) -> HttpResponse:
        """Send a request and take the whole answer, whatever its status, into memory.

        The short way for what is asked often: limits are made once, not at each call. Redirects are not
        followed.

        Args:
            method: ``GET`` for example.
            url: Sent as it is.
            limits: Deadlines; see `limits_of`.
            most: Bytes the body may have.
            headers: Sent with it.
            maybe_executed: As for `request`.

        Raises:
            ConnectionError, TimeoutError, AuthenticationError, StateError, UsageError: As for `request`.
            RemoteProtocolError: What came is not HTTP, or has more than ``most`` bytes.
        """
        session = self._open()
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
                _log_answer(method, url, response)
                body = await _whole(response.content, most)
                if len(body) > most:
                    raise RemoteProtocolError(f"{bare(url)} answers with more than {most} bytes")
                told = response.headers
                bounded = "Content-Length" in told or "Transfer-Encoding" in told
                return HttpResponse(response.status, body, clean_text(told.get("Location", "")), bounded)
        except (aiohttp.ClientError, OSError, RuntimeError):
            with http_errors(url, maybe_executed=maybe_executed):  # only when there is one to tell
                raise
        except ValueError as error:
            raise _unsendable(url, error) from error

    async def rest(self) -> None:
        """Close the session if it is our own; the next request makes another."""
        if not self._borrowed:
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    async def aclose(self) -> None:
        """Close the session if it is our own; harmless when called twice."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None and not self._borrowed:
            await session.close()

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise StateError("the HTTP client is closed")
        if self._session is None:
            self._session = new_session()
        elif self._session.closed:
            raise StateError("the HTTP session is closed")
        return self._session


def _log_request(method: str, url: str | URL) -> None:
    if _LOG.isEnabledFor(logging.DEBUG):
        _LOG.debug("%s %s", method, bare(url))


def _log_answer(method: str, url: str | URL, response: aiohttp.ClientResponse) -> None:
    if _LOG.isEnabledFor(logging.DEBUG):
        headers = response.headers
        _LOG.debug(
            "%s %s: HTTP %d, %s, %s bytes",
            method,
            bare(url),
            response.status,
            loggable(headers.get("Content-Type", "no type")),
            loggable(headers.get("Content-Length", "unknown")),
        )


def _unsendable(url: str | URL, error: ValueError) -> UsageError:
    """What aiohttp refuses to send: a header of several lines, a host name that is none."""
    return UsageError(f"{bare(url)} cannot be asked so: {' '.join(str(error).split())}")


async def _whole(content: aiohttp.StreamReader, most: int) -> bytes:
    """Everything that comes, or a little more than ``most`` bytes of it."""
    body = await content.readany()
    if content.at_eof() or len(body) > most:
        return body
    pieces = [body]
    length = len(body)
    while length <= most and (body := await content.readany()):
        pieces.append(body)
        length += len(body)
    return b"".join(pieces)


def limits_of(timeout: float | None) -> aiohttp.ClientTimeout:
    """Deadlines for `HttpClient.fetch`: seconds for the whole, or None, and `CONNECT_TIMEOUT`."""
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
        raise AddressError(f"not an HTTP address: {bare(url)}") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise AuthenticationError(untrusted(bare(url), error.certificate_error)) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise TimeoutError(f"no connection to {bare(url)} within {CONNECT_TIMEOUT:g} s") from error
    except builtins.TimeoutError as error:
        raise TimeoutError(f"no answer from {bare(url)} in time", maybe_executed=maybe_executed) from error
    except aiohttp.ClientConnectorError as error:
        raise ConnectionError(
            f"cannot reach {bare(url)}: {error.os_error.strerror or error.os_error}"
        ) from error
    except aiohttp.ClientResponseError as error:
        words = " ".join(error.message.split())  # aiohttp draws an arrow below
        raise RemoteProtocolError(f"{bare(url)} does not speak HTTP: {words}") from error
    except aiohttp.ClientPayloadError as error:
        if isinstance(error.__cause__, ContentEncodingError):
            encoded = error.__cause__.message
            raise RemoteProtocolError(
                f"{bare(url)} answers what is not encoded as it says: {encoded}"
            ) from error
        raise ConnectionError(
            f"the connection to {bare(url)} was lost in the middle of its answer",
            maybe_executed=maybe_executed,
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionError(
            f"the connection to {bare(url)} was lost: {error}", maybe_executed=maybe_executed
        ) from error


def status_error(response: aiohttp.ClientResponse, what: str) -> AsynccamError:
    """What a status other than the hoped-for one means.

    Args:
        response: The answer.
        what: What was asked for, for the words.
    """
    status = response.status
    words = (
        f"{what}: {bare(response.url)} answered HTTP {status} {clean_text(response.reason or '')}".rstrip()
    )
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


def bare(url: str | URL) -> str:
    """An address without user, password, query and fragment, for errors and the log."""
    try:
        plain = URL(url) if isinstance(url, str) else url
        return str(plain.with_query(None).with_fragment(None).with_user(None))
    except ValueError:
        return "an address that is none"
