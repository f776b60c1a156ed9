"""A recording is one start and one stop, however often and in whatever pieces the service tells of it."""

import pytest

from asynccam.model.address import Address
from asynccam.model.events import Event, RecordingStarted, RecordingStopped
from asynccam.systems.mediamtx.models import CameraInfo, RecordingInfo
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
