"""Offset of another clock from this computer's: by SNTP, or by any call that returns a time.

Guaranteed: the true offset lies within ``offset`` plus or minus ``bound`` at ``measured_at``, whatever the
network does. A reply cannot be stamped before its request left or after it was received, and all replies
of a measurement must agree. Assumed: the two clocks drift apart by at most
`asynccam.model.info.DRIFT_LIMIT`, and a stamp is cut off or rounded to the step that is seen in the stamps.
Not guaranteed: that the other clock is right.
"""

import asyncio
import builtins
import math
import secrets
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from asynccam.errors import (
    AsynccamError,
    BusyError,
    ConnectionError,
    RemoteProtocolError,
    RetryableError,
    TimeoutError,
    UsageError,
)
from asynccam.model.info import DRIFT_LIMIT, ClockOffset
from asynccam.model.intervals import FINEST_RESOLUTION, Exchange, intersect_exchanges, seen_resolution
from asynccam.net import sntp
from asynccam.runtime.tasks import thread_errors
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, deadline

T = TypeVar("T")

NTP_PORT: Final = 123
_MAX_ADDRESSES: Final = 4
"""Addresses of one host that are tried, in turn."""
_TOLERANCE: Final = 0.001
"""Seconds by which a server's stated processing time may exceed the whole round trip before its reply is
refused. Below that it counts as a contradiction, and the bound covers both stamps."""
_ANCHOR_TRIES: Final = 5
_MONOTONIC_RESOLUTION: Final = time.get_clock_info("monotonic").resolution
_GOLDEN_RATIO: Final = 0.6180339887498949
"""Fraction whose multiples are spread evenly over the unit interval, however many there are."""


class MeasurementLimiter:
    """Limits concurrent round trips over any number of measurements.

    A reply that waits while the event loop handles another one looks late, and widens its measurement's
    bound. Each sample takes a slot in turn, so the samples of many devices alternate.

    A slot is released after ``hold`` seconds even without a reply: a slower round trip is not much disturbed
    by others, and a silent device must not delay the rest.
    """

    def __init__(self, concurrent: int = 2, hold: float = 0.002) -> None:
        if concurrent < 1 or not hold > 0:
            raise UsageError(f"concurrent must be >= 1 and hold > 0, not {concurrent} and {hold}")
        self._hold = hold
        self._free = concurrent
        # Not an asyncio.Semaphore, which keeps its event loop alive: see `_LIMITERS`.
        self._waiting: deque[asyncio.Future[None]] = deque()

    def slot(self) -> "_Slot":
        """Wait for a slot, and hold it for the block or ``hold`` seconds, whichever is shorter."""
        return _Slot(self, self._hold)

    async def acquire(self) -> None:
        """Wait for a slot; `slot` releases it in any case."""
        if self._free:  # nothing is waiting: a released slot goes to the first waiter
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release()  # the slot was granted together with the cancellation
            raise

    def release(self) -> None:
        """Give a slot to the next one that waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class _Slot:
    """A slot of a limiter, as a context manager."""

    __slots__ = ("_hold", "_limiter", "_timer")

    def __init__(self, limiter: MeasurementLimiter, hold: float) -> None:
        self._limiter = limiter
        self._hold = hold
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._limiter.acquire()
        self._timer = asyncio.get_running_loop().call_later(self._hold, self._release)

    async def __aexit__(self, *exc_info: object) -> None:
        self._release()

    def _release(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self._limiter.release()


_LIMITERS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, MeasurementLimiter]] = WeakKeyDictionary()
"""One for each event loop, which all its measurements share. A limiter does not refer to its loop, so it is
deleted with the loop."""


def limiter_of_loop() -> MeasurementLimiter:
    """Return the running loop's limiter, which all measurements on it share by default."""
    return _LIMITERS.setdefault(asyncio.get_running_loop(), MeasurementLimiter())


@dataclass(frozen=True, slots=True)
class TimedReply:
    """A probe's reply with times taken closer to the socket than around the call."""

    sent: float  # by the measurement's monotonic clock, before the request was written
    received: float  # by the same clock
    time: float  # the device's, Unix seconds


Probe = Callable[[], Awaitable[float | TimedReply]]
"""Returns a device's time: Unix seconds, alone or as a `TimedReply`."""


class SntpServer:
    """A time server that is queried repeatedly, at the address that answered first while it answers.

    The addresses of one name may be those of many servers whose clocks differ, as behind pool.ntp.org.
    """

    def __init__(self, host: str, port: int = NTP_PORT) -> None:
        self._host = host
        self._port = port
        self._answered: list[tuple[str, int]] = []

    async def query(self) -> ClockOffset:
        """Return the offset of its clock from this computer's; errors as of `query_sntp`."""
        return await query_sntp(self._host, self._port, answered=self._answered)


async def query_sntp(
    host: str,
    port: int = NTP_PORT,
    *,
    samples: int = 8,
    timeout: float = 10.0,
    max_round_trip: float = 0.5,
    interval: float = 0.1,
    target_bound: float = 0.0,
    limiter: MeasurementLimiter | None = None,
    clock: Clock = SYSTEM_CLOCK,
    answered: list[tuple[str, int]] | None = None,
) -> ClockOffset:
    """Return the offset of a time server's clock, server minus computer, from several samples.

    Unexpected, late or malformed replies are ignored unless there is no good one. The addresses of a host are
    tried in turn until one gives a usable reply.

    With n ``samples`` the bound is about 2/n of a network's jitter; fewer are taken once it is at most
    ``target_bound`` seconds. ``timeout`` is for everything; good samples received by then are used. Later
    than ``max_round_trip`` a reply is ignored. ``interval`` is the mean pause, to spare the server; pauses
    vary by half either way, so that samples meet its ticks at different phases. All times are in seconds.
    ``limiter`` is shared with other measurements, by default the running loop's. ``answered`` holds the
    address that answered the last time, if any: it is tried first, even if the name is unknown now, and
    replaced by the one that answers.

    Raises:
        TimeoutError: There was no reply within the limits.
        ConnectionError: The name is unknown or nothing listens there.
        RemoteProtocolError: There was no valid reply.
        ClockNotSynchronizedError: The server does not trust its own clock.
        BusyError, DeviceError: The server refuses (kiss-o'-death).
    """
    _check_limits(samples, max_round_trip)
    what = f"time server {host}:{port}"
    until = asyncio.get_running_loop().time() + timeout
    first = list(answered or ())
    try:
        found = await _resolve(host, port, timeout)
    except (ConnectionError, TimeoutError):
        if not first:
            raise
        found = []
    failure: AsynccamError = TimeoutError(f"no answer from {what} within {timeout:g} s")
    for address in list(dict.fromkeys([*first, *found]))[:_MAX_ADDRESSES]:
        query = _SntpQuery(what, until, max_round_trip, clock, limiter or limiter_of_loop())
        try:
            offset = await query.run(address, samples, interval, target_bound)
        except AsynccamError as error:
            failure = error
        else:
            if answered is not None:
                answered[:] = [address]
            return offset
    raise failure


async def measure_offset(
    probe: Probe,
    *,
    samples: int = 8,
    max_round_trip: float = 0.5,
    timeout: float | None = None,
    interval: float = 0.0,
    target_bound: float = 0.0,
    limiter: MeasurementLimiter | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ClockOffset:
    """Return the offset of a device's clock, device minus computer, from several round trips.

    ``probe`` returns the device's time in Unix seconds and bounds its own wait; a `TimedReply` gives a
    tighter bound than a number. ``timeout`` may be None. The other arguments are those of `query_sntp`.

    Raises:
        TimeoutError: Every reply took longer than ``max_round_trip``, or there was none within ``timeout``.
        RemoteProtocolError: The device's time is not a finite number.
        RetryableError: The probe's own, when not one sample succeeded; any other error of the
            probe is raised at once.
        UsageError: The probe's times do not lie within its call.
    """
    _check_limits(samples, max_round_trip)
    limiter = limiter or limiter_of_loop()
    measurement = _Measurement(clock)
    failure: RetryableError | None = None
    until = math.inf if timeout is None else clock.monotonic() + timeout
    for index in range(samples):
        if index and interval > 0:
            await clock.sleep(min(_pause(interval, index), max(0.0, until - clock.monotonic())))
        left = until - clock.monotonic()
        try:
            reply = await _when_free(limiter, left, partial(_timed_probe, probe, clock)) if left > 0 else None
        except RetryableError as error:
            failure = error
            continue
        if reply is None:
            failure = failure or TimeoutError(f"no answer within {timeout:g} s")
            break
        if reply.received - reply.sent <= max_round_trip:
            measurement.add_reply(reply)
            if measurement.is_within(target_bound):
                break
    if measurement.samples:
        return measurement.result()
    raise failure or TimeoutError(f"no answer took less than {max_round_trip:g} s")


async def _when_free(
    limiter: MeasurementLimiter, left: float, sample: Callable[[], Awaitable[T]]
) -> T | None:
    """Take a sample as soon as a slot is free; return None if that takes longer than ``left`` seconds."""
    if left == math.inf:
        async with limiter.slot():
            return await sample()
    scope = asyncio.timeout(left)
    try:
        async with scope, limiter.slot():
            return await sample()
    except builtins.TimeoutError:
        if not scope.expired():  # the sample's own
            raise
        return None


async def _timed_probe(probe: Probe, clock: Clock) -> TimedReply:
    """Call a probe, and check its reply."""
    began = clock.monotonic()
    reply = await probe()
    ended = clock.monotonic()
    if not isinstance(reply, TimedReply):
        reply = TimedReply(began, ended, reply)
    elif not began <= reply.sent <= reply.received <= ended:
        raise UsageError(
            f"the probe's times must lie within its call, {began} to {ended}, "
            f"not {reply.sent} to {reply.received}"
        )
    if not math.isfinite(reply.time):
        raise RemoteProtocolError(f"the device says its time is {reply.time}")
    return reply


def sntp_exchange(reply: sntp.SntpReply, anchor: float, sent: float, received: float) -> Exchange:
    """Return a reply as an exchange, all times relative to ``anchor`` (Unix seconds)."""
    origin = sntp.to_ntp(anchor)
    # Differences of whole timestamps, which are exact and hold across the end of an era.
    exchange = Exchange(
        sent,
        received,
        sntp.signed_difference(reply.received, origin),
        sntp.signed_difference(reply.sent, origin),
    )
    allowed = _TOLERANCE + 2 * reply.precision
    if exchange.network_time < -allowed:
        worked = sntp.signed_difference(reply.sent, reply.received)
        raise RemoteProtocolError(
            f"the time server claims {worked:g} s of work in an exchange of {received - sent:g} s"
        )
    return exchange


class _Measurement:
    """Collects round trips, in monotonic time that is anchored to the wall clock once, at the beginning."""

    def __init__(self, clock: Clock) -> None:
        # Only once: the wall clock may be set during the measurement.
        self._wall, self._origin, self._error = _anchor(clock)
        self._exchanges: list[Exchange] = []
        self._stamps: list[float] = []
        self._stated = FINEST_RESOLUTION
        self._source_bound: float | None = None

    @property
    def samples(self) -> int:
        return len(self._exchanges)

    def add_reply(self, reply: TimedReply) -> None:
        # Near or far from ours, the difference to the anchor is as exact as the stamp itself.
        stamp = reply.time - self._wall
        sent, received = reply.sent - self._origin, reply.received - self._origin
        self._exchanges.append(Exchange(sent, received, stamp, stamp))
        self._stamps.append(reply.time)

    def add_sntp(self, reply: sntp.SntpReply, sent: float, received: float) -> None:
        """Add a server's reply; raise `RemoteProtocolError` if its times are impossible."""
        sent, received = sent - self._origin, received - self._origin
        self._exchanges.append(sntp_exchange(reply, self._wall, sent, received))
        self._stamps += [sntp.from_ntp(stamp, near=self._wall) for stamp in (reply.received, reply.sent)]
        self._stated = max(self._stated, reply.precision)
        self._source_bound = max(self._source_bound or 0.0, reply.source_bound)

    def is_within(self, target_bound: float) -> bool:
        """Return whether the bound is as small as wanted; 0 takes every sample."""
        return target_bound > 0 and self.samples > 0 and self.result().bound <= target_bound

    def result(self) -> ClockOffset:
        resolution = max(self._stated, seen_resolution(self._stamps))
        largest = max(abs(stamp) for stamp in self._stamps)
        # Rounding of doubles of this size: the anchor and the result here, the stamps in the device.
        slack = self._error + 2 * (math.ulp(self._wall) + math.ulp(largest))
        found = intersect_exchanges(self._exchanges, resolution=resolution, slack=slack)
        return ClockOffset(
            found.interval.middle,
            found.interval.bound,
            max(0.0, min(exchange.network_time for exchange in self._exchanges)),
            self.samples,
            self._wall + found.at,
            resolution=resolution,
            consistent=found.consistent,
            drift_limit=DRIFT_LIMIT,
            source_bound=self._source_bound,
        )


def _anchor(clock: Clock) -> tuple[float, float, float]:
    """Return a wall time, its monotonic time, and the uncertainty of the pair in seconds."""
    # The clocks cannot be read at once, and the program may be interrupted between: the closest pair counts.
    best = (0.0, 0.0, math.inf)
    for _ in range(_ANCHOR_TRIES):
        before = clock.monotonic()
        wall = clock.time()
        after = clock.monotonic()
        if (after - before) / 2 < best[2]:
            best = (wall, before + (after - before) / 2, (after - before) / 2)
    return best[0], best[1], best[2] + 2 * _MONOTONIC_RESOLUTION


def _pause(interval: float, index: int) -> float:
    """Return the seconds before a sample: ``interval`` on average, never in step with the server's ticks."""
    return interval * (0.5 + index * _GOLDEN_RATIO % 1.0)


class _SntpQuery:
    """Several requests to one address."""

    def __init__(
        self, what: str, until: float, max_round_trip: float, clock: Clock, limiter: MeasurementLimiter
    ) -> None:
        self._what = what
        self._until = until
        self._max_round_trip = max_round_trip
        self._clock = clock
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._late = 0
        self._invalid: RemoteProtocolError | None = None
        self._measurement = _Measurement(clock)

    async def run(
        self, address: tuple[str, int], samples: int, interval: float, target_bound: float
    ) -> ClockOffset:
        try:
            # Connected, so the kernel drops datagrams from any other address.
            transport, replies = await self._loop.create_datagram_endpoint(
                lambda: _DatagramQueue(self._clock), remote_addr=address
            )
        except OSError as error:
            raise ConnectionError(f"{self._what} cannot be reached: {error}") from error
        nonces: set[int] = set()
        try:
            for index in range(samples):
                if index:
                    await asyncio.sleep(min(_pause(interval, index), max(0.0, self._remaining())))
                if self._remaining() <= 0 or self._measurement.is_within(target_bound):
                    break
                sample = partial(self._sample, transport, replies, nonces)
                await _when_free(self._limiter, self._remaining(), sample)
        except (BusyError, ConnectionError):
            # Replies received before the server failed, or asked for fewer requests, count.
            if not self._measurement.samples:
                raise
        finally:
            transport.abort()
        if self._measurement.samples:
            return self._measurement.result()
        raise self._failure()

    async def _sample(
        self, transport: asyncio.DatagramTransport, replies: "_DatagramQueue", nonces: set[int]
    ) -> None:
        """Send one request, and add its reply if a valid one is received in time."""
        nonce = secrets.randbits(64)
        request = sntp.build_request(nonce)
        began = self._clock.monotonic()
        transport.sendto(request)
        try:
            async with asyncio.timeout(min(self._max_round_trip, self._remaining())):
                while True:
                    data, arrived = await replies.take()
                    try:
                        late = sntp.echoed_nonce(data) in nonces
                        if not late:
                            self._measurement.add_sntp(sntp.parse_reply(data, nonce), began, arrived)
                            return
                    except RemoteProtocolError as error:
                        self._invalid = error
                    else:
                        self._late += 1
        except builtins.TimeoutError:
            return
        except OSError as error:
            raise ConnectionError(f"{self._what} cannot be reached: {error}") from error
        finally:
            nonces.add(nonce)

    def _remaining(self) -> float:
        return self._until - self._loop.time()

    def _failure(self) -> AsynccamError:
        if self._invalid is not None:
            return RemoteProtocolError(f"{self._what} gave no valid reply: {self._invalid}")
        if self._late:
            return TimeoutError(f"every answer from {self._what} took over {self._max_round_trip:g} s")
        return TimeoutError(f"no answer from {self._what}")


class _DatagramQueue(asyncio.DatagramProtocol):
    """Queue of datagrams, each with the time at which it was received."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._arrived: asyncio.Queue[tuple[bytes, float] | Exception] = asyncio.Queue(64)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._put((data, self._clock.monotonic()))

    def error_received(self, exc: Exception) -> None:
        self._put(exc)

    async def take(self) -> tuple[bytes, float]:
        """Return the next datagram and its monotonic time; raise what the socket reports."""
        item = await self._arrived.get()
        if isinstance(item, Exception):
            raise item
        return item

    def _put(self, item: tuple[bytes, float] | Exception) -> None:
        # A flood beyond the queue is dropped.
        if not self._arrived.full():
            self._arrived.put_nowait(item)


def _check_limits(samples: int, max_round_trip: float) -> None:
    if samples < 1 or not max_round_trip > 0:
        raise UsageError(f"samples must be >= 1 and max_round_trip > 0, not {samples} and {max_round_trip}")


async def _resolve(host: str, port: int, timeout: float) -> list[tuple[str, int]]:
    """Return the host's UDP addresses in the resolver's order."""
    loop = asyncio.get_running_loop()
    async with deadline(timeout, f"address of time server {host}"):
        try:
            with thread_errors():
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise ConnectionError(f"time server {host} cannot be found: {error}") from error
    return list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))
