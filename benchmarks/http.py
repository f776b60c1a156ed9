"""The list of cameras of a Snapshot server: our client and our server beside the maker's and bare aiohttp.

    python -m benchmarks.http [--quick] [--json]

All clients ask one server process whose answers cost next to nothing, one question after the other and
fifty at once, in turns, on asyncio's loop and on uvloop. Every case ends with the cameras as objects: ours
typed, the others' as they come out of JSON. Bare aiohttp runs twice: how far "again" is from 1 is the error
of what is measured. The servers, ours and the maker's application, are asked by one client, which costs as
little. "A second" of a client is one of its process's time, that of a server is one by the clock.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final

import aiohttp
import requests

from asynccam.systems.snapshot import SnapshotClient
from benchmarks._http_server import PATHS, answers_a_second, module
from benchmarks._loops import ASYNCIO, UVLOOP, loops, run_on
from benchmarks._report import Row, arguments, emit, interleave

AT_ONCE: Final = 50
BARE: Final = "bare aiohttp"
AGAIN: Final = "bare aiohttp, again"
MAKER: Final = "maker's application"
_MODULE: Final = (sys.executable, "-m", "benchmarks.http")
_CAMERA: Final = {
    "device_path": "/dev/video0",
    "height": "1080",
    "pixel_format": "MJPG",
    "service_name": "",
    "stereo": False,
    "type": "v4l2",
    "width": "1920",
}
CAMERAS: Final = json.dumps([{"name": name, **_CAMERA} for name in ("left", "right", "main")]).encode()

Case = Callable[[], float]
"""Runs once, and gives answers a second."""


# -- what the clients are measured against ---------------------------------------------------------


class Answering(asyncio.Protocol):
    """The same answer to every request, on a connection that stays: no framework whose cost would count."""

    answer = (
        b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(CAMERAS)
    ) + CAMERAS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self.answer * data.count(b"\r\n\r\n"))


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """The base URL of a server in a process of its own, which prints its port."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


# -- the clients -----------------------------------------------------------------------------------

Ask = Callable[[], Awaitable[object]]


async def _asked(ask: Ask, calls: int, at_once: int) -> float:
    """Answers a second of this process's time, after some that do not count."""

    async def worker(count: int) -> None:
        for _ in range(count):
            await ask()

    async def everybody(count: int) -> None:
        await asyncio.gather(*(worker(count) for _ in range(at_once)))

    await everybody(2)
    began = time.process_time()
    await everybody(calls // at_once)
    return calls // at_once * at_once / (time.process_time() - began)


def with_asynccam(url: str, calls: int, at_once: int, loop: str = ASYNCIO) -> float:
    async def run() -> float:
        async with SnapshotClient(base_url=url) as client:
            return await _asked(client.get_cameras, calls, at_once)

    return run_on(loop, run())


def with_aiohttp(url: str, calls: int, at_once: int, loop: str = ASYNCIO) -> float:
    async def run() -> float:
        async with aiohttp.ClientSession() as session:

            async def ask() -> object:
                async with session.get(f"{url}/api/cameras") as response:
                    response.raise_for_status()
                    return await response.json()

            return await _asked(ask, calls, at_once)

    return run_on(loop, run())


def with_requests(url: str, calls: int, at_once: int, *, session: bool) -> float:
    def worker(count: int) -> None:
        with requests.Session() as own:
            get = own.get if session else requests.get
            for _ in range(count):
                response = get(f"{url}/api/cameras", timeout=30)
                response.raise_for_status()
                response.json()

    with ThreadPoolExecutor(at_once) as pool:
        began = time.process_time()
        list(pool.map(worker, [calls // at_once] * at_once))
        return calls // at_once * at_once / (time.process_time() - began)


def client_cases(url: str, calls: int, at_once: int) -> Mapping[str, Case]:
    fewer = max(calls // 5, at_once)  # it takes its time
    return {
        BARE: partial(with_aiohttp, url, calls, at_once),
        AGAIN: partial(with_aiohttp, url, calls, at_once),
        "asynccam": partial(with_asynccam, url, calls, at_once),
        "requests.get": partial(with_requests, url, fewer, at_once, session=False),
        "requests.Session": partial(with_requests, url, fewer, at_once, session=True),
    }


def client_rows(*, calls: int, rounds: int) -> list[Row]:
    rows: list[Row] = []
    with serving(*_MODULE, "--serve") as url:
        for at_once, words in ((1, "one after the other"), (AT_ONCE, f"{AT_ONCE} at once")):
            results = interleave(client_cases(url, calls, at_once), rounds)
            rows += compared("http client", words, results, BARE)
            if UVLOOP in loops():
                results = interleave(
                    {
                        BARE: partial(with_aiohttp, url, calls, at_once, UVLOOP),
                        "asynccam": partial(with_asynccam, url, calls, at_once, UVLOOP),
                    },
                    rounds,
                )
                rows += compared("http client", f"{words}, {UVLOOP}", results, BARE)
    return rows


# -- the servers -----------------------------------------------------------------------------------


def server_rows(*, calls: int, rounds: int) -> list[Row]:
    """Fifty clients at once. The maker's server ends every connection, so its clients come anew each time."""
    rows: list[Row] = []
    with serving(*module("asynccam")) as ours, serving(*module("maker")) as maker:
        for words, path in PATHS.items():
            cases: Mapping[str, Case] = {
                MAKER: partial(answers_a_second, maker, path, calls // 5, stay=False),
                "asynccam": partial(answers_a_second, ours, path, calls, stay=True),
                "asynccam, a connection each": partial(answers_a_second, ours, path, calls // 2, stay=False),
            }
            found = interleave(cases, rounds)
            rows += compared("http server", f"{words}, {AT_ONCE} at once", found, MAKER)
    return rows


# -- the results -----------------------------------------------------------------------------------


def compared(benchmark: str, words: str, results: Mapping[str, Sequence[float]], rival: str) -> list[Row]:
    """A row for each case: the median, and the median of how it did beside the rival in the same round."""
    return [
        Row(
            benchmark,
            f"{name}, {words}",
            statistics.median(values),
            "/s",
            rival,
            statistics.median(mine / theirs for mine, theirs in zip(values, results[rival], strict=True)),
        )
        for name, values in results.items()
    ]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--serve", action="store_true", help="be the server the clients ask")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    calls, rounds = (100, 1) if options.quick else (200, 20)  # short rounds share the noise
    rows = client_rows(calls=calls, rounds=rounds)
    rows += server_rows(calls=10 * calls, rounds=min(rounds, 9))
    emit(rows, as_json=options.json)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
