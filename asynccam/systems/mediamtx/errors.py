"""Exceptions for the error codes of a MediaMTX Camera Service.

::

    CameraServiceError (AsynccamError)             any error response of the service
    ├── AuthenticationError                        sign-in failed or is needed
    │   └── PermissionDeniedError                  signed in, but the role is too low
    ├── CameraNotFoundError (NotFoundError)        no such camera, or no such file
    ├── MediaMTXError (DeviceError)                the media server or the stream failed
    ├── CameraBusyError (BusyError)                already recording, or not allowed in this state
    ├── RateLimitedError (RetryableError)          too many calls; ``retry_after`` may be the time to wait
    ├── StorageFullError (DeviceError)             the service's disk
    ├── UnsupportedError (DeviceError)             the method or the mode is not supported
    └── ConnectionError (asynccam.ConnectionError) the connection failed or was lost

The two generations of the service use the same codes with different meanings, so there is one table for
each. See docs/protocols/mediamtx.md.
"""

from typing import Any, Final

from asynccam import errors
from asynccam.net.jsonrpc import RpcError


class CameraServiceError(errors.AsynccamError):
    """The service replied with an error.

    Attributes:
        code: Error code, or 0 if there is none.
        message: Error message.
        data: Further data of the error, or None.
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
    """Signed in, but the role is too low."""

    @property
    def required_role(self) -> str:
        """Role that the method requires, or ``""`` if the service does not send it."""
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
    """The service does not support this method or mode."""


class ConnectionError(errors.ConnectionError, CameraServiceError):
    """The service cannot be reached, or the connection was lost."""

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        CameraServiceError.__init__(self, message)
        self.maybe_executed = maybe_executed


class RateLimitedError(CameraServiceError, errors.RetryableError):
    """Too many calls."""

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before the next call, or None if the service does not send it."""
        given = self.data.get("retry_after_ms") if isinstance(self.data, dict) else None
        return (
            given / 1000
            if isinstance(given, (int, float)) and not isinstance(given, bool) and given >= 0
            else None
        )


_Kind = tuple[type[CameraServiceError], str]
"""Exception and meaning of an error code."""

_JSON_RPC: Final[dict[int, _Kind]] = {
    -32700: (CameraServiceError, "the service could not read the request"),
    -32600: (CameraServiceError, "the service calls the request invalid"),
    -32601: (UnsupportedError, "the service does not have this method"),
    -32602: (CameraServiceError, "the service calls the parameters invalid"),
    -32603: (CameraServiceError, "the service had an internal error"),
    -32001: (AuthenticationError, "sign-in failed, or is needed"),
}

_UNKNOWN_CODE: Final[_Kind] = (CameraServiceError, "the service refused")
_NOT_FOUND: Final = (CameraNotFoundError, "camera not found")
_RECORDING: Final = (CameraBusyError, "already recording")
_MEDIA: Final = (MediaMTXError, "the media server or the stream failed")
_STORAGE: Final = (StorageFullError, "the service's storage is low")
_UNSUPPORTED: Final = (UnsupportedError, "not supported, or not available")

ERROR_MAPS: Final[dict[int, dict[int, _Kind]]] = {
    1: {
        **_JSON_RPC,
        -32002: (RateLimitedError, "rate limited"),
        -32003: (PermissionDeniedError, "the role is too low"),
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
        -1005: (CameraNotFoundError, "file not found"),
    },
    2: {
        **_JSON_RPC,
        -32002: (PermissionDeniedError, "the role is too low"),
        -32010: (CameraNotFoundError, "not found"),
        -32020: (CameraBusyError, "not allowed in this state"),
        -32030: _UNSUPPORTED,
        -32040: (RateLimitedError, "rate limited"),
        -32050: _MEDIA,
    },
}
"""Generation -> code -> kind."""


def service_error(reply: RpcError, generation: int) -> CameraServiceError:
    """Return the exception for an error reply; an unknown code gives a plain `CameraServiceError`."""
    kind, meaning = ERROR_MAPS[generation].get(reply.code, _UNKNOWN_CODE)
    message = f": {reply.message}" if reply.message else ""
    return kind(
        f"{reply.method}: {meaning}{message} (code {reply.code})",
        code=reply.code,
        data=reply.data,
        method=reply.method,
    )
