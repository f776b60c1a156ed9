"""``asynccam serve multicam``: makes this computer a MultiCam device."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.faults import FaultsOption, faults_of
from asynccam.cli.options import InterfacesOption, JsonOption, VerboseOption
from asynccam.cli.output import Output
from asynccam.cli.runner import execute
from asynccam.cli.serving import WhileStdinOption, while_open

if TYPE_CHECKING:
    from asynccam.systems.multicam.device.device import MultiCamDevice


def multicam(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="P", help="TCP port; 0 takes a free one.")
    ] = 8080,
    host: Annotated[str, typer.Option("--host", metavar="IP", help="Address to listen at.")] = "0.0.0.0",  # noqa: S104 - a device is there to be reached; docs/cli.md says what that means
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIR", help="Where recordings are kept.")
    ] = Path("multicam-recordings"),
    device_id: Annotated[
        str, typer.Option("--device-id", metavar="ID", help="Who this is.", show_default="the host's name")
    ] = "",
    camera: Annotated[
        str | None,
        typer.Option("--camera", metavar="DEVICE", help="Record this V4L2 camera, /dev/video0 for example."),
    ] = None,
    pattern: Annotated[
        str, typer.Option("--pattern", help="Without a camera: GStreamer's test pattern of this name.")
    ] = "ball",
    text: Annotated[
        str, typer.Option("--text", metavar="LABEL", help="Label in the test pattern.", show_default="the id")
    ] = "",
    dialect: Annotated[int, typer.Option("--dialect", min=1, max=2, help="MultiCam dialect to speak.")] = 2,
    ntp: Annotated[
        str | None,
        typer.Option("--ntp", metavar="HOST", help="Time scheduled starts by this NTP server."),
    ] = None,
    upload_to: Annotated[
        list[str] | None,
        typer.Option(
            "--upload-to",
            metavar="HOST",
            help="Host that controllers may have recordings uploaded to, HOST or HOST:PORT; may be repeated.",
            show_default="none",
        ),
    ] = None,
    announce: Annotated[bool, typer.Option(help="Announce the device by mDNS.")] = True,
    interface: InterfacesOption = None,
    fault: FaultsOption = None,
    while_stdin_open: WhileStdinOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Be a MultiCam device: a camera that any MultiCam controller finds, starts, stops and empties."""
    output = Output(json=json, verbose=verbose)

    async def main() -> ExitCode:
        from zeroconf import InterfaceChoice

        from asynccam.cli.gstreamer import require_gstreamer
        from asynccam.recording import TestPattern, V4l2Source
        from asynccam.systems.multicam.device.faults import DeviceFaults
        from asynccam.systems.multicam.device.serve import serve

        served = False

        def ready(device: "MultiCamDevice") -> None:
            nonlocal served
            served = True
            _listening(output, device, host, announced=announce)

        await require_gstreamer(V4l2Source(camera) if camera else TestPattern(pattern=pattern))
        try:
            async with while_open(stdin=while_stdin_open):
                await serve(
                    directory,
                    host=host,
                    port=port,
                    device_id=device_id,
                    dialect=dialect,
                    camera=camera,
                    pattern=pattern,
                    label=text,
                    ntp_server=ntp,
                    announce=announce,
                    interfaces=interface or InterfaceChoice.All,
                    faults=faults_of(DeviceFaults, fault),
                    upload_to=upload_to or (),
                    on_ready=ready,
                )
        finally:
            if served:
                output.line({"event": "stopped"})
        return ExitCode.OK

    execute("serve multicam", main, output, terminated=ExitCode.OK)


def _listening(output: Output, device: "MultiCamDevice", host: str, *, announced: bool) -> None:
    output.line(
        {
            "event": "listening",
            "system": "multicam",
            "device_id": device.device_id,
            "host": host,
            "port": device.port,
            "directory": device.directory,
            "announced": announced,
        }
    )
    place = f"{host}:{device.port}" if ":" not in host else f"[{host}]:{device.port}"
    output.show(
        formatting.told(f"{device.device_id} listens at {place} and records into {device.directory}."),
        "Ctrl-C finishes what is being recorded, and leaves.",
    )
