"""``asynccam serve``: makes this computer a device for other controllers."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import RenderableType

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import InterfacesOption, PortOption
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.cli.serving import FaultsOption, WhileStdinOption, faults_of, require_gstreamer, while_open

if TYPE_CHECKING:
    from asynccam.systems.multicam.device.device import MultiCamDevice
    from asynccam.systems.nanocam.server.server import MediaServer
    from asynccam.systems.snapshot.server.app import SnapshotWeb

Report = Callable[..., None]
"""Takes the facts of a server as JSON has them, and lines for a person."""

_NANOCAM_TOKEN: Final = "ASYNCCAM_TOKEN"  # noqa: S105 - the variable's name
_SNAPSHOT_TOKEN: Final = "ASYNCCAM_SNAPSHOT_TOKEN"  # noqa: S105 - the variable's name
_DEFAULT_CONFIG: Final = Path("config.json")
_DESCRIPTORS: Final = 65536
"""Files and sockets that the Snapshot server asks the system for; the usual limit is 1024."""


@asynccontextmanager
async def _reporting(output: Output, *, stdin: bool) -> AsyncIterator["Report"]:
    """Yield a callback that reports that the server listens; report its stop if it was called."""
    listening = False

    def report(facts: Mapping[str, Any], *lines: RenderableType) -> None:
        nonlocal listening
        listening = True
        output.json_line({"event": "listening", **facts})
        output.print(*lines)

    try:
        async with while_open(stdin=stdin):
            yield report
    finally:
        if listening:
            output.json_line({"event": "stopped"})


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"


@command("serve multicam", terminated=ExitCode.OK)
async def multicam(
    port: PortOption = 8080,
    host: Annotated[str, typer.Option("--host", metavar="IP", help="Address to listen at.")] = "0.0.0.0",  # noqa: S104 - a device is there to be reached; docs/cli.md says what that means
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIR", help="Directory for recordings.")
    ] = Path("multicam-recordings"),
    device_id: Annotated[
        str, typer.Option("--device-id", metavar="ID", help="Device id.", show_default="the host's name")
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
            help="Host to which controllers may request uploads, HOST or HOST:PORT; may be repeated.",
            show_default="none",
        ),
    ] = None,
    announce: Annotated[bool, typer.Option(help="Announce the device by mDNS.")] = True,
    interface: InterfacesOption = None,
    fault: FaultsOption = None,
    while_stdin_open: WhileStdinOption = False,
    *,
    output: Output,
) -> ExitCode:
    """Run a MultiCam device: a camera that MultiCam controllers find, start, stop and download from."""
    from zeroconf import InterfaceChoice

    from asynccam.recording import TestPattern, V4l2Source
    from asynccam.systems.multicam import GstRecorder, MultiCamDevice, NtpOffset
    from asynccam.systems.multicam.device.commands import DeviceFaults

    name = device_id or socket.gethostname()
    pattern_source = TestPattern(label=text or name, pattern=pattern, time_code="day")
    source = V4l2Source(camera) if camera else pattern_source
    await require_gstreamer(source)
    async with _reporting(output, stdin=while_stdin_open) as report, AsyncExitStack() as stack:
        offset = await stack.enter_async_context(NtpOffset(ntp)) if ntp is not None else None
        device = MultiCamDevice(
            directory,
            host=host,
            port=port,
            device_id=name,
            dialect=dialect,
            recorder=GstRecorder(source),
            clock_offset=offset,
            announce=announce,
            interfaces=interface or InterfaceChoice.All,
            faults=faults_of(DeviceFaults, fault),
            upload_to=upload_to or (),
        )
        await stack.enter_async_context(device)
        _report_multicam(report, device, host, announced=announce)
        await asyncio.Event().wait()
    return ExitCode.OK


def _report_multicam(report: Report, device: "MultiCamDevice", host: str, *, announced: bool) -> None:
    report(
        {
            "system": "multicam",
            "device_id": device.device_id,
            "host": host,
            "port": device.port,
            "directory": device.directory,
            "announced": announced,
        },
        formatting.device_text(
            f"{device.device_id} listens at {_at(host, device.port)} and records into {device.directory}."
        ),
        "Ctrl-C finishes the current recording and exits.",
    )


@command("serve nanocam", terminated=ExitCode.OK)
async def nanocam(
    port: PortOption = 7200,
    host: Annotated[
        str, typer.Option("--host", metavar="IP", help="Address to listen at.", show_default="all")
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
        typer.Option("--keep", metavar="DIR", help="Keep captures in this directory.", show_default=False),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar=_NANOCAM_TOKEN,
            help="Token that asynccam clients must send; safer in the environment.",
            show_default=False,
        ),
    ] = None,
    originals: Annotated[
        bool, typer.Option("--originals", help="Also serve the vendor's clients, which send no token.")
    ] = False,
    refuse: Annotated[
        bool,
        typer.Option("--refuse", help="Refuse clients while the camera is in use; by default they wait."),
    ] = False,
    override: Annotated[
        bool, typer.Option(help="Let clients end the captures of others, as the vendor's server does.")
    ] = True,
    max_duration: Annotated[
        float, typer.Option("--max-duration", min=1, metavar="SECONDS", help="Longest video.")
    ] = 3600.0,
    while_stdin_open: WhileStdinOption = False,
    *,
    output: Output,
) -> ExitCode:
    """Run a nanocam media server: pictures and video of this computer's camera."""
    from asynccam.systems.nanocam.csi.camera import CSIcamera
    from asynccam.systems.nanocam.server.options import ServerLimits, ServerPolicy, WhenBusy
    from asynccam.systems.nanocam.server.server import MediaServer

    policy = ServerPolicy(
        token=token,
        originals=True if originals else None,
        when_busy=WhenBusy.REFUSE if refuse else WhenBusy.QUEUE,
        override=override,
    )
    source = CSIcamera(device=camera, time_code=True)
    await require_gstreamer(source.source())
    async with (
        _reporting(output, stdin=while_stdin_open) as report,
        MediaServer(
            port,
            host=host,
            camera=source,
            media_port=media_port,
            media_path=keep,
            policy=policy,
            limits=ServerLimits(duration=max_duration),
        ) as server,
    ):
        _report_nanocam(report, server, host, with_token=token is not None)
        await asyncio.Event().wait()
    return ExitCode.OK


def _report_nanocam(report: Report, server: "MediaServer", host: str, *, with_token: bool) -> None:
    lines = [formatting.device_text(f"A nanocam media server listens at {_at(host, server.port)}.")]
    if server.stand_in:
        lines.append(formatting.device_text(f"Without a Jetson's camera it shows {server.stand_in}."))
    report(
        {
            "system": "nanocam",
            "host": host or "*",
            "port": server.port,
            "stand_in": server.stand_in,
            "token": with_token,
        },
        *lines,
        "Ctrl-C ends the current capture and exits.",
    )


class _Backend(Enum):
    V4L2_CTL = "v4l2-ctl"
    GSTREAMER = "gstreamer"


@command("serve snapshot", terminated=ExitCode.OK)
async def snapshot(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Configuration file; created if missing.",
            show_default="config.json",
        ),
    ] = None,
    port: PortOption = 88,
    host: Annotated[
        str, typer.Option("--host", metavar="IP", help="Address to listen at; 0.0.0.0 for every network.")
    ] = "127.0.0.1",
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", metavar="DIR", help="Directory for pictures.", show_default="beside FILE"
        ),
    ] = None,
    test_cameras: Annotated[
        int,
        typer.Option(
            "--test-cameras",
            min=0,
            max=99,
            metavar="N",
            help="Add N cameras with a test picture; without --config nothing is kept.",
        ),
    ] = 0,
    backend: Annotated[
        _Backend, typer.Option("--backend", help="Program that takes the pictures.")
    ] = _Backend.V4L2_CTL,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Require the token in the file's first line for every request.",
            show_default=False,
        ),
    ] = None,
    token_env: Annotated[
        str, typer.Option("--token-env", metavar="NAME", help="Environment variable that holds the token.")
    ] = _SNAPSHOT_TOKEN,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Also accept this host name; may be repeated.",
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
    *,
    output: Output,
) -> ExitCode:
    """Run a Snapshot server: pictures of this computer's cameras, with a REST API and a web page."""
    from asynccam.systems.snapshot.server.serve import serve
    from asynccam.systems.snapshot.server.settings import read_secret

    temporary = TemporaryDirectory(prefix="asynccam-snapshot-") if config is None and test_cameras else None
    place = Path(temporary.name, "config.json") if temporary is not None else config or _DEFAULT_CONFIG
    _ask_for_descriptors()
    try:
        token = await read_secret(
            None if token_file is None else str(token_file),
            token_env if token_file is None and token_env in os.environ else None,
            base=Path(),
        )
        async with _reporting(output, stdin=while_stdin_open) as report:
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
                on_ready=lambda web: _report_snapshot(report, web, host, place),
            )
    finally:
        if temporary is not None:
            temporary.cleanup()
    return ExitCode.OK


def _report_snapshot(report: Report, web: "SnapshotWeb", host: str, config: Path) -> None:
    from asynccam.model.credentials import is_loopback

    lines = [formatting.device_text(f"A Snapshot server listens at {web.url}, its cameras are in {config}.")]
    if not is_loopback(host) and not web.wants_token:
        lines.append(
            formatting.device_text("Anyone who reaches the port can use it; --token-file requires a token.")
        )
    report(
        {
            "system": "snapshot",
            "host": host,
            "port": web.port,
            "url": web.url,
            "config": config.resolve(),
            "token": web.wants_token,
        },
        *lines,
        "Ctrl-C finishes the current captures and exits.",
    )


def _ask_for_descriptors() -> None:
    """Raise the limit of open files as far as the system allows, for many clients at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
