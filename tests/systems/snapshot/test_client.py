"""SnapshotClient against a simulated existing server."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from asynccam import errors
from asynccam.errors import AddressError, StateError, UsageError
from asynccam.systems.snapshot import SnapshotClient, SnapshotClientError
from tests.support.snapshot_field_server import FieldServer, camera, in_the_field, jpeg, says


async def test_cameras_are_typed_dictionaries(client: SnapshotClient, field: FieldServer) -> None:
    field.cameras = [
        camera("left", width="640", height=480, roll_offset="1.5"),
        {"name": "bare"},
        camera("odd", width="", stereo="on", note="kept"),
    ]
    left, bare, odd = await client.get_cameras()
    assert (left.name, left.width, left.height, left.roll_offset, left.stereo) == (
        "left",
        640,
        480,
        1.5,
        False,
    )
    assert (left["name"], left["width"], left.get("service_name"), left.get("nothing", 7)) == (
        "left",
        640,
        "",
        7,
    )
    assert (bare.name, bare.width, bare["width"], bare.get("width", "unset")) == ("bare", None, None, "unset")
    assert "width" not in bare
    assert (odd.width, odd.stereo, odd["note"]) == (None, True, "kept")
    assert dict(bare) == {"name": "bare"}
    with pytest.raises(KeyError):
        odd["nothing"]
    assert field.requests == ["GET /api/cameras"]


async def test_no_cameras_are_an_empty_list(client: SnapshotClient, field: FieldServer) -> None:
    field.cameras = []
    assert await client.get_cameras() == []


async def test_capture_is_requested_once_by_post(client: SnapshotClient, field: FieldServer) -> None:
    result = await client.snapshot_camera("left")
    assert result.success
    assert result.get("success") is True
    assert result["filename"] == result.filename == next(iter(field.snapshots))
    assert client.get_image_url(result["image_url_path"]) == f"{field.url}/snapshots/{result.filename}"
    assert field.requests == ["POST /api/snapshot/left"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Süd Hof", "/api/snapshot/S%C3%BCd%20Hof"),
        ("50%?#&+", "/api/snapshot/50%25%3F%23%26%2B"),
        ("..", "/api/snapshot/%2E%2E"),
        ("カメラ", "/api/snapshot/%E3%82%AB%E3%83%A1%E3%83%A9"),
        ("a\r\nHost: b", "/api/snapshot/a%0D%0AHost%3A%20b"),
    ],
)
async def test_unusual_names_reach_the_server(
    client: SnapshotClient, field: FieldServer, name: str, path: str, tmp_path: Path
) -> None:
    field.cameras = [camera(name)]
    local = await client.snapshot(name, tmp_path)
    assert field.captures == [f"POST {path}"]
    assert local.path.parent == tmp_path
    assert local.path.read_bytes() == jpeg()
    assert local.source == next(iter(field.snapshots))


@pytest.mark.parametrize("name", ["all", "stereo", ""])
async def test_group_names_are_refused_before_the_request(
    client: SnapshotClient, field: FieldServer, name: str
) -> None:
    field.cameras = [camera(name)]
    with pytest.raises(UsageError, match="cannot be asked for singly"):
        await client.snapshot_camera(name)
    assert field.requests == []


async def test_camera_named_all_is_in_the_group_result(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.cameras = [camera("all"), camera("stereo", stereo=True)]
    pictures = await client.snapshot_all(tmp_path)
    assert [(one.camera, one.error) for one in pictures] == [("all", None), ("stereo", None)]


async def test_name_with_slash_is_explained(client: SnapshotClient, field: FieldServer) -> None:
    field.cameras = [camera("a/b")]
    with pytest.raises(errors.NotFoundError, match="slash") as raised:
        await client.snapshot_camera("a/b")
    assert field.requests == ["POST /api/snapshot/a%2Fb"]
    assert isinstance(raised.value, SnapshotClientError)
    assert raised.value.status_code == 404


async def test_group_result_reports_single_failure(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.failing["left"] = "Device busy"
    results = await client.snapshot_all_cameras()
    assert [(one.camera_name, one.success, one.error) for one in results.results] == [
        ("left", False, "Device busy"),
        ("right", True, None),
    ]
    assert [one["camera_name"] for one in results["results"]] == ["left", "right"]
    assert (len(results.pictures), len(results.failures)) == (1, 1)
    left, right = await client.snapshot_all(tmp_path)
    assert (left.file, right.error) == (None, None)
    assert "Device busy" in str(left.error)
    assert right.file is not None
    assert right.file.path.read_bytes() == jpeg()
    assert field.captures == ["POST /api/snapshot/all"] * 2


async def test_group_download_reports_single_failure(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.pictures["left"] = bytes([16, 128, 16, 128]) * 400
    left, right = await client.snapshot_all(tmp_path)
    assert isinstance(left.error, errors.RemoteProtocolError)
    assert right.file is not None
    assert [path.name for path in tmp_path.iterdir()] == [right.file.path.name]


async def test_group_results_count_whatever_the_status(client: SnapshotClient, field: FieldServer) -> None:
    results = [{"camera_name": "left", "status": "success", "filename": "a.jpg"}, None]
    field.raw["POST /api/snapshot/all"] = says({"results": results}, "500 INTERNAL SERVER ERROR")
    answer = await client.snapshot_all_cameras()
    assert [one.success for one in answer.results] == [True, False]
    assert "null" in str(answer.results[1].error)


async def test_stereo_capture_has_the_pair_only(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    results = await client.snapshot_stereo_cameras()
    assert [one.camera_name for one in results.results] == ["right"]
    (picture,) = await client.snapshot_stereo(tmp_path)
    assert picture.file is not None
    field.cameras = [camera("left")]
    with pytest.raises(errors.NotFoundError, match="No stereo cameras configured"):
        await client.snapshot_stereo_cameras()


async def test_picture_in_memory_equals_picture_on_disk(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    result = await client.snapshot_camera("left")
    seen: list[tuple[int, int | None]] = []
    local = await client.download(result, tmp_path, progress=lambda *now: seen.append(now))
    assert await client.fetch_image(result) == local.path.read_bytes() == jpeg()
    assert result.image_url_path is not None
    assert await client.fetch_image(result.image_url_path) == jpeg()
    assert seen[-1] == (len(jpeg()), len(jpeg()))
    again = await client.download(result, tmp_path)
    assert again.path != local.path


async def test_file_names_are_made_safe(client: SnapshotClient, field: FieldServer, tmp_path: Path) -> None:
    field.snapshots["../../evil.jpg"] = jpeg()
    path = "/snapshots/a%2F..%2Fevil.jpg"
    body = jpeg()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    field.raw[f"GET {path}"] = head + body
    answer = {"success": True, "filename": "../../evil.jpg", "image_url_path": path}
    field.raw["POST /api/snapshot/left"] = says(answer)
    local = await client.snapshot("left", tmp_path / "here")
    assert local.path == tmp_path / "here" / "evil.jpg"


async def test_result_without_path_is_found_by_file_name(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.snapshots["ein Bild #1.jpg"] = jpeg()
    field.raw["POST /api/snapshot/left"] = says({"success": True, "filename": "ein Bild #1.jpg"})
    assert (await client.snapshot("left", tmp_path)).path.name == "ein Bild #1.jpg"
    field.raw["POST /api/snapshot/left"] = says({"success": True})
    with pytest.raises(errors.RemoteProtocolError, match="did not send its path"):
        await client.snapshot("left", tmp_path)


@pytest.mark.parametrize("tail", ["", "/", "///"])
async def test_base_url_with_path_and_slashes(tail: str, tmp_path: Path) -> None:
    async with in_the_field(FieldServer(base="/cams/süd")) as field:
        url = f"http://127.0.0.1:{field.port}/cams/süd"
        async with SnapshotClient(base_url=url + tail) as client:
            assert len(await client.get_cameras()) == 2
            result = await client.snapshot_camera("left")
            assert result.filename is not None
            assert client.get_image_url(result["image_url_path"]).endswith(
                f"/cams/s%C3%BCd/snapshots/{result.filename}"
            )
            assert (await client.snapshot("left", tmp_path)).size == len(jpeg())
        assert field.requests[0] == "GET /cams/s%C3%BCd/api/cameras"


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("http://h:88", "/snapshots/a%20b.jpg", "http://h:88/snapshots/a%20b.jpg"),
        ("http://h:88/", "snapshots/a.jpg", "http://h:88/snapshots/a.jpg"),
        ("http://h:88", "/snapshots/100% ü?.jpg", "http://h:88/snapshots/100%25%20%C3%BC%3F.jpg"),
        ("http://h/p/", "/snapshots/a.jpg", "http://h/p/snapshots/a.jpg"),
        ("http://h/p", "/p/snapshots/a.jpg", "http://h/p/snapshots/a.jpg"),
        ("http://h/snapshots", "/snapshots/a.jpg", "http://h/snapshots/snapshots/a.jpg"),
        ("http://h/snapshots", "/snapshots/snapshots/a.jpg", "http://h/snapshots/snapshots/a.jpg"),
        ("http://h/p", "/p/static/a.jpg", "http://h/p/static/a.jpg"),
        ("http://h/p", "p/a.jpg", "http://h/p/p/a.jpg"),
        ("http://h/p", "/pictures/a.jpg", "http://h/p/pictures/a.jpg"),
        ("https://[::1]:8443", "/snapshots/a.jpg", "https://[::1]:8443/snapshots/a.jpg"),
        ("http://h:88", "http://h:88/x/a.jpg", "http://h:88/x/a.jpg"),
    ],
)
def test_image_urls(base: str, path: str, url: str) -> None:
    assert SnapshotClient(base_url=base).get_image_url(path) == url


@pytest.mark.parametrize("path", ["http://evil:88/a.jpg", "//evil/a.jpg", "file:///etc/passwd", "http://[/"])
def test_image_on_another_server_is_refused(path: str) -> None:
    with pytest.raises(SnapshotClientError, match="another server"):
        SnapshotClient(base_url="http://h:88").get_image_url(path)


@pytest.mark.parametrize(
    "base",
    [
        "",
        "h:88",
        "ftp://h",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://u:p@h",
        "http://h?x=1",
        "http://h#x",
    ],
)
def test_invalid_base_url_is_refused(base: str) -> None:
    with pytest.raises(AddressError) as raised:
        SnapshotClient(base_url=base)
    assert "p@" not in str(raised.value)


def test_timeouts_must_be_positive() -> None:
    with pytest.raises(UsageError):
        SnapshotClient(base_url="http://h", capture_timeout=0)


async def test_caller_owned_session_is_not_closed(field: FieldServer) -> None:
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as session:
        async with SnapshotClient(base_url=field.url, session=session) as client:
            await client.get_cameras()
        assert field.heads[0]["x-mine"] == "yes"
        assert not session.closed


async def test_unclosed_client_leaves_nothing_open(field: FieldServer, tmp_path: Path) -> None:
    client = SnapshotClient(base_url=field.url)
    first, second = await asyncio.gather(client.get_cameras(), client.get_cameras())
    assert first == second
    assert (await client.snapshot("left", tmp_path)).size  # leftovers are looked for after each test


async def test_closed_client_raises(field: FieldServer) -> None:
    async with SnapshotClient(base_url=field.url) as client:
        pass
    await client.aclose()
    with pytest.raises(StateError, match="closed"):
        await client.get_cameras()
    with pytest.raises(StateError, match="closed"):
        async with client:
            pass


async def test_token_is_sent_with_every_request(field: FieldServer, tmp_path: Path) -> None:
    tokens = iter("abcdef")

    async def provide() -> str:
        return next(tokens)

    async with SnapshotClient(base_url=field.url, token=provide) as client:
        await client.get_cameras()
        await client.snapshot("left", tmp_path)
    assert [head["authorization"] for head in field.heads] == ["Bearer a", "Bearer b", "Bearer c"]
    async with SnapshotClient(base_url=field.url, token="secret") as client:
        await client.get_cameras()
        assert "secret" not in repr(client)
    assert field.heads[-1]["authorization"] == "Bearer secret"


async def test_fifty_concurrent_requests(client: SnapshotClient, field: FieldServer) -> None:
    answers = await asyncio.gather(*(client.get_cameras() for _ in range(50)))
    assert all(len(cameras) == 2 for cameras in answers)


async def test_unknown_fields_are_kept(client: SnapshotClient, field: FieldServer) -> None:
    field.raw["POST /api/snapshot/left"] = says(
        {"success": True, "filename": 5, "get": "odd", "imu": {"roll": 1}}
    )
    result = await client.snapshot_camera("left")
    assert (result.filename, result["imu"], result["get"]) == ("5", {"roll": 1}, "odd")
    assert json.loads(json.dumps(result))["imu"] == {"roll": 1}
