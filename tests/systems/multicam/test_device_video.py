"""GET_VIDEO: the right bytes, from disk, to fast, slow and dying readers; nothing outside the directory."""

import asyncio
import hashlib
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asynccam.systems.multicam.device.connection import DeviceLimits
from asynccam.systems.multicam.device.device import MultiCamDevice
from tests.support.multicam_device import ask, command, connected, fetch, running
from tests.support.waiting import eventually

NAME = "video_1729000000.mp4"
BIG = 24 * 1024 * 1024
"""Bytes: far more than the sockets between two programs hold."""


@contextmanager
def asking(device: MultiCamDevice, name: str, receive_buffer: int = 65536) -> Iterator[socket.socket]:
    """A bare socket over which a recording was asked for."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", device.port))
        sock.send(command("GET_VIDEO", fileName=name))
        sock.setblocking(False)
        yield sock


async def read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, count - len(data)), 20)
        assert piece, f"the device closed after {len(data)} of {count} bytes"
        data += piece
    return data


async def read_header(sock: socket.socket) -> None:
    (length,) = struct.unpack(">I", await read(sock, 4))
    await read(sock, length)


@pytest.mark.parametrize(
    "names",
    [
        {"fileName": NAME},
        {"fileId": "video_1729000000"},
        {"fileId": NAME},
        {"fileName": NAME, "fileId": "another"},
        {"fileName": "another.mp4", "fileId": "video_1729000000"},
    ],
)
@pytest.mark.parametrize("dialect", [1, 2])
async def test_get_video_by_any_name(tmp_path: Path, dialect: int, names: dict[str, str]) -> None:
    footage = os.urandom(300_000)
    (tmp_path / NAME).write_bytes(footage)
    async with running(tmp_path, dialect=dialect) as device:
        header, body = await fetch(device, **names)
    assert body == footage
    assert header == {
        "deviceId": "bench-1",
        **({"fileId": "video_1729000000"} if dialect == 1 else {}),
        "fileName": NAME,
        "fileSize": 300_000,
        "status": "ready",
    }


async def test_get_video_several_on_one_connection(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"first")
    (tmp_path / "b.mov").write_bytes(b"")
    async with running(tmp_path) as device, connected(device) as controller:
        for name, footage in (("a.mp4", b"first"), ("b.mov", b""), ("a.mp4", b"first")):
            controller.send(command("GET_VIDEO", fileName=name))
            assert (await controller.framed())["fileSize"] == len(footage)
            assert await controller.exactly(len(footage)) == footage


@pytest.mark.parametrize(
    "name",
    [
        "../secret.mp4",
        "/etc/passwd",
        "sub/inside.mp4",
        "sub",
        "..",
        ".",
        "",
        "link.mp4",
        "pipe.mp4",
        ".hidden.mp4",
        "notes.txt",
        "nul\0.mp4",
        "x" * 5000 + ".mp4",
        "folder.mp4",
    ],
)
async def test_get_video_sends_recordings_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    directory = tmp_path / "device"
    (directory / "sub").mkdir(parents=True)
    (directory / "folder.mp4").mkdir()
    for path in ("sub/inside.mp4", ".hidden.mp4", "notes.txt"):
        (directory / path).write_bytes(b"secret")
    (directory / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    os.mkfifo(directory / "pipe.mp4")
    async with running(directory) as device:
        answer = await ask(device, "GET_VIDEO", fileName=name)
        by_id = await ask(device, "GET_VIDEO", fileId=name)
        listed = await ask(device, "LIST_FILES")
    assert answer["status"] == by_id["status"] == "file_not_found"
    assert listed["files"] == []


async def test_get_video_without_a_name(tmp_path: Path) -> None:
    async with running(tmp_path) as device:
        assert (await ask(device, "GET_VIDEO"))["status"] == "file_not_found"


async def test_get_video_unreadable_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).write_bytes(b"footage")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    async with running(tmp_path) as device:
        monkeypatch.setattr("asynccam.systems.multicam.device.storage.os.open", refuse)
        answer = await ask(device, "GET_VIDEO", fileName=NAME)
    assert answer["status"] == "error"
    assert "Permission denied" in answer["message"]


async def test_twenty_readers_in_constant_memory(tmp_path: Path) -> None:
    footage = os.urandom(BIG)
    (tmp_path / NAME).write_bytes(footage)
    wanted = hashlib.sha256(footage).hexdigest()
    del footage

    async def digest(device: MultiCamDevice) -> str:
        sha = hashlib.sha256()
        with asking(device, NAME) as sock:
            await read_header(sock)
            for _ in range(BIG // 65536):
                sha.update(await read(sock, 65536))
        return sha.hexdigest()

    async with running(tmp_path) as device:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        digests = await asyncio.gather(*(digest(device) for _ in range(20)))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert set(digests) == {wanted}
    assert grown < 16 * 1024, f"grew by {grown} KiB"


async def test_stalled_reader_delays_no_other_and_gets_the_rest_later(tmp_path: Path) -> None:
    footage = os.urandom(BIG)
    (tmp_path / NAME).write_bytes(footage)
    async with running(tmp_path) as device:
        with asking(device, NAME, receive_buffer=4096) as sock:
            await read_header(sock)
            first = await read(sock, 1000)
            for _ in range(5):
                assert (await ask(device, "HEARTBEAT"))["status"] == "ready"
            _, body = await fetch(device, fileName=NAME)
            assert body == footage
            rest = bytearray(first)
            while len(rest) < BIG:
                rest += await read(sock, min(1 << 20, BIG - len(rest)))
            assert bytes(rest) == footage


async def test_stalled_reader_is_disconnected(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(bytes(BIG))
    async with running(tmp_path, limits=DeviceLimits(reserve=0, stall_timeout=0.1)) as device:
        with asking(device, NAME):
            await eventually(lambda: device.connections == 1)
            await eventually(lambda: device.connections == 0)


async def test_recording_that_shrinks_during_a_download_ends_it(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(bytes(BIG))
    async with running(tmp_path) as device:
        with asking(device, NAME, receive_buffer=4096) as sock:
            await read_header(sock)
            os.truncate(tmp_path / NAME, 1000)
            received = 0
            while piece := await asyncio.get_running_loop().sock_recv(sock, 65536):
                received += len(piece)
            assert 0 < received < BIG


async def test_downloaded_recording_is_kept_by_default(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"footage")
    async with running(tmp_path) as device:
        await fetch(device, fileName=NAME)
        await eventually(lambda: device.connections == 0)
    assert (tmp_path / NAME).exists()


@pytest.mark.parametrize("size", [0, 1, 100_000, BIG])
async def test_delete_after_download(tmp_path: Path, size: int) -> None:
    (tmp_path / NAME).write_bytes(bytes(size))
    async with running(tmp_path, delete_after_download=True) as device:
        with asking(device, NAME) as sock:
            await read_header(sock)
            left = size
            while left:
                left -= len(await read(sock, min(left, 1 << 20)))
            assert (tmp_path / NAME).exists(), "not before the controller is done with it"
        await eventually(lambda: device.connections == 0)
        await eventually(lambda: not (tmp_path / NAME).exists())


@pytest.mark.parametrize("size", [1000, BIG])
async def test_recording_is_kept_if_the_reader_died(tmp_path: Path, size: int) -> None:
    (tmp_path / NAME).write_bytes(bytes(size))
    async with running(tmp_path, delete_after_download=True) as device:
        with asking(device, NAME) as sock:
            await read_header(sock)
            await read(sock, 900)
        await eventually(lambda: device.connections == 0)
    assert (tmp_path / NAME).exists()


async def test_recording_is_kept_if_the_reader_closed_early(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(bytes(1000))
    async with running(tmp_path, delete_after_download=True) as device:
        with asking(device, NAME) as sock:
            sock.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0)
            await read_header(sock)
            await read(sock, 1000)
        await eventually(lambda: device.connections == 0)
    assert (tmp_path / NAME).exists()
