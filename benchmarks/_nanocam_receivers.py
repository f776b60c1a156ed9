"""The receivers that `benchmarks/nanocam.py` compares, each run in a process of its own.

``python -m benchmarks._nanocam_receivers KIND PORT DIRECTORY`` fetches one answer into files and prints one
JSON object: seconds, stall (ms), growth (MiB).
"""

import pickle
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from asynccam.net.transfer.partfile import PartFile
from asynccam.systems.nanocam.client import MediaClient
from asynccam.systems.nanocam.client_session import ClientTimeouts, NanocamConnection
from asynccam.systems.nanocam.protocol import FileListing, VideoRequest, local_name
from asynccam.systems.nanocam.reply_parser import FileBegins
from benchmarks._loops import ASYNCIO, run_on
from benchmarks._native import C_COPY, C_HEAD
from benchmarks._receivers import CLAIM, HOST
from benchmarks._watch import watched

C_SOURCE = (
    C_HEAD
    + C_COPY
    + r"""
/* port, bytes before the file, bytes of it, path */
int main(int argc, char **argv) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    long long head = atoll(argv[2]);
    inet_pton(AF_INET, "127.0.0.1", &where.sin_addr);
    double began = now();
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 5 || connect(sock, (struct sockaddr *)&where, sizeof where) != 0) return 1;
    if (send(sock, "{}", 2, 0) != 2 || recv(sock, buffer, head, MSG_WAITALL) != head) return 2;
    int failed = copy(sock, open(argv[4], O_WRONLY | O_CREAT | O_EXCL, 0666), atoll(argv[3]));
    printf("{\"seconds\": %.6f, \"stall\": 0, \"growth\": 0}\n", now() - began);
    return failed;
}
"""
)

_REQUEST = VideoRequest(1, 1920, 1080)


def original(port: int, directory: Path) -> None:
    """As the maker's client does it: 1024 bytes at a time, each searched for every word, and counted."""
    names: list[str] = []
    listed, total, first = b"", 0, True
    with socket.create_connection((HOST, port)) as sock:
        sock.send(b"{}")
        while True:
            data = sock.recv(1024)
            if first and data.find(b"BUSY") != -1:
                return
            first = False
            if data.find(b"DONE") != -1:
                before, data = data.split(b"DONE", 1)
                names = [str(name).replace(":", "+") for name in pickle.loads(listed + before)]
                file = (directory / names.pop(0)).open("wb")
                file.write(data)
                total += sys.getsizeof(data)
            elif data.find(b"MORE") != -1 and names:
                before, data = data.split(b"MORE", 1)
                file.write(before)
                file.close()
                file = (directory / names.pop(0)).open("wb")
                file.write(data)
                total += sys.getsizeof(data)
            elif data.find(b"QUIT") != -1 or not data:
                file.write(data[:-4])
                file.close()
                return
            else:
                file.write(data)
                total += sys.getsizeof(data)


async def ours(port: int, directory: Path, *, digest: bool) -> list[PartFile]:
    """The product, up to the last file's digest, or without one."""
    timeouts, parts = ClientTimeouts(), []
    link = await NanocamConnection.open(HOST, port, timeouts)
    try:
        await link.send(_REQUEST, 10)
        listed = await link.answer(10, "answer")
        assert isinstance(listed, FileListing)
        for file in listed.files:
            assert isinstance(await link.answer(10, "file"), FileBegins)
            part = await PartFile.open(directory, local_name(file.name), size=None, digest=digest)
            parts.append(part)
            await link.receive(part, None)
            await part.digest()
    finally:
        link.close()
    return parts


async def committed(port: int, directory: Path) -> list[PartFile]:
    """The product, up to files that have their names and are on the disk."""
    async with MediaClient(HOST, port, media_path=directory) as client:
        await client.fetch_video(1)
    return []


KINDS: dict[str, Callable[[int, Path], Awaitable[list[PartFile]]]] = {
    "digest": partial(ours, digest=True),
    "plain": partial(ours, digest=False),
    "committed": committed,
}


async def _run(kind: str, port: int, directory: Path) -> None:
    (directory / CLAIM).unlink()
    parts: list[PartFile] = []

    async def all_of_them() -> None:
        if kind == "original":
            original(port, directory)
        else:
            parts.extend(await KINDS[kind](port, directory))

    await watched(all_of_them)
    for part in parts:
        await part.keep()


if __name__ == "__main__":
    plain_kind, _, on_loop = sys.argv[1].partition("@")
    run_on(on_loop or ASYNCIO, _run(plain_kind, int(sys.argv[2]), Path(sys.argv[3])))
