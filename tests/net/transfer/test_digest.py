"""Digests beside the transfers: many files share few threads, and one that stops holds up no other."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from asynccam.errors import StorageError
from asynccam.net.transfer.partfile import BackgroundDigest
from tests.support.parts import sample, sha256

MIB = 1024 * 1024


def written(directory: Path, number: int, size: int) -> Path:
    path = directory / str(number)
    path.write_bytes(sample(size, number))
    return path


async def test_digest_uses_half_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    size = 17 * MIB + 5
    digests = [BackgroundDigest(written(tmp_path, number, size)) for number in range(6)]
    before = threading.active_count()
    for digest in digests:
        digest.update(size)
    found = await asyncio.gather(*(digest.result(size) for digest in digests))
    assert threading.active_count() - before <= 2
    assert found == [sha256(sample(size, number)) for number in range(6)]
    for digest in digests:
        digest.close()


async def test_digest_without_a_thread_is_hashed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    size = 9 * MIB
    digests = [BackgroundDigest(written(tmp_path, number, size)) for number in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        for digest in digests:
            digest.update(size)
    async with asyncio.timeout(60):
        found = [await digest.result(size) for digest in digests]
    assert found == [sha256(sample(size, number)) for number in range(2)]
    for digest in digests:
        digest.close()


async def test_digest_of_a_growing_file(tmp_path: Path) -> None:
    data = sample(30 * MIB)
    path = tmp_path / "a"
    path.touch()
    digest = BackgroundDigest(path)
    with path.open("ab") as file:
        for start in range(0, len(data), MIB):
            file.write(data[start : start + MIB])
            file.flush()
            digest.update(start + MIB)
            await asyncio.sleep(0)
    assert await digest.result(len(data)) == sha256(data)
    digest.close()


async def test_digest_stopped_delays_no_other(tmp_path: Path) -> None:
    size = 24 * MIB
    digests = [BackgroundDigest(written(tmp_path, number, size)) for number in range(5)]
    results = [asyncio.create_task(digest.result(size)) for digest in digests]
    await asyncio.sleep(0)
    for number in (0, 2, 4):  # the first is at work, the others wait for their turn
        results[number].cancel()
        with pytest.raises(asyncio.CancelledError):
            await results[number]
        await digests[number].stop()
        digests[number].close()
    for number in (1, 3):
        assert await results[number] == sha256(sample(size, number))
        digests[number].close()


async def test_digest_error_is_raised_by_result(tmp_path: Path) -> None:
    path = written(tmp_path, 0, 10 * MIB)
    digest = BackgroundDigest(path)
    with path.open("r+b") as file:
        file.truncate(MIB)
    digest.update(10 * MIB)
    for _ in range(2):
        with pytest.raises(StorageError, match="became shorter"):
            await digest.result(10 * MIB)
    digest.close()
