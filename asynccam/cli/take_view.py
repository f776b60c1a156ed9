"""Live view of a take: its step, and the state of each camera."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asynccam.cli import formatting
from asynccam.cli.errors import one_line
from asynccam.cli.output import Output
from asynccam.model.events import (
    CameraFailed,
    CameraFound,
    ClockMeasured,
    Event,
    FileArrived,
    FileProgress,
    RecordingStarted,
    RecordingStopped,
    TakePhaseChanged,
)
from asynccam.model.info import ClockOffset
from asynccam.model.manifest import FileState, Manifest
from asynccam.runtime.tasks import TaskScope
from asynccam.wall_clock import unix_now

_TAKE_STEPS: Final = ("arm", "start", "record", "stop", "collect")
_PHASES: Final = {
    "arming": ("arm", "comparing clocks and opening connections"),
    "armed": ("arm", "every camera is ready to start"),
    "starting": ("start", ""),
    "recording": ("record", ""),
    "stopping": ("stop", "stopping the cameras, which finish their files"),
    "collecting": ("collect", "downloading the files"),
}
"""The step each phase of a take belongs to, and what to say meanwhile."""
_MAX_WIDTH: Final = 96
_ECHO_COLUMNS: Final = 3
"""Columns left free for the ``^C`` that a terminal writes at the cursor, lest it begin a new line."""
_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass(slots=True)
class _Row:
    """Row of one camera."""

    system: str
    name: str
    state: str = "waiting"
    style: str = "faint"
    clock: ClockOffset | None = None
    received: int | None = None
    total: int | None = None
    note: str = ""
    still: bool = False

    def set_state(self, state: str, style: str) -> None:
        # A failed camera stays failed, whatever its later steps report.
        if self.style != "bad":
            self.state, self.style = state, style


class TakeView:
    """Rich renderable that follows the events of a take, and steps ``before`` and ``after`` its own."""

    def __init__(
        self,
        title: str,
        *,
        duration: float,
        start_in: float,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ) -> None:
        self.title = title
        self.duration = duration
        self.start_in = start_in  # seconds from the start command to T0
        self.t0: float | None = None
        """T0 in Unix seconds once the take has set it."""
        self.note = ""
        """A line about the present step, while it is not counting anything."""
        self._steps = (*before, *_TAKE_STEPS, *after)
        self._more = bool(after)
        self._at = 0
        self._ended = False
        self._rows: dict[str, _Row] = {}

    # -- what happens ---------------------------------------------------------------------------

    def step(self, name: str, note: str = "") -> None:
        """Show that a step has begun and that those before it are done."""
        self._at = self._steps.index(name)
        self.note = note

    def end(self, manifest: Manifest) -> None:
        """Show the final state of the manifest, as the last events may still be queued."""
        self._ended = not self._more
        for camera in manifest.cameras:
            row = self._rows[camera.id]
            arrived = [file for file in camera.files if file.state is FileState.ARRIVED]
            if camera.errors:
                row.state, row.style, row.note = camera.errors[-1].step, "bad", camera.errors[-1].message
            elif arrived:
                row.received = row.total = sum(file.size or 0 for file in arrived)
                row.note = formatting.format_rate(row.received, sum(file.seconds or 0.0 for file in arrived))
                row.set_state("downloaded", "good")
            else:
                row.set_state("no file", "bad")

    def finish(self) -> None:
        """Show all steps as done."""
        self._ended = True

    def add(self, camera: str, name: str, state: str = "found") -> None:
        """Show a camera."""
        self._rows[camera] = _Row(camera.partition("://")[0], name or camera, state=state, style="busy")

    def replace(self, camera: str, now: str, name: str, *, still: bool = False) -> None:
        """Give a placeholder the id and name of its camera; a ``still`` takes one picture."""
        self._rows = {now if key == camera else key: row for key, row in self._rows.items()}
        self._rows[now].name = name or now
        self._rows[now].still = still

    def set_state(self, camera: str, state: str) -> None:
        """Show a good state of a camera that no event reports."""
        self._rows[camera].set_state(state, "good")

    def handle(self, event: Event) -> None:
        """Update the view with an event."""
        if isinstance(event, TakePhaseChanged):
            self._phase(event)
            return
        row = self._rows.get(getattr(event, "camera", ""))
        if row is None:
            return
        if isinstance(event, CameraFound):
            row.set_state("found", "good")
        elif isinstance(event, ClockMeasured):
            row.clock = event.offset
        elif isinstance(event, RecordingStarted):
            state = "picture" if row.still else "scheduled" if event.scheduled_for else "recording"
            row.set_state(state, "busy")
        elif isinstance(event, RecordingStopped):
            row.set_state("stopped", "busy")
        elif isinstance(event, FileProgress):
            row.received, row.total = event.received, event.total
            row.set_state("sending", "busy")
        elif isinstance(event, FileArrived):
            row.received = row.total = event.file.size
            row.note = formatting.format_rate(event.file.size, event.file.seconds)
            row.set_state("downloaded", "good")
        elif isinstance(event, CameraFailed):
            row.set_state(event.step, "bad")
            row.note = one_line(event.error)

    def _phase(self, event: TakePhaseChanged) -> None:
        if event.phase not in _PHASES:
            return
        self.step(*_PHASES[event.phase])
        if event.phase == "starting" and self.t0 is None:
            self.t0 = event.at + self.start_in
        if event.phase in ("arming", "armed", "stopping"):
            for row in self._rows.values():
                row.set_state(event.phase, "busy")

    # -- the picture ----------------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts: list[RenderableType] = [self._steps_line()]
        if not self._ended:
            parts += [Text(), self._progress()]
        if self._rows:
            parts += [Text(), self._cameras()]
        yield Panel(
            Group(*parts),
            width=min(options.max_width - _ECHO_COLUMNS, _MAX_WIDTH),
            title=Text(self.title, style="name"),
            title_align="left",
            border_style=self._frame(),
            box=box.ROUNDED,
            padding=(1, 2),
        )

    def _frame(self) -> str:
        if not self._ended:
            return "key"
        return "bad" if any(row.style == "bad" for row in self._rows.values()) else "good"

    def _steps_line(self) -> RenderableType:
        """Return the steps in a row: done, running, to come."""
        strip = Text(no_wrap=True, overflow="ellipsis")
        for index, name in enumerate(self._steps):
            if index:
                strip.append("   ")
            if self._ended or index < self._at:
                strip.append(f"✔ {name}", "good")
            elif index == self._at:
                strip.append(f"{_spinner()} {name}", "bold yellow")
            else:
                strip.append(f"· {name}", "faint")
        return strip

    def _progress(self) -> RenderableType:
        """Return the countdown to T0, the progress of the recording, or a note."""
        step = self._steps[self._at]
        if self.t0 is not None and step in ("start", "record"):
            # Both are on the scale that the take has pinned, so that a clock that is set moves neither.
            left = self.t0 - unix_now()
            if left > 0:
                return _progress_bar(f"T0 in {left:.1f} s", self.start_in - left, self.start_in, "busy")
            gone = min(-left, self.duration)
            return _progress_bar(f"● REC {gone:.1f} of {self.duration:g} s", gone, self.duration, "recording")
        return Text(self.note, style="faint")

    def _cameras(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="faint")
        mixed = len({row.system for row in self._rows.values()}) > 1
        if mixed:
            table.add_column("system", style="key", no_wrap=True, width=10)
        table.add_column("camera", style="name", no_wrap=True, ratio=2)
        table.add_column("state", no_wrap=True, width=13)
        table.add_column("clock", no_wrap=True, width=15)
        table.add_column("file", no_wrap=True, ratio=3)
        for row in self._rows.values():
            offset = formatting.format_offset(row.clock.offset, row.clock.bound) if row.clock else ""
            cells = (formatting.device_text(row.name), self._state(row), offset, _file(row))
            table.add_row(*((row.system,) if mixed else ()), *cells)
        return table

    def _state(self, row: _Row) -> Text:
        recording = self._steps[self._at] == "record" and row.state in ("scheduled", "recording")
        if recording and self.t0 is not None and unix_now() >= self.t0:
            return Text("● REC" if int(unix_now() * 2) % 2 else "○ REC", style="recording")
        glyph = {"good": "✔", "bad": "✗", "busy": "●"}.get(row.style, "·")
        return Text(f"{glyph} {row.state}", style=row.style)


def _file(row: _Row) -> RenderableType:
    if row.style == "bad":
        note = formatting.device_text(row.note, "bad")
        note.overflow = "ellipsis"
        return note
    if row.received is None:
        return Text()
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=row.total, completed=row.received, width=14)
    grid.add_row(bar, formatting.format_size(row.received), Text(row.note, style="faint"))
    return grid


def _progress_bar(text: str, done: float, total: float, style: str) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True, min_width=18)
    grid.add_column(ratio=1)
    bar = ProgressBar(total=total, completed=done, complete_style=style, finished_style=style)
    grid.add_row(Text(text, style=style), bar)
    return grid


def _spinner() -> str:
    return _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]


_INTERVAL: Final = 0.1
"""Seconds between two pictures."""
_QUIET_AROUND_T0: Final = 0.15
"""Seconds around T0 without a refresh: drawing blocks the event loop for milliseconds."""


@asynccontextmanager
async def live_view(view: TakeView, output: Output) -> AsyncIterator[None]:
    """Draw a view on stderr while the block runs, if that is a terminal; the last frame stays."""
    if not output.animate:
        yield
        return
    # Drawn from the loop itself: a thread would look at the view while it changes.
    with Live(view, console=output.stderr, auto_refresh=False) as live:
        async with TaskScope("live") as scope:
            scope.spawn(_refresh(view, live), name="refresh")
            yield
        live.refresh()


async def _refresh(view: TakeView, live: Live) -> None:
    while True:
        if view.t0 is None or abs(view.t0 - unix_now()) > _QUIET_AROUND_T0:
            live.refresh()
        await asyncio.sleep(_INTERVAL)
