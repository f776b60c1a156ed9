"""Peers that send as fast as they can: deadlines hold, others have their turns, nothing is lost."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.utils import accept_key

from asynccam.errors import BusyError, ConnectionError, RemoteProtocolError, TimeoutError
from asynccam.model.events import Event
from asynccam.net.mdns import ServiceBrowser, ServiceFound
from asynccam.net.websocket import WebSocketOptions, open_websocket
from asynccam.recording.process import NOTHING_TO_FINISH, LaunchProcess
from asynccam.runtime.event_hub import EventHub
from asynccam.systems.mediamtx import CameraClient, CameraInfo, RecordingInfo
from asynccam.systems.mediamtx.events import CameraStatusUpdate
from asynccam.systems.multicam import MultiCamClient
from asynccam.systems.nanocam import MediaClient
from asynccam.systems.thorvision import ThorVisionClient
from benchmarks._flood_peer import frame, notice
from tests.support.mdns_packets import LOOPBACK, service, shout, unique_service_type
from tests.support.rpc_client import connect
from tests.support.rpc_server import RpcServer, answer, rpc_server
from tests.support.waiting import eventually

CAMERA = {"device": "/dev/video0", "status": "CONNECTED"}
BURST = 30_000


@asynccontextmanager
async def peer(kind: str) -> AsyncIterator[int]:
    """A flooding process; gives its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks._flood_peer", kind, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def turns() -> AsyncIterator[list[int]]:
    """Counts the turns another task has while the block runs."""
    count = [0]

    async def probe() -> None:
        while True:
            await asyncio.sleep(0)
            count[0] += 1

    task = asyncio.ensure_future(probe())
    try:
        yield count
    finally:
        task.cancel()


@pytest.mark.parametrize(
    "kind",
    [
        "notices",
        "short notices",
        "new cameras",
        "batches",
        "long text",
        "pings",
        "empty fragments",
        "not JSON",
    ],
)
async def test_flood_authentication_deadline_holds(kind: str) -> None:
    async with asyncio.timeout(60), peer(kind) as port, turns() as count:
        with pytest.raises((TimeoutError, ConnectionError)) as caught:
            async with CameraClient("127.0.0.1", port, timeout=1.0, max_retries=1):
                pass
    assert kind != "notices" or isinstance(caught.value, TimeoutError)
    assert count[0] >= 20


async def test_message_with_too_many_values_ends_the_connection() -> None:
    async with asyncio.timeout(60), peer("long batches") as port:
        with pytest.raises(ConnectionError, match="more than 200,000 values"):
            async with CameraClient("127.0.0.1", port, timeout=10.0, max_retries=1):
                pass


async def test_flood_other_protocols_keep_deadlines() -> None:
    async with asyncio.timeout(60), turns() as count:
        async with peer("heartbeats") as port, MultiCamClient("127.0.0.1", port, timeout=1.0) as device:
            with pytest.raises(TimeoutError):
                await device.device_status()
        async with peer("body") as port:
            with pytest.raises((RemoteProtocolError, TimeoutError)):
                async with ThorVisionClient("127.0.0.1", port, timeout=1.0):
                    pass
        async with peer("busy") as port:
            with pytest.raises((BusyError, TimeoutError)):
                async with asyncio.timeout(5), MediaClient("127.0.0.1", port) as client:
                    await client.fetch_images(1, 1)
    assert count[0] >= 20


async def test_flood_of_mdns_announcements() -> None:
    kind = unique_service_type()
    stopping = threading.Event()

    def announce_ever_more() -> None:
        number = 0
        while not stopping.is_set():
            shout(service(kind, f"flood-{number}", 1, "10.0.0.1"))
            number += 1

    flooding = asyncio.get_running_loop().run_in_executor(None, announce_ever_more)
    try:
        async with (
            asyncio.timeout(30),
            ServiceBrowser(kind, interfaces=LOOPBACK) as browser,
            turns() as count,
        ):
            assert isinstance(await anext(browser), ServiceFound)
            before = count[0]
            # Each of these has its turn although announcements come without a pause.
            await eventually(lambda: len(browser.services) > 100 and count[0] > before + 100, timeout=20)
    finally:
        stopping.set()
        await flooding


@pytest.fixture
async def server() -> AsyncIterator[RpcServer]:
    async def serve(connection: ServerConnection, request: dict[str, Any]) -> None:
        results = {"get_camera_list": {"cameras": []}, "burst": BURST}
        if request["method"] == "burst":
            connection.transport.write(notice("camera_status_update", CAMERA) * BURST)
        await connection.send(answer(request, results.get(request["method"], {})))

    async with rpc_server() as running:
        running.handler = serve
        yield running


@pytest.mark.parametrize("suspends", [False, True])
async def test_flood_burst_loses_nothing(server: RpcServer, suspends: bool) -> None:
    hub = EventHub()
    heard: list[CameraStatusUpdate] = []
    read = 0

    async def hear_later(event: CameraStatusUpdate) -> None:
        await asyncio.sleep(0)
        heard.append(event)

    async def read_all() -> None:
        nonlocal read
        with hub.stream(CameraStatusUpdate) as events:
            async for _ in events:
                read += 1

    listening = hub.subscribe(hear_later if suspends else heard.append, CameraStatusUpdate)
    reader = asyncio.ensure_future(read_all())
    async with asyncio.timeout(120), CameraClient("127.0.0.1", server.port, events=hub) as client:
        assert await client.call("burst", timeout=100) == BURST
        await eventually(lambda: (len(heard), read) == (BURST, BURST), timeout=60)
    assert (listening.dropped, hub.dropped) == (0, 0)
    await hub.aclose()
    await reader


@pytest.mark.parametrize("suspends", [False, True])
async def test_flood_of_changing_cameras_loses_nothing(server: RpcServer, suspends: bool) -> None:
    """Each notification is two or three events for who listens to all of them."""
    statuses = ("CONNECTED", "ERROR", "DISCONNECTED")
    cameras = [{"device": f"camera{n}", "status": status} for status in statuses for n in range(16)]
    recordings = [
        {"device": f"camera{n}", "status": status, "filename": "a"}
        for n in range(16)
        for status in ("STARTED", "STOPPED")
    ]
    block = b"".join(
        [notice("camera_status_update", params) for params in cameras]
        + [notice("recording_status_update", params) for params in recordings]
    )
    blocks = 1250  # 100,000 notifications

    async def serve(connection: ServerConnection, request: dict[str, Any]) -> None:
        if request["method"] == "burst":
            connection.transport.write(block * blocks)
        await connection.send(answer(request, {}))

    heard: list[str] = []
    everything = 0

    async def hear_later(info: CameraInfo | RecordingInfo) -> None:
        await asyncio.sleep(0)
        heard.append(info.device)

    def count(event: Event) -> None:
        nonlocal everything
        everything += 1

    server.handler = serve
    async with asyncio.timeout(240), CameraClient("127.0.0.1", server.port) as client:
        hear = hear_later if suspends else (lambda info: heard.append(info.device))
        client.on_camera_status_update = client.on_recording_status_update = hear
        hub = client.events
        hub.subscribe(count)
        await hub.drain()
        before, everything = hub.emitted, 0
        await client.call("burst", timeout=200)
        await eventually(lambda: len(heard) == 80 * blocks, timeout=60)
        await hub.drain()
        assert everything == hub.emitted - before >= 200_000
        assert hub.dropped == 0


async def test_flood_only_a_slow_subscriber_loses_events(server: RpcServer) -> None:
    hub = EventHub()
    heard: list[Event] = []
    stuck = asyncio.Event()

    async def hang(event: Event) -> None:
        await stuck.wait()

    good = hub.subscribe(heard.append, CameraStatusUpdate)
    bad = hub.subscribe(hang, CameraStatusUpdate)
    left = hub.stream(CameraStatusUpdate)  # nobody reads it
    async with asyncio.timeout(120), CameraClient("127.0.0.1", server.port, events=hub) as client:
        assert await client.call("burst", timeout=100) == BURST
        await eventually(lambda: len(heard) == BURST, timeout=60)
    assert (good.dropped, good.is_slow) == (0, False)
    assert bad.delivered + bad.waiting + bad.dropped == BURST
    assert left.waiting + left.dropped == BURST
    assert bad.is_slow
    assert left.is_slow
    assert bad.dropped + left.dropped == hub.dropped > 0
    await hub.aclose()


async def test_batches_long_and_short(server: RpcServer) -> None:
    async def serve(connection: ServerConnection, request: dict[str, Any]) -> None:
        for length in (1000, 1001):
            connection.transport.write(frame(b"[" + b",".join([b'{"method":"a"}'] * length) + b"]"))
        await connection.send(answer(request, "done"))

    server.handler = serve
    heard: list[str] = []
    async with connect(server.url, on_notification=lambda method, _: heard.append(method)) as client:
        assert await client.call("x") == "done"
        link = client.connection
        assert link is not None
        assert dict(link.codec.unexpected) == {"long-batch": 1}
    assert len(heard) == 1000


async def test_replies_before_the_end_of_a_connection_count(server: RpcServer) -> None:
    async def serve(connection: ServerConnection, request: dict[str, Any]) -> None:
        if request["method"] != "burst":
            await connection.send(answer(request, {}))
            return
        last = frame(answer(request, "last").encode())
        connection.transport.write(notice("camera_status_update", CAMERA) * 5_000 + last)
        connection.transport.close()

    server.handler = serve
    async with connect(server.url) as client:
        assert await client.call("burst") == "last"


async def test_process_output_is_read_before_its_end() -> None:
    lines = 0

    def take(data: bytes) -> None:
        nonlocal lines
        assert len(data) <= 1024
        lines += data.count(b"\n")

    program = "import sys; sys.stdout.write('\\n' * 2_000_000)"
    async with asyncio.timeout(60), turns() as count:
        process = await LaunchProcess.start([sys.executable, "-c", program], take)
        await process.exited
        await process.stop(NOTHING_TO_FINISH)
    assert lines == 2_000_000
    assert count[0] >= 5


async def test_pong_deadline_after_paused_reading() -> None:
    loop = asyncio.get_running_loop()
    no_room: asyncio.Future[None] | None = None
    say, asked, heard, let_pong = (asyncio.Event() for _ in range(4))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        (key,) = (line[19:] for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: "))
        words = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")
        accept = f"Sec-WebSocket-Accept: {accept_key(key.decode())}"
        writer.write("\r\n".join((*words, accept, "", "")).encode())
        await say.wait()
        writer.write(b"\x81\x01a")
        await let_pong.wait()
        writer.write(b"\x8a\x00")
        await reader.read()
        writer.close()

    def room() -> asyncio.Future[None] | None:
        if no_room is not None:
            asked.set()
        return no_room

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        place = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        socket = await open_websocket(
            place, lambda message: heard.set(), WebSocketOptions(ping_interval=None), room=room
        )
        try:
            no_room = full = loop.create_future()
            say.set()
            await asked.wait()
            socket.probe(0.2)
            await asyncio.sleep(0.4)  # while nothing is read, the time for the pong passes
            no_room = None
            full.set_result(None)
            await heard.wait()
            socket.probe(30.0)
            assert socket.is_open
            let_pong.set()
            await eventually(lambda: socket.pongs == 1)
        finally:
            await socket.aclose(timeout=0.1)
