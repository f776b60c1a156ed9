"""What a MediaMTX Camera Service refuses with, as exceptions.

::

    CameraServiceError (AsynccamError)             everything the service answers with an error
    ├── AuthenticationError                        sign-in failed or is needed
    │   └── PermissionDeniedError                  signed in, but the role is too low
    ├── CameraNotFoundError (NotFoundError)        no such camera, or no such file
    ├── MediaMTXError (DeviceError)                the media server or the stream failed
    ├── CameraBusyError (BusyError)                already recording, or not allowed in this state
    ├── RateLimitedError (RetryableError)          too many calls; ``retry_after`` may say how long to wait
    ├── StorageFullError (DeviceError)             the service's disk
    ├── UnsupportedError (DeviceError)             the method or the mode is not served
    └── ConnectionError (asynccam.ConnectionError) the connection could not be made, or went

The same number means different things in the two generations of the service, so the map is data,
one table a generation. See docs/protocols/mediamtx.md.
"""

from dataclasses import dataclass
from typing import Any, Final

from asynccam import errors
from asynccam.net.jsonrpc import RpcError


class CameraServiceError(errors.AsynccamError):
    """The service answered with an error.

    Attributes:
        code: The service's number for it, or 0 if there is none.
        message: The service's words.
        data: Whatever else it told, or None.
        method: The method that was called.
    """

    def __init__(self, message: str, *, code: int = 0, data: Any = None, method: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.method = method


class AuthenticationError(CameraServiceError, errors.AuthenticationError):
    """The credentials are missing, wrong or expired."""


class PermissionDeniedError(AuthenticationError, errors.PermissionDeniedError):
    """Signed in, but the role is too low.

    Attributes:
        required_role: The role it takes, where the service tells, or ``""``.
    """

    @property
    def required_role(self) -> str:
        """The role the method needs, where the service tells, or ``""``."""
        role = self.data.get("required_role") if isinstance(self.data, dict) else None
        return role if isinstance(role, str) else ""


class CameraNotFoundError(CameraServiceError, errors.NotFoundError):
    """The service has no such camera, stream or file."""


class MediaMTXError(CameraServiceError, errors.DeviceError):
    """The media server, the encoder or a stream failed."""


class CameraBusyError(CameraServiceError, errors.BusyError):
    """The camera already records, or does not allow the call in its present state."""


class StorageFullError(CameraServiceError, errors.DeviceError):
    """The service's own disk is full, or nearly."""


class UnsupportedError(CameraServiceError, errors.DeviceError):
    """The service does not serve this method or mode."""


class ConnectionError(errors.ConnectionError, CameraServiceError):
    """The service cannot be reached, or the connection was lost."""

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        CameraServiceError.__init__(self, message)
        self.maybe_executed = maybe_executed


class RateLimitedError(CameraServiceError, errors.RetryableError):
    """Too many calls.

    Attributes:
        retry_after: Seconds to wait, where the service tells, or None.
    """

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before the next call, where the service tells, or None."""
        given = self.data.get("retry_after_ms") if isinstance(self.data, dict) else None
        return (
            given / 1000
            if isinstance(given, (int, float)) and not isinstance(given, bool) and given >= 0
            else None
        )


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the map: the exception, and what the number means in words."""

    error: type[CameraServiceError]
    meaning: str


_JSON_RPC: Final[dict[int, ErrorKind]] = {
    -32700: ErrorKind(CameraServiceError, "the service could not read the request"),
    -32600: ErrorKind(CameraServiceError, "the service calls the request invalid"),
    -32601: ErrorKind(UnsupportedError, "the service does not have this method"),
    -32602: ErrorKind(CameraServiceError, "the service calls the parameters invalid"),
    -32603: ErrorKind(CameraServiceError, "the service failed inside"),
    -32001: ErrorKind(AuthenticationError, "sign-in failed, or is needed"),
}

_NOT_FOUND: Final = ErrorKind(CameraNotFoundError, "camera not found")
_RECORDING: Final = ErrorKind(CameraBusyError, "already recording")
_MEDIA: Final = ErrorKind(MediaMTXError, "the media server or the stream failed")
_STORAGE: Final = ErrorKind(StorageFullError, "the service's storage is low")
_UNSUPPORTED: Final = ErrorKind(UnsupportedError, "not supported, or not available")

ERROR_MAPS: Final[dict[int, dict[int, ErrorKind]]] = {
    1: {
        **_JSON_RPC,
        -32002: ErrorKind(RateLimitedError, "rate limited"),
        -32003: ErrorKind(PermissionDeniedError, "the role is too low"),
        -32004: _NOT_FOUND,
        -1000: _NOT_FOUND,
        -32005: _RECORDING,
        -1002: _RECORDING,
        -1006: _RECORDING,
        -32006: _MEDIA,
        -1003: _MEDIA,
        -1004: _MEDIA,
        -32007: _STORAGE,
        -1008: _STORAGE,
        -1010: _STORAGE,
        -32008: _UNSUPPORTED,
        -1001: _UNSUPPORTED,
        -1005: ErrorKind(CameraNotFoundError, "file not found"),
    },
    2: {
        **_JSON_RPC,
        -32002: ErrorKind(PermissionDeniedError, "the role is too low"),
        -32010: ErrorKind(CameraNotFoundError, "not found"),
        -32020: ErrorKind(CameraBusyError, "not allowed in this state"),
        -32030: _UNSUPPORTED,
        -32040: ErrorKind(RateLimitedError, "rate limited"),
        -32050: _MEDIA,
    },
}
"""Generation -> code -> what it is."""


def service_error(answer: RpcError, generation: int) -> CameraServiceError:
    """The exception for an error answer; an unknown code gives a plain `CameraServiceError`."""
    kind = ERROR_MAPS[generation].get(answer.code)
    meaning = kind.meaning if kind else "the service refused"
    said = f": {answer.message}" if answer.message else ""
    error = kind.error if kind else CameraServiceError
    return error(
        f"{answer.method}: {meaning}{said} (code {answer.code})",
        code=answer.code,
        data=answer.data,
        method=answer.method,
    )
