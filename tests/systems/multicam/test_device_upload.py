"""UPLOAD_TO_CLOUD to a real HTTP server: what arrives, is tried again, is shown and is deleted."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from asynccam.errors import UsageError
from asynccam.runtime.retry import Backoff
from asynccam.systems.multicam.device import upload as device_upload
from asynccam.systems.multicam.device.device import MultiCamDevice
from tests.support.multicam_device import Answer, ask, running
from tests.support.waiting import eventually

HOSTS = ("127.0.0.1",)
NAME = "video_1729000000.mp4"
SECRET = "X-Amz-Signature=c0ffee%2Fc0ffee"
IAM = {
    "s3Bucket": "takes",
    "s3Key": "day 1/a+b.mp4",
    "awsAccessKeyId": "AKIAVERYSECRET",
    "awsSecretAccessKey": "verysecretkey",
    "awsSessionToken": "verysecrettoken",
    "awsRegion": "eu-central-1",
}


class Cloud:
    """An HTTP server that takes PUTs.

    Attributes:
        statuses: Answers to the first requests; 200 afterwards.
        go_on: Cleared, the body is not read until it is set.
        bodies: What arrived.
        requests: Their lines and headers.
    """

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.bodies: list[bytes] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append((request.raw_path, dict(request.headers)))
        await self.go_on.wait()
        self.bodies.append(await request.read())
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 307 else None)


@asynccontextmanager
async def cloud() -> AsyncIterator[Cloud]:
    server = Cloud()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_put("/{path:.*}", server.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        server.go_on.set()
        await runner.cleanup()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_upload, "RETRIES", Backoff(initial=0.01, maximum=0.02))


async def upload(device: MultiCamDevice, url: str, name: str = NAME) -> Answer:
    return await ask(device, "UPLOAD_TO_CLOUD", fileName=name, uploadUrl=f"{url}/takes/a%2Fb?{SECRET}")


async def status_when(device: MultiCamDevice, wanted: Callable[[Answer], bool]) -> Answer:
    """The first status that is wanted."""
    async with asyncio.timeout(10):
        while not wanted(status := await ask(device, "DEVICE_STATUS")):
            pass
    return status


def failed(status: Answer) -> bool:
    return bool(status["failedUploadQueue"])


def under_way(status: Answer) -> bool:
    return bool(status["uploadQueue"][0]["bytesUploaded"])


async def test_upload_to_presigned_url_deletes_recording(tmp_path: Path) -> None:
    footage = os.urandom(1_000_000)
    (tmp_path / NAME).write_bytes(footage)
    async with cloud() as server, running(tmp_path, upload_to=HOSTS) as device:
        answer = await upload(device, server.url)
        await eventually(lambda: not (tmp_path / NAME).exists())
        status = await ask(device, "DEVICE_STATUS")
    assert answer["status"] == "upload_queued"
    assert server.bodies == [footage]
    ((path, headers),) = server.requests
    assert path == f"/takes/a%2Fb?{SECRET}", "re-encoding would break the signature"
    assert headers["Content-Length"] == "1000000"
    assert "Transfer-Encoding" not in headers
    assert "Content-Type" not in headers
    assert status["uploadQueue"] == status["failedUploadQueue"] == []


async def test_status_shows_progress_without_credentials(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = 32 * 1024 * 1024
    (tmp_path / NAME).write_bytes(bytes(size))
    (tmp_path / "video_2.mp4").write_bytes(b"next")
    caplog.set_level(logging.DEBUG)
    async with cloud() as server, running(tmp_path, upload_to=HOSTS) as device:
        server.go_on.clear()
        first = await upload(device, server.url)
        await upload(device, server.url, "video_2.mp4")
        status = await status_when(device, under_way)
        server.go_on.set()
        await eventually(lambda: not any(tmp_path.iterdir()))
    assert first["uploadQueue"][0]["fileName"] == NAME
    uploading, queued = status["uploadQueue"]
    assert uploading["status"] == "uploading"
    assert uploading["fileSize"] == size
    assert 0 < uploading["bytesUploaded"] < size
    assert uploading["uploadProgress"] == round(100 * uploading["bytesUploaded"] / size, 1)
    assert uploading["uploadSpeed"] > 0
    assert (queued["fileName"], queued["status"], queued["bytesUploaded"]) == ("video_2.mp4", "queued", 0)
    assert [len(body) for body in server.bodies] == [size, 4]
    assert "c0ffee" not in str(status) + caplog.text


async def test_temporary_failures_are_retried(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with cloud() as server, running(tmp_path, upload_to=HOSTS) as device:
        server.statuses = [503, 500, 429]
        await upload(device, server.url)
        await eventually(lambda: not (tmp_path / NAME).exists())
    assert server.bodies == [b"footage"] * 4


@pytest.mark.parametrize("status", [400, 403, 404, 307])
async def test_refused_upload_keeps_recording(
    tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    caplog.set_level(logging.DEBUG)
    async with cloud() as server, running(tmp_path, upload_to=HOSTS) as device:
        server.statuses = [status]
        await upload(device, server.url)
        shown = await status_when(device, failed)
        assert (tmp_path / NAME).exists()
        assert len(server.bodies) == 1
        await upload(device, server.url)
        await eventually(lambda: not (tmp_path / NAME).exists())
        after = await ask(device, "DEVICE_STATUS")
    assert shown["uploadQueue"] == []
    assert f"answered {status}" in shown["failedUploadQueue"][0]["error"]
    assert after["failedUploadQueue"] == []
    assert "c0ffee" not in str(shown) + caplog.text


async def test_unreachable_server_fails_after_all_tries(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    (tmp_path / "video_2.mp4").write_bytes(b"next")
    caplog.set_level(logging.DEBUG)
    async with cloud() as server, running(tmp_path, upload_to=HOSTS) as device:
        await upload(device, "http://127.0.0.1:1")
        await upload(device, server.url, "video_2.mp4")
        shown = await status_when(device, failed)
        await eventually(lambda: not (tmp_path / "video_2.mp4").exists(), what="the next one is uploaded")
    assert "127.0.0.1" in shown["failedUploadQueue"][0]["error"]
    assert (tmp_path / NAME).exists()
    assert "c0ffee" not in str(shown) + caplog.text


async def test_stalled_server_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_upload, "STALL_TIMEOUT", 0.1)
    monkeypatch.setattr(device_upload, "ATTEMPTS", 2)
    (tmp_path / NAME).write_bytes(bytes(32 * 1024 * 1024))
    async with cloud() as server, running(tmp_path, upload_to=HOSTS) as device:
        server.go_on.clear()
        await upload(device, server.url)
        shown = await status_when(device, failed)
        assert len(server.requests) == 2
    assert "no progress" in shown["failedUploadQueue"][0]["error"]


async def test_upload_with_iam_fields_is_signed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    caplog.set_level(logging.DEBUG)
    async with cloud() as server, running(tmp_path, s3_endpoint=server.url) as device:
        answer = await ask(device, "UPLOAD_TO_CLOUD", fileName=NAME, **IAM)
        await eventually(lambda: not (tmp_path / NAME).exists())
    assert server.bodies == [b"footage"]
    ((path, headers),) = server.requests
    assert path == "/takes/day%201/a%2Bb.mp4"
    assert headers["x-amz-security-token"] == "verysecrettoken"
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAVERYSECRET/")
    assert "/eu-central-1/s3/aws4_request," in headers["Authorization"]
    assert "verysecret" not in (str(answer) + caplog.text).lower()


@pytest.mark.parametrize(
    "missing", ["s3Bucket", "s3Key", "awsAccessKeyId", "awsSecretAccessKey", "awsRegion"]
)
async def test_incomplete_iam_fields_are_refused(tmp_path: Path, missing: str) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with running(tmp_path, upload_to=HOSTS) as device:
        answer = await ask(device, "UPLOAD_TO_CLOUD", fileName=NAME, **{**IAM, missing: None})
    assert answer["status"] == "error"
    assert missing in answer["message"]
    assert "verysecret" not in str(answer).lower()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x?c0ffee",
        "file:///etc/passwd?c0ffee",
        "c0ffee",
        "http:///c0ffee",
        "http://[::1",
        "http://[::1/c0ffee",
        "http://::1]/c0ffee",
        "http://[c0ffee]/",
        "http://host:99999/c0ffee",
        "http://host:port/c0ffee",
        "//c0ffee",
    ],
)
async def test_invalid_url_is_refused_and_hidden(tmp_path: Path, url: str) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with running(tmp_path, upload_to=HOSTS) as device:
        answer = await ask(device, "UPLOAD_TO_CLOUD", fileName=NAME, uploadUrl=url)
    assert answer["status"] == "error"
    assert "c0ffee" not in str(answer)


async def test_invalid_bucket_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with running(tmp_path) as device:
        answer = await ask(
            device, "UPLOAD_TO_CLOUD", fileName=NAME, **(IAM | {"s3Bucket": "[", "awsRegion": "]:x"})
        )
    assert answer["status"] == "error"


async def test_unknown_recording_is_not_queued(tmp_path: Path) -> None:
    async with running(tmp_path, upload_to=HOSTS) as device:
        answer = await ask(device, "UPLOAD_TO_CLOUD", fileName="../x.mp4", uploadUrl="http://127.0.0.1/")
    assert answer["status"] == "file_not_found"


async def test_repeated_upload_replaces_queued_one(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with cloud() as server, running(tmp_path, upload_to=HOSTS) as device:
        server.go_on.clear()
        await upload(device, server.url)
        again = await upload(device, server.url)
        server.go_on.set()
        await eventually(lambda: not (tmp_path / NAME).exists())
    assert len(again["uploadQueue"]) == 1
    assert server.bodies == [b"footage"]


async def test_close_aborts_an_upload_and_keeps_the_recording(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(bytes(32 * 1024 * 1024))
    async with cloud() as server:
        server.go_on.clear()
        async with running(tmp_path, upload_to=HOSTS) as device:
            await upload(device, server.url)
            await eventually(lambda: server.requests)
    assert (tmp_path / NAME).exists()


async def test_borrowed_session_stays_open(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with cloud() as server, aiohttp.ClientSession(headers={"X-Mine": "yes"}) as session:
        async with running(tmp_path, http=session, upload_to=HOSTS) as device:
            await upload(device, server.url)
            await eventually(lambda: not (tmp_path / NAME).exists())
        assert not session.closed
    assert server.requests[0][1]["X-Mine"] == "yes"


@pytest.mark.parametrize("allowed", [(), ("localhost",), ("127.0.0.1:1",), ("127.0.0.10", "example.org")])
async def test_upload_to_other_host_is_refused(tmp_path: Path, allowed: tuple[str, ...]) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with cloud() as server, running(tmp_path, upload_to=allowed) as device:
        answer = await upload(device, server.url)
        status = await ask(device, "DEVICE_STATUS")
    assert answer["status"] == "error"
    assert f"--upload-to {server.url.removeprefix('http://')}" in answer["message"]
    assert "c0ffee" not in str(answer)
    assert (status["uploadQueue"], status["failedUploadQueue"], server.requests) == ([], [], [])
    assert (tmp_path / NAME).exists()


async def test_allowed_host_with_port(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with cloud() as server:
        place = server.url.removeprefix("http://")
        async with running(tmp_path, upload_to=[place]) as device:
            for url in (
                f"http://{place}@127.0.0.2/x",
                f"http://user@{place}/x",
                f"http://127.0.0.2/{place}",
                f"http://127.0.0.2#@{place}",
                f"http://127.0.0.2\\@{place}/x",
                f"http://{place}0/x",
                "http://[::1/x",
                "http://127.0.0.1:99999/x",
                "http://127.0.0.1:0/x",
            ):
                answer = await ask(device, "UPLOAD_TO_CLOUD", fileName=NAME, uploadUrl=url)
                assert answer["status"] == "error", url
            assert (await upload(device, server.url))["status"] == "upload_queued"
            await eventually(lambda: not (tmp_path / NAME).exists())
    assert server.bodies == [b"footage"]


async def test_amazon_must_be_allowed(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with running(tmp_path) as device:
        answer = await ask(device, "UPLOAD_TO_CLOUD", fileName=NAME, **IAM)
    assert answer["status"] == "error"
    assert "--upload-to takes.s3.eu-central-1.amazonaws.com:443" in answer["message"]
    with pytest.raises(UsageError, match="not a host"):
        MultiCamDevice(tmp_path, upload_to=["http://host/"])
