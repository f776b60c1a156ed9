"""Event stream: order, replay, heartbeat and slow clients."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from asynccam.systems.snapshot.server import api_v1
from asynccam.systems.snapshot.server.events import ServiceTrouble
from tests.support.waiting import eventually
from tests.systems.snapshot.web.rig import serving
from tests.systems.snapshot.web.streams import stream


async def test_stream_follows_a_capture(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig, stream(rig) as told:
        first = await told.next()
        assert first.kind == "state"
        assert [one["name"] for one in first.data["cameras"]] == ["left"]
        await rig.json("/api/snapshot/left")
        assert (await told.until("capture", phase="capturing")).data["camera"] == "left"
        done = await told.until("capture", phase="idle")
        page = await rig.json("/api/v1/snapshots")
        assert done.data["snapshot"].items() >= page["items"][0].items()
        await rig.json(f"/api/v1/snapshots/{done.data['snapshot']['filename']}", "DELETE", status=204)
        deleted = await told.until("deleted")
        assert deleted.data["filename"] == done.data["snapshot"]["filename"]
        numbers = [int(one.id.rpartition("-")[2]) for one in (first, done, deleted) if one.id]
        assert numbers == sorted(numbers)


async def test_stream_reports_failure_and_settings(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, stream(rig) as told:
        await rig.add("broken", "fail")
        await told.until("state")
        await rig.json("/api/snapshot/broken", status=500)
        failed = await told.until("capture", phase="failed")
        assert failed.data["error"]
        rig.config.write_text('{\n"cameras": [\n{"name": ""}\n]}')
        while not (state := await told.until("state")).data["problems"]:
            pass
        assert state.data["problems"][0]["line"] == 3
        rig.service.events.emit(ServiceTrouble(service="streamer", error="it will not start"))
        assert (await told.until("trouble")).data == {"service": "streamer", "error": "it will not start"}


async def test_stream_replays_missed_events(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        async with stream(rig) as told:
            await told.next()
            await rig.json("/api/snapshot/left")
            seen = await told.until("capture", phase="idle")
        await rig.json("/api/snapshot/left")
        async with stream(rig, seen.id) as told:
            missed = await told.next()
            assert missed.kind == "capture"
            assert missed.id is not None
            assert seen.id is not None
            assert int(missed.id.rpartition("-")[2]) == int(seen.id.rpartition("-")[2]) + 1
            await told.until("capture", phase="idle")


@pytest.mark.parametrize("last", ["", "nonsense", "0000-1", "-", "²-1", "x" * 500])
async def test_stream_of_unknown_id_begins_with_state(last: str, tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig, stream(rig, last) as told:
        assert (await told.next()).kind == "state"


async def test_stream_of_dropped_event_begins_with_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_v1, "KEPT", 2)
    async with serving(tmp_path, ["left"]) as rig:
        async with stream(rig) as told:
            first = await told.next()
        for _ in range(4):
            await rig.json("/api/snapshot/left")
        async with stream(rig, first.id) as told:
            assert (await told.next()).kind == "state"


async def test_stream_sends_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_v1, "HEARTBEAT", 0.05)
    async with serving(tmp_path) as rig, stream(rig) as told:
        await told.next()
        assert await told.lines() == [": still here"]


async def test_stream_of_slow_client_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig, stream(rig) as told:
        await told.next()
        loop = asyncio.get_running_loop()
        with socket.socket() as deaf:
            deaf.setblocking(False)
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(deaf, ("127.0.0.1", rig.port))
            await loop.sock_sendall(deaf, b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await eventually(lambda: rig.web.metrics.value("event_streams") == 2, 20)
            words = "x" * 60_000
            number = 0
            while rig.web.metrics.value("event_streams_let_go") < 1:
                rig.service.events.emit(ServiceTrouble(service=str(number), error=words))
                # The one that reads has each of them, in order, all the while.
                assert (await told.until("trouble")).data["service"] == str(number)
                number += 1
        await eventually(lambda: rig.web.metrics.value("event_streams") == 1, 20)


async def test_stream_ends_with_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"event: state"), 20)
    async with asyncio.timeout(20):
        await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_stream_count_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_v1, "MAX_STREAMS", 1)
    async with serving(tmp_path) as rig, stream(rig) as told:
        await told.next()
        async with rig.http.get("/api/v1/events") as answer:
            assert answer.status == 503
            assert json.loads(await answer.text())["code"] == "busy"


async def test_stream_head_request_has_no_body(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        ask = b"HEAD /api/v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        head, _, body = (await rig.raw(ask)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nContent-Type: text/event-stream" in head
        assert body == b""
        assert rig.web.metrics.value("event_streams") == 0
