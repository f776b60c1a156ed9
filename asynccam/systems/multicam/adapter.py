"""Adapter of MultiCam devices, which announce themselves and may move."""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.systems._base import ConnectContext, Discovery, SystemAdapter
from asynccam.systems.multicam.camera import MultiCamCamera
from asynccam.systems.multicam.discovery import MultiCamDiscovery

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

_RUN_ID_TIMEOUT: Final = 2.0
"""Seconds."""


class MultiCamAdapter(SystemAdapter):
    """Connects to devices by address, and follows what they announce."""

    async def connect(self, address: Address, context: ConnectContext) -> Camera:
        """Return the device at an address."""
        return await MultiCamCamera.connect(address)

    def discover(self, zeroconf: "AsyncZeroconf") -> AbstractAsyncContextManager[Discovery]:
        """Browse for devices."""
        return MultiCamDiscovery(zeroconf=zeroconf)

    def follow(self, camera: Camera, moved: Camera) -> None:
        """Use all hosts that the other object knows."""
        assert isinstance(camera, MultiCamCamera)
        assert isinstance(moved, MultiCamCamera)
        camera.follow(moved.client.hosts, moved.client.port)

    def set_address(self, camera: Camera, address: Address) -> None:
        """Use this address only."""
        assert isinstance(camera, MultiCamCamera)
        camera.follow(address.host, address.port)

    def endpoints(self, camera: Camera) -> frozenset[tuple[str, int]]:
        """Return every host that the device has announced."""
        assert isinstance(camera, MultiCamCamera)
        return frozenset((host, camera.client.port) for host in camera.client.hosts)

    async def run_id(self, camera: Camera) -> str:
        """Return the id of the present run, which asynccam's own device server reports."""
        assert isinstance(camera, MultiCamCamera)
        return await camera.client.run_id(timeout=_RUN_ID_TIMEOUT)


ADAPTER: Final = MultiCamAdapter()
