"""Both generations of the simulated service, talked to by hand: methods, shapes, files."""

import time
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import ConnectionError, StateError, UsageError
from asynccam.recording.verify import Verdict, verify_file
from asynccam.systems.mediamtx.simulator.behavior import ServiceWays
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
from tests.support.mediamtx_service import simulator, talker
from tests.support.set_clock import SetClock

DEVICES = {1: "/dev/video0", 2: "camera0"}
both = pytest.mark.parametrize("generation", [1, 2])


@both
async def test_cameras_are_told_as_each_generation_names_them(generation: int, tmp_path: Path) -> None:
    async with simulator(generation, directory=tmp_path) as service, talker(service, "viewer") as one:
        assert await one.ask("ping") == "pong"
        told = await one.ask("get_camera_list")
        assert (told["total"], told["connected"]) == (2, 2)
        first = told["cameras"][0]
        assert first["device"] == DEVICES[generation]
        assert first["status"] == "CONNECTED"
        assert first["streams"]["rtsp"] == "rtsp://127.0.0.1:8554/camera0"
        assert set(first) == {"device", "status", "name", "resolution", "fps", "streams"}
        status = await one.ask("get_camera_status", device=DEVICES[generation])
        assert status["metrics"]["readers"] == 0
        assert status["capabilities"]["resolutions"] == ["320x180"]
        capable = await one.ask("get_camera_capabilities", device=DEVICES[generation])
        assert capable["formats"] == ["YUYV", "MJPEG"]
        assert [stream["name"] for stream in await one.ask("get_streams")] == ["camera0", "camera1"]


@both
async def test_recording_is_made_listed_and_deleted(generation: int, tmp_path: Path) -> None:
    device = DEVICES[generation]
    async with simulator(generation, directory=tmp_path) as service, talker(service, "operator") as one:
        started = await one.ask("start_recording", device=device)
        assert started["status"] == "STARTED"
        assert started["filename"].startswith("camera0_")
        stopped = await one.ask("stop_recording", device=device)
        assert stopped["status"] == "STOPPED"
        assert stopped["filename"] == started["filename"]
        assert stopped["file_size"] == len(b"a recording")
        assert (stopped["session_id"] is None) is (generation == 1)
        name = stopped["filename"]
        listed = await one.ask("list_recordings", limit=10, offset=0)
        assert [file["filename"] for file in listed["files"]] == [name]
        assert (listed["total"], listed["limit"], listed["offset"]) == (1, 10, 0)
        assert listed["files"][0]["download_url"] == f"/files/recordings/{name}"
        assert (await one.ask("get_recording_info", filename=name))["file_size"] == len(b"a recording")
        assert (await one.ask("delete_recording", filename=name))["deleted"] is True
        gone = {1: -1005, 2: -32010}[generation]
        assert await one.code("delete_recording", filename=name) == gone
        assert await one.code("get_recording_info", filename=name) == gone
        assert (await one.ask("list_recordings"))["files"] == []
        assert not list((tmp_path / "service" / "recordings").iterdir())


@both
async def test_picture_is_taken_under_given_name(generation: int, tmp_path: Path) -> None:
    device = DEVICES[generation]
    async with simulator(generation, directory=tmp_path) as service, talker(service, "operator") as one:
        taken = await one.ask("take_snapshot", device=device, filename="mine.jpg")
        assert taken["filename"] == "mine.jpg"
        assert taken["file_size"] == len(b"a recording")
        await one.ask("take_snapshot", device=device)
        assert (await one.ask("list_snapshots"))["total"] == 2
        assert (await one.ask("get_snapshot_info", filename="mine.jpg"))["filename"] == "mine.jpg"
        assert (await one.ask("delete_snapshot", filename="mine.jpg"))["deleted"] is True
        for name in ("../mine.jpg", "a/b.jpg", "..", "", "a\nb.jpg", "\ud800.jpg", "x" * 300, 7, None):
            assert await one.code("take_snapshot", device=device, filename=name) == -32602


async def test_generation_2_lists_the_newest_first_and_bounds_pages(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path) as service, talker(service) as one:
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            await one.ask("take_snapshot", device="camera0", filename=name)
        page = await one.ask("list_snapshots", limit=2, offset=1)
        assert [file["filename"] for file in page["files"]] == ["b.jpg", "a.jpg"]
        assert page["total"] == 3
        for params in ({"limit": 1001}, {"limit": 0}, {"offset": -1}, {"limit": "2"}, {"limit": True}):
            assert await one.code("list_snapshots", **params) == -32602
    async with simulator(1, directory=tmp_path) as service, talker(service) as one:
        page = await one.ask("list_snapshots", limit=1001)
        assert [file["filename"] for file in page["files"]] == ["a.jpg", "b.jpg", "c.jpg"]


@both
async def test_service_describes_itself(generation: int, tmp_path: Path) -> None:
    async with simulator(generation, directory=tmp_path) as service, talker(service) as one:
        assert (await one.ask("get_metrics"))["active_connections"] == 1
        assert (await one.ask("get_status"))["status"] == "healthy"
        assert (await one.ask("get_server_info"))["version"] == f"{generation}.0.0"
        space = await one.ask("get_storage_info")
        assert space["total_space"] > space["available_space"] > 0


@both
async def test_retention_deletes_what_the_policy_says(generation: int, tmp_path: Path) -> None:
    async with simulator(generation, directory=tmp_path) as service, talker(service) as one:
        for name in ("a.jpg", "b.jpg"):
            await one.ask("take_snapshot", device=DEVICES[generation], filename=name)
        assert (await one.ask("cleanup_old_files"))["files_deleted"] == 0
        await one.ask("set_retention_policy", policy_type="age", max_age_days=1, enabled=True)
        assert (await one.ask("cleanup_old_files"))["files_deleted"] == 0
        room_for_one = 1.5 * len(b"a recording") / 1e9
        await one.ask("set_retention_policy", policy_type="size", max_size_gb=room_for_one, enabled=True)
        cleaned = await one.ask("cleanup_old_files")
        assert (cleaned["files_deleted"], cleaned["space_freed"]) == (1, len(b"a recording"))
        assert [file["filename"] for file in (await one.ask("list_snapshots"))["files"]] == ["b.jpg"]
        bad: list[dict[str, Any]] = [
            {"policy_type": "never", "enabled": True},
            {"policy_type": "age", "enabled": True},
            {"policy_type": "size", "max_size_gb": -1, "enabled": True},
            {"policy_type": "age", "max_age_days": 1},
        ]
        for params in bad:
            assert await one.code("set_retention_policy", **params) == -32602


@pytest.mark.parametrize("step", [3.0, -3.0, 7200.0, -7200.0, 31_536_000.0, -31_536_000.0])
async def test_retention_goes_by_time_that_went_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    clock = SetClock(monkeypatch)
    device = DEVICES[1]

    async def ask(service: MediaMTXSimulator, method: str, **params: Any) -> Any:
        async with talker(service) as one:  # signed in anew: a token ends by the time of day
            return await one.ask(method, **params)

    async def names(service: MediaMTXSimulator) -> list[str]:
        return sorted(file["filename"] for file in (await ask(service, "list_snapshots"))["files"])

    by_age = {"policy_type": "age", "max_age_days": 1 / 48, "enabled": True}
    by_size = {"policy_type": "size", "max_size_gb": 2.5 * len(b"a recording") / 1e9, "enabled": True}
    async with simulator(1, directory=tmp_path) as service:
        await ask(service, "take_snapshot", device=device, filename="old.jpg")
    async with simulator(1, directory=tmp_path) as service:
        await ask(service, "take_snapshot", device=device, filename="a.jpg")
        clock.step(step)
        await ask(service, "take_snapshot", device=device, filename="b.jpg")
        await ask(service, "set_retention_policy", **by_age)
        assert (await ask(service, "cleanup_old_files"))["files_deleted"] == 0, "all were made just now"
        await ask(service, "set_retention_policy", **by_size)
        await ask(service, "cleanup_old_files")
        assert await names(service) == ["a.jpg", "b.jpg"], "the oldest makes room"
        clock.sleep(3600)
        await ask(service, "set_retention_policy", **by_age)
        await ask(service, "cleanup_old_files")
        assert await names(service) == []


async def test_generation_2_streams(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path) as service, talker(service) as one:
        assert (await one.ask("get_stream_status", device="camera0"))["status"] == "INACTIVE"
        assert await one.code("stop_streaming", device="camera0") == -32020
        assert (await one.ask("start_streaming", device="camera0"))["status"] == "STARTED"
        assert await one.code("start_streaming", device="camera0") == -32020
        assert (await one.ask("get_stream_status", device="camera0"))["status"] == "ACTIVE"
        assert (await one.ask("get_stream_url", device="camera0"))["available"] is True
        assert (await one.ask("stop_streaming", device="camera0"))["status"] == "STOPPED"
        assert (await one.ask("get_system_status"))["available_cameras"] == ["camera0", "camera1"]


async def test_generation_2_takes_in_streams_from_elsewhere(tmp_path: Path) -> None:
    url = "rtsp://192.0.2.1:554/a"
    async with simulator(2, directory=tmp_path) as service, talker(service) as one:
        assert (await one.ask("discover_external_streams"))["total_found"] == 0
        assert (await one.ask("add_external_stream", stream_url=url, stream_name="drone"))[
            "status"
        ] == "ADDED"
        assert await one.code("add_external_stream", stream_url=url, stream_name="drone") == -32020
        assert await one.code("add_external_stream", stream_url="no address", stream_name="x") == -32602
        assert (await one.ask("get_external_streams"))["external_streams"][0]["name"] == "drone"
        assert (await one.ask("remove_external_stream", stream_url=url))["status"] == "REMOVED"
        assert await one.code("remove_external_stream", stream_url=url) == -32010
        assert (await one.ask("set_discovery_interval", scan_interval=30))["scan_interval"] == 30
        assert await one.code("set_discovery_interval", scan_interval=-1) == -32602


async def test_generation_1_does_not_have_the_methods_of_generation_2(tmp_path: Path) -> None:
    later = ["start_streaming", "get_stream_url", "get_system_status", "subscribe_events"]
    later += ["unsubscribe_events", "get_subscription_stats", "get_external_streams", "get_recording_status"]
    async with simulator(1, directory=tmp_path) as service, talker(service) as one:
        for method in later:
            assert await one.code(method) == -32601


async def test_without_a_directory_files_are_temporary_and_real(tmp_path: Path) -> None:
    async with simulator(2, directory=None, clip=None) as service, talker(service) as one:
        await one.ask("start_recording", device="camera0")
        stopped = await one.ask("stop_recording", device="camera0")
        taken = await one.ask("take_snapshot", device="camera0")
        files = service._service.store.files
        movie = files["recordings"][stopped["filename"]].path
        picture = files["snapshots"][taken["filename"]].path
        verdict = await verify_file(movie, timeout=20)
        assert verdict.verdict is Verdict.COMPLETE
        assert verdict.frames is not None
        assert verdict.frames >= 5
        content = picture.read_bytes()
        assert (content[:3], content[-2:]) == (b"\xff\xd8\xff", b"\xff\xd9")
    assert not movie.exists()
    assert not movie.parent.parent.exists()


async def test_live_recordings_are_finished_when_the_service_stops(tmp_path: Path) -> None:
    async with (
        MediaMTXSimulator(generation=2, directory=tmp_path, api_keys={"k": "admin"}, live=True) as service,
        talker(service, None) as one,
    ):
        await one.ask("authenticate", auth_token="k", auth_type="api_key")
        started = await one.ask("start_recording", device="camera0")
    verdict = await verify_file(tmp_path / "recordings" / started["filename"], timeout=20)
    assert verdict.verdict is Verdict.COMPLETE


async def test_invalid_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="generation must be 1 or 2"):
        MediaMTXSimulator(generation=3)
    with pytest.raises(UsageError, match="ways of generation 1"):
        MediaMTXSimulator(generation=2, ways=ServiceWays.of(1))
    with pytest.raises(UsageError, match="not guest"):
        MediaMTXSimulator(api_keys={"k": "guest"})
    idle = MediaMTXSimulator(directory=tmp_path)
    with pytest.raises(UsageError, match="not guest"):
        idle.token("guest")
    with pytest.raises(StateError, match="never started"):
        _ = idle.port
    await idle.stop()  # harmless
    async with idle:
        with pytest.raises(StateError, match="started already"):
            await idle.start()
        with pytest.raises(UsageError, match="there is a camera"):
            idle.add_camera(device="/dev/video0")
        with pytest.raises(UsageError, match="no camera"):
            idle.remove_camera("/dev/video9")
        with pytest.raises(ConnectionError, match="cannot listen"):
            async with MediaMTXSimulator(port=idle.port):
                pass
        with pytest.raises(StateError, match="enter it first"):
            await MediaMTXSimulator().start()


@pytest.mark.parametrize("step", [3.0, -3.0, 7200.0, -7200.0, -31_536_000.0])
async def test_recording_has_its_real_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    clock = SetClock(monkeypatch)
    async with simulator(1, directory=tmp_path) as service, talker(service) as one:
        began = time.monotonic()
        await one.ask("start_recording", device=DEVICES[1])
        clock.step(step)
        async with talker(service) as another:  # signed in anew: a token ends by the time of day
            told = await another.ask("stop_recording", device=DEVICES[1])
        assert 0 <= told["duration"] <= time.monotonic() - began + 1e-3
