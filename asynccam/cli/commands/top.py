"""``asynccam top``: a live table of all cameras."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.options import (
    AllOption,
    AnswerTimeoutOption,
    FleetOption,
    InterfacesOption,
    UrisArgument,
)
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.cli.top_view import TopView
from asynccam.errors import UsageError
from asynccam.model.credentials import Credentials

if TYPE_CHECKING:
    from asynccam.session import Session

_INTERVAL: Final = 0.25
_POLL_INTERVAL: Final = 2.0
_DISCOVER_SECONDS: Final = 3.0
_STATE_TIMEOUT: Final = 2.0
"""Seconds that ``--once`` waits for the states of available cameras."""


@command("top")
async def top(
    uris: UrisArgument = None,
    fleet: FleetOption = None,
    everything: AllOption = False,
    once: Annotated[
        bool, typer.Option("--once", help="Print the table once and exit; the default without a terminal.")
    ] = False,
    timeout: AnswerTimeoutOption = 5.0,
    interface: InterfacesOption = None,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """Show a live table of all cameras until Ctrl-C."""
    from asynccam.session import Session

    once = once or output.json or not output.stdout.is_terminal
    wait = timeout if once else 0.0
    if not uris and fleet is None and not everything:
        raise UsageError("no cameras given; name addresses, a --fleet, or --all")
    settings: Any = {"interfaces": list(interface)} if interface else {}
    output.print_note("Connecting.")
    async with Session.open(
        *(uris or ()),
        fleet=fleet,
        credentials=credentials,
        timeout=wait,
        poll_interval=_POLL_INTERVAL,
        **settings,
    ) as session:
        if everything:
            await session.discover(timeout=_DISCOVER_SECONDS if once else 0.0)
        view = TopView(session)
        with session.events.subscribe(view.handle, replay=True):
            if once:
                await _wait_for_states(session, min(wait, _STATE_TIMEOUT))
                output.json_document({"cameras": view.rows()})
                output.print(view)
            else:
                await _draw(view, output)
    return ExitCode.OK


async def _wait_for_states(session: "Session", seconds: float) -> None:
    """Wait until every available camera has reported its state, or for some seconds."""
    from asynccam.model.events import CameraStateChanged

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        asked = session.cameras.keys() - session.unavailable.keys()
        if all(session.events.latest(CameraStateChanged, key) for key in asked):
            return
        await asyncio.sleep(0.05)


async def _draw(view: TopView, output: Output) -> None:
    from rich.live import Live

    with Live(view, console=output.stdout, auto_refresh=False, screen=True) as live:
        while True:
            live.refresh()
            await asyncio.sleep(_INTERVAL)
