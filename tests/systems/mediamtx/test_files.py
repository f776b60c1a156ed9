"""Files of the service: lists page by page, the release that cannot list, and contents by HTTP."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asynccam.errors import DamagedFileError, NotFoundError, RemoteProtocolError, UsageError
from asynccam.systems.mediamtx import AuthenticationError, CameraServiceError, FileInfo
from asynccam.systems.mediamtx.settings import Endpoint
from tests.support.file_server import CONTENT, FileServer, serving
from tests.support.jpegs import BROKEN, NONE, WHOLE, jpeg_of_kind, picture_in
from tests.systems.mediamtx.clients import connected
from tests.systems.mediamtx.peer import TOKEN, Gen1, Gen2, Request, Visitor, error, running


def listing(names: list[str], *, total: bool = True, most: int = 1000) -> Callable[[Visitor, Request], str]:
    """A handler that lists ``names``."""

    def answer(visitor: Visitor, request: Request) -> str:
        params = request.get("params") or {}
        first = params.get("offset", 0)
        page = names[first : first + min(params.get("limit", 50), most)]
        files = ", ".join(f'{{"filename": {json.dumps(name)}, "file_size": 1}}' for name in page)
        tail = f', "total": {len(names)}' if total else ""
        return f'"result": {{"files": [{files}], "limit": 50, "offset": {first}{tail}}}'

    return answer


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("most", [1000, 2])
async def test_iterating_fetches_page_after_page(total: bool, most: int) -> None:
    names = [f"{number}.mp4" for number in range(7)]
    async with running(Gen2()) as peer, connected(peer) as client:
        peer.answers["list_recordings"] = listing(names, total=total, most=most)
        assert [file.filename async for file in client.iter_recordings(page=3)] == names
        assert peer.called("list_recordings")[0]["params"] == {"limit": 3, "offset": 0}


async def test_file_pushed_to_next_page_is_listed_once() -> None:
    names = ["3", "2", "1"]

    def growing(visitor: Visitor, request: Request) -> str:
        words = listing(names)(visitor, request)
        names.insert(0, str(len(names) + 1))
        return words

    async with running(Gen2()) as peer, connected(peer) as client:
        peer.answers["list_snapshots"] = growing
        assert [file.filename async for file in client.iter_snapshots(page=2)] == ["3", "2", "1"]


async def test_iteration_ends_if_service_ignores_offset() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        peer.answers["list_recordings"] = lambda visitor, request: (
            '"result": {"files": [{"filename": "a"}, {}]}'
        )
        assert [file.filename async for file in client.iter_recordings()] == ["a"]
        with pytest.raises(UsageError):
            await anext(client.iter_recordings(page=0))


async def test_broken_listing_is_replaced_by_reported_files(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        for method in ("list_recordings", "list_snapshots", "get_recording_info", "delete_recording"):
            peer.answers[method] = lambda visitor, request: error(-32603, "Internal server error")
        await client.stop_recording("/dev/video0")
        for _ in range(2):
            files = await client.list_recordings()
            assert [(file.filename, file.file_size) for file in files.files] == [("a.mp4", 5)]
            assert not files.complete
        assert (await client.list_recordings(offset=1, limit=5)).files == []
        assert (await client.list_snapshots()).files == []
        assert [file.filename async for file in client.iter_recordings()] == ["a.mp4"]
        assert (await client.get_recording_info("a.mp4")).file_size == 5
        with pytest.raises(CameraServiceError, match="Internal"):
            await client.get_recording_info("other.mp4")
        with pytest.raises(CameraServiceError, match="Internal"):
            await client.delete_recording("a.mp4")
    assert caplog.text.count("cannot list its files") == 1


async def test_internal_error_after_working_listing_is_raised() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        peer.answers["list_recordings"] = listing(["a"])
        assert (await client.list_recordings()).complete
        peer.answers["list_recordings"] = lambda visitor, request: error(-32603)
        with pytest.raises(CameraServiceError):
            await client.list_recordings()


async def test_internal_error_of_generation_2_is_raised() -> None:
    async with running(Gen2()) as peer, connected(peer) as client:
        peer.answers["list_recordings"] = lambda visitor, request: error(-32603)
        with pytest.raises(CameraServiceError):
            await client.list_recordings()


async def test_download_sends_token_in_right_header(tmp_path: Path) -> None:
    files = FileServer(breaks=[300_000], part=tmp_path / "ü.mp4.part")
    async with running(Gen1()) as peer, serving(files):
        async with connected(peer, http_port=files.port) as client:
            local = await client.download_recording("a b/ü.mp4", tmp_path)
        assert local.path.read_bytes() == CONTENT
        assert local.source == "a b/ü.mp4"
        assert files.requests[0]["path"] == "/files/recordings/a%20b%2F%C3%BC.mp4"
        assert [request["authorization"] for request in files.requests] == [f"Bearer {TOKEN}"] * 2
        assert files.requests[1]["range"].startswith("bytes=")


@pytest.mark.parametrize("kind", [*WHOLE, *BROKEN, *NONE])
async def test_picture_is_checked_before_it_gets_its_name(tmp_path: Path, kind: str) -> None:
    data = jpeg_of_kind(kind)
    async with (
        running(Gen1()) as peer,
        serving(FileServer(content=data)) as files,
        connected(peer, http_port=files.port) as client,
    ):
        if kind in WHOLE:
            local = await client.download_snapshot("s.jpg", tmp_path)
            assert local.path.read_bytes() == picture_in(kind)
            assert (local.size, local.sha256) == (
                len(picture_in(kind)),
                hashlib.sha256(picture_in(kind)).hexdigest(),
            )
            return
        with pytest.raises(RemoteProtocolError, match=r"s\.jpg is (a broken|not a JPEG)") as raised:
            await client.download_snapshot("s.jpg", tmp_path)
        if kind in NONE:
            assert list(tmp_path.iterdir()) == []
            return
        assert isinstance(raised.value, DamagedFileError)
        assert raised.value.part is not None
        assert raised.value.part.read_bytes() == data
        other = await client.download_snapshot("s.png", tmp_path)
        assert other.path.read_bytes() == data


async def test_api_key_header_and_snapshot_folder(
    tmp_path: Path,
) -> None:
    async with running(Gen1()) as peer, serving(FileServer(content=jpeg_of_kind("ok"))) as files:
        async with connected(peer, auth_token=None, api_key=TOKEN, http_port=files.port) as client:
            await client.download_snapshot(FileInfo(filename="s.jpg"), tmp_path)
        assert files.requests[0]["path"] == "/files/snapshots/s.jpg"
        assert files.requests[0]["x-api-key"] == TOKEN
        assert "authorization" not in files.requests[0]


@pytest.mark.parametrize(
    ("told", "followed"),
    [
        ("/files/other/x%2Fy.mp4", "/files/other/x%2Fy.mp4"),
        ("http://127.0.0.1:{port}/elsewhere/x.mp4", "/elsewhere/x.mp4"),
        ("http://127.0.0.2:{port}/elsewhere/x.mp4", "/files/recordings/x.mp4"),
        ("https://127.0.0.1:{port}/elsewhere/x.mp4", "/files/recordings/x.mp4"),
        ("//evil.example/x.mp4", "/files/recordings/x.mp4"),
        ("http://[", "/files/recordings/x.mp4"),
        ("", "/files/recordings/x.mp4"),
    ],
)
async def test_download_url_of_other_host_is_ignored(told: str, followed: str, tmp_path: Path) -> None:
    async with running(Gen1()) as peer, serving(FileServer()) as files:
        async with connected(peer, http_port=files.port) as client:
            file = FileInfo(filename="x.mp4", download_url=told.format(port=files.port))
            await client.download_recording(file, tmp_path)
        assert files.requests[0]["path"] == followed


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_file_name_that_is_a_path_is_refused(name: str, tmp_path: Path) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        with pytest.raises(UsageError):
            await client.download_recording(name, tmp_path)


async def test_file_server_errors_are_distinguished(tmp_path: Path) -> None:
    async with running(Gen1()) as peer, serving(FileServer(status="404 Not Found")) as files:
        async with connected(peer, http_port=files.port) as client:
            with pytest.raises(NotFoundError):
                await client.download_recording("a.mp4", tmp_path)
            files.status = "401 Unauthorized"
            with pytest.raises(AuthenticationError) as raised:
                await client.download_recording("a.mp4", tmp_path)
        assert TOKEN not in str(raised.value)


def test_addresses_of_ipv6_hosts_have_brackets() -> None:
    endpoint = Endpoint("::1", 8002, secure=True)
    assert endpoint.url == "wss://[::1]:8002/ws"
    assert endpoint.file_url("recordings", "a") == "https://[::1]:8003/files/recordings/a"
