"""``asynccam demo``: record all five systems, simulated by this computer."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.output import Output
from asynccam.cli.runner import command

if TYPE_CHECKING:
    from asynccam.cli.demo.take import Demo

_MAX_CAMERAS: Final = 30
"""Each camera is a video that is encoded while it is recorded."""
_CAMERAS: Final = 5
_CAMERAS_WITH_CHAOS: Final = 7


@command("demo")
async def demo(
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="DIR", help="Directory of the take.", show_default="a temporary directory"
        ),
    ] = None,
    cameras: Annotated[
        int | None,
        typer.Option(
            "--cameras",
            min=1,
            max=_MAX_CAMERAS,
            help="Number of cameras, spread over the five systems.",
            show_default="5, one of each; 7 with --chaos",
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", min=1.0, max=600.0, metavar="S", help="Seconds to record.")
    ] = 5.0,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Let cameras refuse, be killed, disconnect and be slow.")
    ] = False,
    save_picture: Annotated[Path | None, typer.Option("--save-picture", metavar="FILE", hidden=True)] = None,
    *,
    output: Output,
) -> ExitCode:
    """Record simulated cameras of all five systems in one take, and explain the result."""
    from asynccam.cli.demo.report import TerminalPicture
    from asynccam.cli.demo.take import Demo
    from asynccam.cli.report import is_complete

    count = cameras or (_CAMERAS_WITH_CHAOS if chaos else _CAMERAS)
    picture = TerminalPicture("asynccam demo --chaos" if chaos else "asynccam demo")
    played = Demo(to, count, duration, output, picture, chaos=chaos)
    try:
        await played.run()
    finally:
        _print_result(played, output)
    assert played.take is not None
    if save_picture is not None:
        await asyncio.to_thread(picture.save, save_picture)
    return ExitCode.OK if is_complete(played.take.manifest) else ExitCode.INCOMPLETE


def _print_result(played: "Demo", output: Output) -> None:
    """Print the take as the result, if it has a directory."""
    from asynccam.cli.demo.report import explain
    from asynccam.cli.report import is_complete, take_report
    from asynccam.cli.take_runner import take_directory

    take = played.take
    directory = None if take is None else take_directory(take)
    if take is None or directory is None:
        return
    manifest = take.manifest
    output.json_document(
        {
            "directory": directory,
            "complete": is_complete(manifest),
            "sheet": played.sheet,
            "fates": played.faults,
            "manifest": manifest,
        }
    )
    parts = (take_report(manifest, directory), *explain(manifest, played.faults, played.sheet))
    output.print(*parts)
    played.picture.add(*parts[:-2])  # the explanation of terms is too much for a first look
