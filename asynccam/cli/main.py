"""Entry point of the ``asynccam`` command; works where Typer and Rich are missing."""

import os
import sys
from typing import Final

from asynccam.cli.errors import ExitCode

_EXTRA: Final = ("typer", "rich")
_STANDARD_STREAMS: Final = (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w"))


def run() -> None:
    """Run the command line and exit with its code."""
    open_standard_streams()
    try:
        from asynccam.cli.app import invoke

        code = invoke(sys.argv[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print('asynccam: the command needs Typer and Rich: pip install "asynccam[cli]"', file=sys.stderr)
        sys.exit(ExitCode.NOT_INSTALLED)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(code)


def open_standard_streams() -> None:
    """Connect each standard stream that the parent process closed to the null device.

    Without one, Python sets the stream to None, and the next file or socket opened gets its descriptor,
    into which a child process would write what it prints.
    """
    for name, descriptor, mode in _STANDARD_STREAMS:
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null == descriptor:
                os.set_inheritable(descriptor, True)
            else:
                os.dup2(null, descriptor)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
