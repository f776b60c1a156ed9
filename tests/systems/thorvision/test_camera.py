"""One camera behind the common face: found, armed, let go, stopped, and in a take."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from asynccam.errors import (
    AddressError,
    BusyError,
    ConnectionError,
    FeatureError,
    NotFoundError,
    StateError,
    TimeoutError,
    UsageError,
)
from asynccam.model.features import DeviceClock, Record, RecordPlan, Stream
from asynccam.model.info import CameraState
from asynccam.model.manifest import Outcome
from asynccam.recording import RecorderState, verify_file
from asynccam.systems.thorvision import (
    Camera,
    ServerFaults,
    Split,
    StreamSettings,
    ThorVisionCamera,
    ThorVisionClient,
    ThorVisionSimulator,
)
from asynccam.systems.thorvision.camera import ThorVisionRecord
from asynccam.take import Take
from benchmarks.chaos.proxy import Proxy
from tests.support.cancelling import cancelled_at
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import OTHER, PICTURE, QUICK, device, frames_sent, recorder_pids

QUICK_CLIENT = partial(ThorVisionClient, settings=QUICK)
NAMELESS = Camera(id=-1, name="Test: A/B", caps=(PICTURE,))


@asynccontextmanager
async def connected(
    *devices: Camera, faults: ServerFaults | None = None, settings: StreamSettings = QUICK
) -> AsyncIterator[tuple[ThorVisionSimulator, ThorVisionCamera]]:
    async with ThorVisionSimulator(devices or (device(0),), faults=faults) as simulator:
        make = partial(ThorVisionClient, settings=settings)
        camera = await ThorVisionCamera.connect(
            f"{simulator.address}/{device(0).key}" if devices else simulator.address, make_client=make
        )
        try:
            yield simulator, camera
        finally:
            await camera.aclose()


async def test_camera_info_and_features() -> None:
    async with connected() as (simulator, camera):
        info = camera.info
        assert info.id == info.address == f"{simulator.address}/usb-0"
        assert (info.system, info.name, info.serial) == ("thorvision", "Cam 0", "usb-0")
        assert info.extra["server_id"] == 0
        assert camera.supports(Record)
        assert camera.supports(Stream)
        with pytest.raises(FeatureError):
            camera.feature(DeviceClock)


@pytest.mark.parametrize("word", ["usb-1", "1", "Cam%201%3A1", "Cam%201"])
async def test_connect_by_device_id_id_or_name(word: str) -> None:
    async with ThorVisionSimulator([device(0), device(1), NAMELESS]) as simulator:
        camera = await ThorVisionCamera.connect(f"{simulator.address}/{word}")
        assert camera.device == device(1)
        await camera.aclose()


async def test_connect_without_device_id() -> None:
    async with ThorVisionSimulator([device(0), NAMELESS]) as simulator:
        async with ThorVisionClient("127.0.0.1", simulator.port) as client:
            _, camera = await ThorVisionCamera.all_of(client)
        again = await ThorVisionCamera.connect(camera.id)
        assert again.device == NAMELESS
        await again.aclose()


async def test_connect_with_wrong_address() -> None:
    twin = Camera(id=5, name="Cam 0", device_id="usb-5")
    async with ThorVisionSimulator([device(0), twin]) as simulator:
        with pytest.raises(AddressError, match="name one of: usb-0, usb-5"):
            await ThorVisionCamera.connect(simulator.address)
        with pytest.raises(AddressError, match="may be any of: usb-0, usb-5"):
            await ThorVisionCamera.connect(f"{simulator.address}/Cam%200")
        with pytest.raises(NotFoundError, match="the service has usb-0, usb-5"):
            await ThorVisionCamera.connect(f"{simulator.address}/usb-7")
        with pytest.raises(AddressError):
            await ThorVisionCamera.connect(f"multicam://127.0.0.1:{simulator.port}")
    with pytest.raises(ConnectionError):
        await ThorVisionCamera.connect(simulator.address)


async def test_status(tmp_path: Path) -> None:
    async with connected(device(0), device(1)) as (simulator, camera):
        assert (await camera.status()).state is CameraState.READY
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path))
        armed.release(None)
        await armed.accepted()
        status = await camera.status()
        assert (status.state, status.detail) == (CameraState.RECORDING, "recording")
        await camera.feature(Record).stop()
        assert (await camera.status()).state is CameraState.READY
        await simulator.unplug(0)
        assert (await camera.status()).state is CameraState.UNAVAILABLE


async def test_status_while_a_recorder_waits_for_its_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(device(0)) as (_, camera):
        monkeypatch.setattr(ThorVisionRecord, "recorder_state", RecorderState.STARTING)
        status = await camera.status()
        assert (status.state, status.detail) == (CameraState.RECORDING, "starting")


async def test_arm_streams_and_release_records(tmp_path: Path) -> None:
    async with connected() as (simulator, camera):
        camera.capability, camera.split = OTHER, Split(max_seconds=60)
        record = camera.feature(Record)
        armed = await record.arm(RecordPlan(tmp_path))
        assert simulator.streams[0].capability == OTHER
        assert not list(tmp_path.iterdir())
        asked = len(simulator.requests)
        released = time.time()
        armed.release(None)
        report = await armed.accepted()
        await armed.aclose()
        assert len(simulator.requests) == asked  # nothing between the release and the first frame
        assert released <= report.commanded_at <= report.accepted_at
        held_back = camera.client.settings.latency / 1000  # by SRT, each frame
        assert report.first_frame_at is not None
        assert report.accepted_at <= report.first_frame_at + held_back  # it streamed before the release
        assert report.first_frame_bound is not None
        assert report.first_frame_bound > 0.05
        with pytest.raises(BusyError):
            await record.arm(RecordPlan(tmp_path))
        await frames_sent(simulator, 9)
        stop = await record.stop()
        (file,) = stop.files
        assert file.path is not None
        assert file.path.parent == tmp_path
        assert (file.name, file.size) == (file.path.name, file.path.stat().st_size)
        assert (stop.status, stop.first_frame_at) == ("complete", report.first_frame_at)
        assert not simulator.streams
        with pytest.raises(StateError):
            await record.stop()


async def test_armed_start_closed_stops_the_stream(tmp_path: Path) -> None:
    async with connected() as (simulator, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path))
        with pytest.raises(StateError):
            await armed.accepted()
        with pytest.raises(UsageError):
            armed.release(time.time())
        await armed.aclose()
        await armed.aclose()
        assert not simulator.streams
        with pytest.raises(StateError):
            armed.release(None)


async def test_frames_before_the_release_are_discarded(tmp_path: Path) -> None:
    async with connected() as (simulator, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path))
        assert recorder_pids(tmp_path)
        await frames_sent(simulator, 36)
        assert not list(tmp_path.iterdir())
        assert (await camera.status()).state is CameraState.READY
        recorders = recorder_pids(tmp_path)
        released = time.time()
        armed.release(None)
        report = await armed.accepted()
        assert recorder_pids(tmp_path) == recorders
        await frames_sent(simulator, 9)
        (file,) = (await camera.feature(Record).stop()).files
        over = time.time()
    assert report.first_frame_at is not None
    assert report.first_frame_bound is not None
    assert released <= report.first_frame_at <= over
    assert report.first_frame_at - report.first_frame_bound >= released - 0.08
    assert file.path is not None
    verdict = await verify_file(file.path)
    assert verdict.duration is not None
    assert verdict.duration <= over - released + 0.1
    assert first_time_code(file.path) == 0, "it begins at 0, however long the start was waited for"


async def test_armed_start_closed_stops_its_recorder(tmp_path: Path) -> None:
    async with connected() as (simulator, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path))
        assert recorder_pids(tmp_path)
        await armed.aclose()
        assert not recorder_pids(tmp_path)
        assert not simulator.streams
        assert not list(tmp_path.iterdir())


async def test_armed_recorder_that_dies_is_replaced(tmp_path: Path) -> None:
    async with connected() as (simulator, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path))
        for pid in recorder_pids(tmp_path):
            os.kill(pid, signal.SIGKILL)
        record = camera.feature(Record)
        assert isinstance(record, ThorVisionRecord)
        await eventually(lambda: record.recorder_state is not RecorderState.ARMED)
        armed.release(None)
        await armed.accepted()
        await frames_sent(simulator, 9)
        assert (await camera.feature(Record).stop()).status == "complete"


async def test_arm_again_for_other_files(tmp_path: Path) -> None:
    async with connected() as (simulator, camera):
        client, capability = camera.client, camera.chosen_capability()
        await client.arm_recording(camera.device, capability, output_dir=tmp_path / "a")
        await client.arm_recording(camera.device, capability, output_dir=tmp_path / "b")
        assert not recorder_pids(tmp_path / "a")
        await client.start_stream_with_recording(camera.device, capability, output_dir=tmp_path / "c")
        assert not recorder_pids(tmp_path / "b")
        with pytest.raises(BusyError):
            await client.arm_recording(camera.device, capability, output_dir=tmp_path / "d")
        stopped = await client.stop_stream(0)
        assert [file.path.parent.name for file in stopped.files] == ["c"]
        assert not simulator.streams


def first_time_code(path: Path) -> int:
    """Milliseconds at which the first cluster of a Matroska file begins."""
    data = path.read_bytes()
    at = data.index(b"\x1f\x43\xb6\x75") + 12  # its id, and its size in eight bytes
    assert data[at] == 0xE7
    length = data[at + 1] & 0x7F
    return int.from_bytes(data[at + 2 : at + 2 + length])


async def test_released_start_closed_leaves_nothing(tmp_path: Path) -> None:
    async with connected(faults=ServerFaults(stream_after=5)) as (simulator, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path))
        armed.release(None)
        await eventually(lambda: recorder_pids(tmp_path))
        await armed.aclose()
        assert not recorder_pids(tmp_path)
        assert not simulator.streams
        with pytest.raises(StateError):
            await armed.accepted()
        assert (await camera.status()).state is CameraState.READY


async def test_start_without_frames_times_out(tmp_path: Path) -> None:
    settings = StreamSettings(latency=20, first_frame_timeout=5.0)
    async with connected(faults=ServerFaults(never_stream=True), settings=settings) as (simulator, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=0.5))
        armed.release(None)
        with pytest.raises(TimeoutError) as caught:
            await armed.accepted()
        assert not caught.value.maybe_executed
        await armed.aclose()
        assert not simulator.streams
        assert not camera.client.streams
        assert not list(tmp_path.iterdir())


@pytest.mark.realtime
async def test_arm_after_the_id_changed(tmp_path: Path) -> None:
    async with connected() as (simulator, camera):
        await camera.feature(Stream).stream_urls()
        await simulator.unplug(0)
        await simulator.plug(Camera(**{**device(0).model_dump(), "id": 12}))
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path))
        assert list(simulator.streams) == [12]
        armed.release(None)
        await armed.accepted()
        assert (await camera.feature(Record).stop()).status == "complete"
        assert not simulator.streams
        assert not camera.client.streams


async def test_stream_urls(tmp_path: Path) -> None:
    async with connected() as (simulator, camera):
        urls = await camera.feature(Stream).stream_urls()
        assert urls == {"srt": f"srt://127.0.0.1:{simulator.streams[0].port}"}
        assert await camera.feature(Stream).stream_urls() == urls
    assert not simulator.streams


async def test_raw_capability_is_chosen_without_jpeg() -> None:
    raw = PICTURE.model_copy(update={"media_type": "video/x-raw", "format": "YUY2"})
    async with connected(Camera(id=0, name="R", device_id="usb-0", caps=(raw,))) as (_, camera):
        assert camera.chosen_capability() == raw


async def test_stop_status_of_a_failing_server(tmp_path: Path) -> None:
    async with connected(faults=ServerFaults(refuse_stop=True)) as (_, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path))
        armed.release(None)
        await armed.accepted()
        stop = await camera.feature(Record).stop()
        assert stop.status.startswith("complete; the server may still stream: POST /stop")
        assert len(stop.files) == 1


@pytest.mark.parametrize("heard", [True, False])
async def test_stop_is_repeated_after_a_lost_connection(tmp_path: Path, *, heard: bool) -> None:
    async with ThorVisionSimulator((device(0),)) as simulator:
        network = Proxy(simulator.port)
        await network.start()
        address = f"thorvision://127.0.0.1:{network.port}/{device(0).key}"
        camera = await ThorVisionCamera.connect(address, make_client=QUICK_CLIENT)
        try:
            armed = await camera.feature(Record).arm(RecordPlan(tmp_path))
            armed.release(None)
            await armed.accepted()
            if heard:
                simulator.faults.slow = 0.2
            else:
                network.cut()
            stopping = asyncio.ensure_future(camera.feature(Record).stop())
            if heard:
                await eventually(lambda: any(one.path == "/stop" for one in simulator.requests))
                network.cut()
            await asyncio.sleep(0.5)  # the length of the outage
            network.mend()
            stop = await stopping
            assert stop.status == "complete"
            await eventually(lambda: not simulator.streams)
        finally:
            await camera.aclose()
            await network.aclose()


async def test_arm_cancelled_at_each_await(tmp_path: Path) -> None:
    async with connected() as (simulator, camera):
        count = 1

        async def arm() -> None:
            await (await camera.feature(Record).arm(RecordPlan(tmp_path))).aclose()

        while await cancelled_at(arm(), count):
            assert not camera.client.streams
            assert not simulator.streams
            count += 1
        assert count > 5


@pytest.mark.realtime
async def test_take_of_several_cameras(tmp_path: Path) -> None:
    async with (
        ThorVisionSimulator([device(0), device(1)]) as simulator,
        QUICK_CLIENT("127.0.0.1", simulator.port) as client,
    ):
        cameras = await ThorVisionCamera.all_of(client)
        take = await Take(cameras, tmp_path, name="t", verify=verify_file).run(duration=1.0, start_in=0.1)
        manifest = take.manifest
        assert manifest.outcome is Outcome.COMPLETE
        assert manifest.start is not None
        for record in manifest.cameras:
            assert record.first_frame_at is not None
            assert 0 < record.first_frame_at.unix - manifest.start.t0.unix < 3
            (file,) = record.files
            assert file.path is not None
            assert file.path.endswith("-00.mkv")
            assert file.verdict is not None
            assert file.verdict.verdict == "complete"
            assert file.sha256
            assert not record.errors
        assert not simulator.streams


async def test_take_with_a_camera_that_never_streams(tmp_path: Path) -> None:
    settings = StreamSettings(latency=20, first_frame_timeout=0.3, attempts=1)
    async with ThorVisionSimulator([device(0)], faults=ServerFaults(never_stream=True)) as simulator:
        client = ThorVisionClient("127.0.0.1", simulator.port, settings=settings)
        async with client:
            cameras = await ThorVisionCamera.all_of(client)
            take = await Take(cameras, tmp_path, name="t").run(duration=0.2, start_in=0.1)
        (record,) = take.manifest.cameras
        assert record.outcome is Outcome.FAILED
        assert [error.error for error in record.errors] == ["TimeoutError"]
        assert record.files == []
