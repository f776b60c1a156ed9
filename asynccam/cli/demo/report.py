"""The manifest of a demo, explained for somebody who has never seen one."""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from asynccam.cli import formatting
from asynccam.cli.output import console
from asynccam.cli.report import describe_missing
from asynccam.cli.take_view import TakeView
from asynccam.model.events import TakePhaseChanged
from asynccam.model.manifest import CameraRecord, FileState, Manifest, Moment, Outcome
from asynccam.take import align_take

_WIDTH: Final = 96


class StartKind(Enum):
    """Ways in which a camera starts."""

    SCHEDULED = "scheduled"
    RELEASED = "released at T0"
    LOCAL = "local recorder"
    STILL = "still picture"


_EXPLANATIONS: Final = {
    StartKind.SCHEDULED: (
        "is sent T0 ahead and starts by its own clock, so commanded and accepted lie before T0. Its first"
        " frame is where all evidence agrees: T0 within what vendors state, the device's report by its clock,"
        " which was measured, and how long its file was when it stopped."
    ),
    StartKind.RELEASED: (
        "has no scheduled start. The connection was open and the start was sent at T0: the first frame lies"
        " somewhere between command and answer."
    ),
    StartKind.LOCAL: (
        "sends a stream and does not record. A recorder on this computer, ready before T0, was released at T0"
        " and saw its first frame arrive."
    ),
    StartKind.STILL: "makes no video. One picture was taken at T0, between command and arrival.",
}


def start_kind(camera: CameraRecord) -> StartKind:
    """Return how a camera was started."""
    if camera.kind == "still":
        return StartKind.STILL
    if "scheduled_start" in camera.features:
        return StartKind.SCHEDULED
    return StartKind.LOCAL if _records_here(camera) else StartKind.RELEASED


def explain(manifest: Manifest, faults: Mapping[str, str], sheet: Path | None) -> list[RenderableType]:
    """Return the explanation of a take's manifest, with its deliberate faults by camera id."""
    parts: list[RenderableType] = []
    if faults:
        parts += [_heading("Deliberate faults and their results"), _chaos(manifest, faults)]
    if manifest.start is not None:
        t0 = manifest.start.t0_local.unix
        parts += [_heading("When each camera started, seen from T0"), _starts(manifest, t0), _terms(manifest)]
    parts.append(_places(manifest, sheet))
    return parts


def _heading(text: str) -> RenderableType:
    return Text.assemble("\n", (text, "name"))


def _starts(manifest: Manifest, t0: float) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="faint", pad_edge=False)
    table.add_column("system", style="key", no_wrap=True)
    table.add_column("camera", style="name", overflow="fold")
    table.add_column("commanded", justify="right", no_wrap=True)
    table.add_column("accepted", justify="right", no_wrap=True)
    table.add_column("first frame", justify="right", no_wrap=True)
    table.add_column("bound", justify="right", no_wrap=True)
    table.add_column("how", no_wrap=True)
    for camera in manifest.cameras:
        bound = camera.first_frame_bound
        table.add_row(
            camera.system,
            formatting.device_text(camera.name),
            _since_t0(t0, camera.commanded_at),
            _since_t0(t0, camera.accepted_at),
            _since_t0(t0, camera.first_frame_at),
            "" if bound is None else f"± {bound * 1000:.0f} ms",
            start_kind(camera).value,
        )
    return table


def _terms(manifest: Manifest) -> RenderableType:
    """Return the terms of the table, explained for the systems of this take."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="key", no_wrap=True)
    grid.add_column(overflow="fold", max_width=_WIDTH - 18)
    grid.add_row("T0", "the moment at which all cameras were to start")
    grid.add_row("commanded", "when the start left this computer; a minus is before T0")
    grid.add_row("accepted", "when the camera's answer arrived: it will start, or it has started")
    grid.add_row("first frame", "estimated time at which its recording begins")
    grid.add_row("bound", "uncertainty of the first frame, either way")
    grid.add_row()
    for kind in StartKind:
        systems = dict.fromkeys(camera.system for camera in manifest.cameras if start_kind(camera) is kind)
        if systems:
            names = Text(" and ".join(systems), style="name")
            grid.add_row(kind.value, Text.assemble("each camera of ", names, f" {_EXPLANATIONS[kind]}"))
    return grid


def _chaos(manifest: Manifest, faults: Mapping[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="faint", pad_edge=False)
    table.add_column("system", style="key", no_wrap=True)
    table.add_column("camera", style="name", overflow="fold")
    table.add_column("fault", overflow="fold", max_width=30)
    table.add_column("result", overflow="fold", max_width=46)
    for camera in manifest.cameras:
        done = faults.get(camera.id)
        fault = Text(done) if done else Text("none", style="faint")
        table.add_row(camera.system, formatting.device_text(camera.name), fault, _result(camera))
    return table


def _result(camera: CameraRecord) -> Text:
    arrived = [file for file in camera.files if file.state is FileState.ARRIVED]
    flawed = [file for file in arrived if file.verdict is not None and file.verdict.is_failure]
    parts: list[str] = []
    if arrived:
        noun = "picture" if camera.kind == "still" else "file"
        complete = "" if flawed or describe_missing(camera) else ", complete"
        parts.append(f"{len(arrived)} {noun}{'s' if len(arrived) > 1 else ''} downloaded{complete}")
        parts += [f"one is {file.verdict.verdict}" for file in flawed if file.verdict]
    else:
        parts.append("no file")
    parts += describe_missing(camera)
    parts += [f"{error.step}: {error.message}" for error in camera.errors[:1]]
    if camera.outcome is Outcome.COMPLETE and not flawed:
        mark = ("✔ ", "good")
    else:  # all that matters may be here, though something went wrong
        mark = ("! ", "busy") if arrived and not flawed else ("✗ ", "bad")
    return Text.assemble(mark, formatting.device_text("; ".join(parts)))


def _places(manifest: Manifest, sheet: Path | None) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="faint", no_wrap=True)
    grid.add_column(overflow="fold")
    window = align_take(manifest).window
    grid.add_row()
    if window is None:
        grid.add_row("common", Text("the cameras share no stretch of time", style="bad"))
    else:
        apart = f"at most {window.bound * 1000:.0f} ms apart"
        grid.add_row(
            "common",
            f"{window.seconds:.2f} s are in every video; cut as in align.json, two videos are {apart}",
        )
    if sheet is not None:
        grid.add_row(
            "sheet", Group(formatting.device_text(str(sheet), "key"), "every camera at the same instant")
        )
    return grid


def _since_t0(t0: float, moment: Moment | None) -> str:
    return "never" if moment is None else formatting.format_milliseconds(moment.unix - t0)


def _records_here(camera: CameraRecord) -> bool:
    sources = {file.source for file in camera.files}
    return sources == {"local"} or (not sources and camera.first_frame_source == "seen")


_PICTURE_WIDTH: Final = 108


class TerminalPicture:
    """SVG picture of a command's terminal output, for the documentation."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._console = console(record=True, width=_PICTURE_WIDTH, file=io.StringIO(), force_terminal=True)
        self.add(Text.assemble(("$ ", "good"), (command, "name")), Text())

    def add(self, *parts: RenderableType) -> None:
        """Append output to the picture."""
        for part in parts:
            self._console.print(part)

    async def watch(self, view: TakeView, phases: AsyncIterator[TakePhaseChanged]) -> None:
        """Add the view once, at 60 % of the recording."""
        async for event in phases:
            if event.phase == "recording":
                await asyncio.sleep(0.6 * view.duration)
                self.add(view, Text())

    def save(self, path: Path) -> None:
        """Write the picture as SVG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._console.save_svg(str(path), title=self._command, unique_id="asynccam")
