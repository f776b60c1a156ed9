"""Connections that a server has closed, and caller-owned sessions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from asynccam import errors
from asynccam.systems.snapshot import SnapshotClient, SnapshotClientError
from tests.support.snapshot_field_server import in_the_field

CAMERAS = b'[{"name": "left"}]'


@dataclass
class Keeping:
    """A server that keeps connections open, for as many requests as it likes.

    Attributes:
        answers: Requests that each connection answers before it is closed at the next one, in order.
        requests: Request lines, as they came.
    """

    answers: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self.answers.pop(0) if self.answers else 0
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.requests.append(head.decode().partition(" HTTP")[0])
                    if not left:
                        return
                    left -= 1
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CAMERAS) + CAMERAS)
        finally:
            writer.close()


@pytest.fixture
async def keeping() -> AsyncIterator[Keeping]:
    server = Keeping()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield server
    listening.close()
    await listening.wait_closed()


async def test_request_is_retried_on_a_fresh_connection(keeping: Keeping) -> None:
    keeping.answers = [2, 1]
    async with SnapshotClient(base_url=keeping.url) as client:
        for _ in range(3):
            assert len(await client.get_cameras()) == 1
    assert len(keeping.requests) == 4


async def test_request_is_not_retried_for_ever(keeping: Keeping) -> None:
    keeping.answers = [1]
    async with SnapshotClient(base_url=keeping.url) as client:
        await client.get_cameras()
        with pytest.raises(errors.ConnectionError) as raised:
            await client.get_cameras()
        assert not raised.value.maybe_executed
    assert len(keeping.requests) <= 3


async def test_capture_is_never_retried(keeping: Keeping) -> None:
    keeping.answers = [1, 5]
    async with SnapshotClient(base_url=keeping.url) as client:
        await client.get_cameras()
        for capture in (client.snapshot_camera("left"), client.snapshot_all_cameras()):
            with pytest.raises(errors.AsynccamError) as raised:
                await capture
            if isinstance(raised.value, errors.ConnectionError):
                assert raised.value.maybe_executed
    assert [one for one in keeping.requests if "/left" in one] == ["POST /api/snapshot/left"]


# -- sessions that are lent, and what cannot be sent --------------------------------------------


async def test_closed_session_is_reported(keeping: Keeping, tmp_path: Path) -> None:
    session = aiohttp.ClientSession()
    await session.close()
    client = SnapshotClient(base_url=keeping.url, session=session)
    for call in (client.get_cameras(), client.download("/snapshots/a.jpg", tmp_path)):
        with pytest.raises(errors.StateError, match="session is closed"):
            await call


async def test_raising_session_stays_usable(tmp_path: Path) -> None:
    async with in_the_field() as field, aiohttp.ClientSession(raise_for_status=True) as session:
        field.cameras = []
        client = SnapshotClient(base_url=field.url, session=session)
        for call in (client.snapshot_camera("left"), client.download("/snapshots/a.jpg", tmp_path)):
            with pytest.raises(SnapshotClientError, match="not found") as raised:
                await call
            assert raised.value.status_code == 404


@pytest.mark.parametrize("token", ["secret\n", " secret\r\n"])
async def test_token_from_a_file_is_stripped(token: str) -> None:
    async with in_the_field() as field:
        await SnapshotClient(base_url=field.url, token=token).get_cameras()
    assert field.heads[0]["authorization"] == "Bearer secret"


async def test_unsendable_request_is_a_usage_error(tmp_path: Path) -> None:
    async with in_the_field() as field:
        split = SnapshotClient(base_url=field.url, token="hun\nter2")
        nowhere = SnapshotClient(base_url=f"http://{'a' * 70}.example")
        for client in (split, nowhere):
            for call in (client.get_cameras(), client.download("/snapshots/a.jpg", tmp_path)):
                with pytest.raises(errors.UsageError, match="cannot be requested") as raised:
                    await call
                assert "ter2" not in str(raised.value)
        assert field.requests == []
