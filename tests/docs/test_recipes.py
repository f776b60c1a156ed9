"""The recipes: examples inside other programs, run unchanged on asyncio's loop and on uvloop's."""

import asyncio
import csv
import importlib.util
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from zeroconf.asyncio import AsyncZeroconf

from tests.support.multicam_device import running
from tests.support.waiting import eventually

uvloop = pytest.importorskip("uvloop")
uvloop.new_event_loop().close()  # opens the pipe that libuv keeps for the life of the process

ROOT = Path(__file__).parents[2]
PATIENT = 30.0
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop] | None] = {
    "asyncio": None,
    "uvloop": uvloop.new_event_loop,
}
Scenario = Callable[[Path], Coroutine[Any, Any, None]]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def fleet(directory: Path, *ports: int, poll_interval: float = 0.1) -> Path:
    cameras = "".join(f'[[camera]]\naddress = "multicam://127.0.0.1:{port}"\n' for port in ports)
    file = directory / "fleet.toml"
    text = f'[session]\ninterfaces = ["127.0.0.1"]\nmdns = false\npoll_interval = {poll_interval}\n{cameras}'
    await asyncio.to_thread(file.write_text, text)
    return file


# -- a chat bot ---------------------------------------------------------------------------------


class Telegram:
    """The part of the Bot API that the bot uses."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.updates: asyncio.Queue[str] = asyncio.Queue()
        self.offsets: list[int] = []

    async def send(self, request: web.Request) -> web.Response:
        message = await request.json()
        assert message["chat_id"] == 42
        self.said.append(message["text"])
        return web.json_response({"ok": True, "result": {}})

    async def poll(self, request: web.Request) -> web.Response:
        self.offsets.append((await request.json())["offset"])
        text = await self.updates.get()
        number = len(self.offsets)
        stranger = {"update_id": 10 * number, "message": {"chat": {"id": 7}, "text": "/record 99"}}
        ours = {"update_id": 10 * number + 1, "message": {"chat": {"id": 42}, "text": text}}
        return web.json_response({"ok": True, "result": [stranger, ours]})

    def application(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [web.post("/botT0KEN/sendMessage", self.send), web.post("/botT0KEN/getUpdates", self.poll)]
        )
        return app


async def a_bot(directory: Path) -> None:
    telegram, port = Telegram(), free_port()
    runner = web.AppRunner(telegram.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api = f"http://127.0.0.1:{runner.addresses[0][1]}"
    file = await fleet(directory, port)
    bot = asyncio.ensure_future(example("bot").main(api, "T0KEN", 42, file, directory / "takes"))
    address = f"multicam://127.0.0.1:{port}"

    def said(start: str) -> Callable[[], bool]:
        return lambda: any(text.startswith(start) for text in telegram.said)

    def said_more_than(count: int) -> Callable[[], bool]:
        return lambda: len(telegram.said) > count

    try:
        await eventually(said(f"{address}: away"), PATIENT)
        telegram.updates.put_nowait("/record 1")
        await eventually(said("a take needs cameras"), PATIENT)
        async with running(directory / "device", port=port):
            telegram.updates.put_nowait("/help")
            await eventually(said("/cameras or"), PATIENT)
            while "bench-1 is available" not in telegram.said:
                telegram.updates.put_nowait("/cameras")
                await eventually(said_more_than(len(telegram.said)), PATIENT)
            telegram.updates.put_nowait("/record 0.2")
            await eventually(said("take-"), PATIENT)
            assert next(text for text in telegram.said if text.startswith("take-")).endswith(
                "complete: 1 files"
            )
        await eventually(said("multicam://bench-1: away"), PATIENT)
        assert telegram.offsets[:2] == [0, 12]
    finally:
        bot.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bot
        await runner.cleanup()


# -- a service of a home-automation program -------------------------------------------------------


async def a_home_service(directory: Path) -> None:
    entities: dict[str, str] = {}
    port = free_port()
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
    async with aiohttp.ClientSession() as http:
        service = example("home_service").CameraService(http, zeroconf, entities.__setitem__)
        session = await service.async_setup([f"multicam://127.0.0.1:{port}"], poll_interval=0.1)
        assert session.http is http
        await eventually(lambda: entities == {f"multicam://127.0.0.1:{port}/available": "off"}, PATIENT)
        async with running(directory / "device", port=port):
            session.retry_now()
            await eventually(lambda: entities.get("multicam://bench-1/available") == "on", PATIENT)
            take = await session.take(duration=0.1, directory=directory / "takes", start_in=0.1)
            assert take.ok
            await eventually(lambda: entities["multicam://bench-1/recording"] == "off", PATIENT)
        await eventually(lambda: entities["multicam://bench-1/available"] == "off", PATIENT)
        assert entities["multicam://bench-1/name"] == "bench-1"
        await service.async_unload()
        assert not http.closed
        assert not zeroconf.zeroconf.done
        await service.async_setup([])  # as a host does that reloads
        await service.async_unload()
    await zeroconf.async_close()


# -- a web application ------------------------------------------------------------------------------


async def a_web_app(directory: Path) -> None:
    unreachable = free_port()
    async with running(directory / "device") as device:
        file = await fleet(directory, device.port, unreachable)
        runner = web.AppRunner(
            example("web_app").application(file, directory / "takes"), shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/cameras") as answer:
                cameras = await answer.json()
                assert [camera["id"] for camera in cameras["available"]] == ["multicam://bench-1"]
                assert list(cameras["unavailable"]) == [f"multicam://127.0.0.1:{unreachable}"]
            async with http.get(f"{url}/events") as stream:
                assert stream.content_type == "text/event-stream"
                async with http.post(f"{url}/take", json={"duration": 0.1, "start_in": 0.1}) as answer:
                    assert (await answer.json())["outcome"] == "incomplete"  # one camera is unavailable
                seen: list[dict[str, Any]] = []
                async with asyncio.timeout(PATIENT):
                    while not seen or seen[-1].get("phase") != "done":
                        line = await stream.content.readline()
                        if line.startswith(b"data: "):
                            seen.append(json.loads(line[6:]))
                assert {"CameraFound", "RecordingStarted", "FileArrived"} <= {
                    event["event"] for event in seen
                }
            async with http.post(f"{url}/take", json={}) as answer:
                assert answer.status == 400
        await runner.cleanup()


# -- a lab script -----------------------------------------------------------------------------------


async def a_lab(directory: Path) -> None:
    async with (
        running(directory / "one", device_id="one") as one,
        running(directory / "two", device_id="two") as two,
    ):
        file = await fleet(directory, one.port, two.port)
        triggers = [time.time() + 1.5, time.time() + 4.0]
        path = await example("lab").main(file, triggers, 0.2, directory / "takes")
    table = list(csv.DictReader((await asyncio.to_thread(path.read_text)).splitlines()))
    assert [(float(row["trigger"]), row["camera"]) for row in table] == [
        (trigger, camera) for trigger in triggers for camera in ("one", "two")
    ]
    assert len({row["take"] for row in table}) == 2
    for row in table:
        assert float(row["accepted_ms"]) > float(row["commanded_ms"])
        assert abs(float(row["clock_offset_ms"])) < 60_000


# -- a supervisor -----------------------------------------------------------------------------------


async def a_supervisor(directory: Path) -> None:
    where = directory / "notify"
    loop = asyncio.get_running_loop()
    received: list[str] = []

    class Systemd(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, address: Any) -> None:
            received.append(data.decode())

    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(where))
    manager.setblocking(False)
    transport, _ = await loop.create_datagram_endpoint(Systemd, sock=manager)
    environment = os.environ | {
        "NOTIFY_SOCKET": str(where),
        "WATCHDOG_USEC": "100000",
        "PYTHONPATH": str(ROOT),
    }
    async with running(directory / "device") as device:
        file = await fleet(directory, device.port)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", ROOT / "examples/supervisor.py", file), env=environment
        )
        try:
            await eventually(lambda: received.count("WATCHDOG=1") > 2, PATIENT)
            await eventually(lambda: "STATUS=1 cameras, 0 unavailable" in received, PATIENT)
            assert "READY=1" in received[: received.index("WATCHDOG=1")]
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENT):
                assert await process.wait() == 0
            await eventually(lambda: received[-1] == "STOPPING=1", PATIENT)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            transport.close()
            await asyncio.sleep(0)


SCENARIOS: dict[str, Scenario] = {
    "bot": a_bot,
    "home_service": a_home_service,
    "web_app": a_web_app,
    "lab": a_lab,
    "supervisor": a_supervisor,
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_example(name: str, loop: str, tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(SCENARIOS[name](tmp_path))


@pytest.mark.parametrize("name", SCENARIOS)
def test_page_shows_the_example_as_it_is(name: str) -> None:
    text = (ROOT / f"examples/{name}.py").read_text()
    code = text[text.index('"""\n\n') + 5 :].strip()
    assert code in (ROOT / "docs/recipes.md").read_text()


async def test_sd_notify_without_systemd_and_with_an_abstract_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sd_notify = example("supervisor").sd_notify
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    sd_notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "absent"))
    sd_notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        name = f"asynccam-{tmp_path.name}-{os.getpid()}"
        abstract.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        sd_notify("READY=1")
        abstract.settimeout(10)
        assert await asyncio.to_thread(abstract.recv, 100) == b"READY=1"


def test_sd_notify_does_not_wait_for_a_full_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sd_notify = example("supervisor").sd_notify
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "full"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "full"))
        for _ in range(2000):  # far more than a socket holds
            sd_notify("WATCHDOG=1")
