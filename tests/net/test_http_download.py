"""Files over HTTP: whole, resumed, changed meanwhile, refused, stalled, cancelled."""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from asynccam.errors import (
    AddressError,
    AuthenticationError,
    BusyError,
    ConnectionError,
    DamagedFileError,
    DeviceError,
    NotFoundError,
    PermissionDeniedError,
    RemoteProtocolError,
    StateError,
    TimeoutError,
    TransferError,
    UsageError,
)
from asynccam.model.digest import DigestChoice, checked_digest
from asynccam.net.http import HttpClient
from asynccam.net.http_download import MAX_TRIES, download_http
from asynccam.runtime.retry import Backoff
from tests.support.digests import digest_of
from tests.support.file_server import CONTENT, FileServer, serving
from tests.support.waiting import eventually

SOON = Backoff(initial=0.001, maximum=0.001, immediate=True)


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient() as client:
        yield client


async def test_download_complete_file(http: HttpClient, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    async with serving(FileServer()) as files:
        local = await download_http(
            http,
            files.url(),
            tmp_path / "new",
            "a/../b.mp4",
            headers={"Authorization": "Bearer x"},
            progress=lambda received, total: told.append((received, total)),
        )
        assert files.requests[0]["authorization"] == "Bearer x"
        assert files.requests[0]["accept-encoding"] == "identity"
    assert local.path.read_bytes() == CONTENT
    assert local.path.parent == tmp_path / "new"
    assert local.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in (tmp_path / "new").iterdir()] == [local.path.name]


@pytest.mark.parametrize("choice", ["sha256", "blake3", "xxh3", True, False, None])
async def test_download_digest(http: HttpClient, tmp_path: Path, choice: DigestChoice) -> None:
    """Of a file that takes several requests, too."""
    name = checked_digest(choice)
    async with serving(FileServer(breaks=[300_000], part=tmp_path / "a.mp4.part")) as files:
        local = await download_http(http, files.url(), tmp_path, "a.mp4", digest=choice, backoff=SOON)
    value = digest_of(name, CONTENT)
    expected = (value, "") if name == "sha256" else ("", f"{name}:{value}" if name else "")
    assert (local.sha256, local.digest) == expected


async def test_download_digest_that_cannot_be_computed_requests_nothing(
    http: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    async with serving(FileServer()) as files:
        with pytest.raises(UsageError, match=r"asynccam\[speed\]"):
            await download_http(http, files.url(), tmp_path / "new", "a.mp4", digest="blake3")
        assert files.requests == []


async def test_download_empty_file_and_unknown_length(http: HttpClient, tmp_path: Path) -> None:
    async with serving(FileServer(content=b"")) as files:
        assert (await download_http(http, files.url(), tmp_path, "empty")).size == 0
    async with serving(FileServer(announce=False)) as files:
        assert (await download_http(http, files.url(), tmp_path, "long")).path.read_bytes() == CONTENT


async def test_download_resumes_a_broken_connection(http: HttpClient, tmp_path: Path) -> None:
    secrets = iter(["one", "two", "three"])

    async def headers() -> dict[str, str]:
        return {"X-API-Key": next(secrets)}

    async with serving(FileServer(breaks=[300_000, 200_000], part=tmp_path / "a.mp4.part")) as files:
        local = await download_http(http, files.url(), tmp_path, "a.mp4", headers=headers, backoff=SOON)
        assert local.path.read_bytes() == CONTENT
        assert local.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert len(files.requests) == 3
        assert [request["x-api-key"] for request in files.requests] == ["one", "two", "three"]
        ranges = [request.get("range", "") for request in files.requests]
        assert ranges == ["", "bytes=300000-", "bytes=500000-"]
        assert files.requests[1]["if-range"] == '"v1"'


async def test_download_skips_when_range_is_ignored(http: HttpClient, tmp_path: Path) -> None:
    async with serving(FileServer(breaks=[300_000], ranges=False, part=tmp_path / "a.mp4.part")) as files:
        local = await download_http(http, files.url(), tmp_path, "a.mp4", backoff=SOON)
    assert local.path.read_bytes() == CONTENT


async def test_download_refuses_a_changed_file(http: HttpClient, tmp_path: Path) -> None:
    files = FileServer(breaks=[300_000], part=tmp_path / "a.mp4.part")

    async def change() -> dict[str, str]:
        if files.requests:
            files.etag = '"v2"'
        return {}

    async with serving(files):
        with pytest.raises(TransferError, match="changed") as raised:
            await download_http(http, files.url(), tmp_path, "a.mp4", headers=change, backoff=SOON)
    part = raised.value.part
    assert part is not None
    assert part.read_bytes() == CONTENT[: raised.value.received]
    assert not (tmp_path / "a.mp4").exists()


async def test_download_refuses_another_length(http: HttpClient, tmp_path: Path) -> None:
    files = FileServer(breaks=[300_000], etag="", part=tmp_path / "a.mp4.part")

    async def grow() -> dict[str, str]:
        if files.requests:
            files.content = CONTENT + b"more"
        return {}

    async with serving(files):
        # Of a connection that is dropped, nothing at all may have arrived; then it begins anew.
        with pytest.raises(TransferError, match=r"bytes now|changed on the server"):
            await download_http(http, files.url(), tmp_path, "a.mp4", headers=grow, backoff=SOON)


async def test_download_refuses_a_wrong_range(http: HttpClient, tmp_path: Path) -> None:
    lie = f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"
    async with serving(
        FileServer(breaks=[300_000], content_range=lie, part=tmp_path / "a.mp4.part")
    ) as files:
        with pytest.raises(RemoteProtocolError, match="asked for bytes from"):
            await download_http(http, files.url(), tmp_path, "a.mp4", backoff=SOON)
    assert (tmp_path / "a.mp4.part").exists()


async def test_download_416_without_its_body(http: HttpClient, tmp_path: Path) -> None:
    files = FileServer(breaks=[300_000], etag="", part=tmp_path / "a.mp4.part")

    async def shrink() -> dict[str, str]:
        if files.requests:
            files.content = CONTENT[:10]
        return {}

    async with serving(files):
        async with asyncio.timeout(5):
            with pytest.raises(TransferError, match="shorter"):
                await download_http(http, files.url(), tmp_path, "a.mp4", headers=shrink, backoff=SOON)


async def test_download_gives_up_and_keeps_the_part(http: HttpClient, tmp_path: Path) -> None:
    async with serving(FileServer(breaks=[300_000] + [0] * 20, part=tmp_path / "a.mp4.part")) as files:
        with pytest.raises(TransferError) as raised:
            await download_http(http, files.url(), tmp_path, "a.mp4", backoff=SOON)
        assert len(files.requests) == 1 + MAX_TRIES - 1
    assert raised.value.expected == len(CONTENT)
    assert raised.value.part == tmp_path / "a.mp4.part"
    assert raised.value.part.stat().st_size == raised.value.received > 0


async def test_download_without_resume(http: HttpClient, tmp_path: Path) -> None:
    async with serving(FileServer(breaks=[300_000], part=tmp_path / "a.mp4.part")) as files:
        with pytest.raises(TransferError):
            await download_http(http, files.url(), tmp_path, "a.mp4", resume=False)
        assert len(files.requests) == 1


async def test_download_silent_server_is_tried_twice(http: HttpClient, tmp_path: Path) -> None:
    async with serving(FileServer(breaks=[300_000, 0], hang=True)) as files:
        with pytest.raises(TransferError, match="in time"):
            await download_http(http, files.url(), tmp_path, "a.mp4", stall_timeout=0.2, backoff=SOON)
        assert len(files.requests) == 2


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("401 Unauthorized", AuthenticationError),
        ("403 Forbidden", PermissionDeniedError),
        ("404 Not Found", NotFoundError),
        ("503 Busy", BusyError),
        ("500 Oops", DeviceError),
        ("302 Found", RemoteProtocolError),
        ("206 Partial Content", RemoteProtocolError),
    ],
)
async def test_download_refusal_leaves_nothing(
    http: HttpClient, tmp_path: Path, status: str, expected: type[Exception]
) -> None:
    async with serving(FileServer(status=status)) as files:
        with pytest.raises(expected, match=status[:3]) as raised:
            await download_http(http, files.url("/x?token=secret"), tmp_path, "a.mp4")
        assert type(raised.value) is expected
        assert "secret" not in str(raised.value)
    assert not list(tmp_path.iterdir())


async def test_nobody_there_is_a_connection_error(http: HttpClient, tmp_path: Path) -> None:
    async with serving(FileServer()) as files:
        gone = files.url()
    with pytest.raises(ConnectionError):
        await download_http(http, gone, tmp_path, "a.mp4")
    with pytest.raises(AddressError):
        await download_http(http, "http://:0:/", tmp_path, "a.mp4")


async def test_download_cancelled_keeps_the_part(http: HttpClient, tmp_path: Path) -> None:
    async with serving(FileServer(breaks=[300_000], hang=True)) as files:
        task = asyncio.ensure_future(download_http(http, files.url(), tmp_path, "a.mp4"))
        part = tmp_path / "a.mp4.part"
        await eventually(lambda: part.exists() and part.stat().st_size == 300_000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert part.read_bytes() == CONTENT[:300_000]


async def test_download_twenty_of_one_name(http: HttpClient, tmp_path: Path) -> None:
    async with serving(FileServer()) as files, asyncio.TaskGroup() as group:
        tasks = [group.create_task(download_http(http, files.url(), tmp_path, "a.mp4")) for _ in range(20)]
        await asyncio.wait(tasks)
    assert len({task.result().path for task in tasks}) == 20
    assert {task.result().size for task in tasks} == {len(CONTENT)}


async def test_http_client_does_not_close_a_borrowed_session(tmp_path: Path) -> None:
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as session:
        async with HttpClient(session) as client, serving(FileServer()) as files:
            await download_http(client, files.url(), tmp_path, "a.mp4")
            assert files.requests[0]["x-mine"] == "yes"
        assert not session.closed
    with pytest.raises(StateError):
        await download_http(client, "http://127.0.0.1/", tmp_path, "b.mp4")


async def test_http_request_deadline(http: HttpClient) -> None:
    async with serving(FileServer(breaks=[0], hang=True)) as files:
        with pytest.raises(TimeoutError) as raised:
            async with http.request("POST", files.url(), timeout=0.1, maybe_executed=True) as response:
                await response.read()
        assert raised.value.maybe_executed


def at_the_end(path: Path) -> int:
    if path.stat().st_size < len(CONTENT):
        raise DamagedFileError("is cut off")
    return 0


async def test_download_restarts_without_length_and_range(http: HttpClient, tmp_path: Path) -> None:
    files = FileServer(
        announce=False, breaks=[300_001, 200_001], ranges=False, etag="", part=tmp_path / "a.jpg.part"
    )
    async with serving(files):
        local = await download_http(http, files.url(), tmp_path, "a.jpg", backoff=SOON, inspect=at_the_end)
    assert len(files.requests) == 3
    assert local.path.read_bytes() == CONTENT
    assert local.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert list(tmp_path.iterdir()) == [local.path]


async def test_download_unknown_length_changed_meanwhile(http: HttpClient, tmp_path: Path) -> None:
    files = FileServer(announce=False, breaks=[300_001], ranges=False, part=tmp_path / "a.jpg.part")

    async def change() -> dict[str, str]:
        if files.requests:
            files.etag = '"v2"'
        return {}

    async with serving(files):
        with pytest.raises(TransferError, match="changed") as raised:
            await download_http(
                http,
                files.url(),
                tmp_path,
                "a.jpg",
                headers=change,
                backoff=SOON,
                inspect=at_the_end,
            )
    assert raised.value.part is not None
    assert raised.value.part.read_bytes() == CONTENT[: raised.value.received]


@pytest.mark.parametrize("announce", [True, False])
@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("lead", [0, 1, 70_000, 3_000_000, len(CONTENT)])
async def test_download_removes_what_precedes_the_content(
    http: HttpClient, tmp_path: Path, lead: int, digest: bool, announce: bool
) -> None:
    content = CONTENT * (lead // len(CONTENT) + 1)
    told: list[tuple[int, int | None]] = []
    async with serving(FileServer(content=content, announce=announce)) as files:
        local = await download_http(
            http,
            files.url(),
            tmp_path,
            "a",
            inspect=lambda path: lead,
            digest=digest,
            progress=lambda *counts: told.append(counts),
        )
    left = content[lead:]
    assert local.path.read_bytes() == left
    assert local.size == len(left)
    assert local.sha256 == (hashlib.sha256(left).hexdigest() if digest else "")
    assert told[-1] == (len(content), len(content) if announce else None)
    assert list(tmp_path.iterdir()) == [local.path]


@pytest.mark.parametrize("announce", [True, False])
async def test_download_of_another_file_type(http: HttpClient, tmp_path: Path, announce: bool) -> None:
    def refuse(path: Path) -> int:
        assert path.read_bytes() == CONTENT
        raise RemoteProtocolError("not what was hoped for")

    async with serving(FileServer(announce=announce)) as files:
        with pytest.raises(RemoteProtocolError, match="hoped"):
            await download_http(http, files.url(), tmp_path, "bad", inspect=refuse)
        assert len(files.requests) == 1
    assert list(tmp_path.iterdir()) == []


async def test_download_keeps_a_broken_file_as_a_part(http: HttpClient, tmp_path: Path) -> None:
    def refuse(path: Path) -> int:
        raise DamagedFileError("broken", verdict="truncated")

    async with serving(FileServer()) as files:
        with pytest.raises(DamagedFileError, match="broken") as raised:
            await download_http(http, files.url(), tmp_path, "bad", inspect=refuse)
        assert len(files.requests) == 1
    assert raised.value.part is not None
    assert raised.value.part.read_bytes() == CONTENT
    assert (raised.value.received, raised.value.verdict) == (len(CONTENT), "truncated")
    assert list(tmp_path.iterdir()) == [raised.value.part]


async def test_download_broken_file_without_length_is_retried(http: HttpClient, tmp_path: Path) -> None:
    seen: list[int] = []

    def inspect(path: Path) -> int:
        seen.append(path.stat().st_size)
        if len(seen) == 1:
            raise DamagedFileError("broken")
        return 0

    async with serving(FileServer(announce=False, ranges=False)) as files:
        local = await download_http(http, files.url(), tmp_path, "a", inspect=inspect, backoff=SOON)
        assert len(files.requests) == 2
        assert local.path.read_bytes() == CONTENT
        assert seen == [len(CONTENT)] * 2  # not read again before it gets its name

        def never(path: Path) -> int:
            raise DamagedFileError("half of it")

        with pytest.raises(TransferError, match=r"broke off.*half of it") as raised:
            await download_http(http, files.url(), tmp_path, "b", inspect=never, backoff=SOON)
    assert raised.value.part is not None
    assert raised.value.part.read_bytes() == CONTENT


@pytest.mark.parametrize("announce", [True, False])
async def test_download_over_the_size_limit(http: HttpClient, tmp_path: Path, announce: bool) -> None:
    async with serving(FileServer(announce=announce)) as files:
        with pytest.raises(RemoteProtocolError, match="more than 1000 bytes"):
            await download_http(http, files.url(), tmp_path, "a", max_size=1000)
        assert len(files.requests) == 1
        local = await download_http(http, files.url(), tmp_path, "b", max_size=len(CONTENT))
    assert list(tmp_path.iterdir()) == [local.path]
