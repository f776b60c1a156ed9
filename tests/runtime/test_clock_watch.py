"""Steps of the wall clock and pauses of the program are noticed, each once and with its size."""

import asyncio

import pytest

from asynccam.runtime.clock_watch import ClockStep, ClockWatch, Pause
from asynccam.runtime.tasks import TaskScope
from asynccam.wall_clock import WallClock


class Computer:
    """A computer whose clocks are set by hand."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.elapsed = 100.0
        self.monotonic = 7.0
        self.steps: list[ClockStep] = []
        self.pauses: list[Pause] = []
        scale = WallClock(lambda: self.wall, lambda: self.elapsed)
        scale.pin()
        self.watch = ClockWatch(
            self.steps.append,
            self.pauses.append,
            wall=scale,
            reference=WallClock(lambda: self.wall, lambda: self.elapsed),
            monotonic=lambda: self.monotonic,
        )

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


async def test_clock_watch_run_until_cancelled() -> None:
    computer = Computer()
    waits: asyncio.Queue[float] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        computer.run(seconds)
        computer.wall += 1
        waits.put_nowait(seconds)
        await asyncio.sleep(0)

    watch = ClockWatch(
        computer.steps.append,
        computer.pauses.append,
        reference=WallClock(lambda: computer.wall, lambda: computer.elapsed),
        monotonic=lambda: computer.monotonic,
        sleep=sleep,
    )
    async with TaskScope("watch") as scope:
        scope.spawn(watch.run(), name="run")
        for _ in range(3):
            await waits.get()
    assert [round(step.seconds, 3) for step in computer.steps[:2]] == [1.0, 1.0]
