"""SnapshotService: single, group and stereo captures, services, IMU, queue and shutdown."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import piexif
import pytest
import pytest_asyncio

from asynccam.errors import (
    BusyError,
    DeviceError,
    NotFoundError,
    RecordingError,
    StateError,
    UsageError,
)
from asynccam.systems.snapshot.server import events as told
from asynccam.systems.snapshot.server.imu import ImuFeed
from asynccam.systems.snapshot.server.models import Phase, Shot
from asynccam.systems.snapshot.server.settings import ImuSettings
from tests.support.broker import broker
from tests.support.cancelling import cancelled_at
from tests.support.snapshot_service import Rig, rig
from tests.support.v4l2 import a_jpeg
from tests.support.waiting import eventually


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as made:
        yield made


def interrupting(name: str = "a.service") -> dict[str, Any]:
    return {"type": "stream_interrupt", "service_name": name}


async def test_capture_stores_one_picture(one: Rig) -> None:
    one.configure(one.camera("a/b ☂"))
    async with one.service() as service:
        with one.events.stream(told.CaptureEvent) as stream:
            shot = await service.capture("a/b ☂")
            async with asyncio.timeout(20):
                kinds = [type(await anext(stream)) for _ in range(3)]
        assert kinds == [told.CaptureQueued, told.CaptureStarted, told.CaptureDone]
        path = await service.store.path_of(shot.filename)
        assert path.read_bytes() == a_jpeg()
        assert shot.filename.startswith("snapshot_a~2fb ~e2~98~82_")
        assert (shot.camera, shot.size, shot.imu) == ("a/b ☂", len(a_jpeg()), None)
        state = service.state_of("a/b ☂")
        assert (state.phase, state.last, state.last_taken_at) == (Phase.IDLE, shot.filename, shot.taken_at)
        assert (service.capturing, service.waiting) == (0, 0)
    assert one.pictures == [shot.filename]


async def test_state_follows_the_capture(one: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    good = one.camera("good", ways={"gate": str(gate)})
    one.configure(good, one.camera("bad", "fail"))
    async with one.service() as service:
        assert service.state_of("good").phase is Phase.IDLE
        first = asyncio.create_task(service.capture("good"))
        second = asyncio.create_task(service.capture("good"))
        await eventually(lambda: service.state_of("good").phase is Phase.CAPTURING, 20)
        assert (service.capturing, service.waiting) == (1, 1)
        gate.touch()
        await first
        await second
        assert service.state_of("good").phase is Phase.IDLE
        with pytest.raises(RecordingError):
            await service.capture("bad")
        failed = service.state_of("bad")
        assert failed.phase is Phase.FAILED
        assert "VIDIOC_STREAMON" in str(failed.error)
        with pytest.raises(NotFoundError):
            service.state_of("none")


async def test_capture_raises_specific_errors(one: Rig) -> None:
    one.configure(one.camera("a"))
    service = one.service()
    with pytest.raises(StateError):
        await service.capture("a")
    async with service:
        with pytest.raises(NotFoundError):
            await service.capture("b")
        with pytest.raises(UsageError):
            await service.capture("a", prefix="../x")
        with pytest.raises(UsageError):
            await service.capture_all(prefix="other")
        assert await service.capture_stereo() == ()
        one.configure()
        await eventually(lambda: service.cameras() == (), 20)
        assert await service.capture_all() == ()
    with pytest.raises(StateError):
        await service.capture("a")
    assert one.devices.captures == []


async def test_cameras_of_one_device_take_turns(one: Rig, tmp_path: Path) -> None:
    """The device refuses a second user, as a real one does."""
    first = one.camera("first")
    (tmp_path / "link").symlink_to(first["device_path"])
    one.configure(first, {**first, "name": "second", "device_path": str(tmp_path / "link")})
    async with one.service() as service:
        shots = await asyncio.gather(*(service.capture(name) for name in ["first", "second"] * 4))
        results = await service.capture_all()
        stereo = one.camera("x", stereo=True)
        one.configure(stereo, {**stereo, "name": "y"})
        await eventually(lambda: len(service.cameras()) == 2 and service.cameras()[0].name == "x", 20)
        pair = await service.capture_stereo()
    assert len({shot.filename for shot in shots}) == 8
    assert [result.error for result in (*results, *pair)] == [None] * 4


async def test_capture_all_reports_single_failure(one: Rig) -> None:
    one.configure(
        one.camera("good", **interrupting()),
        one.camera("bad", "short", **interrupting()),
        one.camera("plain"),
        one.camera("held", **interrupting("b.service")),
    )
    one.devices.service("b.service", stop="fail")
    async with one.service() as service:
        results = await service.capture_all()
    assert [result.camera for result in results] == ["good", "bad", "plain", "held"]
    assert [result.shot is not None for result in results] == [True, False, True, False]
    assert "999 bytes" in str(results[1].error)
    assert "b.service cannot be stopped" in str(results[3].error)
    assert all(name.startswith(("api_all_cams_good_", "api_all_cams_plain_")) for name in one.pictures)
    calls = one.devices.calls
    assert [call for call in calls if call[1] == "a.service"] == [
        ("stop", "a.service"),
        ("restart", "a.service"),
    ]
    assert one.devices.state("b.service") == "up"


async def test_service_is_restarted_after_failed_capture(one: Rig) -> None:
    one.configure(one.camera("a", "fail", **interrupting()))
    async with one.service() as service:
        with pytest.raises(RecordingError):
            await service.capture("a")
        assert one.devices.calls == [("stop", "a.service"), ("restart", "a.service")]
        one.devices.service("a.service", stop="fail")
        with pytest.raises(DeviceError):
            await service.capture("a")
    assert one.devices.state("a.service") == "up"
    assert one.pictures == []


async def test_plain_camera_stops_no_service(one: Rig) -> None:
    one.configure(one.camera("a", service_name="a.service"))
    async with one.service() as service:
        await service.capture("a")
    assert one.devices.calls == []


async def test_stereo_cameras_fire_together(one: Rig) -> None:
    one.configure(
        one.camera("left", stereo=True, **interrupting()),
        one.camera("alone"),
        one.camera("right", stereo=True, **interrupting()),
        one.camera("broken", "fail", stereo=True),
        one.camera("odd", stereo=True, pixel_format="H264"),
    )
    async with one.service() as service:
        results = await service.capture_stereo()
    assert [result.camera for result in results] == ["left", "right", "broken", "odd"]
    shots = [result.shot for result in results[:2]]
    for shot in shots:
        assert isinstance(shot, Shot)
        assert shot.filename.startswith(f"api_stereo_{shot.camera}_")
    assert "VIDIOC_STREAMON" in str(results[2].error)
    assert "H264" in str(results[3].error)
    assert one.devices.calls == [("stop", "a.service"), ("restart", "a.service")]
    assert len(one.devices.captures) == 3
    assert len(one.pictures) == 2


async def test_stereo_cameras_exceed_the_slots(one: Rig) -> None:
    one.configure(*(one.camera(f"c{number}", stereo=True) for number in range(5)))
    async with one.service(max_captures=2) as service:
        results = await service.capture_stereo()
    assert [result.error for result in results] == [None] * 5


async def test_captures_are_limited_and_queued(one: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one.configure(*(one.camera(f"c{number}", ways={"gate": str(gate)}) for number in range(4)))
    async with one.service(max_captures=2, max_waiting=3) as service:
        tasks = [asyncio.create_task(service.capture(f"c{number % 4}")) for number in range(5)]
        await eventually(lambda: len(one.devices.captures) == 2, 20)
        assert (service.capturing, service.waiting) == (2, 3)
        outcomes = await asyncio.gather(*(service.capture("c0") for _ in range(1000)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {BusyError}
        with pytest.raises(BusyError):
            await service.capture_all()
        assert len(one.devices.captures) == 2
        gate.touch()
        await asyncio.gather(*tasks)
        await service.capture("c0")
    assert len(one.pictures) == 6


async def test_limits_default_to_the_configuration(one: Rig) -> None:
    one.configure(one.camera("a", "hang"), limits={"captures": 1, "waiting": 1})
    async with one.service(grace=0) as service:
        tasks = [asyncio.create_task(service.capture("a")) for _ in range(2)]
        await eventually(lambda: (service.capturing, service.waiting) == (1, 1), 20)
        with pytest.raises(BusyError):
            await service.capture("a")
    for task in tasks:
        with pytest.raises(StateError):
            await task


async def test_reading_is_written_with_offsets(one: Rig, tmp_path: Path) -> None:
    # T.81 B.1.1.2: any number of FF may stand before a marker; what writes EXIF does not know this.
    odd_jpeg = a_jpeg()[:2] + b"\xff" + a_jpeg()[2:]
    cameras = [
        one.camera("a", yaw_offset="90"),
        one.camera("odd", ways={"frame": odd_jpeg}),
    ]
    (tmp_path / "mqtt").mkdir()
    async with broker(tmp_path / "mqtt") as mqtt:
        one.configure(*cameras, imu={"port": mqtt.port, "max_age": 600})
        imu = ImuFeed(ImuSettings(enabled=False))
        async with one.service(imu=imu) as service:
            assert (await service.capture("a")).imu is None
            await eventually(lambda: imu.connected, 20)
            await mqtt.publish("status/", {"roll": 1, "pitch": 2, "yaw": 3})
            await eventually(imu.reading, 20)
            shot = await service.capture("a")
            assert shot.imu is not None
            assert (shot.imu.roll, shot.imu.pitch, shot.imu.yaw) == (1, 2, 93)
            data = (await service.store.path_of(shot.filename)).read_bytes()
            assert shot.size == len(data)
            comment = piexif.load(data)["Exif"][piexif.ExifIFD.UserComment]
            assert json.loads(comment[8:].decode("utf-16-be"))["yaw"] == 93
            odd = await service.capture("odd")
            assert odd.imu is None, "a picture that takes no EXIF is kept without it"
            one.configure(one.camera("a"), imu={"enabled": False})
            await eventually(lambda: not imu.connected, 20)


async def test_retention_change_takes_effect(one: Rig) -> None:
    one.configure(one.camera("a"))
    async with one.service() as service:
        for _ in range(3):
            await service.capture("a")
        one.configure(one.camera("a"), retention={"max_size_mb": 1.5 * len(a_jpeg()) / 1e6})
        await eventually(lambda: len(one.pictures) == 1, 20)


async def test_cancelled_caller_cancels_its_capture(one: Rig) -> None:
    one.configure(one.camera("a", "hang", stereo=True, **interrupting()))
    async with one.service() as service:
        for ask in (lambda: service.capture("a"), service.capture_all, service.capture_stereo):
            before = len(one.devices.captures)
            task: asyncio.Task[Any] = asyncio.create_task(ask())
            await eventually(lambda: len(one.devices.captures) > before, 20)  # noqa: B023 - called in its round
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert one.devices.state("a.service") == "up"
            assert not Path(f"/proc/{one.devices.captures[-1]['pid']}").exists()
            assert (service.capturing, service.waiting) == (0, 0)
            assert service.state_of("a").error == "the capture was cancelled"
        assert one.pictures == []


@pytest.mark.parametrize("what", ["one", "all", "stereo"])
async def test_cancelled_anywhere_leaves_nothing(one: Rig, what: str) -> None:
    one.configure(one.camera("a", stereo=True, **interrupting()), one.camera("b", stereo=True))
    async with one.service() as service:

        async def once() -> None:
            if what == "one":
                await service.capture("a")
            elif what == "all":
                await service.capture_all()
            else:
                await service.capture_stereo()

        count = 1
        while await cancelled_at(once(), count):
            assert one.devices.state("a.service") == "up"
            assert service.services.stopped == ()
            assert (service.capturing, service.waiting) == (0, 0)
            assert not [name for name in one.pictures if name.startswith(".")]
            count += 1


async def test_close_waits_for_running_captures(one: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one.configure(one.camera("a", ways={"gate": str(gate)}, **interrupting()))
    async with one.service(grace=40) as service:
        task = asyncio.create_task(service.capture("a"))
        await eventually(lambda: one.devices.captures, 20)
        closing = asyncio.create_task(service.aclose())
        await asyncio.sleep(0)
        with pytest.raises(StateError):
            await service.capture("a")
        gate.touch()
        shot = await task
        await closing
        await service.aclose()
    assert one.pictures == [shot.filename]
    assert one.devices.state("a.service") == "up"


async def test_close_cancels_slow_captures_and_restarts_services(one: Rig) -> None:
    one.configure(one.camera("a", "hang", stereo=True, **interrupting()), one.camera("b", "hang"))
    async with one.service(grace=0.1) as service:
        asks = (service.capture("a"), service.capture_all(), service.capture_stereo(), service.capture("b"))
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(ask) for ask in asks]
        await eventually(lambda: len(one.devices.captures) == 2, 20)
    for task in tasks:
        with pytest.raises(StateError, match="shut down"):
            await task
    assert one.devices.state("a.service") == "up"
    assert json.loads((one.directory / "stopped.json").read_text()) == {"stopped": []}
    assert one.pictures == []


SERVING = """
import asyncio, sys
from pathlib import Path
from tests.support.snapshot_service import Rig

class Again(Rig):
    def __init__(self, directory):
        self.directory = directory
        from asynccam.runtime.event_hub import EventHub
        from tests.support.v4l2 import Devices
        self.events = EventHub()
        self.devices = Devices.__new__(Devices)
        self.devices.v4l2_ctl = str(directory / "bin" / "v4l2-ctl")
        self.devices.systemctl = str(directory / "bin" / "systemctl")

async def main():
    async with Again(Path(sys.argv[1])).service() as service:
        print("up", flush=True)
        await service.capture("a")

asyncio.run(main())
"""


async def test_next_server_repairs_after_a_kill(one: Rig) -> None:
    one.configure(one.camera("a", "hang", **interrupting()))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVING, str(one.directory), stdout=asyncio.subprocess.PIPE
    )
    try:
        await eventually(lambda: one.devices.captures, 40)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.communicate()
    assert one.devices.state("a.service") == "down"
    assert [name[:10] for name in one.pictures] == [".asynccam-"]
    capture = Path(f"/proc/{one.devices.captures[0]['pid']}")
    await eventually(lambda: not capture.exists() or "zombie" in (capture / "status").read_text(), 20)
    before = (one.directory / "config.json").read_text()
    async with one.service() as service:
        await eventually(lambda: one.devices.state("a.service") == "up", 20)
        assert one.pictures == []
        assert [camera.name for camera in service.cameras()] == ["a"]
    assert (one.directory / "config.json").read_text() == before


async def test_failed_open_leaves_nothing_open(one: Rig) -> None:
    (one.directory / "pictures").write_text("a file")
    with pytest.raises(OSError, match="pictures"):
        async with one.service():
            raise AssertionError


def test_service_checks_its_grace(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Rig(tmp_path).service(grace=-1)
