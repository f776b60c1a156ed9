"""A device or service of each system, and how its camera is connected, for the contract of `Camera`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from asynccam.model.camera import Camera
from asynccam.model.features import DeviceClock, FeatureKey, Files, Record, ScheduledStart, Snapshot, Stream
from asynccam.systems.mediamtx import CameraClient, MediaMtxCamera
from asynccam.systems.multicam import MultiCamCamera, MultiCamClient
from asynccam.systems.nanocam import ClientTimeouts, MediaPorts, MediaServer, NanocamCamera
from asynccam.systems.snapshot import SnapshotCamera
from asynccam.systems.thorvision import ThorVisionCamera, ThorVisionClient, ThorVisionSimulator
from tests.support.gst import free_udp_port
from tests.support.jpegs import noise
from tests.support.mediamtx_service import simulator, token
from tests.support.multicam_device import BytesRecorder, running
from tests.support.snapshot_field_server import in_the_field
from tests.systems.thorvision.rig import QUICK, device

Connect = Callable[[], Awaitable[Camera]]


@asynccontextmanager
async def multicam(directory: Path) -> AsyncIterator[tuple[str, Connect]]:
    async with running(directory, BytesRecorder(b"moving pictures" * 100)) as server:
        address = f"multicam://127.0.0.1:{server.port}"
        make_client = partial(MultiCamClient, timeout=10.0)
        yield address, partial(MultiCamCamera.connect, address, make_client=make_client)


@asynccontextmanager
async def mediamtx(directory: Path) -> AsyncIterator[tuple[str, Connect]]:
    directory.mkdir()
    async with simulator(2, directory=directory, clip=b"clip" * 100, picture=noise(), cameras=1) as server:
        address = f"mediamtx://127.0.0.1:{server.port}"
        make_client = partial(
            CameraClient, auth_token=token(), http_port=server.http_port, timeout=10.0, stall_timeout=1.0
        )
        yield address, partial(MediaMtxCamera.connect, address, make_client=make_client)


@asynccontextmanager
async def thorvision(directory: Path) -> AsyncIterator[tuple[str, Connect]]:
    async with ThorVisionSimulator([device(0)]) as server:
        make_client = partial(ThorVisionClient, settings=QUICK, timeout=10.0)
        yield server.address, partial(ThorVisionCamera.connect, server.address, make_client=make_client)


@asynccontextmanager
async def snapshot(directory: Path) -> AsyncIterator[tuple[str, Connect]]:
    async with in_the_field() as server:
        del server.cameras[1:]
        address = f"snapshot://127.0.0.1:{server.port}"
        yield address, partial(SnapshotCamera.connect, f"{address}/left")


@asynccontextmanager
async def nanocam(directory: Path) -> AsyncIterator[tuple[str, Connect]]:
    async with MediaServer(0, host="127.0.0.1") as server:
        address = f"nanocam://127.0.0.1:{server.port}"
        options: dict[str, Any] = {"width": 160, "height": 120, "ports": MediaPorts(free_udp_port())}
        yield address, partial(NanocamCamera.connect, address, timeouts=ClientTimeouts(), **options)


@dataclass(frozen=True)
class SystemUnderTest:
    """One system.

    Attributes:
        serve: Opens its device or service, whose files are below a directory; gives its address and what
            connects to its only camera.
        connect: Connects to an address, for those that lead to no camera.
        features: Of its camera.
        id_has_address: Whether its devices tell no id of their own, so that ids are made of the address.
    """

    name: str
    serve: Callable[[Path], AbstractAsyncContextManager[tuple[str, Connect]]]
    connect: Callable[[str], Awaitable[Camera]]
    features: frozenset[FeatureKey[Any]]
    id_has_address: bool = True


SYSTEMS: Final = (
    SystemUnderTest(
        "multicam",
        multicam,
        MultiCamCamera.connect,
        frozenset({Record, ScheduledStart, Files, DeviceClock}),
        id_has_address=False,
    ),
    SystemUnderTest(
        "mediamtx",
        mediamtx,
        partial(MediaMtxCamera.connect, make_client=partial(CameraClient, auth_token=token())),
        frozenset({Record, Snapshot, Files, Stream}),
    ),
    SystemUnderTest("thorvision", thorvision, ThorVisionCamera.connect, frozenset({Record, Stream})),
    SystemUnderTest("snapshot", snapshot, SnapshotCamera.connect, frozenset({Snapshot, Files})),
    SystemUnderTest("nanocam", nanocam, NanocamCamera.connect, frozenset({Record, Snapshot, Stream})),
)


class Rig:
    """A served system and its camera; both end with `aclose`, the device earlier with `end_device`."""

    camera: Camera
    address: str
    connect: Connect

    def __init__(self, system: SystemUnderTest, directory: Path) -> None:
        self.system = system
        self.directory = directory
        self._device = AsyncExitStack()

    async def start(self) -> None:
        served = self.system.serve(self.directory / "device")
        self.address, self.connect = await self._device.enter_async_context(served)
        self.camera = await self.connect()

    async def end_device(self) -> None:
        await self._device.aclose()

    async def aclose(self) -> None:
        await self.camera.aclose()
        await self._device.aclose()
