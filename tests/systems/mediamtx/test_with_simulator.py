"""The client against the simulated service: whole stories, with all the ways and faults of real ones."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import TimeoutError
from asynccam.model.events import Event, MissedEvents
from asynccam.model.features import Record, RecordPlan
from asynccam.model.info import CameraState
from asynccam.net.reconnecting import ConnectionState
from asynccam.systems.mediamtx import (
    AuthenticationError,
    CameraBusyError,
    CameraClient,
    CameraServiceError,
    ConnectionError,
    MediaMtxCamera,
    MediaMTXError,
    PermissionDeniedError,
    RecordingInfo,
    StorageFullError,
)
from asynccam.systems.mediamtx.simulator.behavior import LISTING_FAULT, ServiceFaults
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
from asynccam.take.take import Take
from tests.support.jpegs import jpeg_of_kind
from tests.support.mediamtx_service import simulator
from tests.support.waiting import eventually

CLIP = bytes(range(251)) * 4000
BOTH = pytest.mark.parametrize("generation", [1, 2])


@asynccontextmanager
async def client_of(service: MediaMTXSimulator, **options: Any) -> AsyncIterator[CameraClient]:
    """A connected client, an operator unless told otherwise."""
    options.setdefault("auth_token", service.token("operator"))
    client = CameraClient(
        service.host, service.port, retry_delay=0.01, timeout=10, http_port=service.http_port, **options
    )
    async with client:
        yield client


@BOTH
async def test_record_and_download(generation: int, tmp_path: Path) -> None:
    picture = jpeg_of_kind("ok")
    async with (
        simulator(generation, directory=tmp_path, clip=CLIP, picture=picture) as service,
        client_of(service) as client,
    ):
        assert client.generation == generation
        assert client.role == "operator"
        cameras = await client.get_camera_list()
        assert [camera.status for camera in cameras] == ["CONNECTED", "CONNECTED"]
        told: list[RecordingInfo] = []
        client.on_recording_status_update = told.append
        started = await client.start_recording(cameras[0].device)
        with pytest.raises(CameraBusyError):
            await client.start_recording(cameras[0].device)
        stopped = await client.stop_recording(cameras[0].device)
        assert stopped.filename == started.filename
        await eventually(lambda: len(told) == 2)
        taken = await client.take_snapshot(cameras[1].device)
        assert [file.filename async for file in client.iter_recordings()] == [stopped.filename]
        assert [file.filename async for file in client.iter_snapshots()] == [taken.filename]
        (file,) = (await client.list_recordings()).files
        local = await client.download_recording(file, tmp_path / "home")
        assert local.path.read_bytes() == CLIP
        assert (await client.download_snapshot(taken.filename, tmp_path / "home")).size == len(picture)


async def test_take_over_services_of_both_generations(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    async with (
        simulator(1, directory=tmp_path / "1", clip=CLIP) as old,
        simulator(2, directory=tmp_path / "2", clip=CLIP) as new,
        client_of(old) as first,
        client_of(new) as second,
    ):
        cameras = [*await MediaMtxCamera.all_of(first), *await MediaMtxCamera.all_of(second)]
        async with Take(cameras, tmp_path / "takes") as take:
            await take.run(duration=0.2, start_in=0.1)
        assert take.ok, take.manifest
        assert sum(len(camera.files) for camera in take.manifest.cameras) == 4
        assert {file.size for camera in take.manifest.cameras for file in camera.files} == {len(CLIP)}


@BOTH
async def test_low_role_and_bad_credentials_are_different_errors(generation: int) -> None:
    async with simulator(generation, clip=None) as service:
        async with client_of(service, auth_token=service.token("viewer")) as client:
            device = (await client.get_camera_list())[0].device
            with pytest.raises(PermissionDeniedError):
                await client.start_recording(device)
            assert client.state is ConnectionState.READY
        expired = service.token("operator", lifetime=-5)
        with pytest.raises(AuthenticationError):
            async with client_of(service, auth_token=expired):
                pass
        async with client_of(service, auth_token=None, api_key="admin-key") as client:
            assert await client.get_camera_list()


@BOTH
async def test_tokens_that_expire_are_renewed_without_the_caller_noticing(generation: int) -> None:
    async with simulator(generation, clip=None) as service:
        asked = 0

        async def provider() -> str:
            nonlocal asked
            asked += 1
            return service.token("operator")

        async with client_of(service, auth_token=provider) as client:
            for _ in range(3):
                service.expire_tokens()
                async with asyncio.TaskGroup() as group:
                    calls = [group.create_task(client.get_camera_list()) for _ in range(10)]
                assert all(call.result() for call in calls)
            assert asked == 4
            assert service.accepted == (4 if generation == 1 else 1)


@BOTH
async def test_client_waits_for_rate_limit(generation: int) -> None:
    async with (
        simulator(generation, clip=None, rate_limit=12, rate_window=0.3) as service,
        client_of(service) as client,
    ):
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(client.get_camera_list()) for _ in range(30)]
        assert all(call.result() for call in calls)
        assert service.accepted == 1


@BOTH
async def test_clients_connecting_at_once_are_both_served(generation: int) -> None:
    async with simulator(generation, clip=None) as service:

        async def visit() -> int:
            async with client_of(service) as client:
                return len(await client.get_camera_list())

        async with asyncio.TaskGroup() as group:
            visits = [group.create_task(visit()) for _ in range(10)]
        assert [visit.result() for visit in visits] == [2] * 10


@BOTH
@pytest.mark.parametrize(
    "faults",
    [
        ServiceFaults(garbage=True),
        ServiceFaults(answer_twice=True),
        ServiceFaults(binary=True),
        ServiceFaults(string_ids=True, metadata=True),
        ServiceFaults(garbage=True, answer_twice=True, string_ids=True, answer_delay=0.01),
    ],
    ids=["garbage", "twice", "binary", "text ids", "all"],
)
async def test_garbage_on_the_wire_affects_no_call(generation: int, faults: ServiceFaults) -> None:
    async with simulator(generation, clip=None, faults=faults) as service, client_of(service) as client:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(client.get_camera_list()) for _ in range(20)]
        assert {len(call.result()) for call in calls} == {2}
        assert client.calls_under_way == 0
        assert service.accepted == 1


@BOTH
async def test_start_with_cut_answer_can_be_stopped(generation: int, tmp_path: Path) -> None:
    faults = ServiceFaults(cut_answers=frozenset({"start_recording"}))
    async with (
        simulator(generation, directory=tmp_path, clip=CLIP, faults=faults) as service,
        client_of(service) as client,
    ):
        device = (await client.get_camera_list())[0].device
        with pytest.raises(ConnectionError) as raised:
            await client.start_recording(device)
        assert raised.value.maybe_executed
        (camera, _) = await MediaMtxCamera.all_of(client)
        report = await camera.feature(Record).stop()
        assert len(report.files) == 1


@BOTH
@pytest.mark.parametrize("way", ["armed", "called"])
@pytest.mark.parametrize("lost", ["cut", "silent"])
async def test_camera_with_unanswered_start_is_not_ready(
    generation: int, way: str, lost: str, tmp_path: Path
) -> None:
    """A service's status says that the camera is connected, recording or not."""
    async with (
        simulator(generation, directory=tmp_path, clip=CLIP) as service,
        client_of(service) as client,
    ):
        (camera, other) = await MediaMtxCamera.all_of(client)
        faults = {"cut": "cut_answers", "silent": "silent"}
        armed = await camera.feature(Record).arm(RecordPlan(directory=tmp_path, duration=3, timeout=0.5))
        setattr(service.faults, faults[lost], frozenset({"start_recording"}))
        if way == "armed":
            armed.release(None)
            starting: Awaitable[object] = armed.accepted()
        else:
            starting = client.start_recording(camera.device, timeout=0.5)
        with pytest.raises((ConnectionError, TimeoutError)):
            await starting
        await armed.aclose()
        await client.wait_until_connected(timeout=5)
        assert (await camera.status()).state in (CameraState.UNKNOWN, CameraState.RECORDING)
        assert (await other.status()).state is CameraState.READY
        if lost == "cut":
            await camera.feature(Record).stop()
            assert (await camera.status()).state is CameraState.READY


@BOTH
async def test_restart_with_other_cameras_leaves_gap(generation: int) -> None:
    async with simulator(generation, clip=None, cameras=["A", "B"]) as service, client_of(service) as client:
        gaps: list[Event] = []
        client.events.subscribe(gaps.append, MissedEvents)
        await service.restart(cameras=["A", "B", "C"])
        await client.wait_until_connected(timeout=5)
        await eventually(lambda: gaps)
        gap = gaps[0]
        assert isinstance(gap, MissedEvents)
        assert (len(gap.appeared), len(gap.vanished)) == (1, 0)
        assert len(await client.get_camera_list()) == 3


@BOTH
async def test_cameras_that_come_and_go_are_followed(generation: int) -> None:
    async with simulator(generation, clip=None) as service, client_of(service) as client:
        device = service.add_camera("New").device
        await eventually(lambda: client.camera_state(device) is CameraState.READY)
        service.remove_camera(device)
        await eventually(lambda: client.camera_state(device) is CameraState.UNAVAILABLE)


async def test_frozen_service_is_detected_by_silence() -> None:
    async with simulator(2, clip=None) as service, client_of(service, quiet_limit=0.2) as client:
        lost = asyncio.Event()
        client.on_connection_lost = lost.set
        service.freeze()
        await asyncio.wait_for(lost.wait(), 5)
        service.thaw()
        await client.wait_until_connected(timeout=5)
        assert await client.ping() == "pong"


async def test_too_many_connections_is_a_lost_connection() -> None:
    async with (
        simulator(1, clip=None, max_connections=1) as service,
        client_of(service),
    ):
        with pytest.raises(ConnectionError, match="Too many connections"):
            async with client_of(service, max_retries=1):
                pass
        with pytest.raises(ConnectionError):
            async with client_of(service, max_retries=1, path="/elsewhere"):
                pass


@pytest.mark.parametrize(("codes", "error"), [("seen", MediaMTXError), ("documented", StorageFullError)])
async def test_full_disk_gives_error_of_its_code(codes: str, error: type[CameraServiceError]) -> None:
    faults = ServiceFaults(storage_full=True)
    async with (
        simulator(1, clip=None, faults=faults, codes=codes) as service,
        client_of(service) as client,
    ):
        with pytest.raises(error, match=r"[Ss]torage"):
            await client.start_recording((await client.get_camera_list())[0].device)


async def test_interrupted_download_is_resumed(tmp_path: Path) -> None:
    async with (
        simulator(1, directory=tmp_path, clip=CLIP) as service,
        client_of(service) as client,
    ):
        device = (await client.get_camera_list())[0].device
        await client.start_recording(device)
        file = (await client.stop_recording(device)).filename
        service.faults.cut_files_after = 400_000
        local = await client.download_recording(file, tmp_path / "home")
        assert local.path.read_bytes() == CLIP


async def test_take_gets_file_from_service_with_broken_listing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asynccam.systems.mediamtx")
    faults = ServiceFaults(inner_errors=LISTING_FAULT)
    async with (
        simulator(1, directory=tmp_path, clip=CLIP, faults=faults) as service,
        client_of(service) as client,
    ):
        cameras = await MediaMtxCamera.all_of(client)
        async with Take(cameras, tmp_path / "takes") as take:
            await take.run(duration=0.1, start_in=0.05)
        assert take.ok, take.manifest
        listed = await client.list_recordings()
        assert (len(listed.files), listed.complete) == (2, False)


async def test_timed_recording_leaves_camera_free(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path, clip=CLIP) as service, client_of(service) as client:
        device = (await client.get_camera_list())[0].device
        for _ in range(2):
            await client.start_recording(device, duration=0.05)
            await eventually(lambda: (known := client.recording(device)) and known.status == "STOPPED")
        assert len(list((await client.list_recordings()).files)) == 2
