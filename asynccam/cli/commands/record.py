"""``asynccam record``: record one take with several cameras."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynccam.cli.errors import ExitCode, print_error
from asynccam.cli.options import (
    ADDRESS_FORM,
    Digest,
    DigestOption,
    DirectoryOption,
    FleetOption,
    InterfacesOption,
)
from asynccam.cli.output import Output
from asynccam.cli.runner import command
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


@command("record")
async def record(
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
        typer.Option("--all", help="Every discovered camera, and every camera of the service at each URI."),
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="S", help="Seconds that --all discovers cameras.")
    ] = 5.0,
    interface: InterfacesOption = None,
    require: Annotated[
        Require,
        typer.Option("--require", help="Whether all named cameras must be available, or any of them."),
    ] = Require.ALL,
    to: DirectoryOption = Path(),
    start_in: Annotated[
        float, typer.Option("--start-in", min=0.0, metavar="S", help="Seconds from the command to T0.")
    ] = 3.0,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the take.", show_default="from the time")
    ] = None,
    digest: DigestOption = Digest.SHA256,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """Start cameras together, stop them, and download and check every file."""
    from asynccam.cli.take_runner import run_take
    from asynccam.cli.take_view import TakeView
    from asynccam.recording.verify import verify_file
    from asynccam.session import Fleet, Session

    selection = CameraSelection(uris or (), credentials, timeout if everything else None, require)
    plan = Fleet() if fleet is None else await Fleet.load(fleet)
    interfaces = interface or plan.interfaces
    # Not polled: the take itself asks its cameras, and some devices serve one connection at a time.
    async with Session(
        interfaces=interfaces and list(interfaces), ntp_server=plan.ntp_server, poll_interval=None
    ) as session:
        cameras = await select_cameras(session, selection, output, plan.places)
        for missing in selection.missing.values():
            print_error(f"record: without {missing}")
        take = session.new_take(
            cameras,
            to,
            name=name,
            verify=verify_file,
            missing=selection.missing,
            digest=digest.algorithm,
        )
        view = TakeView("asynccam record", duration=duration, start_in=start_in)
        return await run_take(session, take, view, output)


@dataclass(frozen=True, slots=True)
class CameraSelection:
    """Cameras named on the command line or in a fleet file."""

    uris: Sequence[str]
    credentials: Credentials | None
    # Seconds of discovery, which also selects all cameras of a service at each address, or None.
    discover: float | None
    require: Require = Require.ALL  # whether a named camera that cannot be reached is an error, or left out
    # Cameras that were left out, by address.
    missing: "dict[str, Unavailable]" = field(default_factory=dict)

    async def connect(
        self,
        session: "Session",
        addresses: "Sequence[Address | str]",
        credentials: Credentials | None,
        *,
        list_services: bool = False,
    ) -> "list[Camera]":
        """Connect to cameras at addresses, or behind them; record missing ones where that is allowed."""
        if list_services:
            at: list[Address | str] = []
            for address in addresses:
                try:
                    found = await session.list_cameras(address, credentials=credentials)
                except (AsynccamError, ExceptionGroup) as error:
                    self._add_missing(address, error)
                else:
                    at += [info.address for info in found]
            addresses = at
        if self.require is Require.ALL:
            return await session.connect_all(addresses, credentials=credentials)
        cameras: list[Camera] = []
        results = await session.connect_each(addresses, credentials=credentials)
        for address, result in zip(addresses, results, strict=True):
            if isinstance(result, Exception):
                self._add_missing(address, result)
            else:
                cameras.append(result)
        return cameras

    def _add_missing(self, address: "Address | str", error: Exception) -> None:
        """Record that an address cannot be reached; raise the error if all cameras are required."""
        from asynccam.session import Unavailable

        if self.require is Require.ALL or isinstance(error, UsageError):
            raise error
        self.missing[str(address)] = Unavailable(str(address), unix_now(), error, 1)


async def select_cameras(
    session: "Session", selection: CameraSelection, output: Output, targets: "Sequence[CameraTarget]" = ()
) -> "list[Camera]":
    """Connect to the selected cameras and return each once, named ones first.

    Raises:
        UsageError: No camera is named, or one is named twice.
        NotFoundError: Discovery found no camera.
        AsynccamError: A named camera cannot be reached, see `Session.connect`.
    """
    discovers = selection.discover is not None
    if not (discovers or selection.uris or targets):
        raise UsageError("name a camera by its address, or use --fleet or --all")
    found: list[Camera] = []
    if selection.discover is not None:
        with output.show_wait("looking for cameras", selection.discover):
            found = await session.discover(timeout=selection.discover)
    with output.show_wait("connecting"):
        cameras = await selection.connect(
            session, selection.uris, selection.credentials, list_services=discovers
        )
        if not discovers and len({camera.id for camera in cameras}) < len(cameras):
            raise UsageError("a camera is named twice")
        for place in targets:
            cameras += await selection.connect(
                session, [place.address], place.credentials, list_services=place.is_service
            )
    if not cameras and not found:
        if selection.missing:
            raise NotFoundError("no camera is available: " + "; ".join(map(str, selection.missing.values())))
        if discovers:
            raise NotFoundError(f"no camera answered within {selection.discover:g} s")
    return list({camera.id: camera for camera in (*cameras, *found)}.values())
