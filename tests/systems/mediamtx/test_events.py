"""Notifications of both generations, handlers, and what is told after a gap."""

import asyncio
import logging
import time

import pytest

from asynccam.model.events import (
    CameraEvent,
    CameraFound,
    CameraLost,
    CameraStateChanged,
    Event,
    MissedEvents,
    RecordingStarted,
    RecordingStopped,
)
from asynccam.model.info import CameraState
from asynccam.net.reconnecting import ConnectionState
from asynccam.runtime.event_hub import EventHub
from asynccam.systems.mediamtx import (
    CameraInfo,
    CameraStatusUpdate,
    ConnectionStateChanged,
    RecordingInfo,
    RecordingStatusUpdate,
    ServiceNotice,
)
from asynccam.wall_clock import unix_now
from tests.support.set_clock import SetClock
from tests.support.waiting import eventually
from tests.systems.mediamtx.clients import client_of, connected, lose_and_return
from tests.systems.mediamtx.peer import Gen1, Gen2, error, running

AWAY = '"result": {"cameras": [{"device": "/dev/video1", "status": "CONNECTED", "name": "Other"}]}'


class Recorder:
    """Keeps what a hub emits."""

    def __init__(self, hub: EventHub) -> None:
        self.events: list[Event] = []
        hub.subscribe(self.events.append)

    def of(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]


async def test_sdk_handlers_may_be_sync_or_async_and_set_at_any_time() -> None:
    cameras: list[CameraInfo] = []
    recordings: list[RecordingInfo] = []

    async def on_recording(info: RecordingInfo) -> None:
        await asyncio.sleep(0)
        recordings.append(info)

    async with running(Gen1()) as peer, connected(peer) as client:
        client.on_camera_status_update = cameras.append
        client.on_recording_status_update = on_recording
        await peer.tell(
            "camera_status_update", '{"device": "/dev/video0", "status": "DISCONNECTED", "fps": 30}'
        )
        await peer.tell(
            "recording_status_update",
            '{"device": "/dev/video0", "status": "STARTED", "filename": "a.mp4", "duration": 0}',
        )
        await eventually(lambda: cameras and recordings)
    assert (cameras[0].device_path, cameras[0].status) == ("/dev/video0", "DISCONNECTED")
    assert cameras[0].name == "Camera 0", "what a notification leaves out is kept"
    assert (recordings[0].recording_id, recordings[0].status) == ("a.mp4", "STARTED")


async def test_failing_or_hanging_handler_delays_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def forever(info: CameraInfo) -> None:
        await asyncio.Event().wait()

    def broken(info: RecordingInfo) -> None:
        raise ZeroDivisionError

    async with running(Gen1()) as peer, connected(peer) as client:
        client.on_camera_status_update = forever
        client.on_recording_status_update = broken
        recorder = Recorder(client.events)
        for _ in range(3):
            await peer.tell("camera_status_update", '{"device": "/dev/video0", "status": "CONNECTED"}')
            await peer.tell("recording_status_update", '{"device": "/dev/video0", "status": "STARTED"}')
        await eventually(lambda: client.events.failures == 3)
        assert len(recorder.of(CameraStatusUpdate)) == 3
        assert await client.ping() == "pong"
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_connection_lost_handler_is_called_once_per_loss() -> None:
    losses: list[float] = []
    async with running(Gen1()) as peer, connected(peer) as client:
        client.on_connection_lost = lambda: losses.append(0)
        await lose_and_return(client, peer)
        await lose_and_return(client, peer)
        await eventually(lambda: len(losses) == 2)
    assert len(losses) == 2, "leaving on purpose is no loss"


async def test_client_disconnects_from_inside_handler() -> None:
    left = asyncio.Event()
    async with running(Gen1()) as peer:
        client = client_of(peer)
        await client.connect()

        async def leave() -> None:
            await client.disconnect()
            left.set()

        client.on_connection_lost = leave
        peer.drop()
        await asyncio.wait_for(left.wait(), 5)
        assert client.state is ConnectionState.CLOSED


async def test_recording_reported_twice_is_one_event() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        recorder = Recorder(client.events)
        await client.start_recording("/dev/video0")
        await peer.tell(
            "recording_status_update",
            '{"device": "/dev/video0", "status": "STARTED", "filename": "a.mp4", "duration": 0}',
        )
        await client.stop_recording("/dev/video0")
        await eventually(lambda: recorder.of(RecordingStopped))
        await client.ping()
        kinds = [type(event) for event in recorder.of(CameraEvent)]
        assert kinds.count(RecordingStarted) == kinds.count(RecordingStopped) == 1
        assert kinds.count(RecordingStatusUpdate) == 2
        states = [
            event.state for event in recorder.of(CameraStateChanged) if isinstance(event, CameraStateChanged)
        ]
        assert states == [CameraState.RECORDING, CameraState.READY]
        stopped = recorder.of(RecordingStopped)[0]
        assert isinstance(stopped, RecordingStopped)
        assert stopped.files == ("a.mp4",)
        assert stopped.camera == f"mediamtx://127.0.0.1:{peer.port}/%2Fdev%2Fvideo0"


@pytest.mark.parametrize("wrapped", [False, True])
async def test_topics_of_generation_2_become_the_same_events(wrapped: bool) -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        assert "camera.connected" in peer.called("subscribe_events")[0]["params"]["topics"]
        recorder = Recorder(client.events)
        for topic, data in (
            ("camera.disconnected", '{"device": "camera0"}'),
            ("camera.connected", '{"device": "camera0", "name": "Front"}'),
            ("recording.start", '{"device": "camera0", "filename": "b"}'),
            ("recording.stop", '{"device": "camera0", "filename": "b"}'),
            ("recording.error", '{"device": "camera0", "filename": "c"}'),
            ("system.health", '{"cpu": 9}'),
        ):
            if wrapped:
                await peer.tell("event", f'{{"topic": "{topic}", "data": {data}}}')
            else:
                await peer.tell(topic, data)
        await eventually(lambda: recorder.of(ServiceNotice))
        notice = recorder.of(ServiceNotice)[0]
        assert isinstance(notice, ServiceNotice)
        assert (notice.topic, notice.data) == ("system.health", {"cpu": 9})
        assert [
            type(event) for event in recorder.of(CameraFound, CameraLost, RecordingStarted, RecordingStopped)
        ] == [CameraLost, CameraFound, RecordingStarted, RecordingStopped]
        statuses = [
            event.recording.status
            for event in recorder.of(RecordingStatusUpdate)
            if isinstance(event, RecordingStatusUpdate)
        ]
        assert statuses == ["STARTED", "STOPPED", "ERROR"]


async def test_invalid_notification_is_counted_and_emitted() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        recorder = Recorder(client.events)
        await peer.tell("camera_status_update", '"nonsense"')
        await peer.tell("camera_status_update", "[1]")
        await peer.tell("recording_status_update", '{"duration": "long"}')
        await eventually(lambda: len(recorder.of(ServiceNotice)) == 3)
        assert client.bad_notifications == {"camera_status_update": 2, "recording_status_update": 1}
        assert await client.ping() == "pong"


async def test_after_a_gap_the_difference_is_told() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        recorder = Recorder(client.events)
        peer.answers["get_camera_list"] = lambda visitor, request: AWAY
        peer.drop()
        await eventually(lambda: recorder.of(MissedEvents))
        gap = recorder.of(MissedEvents)[0]
        service = f"mediamtx://127.0.0.1:{peer.port}"
        assert isinstance(gap, MissedEvents)
        assert gap.camera == service
        assert gap.appeared == (f"{service}/%2Fdev%2Fvideo1",)
        assert gap.vanished == (f"{service}/%2Fdev%2Fvideo0",)
        assert gap.began <= gap.ended
        await client.wait_until_connected(timeout=5)
        await eventually(lambda: recorder.of(CameraFound) and recorder.of(CameraLost))


@pytest.mark.parametrize("step", [0.0, 3.0, -7200.0, 7200.0, -31_536_000.0])
@pytest.mark.parametrize("slept", [0.0, 3600.0])
async def test_gap_length_survives_clock_step(
    monkeypatch: pytest.MonkeyPatch, slept: float, step: float
) -> None:
    """The clock is set, and the computer sleeps, while the connection comes back."""
    clock = SetClock(monkeypatch)
    began = time.monotonic()

    def listed(visitor: object, request: object) -> str:
        clock.sleep(slept)
        clock.step(step)
        return AWAY

    async with running(Gen1()) as peer, connected(peer) as client:
        recorder = Recorder(client.events)
        peer.answers["get_camera_list"] = listed
        await lose_and_return(client, peer)
        await eventually(lambda: recorder.of(MissedEvents))
        (gap,) = recorder.of(MissedEvents)
        assert isinstance(gap, MissedEvents)
        lasted = time.monotonic() - began
        assert slept - 1e-3 <= gap.ended - gap.began <= slept + lasted
        assert clock.true_time() + slept + step - lasted <= gap.ended <= unix_now()


async def test_recording_is_unknown_after_a_gap_until_reported() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        recorder = Recorder(client.events)
        await client.start_recording("/dev/video0")
        await lose_and_return(client, peer)
        await eventually(lambda: recorder.of(MissedEvents))
        gap = recorder.of(MissedEvents)[0]
        assert isinstance(gap, MissedEvents)
        assert gap.changed == (f"mediamtx://127.0.0.1:{peer.port}/%2Fdev%2Fvideo0",)
        assert client.camera_state("/dev/video0") is CameraState.UNKNOWN
        assert (await client.get_recording_status("/dev/video0")).status == "UNKNOWN"
        await client.stop_recording("/dev/video0")
        assert client.camera_state("/dev/video0") is CameraState.READY


async def test_subscriptions_are_made_again_on_every_connection() -> None:
    async with running(Gen2()) as peer, connected(peer, topics=("camera.connected",)) as client:
        await client.subscribe_events(["system.health"], {"device": "camera0"})
        await client.subscribe_events(["snapshot.taken"])
        await client.unsubscribe_events(["camera.connected"])
        peer.requests.clear()
        await lose_and_return(client, peer)
        assert [request["params"] for request in peer.called("subscribe_events")] == [
            {"topics": ["system.health"], "filters": {"device": "camera0"}},
            {"topics": ["snapshot.taken"]},
        ]
        await client.unsubscribe_events()
        peer.requests.clear()
        await lose_and_return(client, peer)
        assert not peer.called("subscribe_events")


async def test_client_connects_despite_refused_subscription_or_list(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(Gen2()) as peer:
        peer.answers["subscribe_events"] = lambda visitor, request: error(-32602, "unknown topic")
        peer.answers["get_camera_list"] = lambda visitor, request: error(-32603, "down")
        async with connected(peer) as client:
            assert await client.ping() == "pong"
    assert "unknown topic" in caplog.text
    assert "down" in caplog.text


async def test_passed_hub_gets_events_and_stays_open() -> None:
    hub = EventHub()
    recorder = Recorder(hub)
    async with running(Gen1()) as one, running(Gen1()) as other:
        seen: list[CameraInfo] = []
        async with connected(one, events=hub) as client, connected(other, events=hub):
            client.on_camera_status_update = seen.append
            for number, peer in enumerate((one, other)):
                await peer.tell("camera_status_update", f'{{"device": "/dev/video0", "status": "S{number}"}}')
            await eventually(lambda: len(recorder.of(CameraStatusUpdate)) == 2)
            await eventually(lambda: seen)
        assert [info.status for info in seen] == ["S0"], "a handler hears of its own service only"
    states = [
        event.state
        for event in recorder.of(ConnectionStateChanged)
        if isinstance(event, ConnectionStateChanged)
    ]
    assert states.count(ConnectionState.READY) == states.count(ConnectionState.CLOSED) == 2
    hub.emit(ServiceNotice(service="", topic="still", data=None))
    await hub.aclose()
