"""A whole Snapshot server on the loopback interface, its devices and services programs of the test's own."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from asynccam.runtime.event_hub import EventHub
from asynccam.systems.snapshot.server import (
    CameraBackend,
    ConfigFile,
    ImuFeed,
    ImuSettings,
    Services,
    SnapshotService,
    SnapshotStore,
    V4l2CtlBackend,
)
from asynccam.systems.snapshot.server.app import SnapshotWeb
from asynccam.systems.snapshot.server.settings import Allowed
from tests.support.v4l2 import Devices

TOKEN: Final = "correct horse battery staple"


SERVICES = ("streamer.service", "mjpg_streamer.service")


@dataclass
class Rig:
    """A server that runs, and a client of it.

    Attributes:
        http: Its base URL is the server's; whatever a cookie jar holds stays out of it.
    """

    web: SnapshotWeb
    service: SnapshotService
    devices: Devices
    config: Path
    http: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return self.web.port

    @property
    def url(self) -> str:
        return self.web.url

    def camera(self, name: str, do: str = "picture", **more: Any) -> dict[str, Any]:
        """A camera's entry, on a device of its own that does as is said."""
        ways = {key: more.pop(key) for key in ("gate", "frame") if key in more}
        device = self.devices.device(f"video-{len(name)}-{name.encode().hex()[:24]}", do, **ways)
        return {"name": name, "device_path": str(device), **more}

    async def add(self, name: str, do: str = "picture", **more: Any) -> None:
        """Add a camera to the configuration."""
        await self.service.config.add_camera(self.camera(name, do, **more))

    async def json(self, path: str, method: str = "GET", *, status: int = 200, **more: Any) -> Any:
        """Ask, and the JSON that is answered with that status."""
        async with self.http.request(method, path, **more) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return json.loads(text) if text else None

    async def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes on a connection of their own, and everything that is answered until its end."""
        return await exchange(self.port, data, half_close=half_close)


@asynccontextmanager
async def serving(
    directory: Path,
    cameras: Sequence[str] = (),
    *,
    imu: ImuSettings | None = None,
    max_captures: int = 4,
    max_waiting: int = 256,
    allowed: Allowed | None = None,
    **web: Any,
) -> AsyncIterator[Rig]:
    """A server with cameras of these names, each with a device that gives pictures.

    Its own devices may be named over the web, and the services of `SERVICES`, unless it is told otherwise.
    """
    devices = Devices(directory)
    events = EventHub("snapshot-test")
    allowed = allowed or Allowed([f"{directory}/", "/dev/a"], SERVICES)
    config = ConfigFile(directory / "config.json", poll=0.05, allowed=allowed)
    service = SnapshotService(
        config,
        SnapshotStore(directory / "snapshots"),
        backend=CameraBackend(V4l2CtlBackend(command=(devices.v4l2_ctl,))),
        services=Services(directory / "journal.json", command=(devices.systemctl,)),
        imu=None if imu is None else ImuFeed(imu),
        events=events,
        max_captures=max_captures,
        max_waiting=max_waiting,
    )
    try:
        async with service, SnapshotWeb(service, **web) as server:
            jar = aiohttp.DummyCookieJar()
            async with aiohttp.ClientSession(server.url, cookie_jar=jar) as http:
                rig = Rig(server, service, devices, directory / "config.json", http)
                for name in cameras:
                    await rig.add(name)
                yield rig
    finally:
        await events.aclose()


async def exchange(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """Bytes to a port, and everything that comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
