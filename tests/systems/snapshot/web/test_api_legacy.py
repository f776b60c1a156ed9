"""REST API of existing servers, as the original client and scripts use it."""

import asyncio
import io
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from tests.support.v4l2 import a_jpeg
from tests.support.waiting import eventually
from tests.systems.snapshot.web.rig import Rig, serving

# As the maker's client sends it, by the `requests` library. Recorded, but for host and port.
REQUESTS_GET = (
    b"GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: python-requests/2.31.0\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n"
)
REQUESTS_POST = (
    b"POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: python-requests/2.31.0\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
)


async def asked(rig: Rig, template: bytes, path: bytes) -> tuple[int, str, bytes]:
    """Status, content type and body of the answer to recorded bytes, on a connection that stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    try:
        writer.write(template % (path, rig.port))
        async with asyncio.timeout(30):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            body = await reader.readexactly(int(headers["content-length"]))
        return int(head.split(" ")[1]), headers["content-type"], body
    finally:
        writer.close()
        await writer.wait_closed()


async def test_cameras_match_existing_servers(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        assert await asked(rig, REQUESTS_GET, b"/api/cameras") == (200, "application/json", b"[]")
        await rig.add("left", width="1920", height="1080", stereo=True, roll_offset=1.5)
        status, kind, body = await asked(rig, REQUESTS_GET, b"/api/cameras")
        assert (status, kind) == (200, "application/json")
        assert json.loads(body) == [
            {
                "name": "left",
                "device_path": json.loads(rig.config.read_text())["cameras"][0]["device_path"],
                "type": "v4l2",
                "width": 1920,
                "height": 1080,
                "pixel_format": "MJPG",
                "stereo": True,
                "service_name": "",
                "roll_offset": 1.5,
            }
        ]


async def test_cameras_follow_the_file(tmp_path: Path) -> None:
    async with serving(tmp_path, ["one"]) as rig:
        assert [camera["name"] for camera in await rig.json("/api/cameras")] == ["one"]
        rig.config.write_text('{"cameras": [{"name": "by hand", "device_path": "/dev/video7"}]}')
        await eventually(lambda: [one.name for one in rig.service.cameras()] == ["by hand"], 20)
        assert [camera["name"] for camera in await rig.json("/api/cameras")] == ["by hand"]


@pytest.mark.parametrize("template", [REQUESTS_GET, REQUESTS_POST], ids=["GET", "POST"])
async def test_capture_one_camera(template: bytes, tmp_path: Path) -> None:
    async with serving(tmp_path, ["left eye"]) as rig:
        status, kind, body = await asked(rig, template, b"/api/snapshot/left%20eye")
        answer = json.loads(body)
        assert (status, kind) == (200, "application/json")
        assert answer.keys() == {"success", "filename", "message", "image_url_path"}
        assert answer["success"] is True
        assert answer["filename"].startswith("snapshot_left eye_")
        assert answer["image_url_path"] == f"/snapshots/{quote(answer['filename'])}"
        status, kind, picture = await asked(rig, REQUESTS_GET, answer["image_url_path"].encode())
        assert (status, kind) == (200, "image/jpeg")
        Image.open(io.BytesIO(picture)).verify()


async def test_capture_unknown_camera(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        status, kind, body = await asked(rig, REQUESTS_POST, b"/api/snapshot/nobody")
        assert (status, kind) == (404, "application/json")
        assert json.loads(body) == {"success": False, "error": "Camera not found"}


async def test_failed_capture_is_a_500(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        await rig.add("broken", "fail")
        answer = await rig.json("/api/snapshot/broken", "POST", status=500)
        assert answer["success"] is False
        assert answer["error"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("group", "prefix"), [("all", "api_all_cams"), ("stereo", "api_stereo")])
async def test_capture_several_cameras(method: str, group: str, prefix: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        await rig.add("left", stereo=True)
        await rig.add("right", "fail", stereo=True)
        await rig.add("mono")
        results = (await rig.json(f"/api/snapshot/{group}", method))["results"]
        told = {one["camera_name"]: one for one in results}
        assert list(told) == (["left", "right", "mono"] if group == "all" else ["left", "right"])
        assert told["left"].keys() == {"camera_name", "status", "filename", "image_url_path"}
        assert told["left"]["status"] == "success"
        assert told["left"]["filename"].startswith(f"{prefix}_left_")
        assert told["right"].keys() == {"camera_name", "status", "error"}
        assert told["right"]["status"] == "failure"


@pytest.mark.parametrize("group", ["all", "stereo"])
async def test_capture_without_cameras(group: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        if group == "stereo":
            await rig.add("mono")
        answer = await rig.json(f"/api/snapshot/{group}", status=404)
        assert (answer["success"], answer["results"]) == (False, [])
        assert answer["error"]


async def test_group_hides_camera_of_its_name(tmp_path: Path) -> None:
    async with serving(tmp_path, ["all", "stereo"]) as rig:
        results = (await rig.json("/api/snapshot/all"))["results"]
        assert [one["camera_name"] for one in results] == ["all", "stereo"]
        await rig.json("/api/snapshot/stereo", status=404)
        for name in ("all", "stereo"):
            taken = await rig.json(f"/api/v1/cameras/{name}/captures", "POST", status=201)
            assert taken["camera"] == name


NAMES = ["Küche", "右目", "a b", "100%", "x#y?z", "semi;colon", "d.o.t"]


@pytest.mark.parametrize("name", NAMES)
async def test_unusual_names(name: str, tmp_path: Path) -> None:
    async with serving(tmp_path, [name]) as rig:
        path = f"/api/snapshot/{quote(name, safe='')}".encode()
        status, _, body = await asked(rig, REQUESTS_GET, path)
        answer = json.loads(body)
        assert status == 200, answer
        status, kind, _ = await asked(rig, REQUESTS_GET, answer["image_url_path"].encode())
        assert (status, kind) == (200, "image/jpeg")


async def test_page_routes_have_own_responses(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        nobody = await rig.json("/ui/snapshot/nobody", "POST")
        assert nobody == {"success": False, "error": "Camera not found"}
        assert (await rig.json("/ui/snapshot/all", "POST"))["success"] is False
        assert (await rig.json("/ui/snapshot/stereo", "POST"))["success"] is False
        await rig.add("left", stereo=True)
        one = await rig.json("/ui/snapshot/left", "POST")
        assert one["success"] is True
        assert one["image_url"] == f"/snapshots/{one['filename']}"
        assert one["download_url"] == f"/download/{one['filename']}"
        for group, prefix in (("all", "all_cams"), ("stereo", "stereo")):
            (result,) = (await rig.json(f"/ui/snapshot/{group}", "POST"))["results"]
            assert result["filename"].startswith(f"{prefix}_left_")
            assert result["download_url"] == f"/download/{result['filename']}"
        await rig.add("broken", "fail")
        broken = await rig.json("/ui/snapshot/broken", "POST")
        assert broken["success"] is False
        assert (await rig.json("/ui/snapshot/all", "POST"))["success"] is False


async def test_pictures_are_shown_or_downloaded(tmp_path: Path) -> None:
    async with serving(tmp_path, ["Küche"]) as rig:
        name = (await rig.json("/api/snapshot/Küche"))["filename"]
        async with rig.http.get(f"/snapshots/{name}") as shown, rig.http.get(f"/download/{name}") as kept:
            assert (shown.status, kept.status) == (200, 200)
            called = f"filename={name.replace('ü', '_')}; filename*=UTF-8''{quote(name)}"
            assert shown.headers["Content-Disposition"] == f"inline; {called}"
            assert kept.headers["Content-Disposition"] == f"attachment; {called}"
            assert shown.content_type == kept.content_type == "image/jpeg"
            whole = await shown.read()
            assert whole == await kept.read()
        async with rig.http.get(f"/snapshots/{name}", headers={"Range": "bytes=10-19"}) as part:
            assert (part.status, await part.read()) == (206, whole[10:20])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("snapshot_left_20260101_120000000000.jpg", "filename=snapshot_left_20260101_120000000000.jpg"),
        ("x y (1), z.jpg", 'filename="x y (1), z.jpg"'),
        ('a"; x=y.jpg', "filename=\"a__ x_y.jpg\"; filename*=UTF-8''a%22%3B%20x%3Dy.jpg"),
        ("a\r\nSet-Cookie: b\r\n.jpg", None),
    ],
)
async def test_download_has_the_original_name(name: str, said: str | None, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        (tmp_path / "snapshots" / name).write_bytes(a_jpeg())
        head = (
            f"HEAD /download/{quote(name, safe='')} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        lines = (await rig.raw(head.encode())).partition(b"\r\n\r\n")[0].decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 200 OK"
        assert not any(line.startswith("Set-Cookie") for line in lines)
        if said is not None:
            assert f"Content-Disposition: attachment; {said}" in lines


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/snapshots/nothing.jpg", 404),
        ("GET", "/download/nothing.jpg", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/api/cameras/", 404),
        ("GET", "/api/snapshot/a/b", 404),
        ("GET", "/api/snapshot/a%2Fb", 404),
        ("POST", "/api/cameras", 405),
        ("DELETE", "/api/cameras", 405),
        ("GET", "/ui/snapshot/all", 405),
        ("GET", "/settings/add", 405),
    ],
)
async def test_unknown_route_is_a_page(method: str, path: str, status: int, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        answer = await rig.raw(
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-type: text/html" in head.lower()
        assert b"<h1>" in body
        assert (status == 405) == (b"\r\nallow: " in head.lower())


async def test_busy_server_says_when_to_retry(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with serving(tmp_path, max_captures=1, max_waiting=1) as rig:
        await rig.add("slow", gate=str(gate))
        first = asyncio.ensure_future(rig.json("/api/snapshot/slow"))
        await eventually(lambda: rig.service.capturing == 1, 20)
        second = asyncio.ensure_future(rig.json("/api/snapshot/slow"))
        await eventually(lambda: rig.service.waiting == 1, 20)
        async with rig.http.get("/api/snapshot/slow") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert (await answer.json())["success"] is False
        assert (await rig.json("/api/snapshot/all", status=503))["results"] == []
        refused = await rig.json("/api/v1/cameras/slow/captures", "POST", status=503)
        assert refused["code"] == "busy"
        gate.touch()
        assert (await first)["success"]
        assert (await second)["success"]
