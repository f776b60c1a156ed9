"""A SnapshotService with devices that are none, in a directory of its own."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.systems.snapshot.server.backends import Backend, CameraBackend, V4l2CtlBackend
from asynccam.systems.snapshot.server.imu import ImuFeed
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import ConfigFile
from asynccam.systems.snapshot.server.store import SnapshotStore
from asynccam.systems.snapshot.server.systemd import Services
from tests.support.v4l2 import Devices


class Rig:
    """What a service is made of, and what it is made to talk to.

    Attributes:
        directory: Everything is in here: ``config.json``, ``pictures``, ``stopped.json``.
        devices: Makes devices and services.
        events: Where everything is told.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.devices = Devices(directory)
        self.events = EventHub()

    @property
    def pictures(self) -> list[str]:
        """Names of everything in the store, unfinished pictures too."""
        return sorted(one.name for one in (self.directory / "pictures").iterdir())

    def configure(self, *cameras: dict[str, Any], **settings: Any) -> None:
        """Write ``config.json``."""
        document = {"cameras": list(cameras), **settings}
        (self.directory / "config.json").write_text(json.dumps(document))

    def camera(
        self, name: str, do: str = "picture", *, ways: dict[str, Any] | None = None, **fields: Any
    ) -> dict[str, Any]:
        """A camera with a device of its own."""
        path = self.devices.device(f"video-{len(list(self.directory.glob('devices/*')))}", do, **(ways or {}))
        return {"name": name, "device_path": str(path), "width": 64, "height": 48, **fields}

    def service(
        self, *, backend: Backend | None = None, imu: ImuFeed | None = None, **options: Any
    ) -> SnapshotService:
        """A service over all that, not yet open."""
        return SnapshotService(
            ConfigFile(self.directory / "config.json", poll=0.02),
            SnapshotStore(self.directory / "pictures"),
            backend=backend or CameraBackend(V4l2CtlBackend(command=[self.devices.v4l2_ctl])),
            services=Services(
                self.directory / "stopped.json",
                command=[self.devices.systemctl],
                backoff=Backoff(initial=0.01, maximum=0.05),
            ),
            imu=imu,
            events=self.events,
            **options,
        )


@asynccontextmanager
async def rig(directory: Path, cameras: Iterable[dict[str, Any]] = ()) -> AsyncIterator[Rig]:
    """A rig whose event hub is closed at the end."""
    one = Rig(directory)
    one.configure(*cameras)
    try:
        yield one
    finally:
        await one.events.aclose()
