"""Cameras that come and go, told by a server written by hand."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asynccam.errors import ConnectionError, RemoteProtocolError, TimeoutError
from asynccam.model.events import CameraChanged, CameraFound, CameraLost, Event, MissedEvents
from asynccam.net.reconnecting import ConnectionState
from asynccam.runtime.retry import Backoff
from asynccam.systems.thorvision import (
    CameraAdded,
    CameraRemoved,
    ConnectionStateChanged,
    ServerNotice,
    ThorVisionClient,
)
from asynccam.wall_clock import unix_now
from tests.support.set_clock import SetClock
from tests.support.waiting import eventually
from tests.systems.thorvision.server import ANOTHER, CAMERA, Asked, RawServer, cameras, in_turn, ok

ADDED = '{"event_type": "Added", "camera": {"id": 7, "name": "New", "caps": [], "device_id": "usb-7"}}'
REMOVED = '{"event_type": "Removed", "camera": {"id": 7}}'
SOON = Backoff(initial=0.02, maximum=0.05, immediate=True)


class Heard(list[Event]):
    def of(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self if isinstance(event, kinds)]

    def names(self) -> list[str]:
        """Return what became of cameras: the kind of event and the last part of the camera's id."""
        events = [one for one in self if isinstance(one, CameraFound | CameraLost | CameraChanged)]
        return [f"{type(event).__name__} {event.camera.rpartition('/')[2]}" for event in events]


@asynccontextmanager
async def watching(server: RawServer) -> AsyncIterator[tuple[ThorVisionClient, Heard]]:
    heard = Heard()
    async with ThorVisionClient("127.0.0.1", server.port, backoff=SOON, timeout=2.0) as client:
        client.events.subscribe(heard.append)
        await client.watch()
        yield client, heard


async def test_cameras_added_and_removed() -> None:
    async with RawServer({"/cameras": cameras(CAMERA)}) as server, watching(server) as (client, heard):
        await eventually(lambda: heard.names() == ["CameraAdded usb-1"])
        server.tell(ADDED)
        await eventually(lambda: len(client.cameras) == 2)
        server.tell(REMOVED)
        await eventually(lambda: len(client.cameras) == 1)
        await eventually(lambda: heard.names()[1:] == ["CameraAdded usb-7", "CameraRemoved usb-7"])
        added, removed = heard.of(CameraAdded)[1], heard.of(CameraRemoved)[0]
        assert isinstance(added, CameraAdded)
        assert isinstance(removed, CameraRemoved)
        assert (added.device.id, added.info.name, added.info.serial) == (7, "New", "usb-7")
        assert added.info.extra["server_id"] == 7
        assert removed.device == added.device
        await client.watch()  # a second time changes nothing
        assert len(server.sockets) == 1


async def test_repeated_and_unknown_messages() -> None:
    async with RawServer({"/cameras": cameras(CAMERA)}) as server, watching(server) as (_, heard):
        server.tell(ADDED, ADDED, "not json", "[]", '{"event_type": "Added", "camera": {"name": "no id"}}')
        server.tell(
            '{"event_type": "Warmed", "camera": {"id": 7}}', '{"event_type": "Removed", "camera": {"id": 99}}'
        )
        server.tell(b"\x00", REMOVED, REMOVED)
        await eventually(lambda: len(heard.names()) == 3)
        await asyncio.sleep(0)
        assert heard.names() == ["CameraAdded usb-1", "CameraAdded usb-7", "CameraRemoved usb-7"]
        assert [one.event_type for one in heard if isinstance(one, ServerNotice)] == ["Warmed"]


async def test_id_reused_by_another_camera() -> None:
    async with RawServer({"/cameras": cameras(CAMERA)}) as server, watching(server) as (_, heard):
        server.tell('{"event_type": "Added", "camera": {"id": 3, "name": "Other", "device_id": "usb-9"}}')
        await eventually(lambda: heard.names()[1:] == ["CameraRemoved usb-1", "CameraAdded usb-9"])
        server.tell('{"event_type": "Added", "camera": {"id": 3, "name": "Renamed", "device_id": "usb-9"}}')
        await eventually(lambda: heard.names()[3:] == ["CameraChanged usb-9"])


@pytest.mark.parametrize("step", [0.0, 3.0, -7200.0, 7200.0, -31_536_000.0])
@pytest.mark.parametrize("slept", [0.0, 3600.0])
async def test_missed_events_times_after_a_clock_step(
    monkeypatch: pytest.MonkeyPatch, slept: float, step: float
) -> None:
    """The clock is set, and the computer sleeps, once the loss was noticed."""
    clock = SetClock(monkeypatch)
    began = time.monotonic()
    async with RawServer({"/cameras": cameras(CAMERA)}) as server, watching(server) as (client, heard):
        await eventually(lambda: heard.names() == ["CameraAdded usb-1"])

        def set_clock(event: ConnectionStateChanged) -> None:
            if event.state is ConnectionState.LOST:
                clock.sleep(slept)
                clock.step(step)

        client.events.subscribe(set_clock, ConnectionStateChanged)
        server.hang_up()
        (gap,) = await eventually(lambda: heard.of(MissedEvents))
        assert isinstance(gap, MissedEvents)
        lasted = time.monotonic() - began
        assert slept - 1e-3 <= gap.ended - gap.began <= slept + lasted
        assert clock.true_time() + slept + step - lasted <= gap.ended <= unix_now()


async def test_missed_events_after_a_lost_connection() -> None:
    moved = CAMERA.replace(b'"id": 3', b'"id": 5')
    lists = in_turn(
        [cameras(CAMERA, ANOTHER), cameras(CAMERA, ANOTHER), cameras(moved, b'{"id": 8, "name": "Late"}')]
    )
    async with RawServer({"/cameras": lists}) as server, watching(server) as (client, heard):
        await eventually(lambda: len(heard.names()) == 2)
        server.hang_up()
        (gap,) = await eventually(lambda: heard.of(MissedEvents))
        assert isinstance(gap, MissedEvents)
        address = client.address
        assert gap.camera == address
        assert gap.appeared == (f"{address}/Late%3A8",)
        assert gap.vanished == (f"{address}/Test%3A-1",)
        assert gap.changed == (f"{address}/usb-1",)
        assert gap.began <= gap.ended
        await eventually(
            lambda: (
                heard.names()[2:]
                == ["CameraRemoved Test%3A-1", "CameraChanged usb-1", "CameraAdded Late%3A8"]
            )
        )
        states = [one.state for one in heard if isinstance(one, ConnectionStateChanged)]
        assert states[-5:] == [
            ConnectionState.LOST,
            ConnectionState.WAITING,
            ConnectionState.CONNECTING,
            ConnectionState.AUTHENTICATING,
            ConnectionState.READY,
        ]


async def test_messages_during_the_fetch_are_handled_after_it() -> None:
    """The list was made before the camera went: taking the event first would bring it back for ever."""
    stale = b'{"id": 7, "name": "New", "caps": [], "device_id": "usb-7"}'
    fetched = asyncio.Event()
    calls = 0

    async def slow(_: Asked) -> bytes:
        nonlocal calls
        calls += 1
        if calls > 1:
            await fetched.wait()
        return cameras(CAMERA, stale)

    async with RawServer({"/cameras": slow}, greeting=[REMOVED.encode()]) as server:

        async def release() -> None:
            await eventually(lambda: calls == 2)
            fetched.set()

        releasing = asyncio.create_task(release())
        async with watching(server) as (client, heard):
            await releasing
            await eventually(lambda: "CameraRemoved usb-7" in heard.names())
            assert [camera.key for camera in client.cameras] == ["usb-1"]


async def test_flood_before_the_list_ends_the_connection() -> None:
    async def never(_: Asked) -> bytes:
        await asyncio.sleep(60)
        return b""

    lists: list[bytes] = [cameras(CAMERA)]

    async def once(asked: Asked) -> bytes:
        return lists.pop() if lists else await never(asked)

    async with RawServer({"/cameras": once}, greeting=[REMOVED.encode()] * 1001) as server:
        async with ThorVisionClient("127.0.0.1", server.port, timeout=0.3) as client:
            with pytest.raises(TimeoutError):
                await client.watch()
        assert server.hung_up == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ok(), RemoteProtocolError),
        (ok(status="500 No"), ConnectionError),
        (ok(status="404 No"), RemoteProtocolError),
    ],
)
async def test_watch_on_a_server_without_events_raises(answer: bytes, error: type[Exception]) -> None:
    server = RawServer({"/cameras": cameras(), "/ws": answer})
    async with server, ThorVisionClient("127.0.0.1", server.port) as client:
        with pytest.raises(error):
            await client.watch()
        assert client.cameras == ()
        assert await client.list_cameras() == []


async def test_watch_reconnects_after_a_restart() -> None:
    async with RawServer({"/cameras": cameras(CAMERA)}) as server:
        port = server.port
        async with watching(server) as (_, heard):
            server.hang_up()
            await server.__aexit__(None, None, None)
            await eventually(lambda: heard.of(ConnectionStateChanged)[-1].state is ConnectionState.WAITING)  # type: ignore[attr-defined]
            async with RawServer({"/cameras": cameras(CAMERA, ANOTHER)}, port=port):
                await eventually(lambda: heard.of(MissedEvents))
                await eventually(lambda: heard.names()[-1] == "CameraAdded Test%3A-1")
