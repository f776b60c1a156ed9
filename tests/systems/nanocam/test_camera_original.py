"""NanocamCamera against a server that dies as the maker's does: recorded from its stream, stopped early."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import BusyError, DeviceError
from asynccam.model.features import Record, RecordPlan, Snapshot, Stream
from asynccam.model.info import CameraState
from asynccam.recording import Verdict, verify_file
from asynccam.recording.rtp.port import RtpPort
from asynccam.systems.nanocam.camera import MediaPorts, NanocamCamera
from tests.support.gst import LAUNCH, free_udp_port, rtp_sender
from tests.support.nanocam_media import jpeg
from tests.support.nanocam_original_server import OriginalServer, original_server
from tests.support.waiting import eventually

JPEG = jpeg(1)


@asynccontextmanager
async def rig(**options: Any) -> AsyncIterator[tuple[OriginalServer, NanocamCamera]]:
    port = free_udp_port()
    stream = (LAUNCH, "-q", *rtp_sender(port))
    async with original_server(stream=stream, **options) as server:
        camera = NanocamCamera("127.0.0.1", server.port, ports=MediaPorts(port))
        try:
            yield server, camera
            await camera.aclose()
            assert server.died is None
        finally:
            await camera.aclose()


async def test_recording_stopped_before_its_time(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        recorder = camera.feature(Record)
        armed = await recorder.arm(RecordPlan(tmp_path, duration=60, timeout=30))
        assert server.streams == 0
        armed.release(None)
        started = await armed.accepted()
        await armed.aclose()
        assert started.first_frame_at is not None
        assert (await camera.status()).state is CameraState.RECORDING
        stopped = await recorder.stop(timeout=30)
        await eventually(lambda: not server.streaming, 30)
        assert server.died is None
        assert [one["type"] for one in server.requests()] == ["video", "reset_timer"]
        assert stopped.status == "complete"
        (file,) = stopped.files
        assert file.path is not None
        assert (await verify_file(file.path)).verdict is Verdict.COMPLETE


async def test_cancelled_start_ends_the_stream(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=30))
        armed.release(None)
        await eventually(lambda: server.streaming, 30)
        await armed.aclose()
        await eventually(lambda: not server.streaming, 30)
    assert list(tmp_path.iterdir()) == []


async def test_armed_start_sends_no_request(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=30))
        await armed.aclose()
        await eventually(lambda: server.heard, 30)
        assert server.heard == [b"GOODBYE"]


async def test_port_in_use_here(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        held = RtpPort(camera.ports.preferred)
        try:
            armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=30))
            armed.release(None)
            with pytest.raises(DeviceError, match="only, which is taken here"):
                await armed.accepted()
            await armed.aclose()
        finally:
            held.close()
        await eventually(lambda: not server.streaming, 30)


async def test_stream_of_another_client(tmp_path: Path) -> None:
    async with rig() as (server, camera):
        server.begin_stream(60)
        with pytest.raises(BusyError):
            await camera.feature(Stream).stream_urls()
        armed = await camera.feature(Record).arm(RecordPlan(tmp_path, timeout=30))
        armed.release(None)
        with pytest.raises(BusyError):
            await armed.accepted()
        await armed.aclose()
        assert server.streaming


async def test_snapshot(tmp_path: Path) -> None:
    async with rig(pictures=[("/home/media/2020-07-29 14:54:15.jpg", JPEG)]) as (_, camera):
        file = await camera.feature(Snapshot).snapshot(tmp_path)
    assert file.path.name == "2020-07-29 14+54+15.jpg"
    assert file.path.read_bytes() == JPEG
