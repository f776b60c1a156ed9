"""A framed file from a socket to a disk: asynccam, the vendor's way, and C programs.

    python -m benchmarks.download [--size MIB] [--rounds N] [--directory DIR] [--quick] [--json]

Another process sends, by ``sendfile`` from the page cache, so that it takes little of this machine,
as a device elsewhere takes nothing. Every receiver is a fresh process that connects, reads the
header, and puts exactly the announced bytes into a file. The time runs until the last byte is
written and, with a digest, until the digest is known; without fsync, but where the case
says so; `download()` does all of it. A C program has one thread. It runs in three ways: it only writes, it
takes the SHA-256 of what it writes by the library that Python takes it by, and it syncs each file as well.
Afterwards every file is compared with what was sent. "Stall" is how late a 1 ms ticker on the receiver's loop
came at worst in a run (beside a C program: on a loop that only waits for it, which shows the
machine's own part), "growth" how far resident memory rose at most.
"""

import hashlib
import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks._loops import on_each
from benchmarks._native import LIBCRYPTO, compile_c
from benchmarks._receivers import C_HASHED, C_PLAIN, C_SOURCE, C_SYNCED, CLAIM, HOST
from benchmarks._report import Row, arguments, emit, interleave

MIB = 1024 * 1024
BLOCK = 16 * MIB
C = "C recv 256 KiB + write"
C_HASHING = "C recv + SHA-256 + write"
C_SYNCING = "C recv + SHA-256 + write + fsync"
VENDOR = "vendor's asyncio, 8 KiB reads under wait_for"
OURS = "asynccam, splice, digest"
DOWNLOAD = "asynccam, download()"
BLAKE3 = "asynccam, download() with BLAKE3"
SINGLE = {
    DOWNLOAD: "download",
    OURS: "splice",
    "asynccam, splice, no digest": "splice-plain",
    "asynccam, buffered, digest": "buffered",
}
SEVERAL = {
    DOWNLOAD: "download",
    OURS: "splice",
    "asynccam, splice, no digest": "splice-plain",
}
SMALL = {DOWNLOAD: "download"}
if find_spec("blake3") and find_spec("asynccam.model.digest"):  # earlier commits know SHA-256 alone
    SEVERAL[BLAKE3] = "download-blake3"
for _cases in (SINGLE, SEVERAL, SMALL):
    _cases.update(on_each({DOWNLOAD: "download"}))
RIVALS = (C, C_HASHING, C_SYNCING, VENDOR)


@dataclass(frozen=True)
class Run:
    """One receiver's run: MB/s over all files, stall in ms, growth in MiB."""

    speed: float
    stall: float
    growth: float


class Sender:
    """A process that sends a framed file of ``size`` bytes to whoever connects."""

    def __init__(self, directory: Path, size: int) -> None:
        self.size = size
        block = directory / "block"
        if not block.exists():
            block.write_bytes(os.urandom(BLOCK))
        self._digest = hashlib.sha256()
        data = block.read_bytes()
        for start in range(0, size, BLOCK):
            self._digest.update(data[: min(BLOCK, size - start)])
        listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = listener.getsockname()[1]
        self._process = os.fork()
        if not self._process:
            _send_for_ever(listener, block, size)
        listener.close()

    def close(self) -> None:
        """End the process."""
        os.kill(self._process, 9)
        os.waitpid(self._process, 0)

    def check(self, files: list[Path], count: int) -> None:
        """That there are ``count`` files, and every one is what was sent."""
        assert len(files) == count, f"{len(files)} files instead of {count}"
        for path in files:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            assert found == self._digest.hexdigest(), f"{path} is not what was sent"


def _send_for_ever(listener: socket.socket, block: Path, size: int) -> None:
    """One thread for all connections: twenty would take the receiver's share of the processor."""
    number = 0
    connections: dict[int, socket.socket] = {}
    sent: dict[int, int] = {}
    with selectors.DefaultSelector() as selector, block.open("rb") as file:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    connection.sendall(_header(number, size))
                    number += 1
                    connection.setblocking(False)
                    connections[connection.fileno()], sent[connection.fileno()] = connection, 0
                    selector.register(connection, selectors.EVENT_WRITE)
                    continue
                done = sent[key.fd]
                if (
                    done == size
                ):  # the client has asked, or leaves: closed with bytes unread, it would be a reset
                    if not connections[key.fd].recv(65536):
                        selector.unregister(key.fd)
                        connections.pop(key.fd).close()
                    continue
                start = done % BLOCK
                with suppress(BlockingIOError):
                    done += os.sendfile(
                        key.fd, file.fileno(), start, min(BLOCK - start, size - done, 4 * MIB)
                    )
                sent[key.fd] = done
                if done == size:
                    connections[key.fd].shutdown(socket.SHUT_WR)
                    selector.modify(key.fd, selectors.EVENT_READ)


def _header(number: int, size: int) -> bytes:
    fields = {"deviceId": "d", "fileName": f"{number}.mp4", "fileSize": size, "status": "ready"}
    words = json.dumps(fields).encode()
    return len(words).to_bytes(4, "big") + words


@contextmanager
def sender(directory: Path, size: int) -> Iterator[Sender]:
    process = Sender(directory, size)
    try:
        yield process
    finally:
        process.close()


def receive(directory: Path, command: list[str], source: Sender, count: int) -> Run:
    """Run one receiver in a directory of its own, look at what it left, and throw that away."""
    target = directory / "received"
    target.mkdir()
    claim_memory(target / CLAIM, count * source.size)
    try:
        done = subprocess.run([*command, str(target)], check=True, capture_output=True, text=True)
        source.check(list(target.iterdir()), count)
    finally:
        shutil.rmtree(target)
    found = json.loads(done.stdout)
    return Run(count * source.size / 1e6 / found["seconds"], found["stall"], found["growth"])


def claim_memory(path: Path, size: int) -> None:
    """Fill as much of the page cache as a run will; the receiver removes the file just before it starts.

    The host of a virtual machine takes back memory that lies idle and returns it page by page, at
    several times the cost of the transfer, which is not what is to be compared.
    """
    with path.open("wb") as file:
        for _ in range(0, size, MIB):
            file.write(bytes(MIB))


def receiver(kind: str, source: Sender, count: int = 1, together: int = 1) -> list[str]:
    """The command of a receiver, but for the directory."""
    numbers = map(str, (source.port, count, together))
    return [sys.executable, "-m", "benchmarks._receivers", kind, *numbers]


def native(directory: Path) -> dict[str, str]:
    """The kinds of the C program; empty without a compiler, and only one without OpenSSL."""
    options = [] if LIBCRYPTO is None else [f'-DLIBCRYPTO="{LIBCRYPTO}"']
    program = compile_c(directory, "receive", C_SOURCE, options=options)
    if program is None:
        return {}
    if LIBCRYPTO is None:
        print("no shared library of OpenSSL: the C rows with a digest are left out", file=sys.stderr)
        return {C: f"{program}:{C_PLAIN}"}
    ways = {C: C_PLAIN, C_HASHING: C_HASHED, C_SYNCING: C_SYNCED}
    return {name: f"{program}:{how}" for name, how in ways.items()}


def compare(
    directory: Path, kinds: dict[str, str], sizes: tuple[int, int], count: int, together: int, rounds: int
) -> dict[str, list[Run]]:
    """Run all cases in turns; ``sizes`` are those of a file, and of one for the vendor's slow way."""
    with sender(directory, sizes[0]) as source, sender(directory, sizes[1]) as small:
        cases = {
            name: partial(receive, directory, receiver(kind, source, count, together), source, count)
            for name, kind in kinds.items()
        }
        vendor = receiver("vendor", small, count, together)
        cases[VENDOR] = partial(receive, directory, vendor, small, count)
        return interleave(cases, rounds)


def one_file(directory: Path, c: dict[str, str], size: int, rounds: int) -> list[Row]:
    # An eighth of the size for the vendor: it is that much slower, and its speed does not depend on the size.
    runs = compare(directory, SINGLE | c, (size, max(size // 8, MIB)), 1, 1, rounds)
    return speeds(f"one file of {size // MIB} MiB", runs) + costs("one file", runs)


def files_at_once(directory: Path, c: dict[str, str], size: int, rounds: int, count: int = 20) -> list[Row]:
    runs = compare(directory, SEVERAL | c, (size, max(size // 8, MIB)), count, count, rounds)
    return speeds(f"{count} files of {size // MIB} MiB at once", runs) + costs(f"{count} files", runs)


def small_files(directory: Path, c: dict[str, str], count: int, rounds: int) -> list[Row]:
    runs = compare(directory, SMALL | c, (MIB, MIB), count, 1, rounds)
    return speeds(f"{count} files of 1 MiB in turn", runs)


def speeds(what: str, runs: dict[str, list[Run]]) -> list[Row]:
    """A row for every rival, and for every other case a row against each of them."""
    speed = {name: median(run.speed for run in found) for name, found in runs.items()}
    rivals = [rival for rival in RIVALS if rival in speed]
    rows = [Row("download", f"{what}: {rival}", speed[rival], "MB/s") for rival in rivals]
    for rival in rivals:
        for name in speed:
            if name not in rivals:
                ratio = speed[name] / speed[rival]
                rows.append(Row("download", f"{what}: {name}", speed[name], "MB/s", rival, ratio))
    return rows


def costs(what: str, runs: dict[str, list[Run]]) -> list[Row]:
    rows = []
    for name, found in runs.items():
        stall, growth = median(run.stall for run in found), max(run.growth for run in found)
        rows.append(Row("download", f"{what}, stall of the loop: {name}", stall, "ms"))
        rows.append(Row("download", f"{what}, growth of memory: {name}", growth, "MiB"))
    return rows


def main() -> None:
    parser = arguments("Download speed, loop stall and memory, beside the vendor's way and C.")
    parser.add_argument("--size", type=int, default=512, help="MiB of the single file (512)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the median counts (3)")
    parser.add_argument(
        "--directory", type=Path, help="where to put the files, instead of the usual temporary place"
    )
    options = parser.parse_args()
    size, rounds, small = (8, 1, 5) if options.quick else (options.size, options.rounds, 100)
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        c = native(directory)
        rows = one_file(directory, c, size * MIB, rounds)
        rows += files_at_once(directory, c, max(size // 8, 1) * MIB, rounds)
        rows += small_files(directory, c, small, rounds)
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    main()
