"""``/api/v1/``: cameras, captures, pictures and errors."""

import asyncio
import io
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from tests.support.waiting import eventually
from tests.systems.snapshot.web.rig import TOKEN, serving

ODD = ["all", "a/b", "Küche", "100%", "..", "captures", "x y"]


async def test_camera_is_added_changed_and_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        fields = rig.camera("left", width="1920", height=1080, stereo=True)
        added = await rig.json("/api/v1/cameras", "POST", json=fields, status=201)
        assert (added["name"], added["width"], added["phase"], added["last"]) == ("left", 1920, "idle", None)
        change = {"name": "right", "width": 640, "yaw_offset": 2}
        changed = await rig.json("/api/v1/cameras/left", "PATCH", json=change)
        assert (changed["name"], changed["width"], changed["height"]) == ("right", 640, 1080)
        assert changed["yaw_offset"] == 2
        await rig.json("/api/v1/cameras/left", status=404)
        assert (await rig.json("/api/v1/cameras/right"))["stereo"] is True
        back = await rig.json("/api/v1/cameras/right", "PATCH", json={"yaw_offset": None})
        assert back["yaw_offset"] is None
        assert "yaw_offset" not in json.loads(rig.config.read_text())["cameras"][0]
        await rig.json("/api/v1/cameras/right", "DELETE", status=204)
        assert await rig.json("/api/v1/cameras") == {"cameras": []}
        gone = await rig.json("/api/v1/cameras/right", "DELETE", status=404)
        assert gone["code"] == "not_found"


async def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        before = rig.config.read_bytes()
        fields = {
            "name": "left",
            "device_path": "video0",
            "width": "wide",
            "height": 0,
            "pixel_format": "JPEGS",
        }
        for path, method in (("/api/v1/cameras", "POST"), ("/api/v1/camera-check", "POST")):
            status = 422 if path.endswith("cameras") else 200
            answer = await rig.json(path, method, json=fields, status=status)
            wrong = {one["field"] for one in answer["problems"]}
            assert wrong == {"name", "device_path", "width", "height", "pixel_format"}
        assert (answer["ok"], rig.config.read_bytes()) == (False, before)
        words = {one["field"]: one["message"] for one in answer["problems"]}
        assert words["width"] == "must be a whole number"
        assert words["height"] == "must be >= 1"
        assert words["device_path"].startswith("a device must be an absolute path")


async def test_check_excludes_the_camera_being_changed(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left", "right"]) as rig:
        fields = rig.camera("left")
        taken = await rig.json("/api/v1/camera-check", "POST", json=fields)
        assert [one["field"] for one in taken["problems"]] == ["name"]
        itself = await rig.json("/api/v1/camera-check?instead_of=left", "POST", json=fields)
        assert itself == {"ok": True, "problems": []}
        conflict = await rig.json("/api/v1/cameras/left", "PATCH", json={"name": "right"}, status=422)
        assert conflict["problems"][0]["field"] == "name"


async def test_broken_file_is_not_changed(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        rig.config.write_text('{"cameras": [')
        await eventually(lambda: rig.service.config.problems, 20)
        answer = await rig.json("/api/v1/cameras", "POST", json=rig.camera("two"), status=409)
        assert "must be fixed" in answer["detail"]
        assert rig.config.read_text() == '{"cameras": ['
        (told,) = (await rig.json("/api/v1/state"))["problems"]
        assert told["line"] == 1
        assert [one["name"] for one in await rig.json("/api/cameras")] == ["left"]


@pytest.mark.parametrize("name", ODD)
async def test_any_name_is_reached(name: str, tmp_path: Path) -> None:
    async with serving(tmp_path, [name]) as rig:
        # A client that tidies paths up would make ".." another one; the rest of the world quotes it.
        path = quote(name, safe="").replace(".", "%2E")
        data = (
            f"POST /api/v1/cameras/{path}/captures HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        head, _, body = (await rig.raw(data.encode())).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 "), body
        taken = json.loads(body)
        assert taken["camera"] == name
        page = await rig.json("/api/v1/snapshots", params={"camera": name})
        assert [one["filename"] for one in page["items"]] == [taken["filename"]]


async def test_group_reports_results_and_spread(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        order = {"group": "all"}
        none = await rig.json("/api/v1/captures", "POST", json=order, status=404)
        assert none["code"] == "no_cameras"
        await rig.add("left", stereo=True)
        await rig.add("right", stereo=True)
        await rig.add("broken", "fail")
        everything = await rig.json("/api/v1/captures", "POST", json=order)
        told = {one["camera"]: one for one in everything["results"]}
        assert told["broken"]["snapshot"] is None
        assert told["broken"]["error"]
        assert told["left"]["snapshot"]["prefix"] == "api_all_cams"
        pair = await rig.json("/api/v1/captures", "POST", json={"group": "stereo"})
        moments = [one["snapshot"]["taken_at"] for one in pair["results"]]
        assert pair["spread"] == max(moments) - min(moments)


async def test_pictures_are_paged_newest_first(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left", "right"]) as rig:
        taken = [
            (await rig.json(f"/api/v1/cameras/{name}/captures", "POST", status=201))["filename"]
            for name in ("left", "right", "left")
        ]
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await rig.json("/api/v1/snapshots", params={"limit": 2, "after": after})
            assert page["total"] == 3
            seen += [one["filename"] for one in page["items"]]
            after = page["next"]
        assert seen == taken[::-1]
        of_left = await rig.json("/api/v1/snapshots?camera=left")
        assert [one["filename"] for one in of_left["items"]] == [taken[2], taken[0]]
        assert of_left["items"][0]["camera"] == "left"
        assert (await rig.json("/api/v1/cameras/left"))["last"] == of_left["items"][0]


async def test_picture_has_thumbnail_and_is_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        taken = await rig.json("/api/v1/cameras/left/captures", "POST", status=201)
        for query, side in (("", 64), ("?side=32", 32)):
            async with rig.http.get(taken["thumbnail_url_path"] + query) as answer:
                assert (answer.status, answer.content_type) == (200, "image/jpeg")
                assert max(Image.open(io.BytesIO(await answer.read())).size) <= side
        path = f"/api/v1/snapshots/{taken['filename']}"
        await rig.json(path, "DELETE", status=204)
        await rig.json(path, "DELETE", status=404)
        await rig.json(taken["thumbnail_url_path"], status=404)
        assert (await rig.json("/api/v1/snapshots"))["total"] == 0


@pytest.mark.parametrize(
    ("path", "method", "more", "status", "code"),
    [
        ("/api/v1/nowhere", "GET", {}, 404, "not_found"),
        ("/api/v1/cameras", "PUT", {}, 405, "method_not_allowed"),
        ("/api/v1/cameras/nobody/captures", "POST", {}, 404, "not_found"),
        ("/api/v1/snapshots?limit=0", "GET", {}, 422, "invalid"),
        ("/api/v1/snapshots?limit=ten", "GET", {}, 422, "invalid"),
        ("/api/v1/snapshots?limit=9999999999999", "GET", {}, 422, "invalid"),
        ("/api/v1/snapshots?after=nowhere", "GET", {}, 422, "invalid"),
        ("/api/v1/snapshots/nothing.jpg", "DELETE", {}, 404, "not_found"),
        ("/api/v1/snapshots/nothing.jpg/thumbnail?side=1", "GET", {}, 404, "not_found"),
        ("/api/v1/cameras", "POST", {"data": "{}"}, 415, "not_json"),
        ("/api/v1/cameras", "POST", {"json": []}, 400, "not_json"),
        ("/api/v1/cameras", "POST", {"json": {"name": "x"}}, 422, "invalid"),
        ("/api/v1/captures", "POST", {"json": {"group": "some"}}, 422, "invalid"),
        ("/api/v1/captures", "POST", {"json": {"group": "all", "more": 1}}, 422, "invalid"),
    ],
)
async def test_errors_are_problem_objects(
    path: str, method: str, more: dict[str, Any], status: int, code: str, tmp_path: Path
) -> None:
    async with serving(tmp_path) as rig, rig.http.request(method, path, **more) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
        assert problem["type"] == f"urn:asynccam:snapshot:{code}"
        assert problem["detail"]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 60_000, b'{"width": NaN' + b"}"])
async def test_body_must_be_json(body: bytes, tmp_path: Path) -> None:
    headers = {"Content-Type": "application/json"}
    async with serving(tmp_path) as rig:
        async with rig.http.post("/api/v1/cameras", data=body, headers=headers) as answer:
            assert answer.status in (400, 422)
        assert await rig.json("/healthz") == {"status": "ok"}


@pytest.mark.parametrize("note", ["1e999", "NaN", "-Infinity", '"\\ud800"', "[" * 600 + "]" * 600])
async def test_unsavable_value_is_refused(note: str, tmp_path: Path) -> None:
    headers = {"Content-Type": "application/json"}
    async with serving(tmp_path, ["left"]) as rig:
        before = rig.config.read_bytes()
        body = f'{{"name": "a", "device_path": "test:ball", "note": {note}}}'
        told = await rig.json("/api/v1/cameras", "POST", data=body, headers=headers, status=400)
        assert told["code"] == "not_json"
        assert rig.config.read_bytes() == before
        assert (await rig.json("/api/v1/state"))["problems"] == []


async def test_camera_can_be_sent_back_unchanged(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        before = json.loads(rig.config.read_text())
        await rig.json("/api/v1/cameras/left/captures", "POST", status=201)
        camera = await rig.json("/api/v1/cameras/left")
        assert camera["last"]
        await rig.json("/api/v1/cameras/left", "PATCH", json=camera)
        assert json.loads(rig.config.read_text()) == before


@pytest.mark.parametrize(
    "key", ["phase", "error", "last", "cls", "self", "_fields_set", "model_config", "name_"]
)
async def test_unknown_field_may_have_any_name(key: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        rig.config.write_text(json.dumps([{**rig.camera("left"), key: "mine"}]))
        await eventually(lambda: rig.service.cameras())
        assert (await rig.json("/api/cameras"))[0][key] == "mine"
        camera = (await rig.json("/api/v1/state"))["cameras"][0]
        assert (camera["name"], camera["phase"], camera["error"], camera["last"]) == (
            "left",
            "idle",
            None,
            None,
        )
        await rig.json("/api/v1/cameras/left", "PATCH", json={"width": 320})
        assert json.loads(rig.config.read_text())[0][key] == "mine"


async def test_failed_capture_is_reported_and_remembered(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        await rig.add("broken", "fail")
        problem = await rig.json("/api/v1/cameras/broken/captures", "POST", status=502)
        assert problem["code"] == "capture_failed"
        camera = await rig.json("/api/v1/cameras/broken")
        assert (camera["phase"], camera["error"]) == ("failed", problem["detail"])


async def test_disconnected_client_does_no_harm(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with serving(tmp_path) as rig:
        await rig.add("slow", gate=str(gate))
        asking = asyncio.ensure_future(rig.json("/api/snapshot/slow"))
        await eventually(lambda: rig.service.capturing == 1, 20)
        asking.cancel()
        await asyncio.wait({asking})
        gate.touch()
        await eventually(lambda: rig.service.capturing == 0, 20)
        assert len(rig.service.store) == 1, "the picture is kept, as in the field"
        assert (await rig.json("/api/snapshot/slow"))["success"]


async def test_requests_and_captures_are_logged_without_the_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "asynccam")
    async with serving(tmp_path, ["left"], token=TOKEN) as rig:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        await rig.json("/api/v1/cameras/left/captures", "POST", status=401)
        await rig.json("/api/v1/cameras/left/captures", "POST", headers=headers, status=201)
    lines = [f"{record.name}: {record.getMessage()}" for record in caplog.records]
    server = "asynccam.systems.snapshot.server"
    assert f"{server}.middleware: POST /api/v1/cameras/left/captures: 401" in lines
    assert f"{server}.middleware: POST /api/v1/cameras/left/captures: 201" in lines
    assert any(line.startswith(f"{server}.service: event CaptureDone") for line in lines)
    assert any("asynccam.recording.process" in line for line in lines), "the command line of the capture"
    assert TOKEN not in "\n".join(lines)
