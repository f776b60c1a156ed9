"""A media server as one coroutine: what ``asynccam serve nanocam`` runs."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.server.options import (
    MEDIA_PORT,
    MESSAGE_PORT,
    ServerLimits,
    ServerPolicy,
)
from asynccam.systems.nanocam.server.server import MediaServer


async def serve(
    port: int = MESSAGE_PORT,
    *,
    host: str = "",
    camera: CSIcamera | None = None,
    media_port: int = MEDIA_PORT,
    media_path: str | Path | None = None,
    policy: ServerPolicy | None = None,
    limits: ServerLimits | None = None,
    on_ready: Callable[[MediaServer], None] = lambda _: None,
) -> None:
    """Be a media server until cancelled; a running capture is then ended, and its files are removed.

    Args: as for `MediaServer`, and

        on_ready: Called once it listens.

    Raises:
        UsageError: A port is none.
        StorageError: ``media_path`` cannot be written.
        ConnectionError: The address cannot be listened at.
    """
    async with MediaServer(
        port,
        host=host,
        camera=camera,
        media_port=media_port,
        media_path=media_path,
        policy=policy,
        limits=limits,
    ) as server:
        on_ready(server)
        await asyncio.Event().wait()
