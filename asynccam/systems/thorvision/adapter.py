"""Adapter of ThorVision servers."""

from contextlib import nullcontext
from typing import Final

from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.info import CameraInfo
from asynccam.systems._base import ConnectContext, SystemAdapter
from asynccam.systems.thorvision.camera import ThorVisionCamera
from asynccam.systems.thorvision.client import ThorVisionClient
from asynccam.systems.thorvision.ports import PortPool


class ThorVisionAdapter(SystemAdapter):
    """Connects to servers, one client each. All clients of a session draw SRT ports from one pool."""

    async def connect(self, address: Address, context: ConnectContext) -> Camera:
        """Return one camera of a server."""
        return await ThorVisionCamera.at(address, await self._client(address, context))

    async def list_cameras(self, address: Address, context: ConnectContext) -> list[CameraInfo]:
        """Describe all cameras of a server."""
        client = await self._client(address, context)
        return [camera.info for camera in await ThorVisionCamera.all_of(client)]

    async def _client(self, address: Address, context: ConnectContext) -> ThorVisionClient:
        ports = await context.share("thorvision ports", lambda: nullcontext(PortPool()))
        return await context.share(
            address.with_camera(""),
            lambda: ThorVisionClient(
                address.host, address.port, session=context.http, ports=ports, events=context.events
            ),
        )


ADAPTER: Final = ThorVisionAdapter()
