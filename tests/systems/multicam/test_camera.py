"""MultiCamCamera: the common face over devices with the quirks of the real ones."""

import functools
import hashlib
import logging
from pathlib import Path

import pytest

from asynccam.errors import (
    AddressError,
    ConnectionError,
    FeatureError,
    NotFoundError,
    RemoteProtocolError,
    TimeoutError,
)
from asynccam.model.address import Address
from asynccam.model.features import DeviceClock, Files, Record, RecordPlan, ScheduledStart, Snapshot
from asynccam.model.info import CameraState, MediaFile
from asynccam.systems.multicam.camera import MultiCamCamera
from asynccam.systems.multicam.client import MultiCamClient
from tests.systems.multicam.peers import Android, Ios, Oak, Peer, says, silent

quick = functools.partial(MultiCamClient, timeout=5.0, retries=0)


def camera(peer: Peer, device_id: str = "d") -> MultiCamCamera:
    return MultiCamCamera(device_id, quick("127.0.0.1", peer.port))


async def test_connect_identifies_the_device() -> None:
    async with Peer(Android().talk) as peer:
        for address in (
            f"multicam://127.0.0.1:{peer.port}",
            f"multicam://127.0.0.1:{peer.port}/Mountain-A1B2C3D4",
            Address("multicam", "127.0.0.1", peer.port),
        ):
            found = await MultiCamCamera.connect(address)
            assert found.id == "multicam://Mountain-A1B2C3D4"
            assert found.info.serial == "Mountain-A1B2C3D4"
            assert found.info.address == f"multicam://127.0.0.1:{peer.port}"
            assert found.info.model == "Android:Phone"
            assert isinstance(found.client, MultiCamClient)


async def test_id_of_an_unusual_device_name_is_a_uri() -> None:
    answer = b'{"deviceId":"Lab 2/left","status":"ready","timestamp":1.5}'
    async with Peer(says(answer)) as peer:
        found = await MultiCamCamera.connect(f"multicam://127.0.0.1:{peer.port}")
    assert found.id == "multicam://Lab%202%2Fleft"
    assert found.info.name == "Lab 2/left"


async def test_connect_errors() -> None:
    async with Peer(Android().talk) as peer:
        with pytest.raises(AddressError):
            await MultiCamCamera.connect(f"mediamtx://127.0.0.1:{peer.port}")
        with pytest.raises(NotFoundError, match=r"Mountain-A1B2C3D4.*not 'Valley'"):
            await MultiCamCamera.connect(f"multicam://127.0.0.1:{peer.port}/Valley")
    with pytest.raises(ConnectionError):
        await MultiCamCamera.connect(f"multicam://127.0.0.1:{peer.port}", make_client=quick)
    async with Peer(says(b'{"deviceId":"","status":"ready","timestamp":1.5}')) as peer:
        with pytest.raises(RemoteProtocolError, match="device id"):
            await MultiCamCamera.connect(f"multicam://127.0.0.1:{peer.port}")
    async with Peer(silent) as peer:
        with pytest.raises(TimeoutError):
            await MultiCamCamera.connect(
                f"multicam://127.0.0.1:{peer.port}",
                make_client=functools.partial(MultiCamClient, timeout=0.1),
            )


def test_features() -> None:
    device = MultiCamCamera("d", MultiCamClient("127.0.0.1"))
    assert {Record, ScheduledStart, Files, DeviceClock} == set(device.features)
    assert device.feature(ScheduledStart).lead == 3.0
    with pytest.raises(FeatureError):
        device.feature(Snapshot)
    assert repr(device) == "<MultiCamCamera multicam://d>"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b'"status":"ready"', CameraState.READY),
        (b'"status":"Ready","isRecording":true', CameraState.RECORDING),
        (b'"status":"recording"', CameraState.RECORDING),
        (b'"status":"stopping"', CameraState.STOPPING),
        (b'"status":"error"', CameraState.ERROR),
        (b'"status":"camera_disconnected"', CameraState.UNAVAILABLE),
        (b'"status":"uploading"', CameraState.READY),
        (b'"status":"polishing lens"', CameraState.UNKNOWN),
    ],
)
async def test_states(answer: bytes, state: CameraState) -> None:
    async with Peer(says(b'{"deviceId":"d","timestamp":1729000000.5,' + answer + b"}")) as peer:
        status = await camera(peer).status()
    assert status.state is state
    assert status.device_time == 1729000000.5
    assert status.battery is None


async def test_status_details() -> None:
    answer = (
        b'{"deviceId":"d","status":"error","message":"lens cap on","timestamp":5,"batteryLevel":%b,'
        b'"uploadQueue":[{"fileName":"v.mp4","fileSize":9,"status":"uploading","uploadUrl":"https://b/v?sig=secret"}]}'
    )
    async with Peer(says(answer % b"42.5")) as peer:
        status = await camera(peer).status()
    assert (status.detail, status.battery) == ("lens cap on", 42.5)
    assert status.extra["uploadQueue"][0].fileName == "v.mp4"
    assert "secret" not in repr(status)
    async with Peer(says(answer % b"-1.0")) as peer:
        assert (await camera(peer).status()).battery is None


async def test_changed_device_id_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Peer(Android().talk) as peer:
        device = camera(peer, "Valley")
        with caplog.at_level(logging.WARNING):
            await device.status()
            await device.status()
    assert [record.getMessage() for record in caplog.records] == [
        "multicam://Valley answers as 'Mountain-A1B2C3D4'"
    ]
    assert device.id == "multicam://Valley"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Android, "video_1729000000.mp4"), (Ios, "iPhone-7_1729000000123.mov"), (Oak, "video_1.zip")],
)
async def test_record_stop_and_fetch(
    kind: type[Android] | type[Ios] | type[Oak], name: str, tmp_path: Path
) -> None:
    device = kind()
    async with Peer(device.talk) as peer:
        shot = camera(peer)
        record, files = shot.feature(Record), shot.feature(Files)
        start = await record.arm(RecordPlan(tmp_path))
        start.release(None)
        report = await start.accepted()
        assert report.commanded_at <= report.accepted_at
        assert device.recording
        stop = await record.stop()
        assert stop.status == "recording_stopped"
        (file,) = stop.files
        local = await files.download(file, tmp_path / "home")
    assert local.path.name == name
    assert local.sha256 == hashlib.sha256(local.path.read_bytes()).hexdigest()


async def test_stop_file_packed_later_has_no_size(tmp_path: Path) -> None:
    oak = Oak()
    oak.recording = True
    async with Peer(oak.talk) as peer:
        shot = camera(peer)
        (file,) = (await shot.feature(Record).stop()).files
        assert file == MediaFile("video_1.zip", None)
        assert await shot.list_files() == ()
        assert (await shot.download("video_1.zip", tmp_path)).size == 10_000


async def test_list_and_download_by_either_name(tmp_path: Path) -> None:
    for name in ("iPhone-7_1", "iPhone-7_1.mov"):
        device = Ios({"iPhone-7_1": b"abc", "iPhone-7_2": b"de"})
        async with Peer(device.talk) as peer:
            shot = camera(peer)
            assert await shot.list_files() == (
                MediaFile("iPhone-7_1.mov", 3, "iPhone-7_1", 1729000000),
                MediaFile("iPhone-7_2.mov", 2, "iPhone-7_2", 1729000000),
            )
            assert (await shot.download(name, tmp_path)).path.read_bytes() == b"abc"


async def test_download_from_a_device_that_cannot_list(tmp_path: Path) -> None:
    async with Peer(Android({"v.mp4": b"abc"}).talk) as peer:
        assert (await camera(peer).download("v.mp4", tmp_path)).size == 3
        with pytest.raises(NotFoundError):
            await camera(peer).download("w.mp4", tmp_path)


async def test_clock() -> None:
    async with Peer(Oak().talk) as peer:
        offset = await camera(peer).feature(DeviceClock).measure_clock(samples=3)
    assert abs(offset.offset) <= offset.bound + 0.001


async def test_follow_moved_device() -> None:
    async with Peer(Android().talk) as old, Peer(Android().talk) as new:
        shot = camera(old)
        await shot.status()
        shot.follow(["127.0.0.9", "127.0.0.1"], new.port)
        await shot.status()
        assert shot.info.address == f"multicam://127.0.0.1:{new.port}"
        assert (old.opened, new.opened) == (1, 1)


async def test_camera_close_closes_armed_starts(tmp_path: Path) -> None:
    async with Peer(Android().talk) as peer:
        shot = camera(peer)
        await shot.feature(Record).arm(RecordPlan(tmp_path))
        await shot.aclose()
        await shot.aclose()
