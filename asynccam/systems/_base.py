"""Interface between a session and a camera system, and what the systems share.

A system's package implements `SystemAdapter` in its ``adapter.py``. A session passes a `ConnectContext` in;
no system imports a session, or another system.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from asynccam.errors import AddressError, NotFoundError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import CREDENTIALS_LOG, Credentials, is_loopback
from asynccam.model.events import CameraChanged, CameraFound, CameraLost
from asynccam.model.info import CameraInfo
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import finish

# Imported where they are first needed: they take longer to import than everything else.
if TYPE_CHECKING:
    from aiohttp import ClientSession
    from zeroconf.asyncio import AsyncZeroconf

T = TypeVar("T")

_LOG: Final = logging.getLogger(CREDENTIALS_LOG)


class Discovery(Protocol):
    """Cameras of one system that announce themselves, followed inside an ``async with`` block."""

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Cameras that are announced now, by id."""
        ...

    def __aiter__(self) -> AsyncIterator[CameraFound | CameraChanged | CameraLost]: ...


class ConnectContext(ABC):
    """Resources that a session lends to an adapter for one connection.

    Attributes:
        credentials: For the services that need them.
        events: Hub for the camera's own events.
        http_port: Port of a service's file server, or None for the system's default.
    """

    def __init__(self, credentials: Credentials, events: EventHub, http_port: int | None = None) -> None:
        self.credentials = credentials
        self.events = events
        self.http_port = http_port

    @property
    @abstractmethod
    def http(self) -> "ClientSession":
        """HTTP session that all cameras of the session share."""

    @abstractmethod
    async def share(self, key: Hashable, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the session's object of this key, made and entered at its first use.

        It is for what several cameras use together: the client of their service, a pool of ports. The session
        leaves it when it closes.
        """

    @abstractmethod
    def is_first_warning(self, key: Hashable) -> bool:
        """Return whether the session has not given this warning yet, and note it as given."""

    def warn_unencrypted(self, address: Address, *variables: str) -> None:
        """Log a warning, once per service, if credentials are sent to another machine in clear.

        ``variables`` are environment variables that stand in for credentials that are not given.
        """
        secret = self.credentials.token or self.credentials.api_key
        if not secret and self.credentials.environment:
            secret = next((os.environ[name] for name in variables if os.environ.get(name)), None)
        service = address.with_camera("")
        exposed = secret and not address.secure and not is_loopback(address.host)
        if exposed and self.is_first_warning(service):
            _LOG.warning(
                "a token or key is sent to %s without encryption; others on the network can read it%s",
                service,
                "" if address.system == "nanocam" else f" (write {address.system}s:// where it has TLS)",
            )


class SystemAdapter(ABC):
    """How a session reaches the cameras of one system.

    Only `connect` is required. `list_cameras` is for systems whose `System` has ``is_service``, `discover`
    for those with ``discoverable``. The rest is for systems whose camera ids do not contain the address, so
    that a camera can move, and two devices could have one id.
    """

    @abstractmethod
    async def connect(self, address: Address, context: ConnectContext) -> Camera:
        """Return the camera at an address, or raise one of asynccam's errors."""

    async def list_cameras(self, address: Address, context: ConnectContext) -> list[CameraInfo]:
        """Describe every camera behind an address. By default there is one."""
        camera = await self.connect(address, context)
        await finish(camera.aclose())
        return [camera.info]

    def discover(self, zeroconf: "AsyncZeroconf") -> AbstractAsyncContextManager[Discovery]:
        """Open discovery on mDNS sockets that stay the caller's."""
        raise UsageError("cameras of this system cannot be discovered; connect to them by address")

    def follow(self, camera: Camera, moved: Camera) -> None:
        """Make a camera use the address of another object of the same camera. By default it stays."""
        return

    def set_address(self, camera: Camera, address: Address) -> None:
        """Make a camera use this address. By default it stays."""
        return

    def endpoints(self, camera: Camera) -> frozenset[tuple[str, int]]:
        """Return the hosts and ports at which a camera says it is."""
        address = Address.parse(camera.info.address)
        return frozenset({(address.host, address.port)})

    async def run_id(self, camera: Camera) -> str:
        """Return what identifies the run of the camera's program, or ``""`` if it has no such thing."""
        return ""


def choose_camera(
    cameras: Sequence[T],
    address: Address,
    *names: Callable[[T], Collection[str]],
    label: Callable[[T], str] | None = None,
    error: type[NotFoundError] = NotFoundError,
    hint: str = "",
) -> T:
    """Return the camera that an address names, or the only one if it names none.

    ``names`` give a camera's names at its service, best first: a camera is found by a later kind of name
    only if none has an earlier one like it. Errors list ``label`` of each, by default the first name.

    Raises:
        AddressError: The address names no camera and there is not just one, or several have the name.
        NotFoundError: No camera has this name; as ``error``, with ``hint`` added.
    """

    def listed(some: Sequence[T]) -> str:
        shown = label or (lambda camera: next(iter(names[0](camera))))
        return ", ".join(map(shown, some)) or "no camera"

    if not address.camera:
        if len(cameras) == 1:
            return cameras[0]
        raise AddressError(f"{address} has {len(cameras)} cameras; name one of: {listed(cameras)}")
    for names_of in names:
        found = [camera for camera in cameras if address.camera in names_of(camera)]
        if len(found) == 1:
            return found[0]
        if found:
            raise AddressError(f"{address} may be any of: {listed(found)}")
    raise error(f"{address} is not there; the service has {listed(cameras)}{hint}")
