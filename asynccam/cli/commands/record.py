"""``asynccam record``: one take over any cameras."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
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
from asynccam.cli.output import Output, complain
from asynccam.cli.runner import execute
from asynccam.errors import AsynccamError, NotFoundError, UsageError
from asynccam.model.credentials import Credentials
from asynccam.wall_clock import unix_now

if TYPE_CHECKING:
    from asynccam.model.address import Address
    from asynccam.model.camera import Camera
    from asynccam.session import CameraTarget, Session, Unavailable


class Require(StrEnum):
    """Cameras that must be available for a take to begin."""

    ALL = "all"
    ANY = "any"


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
    require: Annotated[
        Require,
        typer.Option("--require", help="Whether all that were named have to be there, or any of them."),
    ] = Require.ALL,
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
        uris or (),
        credentials_of(token, api_key),
        timeout if everything else None,
        interface,
        fleet,
        require,
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
        require: Whether one that was named and cannot be reached is an error, or is left out.
        missing: Those that were left out, by address.
    """

    uris: Sequence[str]
    credentials: Credentials | None
    discover: float | None
    interfaces: Sequence[str] | None
    fleet: Path | None = None
    require: Require = Require.ALL
    missing: "dict[str, Unavailable]" = field(default_factory=dict)

    async def reach(
        self,
        session: "Session",
        addresses: "Sequence[Address | str]",
        credentials: Credentials | None,
        *,
        behind: bool = False,
    ) -> "list[Camera]":
        """The cameras at these addresses, or behind them; who is not there is noted, where allowed."""
        if behind:
            at: list[Address | str] = []
            for address in addresses:
                try:
                    found = await session.list_cameras(address, credentials=credentials)
                except (AsynccamError, ExceptionGroup) as error:
                    self._leave_out(address, error)
                else:
                    at += [info.address for info in found]
            addresses = at
        if self.require is Require.ALL:
            return await session.connect_all(addresses, credentials=credentials)
        cameras: list[Camera] = []
        results = await session.connect_each(addresses, credentials=credentials)
        for address, result in zip(addresses, results, strict=True):
            if isinstance(result, Exception):
                self._leave_out(address, result)
            else:
                cameras.append(result)
        return cameras

    def _leave_out(self, address: "Address | str", error: Exception) -> None:
        """Note that nobody is reached at an address; an error unless some may be missing."""
        from asynccam.session import Unavailable

        if self.require is Require.ALL or isinstance(error, UsageError):
            raise error
        self.missing[str(address)] = Unavailable(str(address), unix_now(), error, 1)


async def cameras_of(
    session: "Session", which: Which, output: Output, places: "Sequence[CameraTarget]" = ()
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
            named = await which.reach(session, which.uris, which.credentials)
            cameras = _each_once(named)
            if len(cameras) < len(named):
                raise UsageError("a camera is named twice")
            cameras = _each_once(cameras, await _fleet_of(session, which, places))
            return _some(which, cameras)
    with output.waiting("looking for cameras", which.discover):
        found = await session.discover(timeout=which.discover)
    with output.waiting("connecting"):
        named = await which.reach(session, which.uris, which.credentials, behind=True)
        cameras = _each_once(named, await _fleet_of(session, which, places), found)
    if not cameras and not which.missing:
        raise NotFoundError(f"no camera answered within {which.discover:g} s")
    return _some(which, cameras)


def _some(which: Which, cameras: "list[Camera]") -> "list[Camera]":
    """The cameras, of which there has to be one."""
    if not cameras and which.missing:
        raise NotFoundError("no camera is there: " + "; ".join(map(str, which.missing.values())))
    return cameras


async def _fleet_of(session: "Session", which: Which, places: "Sequence[CameraTarget]") -> "list[Camera]":
    """The cameras at the places of a fleet, also those behind its services."""
    cameras: list[Camera] = []
    for place in places:
        cameras += await which.reach(session, [place.address], place.credentials, behind=place.is_service)
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
    from asynccam.cli.take_runner import run_take
    from asynccam.cli.take_view import TakeView
    from asynccam.recording.verify import verify_file
    from asynccam.session import Fleet

    fleet = Fleet() if which.fleet is None else await Fleet.load(which.fleet)
    interfaces = which.interfaces or fleet.interfaces
    async with open_session(interfaces, ntp_server=fleet.ntp_server) as session:
        cameras = await cameras_of(session, which, output, fleet.places)
        for away in which.missing.values():
            complain(f"record: without {away}")
        take = session.new_take(cameras, directory, name=name, verify=verify_file, missing=which.missing)
        view = TakeView("asynccam record", duration=duration, start_in=start_in)
        return await run_take(session, take, view, output)
