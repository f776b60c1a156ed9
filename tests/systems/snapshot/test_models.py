"""Responses: dictionaries with typed attributes, and lenient parsing."""

import copy
import json
import pickle

import pytest

from asynccam import errors
from asynccam.systems.snapshot import CameraEntry, CameraResult, SnapshotClient, SnapshotResult
from asynccam.systems.snapshot.models import parse_cameras, parse_result, parse_results
from tests.support.snapshot_field_server import FieldServer, says, text


def entry(**fields: object) -> CameraEntry:
    (one,) = parse_cameras(json.dumps([fields]).encode(), "peer")
    return one


def test_entry_behaves_like_a_dictionary() -> None:
    told = {"name": "left", "width": "640", "note": [1]}
    known = {"name": "left", "width": 640, "note": [1]}
    one = entry(**told)
    assert isinstance(one, dict)
    assert one == known
    assert dict(one) == {**one} == known
    assert (len(one), list(one), sorted(one.keys())) == (3, list(known), sorted(known))
    assert list(one.items()) == list(known.items())
    assert list(one.values()) == list(known.values())
    assert "name" in one
    assert "height" not in one
    assert (one.get("height"), one.get("height", 7), one["height"], one.height) == (None, 7, None, None)
    assert one | {"x": 1} == {**known, "x": 1}
    assert json.loads(json.dumps([one], indent=2)) == [known]
    assert str(one) == str(known)
    for same in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert type(same) is CameraEntry
        assert (same, same.width) == (known, 640)
    match one:
        case {"name": name}:
            assert name == "left"


def test_entry_attributes_follow_the_dictionary() -> None:
    one = entry(name="left", width=640)
    one["width"] = 320
    assert one.width == 320
    del one["width"]
    assert one.width is None
    with pytest.raises(AttributeError):
        one.width = 5
    with pytest.raises(KeyError):
        one["nothing"]
    with pytest.raises(KeyError):
        SnapshotResult()["success"]


def test_results_behave_like_dictionaries() -> None:
    told = {"results": [{"camera_name": "a", "status": "success"}, {"camera_name": "b", "status": "failure"}]}
    answer = parse_results(json.dumps(told).encode(), "peer")
    assert answer == told
    assert [r["status"] for r in answer["results"]] == ["success", "failure"]
    assert [r.success for r in answer.results] == [True, False]
    assert all(type(r) is CameraResult for r in answer["results"])
    assert json.loads(json.dumps(answer)) == told


# -- answers with flaws -------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [None, 5, "left", [], True])
def test_invalid_entry_does_not_affect_others(odd: object) -> None:
    assert [one.name for one in parse_cameras(json.dumps([odd, {"name": "left"}]).encode(), "peer")] == [
        "left"
    ]
    with pytest.raises(errors.RemoteProtocolError):
        parse_cameras(json.dumps([odd]).encode(), "peer")


def test_invalid_numbers_are_left_out() -> None:
    one = entry(name="a", width="1920px", height=float("nan"), yaw_offset="NaN", stereo="perhaps")
    assert one == {"name": "a"}
    assert (one.width, one.yaw_offset, one.stereo) == (None, None, False)


def test_lone_surrogates_are_replaced() -> None:
    left, right = parse_cameras(rb'[{"name": "a\ud800", "width": "x"}, {"name": "b", "height": "7"}]', "peer")
    assert (left, right.height) == ({"name": "a?"}, 7)
    assert parse_result(rb'{"success": true, "filename": "\udfff.jpg"}', "peer").filename == "?.jpg"


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        ({"status": "success"}, True),
        ({"status": "Success"}, True),
        ({"image_url_path": "/snapshots/a.jpg"}, True),
        ({"image_url_path": "/snapshots/a.jpg", "error": "no"}, False),
        ({"image_url_path": "/snapshots/a.jpg", "status": "failure"}, False),
        ({"status": None}, False),
        ({}, False),
    ],
)
def test_result_without_status_counts(told: dict[str, object], taken: bool) -> None:
    (one,) = parse_results(json.dumps({"results": [told]}).encode(), "peer").results
    assert one.success is taken


async def test_invalid_response_is_quoted(client: SnapshotClient, field: FieldServer) -> None:
    field.raw["GET /api/cameras"] = text("200 OK", b"<title>x</title><h1>Please &amp; log in</h1>")
    with pytest.raises(errors.RemoteProtocolError, match=r"not a list of cameras.*it says: Please & log in$"):
        await client.get_cameras()
    field.raw["POST /api/snapshot/left"] = says({"error": "lens cap"})
    with pytest.raises(errors.RemoteProtocolError, match=r"it says: lens cap$"):
        await client.snapshot_camera("left")


@pytest.mark.parametrize("piece", [b"<script", b"<", b"<!--", b"</title", b"<style>a</style ", b"<a <b>"])
async def test_page_of_unclosed_tags_is_read_quickly(
    client: SnapshotClient, field: FieldServer, piece: bytes
) -> None:
    # Looked at for each of them to the end, it would take hours; the suite finds a loop that is blocked.
    field.raw["GET /api/cameras"] = text("500 INTERNAL SERVER ERROR", piece * 1_000_000)
    with pytest.raises(errors.DeviceError, match="HTTP 500"):
        await client.get_cameras()


async def test_page_cut_in_its_style_is_quoted(client: SnapshotClient, field: FieldServer) -> None:
    body = b"<title>t</title><h1>1 < 2 &amp; 3</h1><p>so</p><style>h1 { color: red }"
    field.raw["GET /api/cameras"] = text("500 INTERNAL SERVER ERROR", body)
    with pytest.raises(errors.DeviceError, match=r"HTTP 500: 1 < 2 & 3 so$"):
        await client.get_cameras()


async def test_all_cameras_fail_with_200(client: SnapshotClient, field: FieldServer) -> None:
    for answer in (
        {"success": False, "error": "none is configured", "results": []},
        {"success": False, "results": []},
    ):
        field.raw["POST /api/snapshot/all"] = says(answer)
        with pytest.raises(errors.DeviceError, match=r"none is configured|no reason") as raised:
            await client.snapshot_all_cameras()
        assert getattr(raised.value, "status_code", None) == 200
    field.raw["POST /api/snapshot/all"] = says({"results": []})
    assert (await client.snapshot_all_cameras()).results == []


@pytest.mark.parametrize("status", ["201 CREATED", "202 ACCEPTED"])
async def test_taken_picture_counts_as_success(
    client: SnapshotClient, field: FieldServer, status: str
) -> None:
    field.raw["POST /api/snapshot/left"] = says({"success": True, "filename": "a.jpg"}, status)
    assert (await client.snapshot_camera("left")).filename == "a.jpg"
    field.raw["POST /api/snapshot/all"] = says({"results": []}, status)
    assert (await client.snapshot_all_cameras()) == {"results": []}
