"""The fast reader returns what full validation returns, or leaves the result to it."""

import math
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator
from pydantic_core import PydanticSerializationError

from asynccam.errors import RemoteProtocolError
from asynccam.systems.mediamtx.models import (
    PLAIN_READERS,
    CameraInfo,
    CameraList,
    FileInfo,
    FileList,
    Metrics,
    RecordingInfo,
    ServiceResult,
    Streams,
)

CAMERA = {
    "device": "/dev/video0",
    "status": "CONNECTED",
    "name": "Küche",
    "resolution": "1920x1080",
    "fps": 30,
    "streams": {"rtsp": "rtsp://h/0", "hls": "http://h/0", "webrtc": "http://h/0"},
    "capabilities": ["mjpeg"],
    "metrics": {"bytes_sent": 2**70, "readers": 1, "uptime": 3.5},
}
RECORDING = {
    "device": "camera0",
    "session_id": "s",
    "filename": "a.mp4",
    "status": "STOPPED",
    "start_time": 1736951400,
    "end_time": 1736951402.5,
    "duration": 2.5,
    "file_size": 7,
    "format": "mp4",
}
FILE = {"filename": "a", "file_size": 1, "modified_time": 2.0, "download_url": "/a"}
FILES = {"files": [FILE, {"filename": "b"}], "total": 2, "limit": 2, "offset": 0, "complete": False}
PLAIN: list[tuple[type[ServiceResult], dict[str, Any]]] = [
    (Streams, {"rtsp": "a"}),
    (Metrics, {"uptime": 1}),
    (CameraInfo, CAMERA),
    (CameraInfo, {"device": "camera0"}),
    (CameraInfo, {}),
    (CameraInfo, CAMERA | {"serial": None, "streams": {"x": [None, ""]}, "z": {"device_path": 1}}),
    (CameraList, {"cameras": [CAMERA, {"x": 1}], "total": 2, "connected": 2}),
    (RecordingInfo, RECORDING),
    (FileInfo, FILE),
    (FileList, FILES),
]
NOTHING: tuple[Any, ...] = (None, 1, "x", [], [{}], {1: 2})
UNUSUAL: list[tuple[type[ServiceResult], Any]] = [
    *((model, value) for model in PLAIN_READERS for value in NOTHING),
    *((CameraInfo, CAMERA | {name: None}) for name in CAMERA),
    *((CameraInfo, CAMERA | {name: True}) for name in CAMERA),
    *((CameraInfo, CAMERA | {name: ""}) for name in CAMERA),
    *((RecordingInfo, RECORDING | {name: None}) for name in RECORDING),
    *((RecordingInfo, RECORDING | {name: ""}) for name in RECORDING),
    *((RecordingInfo, RECORDING | {name: "2025-01-15T14:30:00Z"}) for name in RECORDING),
    (CameraInfo, {"device_path": "/dev/video0"}),
    (CameraInfo, {"device": "camera0", "device_path": None}),
    (CameraInfo, {"stream_url": "rtsp://h/0"}),
    (CameraInfo, {"device": "camera0", "streams": {"recording_id": None}}),
    (CameraInfo, {"fps": math.nan}),
    (CameraInfo, {"fps": math.inf}),
    (CameraInfo, {"fps": 10**400}),
    (CameraInfo, {"name": "\ud800"}),
    (CameraInfo, {"\ud800": 1}),
    (CameraInfo, {"name": 5}),
    (CameraInfo, {"capabilities": {"formats": ["mjpeg"]}}),
    (CameraInfo, {"capabilities": ["a", 1]}),
    (CameraInfo, {"metrics": {"readers": [{"type": "rtsp"}], "bytes_sent": 3.0}}),
    (CameraInfo, {"metrics": {"bytes_sent": 3.5}}),
    (RecordingInfo, {"recording_id": "r"}),
    (RecordingInfo, {"duration": "long"}),
    (FileList, FILES | {"complete": "no"}),
    (FileList, FILES | {"files": [FILE, {"modified_time": "2025-01-15T14:30:00Z"}]}),
    (CameraList, {"cameras": [CAMERA, {"streams": {"rtsp": 1}}]}),
]


def state(value: Any) -> Any:
    """Return all that an object holds, with the order of its fields and the types of its values."""
    if isinstance(value, BaseModel):
        fields = [(name, state(inner)) for name, inner in value.__dict__.items()]
        kept = sorted(value.model_fields_set), repr(value.model_extra), repr(value.__pydantic_private__)
        return type(value), fields, kept
    return [state(inner) for inner in value] if isinstance(value, list) else repr(value)


def outcome(model: type[ServiceResult], value: Any) -> tuple[Any, ...]:
    """Return an object's state and what it dumps, or the error's text."""
    try:
        result = model.read(value, method="x")
    except RemoteProtocolError as error:
        return (str(error),)
    try:
        document = result.model_dump_json()
    except PydanticSerializationError as error:  # half of a surrogate pair in an unknown field
        document = str(error)
    return state(result), repr(result.model_dump()), document


def assert_same(model: type[ServiceResult], value: Any) -> None:
    fast = outcome(model, value)
    with patch.dict(PLAIN_READERS, clear=True):
        assert fast == outcome(model, value)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("\udfff")
NAMES = sorted({name for model in PLAIN_READERS for name in model.model_fields})
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*NAMES, "device_path", "recording_id", "stream_url", "x"]), inner, max_size=6
        )
    ),
    max_leaves=12,
)


@st.composite
def almost_plain(draw: st.DrawFn) -> tuple[type[ServiceResult], Any]:
    """Return a plain result with a few fields left out, replaced or added."""
    model, plain = draw(st.sampled_from(PLAIN))
    kept = {name: value for name, value in plain.items() if draw(st.booleans())}
    names = st.sampled_from([*NAMES, "device_path", "recording_id", "stream_url"]) | st.text(max_size=3)
    return model, kept | draw(
        st.dictionaries(names, JSON | st.sampled_from(list(CAMERA.values())), max_size=2)
    )


@pytest.mark.parametrize(("model", "value"), PLAIN)
def test_plain_result_is_read_without_full_validation(model: type[ServiceResult], value: Any) -> None:
    assert PLAIN_READERS[model].read(value) is not None
    assert_same(model, value)


@pytest.mark.parametrize(("model", "value"), UNUSUAL)
def test_unusual_result_is_the_same(model: type[ServiceResult], value: Any) -> None:
    assert_same(model, value)


@given(model=st.sampled_from(list(PLAIN_READERS)), value=JSON)
@example(model=CameraInfo, value={"streams": {}, "metrics": {}})
def test_any_result_is_the_same(model: type[ServiceResult], value: Any) -> None:
    assert_same(model, value)


@given(almost_plain())
def test_almost_plain_result_is_the_same(given: tuple[type[ServiceResult], Any]) -> None:
    assert_same(*given)


def test_results_share_nothing_that_can_change() -> None:
    value = {"device": "camera0", "x": 1}
    first, second = CameraInfo.read(value, method="x"), CameraInfo.read(value, method="x")
    first.name, first.streams.rtsp = "Front", "rtsp://h/0"
    first.capabilities.append("mjpeg")
    assert first.model_fields_set == {"device", "x", "name"}
    assert (second.name, second.streams, second.capabilities) == ("", Streams(), [])
    assert second.model_fields_set == {"device", "x"}
    assert RecordingInfo.read({"filename": "a"}, method="x").known_as("b").recording_id == "b"
    assert RecordingInfo.read({"filename": "a"}, method="x").recording_id == "a"


def test_subclass_is_validated_in_full() -> None:
    class Loud(CameraInfo):
        @field_validator("name")
        @classmethod
        def _upper(cls, name: str) -> str:
            return name.upper()

    assert Loud.read({"name": "front"}, method="x").name == "FRONT"
