"""The file server of the simulated service, asked by hand over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
from tests.support.mediamtx_service import simulator, talker, token

CONTENT = bytes(range(256)) * 4000
NAME = "a b%20ü.jpg"
QUOTED = "a%20b%2520%C3%BC.jpg"
KEY = {"X-API-Key": "viewer-key"}


@asynccontextmanager
async def served(
    tmp_path: Path, generation: int
) -> AsyncIterator[tuple[MediaMTXSimulator, aiohttp.ClientSession]]:
    """A service with one picture of `CONTENT`, and a session to fetch it with."""
    async with simulator(generation, directory=tmp_path, clip=CONTENT, http_port=0) as service:
        async with talker(service) as one:
            device = "/dev/video0" if generation == 1 else "camera0"
            taken = await one.ask("take_snapshot", device=device, filename=NAME)
            assert taken["filename"] == NAME
        base = f"http://127.0.0.1:{service.http_port}"
        async with aiohttp.ClientSession(base) as session:
            yield service, session


def url(path: str) -> URL:
    return URL(path, encoded=True)


@pytest.mark.parametrize("role", [None, "viewer", "admin"])
async def test_file_is_served_to_valid_credentials(role: str | None, tmp_path: Path) -> None:
    headers = KEY if role is None else {"Authorization": f"Bearer {token(role)}"}
    async with served(tmp_path, 2) as (_, session):
        async with session.get(url(f"/files/snapshots/{QUOTED}"), headers=headers) as answer:
            assert answer.status == 200
            assert answer.headers["Accept-Ranges"] == "bytes"
            assert await answer.read() == CONTENT
        async with session.head(url(f"/files/snapshots/{QUOTED}"), headers=headers) as answer:
            assert answer.content_length == len(CONTENT)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "no such key"},
        {"Authorization": "Bearer viewer-key"},
        {"Authorization": f"Bearer {token(lifetime=-9)}"},
        {"Authorization": "Basic eDp5"},
        {"X-API-Key": token()},
    ],
)
async def test_file_is_refused_without_credentials(headers: dict[str, str], tmp_path: Path) -> None:
    async with (
        served(tmp_path, 1) as (_, session),
        session.get(url(f"/files/snapshots/{QUOTED}"), headers=headers) as answer,
    ):
        assert answer.status == 401
        assert CONTENT[:256] not in await answer.read()


@pytest.mark.parametrize(
    "path",
    [
        f"/files/recordings/{QUOTED}",
        f"/files/elsewhere/{QUOTED}",
        "/files/snapshots/..%2F..%2Fsample",
        "/files/snapshots/%2E%2E",
        "/files/snapshots/%00",
        "/files/snapshots/",
        "/sample",
        "/ws/",
    ],
)
async def test_file_server_refuses_paths_outside(path: str, tmp_path: Path) -> None:
    async with served(tmp_path, 2) as (_, session), session.get(url(path), headers=KEY) as answer:
        assert answer.status == 404


async def test_range_request_gets_206(tmp_path: Path) -> None:
    async with (
        served(tmp_path, 1) as (_, session),
        session.get(url(f"/files/snapshots/{QUOTED}"), headers={**KEY, "Range": "bytes=1000-"}) as answer,
    ):
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}"
        assert await answer.read() == CONTENT[1000:]


async def test_416_of_generation_1_announces_body_and_sends_none(tmp_path: Path) -> None:
    async with (
        served(tmp_path, 1) as (_, session),
        session.get(
            url(f"/files/snapshots/{QUOTED}"), headers={**KEY, "Range": f"bytes={len(CONTENT)}-"}
        ) as answer,
    ):
        assert answer.status == 416
        assert answer.content_length == len(CONTENT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.content.readany(), 0.2)


async def test_416_of_generation_2_is_complete(tmp_path: Path) -> None:
    async with (
        served(tmp_path, 2) as (_, session),
        session.get(
            url(f"/files/snapshots/{QUOTED}"), headers={**KEY, "Range": f"bytes={len(CONTENT)}-"}
        ) as answer,
    ):
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"
        assert len(await answer.read()) < 100


async def test_file_is_cut_by_fault(tmp_path: Path) -> None:
    async with served(tmp_path, 2) as (service, session):
        service.faults.cut_files_after = 100_000
        got = b""
        while len(got) < len(CONTENT):
            headers = {**KEY, "Range": f"bytes={len(got)}-"} if got else KEY
            async with session.get(url(f"/files/snapshots/{QUOTED}"), headers=headers) as answer:
                assert answer.status == (206 if got else 200)
                assert answer.content_length == len(CONTENT) - len(got)
                try:
                    while data := await answer.content.readany():
                        got += data
                except aiohttp.ClientPayloadError:
                    assert len(got) < len(CONTENT)
        assert got == CONTENT
