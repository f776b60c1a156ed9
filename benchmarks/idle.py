"""Cost of a session while nothing happens: cameras that are checked every ten seconds.

    python -m benchmarks.idle [--quick] [--json]

The cameras are MultiCam devices in C, so all processor time of the measured process is asynccam's own.
Without a C compiler nothing is measured, and the program says so.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from asynccam import Session
from benchmarks._light_devices import build, devices
from benchmarks._report import Row, arguments, emit

_INTERVAL: Final = 10.0


async def _idle(ports: list[int], interval: float, seconds: float) -> float:
    """Percent of a core, from when every camera has been checked once."""
    addresses = [f"multicam://127.0.0.1:{port}" for port in ports]
    async with Session.open(*addresses, mdns=False, poll_interval=interval, timeout=300) as session:
        assert len(session.cameras) == len(ports), session.unavailable
        await asyncio.sleep(interval)
        began, used = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        return 100 * (time.process_time() - used) / (time.perf_counter() - began)


def main() -> None:
    """Measure and tell."""
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--interval", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seconds:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        print(asyncio.run(_idle(json.load(sys.stdin), options.interval, options.seconds)))
        return
    plan = [(10, 0.5, 1.0)] if options.quick else [(500, _INTERVAL, 20.0), (5000, _INTERVAL, 20.0)]
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        program = build(Path(directory), without="an idle session is not measured")
        if program is None:
            return
        for count, interval, seconds in plan:
            command = [sys.executable, "-m", "benchmarks.idle", "--interval", str(interval)]
            with devices(program, count) as ports:
                done = subprocess.run(
                    [*command, "--seconds", str(seconds)],
                    input=json.dumps(ports),
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            case = f"{count} cameras, checked every {interval:g} s"
            rows.append(Row("idle", case, float(done.stdout), "% of a core"))
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    main()
