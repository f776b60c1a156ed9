"""Cost of `permessage-deflate` in a JSON-RPC round trip: `websockets` on both ends, with it and without.

Run as ``python -m benchmarks.deflate``.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from benchmarks._report import Row, arguments, emit, interleave

_MODULE: Final = (sys.executable, "-m", "benchmarks.deflate")
_CASES: Final = ("without deflate", "with deflate")
_CAMERA: Final = {
    "device": "camera0",
    "status": "CONNECTED",
    "name": "Camera 0",
    "resolution": "1920x1080",
    "fps": 30,
    "streams": {
        "rtsp": "rtsp://192.0.2.1:8554/camera0",
        "hls": "http://192.0.2.1:8888/camera0/index.m3u8",
    },
}
_TITLES: Final = {
    "a pong": "round trip, a pong",
    "50 cameras": "round trip, 50 cameras",
    "memory": "memory a connection",
}
_ANSWERS: Final[dict[str, Any]] = {"a pong": "pong", "50 cameras": {"cameras": [_CAMERA] * 50}}


async def _serve() -> None:
    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            request = json.loads(message)
            result = _ANSWERS[request["params"]]
            await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))

    async with serve(answer, "127.0.0.1", 0, max_size=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


async def _measure(port: int, case: str, scale: int) -> dict[str, float]:
    """Microseconds of a round trip by what is answered, the median; and KiB of memory a connection takes."""
    compression = "deflate" if case == "with deflate" else None
    figures = {}
    async with connect(f"ws://127.0.0.1:{port}/ws", compression=compression, max_size=None) as socket:
        for what in _ANSWERS:
            trips = []
            for number in range(scale):
                began = time.perf_counter()
                request = {"jsonrpc": "2.0", "id": number, "method": "ping", "params": what}
                await socket.send(json.dumps(request))
                json.loads(await socket.recv())
                trips.append(time.perf_counter() - began)
            figures[what] = statistics.median(trips) * 1e6
    figures["memory"] = await _memory(port, compression, scale // 10)
    return figures


async def _memory(port: int, compression: str | None, count: int) -> float:
    """KiB of resident memory a connection takes once it was used."""
    sockets = []
    before = 0
    for number in range(count + 1):
        socket = await connect(f"ws://127.0.0.1:{port}/ws", compression=compression, max_size=None)
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "params": "50 cameras"}))
        await socket.recv()
        sockets.append(socket)
        before = before or _resident()
    grown = _resident() - before
    for socket in sockets:
        await socket.close()
    return grown / count / 1024


def _resident() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _run(port: int, case: str, scale: int) -> dict[str, float]:
    command = [*_MODULE, "--case", case, "--port", str(port), "--scale", str(scale)]
    figures: dict[str, float] = json.loads(subprocess.check_output(command))
    return figures


def main() -> None:
    """Measure, in turns, and tell."""
    parser = arguments(__doc__ or "")
    for name, kind in (("--case", str), ("--port", int), ("--scale", int)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve())
        return
    if options.case:
        print(json.dumps(asyncio.run(_measure(options.port, options.case, options.scale))))
        return
    scale, rounds = (50, 1) if options.quick else (2_000, 5)
    server = subprocess.Popen([*_MODULE, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        results = interleave({case: partial(_run, port, case, scale) for case in _CASES}, rounds)
    finally:
        server.kill()
        server.communicate()
    rows = []
    for what, unit in (*((answer, "us") for answer in _ANSWERS), ("memory", "KiB")):
        medians = {case: statistics.median(run[what] for run in runs) for case, runs in results.items()}
        plain = medians["without deflate"]
        for case, value in medians.items():
            rows.append(
                Row("deflate", f"{_TITLES[what]}, {case}", value, unit, "without deflate", value / plain)
            )
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    main()
