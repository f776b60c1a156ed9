"""Interval arithmetic on evidence about time: intersections, contradictions, offsets and their drift.

No I/O and no clock. It rests on two assumptions that no measurement can prove: `DRIFT_LIMIT` in
`asynccam.model.info` and `WANDER` below.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from asynccam.errors import UsageError
from asynccam.model.info import DRIFT_LIMIT, ClockOffset

WANDER: Final = 5e-6
"""Seconds per second by which the rate of a clock may differ from its mean rate: a quartz crystal that warms
up by 20 degrees while its camera records changes its rate by a few parts per million."""
FINEST_RESOLUTION: Final = 1e-6
"""Finest step assumed, in seconds. Unix seconds in a double have steps of 2**-22 s, about 0.24 us."""

_STAMP_ERROR: Final = 5e-7
"""Seconds that a stamp may be off its step because it went through a double on its way."""
_DECIMAL_STEPS: Final = (1.0, 0.1, 0.01, 0.001, 1e-4, 1e-5)
_TICKS: Final = (1, 2, 4, 5, 10, 20, 25, 50, 60, 64, 100, 200, 250, 500, 1000, 2000, 5000, 10_000)
"""Ticks per second of common coarse clocks, which may tick at any phase: Linux at 100, 250 or 1,000 Hz,
Windows at 64 Hz, displays at 60 Hz."""
_MIN_STAMPS: Final = 4
"""Distinct stamps needed to infer steps of any phase: fewer are often a step apart by chance."""
_MAX_MEASUREMENTS: Final = 200
"""Measurements that a line is fitted to; of more, the tightest of each stretch of time."""
_ROUNDING: Final = 1e-9
"""Seconds of rounding error that never count as a contradiction."""

_Point = tuple[float, float]
"""Time and value: a limit of an offset at that time."""
_Side = tuple[float, float]
"""Constant and slope: a straight line over the rate."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval that contains a true value; either end may be infinite.

    Raises `UsageError` if ``low`` is greater than ``high``, or one of them is not a number.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise UsageError(f"an interval must have low <= high, not {self.low} and {self.high}")

    @classmethod
    def around(cls, middle: float, bound: float) -> "Interval":
        """Return ``middle`` plus or minus ``bound``."""
        return cls(middle - bound, middle + bound)

    @property
    def middle(self) -> float:
        """Value half-way between the ends; NaN if both are infinite."""
        return self.low / 2 + self.high / 2

    @property
    def bound(self) -> float:
        """Half the width: the true value is ``middle`` plus or minus this."""
        return self.high / 2 - self.low / 2

    def contains(self, value: float) -> bool:
        """Return whether ``value`` is in the interval, ends included."""
        return self.low <= value <= self.high

    def shifted(self, by: float) -> "Interval":
        """Return the interval of the value plus ``by``."""
        return Interval(self.low + by, self.high + by)

    def excludes(self, other: "Interval") -> bool:
        """Return whether the two have no value in common."""
        return self.low > other.high or other.low > self.high


@dataclass(frozen=True, slots=True)
class Combined:
    """Combination of several pieces of evidence."""

    # Intersection of the evidence. With contradictions, it contains the true value if all undisputed pieces
    # are right, and at least one of the disputed ones.
    interval: Interval
    # Names of each two pieces of evidence that exclude one another.
    contradictions: tuple[tuple[str, str], ...]


def combine(evidence: Iterable[tuple[str, Interval]]) -> Combined:
    """Intersect named pieces of evidence about one value.

    Pieces that exclude one another are named, and the result covers all of them, inside the other pieces.
    Raises `UsageError` without any evidence.
    """
    every = tuple(evidence)
    if not every:
        raise UsageError("no evidence to combine")
    pairs = [(a, b) for a, b in itertools.combinations(every, 2) if a[1].excludes(b[1])]
    disputed = [piece for piece in every if any(piece in pair for pair in pairs)]
    agreed = [piece for piece in every if piece not in disputed]
    # Intervals that overlap pairwise have a value in common (Helly's theorem in one dimension). So neither
    # the intersection of those that agree with all others nor its overlap with each disputed one is empty.
    lows = [interval.low for _, interval in agreed]
    highs = [interval.high for _, interval in agreed]
    if disputed:
        lows.append(min(interval.low for _, interval in disputed))
        highs.append(max(interval.high for _, interval in disputed))
    return Combined(Interval(max(lows), min(highs)), tuple((a[0], b[0]) for a, b in pairs))


# -- one measurement: many round trips --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exchange:
    """One round trip to a clock. All times are in seconds from the same instant of our clock."""

    sent: float  # when the request left, by our clock
    received: float  # when the answer arrived, by our clock
    first: float  # the other clock's stamp when the request arrived
    last: float  # its stamp when the answer left; equals ``first`` if there is only one stamp

    @property
    def network_time(self) -> float:
        """Seconds on the network: the round trip without the processing time that the other side states."""
        return self.received - self.sent - (self.last - self.first)


@dataclass(frozen=True, slots=True)
class OffsetInterval:
    """An offset at one time."""

    at: float  # the time, in seconds from the same instant as the exchanges
    interval: Interval  # contains the true offset (other clock minus ours) at that time
    consistent: bool  # whether all exchanges can be from one clock


def seen_resolution(stamps: Sequence[float]) -> float:
    """Return the coarsest step that all stamps (Unix seconds) of one clock are multiples of, in seconds.

    The result is between `FINEST_RESOLUTION` and 1. If few stamps leave it open, the coarser step is
    returned: one stamp of a whole second may be from a clock of whole seconds.
    """
    distinct = sorted(set(stamps))
    if not distinct:
        return FINEST_RESOLUTION
    found = [step for step in _DECIMAL_STEPS if all(_is_multiple(stamp, step) for stamp in distinct)]
    if len(distinct) >= _MIN_STAMPS:
        differences = [stamp - distinct[0] for stamp in distinct[1:]]
        steps = (1 / rate for rate in _TICKS)
        found.append(next((s for s in steps if all(_is_multiple(each, s) for each in differences)), 0.0))
    return max([FINEST_RESOLUTION, *found])


def _is_multiple(value: float, step: float) -> bool:
    # Every step divides a second, so the fraction decides; it is exact where the whole value times a power
    # of ten would not be.
    fraction = math.fmod(value, 1.0) / step
    return abs(fraction - round(fraction)) * step <= _STAMP_ERROR


def intersect_exchanges(
    exchanges: Iterable[Exchange],
    *,
    resolution: float = 0.0,
    slack: float = 0.0,
    drift_limit: float = DRIFT_LIMIT,
) -> OffsetInterval:
    """Intersect the limits that all round trips of one measurement set for the offset.

    A stamp may be cut off or rounded to the resolution r: the other clock showed between stamp - r/2 and
    stamp + r. It only goes forward, so when the request left it showed at most the stamp + r, and when the
    answer arrived at least the stamp - r/2. Each of the two stamps gives these limits, and the wider ones
    are used: nothing shows which stamp is right if the other side states too long a processing time. They
    hold for other times as well, widened by ``drift_limit`` for each second between.

    Round trips that exclude one another, and one whose two stamps are further apart than the trip was long,
    are contradictions. The result then covers all round trips, at the time of the last one: it contains the
    truth if at least one of them, or one of the two stamps of one, is right. Otherwise the offset is that at
    the time for which the interval is the narrowest.

    ``resolution`` is the step of the other clock's stamps, and ``slack`` what our own times may be wrong, in
    seconds; ``drift_limit`` is in seconds per second.
    """
    apart = resolution * 1.5 + 2 * slack
    trips: list[Exchange] = []
    for trip in exchanges:
        # Drift within the trip explains a processing time that is a little longer than the trip.
        if trip.network_time + apart + drift_limit * (trip.received - trip.sent) < 0:
            trips.append(Exchange(trip.sent, trip.received, trip.first, trip.first))
            trips.append(Exchange(trip.sent, trip.received, trip.last, trip.last))
        else:
            trips.append(trip)
    if not trips:
        raise UsageError("no round trip to measure by")
    # By the stamp that gives the wider limit: a server may state too long a processing time.
    lows = [(trip.received, trip.first - resolution / 2 - trip.received - slack) for trip in trips]
    highs = [(trip.sent, trip.last + resolution - trip.sent + slack) for trip in trips]
    times = [(trip.sent + trip.received) / 2 for trip in trips]
    every = sorted({*times, *(time for time, _ in lows), *(time for time, _ in highs)})
    low = dict(zip(every, _greatest(lows, every, drift_limit), strict=True))
    high = dict(zip(every, _least(highs, every, drift_limit), strict=True))
    if any(value > high[time] + _ROUNDING for time, value in lows):
        at = max(times)
        return OffsetInterval(at, _cover(lows, highs, [True] * len(lows), at, drift_limit), False)
    narrowest = min(high[at] - low[at] for at in every)
    # Of equally good times, the last, because the offset is used later; a middle of a trip if possible,
    # because that is when the other clock was most likely read.
    good = [at for at in every if high[at] - low[at] <= narrowest + _ROUNDING]
    at = max(set(times).intersection(good), default=good[-1])
    return OffsetInterval(at, _ordered(low[at], high[at]), True)


def _greatest(points: Sequence[_Point], times: Sequence[float], slope: float) -> list[float]:
    """Return the greatest lower limit at each of the sorted times; limits fall by ``slope`` with distance."""
    order = sorted(points)
    result = [-math.inf] * len(times)
    best, position = -math.inf, 0
    for index, time in enumerate(times):
        while position < len(order) and order[position][0] <= time:
            best = max(best, order[position][1] + slope * order[position][0])
            position += 1
        result[index] = best - slope * time
    best, position = -math.inf, len(order) - 1
    for index in range(len(times) - 1, -1, -1):
        while position >= 0 and order[position][0] >= times[index]:
            best = max(best, order[position][1] - slope * order[position][0])
            position -= 1
        result[index] = max(result[index], best + slope * times[index])
    return result


def _least(points: Sequence[_Point], times: Sequence[float], slope: float) -> list[float]:
    """Return the least upper limit at each of the sorted times; limits rise by ``slope`` with distance."""
    return [-limit for limit in _greatest([(time, -value) for time, value in points], times, slope)]


def _cover(
    lows: Sequence[_Point], highs: Sequence[_Point], disputed: Sequence[bool], at: float, slope: float
) -> Interval:
    """Return everything that disputed evidence allows at a time, inside what the rest allows."""
    low, high = math.inf, -math.inf
    floor, ceiling = -math.inf, math.inf
    for (lower_at, lower), (upper_at, upper), is_disputed in zip(lows, highs, disputed, strict=True):
        least = lower - slope * abs(at - lower_at)
        most = upper + slope * abs(at - upper_at)
        if is_disputed:
            low, high = min(low, least), max(high, most)
        else:
            floor, ceiling = max(floor, least), min(ceiling, most)
    return _ordered(max(low, floor), min(high, ceiling))


def _ordered(low: float, high: float) -> Interval:
    """Return an interval of two ends that only rounding can have put in the wrong order."""
    return Interval(min(low, high), max(low, high))


# -- several measurements: a line -------------------------------------------------------------------


class ClockLine:
    """The offset of a clock over time, with its bound at every time; made by `fit_line`.

    Attributes:
        measurements: The measurements, by time.
        consistent: Whether all measurements, each of them consistent, can be from one clock within the drift
            limit. If not, the bounds cover all of them.
        straight: Whether a constant rate (within ``wander``) agrees with all. If not, the rate changed, and
            the bounds rest on the drift limit alone.
        rate: Mean rate by which the other clock runs faster, in seconds per second.
        rate_bound: The true mean rate is ``rate`` plus or minus this.
        wander: Maximum difference of the rate from its mean at any time, in seconds per second.
        drift_limit: Greatest rate that was considered.
    """

    def __init__(self, measurements: Sequence[ClockOffset], drift_limit: float, wander: float) -> None:
        self.measurements = tuple(sorted(measurements, key=lambda each: each.measured_at))
        self.drift_limit = drift_limit
        self.wander = wander
        self._lows, self._highs = _limits(self.measurements)
        times = [each.measured_at for each in self.measurements]
        lowest = _greatest(self._lows, times, drift_limit)
        highest = _least(self._highs, times, drift_limit)
        self._disputed = [
            low[1] > most or high[1] < least
            for low, high, least, most in zip(self._lows, self._highs, lowest, highest, strict=True)
        ]
        agreed = not any(self._disputed)
        if agreed:
            self._lows, self._highs = _limits(_tightest_of_each_stretch(self.measurements))
        self.consistent = agreed and all(each.consistent for each in measurements)
        rates = _possible_rates(self._lows, self._highs, drift_limit, wander) if agreed else None
        self.straight = rates is not None
        # Without one rate, the offset may change by up to the drift limit between any two times.
        self._rates, self._slope = (rates, wander) if rates else (Interval(0.0, 0.0), drift_limit)
        shown = rates or Interval(-drift_limit, drift_limit)
        self.rate, self.rate_bound = shown.middle, shown.bound

    def interval(self, when: float) -> Interval:
        """Return the interval that contains the offset (other clock minus ours) at a time.

        ``when`` is on the scale of the measurements' ``measured_at``, Unix seconds. Outside of the measured
        time the interval grows by the possible rates.
        """
        if any(self._disputed):
            # By all measurements: a contradiction must not be thinned out.
            return _cover(self._lows, self._highs, self._disputed, when, self.drift_limit)
        floors = [(value - self._slope * abs(when - time), when - time) for time, value in self._lows]
        ceilings = [(-value - self._slope * abs(when - time), time - when) for time, value in self._highs]
        return _ordered(_lowest_top(floors, self._rates), -_lowest_top(ceilings, self._rates))

    def offset(self, when: float) -> float:
        """Return the middle of the offset's interval at a time, Unix seconds."""
        return self.interval(when).middle

    def bound(self, when: float) -> float:
        """Return half the width of the offset's interval at a time, Unix seconds."""
        return self.interval(when).bound

    def __repr__(self) -> str:
        return (
            f"ClockLine({len(self.measurements)} measurements, rate={self.rate:.3g}, "
            f"rate_bound={self.rate_bound:.3g}, consistent={self.consistent}, straight={self.straight})"
        )


def fit_line(
    measurements: Iterable[ClockOffset], *, drift_limit: float = DRIFT_LIMIT, wander: float = WANDER
) -> ClockLine:
    """Fit a clock's offset and drift to measurements at different times.

    The offset at a time is between the least and the greatest value at that time of all lines that pass
    through every measurement's interval, with rates of at most ``drift_limit`` either way; exact, not a
    regression. ``wander``, the maximum difference of the rate from its mean, loosens each measurement for the
    time between. The measurements, at least one, are of one clock, all on one scale of our own time: a clock
    that is not set between them. Rates are in seconds per second.
    """
    every = tuple(measurements)
    if not every:
        raise UsageError("no measurement to fit a line to")
    if not (0 <= drift_limit < 1 and 0 <= wander < 1):
        raise UsageError(f"drift_limit and wander must be >= 0 and < 1, not {drift_limit} and {wander}")
    return ClockLine(every, drift_limit, wander)


def _tightest_of_each_stretch(measurements: Sequence[ClockOffset]) -> list[ClockOffset]:
    """Return at most `_MAX_MEASUREMENTS`, first and last included; leaving one out only widens the result."""
    if len(measurements) <= _MAX_MEASUREMENTS:
        return list(measurements)
    size = math.ceil((len(measurements) - 2) / (_MAX_MEASUREMENTS - 2))
    inner = measurements[1:-1]
    kept = [
        min(inner[index : index + size], key=lambda each: each.bound) for index in range(0, len(inner), size)
    ]
    return [measurements[0], *kept, measurements[-1]]


def _limits(measurements: Sequence[ClockOffset]) -> tuple[list[_Point], list[_Point]]:
    """Return the lower and the upper limits of measurements, widened by rounding errors."""
    lows, highs = [], []
    for each in measurements:
        bound = each.bound + _ROUNDING + math.ulp(each.offset)
        lows.append((each.measured_at, each.offset - bound))
        highs.append((each.measured_at, each.offset + bound))
    return lows, highs


def _possible_rates(
    lows: Sequence[_Point], highs: Sequence[_Point], drift_limit: float, wander: float
) -> Interval | None:
    """Return all rates r for which offset minus r times t passes through all intervals, up to ``wander``.

    Every lower limit against every upper one: low_i + r (t_j - t_i) - wander |t_j - t_i| <= high_j.
    """
    least, most = -drift_limit, drift_limit
    for time, low in lows:
        for other, high in highs:
            if other > time:
                most = min(most, (high - low) / (other - time) + wander)
            elif other < time:
                least = max(least, (low - high) / (time - other) - wander)
            elif low > high:
                return None
    return Interval(least, most) if least <= most else None


def _lowest_top(sides: Sequence[_Side], rates: Interval) -> float:
    """Return the minimum over the rates of the maximum of several straight lines: exact, in a few steps.

    The maximum of lines is convex. Between a rate where it falls and one where it rises, the lines that
    are the maximum there cross; a line above that crossing replaces one of the two.
    """

    def top(rate: float) -> tuple[float, float]:
        return max((constant + slope * rate, slope) for constant, slope in sides)

    left, right = top(rates.low), top(rates.high)
    if left[1] >= 0:
        return left[0]
    if right[1] <= 0:
        return right[0]
    falling = (left[0] - left[1] * rates.low, left[1])
    rising = (right[0] - right[1] * rates.high, right[1])
    lowest = -math.inf
    for _ in range(2 * len(sides)):
        rate = (falling[0] - rising[0]) / (rising[1] - falling[1])
        # Every line is below the top, so the crossing of two never lies above the minimum.
        lowest = max(lowest, falling[0] + falling[1] * rate)
        value, slope = top(rate)
        if slope == 0:
            return value
        if value <= lowest + _ROUNDING:
            return lowest
        constant = value - slope * rate
        if slope < 0:
            falling = (constant, slope)
        else:
            rising = (constant, slope)
    return lowest
