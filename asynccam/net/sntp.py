"""SNTP packets (RFC 4330 and RFC 5905): a request out, a checked reply in.

NTP timestamps have 64 bits, 32 for the seconds since 1900 and 32 for their fraction. The seconds start
again from zero in February 2036, so a timestamp alone is ambiguous between eras.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

from asynccam.errors import BusyError, ClockNotSynchronizedError, DeviceError, RemoteProtocolError

PACKET_SIZE: Final = 48
"""Bytes of a packet without extensions."""

_UNIX_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 to 1970."""
_ERA: Final = 1 << 32
"""Seconds after which the timestamps start again."""
_FRACTION: Final = 1 << 32
_LEAP_UNSYNCHRONIZED: Final = 3
_MODE_CLIENT: Final = 3
_MODE_SERVER: Final = 4
_VERSION: Final = 4
_STRATUM_KISS: Final = 0
_STRATUM_UNSYNCHRONIZED: Final = 16
# leap+version+mode, stratum, poll, precision, root delay, root dispersion, reference id, four timestamps
_LAYOUT: Final = struct.Struct("!BBbbiI4sQQQQ")
_SHORT: Final = 1 << 16
"""Parts of a second in root delay and root dispersion."""


@dataclass(frozen=True, slots=True)
class SntpReply:
    """A reply that passed every check."""

    received: int  # NTP timestamp of the request's arrival, by the server's clock
    sent: int  # NTP timestamp of the reply's departure, by the server's clock
    stratum: int  # hops from a reference clock, 1 to 15
    # Step of the server's clock in seconds, as stated: a power of two.
    precision: float = field(default=0.0, compare=False)
    # Distance of the server from true time in seconds, as stated.
    source_bound: float = field(default=0.0, compare=False)


def build_request(nonce: int) -> bytes:
    """Return a client's request with a 64-bit ``nonce`` in place of the client's time.

    RFC 4330 5: the server copies these bits unread. Random ones tell its reply from a forged or late one, and
    disclose nothing of this computer.
    """
    first = _VERSION << 3 | _MODE_CLIENT
    return _LAYOUT.pack(first, 0, 0, 0, 0, 0, b"", 0, 0, 0, nonce)


def echoed_nonce(data: bytes) -> int:
    """Return the nonce of the request that a reply belongs to.

    Raises:
        RemoteProtocolError: The packet is too short, or not a server's reply.
    """
    if len(data) < PACKET_SIZE:
        raise RemoteProtocolError(f"a reply of {len(data)} bytes instead of {PACKET_SIZE}")
    fields = _LAYOUT.unpack_from(data)
    version, mode = fields[0] >> 3 & 7, fields[0] & 7
    if mode != _MODE_SERVER or not 1 <= version <= _VERSION:
        raise RemoteProtocolError(f"not a server's reply (mode {mode}, version {version})")
    return int(fields[8])


def parse_reply(data: bytes, nonce: int) -> SntpReply:
    """Parse a server's reply to the request with ``nonce``.

    Raises:
        RemoteProtocolError: The packet is not a reply to that request, or its times are impossible.
        BusyError: The server asks for fewer requests (the kiss-o'-death ``RATE``).
        ClockNotSynchronizedError: The server does not trust its own clock.
        DeviceError: The server refuses (any other kiss-o'-death; ``status`` holds its four letters).
    """
    if echoed_nonce(data) != nonce:
        raise RemoteProtocolError("a reply to a request that was not made")
    first, stratum, _, precision, delay, dispersion, reference, _, _, received, sent = _LAYOUT.unpack_from(
        data
    )
    if stratum == _STRATUM_KISS:
        code = reference.rstrip(b"\0").decode("ascii", "replace")
        if code == "RATE":
            raise BusyError("the time server asks for fewer requests (RATE)")
        if code in ("DENY", "RSTR"):
            raise DeviceError(f"the time server refuses this computer ({code})", status=code)
        raise ClockNotSynchronizedError(f"the time server has no time to give ({code or '-'})", status=code)
    if stratum >= _STRATUM_UNSYNCHRONIZED or first >> 6 == _LEAP_UNSYNCHRONIZED:
        raise ClockNotSynchronizedError(
            f"the time server's own clock is not synchronized (stratum {stratum}, leap {first >> 6})"
        )
    if not received or not sent:
        raise RemoteProtocolError("a reply without times")
    if signed_difference(sent, received) < 0:
        raise RemoteProtocolError("a reply sent before its request was received")
    # RFC 4330 section 4: the precision is an exponent of two, and the root delay may be negative. RFC 5905
    # appendix A.5.5.2: half the root delay and the root dispersion are what the source may be wrong by.
    source_bound = (abs(delay) / 2 + dispersion) / _SHORT
    return SntpReply(received, sent, stratum, 2.0**precision, source_bound)


def to_ntp(unix: float) -> int:
    """Return Unix seconds as an NTP timestamp."""
    seconds, fraction = divmod(unix, 1)
    return (int(seconds) + _UNIX_EPOCH) % _ERA * _FRACTION + int(fraction * _FRACTION)


def from_ntp(timestamp: int, *, near: float) -> float:
    """Return an NTP timestamp as Unix seconds, in the era closest to ``near`` (Unix seconds)."""
    seconds = timestamp / _FRACTION - _UNIX_EPOCH
    return seconds + round((near - seconds) / _ERA) * _ERA


def signed_difference(later: int, earlier: int) -> float:
    """Return the seconds between two NTP timestamps less than 68 years apart, across eras too."""
    ticks = (later - earlier) & 0xFFFF_FFFF_FFFF_FFFF
    return (ticks - (1 << 64 if ticks >> 63 else 0)) / _FRACTION
