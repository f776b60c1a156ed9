"""A take over hundreds of cameras: how long each step takes, and how long the loop waits at worst.

    python -m benchmarks.takes [--quick] [--json]

The cameras are MultiCam devices in C with a file of 1 MiB each, so all processor time of the measured process
is asynccam's own. Without a C compiler nothing is measured, and the program says so. "Stall" is how late a
1 ms ticker on the loop came at worst, "work" how much processor time went by between two ticks at worst:
other programs make a stall longer, but not the work. Starts that were not armed are compared with the
vendor's way: a task a device that connects, writes and waits.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from asynccam import Session
from asynccam.systems.multicam.client import MultiCamClient
from benchmarks._light_devices import build, devices
from benchmarks._report import Row, arguments, emit, interleave
from benchmarks.start_skew import HOST, vendor_command

OURS: Final = "asynccam"
VENDOR: Final = "vendor"
_START_IN: Final = 1.0
_STEPS: Final = ("open", "arm", "start", "stop", "collect")


def _raise_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Watch:
    """Times the steps of a take, and how late a ticker comes meanwhile."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self._worst = 0.0
        self._work = 0.0

    async def tick(self) -> None:
        """Note the latest tick, for ever."""
        while True:
            began, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self._worst = max(self._worst, time.perf_counter() - began - 0.001)
            self._work = max(self._work, time.thread_time() - used)

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Measure one step: milliseconds of time, of processor time and of stall."""
        await asyncio.sleep(0.01)  # what the last step left for the loop to do is not this step's
        self._worst = self._work = 0.0
        began, used = time.perf_counter(), time.process_time()
        yield
        self.figures[name] = (time.perf_counter() - began) * 1e3
        self.figures[f"{name} cpu"] = (time.process_time() - used) * 1e3
        await asyncio.sleep(0.002)  # a ticker that is late has to come first
        self.figures[f"{name} stall"] = self._worst * 1e3
        self.figures[f"{name} work"] = self._work * 1e3


async def _take(ports: list[int], directory: Path) -> dict[str, float]:
    watch = Watch()
    ticker = asyncio.create_task(watch.tick())
    addresses = [f"multicam://{HOST}:{port}" for port in ports]
    async with AsyncExitStack() as stack:
        async with watch.step("open"):
            opened = Session.open(*addresses, mdns=False, poll_interval=None, timeout=120)
            session = await stack.enter_async_context(opened)
        cameras = list(session.cameras.values())
        assert len(cameras) == len(ports), session.unavailable
        take = await stack.enter_async_context(session.new_take(cameras, directory))
        async with watch.step("arm"):
            await take.arm()
        async with watch.step("start"):
            await take.start(start_in=_START_IN)
        async with watch.step("stop"):
            await take.stop()
        async with watch.step("collect"):
            await take.collect()
        assert sum(len(camera.files) for camera in take.manifest.cameras) == len(ports), take.manifest.outcome
    ticker.cancel()
    return watch.figures


async def _start_ours(ports: list[int]) -> dict[str, float]:
    clients = [MultiCamClient(HOST, port) for port in ports]
    at = time.time() + 3
    await clients[0].start_recording(at)  # so that what is imported but once does not count
    began = time.perf_counter()
    await asyncio.gather(*(client.start_recording(at) for client in clients))
    took = time.perf_counter() - began
    for client in clients:
        await client.aclose()
    return {"start": took * 1e3}


async def _start_vendor(ports: list[int]) -> dict[str, float]:
    at = time.time() + 3
    await vendor_command(ports[0], at)
    began = time.perf_counter()
    await asyncio.gather(*(vendor_command(port, at) for port in ports))
    return {"start": (time.perf_counter() - began) * 1e3}


def _run(case: str, ports: list[int]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.takes", "--case", case]
    done = subprocess.run(command, input=json.dumps(ports), check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _case(case: str, ports: list[int]) -> dict[str, float]:
    _raise_limit()
    if case == "take":
        with tempfile.TemporaryDirectory() as directory:
            return asyncio.run(_take(ports, Path(directory, "take")))
    starts: dict[str, Callable[[list[int]], Coroutine[Any, Any, dict[str, float]]]] = {
        OURS: _start_ours,
        VENDOR: _start_vendor,
    }
    return asyncio.run(starts[case](ports))


def take_rows(program: Path, count: int, rounds: int) -> list[Row]:
    with devices(program, count) as ports:
        runs = [_run("take", ports) for _ in range(rounds)]
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    rows = [
        Row("takes", f"{count} cameras, {step}", median[step], "ms") for step in _STEPS if step != "start"
    ]
    armed = median["arm cpu"] / count
    rows.append(Row("takes", f"{count} cameras, processor time to arm one", armed, "ms"))
    for what in ("stall", "work"):
        rows += [
            Row("takes", f"{count} cameras, {what}, {step}", median[f"{step} {what}"], "ms")
            for step in _STEPS
        ]
        longest = max(median[f"{step} {what}"] for step in _STEPS if step != "open")
        rows.append(Row("takes", f"{count} cameras, longest {what} of a take", longest, "ms"))
    return rows


def start_rows(program: Path, count: int, rounds: int) -> list[Row]:
    with devices(program, count) as ports:
        found = interleave({case: partial(_run, case, ports) for case in (OURS, VENDOR)}, rounds)
    medians = {case: statistics.median(run["start"] for run in runs) for case, runs in found.items()}
    return [
        Row("takes", f"{count} starts, not armed: {case}", value, "ms", VENDOR, value / medians[VENDOR])
        for case, value in medians.items()
    ]


def main() -> None:
    """Measure and tell."""
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(_case(options.case, json.load(sys.stdin))))
        return
    takes, starts, rounds = ((10,), 20, 1) if options.quick else ((100, 500), 1000, 3)
    with tempfile.TemporaryDirectory() as directory:
        program = build(Path(directory), without="takes over many cameras are not measured")
        if program is None:
            return
        rows = [row for count in takes for row in take_rows(program, count, rounds)]
        rows += start_rows(program, starts, 3 * rounds)
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    main()
