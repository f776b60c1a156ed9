"""What was seen on real servers, and the simulated one does too: failures, timers, order, notifications."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from asynccam.systems.mediamtx.simulator.behavior import LISTING_FAULT
from tests.support.mediamtx_service import simulator, talker
from tests.support.waiting import eventually

VIDEO = "/dev/video0"
both = pytest.mark.parametrize("generation", [1, 2])


async def test_generation_1_answers_failures_as_it_was_seen_to(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path) as service, talker(service) as one:
        away = await one.ask("get_camera_status", device="/dev/video9")
        assert away["status"] == "DISCONNECTED"
        assert await one.code("start_recording", device="/dev/video9") == -1003
        assert await one.code("stop_recording", device=VIDEO) == -1003
        assert await one.code("start_recording", device=VIDEO, format="avi") == -1003
        await one.ask("start_recording", device=VIDEO)
        assert await one.code("start_recording", device=VIDEO) == -1006
        service.cameras["/dev/video1"].fails = True
        failed = await one.ask("take_snapshot", device="/dev/video1")
        assert (failed["status"], failed["file_size"]) == ("FAILED", 0)
        assert await one.code("start_recording", device="/dev/video1") == -1003


@pytest.mark.parametrize(("codes", "numbers"), [("documented", (-1000, -1002, -1010, -1001)),
                                                ("older", (-32004, -32005, -32007, -32008))])  # fmt: skip
async def test_other_releases_of_generation_1_have_other_numbers(
    codes: str, numbers: tuple[int, ...], tmp_path: Path
) -> None:
    async with simulator(1, directory=tmp_path, codes=codes) as service, talker(service) as one:
        found = [await one.code("start_recording", device="/dev/video9")]
        await one.ask("start_recording", device=VIDEO)
        found.append(await one.code("start_recording", device=VIDEO))
        service.faults.storage_full = True
        found.append(await one.code("start_recording", device="/dev/video1"))
        found.append(await one.code("start_recording", device="/dev/video1", format="avi"))
        assert tuple(found) == numbers


async def test_generation_2_answers_failures_with_details(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path) as service, talker(service) as one:
        assert await one.code("get_camera_status", device=VIDEO) == -32602
        missing = await one.refused("get_camera_status", device="camera9")
        assert (missing["code"], missing["data"]) == (-32010, {"resource": "camera", "id": "camera9"})
        assert await one.code("stop_recording", device="camera0") == -32020
        await one.ask("start_recording", device="camera0", format="fmp4")
        assert await one.code("start_recording", device="camera0") == -32020
        assert await one.code("start_recording", device="camera1", format="avi") == -32030
        assert await one.code("start_recording", device="camera1", duration="long") == -32602
        assert await one.code("start_recording", device="camera1", duration=0) == -32602
        service.cameras["camera1"].fails = True
        assert await one.code("start_recording", device="camera1") == -32050
        assert await one.code("take_snapshot", device="camera1") == -32050


@both
async def test_invalid_request_is_answered_without_id(generation: int) -> None:
    not_an_object = {1: -32603, 2: -32600}[generation]
    cases: list[tuple[str, int, Any]] = [
        ("{", -32700, None),
        ("[" * 100_000, -32700, None),
        ("[]", not_an_object, None),
        ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', not_an_object, None),
        ("7", not_an_object, None),
        ('{"id": 5, "method": "ping"}', -32600, 5),
        ('{"jsonrpc": "2.0", "id": "a", "method": ["ping"]}', -32600, "a"),
        ('{"jsonrpc": "2.0", "id": "a", "method": "ping", "params": [1]}', -32602, "a"),
    ]
    async with simulator(generation, clip=None) as service, talker(service) as one:
        for text, code, request in cases:
            await one.socket.send_str(text)
            answer = await one.receive()
            assert (answer["error"]["code"], answer["id"]) == (code, request), text
        await one.socket.send_bytes(b'{"jsonrpc": "2.0", "id": 9, "method": "ping", "params": null}')
        assert (await one.receive())["result"] == "pong"
        await one.socket.send_str('{"jsonrpc": "2.0", "method": "ping"}')  # a notification has no answer
        assert await one.ask("ping") == "pong"


async def test_generation_1_serves_one_call_after_the_other(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path, stream_wait=0.4) as service, talker(service) as one:
        service.cameras[VIDEO].stream_ready.clear()
        start = await one.send("start_recording", device=VIDEO)
        ping = await one.send("ping")
        assert (await one.receive())["id"] == start
        assert (await one.receive())["id"] == ping


async def test_generation_2_serves_calls_side_by_side(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path) as service, talker(service) as one:
        service.cameras["camera0"].stream_ready.clear()
        start = await one.send("start_recording", device="camera0")
        assert await one.ask("ping") == "pong"
        assert await one.code("start_recording", device="camera0") == -32020  # one is under way
        service.cameras["camera0"].stream_ready.set()
        assert (await one.answer_to(start))["result"]["status"] == "STARTED"


async def test_start_waits_for_stream_up_to_limit(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path, stream_wait=0.05) as service, talker(service) as one:
        service.cameras["camera0"].stream_ready.clear()
        assert await one.code("start_recording", device="camera0") == -32050


async def test_generation_1_gets_stuck_after_a_timed_recording(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path) as service, talker(service) as one:
        await one.ask("start_recording", device=VIDEO, duration=0.05)
        one.notices.clear()
        stopped = await one.notice()
        assert stopped["params"]["status"] == "STOPPED"
        assert await one.code("start_recording", device=VIDEO) == -1006
        assert await one.code("stop_recording", device=VIDEO) == -1003
        assert (await one.ask("list_recordings"))["total"] == 1


async def test_timer_of_generation_1_ends_later_recording(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path) as service, talker(service) as one:
        await one.ask("start_recording", device=VIDEO, duration=0.3)
        await one.ask("stop_recording", device=VIDEO)
        second = await one.ask("start_recording", device=VIDEO)
        one.notices.clear()
        ended = await one.notice()
        assert (ended["params"]["status"], ended["params"]["filename"]) == ("STOPPED", second["filename"])


async def test_timed_recording_of_generation_2_frees_camera(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path) as service, talker(service) as one:
        await one.ask("subscribe_events", topics=["recording.stop"])
        first = await one.ask("start_recording", device="camera0", duration=0.05)
        ended = await one.notice()
        assert ended["method"] == "recording.stop"
        assert ended["params"]["filename"] == first["filename"]
        await one.ask("start_recording", device="camera0", duration=0.2)
        await one.ask("stop_recording", device="camera0")
        await one.ask("start_recording", device="camera0")
        assert not service.cameras["camera0"].timers  # no timer ends it


async def test_generation_1_notifies_before_it_answers_and_everybody(tmp_path: Path) -> None:
    async with (
        simulator(1, directory=tmp_path) as service,
        talker(service) as one,
        talker(service, None) as stranger,
    ):
        await one.ask("start_recording", device=VIDEO)
        started = one.notices.pop()
        assert started["method"] == "recording_status_update"
        assert set(started["params"]) == {"device", "status", "filename", "duration"}
        stopped = await one.ask("stop_recording", device=VIDEO)
        assert one.notices.pop()["params"]["status"] == "STOPPED"
        assert [(await stranger.notice())["params"]["status"] for _ in range(2)] == ["STARTED", "STOPPED"]
        assert stopped["session_id"] is None


async def test_generation_2_notifies_who_subscribed_and_after_the_answer(tmp_path: Path) -> None:
    async with (
        simulator(2, directory=tmp_path) as service,
        talker(service) as one,
        talker(service) as other,
    ):
        every = ["recording.start", "recording.stop", "snapshot.taken"]
        assert (await one.ask("subscribe_events", topics=every))["subscribed"] is True
        filters = {"device": "camera1"}
        await other.ask("subscribe_events", topics=["recording.start"], filters=filters)
        stats = await one.ask("get_subscription_stats")
        assert stats["client_topics"] == every
        assert stats["global_stats"]["active_clients"] == 2
        for device in ("camera0", "camera1"):
            await one.ask("start_recording", device=device)
            assert not one.notices
            assert (await one.notice())["params"]["device"] == device
        assert (await other.notice())["params"]["device"] == "camera1"
        await one.ask("unsubscribe_events", topics=["recording.stop"])
        await one.ask("stop_recording", device="camera0")
        await one.ask("take_snapshot", device="camera0", filename="a.jpg")
        told = await one.notice()
        assert (told["method"], told["params"]["filename"]) == ("snapshot.taken", "a.jpg")
        assert await one.code("subscribe_events", topics=["weather"]) == -32602
        assert await one.code("subscribe_events", topics=[]) == -32602
        assert await one.code("subscribe_events", topics=every, filters=[1]) == -32602
        assert (await one.ask("unsubscribe_events"))["topics"] == ["recording.start", "snapshot.taken"]


@pytest.mark.parametrize(
    ("generation", "ways", "method"),
    [
        (1, {}, "camera_status_update"),
        (2, {}, "camera.{}connected"),
        (2, {"notices": "wrapped"}, "event"),
        (2, {"notices": "classic"}, "camera_status_update"),
    ],
)
async def test_cameras_come_and_go(
    generation: int, ways: dict[str, Any], method: str, tmp_path: Path
) -> None:
    async with simulator(generation, directory=tmp_path, **ways) as service, talker(service) as one:
        if generation == 2:
            await one.ask("subscribe_events", topics=["camera.connected", "camera.disconnected"])
        added = service.add_camera("Side door")
        come = await one.notice()
        service.remove_camera(added.device)
        gone = await one.notice()
        assert (come["method"], gone["method"]) == (method.format(""), method.format("dis"))
        params = [notice["params"] for notice in (come, gone)]
        if method == "event":
            assert [wrapped["topic"] for wrapped in params] == ["camera.connected", "camera.disconnected"]
            params = [wrapped["data"] for wrapped in params]
        assert [told["status"] for told in params] == ["CONNECTED", "DISCONNECTED"]
        assert params[0]["device"] == {1: "/dev/video2", 2: "camera2"}[generation]
        assert params[0]["name"] == "Side door"
        assert (await one.ask("get_camera_list"))["total"] == 2


async def test_removed_camera_ends_its_recording(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path) as service, talker(service) as one:
        await one.ask("subscribe_events", topics=["recording.error"])
        await one.ask("start_recording", device="camera0")
        service.remove_camera("camera0")
        told = await one.notice()
        assert (told["method"], told["params"]["status"]) == ("recording.error", "ERROR")
        assert (await one.ask("list_recordings"))["total"] == 1


async def test_too_many_connections_are_closed_with_1013(tmp_path: Path) -> None:
    async with simulator(1, clip=None, max_connections=1) as service:
        async with talker(service), talker(service, None) as second:
            assert await second.closed() == 1013
        await eventually(lambda: service.connections == 0)
        async with talker(service) as third:
            assert await third.ask("ping") == "pong"


async def test_other_paths_are_closed_with_1008_by_generation_1() -> None:
    async with aiohttp.ClientSession() as session:
        async with simulator(1, clip=None) as service, session.ws_connect(service.url + "x") as socket:
            assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 1008
        async with simulator(2, clip=None) as service:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                await session.ws_connect(service.url + "x")
            assert refusal.value.status == 404


async def test_frame_over_one_mebibyte_closes_with_1009() -> None:
    async with simulator(1, clip=None) as service, talker(service) as one:
        await one.send("ping", padding="x" * 1_000_000)
        assert (await one.receive())["result"] == "pong"
        await one.send("ping", padding="x" * 1_048_576)
        assert await one.closed() == 1009


async def test_times_and_readers_take_other_shapes(tmp_path: Path) -> None:
    async with (
        simulator(1, directory=tmp_path, number_times=True, reader_list=True) as service,
        talker(service) as one,
    ):
        service.cameras[VIDEO].readers = 2
        assert len((await one.ask("get_camera_status", device=VIDEO))["metrics"]["readers"]) == 2
        assert isinstance((await one.ask("start_recording", device=VIDEO))["start_time"], float)
    async with simulator(2, directory=tmp_path) as service, talker(service) as one:
        assert isinstance((await one.ask("start_recording", device="camera0"))["start_time"], str)


async def test_listing_fails_always_on_one_release(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path) as service, talker(service) as one:
        service.faults.inner_errors = LISTING_FAULT
        for method in sorted(LISTING_FAULT):
            assert await one.code(method, filename="a") == -32603
        assert (await one.ask("list_snapshots"))["total"] == 0


async def test_shutdown_notifies_subscribers_and_closes_with_1001() -> None:
    async with simulator(2, clip=None) as service, talker(service) as one:
        await one.ask("subscribe_events", topics=["system.shutdown"])
        async with asyncio.TaskGroup() as group:
            group.create_task(service.stop())
            assert (await one.notice())["method"] == "system.shutdown"
            message = await one.socket.receive(timeout=5)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        assert service.connections == 0
