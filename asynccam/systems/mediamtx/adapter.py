"""Adapter of MediaMTX Camera Services."""

from typing import Final

from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.info import CameraInfo
from asynccam.systems._base import ConnectContext, SystemAdapter
from asynccam.systems.mediamtx.camera import MediaMtxCamera
from asynccam.systems.mediamtx.client import CameraClient


class MediaMtxAdapter(SystemAdapter):
    """Connects to services, one client each for all its cameras: a service sends each event once."""

    async def connect(self, address: Address, context: ConnectContext) -> Camera:
        """Return one camera of a service."""
        return await MediaMtxCamera.at(address, await self._client(address, context))

    async def list_cameras(self, address: Address, context: ConnectContext) -> list[CameraInfo]:
        """Describe all cameras of a service."""
        client = await self._client(address, context)
        return [camera.info for camera in await MediaMtxCamera.all_of(client)]

    async def _client(self, address: Address, context: ConnectContext) -> CameraClient:
        service, credentials = address.with_camera(""), context.credentials
        context.warn_unencrypted(address, "MEDIAMTX_AUTH_TOKEN", "MEDIAMTX_API_KEY")
        return await context.share(
            (service, credentials, context.http_port),
            lambda: CameraClient(
                service.host,
                service.port,
                service.secure,
                auth_token=credentials.token,
                api_key=credentials.api_key,
                http_port=context.http_port,
                http=context.http,
                events=context.events,
                environment=credentials.environment,
            ),
        )


ADAPTER: Final = MediaMtxAdapter()
