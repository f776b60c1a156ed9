"""``asynccam doctor``: what on this computer would keep a take from working, and the cure of each."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from asynccam.cli import checks, formatting
from asynccam.cli.checks import Finding, Verdict
from asynccam.cli.errors import ExitCode, one_line
from asynccam.cli.options import (
    AnswerTimeoutOption,
    ApiKeyOption,
    InterfacesOption,
    JsonOption,
    TokenOption,
    VerboseOption,
    credentials_of,
)
from asynccam.cli.output import Output
from asynccam.cli.runner import execute
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
    Verdict.GOOD: Text("✓", style="good"),
    Verdict.NOTE: Text("!", style="busy"),
    Verdict.BAD: Text("✗", style="bad"),
}


def doctor(
    uris: Annotated[
        list[str] | None,
        typer.Argument(metavar="URI", help="Cameras to ask as well.", show_default=False),
    ] = None,
    directory: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Where takes are to be kept.")
    ] = Path(),
    interface: InterfacesOption = None,
    ntp: Annotated[
        str | None,
        typer.Option("--ntp", metavar="HOST[:PORT]", help="Compare the clock with this time server."),
    ] = None,
    token: TokenOption = None,
    api_key: ApiKeyOption = None,
    timeout: AnswerTimeoutOption = 5.0,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Look for what would keep a take from working; each finding comes with its cure."""
    output = Output(json=json, verbose=verbose)
    credentials = credentials_of(token, api_key)
    asks = [partial(_ask, uri, credentials, timeout) for uri in uris or ()]
    execute("doctor", lambda: _doctor(asks, directory, interface, ntp, output), output)


async def _doctor(
    asks: Sequence[Callable[[], Coroutine[Any, Any, Finding]]],
    directory: Path,
    interfaces: Sequence[str] | None,
    ntp: str | None,
    output: Output,
) -> ExitCode:
    with output.waiting("looking around"):
        findings = [
            *await checks.off_loop(checks.check_python),
            *await checks.check_gstreamer(),
            *await checks.check_mdns(interfaces),
            *await checks.off_loop(partial(checks.check_ports, _PORTS)),
            *await checks.off_loop(partial(checks.check_disk, directory)),
            *await checks.off_loop(checks.check_devices),
            *await checks.off_loop(checks.check_kernel_clock),
        ]
        if ntp is not None:
            findings += await checks.check_time_server(ntp)
        findings += await _side_by_side(asks)
    bad = sum(one.verdict is Verdict.BAD for one in findings)
    output.document({"healthy": not bad, "findings": findings})
    output.show(_sheet(findings), _summary(findings))
    return ExitCode.NOT_INSTALLED if bad else ExitCode.OK


async def _side_by_side(asks: Sequence[Callable[[], Coroutine[Any, Any, Finding]]]) -> list[Finding]:
    scope = TaskScope("doctor")
    async with scope:
        tasks = [scope.spawn(ask(), name="ask") for ask in asks]
        if tasks:
            await asyncio.wait(tasks)
    return [task.result() for task in tasks]


async def _ask(uri: str, credentials: Credentials | None, timeout: float) -> Finding:
    from asynccam.cli.opening import open_session

    try:
        async with open_session() as session, deadline(timeout, f"answer from {uri}"):
            camera = await session.connect(uri, credentials=credentials)
            answer = await camera.status()
    except AsynccamError as error:
        cure = "is it switched on, on this network, and not behind a firewall? Its page in the docs says more"
        return Finding("Cameras", Verdict.BAD, f"{uri}: {one_line(error)}", cure)
    return Finding("Cameras", Verdict.GOOD, f"{uri}: {camera.info.name or camera.id} is {answer.state.value}")


def _sheet(findings: Sequence[Finding]) -> Table:
    sheet = Table.grid(padding=(0, 2))
    sheet.add_column(style="name")
    sheet.add_column()
    sheet.add_column(overflow="fold")
    for check, group in groupby(findings, key=lambda one: one.check):
        for number, one in enumerate(group):
            told = formatting.told(one.found)
            if one.cure:
                told.append("\n").append_text(formatting.told(one.cure, "key"))
            sheet.add_row("" if number else check, _MARKS[one.verdict], told)
    return sheet


def _summary(findings: Sequence[Finding]) -> Text:
    bad = sum(one.verdict is Verdict.BAD for one in findings)
    notes = sum(one.verdict is Verdict.NOTE for one in findings)
    if bad:
        return Text(f"\n{bad} of {len(findings)} findings need a cure.", style="bad")
    if notes:
        return Text(f"\nReady for takes, with {notes} of {len(findings)} findings to note.", style="busy")
    return Text("\nReady for takes.", style="good")
