"""Whose events a listener hears, what it hears of before its time, and what it lost."""

import asyncio

import pytest

from asynccam.errors import StateError, TimeoutError
from asynccam.model.events import (
    CameraChanged,
    CameraFound,
    CameraLost,
    CameraStateChanged,
    Event,
    FileProgress,
    MissedEvents,
    RecordingStarted,
    RecordingStopped,
    TakePhaseChanged,
)
from asynccam.model.info import CameraInfo, CameraState
from asynccam.runtime import event_hub as hub_module
from asynccam.runtime.event_hub import EventHub
from tests.support.scripted_camera import ScriptedCamera
from tests.support.waiting import eventually, passes

HILL = "multicam://Hill"
YARD = "mediamtx://host:8002/camera0"
DOOR = "mediamtx://host:8002/camera1"


def found(camera: str, name: str = "") -> CameraFound:
    return CameraFound(camera=camera, info=CameraInfo(id=camera, system="multicam", name=name))


def state(camera: str, now: CameraState) -> CameraStateChanged:
    return CameraStateChanged(camera=camera, state=now)


def progress(camera: str) -> FileProgress:
    return FileProgress(camera=camera, name="a.mp4", received=1, total=2)


# -- filters ------------------------------------------------------------------------------------


async def test_filter_one_camera_several_or_all() -> None:
    hub, one, both, everyone = EventHub(), list[Event](), list[Event](), list[Event]()
    hub.subscribe(one.append, camera=HILL)
    hub.subscribe(both.append, camera=[HILL, DOOR])
    hub.subscribe(everyone.append)
    events = [progress(HILL), progress(YARD), progress(DOOR), TakePhaseChanged(take="t", phase="armed")]
    for event in events:
        hub.emit(event)
    await passes()
    assert one == events[:1]
    assert both == [events[0], events[2]]
    assert everyone == events


async def test_filter_accepts_camera_objects() -> None:
    hub, heard = EventHub(), list[Event]()
    camera = ScriptedCamera("one")
    hub.subscribe(heard.append, camera=camera)
    hub.subscribe(heard.append, camera=[camera])
    hub.emit(progress(camera.id))
    hub.emit(progress("scripted://two"))
    await passes()
    assert [event.subject for event in heard] == [camera.id] * 2


async def test_filter_by_camera_and_type() -> None:
    hub = EventHub()
    with hub.stream(CameraFound, CameraLost, camera=HILL) as stream:
        for event in (found(YARD), state(HILL, CameraState.READY), CameraLost(camera=HILL)):
            hub.emit(event)
        stream.cancel()
        assert [event async for event in stream] == [event]


async def test_filter_on_a_camera_includes_its_service() -> None:
    hub, yard, hill, other = EventHub(), list[Event](), list[Event](), list[Event]()
    hub.subscribe(yard.append, camera=[YARD, DOOR])
    hub.subscribe(hill.append, camera=HILL)
    hub.subscribe(other.append, camera="mediamtx://other:8002/camera0")
    hub.emit(MissedEvents(camera="mediamtx://host:8002", began=1, ended=2))
    await passes()
    assert len(yard) == 1
    assert not hill
    assert not other


async def test_filter_cancelled() -> None:
    hub, heard = EventHub(), list[Event]()
    with hub.subscribe(heard.append, camera=HILL):
        hub.emit(progress(HILL))
        await passes()
    hub.emit(progress(HILL))
    await passes()
    assert len(heard) == 1
    assert hub.listeners == ()


# -- replay -------------------------------------------------------------------------------------


async def test_replay_gives_the_latest_of_every_state() -> None:
    hub, heard, plain = EventHub(), list[Event](), list[Event]()
    first, again, gone = found(HILL, "old"), found(HILL, "new"), CameraLost(camera=YARD)
    started, stopped = RecordingStarted(camera=HILL), RecordingStopped(camera=HILL)
    busy = state(HILL, CameraState.RECORDING)
    for event in (first, found(YARD), busy, started, gone, progress(HILL), again, stopped):
        hub.emit(event)
    hub.subscribe(heard.append, replay=True)
    hub.subscribe(plain.append)
    late = state(HILL, CameraState.READY)
    hub.emit(late)
    await eventually(lambda: late in heard)
    assert heard == [busy, gone, again, stopped, late]
    assert plain == [late]


async def test_replay_respects_types_and_cameras() -> None:
    hub = EventHub()
    for camera in (HILL, YARD, DOOR):
        hub.emit(found(camera))
        hub.emit(state(camera, CameraState.READY))
    hub.emit(MissedEvents(camera="mediamtx://host:8002", began=1, ended=2))
    with hub.stream(CameraFound, MissedEvents, camera=YARD, replay=True) as stream:
        stream.cancel()
        assert [(type(event), event.camera) async for event in stream] == [
            (CameraFound, YARD),
            (MissedEvents, "mediamtx://host:8002"),
        ]


async def test_replay_may_be_longer_than_the_queue() -> None:
    hub = EventHub()
    for number in range(10):
        hub.emit(found(f"multicam://{number}"))
    with hub.stream(replay=True, maxsize=3) as stream:
        assert stream.waiting == 10
        assert [(await anext(stream)).subject for _ in range(10)] == [f"multicam://{n}" for n in range(10)]
        assert stream.dropped == 0


async def test_latest_by_type_and_subject() -> None:
    hub = EventHub()
    assert hub.latest(CameraFound, HILL) is None
    here = found(HILL)
    hub.emit(here)
    assert hub.latest(CameraFound, HILL) is here
    hub.emit(CameraLost(camera=HILL))
    assert hub.latest(CameraFound, HILL) is None
    assert hub.latest(CameraLost, HILL) is not None
    assert hub.latest(CameraChanged, HILL) is None


async def test_forget_removes_a_camera_from_replays() -> None:
    hub = EventHub()
    hub.emit(found(HILL))
    hub.emit(state(HILL, CameraState.READY))
    hub.emit(found(YARD))
    hub.forget(HILL)
    with hub.stream(replay=True) as stream:
        stream.cancel()
        assert [event.subject async for event in stream] == [YARD]


async def test_kept_states_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_MAX_STATES", 3)
    hub = EventHub()
    for number in range(5):
        hub.emit(found(f"multicam://{number}"))
        hub.emit(found("multicam://0"))
    with hub.stream(replay=True) as stream:
        stream.cancel()
        assert [event.subject async for event in stream] == [f"multicam://{n}" for n in (3, 4, 0)]


# -- waiting for one event ----------------------------------------------------------------------


async def test_wait_for_type_camera_and_predicate() -> None:
    hub = EventHub()
    waiting = asyncio.ensure_future(
        hub.wait_for(
            CameraStateChanged, camera=HILL, where=lambda event: event.state is CameraState.READY, timeout=20
        )
    )
    await passes()
    right = state(HILL, CameraState.READY)
    for event in (found(HILL), state(YARD, CameraState.READY), state(HILL, CameraState.UNAVAILABLE), right):
        hub.emit(event)
    assert await waiting is right
    assert hub.listeners == ()


async def test_wait_for_with_replay_counts_present_state() -> None:
    hub = EventHub()
    hub.emit(found(HILL))
    with pytest.raises(TimeoutError, match="no CameraFound within 0"):
        await hub.wait_for(CameraFound, camera=HILL, timeout=0.01)
    assert (await hub.wait_for(CameraFound, camera=HILL, timeout=20, replay=True)).camera == HILL
    assert hub.listeners == ()


async def test_wait_for_raises_when_the_hub_closes() -> None:
    hub = EventHub()
    waiting = asyncio.ensure_future(hub.wait_for(CameraFound, CameraLost))
    await passes()
    await hub.aclose()
    with pytest.raises(StateError, match="no CameraFound or CameraLost"):
        await waiting


# -- what shows ---------------------------------------------------------------------------------


async def test_listeners_show_their_counters(caplog: pytest.LogCaptureFixture) -> None:
    hub = EventHub()
    with hub.stream(maxsize=2) as slow, hub.stream() as quick:
        for _ in range(5):
            hub.emit(progress(HILL))
        assert [(one.waiting, one.dropped) for one in hub.listeners] == [(2, 3), (5, 0)]
        assert hub.dropped == 3
        await anext(quick)
        assert (slow.delivered, quick.delivered) == (0, 1)
        assert "dropped: 3" in repr(slow)
    assert len([one for one in caplog.records if "does not keep up" in one.message]) == 1


async def test_busy_stream_reader_yields_to_others() -> None:
    hub, turns = EventHub(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with hub.stream() as stream:
        for _ in range(1000):
            hub.emit(progress(HILL))
        task = asyncio.ensure_future(other())
        for _ in range(1000):
            await anext(stream)
        assert turns > 5
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
