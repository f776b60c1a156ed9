"""Where the ``asynccam`` command begins, which has to work where Typer and Rich are missing."""

import sys
from typing import Final

from asynccam.cli.errors import ExitCode

_EXTRA: Final = ("typer", "rich")


def run() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from asynccam.cli.app import invoke
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print('asynccam: the command needs Typer and Rich: pip install "asynccam[cli]"', file=sys.stderr)
        sys.exit(ExitCode.NOT_INSTALLED)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(invoke(sys.argv[1:]))
