"""The table and the summary that a take ends with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from asynccam.cli import formatting
from asynccam.model.manifest import CameraRecord, FileRecord, FileState, Manifest, MissingRecord, Outcome

_MOST_NOTES: Final = 5
"""Notes about clocks that are printed; the manifest has all of them."""


def whole(manifest: Manifest) -> bool:
    """Whether every camera's every file came home and, where somebody looked, plays to the take's end."""
    return manifest.outcome in (Outcome.COMPLETE, Outcome.RESUMED) and all(
        file.state is FileState.ARRIVED and (file.verdict is None or not file.verdict.is_failure)
        for camera in manifest.cameras
        for file in camera.files
    )


def missing(camera: CameraRecord) -> list[str]:
    """What is known to be missing from a camera's videos, however whole their files are, in words."""
    told: list[str] = []
    if camera.begins_late is not None:
        late = camera.begins_late
        told.append(f"begins late, its first {late.seconds:.1f} s are missing: {late.reason}")
    for gap in camera.gaps:
        if gap.ended_at is not None:
            told.append(f"a gap of {gap.ended_at.unix - gap.began_at.unix:.1f} s: {gap.reason}")
        elif camera.ended_early is None:
            told.append(f"a gap to the end: {gap.reason}")
    if camera.ended_early is not None:
        early = camera.ended_early
        told.append(f"ended early, its last {early.seconds:.1f} s are missing: {early.reason}")
    return told


def absence(missing: MissingRecord) -> str:
    """Return the name to show for a camera that is missing from a take."""
    return missing.label or missing.name or missing.address


def take_report(manifest: Manifest, directory: Path) -> RenderableType:
    """Every file of a take in a table, what went wrong, and where it all is."""
    problems: list[RenderableType] = []
    mixed = _is_mixed(manifest)
    for camera in manifest.cameras:
        doubts = [f"not well timed: {told}" for told in camera.contradictions]
        told = [
            *missing(camera),
            *doubts,
            *(f"{problem.step}: {problem.message}" for problem in camera.errors),
        ]
        problems += [
            Text.assemble(
                ("✗ ", "bad"),
                (f"{camera.system} " if mixed else "", "key"),
                formatting.told(camera.name, "name"),
                formatting.told(f"  {problem}"),
            )
            for problem in told
        ]
    problems += [
        Text.assemble(("✗ ", "bad"), formatting.told(f"{absence(one)} is missing: {one.reason}"))
        for one in manifest.missing
    ]
    problems += [
        Text.assemble(("✗ ", "bad"), formatting.told(f"{problem.step}: {problem.message}"))
        for problem in manifest.errors
    ]
    problems += [Text.assemble(("! ", "busy"), formatting.told(note)) for note in _clock_notes(manifest)]
    if problems:
        problems.append(Text())
    return Group(_table(manifest), *problems, _summary(manifest, directory))


def _clock_notes(manifest: Manifest) -> list[str]:
    """Describe clock steps and pauses of the program during a take."""
    told = [
        f"this computer's clock was set by {step.seconds:+.3f} s; the times of the take do not follow it"
        for step in manifest.clock_steps
    ]
    for pause in manifest.pauses:
        who = "this computer slept" if pause.slept else "the program did not run"
        told.append(f"{who} for {pause.seconds:.2f} s from {formatting.moment(pause.at.unix)} on")
    return [*told[:_MOST_NOTES], *([f"{len(told) - _MOST_NOTES} more"] if len(told) > _MOST_NOTES else [])]


def _table(manifest: Manifest) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="faint", pad_edge=False)
    mixed = _is_mixed(manifest)
    if mixed:
        table.add_column("system", style="key", no_wrap=True)
    table.add_column("camera", style="name", overflow="fold")
    table.add_column("answered", justify="right", no_wrap=True)
    table.add_column("file", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("frames", justify="right")
    table.add_column("length", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for camera in manifest.cameras:
        who = (
            *((camera.system,) if mixed else ()),
            formatting.told(camera.name),
            _answered(camera, manifest),
        )
        if not camera.files:
            table.add_row(*who, *[""] * 4, _outcome(camera))
        for number, file in enumerate(camera.files):
            last = number == len(camera.files) - 1
            ends = ["begins late"] if camera.begins_late is not None and number == 0 else []
            ends += ["ends early"] if camera.ended_early is not None and last else []
            table.add_row(*(who if number == 0 else [""] * len(who)), *_file(file, ends))
    return table


def _is_mixed(manifest: Manifest) -> bool:
    """Whether cameras of several systems took part, so that a name alone does not say which it is."""
    return len({camera.system for camera in manifest.cameras}) > 1


def _answered(camera: CameraRecord, manifest: Manifest) -> str:
    """How long after the start command the camera's answer arrived, and how late that command was."""
    if camera.accepted_at is None or camera.commanded_at is None:
        return "never"
    told = formatting.milliseconds(camera.accepted_at.unix - camera.commanded_at.unix)
    return f"{camera.start_lateness:.2f} s late, {told}" if manifest.started_late(camera) else told


def _outcome(camera: CameraRecord) -> Text:
    return Text(camera.outcome.value, style="good" if camera.outcome is Outcome.COMPLETE else "bad")


def _file(file: FileRecord, missing_ends: Sequence[str]) -> tuple[RenderableType, ...]:
    name = formatting.told(Path(file.path or file.part or file.name).name)
    size = formatting.size(file.size)
    if file.state is not FileState.ARRIVED:
        return name, size, "", "", Text(file.state.value, style="bad")
    ends = "".join(f", {end}" for end in missing_ends)
    if file.verdict is None:
        return name, size, "", "", Text(f"arrived{ends}", style="bad" if ends else "good")
    found = file.verdict
    good = not found.is_failure and not ends
    frames = "?" if found.frames is None else str(found.frames)
    length = "?" if found.duration is None else f"{found.duration:.2f} s"
    sign = "✗" if not good else "?" if found.verdict == "unknown" else "✔"
    verdict = f"{sign} {found.verdict}{ends}"
    return name, size, frames, length, Text(verdict, style="good" if good else "bad")


def _summary(manifest: Manifest, directory: Path) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="faint")
    grid.add_column(overflow="fold")
    if manifest.start is not None:
        source = manifest.start.server if manifest.start.source == "ntp" else "this computer's clock"
        grid.add_row("T0", Text.assemble((manifest.start.t0.utc, "name"), f", by {source}"))
    clocks = [camera.clock for camera in manifest.cameras if camera.clock]
    if clocks:
        worst = max(abs(clock.offset) + clock.bound for clock in clocks)
        grid.add_row("clocks", f"{len(clocks)} measured, within {worst * 1000:.2f} ms of this computer's")
    complete = sum(camera.outcome is Outcome.COMPLETE for camera in manifest.cameras)
    style = "good" if whole(manifest) else "bad"
    total = sum(file.size or 0 for camera in manifest.cameras for file in camera.files if file.path)
    home = f"{complete} of {formatting.cameras(len(manifest.cameras))}, {formatting.size(total)} home"
    grid.add_row("take", Text.assemble((manifest.outcome.value, style), f": {home}"))
    grid.add_row("manifest", formatting.told(str(directory / "manifest.json"), "key"))
    return grid
