"""``asynccam align``: cut points of a take's files, contact sheets and previews."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from asynccam.cli import formatting
from asynccam.cli.commands.resume import TakeArgument
from asynccam.cli.errors import ExitCode
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.errors import UsageError
from asynccam.runtime.disk import on_disk

if TYPE_CHECKING:
    from asynccam.recording.mosaic.mosaic import Clip, Panel
    from asynccam.take import AlignedCamera, Alignment, FrameTimes

_BASE_TIMEOUT: Final = 60.0
"""Seconds that GStreamer has for anything, and beyond it ten for each second of video."""
_USUAL_RATE: Final = Fraction(25)
_INTO_FRAME: Final = 0.001
"""Seconds after the start of a frame at which every decoder shows it, as times are rounded."""


@command("align")
async def align(
    take: TakeArgument,
    preview: Annotated[
        Path | None,
        typer.Option("--preview", metavar="OUT.mp4", help="Make a video of all cameras beside each other."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="OUT.png", help="Make a picture of all cameras at one instant."),
    ] = None,
    at: Annotated[
        float,
        typer.Option(
            "--at", metavar="S", min=0.0, help="Instant of the sheet, in seconds from the common start."
        ),
    ] = 0.0,
    cut: Annotated[
        Path | None,
        typer.Option("--cut", metavar="DIR", help="Write each recording, cut to the common time span."),
    ] = None,
    *,
    output: Output,
) -> ExitCode:
    """Find where a take's files have to be cut to begin at the same moment."""
    from asynccam.model.manifest import Manifest
    from asynccam.model.safe_files import Root, confined
    from asynccam.recording import frame_times
    from asynccam.recording.mosaic.mosaic import write_mosaic, write_sheet
    from asynccam.take import align_take, read_frame_times

    manifest = await Manifest.load(take)
    with output.show_wait("reading the times of all frames"):
        times = await read_frame_times(manifest, take, frame_times)
    alignment = align_take(manifest, times)
    saved = await alignment.save(take)
    made: list[Path] = []
    if preview or sheet or cut:
        if alignment.window is None:
            raise UsageError(f"the recordings of take {alignment.take} have no common time span")
        seconds = alignment.window.seconds
        if at >= seconds:
            raise UsageError(f"--at {at:g} must be less than the common time span, {seconds:.3f} s")
        timeout = _BASE_TIMEOUT + 10 * (seconds + max(at, _decode_before_window(alignment)))
        root = await on_disk(Root.of, take)
        if sheet:
            with output.show_wait("making the contact sheet"), confined(root):
                made.append(await write_sheet(panels(alignment, take, at, times), sheet, timeout=timeout))
        if preview:
            with output.show_wait("making the preview"), confined(root):
                beside = panels(alignment, take)
                made.append(await write_mosaic(beside, preview, seconds=seconds, timeout=timeout))
        if cut:
            with output.show_wait("cutting"), confined(root):
                made += await _cut(alignment, take, cut, seconds, timeout)
    output.json_document({"alignment": alignment, "saved": saved, "made": made})
    output.print(_report(alignment, [saved, *made]))
    aligned = alignment.window is not None and not any(camera.problem for camera in alignment.cameras)
    return ExitCode.OK if aligned else ExitCode.INCOMPLETE


def panels(
    alignment: "Alignment",
    directory: Path,
    at: float | None = None,
    times: "Mapping[str, FrameTimes] | None" = None,
) -> "list[Panel]":
    """Return one panel for each camera of a take, starting at the same instant.

    ``at`` is in seconds from the start of the window, or None for a video that starts with the window. With
    frame times each panel shows the frame nearest to ``at``, without them the one that a player shows then.
    """
    from asynccam.recording.mosaic.mosaic import Clip, Panel

    beside: list[Panel] = []
    points = {} if at is None else alignment.at(at, times)
    for camera in alignment.cameras:
        clips = _clips(camera, directory, at or 0.0)
        point = points.get(camera.id)
        if point is not None and point.frame_offset is not None:
            clips = (Clip(directory / point.file, -(point.frame_offset + _INTO_FRAME)),)
        label = f"{camera.name} +-{(camera.cut_bound or camera.bound or 0.0) * 1000:.0f} MS"
        if not clips and camera.pictures:
            clips, label = (Clip(directory / camera.pictures[0], still=True),), f"{camera.name} (PICTURE)"
        beside.append(Panel(label if clips else camera.name, clips))
    return beside


def _clips(camera: "AlignedCamera", directory: Path, at: float) -> "tuple[Clip, ...]":
    from asynccam.recording.mosaic.mosaic import Clip

    return tuple(
        Clip(directory / file.path, -(file.offset + at), file.duration)
        for file in camera.files
        if file.offset is not None
    )


async def _cut(
    alignment: "Alignment", directory: Path, to: Path, seconds: float, timeout: float
) -> list[Path]:
    from asynccam.recording.mosaic.mosaic import write_cut
    from asynccam.take.store import distinct_names

    made: list[Path] = []
    names = distinct_names([camera.name for camera in alignment.cameras])
    for camera, name in zip(alignment.cameras, names, strict=True):
        clips = _clips(camera, directory, 0.0)
        if clips:
            rate = camera.files[0].fps
            # Recover exact rates such as 30000/1001 from a measured mean.
            fps = Fraction(rate).limit_denominator(1001) if rate else _USUAL_RATE
            target = to / f"{name}.mp4"
            made.append(await write_cut(clips, target, seconds=seconds, fps=fps, timeout=timeout))
    return made


def _decode_before_window(alignment: "Alignment") -> float:
    """Return the longest stretch before the window that has to be decoded, in seconds."""
    return max((file.offset or 0.0 for camera in alignment.cameras for file in camera.files), default=0.0)


def _describe_evidence(camera: "AlignedCamera") -> str:
    """Return the parts of the bound as text: first frame and its evidence, drift, one frame interval."""
    others = [source for source in camera.evidence if source not in (camera.source, "command")]
    evidence = " with ".join([camera.source or "", *([", ".join(others)] if others else [])])
    parts = [f"{evidence} {(camera.bound or 0.0) * 1000:.1f}"]
    if camera.drift:
        how = "" if camera.drift_measured else " assumed"
        parts.append(f"drift {camera.drift * 1e6:.0f} ppm{how}")
    if camera.frame_interval:
        parts.append(f"frame {camera.frame_interval * 1000:.1f}")
    return " + ".join(parts)


def _report(alignment: "Alignment", files: list[Path]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, header_style="faint", pad_edge=False)
    table.add_column("camera", style="name")
    table.add_column("file", overflow="fold")
    table.add_column("cut at", justify="right", no_wrap=True)
    table.add_column("frame", justify="right")
    table.add_column("within", justify="right", no_wrap=True)
    table.add_column("known from", overflow="fold")
    contradictions: list[RenderableType] = []
    for camera in alignment.cameras:
        if camera.pictures and not camera.files and not camera.problem:
            table.add_row(formatting.device_text(camera.name), "a picture: nothing to cut")
        elif camera.problem or camera.begin is None:
            problem = Text(camera.problem or "it has a gap at the start of the common time span", style="bad")
            table.add_row(formatting.device_text(camera.name), problem)
        if camera.begin is not None and camera.bound is not None:
            point = camera.begin
            table.add_row(
                formatting.device_text(camera.name),
                formatting.device_text(point.file),
                f"{point.offset:.3f} s",
                "?" if point.frame is None else str(point.frame),
                f"± {(camera.cut_bound or camera.bound) * 1000:.1f} ms",
                _describe_evidence(camera),
            )
        contradictions += [Text(f"{camera.name}: {text}", style="bad") for text in camera.contradictions]
    lines: list[RenderableType] = [table, *contradictions]
    if alignment.window is None:
        lines.append(Text("The recordings have no common time span.", style="bad"))
    else:
        window = alignment.window
        lines.append(
            Text(
                f"{window.seconds:.3f} s are common to all recordings, from {window.begins_at.utc};"
                f" two cameras are at most {window.bound * 1000:.1f} ms apart."
            )
        )
    lines += [
        formatting.device_text(f"{camera.name}: some frames have no number, because {camera.frames_problem}")
        for camera in alignment.cameras
        if camera.files and camera.frames_problem
    ]
    lines += [formatting.device_text(str(file), "key") for file in files]
    return Group(*lines)
