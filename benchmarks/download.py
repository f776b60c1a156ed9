"""A framed file from a socket to a disk: asynccam, the vendor's way, and a plain C program.

    python benchmarks/download.py [--size MIB] [--rounds N] [--directory DIR] [--quick] [--json]

Another process sends, by ``sendfile`` from the page cache, so that it takes little of this machine,
as a device elsewhere takes nothing. Every receiver is a fresh process that connects, reads the
header, and puts exactly the announced bytes into a file. The time runs until the last byte is
written and, with a digest, until the digest is known; without fsync, but where "committed" says so.
The clock of the C program starts after the header, the others' before they connect. Afterwards
every file is compared with what was sent. "Stall" is how late a 1 ms ticker on the receiver's loop
came at worst in a run (beside the C program: on a loop that only waits for it, which tells what the
machine itself contributes), "growth" how far resident memory rose at most.
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
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._native import compile_c
from benchmarks._receivers import C_SOURCE, CLAIM, HOST
from benchmarks._report import Row, arguments, emit, interleave

MIB = 1024 * 1024
BLOCK = 16 * MIB
C = "C recv 256 KiB + write"
VENDOR = "vendor's asyncio, 8 KiB reads under wait_for"
OURS = "asynccam, splice, digest"
SINGLE = {
    OURS: "splice",
    "asynccam, splice, no digest": "splice-plain",
    "asynccam, splice, digest, committed": "splice-commit",
    "asynccam, buffered, digest": "buffered",
    "asynccam, buffered, no digest": "buffered-plain",
}
SEVERAL = {
    OURS: "splice",
    "asynccam, splice, no digest": "splice-plain",
    "asynccam, buffered, no digest": "buffered-plain",
}


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
    words = json.dumps({"deviceId": "d", "fileName": "a.mp4", "fileSize": size, "status": "ready"}).encode()
    header = len(words).to_bytes(4, "big") + words
    connections: dict[int, socket.socket] = {}
    sent: dict[int, int] = {}
    with selectors.DefaultSelector() as selector, block.open("rb") as file:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    connection.sendall(header)
                    connection.setblocking(False)
                    connections[connection.fileno()], sent[connection.fileno()] = connection, 0
                    selector.register(connection, selectors.EVENT_WRITE)
                    continue
                done = sent[key.fd]
                start = done % BLOCK
                with suppress(BlockingIOError):
                    done += os.sendfile(
                        key.fd, file.fileno(), start, min(BLOCK - start, size - done, 4 * MIB)
                    )
                sent[key.fd] = done
                if done == size:
                    selector.unregister(key.fd)
                    connections.pop(key.fd).close()


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


def receiver(kind: str, source: Sender, count: int = 1) -> list[str]:
    """The command of a receiver, but for the directory."""
    script = Path(__file__).with_name("_receivers.py")
    return [sys.executable, str(script), kind, str(source.port), str(count)]


def one_file(directory: Path, size: int, rounds: int) -> list[Row]:
    program = compile_c(directory, "receive", C_SOURCE)
    with sender(directory, size) as source, sender(directory, max(size // 8, MIB)) as small:
        cases = {
            name: partial(receive, directory, receiver(kind, source), source, 1)
            for name, kind in SINGLE.items()
        }
        # An eighth of the size: it is that much slower, and its speed does not depend on the size.
        cases[VENDOR] = partial(receive, directory, receiver("vendor", small), small, 1)
        if program is not None:
            cases[C] = partial(receive, directory, receiver(str(program), source), source, 1)
        runs = interleave(cases, rounds)
    return speeds(f"one file of {size // MIB} MiB", runs, [C, VENDOR]) + costs("one file", runs)


def twenty_files(directory: Path, size: int, rounds: int, count: int = 20) -> list[Row]:
    with sender(directory, size) as source:
        kinds = {**SEVERAL, VENDOR: "vendor"}
        cases = {
            name: partial(receive, directory, receiver(kind, source, count), source, count)
            for name, kind in kinds.items()
        }
        runs = interleave(cases, rounds)
    return speeds(f"{count} files of {size // MIB} MiB at once", runs, [VENDOR]) + costs(
        f"{count} files", runs
    )


def speeds(what: str, runs: dict[str, list[Run]], rivals: list[str]) -> list[Row]:
    """A row for every rival, and for every other case a row against each of them."""
    speed = {name: median(run.speed for run in found) for name, found in runs.items()}
    rivals = [rival for rival in rivals if rival in speed]
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
    parser = arguments("Download speed, loop stall and memory, beside two rivals.")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the single file (1024)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of which the median counts (5)")
    parser.add_argument(
        "--directory", type=Path, help="where to put the files, instead of the usual temporary place"
    )
    options = parser.parse_args()
    size, rounds = (8, 1) if options.quick else (options.size, options.rounds)
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        rows = one_file(Path(name), size * MIB, rounds)
        rows += twenty_files(Path(name), max(size // 16, 1) * MIB, min(rounds, 3))
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    main()
