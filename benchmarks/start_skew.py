"""How far apart the first and the last of many devices are told to start.

    python -m benchmarks.start_skew [--quick] [--json]

Four ways, interleaved, against the same devices (listening sockets of another process, which stamps
what arrives by CLOCK_MONOTONIC): asynccam's armed starts; one task a device that connects and writes, as
the vendor's controller does it; sockets connected by hand and one tight loop of sends; the same in C.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from asynccam.systems.multicam import CommandMessage
from asynccam.systems.multicam.client import MultiCamClient
from benchmarks._loops import UVLOOP, loops, run_on, suffix
from benchmarks._native import C_HEAD, compile_c
from benchmarks._report import Row, arguments, emit, interleave

HOST = "127.0.0.1"
ANSWER = b'{"deviceId":"d","status":"scheduled_recording_accepted","timestamp":1729000000.5}'
ABSENT = (
    "fileName",
    "uploadUrl",
    "s3Bucket",
    "s3Key",
    "awsAccessKeyId",
    "awsSecretAccessKey",
    "awsSessionToken",
    "awsRegion",
)

C_SOURCE = (
    C_HEAD
    + r"""
int main(int argc, char **argv) {
    const char *payload = argv[1];
    size_t length = strlen(payload);
    int count = argc - 2, on = 1;
    int *socks = malloc(count * sizeof *socks);
    char answer[4096];
    for (int i = 0; i < count; i++) {
        struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[i + 2]))};
        where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socks[i] = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(socks[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(socks[i], (struct sockaddr *)&where, sizeof where) != 0) return 1;
    }
    double began = now();
    for (int i = 0; i < count; i++)
        if (write(socks[i], payload, length) != (ssize_t)length) return 2;
    double ended = now();
    for (int i = 0; i < count; i++)
        if (read(socks[i], answer, sizeof answer) <= 0) return 3;
    printf("%.9f\n", ended - began);
    return 0;
}
"""
)


# -- the devices ----------------------------------------------------------------------------------


def devices(count: int) -> None:
    """Be ``count`` devices until stdin ends; every line there asks for the arrivals since the last one."""
    raise_limit(count)
    poll = select.epoll()
    listeners: dict[int, socket.socket] = {}
    talks: dict[int, socket.socket] = {}
    arrivals: list[float] = []
    for _ in range(count):
        listener = socket.create_server((HOST, 0), backlog=16)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener
        poll.register(listener, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    print(json.dumps([listener.getsockname()[1] for listener in listeners.values()]), flush=True)
    while True:
        told = []
        # Awake while a start is to come: on a network, waking a device costs its controller nothing.
        awake = talks and len(arrivals) < count
        for number, _ in poll.poll(0 if awake else None, 256):
            if number in talks:
                data = talks[number].recv(4096)
                if data:
                    arrivals.append(time.monotonic())
                    told.append(talks[number])
                else:
                    poll.unregister(number)
                    talks.pop(number).close()
            elif number in listeners:
                talk, _ = listeners[number].accept()
                talks[talk.fileno()] = talk
                poll.register(talk, select.EPOLLIN)
            elif sys.stdin.readline():
                print(json.dumps(arrivals), flush=True)
                arrivals.clear()
            else:
                return
        for talk in told:
            talk.sendall(ANSWER)


class Devices:
    """The other process."""

    def __init__(self, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.start_skew", "--devices", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ports = [int(port) for port in self._ask("")]

    def arrivals(self) -> list[float]:
        """When each command came since the last call, CLOCK_MONOTONIC seconds."""
        arrived: list[float] = []
        until = time.monotonic() + 10
        while len(arrived) < len(self.ports):
            arrived += self._ask("\n")
            if time.monotonic() > until:
                raise SystemExit(f"only {len(arrived)} of {len(self.ports)} commands arrived")
        return arrived

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _ask(self, line: str) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        answer: list[float] = json.loads(self._process.stdout.readline())
        return answer


# -- the ways: each gives the seconds between its first and its last write ---------------------------


def armed(loop: str, ports: list[int]) -> float:
    """asynccam: connections opened ahead, every command let go in place."""

    async def run() -> float:
        clients = [MultiCamClient(HOST, port) for port in ports]
        starts = await asyncio.gather(*(client.arm() for client in clients))
        at = time.time() + 3
        began = time.monotonic()
        for start in starts:
            start.release(at)
        took = time.monotonic() - began
        await asyncio.gather(*(start.accepted() for start in starts))
        return took

    return run_on(loop, run())


async def vendor_command(port: int, at: float) -> float:
    """One device as the vendor's controller starts it; the moment of the write, CLOCK_MONOTONIC seconds."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), 60)
    try:
        absent = dict.fromkeys(ABSENT)
        command = {"command": "START_RECORDING", "timestamp": at, "deviceId": "controller", **absent}
        writer.write(json.dumps(command).encode())
        written = time.monotonic()
        await writer.drain()
        text = (await asyncio.wait_for(reader.read(65536), 60)).decode().strip()
        if json.loads(text).get("status") != "error":
            json.loads(text)
        return written
    finally:
        writer.close()
        await writer.wait_closed()


def vendor(loop: str, ports: list[int]) -> float:
    """The vendor's controller: a task a device, each of which connects, encodes, writes and waits.

    The answer is parsed twice, once to see of what kind it is.
    """
    at = time.time() + 3

    async def run() -> float:
        written = await asyncio.gather(*(vendor_command(port, at) for port in ports), return_exceptions=True)
        moments = [one for one in written if isinstance(one, float)]
        if len(moments) < len(written):
            raise SystemExit(f"the vendor's way failed: {written}")
        return max(moments) - min(moments)

    return run_on(loop, run())


def by_hand(ports: list[int]) -> float:
    """Blocking sockets connected ahead, one payload for all, nothing else: the least Python can do."""
    payload = CommandMessage.start_recording(time.time() + 3).to_bytes()
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_connection((HOST, port))) for port in ports]
        for sock in socks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.monotonic()
        for sock in socks:
            sock.send(payload)
        took = time.monotonic() - began
        for sock in socks:
            sock.recv(4096)
    return took


@contextlib.contextmanager
def in_c() -> Iterator[Callable[[list[int]], float] | None]:
    """The same in C, or None without a compiler."""
    with tempfile.TemporaryDirectory() as directory:
        program = compile_c(Path(directory), "client", C_SOURCE)
        if program is None:
            yield None
            return

        def run(ports: list[int]) -> float:
            payload = CommandMessage.start_recording(time.time() + 3).to_json()
            command = [str(program), payload, *map(str, ports)]
            return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

        yield run


# -- measuring ------------------------------------------------------------------------------------


def raise_limit(count: int) -> None:
    """Allow as many descriptors as ``count`` devices need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * count + 200
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def measure(count: int, runs: int) -> list[Row]:
    """Every way against ``count`` devices, interleaved, as medians in milliseconds."""
    raise_limit(count)
    with contextlib.closing(Devices(count)) as farm, in_c() as c_client:
        ways: dict[str, Callable[[list[int]], float]] = {"by hand": by_hand}
        for loop in loops():
            ways[f"armed{suffix(loop)}"] = partial(armed, loop)
            ways[f"vendor{suffix(loop)}"] = partial(vendor, loop)
        if c_client is not None:
            ways["C"] = c_client

        def round_of(way: Callable[[list[int]], float]) -> Callable[[], tuple[float, float]]:
            def run() -> tuple[float, float]:
                writes = way(farm.ports)
                arrived = farm.arrivals()
                return writes, max(arrived) - min(arrived)

            return run

        results = interleave({name: round_of(way) for name, way in ways.items()}, runs)
    rows = []
    for number, what in enumerate(("first to last write", "first to last arrival")):
        medians = {
            name: statistics.median(one[number] for one in measured) for name, measured in results.items()
        }
        for name, value in medians.items():
            case = f"{count} devices, {what}, {name}"
            rival = f"vendor{suffix(UVLOOP)}" if name.endswith(suffix(UVLOOP)) else "vendor"
            rows.append(Row("start_skew", case, value * 1000, "ms", rival, value / medians[rival]))
    return rows


def main() -> None:
    parser = arguments("How far apart the first and the last of many devices are told to start.")
    parser.add_argument("--devices", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.devices:
        devices(options.devices)
        return
    plan = [(20, 1)] if options.quick else [(100, 15), (1000, 9)]
    emit([row for count, runs in plan for row in measure(count, runs)], as_json=options.json)


if __name__ == "__main__":
    main()
