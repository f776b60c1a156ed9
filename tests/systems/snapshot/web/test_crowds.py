"""Many clients at once: refused, queued and dropped connections."""

import asyncio
import contextlib
import os
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.support.waiting import eventually
from tests.systems.snapshot.web.rig import Rig, exchange, serving

# The whole crowd takes a minute on a busy computer. ASYNCCAM_CROWD=10000 ASYNCCAM_CROWD_SECONDS=10 calls it.
CROWD = int(os.environ.get("ASYNCCAM_CROWD", "1500"))
SECONDS = float(os.environ.get("ASYNCCAM_CROWD_SECONDS", "1"))
HEAD = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def outcomes(rig: Rig, path: bytes, count: int, at_once: int) -> Counter[str]:
    """Count requests by status; a closed connection counts as ``refused``."""
    turn = asyncio.Semaphore(at_once)

    async def one() -> str:
        async with turn:
            try:
                answer = await exchange(rig.port, HEAD % path)
            except OSError:
                return "refused"
            return answer[9:12].decode() or "refused"

    return Counter(await asyncio.gather(*(one() for _ in range(count))))


async def test_limiter_refuses_connections_beyond_the_limit(tmp_path: Path) -> None:
    async with serving(tmp_path, max_connections=3) as rig:
        held = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(3)]
        await eventually(lambda: rig.web.metrics.value("connections") == 3, 20)
        answer = await exchange(rig.port, b"")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After" in answer
        assert rig.web.metrics.value("connections_refused") == 1
        for reader, writer in held:
            writer.write(HEAD % b"/healthz")
            assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
        await eventually(lambda: rig.web.metrics.value("connections") == 0, 20)
        assert await rig.json("/healthz") == {"status": "ok"}


async def test_limiter_drops_idle_connection_for_new_one(tmp_path: Path) -> None:
    async with serving(tmp_path, max_connections=2) as rig:
        held = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b'{"status":"ok"}'), 20)
        assert (await exchange(rig.port, HEAD % b"/healthz")).startswith(b"HTTP/1.1 200 ")
        assert rig.web.metrics.value("connections_dropped") == 1
        for _, writer in held:
            writer.close()
        for _, writer in held:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTT"], ids=["nothing", "half a head"])
async def test_limiter_drops_silent_connection(sent: bytes, tmp_path: Path) -> None:
    async with serving(tmp_path, silence=0.3) as rig:
        with contextlib.suppress(ConnectionResetError):
            assert await exchange(rig.port, sent) == b""
        assert rig.web.metrics.value("connections_dropped") == 1


async def test_limiter_keeps_connection_of_long_request(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with serving(tmp_path, silence=0.1) as rig:
        await rig.add("slow", gate=str(gate))
        asking = asyncio.ensure_future(rig.json("/api/snapshot/slow"))
        quiet = asyncio.ensure_future(exchange(rig.port, b""))
        await asyncio.wait({quiet})  # the sweep has been, more than once
        quiet.exception()
        gate.touch()
        assert (await asking)["success"]


@pytest.mark.timeout(240)
async def test_limiter_survives_thousands_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, max_connections=200, max_captures=2, max_waiting=20) as rig:
        await rig.add("left")
        first, second = await asyncio.gather(
            outcomes(rig, b"/api/cameras", CROWD, 400), outcomes(rig, b"/api/snapshot/left", 300, 300)
        )
        assert first.keys() <= {"200", "503", "refused"}
        assert second.keys() <= {"200", "503", "refused"}
        assert first["200"] > 0
        assert second["200"] > 0
        await eventually(lambda: rig.service.capturing == rig.service.waiting == 0, 30)
        assert len(rig.service.store) >= second["200"]
        assert (await rig.json("/api/snapshot/left"))["success"]


async def test_middleware_refuses_requests_beyond_the_limit(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with serving(tmp_path, max_requests=1) as rig:
        await rig.add("slow", gate=str(gate))
        asking = asyncio.ensure_future(rig.json("/api/snapshot/slow"))
        await eventually(lambda: rig.service.capturing == 1, 20)
        refused = await rig.json("/api/v1/cameras", status=503)
        assert refused["code"] == "busy"
        gate.touch()
        assert (await asking)["success"]
        assert await rig.json("/healthz") == {"status": "ok"}


async def test_server_answers_five_hundred_clients(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left", "right"]) as rig:
        until = time.monotonic() + SECONDS
        answers: Counter[int] = Counter()
        connector = aiohttp.TCPConnector(limit=500)
        async with aiohttp.ClientSession(rig.url, connector=connector) as http:

            async def client(number: int) -> None:
                path = "/api/snapshot/left" if number == 0 else "/api/cameras"
                while True:
                    async with http.get(path) as answer:
                        await answer.read()
                        answers[answer.status] += 1
                    if time.monotonic() > until:
                        return

            await asyncio.gather(*map(client, range(500)))
        assert answers.keys() == {200}
        assert answers[200] >= 500
        taken = rig.web.metrics.value("captures_total", camera="left", result="done")
        assert len(rig.service.store) == taken > 0
