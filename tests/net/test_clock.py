"""Clock offsets: by SNTP from a real UDP server on loopback, and from any probe."""

import asyncio
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

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
from asynccam.net.clock import best_of, measure_offset, query_sntp, sntp_offset
from asynccam.wire import sntp
from tests.support.fake_clock import FakeClock
from tests.support.ntp_server import Address, NtpServer, late, ntp_server, raw, reply, says, silence
from tests.support.waiting import eventually

LOOPBACK = "127.0.0.1"


# -- the sums, by hand --------------------------------------------------------------------------


def test_offset_and_bound_by_hand() -> None:
    # Left here at 1000.0; there at 1007.2, worked 0.1 s; back here after 0.5 s: 0.4 s on the way.
    answer = sntp.SntpReply(sntp.to_ntp(1007.2), sntp.to_ntp(1007.3), 1)
    sample = sntp_offset(answer, 1000.0, 0.5)
    assert sample.offset == pytest.approx(7.0, abs=1e-6)  # ((1007.2 - 1000.0) + (1007.3 - 1000.5)) / 2
    assert sample.round_trip == pytest.approx(0.4, abs=1e-6)
    assert sample.bound == pytest.approx(0.2, abs=1e-6)
    assert sample.measured_at == 1000.25
    assert sample.samples == 1


@pytest.mark.parametrize("outward", [0.0, 0.1, 0.25, 0.4])
def test_the_truth_lies_within_the_bound_however_lopsided_the_way(outward: float) -> None:
    truth, way = -3.0, 0.4
    received = 1000.0 + outward + truth
    answer = sntp.SntpReply(sntp.to_ntp(received), sntp.to_ntp(received), 1)
    sample = sntp_offset(answer, 1000.0, way)
    assert abs(sample.offset - truth) <= sample.bound + 1e-6


def test_a_server_in_the_next_era_is_a_second_ahead_not_a_century() -> None:
    rollover = 2_085_978_496.0
    answer = sntp.SntpReply(sntp.to_ntp(rollover + 0.5), sntp.to_ntp(rollover + 0.5), 1)
    assert sntp_offset(answer, rollover - 0.5, 0.0).offset == pytest.approx(1.0, abs=1e-6)


def test_work_longer_than_the_exchange_is_impossible_beyond_what_clocks_differ() -> None:
    answer = sntp.SntpReply(sntp.to_ntp(1000.0), sntp.to_ntp(1000.1), 1)
    with pytest.raises(RemoteProtocolError, match="work"):
        sntp_offset(answer, 1000.0, 0.05)
    assert sntp_offset(answer, 1000.0, 0.0995).bound == 0.0


def test_the_shortest_round_trip_wins_and_all_samples_count() -> None:
    slow, fast = ClockOffset(1.0, 0.2, 0.4, 2, 10.0), ClockOffset(2.0, 0.05, 0.1, 1, 20.0)
    assert best_of([slow, fast]) == ClockOffset(2.0, 0.05, 0.1, 3, 20.0)
    with pytest.raises(UsageError):
        best_of([])


# -- SNTP ---------------------------------------------------------------------------------------


async def test_the_offset_of_a_server_is_found() -> None:
    async with ntp_server(says(5.0, time.time)) as server:
        began = time.time()
        found = await query_sntp(LOOPBACK, server.port, samples=3, interval=0.0)
    assert abs(found.offset - 5.0) <= found.bound + 1e-4
    assert 0 <= found.round_trip < 0.5
    assert found.bound == found.round_trip / 2
    assert found.samples == 3
    assert began <= found.measured_at <= time.time()


async def test_a_server_over_ipv6_is_asked_as_well() -> None:
    async with ntp_server(says(-2.0, time.time), host="::1") as server:
        found = await query_sntp("::1", server.port, samples=1)
    assert found.offset == pytest.approx(-2.0, abs=0.25)


async def test_a_given_clock_is_the_one_compared() -> None:
    clock = FakeClock(1_000_000.0)
    async with ntp_server(says(5.0, clock.time)) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, clock=clock)
    assert found.offset == pytest.approx(5.0, abs=1e-6)
    assert (found.bound, found.round_trip, found.measured_at) == (0.0, 0.0, 1_000_000.0)


async def test_the_best_of_several_samples_is_used() -> None:
    answers = (late(says(9.0, time.time), 0.05), says(1.0, time.time), late(says(9.0, time.time), 0.05))
    async with ntp_server(*answers) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=3, interval=0.0)
    assert found.offset == pytest.approx(1.0, abs=0.25)
    assert found.samples == 3


async def test_requests_carry_48_bytes_and_a_new_nonce_each() -> None:
    async with ntp_server(says(0.0, time.time)) as server:
        await query_sntp(LOOPBACK, server.port, samples=3, interval=0.0)
    assert [len(one) for one in server.requests] == [48] * 3
    assert all(one[:40] == b"\x23" + bytes(39) for one in server.requests)
    assert len({one[40:] for one in server.requests}) == 3


async def test_lost_samples_are_made_up_for_by_others() -> None:
    async with ntp_server(silence, says(3.0, time.time)) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=3, interval=0.0, max_round_trip=0.3)
    assert (found.samples, len(server.requests)) == (2, 3)


async def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    """The answer to the first request comes while the second is waited for."""
    answers = (late(says(50.0, time.time), 0.35), late(says(3.0, time.time), 0.1))
    async with ntp_server(*answers) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, max_round_trip=0.3)
    assert found.offset == pytest.approx(3.0, abs=0.2)
    assert found.samples == 1


async def test_a_server_slower_than_the_limit_is_a_timeout_that_says_so() -> None:
    async with ntp_server(late(says(0.0, time.time), 0.08)) as server:
        with pytest.raises(TimeoutError, match=r"every answer .* took over 0\.05 s"):
            await query_sntp(LOOPBACK, server.port, samples=4, interval=0.05, max_round_trip=0.05)


async def test_a_silent_server_is_a_timeout_that_names_it() -> None:
    async with ntp_server(silence) as server:
        with pytest.raises(TimeoutError, match=f"no answer from time server {LOOPBACK}:{server.port}"):
            await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, max_round_trip=0.02)


async def test_the_deadline_ends_it_with_what_there_is() -> None:
    async with ntp_server(says(1.0, time.time), silence) as server:
        began = time.monotonic()
        found = await query_sntp(LOOPBACK, server.port, samples=1000, interval=0.0, timeout=0.2)
    assert time.monotonic() - began < 2.0
    assert found.samples == 1


async def test_nothing_listening_is_a_connection_error() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as placeholder:
        placeholder.bind((LOOPBACK, 0))
        port = placeholder.getsockname()[1]
    with pytest.raises(ConnectionError, match="cannot be reached"):
        await query_sntp(LOOPBACK, port, samples=2, interval=0.0, max_round_trip=2.0)


async def test_an_unknown_name_is_a_connection_error() -> None:
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
async def test_a_bad_answer_is_an_error_in_plain_words(
    wrong: dict[str, object], error: type[Exception], words: str
) -> None:
    async with ntp_server(says(0.0, time.time, **wrong)) as server:
        with pytest.raises(error, match=words):
            await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, max_round_trip=0.05)


@pytest.mark.parametrize("garbage", [b"", b"short", b"\x24" * 47, b"\xff" * 200])
async def test_garbage_is_passed_over_when_a_good_answer_follows(garbage: bytes) -> None:
    def both(server: NtpServer, request: bytes, addr: Address) -> None:
        raw(garbage)(server, request, addr)
        says(4.0, time.time)(server, request, addr)

    async with ntp_server(both) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0)
    assert found.samples == 2
    assert found.offset == pytest.approx(4.0, abs=0.25)


async def test_nothing_but_garbage_is_a_protocol_error_that_names_the_server() -> None:
    async with ntp_server(raw(b"short")) as server:
        with pytest.raises(RemoteProtocolError, match=rf"{LOOPBACK}:{server.port} .* 5 bytes"):
            await query_sntp(LOOPBACK, server.port, samples=1, max_round_trip=0.05)


async def test_an_answer_from_another_address_is_never_heard() -> None:
    with _another_socket() as stranger:

        def answer(server: NtpServer, request: bytes, addr: Address) -> None:
            stranger.sendto(reply(request, received=time.time() + 99), addr)

        async with ntp_server(answer) as server:
            with pytest.raises(TimeoutError, match="no answer"):
                await query_sntp(LOOPBACK, server.port, samples=2, interval=0.0, max_round_trip=0.05)
            assert len(server.requests) == 2


async def test_a_request_to_be_spared_ends_the_questions_and_keeps_the_answers() -> None:
    spare = says(0.0, time.time, stratum=0, reference=b"RATE")
    async with ntp_server(says(2.0, time.time), says(2.0, time.time), spare) as server:
        found = await query_sntp(LOOPBACK, server.port, samples=8, interval=0.0)
    assert (found.samples, len(server.requests)) == (2, 3)


async def test_cancelling_leaves_no_socket() -> None:
    async with ntp_server(silence) as server:
        task = asyncio.create_task(query_sntp(LOOPBACK, server.port, max_round_trip=30.0, timeout=30.0))
        await eventually(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("limits", [{"samples": 0}, {"max_round_trip": 0.0}, {"max_round_trip": math.nan}])
async def test_senseless_limits_are_refused(limits: dict[str, float]) -> None:
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
        self._ahead = ahead
        self._delays = iter(delays)

    async def probe(self) -> float:
        there, back = next(self._delays)
        self._clock.move(there)
        answer = self._clock.time() + self._ahead
        self._clock.move(back)
        return answer


async def test_the_shortest_of_the_round_trips_decides() -> None:
    clock = FakeClock(1000.0)
    device = Device(clock, 2.0, [(0.2, 0.1), (0.03, 0.01), (0.1, 0.1)])
    found = await measure_offset(device.probe, samples=3, clock=clock)
    assert found.round_trip == pytest.approx(0.04)
    assert found.bound == pytest.approx(0.02)
    assert found.offset == pytest.approx(2.01)  # off by half the difference of the ways
    assert found.samples == 3
    assert found.measured_at == pytest.approx(1000.32)


async def test_round_trips_over_the_limit_do_not_count() -> None:
    clock = FakeClock()
    device = Device(clock, 0.0, [(0.6, 0.0), (0.2, 0.2), (0.0, 0.6)])
    found = await measure_offset(device.probe, samples=3, max_round_trip=0.5, clock=clock)
    assert found.samples == 1
    assert found.bound == pytest.approx(0.2)


async def test_only_long_round_trips_are_a_timeout() -> None:
    clock = FakeClock()
    device = Device(clock, 0.0, [(0.6, 0.0)] * 3)
    with pytest.raises(TimeoutError, match=r"less than 0\.5 s"):
        await measure_offset(device.probe, samples=3, clock=clock)


async def test_a_sample_that_fails_is_made_up_for_by_others() -> None:
    outcomes: Iterator[float | Exception] = iter([TimeoutError("lost"), 5.0, ConnectionError("gone")])
    clock = FakeClock(4.0)

    async def probe() -> float:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    found = await measure_offset(probe, samples=3, clock=clock)
    assert (found.offset, found.samples) == (1.0, 1)


async def test_when_every_sample_fails_the_last_failure_is_raised() -> None:
    async def probe() -> float:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await measure_offset(probe, samples=2)


async def test_a_failure_that_will_not_pass_ends_it_at_once() -> None:
    calls: list[int] = []

    async def probe() -> float:
        calls.append(1)
        raise DeviceError("refused")

    with pytest.raises(DeviceError):
        await measure_offset(probe, samples=5)
    assert len(calls) == 1


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf])
async def test_a_time_that_is_no_number_is_a_protocol_error(nonsense: float) -> None:
    async def probe() -> float:
        return nonsense

    with pytest.raises(RemoteProtocolError):
        await measure_offset(probe)


async def test_no_samples_are_refused() -> None:
    async def probe() -> float:
        raise AssertionError("nothing may be asked")

    with pytest.raises(UsageError):
        await measure_offset(probe, samples=0)
