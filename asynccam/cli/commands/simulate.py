"""``asynccam simulate``: simulated servers of other vendors, for trials and tests."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import PortOption
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.cli.serving import FaultsOption, WhileStdinOption, faults_of, while_open
from asynccam.errors import UsageError

if TYPE_CHECKING:
    from asynccam.systems.thorvision.simulator.simulator import ThorVisionSimulator


@command("simulate mediamtx", terminated=ExitCode.OK)
async def mediamtx(
    port: PortOption = 8002,
    http_port: Annotated[
        int, typer.Option("--http-port", min=0, max=65535, metavar="P", help="Port of the file server.")
    ] = 8003,
    host: Annotated[str, typer.Option("--host", metavar="IP", help="Address to listen at.")] = "127.0.0.1",
    generation: Annotated[
        int, typer.Option("--generation", min=1, max=2, help="Service generation: 1 (Python) or 2 (Go).")
    ] = 2,
    cameras: Annotated[int, typer.Option("--cameras", min=0, max=100, help="Number of cameras.")] = 2,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", metavar="DIR", help="Directory for files.", show_default="temporary"),
    ] = None,
    secret: Annotated[
        str, typer.Option("--secret", envvar="ASYNCCAM_SECRET", help="Signs tokens.", show_default="random")
    ] = "",
    api_key: Annotated[
        list[str] | None,
        typer.Option("--api-key", metavar="KEY=ROLE", help="API key and its role; may be repeated."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Record with GStreamer, with the time of day in the picture.")
    ] = False,
    fault: FaultsOption = None,
    while_stdin_open: WhileStdinOption = False,
    *,
    output: Output,
) -> ExitCode:
    """Simulate a MediaMTX Camera Service with simulated cameras and real files."""
    from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults
    from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator

    async with while_open(stdin=while_stdin_open):
        simulator = MediaMTXSimulator(
            host=host,
            port=port,
            http_port=http_port,
            generation=generation,
            directory=directory,
            cameras=cameras,
            secret=secret,
            api_keys=_roles(api_key or []),
            live=live,
            faults=faults_of(ServiceFaults, fault),
        )
        async with simulator:
            place, token = f"mediamtx://{host}:{simulator.port}", simulator.token("admin")
            facts = {"address": place, "http_port": simulator.http_port, "token": token}
            output.json_line({"event": "listening", "system": "mediamtx", **facts})
            text = f"A generation {generation} service with {cameras} cameras listens at {place}."
            output.print(
                formatting.device_text(text), formatting.device_text(f"An administrator's token: {token}")
            )
            await asyncio.Event().wait()
    return ExitCode.OK


@command("simulate thorvision", terminated=ExitCode.OK)
async def thorvision(
    port: PortOption = 8000,
    host: Annotated[str, typer.Option("--host", metavar="IP", help="Address to listen at.")] = "127.0.0.1",
    cameras: Annotated[int, typer.Option("--cameras", min=1, max=16, help="Number of cameras.")] = 2,
    width: Annotated[int, typer.Option("--width", min=64, help="Largest picture, in pixels.")] = 640,
    height: Annotated[int, typer.Option("--height", min=64, help="Largest picture, in pixels.")] = 480,
    replug: Annotated[
        float | None,
        typer.Option("--replug", metavar="S", help="Unplug the last camera and plug it in, every S seconds."),
    ] = None,
    fault: FaultsOption = None,
    while_stdin_open: WhileStdinOption = False,
    *,
    output: Output,
) -> ExitCode:
    """Simulate a ThorVision server with simulated cameras and real SRT streams."""
    from asynccam.systems.thorvision.simulator.simulator import serve
    from asynccam.systems.thorvision.simulator.stream import ServerFaults

    def ready(simulator: "ThorVisionSimulator") -> None:
        place = f"thorvision://{host}:{simulator.port}"
        output.json_line({"event": "listening", "system": "thorvision", "address": place})
        output.print(
            formatting.device_text(f"A ThorVision server with {cameras} cameras listens at {place}.")
        )

    async with while_open(stdin=while_stdin_open):
        await serve(
            host=host,
            port=port,
            cameras=cameras,
            width=width,
            height=height,
            replug=replug,
            faults=faults_of(ServerFaults, fault),
            on_ready=ready,
        )
    return ExitCode.OK


def _roles(keys: list[str]) -> dict[str, str]:
    roles = {}
    for text in keys:
        key, found, role = text.partition("=")
        if not found or not key:
            raise UsageError("--api-key must be KEY=ROLE")
        roles[key] = role
    return roles
