"""Pictures by ``v4l2-ctl``: its arguments, its pictures and its failures."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from asynccam.errors import RecordingError, StorageError, TimeoutError, UsageError
from asynccam.systems.snapshot.server.backends import V4l2CtlBackend
from asynccam.systems.snapshot.server.settings import CameraConfig
from tests.support.v4l2 import Devices, a_jpeg
from tests.support.waiting import eventually

HOLD = pytest.mark.parametrize("hold", [False, True], ids=["at once", "held"])


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    return Devices(tmp_path)


def camera(device: Path | str, **fields: object) -> CameraConfig:
    return CameraConfig.model_validate(
        {"name": "front", "device_path": str(device), "width": 64, "height": 48, **fields}
    )


async def shoot(backend: V4l2CtlBackend, one: CameraConfig, target: Path, *, hold: bool = False) -> float:
    async with backend.prepare(one, target, hold=hold) as exposure:
        exposure.fire()
        taken_at = await exposure.taken()
    await exposure.develop()
    return taken_at


@HOLD
async def test_v4l2_runs_the_documented_command(tmp_path: Path, devices: Devices, hold: bool) -> None:
    device, target = devices.device("video0"), tmp_path / "picture.jpg"
    backend = V4l2CtlBackend(command=[devices.v4l2_ctl])
    taken_at = await shoot(backend, camera(device), target, hold=hold)
    (call,) = devices.captures
    assert call["argv"] == [
        "-d",
        str(device),
        "--set-fmt-video=width=64,height=48,pixelformat=MJPG",
        "--stream-mmap",
        "--stream-count=1",
        f"--stream-to={target}",
    ]
    assert target.read_bytes() == a_jpeg()
    assert taken_at == target.stat().st_mtime_ns / 1e9


async def test_v4l2_finds_the_program_by_path(
    tmp_path: Path, devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(devices.v4l2_ctl).parent}:{os.environ['PATH']}")
    await shoot(V4l2CtlBackend(), camera(devices.device("video0")), tmp_path / "picture.jpg")
    assert len(devices.captures) == 1


@HOLD
async def test_v4l2_converts_raw_frames(tmp_path: Path, devices: Devices, hold: bool) -> None:
    device = devices.device("video0", frame=b"\x80\x80" * 64 * 48)
    target = tmp_path / "picture.jpg"
    backend = V4l2CtlBackend(command=[devices.v4l2_ctl])
    await shoot(backend, camera(device, pixel_format="YUYV"), target, hold=hold)
    with Image.open(target) as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 48))


@HOLD
@pytest.mark.parametrize(
    ("do", "words"),
    [
        ("fail", "status 1: VIDIOC_STREAMON returned -1"),
        ("short", "returned 999 bytes"),
        ("nothing", "returned 0 bytes.*pixelformat 'MJPG' is invalid"),
    ],
)
async def test_v4l2_failure_leaves_no_file(
    tmp_path: Path, devices: Devices, do: str, words: str, hold: bool
) -> None:
    target = tmp_path / "picture.jpg"
    backend = V4l2CtlBackend(command=[devices.v4l2_ctl])
    with pytest.raises(RecordingError, match=words):
        await shoot(backend, camera(devices.device("video0", do)), target, hold=hold)
    assert not target.exists()


@HOLD
async def test_v4l2_reports_short_write(tmp_path: Path, devices: Devices, hold: bool) -> None:
    backend = V4l2CtlBackend(command=[devices.v4l2_ctl])
    with pytest.raises(StorageError, match=r"only 4096 of the picture's \d+ bytes"):
        await shoot(backend, camera(devices.device("video0", "full")), tmp_path / "picture.jpg", hold=hold)


@HOLD
async def test_v4l2_names_missing_device(tmp_path: Path, devices: Devices, hold: bool) -> None:
    backend = V4l2CtlBackend(command=[devices.v4l2_ctl])
    with pytest.raises(RecordingError, match="Cannot open device /none/video9"):
        await shoot(backend, camera("/none/video9"), tmp_path / "picture.jpg", hold=hold)


@HOLD
async def test_v4l2_names_missing_program(tmp_path: Path, hold: bool) -> None:
    backend = V4l2CtlBackend(command=["/none/v4l2-ctl"])
    with pytest.raises(RecordingError, match="/none/v4l2-ctl"):
        await shoot(backend, camera("/dev/video0"), tmp_path / "picture.jpg", hold=hold)


@HOLD
@pytest.mark.parametrize("do", ["hang", "deaf"])
async def test_v4l2_kills_hanging_program(tmp_path: Path, devices: Devices, do: str, hold: bool) -> None:
    backend = V4l2CtlBackend(command=[devices.v4l2_ctl], timeout=1)
    with pytest.raises(TimeoutError, match=r"no end of v4l2-ctl for .* within 1 s"):
        await shoot(backend, camera(devices.device("video0", do)), tmp_path / "picture.jpg", hold=hold)
    for call in devices.captures:
        assert not Path(f"/proc/{call['pid']}").exists()


@HOLD
async def test_v4l2_kills_program_when_cancelled(tmp_path: Path, devices: Devices, hold: bool) -> None:
    backend = V4l2CtlBackend(command=[devices.v4l2_ctl])
    one = camera(devices.device("video0", "hang"))
    task = asyncio.create_task(shoot(backend, one, tmp_path / "picture.jpg", hold=hold))
    await eventually(lambda: devices.captures, 20)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert not Path(f"/proc/{devices.captures[0]['pid']}").exists()


async def test_v4l2_held_does_not_open_the_device(tmp_path: Path, devices: Devices) -> None:
    backend = V4l2CtlBackend(command=[devices.v4l2_ctl])
    one = camera(devices.device("video0"))
    async with backend.prepare(one, tmp_path / "a.jpg", hold=True) as exposure:
        assert devices.captures == []
        exposure.fire()
        await exposure.taken()
    assert len(devices.captures) == 1
    async with backend.prepare(one, tmp_path / "b.jpg", hold=True):
        pass  # never fired, and ended all the same
    assert len(devices.captures) == 1


async def test_v4l2_refuses_unknown_format_before_opening(tmp_path: Path, devices: Devices) -> None:
    backend = V4l2CtlBackend(command=[devices.v4l2_ctl])
    with pytest.raises(RecordingError, match="H264"):
        await shoot(backend, camera(devices.device("video0"), pixel_format="H264"), tmp_path / "a.jpg")
    assert devices.captures == []


def test_v4l2_checks_its_arguments() -> None:
    with pytest.raises(UsageError):
        V4l2CtlBackend(command=[])
    with pytest.raises(UsageError):
        V4l2CtlBackend(timeout=0)
