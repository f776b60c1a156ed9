"""Steps of the wall clock and pauses of the program are noticed, each once and with its size."""

import asyncio

import pytest

from asynccam.model.events import ClockStepped, ProgramPaused
from asynccam.runtime.timing import ClockWatch
from asynccam.wall_clock import WallClock
from tests.support.waiting import eventually


class Computer:
    """A computer whose clocks are set by hand."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.elapsed = 100.0
        self.monotonic = 7.0
        self.events: list[ClockStepped | ProgramPaused] = []
        scale = WallClock(lambda: self.wall, lambda: self.elapsed)
        scale.pin()
        self.watch = ClockWatch(
            self.events.append,
            wall=scale,
            reference=WallClock(lambda: self.wall, lambda: self.elapsed),
            monotonic=lambda: self.monotonic,
        )

    @property
    def steps(self) -> list[ClockStepped]:
        return [event for event in self.events if isinstance(event, ClockStepped)]

    @property
    def pauses(self) -> list[ProgramPaused]:
        return [event for event in self.events if isinstance(event, ProgramPaused)]

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds
        self.monotonic += seconds

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds


def look(computer: Computer, times: int = 4) -> None:
    for _ in range(times):
        computer.run(0.25)
        computer.watch.check()


def test_clock_watch_agreeing_clocks() -> None:
    computer = Computer()
    look(computer, 40)
    assert (computer.steps, computer.pauses) == ([], [])


@pytest.mark.parametrize("seconds", [3.0, -3.0, 7200.0, -7200.0, -31_536_000.0, 0.02])
def test_clock_watch_step_is_reported_once(seconds: float) -> None:
    computer = Computer()
    look(computer)
    computer.wall += seconds
    look(computer)
    assert [step.seconds for step in computer.steps] == [pytest.approx(seconds, abs=1e-3)]
    # On the old scale: 1 s before it and a quarter until it was noticed.
    assert computer.steps[0].at == pytest.approx(1_700_000_001.25)
    assert computer.pauses == []


def test_clock_watch_step_back_is_another_step() -> None:
    computer = Computer()
    computer.wall += 3
    look(computer)
    computer.wall -= 3
    look(computer)
    assert [round(step.seconds, 3) for step in computer.steps] == [3.0, -3.0]


def test_clock_watch_sleep_is_a_pause_not_a_step() -> None:
    computer = Computer()
    look(computer)
    computer.sleep(18)
    look(computer)
    (pause,) = computer.pauses
    assert pause.slept is True
    assert (pause.began, pause.seconds) == pytest.approx((1_700_000_001.0, 18.25))
    assert computer.steps == []


def test_clock_watch_blocked_loop_is_a_pause_without_sleep() -> None:
    computer = Computer()
    look(computer)
    computer.run(2)
    look(computer)
    (pause,) = computer.pauses
    assert pause.slept is False
    assert (pause.began, pause.seconds) == pytest.approx((1_700_000_001.0, 2.25))


def test_clock_watch_slightly_late_comparison_is_not_a_pause() -> None:
    computer = Computer()
    computer.run(0.7)
    computer.watch.check()
    assert computer.pauses == []


async def test_clock_watch_compares_by_a_timer_until_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynccam.runtime.timing._WATCH_INTERVAL", 0.01)
    computer = Computer()
    computer.watch.start()
    computer.wall += 1
    await eventually(lambda: len(computer.steps) == 1)
    computer.wall += 1
    await eventually(lambda: len(computer.steps) == 2)
    computer.watch.stop()
    computer.watch.stop()  # harmless
    computer.wall += 1
    await asyncio.sleep(0.05)
    assert [round(step.seconds, 3) for step in computer.steps] == [1.0, 1.0]
