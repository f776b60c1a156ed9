"""``asynccam resume``: finish a take whose process was killed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.options import (
    ApiKeyOption,
    FleetOption,
    JsonOption,
    TokenOption,
    VerboseOption,
    credentials_of,
)
from asynccam.cli.output import Output
from asynccam.cli.runner import execute
from asynccam.model.credentials import Credentials

TakeArgument = Annotated[
    Path, typer.Argument(metavar="TAKE", help="The take's own directory.", show_default=False)
]

HostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--host",
        metavar="HOST",
        help="Send the token or key to this host, HOST or HOST:PORT; may be repeated.",
        show_default=False,
    ),
]


def resume(
    take: TakeArgument,
    host: HostOption = None,
    fleet: FleetOption = None,
    token: TokenOption = None,
    api_key: ApiKeyOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Finish a take whose process was killed: stop running cameras, download what they recorded.

    A token or key is sent only to hosts that --host or the --fleet names, not to those that only the take
    names. Nothing outside of the take's directory is read or written.
    """
    output = Output(json=json, verbose=verbose)
    credentials = credentials_of(token, api_key)
    execute("resume", lambda: _resume(take, host or (), fleet, credentials, output), output)


async def _resume(
    directory: Path,
    named: Sequence[str],
    fleet: Path | None,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    from asynccam.cli.report import is_complete, take_report
    from asynccam.recording.verify import verify_file
    from asynccam.session import Session
    from asynccam.session.fleet import Fleet
    from asynccam.take import resume_take

    plan = Fleet() if fleet is None else await Fleet.load(fleet)
    hosts: dict[str, Credentials | None] = {
        place.address.authority: place.credentials for place in plan.places
    } | dict.fromkeys(named)
    async with Session() as session:
        with output.show_wait("resuming"):
            manifest = await resume_take(
                directory, session, credentials=credentials, hosts=hosts, verify=verify_file
            )
    output.json_document({"directory": directory, "complete": is_complete(manifest), "manifest": manifest})
    output.print(take_report(manifest, directory))
    return ExitCode.OK if is_complete(manifest) else ExitCode.INCOMPLETE
