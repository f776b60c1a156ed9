"""The receivers that `benchmarks/download.py` compares, each run in a process of its own.

``python -m benchmarks._receivers KIND PORT COUNT TOGETHER DIRECTORY`` fetches COUNT files, TOGETHER of them
at once, and prints one JSON object: seconds, stall (ms), growth (MiB). A KIND with ``@uvloop`` behind it runs
on uvloop. A KIND that is the path of the C program has a colon and the program's own argument behind it.
"""

import asyncio
import json
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from asynccam.net.tcp import connect_tcp
from asynccam.net.transfer.download import TransferMethod, receive_file
from asynccam.net.transfer.partfile import PartFile
from asynccam.systems.multicam.client import MultiCamClient
from benchmarks._loops import ASYNCIO, run_on
from benchmarks._native import C_HEAD
from benchmarks._watch import watched

HOST = "127.0.0.1"
CLAIM = "claim"
"""A file that keeps memory until a receiver starts."""

C_SOURCE = (
    C_HEAD
    + r"""
#include <dlfcn.h>
#include <poll.h>
#include <unistd.h>

#define MOST 128
#define HASH 1 /* the SHA-256 of each file, by the library that Python uses too */
#define SYNC 2 /* each file on the disk before the clock stops */

static char buffer[256 * 1024];
static int (*sha_init)(void *), (*sha_update)(void *, const void *, size_t);
static int (*sha_final)(unsigned char *, void *);

struct transfer {
    int sock, file;
    long long left;
    char context[256] __attribute__((aligned(16))); /* of SHA-256, which takes 112 bytes */
};
static struct transfer transfers[MOST];

static int begin(struct transfer *one, int port, const char *directory, int number, int how) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
    uint32_t length;
    char header[4096] = {0}, path[4096];
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    one->sock = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(one->sock, (struct sockaddr *)&where, sizeof where) != 0) return 1;
    if (recv(one->sock, &length, 4, MSG_WAITALL) != 4) return 2;
    length = be32toh(length);
    if (length >= sizeof header || recv(one->sock, header, length, MSG_WAITALL) != (ssize_t)length) return 3;
    one->left = atoll(strstr(header, "\"fileSize\": ") + 12);
    snprintf(path, sizeof path, "%s/%d", directory, number);
    one->file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (how & HASH) sha_init(one->context);
    return one->file < 0 ? 4 : 0;
}

/* The plainest way to a file: what is there, up to 256 KiB, is written. */
static int receive(struct transfer *one, int how) {
    size_t room = one->left < (long long)sizeof buffer ? one->left : sizeof buffer;
    ssize_t count = recv(one->sock, buffer, room, 0);
    if (count <= 0) return 5;
    if (how & HASH) sha_update(one->context, buffer, count);
    for (ssize_t done = 0; done < count;) {
        ssize_t written = write(one->file, buffer + done, count - done);
        if (written < 0) return 6;
        done += written;
    }
    one->left -= count;
    if (one->left == 0) {
        unsigned char digest[32];
        if (how & HASH) sha_final(digest, one->context);
        if (how & SYNC) fsync(one->file);
        close(one->file);
        close(one->sock);
    }
    return 0;
}

static int load(void) {
#ifdef LIBCRYPTO
    void *library = dlopen(LIBCRYPTO, RTLD_NOW);
    if (library == NULL) return 7;
    sha_init = dlsym(library, "SHA256_Init");
    sha_update = dlsym(library, "SHA256_Update");
    sha_final = dlsym(library, "SHA256_Final");
    return sha_final == NULL ? 7 : 0;
#else
    return 7;
#endif
}

/* PORT COUNT TOGETHER HOW DIRECTORY: so many files, so many of them at once. */
int main(int argc, char **argv) {
    if (argc != 6) return 1;
    int port = atoi(argv[1]), count = atoi(argv[2]), together = atoi(argv[3]), how = atoi(argv[4]), failed;
    struct pollfd polled[MOST];
    if ((how & HASH) && (failed = load())) return failed;
    double began = now();
    for (int first = 0; first < count; first += together) {
        int open = together;
        for (int i = 0; i < together; i++) {
            if ((failed = begin(&transfers[i], port, argv[5], first + i, how))) return failed;
            polled[i] = (struct pollfd){.fd = transfers[i].sock, .events = POLLIN};
        }
        while (open > 0) {
            if (together > 1) poll(polled, together, -1);
            for (int i = 0; i < together; i++) {
                if (polled[i].fd < 0 || (together > 1 && !polled[i].revents)) continue;
                if ((failed = receive(&transfers[i], how))) return failed;
                if (transfers[i].left == 0) polled[i].fd = -1, open--;
            }
        }
    }
    printf("%.6f\n", now() - began);
    return 0;
}
"""
)
"""Receives files; exit status 7 without OpenSSL's library."""

C_PLAIN, C_HASHED, C_SYNCED = "0", "1", "3"
"""Words of the C program's argument for the work on each file."""

Fetch = Callable[[int, Path, int], Awaitable[None]]


async def vendor(port: int, directory: Path, number: int) -> None:
    """As the vendor's controller does it: 8 KiB at a time, each under `wait_for`, reporting progress."""
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


def asynccam(engine: TransferMethod, *, digest: bool) -> Fetch:
    """The product, up to the last byte or to the digest."""

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
        await part.digest()
        PARTS.append(part)

    return fetch


async def download(port: int, directory: Path, number: int) -> None:
    """The product as a program calls it: a file that has its digest and its name, and is on the disk."""
    async with MultiCamClient(HOST, port) as client:
        await client.download(f"{number}.mp4", directory)


async def download_blake3(port: int, directory: Path, number: int) -> None:
    """The same with the faster digest."""
    async with MultiCamClient(HOST, port) as client:
        await client.download(f"{number}.mp4", directory, digest="blake3")


PARTS: list[PartFile] = []
"""Parts that are closed, with fsync, only after the clock has stopped."""

KINDS: dict[str, Fetch] = {
    "vendor": vendor,
    "download": download,
    "download-blake3": download_blake3,
    "splice": asynccam("splice", digest=True),
    "splice-plain": asynccam("splice", digest=False),
    "buffered": asynccam("buffered", digest=True),
}


async def _in_c(program: str, port: int, count: int, together: int, directory: Path) -> float:
    """Run the C program while this process's loop has nothing to do; seconds by the program's own clock."""
    path, _, how = program.partition(":")
    command = (path, *map(str, (port, count, together)), how, str(directory))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{path} ended with {process.returncode}")
    return float(output)


async def _run(kind: str, port: int, count: int, together: int, directory: Path) -> None:
    (directory / CLAIM).unlink()

    async def all_of_them() -> float | None:
        if "/" in kind:
            return await _in_c(kind, port, count, together, directory)
        fetch = KINDS[kind]
        for first in range(0, count, together):
            numbers = range(first, first + together)
            await asyncio.gather(*(fetch(port, directory, number) for number in numbers))
        return None

    await watched(all_of_them)
    for part in PARTS:
        await part.keep()


if __name__ == "__main__":
    _, of_kind, *numbers, into = sys.argv
    plain_kind, _, on_loop = of_kind.partition("@") if "/" not in of_kind else (of_kind, "", "")
    run_on(on_loop or ASYNCIO, _run(plain_kind, *map(int, numbers), Path(into)))  # type: ignore[call-arg, arg-type]
