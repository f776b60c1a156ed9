"""Recordings and pictures: what start, stop and status make of what services answer."""

import asyncio

import pytest

from asynccam.errors import UsageError
from asynccam.systems.mediamtx import CameraServiceError, MediaMTXError
from tests.support.waiting import eventually, outlasting
from tests.systems.mediamtx.clients import connected
from tests.systems.mediamtx.peer import Gen1, Gen2, Held, error, running

STARTED_2 = (
    '"result": {"device": "camera0", "session_id": "s", "filename": "b", "status": "STARTED", "duration": 9}'
)


async def test_start_and_stop_are_typed_with_the_sdks_names() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        started = await client.start_recording("/dev/video0")
        assert (started.device_path, started.recording_id, started.status) == (
            "/dev/video0",
            "s-1",
            "STARTED",
        )
        assert started.start_time == 1736951400.0
        stopped = await client.stop_recording("/dev/video0")
        assert (stopped.recording_id, stopped.duration, stopped.file_size) == ("s-1", 3, 5)
        assert stopped.end_time == 1736951403.0


async def test_readers_may_be_a_list_or_a_number() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        status = await client.get_camera_status("/dev/video0")
        assert status.metrics is not None
        assert (status.metrics.readers, status.metrics.bytes_sent) == (2, 12)


async def test_failed_picture_raises_and_disconnected_camera_does_not() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["take_snapshot"] = lambda visitor, request: (
            '"result": {"device": "/dev/video0", "status": "FAILED", "error": "no frame", "filename": ""}'
        )
        with pytest.raises(MediaMTXError, match="no frame") as raised:
            await client.take_snapshot("/dev/video0")
        assert raised.value.data["status"] == "FAILED"
        peer.answers["get_camera_status"] = lambda visitor, request: (
            '"result": {"device": "/dev/video7", "status": "DISCONNECTED", "name": "Unknown"}'
        )
        assert (await client.get_camera_status("/dev/video7")).status == "DISCONNECTED"


async def test_snapshot_can_be_given_a_name() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        picture = await client.take_snapshot("/dev/video0", "mine.jpg")
        assert (picture.filename, picture.file_size, picture.timestamp) == ("s.jpg", 3, 1736951400.0)
        assert peer.called("take_snapshot")[0]["params"] == {"device": "/dev/video0", "filename": "mine.jpg"}


async def test_recording_status_is_known_without_the_method() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        assert (await client.get_recording_status("/dev/video0")).status == "UNKNOWN"
        await client.start_recording("/dev/video0")
        assert (await client.get_recording_status("/dev/video0")).status == "STARTED"
        await peer.tell(
            "recording_status_update",
            '{"device": "/dev/video0", "status": "STOPPED", "filename": "a.mp4", "duration": 4}',
        )
        await eventually(lambda: (known := client.recording("/dev/video0")) and known.status == "STOPPED")
        status = await client.get_recording_status("/dev/video0")
        assert (status.duration, status.session_id) == (4, "s-1")
        assert len(peer.called("get_recording_status")) == 1, "a method that is missing is asked for once"


async def test_recording_status_is_the_services_own_where_it_has_the_method() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        peer.answers["get_recording_status"] = lambda visitor, request: (
            '"result": {"status": "RECORDING", "filename": "b"}'
        )
        status = await client.get_recording_status("camera0")
        assert (status.device, status.status) == ("camera0", "RECORDING")


async def test_timed_recording_of_generation_1_is_stopped_by_the_client() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        with outlasting(0.2):
            await client.start_recording("/dev/video0", duration=0.2)
            assert peer.called("start_recording")[0]["params"] == {"device": "/dev/video0"}
            await eventually(lambda: peer.called("stop_recording"))


async def test_timed_recording_stopped_early_is_stopped_once() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        await client.start_recording("/dev/video0", duration=0.05)
        await client.stop_recording("/dev/video0")
        await asyncio.sleep(0.1)  # the timer's time
        assert len(peer.called("stop_recording")) == 1


async def test_timed_recording_stops_on_disconnect() -> None:
    async with running(Gen1()) as peer:
        async with connected(peer) as client:
            await client.start_recording("/dev/video0", duration=60)
        assert len(peer.called("stop_recording")) == 1


async def test_timed_recording_survives_lost_connection() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        await client.start_recording("/dev/video0", duration=0.1)
        await peer.stop()
        await asyncio.sleep(0.15)  # its time passes while nobody is there
        await peer.start()
        await eventually(lambda: peer.called("stop_recording"))
        assert client.generation == 1


async def test_refused_timed_stop_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["stop_recording"] = lambda visitor, request: error(-1003, "not recording")
        await client.start_recording("/dev/video0", duration=0.01)
        await eventually(lambda: "not recording" in caplog.text)


async def test_disconnect_is_not_delayed_by_an_unanswered_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asynccam.systems.mediamtx.stop_timers._FINAL_TIMEOUT", 0.1)
    held = Held('"result": {}')
    async with running(Gen1()) as peer:
        peer.answers["stop_recording"] = held
        async with connected(peer) as client:
            await client.start_recording("/dev/video0", duration=60)
        assert held.asked.is_set()
        held.let_go.set()
    assert "was not stopped" in caplog.text


async def test_timed_recording_of_generation_2_is_stopped_by_the_service() -> None:
    async with running(Gen2()) as peer:
        peer.answers["start_recording"] = lambda visitor, request: STARTED_2
        async with connected(peer) as client:
            await client.start_recording("camera0", duration=9, format="mp4")
            with pytest.raises(UsageError):
                await client.start_recording("camera0", duration=0)
        assert [request["params"] for request in peer.called("start_recording")] == [
            {"device": "camera0", "duration": 9, "format": "mp4"}
        ]
        assert not peer.called("stop_recording")


async def test_other_methods_send_what_the_service_wants_to_see() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        calls = [
            "get_camera_capabilities",
            "get_system_status",
            "get_server_info",
            "get_storage_info",
            "set_retention_policy",
            "cleanup_old_files",
            "start_streaming",
            "stop_streaming",
            "get_stream_url",
            "get_stream_status",
            "discover_external_streams",
            "add_external_stream",
            "remove_external_stream",
            "get_external_streams",
            "set_discovery_interval",
            "get_snapshot_info",
            "delete_snapshot",
        ]
        for method in calls:
            peer.answers[method] = lambda visitor, request: '"result": {"ok": true}'
        await client.get_camera_capabilities("camera0")
        await client.get_system_status()
        await client.get_server_info()
        await client.get_storage_info()
        await client.set_retention_policy("age", max_age_days=7)
        await client.cleanup_old_files()
        await client.start_streaming("camera0")
        await client.stop_streaming("camera0")
        await client.get_stream_url("camera0")
        await client.get_stream_status("camera0")
        await client.discover_external_streams(skydio_enabled=True)
        await client.add_external_stream(stream_url="rtsp://x")
        await client.remove_external_stream(stream_url="rtsp://x")
        await client.get_external_streams()
        await client.set_discovery_interval(scan_interval=30)
        await client.get_snapshot_info("s.jpg")
        await client.delete_snapshot("s.jpg")
        sent = {request["method"]: request.get("params") for request in peer.requests}
    assert set(calls) <= sent.keys()
    assert sent["set_retention_policy"] == {"policy_type": "age", "max_age_days": 7, "enabled": True}
    assert sent["get_stream_url"] == {"device": "camera0"}
    assert sent["set_discovery_interval"] == {"scan_interval": 30}
    assert sent["delete_snapshot"] == {"filename": "s.jpg"}


async def test_missing_method_is_unsupported_error() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        with pytest.raises(CameraServiceError, match="does not have this method") as raised:
            await client.get_system_status()
        assert raised.value.code == -32601
