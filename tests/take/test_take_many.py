"""A take over hundreds of cameras: starts leave together, all else is spread over turns of the loop."""

from pathlib import Path

from asynccam.take import Take
from tests.support.scripted_camera import ScriptedCamera
from tests.support.turns import Turns

COUNT = 300


class ReleaseTimes(list[float]):
    """Counts the releases that a camera records in it."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def append(self, at: float) -> None:
        self._turns.mark("release")
        super().append(at)


class CountedCamera(ScriptedCamera):
    def __init__(self, name: str, turns: Turns, *, scheduled: bool) -> None:
        super().__init__(name, scheduled=scheduled, clock=0.0)
        self._turns = turns

        self.released_at = ReleaseTimes(turns)

    async def act(self, step: str) -> None:
        self._turns.mark(step)
        await super().act(step)


async def test_only_starts_of_300_cameras_share_a_turn(tmp_path: Path) -> None:
    turns = Turns()
    cameras = [CountedCamera(str(number), turns, scheduled=number < COUNT / 2) for number in range(COUNT)]
    with turns:
        take = await Take(cameras, tmp_path).run(duration=0.1, start_in=0.5)
    assert take.ok, [camera.errors for camera in take.manifest.cameras if camera.errors]
    assert turns.total("release") == COUNT
    assert turns.most("release") == COUNT / 2  # the scheduled ones before T0, the others at T0
    for step in ("clock", "arm", "accepted", "stop", "download", "disarm"):
        assert turns.total(step) >= COUNT
        assert turns.most(step) <= 64, step


async def test_take_over_300_cameras_ended_while_it_starts_is_stopped_in_turns(tmp_path: Path) -> None:
    turns = Turns()
    cameras = [CountedCamera(str(number), turns, scheduled=False) for number in range(COUNT)]
    with turns:
        async with Take(cameras, tmp_path) as take:
            await take.arm()
            await take.start(start_in=0)
    assert turns.total("stop") == COUNT
    assert turns.most("stop") <= 64
    assert not any(camera.recording for camera in cameras)
