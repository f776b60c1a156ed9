"""A typical exchange of each of the five systems, between asynccam's client and a server, over a `Wire`."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from asynccam.errors import AsynccamError
from asynccam.recording import EndReason, Verdict
from asynccam.recording.verify import FileVerdict
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.systems.mediamtx import CameraClient
from asynccam.systems.mediamtx.events import RecordingStatusUpdate
from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
from asynccam.systems.multicam.client import MultiCamClient
from asynccam.systems.multicam.device.connection import DeviceLimits
from asynccam.systems.multicam.device.device import MultiCamDevice
from asynccam.systems.nanocam.client import MediaClient
from asynccam.systems.nanocam.client_session import ClientTimeouts
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.csi.streams import ImageResult, VideoResult
from asynccam.systems.nanocam.server import camera as nanocam_server_camera
from asynccam.systems.nanocam.server.options import ServerLimits
from asynccam.systems.nanocam.server.server import MediaServer
from asynccam.systems.snapshot import SnapshotClient
from asynccam.systems.snapshot import client as snapshot_client
from asynccam.systems.snapshot.server import ConfigFile, Services, SnapshotService, SnapshotStore
from asynccam.systems.snapshot.server.app import SnapshotWeb
from asynccam.systems.snapshot.server.settings import CameraConfig
from asynccam.systems.thorvision import Camera, Capability, ThorVisionClient, ThorVisionSimulator
from asynccam.systems.thorvision.events import CameraAdded
from asynccam.systems.thorvision.simulator import simulator as thorvision_simulator
from benchmarks._wires_network import HOST, Direction, Wire
from tests.support.jpegs import jpeg_of_kind
from tests.support.multicam_device import BytesRecorder
from tests.support.nanocam_media import box
from tests.support.nanocam_original_server import original_server

SECONDS: Final = 0.5
"""Deadline of every call."""
PATIENCE: Final = 3.0
"""Deadline of servers, so long that a client on a slow computer is not late."""
SOON: Final = Backoff(initial=0.01, maximum=0.02, immediate=True)
_FOOTAGE: Final = bytes(range(251)) * 20
_CAPABILITY: Final = Capability(media_type="image/jpeg", width=640, height=480, framerate="30/1")


class BrokenPromiseError(Exception):
    """An answer that cannot be."""


@dataclass
class World:
    """A server, and what a client does with it over the wire.

    Attributes:
        wire: Where the client connects.
        talk: The exchange; given a directory for files.
        good: An exchange that does not go over the wire, and must succeed.
        truth: What a file in the directory holds when it is whole.
        head: The beginning of the exchange, if that is an exchange of another target, and not tried twice.
    """

    wire: Wire
    talk: Callable[[Path], Awaitable[None]]
    good: Callable[[], Awaitable[None]]
    truth: frozenset[bytes] = field(default_factory=frozenset)
    head: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Target:
    """One exchange.

    Attributes:
        name: System and what is done.
        make: Makes its world in a directory.
        deadline: Seconds of all calls of `World.talk`, one after the other.
        directions: Which are attacked; an original server dies of a wrong byte.
        patience: Seconds within which the server closes a connection on which the client falls silent; None
            for one that promises no such time.
        lengths: Whether the protocol tells how long a file is.
        fresh: Whether each case needs a world of its own.
    """

    name: str
    make: Callable[[Path], AbstractAsyncContextManager[World]]
    deadline: float
    directions: tuple[Direction, ...] = ("up", "down")
    patience: float | None = None
    lengths: bool = True
    fresh: bool = False


@cache
def picture() -> bytes:
    """A whole JPEG."""
    return jpeg_of_kind("ok")


@cache
def film() -> bytes:
    """A whole file of MP4's boxes."""
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"mdat", _FOOTAGE[:1500]) + box(b"moov", bytes(200))


def _expect(what: object, why: str) -> None:
    if not what:
        raise BrokenPromiseError(why)


# -- MultiCam -----------------------------------------------------------------------------------------


@asynccontextmanager
async def _multicam(directory: Path, talk: str) -> AsyncIterator[World]:
    limits = DeviceLimits(
        reserve=0,
        idle_timeout=PATIENCE,
        command_timeout=PATIENCE,
        answer_timeout=PATIENCE,
        stall_timeout=PATIENCE,
    )
    async with AsyncExitStack() as stack:
        device = await stack.enter_async_context(
            MultiCamDevice(
                directory / "device",
                recorder=BytesRecorder(_FOOTAGE),
                port=0,
                host=HOST,
                device_id="bench-1",
                limits=limits,
            )
        )
        direct = MultiCamClient(HOST, device.port, timeout=10.0)
        await direct.start_recording()
        await direct.stop_recording()
        (stored,) = (await direct.list_files()).files
        wire = await stack.enter_async_context(Wire(device.port))
        client = MultiCamClient(
            HOST, wire.port, timeout=SECONDS, stall_timeout=SECONDS, retries=1, backoff=SOON
        )

        async def status(_: Path) -> None:
            await client.device_status()
            await client.heartbeat()

        async def record(_: Path) -> None:
            await client.start_recording()
            await client.stop_recording()

        async def download(place: Path) -> None:
            await client.list_files()
            got = await client.download(stored.fileName, place)
            _expect(got.size == len(got.path.read_bytes()), "the size of a file is wrong")

        async def good() -> None:
            if (await direct.device_status()).status == "recording":
                await direct.stop_recording()
            _expect((await direct.list_files()).files, "the recordings are lost")

        talks = {"status": status, "record": record, "download": download}
        yield World(wire, talks[talk], good, frozenset({_FOOTAGE}))


# -- MediaMTX -----------------------------------------------------------------------------------------


@asynccontextmanager
async def _mediamtx(directory: Path, talk: str, generation: int) -> AsyncIterator[World]:
    clip, shown = directory / "clip", directory / "shown"
    clip.write_bytes(_FOOTAGE)
    shown.write_bytes(picture())
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            MediaMTXSimulator(
                generation=generation,
                directory=directory / "service",
                cameras=1,
                clip=clip,
                picture=shown,
                faults=ServiceFaults(),
            )
        )
        wire = await stack.enter_async_context(Wire(service.port))

        def client(port: int, http_port: int, timeout: float = SECONDS) -> CameraClient:
            return CameraClient(
                HOST,
                port,
                auth_token=service.token("operator"),
                max_retries=1,
                retry_delay=0.01,
                max_retry_delay=0.02,
                timeout=timeout,
                stall_timeout=SECONDS,
                http_port=http_port,
                environment=False,
            )

        async with client(service.port, service.port, 10.0) as direct:
            camera = (await direct.get_camera_list())[0].device
            await direct.start_recording(camera)
            stored = await direct.stop_recording(camera)
            (file,) = (await direct.list_recordings()).files

        async def sign_in(_: Path) -> None:
            async with client(wire.port, wire.port) as one:
                await one.get_camera_list()

        async def record(_: Path) -> None:
            async with client(wire.port, wire.port) as one:
                told = asyncio.Event()
                one.events.subscribe(lambda _: told.set(), RecordingStatusUpdate)
                await one.start_recording(camera, timeout=SECONDS)
                await one.stop_recording(camera, timeout=SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(SECONDS):
                        await told.wait()

        async def download(place: Path) -> None:
            async with client(service.port, wire.port) as one:
                got = await one.download_recording(file, place)
                _expect(got.size == len(got.path.read_bytes()), "the size of a file is wrong")

        async def good() -> None:
            async with client(service.port, service.port, 10.0) as one:
                with suppress(AsynccamError):
                    await one.stop_recording(camera)
                found = await one.get_recording_info(stored.filename)
                _expect(found.filename == stored.filename, "a recording is lost")

        async def head() -> None:
            async with client(wire.port, wire.port):
                pass

        talks = {"sign-in": sign_in, "record": record, "download": download}
        yield World(wire, talks[talk], good, frozenset({_FOOTAGE}), head=head if talk == "record" else None)


# -- Snapshot -----------------------------------------------------------------------------------------


class _Exposure:
    """A camera that has its picture already."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def fire(self) -> None:
        """Nothing is waited for."""

    async def taken(self) -> float:
        await asyncio.to_thread(self._target.write_bytes, picture())
        return 1_700_000_000.0

    async def develop(self) -> None:
        """It is a JPEG."""


class _Backend:
    """Cameras that have their pictures already."""

    @asynccontextmanager
    async def prepare(
        self, camera: CameraConfig, target: Path, *, hold: bool = False
    ) -> AsyncIterator[_Exposure]:
        yield _Exposure(target)


@asynccontextmanager
async def _snapshot(directory: Path, talk: str) -> AsyncIterator[World]:
    events = EventHub("wires")
    config = ConfigFile(directory / "config.json", poll=60.0)
    store = SnapshotStore(directory / "pictures")
    service = SnapshotService(
        config,
        store,
        backend=_Backend(),
        services=Services(directory / "journal.json"),
        imu=None,
        events=events,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(events.aclose)
        await stack.enter_async_context(service)
        web = await stack.enter_async_context(SnapshotWeb(service, silence=PATIENCE))
        await config.add_camera({"name": "left", "device_path": "test:smpte"})
        wire = await stack.enter_async_context(Wire(web.port))
        direct = SnapshotClient(f"http://{HOST}:{web.port}")
        stored = await direct.snapshot_camera("left")
        truth = await direct.fetch_image(stored)

        def client() -> SnapshotClient:
            return SnapshotClient(
                f"http://{HOST}:{wire.port}", timeout=SECONDS, capture_timeout=SECONDS, all_timeout=SECONDS
            )

        async def capture(_: Path) -> None:
            async with client() as one:
                await one.get_cameras()
                await one.snapshot_camera("left")

        async def fetch(_: Path) -> None:
            async with client() as one:
                data = await one.fetch_image(stored)
                _expect(len(data) == len(truth), "the size of a picture is wrong")

        async def download(place: Path) -> None:
            async with client() as one:
                got = await one.download(stored, place)
                _expect(got.size == len(got.path.read_bytes()), "the size of a file is wrong")

        async def follow(_: Path) -> None:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(HOST, wire.port)
                try:
                    host = f"{HOST}:{wire.port}"
                    writer.write(f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    with suppress(TimeoutError):
                        async with asyncio.timeout(SECONDS):
                            await reader.readline()
                            await direct.snapshot_camera("left")
                            while line := await reader.readline():
                                if b'"snapshot": {' in line:
                                    break
                finally:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()

        async def good() -> None:
            _expect(await direct.get_cameras(), "the camera is lost")
            _expect(await direct.fetch_image(stored) == truth, "a picture is lost")

        talks = {"capture": capture, "fetch": fetch, "download": download, "events": follow}
        yield World(wire, talks[talk], good, frozenset({truth}))


# -- ThorVision ---------------------------------------------------------------------------------------


class _Stream:
    """Stands in for a stream of the simulator, whose pictures go another way than its answers."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


@asynccontextmanager
async def _thorvision(_: Path, talk: str) -> AsyncIterator[World]:
    camera = Camera(id=0, name="Cam 0", device_id="usb-0", caps=(_CAPABILITY,))
    another = Camera(id=1, name="Cam 1", device_id="usb-1", caps=(_CAPABILITY,))
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(ThorVisionSimulator([camera]))
        wire = await stack.enter_async_context(Wire(simulator.port))

        def client() -> ThorVisionClient:
            return ThorVisionClient(HOST, wire.port, timeout=SECONDS, backoff=SOON)

        async def stream(_: Path) -> None:
            async with client() as one:
                listed = (await one.list_cameras() or [camera])[0]
                await one.open_stream(listed, _CAPABILITY)
                await one.stop_stream(listed.id)

        async def hot_plug(_: Path) -> None:
            async with client() as one:
                told = asyncio.Event()

                def added(event: CameraAdded) -> None:
                    if event.camera.endswith("usb-1"):
                        told.set()

                one.events.subscribe(added, CameraAdded)
                await one.watch()
                await simulator.plug(another)
                with suppress(TimeoutError):
                    async with asyncio.timeout(SECONDS):
                        await told.wait()

        async def good() -> None:
            async with ThorVisionClient(HOST, simulator.port, timeout=10.0) as one:
                await one.end_leftover(camera)
                await simulator.unplug(another.id)
                _expect([each.id for each in await one.list_cameras()] == [0], "the camera is lost")
                await one.open_stream(camera, _CAPABILITY)
                _expect((await one.stop_stream(0)).server_error is None, "the stream cannot be ended")

        yield World(wire, {"stream": stream, "hot-plug": hot_plug}[talk], good)


# -- nanocam ------------------------------------------------------------------------------------------


class _Pictures:
    """Stands in for the camera of a media server: it has its pictures already."""

    def __init__(self, frames: int, interval: float, **_: Any) -> None:
        self.media_path: str | Path = ""
        self._frames = frames

    def connect_camera(self, camera: CSIcamera) -> None:
        """Nothing is opened."""

    async def start_stream(self) -> ImageResult:
        paths = tuple(Path(self.media_path) / f"{number}.jpg" for number in range(min(self._frames, 3)))
        for path in paths:
            await asyncio.to_thread(path.write_bytes, picture())
        return ImageResult(paths, (), (), ())


class _Film:
    """Stands in for the camera of a media server: it has its film already."""

    ssrc: int | None = None

    def __init__(self, duration: float, **_: Any) -> None:
        self.media_path: str | Path = ""
        self._duration = duration
        self._over = asyncio.Event()

    def connect_camera(self, camera: CSIcamera) -> None:
        """Nothing is opened."""

    def set_host(self, host: str) -> None:
        """Nothing is sent."""

    def set_port(self, port: int) -> None:
        """Nothing is sent."""

    def reset_timer(self, duration: float) -> bool:
        return True

    async def start(self) -> None:
        pass

    async def wait(self) -> VideoResult:
        verdicts: tuple[FileVerdict, ...] = ()
        if self.media_path:
            path = Path(self.media_path) / "film.mp4"
            await asyncio.to_thread(path.write_bytes, film())
            verdicts = (FileVerdict(path, Verdict.COMPLETE, 10, 0.4, len(film()), ""),)
        else:  # it streams
            with suppress(TimeoutError):
                async with asyncio.timeout(self._duration):
                    await self._over.wait()
        files = tuple(verdict.path for verdict in verdicts)
        return VideoResult(files, (), verdicts, 1.0, (), EndReason.END_OF_STREAM)

    async def aclose(self) -> None:
        self._over.set()


TIMEOUTS: Final = ClientTimeouts(
    connect=SECONDS,
    answer=SECONDS,
    capture=SECONDS,
    stall=SECONDS,
    first_frame=SECONDS,
    quiet=SECONDS,
    leave=SECONDS,
)


async def _ask_nanocam(client: MediaClient, talk: str, place: Path) -> None:
    if talk == "pictures":
        files = await client.fetch_images(2, 0.01, width=64, height=48, directory=place)
        _expect(files, "there is no picture")
    elif talk == "video":
        files = (await client.fetch_video(0.01, width=64, height=48, directory=place),)
    else:
        await client.kill()
        files = ()
    for one in files:
        _expect(one.size == len(one.path.read_bytes()), "the size of a file is wrong")


@asynccontextmanager
async def _nanocam(directory: Path, talk: str) -> AsyncIterator[World]:
    limits = ServerLimits(
        request_timeout=PATIENCE,
        idle_timeout=PATIENCE,
        stall_timeout=PATIENCE,
        waiting_timeout=PATIENCE,
        reserve=1,
        duration=5.0,
        frames=3,
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(MediaServer(0, host=HOST, limits=limits))
        wire = await stack.enter_async_context(Wire(server.port))

        async def ask(place: Path) -> None:
            async with MediaClient(HOST, wire.port, media_path=place, timeouts=TIMEOUTS) as client:
                await _ask_nanocam(client, talk, place)

        async def good() -> None:
            home = directory / "good"
            async with MediaClient(HOST, server.port, media_path=home) as client:
                await client.kill()
                (one,) = await client.fetch_images(1, 0.01, width=64, height=48, directory=home)
            _expect(one.path.read_bytes() == picture(), "a picture is wrong")
            shutil.rmtree(home)

        yield World(wire, ask, good, frozenset({picture(), film()}))


@asynccontextmanager
async def _original(directory: Path, talk: str) -> AsyncIterator[World]:
    async with (
        original_server(
            pictures=[("1.jpg", picture()), ("2.jpg", picture())], videos=[("1.mp4", film())]
        ) as server,
        Wire(server.port) as wire,
    ):

        async def ask(place: Path) -> None:
            async with MediaClient(HOST, wire.port, media_path=place, timeouts=TIMEOUTS) as client:
                await _ask_nanocam(client, talk, place)

        async def good() -> None:
            """An original server need not survive that."""

        yield World(wire, ask, good, frozenset({picture(), film()}))


@asynccontextmanager
async def stand_ins() -> AsyncIterator[None]:
    """Cameras of servers that need no processor, and the one deadline that is no argument."""
    with (
        patch.object(nanocam_server_camera, "ImageStream", _Pictures),
        patch.object(nanocam_server_camera, "VideoStream", _Film),
        patch.object(thorvision_simulator, "SimulatedStream", _Stream),
        patch.object(snapshot_client, "STALL_TIMEOUT", SECONDS),
    ):
        yield


def _target(system: Any, name: str, talk: str, calls: float, *more: Any, **options: Any) -> Target:
    return Target(
        f"{name} {talk}", lambda directory: system(directory, talk, *more), calls * SECONDS, **options
    )


_GOODBYE: Final = 2.5
"""Seconds a WebSocket client may wait for the other side's close frame, with what is around that."""
_SETTLING: Final = 8.1
"""Seconds that a nanocam client gives two pictures beside its deadline, as the camera settles for each."""

TARGETS: Final = (
    _target(_multicam, "multicam", "status", 2, patience=PATIENCE),
    _target(_multicam, "multicam", "record", 2, patience=PATIENCE),
    _target(_multicam, "multicam", "download", 3, patience=PATIENCE),
    _target(_mediamtx, "mediamtx-1", "sign-in", 2 + _GOODBYE / SECONDS, 1),
    _target(_mediamtx, "mediamtx-1", "record", 4 + _GOODBYE / SECONDS, 1),
    _target(_mediamtx, "mediamtx-1", "download", 3 + _GOODBYE / SECONDS, 1),
    _target(_mediamtx, "mediamtx-2", "sign-in", 2 + _GOODBYE / SECONDS, 2),
    _target(_mediamtx, "mediamtx-2", "record", 4 + _GOODBYE / SECONDS, 2),
    _target(_snapshot, "snapshot", "capture", 2, patience=PATIENCE),
    _target(_snapshot, "snapshot", "fetch", 1, patience=PATIENCE),
    _target(_snapshot, "snapshot", "download", 3, patience=PATIENCE),
    _target(_snapshot, "snapshot", "events", 2),
    _target(_thorvision, "thorvision", "stream", 4),
    _target(_thorvision, "thorvision", "hot-plug", 4 + _GOODBYE / SECONDS),
    _target(_nanocam, "nanocam", "pictures", 4 + _SETTLING / SECONDS, patience=PATIENCE),
    _target(_nanocam, "nanocam", "video", 4, patience=PATIENCE),
    _target(_nanocam, "nanocam", "kill", 4, patience=PATIENCE),
    _target(
        _original,
        "nanocam-original",
        "pictures",
        4 + _SETTLING / SECONDS,
        directions=("down",),
        lengths=False,
        fresh=True,
    ),
    _target(_original, "nanocam-original", "video", 4, directions=("down",), lengths=False, fresh=True),
)
