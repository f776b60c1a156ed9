"""Takes over devices of known truth: what the manifest states of their first frames contains it.

One run of each; `python -m benchmarks.clocks --takes` does a hundred.
"""

from pathlib import Path

import pytest

from asynccam.model.manifest import Outcome
from asynccam.recording.verify import Verdict, verify_file
from tests.support.known_takes import COMBINATIONS, run_take, stage
from tests.support.media import decoded
from tests.support.time_devices import FPS, film

LIES = ("for others", "too much")
"""In the names of devices that contradict themselves in every take."""


@pytest.mark.parametrize("kind", COMBINATIONS)
async def test_stated_bound_contains_the_first_frame(tmp_path: Path, kind: str) -> None:
    every = COMBINATIONS[kind]
    with stage(kind, list(every.values())) as staged:
        found = dict(zip(every, await run_take(staged, tmp_path, seed=1), strict=True))
    assert [f"{name}: {one}" for name, one in found.items() if not one.holds] == []
    for name, one in found.items():
        # What somebody else records is left alone, where the device tells whose it is.
        left_alone = one.record.already_recording and one.record.stop_commanded_at is None
        assert one.record.files or left_alone, (name, one)
        if any(word in name for word in LIES):
            assert one.record.contradictions or left_alone, (name, one)
        if one.record.contradictions or left_alone:
            assert one.record.outcome is Outcome.INCOMPLETE, (name, one)
        if every[name].tells or every[name].answers == "recording":
            assert one.bound, (name, one)


@pytest.mark.parametrize("frames", [1, 15])
async def test_videos_of_these_devices_have_the_stated_length(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(film(frames))
    found = await verify_file(path, decode=True)
    assert (found.verdict, found.frames) == (Verdict.COMPLETE, frames)
    assert found.duration == pytest.approx(frames / FPS)
    assert decoded(path) == frames
