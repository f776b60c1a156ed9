"""Files from an original media server: asynccam, the maker's way, and a plain C program.

    python -m benchmarks.nanocam [--size MIB] [--rounds N] [--directory DIR] [--quick] [--json]

Another process answers as the original does, names, `DONE`, files without a length, `MORE` and `QUIT`, but
by ``sendfile`` from the page cache, so that it takes little of this machine, as a Jetson elsewhere would.
Every receiver is a fresh process that connects, asks, and puts the files on this disk. Afterwards each file
is compared with what was sent, but for the maker's client, which errs where a read cuts a word, and for the
C program's series, which it puts into one file. The C program is told where the file begins and how long
it is, and looks at nothing; asynccam and the maker's client have to find that out. Time runs from before the
connection to the last byte written, with asynccam to the digest; without fsync, but where "committed" says
so. "Stall" is how late a 1 ms ticker on the receiver's loop came at worst, "growth" how far resident
memory rose. One row has the maker's server too, which sends 1024 bytes at a time.
"""

import hashlib
import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import BinaryIO

from benchmarks._loops import on_each
from benchmarks._nanocam_receivers import C_SOURCE
from benchmarks._native import compile_c
from benchmarks._receivers import CLAIM, HOST
from benchmarks._report import Row, arguments, emit, interleave

MIB = 1024 * 1024
C = "C recv 256 KiB + write, told the size"
ORIGINAL = "maker's client, 1024 bytes at a time"
BOTH = "maker's client and server, 1024 bytes at a time"
COMMITTED = "asynccam, digest, committed"
KINDS = {
    "asynccam, no digest": "plain",
    "asynccam, digest": "digest",
    COMMITTED: "committed",
}


@dataclass(frozen=True)
class Run:
    """One receiver's run: MB/s over all files, stall in ms, growth in MiB."""

    speed: float
    stall: float
    growth: float


@dataclass(frozen=True)
class Answer:
    """Answer of the server: ``head``, ``block`` so often, ``tail``; and which parts of it are files."""

    head: bytes
    block: bytes
    count: int
    tail: bytes
    listed: int
    size: int
    digests: tuple[str, ...]


def video(size: int) -> Answer:
    """An MP4 such as the original's muxer leaves it: ``ftyp free mdat moov``."""
    block = _noise(min(size, 16 * MIB))
    count = max(1, size // len(block))
    start = _box(b"ftyp", b"isom\0\0\2\0isomiso2") + _box(b"free", b"")
    start += struct.pack(">I4s", 8 + count * len(block), b"mdat")
    index = _box(b"moov", _noise(40_000))
    listed = pickle.dumps(["2020-07-29 14:54:15.mp4"], 2) + b"DONE"
    sha = hashlib.sha256(start)
    for _ in range(count):
        sha.update(block)
    sha.update(index)
    total = len(start) + count * len(block) + len(index)
    return Answer(listed + start, block, count, index + b"QUIT", len(listed), total, (sha.hexdigest(),))


def pictures(size: int) -> Answer:
    """JPEGs of two megabytes; as full of stuffed bytes as a real one."""
    scan = _noise(2 * MIB).replace(b"\xff", b"\xff\0")
    tables = struct.pack(">2sH", b"\xff\xdb", 67) + bytes(65)
    picture = b"\xff\xd8" + tables + struct.pack(">2sH", b"\xff\xda", 12) + bytes(10) + scan + b"\xff\xd9"
    count = min(max(2, size // len(picture)), 50)
    # The maker's loop reads 1024 bytes at once, and for ever if that cuts the word behind the names.
    listed = pickle.dumps([f"{number:02}.jpg" for number in range(count)], 2) + b"DONE"
    assert len(listed) < 1024
    digest = hashlib.sha256(picture).hexdigest()
    return Answer(
        listed,
        picture + b"MORE",
        count - 1,
        picture + b"QUIT",
        len(listed),
        count * (len(picture) + 4) - 4,
        (digest,) * count,
    )


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _noise(size: int) -> bytes:
    """Bytes without the maker's words, by which its loop would be lost."""
    data = os.urandom(size)
    for word in (b"DONE", b"MORE", b"QUIT", b"BUSY"):
        data = data.replace(word, b"----")
    return data


@contextmanager
def serving(directory: Path, answer: Answer, *, original: bool = False) -> Iterator[int]:
    """A process that gives this answer to whoever asks, in its own way or in the maker's; its port."""
    block = directory / "block"
    block.write_bytes(answer.block)
    serve = _serve_as_the_maker if original else _serve
    listener = socket.create_server((HOST, 0), backlog=4)
    process = os.fork()
    if not process:
        try:
            with block.open("rb") as file:
                while True:
                    with suppress(ConnectionError):  # a receiver that does not read the last word
                        serve(listener, file, answer)
        finally:
            os._exit(1)
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        os.kill(process, 9)
        os.waitpid(process, 0)
        block.unlink()


def _serve(listener: socket.socket, block: BinaryIO, answer: Answer) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1024)
        connection.sendall(answer.head)
        for _ in range(answer.count):
            done = 0
            while done < len(answer.block):
                done += os.sendfile(connection.fileno(), block.fileno(), done, len(answer.block) - done)
        connection.sendall(answer.tail)
        connection.shutdown(socket.SHUT_WR)  # the maker's loop waits for ever for a word that a read has cut
        connection.recv(1024)  # until the client leaves


def _serve_as_the_maker(listener: socket.socket, block: BinaryIO, answer: Answer) -> None:
    """1024 bytes read, sent and counted at a time."""
    connection, _ = listener.accept()
    total = 0
    with connection:
        connection.recv(1024)
        connection.sendall(answer.head)
        for _ in range(answer.count):
            block.seek(0)
            while data := block.read(1024):
                connection.send(data)
                total += sys.getsizeof(data)
        connection.sendall(answer.tail)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1024)


def receive(directory: Path, command: list[str], answer: Answer, *, whole: bool, checked: bool) -> Run:
    """Run one receiver in a directory of its own, compare what it left, and throw that away."""
    target = directory / "received"
    target.mkdir()
    claim_memory(target / CLAIM, answer.size)
    try:
        if whole:
            (target / CLAIM).unlink()
            command = [*command, str(target / "file")]
        else:
            command = [*command, str(target)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        if checked:
            check(target, answer)
    finally:
        shutil.rmtree(target)
    found = json.loads(done.stdout)
    return Run(answer.size / 1e6 / found["seconds"], found["stall"], found["growth"])


def claim_memory(path: Path, size: int) -> None:
    """Fill as much of the page cache as a run will: a virtual machine may have to fetch it page by page."""
    with path.open("wb") as file:
        for _ in range(0, size, MIB):
            file.write(bytes(MIB))


def check(target: Path, answer: Answer) -> None:
    """That the files are what was sent."""
    found = []
    for path in sorted(target.iterdir()):
        with path.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    assert tuple(found) == answer.digests, f"{sorted(target.iterdir())} are not what was sent"


def compare(directory: Path, what: str, answer: Answer, rounds: int, kinds: dict[str, str]) -> list[Row]:
    program = compile_c(directory, "nanocam", C_SOURCE)
    script = [sys.executable, "-m", "benchmarks._nanocam_receivers"]
    both = directory / "both"
    both.mkdir()
    with serving(directory, answer) as port, serving(both, answer, original=True) as slow:
        cases: dict[str, Callable[[], Run]] = {
            name: partial(receive, directory, [*script, kind, str(port)], answer, whole=False, checked=True)
            for name, kind in kinds.items()
        }
        command = [*script, "original", str(port)]
        cases[ORIGINAL] = partial(receive, directory, command, answer, whole=False, checked=False)
        command = [*script, "original", str(slow)]
        cases[BOTH] = partial(receive, directory, command, answer, whole=False, checked=False)
        if program is not None:
            command = [str(program), str(port), str(answer.listed), str(answer.size)]
            one = len(answer.digests) == 1
            cases[C] = partial(receive, directory, command, answer, whole=True, checked=one)
        runs = interleave(cases, rounds)
    both.rmdir()
    speed = {name: median(run.speed for run in found) for name, found in runs.items()}
    rivals = [rival for rival in (ORIGINAL, BOTH, C) if rival in speed]
    rows = [Row("nanocam", f"{what}: {rival}", speed[rival], "MB/s") for rival in rivals]
    for rival in rivals:
        for name in kinds:
            ratio = speed[name] / speed[rival]
            rows.append(Row("nanocam", f"{what}: {name}", speed[name], "MB/s", rival, ratio))
    for name in kinds:
        stall, growth = median(run.stall for run in runs[name]), max(run.growth for run in runs[name])
        rows.append(Row("nanocam", f"{what}, stall of the loop: {name}", stall, "ms"))
        rows.append(Row("nanocam", f"{what}, growth of memory: {name}", growth, "MiB"))
    return rows


def main() -> None:
    parser = arguments("Files from an original media server, beside the maker's loop and a C program.")
    parser.add_argument("--size", type=int, default=512, help="MiB of the video (512)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of which the median counts (5)")
    parser.add_argument("--directory", type=Path, help="where to put the files, instead of the usual place")
    options = parser.parse_args()
    size, rounds = (8, 1) if options.quick else (options.size, options.rounds)
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        kinds = KINDS | on_each({COMMITTED: "committed"})
        rows = compare(directory, f"an MP4 of {size} MiB", video(size * MIB), rounds, kinds)
        series = pictures(max(size // 4, 4) * MIB)
        what = f"{len(series.digests)} JPEGs of 2 MiB"
        rows += compare(directory, what, series, rounds, dict(list(KINDS.items())[:2]))
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    main()
