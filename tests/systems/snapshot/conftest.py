"""A Snapshot server as it is in the field, and a client of it."""

from collections.abc import AsyncIterator

import pytest

from asynccam.net import http_download
from asynccam.runtime.retry import Backoff
from asynccam.systems.snapshot import SnapshotClient
from tests.support.snapshot_field_server import FieldServer, in_the_field


@pytest.fixture
async def field() -> AsyncIterator[FieldServer]:
    async with in_the_field() as server:
        yield server


@pytest.fixture
async def client(field: FieldServer) -> AsyncIterator[SnapshotClient]:
    async with SnapshotClient(base_url=field.url) as client:
        yield client


@pytest.fixture
def no_waits_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    soon = Backoff(initial=0.001, maximum=0.001, immediate=True)
    assert http_download.download_http.__kwdefaults__ is not None
    monkeypatch.setitem(http_download.download_http.__kwdefaults__, "backoff", soon)
