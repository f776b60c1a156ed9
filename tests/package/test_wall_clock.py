"""The wall clock's scale: pinned it is never set, not pinned it follows the system."""

import time

import pytest

from asynccam.runtime.timing import SYSTEM_CLOCK
from asynccam.wall_clock import WALL_CLOCK, WallClock, local_now, unix_now


class Clocks:
    """A time of day and an elapsed time, both set by hand."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.monotonic = 50.0

    def make(self) -> WallClock:
        return WallClock(lambda: self.wall, lambda: self.monotonic)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_wall_clock_counts_by_elapsed_time(clocks: Clocks) -> None:
    clock = clocks.make()
    clocks.pass_time(12.5)
    assert clock.now() == pytest.approx(1_700_000_012.5)
    assert clock.at(clock.elapsed() - 2.5) == pytest.approx(1_700_000_010)
    assert clock.step() == 0


@pytest.mark.parametrize("step", [3.0, -3.0, 7200.0, -7200.0, -31_536_000.0, 0.02])
def test_wall_clock_pinned_ignores_clock_steps(clocks: Clocks, step: float) -> None:
    clock = clocks.make()
    clock.pin()
    clocks.pass_time(1)
    clocks.wall += step
    clocks.pass_time(1)
    assert clock.now() == pytest.approx(1_700_000_002)
    assert clock.step() == pytest.approx(step)
    clock.unpin()
    assert clock.now() == pytest.approx(1_700_000_002 + step)
    assert clock.step() == 0


def test_wall_clock_unpinned_follows_the_system(clocks: Clocks) -> None:
    clock = clocks.make()
    clocks.wall -= 3600
    assert clock.now() == pytest.approx(1_700_000_000 - 3600)
    clocks.pass_time(5)
    assert clock.now() == pytest.approx(1_700_000_005 - 3600)


def test_wall_clock_stays_until_the_last_pin_is_released(clocks: Clocks) -> None:
    clock = clocks.make()
    clock.pin()
    clock.pin()
    clocks.wall += 100
    clock.unpin()
    assert clock.is_pinned
    assert clock.now() == pytest.approx(1_700_000_000)
    clock.unpin()
    assert not clock.is_pinned
    assert clock.now() == pytest.approx(1_700_000_100)


def test_wall_clock_pin_begins_at_system_time(clocks: Clocks) -> None:
    clock = clocks.make()
    clocks.wall += 100  # set while nothing read the clock
    clock.pin()
    assert clock.now() == pytest.approx(1_700_000_100)
    assert clock.step() == 0
    clock.unpin()


def test_wall_clock_repeats_an_interrupted_reading() -> None:
    readings = iter([0.0, 30.0, 40.0, 40.0002, 41.0])  # 30 s between both halves of the first pair
    clock = WallClock(lambda: 1_700_000_000.0, lambda: next(readings))
    assert clock.at(40.0001) == pytest.approx(1_700_000_000.0, abs=1e-6)


def test_wall_clock_is_shared_by_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unix_now() == pytest.approx(time.time(), abs=1)
    assert SYSTEM_CLOCK.time() == pytest.approx(time.time(), abs=1)
    WALL_CLOCK.pin()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 7200)
    try:
        assert unix_now() == pytest.approx(real(), abs=1)
        assert local_now().timestamp() == pytest.approx(real(), abs=1)
        assert WALL_CLOCK.step() == pytest.approx(-7200, abs=1)
    finally:
        WALL_CLOCK.unpin()
    assert unix_now() == pytest.approx(real() - 7200, abs=1)
