"""How far another clock is from this computer's: by SNTP, or by any call that answers with a time.

What this can promise: the true offset lies within ``offset`` plus or minus ``bound``, whatever the
network does, because an answer cannot have been stamped before its request left or after it came
back. What it cannot: that the other clock is right, or that it still is a minute later.
"""

import asyncio
import builtins
import math
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from asynccam.errors import (
    AsynccamError,
    BusyError,
    ConnectionError,
    RemoteProtocolError,
    RetryableError,
    TimeoutError,
    UsageError,
)
from asynccam.model.info import ClockOffset
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, deadline
from asynccam.wire import sntp

NTP_PORT: Final = 123
_ADDRESSES: Final = 4
"""Addresses of one host that are tried, one after another."""
_TOLERANCE: Final = 0.001
"""Seconds by which a server may claim to have worked longer than the whole round trip took: two clocks
never tick quite alike."""


async def query_sntp(
    host: str,
    port: int = NTP_PORT,
    *,
    samples: int = 8,
    timeout: float = 10.0,
    max_round_trip: float = 0.5,
    interval: float = 0.1,
    clock: Clock = SYSTEM_CLOCK,
) -> ClockOffset:
    """How far a time server's clock is from this computer's, from the best of several samples.

    Answers that nobody asked for, that came late or that are malformed are passed over; they only
    matter when no good one comes. A host with several addresses is asked at one after another
    until one gives a usable answer.

    Args:
        host: Name or address of an NTP or SNTP server.
        port: UDP port.
        samples: How many times to ask.
        timeout: Seconds for everything; good samples that came by then are used.
        max_round_trip: Seconds after which an answer is of no use.
        interval: Seconds between two samples, so as not to be taken for a flood.
        clock: This computer's clock, for tests.

    Returns:
        Server minus computer.

    Raises:
        TimeoutError: No answer came within the limits.
        ConnectionError: The name is unknown or nothing listens there.
        RemoteProtocolError: Answers came, but none of them was one.
        ClockNotSynchronizedError: The server does not trust its own clock.
        BusyError, DeviceError: The server refuses (kiss-o'-death).
    """
    _check_limits(samples, max_round_trip)
    what = f"time server {host}:{port}"
    until = asyncio.get_running_loop().time() + timeout
    addresses = await _resolve(host, port, timeout)
    failure: AsynccamError = TimeoutError(f"no answer from {what} within {timeout:g} s")
    for address in addresses[:_ADDRESSES]:
        query = _SntpQuery(what, until, max_round_trip, clock)
        try:
            return await query.run(address, samples, interval)
        except AsynccamError as error:
            failure = error
    raise failure


async def measure_offset(
    probe: Callable[[], Awaitable[float]],
    *,
    samples: int = 8,
    max_round_trip: float = 0.5,
    clock: Clock = SYSTEM_CLOCK,
) -> ClockOffset:
    """How far a device's clock is from this computer's, from the shortest of several round trips.

    Args:
        probe: Asks the device for its time, in Unix seconds, and bounds its own wait.
        samples: How many times to ask, one after another.
        max_round_trip: Seconds after which an answer is of no use.
        clock: This computer's clock, for tests.

    Returns:
        Device minus computer.

    Raises:
        TimeoutError: Every answer took longer than ``max_round_trip``.
        RemoteProtocolError: The device's time is not a finite number.
        RetryableError: The probe's own, when not one sample succeeded; any other error of the
            probe is raised at once.
    """
    _check_limits(samples, max_round_trip)
    usable: list[ClockOffset] = []
    failure: RetryableError | None = None
    for _ in range(samples):
        at, began = clock.time(), clock.monotonic()
        try:
            device_time = await probe()
        except RetryableError as error:
            failure = error
            continue
        round_trip = clock.monotonic() - began
        if not math.isfinite(device_time):
            raise RemoteProtocolError(f"the device says its time is {device_time}")
        if round_trip <= max_round_trip:
            middle = at + round_trip / 2
            usable.append(ClockOffset(device_time - middle, round_trip / 2, round_trip, 1, middle))
    if usable:
        return best_of(usable)
    raise failure or TimeoutError(f"no answer took less than {max_round_trip:g} s")


def best_of(measured: Iterable[ClockOffset]) -> ClockOffset:
    """The measurement with the shortest round trip, with the samples of all of them counted.

    Raises:
        UsageError: There is none.
    """
    every = tuple(measured)
    if not every:
        raise UsageError("no measurement to choose from")
    best = min(every, key=lambda one: one.round_trip)
    count = sum(one.samples for one in every)
    return ClockOffset(best.offset, best.bound, best.round_trip, count, best.measured_at)


def sntp_offset(reply: sntp.SntpReply, sent_at: float, round_trip: float) -> ClockOffset:
    """One sample: the server's two times against this computer's two.

    Args:
        reply: What the server answered.
        sent_at: When the request left, Unix seconds.
        round_trip: Seconds until the answer came, by a clock that is never set.

    Raises:
        RemoteProtocolError: The server claims to have worked longer than the whole exchange took.
    """
    worked = sntp.signed_difference(reply.sent, reply.received)
    on_the_way = round_trip - worked
    if on_the_way < -_TOLERANCE:
        raise RemoteProtocolError(
            f"the time server claims {worked:g} s of work in an exchange of {round_trip:g} s"
        )
    on_the_way = max(0.0, on_the_way)
    middle = sent_at + round_trip / 2
    offset = sntp.from_ntp(reply.received, near=sent_at) + worked / 2 - middle
    return ClockOffset(offset, on_the_way / 2, on_the_way, 1, middle)


class _SntpQuery:
    """Asks one address several times."""

    def __init__(self, what: str, until: float, max_round_trip: float, clock: Clock) -> None:
        self._what = what
        self._until = until
        self._max_round_trip = max_round_trip
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._late = 0
        self._unfit: RemoteProtocolError | None = None

    async def run(self, address: tuple[str, int], samples: int, interval: float) -> ClockOffset:
        try:
            # Connected, so the kernel drops what comes from any other address.
            transport, mailbox = await self._loop.create_datagram_endpoint(
                lambda: _Mailbox(self._clock), remote_addr=address
            )
        except OSError as error:
            raise ConnectionError(f"{self._what} cannot be reached: {error}") from error
        usable: list[ClockOffset] = []
        nonces: set[int] = set()
        try:
            for number in range(samples):
                if number:
                    await asyncio.sleep(min(interval, max(0.0, self._remaining())))
                if self._remaining() <= 0:
                    break
                sample = await self._sample(transport, mailbox, nonces)
                if sample is not None:
                    usable.append(sample)
        except BusyError:
            if not usable:
                raise
        finally:
            transport.abort()
        if usable:
            return best_of(usable)
        raise self._failure()

    async def _sample(
        self, transport: asyncio.DatagramTransport, mailbox: "_Mailbox", nonces: set[int]
    ) -> ClockOffset | None:
        """One request and its answer, or None if no good one came in time."""
        nonce = secrets.randbits(64)
        at, began = self._clock.time(), self._clock.monotonic()
        transport.sendto(sntp.build_request(nonce))
        try:
            async with asyncio.timeout(min(self._max_round_trip, self._remaining())):
                while True:
                    data, arrived = await mailbox.take()
                    try:
                        late = sntp.echoed_nonce(data) in nonces
                        if not late:
                            return sntp_offset(sntp.parse_reply(data, nonce), at, arrived - began)
                    except RemoteProtocolError as error:
                        self._unfit = error
                    else:
                        self._late += 1
        except builtins.TimeoutError:
            return None
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
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise ConnectionError(f"time server {host} cannot be found: {error}") from error
    return list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))
