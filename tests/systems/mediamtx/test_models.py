"""What services tell: tolerant of what is missing or unknown, and never more than a protocol error."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.systems.mediamtx.events import parse_notification
from asynccam.systems.mediamtx.models import (
    AuthenticationResult,
    CameraInfo,
    CameraList,
    FileInfo,
    FileList,
    Metrics,
    RecordingInfo,
    Report,
    ServiceResult,
    SnapshotInfo,
)

FIELDS = (
    "device status name fps streams rtsp metrics readers capabilities files filename total start_time"
    " end_time duration file_size session_id authenticated topic data cameras modified_time x"
)
KEYS = st.sampled_from(FIELDS.split())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
METHODS = [
    "camera_status_update",
    "recording_status_update",
    "camera.connected",
    "recording.stop",
    "event",
    "x",
]


@pytest.mark.parametrize(
    "shape",
    [CameraInfo, CameraList, FileInfo, FileList, RecordingInfo, Report, AuthenticationResult, SnapshotInfo],
)
@given(value=ANYTHING)
def test_any_answer_is_read_or_refused(shape: type[ServiceResult], value: Any) -> None:
    try:
        answer = shape.read(value, method="x")
    except RemoteProtocolError:
        return
    answer.model_dump_json()
    assert shape.model_validate(answer.model_dump()) == answer


@given(method=st.sampled_from(METHODS), params=ANYTHING)
def test_any_notification_is_read_or_refused(method: str, params: Any) -> None:
    with suppress(RemoteProtocolError):
        parse_notification(method, params)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("2025-01-15T14:30:00Z", 1736951400.0),
        ("2025-01-15T16:30:00.5+02:00", 1736951400.5),
        ("2025-01-15T14:30:00", 1736951400.0),
        ("0001-01-01T00:00:00", -62135596800.0),
        ("1736951400.25", 1736951400.25),
        (1736951400, 1736951400.0),
        (None, None),
    ],
)
def test_times_are_unix_seconds(told: object, seconds: float | None) -> None:
    assert RecordingInfo.read({"start_time": told}, method="x").start_time == seconds


def test_null_is_as_good_as_missing() -> None:
    value = dict.fromkeys(("device", "name", "status", "streams", "capabilities", "fps"))
    assert CameraInfo.read(value, method="x") == CameraInfo()
    assert Report.read({"x": None}, method="x").model_dump() == {"x": None}
    assert FileList.read({"files": None, "total": None}, method="x").files == []


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["a", 1], ["a", "1"]),
        ({"formats": ["mjpeg"], "resolutions": ["1x1", "2x2"], "n": 3}, ["mjpeg", "1x1", "2x2", "3"]),
    ],
)
def test_capabilities_are_words_however_they_come(told: object, words: list[str]) -> None:
    assert CameraInfo.read({"capabilities": told}, method="x").capabilities == words


def test_protocol_error_names_method_and_place_but_no_value() -> None:
    with pytest.raises(RemoteProtocolError, match=r"list_recordings.*files\.0\.file_size") as raised:
        FileList.read({"files": [{"file_size": "secret"}]}, method="list_recordings")
    assert "secret" not in str(raised.value)
    with pytest.raises(RemoteProtocolError, match=r"x.*start_time") as raised:
        RecordingInfo.read({"start_time": "secret"}, method="x")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("nothing", ["", None])
def test_empty_number_or_time_is_missing(nothing: object) -> None:
    started = RecordingInfo.read(
        {
            "device": "camera0",
            "status": "STARTED",
            "end_time": nothing,
            "duration": nothing,
            "file_size": nothing,
        },
        method="start_recording",
    )
    assert (started.end_time, started.duration, started.file_size) == (None, None, None)
    (camera,) = CameraList.read(
        {
            "cameras": [{"device": "camera0", "fps": nothing, "metrics": {"uptime": nothing}}],
            "total": nothing,
        },
        method="get_camera_list",
    ).cameras
    assert (camera.fps, camera.metrics) == (None, Metrics())
    assert CameraInfo.read({"device": "camera0", "name": ""}, method="x").name == ""
