"""Frames of takes on the common time: from real files, and from times given by hand."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import UsageError
from asynccam.model.info import FrameTime, FrameTimeReader
from asynccam.model.manifest import CameraRecord
from asynccam.recording import frame_times, verify_file
from asynccam.take import FrameTimes, align_take, read_frame_times
from asynccam.take.frame_times import ASSUMED_DRIFT
from tests.recording.test_frame_times import ffmpeg
from tests.support.command import asynccam
from tests.support.levels import shades, write_levels
from tests.take.test_align import T0, camera, moment, seen, take, video

Times = Sequence[float | None]


def given(files: Mapping[str, Times], *, resolution: float = 0.0) -> FrameTimeReader:
    """A reader of times by the names of files."""

    async def read(path: Path) -> AsyncGenerator[FrameTime, None]:
        times = files[path.name]
        for index, time in enumerate(times):
            following = times[index + 1] if index + 1 < len(times) else None
            known = time is not None and following is not None
            yield FrameTime(index, time, following - time if known else None, resolution)  # type: ignore[operator]

    return read


async def frames_of(
    tmp_path: Path,
    files: Mapping[str, Times],
    *,
    resolution: float = 0.0,
    drift: float | None = None,
    source: str = "device",
    **facts: Any,
) -> FrameTimes:
    """The frames of a camera whose files have these times."""
    for name in files:
        (tmp_path / name).touch()
    record = CameraRecord.model_validate(
        camera("a", *[video(name, None, source=source) for name in files], **{**seen(0.0), **facts})
    )
    return await FrameTimes.of_camera(record, tmp_path, given(files, resolution=resolution), drift=drift)


def instants(frames: FrameTimes) -> list[float]:
    return [round(frame.at - T0, 6) for frame in frames]


# -- real files -------------------------------------------------------------------------------------


async def variable_take(directory: Path) -> Path:
    """A camera that stops making frames for four seconds, beside one that does not."""
    ramp = [30 + n for n in range(120)]
    whole = await write_levels(directory / "whole.mkv", ramp, fps=20)
    drop = ("-vf", "select='not(between(n,10,89))'", "-vsync", "vfr", "-c:v", "mjpeg", "-q:v", "2")
    await asyncio.to_thread(ffmpeg, directory / "b.mkv", *drop, source=("-i", str(whole)))
    (directory / "whole.mkv").rename(directory / "a.mkv")
    facts = []
    for name in ("a.mkv", "b.mkv"):
        found = await verify_file(directory / name)
        verdict = {"verdict": "complete", "frames": found.frames, "duration": found.duration}
        size = (directory / name).stat().st_size
        facts.append(
            camera(name[0], video(name, None, verdict=verdict, size=size, source="local"), **seen(0.0))
        )
    (directory / "manifest.json").write_bytes(take(*facts).to_bytes())
    return directory


async def test_frame_is_found_by_its_time_where_the_mean_rate_is_wrong(tmp_path: Path) -> None:
    directory = await variable_take(tmp_path)
    ended = await asynccam(
        "align", directory, "--sheet", tmp_path / "s.png", "--at", 4.8, "--json", timeout=120
    )
    assert ended.code == 0, ended.err
    manifest = take().from_bytes((directory / "manifest.json").read_bytes())
    times = await read_frame_times(manifest, directory, frame_times)
    alignment = align_take(manifest, times)
    points = alignment.at(4.8, times)
    a, b = points["x://a"], points["x://b"]
    assert a is not None
    assert b is not None
    # 40 frames in 6 s: a mean rate would call it frame 32, which was made 0.8 s later, and frame 15 of b at
    # 2.3 s would be one made 2.5 s later.
    assert (a.frame, b.frame) == (96, 16)
    assert (a.frame_time, b.frame_time) == pytest.approx((4.8, 4.8), abs=0.002)
    late = alignment.at(2.6, times)["x://b"]
    assert late is not None
    assert (late.frame, round(late.frame_offset or 0, 2)) == (10, 4.5)
    # Both show the same picture.
    (sheet,) = await shades(tmp_path / "s.png", (960, 288), (240, 153), (720, 153))
    assert abs(sheet[0] - sheet[1]) <= 2
    assert [file.frames for one in alignment.cameras for file in one.files] == [120, 40]
    assert [one.frames_problem for one in alignment.cameras] == ["", ""]


async def test_every_frame_of_two_cameras_shows_the_same_at_the_same_instant(tmp_path: Path) -> None:
    directory = await variable_take(tmp_path)
    manifest = take().from_bytes((directory / "manifest.json").read_bytes())
    times = await read_frame_times(manifest, directory, frame_times)
    left = [shade for (shade,) in await shades(directory / "a.mkv", (64, 48), (30, 20))]
    right = [shade for (shade,) in await shades(directory / "b.mkv", (64, 48), (30, 20))]
    for frame in times["x://b"]:
        other = times["x://a"].at(frame.at)
        assert other is not None
        assert abs(other.at - frame.at) <= frame.bound
        assert abs(left[other.index] - right[frame.index]) <= 2


async def test_sheet_counts_from_the_first_frame_after_a_pause(tmp_path: Path) -> None:
    """GStreamer follows the edit list of MP4, whose first frame may be shown later than at 0."""
    ramp = [30 + 5 * n for n in range(40)]
    await write_levels(tmp_path / "a.mp4", ramp)
    later = ("-c", "copy", "-output_ts_offset", "1.5")
    await asyncio.to_thread(ffmpeg, tmp_path / "b.mp4", *later, source=("-i", str(tmp_path / "a.mp4")))
    verdict = {"verdict": "complete", "frames": 40, "duration": 4.0}
    manifest = take(*[camera(n, video(f"{n}.mp4", None, verdict=verdict), **seen(0.0)) for n in "ab"])
    (tmp_path / "manifest.json").write_bytes(manifest.to_bytes())
    ended = await asynccam(
        *("align", tmp_path, "--sheet", tmp_path / "s.png", "--at", 1.2, "--cut", tmp_path / "cut"),
        timeout=120,
    )
    assert ended.code == 0, ended.err
    (sheet,) = await shades(tmp_path / "s.png", (960, 288), (240, 153), (720, 153))
    assert abs(sheet[0] - sheet[1]) <= 2
    assert sheet[0] > 60
    cuts = [await shades(tmp_path / "cut" / f"{name}.mp4", (64, 48), (30, 20)) for name in "ab"]
    assert len(cuts[0]) == len(cuts[1]) == 40
    assert all(abs(one[0] - other[0]) <= 3 for one, other in zip(*cuts, strict=True))


async def test_align_without_files_has_same_cuts_and_no_frames(tmp_path: Path) -> None:
    directory = await variable_take(tmp_path)
    manifest = take().from_bytes((directory / "manifest.json").read_bytes())
    (directory / "b.mkv").unlink()
    (directory / "a.mkv").write_bytes(b"another file")
    times = await read_frame_times(manifest, directory, frame_times)
    alignment = align_take(manifest, times)
    assert alignment.window == align_take(manifest).window
    assert alignment.window is not None
    a, b = alignment.cameras
    assert (a.begin and a.begin.frame, b.begin and b.begin.frame) == (None, None)
    assert "not the file of this take: it has 12 bytes" in a.frames_problem
    assert "b.mkv cannot be read" in b.frames_problem
    ended = await asynccam("align", directory)
    assert ended.code == 0
    assert "some frames have no number" in ended.out


# -- the arithmetic ---------------------------------------------------------------------------------


async def test_frame_times_at_nearest_or_none(tmp_path: Path) -> None:
    frames = await frames_of(tmp_path, {"v.mkv": [5.0, 5.1, 5.2, 9.2, 9.3]}, **seen(1.0))
    assert instants(frames) == [1.0, 1.1, 1.2, 5.2, 5.3]
    wanted = {0.9: None, 1.0: 0, 1.04: 0, 1.05: 0, 1.06: 1, 3.1: 2, 3.3: 3, 5.3: 4, 5.39: 4, 5.41: None}
    found = {at: frames.at(T0 + at) for at in wanted}
    assert {at: frame and frame.index for at, frame in found.items()} == wanted
    middle = found[3.1]
    assert middle is not None
    assert (middle.file, middle.time, round(middle.duration or 0, 6)) == ("v.mkv", 5.2, 4.0)
    assert (len(frames), frames.problem) == (5, "")
    with pytest.raises(IndexError):
        frames.files[0].frame(5)


async def test_frame_bound_grows_with_drift_and_resolution(tmp_path: Path) -> None:
    files = {"v.mp4": [0.0, 0.04, 600.0, 600.04]}
    device = await frames_of(tmp_path, files, resolution=0.001)
    first, *_, last = device
    assert first.bound == pytest.approx(0.01)
    assert last.bound == pytest.approx(0.01 + 0.001 + 600.04 * ASSUMED_DRIFT)
    clock = {"offset": 0.0, "bound": 0.01, "round_trip": 0.02, "samples": 8, "measured_at": moment(0)}
    measured = await frames_of(tmp_path, files, clock={**clock, "drift": 1e-4, "drift_bound": 2e-6})
    *_, last = measured
    # A clock that runs 100 ppm fast counts 600.04 s while 599.98 s pass.
    assert last.at - T0 == pytest.approx(600.04 / 1.0001)
    assert last.bound == pytest.approx(0.01 + 600 * 7e-6, abs=1e-6)
    wrong = {**clock, "drift": 1e-4, "drift_bound": 1e-6, "consistent": False}
    unsure = await frames_of(tmp_path, files, clock=wrong)
    assert [frame.bound for frame in unsure][-1] == pytest.approx(0.01 + 600.04 * ASSUMED_DRIFT)
    here = await frames_of(tmp_path, files, source="local")
    assert [round(frame.bound, 6) for frame in here] == [0.01] * 4
    # Times that a sender's clock stamped: RTP.
    stamped = await frames_of(tmp_path, files, source="local", frame_drift=5e-4)
    assert [frame.bound for frame in stamped][-1] == pytest.approx(0.01 + 600.04 * 5e-4)
    told = await frames_of(tmp_path, files, drift=1e-5)
    assert [frame.bound for frame in told][-1] == pytest.approx(0.01 + 600.04e-5)


async def test_frame_times_first_frame_that_waited(tmp_path: Path) -> None:
    (tmp_path / "v.mkv").touch()
    record = CameraRecord.model_validate(camera("a", video("v.mkv", None, source="local"), **seen(1.0)))
    made = given({"v.mkv": [0.0, 0.1, 0.2, 0.3]})
    came = given({"v.mkv": [7.0, 7.02, 7.13, 7.22]})
    frames = await FrameTimes.of_camera(record, tmp_path, made, drift=0.0, arrivals=came)
    assert instants(frames) == pytest.approx([0.92, 1.02, 1.12, 1.22])


async def test_segments_are_placed_by_their_continuous_times(tmp_path: Path) -> None:
    ramp = [n / 10 for n in range(10)]
    anew = await frames_of(tmp_path, {"v-0.mkv": ramp, "v-1.mkv": ramp, "v-2.mkv": ramp}, drift=0.0)
    assert instants(anew) == pytest.approx([n / 10 for n in range(30)])
    assert [round(file.bound, 6) for file in anew.files] == [0.01, 0.11, 0.21]
    # A stream that was cut into segments keeps its clock; a frame that was lost between two is seen.
    on = {"s-0.ts": [7 + n for n in ramp], "s-1.ts": [8 + n for n in ramp], "s-2.ts": [9.1 + n for n in ramp]}
    stream = await frames_of(tmp_path, on, drift=0.0)
    assert instants(stream)[10:21:10] == pytest.approx([1.0, 2.1])
    assert [round(file.bound, 6) for file in stream.files] == [0.01] * 3
    edge = stream.at(T0 + 1.96)
    assert edge is not None
    assert (edge.file, edge.index) == ("s-1.ts", 9)
    edge = anew.at(T0 + 0.96)
    assert edge is not None
    assert (edge.file, edge.index) == ("v-1.mkv", 0)


async def test_frame_times_file_after_a_restart(tmp_path: Path) -> None:
    ramp = [n / 10 for n in range(10)]
    gap = {"began_at": moment(1.0), "ended_at": moment(5.0), "restarted": True}
    files = {"v-0.mkv": ramp, "v-1.mkv": ramp, "v-2.mkv": ramp}
    frames = await frames_of(tmp_path, files, gaps=[gap], drift=0.0)
    assert [round(file.begins_at - T0, 6) for file in frames.files] == [0.0, 5.0, 6.0]
    assert frames.at(T0 + 3.0) is None
    assert [round(file.bound, 6) for file in frames.files] == [0.01, 0.01, 0.11]


async def test_frames_without_a_time_lie_between_those_with_one(tmp_path: Path) -> None:
    frames = await frames_of(tmp_path, {"v.ts": [0.0, None, None, 0.3, 0.4, None]}, drift=0.0)
    assert instants(frames) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert [round(frame.bound, 6) for frame in frames] == [0.01, 0.21, 0.21, 0.01, 0.01]
    assert frames.problem == "v.ts has no time for its last 1 frames"
    for times, why in (
        ([None, 0.1], "has no time for its first frame"),
        ([None], "has no time for any of its frames"),
        ([], "has no time for any of its frames"),
    ):
        nothing = await frames_of(tmp_path, {"v.ts": times})
        assert (nothing.files, nothing.at(T0)) == ((), None)
        assert why in nothing.problem


async def test_frames_behind_a_clock_that_went_back_have_no_instant(tmp_path: Path) -> None:
    frames = await frames_of(tmp_path, {"v.ts": [3.0, 3.1, 0.0, 0.1], "w.ts": [0.0]})
    assert instants(frames) == [0.0, 0.1]
    assert frames.problem == "the times in v.ts go back at frame 2"


async def test_unreadable_file_has_a_problem_and_costs_no_other_camera(tmp_path: Path) -> None:
    (tmp_path / "raw.h264").write_bytes(b"\0\0\0\1\x67" * 9)
    (tmp_path / "v.mkv").touch()
    manifest = take(
        camera("raw", video("raw.h264", None), **seen(0.0)),
        camera("gone", video("gone.mp4", None), **seen(0.0)),
        camera("unseen", video("v.mkv", None)),
        camera("none", **seen(0.0)),
        camera("still", video("p.jpg", None), kind="still", **seen(0.0)),
    )
    before = manifest.to_bytes()
    times = await read_frame_times(manifest, tmp_path, frame_times)
    assert manifest.to_bytes() == before
    assert {name.removeprefix("x://"): one.problem.rpartition("/")[2] for name, one in times.items()} == {
        "raw": times["x://raw"].problem.rpartition("/")[2],
        "gone": "gone.mp4 cannot be read: No such file or directory",
        "unseen": "the time of its first frame is unknown",
        "none": "no video of it was downloaded",
    }
    assert "has no frame times" in times["x://raw"].problem
    with pytest.raises(UsageError):
        align_take(manifest, times).at(0, times)


async def test_window_end_is_after_its_last_frame(tmp_path: Path) -> None:
    files = {"a.mkv": [n / 10 for n in range(30)], "b.mkv": [n / 25 for n in range(50)]}
    cameras = []
    for name in files:
        (tmp_path / name).touch()
        cameras.append(camera(name[0], video(name, None), **seen(0.0)))
    manifest = take(*cameras)
    times = await read_frame_times(manifest, tmp_path, given(files))
    a, b = align_take(manifest, times).cameras
    assert (a.end and (a.end.frame, round(a.end.frame_offset or 0, 6))) == (20, 2.0)
    assert (b.end and (b.end.frame, round(b.end.frame_offset or 0, 6))) == (50, 2.0)
    assert all(one.at < other.at for one, other in pairwise(times["x://b"]))
