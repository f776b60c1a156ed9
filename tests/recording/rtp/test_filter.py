"""The filter that keeps to one RTP stream: packets by hand, no sockets."""

import socket
import struct
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.recording.rtp import filter as rtp_filter
from asynccam.recording.rtp.filter import DecodableStart, StreamFilter, is_rtcp, is_rtp
from asynccam.recording.rtp.stream import RtpSender, RtpStream

HERE = ("10.0.0.1", 4000)
OTHER = ("10.0.0.2", 4000)
SECOND = 1_000_000_000


def packet(ssrc: int, stamp: int = 0, payload: int = 96, body: bytes = b"data") -> bytes:
    """RTP by RFC 3550, 5.1."""
    return struct.pack(">BBHII", 0x80, payload, 1, stamp, ssrc) + body


def report(ssrc: int) -> bytes:
    return struct.pack(">BBH", 0x80, 200, 6) + struct.pack(">IIIIII", ssrc, 1, 2, 3, 4, 5)


def told(one: StreamFilter) -> RtpStream:
    stream = RtpStream()
    stream.feed("".join(f"{line}\n" for line in one.lines).encode())
    return stream


def test_first_stream_is_kept_to() -> None:
    one = StreamFilter(96)
    assert one.feed(packet(1), HERE, 0) == [packet(1)]
    assert one.feed(packet(2), HERE, 1) == []
    assert one.feed(packet(1), OTHER, 2) == []
    assert one.feed(packet(1), ("10.0.0.1", 4001), 3) == []
    assert one.feed(packet(1, 7), HERE, 4) == [packet(1, 7)]
    assert one.feed(packet(1, 7, payload=97), HERE, 5) == []
    assert told(one).sender == RtpSender("10.0.0.1", 4000, 1)
    assert [other.ssrc for other in told(one).others] == [2, 1, 1]
    one.report_count(6)
    assert told(one).left_out == 4


def test_only_the_sender_that_is_known() -> None:
    one = StreamFilter(96, "10.0.0.2")
    assert one.feed(packet(1), HERE, 0) == []
    assert one.feed(packet(2, payload=0), OTHER, 0) == []
    assert one.feed(packet(2), OTHER, 1) == [packet(2)]
    assert told(one).others[0] == RtpSender("10.0.0.1", 4000, 1)


def test_flood_of_other_streams_keeps_the_right_one() -> None:
    one = StreamFilter(96, "10.0.0.2")
    for number in range(1000):
        assert one.feed(packet(number), HERE, number) == []
    assert one.feed(packet(5), OTHER, 1000) == [packet(5)]
    assert len(told(one).others) < 100


def test_packets_wait_for_the_choice() -> None:
    one = StreamFilter(96, waits=True)
    assert one.feed(packet(1), HERE, 10) == []
    assert one.feed(packet(2), HERE, 30) == []
    assert one.feed(packet(1), HERE, 35) == []
    assert one.feed(packet(2, 9), HERE, 40) == []
    assert one.choose(20, None, 50) == [packet(2), packet(2, 9)]
    assert one.feed(packet(1), HERE, 60) == []
    assert one.left_out == 3


def test_stream_seen_before_the_request_is_never_taken() -> None:
    one = StreamFilter(96, waits=True)
    one.feed(packet(1), HERE, 10)
    assert one.choose(20, None, 30) == []
    assert one.feed(packet(1), HERE, 40) == []
    assert one.feed(packet(2), HERE, 50) == [packet(2)]


def test_known_ssrc_is_all_that_counts() -> None:
    one = StreamFilter(96, "10.0.0.1", waits=True)
    one.feed(packet(1), HERE, 30)
    one.feed(packet(7), OTHER, 5)
    assert one.choose(20, 7, 40) == [packet(7)]


def test_waiting_packets_are_bounded() -> None:
    one = StreamFilter(96, waits=True)
    large = bytes(1 << 20)
    for number in range(100):
        one.feed(packet(1, number, body=large), HERE, number)
        one.feed(packet(2, number, body=large), OTHER, 200 + number)
    waiting = one.choose(150, None, 400)
    assert 0 < sum(map(len, waiting)) <= rtp_filter._MAX_WAITING


def test_reports_of_the_stream_only() -> None:
    one = StreamFilter(96)
    one.feed(report(1), HERE, 0)
    one.feed(packet(1), HERE, 1)
    one.feed(report(2), HERE, SECOND)
    one.feed(report(1), OTHER, 2 * SECOND)
    assert one.feed(report(1), HERE, 3 * SECOND) == []
    one.feed(report(1), HERE, 3 * SECOND + 1)  # no more than some a second
    assert [line for line in one.lines if line.startswith("report")] == [
        f"report {3 * SECOND} {report(1).hex()}"
    ]


def test_first_frames_are_all_reported_later_ones_sometimes() -> None:
    one = StreamFilter(96)
    for number in range(60 * 20):
        one.feed(packet(1, number), HERE, number * SECOND // 20)
        one.feed(packet(1, number), HERE, number * SECOND // 20 + 1)
    frames = [line for line in one.lines if line.startswith("frame")]
    assert 400 <= len(frames) < 450
    assert frames[1] == f"frame {SECOND // 20} 1"


def test_rtp_packets_are_recognised() -> None:
    whole = packet(1)
    assert is_rtp(whole)
    assert not is_rtp(whole[:11])
    assert not is_rtp(b"\x40" + whole[1:])
    assert not is_rtp(b"\x8f" + whole[1:])  # 15 contributing sources, RFC 3550, 5.1
    assert not is_rtp(b"\xa0" + whole[1:-1] + b"\xff")  # more padding than packet
    extended = b"\x90" + whole[1:12] + b"\0\0\0\1" + bytes(4)
    assert is_rtp(extended)
    assert not is_rtp(extended[:-1])
    assert is_rtcp(report(1))
    assert not is_rtcp(whole)


@given(st.lists(st.binary(max_size=40), max_size=20), st.booleans())
def test_any_bytes(data: list[bytes], waits: bool) -> None:
    one = StreamFilter(96, waits=waits)
    for number, each in enumerate(data):
        one.feed(each, HERE, number)
    one.choose(0, None, len(data))
    told(one)


@given(st.integers(0, 200))
def test_lines_are_read_wherever_they_are_cut(place: int) -> None:
    data = b"stream 10.0.0.1 4000 1\nother ::1 5 6\nframe 1000 2\nleft-out 7\nnonsense\n"
    stream = RtpStream()
    stream.feed(data[:place])
    stream.feed(data[place:])
    assert stream.sender == RtpSender("10.0.0.1", 4000, 1)
    assert stream.others == (RtpSender("::1", 5, 6),)
    assert stream.left_out == 7
    assert stream.times.arrived == 1e-6


def test_program_passes_packets_on_once_it_may_play() -> None:
    into, out = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with into, out, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(("127.0.0.1", 0))
        given = [str(port.fileno()), "-1", str(into.fileno()), "-1", "96", "127.0.0.1", "-"]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", rtp_filter.__file__, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[port.fileno(), into.fileno()],
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            into.close()
            out.settimeout(30)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(packet(7), port.getsockname())
                assert process.stdout.readline().startswith(b"stream 127.0.0.1 ")
                # It has been taken, and would have been handed on by now.
                out.setblocking(False)
                with pytest.raises(BlockingIOError):
                    out.recv(100)
                out.settimeout(30)
                process.stdin.close()
                assert out.recv(100) == packet(7)
            out.close()
            assert process.wait(30) == 0


def test_packets_of_one_time_are_kept_within_a_bound() -> None:
    begin = DecodableStart("h264")
    tracemalloc.start()
    try:
        for number in range(30_000):
            header = struct.pack(">BBHII", 0x80, 96, number % 65536, 1234, 1)
            assert begin.feed(header + bytes([0x41]) + bytes(1000), number) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
