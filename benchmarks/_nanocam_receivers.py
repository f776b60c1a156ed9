"""The receivers that `benchmarks/nanocam.py` compares, each run in a process of its own.

``python -m benchmarks._nanocam_receivers KIND PORT DIRECTORY`` fetches one answer into files and prints one
JSON object: seconds, stall (ms), growth (MiB).
"""

import asyncio
import json
import pickle
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from asynccam.net.partfile import PartFile
from asynccam.systems.nanocam.client import MediaClient
from asynccam.systems.nanocam.client_link import ClientTimeouts, Link
from asynccam.systems.nanocam.replies import FileBegins
from asynccam.systems.nanocam.wire import (
    VideoRequest,
)
from asynccam.systems.nanocam.wire_answers import (
    FileList,
    local_name,
)
from benchmarks._receivers import CLAIM, HOST

C_SOURCE = r"""
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[256 * 1024];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* port, bytes before the file, bytes of it, path */
int main(int argc, char **argv) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    long long head = atoll(argv[2]), left = atoll(argv[3]);
    inet_pton(AF_INET, "127.0.0.1", &where.sin_addr);
    double began = now();
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 5 || connect(sock, (struct sockaddr *)&where, sizeof where) != 0) return 1;
    if (send(sock, "{}", 2, 0) != 2 || recv(sock, buffer, head, MSG_WAITALL) != head) return 2;
    int file = open(argv[4], O_WRONLY | O_CREAT | O_EXCL, 0666);
    while (left > 0) {
        ssize_t count = recv(sock, buffer, left < (long long)sizeof buffer ? left : sizeof buffer, 0);
        if (count <= 0) return 4;
        for (ssize_t done = 0; done < count;) {
            ssize_t written = write(file, buffer + done, count - done);
            if (written < 0) return 5;
            done += written;
        }
        left -= count;
    }
    printf("{\"seconds\": %.6f, \"stall\": 0, \"growth\": 0}\n", now() - began);
    return 0;
}
"""

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
    link = await Link.open(HOST, port, timeouts)
    try:
        await link.send(_REQUEST, 10)
        listed = await link.answer(10, "answer")
        assert isinstance(listed, FileList)
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


async def _tick(worst: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        worst[0] = max(worst[0], time.perf_counter() - began - 0.001)


def _memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


async def _run(kind: str, port: int, directory: Path) -> None:
    (directory / CLAIM).unlink()
    worst = [0.0]
    ticker = asyncio.create_task(_tick(worst))
    await asyncio.sleep(0.05)
    worst[0] = 0.0
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    began = time.perf_counter()
    parts: list[PartFile] = []
    if kind == "original":
        original(port, directory)
    else:
        parts = await KINDS[kind](port, directory)
    seconds = time.perf_counter() - began
    growth = (_memory("VmHWM") - before) / 1024
    ticker.cancel()
    print(json.dumps({"seconds": seconds, "stall": worst[0] * 1000, "growth": growth}))
    for part in parts:
        await part.keep()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
