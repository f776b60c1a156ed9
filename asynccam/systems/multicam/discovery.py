"""Discovery of MultiCam devices on the local network by mDNS.

See docs/protocols/multicam.md, "Discovery".
"""

import asyncio
import builtins
import re
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Final

from zeroconf import InterfaceChoice
from zeroconf.asyncio import AsyncZeroconf

from asynccam.model.events import CameraChanged, CameraFound, CameraLost
from asynccam.net.mdns import Interfaces, MdnsService, ServiceBrowser, ServiceFound, ServiceLost
from asynccam.systems.multicam.camera import MakeClient, MultiCamCamera
from asynccam.systems.multicam.client import MultiCamClient
from asynccam.systems.multicam.models import SERVICE_TYPE

DiscoveryEvent = CameraFound | CameraChanged | CameraLost

_PREFIX: Final = "multiCam-"
# OAK announces "multiCam-oak-{deviceId}", where every other device writes its id alone.
_OAK: Final = re.compile(r"oak-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)


class MultiCamDiscovery(AsyncIterator[DiscoveryEvent]):
    """Devices of the local network: an async context manager, and inside it an iterator of events.

    ::

        async with MultiCamDiscovery() as discovery:
            async for event in discovery:
                print(event.camera, discovery.cameras.keys())

    A device keeps its camera object for as long as the discovery runs, also when its address changes or
    when it disappears and returns. Cameras are not closed here.

    Args:
        zeroconf: Caller-owned mDNS sockets to use instead of new ones.
        interfaces: Network interfaces for new mDNS sockets.
        make_client: Makes a camera's client from its addresses and port.
    """

    def __init__(
        self,
        *,
        zeroconf: AsyncZeroconf | None = None,
        interfaces: Interfaces = InterfaceChoice.All,
        make_client: MakeClient = MultiCamClient,
    ) -> None:
        self._browser = ServiceBrowser(SERVICE_TYPE, zeroconf=zeroconf, interfaces=interfaces)
        self._make_client = make_client
        self._seen: dict[str, MultiCamCamera] = {}
        self._present: dict[str, MultiCamCamera] = {}

    @property
    def cameras(self) -> Mapping[str, MultiCamCamera]:
        """Devices that are present according to the events read so far, by camera id."""
        return MappingProxyType(self._present)

    async def __aenter__(self) -> "MultiCamDiscovery":
        await self._browser.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the discovery; a waiting reader ends. May be called twice."""
        await self._browser.aclose()

    def __aiter__(self) -> "MultiCamDiscovery":
        return self

    async def __anext__(self) -> DiscoveryEvent:
        event = await anext(self._browser)
        camera = self._camera(event.service)
        if isinstance(event, ServiceLost):
            self._present.pop(camera.id, None)
            return CameraLost(camera=camera.id)
        self._present[camera.id] = camera
        camera.follow(event.service.addresses, event.service.port)
        event_type = CameraFound if isinstance(event, ServiceFound) else CameraChanged
        return event_type(camera=camera.id, info=camera.info)

    def _camera(self, service: MdnsService) -> MultiCamCamera:
        name = device_id_of(service)
        if name not in self._seen:
            client = self._make_client(service.addresses, service.port)
            self._seen[name] = MultiCamCamera(name, client, is_told=True)
        return self._seen[name]


async def discover(
    *,
    timeout: float = 5.0,
    zeroconf: AsyncZeroconf | None = None,
    interfaces: Interfaces = InterfaceChoice.All,
    make_client: MakeClient = MultiCamClient,
) -> AsyncIterator[MultiCamCamera]:
    """Yield devices as they are found, for ``timeout`` seconds; they are not contacted.

    Arguments as of `MultiCamDiscovery`. Raises `ConnectionError` if mDNS cannot be opened.
    """
    until = asyncio.get_running_loop().time() + timeout
    async with MultiCamDiscovery(
        zeroconf=zeroconf, interfaces=interfaces, make_client=make_client
    ) as discovery:
        while True:
            # Not around the yield: the caller's own work between two cameras does not count.
            try:
                async with asyncio.timeout_at(until):
                    event = await anext(discovery)
            except builtins.TimeoutError:
                return
            if isinstance(event, CameraFound):
                yield discovery.cameras[event.camera]


def device_id_of(service: MdnsService) -> str:
    """Return the device id in an instance name, ``multiCam-{deviceId}``; the TXT record may be missing."""
    name = service.instance
    name = name[len(_PREFIX) :] if name.lower().startswith(_PREFIX.lower()) else name
    oak = _OAK.fullmatch(name)
    return oak[1] if oak else name
