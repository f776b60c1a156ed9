"""``asynccam files`` and ``asynccam download``: list and download the files on a camera."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import AddressArgument, Digest, DigestOption, DirectoryOption
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.model.credentials import Credentials
from asynccam.model.features import Files
from asynccam.model.info import LocalFile, MediaFile


@command("files")
async def files(
    uri: AddressArgument,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """List the files on a camera."""
    from asynccam.session import Session

    async with Session(poll_interval=None) as session:
        with output.show_wait(f"asking {uri}"):
            camera = await session.connect(uri, credentials=credentials)
            found = await camera.feature(Files).list_files()
        output.json_document({"camera": camera.id, "files": found})
        output.print(_table(found) if found else formatting.device_text(f"{camera.info.name} has no files."))
    return ExitCode.OK


@command("download")
async def download(
    uri: AddressArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The camera's name for the file.")],
    to: DirectoryOption = Path(),
    digest: DigestOption = Digest.SHA256,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """Download one file from a camera and check its size."""
    from asynccam.session import Session

    async with Session(poll_interval=None) as session:
        with output.show_wait(f"asking {uri}"):
            camera = await session.connect(uri, credentials=credentials)
        with output.show_transfer(name) as progress:
            file = await camera.feature(Files).download(name, to, progress=progress, digest=digest.algorithm)
        output.json_document({"camera": camera.id, "file": file})
        output.print(_sheet(file))
    return ExitCode.OK


def _table(found: tuple[MediaFile, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="faint", pad_edge=False)
    table.add_column("file", style="name", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("created", no_wrap=True)
    table.add_column("id", style="faint", overflow="fold")
    for file in found:
        table.add_row(
            formatting.device_text(file.name),
            formatting.format_size(file.size),
            formatting.format_time(file.created),
            formatting.device_text(file.id),
        )
    return table


def _sheet(file: LocalFile) -> Table:
    sheet = Table.grid(padding=(0, 2))
    sheet.add_column(style="faint")
    sheet.add_column(overflow="fold")
    sheet.add_row("file", formatting.device_text(str(file.path), "name"))
    speed = formatting.format_rate(file.size, file.seconds)
    sheet.add_row("size", f"{file.size:,} bytes" + (f", {speed}" if speed else ""))
    if file.sha256:
        sheet.add_row("sha256", file.sha256)
    if file.digest:
        sheet.add_row(*file.digest.split(":", 1))
    return sheet
