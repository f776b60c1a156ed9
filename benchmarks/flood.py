"""How long other tasks wait while a peer sends as fast as it can: ``python -m benchmarks.flood``.

The peer is a process of its own. A task of the measured process asks for a turn of the loop again and again;
the longest wait between two turns is printed, how much processor time of it this process used (the rest is
that of others, the peer among them), the longest collection of Python's garbage collector, which nothing can
interrupt, and what became of a call with a deadline of two seconds.
"""

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from asynccam.errors import AsynccamError
from asynccam.recording.bus_messages import LaunchReader
from asynccam.recording.process import NOTHING_TO_FINISH, LaunchProcess
from asynccam.runtime.event_hub import EventHub
from asynccam.systems.mediamtx import CameraClient
from asynccam.systems.multicam import MultiCamClient
from asynccam.systems.nanocam.client import MediaClient
from asynccam.systems.thorvision import ThorVisionClient
from benchmarks._report import Row, arguments, emit

_PEER: Final = (sys.executable, "-m", "benchmarks._flood_peer")
Work = Callable[[int, float], Awaitable[str]]


async def _sign_in(port: int, seconds: float) -> str:
    try:
        async with CameraClient("127.0.0.1", port, timeout=seconds, max_retries=1):
            return "signed in"
    except AsynccamError as error:
        return type(error).__name__


async def _signed_in(port: int, seconds: float) -> str:
    hub = EventHub()
    heard = 0

    def hear(event: object) -> None:
        nonlocal heard
        heard += 1

    subscription = hub.subscribe(hear)
    async with CameraClient("127.0.0.1", port, timeout=10.0, max_retries=1, events=hub):
        await asyncio.sleep(seconds)
    told = f"{heard} heard, {subscription.dropped} lost"
    await hub.aclose()
    return told


async def _hot_plug(port: int, seconds: float) -> str:
    try:
        async with ThorVisionClient("127.0.0.1", port, timeout=seconds):
            return "connected"
    except AsynccamError as error:
        return type(error).__name__


async def _status(port: int, seconds: float) -> str:
    try:
        async with MultiCamClient("127.0.0.1", port, timeout=seconds) as device:
            await device.device_status()
            return "answered"
    except AsynccamError as error:
        return type(error).__name__


async def _pictures(port: int, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            async with MediaClient("127.0.0.1", port) as client:
                await client.fetch_images(1, 1)
        return "answered"
    except (AsynccamError, TimeoutError) as error:
        return type(error).__name__


async def _print(port: int, seconds: float) -> str:
    reader, lines = LaunchReader(), 0

    def take(data: bytes) -> None:
        nonlocal lines
        lines += len(reader.feed(data))

    process = await LaunchProcess.start([*_PEER, "lines"], take)
    await asyncio.sleep(seconds)
    await process.stop(NOTHING_TO_FINISH)
    return f"{lines} lines"


CASES: Final[dict[str, tuple[str, bool, Work]]] = {
    "MediaMTX, sign-in not answered": ("notices", False, _sign_in),
    "MediaMTX, shortest notifications": ("short notices", False, _sign_in),
    "MediaMTX, ever new cameras": ("new cameras", False, _sign_in),
    "MediaMTX, batches of 1,000": ("batches", False, _sign_in),
    "MediaMTX, batches of 340,000": ("long batches", False, _sign_in),
    "MediaMTX, messages of 15 MiB": ("long text", False, _sign_in),
    "MediaMTX, pings": ("pings", False, _sign_in),
    "MediaMTX, fragments without end": ("empty fragments", False, _sign_in),
    "MediaMTX, what is not JSON": ("not JSON", False, _sign_in),
    "MediaMTX, signed in": ("notices", True, _signed_in),
    "MediaMTX, signed in, new cameras": ("new cameras", True, _signed_in),
    "ThorVision, a list without end": ("body", False, _hot_plug),
    "MultiCam, heartbeats": ("heartbeats", False, _status),
    "nanocam, BUSY": ("busy", False, _pictures),
    "output of a recorder": ("lines", False, _print),
}


async def _probe(waits: list[float], worked: list[float]) -> None:
    last, busy = time.perf_counter(), time.thread_time()
    while True:
        await asyncio.sleep(0)
        now, used = time.perf_counter(), time.thread_time()
        waits[0], worked[0] = max(waits[0], now - last), max(worked[0], used - busy)
        last, busy = now, used


Measured = tuple[float, float, float, float, str]


@contextmanager
def _collections() -> Iterator[list[float]]:
    """Collect the seconds that each garbage collection of the interpreter takes; 0 stands first."""
    found, started = [0.0], 0.0

    def on_collection(phase: str, _: dict[str, int]) -> None:
        nonlocal started
        if phase == "start":
            started = time.perf_counter()
        else:
            found.append(time.perf_counter() - started)

    gc.callbacks.append(on_collection)
    try:
        yield found
    finally:
        gc.callbacks.remove(on_collection)


async def measure(name: str, seconds: float, peer: "subprocess.Popen[str]") -> Measured:
    """Longest wait, work and collection between two turns, how long all took, and what became of it."""
    kind, _, work = CASES[name]
    assert peer.stdout is not None
    port = int(peer.stdout.readline()) if kind != "lines" else 0
    gc.collect()
    waits, worked = [0.0], [0.0]
    with _collections() as collections:
        probe = asyncio.ensure_future(_probe(waits, worked))
        began = time.perf_counter()
        told = await work(port, seconds)
        took = time.perf_counter() - began
        probe.cancel()
        with suppress(asyncio.CancelledError):
            await probe
    return waits[0], worked[0], max(collections), took, told


def flooded(name: str, seconds: float) -> Measured:
    """Measure one case; see `measure`."""
    kind, answered, _ = CASES[name]
    command = [*_PEER, kind, *(["answered"] if answered else [])]
    peer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        return asyncio.run(measure(name, seconds, peer))
    finally:
        peer.kill()
        peer.communicate()


def main() -> None:
    """Measure one wire after another, and tell."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--case", help="this one only", choices=CASES)
    options = parser.parse_args()
    seconds = 0.15 if options.quick else 2.0
    rows = []
    for name in [options.case] if options.case else CASES:
        wait, work, collection, took, told = flooded(name, seconds)
        rows.append(Row("flood", f"{name}: {told} after", took, "s"))
        rows.append(Row("flood", f"{name}: longest wait of another task", wait * 1e3, "ms"))
        rows.append(Row("flood", f"{name}: longest work in one turn", work * 1e3, "ms"))
        rows.append(Row("flood", f"{name}: longest garbage collection", collection * 1e3, "ms"))
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    main()
