"""Checks of ``config.json``, and positions of its values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.systems.snapshot.server import json_position
from asynccam.systems.snapshot.server.settings import ServerConfig, check_camera, read_document

GOOD: dict[str, Any] = {"name": "front", "device_path": "/dev/video0"}


@pytest.mark.parametrize(
    ("field", "given_", "taken"),
    [
        ("width", "1920", 1920),
        ("width", 1920, 1920),
        ("width", "", 640),
        ("height", None, 480),
        ("height", " 720 ", 720),
        ("pixel_format", "", "MJPG"),
        ("pixel_format", " YUYV ", "YUYV"),
        ("type", "stream_interrupt", "stream_interrupt"),
        ("type", "", "v4l2"),
        ("stereo", "on", True),
        ("stereo", "true", True),
        ("stereo", None, False),
        ("stereo", "", False),
        ("service_name", None, ""),
        ("service_name", "mjpg-streamer@1.service", "mjpg-streamer@1.service"),
        ("roll_offset", "-1.5", -1.5),
        ("roll_offset", "", None),
        ("name", "all", "all"),
        ("name", "a/b ü ☂", "a/b ü ☂"),
        ("device_path", "test:ball", "test:ball"),
        ("device_path", "/dev/camera-main-photo", "/dev/camera-main-photo"),
    ],
)
def test_check_camera_accepts_forms_and_files(field: str, given_: object, taken: object) -> None:
    camera, problems = check_camera({**GOOD, field: given_})
    assert problems == ()
    assert camera is not None
    assert getattr(camera, field) == taken


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("name", 7),
        ("name", None),
        ("name", "a\nb"),
        ("name", "a\0b"),
        ("name", "\ud800"),
        ("name", "x" * 101),
        ("device_path", "video0"),
        ("device_path", ""),
        ("device_path", "-d"),
        ("device_path", "/dev/video0\0"),
        ("device_path", "test:a b"),
        ("device_path", "test:ball ! fakesink"),
        ("type", "usb"),
        ("width", "0"),
        ("width", "-3"),
        ("width", "wide"),
        ("width", 1e9),
        ("width", 1.5),
        ("height", [1]),
        ("pixel_format", "MJPEG"),
        ("pixel_format", "MJP,"),
        ("pixel_format", "ÄÖÜß"),
        ("stereo", "perhaps"),
        ("service_name", "--all"),
        ("service_name", "a; reboot"),
        ("service_name", "a b"),
        ("service_name", "../a"),
        ("service_name", "*"),
        ("service_name", "x" * 256),
        ("roll_offset", "left"),
        ("yaw_offset", "nan"),
        ("pitch_offset", "inf"),
    ],
)
def test_check_camera_reports_the_field(field: str, value: object) -> None:
    camera, problems = check_camera({**GOOD, field: value})
    assert camera is None
    assert [one.field for one in problems] == [field]
    assert problems[0].message


def test_check_camera_reports_every_field() -> None:
    _, problems = check_camera({"width": "x", "height": "y"})
    assert {one.field for one in problems} == {"name", "device_path", "width", "height"}


def test_check_camera_refuses_taken_name() -> None:
    camera, problems = check_camera(GOOD, taken=["front"])
    assert camera is None
    assert problems[0].field == "name"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 1, "\t"]))
def test_offsets_find_every_value(document: object, indent: int | str | None) -> None:
    text = json.dumps(document, indent=indent)
    found = json_position.offsets(text)
    decoder = json.JSONDecoder()
    for path, offset in found.items():
        value = document
        for step in path:
            value = value[step]  # type: ignore[index]  # the path is of this document
        assert decoder.raw_decode(text, offset)[0] == value


def test_offset_of_missing_value_is_its_parent() -> None:
    found = json_position.offsets('{"a": [1, {"b": 2}]}')
    assert json_position.offset_of(("a", 1, "c", 0), found) == 10
    assert json_position.line_and_column("a\nbc\n", 3) == (2, 2)


@given(st.lists(JSON, max_size=4) | st.dictionaries(st.sampled_from(["cameras", "imu", "limits"]), JSON))
def test_read_document_accepts_or_refuses_anything(document: Any) -> None:
    try:
        config, problems = read_document(document, ServerConfig())
    except ValueError:
        return
    assert isinstance(config, ServerConfig)
    found = json_position.offsets(json.dumps(document))
    for path, message in problems:
        assert message
        assert json_position.offset_of(path, found) >= 0
