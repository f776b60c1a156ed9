"""A recording is one start and one stop, however often and in whatever pieces the service tells of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.model.address import Address
from asynccam.model.events import (
    CameraFound,
    CameraLost,
    CameraStateChanged,
    Event,
    RecordingStarted,
    RecordingStopped,
)
from asynccam.model.info import CameraState
from asynccam.systems.mediamtx.models import CameraInfo, CameraList, RecordingInfo
from asynccam.systems.mediamtx.state_cache import ServiceStateCache

STARTED, STOPPED = RecordingStarted, RecordingStopped


def told(*fragments: tuple[str, str]) -> list[type[Event]]:
    roster = ServiceStateCache(Address("mediamtx", "host", 8002))
    list(roster.update_cameras([CameraInfo(device="camera0", status="CONNECTED")]))
    kinds: list[type[Event]] = []
    for status, filename in fragments:
        fields = {"device": "camera0", "status": status} | ({"filename": filename} if filename else {})
        events = roster.update_recording(RecordingInfo.model_validate(fields))
        kinds += [type(event) for event in events if isinstance(event, (STARTED, STOPPED))]
    return kinds


@pytest.mark.parametrize(
    ("fragments", "wanted"),
    [
        ((("STARTED", "a"), ("STARTED", "a"), ("STOPPED", "a"), ("STOPPED", "")), [STARTED, STOPPED]),
        ((("STARTED", ""), ("STARTED", "a"), ("STOPPED", "a")), [STARTED, STOPPED]),
        ((("STARTED", "a"), ("RECORDING", ""), ("STOPPED", "")), [STARTED, STOPPED]),
        (
            (("STARTED", "a"), ("STOPPED", "a"), ("STARTED", ""), ("STARTED", "b")),
            [STARTED, STOPPED, STARTED],
        ),
        ((("STARTED", "a"), ("STARTED", "b")), [STARTED, STARTED]),
        ((("STOPPED", "a"), ("STOPPED", "a"), ("STOPPED", "b")), [STOPPED, STOPPED]),
    ],
)
def test_starts_and_stops(fragments: tuple[tuple[str, str], ...], wanted: list[type[Event]]) -> None:
    assert told(*fragments) == wanted


# -- what notifications change ------------------------------------------------------------------


ADDRESS = Address("mediamtx", "host", 8002)
FULL: dict[str, Any] = {
    "device": "camera0",
    "status": "CONNECTED",
    "name": "Front",
    "fps": 30.0,
    "streams": {"rtsp": "rtsp://host/0"},
    "serial": "A1",
}


def update(cache: ServiceStateCache, **fields: Any) -> list[Event]:
    return list(cache.update_camera(CameraInfo.read(fields, method="x")))


@given(st.lists(st.dictionaries(st.sampled_from(sorted(FULL)), st.none(), min_size=1), max_size=5))
def test_notification_changes_what_it_has(fragments: list[dict[str, None]]) -> None:
    cache, known = ServiceStateCache(ADDRESS), dict[str, Any]()
    for number, fragment in enumerate(fragments):
        values = {"name": f"Front {number}", "fps": number, "serial": number}
        told = FULL | values
        told = {name: told[name] for name in fragment} | {"device": "camera0"}
        known |= told
        update(cache, **told)
        assert cache.cameras["camera0"] == CameraInfo.model_validate(known)


def test_notification_with_every_field_is_not_copied() -> None:
    cache = ServiceStateCache(ADDRESS)
    update(cache, **FULL)
    report = CameraInfo.read(FULL | {"status": "ERROR", "resolution": "1x1"}, method="x")
    list(cache.update_camera(report))
    assert cache.cameras["camera0"] is report
    running = RecordingInfo.read({"device": "camera0", "status": "STARTED", "filename": "a"}, method="x")
    list(cache.update_recording(running))
    ended = RecordingInfo.read({"device": "camera0", "status": "STOPPED", "filename": "a.mp4"}, method="x")
    list(cache.update_recording(ended))
    assert cache.recordings["camera0"].recording_id == "a"
    assert ended.recording_id == "a.mp4", "the message itself stays as it was"


@pytest.mark.parametrize("fields", [1, 100, 255])
def test_unknown_fields_from_notifications_are_limited(fields: int) -> None:
    cache = ServiceStateCache(ADDRESS)
    update(cache, **FULL)
    for number in range(300 // fields + 2):
        extra = {f"x{number}-{field}": number for field in range(fields)}
        update(cache, device="camera0", **extra)
        list(cache.update_recording(RecordingInfo.read({"device": "camera0", **extra}, method="x")))
    assert len(cache.cameras["camera0"].model_extra or {}) == 256
    assert len(cache.recordings["camera0"].model_extra or {}) == 256
    update(cache, device="camera0", serial="A2")
    assert (cache.cameras["camera0"].model_extra or {})["serial"] == "A2", "known ones are still updated"


@pytest.mark.parametrize("cameras", [1, 500])
def test_notification_looks_at_its_camera_only(cameras: int) -> None:
    looked: list[str] = []

    class Counting(ServiceStateCache):
        def state(self, device: str, info: CameraInfo | None = None) -> CameraState:
            looked.append(device)
            return super().state(device, info)

    cache = Counting(ADDRESS)
    infos = [{"device": f"camera{number}", "status": "CONNECTED"} for number in range(cameras)]
    list(cache.update_cameras(CameraList.read({"cameras": infos}, method="x").cameras))
    looked.clear()
    update(cache, device="camera0", status="ERROR")
    list(cache.update_recording(RecordingInfo(device="camera0", status="STARTED")))
    list(cache.mark_start_lost("camera0"))
    assert set(looked) == {"camera0"}
    assert len(looked) <= 6
    looked.clear()
    infos[0]["status"] = "ERROR"
    list(cache.update_cameras(CameraList.read({"cameras": infos}, method="x").cameras))
    assert looked == [], "a list in which nothing has changed"


def test_notification_emits_a_change_once() -> None:
    cache = ServiceStateCache(ADDRESS)
    camera = cache.camera_id("camera0")
    assert [type(event) for event in update(cache, **FULL)] == [CameraFound]
    assert update(cache, device="camera0", name="Back") == []
    (changed,) = update(cache, device="camera0", status="ERROR")
    assert isinstance(changed, CameraStateChanged)
    assert (changed.camera, changed.state, changed.previous, changed.reason) == (
        camera,
        CameraState.ERROR,
        CameraState.READY,
        "ERROR",
    )
    (lost,) = update(cache, device="camera0", status="DISCONNECTED")
    assert isinstance(lost, CameraLost)
    assert update(cache, device="camera0", status="OFFLINE") == []
    (found,) = update(cache, device="camera0", status="READY")
    assert isinstance(found, CameraFound)
    assert found.info.name == "Back"
    assert update(cache, status="CONNECTED") == [], "a notification without a camera"


def test_list_emits_what_has_changed() -> None:
    cache = ServiceStateCache(ADDRESS)

    def listed(*statuses: str) -> list[tuple[type[Event], str]]:
        infos = [CameraInfo(device=f"c{n}", status=status) for n, status in enumerate(statuses) if status]
        events = list(cache.update_cameras(infos))
        return [(type(event), event.subject.removeprefix("mediamtx://host:8002/")) for event in events]

    assert listed("READY", "ERROR", "OFFLINE") == [(CameraFound, "c0"), (CameraFound, "c1")]
    assert listed("CONNECTED", "ERROR", "OFFLINE") == [], "other words for the same state"
    assert listed("CONNECTED", "OFFLINE", "READY", "READY") == [
        (CameraLost, "c1"),
        (CameraFound, "c2"),
        (CameraFound, "c3"),
    ]
    assert listed("ERROR", "", "", "READY") == [(CameraLost, "c2"), (CameraStateChanged, "c0")]
    assert listed("ERROR", "OFFLINE", "", "READY") == []
    assert listed() == [(CameraLost, "c0"), (CameraLost, "c3")]


def test_ids_of_any_number_of_cameras() -> None:
    cache = ServiceStateCache(ADDRESS)
    for number in [*range(5000), 0, 4999]:
        assert cache.camera_id(f"/dev/{number}") == f"mediamtx://host:8002/%2Fdev%2F{number}"
