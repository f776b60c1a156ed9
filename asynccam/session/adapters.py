"""The systems a Session knows: one table, and what it needs of each."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, cast

from asynccam.errors import AddressError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import CREDENTIALS_LOG, Credentials, is_loopback
from asynccam.model.events import CameraChanged, CameraFound, CameraLost
from asynccam.model.info import CameraInfo
from asynccam.runtime.hub import EventHub
from asynccam.session.shared import SharedResources

_LOG = logging.getLogger(CREDENTIALS_LOG)

# At run time these are imported where they are first needed: they take longer to import than all the rest.
if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

    from asynccam.systems.mediamtx.client import CameraClient
    from asynccam.systems.multicam.camera import MultiCamCamera
    from asynccam.systems.snapshot.client import SnapshotClient
    from asynccam.systems.thorvision.client import ThorVisionClient


_MARK_TIMEOUT: Final = 2.0
"""Seconds a device has to tell a mark of its run."""


class Discovery(Protocol):
    """Follows the cameras of one system on the network, inside its ``async with`` block."""

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Who is there, by id."""
        ...

    def __aiter__(self) -> AsyncIterator[CameraFound | CameraChanged | CameraLost]: ...


@dataclass(frozen=True, slots=True)
class ConnectContext:
    """What a Session lends to a wing that connects to a camera.

    Attributes:
        credentials: For the services that want them.
        shared: What the session's cameras share: an HTTP session, clients of services.
        events: Where the camera's own news go.
        http_port: Of a service's file server, or None for what its environment variable says.
    """

    credentials: Credentials
    shared: SharedResources
    events: EventHub
    http_port: int | None = None

    def warn(self, address: Address, *variables: str) -> None:
        """Warn, once for each service of a session, of credentials that go to another machine in clear.

        Args:
            address: Where they are sent.
            variables: Of the environment that stand in for credentials that are not given.
        """
        found = self.credentials.token or self.credentials.api_key
        if not found and self.credentials.environment:
            found = next((os.environ[name] for name in variables if os.environ.get(name)), None)
        service = address.with_camera("")
        if found and not address.secure and not is_loopback(address.host) and self.shared.is_news(service):
            _LOG.warning(
                "a token or key is sent to %s without encryption; whoever is on the way can read it%s",
                service,
                "" if address.system == "nanocam" else f" (write {address.system}s:// where it has TLS)",
            )


@dataclass(frozen=True, slots=True)
class SystemAdapter:
    """How a Session reaches the cameras of one system.

    Attributes:
        modules: What the others import; loaded off the event loop first, see `load_adapter`.
        connect: The camera at an address.
        behind: Describes every camera behind an address; None if an address is one camera.
        discovery: Opens discovery on shared mDNS sockets; None if the system has none.
        follow: Tells a camera that it is now where another object of the same camera is.
        mark: Asks a camera for a mark of its run, ``""`` if it tells none; None where ids hold the address.
        endpoints: Hosts and ports at which a camera says it is.
        settle: Tells a camera that it is at this address after all.
    """

    modules: tuple[str, ...]
    connect: Callable[[Address, ConnectContext], Awaitable[Camera]]
    list_cameras: Callable[[Address, ConnectContext], Awaitable[list[CameraInfo]]] | None
    discover: Callable[["AsyncZeroconf"], AbstractAsyncContextManager[Discovery]] | None
    follow: Callable[[Camera, Camera], None]
    run_id: Callable[[Camera], Awaitable[str]] | None = None
    endpoints: Callable[[Camera], frozenset[tuple[str, int]]] = field(default=lambda camera: _told_at(camera))
    set_address: Callable[[Camera, Address], None] = field(default=lambda camera, address: None)


def _stay(camera: Camera, now: Camera) -> None:
    """A camera whose id holds its address is where it was."""


def _told_at(camera: Camera) -> frozenset[tuple[str, int]]:
    address = Address.parse(camera.info.address)
    return frozenset({(address.host, address.port)})


async def _connect_multicam(address: Address, means: ConnectContext) -> Camera:
    from asynccam.systems.multicam.camera import MultiCamCamera

    return await MultiCamCamera.connect(address)


def _discover_multicam(zeroconf: "AsyncZeroconf") -> AbstractAsyncContextManager[Discovery]:
    from asynccam.systems.multicam.discovery import MultiCamDiscovery

    return MultiCamDiscovery(zeroconf=zeroconf)


def _follow_multicam(camera: Camera, now: Camera) -> None:
    client = cast("MultiCamCamera", now).client
    cast("MultiCamCamera", camera).follow(client.hosts, client.port)


async def _mark_multicam(camera: Camera) -> str:
    return await cast("MultiCamCamera", camera).client.run_mark(timeout=_MARK_TIMEOUT)


def _endpoints_of_multicam(camera: Camera) -> frozenset[tuple[str, int]]:
    client = cast("MultiCamCamera", camera).client
    return frozenset((host, client.port) for host in client.hosts)


def _settle_multicam(camera: Camera, address: Address) -> None:
    cast("MultiCamCamera", camera).follow(address.host, address.port)


async def _mediamtx_client(address: Address, means: ConnectContext) -> "CameraClient":
    """The one client that all cameras of a service share: the service tells each event once."""
    from asynccam.systems.mediamtx.client import CameraClient

    service = address.with_camera("")
    means.warn(address, "MEDIAMTX_AUTH_TOKEN", "MEDIAMTX_API_KEY")
    return await means.shared.service(
        (service, means.credentials, means.http_port),
        lambda: CameraClient(
            service.host,
            service.port,
            service.secure,
            auth_token=means.credentials.token,
            api_key=means.credentials.api_key,
            http_port=means.http_port,
            http=means.shared.http(),
            events=means.events,
            environment=means.credentials.environment,
        ),
    )


async def _connect_mediamtx(address: Address, means: ConnectContext) -> Camera:
    from asynccam.systems.mediamtx.camera import MediaMtxCamera

    return await MediaMtxCamera.at(address, await _mediamtx_client(address, means))


async def _behind_mediamtx(address: Address, means: ConnectContext) -> list[CameraInfo]:
    from asynccam.systems.mediamtx.camera import MediaMtxCamera

    return [camera.info for camera in await MediaMtxCamera.all_of(await _mediamtx_client(address, means))]


async def _thorvision_client(address: Address, means: ConnectContext) -> "ThorVisionClient":
    """The one client of a server; all clients of a session draw their SRT ports from one pool."""
    from asynccam.systems.thorvision.client import ThorVisionClient
    from asynccam.systems.thorvision.ports import PortPool

    ports = await means.shared.service("thorvision ports", lambda: nullcontext(PortPool()))
    return await means.shared.service(
        address.with_camera(""),
        lambda: ThorVisionClient(
            address.host, address.port, session=means.shared.http(), ports=ports, events=means.events
        ),
    )


async def _connect_thorvision(address: Address, means: ConnectContext) -> Camera:
    from asynccam.systems.thorvision.camera import ThorVisionCamera

    return await ThorVisionCamera.at(address, await _thorvision_client(address, means))


async def _behind_thorvision(address: Address, means: ConnectContext) -> list[CameraInfo]:
    from asynccam.systems.thorvision.camera import ThorVisionCamera

    client = await _thorvision_client(address, means)
    return [camera.info for camera in await ThorVisionCamera.all_of(client)]


async def _snapshot_client(address: Address, means: ConnectContext) -> "SnapshotClient":
    """The one client of a server."""
    from asynccam.systems.snapshot.camera import base_url_of
    from asynccam.systems.snapshot.client import SnapshotClient

    service = address.with_camera("")
    means.warn(address)
    return await means.shared.service(
        (service, means.credentials),
        lambda: SnapshotClient(
            base_url_of(service), session=means.shared.http(), token=means.credentials.token
        ),
    )


async def _connect_snapshot(address: Address, means: ConnectContext) -> Camera:
    from asynccam.systems.snapshot.camera import SnapshotCamera

    return await SnapshotCamera.at(address, await _snapshot_client(address, means))


async def _behind_snapshot(address: Address, means: ConnectContext) -> list[CameraInfo]:
    from asynccam.systems.snapshot.camera import SnapshotCamera

    client = await _snapshot_client(address, means)
    return [camera.info for camera in await SnapshotCamera.all_of(client)]


async def _connect_nanocam(address: Address, means: ConnectContext) -> Camera:
    """All cameras of a session draw their UDP ports from one pool."""
    from asynccam.systems.nanocam.camera import NanocamCamera
    from asynccam.systems.nanocam.camera_ports import MediaPorts

    ports = await means.shared.service("nanocam ports", lambda: nullcontext(MediaPorts()))
    token = means.credentials.token
    shown = token if token is None or isinstance(token, str) else await token()
    means.warn(address)
    return await NanocamCamera.connect(address, token=shown, ports=ports)


SYSTEMS: Final[Mapping[str, SystemAdapter]] = MappingProxyType(
    {
        "multicam": SystemAdapter(
            ("camera", "discovery"),
            _connect_multicam,
            None,
            _discover_multicam,
            _follow_multicam,
            _mark_multicam,
            _endpoints_of_multicam,
            _settle_multicam,
        ),
        "mediamtx": SystemAdapter(("camera", "client"), _connect_mediamtx, _behind_mediamtx, None, _stay),
        "snapshot": SystemAdapter(("camera", "client"), _connect_snapshot, _behind_snapshot, None, _stay),
        "thorvision": SystemAdapter(
            ("camera", "client"), _connect_thorvision, _behind_thorvision, None, _stay
        ),
        "nanocam": SystemAdapter(("camera", "client"), _connect_nanocam, None, None, _stay),
    }
)
"""Every system a Session knows, by the name in camera addresses."""


def adapter_of(system: str) -> SystemAdapter:
    """The wing of a system.

    Raises:
        AddressError: No such system is known.
    """
    try:
        return SYSTEMS[system]
    except KeyError:
        raise AddressError(
            f"no cameras of {system!r} can be reached; known are {', '.join(SYSTEMS)}"
        ) from None


async def load_adapter(system: str) -> SystemAdapter:
    """The wing of a system, its modules loaded: off the loop, as reading and compiling them takes a while.

    Raises:
        AddressError: No such system is known.
    """
    wing = adapter_of(system)
    for name in wing.modules:
        module = f"asynccam.systems.{system}.{name}"
        if module not in _LOADED:  # one that is in `sys.modules` may still be half way, in another thread
            await asyncio.to_thread(import_module, module)
            _LOADED.add(module)
    return wing


_LOADED: Final[set[str]] = set()
"""Modules that have been loaded to their end."""
