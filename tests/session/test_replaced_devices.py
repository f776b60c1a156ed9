"""Another device at a known address, of the systems whose cameras are known by their address."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from asynccam import Session
from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.systems.mediamtx import CameraClient
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
from asynccam.systems.thorvision import Camera as ThorVisionDevice
from asynccam.systems.thorvision import Capability, ThorVisionSimulator
from asynccam.take import Take, TakeLimits, resume_take
from tests.support.devices import free_port
from tests.support.snapshot_field_server import FieldServer, camera, in_the_field

PATIENT = 30.0
SECRET = "one secret of at least thirty-two bytes for all"
PICTURE = Capability(media_type="image/jpeg", width=160, height=64, framerate="30/1")


@asynccontextmanager
async def mediamtx(name: str, port: int, directory: Path) -> AsyncIterator[MediaMTXSimulator]:
    clip = directory / f"{name}.clip"
    clip.write_bytes(name.encode())
    service = MediaMTXSimulator(
        generation=2, port=port, cameras=[name], secret=SECRET, clip=clip, picture=clip
    )
    async with service:
        yield service


@asynccontextmanager
async def thorvision(name: str, port: int, directory: Path) -> AsyncIterator[ThorVisionSimulator]:
    """The id names a USB port, at which another server has another camera."""
    device = ThorVisionDevice(id=0, name=name, device_id="usb-0000:00:14.0-1", caps=(PICTURE,))
    async with ThorVisionSimulator([device], port=port) as server:
        yield server


@asynccontextmanager
async def snapshot(name: str, port: int, directory: Path) -> AsyncIterator[FieldServer]:
    server = FieldServer(cameras=[camera("door", f"/dev/v4l/by-id/{name}")], port=port)
    async with in_the_field(server):
        yield server


Serve = Callable[[str, int, Path], AbstractAsyncContextManager[object]]
SYSTEMS: dict[str, tuple[Serve, str]] = {
    "mediamtx": (mediamtx, "camera0"),
    "thorvision": (thorvision, "usb-0000:00:14.0-1"),
    "snapshot": (snapshot, "door"),
}


def credentials(system: str) -> Credentials:
    return Credentials(token=MediaMTXSimulator(secret=SECRET).token() if system == "mediamtx" else None)


@pytest.mark.parametrize("system", SYSTEMS)
async def test_another_device_at_a_known_address_is_not_recorded(system: str, tmp_path: Path) -> None:
    serve, name = SYSTEMS[system]
    port = free_port()
    place = Address(system, "127.0.0.1", port, name)
    async with Session() as session:
        async with serve("first", port, tmp_path):
            met = await session.connect(place, credentials=credentials(system))
            assert any("first" in fact for fact in met.info.identity.values())
        async with serve("second", port, tmp_path):
            take = await session.take([met], duration=0.1, start_in=0.1, directory=tmp_path / "takes")
    (record,) = take.manifest.cameras
    assert take.manifest.outcome is Outcome.FAILED
    assert not record.files
    told = " ".join(problem.message for problem in record.errors)
    assert "first" in told
    assert "second" in told


async def test_stop_is_not_sent_to_another_camera(tmp_path: Path) -> None:
    port = free_port()
    place = Address("mediamtx", "127.0.0.1", port, "camera0")
    limits = TakeLimits(stop_timeout=PATIENT, status_timeout=5.0)
    async with Session() as session:
        async with mediamtx("first", port, tmp_path):
            met = await session.connect(place, credentials=credentials("mediamtx"))
            take = Take([met], tmp_path / "takes", limits=limits)
            await take.arm()
            await take.start(start_in=0.1)
        async with mediamtx("second", port, tmp_path) as second:
            client = CameraClient("127.0.0.1", port, auth_token=second.token(), http_port=port, max_retries=3)
            async with client:
                await client.start_recording("camera0")  # another program's, at the other service
                session.retry_now()
                await take.stop()
                await take.collect()
                assert (await client.stop_recording("camera0")).status == "STOPPED"
    (record,) = take.manifest.cameras
    assert record.outcome is not Outcome.COMPLETE
    told = " ".join(problem.message for problem in record.errors if problem.step == "stop")
    assert "'first'" in told
    assert "'second'" in told
    assert not [file for file in record.files if file.state is FileState.ARRIVED]


@pytest.mark.parametrize("system", SYSTEMS)
async def test_take_is_not_resumed_with_another_device(system: str, tmp_path: Path) -> None:
    serve, name = SYSTEMS[system]
    port = free_port()
    place = Address(system, "127.0.0.1", port, name)
    async with serve("first", port, tmp_path), Session() as session:
        met = await session.connect(place, credentials=credentials(system))
        take = Take([met], tmp_path / "takes")
        await take.arm()
        directory = take.directory
        await take.aclose()
    manifest = await Manifest.load(directory)
    (record,) = manifest.cameras
    # As a process that was killed while the camera recorded leaves it.
    manifest.outcome, manifest.phase = Outcome.RUNNING, "recording"
    record.outcome, record.commanded_at = Outcome.RUNNING, manifest.written_at
    (directory / "manifest.json").write_bytes(manifest.to_bytes())
    async with serve("second", port, tmp_path), Session() as session:
        resumed = await resume_take(directory, session, credentials=credentials(system), hosts=["127.0.0.1"])
    (record,) = resumed.cameras
    told = " ".join(problem.message for problem in record.errors)
    assert "first" in told
    assert "second" in told
    assert record.outcome is not Outcome.COMPLETE
