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
        bool, typer.Option("--all", help="Every camera that announces itself, too, whenever it comes.")
    ] = False,
    broker: Annotated[
        str, typer.Option("--broker", metavar="HOST[:PORT]", help="The broker; mqtts://HOST for TLS.")
    ] = "127.0.0.1",
    username: Annotated[
        str | None,
        typer.Option("--username", help=f"As whom; the password stands in {_PASSWORD}.", show_default=False),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", help="Holds the password.", show_default=False),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="In front of all topics.")] = "asynccam",
    discovery: Annotated[
        str, typer.Option("--discovery", metavar="PREFIX", help='Of Home Assistant; "" for none.')
    ] = "homeassistant",
    commands: Annotated[
        bool, typer.Option("--commands/--no-commands", help="Whether messages may command cameras.")
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
    who = _Cameras(uris or (), fleet, everything, interface, credentials_of(token, api_key))
    there = _Broker(broker, username, password_file)
    way = _Way(prefix, discovery or None, commands, to)
    execute(
        "bridge",
        lambda: _bridge(who, there, way, output),
        output,
        terminated=ExitCode.OK,
        within=_LEAVE_SECONDS,
    )


@dataclass(frozen=True, slots=True)
class _Cameras:
    uris: Sequence[str]
    fleet: Path | None
    everything: bool
    interfaces: Sequence[str] | None
    credentials: Credentials | None


@dataclass(frozen=True, slots=True)
class _Broker:
    place: str
    username: str | None
    password_file: Path | None


@dataclass(frozen=True, slots=True)
class _Way:
    prefix: str
    discovery: str | None
    commands: bool
    directory: Path


async def _bridge(who: _Cameras, there: _Broker, way: _Way, output: Output) -> ExitCode:
    from asynccam.bridge.mqtt import MqttBridge
    from asynccam.bridge.topics import Topics
    from asynccam.session import Session

    if not who.uris and who.fleet is None and not who.everything:
        raise UsageError("there is nothing to bridge; name addresses, a --fleet, or --all")
    broker = await _place(there)
    topics = Topics(way.prefix)
    settings: Any = {"shutdown_timeout": _SESSION_SECONDS}
    if who.interfaces:
        settings["interfaces"] = list(who.interfaces)
    async with Session.open(
        *who.uris, fleet=who.fleet, credentials=who.credentials, timeout=0, **settings
    ) as session:
        if who.everything:
            await session.discover(timeout=0)
        async with MqttBridge(
            session,
            broker,
            topics=topics,
            discovery=way.discovery,
            directory=way.directory,
            commands=way.commands,
            shutdown_timeout=_TAKES_SECONDS,
        ) as bridge:
            with output.waiting(f"connecting to {broker.name}"):
                await bridge.wait_connected()
            output.line(
                {"event": "connected", "host": broker.host, "port": broker.port, "prefix": way.prefix}
            )
            output.show(f"{broker.name} hears of the cameras under {way.prefix}/; Ctrl-C leaves.")
            await bridge.wait_over()
    return ExitCode.OK


async def _place(there: _Broker) -> "MqttBroker":
    """The broker as it was named on the command line.

    Raises:
        UsageError: It was not named as one.
        StorageError: The password's file cannot be read.
    """
    from asynccam.net.mqtt import MQTT_PORT, MqttBroker
    from asynccam.net.tls import client_context
    from asynccam.runtime.disk import on_disk, storage_errors

    try:
        parts = urlsplit(there.place if "://" in there.place else f"mqtt://{there.place}")
        port = parts.port
    except ValueError:
        raise UsageError(f"{there.place!r} is no broker; write HOST[:PORT] or mqtts://HOST[:PORT]") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path or parts.username:
        raise UsageError(f"{there.place!r} is no broker; write HOST[:PORT] or mqtts://HOST[:PORT]")
    secure = parts.scheme == "mqtts"
    password = os.environ.get(_PASSWORD)
    if there.password_file is not None:
        with storage_errors("read", there.password_file):
            try:
                password = (await on_disk(there.password_file.read_text)).strip()
            except UnicodeDecodeError:
                raise StorageError(f"{there.password_file} holds no text") from None
    return MqttBroker(
        parts.hostname,
        port or (_TLS_PORT if secure else MQTT_PORT),
        username=there.username,
        password=password,
        tls=await client_context() if secure else None,
    )
