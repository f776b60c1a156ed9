"""Clock offsets: by SNTP from a real UDP server on loopback, and from any probe."""

import asyncio
import gc
import math
import socket
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from asynccam.errors import (
    BusyError,
    ClockNotSynchronizedError,
    ConnectionError,
    DeviceError,
    RemoteProtocolError,
    TimeoutError,
    UsageError,
)
from asynccam.model.info import ClockOffset
from asynccam.model.intervals import intersect_exchanges
from asynccam.net import sntp
from asynccam.net.clock import MeasurementLimiter, TimedReply, measure_offset, query_sntp, sntp_exchange
from asynccam.runtime.tasks import TaskScope
from tests.support.fake_clock import FakeClock
from tests.support.ntp_server import Address, NtpServer, late, ntp_server, raw, reply, says, silence
from tests.support.waiting import eventually, passes

LOOPBACK = "127.0.0.1"


def sntp_offset(reply: sntp.SntpReply, sent_at: float, round_trip: float) -> ClockOffset:
    """Return the offset by one reply alone, for the time at which the server stamped it."""
    exchange = sntp_exchange(reply, sent_at, 0.0, round_trip)
    found = intersect_exchanges([exchange], resolution=reply.precision, drift_limit=0.0)
    return ClockOffset(
        found.interval.middle,
        found.interval.bound,
        max(0.0, exchange.network_time),
        1,
        sent_at + found.at,
        resolution=reply.precision,
        consistent=found.consistent,
        source_bound=reply.source_bound,
    )


# -- the sums, by hand --------------------------------------------------------------------------


@pytest.mark.parametrize("claimed", [0.0, 0.0002, 0.0009, 0.0012])
@pytest.mark.parametrize("early", [True, False])
def test_sntp_false_processing_time_is_within_the_bound(claimed: float, early: bool) -> None:
    # Ahead by 7 s, no work, 0.3 ms there and 1 ms back: less is claimed than the trip took.
    stamp = 1007.0 + 0.0003
    received, sent = (stamp - claimed, stamp) if early else (stamp, stamp + claimed)
    answer = sntp.SntpReply(sntp.to_ntp(received), sntp.to_ntp(sent), 1)
    sample = sntp_offset(answer, 1000.0, 0.0013)
    assert abs(sample.offset - 7.0) <= sample.bound
    assert sample.consistent
    assert sample.bound <= (0.0013 + claimed) / 2 + 1e-9


def test_offset_and_bound_by_hand() -> None:
    # Left here at 1000.0; there at 1007.2, worked 0.1 s; back here after 0.5 s: 0.4 s on the way.
    answer = sntp.SntpReply(sntp.to_ntp(1007.2), sntp.to_ntp(1007.3), 1)
    sample = sntp_offset(answer, 1000.0, 0.5)
    assert sample.offset == pytest.approx(7.0, abs=1e-6)  # ((1007.2 - 1000.0) + (1007.3 - 1000.5)) / 2
    assert sample.round_trip == pytest.approx(0.4, abs=1e-6)
    # Either stamp alone puts the offset within 0.25 s; which of the two is right cannot be known.
    assert sample.bound == pytest.approx(0.3, abs=1e-6)
    assert sample.consistent
    assert sample.measured_at == 1000.25
    assert sample.samples == 1


@pytest.mark.parametrize("outward", [0.0, 0.1, 0.25, 0.4])
def test_sntp_bound_holds_for_any_asymmetry(outward: float) -> None:
    truth, way = -3.0, 0.4
    received = 1000.0 + outward + truth
    answer = sntp.SntpReply(sntp.to_ntp(received), sntp.to_ntp(received), 1)
    sample = sntp_offset(answer, 1000.0, way)
    assert abs(sample.offset - truth) <= sample.bound + 1e-6


def test_sntp_server_in_the_next_era() -> None:
    rollover = 2_085_978_496.0
    answer = sntp.SntpReply(sntp.to_ntp(rollover + 0.5), sntp.to_ntp(rollover + 0.5), 1)
    assert sntp_offset(answer, rollover - 0.5, 0.0).offset == pytest.approx(1.0, abs=1e-6)


def test_sntp_processing_longer_than_the_exchange() -> None:
    answer = sntp.SntpReply(sntp.to_ntp(1000.0), sntp.to_ntp(1000.1), 1)
    with pytest.raises(RemoteProtocolError, match="work"):
        sntp_offset(answer, 1000.0, 0.05)
    contradiction = sntp_offset(answer, 1000.0, 0.0995)
    assert not contradiction.consistent
    # Either stamp may be right: from the first one read as late as possible to the last one as early.
    assert contradiction.offset - contradiction.bound == pytest.approx(-0.0995, abs=1e-6)
    assert contradiction.offset + contradiction.bound == pytest.approx(0.1, abs=1e-6)


# -- SNTP ---------------------------------------------------------------------------------------


async def test_query_sntp_returns_the_offset() -> None:
    async with ntp_server(says(5.0, time.time)) as server:
        began = time.time()
        found = await query_sntp(LOOPBACK, server.port, samples=3, interval=0.0)
    assert abs(found.offset - 5.0) <= found.bound + 1e-4
    assert 0 <= found.round_trip < 0.5
    assert 0 < found.bound < 0.25 + 1e-5
    assert found.consistent
    assert found.samples == 3
    assert began <= found.measured_at <= time.time()


async def test_query_sntp_over_ipv6() -> None:
    async with ntp_server(says(-2.0, time.time), host="::1") as server:
        found = await query_sntp("::1", server.port, samples=1)
    assert found.offset == pytest.approx(-2.0, abs=0.25)


async def test_query_sntp_with_a_given_clock() -> None:
    clock = FakeClock(1_000_000.123457)
    async with ntp_server(says(5.0, clock.time)) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, clock=clock)
    assert found.offset == pytest.approx(5.0, abs=1e-6)
    assert (found.round_trip, found.measured_at) == (0.0, 1_000_000.123457)
    assert 0 < found.bound < 2e-6  # the step that the server states, 2**-20 s


async def test_query_sntp_keeps_the_stated_precision() -> None:
    # Precision -6 (a 64th of a second), root delay 0.5 s, root dispersion 0.25 s.
    head = bytes.fromhex("2401 06fa 00008000 00004000")

    def answer(server: NtpServer, request: bytes, addr: Address) -> None:
        server.transport.sendto(head + reply(request, received=time.time() + 5.0)[12:], addr)

    async with ntp_server(answer) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0)
    assert found.resolution == 1 / 64
    assert found.source_bound == 0.5
    assert found.bound >= 1 / 128
    assert abs(found.offset - 5.0) <= found.bound


@pytest.mark.parametrize("step", [1.0, 0.01, 0.001])
async def test_bound_includes_the_step_of_the_stamps(step: float) -> None:
    def coarse() -> float:
        return math.floor(time.time() / step) * step

    async with ntp_server(says(0.0, coarse)) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=8, interval=0.0)
    assert found.resolution >= step
    assert found.consistent
    assert abs(found.offset) <= found.bound


async def test_query_sntp_contradiction_has_a_bound_above_zero() -> None:
    def answer(server: NtpServer, request: bytes, addr: Address) -> None:
        now = time.time()
        server.transport.sendto(reply(request, received=now - 0.0004, sent=now + 0.0004), addr)

    async with ntp_server(answer) as server:
        # The fake clock stands still: every trip took no time at all.
        clock = FakeClock(time.time())
        found = await query_sntp(LOOPBACK, server.port, samples=3, interval=0.0, clock=clock)
    assert not found.consistent
    assert found.bound >= 0.0004


async def test_query_sntp_server_clock_set_meanwhile() -> None:
    answers = (says(1.0, time.time), says(1.0, time.time), says(4.0, time.time))
    async with ntp_server(*answers) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=4, interval=0.0)
    assert not found.consistent
    assert found.offset - found.bound <= 1.0
    assert found.offset + found.bound >= 4.0


async def test_query_sntp_stops_at_the_target_bound() -> None:
    async with ntp_server(says(1.0, time.time)) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=500, interval=0.0, target_bound=0.25)
    assert found.samples < 500
    assert found.bound <= 0.25


async def test_query_sntp_slow_samples_do_not_widen_the_bound() -> None:
    answers = (late(says(1.0, time.time), 0.3), says(1.0, time.time), late(says(1.0, time.time), 0.3))
    async with ntp_server(*answers) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=3, interval=0.0)
    assert found.offset == pytest.approx(1.0, abs=0.15)
    assert found.bound < 0.15
    assert found.samples == 3


async def test_query_sntp_sends_a_new_nonce_each_time() -> None:
    async with ntp_server(says(0.0, time.time)) as server:
        await query_sntp(LOOPBACK, server.port, samples=3, interval=0.0)
    assert [len(one) for one in server.requests] == [48] * 3
    assert all(one[:40] == b"\x23" + bytes(39) for one in server.requests)
    assert len({one[40:] for one in server.requests}) == 3


async def test_query_sntp_survives_lost_samples() -> None:
    async with ntp_server(silence, says(3.0, time.time)) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=3, interval=0.0, max_round_trip=0.3)
    assert (found.samples, len(server.requests)) == (2, 3)


async def test_query_sntp_ignores_late_replies() -> None:
    """The answer to the first request comes while the second is waited for."""
    answers = (late(says(50.0, time.time), 0.35), late(says(3.0, time.time), 0.1))
    async with ntp_server(*answers) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, max_round_trip=0.3)
    assert found.offset == pytest.approx(3.0, abs=0.2)
    assert found.samples == 1


async def test_query_sntp_slow_server_is_a_timeout() -> None:
    async with ntp_server(late(says(0.0, time.time), 0.08)) as server:
        with pytest.raises(TimeoutError, match=r"every answer .* took over 0\.05 s"):
            await query_sntp(LOOPBACK, server.port, samples=4, interval=0.05, max_round_trip=0.05)


async def test_query_sntp_silent_server_is_a_timeout() -> None:
    async with ntp_server(silence) as server:
        with pytest.raises(TimeoutError, match=f"no answer from time server {LOOPBACK}:{server.port}"):
            await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, max_round_trip=0.02)


async def test_query_sntp_deadline_keeps_good_samples() -> None:
    async with ntp_server(says(1.0, time.time), silence) as server:
        async with asyncio.timeout(20):  # each sample waits for half a second
            found = await query_sntp(LOOPBACK, server.port, samples=1000, interval=0.0, timeout=0.2)
    assert found.samples == 1


async def test_query_sntp_port_without_listener() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as placeholder:
        placeholder.bind((LOOPBACK, 0))
        port = placeholder.getsockname()[1]
    with pytest.raises(ConnectionError, match="cannot be reached"):
        await query_sntp(LOOPBACK, port, samples=2, interval=0.0, max_round_trip=2.0)


async def test_query_sntp_unknown_name() -> None:
    with pytest.raises(ConnectionError, match="cannot be found"):
        await query_sntp("no..such..name", 123)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"origin": b"\1" * 8}, RemoteProtocolError, "not made"),
        ({"first": 0x23}, RemoteProtocolError, "mode 3"),
        ({"sent": 1.0}, RemoteProtocolError, "before"),
        ({"first": 0xE4}, ClockNotSynchronizedError, "leap 3"),
        ({"stratum": 16}, ClockNotSynchronizedError, "stratum 16"),
        ({"stratum": 0, "reference": b"INIT"}, ClockNotSynchronizedError, "INIT"),
        ({"stratum": 0, "reference": b"DENY"}, DeviceError, "DENY"),
        ({"stratum": 0, "reference": b"RATE"}, BusyError, "RATE"),
    ],
)
async def test_query_sntp_bad_reply(wrong: dict[str, object], error: type[Exception], words: str) -> None:
    async with ntp_server(says(0.0, time.time, **wrong)) as server:
        with pytest.raises(error, match=words):
            await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, max_round_trip=0.05)


@pytest.mark.parametrize("garbage", [b"", b"short", b"\x24" * 47, b"\xff" * 200])
async def test_query_sntp_ignores_garbage_before_a_reply(garbage: bytes) -> None:
    def both(server: NtpServer, request: bytes, addr: Address) -> None:
        raw(garbage)(server, request, addr)
        says(4.0, time.time)(server, request, addr)

    async with ntp_server(both) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0)
    assert found.samples == 2
    assert found.offset == pytest.approx(4.0, abs=0.25)


async def test_query_sntp_only_garbage_is_a_protocol_error() -> None:
    async with ntp_server(raw(b"short")) as server:
        with pytest.raises(RemoteProtocolError, match=rf"{LOOPBACK}:{server.port} .* 5 bytes"):
            await query_sntp(LOOPBACK, server.port, samples=1, max_round_trip=0.05)


async def test_query_sntp_ignores_other_addresses() -> None:
    with _another_socket() as stranger:

        def answer(server: NtpServer, request: bytes, addr: Address) -> None:
            stranger.sendto(reply(request, received=time.time() + 99), addr)

        async with ntp_server(answer) as server:
            with pytest.raises(TimeoutError, match="no answer"):
                await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, max_round_trip=0.05)
            assert len(server.requests) == 2


async def test_query_sntp_rate_kiss_keeps_earlier_samples() -> None:
    spare = says(0.0, time.time, stratum=0, reference=b"RATE")
    async with ntp_server(says(2.0, time.time), says(2.0, time.time), spare) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=8, interval=0.0)
    assert (found.samples, len(server.requests)) == (2, 3)


async def test_query_sntp_cancelled_leaves_no_socket() -> None:
    async with ntp_server(silence) as server:
        task = asyncio.create_task(query_sntp(LOOPBACK, server.port, max_round_trip=30.0, timeout=30.0))
        await eventually(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("limits", [{"samples": 0}, {"max_round_trip": 0.0}, {"max_round_trip": math.nan}])
async def test_measurement_invalid_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        await query_sntp(LOOPBACK, 1, **limits)  # type: ignore[arg-type]


@contextmanager
def _another_socket() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        yield sock


# -- any probe ----------------------------------------------------------------------------------


class Device:
    """A device whose clock is ahead, asked over a line whose delays are known."""

    def __init__(self, clock: FakeClock, ahead: float, delays: list[tuple[float, float]]) -> None:
        self._clock = clock
        self.ahead = ahead
        self._delays = iter(delays)

    async def probe(self) -> float:
        there, back = next(self._delays)
        self._clock.move(there)
        answer = self._clock.time() + self.ahead
        self._clock.move(back)
        return answer


async def test_measure_offset_short_round_trip_decides() -> None:
    clock = FakeClock(1000.123457)
    device = Device(clock, 2.0, [(0.2, 0.1), (0.03, 0.01), (0.1, 0.1)])
    found = await measure_offset(device.probe, samples=3, clock=clock)
    assert found.round_trip == pytest.approx(0.04)
    assert found.bound == pytest.approx(0.02, abs=2e-5)  # drift within the trip
    assert found.offset == pytest.approx(2.01, abs=1e-6)  # off by half the difference of the ways
    assert found.samples == 3
    assert found.measured_at == pytest.approx(1000.443457)


async def test_measure_offset_two_long_round_trips() -> None:
    """Neither way is short in one of the two, but each is short in one."""
    clock = FakeClock(1000.123457)
    device = Device(clock, 2.0, [(0.2, 0.001), (0.002, 0.2)])
    found = await measure_offset(device.probe, samples=2, clock=clock)
    # At least 2 - 0.001 by the first, at most 2 + 0.002 by the second; 500 ppm for the 0.001 s between.
    assert found.offset == pytest.approx(2.0005, abs=1e-5)
    assert found.bound == pytest.approx(0.0015, abs=1e-5)
    assert found.round_trip == pytest.approx(0.201)
    assert found.consistent


async def test_measure_offset_device_clock_set_meanwhile() -> None:
    clock = FakeClock(1000.123457)
    device = Device(clock, 2.0, [(0.01, 0.01)] * 4)

    async def probe() -> float:
        if clock.monotonic() > 0.03:
            device.ahead = -1.0
        return await device.probe()

    found = await measure_offset(probe, samples=4, clock=clock)
    assert not found.consistent
    assert found.offset - found.bound <= -1.0
    assert found.offset + found.bound >= 2.0


async def test_measure_offset_own_wall_clock_set_meanwhile() -> None:
    clock = FakeClock(1000.123457)
    device = Device(clock, 2.0, [(0.01, 0.01)] * 4)

    async def probe() -> float:
        answer = await device.probe()
        clock.leap(3.0)
        device.ahead -= 3.0
        return answer

    found = await measure_offset(probe, samples=4, clock=clock)
    assert found.consistent
    assert abs(found.offset - 2.0) <= found.bound


async def test_measure_offset_timed_reply_tightens_the_bound() -> None:
    clock = FakeClock(1000.123457)

    async def probe() -> TimedReply:
        clock.move(0.1)  # a connection, say
        sent = clock.monotonic()
        clock.move(0.001)
        answer = clock.time() + 2.0
        clock.move(0.001)
        received = clock.monotonic()
        clock.move(0.1)  # parsing
        return TimedReply(sent, received, answer)

    found = await measure_offset(probe, samples=2, clock=clock)
    assert found.bound == pytest.approx(0.001, abs=1e-5)
    assert found.offset == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize("times", [(-1.0, 0.0), (0.0, 9.0), (0.02, 0.01), (math.nan, 0.0)])
async def test_measure_offset_refuses_times_outside_the_call(times: tuple[float, float]) -> None:
    clock = FakeClock(1000.123457)

    async def probe() -> TimedReply:
        clock.move(0.05)
        return TimedReply(*times, 1000.0)

    with pytest.raises(UsageError, match="within its call"):
        await measure_offset(probe, samples=2, clock=clock)


async def test_measure_offset_deadline_keeps_good_samples() -> None:
    replies = iter([time.time()])

    async def probe() -> float:
        try:
            return next(replies)
        except StopIteration:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it") from None

    found = await measure_offset(probe, samples=100, timeout=0.2)
    assert found.samples == 1


async def test_measure_offset_silent_probe_is_a_timeout() -> None:
    async def probe() -> float:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        await measure_offset(probe, timeout=0.05)


async def test_measure_offset_stops_at_the_target_bound() -> None:
    clock = FakeClock(1000.123457)
    device = Device(clock, 2.0, [(0.2, 0.2), (0.001, 0.001), (0.2, 0.2)])
    found = await measure_offset(device.probe, samples=3, target_bound=0.01, clock=clock)
    assert found.samples == 2


async def test_measure_offset_ignores_long_round_trips() -> None:
    clock = FakeClock()
    device = Device(clock, 0.0, [(0.6, 0.0), (0.2, 0.2), (0.0, 0.6)])
    found = await measure_offset(device.probe, samples=3, max_round_trip=0.5, clock=clock)
    assert found.samples == 1
    # A stamp of 1,700,000,000.8 s alone may come from a clock of tenths of a second.
    assert found.resolution == 0.1
    assert found.bound == pytest.approx(0.2 + 0.75 * 0.1, abs=2e-4)


async def test_measure_offset_only_long_round_trips() -> None:
    clock = FakeClock()
    device = Device(clock, 0.0, [(0.6, 0.0)] * 3)
    with pytest.raises(TimeoutError, match=r"less than 0\.5 s"):
        await measure_offset(device.probe, samples=3, clock=clock)


async def test_measure_offset_survives_failed_samples() -> None:
    outcomes: Iterator[float | Exception] = iter([TimeoutError("lost"), 5.123457, ConnectionError("gone")])
    clock = FakeClock(4.123457)

    async def probe() -> float:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    found = await measure_offset(probe, samples=3, clock=clock)
    assert found.offset == pytest.approx(1.0, abs=1e-6)
    assert found.samples == 1


async def test_measure_offset_raises_the_last_failure() -> None:
    async def probe() -> float:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await measure_offset(probe, samples=2)


async def test_measure_offset_fatal_error_ends_it() -> None:
    calls: list[int] = []

    async def probe() -> float:
        calls.append(1)
        raise DeviceError("refused")

    with pytest.raises(DeviceError):
        await measure_offset(probe, samples=5)
    assert len(calls) == 1


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf])
async def test_measure_offset_time_that_is_not_a_number(nonsense: float) -> None:
    async def probe() -> float:
        return nonsense

    with pytest.raises(RemoteProtocolError):
        await measure_offset(probe)


async def test_measure_offset_refuses_zero_samples() -> None:
    async def probe() -> float:
        raise AssertionError("nothing may be asked")

    with pytest.raises(UsageError):
        await measure_offset(probe, samples=0)


# -- many at once -------------------------------------------------------------------------------


@asynccontextmanager
async def task_scope(name: str) -> AsyncIterator[TaskScope]:
    scope = TaskScope(name)
    try:
        yield scope
    finally:
        await scope.aclose()


async def test_limiter_bounds_concurrent_samples() -> None:
    """However many devices are measured; and the samples of all alternate."""
    limiter = MeasurementLimiter(concurrent=2, hold=30.0)
    under_way: set[int] = set()
    most, order = 0, []

    def probe_of(device: int) -> Callable[[], Awaitable[float]]:
        async def probe() -> float:
            nonlocal most
            under_way.add(device)
            order.append(device)
            most = max(most, len(under_way))
            await passes(3)
            under_way.remove(device)
            return time.time()

        return probe

    async with task_scope("many") as scope:
        found = await scope.gather(
            {number: measure_offset(probe_of(number), samples=4, limiter=limiter) for number in range(20)},
            name="measure",
        )
    assert all(isinstance(one, ClockOffset) and one.samples == 4 for one in found.values())
    assert most == 2
    assert sorted(order[:20]) == list(range(20))


async def test_limiter_is_shared_by_the_loop() -> None:
    most, under_way = 0, 0

    async def probe() -> float:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return time.time()

    async with task_scope("many") as scope:
        await scope.gather({number: measure_offset(probe, samples=2) for number in range(20)}, name="measure")
    assert most < 10  # two, and a few more should a machine so slow that places are given up run this


async def test_limiter_silent_device_delays_no_other() -> None:
    limiter = MeasurementLimiter(concurrent=1, hold=0.01)

    async def silent() -> float:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def quick() -> float:
        return time.time()

    async with task_scope("silent") as scope:
        stuck = scope.spawn(measure_offset(silent, limiter=limiter), name="stuck")
        await passes()
        found = await measure_offset(quick, samples=3, limiter=limiter)
        assert not stuck.done()
    assert found.samples == 3


async def test_limiter_cancelled_measurements_release_slots() -> None:
    limiter = MeasurementLimiter(concurrent=1, hold=30.0)

    async def silent() -> float:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async with task_scope("cancelled") as scope:
        for _ in range(3):  # one holds the place, two wait for it
            scope.spawn(measure_offset(silent, limiter=limiter), name="stuck")
        await passes()
    async with asyncio.timeout(20):
        async with limiter.slot():
            pass


def test_limiter_does_not_keep_the_loop_alive() -> None:
    async def contend() -> "weakref.ref[asyncio.AbstractEventLoop]":
        async def probe() -> float:
            await asyncio.sleep(0)
            return time.time()

        async with task_scope("contend") as scope:
            await scope.gather({n: measure_offset(probe, samples=2) for n in range(5)}, name="measure")
        return weakref.ref(asyncio.get_running_loop())

    reference = asyncio.run(contend())
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("limits", [{"concurrent": 0}, {"hold": 0.0}, {"hold": math.nan}])
def test_limiter_invalid_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        MeasurementLimiter(**limits)  # type: ignore[arg-type]
