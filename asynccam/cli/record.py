"""``asynccam record``: one take over any cameras."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.options import (
    ADDRESS_FORM,
    ApiKeyOption,
    DirectoryOption,
    FleetOption,
    InterfacesOption,
    JsonOption,
    TokenOption,
    VerboseOption,
    credentials_of,
)
from asynccam.cli.output import Output
from asynccam.cli.running import execute
from asynccam.errors import NotFoundError, UsageError
from asynccam.model.credentials import Credentials

if TYPE_CHECKING:
    from asynccam.model.address import Address
    from asynccam.model.camera import Camera
    from asynccam.session import Place, Session


def record(
    duration: Annotated[
        float, typer.Option("--duration", min=0.1, metavar="S", help="Seconds to record.", show_default=False)
    ],
    uris: Annotated[
        list[str] | None,
        typer.Argument(metavar="URI", help=f"Cameras, each as {ADDRESS_FORM}.", show_default=False),
    ] = None,
    fleet: FleetOption = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Every camera that discovery finds, and every one behind each URI."),
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="S", help="Seconds that --all looks for cameras.")
    ] = 5.0,
    interface: InterfacesOption = None,
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
    which = Which(
        uris or (), credentials_of(token, api_key), timeout if everything else None, interface, fleet
    )
    execute("record", lambda: _record(which, duration, to, start_in, name, output), output)


@dataclass(frozen=True, slots=True)
class Which:
    """The cameras that were asked for.

    Attributes:
        uris: Their addresses.
        credentials: For the services that want them.
        discover: Seconds to look for others, which also takes all cameras behind each address, or None.
        interfaces: Where to look; by default where the fleet says.
        fleet: A fleet.toml with more of them.
    """

    uris: Sequence[str]
    credentials: Credentials | None
    discover: float | None
    interfaces: Sequence[str] | None
    fleet: Path | None = None


async def cameras_of(
    session: "Session", which: Which, output: Output, places: "Sequence[Place]" = ()
) -> "list[Camera]":
    """Reach the cameras that were asked for: each once, those that were named first.

    Args:
        session: Gets them.
        which: What was asked for.
        output: Shows what is waited for.
        places: Those of the fleet.

    Raises:
        UsageError: None was asked for, or one was named twice.
        NotFoundError: Discovery was asked for and found none.
        AsynccamError: One that was named cannot be reached, see `Session.connect`.
    """
    if which.discover is None:
        if not which.uris and not places:
            raise UsageError("name a camera by its address, or use --fleet or --all")
        with output.waiting("connecting"):
            named = await session.connect_all(which.uris, credentials=which.credentials)
            cameras = _each_once(named)
            if len(cameras) < len(named):
                raise UsageError("a camera is named twice")
            return _each_once(cameras, await _fleet_of(session, places))
    with output.waiting("looking for cameras", which.discover):
        found = await session.discover(timeout=which.discover)
    with output.waiting("connecting"):
        behind = [
            info.address
            for uri in which.uris
            for info in await session.cameras_behind(uri, credentials=which.credentials)
        ]
        named = await session.connect_all(behind, credentials=which.credentials)
        cameras = _each_once(named, await _fleet_of(session, places), found)
    if not cameras:
        raise NotFoundError(f"no camera answered within {which.discover:g} s")
    return cameras


async def _fleet_of(session: "Session", places: "Sequence[Place]") -> "list[Camera]":
    """The cameras at the places of a fleet, also those behind its services."""
    cameras: list[Camera] = []
    for place in places:
        at: list[Address | str] = [place.address]
        if place.is_service:
            behind = await session.cameras_behind(place.address, credentials=place.credentials)
            at = [info.address for info in behind]
        cameras += await session.connect_all(at, credentials=place.credentials)
    return cameras


def _each_once(*lists: "Sequence[Camera]") -> "list[Camera]":
    return list({camera.id: camera for cameras in lists for camera in cameras}.values())


async def _record(
    which: Which,
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
    from asynccam.session import Fleet

    fleet = Fleet() if which.fleet is None else await Fleet.load(which.fleet)
    interfaces = which.interfaces or fleet.interfaces
    async with open_session(interfaces, ntp_server=fleet.ntp_server) as session:
        cameras = await cameras_of(session, which, output, fleet.places)
        take = session.new_take(cameras, directory, name=name, verify=verify_file)
        view = TakeView("asynccam record", duration=duration, start_in=start_in)
        return await run_take(session, take, view, output)
