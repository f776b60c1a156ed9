"""Opening, closing, cancelling and restarting a device: recordings are finished, nothing is left open."""

import asyncio
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from zeroconf import current_time_millis
from zeroconf.asyncio import AsyncZeroconf

from asynccam.errors import ConnectionError, StorageError, TimeoutError, UsageError
from asynccam.runtime.tasks import TaskScope
from asynccam.systems.multicam.device.connection import DeviceLimits
from asynccam.systems.multicam.device.device import MultiCamDevice
from asynccam.systems.multicam.device.recording import RecordingPhase
from tests.support.multicam_device import ROOMY, BytesRecorder, ask, command, connected, fetch, running
from tests.support.waiting import eventually, passes


async def test_close_finishes_running_recording(tmp_path: Path) -> None:
    recorder = BytesRecorder(b"to the end")
    async with running(tmp_path, recorder) as device:
        await ask(device, "START_RECORDING")
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == b"to the end"
    assert recorder.stops == 1


async def test_close_finishes_starting_recording(tmp_path: Path) -> None:
    recorder = BytesRecorder(b"to the end")
    recorder.may_start.clear()
    async with running(tmp_path, recorder) as device, connected(device) as controller:
        controller.send(command("START_RECORDING"))
        await eventually(lambda: device.phase is RecordingPhase.STARTING)
        recorder.may_start.set()
    assert recorder.stops == 1


async def test_close_cancels_scheduled_start(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder) as device:
        await ask(device, "START_RECORDING", timestamp=time.time() + 1000)
    assert recorder.started == []


async def test_close_answers_waiting_stop(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with (
        TaskScope("test") as scope,
        running(tmp_path, recorder) as device,
        connected(device) as controller,
    ):
        await ask(device, "START_RECORDING")
        recorder.may_stop.clear()
        controller.send(command("STOP_RECORDING"))
        await eventually(lambda: device.phase is RecordingPhase.STOPPING)
        closing = scope.spawn(device.aclose(), name="close")
        await passes()
        recorder.may_stop.set()
        assert (await controller.document())["status"] == "recording_stopped"
        await closing


async def test_close_twice_or_unopened(tmp_path: Path) -> None:
    device = MultiCamDevice(tmp_path, recorder=BytesRecorder(), port=0)
    await device.aclose()
    async with running(tmp_path / "other") as device:
        await device.aclose()
        await device.aclose()


async def test_close_keeps_deadline_when_recorder_hangs(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    device = MultiCamDevice(
        tmp_path, recorder=recorder, port=0, limits=DeviceLimits(reserve=0, shutdown_timeout=0.2)
    )
    async with device:
        await ask(device, "START_RECORDING")
        recorder.may_stop.clear()
        async with asyncio.timeout(20):
            with pytest.raises(TimeoutError, match="end of the recording"):
                await device.aclose()


async def test_close_closes_every_connection(tmp_path: Path) -> None:
    (tmp_path / "video_1.mp4").write_bytes(bytes(32 * 1024 * 1024))
    async with running(tmp_path) as device:
        async with connected(device) as idle, connected(device) as half, connected(device) as slow:
            half.send(b'{"command":')
            slow.send(command("GET_VIDEO", fileName="video_1.mp4"))
            await slow.framed()
            await device.aclose()
            assert device.connections == 0
            assert await idle.rest() == b""
            assert await half.rest() == b""
        with pytest.raises(OSError):  # noqa: PT011 - refused, in the system's own words
            await asyncio.open_connection("127.0.0.1", device.port)


async def test_cancelled_device_task_finishes_the_recording(tmp_path: Path) -> None:
    recorder = BytesRecorder(b"to the end")
    opened: asyncio.Future[MultiCamDevice] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with running(tmp_path, recorder) as device:
            opened.set_result(device)
            await asyncio.Event().wait()

    async with TaskScope("test") as scope:
        task = scope.spawn(run(), name="run")
        device = await opened
        await ask(device, "START_RECORDING")
        recorder.may_stop.clear()
        task.cancel()
        await eventually(lambda: recorder.stops == 1)
        task.cancel()
        await passes()
        assert not task.done(), "a second cancellation does not cut the file short"
        recorder.may_stop.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == b"to the end"


async def test_cancelled_at_any_moment(tmp_path: Path) -> None:
    (tmp_path / "video_1.mp4").write_bytes(bytes(1024 * 1024))

    async def use() -> None:
        async with running(tmp_path, BytesRecorder()) as device, connected(device) as controller:
            controller.send(command("START_RECORDING") + command("LIST_FILES"))
            await controller.document()
            await controller.document()
            controller.send(command("GET_VIDEO", fileName="video_1.mp4") + command("STOP_RECORDING"))
            await controller.framed()
            await controller.exactly(1024 * 1024)
            await controller.document()

    async with TaskScope("test") as scope:
        for moment in range(60):
            task = scope.spawn(use(), name="use")
            await passes(moment)
            await asyncio.sleep(max(0, moment - 40) * 0.001)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}
    await use()
    recordings = [path.read_bytes() for path in tmp_path.glob("video_1?*.mp4")]
    assert recordings
    assert set(recordings) == {b"moving pictures"}


@pytest.mark.parametrize("dialect", [1, 2])
async def test_restarted_device_lists_old_recordings(tmp_path: Path, dialect: int) -> None:
    async with running(tmp_path, dialect=dialect) as device:
        for _ in range(2):
            await ask(device, "START_RECORDING")
            await ask(device, "STOP_RECORDING")
        before = (await ask(device, "LIST_FILES"))["files"]
    async with running(tmp_path, dialect=dialect) as device:
        after = (await ask(device, "LIST_FILES"))["files"]
        header, body = await fetch(device, fileName=after[1]["fileName"])
    assert before == after
    assert len(after) == 2
    assert body == b"moving pictures"
    assert header["fileName"] == after[1]["fileName"]


async def test_open_makes_the_directory(tmp_path: Path) -> None:
    async with running(tmp_path / "a" / "b") as device:
        assert (await ask(device, "START_RECORDING"))["status"] == "recording"
    assert len(list((tmp_path / "a" / "b").iterdir())) == 1


async def test_unusable_directory_is_raised_before_listening(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot record in"):
        async with running(tmp_path / "file" / "sub"):
            pass


async def test_port_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as device:
        with pytest.raises(ConnectionError, match="cannot listen at"):
            async with running(tmp_path, port=device.port):
                pass


@pytest.mark.parametrize(
    ("host", "target"), [("", "127.0.0.1"), ("", "::1"), ("::1", "::1"), ("localhost", "127.0.0.1")]
)
async def test_listens_at_given_host(tmp_path: Path, host: str, target: str) -> None:
    async with running(tmp_path, host=host) as device:
        _, writer = await asyncio.open_connection(target, device.port)
        writer.close()
        await writer.wait_closed()


async def test_port_is_kept_after_close(tmp_path: Path) -> None:
    async with running(tmp_path) as device:
        port = device.port
        await ask(device, "HEARTBEAT")
    async with running(tmp_path, port=port) as device:
        assert device.port == port


@pytest.mark.parametrize("options", [{"dialect": 3}, {"device_id": "x" * 55}, {"device_id": "a\nb"}])
async def test_invalid_device_arguments_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        MultiCamDevice(tmp_path, recorder=BytesRecorder(), **options)  # type: ignore[arg-type]


async def test_default_device_id_is_host_name(tmp_path: Path) -> None:
    device = MultiCamDevice(tmp_path, recorder=BytesRecorder(), limits=ROOMY)
    assert device.device_id == socket.gethostname()


async def test_announced_while_open(tmp_path: Path) -> None:
    async with AsyncZeroconf(interfaces=["127.0.0.1"]) as zeroconf:
        name = "multiCam-bench-mdns._multicam._tcp.local."
        async with running(
            tmp_path, device_id="bench-mdns", announce=True, interfaces=["127.0.0.1"]
        ) as device:
            info = await zeroconf.async_get_service_info("_multicam._tcp.local.", name, timeout=5000)
            assert info is not None
            assert info.port == device.port
            assert info.parsed_addresses() == ["127.0.0.1"]
        cache = zeroconf.zeroconf.cache
        # RFC 6762, 10.1: a record that is taken back is kept for a second.
        await eventually(lambda: all(record.ttl <= 1 for record in cache.entries_with_name(name.lower())))
        cache.async_expire(current_time_millis() + 2000)
        assert await zeroconf.async_get_service_info("_multicam._tcp.local.", name, timeout=300) is None
