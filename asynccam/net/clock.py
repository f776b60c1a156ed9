"""How far another clock is from this computer's: by SNTP, or by any call that answers with a time.

Promised: the true offset lies within ``offset`` plus or minus ``bound`` at ``measured_at``, whatever the
network does. An answer cannot have been stamped before its request left or after it came back, and
all answers of a measurement must agree. Assumed: the two clocks run apart by at most
`asynccam.model.info.DRIFT_LIMIT`, and a stamp is cut off or rounded to the step that is seen in the stamps.
Not promised: that the other clock is right.
"""

import asyncio
import builtins
import math
import secrets
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
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
from asynccam.runtime.threads import thread_errors
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, deadline

NTP_PORT: Final = 123
_ADDRESSES: Final = 4
"""Addresses of one host that are tried, one after another."""
_TOLERANCE: Final = 0.001
"""Seconds by which a server may claim to have worked longer than the whole round trip took before its answer
is refused. Below that it counts as a contradiction, and the bound covers both stamps."""
_ANCHOR_TRIES: Final = 5
_OWN_RESOLUTION: Final = time.get_clock_info("monotonic").resolution
_GOLDEN: Final = 0.6180339887498949
"""Fraction whose multiples are spread evenly over the unit, however many there are."""


class MeasurementLimiter:
    """Keeps round trips that are under way at the same time few, over any number of measurements.

    An answer that waits while the event loop works on another one looks late, and widens its
    measurement's bound. Each sample takes a place in turn, so the samples of many devices alternate.

    A place is given up after ``hold`` seconds even if its answer has not come: a round trip that
    takes longer is not much disturbed by others, and a silent device must not hold up the rest.

    Args:
        concurrent: Round trips under way at the same time.
        hold: Seconds.

    Raises:
        UsageError: A limit is not above 0.
    """

    def __init__(self, concurrent: int = 2, hold: float = 0.002) -> None:
        if concurrent < 1 or not hold > 0:
            raise UsageError(f"concurrent must be >= 1 and hold > 0, not {concurrent} and {hold}")
        self._hold = hold
        self._free = concurrent
        # Not an asyncio.Semaphore, which keeps its event loop alive: see `_LIMITERS`.
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it for the block or ``hold`` seconds, whichever is shorter."""
        await self._acquire()
        held = True

        def give_up() -> None:
            nonlocal held
            if held:
                held = False
                self._release()

        timer = asyncio.get_running_loop().call_later(self._hold, give_up)
        try:
            yield
        finally:
            timer.cancel()
            give_up()

    async def _acquire(self) -> None:
        if self._free:  # Nobody waits then: a place that comes free goes to the first who does.
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._release()  # The place came together with the cancellation.
            raise

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


_LIMITERS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, MeasurementLimiter]] = WeakKeyDictionary()
"""One for each event loop, because it is the loop that measurements have in common. A limiter does not refer
to its loop, so it goes when the loop does."""


def limiter_of_loop() -> MeasurementLimiter:
    """Return the running loop's limiter, which all measurements on it share by default."""
    return _LIMITERS.setdefault(asyncio.get_running_loop(), MeasurementLimiter())


@dataclass(frozen=True, slots=True)
class TimedReply:
    """A probe's answer with the times of its own, taken closer to the socket than around the call.

    Attributes:
        sent: When the request left, by the measurement's monotonic clock: read before the write.
        received: When the answer was here: read as it was received.
        time: The device's time, Unix seconds.
    """

    sent: float
    received: float
    time: float


Probe = Callable[[], Awaitable[float | TimedReply]]
"""Asks a device for its time: Unix seconds, alone or as a `TimedReply`."""


class SntpServer:
    """A time server that is asked again and again, at the address that answered first while it answers.

    The addresses of one name may be those of many servers whose clocks differ, as behind pool.ntp.org.

    Args:
        host: Name or address of an NTP or SNTP server.
        port: UDP port.
    """

    def __init__(self, host: str, port: int = NTP_PORT) -> None:
        self._host = host
        self._port = port
        self._answered: tuple[str, int] | None = None

    async def query(
        self,
        *,
        samples: int = 8,
        timeout: float = 10.0,
        max_round_trip: float = 0.5,
        interval: float = 0.1,
        target_bound: float = 0.0,
        limiter: MeasurementLimiter | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> ClockOffset:
        """Return how far its clock is from this computer's; arguments and errors as of `query_sntp`."""
        _check_limits(samples, max_round_trip)
        what = f"time server {self._host}:{self._port}"
        until = asyncio.get_running_loop().time() + timeout
        failure: AsynccamError = TimeoutError(f"no answer from {what} within {timeout:g} s")
        for address in await self._addresses(timeout):
            query = _SntpQuery(what, until, max_round_trip, clock, limiter or limiter_of_loop())
            try:
                found = await query.run(address, samples, interval, target_bound)
            except AsynccamError as error:
                failure = error
            else:
                self._answered = address
                return found
        raise failure

    async def _addresses(self, timeout: float) -> list[tuple[str, int]]:
        """Those to try, in turn; the one that answered goes first, and needs no name to be found."""
        first = [] if self._answered is None else [self._answered]
        try:
            found = await _resolve(self._host, self._port, timeout)
        except (ConnectionError, TimeoutError):
            if not first:
                raise
            found = []
        return list(dict.fromkeys([*first, *found]))[:_ADDRESSES]


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
) -> ClockOffset:
    """Return how far a time server's clock is from this computer's, from all of several samples.

    Answers that nobody asked for, that came late or that are malformed are passed over; they only
    matter when no good one comes. A host with several addresses is asked at one after another
    until one gives a usable answer.

    Args:
        host: Name or address of an NTP or SNTP server.
        port: UDP port.
        samples: How many times to ask. With n samples the bound is about 2/n of a network's jitter.
        timeout: Seconds for everything; good samples that came by then are used.
        max_round_trip: Seconds after which an answer is of no use.
        interval: Mean seconds between two samples, so as not to be taken for a flood. They vary by half
            either way, so that samples meet the server's ticks at different phases.
        target_bound: Seconds; fewer samples are taken when the bound is this small already.
        limiter: Shared with other measurements; by default the running loop's.
        clock: This computer's clock.

    Returns:
        Server minus computer.

    Raises:
        TimeoutError: No answer came within the limits.
        ConnectionError: The name is unknown or nothing listens there.
        RemoteProtocolError: Answers came, but no usable one.
        ClockNotSynchronizedError: The server does not trust its own clock.
        BusyError, DeviceError: The server refuses (kiss-o'-death).
    """
    return await SntpServer(host, port).query(
        samples=samples,
        timeout=timeout,
        max_round_trip=max_round_trip,
        interval=interval,
        target_bound=target_bound,
        limiter=limiter,
        clock=clock,
    )


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
    """Return how far a device's clock is from this computer's, from all of several round trips.

    Args:
        probe: Asks the device for its time, in Unix seconds, and bounds its own wait. A `TimedReply`
            gives a tighter bound than a plain number.
        samples: How many times to ask, one after another.
        max_round_trip: Seconds after which an answer is of no use.
        timeout: Seconds for everything; good samples that came by then are used. None for no limit.
        interval: Mean seconds between two samples; they vary by half either way.
        target_bound: Seconds; fewer samples are taken when the bound is this small already.
        limiter: Shared with other measurements; by default the running loop's.
        clock: This computer's clock.

    Returns:
        Device minus computer.

    Raises:
        TimeoutError: Every answer took longer than ``max_round_trip``, or none came within ``timeout``.
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
        try:
            reply = await _in_turn(probe, clock, limiter, until - clock.monotonic())
        except RetryableError as error:
            failure = error
            continue
        if reply is None:
            failure = failure or TimeoutError(f"no answer within {timeout:g} s")
            break
        if reply.received - reply.sent <= max_round_trip:
            measurement.add_reply(reply)
            if target_bound > 0 and measurement.result().bound <= target_bound:
                break
    if measurement.samples:
        return measurement.result()
    raise failure or TimeoutError(f"no answer took less than {max_round_trip:g} s")


async def _in_turn(probe: Probe, clock: Clock, limiter: MeasurementLimiter, left: float) -> TimedReply | None:
    """Call a probe as soon as the limiter has a place; None if that takes longer than ``left`` seconds."""
    if left <= 0:
        return None
    scope = asyncio.timeout(left if math.isfinite(left) else None)
    try:
        async with scope, limiter.place():
            return await _timed(probe, clock)
    except builtins.TimeoutError:
        if not scope.expired():  # The probe's own.
            raise
        return None


async def _timed(probe: Probe, clock: Clock) -> TimedReply:
    """Call a probe, and check what it says."""
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


def sntp_offset(reply: sntp.SntpReply, sent_at: float, round_trip: float) -> ClockOffset:
    """Return the offset by one reply alone, for the time at which the server stamped it.

    A measurement sees more: the step of the stamps, and other samples; see `query_sntp`.

    Args:
        reply: What the server answered.
        sent_at: When the request left, Unix seconds.
        round_trip: Seconds until the answer came, by a clock that is never set.

    Raises:
        RemoteProtocolError: The server claims to have worked longer than the whole exchange took.
    """
    exchange = _sntp_exchange(reply, sent_at, 0.0, round_trip)
    found = intersect_exchanges([exchange], resolution=reply.precision, drift_limit=0.0)
    return ClockOffset(
        found.interval.middle,
        found.interval.bound,
        max(0.0, exchange.on_the_way),
        1,
        sent_at + found.at,
        resolution=reply.precision,
        consistent=found.consistent,
        source_bound=reply.source_bound,
    )


def _sntp_exchange(reply: sntp.SntpReply, anchor: float, sent: float, received: float) -> Exchange:
    """A reply as an exchange, all times relative to ``anchor`` (Unix seconds).

    Raises:
        RemoteProtocolError: The server claims to have worked longer than the whole exchange took.
    """
    origin = sntp.to_ntp(anchor)
    # Differences of whole timestamps, which are exact and hold across the end of an era.
    exchange = Exchange(
        sent,
        received,
        sntp.signed_difference(reply.received, origin),
        sntp.signed_difference(reply.sent, origin),
    )
    allowed = _TOLERANCE + 2 * reply.precision
    if exchange.on_the_way < -allowed:
        worked = sntp.signed_difference(reply.sent, reply.received)
        raise RemoteProtocolError(
            f"the time server claims {worked:g} s of work in an exchange of {received - sent:g} s"
        )
    return exchange


class _Measurement:
    """Collects round trips, on a scale that is anchored to the wall clock once, at its beginning.

    The wall clock may be set while it lasts; what counts is the monotonic clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._wall, self._origin, self._error = _anchor(clock)
        self._exchanges: list[Exchange] = []
        self._stamps: list[float] = []
        self._stated = FINEST_RESOLUTION
        self._source_bound: float | None = None

    @property
    def samples(self) -> int:
        return len(self._exchanges)

    def add_reply(self, reply: TimedReply) -> None:
        # A device's time is close to ours or far away; either way the difference to the anchor is as exact as
        # the stamp itself.
        stamp = reply.time - self._wall
        sent, received = reply.sent - self._origin, reply.received - self._origin
        self._exchanges.append(Exchange(sent, received, stamp, stamp))
        self._stamps.append(reply.time)

    def add_sntp(self, reply: sntp.SntpReply, sent: float, received: float) -> None:
        """Add a server's reply, with the monotonic times of its round trip.

        Raises:
            RemoteProtocolError: The reply is impossible.
        """
        sent, received = sent - self._origin, received - self._origin
        self._exchanges.append(_sntp_exchange(reply, self._wall, sent, received))
        self._stamps += [sntp.from_ntp(one, near=self._wall) for one in (reply.received, reply.sent)]
        self._stated = max(self._stated, reply.precision)
        self._source_bound = max(self._source_bound or 0.0, reply.source_bound)

    def result(self) -> ClockOffset:
        resolution = max(self._stated, seen_resolution(self._stamps))
        largest = max(abs(one) for one in self._stamps)
        # Doubles of this size were rounded: the anchor and the result here, the stamps on their way.
        slack = self._error + 2 * (math.ulp(self._wall) + math.ulp(largest))
        found = intersect_exchanges(self._exchanges, resolution=resolution, slack=slack)
        return ClockOffset(
            found.interval.middle,
            found.interval.bound,
            max(0.0, min(one.on_the_way for one in self._exchanges)),
            self.samples,
            self._wall + found.at,
            resolution=resolution,
            consistent=found.consistent,
            drift_limit=DRIFT_LIMIT,
            source_bound=self._source_bound,
        )


def _anchor(clock: Clock) -> tuple[float, float, float]:
    """A wall time, the monotonic time it belongs to, and by how many seconds the pair may be wrong.

    The two clocks cannot be read at once. The monotonic one is read before and after, a few times, because
    the program may be interrupted between; the closest pair counts.
    """
    best = (0.0, 0.0, math.inf)
    for _ in range(_ANCHOR_TRIES):
        before = clock.monotonic()
        wall = clock.time()
        after = clock.monotonic()
        if (after - before) / 2 < best[2]:
            best = (wall, before + (after - before) / 2, (after - before) / 2)
    return best[0], best[1], best[2] + 2 * _OWN_RESOLUTION


def _pause(interval: float, index: int) -> float:
    """Seconds before the sample of this index: ``interval`` on average, and never in step with ticks."""
    return interval * (0.5 + index * _GOLDEN % 1.0)


class _SntpQuery:
    """Asks one address several times."""

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
        self._unfit: RemoteProtocolError | None = None
        self._measurement = _Measurement(clock)

    async def run(
        self, address: tuple[str, int], samples: int, interval: float, target_bound: float
    ) -> ClockOffset:
        try:
            # Connected, so the kernel drops what comes from any other address.
            transport, mailbox = await self._loop.create_datagram_endpoint(
                lambda: _Mailbox(self._clock), remote_addr=address
            )
        except OSError as error:
            raise ConnectionError(f"{self._what} cannot be reached: {error}") from error
        nonces: set[int] = set()
        try:
            for index in range(samples):
                if index:
                    await asyncio.sleep(min(_pause(interval, index), max(0.0, self._remaining())))
                if self._remaining() <= 0 or self._is_enough(target_bound):
                    break
                await self._sample_in_turn(transport, mailbox, nonces)
        except (BusyError, ConnectionError):
            # One that dies, or has enough of questions, leaves what it has answered.
            if not self._measurement.samples:
                raise
        finally:
            transport.abort()
        if self._measurement.samples:
            return self._measurement.result()
        raise self._failure()

    def _is_enough(self, target_bound: float) -> bool:
        return (
            target_bound > 0
            and self._measurement.samples > 0
            and self._measurement.result().bound <= target_bound
        )

    async def _sample_in_turn(
        self, transport: asyncio.DatagramTransport, mailbox: "_Mailbox", nonces: set[int]
    ) -> None:
        """One sample as soon as the limiter has a place, or none when time is up."""
        scope = asyncio.timeout(self._remaining())
        try:
            async with scope, self._limiter.place():
                await self._sample(transport, mailbox, nonces)
        except builtins.TimeoutError:
            if not scope.expired():
                raise

    async def _sample(
        self, transport: asyncio.DatagramTransport, mailbox: "_Mailbox", nonces: set[int]
    ) -> None:
        """One request, and its answer if a good one comes in time."""
        nonce = secrets.randbits(64)
        request = sntp.build_request(nonce)
        began = self._clock.monotonic()
        transport.sendto(request)
        try:
            async with asyncio.timeout(min(self._max_round_trip, self._remaining())):
                while True:
                    data, arrived = await mailbox.take()
                    try:
                        late = sntp.echoed_nonce(data) in nonces
                        if not late:
                            self._measurement.add_sntp(sntp.parse_reply(data, nonce), began, arrived)
                            return
                    except RemoteProtocolError as error:
                        self._unfit = error
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
        if self._unfit is not None:
            return RemoteProtocolError(f"{self._what} gave no usable answer: {self._unfit}")
        if self._late:
            return TimeoutError(f"every answer from {self._what} took over {self._max_round_trip:g} s")
        return TimeoutError(f"no answer from {self._what}")


class _Mailbox(asyncio.DatagramProtocol):
    """Datagrams as they arrive, with the moment each did."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._arrived: asyncio.Queue[tuple[bytes, float] | Exception] = asyncio.Queue(64)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._put((data, self._clock.monotonic()))

    def error_received(self, exc: Exception) -> None:
        self._put(exc)

    async def take(self) -> tuple[bytes, float]:
        """The next datagram and when it came, by the monotonic clock; raises what the socket reports."""
        item = await self._arrived.get()
        if isinstance(item, Exception):
            raise item
        return item

    def _put(self, item: tuple[bytes, float] | Exception) -> None:
        # A flood beyond what anybody reads is let go.
        if not self._arrived.full():
            self._arrived.put_nowait(item)


def _check_limits(samples: int, max_round_trip: float) -> None:
    if samples < 1 or not max_round_trip > 0:
        raise UsageError(f"not a measurement: {samples} samples of at most {max_round_trip} s")


async def _resolve(host: str, port: int, timeout: float) -> list[tuple[str, int]]:
    """The host's UDP addresses in the resolver's order."""
    loop = asyncio.get_running_loop()
    async with deadline(timeout, f"address of time server {host}"):
        try:
            with thread_errors():
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise ConnectionError(f"time server {host} cannot be found: {error}") from error
    return list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))
