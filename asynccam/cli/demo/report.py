"""What a demo's manifest says, in words for somebody who has never seen one."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from asynccam.cli import formatting
from asynccam.cli.report import missing
from asynccam.model.manifest import CameraRecord, FileState, Manifest, Moment, Outcome
from asynccam.take import align_take

_WIDTH: Final = 96


class Start(Enum):
    """The ways in which cameras start together."""

    SCHEDULED = "scheduled"
    RELEASED = "released at T0"
    LOCAL = "local recorder"
    STILL = "still picture"


_MEANING: Final = {
    Start.SCHEDULED: (
        "is sent T0 ahead and starts by its own clock, so commanded and accepted lie before T0. Its first"
        " frame is where all evidence agrees: T0 within what makers state, what the device says by its clock,"
        " which was measured, and how long its file was when it stopped."
    ),
    Start.RELEASED: (
        "cannot wait by itself. The connection stood open and the start was sent at T0: the first frame lies"
        " somewhere between command and answer."
    ),
    Start.LOCAL: (
        "sends a stream and does not record. A recorder on this computer, ready before T0, was let go at T0"
        " and saw the first frame come."
    ),
    Start.STILL: "makes no video. One picture was taken at T0, between command and arrival.",
}


def start_of(camera: CameraRecord) -> Start:
    """How a camera was started."""
    if camera.kind == "still":
        return Start.STILL
    if "scheduled_start" in camera.features:
        return Start.SCHEDULED
    return Start.LOCAL if _records_here(camera) else Start.RELEASED


def lesson(manifest: Manifest, fates: Mapping[str, str], sheet: Path | None) -> list[RenderableType]:
    """The manifest explained, below its table.

    Args:
        manifest: Of a take that has ended.
        fates: What was done to cameras on purpose, by their ids.
        sheet: The contact sheet, or None.
    """
    parts: list[RenderableType] = []
    if fates:
        parts += [_heading("What was done on purpose, and what came of it"), _chaos(manifest, fates)]
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
            formatting.told(camera.name),
            _from(t0, camera.commanded_at),
            _from(t0, camera.accepted_at),
            _from(t0, camera.first_frame_at),
            "" if bound is None else f"± {bound * 1000:.0f} ms",
            start_of(camera).value,
        )
    return table


def _terms(manifest: Manifest) -> RenderableType:
    """What the words mean, for the kinds of cameras that took part."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="key", no_wrap=True)
    grid.add_column(overflow="fold", max_width=_WIDTH - 18)
    grid.add_row("T0", "the one moment at which all cameras were to start")
    grid.add_row("commanded", "when the start left this computer; a minus is before T0")
    grid.add_row("accepted", "when the camera's answer was here: it will start, or it has")
    grid.add_row("first frame", "when its recording begins, as closely as anybody can know")
    grid.add_row("bound", "how far off that may be, either way")
    grid.add_row()
    for way in Start:
        systems = dict.fromkeys(one.system for one in manifest.cameras if start_of(one) is way)
        if systems:
            who = Text(" and ".join(systems), style="name")
            grid.add_row(way.value, Text.assemble("each camera of ", who, f" {_MEANING[way]}"))
    return grid


def _chaos(manifest: Manifest, fates: Mapping[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="faint", pad_edge=False)
    table.add_column("system", style="key", no_wrap=True)
    table.add_column("camera", style="name", overflow="fold")
    table.add_column("what was done", overflow="fold", max_width=30)
    table.add_column("what came of it", overflow="fold", max_width=46)
    for camera in manifest.cameras:
        done = fates.get(camera.id)
        fate = Text(done) if done else Text("nothing", style="faint")
        table.add_row(camera.system, formatting.told(camera.name), fate, _came_of_it(camera))
    return table


def _came_of_it(camera: CameraRecord) -> Text:
    home = [file for file in camera.files if file.state is FileState.ARRIVED]
    flawed = [file for file in home if file.verdict is not None and file.verdict.is_failure]
    told: list[str] = []
    if home:
        what = "picture" if camera.kind == "still" else "file"
        whole = "" if flawed or missing(camera) else ", whole"
        told.append(f"{len(home)} {what}{'s' if len(home) > 1 else ''} home{whole}")
        told += [f"one is {file.verdict.verdict}" for file in flawed if file.verdict]
    else:
        told.append("no file")
    told += missing(camera)
    told += [f"{error.step}: {error.message}" for error in camera.errors[:1]]
    if camera.outcome is Outcome.COMPLETE and not flawed:
        mark = ("✔ ", "good")
    else:  # all that matters may be here, though something went wrong
        mark = ("! ", "busy") if home and not flawed else ("✗ ", "bad")
    return Text.assemble(mark, formatting.told("; ".join(told)))


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
            "common", f"{window.seconds:.2f} s are on every video; cut as align.json says, two are {apart}"
        )
    if sheet is not None:
        grid.add_row("sheet", Group(formatting.told(str(sheet), "key"), "every camera at the same instant"))
    return grid


def _from(t0: float, moment: Moment | None) -> str:
    return "never" if moment is None else formatting.milliseconds(moment.unix - t0)


def _records_here(camera: CameraRecord) -> bool:
    sources = {file.source for file in camera.files}
    return sources == {"local"} or (not sources and camera.first_frame_source == "seen")
