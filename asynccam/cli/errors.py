"""Exit code and one-line message of an error, and printing it. Imports neither Typer nor Rich."""

import sys
from contextlib import suppress
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
    """Exit code of a command; docs/cli.md explains each."""

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
    # As shells report the end by a signal: 128 and its number (SIGINT, SIGPIPE, SIGTERM).
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


EXTRAS: Final = {
    "jinja2": "server",
    "paho": "server",
    "jwt": "server",
    "piexif": "server",
    "PIL": "server",
    "prometheus_client": "server",
    "av": "video",
    "numpy": "video",
}
"""Which extra brings a package that may not be installed."""


def escape_unprintable(text: str) -> str:
    """Return text with unprintable characters, terminal escapes among them, written as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


# The first match decides: subclasses come before their bases.
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


def flatten_errors(error: BaseException) -> list[BaseException]:
    """Return the exceptions of a group and its subgroups, or the exception itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in flatten_errors(inner)]
    return [error]


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code for an exception; for a group, that of its first exception."""
    first = flatten_errors(error)[0]
    if isinstance(first, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if _missing_extra(first) is not None:
        return ExitCode.NOT_INSTALLED
    return next((code for kind, code in _CODES if isinstance(first, kind)), ExitCode.INTERNAL)


def one_line(error: BaseException) -> str:
    """Return the message of an exception on one line, without a traceback."""
    return escape_unprintable("; ".join(" ".join(_message(leaf).split()) for leaf in flatten_errors(error)))


def print_error(text: str) -> None:
    """Write a one-line error message to stderr, if stderr accepts it."""
    with suppress(OSError):  # a full disk or a closed pipe behind stderr must not end a take
        print(f"asynccam: {text}", file=sys.stderr, flush=True)


def _message(error: BaseException) -> str:
    if isinstance(error, AsynccamError):
        return str(error) or type(error).__name__
    extra = _missing_extra(error)
    if isinstance(error, ModuleNotFoundError) and extra is not None:
        return f'this needs {error.name}: pip install "asynccam[{extra}]"'
    return f"unexpected {type(error).__name__}: {error} (--verbose shows where)"


def _missing_extra(error: BaseException) -> str | None:
    """Return the extra that provides the missing package, or None for other errors."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    return EXTRAS.get((error.name or "").partition(".")[0])
