"""A Snapshot server as one coroutine, for ``asynccam serve snapshot``."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final, Literal

from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.systems.snapshot.server.app import SnapshotWeb
from asynccam.systems.snapshot.server.backends import (
    Backend,
    CameraBackend,
    GStreamerBackend,
    V4l2CtlBackend,
    simulated_cameras,
)
from asynccam.systems.snapshot.server.imu import ImuFeed
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import Allowed, ConfigFile
from asynccam.systems.snapshot.server.store import SnapshotStore
from asynccam.systems.snapshot.server.systemd import Services

DEFAULT_PORT: Final = 88
PICTURES: Final = "snapshots"
JOURNAL: Final = ".stopped-services.json"

BackendName = Literal["v4l2-ctl", "gstreamer"]


async def serve(
    config: Path,
    *,
    directory: Path | None = None,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token: str | None = None,
    hosts: Iterable[str] = (),
    test_cameras: int = 0,
    backend: BackendName = "v4l2-ctl",
    allow_devices: Iterable[str] = (),
    allow_services: Iterable[str] = (),
    on_ready: Callable[[SnapshotWeb], None] = lambda _: None,
) -> None:
    """Run a Snapshot server until cancelled; running captures then have some seconds.

    Args:
        config: ``config.json``; created with the first camera if missing.
        directory: Directory of the pictures; ``snapshots`` beside the configuration if None.
        host: Address to listen at.
        port: TCP port; 0 takes a free one.
        token: Required of every request; if None, the token of the configuration.
        hosts: Host names of the server, besides addresses and names of the local network.
        test_cameras: Number of cameras with a test picture to add to the configuration.
        backend: Takes pictures of real devices.
        allow_devices: Devices that may be set over the web besides ``/dev/video*``, ``/dev/v4l/`` and those
            of the configuration: a path, ``DIRECTORY/`` or ``PREFIX*``.
        allow_services: Services that may be set besides those of the configuration.
        on_ready: Called once it listens.

    Raises:
        UsageError: The token is missing or shorter than 16 characters, or a device or service is invalid.
        BusyError: Another server uses the directory of the configuration or of the pictures.
        StorageError: The configuration or the directory cannot be used.
        ConnectionError: It cannot listen at the address.
    """
    allowed = Allowed(allow_devices, allow_services)
    with storage_errors("create", config.parent):
        await on_disk(partial(config.parent.mkdir, parents=True, exist_ok=True))
    events = EventHub("snapshot-server")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(events.aclose)
        file = ConfigFile(config, allowed=allowed)
        await file.reload()
        real: Backend = V4l2CtlBackend() if backend == "v4l2-ctl" else GStreamerBackend()
        service = SnapshotService(
            file,
            SnapshotStore(directory or config.parent / PICTURES),
            backend=CameraBackend(real),
            services=Services(config.parent / JOURNAL),
            imu=ImuFeed(base=config.parent),
            events=events,
        )
        if token is None:
            token = await file.token()
        await stack.enter_async_context(service)
        taken = {camera.name for camera in file.cameras}
        for camera in simulated_cameras(test_cameras):
            if camera.name not in taken:
                await file.add_camera(camera)
        on_ready(
            await stack.enter_async_context(
                SnapshotWeb(service, host=host, port=port, token=token, hosts=hosts)
            )
        )
        await asyncio.Event().wait()
