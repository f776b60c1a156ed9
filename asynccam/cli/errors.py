"""What an error means to the shell: one exit code and one plain line. Imports neither Typer nor Rich."""

from enum import IntEnum
from typing import Final

from asynccam.errors import (
    AsynccamError,
    AuthenticationError,
    DamagedFileError,
    DeviceError,
    RecordingError,
    RemoteProtocolError,
    RetryableError,
    StorageError,
    TransferError,
    UsageError,
)


class ExitCode(IntEnum):
    """How a command ended; docs/cli.md explains each."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    CREDENTIALS = 5
    STORAGE = 6
    RECORDING = 7
    INCOMPLETE = 8
    NOT_INSTALLED = 9
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


_EXTRAS: Final = {
    "paho": "server",
    "jwt": "server",
    "piexif": "server",
    "PIL": "server",
    "prometheus_client": "server",
    "av": "video",
    "numpy": "video",
}
"""Which extra brings a package that may not be installed."""


def visible(text: str) -> str:
    """Text with all that a terminal would obey or could not show written as an escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


# The first class that fits decides, so a subclass stands before its base.
_CODES: Final[tuple[tuple[type[AsynccamError], ExitCode], ...]] = (
    (UsageError, ExitCode.USAGE),
    (TransferError, ExitCode.INCOMPLETE),
    (DamagedFileError, ExitCode.INCOMPLETE),
    (RetryableError, ExitCode.UNREACHABLE),
    (AuthenticationError, ExitCode.CREDENTIALS),
    (StorageError, ExitCode.STORAGE),
    (RecordingError, ExitCode.RECORDING),
    (DeviceError, ExitCode.REFUSED),
    (RemoteProtocolError, ExitCode.REFUSED),
    (AsynccamError, ExitCode.REFUSED),  # a system's own base class: its service answered with an error
)


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions of a group, of its groups, and so on; of a lone exception itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


def exit_code(error: BaseException) -> ExitCode:
    """The exit code for an exception; of a group, that of the first one in it."""
    first = leaves(error)[0]
    if isinstance(first, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if _extra_of(first) is not None:
        return ExitCode.NOT_INSTALLED
    return next((code for kind, code in _CODES if isinstance(first, kind)), ExitCode.INTERNAL)


def one_line(error: BaseException) -> str:
    """The exception in one plain line, without a traceback."""
    return visible("; ".join(" ".join(_words(leaf).split()) for leaf in leaves(error)))


def _words(error: BaseException) -> str:
    if isinstance(error, AsynccamError):
        return str(error) or type(error).__name__
    extra = _extra_of(error)
    if isinstance(error, ModuleNotFoundError) and extra is not None:
        return f'this needs {error.name}: pip install "asynccam[{extra}]"'
    return f"unexpected {type(error).__name__}: {error} (--verbose shows where)"


def _extra_of(error: BaseException) -> str | None:
    """The extra that is not installed, if that is what is wrong."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    return _EXTRAS.get((error.name or "").partition(".")[0])
