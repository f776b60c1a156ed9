"""Table and summary of a finished take."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from asynccam.cli import formatting
from asynccam.model.manifest import CameraRecord, FileRecord, FileState, Manifest, MissingRecord, Outcome

_MAX_NOTES: Final = 5
"""Clock notes to print; the manifest has all of them."""


def is_complete(manifest: Manifest) -> bool:
    """Return whether every camera's files arrived and passed their check."""
    return manifest.outcome in (Outcome.COMPLETE, Outcome.RESUMED) and all(
        file.state is FileState.ARRIVED and (file.verdict is None or not file.verdict.is_failure)
        for camera in manifest.cameras
        for file in camera.files
    )


def describe_missing(camera: CameraRecord) -> list[str]:
    """Return what is missing from a camera's videos: late begin, dropped frames, early end."""
    parts: list[str] = []
    if camera.begins_late is not None:
        late = camera.begins_late
        parts.append(f"begins late, its first {late.seconds:.1f} s are missing: {late.reason}")
    for gap in camera.gaps:
        if gap.ended_at is not None:
            parts.append(f"a gap of {gap.ended_at.unix - gap.began_at.unix:.1f} s: {gap.reason}")
        elif camera.ended_early is None:
            parts.append(f"a gap to the end: {gap.reason}")
    if camera.ended_early is not None:
        early = camera.ended_early
        parts.append(f"ended early, its last {early.seconds:.1f} s are missing: {early.reason}")
    return parts


def missing_name(missing: MissingRecord) -> str:
    """Return the name to show for a camera that is missing from a take."""
    return missing.label or missing.name or missing.address


def take_report(manifest: Manifest, directory: Path) -> RenderableType:
    """Return the files of a take as a table, with problems and a summary."""
    problems: list[RenderableType] = []
    mixed = _is_mixed(manifest)
    bad, note = ("✗ ", "bad"), ("! ", "busy")
    for camera in manifest.cameras:
        system = (f"{camera.system} " if mixed else "", "key")
        texts = describe_missing(camera)
        texts += [f"contradicting times: {text}" for text in camera.contradictions]
        texts += [f"{problem.step}: {problem.message}" for problem in camera.errors]
        for text in texts:
            name, rest = formatting.device_text(camera.name, "name"), formatting.device_text(f"  {text}")
            problems.append(Text.assemble(bad, system, name, rest))
    others = [(bad, f"{missing_name(record)} is missing: {record.reason}") for record in manifest.missing]
    others += [(bad, f"{problem.step}: {problem.message}") for problem in manifest.errors]
    others += [(note, text) for text in _clock_notes(manifest)]
    problems += [Text.assemble(mark, formatting.device_text(text)) for mark, text in others]
    if problems:
        problems.append(Text())
    return Group(_table(manifest), *problems, _summary(manifest, directory))


def _clock_notes(manifest: Manifest) -> list[str]:
    """Return notes on clock steps and pauses of the program during a take."""
    notes = [
        f"this computer's clock was set by {step.seconds:+.3f} s; the times of the take do not follow it"
        for step in manifest.clock_steps
    ]
    for pause in manifest.pauses:
        subject = "this computer slept" if pause.slept else "the program did not run"
        notes.append(f"{subject} for {pause.seconds:.2f} s from {formatting.format_time(pause.at.unix)} on")
    more = len(notes) - _MAX_NOTES
    return [*notes[:_MAX_NOTES], *([f"{more} more"] if more > 0 else [])]


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
        cells = (
            *((camera.system,) if mixed else ()),
            formatting.device_text(camera.name),
            _answer_delay(camera, manifest),
        )
        if not camera.files:
            table.add_row(*cells, *[""] * 4, _outcome(camera))
        for index, file in enumerate(camera.files):
            last = index == len(camera.files) - 1
            ends = ["begins late"] if camera.begins_late is not None and index == 0 else []
            ends += ["ends early"] if camera.ended_early is not None and last else []
            table.add_row(*(cells if index == 0 else [""] * len(cells)), *_file(file, ends))
    return table


def _is_mixed(manifest: Manifest) -> bool:
    """Return whether cameras of several systems took part."""
    return len({camera.system for camera in manifest.cameras}) > 1


def _answer_delay(camera: CameraRecord, manifest: Manifest) -> str:
    """Return the delay from the start command to the answer, and how late the command was."""
    if camera.accepted_at is None or camera.commanded_at is None:
        return "never"
    delay = formatting.format_milliseconds(camera.accepted_at.unix - camera.commanded_at.unix)
    return f"{camera.start_lateness:.2f} s late, {delay}" if manifest.started_late(camera) else delay


def _outcome(camera: CameraRecord) -> Text:
    return Text(camera.outcome.value, style="good" if camera.outcome is Outcome.COMPLETE else "bad")


def _file(file: FileRecord, missing_ends: Sequence[str]) -> tuple[RenderableType, ...]:
    name = formatting.device_text(Path(file.path or file.part or file.name).name)
    size = formatting.format_size(file.size)
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
    style = "good" if is_complete(manifest) else "bad"
    total = sum(file.size or 0 for camera in manifest.cameras for file in camera.files if file.path)
    count = formatting.count_cameras(len(manifest.cameras))
    downloaded = f"{complete} of {count}, {formatting.format_size(total)} downloaded"
    grid.add_row("take", Text.assemble((manifest.outcome.value, style), f": {downloaded}"))
    grid.add_row("manifest", formatting.device_text(str(directory / "manifest.json"), "key"))
    return grid
