"""Adapter of Snapshot servers."""

from typing import Final

from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.info import CameraInfo
from asynccam.systems._base import ConnectContext, SystemAdapter
from asynccam.systems.snapshot.camera import SnapshotCamera, base_url_of
from asynccam.systems.snapshot.client import SnapshotClient


class SnapshotAdapter(SystemAdapter):
    """Connects to servers, one client each."""

    async def connect(self, address: Address, context: ConnectContext) -> Camera:
        """Return one camera of a server."""
        return await SnapshotCamera.at(address, await self._client(address, context))

    async def list_cameras(self, address: Address, context: ConnectContext) -> list[CameraInfo]:
        """Describe all cameras of a server."""
        client = await self._client(address, context)
        return [camera.info for camera in await SnapshotCamera.all_of(client)]

    async def _client(self, address: Address, context: ConnectContext) -> SnapshotClient:
        service, credentials = address.with_camera(""), context.credentials
        context.warn_unencrypted(address)
        return await context.share(
            (service, credentials),
            lambda: SnapshotClient(base_url_of(service), session=context.http, token=credentials.token),
        )


ADAPTER: Final = SnapshotAdapter()
