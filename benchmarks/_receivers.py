"""The receivers that `benchmarks/download.py` compares, each run in a process of its own.

``python benchmarks/_receivers.py KIND PORT COUNT DIRECTORY`` fetches COUNT files at once and prints
one JSON object: seconds, stall (ms), growth (MiB). A KIND that is a path names the C program.
"""

import asyncio
import json
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asynccam.net.tcp import connect_tcp
from asynccam.net.transfer.download import TransferMethod, receive_file
from asynccam.net.transfer.partfile import PartFile
from benchmarks._native import C_COPY, C_HEAD
from benchmarks._watch import watched

HOST = "127.0.0.1"
CLAIM = "claim"
"""A file that keeps memory until a receiver starts."""

C_SOURCE = (
    C_HEAD
    + C_COPY
    + r"""
int main(int argc, char **argv) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    uint32_t length;
    char header[4096] = {0};
    inet_pton(AF_INET, "127.0.0.1", &where.sin_addr);
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 3 || connect(sock, (struct sockaddr *)&where, sizeof where) != 0) return 1;
    if (recv(sock, &length, 4, MSG_WAITALL) != 4) return 2;
    length = be32toh(length);
    if (length >= sizeof header || recv(sock, header, length, MSG_WAITALL) != (ssize_t)length) return 3;
    int file = open(argv[2], O_WRONLY | O_CREAT | O_EXCL, 0666);
    double began = now();
    int failed = copy(sock, file, atoll(strstr(header, "\"fileSize\": ") + 12));
    printf("%.6f\n", now() - began);
    return failed;
}
"""
)

Fetch = Callable[[int, Path, int], Awaitable[None]]


async def vendor(port: int, directory: Path, number: int) -> None:
    """As the vendor's controller does it: 8 KiB at a time, each under `wait_for` and with progress told."""
    reader, writer = await asyncio.open_connection(HOST, port)
    length = struct.unpack(">I", await reader.readexactly(4))[0]
    left = size = json.loads(await reader.readexactly(length))["fileSize"]
    listeners: list[Callable[[float], object]] = [float, float]  # for its callback and its user interface
    with (directory / str(number)).open("wb") as file:
        while left > 0:
            chunk = await asyncio.wait_for(reader.read(min(8192, left)), timeout=600.0)
            if not chunk:
                raise ConnectionError("Connection closed prematurely")
            file.write(chunk)
            left -= len(chunk)
            for listener in listeners:
                listener(1 - left / size)
    writer.close()
    await writer.wait_closed()


def asynccam(engine: TransferMethod, *, digest: bool, commit: bool = False) -> Fetch:
    """The product, up to the digest, or up to the file that has its name."""

    async def fetch(port: int, directory: Path, number: int) -> None:
        loop = asyncio.get_running_loop()
        with await connect_tcp(HOST, port, timeout=10) as sock:
            head = b""
            while len(head) < 4 or len(head) < 4 + struct.unpack(">I", head[:4])[0]:
                head += await loop.sock_recv(sock, 4096)
            end = 4 + struct.unpack(">I", head[:4])[0]
            size = json.loads(head[4:end])["fileSize"]
            part = await PartFile.open(directory, str(number), size=size, digest=digest)
            await receive_file(sock, part, size, prefix=head[end:], method=engine)
        if commit:
            await part.commit(str(number))
        else:
            await part.digest()
            PARTS.append(part)

    return fetch


PARTS: list[PartFile] = []
"""Parts that are closed, with fsync, only after the clock has stopped."""

KINDS: dict[str, Fetch] = {
    "vendor": vendor,
    "splice": asynccam("splice", digest=True),
    "splice-plain": asynccam("splice", digest=False),
    "splice-commit": asynccam("splice", digest=True, commit=True),
    "buffered": asynccam("buffered", digest=True),
    "buffered-plain": asynccam("buffered", digest=False),
}


def program(path: str) -> Fetch:
    """The C program, while this process's loop has nothing to do; its own clock counts."""

    async def fetch(port: int, directory: Path, number: int) -> None:
        command = (path, str(port), str(directory / str(number)))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{path} ended with {process.returncode}")
        CLOCKED.append(float(output))

    return fetch


CLOCKED: list[float] = []
"""Seconds that a program measured itself."""


async def _run(kind: str, port: int, count: int, directory: Path) -> None:
    fetch = program(kind) if "/" in kind else KINDS[kind]
    (directory / CLAIM).unlink()

    async def all_of_them() -> float | None:
        await asyncio.gather(*(fetch(port, directory, number) for number in range(count)))
        return max(CLOCKED, default=None)

    await watched(all_of_them)
    for part in PARTS:
        await part.keep()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
