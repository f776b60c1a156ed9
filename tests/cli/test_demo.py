"""``asynccam demo``: the whole job over five systems, with faults and without, and that no server stays."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from asynccam.model.manifest import CameraRecord, Manifest
from tests.support.command import asynccam, started
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)

SYSTEMS = ["multicam", "mediamtx", "thorvision", "snapshot", "nanocam"]
LIMIT = 200.0
"""Seconds for a whole demo beside everything else that this computer does."""


@pytest.mark.realtime
async def test_demo_records_and_checks_five_systems(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    ended = await asynccam(
        *("demo", "--duration", 2, "--to", tmp_path / "takes", "--json", "--save-picture", picture),
        timeout=LIMIT,
    )
    assert (ended.code, ended.err) == (0, ""), ended.out
    said = ended.json()
    assert (said["complete"], said["fates"]) == (True, {})
    manifest = Manifest.model_validate(said["manifest"])
    assert [camera.system for camera in manifest.cameras] == SYSTEMS
    for camera in manifest.cameras:
        (file,) = camera.files
        assert file.path is not None
        assert Path(said["directory"], file.path).stat().st_size == file.size
        assert camera.commanded_at is not None
        assert camera.first_frame_at is not None
        assert camera.first_frame_bound is not None
        if camera.kind == "still":
            assert file.name.endswith(".jpg")
            continue
        assert file.verdict is not None
        assert file.verdict.verdict == "complete"
        assert file.verdict.frames
    assert [camera.kind for camera in manifest.cameras].count("still") == 1
    sheet = Path(said["sheet"])
    assert sheet.parent == Path(said["directory"])
    with Image.open(sheet) as opened:
        assert opened.size == (3 * 480, 2 * 288)
    drawn = picture.read_text()
    for word in ("REC", "complete", "commanded", *SYSTEMS):
        assert word in drawn


@pytest.mark.realtime
async def test_demo_chaos_reports_each_camera(tmp_path: Path) -> None:
    ended = await asynccam("demo", "--chaos", "--duration", 4, "--to", tmp_path, "--json", timeout=LIMIT)
    assert (ended.code, ended.err) == (8, "")
    said = ended.json()
    assert said["complete"] is False
    manifest = Manifest.model_validate(said["manifest"])
    assert len(manifest.cameras) == 7
    refuses, dies, *rest = manifest.cameras
    assert said["fates"][refuses.id] == "refuses to start"
    assert [error.step for error in refuses.errors] == ["start"]
    assert "the lens cap is on" in refuses.errors[0].message
    assert said["fates"][dies.id] == "is killed in mid-recording"
    assert dies.errors
    assert not refuses.files
    assert not dies.files
    for camera in rest:
        assert _is_home(camera, Path(said["directory"])), camera
    dropped = [camera for camera in rest if camera.system == "mediamtx"]
    assert len({camera.files[0].name for camera in dropped}) == 2
    assert not {camera.id for camera in rest if camera.system == "snapshot"} & said["fates"].keys()


def _is_home(camera: CameraRecord, directory: Path) -> bool:
    """Return whether each of its files is here, and whole where it is a video."""
    return bool(camera.files) and all(
        file.path is not None
        and (directory / file.path).stat().st_size == file.size
        and (file.verdict is None or file.verdict.verdict == "complete")
        for file in camera.files
    )


async def test_demo_explains_the_manifest(tmp_path: Path) -> None:
    ended = await asynccam(
        "demo", "--cameras", 2, "--duration", 1, "--to", tmp_path, timeout=LIMIT, env={"COLUMNS": "120"}
    )
    assert (ended.code, ended.err) == (0, "")
    (directory,) = tmp_path.iterdir()
    for words in ("commanded", "accepted", "first frame", "bound", "scheduled", "released at T0"):
        assert words in ended.out
    assert "thorvision" not in ended.out
    assert "local recorder" not in ended.out
    assert str(directory / "manifest.json") in ended.out
    assert str(directory / "contact-sheet.png") in ended.out


async def test_demo_without_gstreamer_names_packages(tmp_path: Path) -> None:
    ended = await asynccam("demo", "--json", env={"PATH": str(tmp_path)})
    assert (ended.code, ended.out) == (7, "")
    assert ended.err.count("\n") == 1
    for package in ("tools", "plugins-base", "plugins-good", "plugins-bad", "plugins-ugly"):
        assert f"gstreamer1.0-{package}" in ended.err


@pytest.mark.parametrize("count", ["0", "31"])
async def test_demo_camera_count_limits(count: str) -> None:
    ended = await asynccam("demo", "--cameras", count)
    assert (ended.code, ended.out) == (2, "")
    assert "--cameras" in ended.err


def _children(pid: int) -> set[int]:
    """Every process below another."""
    try:
        direct = {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()
    return direct.union(*(_children(child) for child in direct))


def _servers(pid: int) -> set[int]:
    found = set()
    for child in _children(pid):
        try:
            if b"--while-stdin-open" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(child)
        except OSError:
            continue
    return found


def _all_gone(pids: set[int]) -> Callable[[], bool]:
    return lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
async def test_demo_killed_ends_its_servers(number: signal.Signals, code: int, tmp_path: Path) -> None:
    async with started("demo", "--duration", 60, "--to", tmp_path, "--json") as process:
        servers = await eventually(
            lambda: found if len(found := _servers(process.pid)) == 5 else None, 60, what="five servers"
        )
        assert servers is not None
        everything = servers | _children(process.pid)
        process.send_signal(number)
        await asyncio.wait_for(process.communicate(), 90)
        await eventually(_all_gone(everything), 60, what="the end of every server")
    assert process.returncode == code


async def test_demo_ctrl_c_while_recording_downloads_files(tmp_path: Path) -> None:
    command = ("demo", "--cameras", 2, "--duration", 60, "--to", tmp_path, "--json")
    async with started(*command) as process:
        await eventually(lambda: _recorded(process.pid), 90, what="both recorders run")
        servers = _servers(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 120)
        assert _all_gone(servers)()
    assert (process.returncode, err) == (130, b"")
    assert out.startswith(b"{")
    (manifest,) = tmp_path.glob("*/manifest.json")
    taken = Manifest.from_bytes(manifest.read_bytes())
    assert taken.outcome == "cancelled"
    assert [len(camera.files) for camera in taken.cameras] == [1, 1]


def _recorded(pid: int) -> bool:
    running = 0
    for child in _children(pid):
        try:
            running += Path(f"/proc/{child}/comm").read_text().startswith("gst-launch")
        except OSError:
            continue
    return running >= 2
