"""`CameraClient` beside the vendor's SDK, from the call to the object that a program gets.

    python -m benchmarks.client [--quick] [--json]

Calls with 100 in flight, one call after another, typed notifications to a callback from services with 16 to
500 cameras, and lists of 50 cameras as objects. Each case runs in a process of its own, in turns with the
others, on asyncio's loop and on uvloop, against the server of `_rpc_server`. The callback is a function, as
asynccam allows, and a coroutine function, as the SDK demands. "Lost" are notifications that never came to the
callback.

"A second" is one of processor time of the client's process, so that other programs of the computer do not
count; one call after another is timed by the clock.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from asynccam import CameraClient
from benchmarks._loops import loops, run_on, suffix
from benchmarks._report import Row, arguments, emit, interleave, ratio_of_rounds
from benchmarks._rpc_clients import SDK, VendorSdk
from benchmarks._rpc_server import serving

OURS: Final = "CameraClient"
AWAITED: Final = "CameraClient, coroutine callback"
HOST: Final = "127.0.0.1"
IN_FLIGHT: Final = 100
LISTS_IN_FLIGHT: Final = 10
LISTED: Final = 50
NOTIFIED: Final = (16, 100, 500)
_QUIET: Final = 2.0
"""Seconds without a notification after which the rest counts as lost."""


class Service(Protocol):
    """Calls that both clients have."""

    on_camera_status_update: Any

    async def ping(self) -> object: ...

    async def get_camera_list(self) -> Sequence[object]: ...

    async def call(self, method: str, params: dict[str, Any]) -> Any: ...


def _ours(port: int) -> AbstractAsyncContextManager[Service]:
    return CameraClient(HOST, port, auth_token="token", environment=False)


@asynccontextmanager
async def _sdk(port: int) -> Any:
    sdk = await VendorSdk.connect(f"ws://{HOST}:{port}/ws")
    try:
        yield sdk
    finally:
        await sdk.close()


CASES: Final[dict[str, tuple[Callable[[int], AbstractAsyncContextManager[Service]], bool]]] = {
    OURS: (_ours, False),
    AWAITED: (_ours, True),
    SDK: (_sdk, True),
}
"""How each is opened, and whether its callback is a coroutine function."""


# -- one case, in a process of its own ---------------------------------------------------------------


async def _measure(case: str, ports: dict[str, int], scale: int) -> dict[str, float]:
    open_client, awaited = CASES[case]
    figures: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(ports[str(LISTED)]))
        await _rate(client.ping, scale // 10, IN_FLIGHT)  # warm
        figures["p50"] = await _median_trip(client.ping, scale // 4)
        figures["calls"] = await _rate(client.ping, scale, IN_FLIGHT)
        figures["lists"] = await _rate(client.get_camera_list, scale // 20, LISTS_IN_FLIGHT)
    figures["lost"] = 0
    for cameras in NOTIFIED:
        async with open_client(ports[str(cameras)]) as client:
            await _notified(client, scale // 20, awaited=awaited)
            rate, lost = await _notified(client, scale // 2, awaited=awaited)
            figures[f"notices {cameras}"] = rate
            figures["lost"] += lost
    return figures


async def _median_trip(ask: Callable[[], Awaitable[object]], count: int) -> float:
    """Microseconds."""
    trips = []
    for _ in range(count):
        began = time.perf_counter()
        await ask()
        trips.append(time.perf_counter() - began)
    return statistics.median(trips) * 1e6


async def _rate(ask: Callable[[], Awaitable[object]], count: int, in_flight: int) -> float:
    """Answers a second of this process's time."""
    each = max(count // in_flight, 1)

    async def worker() -> None:
        for _ in range(each):
            await ask()

    began = time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return each * in_flight / (time.process_time() - began)


async def _notified(client: Service, count: int, *, awaited: bool) -> tuple[float, int]:
    """Notifications a second of this process's time, and how many never came to the callback."""
    seen = 0
    last = time.perf_counter()
    done = asyncio.Event()

    def hear(camera: object) -> None:
        nonlocal seen, last
        seen += 1
        last = time.perf_counter()
        if seen == count:
            done.set()

    async def hear_later(camera: object) -> None:
        hear(camera)

    client.on_camera_status_update = hear_later if awaited else hear
    began = time.process_time()
    await client.call("flood", {"count": count})
    while not done.is_set() and time.perf_counter() < last + _QUIET:
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _QUIET)
    took = time.process_time() - began
    client.on_camera_status_update = None
    return seen / took, count - seen


# -- all cases ---------------------------------------------------------------------------------------


def _run(case: str, loop: str, ports: dict[str, int], scale: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.client", "--case", case, "--loop", loop]
    command += ["--ports", json.dumps(ports), "--scale", str(scale)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(printed)
    return figures


def _titles() -> list[tuple[str, str, str]]:
    return [
        ("calls", f"calls, {IN_FLIGHT} in flight", "/s"),
        ("p50", "one call, median", "us"),
        ("lists", f"lists of {LISTED} cameras", "/s"),
        *((f"notices {count}", f"typed notifications, {count} cameras", "/s") for count in NOTIFIED),
        ("lost", "lost notifications", ""),
    ]


def rows(scale: int, rounds: int) -> list[Row]:
    """Measure all cases in turns; ratios are to the SDK on the same loop."""
    chosen = loops()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        ports = {
            str(count): stack.enter_context(serving(Path(directory), count))
            for count in sorted({LISTED, *NOTIFIED})
        }
        cases = [(case, loop) for loop in chosen for case in CASES if case != AWAITED or loop == chosen[0]]
        runs = {f"{case}{suffix(loop)}": partial(_run, case, loop, ports, scale) for case, loop in cases}
        found = interleave(runs, rounds)
    results = []
    for key, title, unit in _titles():
        middle = max if key == "lost" else statistics.median
        values = {name: middle([run[key] for run in each]) for name, each in found.items()}
        for case, loop in cases:
            if case == AWAITED and not key.startswith(("notices", "lost")):
                continue  # it differs in nothing else
            name, rival = f"{case}{suffix(loop)}", f"{SDK}{suffix(loop)}"
            ratio = ratio_of_rounds(found[name], found[rival], key) if unit else None
            row = Row("client", f"{title}: {name}", values[name], unit, rival if unit else None, ratio)
            results.append(row)
    return results


def main() -> None:
    """Measure, in turns, and tell."""
    parser = arguments(str(__doc__).splitlines()[0])
    for option, kind in (("--case", str), ("--loop", str), ("--ports", json.loads), ("--scale", int)):
        parser.add_argument(option, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_on(options.loop, _measure(options.case, options.ports, options.scale))))
        return
    scale, count = (400, 1) if options.quick else (10_000, 3)
    emit(rows(scale, count), as_json=options.json)


if __name__ == "__main__":
    main()
