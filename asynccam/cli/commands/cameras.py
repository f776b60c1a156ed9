"""``asynccam cameras`` and ``asynccam snapshot``: list a service's cameras, take one picture."""

from pathlib import Path

from rich import box
from rich.table import Table

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import AddressArgument, AnswerTimeoutOption, DirectoryOption
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.model.credentials import Credentials
from asynccam.model.features import Snapshot
from asynccam.model.info import CameraInfo


@command("cameras")
async def cameras(
    uri: AddressArgument,
    timeout: AnswerTimeoutOption = 5.0,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """List the cameras behind the address of a service."""
    from asynccam.session import Session

    async with Session(poll_interval=None) as session:
        with output.show_wait(f"asking {uri}"):
            found = await session.list_cameras(uri, credentials=credentials, timeout=timeout)
    output.json_document({"cameras": found})
    output.print(_table(found) if found else formatting.device_text(f"The service at {uri} has no cameras."))
    return ExitCode.OK


@command("snapshot")
async def snapshot(
    uri: AddressArgument,
    to: DirectoryOption = Path(),
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """Take a picture with a camera and download it."""
    from asynccam.session import Session

    async with Session(poll_interval=None) as session:
        with output.show_wait(f"taking a picture with {uri}"):
            camera = await session.connect(uri, credentials=credentials)
            file = await camera.feature(Snapshot).snapshot(to)
        output.json_document({"camera": camera.id, "file": file})
        output.print(formatting.device_text(f"{file.path}, {file.size:,} bytes"))
    return ExitCode.OK


def _table(found: list[CameraInfo]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="faint", pad_edge=False)
    table.add_column("camera", style="name", overflow="fold")
    table.add_column("address", style="key", overflow="fold")
    for info in found:
        table.add_row(formatting.device_text(info.name), formatting.device_text(info.address))
    return table
