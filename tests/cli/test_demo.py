"""``asynccam demo``: the whole job, and that its device servers never outlive it."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from asynccam.model.manifest import Manifest
from tests.support.command import asynccam, started
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)


async def test_three_devices_are_found_recorded_and_verified(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    ended = await asynccam(
        *("demo", "--duration", 2, "--to", tmp_path / "takes", "--json", "--save-picture", picture),
        timeout=90,
    )
    assert (ended.code, ended.err) == (0, "")
    said = ended.json()
    assert said["complete"] is True
    manifest = Manifest.model_validate(said["manifest"])
    assert len(manifest.cameras) == 3
    for camera in manifest.cameras:
        assert camera.scheduled_for == manifest.cameras[0].scheduled_for
        (file,) = camera.files
        assert file.verdict is not None
        assert file.verdict.verdict == "complete"
        assert file.verdict.frames is not None
        assert 15 < file.verdict.frames <= 75
        assert file.verdict.duration is not None
        assert 0.5 < file.verdict.duration < 2.5
        assert file.path is not None
        assert Path(said["directory"], file.path).stat().st_size == file.size
    drawn = picture.read_text()
    assert "REC" in drawn
    assert "complete" in drawn


async def test_without_gstreamer_it_names_the_packages(tmp_path: Path) -> None:
    ended = await asynccam("demo", "--json", env={"PATH": str(tmp_path)})
    assert (ended.code, ended.out) == (7, "")
    assert ended.err.count("\n") == 1
    for package in ("tools", "plugins-base", "plugins-good", "plugins-bad", "plugins-ugly"):
        assert f"gstreamer1.0-{package}" in ended.err


def _children(pid: int) -> set[int]:
    """Every process below another."""
    try:
        direct = {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()
    return direct.union(*(_children(child) for child in direct))


def _device_servers(pid: int) -> set[int]:
    found = set()
    for child in _children(pid):
        try:
            if b"--device-id" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(child)
        except OSError:
            continue
    return found


def _all_gone(pids: set[int]) -> Callable[[], bool]:
    return lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
async def test_its_devices_end_with_it(number: signal.Signals, code: int, tmp_path: Path) -> None:
    async with started("demo", "--cameras", 2, "--duration", 60, "--to", tmp_path, "--json") as process:
        devices = await eventually(
            lambda: found if len(found := _device_servers(process.pid)) == 2 else None, 30
        )
        assert devices is not None
        everything = devices | _children(process.pid)
        process.send_signal(number)
        await asyncio.wait_for(process.communicate(), 30)
        await eventually(_all_gone(everything), 30)
    assert process.returncode == code


async def test_ctrl_c_in_the_recording_brings_home_what_there_is(tmp_path: Path) -> None:
    async with started("demo", "--cameras", 2, "--duration", 60, "--to", tmp_path, "--json") as process:
        await eventually(lambda: _launched(process.pid), 60, what="both recorders run")
        devices = _device_servers(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 40)
        assert _all_gone(devices)()
    assert (process.returncode, err) == (130, b"")
    assert out.startswith(b"{")
    (manifest,) = tmp_path.glob("*/manifest.json")
    taken = Manifest.from_bytes(manifest.read_bytes())
    assert taken.outcome == "cancelled"
    assert [len(camera.files) for camera in taken.cameras] == [1, 1]


def _launched(pid: int) -> bool:
    running = 0
    for child in _children(pid):
        try:
            running += Path(f"/proc/{child}/comm").read_text().startswith("gst-launch")
        except OSError:
            continue
    return running >= 2
