"""SNTP packets against bytes written by hand from RFC 4330."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import (
    AsynccamError,
    BusyError,
    ClockNotSynchronizedError,
    DeviceError,
    RemoteProtocolError,
)
from asynccam.net import sntp

NONCE = 0x0123_4567_89AB_CDEF
# leap 0, version 4, mode 4; stratum 2; poll 6; precision -20; root delay, root dispersion; reference id;
# reference, origin, receive and transmit timestamps: received at 1970 plus 1.5 s, sent a quarter later.
GOOD = bytes.fromhex(
    "24 02 06 ec 00000100 00000200 c0a80001"
    "83aa7e80 00000000  01234567 89abcdef  83aa7e81 80000000  83aa7e81 c0000000"
)


def with_bytes(at: int, *values: int) -> bytes:
    return GOOD[:at] + bytes(values) + GOOD[at + len(values) :]


def kiss(code: bytes) -> bytes:
    return GOOD[:1] + b"\0" + GOOD[2:12] + code + GOOD[16:]


def test_request_discloses_only_the_nonce() -> None:
    assert sntp.build_request(NONCE) == b"\x23" + bytes(39) + bytes.fromhex("0123456789abcdef")


def test_reply_fields() -> None:
    reply = sntp.parse_reply(GOOD, NONCE)
    assert reply == sntp.SntpReply(received=0x83AA7E81_80000000, sent=0x83AA7E81_C0000000, stratum=2)
    assert sntp.from_ntp(reply.received, near=0.0) == 1.5
    assert sntp.signed_difference(reply.sent, reply.received) == 0.25


def test_reply_with_extensions() -> None:
    assert sntp.parse_reply(GOOD + b"extension and key", NONCE).stratum == 2


@pytest.mark.parametrize("first", [0x1C, 0x24, 0x64])
def test_reply_of_older_versions_and_leap_seconds(first: int) -> None:
    assert sntp.parse_reply(with_bytes(0, first), NONCE).stratum == 2


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"", "0 bytes"),
        (GOOD[:47], "47 bytes"),
        (with_bytes(0, 0x23), "mode 3"),
        (with_bytes(0, 0x25), "mode 5"),
        (with_bytes(0, 0x2C), "version 5"),
        (with_bytes(0, 0x04), "version 0"),
        (with_bytes(31, 0xEE), "not made"),
        (with_bytes(24, *bytes(8)), "not made"),
        (with_bytes(32, *bytes(8)), "without times"),
        (with_bytes(40, *bytes(8)), "without times"),
        (with_bytes(44, 0x7F), "before"),
    ],
)
def test_reply_that_is_invalid(packet: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        sntp.parse_reply(packet, NONCE)


@pytest.mark.parametrize("packet", [with_bytes(0, 0xE4), with_bytes(1, 16), with_bytes(1, 255)])
def test_reply_of_an_unsynchronized_server(packet: bytes) -> None:
    with pytest.raises(ClockNotSynchronizedError, match="not synchronized"):
        sntp.parse_reply(packet, NONCE)


def test_kiss_rate_is_busy() -> None:
    with pytest.raises(BusyError, match="RATE"):
        sntp.parse_reply(kiss(b"RATE"), NONCE)


@pytest.mark.parametrize("code", [b"DENY", b"RSTR"])
def test_kiss_deny_is_final(code: bytes) -> None:
    with pytest.raises(DeviceError, match="refuses") as caught:
        sntp.parse_reply(kiss(code), NONCE)
    assert caught.value.status == code.decode()


@pytest.mark.parametrize("code", [b"INIT", b"STEP", b"\0\0\0\0", b"\xff\xfe\0\0"])
def test_kiss_other_means_no_time(code: bytes) -> None:
    with pytest.raises(ClockNotSynchronizedError, match="no time to give"):
        sntp.parse_reply(kiss(code), NONCE)


def test_kiss_for_another_request_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="not made"):
        sntp.parse_reply(kiss(b"DENY"), NONCE + 1)


def test_times_by_hand() -> None:
    assert sntp.to_ntp(0.0) == 2_208_988_800 << 32
    assert sntp.to_ntp(-0.25) == (2_208_988_799 << 32) + 0xC000_0000
    assert sntp.from_ntp(2_208_988_800 << 32, near=0.0) == 0.0


def test_times_in_the_era_of_2036() -> None:
    rollover = 2_085_978_496  # 2036-02-07 06:28:16 UTC
    assert sntp.to_ntp(rollover) == 0
    assert sntp.to_ntp(rollover - 1) == 0xFFFF_FFFF << 32
    assert sntp.from_ntp(1 << 31, near=rollover - 1) == rollover + 0.5
    assert sntp.from_ntp(0xFFFF_FFFF << 32, near=rollover + 10) == rollover - 1
    assert sntp.from_ntp(0, near=-2e9) == -2_208_988_800


def test_difference_across_eras() -> None:
    assert sntp.signed_difference(1 << 32, 0xFFFF_FFFF << 32) == 2.0
    assert sntp.signed_difference(0xFFFF_FFFF << 32, 1 << 32) == -2.0
    across = with_bytes(32, *bytes.fromhex("ffffffff800000000000000080000000"))
    reply = sntp.parse_reply(across, NONCE)
    assert sntp.signed_difference(reply.sent, reply.received) == 1.0


@given(st.floats(-2e9, 1e10))
def test_times_round_trip(unix: float) -> None:
    assert sntp.from_ntp(sntp.to_ntp(unix), near=unix) == pytest.approx(unix, abs=2e-6)


@given(st.binary(max_size=80), st.booleans())
def test_reply_any_bytes(data: bytes, ours: bool) -> None:
    packet = data[:24] + GOOD[24:32] + data[24:] if ours else data
    try:
        reply = sntp.parse_reply(packet, NONCE)
    except AsynccamError:
        return
    assert 1 <= reply.stratum <= 15
