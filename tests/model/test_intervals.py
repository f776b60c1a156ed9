"""Evidence about time: intersections, contradictions, the step of stamps, and lines through measurements."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import UsageError
from asynccam.model.info import DRIFT_LIMIT, ClockOffset
from asynccam.model.intervals import (
    FINEST_RESOLUTION,
    WANDER,
    Exchange,
    Interval,
    combine,
    fit_line,
    intersect_exchanges,
    seen_resolution,
)

NOW = 1_729_000_000.0


# -- intervals and named evidence ------------------------------------------------------------------


def test_interval_by_hand() -> None:
    one = Interval(1.0, 3.0)
    assert (one.middle, one.bound) == (2.0, 1.0)
    assert one == Interval.around(2.0, 1.0)
    assert one.shifted(1.0) == Interval(2.0, 4.0)
    assert one.contains(1.0)
    assert one.contains(3.0)
    assert not one.contains(3.1)
    assert one.excludes(Interval(3.1, 4.0))
    assert not one.excludes(Interval(3.0, 4.0))
    assert Interval(5.0, math.inf).bound == math.inf


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (math.nan, 1.0), (0.0, math.nan)])
def test_ends_in_the_wrong_order_are_refused(low: float, high: float) -> None:
    with pytest.raises(UsageError):
        Interval(low, high)


def test_evidence_that_agrees_is_intersected_and_its_limits_are_named() -> None:
    found = combine(
        [
            ("schedule", Interval(9.9, 10.1)),
            ("answer", Interval(10.0, math.inf)),
            ("file", Interval(9.0, 10.05)),
        ]
    )
    assert found.interval == Interval(10.0, 10.05)
    assert not found.contradictions


def test_evidence_that_excludes_other_evidence_is_named_and_covered() -> None:
    """The answer says at once, the file says 1.4 s later; that it was not before T0 agrees with both."""
    found = combine(
        [("answer", Interval(10.0, 10.1)), ("file", Interval(11.3, 11.5)), ("T0", Interval(10.05, math.inf))]
    )
    assert found.interval == Interval(10.05, 11.5)
    assert found.contradictions == (("answer", "file"),)


def test_combine_without_evidence_fails() -> None:
    with pytest.raises(UsageError):
        combine([])


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0, 5)), min_size=1, max_size=8), st.data())
def test_combination_covers_agreeing_and_disputed_evidence(
    parts: list[tuple[float, float]], data: st.DataObject
) -> None:
    every = [(str(index), Interval(low, low + width)) for index, (low, width) in enumerate(parts)]
    found = combine(every)
    named = {name for pair in found.contradictions for name in pair}
    assert bool(found.contradictions) != (
        max(one.low for _, one in every) <= min(one.high for _, one in every)
    )
    candidates = [one for name, one in every if name in named] or [every[0][1]]
    truth = data.draw(st.sampled_from(candidates).flatmap(lambda one: st.floats(one.low, one.high)))
    if all(one.contains(truth) for name, one in every if name not in named):
        assert found.interval.contains(truth)


# -- the step of stamps --------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1.0, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 32])
def test_resolution_is_inferred_and_coarser_for_few_stamps(step: float, count: int) -> None:
    chance = random.Random(7)
    for _ in range(50):
        stamps = [round(math.floor((NOW + chance.uniform(0, 9)) / step) * step, 6) for _ in range(count)]
        seen = seen_resolution(stamps)
        assert seen >= step
        if count >= 8 and len(set(stamps)) >= 8:
            assert seen <= 5 * step


def test_single_stamp_of_a_whole_second_has_a_second_of_resolution() -> None:
    assert seen_resolution([NOW]) == 1.0
    assert seen_resolution([NOW, NOW, NOW]) == 1.0
    assert seen_resolution([NOW + 0.25]) == 0.01


def test_fine_stamps_are_taken_for_what_a_double_can_hold() -> None:
    chance = random.Random(3)
    assert seen_resolution([NOW + chance.random() for _ in range(8)]) == FINEST_RESOLUTION
    assert seen_resolution([]) == FINEST_RESOLUTION


@pytest.mark.parametrize("hertz", [64, 100, 250])
def test_ticks_of_any_phase_are_seen(hertz: int) -> None:
    """A coarse kernel clock ticks at a phase of its own, so no stamp is a whole number of ticks."""
    stamps = [NOW + 0.123_456_7 + ticks / hertz for ticks in (0, 3, 7, 8, 21, 34)]
    assert seen_resolution(stamps) >= 1 / hertz


# -- one measurement --------------------------------------------------------------------------------


def test_single_round_trip_by_hand() -> None:
    found = intersect_exchanges([Exchange(0.0, 0.4, 7.2, 7.2)], resolution=0.01, drift_limit=0.0)
    assert found.interval.low == pytest.approx(7.2 - 0.005 - 0.4)
    assert found.interval.high == pytest.approx(7.2 + 0.01)
    assert found.at == 0.2


def test_old_round_trip_is_widened_by_drift() -> None:
    trips = [Exchange(0.0, 0.2, 5.0, 5.0), Exchange(100.0, 100.2, 105.199, 105.199)]
    found = intersect_exchanges(trips, drift_limit=1e-4)
    # The first alone allows 4.8 to 5.0 at its time; 0.01 s more either way 100 s later.
    assert found.consistent
    assert found.interval.low == pytest.approx(4.999, abs=1e-4)
    assert found.interval.high == pytest.approx(5.01, abs=1e-4)
    found = intersect_exchanges(trips, drift_limit=0.0)
    assert found.interval.high == pytest.approx(5.0)


def test_more_work_than_the_trip_took_covers_either_stamp() -> None:
    found = intersect_exchanges([Exchange(0.0, 0.010, 5.0, 5.012)], drift_limit=0.0)
    assert not found.consistent
    assert found.interval == Interval(4.990, 5.012)


def test_clock_step_between_round_trips_covers_both_sides() -> None:
    trips = [Exchange(at, at + 0.01, 5.0 + at, 5.0 + at) for at in (0.0, 0.1)]
    trips += [Exchange(at, at + 0.01, 7.0 + at, 7.0 + at) for at in (0.2, 0.3)]
    found = intersect_exchanges(trips)
    assert not found.consistent
    assert found.interval.contains(5.0)
    assert found.interval.contains(7.0)
    assert found.interval.bound < 1.01


def test_intersect_without_round_trip_fails() -> None:
    with pytest.raises(UsageError):
        intersect_exchanges([])


@pytest.mark.parametrize("rounding", [math.floor, round])
@pytest.mark.parametrize("step", [1e-6, 1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("drift", [0.0, 100e-6, -500e-6])
def test_offset_interval_contains_truth(rounding: object, step: float, drift: float) -> None:
    assert callable(rounding)
    chance = random.Random(11)
    for _ in range(200):
        offset = chance.uniform(-3600, 3600)
        ways = chance.choice([(0.0, 0.05), (0.05, 0.0), (0.02, 0.02), (0.0, 0.0)])
        trips, now = [], 0.0
        for _ in range(chance.choice([1, 2, 8, 32])):
            sent = now
            read = sent + chance.uniform(0.0, ways[0])
            now = read + chance.uniform(0.0, ways[1])
            stamp = rounding((offset + read * (1 + drift)) / step) * step
            trips.append(Exchange(sent, now, stamp, stamp))
            now += chance.uniform(0.0, 0.1)
        found = intersect_exchanges(trips, resolution=step, slack=1e-9)
        assert found.consistent
        assert found.interval.contains(offset + drift * found.at)


def test_thousand_round_trips_match_pairwise_comparison() -> None:
    """The same result as comparing each with each, from sorted sweeps."""
    chance = random.Random(5)
    trips = []
    for number in range(60):
        sent = number * 0.1
        read = sent + chance.uniform(0, 0.05)
        trips.append(Exchange(sent, read + chance.uniform(0, 0.05), 9.0 + read, 9.0 + read))
    found = intersect_exchanges(trips)
    low = max(one.last - one.received - DRIFT_LIMIT * abs(found.at - one.received) for one in trips)
    high = min(one.first - one.sent + DRIFT_LIMIT * abs(found.at - one.sent) for one in trips)
    assert found.interval.low == pytest.approx(low, abs=1e-9)
    assert found.interval.high == pytest.approx(high, abs=1e-9)


# -- lines --------------------------------------------------------------------------------------------


def measured(at: float, offset: float, bound: float, *, consistent: bool = True) -> ClockOffset:
    return ClockOffset(offset, bound, 2 * bound, 8, NOW + at, consistent=consistent)


def test_single_measurement_widens_by_drift_limit() -> None:
    line = fit_line([measured(0.0, 5.0, 0.001)], wander=0.0)
    assert line.offset(NOW + 100) == pytest.approx(5.0)
    assert line.bound(NOW + 100) == pytest.approx(0.001 + 100 * DRIFT_LIMIT, abs=1e-6)
    assert line.bound(NOW - 100) == pytest.approx(0.001 + 100 * DRIFT_LIMIT, abs=1e-6)
    assert (line.rate, line.rate_bound) == (0.0, DRIFT_LIMIT)
    assert line.consistent
    assert line.straight


def test_line_of_two_measurements_by_hand() -> None:
    """100 ppm over 600 s. In the middle the bound is that of one measurement, 600 s later it has tripled."""
    line = fit_line([measured(0.0, 5.0, 0.001), measured(600.0, 5.06, 0.001)], wander=0.0)
    assert line.rate == pytest.approx(100e-6, abs=1e-9)
    assert line.rate_bound == pytest.approx(0.002 / 600, rel=1e-3)
    assert line.offset(NOW + 300) == pytest.approx(5.03, abs=1e-6)
    assert line.bound(NOW + 300) == pytest.approx(0.001, rel=1e-2)
    assert line.offset(NOW + 1200) == pytest.approx(5.12, abs=1e-6)
    assert line.bound(NOW + 1200) == pytest.approx(0.003, rel=1e-2)


def test_wander_widens_far_from_measurements() -> None:
    line = fit_line([measured(0.0, 5.0, 0.001), measured(600.0, 5.06, 0.001)])
    assert line.bound(NOW + 300) == pytest.approx(0.001 + 300 * WANDER, rel=1e-2)
    assert line.bound(NOW) == pytest.approx(0.001, rel=1e-2)


def test_changing_rate_is_bounded_by_drift_limit() -> None:
    """100 ppm one way, then the other: no line, but nothing that two clocks cannot do."""
    line = fit_line([measured(0.0, 0.0, 1e-4), measured(100.0, 0.01, 1e-4), measured(200.0, 0.0, 1e-4)])
    assert line.consistent
    assert not line.straight
    assert line.rate_bound == DRIFT_LIMIT
    assert line.interval(NOW + 100).contains(0.01)
    assert line.bound(NOW + 100) == pytest.approx(1e-4, rel=1e-2)
    assert line.bound(NOW + 50) > 0.01


def test_clock_that_was_set_is_contradiction_covering_all() -> None:
    line = fit_line([measured(0.0, 0.0, 0.001), measured(10.0, 3.0, 0.001)])
    assert not line.consistent
    for when in (0.0, 5.0, 10.0):
        assert line.interval(NOW + when).contains(0.0)
        assert line.interval(NOW + when).contains(3.0)


def test_inconsistent_measurement_makes_line_inconsistent() -> None:
    assert not fit_line([measured(0.0, 0.0, 2.0, consistent=False), measured(10.0, 0.0, 0.001)]).consistent


def test_fit_line_rejects_invalid_arguments() -> None:
    with pytest.raises(UsageError):
        fit_line([])
    for limits in ({"drift_limit": -1e-6}, {"wander": math.nan}, {"drift_limit": 1.0}):
        with pytest.raises(UsageError):
            fit_line([measured(0.0, 0.0, 0.001)], **limits)


@pytest.mark.parametrize("wander", [0.0, WANDER])
@given(data=st.data())
def test_line_interval_ends_are_those_of_all_fitting_lines(wander: float, data: st.DataObject) -> None:
    """Against the vertices of the polygon of all lines, found by trying every pair of limits."""
    count = data.draw(st.integers(1, 5))
    times = sorted(data.draw(st.lists(st.integers(0, 1000), min_size=count, max_size=count, unique=True)))
    rate = data.draw(st.floats(-400e-6, 400e-6))
    parts = [
        (time, rate * time + data.draw(st.floats(-1, 1)) * bound, bound)
        for time in times
        for bound in [data.draw(st.floats(1e-4, 1e-2))]
    ]
    when = data.draw(st.integers(-500, 1500))
    line = fit_line([measured(*one) for one in parts], wander=wander)
    assert line.straight
    expected = lines_by_vertices(parts, when, wander)
    assert line.interval(NOW + when).low == pytest.approx(expected.low, abs=3e-6)
    assert line.interval(NOW + when).high == pytest.approx(expected.high, abs=3e-6)
    assert line.interval(NOW + when).contains(rate * when)


def lines_by_vertices(parts: Sequence[tuple[float, float, float]], when: float, wander: float) -> Interval:
    """The least and the greatest value at ``when`` of all lines through all intervals, by brute force."""
    limits = [(1.0, 0.0, DRIFT_LIMIT), (-1.0, 0.0, DRIFT_LIMIT)]  # a * rate + b * value <= c
    for time, offset, bound in parts:
        looser = bound + wander * abs(when - time)
        limits.append((time - when, 1.0, offset + looser))
        limits.append((when - time, -1.0, looser - offset))
        for other, value, its_bound in parts:  # nothing may change by more than the wander between the two
            if other > time:
                rise = its_bound + bound + wander * (other - time)
                limits.append((other - time, 0.0, value - offset + rise))
                limits.append((time - other, 0.0, offset - value + rise))
    values = []
    for index, (a, b, c) in enumerate(limits):
        for d, e, f in limits[:index]:
            determinant = a * e - b * d
            if abs(determinant) < 1e-12:
                continue
            rate, value = (c * e - b * f) / determinant, (a * f - c * d) / determinant
            if all(x * rate + y * value <= z + 1e-9 for x, y, z in limits):
                values.append(value)
    return Interval(min(values), max(values))


def test_line_contains_truth_at_every_time() -> None:
    chance = random.Random(23)
    for _ in range(100):
        rate, start = chance.uniform(-450e-6, 450e-6), chance.uniform(-100, 100)
        parts = []
        for _ in range(chance.randint(1, 12)):
            at, bound = chance.uniform(0, 3600), 10 ** chance.uniform(-4, -1.5)
            parts.append(measured(at, start + rate * at + bound * chance.uniform(-1, 1), bound))
        line = fit_line(parts)
        assert line.consistent
        assert line.straight
        for _ in range(10):
            when = chance.uniform(-3600, 7200)
            assert line.interval(NOW + when).contains(start + rate * when)


def test_measurements_of_a_whole_day_are_fitted_in_bounded_work() -> None:
    chance = random.Random(31)
    parts = [measured(at, 50e-6 * at + chance.uniform(-0.001, 0.001), 0.001) for at in range(0, 86_400, 10)]
    line = fit_line(parts)
    assert len(line.measurements) == 8640
    assert line.consistent
    assert line.straight
    assert line.interval(NOW + 40_000).contains(2.0)
    assert line.rate == pytest.approx(50e-6, abs=1e-6)
    # A contradiction is not thinned out.
    line = fit_line([*parts, measured(43_205.0, 9.0, 0.001)])
    assert not line.consistent
    assert line.interval(NOW + 43_205).contains(43_205 * 50e-6)
    assert not line.interval(NOW + 43_205).excludes(Interval(8.999, 9.001))


def test_clock_line_repr() -> None:
    line = fit_line([measured(0.0, 0.0, 0.001)])
    assert (
        repr(line) == "ClockLine(1 measurements, rate=0, rate_bound=0.0005, consistent=True, straight=True)"
    )
    assert line.measurements[0].bound_at(NOW + 10) == pytest.approx(0.001 + 10 * DRIFT_LIMIT)
