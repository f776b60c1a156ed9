"""What the command says: results on stdout, for people or as JSON; everything else on stderr."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress_bar import ProgressBar
from rich.text import Text
from rich.theme import Theme

from asynccam.cli.errors import one_line
from asynccam.errors import StorageError
from asynccam.model.credentials import CREDENTIALS_LOG
from asynccam.model.event_json import plain
from asynccam.model.features import Progress as Report

THEME: Final = Theme(
    {
        "good": "green",
        "bad": "bold red",
        "busy": "yellow",
        "recording": "bold red",
        "faint": "bright_black",
        "name": "bold",
        "key": "cyan",
        "bar.back": "grey23",
        "bar.complete": "cyan",
        "bar.finished": "green",
    }
)
_PIPE_WIDTH: Final = 200
"""Columns where nobody's terminal sets them, so that a piped table is not cut to 80."""


class Output:
    """Where a command puts its results and its talk.

    Args:
        json: Results are JSON; nothing else goes to stdout.
        verbose: The log of the library goes to stderr, and errors come with their traceback.

    Attributes:
        animate: True where stderr is a terminal, so that progress may be drawn.
    """

    def __init__(self, *, json: bool = False, verbose: bool = False) -> None:
        self.json = json
        self.verbose = verbose
        self._muted = False
        self.animate = sys.stderr.isatty()
        self.stdout = console(width=_width(sys.stdout.isatty()))
        self.stderr = console(stderr=True, width=_width(self.animate))

    def set_up_logging(self) -> None:
        """Send the library's log to stderr if asked for, and nowhere if not."""
        root = logging.getLogger()
        if self.verbose:
            root.addHandler(RichHandler(console=self.stderr, show_path=False, log_time_format="%H:%M:%S.%f"))
            root.setLevel(logging.INFO)
            logging.getLogger("asynccam").setLevel(logging.DEBUG)
        else:
            root.addHandler(logging.NullHandler())
            logging.getLogger(CREDENTIALS_LOG).addHandler(_Complaints(logging.WARNING))

    def mute(self) -> None:
        """Give no result any more: the command is being left."""
        self._muted = True

    def show(self, *parts: RenderableType) -> None:
        """Show a result to a person; says nothing with ``--json``."""
        if not self.json and not self._muted:
            with _to_stdout():
                self.stdout.print(*parts, sep="\n")

    def document(self, value: Any) -> None:
        """Give the whole result as one JSON document; says nothing without ``--json``."""
        if self.json and not self._muted:
            _write_line(json.dumps(plain(value), indent=2))

    def line(self, value: Any) -> None:
        """Give one JSON line of a stream; says nothing without ``--json``."""
        if self.json:
            _write_line(json.dumps(plain(value)))

    def note(self, text: str) -> None:
        """Tell a person at a terminal something that is not the result."""
        if self.animate:
            self.stderr.print(Text(text, style="faint"))

    def failure(self, command: str, error: BaseException) -> None:
        """Say what went wrong, in one plain line; with ``--verbose`` after the traceback."""
        if self.verbose:
            trace = "".join(traceback.format_exception(error)).rstrip()
            self.stderr.print(Text(trace, style="faint"), soft_wrap=True)
        complain(f"{command}: {one_line(error)}")

    @contextmanager
    def waiting(self, text: str, seconds: float | None = None) -> Iterator[None]:
        """Draw a wait while the block runs.

        Args:
            text: What is waited for.
            seconds: How long it will take, where that is known.
        """
        columns = (SpinnerColumn(style="busy"), TextColumn("{task.description}", markup=False), _TimeColumn())
        with Progress(*columns, console=self.stderr, transient=True, disable=not self.animate) as progress:
            progress.add_task(text, total=seconds)
            yield

    @contextmanager
    def transfer(self, text: str) -> Iterator[Report]:
        """Draw a transfer while the block runs; gives the callback that tells how far it is."""
        columns = (
            SpinnerColumn(style="busy"),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.stderr, transient=True, disable=not self.animate) as progress:
            task = progress.add_task(text, total=None)

            def report(received: int, total: int | None) -> None:
                progress.update(task, completed=received, total=total)

            yield report


class _TimeColumn(ProgressColumn):
    """A bar that fills with the passing of time, and the seconds that are left."""

    def render(self, task: Task) -> RenderableType:
        elapsed = task.elapsed or 0.0
        if task.total is None:
            return Text(f"{elapsed:.0f} s", style="faint")
        return ProgressBar(total=task.total, completed=min(elapsed, task.total), width=30)


def console(**options: Any) -> Console:
    """A Rich console in the command's style, to which text from a device is never markup."""
    return Console(theme=THEME, markup=False, emoji=False, highlight=False, **options)


def _write_line(text: str) -> None:
    with _to_stdout():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


@contextmanager
def _to_stdout() -> Iterator[None]:
    """Raise `StorageError` for what cannot be written, but `BrokenPipeError` as it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"standard output cannot be written: {error.strerror}") from error


def complain(text: str) -> None:
    """Write one plain line about trouble to stderr, if stderr takes it."""
    with suppress(OSError):  # a full disk or a closed pipe behind stderr must not end a take
        print(f"asynccam: {text}", file=sys.stderr, flush=True)


class _Complaints(logging.Handler):
    """Writes what is logged to stderr, a line each, however the command was called."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def _width(terminal: bool) -> int | None:
    return None if terminal or "COLUMNS" in os.environ else _PIPE_WIDTH
