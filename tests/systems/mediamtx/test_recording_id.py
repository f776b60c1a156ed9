"""A recording has one id from its start to its stop, whatever the service's messages leave out."""

import itertools

import pytest

from asynccam.model.address import Address
from asynccam.systems.mediamtx.models import CameraInfo, RecordingInfo
from asynccam.systems.mediamtx.state_cache import ServiceStateCache
from asynccam.wall_clock import WALL_CLOCK, unix_now
from tests.support.set_clock import SetClock
from tests.support.waiting import eventually
from tests.systems.mediamtx.clients import connected, lose_and_return
from tests.systems.mediamtx.peer import Gen1, Gen2, running

NAMES: tuple[dict[str, str], ...] = (
    {},
    {"session_id": "s-1"},
    {"filename": "a.mp4"},
    {"session_id": "s-1", "filename": "a.mp4"},
)


def roster() -> ServiceStateCache:
    return ServiceStateCache(Address("mediamtx", "h", 1))


def told(status: str, **fields: str) -> RecordingInfo:
    return RecordingInfo.read({"device": "camera0", "status": status, **fields}, method="told")


@pytest.mark.parametrize("words", list(itertools.product(NAMES, repeat=3)))
def test_whatever_is_left_out_at_the_start_between_and_at_the_stop(words: tuple[dict[str, str], ...]) -> None:
    known = roster()
    ids = set()
    for status, fields in zip(("STARTED", "RECORDING", "STOPPED"), words, strict=True):
        message = told(status, **fields)
        list(known.update_recording(message))
        ids.add(known.recordings["camera0"].recording_id)
        ids.add(known.with_known_id(message).recording_id)
    assert len(ids) == 1
    assert ids != {""}


def test_another_recording_has_another_id_though_none_is_named() -> None:
    known = roster()
    ids = []
    for _ in range(2):
        list(known.update_recording(told("STARTED")))
        ids.append(known.recordings["camera0"].recording_id)
        list(known.update_recording(told("STOPPED")))
        assert known.recordings["camera0"].recording_id == ids[-1]
    assert ids[0] != ids[1]


def test_gap_keeps_recording_id() -> None:
    known = roster()
    list(known.update_cameras([CameraInfo(device="camera0", status="CONNECTED")]))
    list(known.update_recording(told("STARTED", session_id="s-1", filename="a")))
    list(known.update_after_gap(0.0, 1.0, [CameraInfo(device="camera0", status="CONNECTED")]))
    for status, fields in (("RECORDING", {}), ("STOPPED", {"filename": "a.mp4"})):
        message = told(status, **fields)
        list(known.update_recording(message))
        assert known.with_known_id(message).recording_id == "s-1"
        assert known.recordings["camera0"].recording_id == "s-1"


@pytest.mark.parametrize("step", [0.0, 3.0, -3.0, 7200.0, -7200.0, -31_536_000.0])
def test_restart_detection_is_independent_of_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """The connection was lost for ten seconds, an hour ago; the clock was set since."""
    clock = SetClock(monkeypatch)
    for uptime, status in ((7200.0, "UNKNOWN"), (3605.0, "INTERRUPTED")):
        known = roster()
        list(known.update_cameras([CameraInfo(device="camera0", status="CONNECTED")]))
        list(known.update_recording(told("STARTED", session_id="s-1", filename="a")))
        now = unix_now()
        list(known.update_after_gap(now - 10, now, [CameraInfo(device="camera0", status="CONNECTED")]))
        clock.sleep(3600)
        clock.step(step)
        list(known.mark_up_since("camera0", WALL_CLOCK.elapsed() - uptime))
        assert known.recordings["camera0"].status == status


@pytest.mark.parametrize(("uptime", "status"), [(7200.0, "UNKNOWN"), (3500.0, "INTERRUPTED")])
def test_lost_start_has_ended_after_a_restart_of_the_service(
    monkeypatch: pytest.MonkeyPatch, uptime: float, status: str
) -> None:
    clock = SetClock(monkeypatch)
    known = roster()
    list(known.update_cameras([CameraInfo(device="camera0", status="CONNECTED")]))
    list(known.mark_start_lost("camera0"))
    clock.sleep(3600)
    list(known.mark_up_since("camera0", WALL_CLOCK.elapsed() - uptime))
    assert known.recordings["camera0"].status == status


async def test_answers_and_notifications_of_a_service_bear_one_id() -> None:
    heard: list[str] = []
    async with running(Gen1()) as peer, connected(peer) as client:
        client.on_recording_status_update = lambda recording: heard.append(recording.recording_id)
        started = await client.start_recording("/dev/video0")
        await peer.tell("recording_status_update", '{"device": "/dev/video0", "status": "RECORDING"}')
        stopped = await client.stop_recording("/dev/video0")
        await eventually(lambda: len(heard) == 2)
        status = await client.get_recording_status("/dev/video0")
    assert {started.recording_id, stopped.recording_id, status.recording_id, *heard} == {"s-1"}
    assert stopped.session_id is None  # what the service said stays as it said it


async def test_recording_id_survives_status_call_and_reconnect() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        peer.answers["start_recording"] = lambda visitor, request: (
            '"result": {"device": "camera0", "session_id": "s-9", "status": "STARTED"}'
        )
        peer.answers["get_recording_status"] = lambda visitor, request: (
            '"result": {"status": "RECORDING", "filename": "b"}'
        )
        peer.answers["stop_recording"] = lambda visitor, request: (
            '"result": {"status": "STOPPED", "filename": "b"}'
        )
        ids = {(await client.start_recording("camera0")).recording_id}
        ids.add((await client.get_recording_status("camera0")).recording_id)
        await lose_and_return(client, peer)
        ids.add((await client.get_recording_status("camera0")).recording_id)
        ids.add((await client.stop_recording("camera0")).recording_id)
    assert ids == {"s-9"}
