"""Takes over real MultiCam device servers: real sockets, real files, found by mDNS or by address."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import ConnectionError
from asynccam.model.events import CameraChanged, CameraEvent, CameraFound, CameraLost
from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.session import Session
from asynccam.systems.multicam.device.commands import DeviceFaults
from asynccam.systems.multicam.device.device import MultiCamDevice
from asynccam.systems.multicam.device.recording import RecordingPhase
from asynccam.take import TakeLimits
from tests.support.multicam_device import BytesRecorder, running
from tests.support.scripted_camera import ScriptedCamera
from tests.support.waiting import eventually

SHORT = TakeLimits(
    clock_timeout=2,
    arm_timeout=2,
    start_timeout=1,
    start_answer_grace=0.5,
    stop_timeout=2,
    status_timeout=1,
    stall_timeout=2,
)


class Rig:
    """Devices on this computer, each with footage of its own."""

    def __init__(self, devices: list[MultiCamDevice], recorders: list[BytesRecorder]) -> None:
        self.devices = devices
        self.recorders = recorders

    @property
    def addresses(self) -> list[str]:
        return [f"multicam://127.0.0.1:{device.port}" for device in self.devices]


@asynccontextmanager
async def rig(
    directory: Path, count: int = 3, *, size: int = 3_000_000, prefix: str = "cam", **options: Any
) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        recorders = [BytesRecorder(secrets.token_bytes(size + number)) for number in range(count)]
        devices = [
            await stack.enter_async_context(
                running(directory / f"device{number}", recorder, device_id=f"{prefix}-{number}", **options)
            )
            for number, recorder in enumerate(recorders)
        ]
        yield Rig(devices, recorders)


async def check_home(manifest: Manifest, directory: Path, recorders: list[BytesRecorder]) -> None:
    """Every camera's one file is here, byte for byte, and the manifest says so."""
    for record, recorder in zip(manifest.cameras, recorders, strict=True):
        (file,) = record.files
        assert file.path is not None
        data = await asyncio.to_thread((directory / file.path).read_bytes)
        assert data == recorder.footage
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("dialect", [1, 2])
async def test_three_devices_start_together_and_are_downloaded(tmp_path: Path, dialect: int) -> None:
    async with rig(tmp_path, dialect=dialect) as peers, Session() as session:
        cameras = await session.connect_all(peers.addresses)
        take = await session.take(cameras, duration=0.3, directory=tmp_path / "takes", start_in=0.8)
        manifest = await Manifest.load(take.directory)
    assert manifest.outcome is Outcome.COMPLETE, manifest
    assert [record.id for record in manifest.cameras] == [f"multicam://cam-{number}" for number in range(3)]
    assert manifest.start is not None
    t0 = manifest.start.t0.unix
    for record, recorder in zip(manifest.cameras, peers.recorders, strict=True):
        assert record.clock is not None
        assert abs(record.clock.offset) <= record.clock.bound + 0.001
        assert record.commanded_at is not None
        assert record.accepted_at is not None
        assert record.commanded_at.unix < record.accepted_at.unix < t0
        assert record.scheduled_for == manifest.start.t0
        assert record.start_status == "scheduled_recording_accepted"
        assert record.stopped_at is not None
        assert t0 <= recorder.started_at[0] <= record.stopped_at.unix
        assert record.stopped_at.unix >= t0 + 0.3
    await check_home(manifest, take.directory, peers.recorders)


async def test_devices_are_found_by_mdns_on_loopback(tmp_path: Path) -> None:
    # Other programs of this computer may announce devices on loopback too, so these have names of their own.
    prefix = f"cam-{secrets.token_hex(4)}"
    ids = [f"multicam://{prefix}-{number}" for number in range(2)]
    latest: dict[str, CameraEvent] = {}

    def note(event: CameraEvent) -> None:
        latest[event.camera] = event

    loopback = ["127.0.0.1"]
    async with Session(interfaces=loopback) as session:
        session.subscribe(note, CameraFound, CameraChanged, CameraLost)
        async with rig(tmp_path, 2, prefix=prefix, announce=True, interfaces=loopback) as peers:
            assert await session.discover(timeout=15, count=1)
            await eventually(lambda: latest.keys() >= set(ids), 15)
            # One address may be heard before the other one is: then it was found, and has changed since.
            assert all(isinstance(latest[key], (CameraFound, CameraChanged)) for key in ids)
            cameras = [session.cameras[key] for key in ids]
            take = await session.take(cameras, duration=0.1, directory=tmp_path / "takes", start_in=1.0)
            assert take.ok, [(camera.address, camera.errors) for camera in take.manifest.cameras]
            await check_home(take.manifest, take.directory, peers.recorders)
            # A camera known by mDNS is the same one when it is connected by address.
            assert await session.connect(peers.addresses[0]) is cameras[0]
        await eventually(lambda: all(isinstance(latest[key], CameraLost) for key in ids), 15)
        assert session.cameras.keys() >= set(ids)
        session.add(ScriptedCamera("here"))
        members = {record.id for record in session.new_take().manifest.cameras}
        assert "scripted://here" in members
        assert not members & set(ids)


async def test_device_refusal_is_reported_and_others_finish(tmp_path: Path) -> None:
    async with rig(tmp_path, 2) as peers, AsyncExitStack() as stack:
        faults = DeviceFaults(refuse_start="lens cap is on")
        bad = await stack.enter_async_context(running(tmp_path / "bad", device_id="bad", faults=faults))
        session = await stack.enter_async_context(Session())
        cameras = await session.connect_all([*peers.addresses, f"multicam://127.0.0.1:{bad.port}"])
        take = await session.take(cameras, duration=0.1, directory=tmp_path / "takes", start_in=0.4)
        *good, refused = take.manifest.cameras
        assert [record.outcome for record in good] == [Outcome.COMPLETE, Outcome.COMPLETE]
        assert [(error.step, error.error) for error in refused.errors] == [("start", "DeviceError")]
        assert "lens cap is on" in refused.errors[0].message


async def test_device_that_dies_is_reported_and_others_finish(tmp_path: Path) -> None:
    async with rig(tmp_path, 2) as peers, AsyncExitStack() as life, Session() as session:
        device = await life.enter_async_context(running(tmp_path / "doomed", device_id="doomed"))
        cameras = await session.connect_all([*peers.addresses, f"multicam://127.0.0.1:{device.port}"])
        take = session.new_take(cameras, tmp_path / "takes", limits=SHORT)
        await take.arm()
        await take.start(start_in=0.4)
        await eventually(lambda: device.phase is RecordingPhase.RECORDING)
        await life.aclose()
        await take.stop()
        await take.collect()
        *good, dead = take.manifest.cameras
        assert [record.outcome for record in good] == [Outcome.COMPLETE, Outcome.COMPLETE]
        assert dead.outcome is Outcome.FAILED
        assert dead.accepted_at is not None
        assert {error.step for error in dead.errors} == {"status", "stop"}
        assert all(error.retryable for error in dead.errors)


async def test_broken_transfer_keeps_its_part(tmp_path: Path) -> None:
    async with rig(tmp_path, 1, faults=DeviceFaults(die_after=1_000_000)) as peers, Session() as session:
        cameras = await session.connect_all(peers.addresses)
        take = await session.take(
            cameras, duration=0.1, directory=tmp_path / "takes", start_in=0.4, limits=SHORT
        )
        (record,) = take.manifest.cameras
        (file,) = record.files
        assert (file.state, file.path, file.received) == (FileState.FAILED, None, 1_000_000)
        assert file.part is not None
        part = await asyncio.to_thread((take.directory / file.part).read_bytes)
        assert part == peers.recorders[0].footage[:1_000_000]


async def test_device_that_never_answers_delays_a_take_by_its_limits(tmp_path: Path) -> None:
    async with rig(tmp_path, 1) as peers, AsyncExitStack() as stack:
        faults = DeviceFaults()
        mute = await stack.enter_async_context(running(tmp_path / "mute", device_id="mute", faults=faults))
        session = await stack.enter_async_context(Session())
        cameras = await session.connect_all([*peers.addresses, f"multicam://127.0.0.1:{mute.port}"])
        faults.silent = frozenset({"START_RECORDING"})
        take = await session.take(
            cameras, duration=0.1, directory=tmp_path / "takes", start_in=0.4, limits=SHORT
        )
        good, bad = take.manifest.cameras
        assert good.outcome is Outcome.COMPLETE
        assert bad.outcome is Outcome.FAILED
        assert [(error.step, error.error) for error in bad.errors] == [("start", "TimeoutError")]


async def test_cancelled_take_stops_devices_and_downloads(tmp_path: Path) -> None:
    async with rig(tmp_path, 2) as peers, Session() as session:
        cameras = await session.connect_all(peers.addresses)
        take = session.new_take(cameras, tmp_path / "takes")
        task = asyncio.ensure_future(take.run(duration=60, start_in=0.4))
        await eventually(lambda: all(device.phase is RecordingPhase.RECORDING for device in peers.devices))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(device.phase is RecordingPhase.READY for device in peers.devices)
        assert take.manifest.outcome is Outcome.CANCELLED
        await check_home(take.manifest, take.directory, peers.recorders)


async def test_take_cancelled_before_t0_leaves_no_schedule(tmp_path: Path) -> None:
    async with rig(tmp_path, 2) as peers, Session() as session:
        cameras = await session.connect_all(peers.addresses)
        take = session.new_take(cameras, tmp_path / "takes")
        task = asyncio.ensure_future(take.run(duration=60, start_in=1))
        await eventually(lambda: all(device.phase is RecordingPhase.SCHEDULED for device in peers.devices))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(device.phase is RecordingPhase.READY for device in peers.devices)
        assert all(
            record.outcome in (Outcome.CANCELLED, Outcome.COMPLETE) for record in take.manifest.cameras
        )


async def test_connect_to_addresses_without_a_device(tmp_path: Path) -> None:
    async with rig(tmp_path, 1) as peers, Session() as session:
        with pytest.raises(ConnectionError):
            await session.connect_all([*peers.addresses, "multicam://127.0.0.1:1"])
        assert list(session.cameras) == ["multicam://cam-0"]
        with pytest.raises(ExceptionGroup, match="2 of 2") as caught:
            await session.connect_all(["multicam://127.0.0.1:1", "multicam://127.0.0.1:2"])
        assert all(isinstance(error, ConnectionError) for error in caught.value.exceptions)


async def test_connecting_twice_gives_the_same_camera_and_follows_it(tmp_path: Path) -> None:
    async with Session() as session:
        async with running(tmp_path / "d", device_id="cam") as device:
            first = await session.connect(f"multicam://127.0.0.1:{device.port}")
        async with running(tmp_path / "d", device_id="cam") as device:
            again = await session.connect(f"multicam://127.0.0.1:{device.port}")
            assert again is first
            assert first.info.address == f"multicam://127.0.0.1:{device.port}"
            assert (await first.status()).detail == "ready"
