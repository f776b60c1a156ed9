"""A camera of a service behind the common face: identity, status, recording, files, streams."""

import asyncio
import time
from functools import partial
from pathlib import Path

import pytest

from asynccam.errors import AddressError, StateError, TimeoutError, UsageError
from asynccam.model.address import Address
from asynccam.model.features import Files, Record, RecordPlan, ScheduledStart, Snapshot, Stream
from asynccam.model.info import CameraState, MediaFile
from asynccam.net.reconnecting import ConnectionState
from asynccam.systems.mediamtx import (
    AuthenticationError,
    CameraBusyError,
    CameraClient,
    CameraNotFoundError,
    ConnectionError,
    MediaMtxCamera,
)
from tests.support.file_server import CONTENT, FileServer, serving
from tests.support.jpegs import noise
from tests.support.waiting import eventually
from tests.systems.mediamtx.clients import connected
from tests.systems.mediamtx.peer import (
    TOKEN,
    Gen1,
    Gen2,
    Held,
    Request,
    Visitor,
    Words,
    error,
    never,
    running,
)

JPEG = noise()
DEVICE = "/dev/video0"


def plan(directory: Path, timeout: float = 5.0) -> RecordPlan:
    return RecordPlan(directory=directory, duration=3, timeout=timeout)


with_token = partial(CameraClient, auth_token=TOKEN)


@pytest.mark.parametrize("name", ["", "/%2Fdev%2Fvideo0", "/video0"])
async def test_camera_is_found_by_address(name: str) -> None:
    async with running(Gen1()) as peer:
        camera = await MediaMtxCamera.connect(
            f"mediamtx://127.0.0.1:{peer.port}{name}", make_client=with_token
        )
        assert camera.id == f"mediamtx://127.0.0.1:{peer.port}/%2Fdev%2Fvideo0"
        assert Address.parse(camera.id).camera == camera.device == DEVICE
        assert (camera.info.name, camera.info.serial, camera.info.system) == ("Camera 0", DEVICE, "mediamtx")
        assert camera.info.extra["resolution"] == "1920x1080"
        await camera.aclose()
        await camera.aclose()
        assert camera.client.state is ConnectionState.CLOSED


async def test_invalid_or_unknown_address_is_refused_without_leftovers() -> None:
    async with running(Gen2()) as peer:
        there = f"mediamtx://127.0.0.1:{peer.port}"
        with pytest.raises(CameraNotFoundError, match="camera0"):
            await MediaMtxCamera.connect(f"{there}/camera9", make_client=with_token)
        with pytest.raises(AddressError):
            await MediaMtxCamera.connect("multicam://127.0.0.1", make_client=with_token)
        with pytest.raises(AuthenticationError):
            await MediaMtxCamera.connect(there, make_client=partial(CameraClient, auth_token="wrong"))
        peer.answers["get_camera_list"] = lambda visitor, request: '"result": {"cameras": []}'
        with pytest.raises(AddressError, match="0 cameras"):
            await MediaMtxCamera.connect(there, make_client=with_token)
        await eventually(lambda: not peer.visitors)


async def test_all_cameras_of_a_service_share_its_client() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        await camera.aclose()
        assert client.state is ConnectionState.READY
        assert set(camera.features) == {Record, Snapshot, Files, Stream}
        assert not camera.supports(ScheduledStart)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("CONNECTED", CameraState.READY),
        ("DISCONNECTED", CameraState.UNAVAILABLE),
        ("ERROR", CameraState.ERROR),
        ("DREAMING", CameraState.UNKNOWN),
    ],
)
async def test_status_in_common_words(status: str, state: CameraState) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        peer.answers["get_camera_status"] = lambda visitor, request: (
            f'"result": {{"device": "/dev/video0", "status": "{status}", "temperature": 40}}'
        )
        found = await camera.status()
        assert (found.state, found.detail, found.extra["temperature"]) == (state, status, 40)


async def test_start_stop_and_the_file_comes_home(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, serving(FileServer()) as files:
        async with connected(peer, http_port=files.port) as client:
            (camera,) = await MediaMtxCamera.all_of(client)
            record = camera.feature(Record)
            armed = await record.arm(plan(tmp_path))
            assert not peer.called("start_recording")
            before = time.time()
            armed.release(None)
            report = await armed.accepted()
            assert report.status == "STARTED"
            assert before <= report.commanded_at <= report.accepted_at <= time.time()
            await armed.aclose()
            assert (await camera.status()).state is CameraState.RECORDING
            assert peer.called("start_recording")[0]["params"] == {"device": DEVICE}
            stopped = await record.stop()
            assert stopped.files == (MediaFile("a.mp4", 5, "recordings/a.mp4"),)
            local = await camera.feature(Files).download(stopped.files[0], tmp_path)
        assert local.path.read_bytes() == CONTENT


async def test_release_sends_start_in_same_loop_turn(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        armed = await camera.feature(Record).arm(plan(tmp_path))
        pending = client.calls_under_way
        armed.release(None)
        assert client.calls_under_way == pending + 1
        await armed.accepted()


async def test_start_survives_sign_in_fault(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        armed = await camera.feature(Record).arm(plan(tmp_path))
        peer.visitors[0].signed_in = False
        armed.release(None)
        report = await armed.accepted()
        assert report.status == "STARTED"
        assert report.commanded_at < report.accepted_at
        assert len(peer.called("start_recording")) == 2


async def test_refused_start_is_raised_by_accepted(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        peer.answers["start_recording"] = lambda visitor, request: error(-1006, "Already recording")
        armed = await camera.feature(Record).arm(plan(tmp_path))
        armed.release(None)
        with pytest.raises(CameraBusyError):
            await armed.accepted()


async def test_release_without_connection_sends_nothing(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer, retry_delay=30) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        armed = await camera.feature(Record).arm(plan(tmp_path))
        await peer.stop()
        await eventually(lambda: client.state is ConnectionState.WAITING)
        armed.release(None)
        with pytest.raises(ConnectionError) as raised:
            await armed.accepted()
        assert not raised.value.maybe_executed
        await peer.start()


async def test_unanswered_start_may_be_executed(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        peer.answers["start_recording"] = never
        armed = await camera.feature(Record).arm(plan(tmp_path, timeout=0.1))
        armed.release(None)
        with pytest.raises(TimeoutError) as raised:
            await armed.accepted()
        assert raised.value.maybe_executed


async def test_armed_start_is_used_once_in_order(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        armed = await camera.feature(Record).arm(plan(tmp_path))
        with pytest.raises(StateError):
            await armed.accepted()
        with pytest.raises(UsageError):
            armed.release(time.time() + 5)
        armed.release(None)
        with pytest.raises(StateError):
            armed.release(None)
        await armed.aclose()
        await armed.aclose()
        with pytest.raises(StateError):
            await armed.accepted()
        unused = await camera.feature(Record).arm(plan(tmp_path))
        await unused.aclose()
        with pytest.raises(StateError):
            unused.release(None)


async def test_closing_an_armed_start_ends_a_wait_for_it(tmp_path: Path) -> None:
    held = Held('"result": {"device": "/dev/video0", "status": "STARTED"}')
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        peer.answers["start_recording"] = held
        armed = await camera.feature(Record).arm(plan(tmp_path))
        armed.release(None)
        waiting = asyncio.ensure_future(armed.accepted())
        await held.asked.wait()
        await armed.aclose()
        with pytest.raises(StateError, match="forgotten"):
            await waiting
        held.let_go.set()


async def test_unavailable_camera_cannot_be_armed(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        peer.answers["get_camera_status"] = lambda visitor, request: (
            '"result": {"device": "/dev/video0", "status": "DISCONNECTED"}'
        )
        with pytest.raises(CameraNotFoundError, match="DISCONNECTED"):
            await camera.feature(Record).arm(plan(tmp_path))


async def test_recording_camera_cannot_be_armed(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        await client.start_recording(DEVICE)
        with pytest.raises(CameraBusyError, match="recording already"):
            await camera.feature(Record).arm(plan(tmp_path))
        await client.stop_recording(DEVICE)
        armed = await camera.feature(Record).arm(plan(tmp_path))
        await armed.aclose()
        peer.answers["get_camera_status"] = lambda visitor, request: (
            '"result": {"device": "/dev/video0", "status": "RECORDING"}'
        )
        with pytest.raises(CameraBusyError, match="recording already"):
            await camera.feature(Record).arm(plan(tmp_path))


async def test_stop_waits_for_reconnect(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        await client.start_recording(DEVICE)
        await peer.stop()
        await eventually(lambda: client.state is not ConnectionState.READY)
        stopping = asyncio.ensure_future(camera.feature(Record).stop(timeout=5))
        await peer.start()
        assert (await stopping).files[0].name == "a.mp4"
        assert len(peer.called("stop_recording")) == 1


async def test_stop_with_lost_response_uses_notification() -> None:
    async def stop_and_go(visitor: Visitor, request: Request) -> Words:
        await visitor.tell(
            "recording_status_update",
            '{"device": "/dev/video0", "status": "STOPPED", "filename": "a.mp4", "duration": 3}',
        )
        await asyncio.sleep(0.02)  # so that the notification arrives before the loss
        visitor.drop()
        return None

    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        await client.start_recording(DEVICE)
        peer.answers["stop_recording"] = stop_and_go
        report = await camera.feature(Record).stop()
        assert [file.name for file in report.files] == ["a.mp4"]
        assert len(peer.called("stop_recording")) == 1


async def test_stop_without_response_or_notification_is_error() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        await client.stop_recording(DEVICE)
        await client.start_recording(DEVICE)
        peer.answers["stop_recording"] = never
        with pytest.raises(TimeoutError):
            await camera.feature(Record).stop(timeout=0.2)


async def test_stop_without_filename_reports_name_of_start() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        peer.answers["stop_recording"] = lambda visitor, request: '"result": {"status": "STOPPED"}'
        await client.start_recording(DEVICE)
        assert (await camera.feature(Record).stop()).files == (MediaFile("a.mp4", None, "recordings/a.mp4"),)


async def test_snapshot_is_taken_and_downloaded(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, serving(FileServer(content=JPEG)) as files:
        async with connected(peer, http_port=files.port) as client:
            (camera,) = await MediaMtxCamera.all_of(client)
            local = await camera.feature(Snapshot).snapshot(tmp_path)
        assert (local.path.name, local.path.read_bytes()) == ("s.jpg", JPEG)
        assert files.requests[0]["path"] == "/files/snapshots/s.jpg"


async def test_files_know_their_folder_and_bare_names_are_guessed_by_suffix(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, serving(FileServer(content=JPEG)) as files:
        peer.answers["list_recordings"] = lambda visitor, request: (
            f'"result": {{"files": [{{"filename": "odd.jpg", "file_size": {len(JPEG)}, "modified_time": 5}}],'
            ' "total": 1}'
        )
        peer.answers["list_snapshots"] = lambda visitor, request: (
            '"result": {"files": [{"filename": "s.png"}], "total": 1}'
        )
        async with connected(peer, http_port=files.port) as client:
            (camera,) = await MediaMtxCamera.all_of(client)
            listed = await camera.feature(Files).list_files()
            assert listed == (
                MediaFile("odd.jpg", len(JPEG), "recordings/odd.jpg", 5.0),
                MediaFile("s.png", None, "snapshots/s.png"),
            )
            for file in (*listed, "s.JPEG", "b.mp4"):
                await camera.feature(Files).download(file, tmp_path)
        assert [request["path"] for request in files.requests] == [
            "/files/recordings/odd.jpg",
            "/files/snapshots/s.png",
            "/files/snapshots/s.JPEG",
            "/files/recordings/b.mp4",
        ]


async def test_addresses_of_the_live_stream() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        assert await camera.feature(Stream).stream_urls() == {
            "rtsp": "rtsp://h:8554/camera0",
            "hls": "http://h:8888/camera0",
        }


async def test_missing_stream_url_is_requested_from_generation_2() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        (camera,) = await MediaMtxCamera.all_of(client)
        peer.answers["get_stream_url"] = lambda visitor, request: (
            '"result": {"device": "camera0", "stream_url": "rtsp://h:8554/camera0", "available": true}'
        )
        assert await camera.feature(Stream).stream_urls() == {"rtsp": "rtsp://h:8554/camera0"}
