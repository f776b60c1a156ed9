"""NanocamCamera against a real media server of ours: pictures, recordings, streams, and two in one take."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from asynccam.errors import (
    AddressError,
    AuthenticationError,
    BusyError,
    ConnectionError,
    DeviceError,
    StateError,
    UsageError,
)
from asynccam.model.features import Record, RecordPlan, Snapshot, Stream
from asynccam.model.info import CameraState
from asynccam.model.manifest import Manifest, Outcome
from asynccam.recording import Verdict, verify_file
from asynccam.session import Session
from asynccam.systems.nanocam.camera import MediaPorts, NanocamCamera
from asynccam.systems.nanocam.server.options import ServerLimits, ServerPolicy
from asynccam.systems.nanocam.server.server import MediaServer
from tests.support.cancelling import cancelled_at
from tests.support.gst import free_udp_port, running
from tests.support.waiting import eventually, passes

SIZE: dict[str, Any] = {"width": 160, "height": 120}


BARS = ["videotestsrc", "is-live=true", "!", "video/x-raw,format=I420,width=320,height=240,framerate=20/1"]


@asynccontextmanager
async def rig(**options: Any) -> AsyncIterator[tuple[MediaServer, NanocamCamera]]:
    server = MediaServer(0, host="127.0.0.1", **options.pop("server", {}))
    async with server:
        options.setdefault("ports", MediaPorts(free_udp_port()))
        camera = await NanocamCamera.connect(f"nanocam://127.0.0.1:{server.port}", **SIZE, **options)
        try:
            yield server, camera
        finally:
            await camera.aclose()
            await camera.aclose()


async def test_info_and_status(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        assert camera.id == camera.info.address == f"nanocam://127.0.0.1:{server.port}"
        assert camera.info.system == "nanocam"
        assert set(camera.features) == {Record, Snapshot, Stream}
        assert (await camera.status()).state is CameraState.READY
        await server.aclose()
        with pytest.raises(ConnectionError):
            await camera.status()
        with pytest.raises(ConnectionError):
            await camera.feature(Record).arm(RecordPlan(tmp_path))
        with pytest.raises(ConnectionError):
            await camera.feature(Snapshot).snapshot(tmp_path)


@pytest.mark.parametrize("address", ["multicam://127.0.0.1", "nanocam://127.0.0.1/camera", "127.0.0.1"])
async def test_connect_with_wrong_address(address: str) -> None:
    with pytest.raises(AddressError):
        await NanocamCamera.connect(address)


async def test_snapshot(tmp_path: Path) -> None:
    async with rig() as (_, camera):
        file = await camera.feature(Snapshot).snapshot(tmp_path / "new")
    assert file.path.parent == tmp_path / "new"
    with Image.open(file.path) as picture:
        picture.load()
        assert picture.size == (160, 120)


async def record(camera: NanocamCamera, directory: Path) -> Path:
    armed = await camera.feature(Record).arm(RecordPlan(directory, duration=1, timeout=30))
    armed.release(None)
    started = await armed.accepted()
    await armed.aclose()
    assert started.first_frame_at is not None
    assert started.first_frame_bound is not None
    assert started.commanded_at <= started.accepted_at <= time.time()
    assert started.commanded_at <= started.first_frame_at + started.first_frame_bound
    assert (await camera.status()).state is CameraState.RECORDING
    path = await asyncio.to_thread(lambda: next(directory.iterdir()))
    size = (await asyncio.to_thread(path.stat)).st_size
    await eventually(lambda: path.stat().st_size > size, 30)
    stopped = await camera.feature(Record).stop(timeout=30)
    (file,) = stopped.files
    assert file.path == path
    assert stopped.status == "complete"
    return path


async def test_other_sender_at_the_same_address(tmp_path: Path) -> None:
    async with rig() as (_, camera):
        port = camera.ports.preferred
        pay = [
            "x264enc",
            "tune=zerolatency",
            "key-int-max=5",
            "!",
            "rtph264pay",
            "config-interval=-1",
            "pt=96",
        ]
        foreign = [*BARS, "!", *pay, "!", "udpsink", "host=127.0.0.1", f"port={port}"]
        async with running(*foreign):
            await one_packet(port)
            armed = await camera.feature(Record).arm(RecordPlan(tmp_path, duration=1, timeout=30))
            armed.release(None)
            await armed.accepted()
            await armed.aclose()
            path = await asyncio.to_thread(lambda: next(tmp_path.iterdir()))
            size = (await asyncio.to_thread(path.stat)).st_size
            await eventually(lambda: path.stat().st_size > size, 30)
            stopped = await camera.feature(Record).stop(timeout=30)
    assert stopped.status.startswith("complete; another stream 127.0.0.1:")
    assert await sizes(path) == {(160, 120)}


async def one_packet(port: int) -> None:
    """Wait until something comes to a UDP port of this computer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        one.bind(("127.0.0.1", port))
        async with asyncio.timeout(30):
            await asyncio.get_running_loop().sock_recv(one, 65536)


async def sizes(path: Path) -> set[tuple[int, int]]:
    """Sizes of all pictures of a file, by ffprobe."""
    shown = ["-v", "error", "-select_streams", "v", "-show_entries", "frame=width,height", "-of", "csv=p=0"]
    process = await asyncio.create_subprocess_exec(
        *["ffprobe", *shown, str(path)], stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    rows = [line.strip(",").split(",") for line in output.decode().split()]
    return {(int(row[0]), int(row[1])) for row in rows}


async def test_recording_is_complete(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        path = await record(camera, tmp_path)
        assert (await camera.status()).state is CameraState.READY
        await eventually(lambda: server.capturing is None, 30)
        with pytest.raises(StateError, match="not being recorded"):
            await camera.feature(Record).stop()
        second = tmp_path / "second"
        second.mkdir()
        await record(camera, second)
    verdict = await verify_file(path)
    assert verdict.verdict is Verdict.COMPLETE, verdict
    assert verdict.frames


async def test_server_with_an_ipv6_address(tmp_path: Path) -> None:
    async with MediaServer(0, host="::1") as server:
        camera = await NanocamCamera.connect(
            f"nanocam://[::1]:{server.port}", ports=MediaPorts(free_udp_port()), **SIZE
        )
        await record(camera, tmp_path)
        assert (await camera.feature(Stream).stream_urls())["udp"].startswith("rtp://[::]:")
        await camera.aclose()


async def test_calls_out_of_order(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        recorder = camera.feature(Record)
        armed = await recorder.arm(RecordPlan(tmp_path, timeout=30))
        with pytest.raises(StateError, match="not released"):
            await armed.accepted()
        with pytest.raises(UsageError, match="no scheduled"):
            armed.release(1.0)
        with pytest.raises(BusyError):
            await recorder.arm(RecordPlan(tmp_path))
        with pytest.raises(BusyError):
            await camera.feature(Snapshot).snapshot(tmp_path)
        await armed.aclose()
        await armed.aclose()
        with pytest.raises(StateError, match="before"):
            armed.release(None)
        assert list(tmp_path.iterdir()) == []
        await eventually(lambda: server.connections == 0, 30)


async def test_server_that_streams_to_another_client(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        other = NanocamCamera("127.0.0.1", server.port, ports=camera.ports, **SIZE)
        assert set(await other.feature(Stream).stream_urls()) == {"udp"}
        with pytest.raises(BusyError):
            await camera.feature(Snapshot).snapshot(tmp_path)
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=30))
        armed.release(None)
        with pytest.raises(BusyError):
            await armed.accepted()
        await armed.aclose()
        camera.override = True
        await record(camera, tmp_path)
        await other.aclose()


async def test_stream_urls_for_a_player(tmp_path: Path) -> None:
    path = tmp_path / "played.h264"
    async with rig() as (server, camera):
        url = (await camera.feature(Stream).stream_urls())["udp"]
        assert await camera.feature(Stream).stream_urls() == {"udp": url}
        sink = f"filesink buffer-mode=unbuffered location={path}"
        chain = f"rtpsrc uri={url} ! rtph264depay ! h264parse ! {sink}"
        async with running(*chain.split()):
            await eventually(lambda: path.exists() and path.stat().st_size > 1000, 30)
        assert server.capturing == "udp"
    assert server.capturing is None


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_server_that_requires_a_token(tmp_path: Path, token: str | None) -> None:
    server = {"policy": ServerPolicy(token="right")}
    async with rig(server=server, token=token) as (_, camera):
        with pytest.raises(AuthenticationError):
            await camera.feature(Snapshot).snapshot(tmp_path)
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=30))
        armed.release(None)
        with pytest.raises(AuthenticationError):
            await armed.accepted()
        await armed.aclose()
        camera.token = "right"
        await record(camera, tmp_path)


async def test_server_that_refuses(tmp_path: Path) -> None:
    async with rig(server={"limits": ServerLimits(width=100)}) as (_, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=30))
        armed.release(None)
        with pytest.raises(DeviceError, match="160x120"):
            await armed.accepted()
        await armed.aclose()
    assert list(tmp_path.iterdir()) == []


async def test_server_that_stops_leaves_a_file(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=30))
        armed.release(None)
        await armed.accepted()
        await armed.aclose()
        await server.aclose()
        stopped = await camera.feature(Record).stop(timeout=30)
        (file,) = stopped.files
        assert file.path is not None
        assert (await verify_file(file.path)).frames


async def test_start_cancelled_at_each_await(tmp_path: Path) -> None:
    async with rig() as (server, camera):

        async def start() -> None:
            armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=30))
            try:
                armed.release(None)
                await armed.accepted()
            except BaseException:
                await armed.aclose()
                raise

        count = 1
        while await cancelled_at(start(), count):
            assert (await camera.status()).state is CameraState.READY
            count += 1
        assert count > 3
        await camera.feature(Record).stop(timeout=30)
        await eventually(lambda: server.connections == 0, 30)
    assert len(list(tmp_path.glob("*.mp4"))) == 1


async def test_two_servers_in_one_take(tmp_path: Path) -> None:
    async with (
        MediaServer(0, host="127.0.0.1") as left,
        MediaServer(0, host="127.0.0.1") as right,
        Session() as session,
    ):
        cameras = await session.connect_all([f"nanocam://127.0.0.1:{one.port}" for one in (left, right)])
        for camera in cameras:
            assert isinstance(camera, NanocamCamera)
            camera.width, camera.height = 160, 120
        take = await session.take(cameras, duration=1.5, directory=tmp_path, start_in=0.5)
        manifest = await Manifest.load(take.directory)
        assert manifest.outcome is Outcome.COMPLETE, manifest
        paths = [take.directory / file.path for one in manifest.cameras for file in one.files if file.path]
        assert len(paths) == 2
        for path, one in zip(paths, manifest.cameras, strict=True):
            verdict = await verify_file(path, decode=True)
            assert verdict.verdict is Verdict.COMPLETE, verdict
            assert one.first_frame_at is not None
            assert one.commanded_at is not None
            assert one.first_frame_at.unix >= one.commanded_at.unix
        await eventually(lambda: left.connections == right.connections == 0, 30)
        await passes()
