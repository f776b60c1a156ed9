"""Names from devices become folders that are safe, distinct and new."""

import asyncio
from pathlib import Path

import pytest

from asynccam.errors import StorageError
from asynccam.model.info import CameraInfo
from asynccam.model.manifest import MANIFEST_NAME
from asynccam.take import Take
from asynccam.take.store import TakeDirectory, distinct_names
from tests.support.scripted_camera import ScriptedCamera


def test_distinct_names_are_safe_on_every_file_system() -> None:
    words = [
        "../../etc",
        "cam",
        "CAM",
        "cam-2",
        "",
        "manifest.json",
        "Manifest.JSON",
        "a\0b",
        "x" * 300,
        "NUL",
    ]
    names = distinct_names(words)
    assert len({name.casefold() for name in names} | {"manifest.json"}) == len(words) + 1
    assert all(name and "/" not in name and "\0" not in name and len(name.encode()) < 255 for name in names)
    assert not {".", "..", "nul"} & {name.casefold() for name in names}
    assert names[:3] == ["etc", "cam", "CAM-2"]


async def test_cameras_of_one_name_get_two_directories(tmp_path: Path) -> None:
    class Named(ScriptedCamera):
        @property
        def info(self) -> CameraInfo:
            return CameraInfo(id=super().info.id, system="scripted", name="../Phone")

    take = await Take([Named("a"), Named("b")], tmp_path, name="../up").run(duration=0.02, start_in=0)
    assert take.directory == tmp_path / "up"
    assert [camera.files[0].path for camera in take.manifest.cameras] == [
        "Phone/video.mp4",
        "Phone-2/video.mp4",
    ]


async def test_takes_of_one_name_get_their_own_directories(tmp_path: Path) -> None:
    takes = [Take([ScriptedCamera("one")], tmp_path, name="same") for _ in range(5)]
    async with asyncio.TaskGroup() as group:
        for take in takes:
            group.create_task(take.run(duration=0.02, start_in=0))
    assert {take.name for take in takes} == {"same", "same-1", "same-2", "same-3", "same-4"}
    assert all(take.manifest.take == take.name == take.directory.name for take in takes)
    assert all(take.ok for take in takes)


async def test_write_manifest_is_atomic(tmp_path: Path) -> None:
    folder = TakeDirectory(tmp_path, "take")
    await folder.create([])
    texts = {bytes([65 + number]) * 300_000 for number in range(8)}
    await folder.write_manifest(min(texts))
    seen = set()
    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(folder.write_manifest(text)) for text in sorted(texts)]
        while not all(task.done() for task in writing):
            seen.add(await asyncio.to_thread((folder.path / MANIFEST_NAME).read_bytes))
    assert seen <= texts
    assert (folder.path / MANIFEST_NAME).read_bytes() == max(texts)
    assert [path.name for path in folder.path.iterdir()] == ["manifest.json"]


async def test_failed_write_manifest_leaves_no_file(tmp_path: Path) -> None:
    folder = TakeDirectory(tmp_path, "take")
    await folder.create([])
    (folder.path / MANIFEST_NAME).mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        await folder.write_manifest(b"{}")
    assert [path.name for path in folder.path.iterdir()] == ["manifest.json"]


def test_relative_path_is_absolute_outside_of_the_take() -> None:
    folder = TakeDirectory(Path("/takes"), "one")
    assert folder.relative(Path("/takes/one/cam/a.mp4")) == "cam/a.mp4"
    assert folder.relative(Path("/elsewhere/a.mp4")) == "/elsewhere/a.mp4"
