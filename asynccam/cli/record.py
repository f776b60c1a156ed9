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
    from asynccam.model.camera import Camera
    from asynccam.session import Session


def record(
    duration: Annotated[
        float, typer.Option("--duration", min=0.1, metavar="S", help="Seconds to record.", show_default=False)
    ],
    uris: Annotated[
        list[str] | None,
        typer.Argument(metavar="URI", help=f"Cameras, each as {ADDRESS_FORM}.", show_default=False),
    ] = None,
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
    which = Which(uris or (), credentials_of(token, api_key), timeout if everything else None, interface)
    execute("record", lambda: _record(which, duration, to, start_in, name, output), output)


@dataclass(frozen=True, slots=True)
class Which:
    """The cameras that were asked for.

    Attributes:
        uris: Their addresses.
        credentials: For the services that want them.
        discover: Seconds to look for others, which also takes all cameras behind each address, or None.
        interfaces: Where to look.
    """

    uris: Sequence[str]
    credentials: Credentials | None
    discover: float | None
    interfaces: Sequence[str] | None


async def cameras_of(session: "Session", which: Which, output: Output) -> "list[Camera]":
    """Reach the cameras that were asked for: each once, those that were named first.

    Raises:
        UsageError: None was asked for.
        NotFoundError: Discovery was asked for and found none.
        AsynccamError: One that was named cannot be reached, see `Session.connect`.
    """
    if which.discover is None:
        if not which.uris:
            raise UsageError("name a camera by its address, or use --all")
        with output.waiting("connecting"):
            return await session.connect_all(which.uris, credentials=which.credentials)
    with output.waiting("looking for cameras", which.discover):
        found = await session.discover(timeout=which.discover)
    with output.waiting("connecting"):
        places = [
            info.address
            for uri in which.uris
            for info in await session.cameras_behind(uri, credentials=which.credentials)
        ]
        named = await session.connect_all(places, credentials=which.credentials)
    cameras = {camera.id: camera for camera in (*named, *found)}
    if not cameras:
        raise NotFoundError(f"no camera answered within {which.discover:g} s")
    return list(cameras.values())


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

    async with open_session(which.interfaces) as session:
        cameras = await cameras_of(session, which, output)
        take = session.new_take(cameras, directory, name=name, verify=verify_file)
        view = TakeView("asynccam record", duration=duration, start_in=start_in)
        return await run_take(session, take, view, output)
