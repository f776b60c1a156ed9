"""Pictures by GStreamer, without a camera."""

import time
from pathlib import Path

import pytest
from PIL import Image

from asynccam.errors import RecordingError, TimeoutError, UsageError
from asynccam.systems.snapshot.server.backends import (
    Backend,
    CameraBackend,
    GStreamerBackend,
    TestBackend,
    simulated_cameras,
)
from asynccam.systems.snapshot.server.settings import CameraConfig

HOLD = pytest.mark.parametrize("hold", [False, True], ids=["at once", "held"])


def camera(device: str = "test:", **fields: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "front", "device_path": device, **fields})


async def shoot(backend: Backend, one: CameraConfig, target: Path, *, hold: bool = False) -> float:
    async with backend.prepare(one, target, hold=hold) as exposure:
        exposure.fire()
        taken_at = await exposure.taken()
    await exposure.develop()
    return taken_at


def ink(path: Path) -> int:
    """Bright pixels where the label is, of a picture that is black otherwise."""
    with Image.open(path) as picture:
        return sum(shade > 150 for shade in picture.convert("L").crop((0, 0, picture.width, 60)).tobytes())


@HOLD
@pytest.mark.parametrize(("width", "height"), [(640, 360), (641, 361), (64, 48), (1920, 1080)])
async def test_test_picture_has_requested_size(tmp_path: Path, width: int, height: int, hold: bool) -> None:
    target = tmp_path / "a.jpg"
    before = time.time()
    taken_at = await shoot(TestBackend(), camera(width=width, height=height), target, hold=hold)
    assert before <= taken_at <= time.time()
    with Image.open(target) as picture:
        assert (picture.format, picture.size) == ("JPEG", (width, height))


async def test_test_picture_shows_camera_and_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jpg", tmp_path / "b.jpg"
    backend = TestBackend(pattern="black")
    await shoot(backend, camera(name="i"), first)
    await shoot(backend, camera(name="W" * 30), second)
    assert ink(first) > 500
    with Image.open(first) as one, Image.open(second) as other:
        assert one.tobytes() != other.tobytes()


async def test_longest_label_fits_the_pipe(tmp_path: Path) -> None:
    target = tmp_path / "a.jpg"
    await shoot(TestBackend(), camera(name="☂" * 100, width=4096, height=64), target, hold=True)
    with Image.open(target) as picture:
        assert picture.size == (4096, 64)


async def test_device_path_selects_the_pattern(tmp_path: Path) -> None:
    black, white = tmp_path / "a.jpg", tmp_path / "b.jpg"
    backend = CameraBackend(GStreamerBackend())
    await shoot(backend, camera("test:black"), black)
    await shoot(backend, camera("test:white"), white)
    with Image.open(black) as one, Image.open(white) as other:
        assert one.convert("L").getpixel((600, 300)) < 5  # type: ignore[operator]  # one number, in "L"
        assert other.convert("L").getpixel((600, 300)) > 250  # type: ignore[operator]  # one number, in "L"
    with pytest.raises(RecordingError, match="pattern"):
        await shoot(backend, camera("test:no-such-pattern"), tmp_path / "c.jpg")


@HOLD
@pytest.mark.parametrize("pixel_format", ["MJPG", "YUYV", "411P", "RGBP", "XR24", "AR24", "AB24", "BA24"])
async def test_missing_device_is_named(tmp_path: Path, pixel_format: str, hold: bool) -> None:
    target = tmp_path / "a.jpg"
    one = camera("/none/video9", pixel_format=pixel_format)
    with pytest.raises(RecordingError, match="/none/video9"):
        await shoot(CameraBackend(GStreamerBackend()), one, target, hold=hold)


async def test_exposure_never_fired_times_out(tmp_path: Path) -> None:
    async with TestBackend(timeout=0.2).prepare(camera(), tmp_path / "a.jpg", hold=True) as exposure:
        with pytest.raises(TimeoutError):
            await exposure.taken()


def test_simulated_cameras_are_a_configuration() -> None:
    cameras = simulated_cameras(3)
    assert [one.name for one in cameras] == ["test1", "test2", "test3"]
    assert [one.stereo for one in cameras] == [True, True, False]
    assert len({one.device_path for one in cameras}) == 3
    assert simulated_cameras(0) == ()
    with pytest.raises(UsageError):
        simulated_cameras(-1)


def test_backend_checks_its_timeout() -> None:
    with pytest.raises(UsageError):
        TestBackend(timeout=0)
    with pytest.raises(UsageError):
        GStreamerBackend(timeout=0)
