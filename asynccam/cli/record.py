"""``asynccam record``: one take over any cameras."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.options import (
    AddressesArgument,
    ApiKeyOption,
    DirectoryOption,
    JsonOption,
    TokenOption,
    VerboseOption,
    credentials_of,
)
from asynccam.cli.output import Output
from asynccam.cli.running import execute
from asynccam.model.credentials import Credentials


def record(
    uris: AddressesArgument,
    duration: Annotated[
        float, typer.Option("--duration", min=0.1, metavar="S", help="Seconds to record.", show_default=False)
    ],
    to: DirectoryOption = Path(),
    start_in: Annotated[
        float, typer.Option("--start-in", min=0.0, metavar="S", help="Seconds from the command to T0.")
    ] = 3.0,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the take.", show_default="from the time")
    ] = None,
    token: TokenOption = None,
    api_key: ApiKeyOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Start cameras together, stop them, and bring every file home."""
    output = Output(json=json, verbose=verbose)
    execute(
        "record",
        lambda: _record(uris, credentials_of(token, api_key), duration, to, start_in, name, output),
        output,
    )


async def _record(
    uris: Sequence[str],
    credentials: Credentials | None,
    duration: float,
    directory: Path,
    start_in: float,
    name: str | None,
    output: Output,
) -> ExitCode:
    from asynccam.cli.opening import open_session
    from asynccam.cli.taking import run_take
    from asynccam.cli.view import TakeView
    from asynccam.recording.verdict import verify_file

    async with open_session() as session:
        with output.waiting("connecting"):
            cameras = await session.connect_all(uris, credentials=credentials)
        take = session.new_take(cameras, directory, name=name, verify=verify_file)
        view = TakeView("asynccam record", duration=duration, start_in=start_in)
        return await run_take(session, take, view, output)
