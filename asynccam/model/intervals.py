"""Interval arithmetic on evidence about time: intersections, contradictions, offsets and their drift.

No I/O and no clock: the same evidence gives the same result. Two assumptions are stated here once, because
no measurement can prove them: `DRIFT_LIMIT` in `asynccam.model.info` and `WANDER` below.
"""

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
"""Seconds: no stamp is taken to be finer. Unix seconds in a double have steps of 2**-22 s, about 0.24 us."""

_STAMP_ERROR: Final = 5e-7
"""Seconds that a stamp may be off its step because it went through a double on its way."""
_DECIMAL_STEPS: Final = (1.0, 0.1, 0.01, 0.001, 1e-4, 1e-5)
_TICKS: Final = (1, 2, 4, 5, 10, 20, 25, 50, 60, 64, 100, 200, 250, 500, 1000, 2000, 5000, 10_000)
"""Ticks per second of common coarse clocks, which may tick at any phase: Linux at 100, 250 or 1,000 Hz,
Windows at 64 Hz, displays at 60 Hz."""
_ENOUGH_STAMPS: Final = 4
"""Unequal stamps from which steps of any phase are inferred: fewer are often a step apart by chance."""
_KEPT: Final = 200
"""Measurements that a line is fitted to, at most; of more, the tightest of each stretch of time."""
_ROUNDING: Final = 1e-9
"""Seconds of rounding error that never count as a contradiction."""

_Point = tuple[float, float]
"""Time and value: a limit of an offset at that time."""
_Side = tuple[float, float]
"""Constant and slope: a straight line over the rate."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval that contains a true value; either end may be infinite.

    Attributes:
        low: The least possible value.
        high: The greatest possible value, not below ``low``.

    Raises:
        UsageError: The ends are in the wrong order or not numbers.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise UsageError(f"not an interval: {self.low} to {self.high}")

    @classmethod
    def around(cls, middle: float, bound: float) -> "Interval":
        """Return ``middle`` plus or minus ``bound``."""
        return cls(middle - bound, middle + bound)

    @property
    def middle(self) -> float:
        """The value half-way between the ends; not a number if both are infinite."""
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

    def widened(self, by: float) -> "Interval":
        """Return the interval with both ends moved outward by ``by`` (>= 0)."""
        return Interval(self.low - by, self.high + by)

    def excludes(self, other: "Interval") -> bool:
        """Return whether the two have no value in common."""
        return self.low > other.high or other.low > self.high


@dataclass(frozen=True, slots=True)
class Combined:
    """What several pieces of evidence say together.

    Attributes:
        interval: Contains the true value if every piece that contradicts none is right, and at least one of
            those that contradict one another. Without a contradiction this is the intersection of all.
        contradictions: Names of each two pieces of evidence that exclude one another.
        limits: Names of the pieces that set the lower and the upper end.
    """

    interval: Interval
    contradictions: tuple[tuple[str, str], ...]
    limits: tuple[str, str]

    @property
    def consistent(self) -> bool:
        """Return whether one value agrees with all of the evidence."""
        return not self.contradictions


def combine(evidence: Iterable[tuple[str, Interval]]) -> Combined:
    """Intersect named pieces of evidence about one value.

    Pieces that exclude one another are named, and the result covers all of them, inside what the other pieces
    allow.

    Raises:
        UsageError: There is no evidence.
    """
    every = tuple(evidence)
    if not every:
        raise UsageError("no evidence to combine")
    pairs = [
        (one, other)
        for index, one in enumerate(every)
        for other in every[index + 1 :]
        if one[1].excludes(other[1])
    ]
    disputed = [one for one in every if any(one in pair for pair in pairs)]
    agreed = [one for one in every if one not in disputed]
    # In one dimension intervals that overlap pairwise have a value in common (Helly), so neither the
    # intersection of those that agree with all others nor its overlap with each disputed one is empty.
    lows = [(interval.low, name) for name, interval in agreed]
    highs = [(interval.high, name) for name, interval in agreed]
    if disputed:
        lows.append(min((interval.low, name) for name, interval in disputed))
        highs.append(max((interval.high, name) for name, interval in disputed))
    low, high = max(lows), min(highs)
    names = tuple((one[0], other[0]) for one, other in pairs)
    return Combined(Interval(low[0], high[0]), names, (low[1], high[1]))


# -- one measurement: many round trips --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exchange:
    """One round trip to a clock. All times are in seconds from the same instant of our clock.

    Attributes:
        sent: When the request left, by our clock.
        received: When the answer was here, by our clock.
        first: The other clock's stamp when the request was there.
        last: Its stamp when the answer left; the same as ``first`` where there is one stamp only.
    """

    sent: float
    received: float
    first: float
    last: float

    @property
    def on_the_way(self) -> float:
        """Seconds on the network: the round trip without the work that the other side states."""
        return self.received - self.sent - (self.last - self.first)


@dataclass(frozen=True, slots=True)
class OffsetInterval:
    """An offset at one time.

    Attributes:
        at: The time, in seconds from the same instant as that of the exchanges.
        interval: Contains the true offset (other clock minus ours) at that time.
        consistent: Whether some clock agrees with all exchanges.
    """

    at: float
    interval: Interval
    consistent: bool


def seen_resolution(stamps: Sequence[float]) -> float:
    """Return the coarsest step that all stamps of one clock are multiples of, in seconds.

    Conservative: what few stamps leave open is decided for the coarser step. One stamp of a whole second
    may come from a clock of whole seconds. Steps longer than a second are not looked for.

    Args:
        stamps: Unix seconds, in any order.

    Returns:
        Between `FINEST_RESOLUTION` and 1.
    """
    distinct = sorted(set(stamps))
    if not distinct:
        return FINEST_RESOLUTION
    found = [step for step in _DECIMAL_STEPS if all(_is_multiple(one, step) for one in distinct)]
    if len(distinct) >= _ENOUGH_STAMPS:
        apart = [one - distinct[0] for one in distinct[1:]]
        ticks = next((1 / each for each in _TICKS if all(_is_multiple(one, 1 / each) for one in apart)), 0.0)
        found.append(ticks)
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
    """Intersect what all round trips of one measurement say of the offset.

    A stamp may be cut off or rounded to the resolution r: the other clock showed between stamp - r/2 and
    stamp + r. It only goes forward, so when the request left it showed at most the stamp + r, and when the
    answer was here at least the stamp - r/2. Each of the two stamps gives these limits, and the wider ones
    are used: nothing shows which stamp is right if the other side claims more work than it did. They hold for
    other times as well, loosened by ``drift_limit`` for each second between.

    Round trips that exclude one another, and one whose two stamps are further apart than the trip was long,
    are contradictions. The result then covers what each round trip says, at the time of the last one: it
    contains the truth if at least one of them, or one of the two stamps of one, is right.

    Args:
        exchanges: At least one.
        resolution: Step of the other clock's stamps in seconds.
        slack: Seconds that our own times may be wrong.
        drift_limit: Seconds per second by which the two clocks may run apart.

    Returns:
        The offset at the time for which the interval is the narrowest.

    Raises:
        UsageError: There is none.
    """
    apart = resolution * 1.5 + 2 * slack
    trips: list[Exchange] = []
    for one in exchanges:
        # What two clocks may run apart within the trip explains a little more work than the trip took.
        if one.on_the_way + apart + drift_limit * (one.received - one.sent) < 0:
            trips.append(Exchange(one.sent, one.received, one.first, one.first))
            trips.append(Exchange(one.sent, one.received, one.last, one.last))
        else:
            trips.append(one)
    if not trips:
        raise UsageError("no round trip to measure by")
    # By the stamp that says less: a server may claim more work than it did, and less than the trip took.
    lows = [(one.received, one.first - resolution / 2 - one.received - slack) for one in trips]
    highs = [(one.sent, one.last + resolution - one.sent + slack) for one in trips]
    times = [(one.sent + one.received) / 2 for one in trips]
    every = sorted({*times, *(time for time, _ in lows), *(time for time, _ in highs)})
    low = dict(zip(every, _greatest(lows, every, drift_limit), strict=True))
    high = dict(zip(every, _least(highs, every, drift_limit), strict=True))
    if any(value > high[time] + _ROUNDING for time, value in lows):
        at = max(times)
        return OffsetInterval(at, _cover(lows, highs, [True] * len(lows), at, drift_limit), False)
    narrowest = min(high[at] - low[at] for at in every)
    # Of times that are as good, the last: the offset will be used later. A middle where there is one, because
    # it is when the other clock was most likely read.
    good = [at for at in every if high[at] - low[at] <= narrowest + _ROUNDING]
    at = max(set(times).intersection(good), default=good[-1])
    return OffsetInterval(at, _ordered(low[at], high[at]), True)


def _greatest(points: Sequence[_Point], times: Sequence[float], slope: float) -> list[float]:
    """The greatest lower limit at each of the sorted times, each falling by ``slope`` away from its time."""
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
    """The least upper limit at each of the sorted times, each rising by ``slope`` away from its time."""
    return [-one for one in _greatest([(time, -value) for time, value in points], times, slope)]


def _cover(
    lows: Sequence[_Point], highs: Sequence[_Point], disputed: Sequence[bool], at: float, slope: float
) -> Interval:
    """Everything that disputed evidence allows at a time, inside what the rest allows."""
    low, high = math.inf, -math.inf
    floor, ceiling = -math.inf, math.inf
    for (lower_at, lower), (upper_at, upper), one in zip(lows, highs, disputed, strict=True):
        least = lower - slope * abs(at - lower_at)
        most = upper + slope * abs(at - upper_at)
        if one:
            low, high = min(low, least), max(high, most)
        else:
            floor, ceiling = max(floor, least), min(ceiling, most)
    return _ordered(max(low, floor), min(high, ceiling))


def _ordered(low: float, high: float) -> Interval:
    """An interval of two ends that only rounding can have put in the wrong order."""
    return Interval(min(low, high), max(low, high))


# -- several measurements: a line -------------------------------------------------------------------


class ClockLine:
    """The offset of a clock over time, with its bound at every time; made by `fit_line`.

    Attributes:
        measurements: What the line was fitted to, by time.
        consistent: Whether some clock within the drift limit agrees with all measurements, each of which is
            consistent. If not, the bounds cover everything that was measured.
        straight: Whether a constant rate (within ``wander``) agrees with all. If not, the rate changed, and
            the bounds rest on the drift limit alone.
        rate: The mean rate in seconds per second: by how much the other clock runs faster.
        rate_bound: The true mean rate is ``rate`` plus or minus this.
        wander: By how much the rate may differ from its mean at any time, in seconds per second.
        drift_limit: The greatest rate that was considered.
    """

    __slots__ = (
        "_disputed",
        "_highs",
        "_lows",
        "_rates",
        "_slope",
        "consistent",
        "drift_limit",
        "measurements",
        "rate",
        "rate_bound",
        "straight",
        "wander",
    )

    def __init__(self, measurements: Sequence[ClockOffset], drift_limit: float, wander: float) -> None:
        self.measurements = tuple(sorted(measurements, key=lambda one: one.measured_at))
        self.drift_limit = drift_limit
        self.wander = wander
        self._lows, self._highs = _limits(self.measurements)
        times = [one.measured_at for one in self.measurements]
        lowest = _greatest(self._lows, times, drift_limit)
        highest = _least(self._highs, times, drift_limit)
        self._disputed = [
            low[1] > most or high[1] < least
            for low, high, least, most in zip(self._lows, self._highs, lowest, highest, strict=True)
        ]
        agreed = not any(self._disputed)
        if agreed:
            self._lows, self._highs = _limits(_tightest_of_each_stretch(self.measurements))
        self.consistent = agreed and all(one.consistent for one in measurements)
        rates = _possible_rates(self._lows, self._highs, drift_limit, wander) if agreed else None
        self.straight = rates is not None
        # Without one rate, the offset may change by up to the drift limit between any two times.
        self._rates, self._slope = (rates, wander) if rates else (Interval(0.0, 0.0), drift_limit)
        shown = rates or Interval(-drift_limit, drift_limit)
        self.rate, self.rate_bound = shown.middle, shown.bound

    def interval(self, when: float) -> Interval:
        """Return the interval that contains the offset (other clock minus ours) at a time.

        Args:
            when: Unix seconds, on the scale of the measurements' ``measured_at``. Any time: outside the
                measured stretch the interval grows by what the rate may be.
        """
        if any(self._disputed):
            # All measurements are kept then: a contradiction must not be thinned out.
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
    regression. ``wander`` loosens each measurement for the time between.

    Args:
        measurements: At least one, of one clock, all on one scale of our own time: a clock that is not
            set between them.
        drift_limit: Greatest rate, in seconds per second.
        wander: By how much the rate may differ from its mean, in seconds per second.

    Raises:
        UsageError: There is no measurement, or a limit is negative.
    """
    every = tuple(measurements)
    if not every:
        raise UsageError("no measurement to fit a line to")
    if not (0 <= drift_limit < 1 and 0 <= wander < 1):
        raise UsageError(f"drift_limit and wander must be >= 0 and < 1, not {drift_limit} and {wander}")
    return ClockLine(every, drift_limit, wander)


def _tightest_of_each_stretch(measurements: Sequence[ClockOffset]) -> list[ClockOffset]:
    """At most `_KEPT` of them, first and last included. A measurement left out only widens the result."""
    if len(measurements) <= _KEPT:
        return list(measurements)
    size = math.ceil((len(measurements) - 2) / (_KEPT - 2))
    inner = measurements[1:-1]
    kept = [
        min(inner[index : index + size], key=lambda one: one.bound) for index in range(0, len(inner), size)
    ]
    return [measurements[0], *kept, measurements[-1]]


def _limits(measurements: Sequence[ClockOffset]) -> tuple[list[_Point], list[_Point]]:
    """The lower and the upper limits of measurements, loosened by rounding errors."""
    lows, highs = [], []
    for one in measurements:
        bound = one.bound + _ROUNDING + math.ulp(one.offset)
        lows.append((one.measured_at, one.offset - bound))
        highs.append((one.measured_at, one.offset + bound))
    return lows, highs


def _possible_rates(
    lows: Sequence[_Point], highs: Sequence[_Point], drift_limit: float, wander: float
) -> Interval | None:
    """All rates r for which offset minus r times t passes through all intervals, up to ``wander``.

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
    """The minimum over the rates of the greatest of several straight lines: exact, in a few steps.

    The greatest of lines is convex. Between a place where it falls and one where it rises, the lines that
    are on top there cross; a line above that crossing takes the place of one of the two.
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
