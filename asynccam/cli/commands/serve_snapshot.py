"""``asynccam serve snapshot``: a Snapshot server with its web page."""

import os
import resource
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import JsonOption, VerboseOption
from asynccam.cli.output import Output
from asynccam.cli.runner import execute
from asynccam.cli.serving import WhileStdinOption, while_open

if TYPE_CHECKING:
    from asynccam.systems.snapshot.server.app import SnapshotWeb

_VARIABLE: Final = "ASYNCCAM_SNAPSHOT_TOKEN"
_DEFAULT_CONFIG: Final = Path("config.json")
_DESCRIPTORS: Final = 65536
"""Files and sockets at once that the server asks the system for; 1024 would be the custom."""


class _Backend(Enum):
    V4L2_CTL = "v4l2-ctl"
    GSTREAMER = "gstreamer"


def snapshot(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="The cameras; made if it is missing.", show_default="config.json"
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="P", help="TCP port; 0 takes a free one.")
    ] = 88,
    host: Annotated[
        str, typer.Option("--host", metavar="IP", help="Address to listen at; 0.0.0.0 for every network.")
    ] = "127.0.0.1",
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", metavar="DIR", help="Where pictures are kept.", show_default="beside FILE"
        ),
    ] = None,
    test_cameras: Annotated[
        int,
        typer.Option(
            "--test-cameras",
            min=0,
            max=99,
            metavar="N",
            help="Add N cameras with a test picture; without --config nothing of it is kept.",
        ),
    ] = 0,
    backend: Annotated[
        _Backend, typer.Option("--backend", help="What takes the pictures.")
    ] = _Backend.V4L2_CTL,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Ask every request for the token in the file's first line.",
            show_default=False,
        ),
    ] = None,
    token_env: Annotated[
        str, typer.Option("--token-env", metavar="NAME", help="Environment variable that holds the token.")
    ] = _VARIABLE,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Also go by this name of the Internet; may be repeated.",
            show_default=False,
        ),
    ] = None,
    allow_device: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-device",
            metavar="PATH",
            help="Let the web page name this device, all below DIR/ or all like PATH*; may be repeated.",
            show_default="/dev/video*, /dev/v4l/",
        ),
    ] = None,
    allow_service: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-service",
            metavar="NAME",
            help="Let the web page name this service; may be repeated.",
            show_default="those of the configuration",
        ),
    ] = None,
    while_stdin_open: WhileStdinOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Be a Snapshot server: pictures from this computer's cameras, by a REST API and a web page."""
    output = Output(json=json, verbose=verbose)

    async def main() -> ExitCode:
        from asynccam.systems.snapshot.server.secret import read_secret
        from asynccam.systems.snapshot.server.security import is_loopback
        from asynccam.systems.snapshot.server.serve import serve

        served = False

        def ready(web: "SnapshotWeb") -> None:
            nonlocal served
            served = True
            output.line(
                {
                    "event": "listening",
                    "system": "snapshot",
                    "host": host,
                    "port": web.port,
                    "url": web.url,
                    "config": place.resolve(),
                    "token": web.wants_token,
                }
            )
            output.show(
                formatting.told(f"A Snapshot server listens at {web.url}, its cameras are in {place}.")
            )
            if not is_loopback(host) and not web.wants_token:
                output.show("Whoever reaches the port can use it; --token-file asks for a token.")
            output.show("Ctrl-C finishes what is being captured, and leaves.")

        temporary = (
            TemporaryDirectory(prefix="asynccam-snapshot-") if config is None and test_cameras else None
        )
        place = Path(temporary.name, "config.json") if temporary is not None else config or _DEFAULT_CONFIG
        _ask_for_descriptors()
        try:
            token = await read_secret(
                None if token_file is None else str(token_file),
                token_env if token_file is None and token_env in os.environ else None,
                base=Path(),
            )
            async with while_open(stdin=while_stdin_open):
                await serve(
                    place,
                    directory=directory,
                    host=host,
                    port=port,
                    token=token,
                    hosts=allow_host or [],
                    test_cameras=test_cameras,
                    backend=backend.value,
                    allow_devices=allow_device or (),
                    allow_services=allow_service or (),
                    on_ready=ready,
                )
        finally:
            if temporary is not None:
                temporary.cleanup()
            if served:
                output.line({"event": "stopped"})
        return ExitCode.OK

    execute("serve snapshot", main, output, terminated=ExitCode.OK)


def _ask_for_descriptors() -> None:
    """Raise this process's own limit as far as the system allows, for many clients at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
