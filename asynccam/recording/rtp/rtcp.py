"""RTCP sender reports, without I/O: times by a sender's own clock.

RFC 3550, 6: packets of a port are compounds of one or more RTCP packets.
"""

import struct
from dataclasses import dataclass
from typing import Final

_VERSION: Final = 2
_SENDER_REPORT: Final = 200
_FIRST_TYPE: Final = 192
_LAST_TYPE: Final = 223  # packet types that RTCP may have: RFC 5761, 4
_HEADER: Final = struct.Struct(">BBH")
_INFO: Final = struct.Struct(">IIIIII")
_BLOCK: Final = 24
_NTP_ERA: Final = 2_208_988_800  # seconds from 1900, where NTP counts from, to 1970
_SECOND_ERA: Final = 1 << 31  # RFC 4330, 3: seconds below are of the era that begins in 2036


@dataclass(frozen=True, slots=True)
class SenderReport:
    """RFC 3550, 6.4.1: one moment by two clocks of a sender."""

    ssrc: int
    unix: float  # sender's time of day, Unix seconds; its clock may be set to anything
    rtp: int  # the same moment in RTP time, 32 bits


def sender_reports(packet: bytes) -> tuple[SenderReport, ...]:
    """Return the sender reports of a compound packet; none where it is not RTCP.

    RFC 3550, 6.4.1: a sender without a clock sends 0 for its time, which is not a report of a time.
    """
    found: list[SenderReport] = []
    place = 0
    while place < len(packet):
        if len(packet) - place < _HEADER.size:
            return ()
        first, kind, words = _HEADER.unpack_from(packet, place)
        end = place + 4 + 4 * words
        # RFC 3550, A.2: version 2, a known type, and lengths that add up to the datagram's.
        if first >> 6 != _VERSION or not _FIRST_TYPE <= kind <= _LAST_TYPE or end > len(packet):
            return ()
        if kind == _SENDER_REPORT:
            body = place + _HEADER.size
            if end - body < _INFO.size + _BLOCK * (first & 0x1F):
                return ()
            ssrc, seconds, fraction, rtp, _, _ = _INFO.unpack_from(packet, body)
            if seconds or fraction:
                era = _NTP_ERA if seconds >= _SECOND_ERA else _NTP_ERA - (1 << 32)
                found.append(SenderReport(ssrc, seconds - era + fraction / (1 << 32), rtp))
        place = end
    return tuple(found)
