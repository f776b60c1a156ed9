"""The live picture of a take: where it is, and what each camera is doing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asynccam.cli import formatting
from asynccam.cli.errors import one_line
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
from asynccam.wall_clock import unix_now

_TAKE_STEPS: Final = ("arm", "start", "record", "stop", "collect")
_PHASES: Final = {
    "arming": ("arm", "comparing clocks and opening connections"),
    "armed": ("arm", "every camera is ready to start"),
    "starting": ("start", ""),
    "recording": ("record", ""),
    "stopping": ("stop", "stopping the cameras, which finish their files"),
    "collecting": ("collect", "bringing the files home"),
}
"""The step each phase of a take belongs to, and what to say meanwhile."""
_WIDEST: Final = 96
_ECHO: Final = 3
"""Columns left free for the ``^C`` that a terminal writes at the cursor, lest it begin a new line."""
_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass(slots=True)
class _Row:
    """One camera's line."""

    system: str
    name: str
    word: str = "waiting"
    style: str = "faint"
    clock: ClockOffset | None = None
    received: int | None = None
    total: int | None = None
    note: str = ""
    still: bool = False

    def say(self, word: str, style: str) -> None:
        # What has failed stays so, whatever its other steps still tell.
        if self.style != "bad":
            self.word, self.style = word, style


class TakeView:
    """Follows a take's events and draws itself; also good for a last look when all is over.

    Args:
        title: Stands in the frame.
        duration: Seconds of recording.
        start_in: Seconds from the start command to T0.
        before: Steps that come ahead of the take's own.
        after: Steps that come when the take is over.
    """

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
        self.start_in = start_in
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
        """A step has begun; all before it are over."""
        self._at = self._steps.index(name)
        self.note = note

    def end(self, manifest: Manifest) -> None:
        """The take is over and has the last word, because its last events may still be on their way.

        If there are no steps after it, all is `over`.
        """
        self._ended = not self._more
        for camera in manifest.cameras:
            row = self._rows[camera.id]
            arrived = [file for file in camera.files if file.state is FileState.ARRIVED]
            if camera.errors:
                row.word, row.style, row.note = camera.errors[-1].step, "bad", camera.errors[-1].message
            elif arrived:
                row.received = row.total = sum(file.size or 0 for file in arrived)
                row.note = formatting.rate(row.received, sum(file.seconds or 0.0 for file in arrived))
                row.say("home", "good")
            else:
                row.say("no file", "bad")

    def over(self) -> None:
        """All steps are done."""
        self._ended = True

    def add(self, camera: str, name: str, word: str = "found") -> None:
        """Show a camera, by its id and its name."""
        self._rows[camera] = _Row(camera.partition("://")[0], name or camera, word=word, style="busy")

    def become(self, camera: str, now: str, name: str, *, still: bool = False) -> None:
        """A camera that was shown before it was met has this id and this name.

        Args:
            camera: What it was added as.
            now: Its id.
            name: Its name, or nothing.
            still: Whether it takes one picture and does not record.
        """
        self._rows = {now if key == camera else key: row for key, row in self._rows.items()}
        self._rows[now].name = name or now
        self._rows[now].still = still

    def say(self, camera: str, word: str) -> None:
        """Something good about a camera that no event tells."""
        self._rows[camera].say(word, "good")

    def handle(self, event: Event) -> None:
        """Take an event into the picture."""
        if isinstance(event, TakePhaseChanged):
            self._phase(event)
            return
        row = self._rows.get(getattr(event, "camera", ""))
        if row is None:
            return
        if isinstance(event, CameraFound):
            row.say("found", "good")
        elif isinstance(event, ClockMeasured):
            row.clock = event.offset
        elif isinstance(event, RecordingStarted):
            word = "picture" if row.still else "scheduled" if event.scheduled_for else "recording"
            row.say(word, "busy")
        elif isinstance(event, RecordingStopped):
            row.say("stopped", "busy")
        elif isinstance(event, FileProgress):
            row.received, row.total = event.received, event.total
            row.say("sending", "busy")
        elif isinstance(event, FileArrived):
            row.received = row.total = event.file.size
            row.note = formatting.rate(event.file.size, event.file.seconds)
            row.say("home", "good")
        elif isinstance(event, CameraFailed):
            row.say(event.step, "bad")
            row.note = one_line(event.error)

    def _phase(self, event: TakePhaseChanged) -> None:
        if event.phase not in _PHASES:
            return
        self.step(*_PHASES[event.phase])
        word = {"arming": "arming", "armed": "armed", "stopping": "stopping"}.get(event.phase)
        if event.phase == "starting" and self.t0 is None:
            self.t0 = event.at + self.start_in
        if word:
            for row in self._rows.values():
                row.say(word, "busy")

    # -- the picture ----------------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts: list[RenderableType] = [self._strip()]
        if not self._ended:
            parts += [Text(), self._now()]
        if self._rows:
            parts += [Text(), self._cameras()]
        yield Panel(
            Group(*parts),
            width=min(options.max_width - _ECHO, _WIDEST),
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

    def _strip(self) -> RenderableType:
        """The steps in a row: done, under way, to come."""
        strip = Text(no_wrap=True, overflow="ellipsis")
        for index, name in enumerate(self._steps):
            if index:
                strip.append("   ")
            if self._ended or index < self._at:
                strip.append(f"✔ {name}", "good")
            elif index == self._at:
                strip.append(f"{_spin()} {name}", "bold yellow")
            else:
                strip.append(f"· {name}", "faint")
        return strip

    def _now(self) -> RenderableType:
        """What is being counted at this moment: the way to T0, or the recording."""
        step = self._steps[self._at]
        if self.t0 is not None and step in ("start", "record"):
            # Both are on the scale that the take has pinned, so that a clock that is set moves neither.
            left = self.t0 - unix_now()
            if left > 0:
                return _gauge(f"T0 in {left:.1f} s", self.start_in - left, self.start_in, "busy")
            gone = min(-left, self.duration)
            return _gauge(f"● REC {gone:.1f} of {self.duration:g} s", gone, self.duration, "recording")
        return Text(self.note, style="faint")

    def _cameras(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="faint")
        mixed = len({row.system for row in self._rows.values()}) > 1
        if mixed:
            table.add_column("system", style="key", no_wrap=True, width=10)
        table.add_column("camera", style="name", no_wrap=True, ratio=2)
        table.add_column("state", no_wrap=True, width=11)
        table.add_column("clock", no_wrap=True, width=15)
        table.add_column("file", no_wrap=True, ratio=3)
        for row in self._rows.values():
            offset = formatting.clock(row.clock.offset, row.clock.bound) if row.clock else ""
            cells = (formatting.told(row.name), self._state(row), offset, _file(row))
            table.add_row(*((row.system,) if mixed else ()), *cells)
        return table

    def _state(self, row: _Row) -> Text:
        recording = self._steps[self._at] == "record" and row.word in ("scheduled", "recording")
        if recording and self.t0 is not None and unix_now() >= self.t0:
            return Text("● REC" if int(unix_now() * 2) % 2 else "○ REC", style="recording")
        glyph = {"good": "✔", "bad": "✗", "busy": "●"}.get(row.style, "·")
        return Text(f"{glyph} {row.word}", style=row.style)


def _file(row: _Row) -> RenderableType:
    if row.style == "bad":
        note = formatting.told(row.note, "bad")
        note.overflow = "ellipsis"
        return note
    if row.received is None:
        return Text()
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=row.total, completed=row.received, width=14)
    grid.add_row(bar, formatting.size(row.received), Text(row.note, style="faint"))
    return grid


def _gauge(text: str, done: float, total: float, style: str) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True, min_width=18)
    grid.add_column(ratio=1)
    bar = ProgressBar(total=total, completed=done, complete_style=style, finished_style=style)
    grid.add_row(Text(text, style=style), bar)
    return grid


def _spin() -> str:
    return _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]
