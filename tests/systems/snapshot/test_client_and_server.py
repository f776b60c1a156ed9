"""asynccam's client with asynccam's server."""

from pathlib import Path

import pytest

from asynccam import Session, SnapshotCamera, SnapshotClient, errors
from asynccam.model.credentials import Credentials
from asynccam.model.features import Files, Snapshot
from asynccam.model.manifest import Outcome
from asynccam.systems.snapshot import read_imu
from tests.systems.snapshot.web.rig import TOKEN, Rig, serving


async def test_client_downloads_pictures(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left", "Süd Hof"]) as rig:
        await rig.add("broken", "fail", stereo=True)
        client = SnapshotClient(base_url=rig.url)
        assert [camera["name"] for camera in await client.get_cameras()] == ["left", "Süd Hof", "broken"]
        local = await client.snapshot("Süd Hof", tmp_path / "home")
        assert local.path.read_bytes() == await client.fetch_image(
            f"/snapshots/{(await client.list_snapshots())[0].filename}"
        )
        assert await read_imu(local.path) is None
        left, south, broken = await client.snapshot_all(tmp_path / "home")
        assert (left.error, south.error, broken.file) == (None, None, None)
        with pytest.raises(errors.NotFoundError):
            await client.snapshot_camera("nobody")
        with pytest.raises(errors.DeviceError):
            await client.snapshot_camera("broken")
        assert len(await client.list_snapshots()) == 3
        assert [one.camera for one in await client.list_snapshots("left")] == ["left"]


async def test_camera_lists_and_downloads_files(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left", "right"]) as rig:
        camera = await SnapshotCamera.connect(f"snapshot://127.0.0.1:{rig.port}/left")
        other = await SnapshotCamera.connect(f"snapshot://127.0.0.1:{rig.port}/right")
        await other.feature(Snapshot).snapshot(tmp_path / "home")
        local = await camera.feature(Snapshot).snapshot(tmp_path / "home")
        (listed,) = await camera.feature(Files).list_files()
        assert (listed.name, listed.size) == (local.source, local.size)
        again = await camera.feature(Files).download(listed, tmp_path / "home")
        assert again.sha256 == local.sha256
        await camera.aclose()
        await other.aclose()


async def test_take_with_a_token(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left", "right"], token=TOKEN) as rig:
        await check_token(rig)
        secret = Credentials(token=TOKEN)
        async with Session() as session:
            behind = await session.list_cameras(f"snapshot://127.0.0.1:{rig.port}", credentials=secret)
            cameras = await session.connect_all([info.address for info in behind], credentials=secret)
            take = await session.take(cameras, duration=0.01, start_in=0.01, directory=tmp_path / "takes")
    assert [record.outcome for record in take.manifest.cameras] == [Outcome.COMPLETE] * 2
    assert len(list(take.directory.glob("*/*.jpg"))) == 2


async def check_token(rig: Rig) -> None:
    with pytest.raises(errors.AuthenticationError, match="token"):
        await SnapshotClient(base_url=rig.url).get_cameras()
    with pytest.raises(errors.AuthenticationError):
        await SnapshotClient(base_url=rig.url, token="x" * 20).snapshot_camera("left")
