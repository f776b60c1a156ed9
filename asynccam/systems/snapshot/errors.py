"""What a Snapshot server refuses with, and how it fails to answer, as exceptions.

::

    SnapshotClientError (AsynccamError)        everything that goes wrong with a call
    ├── NotFoundError                          no such camera or picture, or no such path
    ├── DeviceError                            the capture failed, or the server did
    ├── BusyError                              the server, or what stands before it, is occupied
    ├── AuthenticationError                    it wants a token, or another one
    │   └── PermissionDeniedError              it has the token, and still refuses
    ├── RemoteProtocolError                    the answer is none
    │   └── DamagedFileError                   the picture is broken; ``part`` is what came of it
    ├── ConnectionError                        the server cannot be reached, or went away
    └── TimeoutError                           it did not answer in time

Each is the error of the same name in `asynccam.errors` too.
"""

import html
import json
import re
from pathlib import Path
from typing import Any, Final

from asynccam import errors
from asynccam.outside import clean_text, read_json

_UNSHOWN: Final = re.compile(
    r"<(script|style|title)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[^<>]*>", re.DOTALL | re.IGNORECASE
)
"""What a page does not show; what is never closed reaches to its end, so that nothing is looked at twice."""
_MOST_WORDS: Final = 300
_MOST_READ: Final = 100_000


class SnapshotClientError(errors.AsynccamError):
    """A call came to nothing.

    Attributes:
        status_code: HTTP status of the answer, or None if there was none.
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
    """The server understood, and the picture could not be taken."""


class BusyError(SnapshotClientError, errors.BusyError):
    """The server, or what stands before it, is occupied."""


class AuthenticationError(SnapshotClientError, errors.AuthenticationError):
    """The server wants a token, or another one; or its certificate is not trusted."""


class PermissionDeniedError(AuthenticationError, errors.PermissionDeniedError):
    """The server does not allow the call."""


class RemoteProtocolError(SnapshotClientError, errors.RemoteProtocolError):
    """What the server sent is not what its protocol allows."""


class DamagedFileError(RemoteProtocolError, errors.DamagedFileError):
    """The picture that the server sent is broken: half of one, for example.

    Attributes:
        part: What came, kept on disk as ``NAME.part``, or None for a picture in memory.
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
    """The server cannot be reached, or went away."""

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        SnapshotClientError.__init__(self, message)
        self.maybe_executed = maybe_executed


class TimeoutError(SnapshotClientError, errors.TimeoutError):
    """The server did not answer in time."""

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        SnapshotClientError.__init__(self, message)
        self.maybe_executed = maybe_executed


def translated(error: errors.AsynccamError) -> errors.AsynccamError:
    """An error of the transport as the one of the same name here; any other as it is."""
    match error:
        case SnapshotClientError():
            return error
        case errors.ConnectionError():
            return ConnectionError(str(error), maybe_executed=error.maybe_executed)
        case errors.TimeoutError():
            return TimeoutError(str(error), maybe_executed=error.maybe_executed)
        case errors.AuthenticationError():
            return AuthenticationError(str(error))
        case errors.DamagedFileError():
            return DamagedFileError(
                str(error), part=error.part, received=error.received, verdict=error.verdict
            )
        case errors.RemoteProtocolError():
            return RemoteProtocolError(str(error))
        case _:
            return error


def refusal(what: str, url: str, status: int, location: str, body: bytes) -> SnapshotClientError:
    """What a status other than 2xx means.

    Args:
        what: What was asked for, for the words.
        url: Where, for the words.
        status: HTTP status.
        location: Where the answer points to, or ``""``.
        body: JSON, an HTML page of the web framework, or anything else.
    """
    text = clean_text(body.decode(errors="replace"))
    location = clean_text(location)
    if 300 <= status < 400:
        return RemoteProtocolError(
            f"{what}: {url} has moved to {location or 'nowhere'}; give the new place as base URL",
            status_code=status,
            response_text=text,
        )
    words = f"{what}: {url} answered HTTP {status}"
    if said := said_in(text):
        words = f"{words}: {said}"
    return _kind(status)(words, status_code=status, response_text=text)


def said_in(text: str) -> str:
    """What the body of an error says: its ``error`` in JSON, the words of a page, or itself; shortened."""
    text = text[:_MOST_READ]  # who sends more makes nobody wait until it is understood
    try:
        said = _error_of(read_json(text, lenient=True))
    except ValueError:
        said = html.unescape(_UNSHOWN.sub(" ", text))
    said = clean_text(" ".join(said.split()))
    return said if len(said) <= _MOST_WORDS else f"{said[:_MOST_WORDS]}..."


def _error_of(answer: Any) -> str:
    for key in ("error", "message", "detail"):
        if isinstance(answer, dict) and answer.get(key):
            return _error_of(answer[key])
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _kind(status: int) -> type[SnapshotClientError]:
    if status in (404, 410):
        return NotFoundError
    if status == 401:
        return AuthenticationError
    if status == 403:
        return PermissionDeniedError
    if status in (408, 429, 502, 503, 504):
        return BusyError
    return DeviceError if status >= 400 else RemoteProtocolError
