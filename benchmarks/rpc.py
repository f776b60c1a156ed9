"""JSON-RPC over a WebSocket: ours beside raw `websockets`, the service's own SDK, and two libraries.

Every case runs in a process of its own, against one server process whose answers cost next to
nothing. Run as ``python -m benchmarks.rpc``.
"""

import argparse
import asyncio
import base64
import gc
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from benchmarks._report import Row, arguments, emit, interleave
from benchmarks._rpc_clients import CASES, Client, OnNotice

IN_FLIGHT: Final = 100
_MODULE: Final = (sys.executable, "-m", "benchmarks.rpc")
_ID = re.compile(rb'"id": ?("[^"]*"|\d+)')
_CAMERA: Final = {"device": "camera0", "status": "CONNECTED", "name": "Camera 0", "resolution": "1920x1080"}


# -- the server ----------------------------------------------------------------------------------


class BenchServer(asyncio.Protocol):
    """Just enough WebSocket to answer: a frame in, a frame out, no library whose cost would count."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._shake_hands(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
        answers: list[bytes] = []
        while (message := self._next()) is not None:
            answers += self._answer(*message)
        if answers:
            self._transport.write(b"".join(answers))

    def _shake_hands(self, request: bytes) -> None:
        match = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
        assert match is not None
        key = base64.b64encode(hashlib.sha1(match[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n"
        )
        self._open = True

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 6:
            return None
        length, start = buffer[1] & 127, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        if len(buffer) < start + 4 + length:
            return None
        mask = bytes(buffer[start : start + 4])
        body = bytes(buffer[start + 4 : start + 4 + length])
        opcode = buffer[0] & 15
        del buffer[: start + 4 + length]
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        return opcode, (int.from_bytes(body, "big") ^ key).to_bytes(length, "big")

    def _answer(self, opcode: int, body: bytes) -> list[bytes]:
        if opcode == 8:
            self._transport.write(_frame(body, 8))
            self._transport.close()
            return []
        if opcode == 9:
            return [_frame(body, 10)]
        match = _ID.search(body)
        if match is None:
            return []
        answer = _frame(b'{"jsonrpc": "2.0", "id": ' + match[1] + b', "result": "pong"}')
        if b'"flood"' not in body:
            return [answer]
        found = re.search(rb'"count": ?(\d+)', body)
        assert found is not None
        notice = {"jsonrpc": "2.0", "method": "camera_status_update", "params": _CAMERA}
        return [answer, _frame(json.dumps(notice).encode()) * int(found[1])]


def _frame(body: bytes, opcode: int = 1) -> bytes:
    if len(body) < 126:
        return bytes((128 | opcode, len(body))) + body
    return bytes((128 | opcode, 126)) + len(body).to_bytes(2, "big") + body


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(BenchServer, "127.0.0.1", 0, backlog=2000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# -- measuring -----------------------------------------------------------------------------------


async def _measure(case: str, url: str, scale: int) -> dict[str, float]:
    """All figures of one case, in this process."""
    open_client = CASES[case]
    idle = await _memory(open_client, url, scale // 50)
    seen = 0
    done = asyncio.Event()
    flood = scale * 2

    def on_notice(params: dict[str, Any]) -> None:
        nonlocal seen
        seen += 1
        if seen == flood:
            done.set()

    client = await open_client(url, on_notice)
    params = {"device": "camera0"}
    for _ in range(500):
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

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    calls = scale / (time.perf_counter() - began)

    began = time.perf_counter()
    await client.call("flood", {"count": flood})
    await done.wait()
    notices = flood / (time.perf_counter() - began)
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


def _run(case: str, port: int, scale: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.rpc",
        "--case",
        case,
        "--port",
        str(port),
        "--scale",
        str(scale),
    ]
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


def main() -> None:
    """Measure, in turns, and tell."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve())
        return
    if options.case:
        print(
            json.dumps(
                asyncio.run(_measure(options.case, f"ws://127.0.0.1:{options.port}/ws", options.scale))
            )
        )
        return
    scale, rounds = (500, 1) if options.quick else (20_000, 3)
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.rpc", "--serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        results = interleave({case: partial(_run, case, port, scale) for case in CASES}, rounds)
    finally:
        server.kill()
        server.wait()
    rows = []
    for key, title, unit in _ROWS:
        medians = {case: statistics.median(run[key] for run in runs) for case, runs in results.items()}
        for case, value in medians.items():
            against = None if case == "asynccam" else case
            ratio = medians["asynccam"] / value if against else None
            rows.append(
                Row(
                    "rpc",
                    f"{title}: {case}",
                    value,
                    unit,
                    "asynccam" if against else None,
                    1 / ratio if ratio else None,
                )
            )
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    main()
