"""When an RTP stream's first frame was made: truth, delays and clocks are set, and intervals hold them."""

import random

import pytest

from asynccam.recording.rtp.rtcp import SenderReport
from asynccam.recording.rtp.times import CLOCK_RATE, RtpTimes

MADE = 1000.0
FIRST = (1 << 32) - 45_000
"""RTP time that wraps half a second later."""
UNIX = 1_700_000_000.0
"""Unix time at 0 elapsed seconds."""


def stamp(media: float) -> int:
    return round(FIRST + media * CLOCK_RATE) % (1 << 32)


def sent(
    times: RtpTimes, seed: int, *, least: float, drift: float = 0.0, late_first: float = 0.0, off: float = 0.0
) -> None:
    """Five seconds of 20 frames a second, and a report every half second that takes a millisecond or more."""
    chance = random.Random(seed)
    for number in range(100):
        media = number / 20
        delay = least + chance.expovariate(50) + (late_first if not number else 0)
        times.note_frame(MADE + media * (1 + drift) + delay, stamp(media))
        if number % 10 == 5:
            now = media + 0.02
            clock = UNIX + MADE + now * (1 + drift) + off
            came = MADE + now * (1 + drift) + 0.001 + chance.expovariate(200)
            times.note_report(came, SenderReport(1, clock, stamp(now)))


@pytest.mark.parametrize("drift", [0.0, 1e-4, -1e-4])
@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("same_clock", [False, True])
def test_truth_is_inside_and_reports_narrow(*, drift: float, reliable: bool, same_clock: bool) -> None:
    for seed in range(100):
        times = RtpTimes()
        sent(times, seed, least=0.04, drift=drift, late_first=0.3)
        first = times.first_frame(0.15, reliable=reliable, clock=UNIX if same_clock else None)
        assert first is not None
        assert first.contradictions == ()
        assert first.earliest <= MADE <= first.latest
        assert first.latest - first.earliest < (0.06 if reliable else 0.19)


def test_first_frame_that_waited_makes_nothing_late() -> None:
    times = RtpTimes()
    sent(times, 1, least=0.04, late_first=2.0)
    first = times.first_frame(0.15)
    assert first is not None
    assert first.latest < MADE + 0.1


def test_sender_that_falls_behind_makes_the_bound_wider() -> None:
    times = RtpTimes()
    for number in range(40):  # each frame takes a fifth longer than there is time for, and the first waited
        times.note_frame(MADE + 0.3 + number / 20 * 1.2, stamp(number / 20))
    first = times.first_frame(0.15)
    assert first is not None
    assert first.earliest <= MADE <= first.latest


def test_one_break_in_a_quick_stream_keeps_the_bound() -> None:
    times = RtpTimes()
    for number in range(100):
        late = 0.5 if 40 <= number < 60 else 0.0
        times.note_frame(MADE + 0.04 + number / 20 + late, stamp(number / 20))
    first = times.first_frame(0.15)
    assert first is not None
    assert first.earliest <= MADE <= first.latest
    assert first.latest - first.earliest < 0.18


def test_wrong_sender_clock_shifts_nothing_and_is_named() -> None:
    for off in (-3600.0, -1.0, 1.0, 3600.0):
        times = RtpTimes()
        sent(times, 1, least=0.04, off=off)
        alone = times.first_frame(0.15, reliable=True)
        assert alone is not None
        assert alone.contradictions == ()
        assert alone.earliest <= MADE <= alone.latest
        held = times.first_frame(0.15, reliable=True, clock=UNIX)
        assert held is not None
        assert "times in sender reports" in held.contradictions[0]
        assert held.earliest <= MADE <= held.latest
        assert held.earliest <= MADE + off <= held.latest
        assert times.by_sender is not None
        assert times.by_sender[0] - UNIX == pytest.approx(MADE + off, abs=0.02)


def test_unreliable_sender_reports_are_not_used() -> None:
    times = RtpTimes()
    for number in range(40):
        times.note_frame(MADE + number / 20 + 0.1, stamp(number / 20))
        times.note_report(MADE + number / 20 + 0.101, SenderReport(1, UNIX, stamp(number / 20)))
    first = times.first_frame(0.15)
    assert first is not None
    assert first.earliest <= MADE <= first.latest


def test_without_frames_nothing_is_known() -> None:
    times = RtpTimes()
    times.note_report(1.0, SenderReport(1, UNIX, 5))
    assert times.first_frame(0.15) is None
    assert times.reports == 0
