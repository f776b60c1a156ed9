"""``asynccam discover``: find cameras on the network."""

from typing import Annotated

import typer
from rich import box
from rich.table import Table

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import InterfacesOption
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.model.info import CameraInfo


@command("discover")
async def discover(
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="S", help="Seconds to listen for answers.")
    ] = 5.0,
    interface: InterfacesOption = None,
    *,
    output: Output,
) -> ExitCode:
    """Find cameras on the network."""
    from asynccam.session import Session

    async with Session(interfaces=interface or None, poll_interval=None) as session:
        with output.show_wait("looking for cameras", timeout):
            cameras = await session.discover(timeout=timeout)
    found = sorted((camera.info for camera in cameras), key=lambda info: info.id)
    output.json_document({"cameras": found})
    if found:
        output.print(_table(found))
    else:
        output.print(f"No camera answered within {timeout:g} s.")
    return ExitCode.OK


def _table(cameras: list[CameraInfo]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="faint", pad_edge=False)
    table.add_column("camera", style="name", overflow="fold")
    table.add_column("address", style="key", overflow="fold")
    table.add_column("model", style="faint")
    table.add_column("id", style="faint", overflow="fold")
    for camera in cameras:
        table.add_row(*map(formatting.device_text, (camera.name, camera.address, camera.model, camera.id)))
    return table
