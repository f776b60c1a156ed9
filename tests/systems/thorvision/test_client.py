"""The client's calls, against a server written by hand."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from asynccam.errors import (
    AuthenticationError,
    BusyError,
    ConnectionError,
    DeviceError,
    NotFoundError,
    RemoteProtocolError,
    StateError,
    TimeoutError,
    UsageError,
)
from asynccam.systems.thorvision import Camera, Capability, PortPool, ThorVisionClient, Versions, XdaqClient
from tests.systems.thorvision.server import ANOTHER, CAMERA, Answer, Asked, RawServer, cameras, in_turn, ok

JPEG = Capability(media_type="image/jpeg", width=640, height=480, framerate="30/1")


def client_of(server: RawServer, **options: object) -> ThorVisionClient:
    return ThorVisionClient("127.0.0.1", server.port, **options)  # type: ignore[arg-type]


async def test_list_cameras() -> None:
    async with RawServer({"/cameras": cameras(CAMERA, ANOTHER)}) as server, client_of(server) as client:
        first, second = await client.list_cameras()
        assert client.address == f"thorvision://127.0.0.1:{server.port}"
        assert client.camera_id(first) == f"{client.address}/usb-1"
        assert client.camera_id(second) == f"{client.address}/Test%3A-1"
    assert (first.name, first.best(width=640), second.caps) == ("HD Webcam", JPEG, ())


def test_defaults_are_the_makers() -> None:
    assert XdaqClient is ThorVisionClient
    assert ThorVisionClient().address == "thorvision://192.168.177.100:8000"


async def test_logs_versions_and_openapi() -> None:
    answers: dict[str, Answer] = {
        "/cameras": cameras(),
        "/logs": ok('["a.log", "b c/ü.log"]'.encode()),
        "/logs/a.log": ok(b"one\ntwo \xff\n"),
        "/logs/b%20c%2F%C3%BC.log": ok(b"three"),
        "/openapi.json": ok(b'{"openapi": "3.0.2"}'),
        "/api_version": ok(b'{"version": "0.9.1"}'),
    }
    async with RawServer(answers) as server, client_of(server) as client:
        assert await client.list_logs() == ["a.log", "b c/ü.log"]
        assert await client.get_log("a.log") == "one\ntwo \ufffd\n"
        assert await client.get_log("b c/ü.log") == "three"
        with pytest.raises(NotFoundError):
            await client.get_log("none")
        assert await client.openapi() == {"openapi": "3.0.2"}
        assert await client.versions() == Versions(api="0.9.1", server=None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ok(b"[{]"), RemoteProtocolError),
        (ok(b"<html>"), RemoteProtocolError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", RemoteProtocolError),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            RemoteProtocolError,
        ),
        (ok(status="500 Oops"), DeviceError),
        (ok(status="503 Busy"), BusyError),
        (ok(status="401 Who"), AuthenticationError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[]", TimeoutError),
        (b"", TimeoutError),
    ],
)
async def test_invalid_responses(answer: bytes, error: type[Exception]) -> None:
    async with RawServer({"/cameras": answer}) as server:
        client = client_of(server, timeout=0.3)
        with pytest.raises(error, match=f"http://127[.]0[.]0[.]1:{server.port}"):
            await client.list_cameras()
        await client.cleanup()


async def test_enter_fails_without_a_server() -> None:
    async with RawServer() as server:
        pass
    with pytest.raises(ConnectionError):
        async with client_of(server):
            raise AssertionError("entered")


async def test_passed_http_session_stays_open() -> None:
    async with RawServer({"/cameras": cameras()}) as server, aiohttp.ClientSession() as session:
        async with client_of(server, session=session) as client:
            await client.list_cameras()
        assert not session.closed
        with pytest.raises(StateError):
            await client.list_cameras()
        assert await client.cleanup() == {}


async def test_invalid_host() -> None:
    with pytest.raises(UsageError):
        ThorVisionClient("a b", 99999)


async def test_start_command(tmp_path: Path) -> None:
    """The stop before it, its exact body, and the stop after it: nothing is behind the accepted port."""
    answers: dict[str, Answer] = {"/cameras": cameras(CAMERA), "/jpeg": ok(), "/stop": ok(status="400 Idle")}
    async with RawServer(answers) as server:
        async with client_of(server, ports=PortPool([40123])) as client:
            (camera,) = await client.list_cameras()
            opened = await client.open_stream(camera, JPEG)
            assert dict(opened) == {
                "camera_id": 3,
                "camera": f"{client.address}/usb-1",
                "capability": "image/jpeg,width=640,height=480,framerate=30/1",
                "port": 40123,
                "url": "srt://127.0.0.1:40123",
            }
            assert await client.open_stream(camera, JPEG) is opened
            assert client.streams == {3: opened}
            assert client.ports.used == {40123}
        assert server.paths() == ["/stop", "/jpeg", "/stop"]
        capability = "image/jpeg,width=640,height=480,framerate=30/1"
        assert server.posted("/jpeg") == [{"id": 3, "port": 40123, "capability": capability}]
        assert server.posted("/stop") == [{"id": 3}, {"id": 3}]
        assert client.ports.used == set()
        assert list(tmp_path.iterdir()) == []


async def test_start_command_of_a_test_camera() -> None:
    answers: dict[str, Answer] = {"/cameras": cameras(ANOTHER), "/test": ok(), "/stop": ok()}
    async with RawServer(answers) as server, client_of(server) as client:
        (camera,) = await client.list_cameras()
        await client.open_stream(camera, JPEG)
        assert server.posted("/test")[0]["id"] == -1


async def test_start_refused_on_one_port_tries_another() -> None:
    busy, down = ok(status="409 Conflict"), ok(status="503 Service Unavailable")
    answers: dict[str, Answer] = {
        "/cameras": cameras(CAMERA),
        "/jpeg": in_turn([busy, down, ok()]),
        "/stop": ok(),
    }
    async with RawServer(answers) as server:
        async with client_of(server, ports=PortPool(range(40200, 40210), rng=lambda: 0.0)) as client:
            (camera,) = await client.list_cameras()
            opened = await client.open_stream(camera, JPEG)
        assert opened.port == 40202
        assert [one["port"] for one in server.posted("/jpeg")] == [40200, 40201, 40202]


async def test_start_refused_on_all_ports_raises() -> None:
    answers: dict[str, Answer] = {"/cameras": cameras(CAMERA), "/jpeg": ok(status="500 No"), "/stop": ok()}
    async with RawServer(answers) as server, client_of(server) as client:
        (camera,) = await client.list_cameras()
        with pytest.raises(DeviceError, match="HTTP 500 No"):
            await client.open_stream(camera, JPEG)
        assert len(server.posted("/jpeg")) == 3
        assert not client.streams
        assert not client.ports.used


async def test_start_of_a_missing_camera_is_not_repeated() -> None:
    answers: dict[str, Answer] = {
        "/cameras": cameras(CAMERA),
        "/jpeg": ok(status="404 Not Found"),
        "/stop": ok(),
    }
    async with RawServer(answers) as server, client_of(server) as client:
        with pytest.raises(NotFoundError):
            await client.open_stream(Camera(id=9), JPEG)
        assert len(server.posted("/jpeg")) == 1


async def test_start_without_response_is_stopped() -> None:
    async def silent(_: Asked) -> bytes:
        await asyncio.sleep(60)
        return b""

    answers: dict[str, Answer] = {"/cameras": cameras(CAMERA), "/jpeg": silent, "/stop": ok()}
    async with RawServer(answers) as server, client_of(server, timeout=0.2) as client:
        (camera,) = await client.list_cameras()
        with pytest.raises(TimeoutError):
            await client.open_stream(camera, JPEG)
        assert server.paths() == ["/stop", "/jpeg", "/stop"]
        assert client.ports.used == set()


async def test_stop_refused_is_in_the_result() -> None:
    answers: dict[str, Answer] = {"/cameras": cameras(CAMERA), "/jpeg": ok(), "/stop": ok(status="500 Stuck")}
    async with RawServer(answers) as server, client_of(server) as client:
        (camera,) = await client.list_cameras()
        await client.open_stream(camera, JPEG)
        stopped = await client.stop_stream(3)
        assert isinstance(stopped["server_error"], DeviceError)
        assert stopped["files"] == ()
        with pytest.raises(StateError, match="not streaming"):
            await client.stop_stream(3)


async def test_unrecordable_capability_is_refused_before_sending(tmp_path: Path) -> None:
    h265 = Capability(media_type="video/x-h265", width=640, height=480, framerate="30/1")
    async with RawServer({"/cameras": cameras(CAMERA)}) as server, client_of(server) as client:
        (camera,) = await client.list_cameras()
        with pytest.raises(UsageError, match="Motion JPEG"):
            await client.open_stream(camera, h265)
        with pytest.raises(UsageError, match="Motion JPEG"):
            await client.start_stream_with_recording(camera, h265, output_dir=tmp_path)
        with pytest.raises(UsageError, match=">= 0"):
            await client.start_stream_with_recording(camera, JPEG, output_dir=tmp_path, split_max_files=-1)
        assert server.paths() == []


async def test_result_reads_like_a_dictionary() -> None:
    answers: dict[str, Answer] = {"/cameras": cameras(CAMERA), "/jpeg": ok(), "/stop": ok()}
    async with RawServer(answers) as server, client_of(server) as client:
        (camera,) = await client.list_cameras()
        opened = await client.open_stream(camera, JPEG)
    assert opened["port"] == opened.port
    assert opened.get("nothing") is None
    assert len(opened) == 5
    with pytest.raises(KeyError):
        opened["keys"]
