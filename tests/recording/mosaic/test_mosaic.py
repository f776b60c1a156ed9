"""Recordings beside each other and cut: every frame where it belongs, told by its shade of grey."""

import asyncio
from fractions import Fraction
from pathlib import Path

import pytest

from asynccam.errors import RecordingError, TargetExistsError, TimeoutError, UsageError
from asynccam.recording.mosaic.mosaic import Clip, Panel, write_cut, write_mosaic, write_sheet
from asynccam.recording.verify import Verdict, verify_file
from tests.support.cancelling import cancelled_at
from tests.support.gst import gst_processes
from tests.support.levels import shades, write_levels

SIZE = (64, 48)
STRIP = 18
RAMP = [30 + 10 * n for n in range(20)]
NEAR = 7
"""Shades by which two encoders may be off."""


def near(found: list[int], wanted: list[int]) -> bool:
    return len(found) == len(wanted) and all(abs(a - b) <= NEAR for a, b in zip(found, wanted, strict=True))


async def test_files_of_unlike_kinds_are_shown_from_their_own_moments_on(tmp_path: Path) -> None:
    one = await write_levels(tmp_path / "one.mkv", RAMP, fps=10, size=(64, 48), sound=True)
    two = await write_levels(tmp_path / "two.mp4", RAMP[:10], fps=5, size=(32, 24))
    target = tmp_path / "out" / "preview.mp4"
    panels = [Panel("one", (Clip(one, -0.5),)), Panel("two", (Clip(two, 0.4, 2.0),)), Panel("gone")]
    await write_mosaic(panels, target, seconds=1.2, fps=Fraction(10), size=SIZE)
    verdict = await verify_file(target)
    assert (verdict.verdict, verdict.frames) == (Verdict.COMPLETE, 12)
    seen = await shades(target, (128, 2 * (48 + STRIP)), (32, STRIP + 24), (96, STRIP + 24))
    assert near([frame[0] for frame in seen], RAMP[5:17])
    late = [RAMP[n // 2] for n in range(8)]
    assert near([frame[1] for frame in seen], [16] * 4 + late)
    assert sorted(path.name for path in target.parent.iterdir()) == ["preview.mp4"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
async def test_sheet_shows_all_cameras_at_one_instant(tmp_path: Path, suffix: str) -> None:
    one = await write_levels(tmp_path / "one.mkv", RAMP, fps=10)
    two = await write_levels(tmp_path / "two.mkv", RAMP, fps=5)
    still = tmp_path / "still.png"
    await write_sheet([Panel("", (Clip(one, -1.95),))], still, size=SIZE)
    target = tmp_path / f"sheet{suffix}"
    panels = [
        Panel("\u00e9\u00e8 with a long name", (Clip(one, -1.05),)),
        Panel("two", (Clip(two, -1.05),)),
        Panel("ended", (Clip(one, -5.0, 2.0),)),
        Panel("still", (Clip(still, still=True),)),
    ]
    await write_sheet(panels, target, size=SIZE)
    below = 48 + STRIP + STRIP + 24
    spots = ((32, STRIP + 24), (96, STRIP + 24), (4, below + 20), (96, below + 9))
    (found,) = await shades(target, (128, 2 * (48 + STRIP)), *spots)
    wanted = [RAMP[10], RAMP[5], 16, RAMP[19]]
    if suffix == ".png":  # which has shades from 0 to 255, where video has them from 16 to 235
        wanted = [(shade - 16) * 255 // 219 for shade in wanted]
    assert near(found, wanted)


async def test_pieces_of_a_recording_follow_each_other_with_their_gap(tmp_path: Path) -> None:
    first = await write_levels(tmp_path / "a-00.mkv", RAMP[:5])
    second = await write_levels(tmp_path / "a-01.mkv", RAMP[5:10])
    third = await write_levels(tmp_path / "a-02.mkv", RAMP[10:])
    clips = [Clip(first, -0.2, 0.5), Clip(second, 0.3, 0.5), Clip(third, 1.0, 1.0)]
    target = tmp_path / "cut.mkv"
    await write_cut(clips, target, seconds=1.5, fps=Fraction(10))
    found = [frame[0] for frame in await shades(target, SIZE, (32, 24))]
    assert near(found, [*RAMP[2:10], 16, 16, *RAMP[10:15]])


async def test_cut_files_of_two_cameras_have_the_same_length(tmp_path: Path) -> None:
    one = await write_levels(tmp_path / "one.mkv", RAMP, fps=10)
    two = await write_levels(tmp_path / "two.mp4", RAMP, fps=20)
    await write_cut([Clip(one, -0.3)], tmp_path / "1.mp4", seconds=0.6, fps=Fraction(10))
    await write_cut([Clip(two, -0.2)], tmp_path / "2.mp4", seconds=0.6, fps=Fraction(20))
    assert [(await verify_file(tmp_path / f"{n}.mp4")).frames for n in (1, 2)] == [6, 12]
    assert near([frame[0] for frame in await shades(tmp_path / "2.mp4", SIZE, (32, 24))], RAMP[4:16])


async def test_impossible_mosaic_is_refused(tmp_path: Path) -> None:
    video = await write_levels(tmp_path / "one.mkv", RAMP)
    panel = Panel("one", (Clip(video),))
    with pytest.raises(UsageError, match=r"must end in \.mp4"):
        await write_mosaic([panel], tmp_path / "a.gif", seconds=1)
    with pytest.raises(UsageError, match=r"must end in \.png"):
        await write_sheet([panel], tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="must be > 0"):
        await write_mosaic([panel], tmp_path / "a.mp4", seconds=0)
    with pytest.raises(UsageError, match="panels"):
        await write_mosaic([], tmp_path / "a.mp4", seconds=1)
    with pytest.raises(UsageError, match="nothing was recorded"):
        await write_cut([Clip(video, 5.0)], tmp_path / "a.mp4", seconds=1, fps=Fraction(10))
    with pytest.raises(TargetExistsError):
        await write_mosaic([panel], tmp_path / "one.mkv", seconds=1)
    (tmp_path / "text.mkv").write_text("no video at all\n" * 100)
    with pytest.raises(RecordingError, match=r"a\.mp4 could not be made"):
        await write_mosaic([Panel("bad", (Clip(tmp_path / "text.mkv"),))], tmp_path / "a.mp4", seconds=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mkv", "text.mkv"]


async def test_special_characters_in_names_are_quoted(tmp_path: Path) -> None:
    place = tmp_path / 'a "b" ! fakesink %d'
    place.mkdir()
    video = await write_levels(tmp_path / "one.mkv", RAMP)
    odd = video.rename(place / "one ! two.mkv")
    await write_sheet([Panel('! "x" %d', (Clip(odd),))], place / "s.png", size=SIZE)
    assert (place / "s.png").stat().st_size


async def test_deadline_leaves_nothing(tmp_path: Path) -> None:
    video = await write_levels(tmp_path / "one.mkv", RAMP)
    with pytest.raises(TimeoutError):
        await write_mosaic([Panel("one", (Clip(video),))], tmp_path / "a.mp4", seconds=36_000, timeout=0.3)
    assert [path.name for path in tmp_path.iterdir()] == ["one.mkv"]
    assert gst_processes(tmp_path) == []


async def test_cancelled_anywhere_nothing_is_left(tmp_path: Path) -> None:
    video = await write_levels(tmp_path / "one.mkv", RAMP[:3])
    panels = [Panel("one", (Clip(video),))]
    count = 1
    while True:
        target = tmp_path / f"{count}.png"

        async def make(target: Path = target) -> None:
            await write_sheet(panels, target, size=SIZE)

        if not await cancelled_at(make(), count):
            break
        assert await asyncio.to_thread(gst_processes, tmp_path) == []
        hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert hidden == []
        count += 1
    assert count > 3
