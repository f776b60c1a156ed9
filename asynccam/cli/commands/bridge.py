"""``asynccam bridge``: cameras on an MQTT broker, and in Home Assistant."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.options import (
    AllOption,
    DirectoryOption,
    FleetOption,
    InterfacesOption,
    UrisArgument,
)
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.errors import StorageError, UsageError
from asynccam.model.credentials import Credentials

if TYPE_CHECKING:
    from asynccam.net.mqtt import MqttBroker

_PASSWORD: Final = "ASYNCCAM_MQTT_PASSWORD"  # noqa: S105 - the name of a variable, not what it holds
_TLS_PORT: Final = 8883
_LEAVE_SECONDS: Final = 4.5
"""Seconds after a signal at which the process ends in any case; service managers kill soon after."""
_TAKES_SECONDS: Final = 1.6
_SESSION_SECONDS: Final = 1.2


@command("bridge", terminated=ExitCode.OK, within=_LEAVE_SECONDS)
async def bridge(
    uris: UrisArgument = None,
    fleet: FleetOption = None,
    everything: AllOption = False,
    broker: Annotated[
        str, typer.Option("--broker", metavar="HOST[:PORT]", help="The broker; mqtts://HOST for TLS.")
    ] = "127.0.0.1",
    username: Annotated[
        str | None,
        typer.Option(
            "--username",
            help=f"User name at the broker; the password is read from {_PASSWORD}.",
            show_default=False,
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", help="File with the password.", show_default=False),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Prefix of all topics.")] = "asynccam",
    discovery: Annotated[
        str,
        typer.Option("--discovery", metavar="PREFIX", help='Home Assistant discovery prefix; "" for none.'),
    ] = "homeassistant",
    commands: Annotated[
        bool, typer.Option("--commands/--no-commands", help="Accept commands by MQTT.")
    ] = True,
    to: DirectoryOption = Path("takes"),
    interface: InterfacesOption = None,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """Put cameras on an MQTT broker: states and events out, commands in, until Ctrl-C."""
    from asynccam.bridge.mqtt import MqttBridge
    from asynccam.bridge.topics import Topics
    from asynccam.session import Session

    if not uris and fleet is None and not everything:
        raise UsageError("no cameras given; name addresses, a --fleet, or --all")
    place = await _parse_broker(broker, username, password_file)
    topics = Topics(prefix)
    settings: Any = {"shutdown_timeout": _SESSION_SECONDS}
    if interface:
        settings["interfaces"] = list(interface)
    async with Session.open(
        *(uris or ()), fleet=fleet, credentials=credentials, timeout=0, **settings
    ) as session:
        if everything:
            await session.discover(timeout=0)
        async with MqttBridge(
            session,
            place,
            topics=topics,
            discovery=discovery or None,
            directory=to,
            commands=commands,
            shutdown_timeout=_TAKES_SECONDS,
        ) as bridge:
            with output.show_wait(f"connecting to {place.name}"):
                await bridge.wait_connected()
            output.json_line({"event": "connected", "host": place.host, "port": place.port, "prefix": prefix})
            output.print(f"{place.name} receives the cameras under {prefix}/; Ctrl-C exits.")
            await bridge.wait_over()
    return ExitCode.OK


async def _parse_broker(address: str, username: str | None, password_file: Path | None) -> "MqttBroker":
    """Return the broker named on the command line, with its password."""
    from asynccam.net.mqtt import MQTT_PORT, MqttBroker
    from asynccam.net.tls import client_context
    from asynccam.runtime.disk import on_disk, storage_errors

    invalid = UsageError(f"{address!r} is not a broker address; expected HOST[:PORT] or mqtts://HOST[:PORT]")
    try:
        parts = urlsplit(address if "://" in address else f"mqtt://{address}")
        port = parts.port
    except ValueError:
        raise invalid from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path or parts.username:
        raise invalid
    secure = parts.scheme == "mqtts"
    password = os.environ.get(_PASSWORD)
    if password_file is not None:
        with storage_errors("read", password_file):
            try:
                password = (await on_disk(password_file.read_text)).strip()
            except UnicodeDecodeError:
                raise StorageError(f"{password_file} is not UTF-8 text") from None
    return MqttBroker(
        parts.hostname,
        port or (_TLS_PORT if secure else MQTT_PORT),
        username=username,
        password=password,
        tls=await client_context() if secure else None,
    )
