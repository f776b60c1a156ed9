"""Output of commands: results on stdout, as text or JSON; everything else on stderr."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
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

from asynccam.cli.errors import one_line, print_error
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
"""Columns of output that is not a terminal, so that a piped table is not cut to 80."""


class Output:
    """Destination of a command's results and messages.

    With ``json`` results are printed as JSON, and nothing else on stdout; with ``verbose`` there is a log on
    stderr, and errors have tracebacks.
    """

    def __init__(self, *, json: bool = False, verbose: bool = False) -> None:
        self.json = json
        self.verbose = verbose
        self._muted = False
        self.animate = sys.stderr.isatty()  # whether progress may be drawn
        self.stdout = console(width=_width(sys.stdout.isatty()))
        self.stderr = console(stderr=True, width=_width(self.animate))

    def set_up_logging(self) -> None:
        """Log to stderr with ``--verbose``; otherwise log only warnings about credentials."""
        root = logging.getLogger()
        if self.verbose:
            root.addHandler(RichHandler(console=self.stderr, show_path=False, log_time_format="%H:%M:%S.%f"))
            root.setLevel(logging.INFO)
            logging.getLogger("asynccam").setLevel(logging.DEBUG)
        else:
            root.addHandler(logging.NullHandler())
            logging.getLogger(CREDENTIALS_LOG).addHandler(_WarningHandler(logging.WARNING))

    def mute(self) -> None:
        """Print no more results: the command is exiting."""
        self._muted = True

    def print(self, *parts: RenderableType) -> None:
        """Print a result as text; print nothing with ``--json``."""
        if not self.json and not self._muted:
            with _to_stdout():
                self.stdout.print(*parts, sep="\n")

    def json_document(self, value: Any) -> None:
        """Print the whole result as one JSON document; print nothing without ``--json``."""
        if self.json and not self._muted:
            _write_line(json.dumps(plain(value), indent=2))

    def json_line(self, value: Any) -> None:
        """Print one JSON line of a stream; print nothing without ``--json``."""
        if self.json:
            _write_line(json.dumps(plain(value)))

    def print_note(self, text: str) -> None:
        """Print a message that is not the result, if stderr is a terminal."""
        if self.animate:
            self.stderr.print(Text(text, style="faint"))

    def print_failure(self, command: str, error: BaseException) -> None:
        """Print an error on one line, with ``--verbose`` after its traceback."""
        if self.verbose:
            trace = "".join(traceback.format_exception(error)).rstrip()
            self.stderr.print(Text(trace, style="faint"), soft_wrap=True)
        print_error(f"{command}: {one_line(error)}")

    @contextmanager
    def show_wait(self, text: str, seconds: float | None = None) -> Iterator[None]:
        """Show a progress bar for a wait of known or unknown ``seconds`` while the block runs."""
        columns = (SpinnerColumn(style="busy"), TextColumn("{task.description}", markup=False), _TimeColumn())
        with Progress(*columns, console=self.stderr, transient=True, disable=not self.animate) as progress:
            progress.add_task(text, total=seconds)
            yield

    @contextmanager
    def show_transfer(self, text: str) -> Iterator[Report]:
        """Show a transfer while the block runs; yield the callback that updates it."""
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
    """Bar that fills as time passes; without a known duration, the elapsed seconds."""

    def render(self, task: Task) -> RenderableType:
        elapsed = task.elapsed or 0.0
        if task.total is None:
            return Text(f"{elapsed:.0f} s", style="faint")
        return ProgressBar(total=task.total, completed=min(elapsed, task.total), width=30)


def console(**options: Any) -> Console:
    """Return a Rich console in the command's style that never treats device text as markup."""
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


class _WarningHandler(logging.Handler):
    """Handler that prints log records to stderr, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        print_error(record.getMessage())


def _width(terminal: bool) -> int | None:
    return None if terminal or "COLUMNS" in os.environ else _PIPE_WIDTH
