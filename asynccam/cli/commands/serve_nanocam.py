"""``asynccam serve nanocam``: a media server for nanocam clients, the maker's and our own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import JsonOption, VerboseOption
from asynccam.cli.output import Output
from asynccam.cli.runner import execute
from asynccam.cli.serving import WhileStdinOption, while_open

if TYPE_CHECKING:
    from asynccam.systems.nanocam.server.server import MediaServer

_TOKEN_VARIABLE = "ASYNCCAM_TOKEN"  # noqa: S105 - the variable's name


def nanocam(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="P", help="TCP port; 0 takes a free one.")
    ] = 7200,
    host: Annotated[
        str, typer.Option("--host", metavar="IP", help="Address to listen at.", show_default="every one")
    ] = "",
    camera: Annotated[
        str | None,
        typer.Option(
            "--camera",
            metavar="DEVICE",
            help="Serve this V4L2 camera, /dev/video0 for example.",
            show_default="the Jetson's; elsewhere a test picture",
        ),
    ] = None,
    media_port: Annotated[
        int, typer.Option("--media-port", min=1, max=65535, metavar="P", help="UDP port of clients.")
    ] = 5004,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep what is captured here.", show_default=False),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar=_TOKEN_VARIABLE,
            help="Serve only asynccam clients that show it; better in the environment.",
            show_default=False,
        ),
    ] = None,
    originals: Annotated[
        bool, typer.Option("--originals", help="Serve the maker's clients too, which know no token.")
    ] = False,
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Refuse who comes while the camera is in use; else they wait.")
    ] = False,
    override: Annotated[
        bool, typer.Option(help="Let clients end what others have running, as the maker's server does.")
    ] = True,
    max_duration: Annotated[
        float, typer.Option("--max-duration", min=1, metavar="SECONDS", help="Longest video.")
    ] = 3600.0,
    while_stdin_open: WhileStdinOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Be a nanocam media server: pictures and video of this computer's camera for clients on the network."""
    output = Output(json=json, verbose=verbose)

    async def main() -> ExitCode:
        from asynccam.cli.gstreamer import require_gstreamer
        from asynccam.systems.nanocam.csi.camera import CSIcamera
        from asynccam.systems.nanocam.serve import serve
        from asynccam.systems.nanocam.server.options import ServerLimits, ServerPolicy, WhenBusy

        served = False

        def ready(server: "MediaServer") -> None:
            nonlocal served
            served = True
            _listening(output, server, host, with_token=token is not None)

        policy = ServerPolicy(
            token=token,
            originals=True if originals else None,
            when_busy=WhenBusy.REFUSE if refuse else WhenBusy.QUEUE,
            override=override,
        )
        source = CSIcamera(device=camera, time_code=True)
        await require_gstreamer(source.source())
        try:
            async with while_open(stdin=while_stdin_open):
                await serve(
                    port,
                    host=host,
                    camera=source,
                    media_port=media_port,
                    media_path=keep,
                    policy=policy,
                    limits=ServerLimits(duration=max_duration),
                    on_ready=ready,
                )
        finally:
            if served:
                output.line({"event": "stopped"})
        return ExitCode.OK

    execute("serve nanocam", main, output, terminated=ExitCode.OK)


def _listening(output: Output, server: "MediaServer", host: str, *, with_token: bool) -> None:
    output.line(
        {
            "event": "listening",
            "system": "nanocam",
            "host": host or "*",
            "port": server.port,
            "stand_in": server.stand_in,
            "token": with_token,
        }
    )
    place = f"[{host}]:{server.port}" if ":" in host else f"{host or '*'}:{server.port}"
    source = f"Without a Jetson's camera it shows {server.stand_in}." if server.stand_in else ""
    output.show(
        formatting.told(f"A nanocam media server listens at {place}."),
        *((source,) if source else ()),
        "Ctrl-C ends what is being captured, and leaves.",
    )
