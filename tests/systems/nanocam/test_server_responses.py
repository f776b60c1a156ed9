"""What a media server sends, byte for byte, to those who read, read slowly, or do not."""

import asyncio
import json
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccam.errors import BusyError, ConnectionError, StorageError, TimeoutError
from asynccam.systems.nanocam.server.responses import Responder, ResponseWriter

LARGE = 16 << 20
"""Bytes that no buffer of a socket holds."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1 << 20), 20)
        assert piece, data[-100:]
        data += piece
    assert len(data) == count
    return data


def framed(answer: object) -> bytes:
    document = json.dumps(answer, separators=(",", ":")).encode()
    return len(document).to_bytes(4, "big") + document


async def test_files_with_every_delimiter_in_them(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    bodies = [b"MOREDONE" * 3 + b"QUIT", b"", b"\xff\xd9MORE\xff\xd9QUIT"]
    paths = [tmp_path / f"2020-07-29 14:54:1{number}.jpg" for number in range(3)]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    line = ResponseWriter(pair[0], "a client", 20)
    names = [path.name for path in paths]
    await Responder(line, framed=False).send_files(paths)
    tail = b"DONE" + bodies[0] + b"MORE" + bodies[1] + b"MORE" + bodies[2] + b"QUIT"
    pickled = len(b"\x80\x02](") + sum(5 + len(name) for name in names) + len(b"e.")
    data = await read(pair[1], pickled + len(tail))
    assert data[:2] == b"\x80\x02"
    assert pickle.loads(data[:pickled]) == names
    assert data[pickled:] == tail

    await Responder(line, framed=True).send_files(paths)
    files = [{"name": path.name, "size": len(body)} for path, body in zip(paths, bodies, strict=True)]
    expected = framed({"answer": "files", "files": files}) + b"".join(bodies) + framed({"answer": "finished"})
    assert await read(pair[1], len(expected)) == expected
    assert not line.delivering


async def test_words_and_frames(pair: tuple[socket.socket, socket.socket]) -> None:
    line = ResponseWriter(pair[0], "a client", 20)
    original, ours = Responder(line, framed=False), Responder(line, framed=True)
    for answers in (original, ours):
        await answers.ok()
        await answers.busy()
    await ours.refuse("busy", BusyError("another one has it"))
    with pytest.raises(BusyError, match="another one has it"):
        await original.refuse("busy", BusyError("another one has it"))
    refused = {"answer": "refused", "kind": "busy", "reason": "another one has it"}
    expected = b"OKBUSY" + framed({"answer": "ok"}) + framed({"answer": "busy"}) + framed(refused)
    assert await read(pair[1], len(expected)) == expected


async def test_client_that_does_not_read_times_out(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    path = tmp_path / "large.mp4"
    path.touch()
    os.truncate(path, LARGE)
    line = ResponseWriter(pair[0], "a client", 0.2)
    with pytest.raises(TimeoutError, match="a client"):
        await line.send_files([path], framed=True)
    with pytest.raises(TimeoutError, match="a client"):
        await line.send(b"OK")


async def test_slow_client_gets_everything(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    path.touch()
    os.truncate(path, LARGE)
    line = ResponseWriter(pair[0], "a client", 20)
    delivering = asyncio.create_task(line.send_files([path], framed=True))
    saying = asyncio.create_task(line.send(b"after"))
    head = len(framed({"answer": "files", "files": [{"name": path.name, "size": LARGE}]}))
    data = await read(pair[1], head + LARGE + len(framed({"answer": "finished"})) + len(b"after"))
    assert data.endswith(framed({"answer": "finished"}) + b"after")
    await asyncio.gather(delivering, saying)


async def test_disconnect_and_unreadable_file(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    line = ResponseWriter(pair[0], "a client", 20)
    with pytest.raises(StorageError, match=r"gone\.jpg"):
        await line.send_files([tmp_path / "gone.jpg"], framed=False)
    pair[1].close()
    with pytest.raises(ConnectionError, match="a client disconnected"):
        await line.send(b"OK")
