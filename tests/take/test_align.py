"""Cut points computed from manifests written by hand, and the command on real files."""

from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import StorageError, UsageError
from asynccam.model.manifest import Manifest, Moment
from asynccam.recording.verify import verify_file
from asynccam.take import Alignment, align_take
from tests.support.command import asynccam
from tests.support.levels import shades, write_levels

T0 = 1_800_000_000.0


def moment(seconds: float) -> dict[str, Any]:
    return Moment.of(T0 + seconds).model_dump()


def video(name: str, seconds: float | None, fps: int = 10, **facts: Any) -> dict[str, Any]:
    verdict = (
        {"verdict": "complete", "frames": round(seconds * fps), "duration": seconds} if seconds else None
    )
    return {"name": name, "source": "device", "state": "arrived", "path": name, "verdict": verdict, **facts}


def camera(name: str, *files: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {
        "id": f"x://{name}",
        "name": name,
        "system": "x",
        "directory": name,
        "files": list(files),
        **facts,
    }


def seen(seconds: float, bound: float = 0.01) -> dict[str, Any]:
    return {"first_frame_at": moment(seconds), "first_frame_bound": bound, "first_frame_source": "seen"}


def take(*cameras: dict[str, Any], **facts: Any) -> Manifest:
    whole = {"take": "t", "phase": "done", "created_at": moment(0), "written_at": moment(9), **facts}
    return Manifest.model_validate({**whole, "cameras": list(cameras)})


def test_each_file_is_cut_where_the_latest_camera_began() -> None:
    found = align_take(
        take(
            camera("a", video("a/v.mp4", 10.0), **seen(0.25)),
            camera("b", video("b/v.mkv", 8.0, 25), **seen(1.0, 0.02)),
        )
    )
    assert found.window is not None
    assert found.window.begins_at.unix == T0 + 1.0
    assert found.window.seconds == pytest.approx(8.0)
    drift = 500e-6 * (8.75 + 8.0)
    assert found.window.bound == pytest.approx(0.01 + 0.02 + 0.1 + 0.04 + drift)
    assert [(one.drift, one.drift_measured) for one in found.cameras] == [(500e-6, False)] * 2
    a, b = found.cameras
    # Without the files nothing tells which frame that is.
    assert (a.begin and (a.begin.file, a.begin.offset, a.begin.frame)) == ("a/v.mp4", 0.75, None)
    assert (b.begin and (b.begin.file, b.begin.offset, b.begin.frame)) == ("b/v.mkv", 0.0, None)
    assert a.end is not None
    assert (round(a.end.offset, 6), a.end.frame) == (8.75, None)
    assert [(file.offset, file.frame, file.bound) for file in a.files] == [(0.75, None, 0.01)]
    assert a.frames_problem == "the times of its frames were not read"


def test_local_files_with_a_senders_stamps_drift() -> None:
    here, stamped = (
        camera(name, video(f"{name}/v.mkv", 600.0, source="local"), frame_drift=drift, **seen(0.0))
        for name, drift in (("a", 0.0), ("b", 5e-4))
    )
    found = align_take(take(here, stamped))
    assert [(one.drift, one.drift_measured) for one in found.cameras] == [(0.0, True), (5e-4, False)]
    assert [one.cut_bound for one in found.cameras] == pytest.approx([0.01 + 0.1, 0.01 + 0.3 + 0.1])


def test_align_segmented_recording_is_continuous() -> None:
    parts = [video(f"a/v-0{n}.mkv", 2.0) for n in range(4)]
    found = align_take(take(camera("a", *parts, **seen(0.0)), camera("b", video("b.mp4", 3.0), **seen(4.5))))
    a = found.cameras[0]
    assert (a.begin and (a.begin.file, a.begin.offset, a.begin.frame)) == ("a/v-02.mkv", 0.5, None)
    assert (a.end and (a.end.file, round(a.end.offset, 6))) == ("a/v-03.mkv", 1.5)
    assert [round(file.begins_at.unix - T0, 6) for file in a.files] == [0.0, 2.0, 4.0, 6.0]
    assert [file.offset for file in a.files] == [4.5, 2.5, 0.5, -1.5]
    assert [round(file.bound, 6) for file in a.files] == [0.01, 0.111, 0.212, 0.313]


def test_after_a_restart_a_file_begins_where_its_gap_ended() -> None:
    parts = [video("a-00.mkv", 2.0), video("a-01.mkv", 0.6), video("a-02.mkv", 2.0), video("a-03.mkv", 1.0)]
    gaps = [
        {"began_at": moment(1.0), "ended_at": moment(1.5), "reason": "a stall within a file"},
        {"began_at": moment(2.7), "ended_at": moment(5.0), "restarted": True},
    ]
    found = align_take(
        take(camera("a", *parts, gaps=gaps, **seen(0.0)), camera("b", video("b.mp4", 9.0), **seen(0.5)))
    )
    a = found.cameras[0]
    assert [round(file.begins_at.unix - T0, 6) for file in a.files] == [0.0, 2.0, 5.0, 7.0]
    points = {at: found.at(at)["x://a"] for at in (0.0, 1.6, 2.5, 4.6, 6.9, 7.6)}
    assert [point and point.file for point in points.values()] == [
        *("a-00.mkv", "a-01.mkv", None, "a-02.mkv", "a-03.mkv", None)
    ]
    assert found.window is not None
    assert found.window.seconds == pytest.approx(7.5)


def test_unreported_first_frames_lie_within_their_bounds() -> None:
    start = {"t0": moment(0), "t0_local": moment(0), "source": "system", "start_in": 1.0}
    clock = {"offset": -0.04, "bound": 0.01, "round_trip": 0.02, "samples": 8, "measured_at": moment(-1)}
    told = {
        "commanded_at": moment(0.001),
        "accepted_at": moment(0.201),
        "answer_meaning": "recording",
        "stop_commanded_at": moment(5.1),
        "stopped_at": moment(5.2),
    }
    early = {"commanded_at": moment(-1), "accepted_at": moment(-0.9), "scheduled_for": moment(0)}
    manifest = take(
        camera("answered", video("a.mp4", 5.0), **told),
        camera("scheduled", video("b.mp4", 5.0), clock=clock, **early),
        camera("silent", video("c.mp4", 5.0)),
        camera("heard", video("d.mp4", 5.0), **{**told, "answer_meaning": "heard", "stopped_at": None}),
        start=start,
    )
    before = manifest.to_bytes()
    found = align_take(manifest)
    assert manifest.to_bytes() == before
    answered, scheduled, silent, heard = found.cameras
    assert answered.source == "answer"
    assert answered.bound == pytest.approx(0.1)
    assert answered.files[0].begins_at.unix == pytest.approx(T0 + 0.101)
    assert scheduled.source == "schedule"
    # 100 ms that makers state, 50 ms of its clock, and a frame of 100 ms that may just have been over.
    assert scheduled.bound == pytest.approx(0.15 + 0.05, abs=0.001)
    assert (heard.begin, heard.problem) == (None, "the time of its first frame is unknown")
    assert (silent.begin, silent.problem) == (None, "the time of its first frame is unknown")
    assert found.window is not None
    # Two first frames, two frames, and two clocks that may drift until the common end.
    assert found.window.bound == pytest.approx(0.1 + 0.2 + 2 * 0.1 + 2 * 500e-6 * 5.0, abs=0.002)


def test_align_manifest_of_an_older_version() -> None:
    old = {"first_frame_at": moment(0.5), "first_frame_bound": 0.01}
    assert align_take(take(camera("a", video("a.mp4", 1.0), **old))).cameras[0].source == "seen"


def test_camera_that_cannot_be_aligned_has_a_problem() -> None:
    found = align_take(
        take(
            camera("good", video("g.mp4", 5.0), **seen(0.0)),
            camera("stills", video("s/1.JPG", None), **seen(4.0)),
            camera("lost", video("l.mp4", 5.0, state="failed"), **seen(4.0)),
            camera("unread", video("u.mp4", None), **seen(4.0)),
            camera("half", video("h-0.mkv", 3.0), video("h-1.mkv", None), **seen(1.0)),
        )
    )
    good, stills, lost, unread, half = found.cameras
    assert stills.pictures == ["s/1.JPG"]
    assert stills.problem == lost.problem == "no video of it was downloaded"
    assert unread.problem == "the length of u.mp4 is unknown"
    assert half.problem == "the length of h-1.mkv is unknown"
    assert found.window is not None
    assert (good.problem, round(found.window.seconds, 6)) == ("", 3.0)


def test_align_still_picture_is_not_a_problem() -> None:
    lost = video("s/2.jpg", None, state="failed")
    found = align_take(
        take(
            camera("good", video("g.mp4", 5.0), **seen(0.0)),
            camera("still", video("s/1.jpg", None), kind="still", **seen(4.0)),
            camera("lost", lost, kind="still", **seen(4.0)),
        )
    )
    good, still, gone = found.cameras
    assert (still.problem, still.pictures, still.begin) == ("", ["s/1.jpg"], None)
    assert gone.problem == "its picture was not downloaded"
    assert found.window is not None
    assert (good.problem, round(found.window.seconds, 6)) == ("", 5.0)


def test_cameras_that_never_recorded_together_have_no_window() -> None:
    found = align_take(
        take(camera("a", video("a.mp4", 1.0), **seen(0.0)), camera("b", video("b.mp4", 1.0), **seen(2.0)))
    )
    assert found.window is None
    assert {one.problem for one in found.cameras} == {"it has no time in common with all others"}
    with pytest.raises(UsageError, match="no time"):
        found.at(0)
    assert align_take(take()).window is None


async def test_alignment_saved_beside_the_manifest(tmp_path: Path) -> None:
    found = align_take(take(camera("a", video("a.mp4", 1.0), **seen(0.0))))
    assert await found.save(tmp_path) == tmp_path / "align.json"
    assert await Alignment.load(tmp_path) == found
    with pytest.raises(StorageError, match="cannot read"):
        await Alignment.load(tmp_path / "nothing")
    (tmp_path / "align.json").write_text("{}")
    with pytest.raises(StorageError, match="not an alignment"):
        await Alignment.load(tmp_path)


async def real_take(directory: Path) -> Path:
    ramp = [30 + 10 * n for n in range(20)]
    facts = {}
    for name, fps, begins in (("a.mkv", 10, 0.0), ("b.mp4", 5, 0.6)):
        path = await write_levels(directory / name, ramp, fps=fps)
        found = await verify_file(path)
        verdict = {"verdict": "complete", "frames": found.frames, "duration": found.duration}
        facts[name] = camera(name[0], video(name, None, verdict=verdict), **seen(begins))
    manifest = take(*facts.values(), camera("dark", **seen(0.0)))
    (directory / "manifest.json").write_bytes(manifest.to_bytes())
    return directory


async def test_align_command_makes_sheet_preview_and_cuts(tmp_path: Path) -> None:
    directory = await real_take(tmp_path)
    ended = await asynccam(
        *("align", directory, "--sheet", tmp_path / "s.jpg", "--at", 0.45, "--preview", tmp_path / "p.mp4"),
        *("--cut", tmp_path / "cut", "--json"),
        timeout=120,
    )
    assert (ended.code, ended.err) == (8, "")  # one camera has no video
    said = ended.json()
    assert said["alignment"] == (await Alignment.load(directory)).model_dump(mode="json")
    assert [Path(made).name for made in said["made"]] == ["s.jpg", "p.mp4", "a.mp4", "b.mp4"]
    (sheet,) = await shades(tmp_path / "s.jpg", (960, 2 * 288), (240, 153), (720, 153))
    assert abs(sheet[0] - (30 + 10 * 10)) < 8
    assert abs(sheet[1] - (30 + 10 * 2)) < 8
    assert (await verify_file(tmp_path / "p.mp4")).frames == 35
    assert [(await verify_file(tmp_path / "cut" / f"{n}.mp4")).frames for n in "ab"] == [14, 7]
    again = await asynccam("align", directory, "--preview", tmp_path / "p.mp4")
    assert again.code == 6
    assert "exists" in again.err


async def test_align_command_output_and_refusals(tmp_path: Path) -> None:
    directory = await real_take(tmp_path)
    ended = await asynccam("align", directory)
    assert ended.code == 8
    assert "0.600 s" in ended.out
    assert "no video of it was downloaded" in ended.out
    late = await asynccam("align", directory, "--sheet", tmp_path / "s.png", "--at", 5)
    assert (late.code, late.out) == (2, "")
    none = await asynccam("align", tmp_path / "nothing")
    assert none.code == 6
