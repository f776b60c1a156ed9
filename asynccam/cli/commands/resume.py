"""``asynccam resume``: finish a take whose process was killed."""

from pathlib import Path
from typing import Annotated

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.options import FleetOption
from asynccam.cli.output import Output
from asynccam.cli.runner import command
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


@command("resume")
async def resume(
    take: TakeArgument,
    host: HostOption = None,
    fleet: FleetOption = None,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """Finish a take whose process was killed: stop running cameras, download what they recorded.

    A token or key is sent only to hosts that --host or the --fleet names, not to those that only the take
    names. Nothing outside of the take's directory is read or written.
    """
    from asynccam.cli.report import is_complete, take_report
    from asynccam.recording.verify import verify_file
    from asynccam.session import Session
    from asynccam.session.fleet import Fleet
    from asynccam.take import resume_take

    plan = Fleet() if fleet is None else await Fleet.load(fleet)
    hosts: dict[str, Credentials | None] = {
        target.address.authority: target.credentials for target in plan.places
    } | dict.fromkeys(host or ())
    # Not polled: a poll would disturb the stop of a device that serves one connection at a time.
    async with Session(poll_interval=None) as session:
        with output.show_wait("resuming"):
            manifest = await resume_take(
                take, session, credentials=credentials, hosts=hosts, verify=verify_file
            )
    output.json_document({"directory": take, "complete": is_complete(manifest), "manifest": manifest})
    output.print(take_report(manifest, take))
    return ExitCode.OK if is_complete(manifest) else ExitCode.INCOMPLETE
