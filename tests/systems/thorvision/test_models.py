"""What a server says, read as it was written by hand."""

import json
from fractions import Fraction
from typing import Any

import pytest

from asynccam.errors import FeatureError, RemoteProtocolError, UsageError
from asynccam.systems.thorvision.models import (
    Camera,
    Capability,
    parse_cameras,
    parse_hot_plug,
    parse_names,
    parse_object,
    parse_version,
)


def capability(width: int, height: int, rate: str, media: str = "image/jpeg", form: str = "") -> Capability:
    return Capability(media_type=media, format=form, width=width, height=height, framerate=rate)


def test_capability_text() -> None:
    assert str(capability(640, 480, "30/1")) == "image/jpeg,width=640,height=480,framerate=30/1"
    assert (
        str(capability(1920, 1080, "30000/1001", "video/x-raw", "NV12"))
        == "video/x-raw,format=NV12,width=1920,height=1080,framerate=30000/1001"
    )
    none = Capability(media_type="image/jpeg", format=None, width=1, height=2, framerate="5/1")
    assert str(none) == "image/jpeg,width=1,height=2,framerate=5/1"


@pytest.mark.parametrize(
    ("text", "fps"),
    [
        ("30/1", Fraction(30)),
        ("30000/1001", Fraction(30000, 1001)),
        ("0/1", Fraction(0)),
        ("25", Fraction(25)),
        ("30/0", None),
        ("0/0", None),
        ("fast", None),
        ("", None),
    ],
)
def test_fps_is_exact_or_none(text: str, fps: Fraction | None) -> None:
    assert capability(640, 480, text).fps == fps


CAPS = (
    capability(640, 480, "30/1"),
    capability(640, 480, "30000/1001"),
    capability(1280, 720, "10/1"),
    capability(1280, 720, "60/0"),
    capability(320, 240, "60/1"),
    capability(1920, 1080, "5/1", "video/x-raw", "YUY2"),
    capability(3840, 2160, "30/1", "video/x-h264"),
)
CAMERA = Camera(id=0, name="Cam", caps=CAPS)


@pytest.mark.parametrize(
    ("wish", "best"),
    [
        ({}, CAPS[2]),  # the largest, and a known rate before an unknown one
        ({"width": 640}, CAPS[0]),
        ({"width": 640, "fps": 30}, CAPS[0]),
        ({"width": 640, "fps": Fraction(30000, 1001)}, CAPS[1]),
        ({"width": 640, "fps": "30000/1001"}, CAPS[1]),
        ({"width": 700, "fps": 30}, CAPS[0]),
        ({"width": 700, "fps": 29.98}, CAPS[1]),
        ({"height": 240}, CAPS[4]),
        ({"fps": 60}, CAPS[4]),  # the rate is met there only
        ({"width": 1280, "fps": 20}, CAPS[2]),
        ({"media_type": None}, CAPS[5]),  # never h264, which is not sent as Motion JPEG
    ],
)
def test_best_capability_within_limits(wish: dict[str, Any], best: Capability) -> None:
    assert CAMERA.best(**wish) is best


def test_best_without_match_lists_all() -> None:
    with pytest.raises(FeatureError, match="within width=100") as caught:
        CAMERA.best(width=100)
    assert "image/jpeg,width=320,height=240,framerate=60/1" in str(caught.value)
    with pytest.raises(FeatureError, match="it has: none"):
        Camera(id=1).best()
    with pytest.raises(UsageError, match="not a frame rate"):
        CAMERA.best(fps="quick")


LIST = b"""[
 {"id": 0, "name": "Same", "caps": [{"media_type": "video/x-raw", "format": "YUY2", "width": 640,
   "height": 480, "framerate": "30/1", "bitrate": 8}], "device_id": "usb-2", "vendor": {"a": [1]}},
 {"id": -3, "name": "Same", "caps": []}
]"""


def test_parse_cameras_keeps_unknown_fields() -> None:
    first, second = parse_cameras(LIST, "server")
    assert (first.id, first.key, first.is_test) == (0, "usb-2", False)
    assert (second.id, second.key, second.is_test) == (-3, "Same:-3", True)
    assert first.capabilities == first.caps
    assert json.loads(first.model_dump_json()) == json.loads(LIST)[0]  # nothing is lost on the way back


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[", b'[{"name": "x"}]', b'[{"id": "x"}]', b'[{"id": 1, "caps": [{}]}]', b"\xff", b"null"],
)
def test_parse_cameras_refuses_other_data(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="server did not send a list of cameras"):
        parse_cameras(data, "server")


def test_parse_other_responses() -> None:
    assert parse_names(b'["a b", "\xc3\xa9"]', "server") == ("a b", "é")
    assert parse_object(b'{"openapi": "3.1.0"}', "server") == {"openapi": "3.1.0"}
    assert parse_version(b'{"version": "1.2.3", "built": 1}', "server") == "1.2.3"
    for parse in (parse_names, parse_object, parse_version):
        with pytest.raises(RemoteProtocolError):
            parse(b"[1]", "server")


def test_parse_hot_plug() -> None:
    kind, added = parse_hot_plug(
        b'{"event_type": "Added", "camera": {"id": 2, "name": "x", "caps": []}}', "s"
    )
    assert kind == "Added"
    assert isinstance(added, Camera)
    assert added.id == 2
    assert parse_hot_plug(b'{"event_type": "Removed", "camera": {"id": 2}}', "s") == ("Removed", 2)
    assert parse_hot_plug(b'{"event_type": "Warmed", "camera": {"odd": 1}}', "s") == ("Warmed", None)
    assert parse_hot_plug(b'{"event_type": "Ping"}', "s") == ("Ping", None)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"{}",
        b'{"event_type": "Added"}',
        b'{"event_type": "Removed", "camera": {}}',
        b'{"event_type": 5}',
    ],
)
def test_parse_hot_plug_refuses_other_data(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="s did not send a "):
        parse_hot_plug(data, "s")
