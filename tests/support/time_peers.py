"""Devices and time servers of known truth, as a process of their own on loopback.

Every peer has a clock (offset, drift, steps of its stamps), a network (delays there and back, losses) and
a protocol: NTP over UDP, packed by hand, or one line of text over TCP. The network is inside the peer: it
waits before it reads its clock and before it answers, so what is true is known to the nanosecond. All
processes of a computer share one monotonic clock; `Origin` ties it to a wall time.

    python -m tests.support.time_peers < SPECS   (a line of JSON; prints a line of ports; ends with stdin)
"""

import asyncio
import builtins
import itertools
import json
import math
import random
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

from asynccam.errors import ConnectionError, TimeoutError
from asynccam.model.info import ClockOffset
from asynccam.net.clock import MeasurementLimiter, TimedReply, measure_offset, query_sntp
from asynccam.runtime.timing import Clock

HOST: Final = "127.0.0.1"
PROJECT: Final = Path(__file__).parents[2]
NTP_UNIX_EPOCH: Final = 2_208_988_800
LOST: Final = 0.3
"""Seconds after which a line-of-text probe gives an answer up."""


@dataclass(frozen=True)
class Peer:
    """What is true of one peer.

    Attributes:
        protocol: ``ntp`` or ``tcp``.
        offset: Its clock minus ours at the origin, in seconds.
        drift: How much faster its clock runs, in seconds per second.
        step: Step of its stamps in seconds, or 0.
        rounding: ``floor`` or ``round``.
        network: One of `NETWORKS`.
        precision: What an NTP server states, as an exponent of two.
        works: Seconds between the two stamps of an NTP server.
        claims: Seconds that its second stamp is later than the truth.
        sets_after: Requests after which its clock is set, or 0 for never.
        sets_by: By how many seconds.
        seed: Of its network.
    """

    protocol: str = "ntp"
    offset: float = 0.0
    drift: float = 0.0
    step: float = 0.0
    rounding: str = "floor"
    network: str = "quiet"
    precision: int = -20
    works: float = 0.0
    claims: float = 0.0
    sets_after: int = 0
    sets_by: float = 0.0
    seed: int = 0

    def truth(self, elapsed: float, requests: int = 0) -> float:
        """Its clock minus ours, ``elapsed`` seconds after the origin and after so many requests."""
        was_set = self.sets_after and requests > self.sets_after
        return self.offset + self.drift * elapsed + (self.sets_by if was_set else 0.0)

    def stamp(self, true: float) -> float:
        """Return what it shows when its clock truly is at ``true``."""
        if not self.step:
            return true
        per_second = round(1 / self.step)
        steps = true * per_second
        return (math.floor(steps) if self.rounding == "floor" else round(steps)) / per_second


@dataclass(frozen=True)
class Origin(Clock):
    """The wall time that our scale shows at a time of the monotonic clock."""

    wall: float
    at: float

    @classmethod
    def now(cls) -> "Origin":
        return cls(time.time(), time.monotonic())

    def time(self) -> float:
        return self.wall + (time.monotonic() - self.at)


# -- networks -----------------------------------------------------------------------------------------

Delays = tuple[float, float]
"""Seconds there and back."""


def _quiet(chance: random.Random) -> Iterator[Delays | None]:
    return itertools.repeat((0.0, 0.0))


def _symmetric(chance: random.Random) -> Iterator[Delays | None]:
    return itertools.repeat((0.004, 0.004))


def _slow_there(chance: random.Random) -> Iterator[Delays | None]:
    return itertools.repeat((0.02, 0.0))


def _slow_back(chance: random.Random) -> Iterator[Delays | None]:
    return itertools.repeat((0.0, 0.02))


def _jitter(chance: random.Random) -> Iterator[Delays | None]:
    while True:
        yield chance.uniform(0.0, 0.05), chance.uniform(0.0, 0.05)


def _wifi(chance: random.Random) -> Iterator[Delays | None]:
    """A millisecond or two; in bursts of some packets ten times that, more on one way, and losses."""
    left = 0
    while True:
        if left == 0 and chance.random() < 0.1:
            left = chance.randint(3, 10)
        slow = left > 0
        left = max(0, left - 1)
        if chance.random() < (0.1 if slow else 0.01):
            yield None
        else:
            there, back = chance.expovariate(1 / 0.002), chance.expovariate(1 / 0.002)
            yield (
                (there + chance.uniform(0.0, 0.1), back + chance.uniform(0.0, 0.02))
                if slow
                else (there, back)
            )


NETWORKS: Final[dict[str, Callable[[random.Random], Iterator[Delays | None]]]] = {
    "quiet": _quiet,
    "symmetric": _symmetric,
    "slow there": _slow_there,
    "slow back": _slow_back,
    "jitter": _jitter,
    "wifi": _wifi,
}


# -- the peers' process ---------------------------------------------------------------------------------


class _Clockwork:
    """One peer at work: reads its clock, counts its requests, has its network's delays."""

    def __init__(self, peer: Peer, origin: Origin) -> None:
        self.peer = peer
        self.delays = NETWORKS[peer.network](random.Random(peer.seed))
        self.requests = 0
        self._origin = origin

    def stamp(self, requests: int, ahead: float = 0.0) -> float:
        elapsed = time.monotonic() - self._origin.at
        return self.peer.stamp(self._origin.wall + elapsed + self.peer.truth(elapsed, requests) + ahead)


def _after(seconds: float, call: Callable[[], None]) -> None:
    if seconds > 0:
        asyncio.get_running_loop().call_later(seconds, call)
    else:
        call()


class _NtpPeer(asyncio.DatagramProtocol):
    def __init__(self, work: _Clockwork) -> None:
        self._work = work
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        work = self._work
        work.requests += 1
        number, delays = work.requests, next(work.delays)
        if delays is None:
            return
        there, back = delays

        def arrive() -> None:
            received = work.stamp(number)
            _after(work.peer.works, lambda: leave(received))

        def leave(received: float) -> None:
            packet = _ntp_packet(data, work.peer, received, work.stamp(number, work.peer.claims))
            _after(back, lambda: self._transport.sendto(packet, addr))

        _after(there, arrive)


def _ntp_packet(request: bytes, peer: Peer, received: float, sent: float) -> bytes:
    head = struct.pack("!BBbbII4s", 0x24, 1, 6, peer.precision, 0, 0, b"TEST")
    return head + _ntp_stamp(received) + request[40:48] + _ntp_stamp(received) + _ntp_stamp(sent)


def _ntp_stamp(unix: float) -> bytes:
    seconds, fraction = divmod(unix, 1)
    return struct.pack("!II", (int(seconds) + NTP_UNIX_EPOCH) % 2**32, int(fraction * 2**32))


class _TcpPeer(asyncio.Protocol):
    """Answers the line ``NUMBER`` by ``NUMBER TIME``."""

    def __init__(self, work: _Clockwork) -> None:
        self._work = work
        self._transport: asyncio.Transport
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._work.requests += 1
            delays = next(self._work.delays)
            if delays is not None:
                self._answer(line, self._work.requests, *delays)

    def _answer(self, line: bytes, number: int, there: float, back: float) -> None:
        def arrive() -> None:
            answer = b"%s %r\n" % (line, self._work.stamp(number))
            _after(back, lambda: self._transport.write(answer))

        _after(there, arrive)


async def _open(peer: Peer, origin: Origin) -> int:
    """Open a peer's socket and return its port."""
    loop, work = asyncio.get_running_loop(), _Clockwork(peer, origin)
    if peer.protocol == "ntp":
        transport, _ = await loop.create_datagram_endpoint(lambda: _NtpPeer(work), local_addr=(HOST, 0))
        return int(transport.get_extra_info("sockname")[1])
    server = await loop.create_server(lambda: _TcpPeer(work), HOST, 0)
    return int(server.sockets[0].getsockname()[1])


async def _serve(peers: Sequence[Peer], origin: Origin) -> None:
    await serve_until_closed([await _open(peer, origin) for peer in peers])


async def serve_until_closed(ports: Sequence[int]) -> None:
    """Tell the parent the ports, and wait until it closes this program's standard input."""
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    await ended.wait()


def main() -> None:
    document = json.loads(sys.stdin.readline())
    asyncio.run(_serve([Peer(**one) for one in document["peers"]], Origin(**document["origin"])))


@contextmanager
def program_running(module: str, document: dict[str, Any]) -> Iterator[list[int]]:
    """A module as a process of its own that is given a document and answers with its ports."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(document) + "\n")
        process.stdin.flush()
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@contextmanager
def peers_running(peers: Sequence[Peer], origin: Origin) -> Iterator[list[int]]:
    """All peers in one other process; gives their ports."""
    document = {"peers": [asdict(one) for one in peers], "origin": asdict(origin)}
    with program_running("tests.support.time_peers", document) as ports:
        yield ports


# -- our side ---------------------------------------------------------------------------------------------


class LineProbe(asyncio.Protocol):
    """Asks a ``tcp`` peer over one connection; takes its times next to the socket."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._number = 0
        self._rest = b""
        self._reply: asyncio.Future[tuple[float, float]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        received = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            number, _, told = line.partition(b" ")
            if int(number) == self._number and self._reply is not None and not self._reply.done():
                self._reply.set_result((received, float(told)))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionError("the peer is gone"))

    async def __call__(self) -> TimedReply:
        self._number += 1
        self._reply = asyncio.get_running_loop().create_future()
        request = b"%d\n" % self._number
        sent = time.monotonic()
        self._transport.write(request)
        try:
            async with asyncio.timeout(LOST):
                received, told = await self._reply
        except builtins.TimeoutError:
            raise TimeoutError("lost") from None
        return TimedReply(sent, received, told)

    def close(self) -> None:
        self._transport.abort()


@asynccontextmanager
async def line_probe(port: int) -> AsyncIterator[LineProbe]:
    _, probe = await asyncio.get_running_loop().create_connection(LineProbe, HOST, port)
    try:
        yield probe
    finally:
        probe.close()


@dataclass(frozen=True)
class Outcome:
    """One measurement beside the truth.

    Attributes:
        measured: What was found.
        error: Found minus true, in seconds.
    """

    measured: ClockOffset
    error: float

    @property
    def holds(self) -> bool:
        return self.measured.bound > 0 and abs(self.error) <= self.measured.bound

    @property
    def needed(self) -> float:
        """The share of the bound that was needed."""
        return abs(self.error) / self.measured.bound


async def measure(
    peer: Peer,
    port: int,
    origin: Origin,
    *,
    samples: int = 32,
    interval: float = 0.01,
    limiter: MeasurementLimiter | None = None,
) -> Outcome:
    """Measure a peer as asynccam does, and compare with what is true."""
    if peer.protocol == "ntp":
        found = await query_sntp(
            HOST, port, samples=samples, interval=interval, max_round_trip=LOST, limiter=limiter, clock=origin
        )
    else:
        async with line_probe(port) as probe:
            found = await measure_offset(
                probe, samples=samples, interval=interval, limiter=limiter, clock=origin
            )
    return judge(peer, found, origin, samples)


def judge(peer: Peer, found: ClockOffset, origin: Origin, requests: int) -> Outcome:
    """A measurement beside the truth at its time."""
    truth = peer.truth(found.measured_at - origin.wall, requests)
    return Outcome(found, found.offset - truth)


# -- the same in virtual time ---------------------------------------------------------------------------


@dataclass
class VirtualClock(Clock):
    """A clock that only the peers' delays and asynccam's pauses move."""

    wall: float = 1_729_000_000.123_456_7
    elapsed: float = 0.0

    def time(self) -> float:
        return self.wall + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.elapsed += seconds


@dataclass
class VirtualProbe:
    """A ``tcp`` peer in virtual time; every trip takes at least a little."""

    peer: Peer
    clock: VirtualClock
    requests: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.peer.seed)
        self._delays = NETWORKS[self.peer.network](random.Random(self.peer.seed))

    async def __call__(self) -> float:
        self.requests += 1
        delays = next(self._delays)
        if delays is None:
            self.clock.elapsed += LOST
            raise TimeoutError("lost")
        self.clock.elapsed += delays[0] + self._chance.uniform(2e-5, 2e-4)
        elapsed = self.clock.elapsed
        told = self.peer.stamp(self.clock.wall + elapsed + self.peer.truth(elapsed, self.requests))
        self.clock.elapsed += delays[1] + self._chance.uniform(2e-5, 2e-4)
        return told


async def measure_virtually(
    peer: Peer, clock: VirtualClock, *, samples: int = 32, interval: float = 0.01
) -> Outcome:
    """`measure` in virtual time."""
    probe = VirtualProbe(peer, clock)
    found = await measure_offset(probe, samples=samples, interval=interval, clock=clock)
    return judge(peer, found, Origin(clock.wall, 0.0), probe.requests)


# -- combinations -------------------------------------------------------------------------------------------

_STEPS: Final = {"1 ms": 1e-3, "10 ms": 1e-2, "1 s": 1.0}


def _combinations() -> dict[str, Peer]:
    every: dict[str, Peer] = {}
    for protocol in ("ntp", "tcp"):
        for network in NETWORKS:
            every[f"{protocol}, {network}"] = Peer(protocol, network=network)
        for drift in (100e-6, -100e-6, 450e-6):
            every[f"{protocol}, {drift * 1e6:+.0f} ppm"] = Peer(protocol, drift=drift)
        for name, step in _STEPS.items():
            for rounding in ("floor", "round"):
                every[f"{protocol}, {name} {rounding}"] = Peer(protocol, step=step, rounding=rounding)
        every[f"{protocol}, jitter, 1 ms floor, +100 ppm"] = Peer(
            protocol, drift=100e-6, step=1e-3, network="jitter"
        )
        every[f"{protocol}, wifi, 10 ms round, -100 ppm"] = Peer(
            protocol, drift=-100e-6, step=1e-2, rounding="round", network="wifi"
        )
        every[f"{protocol}, slow there, 1 s floor"] = Peer(protocol, step=1.0, network="slow there")
        every[f"{protocol}, slow back, 1 s round"] = Peer(
            protocol, step=1.0, rounding="round", network="slow back"
        )
        every[f"{protocol}, set by 3 s meanwhile"] = Peer(protocol, sets_after=10, sets_by=3.0)
    every["ntp, ticks of 1/64 s, stated"] = Peer(step=1 / 64, precision=-6)
    every["ntp, ticks of 1/64 s, not stated"] = Peer(step=1 / 64)
    every["ntp, works 20 ms"] = Peer(works=0.02)
    every["ntp, works 5 ms, 1 ms floor"] = Peer(works=0.005, step=1e-3)
    every["ntp, claims 0.8 ms of work that it did not do"] = Peer(claims=0.0008)
    return every


COMBINATIONS: Final = _combinations()


def runs_of(peer: Peer, runs: int, seed: int) -> list[Peer]:
    """The same peer for each of several runs, with offsets and networks of their own."""
    chance = random.Random(seed)
    return [
        replace(peer, offset=chance.uniform(-3600.0, 3600.0), seed=chance.randrange(2**32))
        for _ in range(runs)
    ]


if __name__ == "__main__":
    main()
