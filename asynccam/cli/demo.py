"""``asynccam demo``: the main job, on device servers of its own."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.options import JsonOption, VerboseOption
from asynccam.cli.output import Output
from asynccam.cli.running import execute

PLACES: Final = (
    *("east", "north", "west", "south", "attic", "cellar"),
    *("garden", "hall", "kitchen", "porch", "stairs", "yard"),
)
"""What the demo's devices are called."""


def demo(
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="DIR", help="Where the take goes.", show_default="a temporary directory"
        ),
    ] = None,
    cameras: Annotated[
        int, typer.Option("--cameras", min=1, max=len(PLACES), help="How many device servers.")
    ] = 3,
    duration: Annotated[
        float, typer.Option("--duration", min=1.0, max=600.0, metavar="S", help="Seconds to record.")
    ] = 5.0,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    save_picture: Annotated[Path | None, typer.Option("--save-picture", metavar="FILE", hidden=True)] = None,
) -> None:
    """Record three device servers of this computer together, and check what comes home."""
    output = Output(json=json, verbose=verbose)
    execute("demo", lambda: _demo(to, cameras, duration, output, save_picture), output)


async def _demo(
    to: Path | None, count: int, duration: float, output: Output, picture: Path | None
) -> ExitCode:
    from asynccam.cli.demo_take import run_demo
    from asynccam.cli.picture import Picture
    from asynccam.cli.report import whole

    shown = Picture("asynccam demo")
    take = await run_demo(to, count, duration, output, shown)
    if picture is not None:
        await asyncio.to_thread(shown.save, picture)
    return ExitCode.OK if whole(take.manifest) else ExitCode.INCOMPLETE
