"""Every exception asynccam raises on purpose: one tree, one root.

::

    AsynccamError
    ├── UsageError (ValueError)                 the caller's mistake; nothing was sent
    │   ├── AddressError                        not a camera address
    │   ├── FeatureError                        the camera has no such feature
    │   └── StateError (RuntimeError)           not allowed in the object's present state
    ├── RetryableError                          the same call may succeed later
    │   ├── ConnectionError (ConnectionError)   the peer cannot be reached, or was lost
    │   ├── TimeoutError (TimeoutError)         a deadline passed
    │   ├── BusyError                           the device is doing something else
    │   │   └── TakenOverError                  it works for another client now
    │   └── TransferError                       a file stopped half way; ``part`` says what is kept
    ├── FatalError                              the same call will fail again
    │   ├── RemoteProtocolError                 the peer broke its protocol
    │   │   └── DamagedFileError                a downloaded file is broken; ``part`` is kept
    │   ├── DeviceError                         the peer understood, and refused
    │   │   ├── NotFoundError                   it has no such camera or file
    │   │   └── ClockNotSynchronizedError       it does not trust its own clock
    │   ├── StorageError (OSError)              this computer's disk
    │   │   ├── InsufficientSpaceError          too little space, detected before the transfer
    │   │   └── TargetExistsError (FileExistsError)
    │   └── RecordingError                      a local recorder could not do its work
    └── AuthenticationError                     credentials are missing, wrong or expired
        └── PermissionDeniedError               credentials are good, the role is too low

``ConnectionError`` and ``TimeoutError`` are also the builtins of the same name, so code that
already catches those keeps working. Three questions are answered by the class alone: whose
fault (``UsageError`` is ours), is it worth another try (``RetryableError``), and is it about
credentials (``AuthenticationError``, which no retry loop may swallow).
"""

import builtins
from pathlib import Path


class AsynccamError(Exception):
    """Root of every error asynccam raises on purpose."""


# -- the caller's mistakes ----------------------------------------------------------------------


class UsageError(AsynccamError, ValueError):
    """The call itself is wrong; nothing was sent and nothing changed."""


class AddressError(UsageError):
    """Text that should name a camera does not."""


class FeatureError(UsageError):
    """The camera does not have the feature that was asked for."""


class StateError(UsageError, RuntimeError):
    """The call is not allowed in the object's present state."""


# -- worth another try --------------------------------------------------------------------------


class RetryableError(AsynccamError):
    """The same call may succeed later."""


class ConnectionError(RetryableError, builtins.ConnectionError):
    """The peer cannot be reached, or the connection was lost.

    Attributes:
        maybe_executed: True if the request had left before the connection was lost, so the peer
            may have carried it out; False if it certainly did not.
    """

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed


class TimeoutError(RetryableError, builtins.TimeoutError):
    """A deadline passed.

    Attributes:
        maybe_executed: True if the request had left, so the peer may have carried it out.
    """

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed


class BusyError(RetryableError):
    """The device is occupied by another client or another task."""


class TakenOverError(BusyError):
    """The device works for another client now; what was started from here had been ended before."""


class TransferError(RetryableError):
    """A file transfer ended before the file did.

    Attributes:
        part: The bytes received, kept on disk, or None if there are none. The device may already have
            deleted its own copy, so asynccam never deletes this file.
        received: Bytes in ``part``.
        expected: Bytes the peer announced, or None if it announced no size.
    """

    def __init__(
        self, message: str, *, part: Path | None = None, received: int = 0, expected: int | None = None
    ) -> None:
        super().__init__(message)
        self.part = part
        self.received = received
        self.expected = expected


# -- not worth another try ----------------------------------------------------------------------


class FatalError(AsynccamError):
    """The same call will fail again until something else changes."""


class RemoteProtocolError(FatalError):
    """The peer sent something its protocol does not allow."""


class DamagedFileError(RemoteProtocolError):
    """A file was downloaded as the peer has it, and its content is broken: half a picture, for example."""

    def __init__(
        self, message: str, *, part: Path | None = None, received: int = 0, verdict: str = "damaged"
    ) -> None:
        super().__init__(message)
        self.part = part  # the download, kept on disk under another name than the file's own, or None
        self.received = received  # bytes in ``part``
        self.verdict = verdict  # ``truncated`` or ``damaged``; see docs/recording.md


class DeviceError(FatalError):
    """The device understood the request and refused it.

    Attributes:
        status: The device's own status, as it was received, or None.
    """

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(DeviceError):
    """The device has no camera or file of that name."""


class ClockNotSynchronizedError(DeviceError):
    """The device refuses a scheduled start because its clock is not synchronized."""


class StorageError(FatalError, OSError):
    """This computer's disk refused."""


class InsufficientSpaceError(StorageError):
    """Too little space for the file; detected before the transfer began.

    Attributes:
        needed: Bytes the file needs.
        free: Bytes available.
    """

    def __init__(self, message: str, *, needed: int = 0, free: int = 0) -> None:
        super().__init__(message)
        self.needed = needed
        self.free = free


class TargetExistsError(StorageError, FileExistsError):
    """The target file exists and overwriting was not asked for."""


class RecordingError(FatalError):
    """A local recorder could not start, or ended by itself.

    Attributes:
        output: The last lines the recorder process printed.
    """

    def __init__(self, message: str, *, output: str = "") -> None:
        super().__init__(message)
        self.output = output


# -- neither: the credentials -------------------------------------------------------------------


class AuthenticationError(AsynccamError):
    """Credentials are missing, wrong or expired; new ones are needed, not another try.

    Attributes:
        may_pass: True for a token that may only be too early for the peer's clock: another try may succeed.
    """

    may_pass: bool = False


class PermissionDeniedError(AuthenticationError):
    """The credentials are accepted, but their role does not allow the call."""
