"""Errors of a Snapshot server and its client.

::

    SnapshotClientError (AsynccamError)        any failure of a call
    ├── NotFoundError                          no such camera, picture or path
    ├── DeviceError                            the capture failed, or the server did
    ├── BusyError                              the server, or a proxy, is busy
    ├── AuthenticationError                    the token is missing or invalid
    │   └── PermissionDeniedError              the token does not permit the call
    ├── RemoteProtocolError                    the response is invalid
    │   └── DamagedFileError                   the picture is broken; ``part`` is the incomplete file
    ├── ConnectionError                        the server cannot be reached, or closed the connection
    └── TimeoutError                           the server did not respond in time

Each is also the error of the same name in `asynccam.errors`.
"""

import html
import json
import re
from pathlib import Path
from typing import Any, Final

from asynccam import errors
from asynccam.outside import clean_text, read_json

_INVISIBLE: Final = re.compile(
    r"<(script|style|title)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[^<>]*>", re.DOTALL | re.IGNORECASE
)
"""Invisible parts of a page; an unclosed one extends to the end, which keeps the search linear."""
_MAX_TEXT: Final = 300
_MAX_BODY: Final = 100_000


class SnapshotClientError(errors.AsynccamError):
    """A call failed.

    Attributes:
        status_code: HTTP status of the response, or None without one.
        response_text: Its body, or None.
    """

    def __init__(
        self, message: str, *, status_code: int | None = None, response_text: str | None = None
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.response_text = response_text


class NotFoundError(SnapshotClientError, errors.NotFoundError):
    """The server has no such camera, picture or path."""


class DeviceError(SnapshotClientError, errors.DeviceError):
    """The picture could not be taken."""


class BusyError(SnapshotClientError, errors.BusyError):
    """The server, or a proxy, is busy."""


class AuthenticationError(SnapshotClientError, errors.AuthenticationError):
    """The token is missing or invalid, or the server's certificate is not trusted."""


class PermissionDeniedError(AuthenticationError, errors.PermissionDeniedError):
    """The token does not permit the call."""


class RemoteProtocolError(SnapshotClientError, errors.RemoteProtocolError):
    """The response violates the protocol."""


class DamagedFileError(RemoteProtocolError, errors.DamagedFileError):
    """The picture that the server sent is broken: incomplete, for example.

    Attributes:
        part: The incomplete file ``NAME.part``, or None for a picture in memory.
        received: Bytes in ``part``.
        verdict: ``truncated`` or ``damaged``.
    """

    def __init__(
        self, message: str, *, part: Path | None = None, received: int = 0, verdict: str = "damaged"
    ) -> None:
        super().__init__(message, status_code=200)
        self.part = part
        self.received = received
        self.verdict = verdict


class ConnectionError(SnapshotClientError, errors.ConnectionError):
    """The server cannot be reached, or closed the connection."""

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        SnapshotClientError.__init__(self, message)
        self.maybe_executed = maybe_executed


class TimeoutError(SnapshotClientError, errors.TimeoutError):
    """The server did not respond in time."""

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        SnapshotClientError.__init__(self, message)
        self.maybe_executed = maybe_executed


def translated(error: errors.AsynccamError) -> errors.AsynccamError:
    """Return the error of the same name in this module; any other error unchanged."""
    if isinstance(error, SnapshotClientError):
        return error
    # A broken picture before an invalid response in general.
    kinds = (ConnectionError, TimeoutError, AuthenticationError, DamagedFileError, RemoteProtocolError)
    for kind in kinds:
        if isinstance(error, getattr(errors, kind.__name__)):
            same = kind(str(error))
            vars(same).update(vars(error))  # ``maybe_executed`` for example, or ``part``
            return same
    return error


def status_error(subject: str, url: str, status: int, location: str, body: bytes) -> SnapshotClientError:
    """Return the error of a response with a status other than 2xx.

    ``subject`` and ``url`` are named in its message; ``location`` is the header of a redirect, or ``""``.
    """
    text = clean_text(body.decode(errors="replace"))
    location = clean_text(location)
    if 300 <= status < 400:
        return RemoteProtocolError(
            f"{subject}: {url} has moved to {location or 'nowhere'}; use the new URL as base URL",
            status_code=status,
            response_text=text,
        )
    message = f"{subject}: {url} answered HTTP {status}"
    if said := error_text(text):
        message = f"{message}: {said}"
    return _error_class(status)(message, status_code=status, response_text=text)


def error_text(text: str) -> str:
    """Return the message in an error's body: ``error`` of JSON, text of a page, or the body, shortened."""
    text = text[:_MAX_BODY]  # bounded: parsing a huge body would take long
    try:
        said = _json_error(read_json(text, lenient=True))
    except ValueError:
        said = html.unescape(_INVISIBLE.sub(" ", text))
    said = clean_text(" ".join(said.split()))
    return said if len(said) <= _MAX_TEXT else f"{said[:_MAX_TEXT]}..."


def _json_error(value: Any) -> str:
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            return _json_error(value[key])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _error_class(status: int) -> type[SnapshotClientError]:
    if status in (404, 410):
        return NotFoundError
    if status == 401:
        return AuthenticationError
    if status == 403:
        return PermissionDeniedError
    if status in (408, 429, 502, 503, 504):
        return BusyError
    return DeviceError if status >= 400 else RemoteProtocolError
