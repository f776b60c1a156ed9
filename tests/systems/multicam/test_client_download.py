"""Bringing files home from devices that refuse, lie, break off, and delete what they have sent."""

import asyncio
import hashlib
import logging
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from asynccam.errors import (
    ConnectionError,
    DeviceError,
    InsufficientSpaceError,
    NotFoundError,
    RemoteProtocolError,
    StorageError,
    TimeoutError,
    TransferError,
    UsageError,
)
from asynccam.model.digest import DigestName
from asynccam.runtime.retry import Backoff
from asynccam.systems.multicam.client import MultiCamClient
from tests.support.digests import digest_of
from tests.support.waiting import eventually
from tests.systems.multicam.peers import Android, Ios, Oak, Peer, framed, says, silent

T = TypeVar("T")
BODY = bytes(range(256)) * 1200
HEADER = b'{"deviceId":"a","fileName":"v.mp4","fileSize":%d,"status":"ready"}' % len(BODY)


def client(peer: Peer | int, *, stall_timeout: float = 5.0, timeout: float = 5.0) -> MultiCamClient:
    port = peer if isinstance(peer, int) else peer.port
    backoff = Backoff(initial=0.01, jitter=0)
    return MultiCamClient("127.0.0.1", port, timeout=timeout, stall_timeout=stall_timeout, backoff=backoff)


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (Oak({"video_1.zip": BODY}), "video_1.zip"),
        (Android({"video_1.mp4": BODY}), "video_1.mp4"),
        (Ios({"iPhone-7_1": BODY}), "iPhone-7_1"),
    ],
)
async def test_download_is_complete(device: Oak | Android | Ios, name: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    async with Peer(device.talk) as peer:
        file = await client(peer).download(
            name, tmp_path / "new" / "take", progress=lambda done, total: seen.append((done, total))
        )
    assert file.path.parent == tmp_path / "new" / "take"
    assert file.path.read_bytes() == BODY
    assert (file.size, file.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())
    assert file.path.stem == name.partition(".")[0]
    assert names_in(file.path.parent) == [file.path.name]
    assert seen[-1] == (len(BODY), len(BODY))
    sent = device.commands[0]
    assert (sent["command"], sent["fileName"], sent["fileId"]) == ("GET_VIDEO", name, name)


@pytest.mark.parametrize(("size", "calls"), [(300_000, 3), (1 << 20, 3), ((1 << 20) + 1_000_000, 4)])
async def test_download_uses_few_threads_calls(
    size: int, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Space, creation with the first bytes, rename; the digest of a large file takes a fourth."""
    loop = asyncio.get_running_loop()
    counted: list[str] = []
    original = loop.run_in_executor

    def run_in_executor(executor: None, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        counted.append(str(function))
        return original(executor, function, *args)

    device = Oak({"a.mp4": bytes(size)})
    async with Peer(device.talk) as peer:
        monkeypatch.setattr(loop, "run_in_executor", run_in_executor)
        file = await client(peer).download("a.mp4", tmp_path)
        monkeypatch.undo()
    assert file.sha256 == hashlib.sha256(bytes(size)).hexdigest()
    assert len(counted) == calls, counted


@pytest.mark.parametrize("name", ["sha256", "blake3", "xxh3", None])
async def test_download_digest(name: DigestName | None, tmp_path: Path) -> None:
    async with Peer(Oak({"a.mp4": BODY}).talk) as peer:
        file = await client(peer).download("a.mp4", tmp_path, digest=name)
    value = digest_of(name, BODY)
    expected = (value, "") if name == "sha256" else ("", f"{name}:{value}" if name else "")
    assert (file.sha256, file.digest) == expected


async def test_download_digest_that_cannot_be_computed_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xxhash", None)
    device = Oak({"a.mp4": BODY})
    async with Peer(device.talk) as peer:
        with pytest.raises(UsageError, match=r"asynccam\[speed\]"):
            await client(peer).download("a.mp4", tmp_path, digest="xxh3")
    assert device.commands == []


async def test_download_sends_name_and_id(tmp_path: Path) -> None:
    device = Ios({"iPhone-7_1": BODY})
    async with Peer(device.talk) as peer:
        file = await client(peer).download("iPhone-7_1.mov", tmp_path, file_id="iPhone-7_1")
    assert file.path.name == "iPhone-7_1.mov"
    assert device.commands[0]["fileName"] == "iPhone-7_1.mov"


async def test_download_empty_file(tmp_path: Path) -> None:
    async with Peer(Oak({"empty.zip": b""}).talk) as peer:
        file = await client(peer).download("empty.zip", tmp_path)
    assert (file.size, file.path.read_bytes()) == (0, b"")


async def test_download_byte_by_byte(tmp_path: Path) -> None:
    wire = framed(b'{"deviceId":"a","fileName":"v.mp4","fileSize":6,"status":"ready"}', b"abcdef")
    async with Peer(says(*(wire[i : i + 1] for i in range(len(wire))))) as peer:
        file = await client(peer).download("v.mp4", tmp_path)
    assert file.path.read_bytes() == b"abcdef"


async def test_download_skips_heartbeat(tmp_path: Path) -> None:
    async with Peer(says(b'{"command":"HEARTBEAT","timestamp":1.5}' + framed(HEADER, BODY))) as peer:
        assert (await client(peer).download("v.mp4", tmp_path)).size == len(BODY)


@pytest.mark.parametrize(
    "refusal",
    [
        b'{"deviceId":"a","status":"file_not_found","timestamp":1.5}',
        b'{"deviceId":"a","status":"error","timestamp":1,"message":"Failed to finalize video: v.mp4"}',
        framed(
            b'{"deviceId":"a","status":"error","timestamp":1,"message":"Failed to finalize video: v"}', b""
        ),
    ],
)
async def test_download_missing_file(refusal: bytes, tmp_path: Path) -> None:
    async with Peer(says(refusal)) as peer:
        with pytest.raises(NotFoundError):
            await client(peer).download("v.mp4", tmp_path)
        assert peer.opened == 1
    assert names_in(tmp_path) == []


async def test_download_other_refusal(tmp_path: Path) -> None:
    async with Peer(says(b'{"deviceId":"a","status":"error","timestamp":1.5}')) as peer:
        with pytest.raises(DeviceError, match="refused GET_VIDEO: error") as caught:
            await client(peer).download("v.mp4", tmp_path)
    assert not isinstance(caught.value, NotFoundError)


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_download_broken_keeps_part(then: str, tmp_path: Path) -> None:
    async with Peer(says(framed(HEADER, BODY[:100_000]), then=then)) as peer:
        with pytest.raises(TransferError) as caught:
            await client(peer).download("v.mp4", tmp_path)
        assert peer.opened == 1
    error = caught.value
    assert error.expected == len(BODY)
    assert error.part is not None
    assert 0 < error.received <= 100_000
    assert error.part.read_bytes() == BODY[: error.received]
    assert names_in(tmp_path) == [error.part.name]


async def test_download_stalled_keeps_part(tmp_path: Path) -> None:
    async with Peer(says(framed(HEADER, BODY[:1000]))) as peer:
        async with asyncio.timeout(20):
            with pytest.raises(TransferError) as caught:
                await client(peer, stall_timeout=0.2).download("v.mp4", tmp_path)
    assert caught.value.part is not None
    assert caught.value.part.read_bytes() == BODY[:1000]


async def test_download_without_header(tmp_path: Path) -> None:
    async with Peer(silent) as peer:
        with pytest.raises(TimeoutError, match=r"v\.mp4") as caught:
            await client(peer, stall_timeout=0.2).download("v.mp4", tmp_path)
        assert caught.value.maybe_executed
        assert peer.opened == 1
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("pieces", [(), (framed(HEADER, b"")[:30],)])
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_download_request_is_not_repeated(pieces: tuple[bytes, ...], then: str, tmp_path: Path) -> None:
    """The device may have written a small file to the socket and deleted it: asking again finds nothing."""
    async with Peer(says(*pieces, then=then)) as peer:
        with pytest.raises(ConnectionError) as caught:
            await client(peer).download("v.mp4", tmp_path)
        assert caught.value.maybe_executed
        assert peer.opened == 1


async def test_download_retries_connecting(tmp_path: Path) -> None:
    async with Peer(silent) as gone:
        port = gone.port
    device = Oak({"v.zip": BODY})
    controller = MultiCamClient(
        "127.0.0.1", port, timeout=10, retries=50, backoff=Backoff(initial=0.02, maximum=0.02)
    )
    download = asyncio.ensure_future(controller.download("v.zip", tmp_path))
    await asyncio.sleep(0.05)  # the length of the outage
    async with Peer(device.talk, port=port):
        assert (await download).size == len(BODY)
    assert device.told("GET_VIDEO") == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xff",
        framed(b"[]", b""),
        framed(b'{"deviceId":"a","fileName":"v","fileSize":-5,"status":"ready"}', b""),
        framed(b'{"deviceId":"a","fileName":"v","fileSize":"big","status":"ready"}', b""),
    ],
)
async def test_invalid_reply_instead_of_a_file(nonsense: bytes, tmp_path: Path) -> None:
    async with Peer(says(nonsense)) as peer:
        with pytest.raises(RemoteProtocolError, match=str(peer.port)):
            await client(peer).download("v.mp4", tmp_path)
    assert names_in(tmp_path) == []


async def test_download_larger_than_the_disk(tmp_path: Path) -> None:
    huge = b'{"deviceId":"a","fileName":"v.mp4","fileSize":%d,"status":"ready"}' % (1 << 61)
    async with Peer(says(framed(huge, b"x" * 100))) as peer:
        with pytest.raises(InsufficientSpaceError):
            await client(peer).download("v.mp4", tmp_path)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("size", [None, 0, 10 << 30])
async def test_file_is_not_requested_without_disk_space(
    size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK deletes a small file once it is in the socket, so the room is looked for first."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    device = Oak({"v.zip": BODY})
    async with Peer(device.talk) as peer:
        with pytest.raises(InsufficientSpaceError) as caught:
            await client(peer).download("v.zip", tmp_path, size=size)
        assert caught.value.free == 1 << 20
        assert peer.opened == 0
    assert device.files == {"v.zip": BODY}


async def test_download_checks_directory_before_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    device = Oak({"v.zip": BODY})
    async with Peer(device.talk) as peer:
        with pytest.raises(StorageError):
            await client(peer).download("v.zip", tmp_path / "file" / "take")
    assert device.commands == []


@pytest.mark.parametrize(
    "name",
    ["../../loot.txt", "/etc/passwd", "C:\\\\boot.ini", "CON", "a\\u0000b.mp4", "x" * 300 + ".mp4", ".."],
)
async def test_download_name_is_not_a_path(name: str, tmp_path: Path) -> None:
    header = b'{"deviceId":"a","fileName":"%b","fileSize":4,"status":"ready"}' % name.encode()
    inside = tmp_path / "a" / "b"
    async with Peer(says(framed(header, b"loot"))) as peer:
        file = await client(peer).download("v.mp4", inside)
    assert file.path.parent == inside
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file.path]
    assert re.fullmatch(r"[^/\\\0]{1,200}", file.path.name)


async def test_download_keeps_existing_file(tmp_path: Path) -> None:
    (tmp_path / "v.zip").write_bytes(b"precious")
    async with Peer(Oak({"v.zip": BODY}).talk) as peer:
        file = await client(peer).download("v.zip", tmp_path)
    assert (tmp_path / "v.zip").read_bytes() == b"precious"
    assert file.path.read_bytes() == BODY
    assert file.source == "v.zip"


async def test_download_logs_size_other_than_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for size, noted in ((len(BODY), False), (0, False), (None, False), (12345, True)):
        caplog.clear()
        async with Peer(Oak({"v.zip": BODY}).talk) as peer:
            with caplog.at_level(logging.WARNING):
                await client(peer).download("v.zip", tmp_path, size=size)
        assert ("12345" in caplog.text) is noted


async def test_cancelled_download_keeps_its_part(tmp_path: Path) -> None:
    def part() -> list[Path]:
        return [path for path in tmp_path.iterdir() if path.stat().st_size >= 1000]

    async with Peer(says(framed(HEADER, BODY[:1000]))) as peer:
        download = asyncio.ensure_future(client(peer).download("v.mp4", tmp_path))
        await eventually(part)
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
    (kept,) = part()
    assert kept.name == "v.mp4.part"
    assert kept.read_bytes() == BODY[:1000]


async def test_twenty_downloads_of_one_name_at_once(tmp_path: Path) -> None:
    bodies = [bytes([number]) * 50_000 for number in range(20)]
    peers = [Peer(Android({"v.mp4": body}).talk) for body in bodies]
    for peer in peers:
        await peer.__aenter__()
    try:
        files = await asyncio.gather(*(client(peer).download("v.mp4", tmp_path) for peer in peers))
    finally:
        for peer in peers:
            await peer.__aexit__(None, None, None)
    assert [file.path.read_bytes() for file in files] == bodies
    assert len(names_in(tmp_path)) == 20


def nameless(size: bytes, body: bytes) -> bytes:
    return framed(b'{"deviceId":"a","fileName":"v.mp4","fileSize":%b,"status":"ready"}' % size, body)


@pytest.mark.parametrize("then", ["close", "wait"])
@pytest.mark.parametrize("size", [b"0", b'"0"', b"-1", b"NaN", b"1e400", b'"big"'])
async def test_download_unsized_keeps_first_bytes(size: bytes, then: str, tmp_path: Path) -> None:
    wire = nameless(size, BODY)
    seen: list[tuple[int, int | None]] = []
    async with Peer(says(wire[:100], wire[100:], then=then)) as peer:
        file = await client(peer, stall_timeout=0.5).download(
            "v.mp4", tmp_path, progress=lambda done, total: seen.append((done, total))
        )
    assert file.path.read_bytes() == BODY
    assert (file.size, file.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())
    assert seen[-1] == (len(BODY), len(BODY))
    assert names_in(tmp_path) == ["v.mp4"]


@pytest.mark.parametrize("size", [b'"%d"', b"%d.0", b'"%d.0"'])
async def test_download_size_as_text_or_float(size: bytes, tmp_path: Path) -> None:
    async with Peer(says(nameless(size % len(BODY), BODY + b"and more"))) as peer:
        file = await client(peer).download("v.mp4", tmp_path)
    assert file.path.read_bytes() == BODY


async def test_download_announced_and_sent_empty(tmp_path: Path) -> None:
    async with Peer(says(nameless(b"0", b""))) as peer:
        file = await client(peer, stall_timeout=0.5).download("v.mp4", tmp_path)
    assert (file.size, file.path.read_bytes()) == (0, b"")


@pytest.mark.parametrize("then", ["close", "wait", "reset"])
async def test_unsized_file_shorter_than_listed_is_kept_as_a_part(then: str, tmp_path: Path) -> None:
    async with Peer(says(nameless(b"0", BODY), then=then)) as peer:
        with pytest.raises(TransferError) as failure:
            await client(peer, stall_timeout=0.5).download("v.mp4", tmp_path, size=len(BODY) + 1)
    assert failure.value.part is not None
    assert failure.value.received == failure.value.part.stat().st_size
    assert failure.value.expected == len(BODY) + 1
    assert names_in(tmp_path) == ["v.mp4.part"]


async def test_download_unsized_ends_at_listed_size(tmp_path: Path) -> None:
    async with Peer(says(nameless(b"0", BODY))) as peer:
        file = await client(peer, stall_timeout=600).download("v.mp4", tmp_path, size=len(BODY))
    assert file.path.read_bytes() == BODY
