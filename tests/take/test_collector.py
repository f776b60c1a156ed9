"""Files that lie in a camera's directory when a take ends, though no answer named them."""

import asyncio
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from asynccam.model.features import StopReport
from asynccam.model.info import MediaFile
from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.recording import FileVerdict, Verdict
from asynccam.session import Session
from asynccam.take import Take, TakeLimits, TakeState, resume_take
from tests.support.scripted_camera import ScriptedCamera, hang, in_turn
from tests.support.waiting import eventually

HASTY = TakeLimits(stop_timeout=0.3, status_timeout=2)


@dataclass(frozen=True)
class Found:
    verdict: Verdict = Verdict.COMPLETE
    frames: int | None = 30
    duration: float | None = 1.0
    detail: str = "read"


async def found(path: Path) -> Found:
    return Found()


@pytest.mark.parametrize("verify", [None, found])
async def test_collect_file_of_a_stop_that_timed_out(tmp_path: Path, verify: object) -> None:
    camera = ScriptedCamera("silent", script={"stop": in_turn(hang)}, local=True)
    looks = found if verify else None
    take = Take([camera], tmp_path, limits=HASTY, verify=looks)
    await take.run(duration=0.05, start_in=0)
    (record,) = (await Manifest.load(take.directory)).cameras
    (file,) = record.files
    data = camera.contents["video.mp4"]
    assert (file.name, file.path, file.source) == ("video.mp4", "silent/video.mp4", "local")
    assert (file.state, file.size) == (FileState.ARRIVED, len(data))
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert (file.verdict is not None) is (looks is not None)
    assert record.outcome is Outcome.INCOMPLETE  # its stop was never answered


async def test_parts_links_and_hidden_files_are_not(tmp_path: Path) -> None:
    async def scatter(camera: ScriptedCamera, step: str) -> None:
        if step == "stop":
            assert camera.plan is not None
            await asyncio.to_thread(fill, camera.plan.directory)

    def fill(place: Path) -> None:
        for name in ("a.mp4.part", "a.mp4.interrupted", ".hidden.mp4", "0_Cam.gstreamer.log"):
            (place / name).write_bytes(b"x")
        (place / "link.mp4").symlink_to("/etc/hostname")
        (place / "directory.mp4").mkdir()
        os.mkfifo(place / "pipe.mp4")
        (place / "extra.mkv").write_bytes(b"more")

    camera = ScriptedCamera("busy", local=True, on_call=scatter)
    take = await Take([camera], tmp_path).run(duration=0.05, start_in=0)
    (record,) = take.manifest.cameras
    assert [file.name for file in record.files] == ["video.mp4", "extra.mkv"]
    assert [file.state for file in record.files] == [FileState.ARRIVED] * 2


async def test_file_still_written_is_awaited_and_reported_if_it_grows(tmp_path: Path) -> None:
    async def write_on(path: Path) -> None:
        while True:
            with path.open("ab") as file:
                file.write(b"frame")
            await asyncio.sleep(0.05)  # the pace at which the file grows

    camera = ScriptedCamera("slow", script={"stop": in_turn(hang)}, local=True)
    take = Take([camera], tmp_path, limits=HASTY)
    writing: asyncio.Task[None] | None = None
    try:
        await take.arm()
        await take.start(start_in=0)
        writing = asyncio.ensure_future(write_on(take.directory / "slow" / "video.mp4"))
        await take.stop()
        await take.collect()
    finally:
        if writing is not None:
            writing.cancel()
            await asyncio.wait({writing})
    (record,) = take.manifest.cameras
    assert [file.path for file in record.files] == ["slow/video.mp4"]
    assert any(one.step == "collect" and one.error == "TimeoutError" for one in record.errors)
    assert record.outcome is Outcome.INCOMPLETE


async def test_complete_download_of_a_take_cut_short_is_adopted(tmp_path: Path) -> None:
    async def renamed_and_then_stuck(camera: ScriptedCamera, step: str) -> None:
        if step == "download":
            path = take.directory / "one" / "video.mp4"
            await asyncio.to_thread(path.write_bytes, camera.contents["video.mp4"])
            await hang()

    camera = ScriptedCamera("one", on_call=renamed_and_then_stuck)
    take = Take([camera], tmp_path, limits=TakeLimits(cancel_timeout=0.5))
    running = asyncio.ensure_future(take.run(duration=0.05, start_in=0))
    await eventually(lambda: "download" in camera.calls, 20)
    running.cancel()
    await asyncio.wait({running})
    (record,) = take.manifest.cameras
    (file,) = record.files
    assert (file.state, file.source, file.path) == (FileState.ARRIVED, "device", "one/video.mp4")


async def test_verdicts_of_local_recorders_need_no_verify_function(tmp_path: Path) -> None:
    class Recorder(ScriptedCamera):
        async def stop(self, *, timeout: float = 60.0) -> StopReport:
            report = await super().stop(timeout=timeout)
            (file,) = report.files
            assert file.path is not None
            verdict = FileVerdict(file.path, Verdict.TRUNCATED, 7, 0.25, 5, "cut")
            return StopReport(
                report.commanded_at,
                report.stopped_at,
                files=(MediaFile(file.name, 5, "", None, file.path, verdict),),
            )

    take = await Take([Recorder("one", local=True)], tmp_path, name="a").run(duration=0.05, start_in=0)
    (record,) = (await Manifest.load(take.directory)).cameras
    verdict = record.files[0].verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.frames, verdict.duration, verdict.detail) == (
        "truncated",
        7,
        0.25,
        "cut",
    )
    assert record.outcome is Outcome.INCOMPLETE
    looked = await Take([Recorder("one", local=True)], tmp_path, name="b", verify=found).run(
        duration=0.05, start_in=0
    )
    verdict = looked.manifest.cameras[0].files[0].verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.detail) == ("complete", "read")  # who asks for a look gets one


@pytest.mark.parametrize("how", ["cancel", "abort", "killed"])
@pytest.mark.parametrize("content", [b"", b"header"], ids=["empty", "some bytes"])
async def test_empty_files_of_a_cancelled_take_are_removed_or_listed(
    tmp_path: Path, how: str, content: bytes
) -> None:
    async def on_call(camera: ScriptedCamera, step: str) -> None:
        if step == "disarm" and camera.plan is not None:
            await asyncio.to_thread((camera.plan.directory / "left.mp4").write_bytes, content)

    camera = ScriptedCamera("one", local=True, on_call=on_call)
    take = Take([camera], tmp_path, name="take")
    running = asyncio.ensure_future(take.run(duration=30, start_in=20))
    await eventually(lambda: take.state is TakeState.STARTING)
    if how == "killed":  # what it had written so far is all that is left
        copy = tmp_path / "killed"
        # Without the files that are about to be renamed.
        await asyncio.to_thread(shutil.copytree, take.directory, copy, ignore=shutil.ignore_patterns(".*"))
        await asyncio.to_thread((copy / "one" / "left.mp4").write_bytes, content)
    if how == "abort":
        await take.abort()
    running.cancel()
    await asyncio.wait({running})
    directory = take.directory
    if how == "killed":
        directory = copy
        async with Session() as session:
            session.add(camera)
            await resume_take(directory, session)
    manifest = await Manifest.load(directory)
    listed = [file.path for file in manifest.cameras[0].files]
    assert listed == (["one/left.mp4"] if content else [])
    assert (directory / "one" / "left.mp4").exists() == bool(content)
    assert manifest.outcome is not Outcome.RUNNING
