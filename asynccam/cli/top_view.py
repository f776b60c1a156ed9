"""Live table of a session's cameras."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from asynccam.cli import formatting
from asynccam.cli.errors import one_line
from asynccam.model.events import (
    CameraEvent,
    CameraFailed,
    CameraStateChanged,
    Event,
    FileProgress,
    RecordingStarted,
    RecordingStopped,
)
from asynccam.model.info import CameraState
from asynccam.wall_clock import WALL_CLOCK, unix_now

if TYPE_CHECKING:
    from asynccam.session import Session

_STATES: Final = {
    "ready": ("✔", "good"),
    "recording": ("●", "recording"),
    "stopping": ("●", "busy"),
    "away": ("✗", "bad"),
    "error": ("✗", "bad"),
}
_HIDDEN_EVENTS: Final = (CameraStateChanged, FileProgress)
"""Events that other columns show, or that are too frequent to read."""


@dataclass(frozen=True, slots=True)
class TopRow:
    """Row of one camera, or of an address where no camera has answered."""

    id: str  # of the camera, or the address
    name: str
    system: str
    address: str
    state: str  # a value of `CameraState`
    since: float | None  # start of the state in Unix seconds
    reason: str = ""  # why it is unavailable or in error
    last: str = ""  # its last event in words
    last_at: float | None = None  # time of that event in Unix seconds


class TopView:
    """Rich renderable that follows the events of a session."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._last: dict[str, tuple[float, str]] = {}
        self._recording: dict[str, float] = {}
        self._begun: dict[str, tuple[float, float]] = {}

    def handle(self, event: Event) -> None:
        """Update the view with an event."""
        if not isinstance(event, CameraEvent):
            return
        if isinstance(event, RecordingStarted):
            self._recording[event.camera] = event.at if event.due is None else event.due
        elif isinstance(event, RecordingStopped):
            self._recording.pop(event.camera, None)
        if not isinstance(event, _HIDDEN_EVENTS):
            self._last[event.camera] = event.at, _describe(event)

    def rows(self) -> list[TopRow]:
        """Return all cameras by name, then the addresses where none has answered."""
        session = self._session
        cameras = sorted(session.cameras.items(), key=lambda item: (item[1].info.name, item[0]))
        rows = [self._row(key) for key, _ in cameras]
        for key, unavailable in session.unavailable.items():
            if key not in session.cameras:
                system, reason = key.partition("://")[0], _reason(unavailable.error)
                state = CameraState.UNAVAILABLE.value
                rows.append(TopRow(key, key, system, unavailable.address, state, unavailable.since, reason))
        return rows

    def _row(self, key: str) -> TopRow:
        session = self._session
        info = session.cameras[key].info
        last_at, last = self._last.get(key, (None, ""))
        unavailable = session.unavailable.get(key)
        state = session.events.latest(CameraStateChanged, key)
        recording = self._recording.get(key)
        now, since, reason = "unknown", None, ""
        if unavailable is not None:
            now, since, reason = CameraState.UNAVAILABLE.value, unavailable.since, _reason(unavailable.error)
        elif recording is not None:
            now, since, reason = CameraState.RECORDING.value, recording, ""
        elif state is not None:
            now, since, reason = state.state.value, state.at, state.reason
        return TopRow(key, info.name or key, info.system, info.address, now, since, reason, last, last_at)

    def _state_age(self, row: TopRow, now: float) -> float:
        """Return the seconds since a row's state began, by elapsed time since it was first drawn."""
        assert row.since is not None
        elapsed = WALL_CLOCK.elapsed()
        known = self._begun.get(row.id)
        if known is None or known[0] != row.since:
            known = self._begun[row.id] = row.since, elapsed - max(0.0, now - row.since)
        return elapsed - known[1]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self.rows()
        now = unix_now()
        table = Table(
            box=box.SIMPLE_HEAD,
            expand=True,
            header_style="faint",
            title=_title(rows, now),
            title_justify="left",
        )
        table.add_column("camera", style="name", no_wrap=True, ratio=4)
        table.add_column("system", style="faint", no_wrap=True, ratio=2)
        table.add_column("state", no_wrap=True, ratio=3)
        table.add_column("for", justify="right", no_wrap=True, ratio=2)
        table.add_column("last", no_wrap=True, ratio=6)
        for row in rows:
            mark, style = _STATES.get(row.state, ("·", "faint"))
            text = formatting.device_text(row.last, "faint")
            if row.reason and style == "bad":
                text = formatting.device_text(row.reason, style)
            text.overflow = "ellipsis"
            table.add_row(
                formatting.device_text(row.name),
                row.system,
                Text(f"{mark} {row.state}", style=style),
                "" if row.since is None else formatting.format_duration(self._state_age(row, now)),
                text,
            )
        yield table


def _reason(error: Exception | None) -> str:
    return "" if error is None else one_line(error)


def _title(rows: list[TopRow], now: float) -> Text:
    count = {state: sum(row.state == state for row in rows) for state in ("recording", "away", "error")}
    title = Text(f"{formatting.count_cameras(len(rows))}", style="name")
    for state, total in count.items():
        if total:
            title.append(f"   {total} {state}", _STATES[state][1])
    return title.append(f"   {formatting.format_time(now)}", "faint")


def _describe(event: CameraEvent) -> str:
    """Return an event in a few words."""
    if isinstance(event, CameraFailed):
        return f"{event.step} failed: {one_line(event.error)}"
    name = "".join(f" {char.lower()}" if char.isupper() else char for char in type(event).__name__).strip()
    for item in fields(event):
        value = getattr(event, item.name)
        if item.name not in ("at", "camera", "info") and isinstance(value, str | tuple) and value:
            return f"{name}: {value if isinstance(value, str) else ', '.join(map(str, value))}"
    return name
