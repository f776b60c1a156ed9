"""Sender reports of RTCP, by bytes written by hand from RFC 3550, 6.4.1."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from asynccam.recording.rtp.rtcp import SenderReport, sender_reports

# Version 2, no padding, no report block; type 200; 6 words follow.
REPORT = bytes.fromhex(
    "80c80006"  # header
    "0000004d"  # SSRC
    "ee10000080000000"  # 0xee100000 seconds and a half since 1900
    "01020304"  # RTP time
    "00000010"  # packets
    "00001000"  # bytes
)
# RFC 3550, 6.5: SDES with one chunk, a CNAME of three letters and the end.
NAME = bytes.fromhex("81ca00030000004d0103616263000000")
EXPECTED = SenderReport(0x4D, 0xEE100000 - 2_208_988_800 + 0.5, 0x01020304)


def with_block(report: bytes) -> bytes:
    """A report with one report block about another stream."""
    return b"\x81\xc8\x00\x0c" + report[4:] + bytes(24)


def test_report_by_itself_and_in_a_compound() -> None:
    assert sender_reports(REPORT) == (EXPECTED,)
    assert sender_reports(REPORT + NAME) == (EXPECTED,)
    assert sender_reports(with_block(REPORT) + NAME) == (EXPECTED,)
    assert sender_reports(NAME + REPORT) == (EXPECTED,)


def test_one_that_is_cut_anywhere_is_not_read() -> None:
    for whole in (REPORT, REPORT + NAME, with_block(REPORT) + NAME):
        ends = {len(REPORT), len(with_block(REPORT)), 0}
        for size in range(1, len(whole)):
            if size not in ends:
                assert sender_reports(whole[:size]) == ()
    assert sender_reports(b"") == ()


def test_lengths_that_lie() -> None:
    too_many_blocks = b"\x9f" + REPORT[1:]
    assert sender_reports(too_many_blocks) == ()
    assert sender_reports(b"\x80\xc8\xff\xff" + REPORT[4:]) == ()
    assert sender_reports(b"\x80\xc8\x00\x00" + REPORT[4:]) == ()


def test_other_packets_are_not_rtcp() -> None:
    assert sender_reports(b"\x00" + REPORT[1:]) == ()  # version 0
    assert sender_reports(b"\x80\x60" + REPORT[2:]) == ()  # RTP of payload type 96
    assert sender_reports(NAME) == ()


def test_sender_without_a_clock() -> None:
    assert sender_reports(REPORT[:8] + bytes(8) + REPORT[16:]) == ()


def test_era_that_begins_in_2036() -> None:
    early = struct.pack(">II", 1, 0)
    (report,) = sender_reports(REPORT[:8] + early + REPORT[16:])
    assert report.unix == (1 << 32) + 1 - 2_208_988_800


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for report in sender_reports(data):
        assert 0 <= report.rtp < 1 << 32


@given(st.binary(max_size=60), st.integers(0, 27))
def test_report_with_bytes_changed(data: bytes, place: int) -> None:
    changed = bytearray(REPORT + NAME)
    changed[place : place + len(data)] = data
    assert len(sender_reports(bytes(changed))) <= 10
