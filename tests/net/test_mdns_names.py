"""Names below ``local.`` are found by mDNS where the system cannot."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from asynccam import Session
from asynccam.errors import ConnectionError
from asynccam.net import mdns
from asynccam.net.http import HttpClient
from asynccam.net.mqtt import MqttBroker, MqttConnection, stay_connected
from asynccam.net.tcp import connect_tcp, host_for_others
from asynccam.systems.snapshot import SnapshotClient
from tests.support.broker import broker as running_broker
from tests.support.mdns_packets import LOOPBACK, address, answer, labels, shout, unique_service_type


@pytest.fixture(autouse=True)
def only_mdns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose resolver knows no name, with mDNS on the loopback interface."""

    async def unknown(self: Any, host: Any, port: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", unknown)
    monkeypatch.setattr(mdns, "ALL_INTERFACES", LOOPBACK)


@pytest.mark.parametrize("dot", ["", "."])
async def test_resolve_local_ignores_unusable_addresses(dot: str) -> None:
    name = f"{unique_service_type().partition('.')[0].strip('_')}.local"

    async def tell() -> None:
        while True:
            shout(answer(address(labels(name), "127.0.0.1"), address(labels(name), "fe80::1")))
            await asyncio.sleep(0.05)  # the pace of the announcements

    with socket.create_server(("127.0.0.1", 0)) as server:
        telling = asyncio.create_task(tell())
        try:
            with await connect_tcp(name + dot, server.getsockname()[1], timeout=10) as sock:
                assert sock.getpeername() == server.getsockname()
        finally:
            telling.cancel()


@pytest.mark.parametrize("dot", ["", "."])
async def test_local_name_over_http_and_for_other_programs(dot: str) -> None:
    name = f"{unique_service_type().partition('.')[0].strip('_')}.local"

    async def tell() -> None:
        while True:
            shout(answer(address(labels(name), "fe80::1"), address(labels(name), "127.0.0.1")))
            await asyncio.sleep(0.05)  # the pace of the announcements

    async def hello(request: web.Request) -> web.Response:
        return web.json_response([{"name": "door"}])

    app = web.Application()
    app.router.add_get("/api/cameras", hello)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    telling = asyncio.create_task(tell())
    try:
        assert await host_for_others(name + dot) == "127.0.0.1"
        async with SnapshotClient(f"http://{name}{dot}:{port}") as client:
            assert [one.name for one in await client.get_cameras()] == ["door"]
        async with Session() as session:
            camera = await session.connect(f"snapshot://{name}{dot}:{port}/door", timeout=20.0)
            assert camera.info.name == "door"
    finally:
        telling.cancel()
        await runner.cleanup()


async def test_local_name_of_a_broker(tmp_path: Path) -> None:
    name = f"{unique_service_type().partition('.')[0].strip('_')}.local"

    async def tell() -> None:
        while True:
            shout(answer(address(labels(name), "127.0.0.1")))
            await asyncio.sleep(0.05)  # the pace of the announcements

    async def work(client: MqttConnection) -> None:
        await client.publish("a", b"x")

    async with running_broker(tmp_path) as broker:
        telling = asyncio.create_task(tell())
        try:
            async with asyncio.timeout(30):
                await stay_connected(MqttBroker(name, broker.port), work)
        finally:
            telling.cancel()


async def test_local_name_unknown_over_http() -> None:
    async with HttpClient() as http:
        with pytest.raises(ConnectionError, match="cannot reach"):
            async with http.request("GET", "http://nobody-there.local:80/", timeout=15.0):
                pass


@pytest.mark.own_loop
@pytest.mark.parametrize("name", ["nobody-there.local", "cam.lan", "..local"])
async def test_local_name_unknown_is_the_systems_error(name: str) -> None:
    with pytest.raises(ConnectionError, match="not known"):
        await connect_tcp(name, 80, timeout=10)
