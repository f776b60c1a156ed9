"""``asynccam doctor``: find problems on this computer that would make a take fail."""

import asyncio
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from asynccam.cli import checks, formatting
from asynccam.cli.checks import Finding, Severity
from asynccam.cli.errors import ExitCode, one_line
from asynccam.cli.options import AnswerTimeoutOption, InterfacesOption
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.errors import AsynccamError
from asynccam.model.credentials import Credentials
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline

_PORTS: Final = (
    ("simulate thorvision", 8000, False),
    ("simulate mediamtx", 8002, False),
    ("its files", 8003, False),
    ("serve multicam", 8080, False),
    ("serve snapshot", 88, False),
    ("serve nanocam", 7200, False),
    ("its video", 5004, True),
)
_MARKS: Final = {
    Severity.GOOD: Text("✓", style="good"),
    Severity.NOTE: Text("!", style="busy"),
    Severity.BAD: Text("✗", style="bad"),
}


@command("doctor")
async def doctor(
    uris: Annotated[
        list[str] | None,
        typer.Argument(metavar="URI", help="Cameras to check as well.", show_default=False),
    ] = None,
    directory: Annotated[Path, typer.Option("--to", metavar="DIR", help="Directory for takes.")] = Path(),
    interface: InterfacesOption = None,
    ntp: Annotated[
        str | None,
        typer.Option("--ntp", metavar="HOST[:PORT]", help="Compare the clock with this time server."),
    ] = None,
    timeout: AnswerTimeoutOption = 5.0,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """Check this computer for problems that would make a take fail, and print a fix for each."""
    with output.show_wait("checking this computer"):
        findings = [
            # Those that touch the disk or bind ports run in a thread.
            *await asyncio.to_thread(checks.check_python),
            *await checks.check_gstreamer(),
            *await checks.check_mdns(interface),
            *await asyncio.to_thread(checks.check_ports, _PORTS),
            *await asyncio.to_thread(checks.check_disk, directory),
            *await asyncio.to_thread(checks.check_devices),
            *await asyncio.to_thread(checks.check_kernel_clock),
        ]
        if ntp is not None:
            findings += await checks.check_time_server(ntp)
        async with TaskScope("doctor") as scope:
            asks = [scope.spawn(_check_camera(uri, credentials, timeout), name="ask") for uri in uris or ()]
            findings += [await ask for ask in asks]
    bad = sum(finding.verdict is Severity.BAD for finding in findings)
    output.json_document({"healthy": not bad, "findings": findings})
    output.print(_table(findings), _summary(findings))
    return ExitCode.NOT_INSTALLED if bad else ExitCode.OK


async def _check_camera(uri: str, credentials: Credentials | None, timeout: float) -> Finding:
    from asynccam.session import Session

    try:
        async with Session(poll_interval=None) as session, deadline(timeout, f"answer from {uri}"):
            camera = await session.connect(uri, credentials=credentials)
            answer = await camera.status()
    except AsynccamError as error:
        cure = "check that it is switched on, on this network, and not behind a firewall; see its docs page"
        return Finding("Cameras", Severity.BAD, f"{uri}: {one_line(error)}", cure)
    return Finding(
        "Cameras", Severity.GOOD, f"{uri}: {camera.info.name or camera.id} is {answer.state.value}"
    )


def _table(findings: Sequence[Finding]) -> Table:
    sheet = Table.grid(padding=(0, 2))
    sheet.add_column(style="name")
    sheet.add_column()
    sheet.add_column(overflow="fold")
    for check, group in groupby(findings, key=lambda finding: finding.check):
        for index, finding in enumerate(group):
            text = formatting.device_text(finding.found)
            if finding.cure:
                text.append("\n").append_text(formatting.device_text(finding.cure, "key"))
            sheet.add_row("" if index else check, _MARKS[finding.verdict], text)
    return sheet


def _summary(findings: Sequence[Finding]) -> Text:
    bad = sum(finding.verdict is Severity.BAD for finding in findings)
    notes = sum(finding.verdict is Severity.NOTE for finding in findings)
    if bad:
        return Text(f"\n{bad} of {len(findings)} findings need a fix.", style="bad")
    if notes:
        return Text(f"\nReady for takes, with {notes} of {len(findings)} findings to note.", style="busy")
    return Text("\nReady for takes.", style="good")
