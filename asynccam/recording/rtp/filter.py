"""Filter of one RTP stream from a UDP port: a program between a socket and GStreamer.

Every host can send to a UDP port. This program passes on the packets of one stream, known by the address and
port of its sender and by its SSRC (RFC 3550, 8), and nothing else. It runs in a process of its own, like
GStreamer, so that neither a busy nor a dead Python holds up a recording, and imports only the standard
library. It prints its findings, one line each; see `asynccam.recording.rtp.stream`.
"""

import contextlib
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

_HEADER: Final = 12
_VERSION: Final = 2
_MAX_CANDIDATES: Final = 64  # streams that are told apart; packets of any further stream are left out
_MAX_WAITING: Final = 32 << 20  # bytes that wait for the choice of a stream, or for GStreamer to read them
_REPORT_ALL_FOR: Final = 20_000_000_000
"""Nanoseconds from the first packet within which the arrival of every frame is reported."""
_REPORT_INTERVAL: Final = 1_000_000_000
"""Nanoseconds between two frames that are reported later on, and between two counts."""
_RTCP_INTERVAL: Final = 50_000_000  # nanoseconds between two RTCP packets that are reported
_MAX_RTCP: Final = 1500
_MAX_OUTPUT: Final = 1 << 16  # bytes of lines that wait to be read
_MAX_DATAGRAM: Final = 1 << 16
_BATCH: Final = 64  # packets that are read before anything else is served
_KEY_FRAME_TIMEOUT: Final = 5_000_000_000
"""Nanoseconds to wait for a key frame: streams that refresh bit by bit have none."""
_MAX_FRAMES: Final = 4  # frames that are kept while the first is looked for: packets may arrive out of order
_MAX_KEPT: Final = 8 << 20  # bytes that are kept meanwhile, `_PACKET_OVERHEAD` for each packet included
_PACKET_OVERHEAD: Final = 256
_TIME_WRAP: Final = 1 << 32
_SEQUENCE_WRAP: Final = 1 << 16
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

Source = tuple[str, int, int]
"""Address, port and SSRC."""
Packet = tuple[bytes, int]
"""A datagram, and when it arrived."""


class CandidateStream:
    """A stream seen at the port: its first packet's arrival, and its packets until a stream is chosen."""

    __slots__ = ("first_at", "packets")

    def __init__(self, since: int) -> None:
        self.first_at = since
        self.packets: list[Packet] = []


class DecodableStart:
    """Buffer of H.264 or H.265 packets until a whole frame can be decoded; does no I/O.

    GStreamer discards packets before parameter sets, and may write a frame that lacks packets or not. So the
    RTP time of the first frame in the file would be unknown. With nothing before it, it is ``stamp``.
    """

    def __init__(self, codec: str) -> None:
        self.stamp: int | None = None
        self._found_at: int | None = None
        # So long after the begin that RTP times may wrap, and nothing is out of order.
        self._is_past_start = False
        self._units = _h264_units if codec == "h264" else _h265_units
        self._required_sets = {"sps", "pps"} if codec == "h264" else {"vps", "sps", "pps"}
        self._parameter_sets: dict[str, tuple[int, Packet]] = {}  # the latest packet with each parameter set
        self._frames: dict[int, dict[int, Packet]] = {}  # by RTP time, then by sequence number, unwrapped
        self._first_at: int | None = None
        self._latest = 0  # sequence number, unwrapped
        self._size = 0

    def feed(self, data: bytes, at: int) -> list[Packet]:
        """Take a packet and its arrival in nanoseconds; return the packets to pass on, in order."""
        stamp = int.from_bytes(data[4:8])
        if self._found_at is not None:
            self._is_past_start = self._is_past_start or at - self._found_at > _KEY_FRAME_TIMEOUT
            return [(data, at)] if self.is_picture(data) else []
        if self._first_at is None:
            self._first_at = at
            self._latest = int.from_bytes(data[2:4]) + _SEQUENCE_WRAP
        sequence = self._unwrap_sequence(data)
        for kind, _ in self._units(_payload(data)):
            if kind in self._required_sets:
                self._parameter_sets[kind] = (sequence, (data, at))
        frame = self._frames.setdefault(stamp, {})
        if sequence not in frame:
            frame[sequence] = (data, at)
            self._size += len(data) + _PACKET_OVERHEAD
        # Also the frame that this packet belongs to: a sender may give all its packets one time.
        while len(self._frames) > _MAX_FRAMES or self._size > _MAX_KEPT:
            dropped = self._frames.pop(next(iter(self._frames)))
            self._size -= sum(len(data) + _PACKET_OVERHEAD for data, _ in dropped.values())
        return self._find_start(at)

    def is_picture(self, data: bytes) -> bool:
        """Return whether a packet is of the first frame or a later one, and no parameter set before it."""
        stamp = int.from_bytes(data[4:8])
        return self._is_past_start or (self.stamp is not None and not _before(stamp, self.stamp))

    def _unwrap_sequence(self, data: bytes) -> int:
        # RFC 3550, 5.1: sequence numbers are 16 bits that wrap; the nearest to the latest is meant.
        apart = (int.from_bytes(data[2:4]) - self._latest) % _SEQUENCE_WRAP
        sequence = self._latest + (apart - _SEQUENCE_WRAP if apart >= _SEQUENCE_WRAP // 2 else apart)
        self._latest = max(self._latest, sequence)
        return sequence

    def _find_start(self, at: int) -> list[Packet]:
        """Return everything from the first fitting frame on, parameter sets before it included."""
        if not self._required_sets <= self._parameter_sets.keys():
            return []
        for stamp, frame in self._frames.items():
            if not self._can_begin(frame, key=at - (self._first_at or 0) < _KEY_FRAME_TIMEOUT):
                continue
            self.stamp, self._found_at = stamp, at
            first = min(frame)
            sets = {
                sequence: packet for sequence, packet in self._parameter_sets.values() if sequence < first
            }
            later = {
                sequence: packet
                for other, later_frame in self._frames.items()
                if not _before(other, stamp)
                for sequence, packet in later_frame.items()
            }
            self._frames, self._parameter_sets = {}, {}
            return [packet for _, packet in sorted({**sets, **later}.items())]
        return []

    def _can_begin(self, frame: dict[int, Packet], *, key: bool) -> bool:
        """Return whether a frame is whole, and a key frame where that is wanted."""
        numbers = sorted(frame)
        first, last = numbers[0], numbers[-1]
        if last - first != len(numbers) - 1:
            return False
        # RFC 6184, 5.1; RFC 7798, 4.1: the last packet has the marker set, which is not to be relied on. The
        # next frame's first packet is a sign too.
        marked = frame[last][0][1] & 0x80
        if not marked and not any(last + 1 in other for other in self._frames.values()):
            return False
        units = [unit for sequence in numbers for unit in self._units(_payload(frame[sequence][0]))]
        pictures = [(kind, begins) for kind, begins in units if kind in ("key", "picture")]
        if not pictures or not pictures[0][1]:
            return False  # nothing to show, or its beginning is missing
        kinds = {kind for kind, _ in units}
        return bool(kinds & {"key", "sps"}) or not key


class StreamFilter:
    """Filter that chooses one RTP stream among those at a port, and keeps to it; does no I/O.

    Args:
        payload: RTP payload type (RFC 3550, 5.1).
        sender: Address of the only sender that counts, or ``""`` for any.
        waits: Whether nothing is chosen before `choose` is called; packets wait until then.
        codec: ``h264`` or ``h265``, to begin with a frame that can be decoded, or ``""`` for any packet.
    """

    def __init__(self, payload: int, sender: str = "", *, waits: bool = False, codec: str = "") -> None:
        self.source: Source | None = None  # the chosen stream, or None
        self.left_out = 0  # packets that were left out
        self.lines: list[str] = []  # lines to print
        self._payload = payload
        self._sender = sender
        self._waits = waits
        self._start = DecodableStart(codec) if codec else None
        self._candidates: dict[Source, CandidateStream] = {}
        self._not_before = 0
        self._ssrc: int | None = None
        self._size = 0
        self._started_at = 0
        self._frame: int | None = None  # RTP time of the latest frame
        self._frame_reported_at = self._rtcp_reported_at = self._count_reported_at = 0
        self._reported_count = 0

    def feed(self, data: bytes, address: tuple[str, int], at: int) -> list[bytes]:
        """Take a datagram with its sender and arrival in nanoseconds; return the packets to pass on."""
        if is_rtcp(data):
            self.feed_report(data, address, at)
            return []
        source = (*address, int.from_bytes(data[8:12]))
        if source == self.source and data[1] & 0x7F == self._payload and is_rtp(data):
            return self._accept(data, at)
        if not is_rtp(data):
            self._count_left_out(1, at)
            return []
        candidate = self._note_candidate(source, at)
        may_be = data[1] & 0x7F == self._payload and self.source is None
        if not may_be or not self._is_wanted(source, candidate):
            self._count_left_out(1, at)
            return []
        if not self._waits:
            return self._lock_on(source, [(data, at)])
        candidate.packets.append((data, at))
        self._size += len(data)
        if self._size > _MAX_WAITING:
            self._drop_oldest(at)
        return []

    def feed_report(self, data: bytes, address: tuple[str, int], at: int) -> None:
        """Take an RTCP packet, and report it if it is the sender's about its stream (RFC 3550, 6.4.1)."""
        if self.source is None or len(data) > _MAX_RTCP or not is_rtcp(data):
            return
        about = int.from_bytes(data[4:8])
        is_own = address[0] == self.source[0] and about == self.source[2]
        if is_own and at - self._rtcp_reported_at >= _RTCP_INTERVAL:
            self._rtcp_reported_at = at
            self.lines.append(f"report {at} {data.hex()}")

    def choose(self, not_before: int, ssrc: int | None, at: int) -> list[bytes]:
        """Choose a stream that arrived ``not_before`` a time, now or later; return the packets to pass on.

        Where its SSRC is known, that alone decides, whatever its sender. Times are in nanoseconds.
        """
        self._waits, self._not_before, self._ssrc = False, not_before, ssrc
        found = [source for source, candidate in self._candidates.items() if candidate.packets]
        fitting = [source for source in found if self._is_wanted(source, self._candidates[source])]
        chosen: list[bytes] = []
        if fitting:
            first = min(fitting, key=lambda source: self._candidates[source].first_at)
            chosen = self._lock_on(first, self._candidates[first].packets)
        else:
            for source in found:
                self._report_other(source)
        for source in found:
            if source != self.source:
                self._count_left_out(len(self._candidates[source].packets), at)
            self._candidates[source].packets = []
        self._size = 0
        return chosen

    def _is_wanted(self, source: Source, candidate: CandidateStream) -> bool:
        if self._waits:
            return True
        if self._ssrc is not None:
            return source[2] == self._ssrc
        return candidate.first_at >= self._not_before and self._sender in ("", source[0])

    def _note_candidate(self, source: Source, at: int) -> CandidateStream:
        candidate = self._candidates.get(source)
        if candidate is None:
            candidate = CandidateStream(at)
            if len(self._candidates) < _MAX_CANDIDATES:
                self._candidates[source] = candidate
                if self._waits:
                    self.lines.append(f"candidate {source[0]} {source[1]} {source[2]}")
                elif self.source is not None or not self._is_wanted(source, candidate):
                    self._report_other(source)
        return candidate

    def _report_other(self, source: Source) -> None:
        self.lines.append(f"other {source[0]} {source[1]} {source[2]}")

    def _lock_on(self, source: Source, packets: list[Packet]) -> list[bytes]:
        self.source, self._started_at = source, packets[0][1]
        self.lines.append(f"stream {source[0]} {source[1]} {source[2]}")
        for other, candidate in self._candidates.items():
            if other != source and candidate.packets:
                self._report_other(other)
        return [packet for data, at in packets for packet in self._accept(data, at)]

    def _accept(self, data: bytes, at: int) -> list[bytes]:
        if self._start is None:
            self._report_frame(data, at)
            return [data]
        found = self._start.feed(data, at)
        for packet, arrived_at in found:
            if self._start.is_picture(packet):
                self._report_frame(packet, arrived_at)
        return [packet for packet, _ in found]

    def _report_frame(self, data: bytes, at: int) -> None:
        stamp = int.from_bytes(data[4:8])
        if stamp != self._frame:
            self._frame = stamp
            if at - self._started_at < _REPORT_ALL_FOR or at - self._frame_reported_at >= _REPORT_INTERVAL:
                self._frame_reported_at = at
                self.lines.append(f"frame {at} {stamp}")

    def _count_left_out(self, count: int, at: int) -> None:
        self.left_out += count
        if count and at - self._count_reported_at >= _REPORT_INTERVAL:
            self.report_count(at)

    def report_count(self, at: int) -> None:
        """Report how many packets were left out, if that has changed."""
        if self._reported_count != self.left_out:
            self._count_reported_at, self._reported_count = at, self.left_out
            self.lines.append(f"left-out {self.left_out}")

    def _drop_oldest(self, at: int) -> None:
        """Drop the waiting packets of the stream that arrived first: it is the least likely one."""
        first = min(
            (candidate for candidate in self._candidates.values() if candidate.packets),
            key=lambda candidate: candidate.first_at,
        )
        self._size -= sum(len(data) for data, _ in first.packets)
        self._count_left_out(len(first.packets), at)
        first.packets = []


def is_rtcp(data: bytes) -> bool:
    """Return whether a packet of a port for both is RTCP: RFC 5761, 4."""
    return len(data) >= 8 and data[0] >> 6 == _VERSION and 192 <= data[1] <= 223


def is_rtp(data: bytes) -> bool:
    """Return whether a packet can be RTP: RFC 3550, A.1."""
    if len(data) < _HEADER or data[0] >> 6 != _VERSION:
        return False
    begin = _HEADER + 4 * (data[0] & 0x0F)
    if data[0] & 0x10:
        if len(data) < begin + 4:
            return False
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4])
    padding = data[-1] if data[0] & 0x20 else 0
    return len(data) >= begin + padding


def _before(stamp: int, other: int) -> bool:
    # RFC 3550, 5.1: times are 32 bits that wrap; the shorter way round counts.
    return (stamp - other) % _TIME_WRAP >= _TIME_WRAP // 2


def _payload(data: bytes) -> bytes:
    """Return a packet's payload: RFC 3550, 5.1 and 5.3.1; its lengths have been checked."""
    begin = 12 + 4 * (data[0] & 0x0F)
    if data[0] & 0x10:
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4])
    end = len(data) - (data[-1] if data[0] & 0x20 else 0)
    return data[begin:end]


def _h264_units(payload: bytes) -> Iterator[tuple[str, bool]]:
    """Yield the kind of each unit in a packet, and whether it is where a picture begins.

    RFC 6184, 5.4 to 5.8.
    """
    kind = payload[0] & 0x1F if payload else 0
    if kind in (24, 25):  # aggregation, with a decoding order number or without
        for unit in _aggregated(payload, 1 if kind == 24 else 3):
            yield _h264_unit(unit[0] & 0x1F, unit[1:])
    elif kind in (28, 29) and len(payload) > 2:
        begins = bool(payload[1] & 0x80)
        name, first = _h264_unit(payload[1] & 0x1F, payload[2 if kind == 28 else 4 :])
        yield name, first and begins
    elif payload:
        yield _h264_unit(kind, payload[1:])


def _h264_unit(kind: int, body: bytes) -> tuple[str, bool]:
    # H.264, 7.3.3: a slice header begins with first_mb_in_slice, of which 0 is one bit, a 1.
    begins = bool(body and body[0] & 0x80)
    if kind == 5:
        return "key", begins
    if kind in (1, 2):
        return "picture", begins
    return {7: "sps", 8: "pps", 3: "picture", 4: "picture"}.get(kind, ""), False


def _h265_units(payload: bytes) -> Iterator[tuple[str, bool]]:
    """Do as `_h264_units`: RFC 7798, 4.4, without the decoding order numbers that have to be agreed on."""
    kind = payload[0] >> 1 & 0x3F if len(payload) > 2 else 63
    if kind == 48:
        for unit in _aggregated(payload, 2):
            if len(unit) > 2:
                yield _h265_unit(unit[0] >> 1 & 0x3F, unit[2:])
    elif kind == 49 and len(payload) > 3:
        name, first = _h265_unit(payload[2] & 0x3F, payload[3:])
        yield name, first and bool(payload[2] & 0x80)
    else:
        yield _h265_unit(kind, payload[2:])


def _h265_unit(kind: int, body: bytes) -> tuple[str, bool]:
    # H.265, 7.3.6.1: first_slice_segment_in_pic_flag comes first. Table 7-1: 16 to 23 are points of access.
    if kind < 32:
        return "key" if 16 <= kind <= 23 else "picture", bool(body and body[0] & 0x80)
    return {32: "vps", 33: "sps", 34: "pps"}.get(kind, ""), False


def _aggregated(payload: bytes, place: int) -> Iterator[bytes]:
    while place + 2 < len(payload):
        size = int.from_bytes(payload[place : place + 2])
        unit = payload[place + 2 : place + 2 + size]
        if unit:
            yield unit
        place += 2 + size


class _Program:
    """The filter with its descriptors: UDP sockets for RTP and RTCP, the target, and the control or None.

    Packets wait until standard input ends: GStreamer would take them before its clock runs, and then give
    no frame.
    """

    def __init__(
        self,
        packets: StreamFilter,
        port: socket.socket,
        reports: socket.socket | None,
        target: socket.socket,
        control: int | None,
    ) -> None:
        self._filter = packets
        self._port = port
        self._reports = reports
        self._target = target
        self._control = control
        self._line = b""
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._output = bytearray()
        self._is_playing = False
        self._poll = select.poll()

    def run(self) -> None:
        """Copy packets until the reader has closed its end."""
        inputs = [port for port in (self._port, self._reports) if port is not None]
        for port in (*inputs, self._target):
            port.setblocking(False)
        for descriptor in (self._target.fileno(), 1):
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, 0)
        for port in inputs:
            self._poll.register(port, select.POLLIN)
        if self._control is not None:
            self._poll.register(self._control, select.POLLIN)
        self._poll.register(0, select.POLLIN)
        while self._poll_once(dict(self._poll.poll(1000))):
            pass

    def _poll_once(self, ready: "dict[int, int]") -> bool:
        """Serve the ready descriptors; return False when the reader has closed its end."""
        if ready.get(self._target.fileno(), 0) & (select.POLLHUP | select.POLLERR):
            return False
        if 0 in ready:
            self._poll.unregister(0)
            self._is_playing = True
        if self._control in ready and self._control is not None:
            self._read_control(self._control)
        if self._reports is not None and self._reports.fileno() in ready:
            for data, address in _received(self._reports):
                self._filter.feed_report(data, address, now())
        if self._port.fileno() in ready:
            for data, address in _received(self._port):
                self._enqueue(self._filter.feed(data, address, now()))
        if not ready:
            self._filter.report_count(now())
        try:
            self._send()
        except OSError:
            return False
        if ready.get(1, 0) & (select.POLLHUP | select.POLLERR):
            self._poll.unregister(1)  # Python has died; the recording goes on
            self._output.clear()
        self._print_lines()
        return True

    def _read_control(self, control: int) -> None:
        data = os.read(control, 4096)
        self._line += data
        if b"\n" in self._line or not data:
            self._poll.unregister(control)
        if b"\n" in self._line:
            not_before, ssrc = self._line.split(b"\n")[0].split()
            chosen = None if ssrc == b"-" else int(ssrc)
            self._enqueue(self._filter.choose(int(not_before), chosen, now()))

    def _enqueue(self, packets: "list[bytes]") -> None:
        for data in packets:
            if self._size < _MAX_WAITING:
                self._waiting.append(data)
                self._size += len(data)

    def _send(self) -> None:
        while self._waiting and self._is_playing:
            try:
                self._target.send(self._waiting[0])
            except BlockingIOError:
                break
            self._size -= len(self._waiting.popleft())
        self._poll.modify(self._target.fileno(), select.POLLOUT if self._waiting and self._is_playing else 0)

    def _print_lines(self) -> None:
        for line in self._filter.lines:
            if len(self._output) < _MAX_OUTPUT:
                self._output += line.encode() + b"\n"
        self._filter.lines.clear()
        if self._output:
            # Python may be busy, or have died; the recording goes on.
            with contextlib.suppress(OSError):
                del self._output[: os.write(1, self._output)]


def _received(port: socket.socket) -> "Iterator[tuple[bytes, tuple[str, int]]]":
    """Yield waiting datagrams with their senders; an IPv4 sender as such also at a socket of IPv6."""
    for _ in range(_BATCH):
        try:
            data, address = port.recvfrom(_MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            continue  # an ICMP error for a packet sent from here
        yield data, (address[0].partition("%")[0].removeprefix("::ffff:"), address[1])


def now() -> int:
    """Return nanoseconds of the clock that `asynccam.wall_clock` counts elapsed time by."""
    return time.clock_gettime_ns(_CLOCK)


def main(arguments: "list[str]") -> None:
    """Run between descriptors.

    Args:
        arguments: The port's socket, the socket for RTCP or -1, the target, the control or -1, payload type,
            sender's address or ``-``, and the codec or ``-``.
    """
    port, reports, target, control, payload = map(int, arguments[:5])
    sender = "" if arguments[5] == "-" else arguments[5]
    codec = "" if arguments[6] == "-" else arguments[6]
    packets = StreamFilter(payload, sender, waits=control >= 0, codec=codec)
    beside = socket.socket(fileno=reports) if reports >= 0 else None
    into = socket.socket(fileno=target)
    with contextlib.suppress(KeyboardInterrupt):
        _Program(packets, socket.socket(fileno=port), beside, into, control if control >= 0 else None).run()


if __name__ == "__main__":
    main(sys.argv[1:])
