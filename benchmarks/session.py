"""A Session of 500 cameras, and its hub beside the obvious alternative: an `asyncio.Queue` a subscriber.

The cameras are 500 MultiCam devices, each at a TCP port of its own, all in one process: in C where there is a
compiler, else of asynccam's own server. The session is in another process, which is the one that is measured.
Its rival is what a program without asynccam has to do to know the same: connect to each device, ask for its
status, and read the answer. Run as ``python -m benchmarks.session``.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from asynccam.model.events import CameraStateChanged, Event, FileProgress
from asynccam.model.info import CameraState
from asynccam.recording.verify import FileVerdict, Verdict
from asynccam.runtime.event_hub import EventHub
from benchmarks._light_devices import build, devices
from benchmarks._loops import loops, run_on, suffix
from benchmarks._report import Row, arguments, emit, interleave

SUBSCRIBERS: Final = 10
RATE: Final = 10_000
"""Events a second while latency is measured."""
_BURST: Final = 50
"""Events that are emitted in one turn of the loop while throughput is measured."""
_MODULE: Final = (sys.executable, "-m", "benchmarks.session")


# -- the cameras ---------------------------------------------------------------------------------


class NoRecorder:
    """A recorder hook that records nothing."""

    async def start(self, path: Path) -> float:
        return time.time()

    async def stop(self) -> FileVerdict:
        return FileVerdict(Path(), Verdict.EMPTY, 0, 0.0, 0, "")

    async def ended(self) -> str:
        await asyncio.Event().wait()
        return ""


async def _serve(count: int) -> None:
    from asynccam.systems.multicam import MultiCamDevice

    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            ports = []
            for number in range(count):
                device = MultiCamDevice(
                    Path(directory, str(number)), recorder=NoRecorder(), port=0, device_id=f"bench-{number}"
                )
                await stack.enter_async_context(device)
                ports.append(device.port)
            print(json.dumps(ports), flush=True)
            await asyncio.to_thread(sys.stdin.read)


# -- a session -----------------------------------------------------------------------------------


async def _session(ports: list[int]) -> dict[str, float]:
    from asynccam.session import Session

    async with Session.open(f"multicam://127.0.0.1:{ports[0]}", mdns=False, poll_interval=None, timeout=60):
        pass  # so that what is imported and opened but once does not count
    addresses = [f"multicam://127.0.0.1:{port}" for port in ports]
    gc.collect()
    before = _resident()
    began = time.perf_counter()
    async with Session.open(*addresses, mdns=False, poll_interval=60, timeout=120) as session:
        opened = time.perf_counter() - began
        assert len(session.cameras) == len(ports), session.unavailable
        gc.collect()
        memory = (_resident() - before) / len(ports) / 1024
        began = time.perf_counter()
    closed = time.perf_counter() - began
    return {"memory": memory, "open": opened * 1e3, "close": closed * 1e3}


async def _plain(ports: list[int]) -> dict[str, float]:
    """Ask each device with asyncio alone, as many at a time as the session does."""
    slots = asyncio.Semaphore(64)
    query = json.dumps(
        {"command": "DEVICE_STATUS", "timestamp": time.time(), "deviceId": "controller"}
    ).encode()

    async def ask(port: int) -> dict[str, Any]:
        async with slots, asyncio.timeout(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(query)
                answer: dict[str, Any] = json.loads(await reader.read(65536))
            finally:
                writer.close()
                await writer.wait_closed()
            return answer

    await ask(ports[0])
    began = time.perf_counter()
    answers = await asyncio.gather(*map(ask, ports))
    opened = time.perf_counter() - began
    assert len({answer["deviceId"] for answer in answers}) == len(ports)
    return {"open": opened * 1e3}


# -- the hub -------------------------------------------------------------------------------------

Emit = Callable[[Event], None]
Hear = Callable[[Event], None]


@asynccontextmanager
async def _callbacks(hear: list[Hear]) -> AsyncIterator[Emit]:
    hub = EventHub()
    for one in hear:
        hub.subscribe(one)
    yield hub.emit
    assert not hub.dropped
    await hub.aclose()


@asynccontextmanager
async def _streams(hear: list[Hear]) -> AsyncIterator[Emit]:
    hub = EventHub()

    async def read(one: Hear) -> None:
        async for event in stream_of[one]:
            one(event)

    stream_of = {one: hub.stream() for one in hear}
    readers = [asyncio.ensure_future(read(one)) for one in hear]
    yield hub.emit
    assert not hub.dropped
    await hub.aclose()
    await asyncio.gather(*readers)


@asynccontextmanager
async def _queues(hear: list[Hear]) -> AsyncIterator[Emit]:
    queues: list[asyncio.Queue[Event]] = [asyncio.Queue() for _ in hear]

    async def read(queue: asyncio.Queue[Event], one: Hear) -> None:
        while True:
            one(await queue.get())

    def put(event: Event) -> None:
        for queue in queues:
            queue.put_nowait(event)

    readers = [asyncio.ensure_future(read(queue, one)) for queue, one in zip(queues, hear, strict=True)]
    yield put
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


HUBS: Final = {"asynccam, callbacks": _callbacks, "asynccam, iterators": _streams, "asyncio.Queue": _queues}


async def _hub(case: str, count: int) -> dict[str, float]:
    """Deliveries a second, and how late they are at a steady rate."""
    heard = [0] * SUBSCRIBERS
    done = [asyncio.Event() for _ in range(SUBSCRIBERS)]

    def counter(number: int) -> Hear:
        def hear(event: Event) -> None:
            heard[number] += 1
            if heard[number] == count:
                done[number].set()

        return hear

    events = [_event(number) for number in range(500)]
    async with HUBS[case]([counter(number) for number in range(SUBSCRIBERS)]) as put:
        began = time.perf_counter()
        for number in range(count):
            put(events[number % 500])
            if number % _BURST == _BURST - 1:
                await asyncio.sleep(0)
        for one in done:
            await one.wait()
        deliveries = SUBSCRIBERS * count / (time.perf_counter() - began)

    late: list[float] = []
    total = max(count // 10, RATE // 10)
    all_heard = asyncio.Event()

    def hear_late(event: Event) -> None:
        late.append(time.perf_counter() - event.at)
        if len(late) == total * SUBSCRIBERS:
            all_heard.set()

    hearers: list[Hear] = [lambda event: hear_late(event) for _ in range(SUBSCRIBERS)]
    async with HUBS[case](hearers) as put:
        began = time.perf_counter()
        sent = 0
        while sent < total:
            due = min(int((time.perf_counter() - began) * RATE) + 1, total)
            for number in range(sent, due):
                put(_event(number, time.perf_counter()))
            sent = due
            await asyncio.sleep(0.001)
        await all_heard.wait()
    late.sort()
    return {"deliveries": deliveries, "p99": late[len(late) * 99 // 100] * 1e3}


def _event(number: int, at: float = 0.0) -> Event:
    """One in four is a state, which the hub keeps as well."""
    camera = f"multicam://bench-{number % 500}"
    if number % 4:
        return FileProgress(at=at, camera=camera, name="video.mp4", received=number, total=None)
    return CameraStateChanged(at=at, camera=camera, state=CameraState.READY)


# -- all of it -----------------------------------------------------------------------------------


def _resident() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123 - a file of the kernel's
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _run(*options: str) -> dict[str, float]:
    printed = subprocess.run([*_MODULE, *options], check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(printed)
    return figures


@contextmanager
def _devices(count: int) -> Iterator[list[int]]:
    with tempfile.TemporaryDirectory() as directory:
        program = build(Path(directory), without="the session's devices are in Python")
        if program is not None:
            with devices(program, count) as ports:
                yield ports
            return
    server = subprocess.Popen(
        [*_MODULE, "--serve", str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())
    finally:
        server.communicate("")


def _session_rows(cameras: int, rounds: int) -> list[Row]:
    with _devices(cameras) as ports:
        found = interleave(
            {
                f"{way} {loop}": partial(_run, f"--{way}", json.dumps(ports), "--loop", loop)
                for loop in loops()
                for way in ("ports", "plain")
            },
            rounds,
        )
    rows = []
    for loop in loops():
        ours, on = found[f"ports {loop}"], suffix(loop)
        median = {key: statistics.median(run[key] for run in ours) for key in ours[0]}
        bare = statistics.median(run["open"] for run in found[f"plain {loop}"])
        rival = f"{cameras} devices asked with asyncio alone{on}"
        ratio = median["open"] / bare
        rows += [
            Row("session", f"memory of a camera, {cameras} of them{on}", median["memory"], "KiB"),
            Row("session", f"{cameras} cameras found and held{on}", median["open"], "ms", rival, ratio),
            Row("session", rival, bare, "ms"),
            Row("session", f"{cameras} cameras closed{on}", median["close"], "ms"),
        ]
    return rows


def _hub_rows(count: int, rounds: int) -> list[Row]:
    results: dict[str, list[dict[str, float]]] = interleave(
        {case: partial(_run, "--hub", case, "--count", str(count)) for case in HUBS}, rounds
    )
    rows = []
    for key, title, unit in (
        ("deliveries", f"deliveries to {SUBSCRIBERS} subscribers", "/s"),
        ("p99", f"latency at {RATE:,} events/s, 99 %", "ms"),
    ):
        medians = {case: statistics.median(run[key] for run in runs) for case, runs in results.items()}
        rival = medians["asyncio.Queue"]
        for case, value in medians.items():
            compared: Any = ("asyncio.Queue", value / rival) if case != "asyncio.Queue" else (None, None)
            rows.append(Row("session", f"{title}: {case}", value, unit, *compared))
    return rows


def main() -> None:
    """Measure, in turns, and tell."""
    parser = arguments(__doc__ or "")
    for option, kind in (
        ("--serve", int),
        ("--ports", str),
        ("--plain", str),
        ("--hub", str),
        ("--count", int),
        ("--loop", str),
    ):
        parser.add_argument(option, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve(options.serve))
    elif options.ports:
        print(json.dumps(run_on(options.loop, _session(json.loads(options.ports)))))
    elif options.plain:
        print(json.dumps(run_on(options.loop, _plain(json.loads(options.plain)))))
    elif options.hub:
        print(json.dumps(asyncio.run(_hub(options.hub, options.count))))
    else:
        cameras, count, rounds = (20, 2_000, 1) if options.quick else (500, 200_000, 3)
        emit([*_session_rows(cameras, rounds), *_hub_rows(count, rounds)], as_json=options.json)


if __name__ == "__main__":
    main()
