"""Report of a benchmark's receiver about itself: its time, and the processor time of its process."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path


async def _tick(worst: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        worst[0] = max(worst[0], time.perf_counter() - began - 0.001)


def _memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


async def watched(work: Callable[[], Awaitable[float | None]]) -> None:
    """Do the work and print one JSON object: seconds, stall (ms), growth (MiB).

    Args:
        work: Gives the seconds if it measured them itself, else None.
    """
    worst = [0.0]
    ticker = asyncio.create_task(_tick(worst))
    await asyncio.sleep(0.05)
    worst[0] = 0.0
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    began = time.perf_counter()
    own = await work()
    seconds = time.perf_counter() - began if own is None else own
    growth = (_memory("VmHWM") - before) / 1024
    ticker.cancel()
    print(json.dumps({"seconds": seconds, "stall": worst[0] * 1000, "growth": growth}))
