"""JSON-RPC over a WebSocket, the low-level client: asynccam beside the vendor's SDK and three libraries.

Every case runs in a process of its own, in turns with the others, on asyncio's loop and on uvloop, against
the server of `_rpc_server`. The vendor's SDK makes an object of a notification; the others hand it over as it
is. "A second" is one of processor time of the client's process; round trips are timed by the clock. What a
program uses is `CameraClient`, which `benchmarks.client` measures.
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
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks._loops import loops, run_on, suffix
from benchmarks._report import Row, arguments, emit, interleave, ratio_of_rounds
from benchmarks._rpc_clients import CASES, OURS, SDK, Client, OnNotice
from benchmarks._rpc_server import serving

IN_FLIGHT: Final = 100
_BOTH_LOOPS: Final = (OURS, SDK)
"""Clients that run under uvloop as well; the others' figures would add nothing."""


async def _measure(case: str, url: str, scale: int) -> dict[str, float]:
    """All figures of one case, in this process."""
    open_client = CASES[case]
    idle = await _memory(open_client, url, scale // 50)
    seen = 0
    done = asyncio.Event()
    flood = scale * 2

    def on_notice(params: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == flood:
            done.set()

    client = await open_client(url, on_notice)
    params = {"device": "camera0"}
    for _ in range(scale // 40):
        await client.call("ping", params)

    trips = []
    for _ in range(scale // 4):
        began = time.perf_counter()
        await client.call("ping", params)
        trips.append(time.perf_counter() - began)
    trips.sort()

    async def worker() -> None:
        for _ in range(scale // IN_FLIGHT):
            await client.call("ping", params)

    began = time.process_time()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    calls = scale / (time.process_time() - began)

    began = time.process_time()
    await client.call("flood", {"count": flood})
    await done.wait()
    notices = flood / (time.process_time() - began)
    await client.close()
    return {
        "p50": trips[len(trips) // 2] * 1e6,
        "p99": trips[len(trips) * 99 // 100] * 1e6,
        "calls": calls,
        "notices": notices,
        "memory": idle,
    }


async def _memory(open_client: Callable[[str, OnNotice], Awaitable[Client]], url: str, count: int) -> float:
    """KiB of resident memory an idle connection takes."""
    first = await open_client(url, print)
    gc.collect()
    before = _resident()
    clients = [await open_client(url, print) for _ in range(count)]
    gc.collect()
    grown = _resident() - before
    for client in (first, *clients):
        await client.close()
    return grown / count / 1024


def _resident() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _run(case: str, loop: str, port: int, scale: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.rpc", "--case", case, "--loop", loop]
    command += ["--port", str(port), "--scale", str(scale)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(printed)
    return figures


_ROWS: Final = (
    ("calls", "calls with 100 in flight", "/s"),
    ("p50", "round trip, median", "us"),
    ("p99", "round trip, 99 %", "us"),
    ("notices", "notifications to a callback", "/s"),
    ("memory", "an idle connection", "KiB"),
)


def rows(scale: int, rounds: int) -> list[Row]:
    """Measure all cases in turns; ratios are to the vendor's SDK on the same loop."""
    chosen = loops()
    with tempfile.TemporaryDirectory() as directory, serving(Path(directory), 1) as port:
        runs = {
            (case, loop): partial(_run, case, loop, port, scale)
            for loop in chosen
            for case in CASES
            if loop == chosen[0] or case in _BOTH_LOOPS
        }
        # Names are what `interleave` takes.
        found = interleave({f"{case}\t{loop}": run for (case, loop), run in runs.items()}, rounds)
    results = []
    for key, title, unit in _ROWS:
        medians = {name: statistics.median(run[key] for run in each) for name, each in found.items()}
        for case, loop in runs:
            name, rival = f"{case}\t{loop}", f"{SDK}\t{loop}"
            ratio = ratio_of_rounds(found[name], found[rival], key)
            case_name = f"{title}: {case}{suffix(loop)}"
            results.append(Row("rpc", case_name, medians[name], unit, f"{SDK}{suffix(loop)}", ratio))
    return results


def main() -> None:
    """Measure, in turns, and tell."""
    parser = arguments(__doc__ or "")
    for option, kind in (("--case", str), ("--loop", str), ("--port", int), ("--scale", int)):
        parser.add_argument(option, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        url = f"ws://127.0.0.1:{options.port}/ws"
        print(json.dumps(run_on(options.loop, _measure(options.case, url, options.scale))))
        return
    scale, count = (500, 1) if options.quick else (10_000, 3)
    emit(rows(scale, count), as_json=options.json)


if __name__ == "__main__":
    main()
