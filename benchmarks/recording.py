"""Cost of the recorder over plain GStreamer: time to the first frame on disk and to stop, CPU between them.

    python -m benchmarks.recording [--quick] [--json]

The rival is the same pipeline run by hand: ``gst-launch-1.0 -e`` in a subprocess, interrupted and waited
for. For the CPU both record the same SRT stream from one sender at the same time, so that whatever slows
the machine slows both; asynccam's figure holds its Python process, its shell and its ``gst-launch-1.0``.
"""

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

from asynccam.recording import Pipeline, Recorder, SingleFile, SplitFiles, SrtJpegSource, TestPattern
from benchmarks._report import Row, arguments, emit, interleave

HEADER = 1000
"""A Matroska file larger than this holds more than headers."""
BY_HAND = "by hand"
OURS = "asynccam"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def sender(width: int, height: int, fps: int) -> Iterator[int]:
    """A camera: Motion JPEG on an SRT listener that serves any number of callers; gives its port.

    Noise at this quality makes as many bytes as a real camera does: 27 Mbit/s at 720p30.
    """
    port = free_port()
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
    process = subprocess.Popen(
        [
            *[
                "gst-launch-1.0",
                "-q",
                "videotestsrc",
                "is-live=true",
                "pattern=snow",
                "!",
                caps,
                "!",
                "jpegenc",
            ],
            *["quality=5", "!", "srtsink", f"uri=srt://127.0.0.1:{port}?mode=listener", "latency=20"],
        ]
    )
    time.sleep(0.5)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def by_hand(port: int, location: Path) -> "subprocess.Popen[bytes]":
    """The recording pipeline as a person types it."""
    return subprocess.Popen(
        [
            *[
                "gst-launch-1.0",
                "-e",
                "srtsrc",
                f"uri=srt://127.0.0.1:{port}",
                "latency=20",
                "!",
                "queue",
                "!",
            ],
            *["jpegparse", "!", "queue", "!", "splitmuxsink", "muxer-factory=matroskamux"],
            f"location={location}-%02d.mkv",
        ],
        stdout=subprocess.DEVNULL,
    )


def pipeline(port: int, location: Path) -> Pipeline:
    """The same for asynccam."""
    return Pipeline(SrtJpegSource("127.0.0.1", port, 20), SplitFiles(location.parent, location.name))


def appears(path: Path, larger_than: int) -> float:
    """The moment a file has grown beyond a size, Unix seconds."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            if path.stat().st_size > larger_than:
                return time.time()
        except FileNotFoundError:
            pass
        time.sleep(0.0003)
    raise SystemExit(f"{path} never appeared")


class Start:
    """One start and stop, in milliseconds."""

    def __init__(self, first: float, stop: float, told: float = 0.0) -> None:
        self.first, self.stop, self.told = first * 1000, stop * 1000, told * 1000


def start_by_hand(port: int, directory: Path, number: int) -> Start:
    location = directory / f"hand{number}"
    began = time.time()
    process = by_hand(port, location)
    first = appears(Path(f"{location}-00.mkv"), HEADER) - began
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait()
    return Start(first, time.monotonic() - began)


def start_ours(port: int, directory: Path, number: int) -> Start:
    location = directory / f"ours{number}"
    path = Path(f"{location}-00.mkv")
    seen: dict[str, float] = {}

    def watch() -> None:
        seen["created"] = appears(path, -1)
        seen["first"] = appears(path, HEADER)

    async def run() -> Start:
        async with Recorder(pipeline(port, location)) as recorder:
            watcher = threading.Thread(target=watch)
            watcher.start()
            began = time.time()
            told = await recorder.start()
            await asyncio.sleep(0.5)
            before = time.monotonic()
            await recorder.stop()
            stop = time.monotonic() - before
            watcher.join()
        return Start(seen["first"] - began, stop, told - seen["created"])

    return asyncio.run(run())


def starts(rounds: int) -> list[Row]:
    numbers = {BY_HAND: 0, OURS: 0}
    with tempfile.TemporaryDirectory() as scratch, sender(1280, 720, 30) as port:

        def turn(name: str) -> Start:
            numbers[name] += 1
            run = start_by_hand if name == BY_HAND else start_ours
            return run(port, Path(scratch), numbers[name])

        results = interleave({name: partial(turn, name) for name in numbers}, rounds)
    rows = []
    for what, case in (("first", "call to first frame on disk"), ("stop", "stop")):
        hand = statistics.median(getattr(one, what) for one in results[BY_HAND])
        ours = statistics.median(getattr(one, what) for one in results[OURS])
        with_verdict = ", verdict and all" if what == "stop" else ""
        rows.append(Row("recording", f"{case}, {BY_HAND}", hand, "ms"))
        rows.append(Row("recording", f"{case}{with_verdict}, {OURS}", ours, "ms", BY_HAND, ours / hand))
    told = [one.told for one in results[OURS]]
    rows.append(
        Row("recording", "first frame told after its file appeared, median", statistics.median(told), "ms")
    )
    rows.append(Row("recording", "first frame told after its file appeared, worst", max(told), "ms"))
    return rows


def spent(pid: int) -> float:
    """CPU seconds of the living threads of a process and its children, to the nanosecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
        total += sum(round(spent(int(child)) * 1e9) for child in (task / "children").read_text().split())
    return total / 1e9


async def cpu(seconds: float, size: tuple[int, int, int], *, hand_first: bool) -> tuple[float, float]:
    """CPU seconds of the pipeline by hand and of asynccam for the same stream at the same time.

    The sender serves one caller after the other, which is worth a few percent, so they take turns
    in being first.
    """
    with tempfile.TemporaryDirectory() as scratch, sender(*size) as port:
        location = Path(scratch) / "hand"
        hand = by_hand(port, location) if hand_first else None
        if hand is not None:
            await asyncio.to_thread(appears, Path(f"{location}-00.mkv"), HEADER)
        async with Recorder(pipeline(port, Path(scratch) / "ours")) as recorder:
            await recorder.start()
            hand = hand or by_hand(port, location)
            try:
                await asyncio.to_thread(appears, Path(f"{location}-00.mkv"), HEADER)
                await asyncio.sleep(1)
                shell = next(pid for pid in _children() if _is_recorder(pid, scratch))
                before = spent(hand.pid), spent(shell) + time.process_time()
                await asyncio.sleep(seconds)
                after = spent(hand.pid), spent(shell) + time.process_time()
            finally:
                hand.send_signal(signal.SIGINT)
                await asyncio.to_thread(hand.wait)
    return after[0] - before[0], after[1] - before[1]


def _children() -> list[int]:
    return [
        int(pid)
        for task in Path(f"/proc/{os.getpid()}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]


def _is_recorder(pid: int, scratch: str) -> bool:
    return f"{scratch}/ours".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


def load(rounds: int, seconds: float) -> list[Row]:
    rows = []
    for size in ((1280, 720, 30), (1920, 1080, 60)):
        results = [asyncio.run(cpu(seconds, size, hand_first=turn % 2 == 0)) for turn in range(rounds)]
        hand = sum(one for one, _ in results) / seconds / rounds * 100
        ours = sum(other for _, other in results) / seconds / rounds * 100
        name = f"CPU at {size[1]}p{size[2]}"
        rows.append(Row("recording", f"{name}, {BY_HAND}", hand, "%"))
        rows.append(Row("recording", f"{name}, {OURS}", ours, "%", BY_HAND, ours / hand))
    return rows


async def many(count: int, seconds: float) -> list[Row]:
    """So many small recorders in one process."""
    tiny = TestPattern(width=64, height=48, fps=Fraction(5), time_code=False, codec="jpeg")
    with tempfile.TemporaryDirectory() as scratch:
        recorders = [Recorder(Pipeline(tiny, SingleFile(Path(scratch) / f"{n}.mkv"))) for n in range(count)]
        began = time.monotonic()
        await asyncio.gather(*(one.start(timeout=60) for one in recorders))
        started = time.monotonic()
        await asyncio.sleep(seconds)
        stopping = time.monotonic()
        verdicts = await asyncio.gather(*(one.stop() for one in recorders))
        stopped = time.monotonic()
        await asyncio.gather(*(one.aclose() for one in recorders))
    complete = sum(one.verdict.value == "complete" for files in verdicts for one in files)
    return [
        Row("recording", f"{count} recorders, all started", (started - began) * 1000, "ms"),
        Row("recording", f"{count} recorders, all stopped and judged", (stopped - stopping) * 1000, "ms"),
        Row("recording", f"{count} recorders, files complete", complete, "files"),
    ]


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    rows = starts(1 if options.quick else 11)
    rows += load(1 if options.quick else 4, 1.0 if options.quick else 10.0)
    rows += asyncio.run(many(*((10, 0.8) if options.quick else (100, 2.0))))
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    main()
