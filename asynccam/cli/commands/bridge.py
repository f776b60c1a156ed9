"""``asynccam bridge``: cameras on an MQTT broker, and in Home Assistant."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.options import (
    ApiKeyOption,
    DirectoryOption,
    FleetOption,
    InterfacesOption,
    JsonOption,
    TokenOption,
    UrisArgument,
    VerboseOption,
    credentials_of,
)
from asynccam.cli.output import Output
from asynccam.cli.runner import execute
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


def bridge(
    uris: UrisArgument = None,
    fleet: FleetOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also every camera that announces itself, now or later.")
    ] = False,
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
    token: TokenOption = None,
    api_key: ApiKeyOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Put cameras on an MQTT broker: states and events out, commands in, until Ctrl-C."""
    output = Output(json=json, verbose=verbose)
    cameras = _CameraOptions(uris or (), fleet, everything, interface, credentials_of(token, api_key))
    broker_options = _BrokerOptions(broker, username, password_file)
    options = _BridgeOptions(prefix, discovery or None, commands, to)
    execute(
        "bridge",
        lambda: _bridge(cameras, broker_options, options, output),
        output,
        terminated=ExitCode.OK,
        within=_LEAVE_SECONDS,
    )


@dataclass(frozen=True, slots=True)
class _CameraOptions:
    uris: Sequence[str]
    fleet: Path | None
    everything: bool
    interfaces: Sequence[str] | None
    credentials: Credentials | None


@dataclass(frozen=True, slots=True)
class _BrokerOptions:
    address: str
    username: str | None
    password_file: Path | None


@dataclass(frozen=True, slots=True)
class _BridgeOptions:
    prefix: str
    discovery: str | None
    commands: bool
    directory: Path


async def _bridge(
    cameras: _CameraOptions, broker_options: _BrokerOptions, options: _BridgeOptions, output: Output
) -> ExitCode:
    from asynccam.bridge.mqtt import MqttBridge
    from asynccam.bridge.topics import Topics
    from asynccam.session import Session

    if not cameras.uris and cameras.fleet is None and not cameras.everything:
        raise UsageError("no cameras given; name addresses, a --fleet, or --all")
    broker = await _parse_broker(broker_options)
    topics = Topics(options.prefix)
    settings: Any = {"shutdown_timeout": _SESSION_SECONDS}
    if cameras.interfaces:
        settings["interfaces"] = list(cameras.interfaces)
    async with Session.open(
        *cameras.uris, fleet=cameras.fleet, credentials=cameras.credentials, timeout=0, **settings
    ) as session:
        if cameras.everything:
            await session.discover(timeout=0)
        async with MqttBridge(
            session,
            broker,
            topics=topics,
            discovery=options.discovery,
            directory=options.directory,
            commands=options.commands,
            shutdown_timeout=_TAKES_SECONDS,
        ) as bridge:
            with output.show_wait(f"connecting to {broker.name}"):
                await bridge.wait_connected()
            output.json_line(
                {"event": "connected", "host": broker.host, "port": broker.port, "prefix": options.prefix}
            )
            output.print(f"{broker.name} receives the cameras under {options.prefix}/; Ctrl-C exits.")
            await bridge.wait_over()
    return ExitCode.OK


async def _parse_broker(options: _BrokerOptions) -> "MqttBroker":
    """Return the broker named on the command line, with its password."""
    from asynccam.net.mqtt import MQTT_PORT, MqttBroker
    from asynccam.net.tls import client_context
    from asynccam.runtime.disk import on_disk, storage_errors

    try:
        parts = urlsplit(options.address if "://" in options.address else f"mqtt://{options.address}")
        port = parts.port
    except ValueError:
        raise UsageError(
            f"{options.address!r} is not a broker address; expected HOST[:PORT] or mqtts://HOST[:PORT]"
        ) from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path or parts.username:
        raise UsageError(
            f"{options.address!r} is not a broker address; expected HOST[:PORT] or mqtts://HOST[:PORT]"
        )
    secure = parts.scheme == "mqtts"
    password = os.environ.get(_PASSWORD)
    if options.password_file is not None:
        with storage_errors("read", options.password_file):
            try:
                password = (await on_disk(options.password_file.read_text)).strip()
            except UnicodeDecodeError:
                raise StorageError(f"{options.password_file} is not UTF-8 text") from None
    return MqttBroker(
        parts.hostname,
        port or (_TLS_PORT if secure else MQTT_PORT),
        username=options.username,
        password=password,
        tls=await client_context() if secure else None,
    )
