"""Adapter of nanocam media servers."""

from contextlib import nullcontext
from typing import Final

from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.systems._base import ConnectContext, SystemAdapter
from asynccam.systems.nanocam.camera import MediaPorts, NanocamCamera


class NanocamAdapter(SystemAdapter):
    """Connects to servers. All cameras of a session draw UDP ports from one pool."""

    async def connect(self, address: Address, context: ConnectContext) -> Camera:
        """Return the camera of a server."""
        ports = await context.share("nanocam ports", lambda: nullcontext(MediaPorts()))
        token = context.credentials.token
        text = token if token is None or isinstance(token, str) else await token()
        context.warn_unencrypted(address)
        return await NanocamCamera.connect(address, token=text, ports=ports)


ADAPTER: Final = NanocamAdapter()
