"""File names of pictures."""

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import UsageError
from asynccam.systems.snapshot.server.store import (
    PREFIXES,
    camera_of,
    encode_camera,
    file_name,
    is_safe,
    parse_name,
)

SHOWN = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=100)


def test_file_name_matches_existing_servers() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, 89).astimezone()
    assert (
        file_name("snapshot", "main_cam", moment.timestamp()) == "snapshot_main_cam_20260304_050607000089.jpg"
    )
    assert file_name("api_all_cams", "x", moment.timestamp(), later=1).endswith("_050607000090.jpg")


@pytest.mark.parametrize(
    ("camera", "written"),
    [
        ("right eye", "right eye"),
        ("a/b", "a~2fb"),
        ("../../etc", "..~2f..~2fetc"),
        ("Küche", "Küche"),
        ("☂", "~e2~98~82"),
        ("a~2fb", "a~7e2fb"),
        ('<"|?*:\\>', "~3c~22~7c~3f~2a~3a~5c~3e"),
    ],
)
def test_encode_camera_escapes_unsafe_characters(camera: str, written: str) -> None:
    assert encode_camera(camera) == written
    assert camera_of(written, ()) == camera


@given(SHOWN, st.sampled_from(PREFIXES))
def test_file_name_is_safe_and_reversible(camera: str, prefix: str) -> None:
    name = file_name(prefix, camera, 1_790_000_000.5)
    assert is_safe(name)
    assert not re.search(r'[/\\<>:"|?*\x00-\x1f]', name)
    assert len(name.encode()) <= 255
    parsed = parse_name(name)
    assert parsed is not None
    assert parsed[0] == prefix
    assert camera_of(parsed[1], ["other", camera]) == camera


@given(SHOWN, SHOWN)
def test_file_names_of_two_cameras_differ(one: str, other: str) -> None:
    assert (encode_camera(one) == encode_camera(other)) == (one == other)


def test_camera_of_finds_shortened_name() -> None:
    camera = "☂" * 100
    written = encode_camera(camera)
    assert camera_of(written, ["other", camera]) == camera
    assert camera_of(written, ["other"]) == written


@pytest.mark.parametrize(
    ("name", "prefix", "camera"),
    [
        ("api_all_cams_x_20260304_050607000089.jpg", "api_all_cams", "x"),
        ("all_cams_x_20260304_050607000089.jpg", "all_cams", "x"),
        ("api_stereo_x_y_20260304_050607000089.jpg", "api_stereo", "x_y"),
        ("stereo_stereo_x_20260304_050607000089.JPEG", "stereo", "stereo_x"),
        ("snapshot__20260304_050607000089.jpg", None, None),
        ("holiday_x_20260304_050607000089.jpg", None, None),
        ("snapshot_x_20260304_050607.jpg", None, None),
        ("snapshot_x_20260304_050607000089.png", None, None),
    ],
)
def test_parse_name_returns_prefix_and_camera(name: str, prefix: str | None, camera: str | None) -> None:
    parsed = parse_name(name)
    assert (prefix, camera) == (None, None) if parsed is None else parsed == (prefix, camera)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a.jpg",
        "a/b.jpg",
        "/a.jpg",
        "a\\b.jpg",
        "a\0.jpg",
        ".a.jpg",
        "a.png",
        "a",
        "a.jpg/",
        "\ud800.jpg",
        "x" * 252 + ".jpg",
    ],
)
def test_is_safe_refuses_other_names(name: str) -> None:
    assert not is_safe(name)


def test_file_name_refuses_unknown_prefix() -> None:
    with pytest.raises(UsageError):
        file_name("../x", "front", 0)
