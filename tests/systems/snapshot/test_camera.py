"""SnapshotCamera: by address, in a Session and in a Take."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from asynccam import Session, SnapshotCamera, SnapshotClient, errors
from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.model.features import Files, Record, Snapshot
from asynccam.model.info import CameraState
from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.take import Take, TakeLimits
from tests.support.scripted_camera import ScriptedCamera
from tests.support.snapshot_field_server import RAW_FRAME, FieldServer, camera, in_the_field, jpeg, says
from tests.support.waiting import eventually


@pytest.fixture
async def field() -> AsyncIterator[FieldServer]:
    async with in_the_field() as server:
        yield server


def at(field: FieldServer, name: str = "") -> Address:
    return Address("snapshot", "127.0.0.1", field.port, name)


async def test_camera_has_info_and_status(field: FieldServer) -> None:
    one = await SnapshotCamera.connect(str(at(field, "left")))
    assert one.id == one.info.address == f"snapshot://127.0.0.1:{field.port}/left"
    assert (one.info.system, one.info.name, one.info.model) == ("snapshot", "left", "v4l2")
    assert one.info.extra["width"] == 1920
    assert one.supports(Snapshot)
    assert one.supports(Files)
    assert not one.supports(Record)
    assert (await one.status()).state is CameraState.READY
    field.cameras = []
    assert (await one.status()).state is CameraState.UNAVAILABLE
    await one.aclose()
    await one.aclose()
    with pytest.raises(errors.StateError):
        await one.status()


async def test_camera_downloads_and_remembers_pictures(field: FieldServer, tmp_path: Path) -> None:
    one = await SnapshotCamera.connect(at(field, "left"))
    assert await one.list_files() == ()
    local = await one.feature(Snapshot).snapshot(tmp_path)
    assert local.path.read_bytes() == jpeg()
    (listed,) = await one.feature(Files).list_files()
    assert (listed.name, listed.size) == (local.source, local.size)
    for file in (listed, listed.name):
        again = await one.feature(Files).download(file, tmp_path)
        assert again.sha256 == local.sha256
    await one.aclose()


async def test_camera_lists_pictures_of_asynccam_server(field: FieldServer) -> None:
    def some(*names: str, after: str | None) -> bytes:
        items = [{"filename": name, "size": 5, "taken_at": 1.5, "camera": "a b"} for name in names]
        return says({"items": items, "next": after, "total": 3})

    field.cameras = [camera("a b")]
    field.raw["GET /api/v1/snapshots?limit=1000&camera=a%20b"] = some("3.jpg", "2.jpg", after="x/y")
    field.raw["GET /api/v1/snapshots?limit=1000&camera=a%20b&after=x%2Fy"] = some("1.jpg", after=None)
    one = await SnapshotCamera.connect(at(field))
    listed = await one.feature(Files).list_files()
    assert [(file.name, file.size, file.created) for file in listed] == [
        ("3.jpg", 5, 1.5),
        ("2.jpg", 5, 1.5),
        ("1.jpg", 5, 1.5),
    ]
    field.raw["GET /api/v1/snapshots?limit=1000&camera=a%20b&after=x%2Fy"] = some("3.jpg", after="x/y")
    assert len(await one.list_files()) == 2  # one that goes round in circles
    field.raw["GET /api/v1/snapshots?limit=1000&camera=a%20b"] = says({"items": 5})
    with pytest.raises(errors.RemoteProtocolError):
        await one.list_files()
    await one.aclose()


@pytest.mark.parametrize("name", ["Süd Hof", "a/b", "100%", "all"])
async def test_camera_addresses_of_unusual_names(field: FieldServer, name: str) -> None:
    field.cameras = [camera(name), camera("other")]
    one = await SnapshotCamera.connect(str(at(field, name)))
    assert one.info.name == name
    assert Address.parse(one.info.address) == at(field, name)
    await one.aclose()


async def test_camera_is_chosen_by_address(field: FieldServer) -> None:
    with pytest.raises(errors.AddressError, match=r"2 cameras.*'left', 'right'"):
        await SnapshotCamera.connect(at(field))
    with pytest.raises(errors.NotFoundError, match="the service has 'left', 'right'"):
        await SnapshotCamera.connect(at(field, "nobody"))
    field.cameras = [camera("only")]
    one = await SnapshotCamera.connect(at(field))
    assert one.info.name == "only"
    await one.aclose()
    field.cameras = []
    with pytest.raises(errors.AddressError, match="no camera"):
        await SnapshotCamera.connect(at(field))
    with pytest.raises(errors.AddressError, match="not the address of a Snapshot camera"):
        await SnapshotCamera.connect("multicam://127.0.0.1:1")


async def test_camera_uses_given_client(field: FieldServer) -> None:
    make = partial(SnapshotClient, token="secret")
    one = await SnapshotCamera.connect(at(field, "left"), make_client=make)
    assert field.heads[0]["authorization"] == "Bearer secret"
    await one.aclose()


async def test_camera_id_contains_base_path() -> None:
    async with in_the_field(FieldServer(base="/cams")) as field, SnapshotClient(base_url=field.url) as client:
        left, _ = await SnapshotCamera.all_of(client)
        assert left.id == f"snapshot://127.0.0.1:{field.port}/cams/left"


async def test_camera_in_a_session(field: FieldServer, tmp_path: Path) -> None:
    secret = Credentials(token="secret")
    async with Session() as session:
        behind = await session.list_cameras(at(field), credentials=secret)
        assert [info.name for info in behind] == ["left", "right"]
        cameras = await session.connect_all([info.address for info in behind], credentials=secret)
        assert all(isinstance(one, SnapshotCamera) for one in cameras)
        take = await session.take(cameras, duration=0.05, start_in=0.05, directory=tmp_path)
        assert take.ok
    assert {head["authorization"] for head in field.heads} == {"Bearer secret"}
    manifest = await Manifest.load(take.directory)
    for record in manifest.cameras:
        assert (record.kind, record.outcome, record.errors) == ("still", Outcome.COMPLETE, [])
        (file,) = record.files
        assert (file.source, file.state, file.size) == ("device", FileState.ARRIVED, len(jpeg()))
        assert file.path is not None
        assert (take.directory / file.path).read_bytes() == jpeg()
        assert manifest.start is not None
        assert record.first_frame_at is not None
        assert record.commanded_at is not None
        assert record.commanded_at.unix >= manifest.start.t0.unix


async def test_camera_in_a_take_with_a_recorder(field: FieldServer, tmp_path: Path) -> None:
    field.hold.clear()
    still = await SnapshotCamera.connect(at(field, "left"))
    video = ScriptedCamera("video")
    take = Take([still, video], tmp_path, limits=TakeLimits(start_answer_grace=0.01))
    running = asyncio.ensure_future(take.run(duration=0.02, start_in=0.01))
    await eventually(lambda: field.captures)
    assert not running.done()
    field.hold.set()  # the stop waits for a picture that takes longer than the take
    await running
    assert take.ok
    assert [record.kind for record in take.manifest.cameras] == ["still", "video"]
    assert len(field.captures) == 1
    await still.aclose()


async def test_camera_failure_does_not_affect_the_take(field: FieldServer, tmp_path: Path) -> None:
    field.failing["left"] = "Device busy"
    field.pictures["right"] = RAW_FRAME
    async with SnapshotClient(base_url=field.url) as client:
        cameras = await SnapshotCamera.all_of(client)
        take = await Take([*cameras, ScriptedCamera("video")], tmp_path).run(duration=0.02, start_in=0.01)
    left, right, video = take.manifest.cameras
    assert (left.outcome, right.outcome, video.outcome) == (Outcome.FAILED, Outcome.FAILED, Outcome.COMPLETE)
    assert [(error.step, "busy" in error.message) for error in left.errors] == [("start", True)]
    assert [(error.step, "raw frame" in error.message) for error in right.errors] == [("start", True)]
    assert take.manifest.outcome is Outcome.INCOMPLETE


async def test_camera_unavailable_is_found_when_arming(field: FieldServer, tmp_path: Path) -> None:
    one = await SnapshotCamera.connect(at(field, "left"))
    field.vanish = True
    take = await Take([one], tmp_path).run(duration=5, start_in=0.01)
    assert [error.step for error in take.manifest.cameras[0].errors] == ["arm"]
    assert take.manifest.outcome is Outcome.FAILED
    assert field.captures == []
    await one.aclose()


async def test_cancelled_take_cancels_the_picture(field: FieldServer, tmp_path: Path) -> None:
    field.hold.clear()
    one = await SnapshotCamera.connect(at(field, "left"))
    take = Take([one], tmp_path, limits=TakeLimits(start_answer_grace=0.05))
    running = asyncio.ensure_future(take.run(duration=30, start_in=0))
    await eventually(lambda: field.captures)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (record,) = take.manifest.cameras
    assert (record.outcome, record.files) == (Outcome.CANCELLED, [])
    assert [error.step for error in record.errors] == ["start"]
    await one.aclose()
