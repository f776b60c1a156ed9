"""Shared parts of the benchmarks' C programs, and their build."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from ctypes.util import find_library
from pathlib import Path

C_HEAD = r"""
#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}
"""
"""Includes, and ``now()`` in seconds."""

C_COPY = r"""
static char buffer[256 * 1024];

/* The plainest way to a file: what is there, up to 256 KiB, is written. */
static int copy(int sock, int file, long long left) {
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
    return 0;
}
"""
"""``copy(sock, file, bytes)``, which gives 0, and ``buffer``."""


LIBCRYPTO = find_library("crypto")
"""The name of OpenSSL's shared library, whose SHA-256 Python uses too, or None."""


def compile_c(
    directory: Path,
    name: str,
    source: str,
    *,
    without: str = "the C rows are left out",
    options: Sequence[str] = (),
) -> Path | None:
    """The program ``directory / name``; None where there is no compiler, and what then is so on stderr."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        print(f"no C compiler (cc, gcc, clang): {without}", file=sys.stderr)
        return None
    program = directory / name
    command = [compiler, "-O2", "-D_GNU_SOURCE", *options, "-o", str(program), "-x", "c", "-", "-ldl"]
    subprocess.run(command, input=source, text=True, check=True)
    return program
