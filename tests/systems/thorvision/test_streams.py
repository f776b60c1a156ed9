"""Recordings of real SRT streams, by real GStreamer, from a simulated server."""

import asyncio
import os
import re
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import (
    BusyError,
    DeviceError,
    NotFoundError,
    RecordingError,
    StateError,
    StorageError,
    TimeoutError,
    UsageError,
)
from asynccam.recording import (
    RecorderProgress,
    RecorderSegmentClosed,
    RecorderState,
    Verdict,
    gstreamer,
    verify_file,
)
from asynccam.recording.gstreamer import Installation
from asynccam.systems.thorvision import Camera, PortPool, ServerFaults
from asynccam.systems.thorvision.stream import file_stem
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import (
    OTHER,
    PICTURE,
    QUICK,
    Rig,
    frames_sent,
    free_ports,
    recorder_pids,
    rig,
)


async def record(made: Rig, directory: Path, *, seconds: float = 0.5) -> None:
    await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=directory)
    await asyncio.sleep(seconds)


async def test_recording_result_matches_the_files(tmp_path: Path) -> None:
    async with rig() as made:
        called = time.time()
        started = await made.client.start_stream_with_recording(
            made.camera, PICTURE, output_dir=str(tmp_path / "new" / "dir")
        )
        assert called <= started["commanded_at"] <= started["first_frame_at"] <= time.time()
        assert re.fullmatch(r"0_Cam_0_\d{8}_\d{6}-%02d\.mkv", started["file_pattern"])
        assert started["output_dir"] == tmp_path / "new" / "dir"
        assert started["port"] in made.client.ports.used
        assert made.client.recorder_state(0) is RecorderState.RECORDING
        assert made.simulator.streams[0].port == started.port
        await frames_sent(made.simulator, 30)
        stopped = await made.client.stop_stream(0)
        (file,) = stopped["files"]
        assert file.path == tmp_path / "new" / "dir" / (started.file_pattern % 0)
        assert started.video_path == started["video_path"] == file.path
        assert (file.verdict, file.size) == (Verdict.COMPLETE, file.path.stat().st_size)
        assert 20 <= file.frames <= 45
        assert (stopped.error, stopped.server_error, stopped.gaps) == (None, None, ())
        assert stopped.first_frame_at == started.first_frame_at
        assert not made.client.streams
        assert not made.client.ports.used
        assert not made.simulator.streams
        assert made.posts() == ["/stop", "/jpeg", "/stop"]
        (closed,) = made.of(RecorderSegmentClosed)
        assert made.simulator.requests[-1].at >= closed.at  # the file first, then the server


async def test_split_files_are_recycled(tmp_path: Path) -> None:
    async with rig() as made:
        await made.client.start_stream_with_recording(
            made.camera, PICTURE, output_dir=tmp_path, split_max_time_sec=1, split_max_files=2
        )
        await eventually(lambda: len(made.of(RecorderSegmentClosed)) >= 3)
        files = (await made.client.stop_stream(0)).files
    numbers = [int(file.path.name[-6:-4]) for file in files]
    assert numbers in ([last - 1, last] for last in range(3, 9))
    assert sorted(tmp_path.iterdir()) == [file.path for file in files]
    assert all(file.verdict is Verdict.COMPLETE for file in files)


async def test_second_start_returns_the_first(tmp_path: Path) -> None:
    async with rig() as made:
        start = made.client.start_stream_with_recording
        first, second = await asyncio.gather(
            start(made.camera, PICTURE, output_dir=tmp_path), start(made.camera, OTHER, output_dir=tmp_path)
        )
        assert first is second
        assert made.posts() == ["/stop", "/jpeg"]


async def test_open_stream_is_recorded(tmp_path: Path) -> None:
    async with rig() as made:
        opened = await made.client.open_stream(made.camera, PICTURE)
        started = await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)
        assert started.port == opened.port
        assert made.posts() == ["/stop", "/jpeg"]


async def test_other_capability_opens_a_new_stream(tmp_path: Path) -> None:
    async with rig() as made:
        await made.client.open_stream(made.camera, PICTURE)
        started = await made.client.start_stream_with_recording(made.camera, OTHER, output_dir=tmp_path)
        assert started.capability == str(OTHER)
        assert made.simulator.streams[0].capability == OTHER


async def test_start_without_a_stream_times_out(tmp_path: Path) -> None:
    settings = replace(QUICK, first_frame_timeout=0.4, attempts=2)
    async with rig(ServerFaults(never_stream=True), settings=settings) as made:
        with pytest.raises(TimeoutError, match=r"no frame arrived within 0\.4 s"):
            await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)
        assert len(set(made.ports())) == 2
        assert not made.simulator.streams
        assert not made.client.ports.used
        assert not list(tmp_path.iterdir())
        with pytest.raises(StateError):
            await made.client.stop_stream(0)


@pytest.mark.realtime
async def test_start_waits_for_a_late_stream(tmp_path: Path) -> None:
    async with rig(ServerFaults(stream_after=0.7)) as made:
        started = await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)
        assert started.first_frame_at - started.commanded_at > 0.7
        assert len(made.ports()) == 1


async def test_refused_port_is_followed_by_another(tmp_path: Path) -> None:
    ports = free_ports(4)
    pool = PortPool(ports, rng=lambda: 0.0)
    async with rig(ServerFaults(refused_ports=frozenset(ports[:2])), ports=pool) as made:
        await record(made, tmp_path, seconds=0)
        assert made.ports() == ports[:3]
        assert pool.used == {ports[2]}


async def test_streams_use_different_free_ports(tmp_path: Path) -> None:
    ports = free_ports(5)
    pool = PortPool(ports, rng=lambda: 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", ports[1]))
        async with rig(count=3, ports=pool) as made:
            starts = [
                made.client.start_stream_with_recording(camera, PICTURE, output_dir=tmp_path)
                for camera in made.cameras
            ]
            assert {one.port for one in await asyncio.gather(*starts)} == {ports[0], *ports[2:4]}
            await frames_sent(made.simulator, 9)
            stopped = await made.client.cleanup()
    assert [one.files[0].verdict for one in stopped.values()] == [Verdict.COMPLETE] * 3


async def test_start_without_a_free_port(tmp_path: Path) -> None:
    async with rig(count=2, ports=PortPool(free_ports(1))) as made:
        await record(made, tmp_path, seconds=0)
        with pytest.raises(BusyError):
            await made.client.start_stream_with_recording(made.cameras[1], PICTURE, output_dir=tmp_path)


async def test_failed_recorder_stops_the_servers_stream(tmp_path: Path) -> None:
    async with rig() as made:
        await record(made, tmp_path)
        await eventually(lambda: made.of(RecorderProgress), timeout=3)
        (pid,) = recorder_pids(tmp_path)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: made.posts()[-1] == "/stop")
        await eventually(lambda: not made.simulator.streams)
        assert not made.client.ports.used
        stopped = await made.client.stop_stream(0)
        assert isinstance(stopped.error, RecordingError)
        assert [file.verdict for file in stopped.files] == [Verdict.TRUNCATED]
        assert made.posts() == ["/stop", "/jpeg", "/stop"]


async def test_camera_records_again_after_a_failure(tmp_path: Path) -> None:
    async with rig() as made:
        await record(made, tmp_path, seconds=0.2)
        (pid,) = recorder_pids(tmp_path)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: made.client.recorder_state(0) is RecorderState.FAILED)
        await record(made, tmp_path, seconds=0.2)
        stopped = await made.client.stop_stream(0)
        assert stopped.error is None
        assert [file.verdict for file in stopped.files] == [Verdict.COMPLETE]


async def test_stop_refused_leaves_a_complete_file(tmp_path: Path) -> None:
    async with rig(ServerFaults(refuse_stop=True)) as made:
        await record(made, tmp_path)
        stopped = await made.client.stop_stream(0)
        assert isinstance(stopped.server_error, DeviceError)
        assert stopped.files[0].verdict is Verdict.COMPLETE


async def test_exception_in_the_block_finishes_the_files(tmp_path: Path) -> None:
    async def fail() -> None:
        async with rig() as made:
            await record(made, tmp_path)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    (path,) = tmp_path.iterdir()
    assert (await verify_file(path)).verdict is Verdict.COMPLETE


async def test_gstreamer_debug_writes_a_log(tmp_path: Path) -> None:
    async with rig() as made:
        started = await made.client.start_stream_with_recording(
            made.camera, PICTURE, output_dir=tmp_path, gstreamer_debug=True
        )
        await made.client.stop_stream(0)
    log = tmp_path / started.file_pattern.replace("-%02d.mkv", ".gstreamer.log")
    assert "srtsrc" in log.read_text(errors="replace")


async def test_start_of_an_unplugged_camera(tmp_path: Path) -> None:
    async with rig() as made:
        await made.simulator.unplug(0)
        with pytest.raises(NotFoundError):
            await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)


async def test_closed_client_refuses_to_arm(tmp_path: Path) -> None:
    async with rig() as made:
        await made.client.cleanup()
        with pytest.raises(StateError, match="is closed"):
            await made.client.arm_recording(made.camera, PICTURE, output_dir=tmp_path)


async def test_local_errors_come_before_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as made:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="cannot make the directory"):
            await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path / "file")
        bare = Installation("/usr/bin/gst-launch-1.0", frozenset({"queue"}), ())
        monkeypatch.setattr(gstreamer, "_find", lambda *, refresh=False: bare)
        with pytest.raises(RecordingError, match=r"srtsrc \(Debian package gstreamer1.0-plugins-bad\)"):
            await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)
        assert made.posts() == []


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"latency": -1}, {"first_frame_timeout": 0}])
def test_invalid_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(QUICK, **wrong)


def test_file_stem() -> None:
    at = time.mktime((2024, 5, 1, 9, 8, 7, 0, 0, -1))
    assert file_stem(Camera(id=2, name="HD Pro-C920 (é)/.."), at) == "2_HD_Pro_C920__é_____20240501_090807"
    assert file_stem(Camera(id=-1, name=""), at) == "-1__20240501_090807"
    assert len(file_stem(Camera(id=1, name="ü" * 300), at).encode()) < 200
