"""Cameras that take pictures and no video, in a take: one picture at T0."""

import asyncio
import hashlib
import logging
from pathlib import Path

import pytest

from asynccam.errors import ConnectionError, DamagedFileError, DeviceError, RecordingError, StateError
from asynccam.model.camera import Camera
from asynccam.model.events import CameraFailed, Event, FileArrived, RecordingStarted, RecordingStopped
from asynccam.model.features import RecordPlan
from asynccam.model.info import CameraState
from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.recording import verify_file
from asynccam.take import Take, TakeLimits
from asynccam.take.collector import FileCheck
from asynccam.take.participant import SnapshotRecorder
from tests.support.cancelling import cancelled_at
from tests.support.jpegs import jpeg_of_kind
from tests.support.scripted_camera import ScriptedCamera, ScriptedStillCamera, hang, late, refuse
from tests.support.waiting import eventually


async def test_picture_at_t0_is_downloaded(tmp_path: Path) -> None:
    events: list[Event] = []
    still = ScriptedStillCamera("still")
    take = Take([still, ScriptedCamera("video")], tmp_path, emit=events.append)
    await take.run(duration=0.05, start_in=0.05)
    assert take.ok
    assert still.calls == ["status", "snapshot"]
    manifest = await Manifest.load(take.directory)
    record, video = manifest.cameras
    assert (record.kind, video.kind) == ("still", "video")
    assert record.features == ["snapshot"]
    (file,) = record.files
    assert (file.name, file.source, file.state, file.path, file.size) == (
        "still.jpg",
        "device",
        FileState.ARRIVED,
        "still/still.jpg",
        50,
    )
    assert file.sha256 == hashlib.sha256((take.directory / "still/still.jpg").read_bytes()).hexdigest()
    assert manifest.start is not None
    assert record.commanded_at is not None
    assert record.accepted_at is not None
    assert record.first_frame_at is not None
    assert record.first_frame_bound is not None
    assert manifest.start.t0.unix <= record.commanded_at.unix <= still.asked_at[0] <= record.accepted_at.unix
    assert abs(record.first_frame_at.unix - still.asked_at[0]) <= record.first_frame_bound + 1e-6
    mine = [event for event in events if getattr(event, "camera", "") == still.id]
    assert [type(event) for event in mine] == [RecordingStarted, RecordingStopped, FileArrived]


async def test_stop_waits_for_a_slow_picture(tmp_path: Path) -> None:
    arrived = asyncio.Event()

    async def slow() -> None:
        await arrived.wait()

    still = ScriptedStillCamera("still", script={"snapshot": slow})
    take = Take([still], tmp_path, limits=TakeLimits(start_answer_grace=0.01))
    running = asyncio.ensure_future(take.run(duration=0.01, start_in=0))
    await eventually(lambda: take.state.value == "stopping")
    arrived.set()
    await running
    assert take.ok


@pytest.mark.parametrize(
    ("script", "state", "step", "error"),
    [
        ({"status": refuse(DeviceError("no"))}, CameraState.READY, "arm", "DeviceError"),
        ({"status": hang}, CameraState.READY, "arm", "TimeoutError"),
        ({}, CameraState.UNAVAILABLE, "arm", "ConnectionError"),
        ({}, CameraState.ERROR, "arm", "DeviceError"),
        ({"snapshot": refuse(DeviceError("lens cap"))}, CameraState.READY, "start", "DeviceError"),
        (
            {"snapshot": refuse(ConnectionError("gone", maybe_executed=True))},
            CameraState.READY,
            "start",
            "ConnectionError",
        ),
        ({"snapshot": hang}, CameraState.READY, "start", "TimeoutError"),
    ],
)
async def test_failed_picture_is_reported_once_and_disturbs_no_camera(
    tmp_path: Path,
    script: dict[str, object],
    state: CameraState,
    step: str,
    error: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[CameraFailed] = []

    def note(event: Event) -> None:
        if isinstance(event, CameraFailed):
            failures.append(event)

    still = ScriptedStillCamera("still", script=script, state=state)  # type: ignore[arg-type]  # parametrized
    limits = TakeLimits(arm_timeout=1, start_timeout=1) if hang in script.values() else TakeLimits()
    cameras: list[Camera] = [still, ScriptedCamera("video")]
    with caplog.at_level(logging.ERROR):
        take = await Take(cameras, tmp_path, limits=limits, emit=note).run(duration=0.01, start_in=0.01)
    record, video = take.manifest.cameras
    assert [(one.step, one.error) for one in record.errors] == [(step, error)]
    assert [one.step for one in failures] == [step]
    assert (record.outcome, video.outcome) == (Outcome.FAILED, Outcome.COMPLETE)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["ok", "leadjunk", "cut60", "twosoi", "raw"])
async def test_picture_has_a_verdict(tmp_path: Path, kind: str) -> None:
    still = ScriptedStillCamera("still", content=jpeg_of_kind(kind))
    take = await Take([still], tmp_path, verify=verify_file).run(duration=0, start_in=0)
    (record,) = (await Manifest.load(take.directory)).cameras
    (file,) = record.files
    assert file.verdict is not None
    words = {"cut60": "truncated", "twosoi": "damaged", "raw": "unknown"}
    assert file.verdict.verdict == words.get(kind, "complete")
    whole = kind not in ("cut60", "twosoi")
    assert record.outcome is (Outcome.COMPLETE if whole else Outcome.INCOMPLETE)
    assert take.ok is whole


@pytest.mark.parametrize("verify", [None, verify_file])
async def test_broken_picture_is_kept_with_its_verdict(tmp_path: Path, verify: FileCheck | None) -> None:
    data = jpeg_of_kind("cut60")

    async def broken() -> None:
        directory = tmp_path / "take" / "still"
        part = directory / "a.jpg.part"
        await asyncio.to_thread((directory / "a.jpg").write_bytes, b"somebody else's")
        await asyncio.to_thread(part.write_bytes, data)
        raise DamagedFileError("half a picture", part=part, received=len(data), verdict="truncated")

    still = ScriptedStillCamera("still", script={"snapshot": broken})
    take = await Take([still], tmp_path, name="take", verify=verify).run(duration=0, start_in=0)
    (record,) = take.manifest.cameras
    assert (record.outcome, record.errors) == (Outcome.INCOMPLETE, [])
    file, found = record.files
    assert (found.name, found.source) == ("a.jpg", "local")  # whatever lies there is on record
    assert (file.name, file.state, file.path, file.size) == (
        "a-1.jpg",
        FileState.ARRIVED,
        "still/a-1.jpg",
        len(data),
    )
    assert (take.directory / "still/a-1.jpg").read_bytes() == data
    assert file.verdict is not None
    assert (file.verdict.verdict, file.verdict.frames) == ("truncated", 0)
    assert file.sha256 == hashlib.sha256(data).hexdigest()


async def test_broken_picture_without_a_part_is_an_error(tmp_path: Path) -> None:
    still = ScriptedStillCamera("still", script={"snapshot": refuse(DamagedFileError("half a picture"))})
    take = await Take([still], tmp_path).run(duration=0, start_in=0)
    (record,) = take.manifest.cameras
    assert record.outcome is Outcome.FAILED
    assert [error.error for error in record.errors] == ["DamagedFileError"]


async def test_cancelled_while_the_picture_is_taken(tmp_path: Path) -> None:
    still = ScriptedStillCamera("still", script={"snapshot": hang})
    take = Take([still], tmp_path, limits=TakeLimits(start_answer_grace=0.05))
    running = asyncio.ensure_future(take.run(duration=30, start_in=0))
    await eventually(lambda: "snapshot" in still.calls)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (record,) = take.manifest.cameras
    assert (record.outcome, record.files) == (Outcome.CANCELLED, [])
    assert [error.step for error in record.errors] == ["start"]


async def test_cancelled_after_the_picture_downloads_it(tmp_path: Path) -> None:
    still = ScriptedStillCamera("still")
    take = Take([still], tmp_path)
    running = asyncio.ensure_future(take.run(duration=30, start_in=0))
    await eventually(lambda: take.manifest.cameras[0].accepted_at)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (record,) = take.manifest.cameras
    assert (record.outcome, record.files[0].state) == (Outcome.COMPLETE, FileState.ARRIVED)


async def test_cancelled_before_t0_no_picture_is_asked_for(tmp_path: Path) -> None:
    still = ScriptedStillCamera("still")
    take = Take([still], tmp_path)
    running = asyncio.ensure_future(take.run(duration=1, start_in=30))
    await eventually(lambda: take.state.value == "starting")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert still.calls == ["status"]


async def test_cancelled_at_each_await(tmp_path: Path) -> None:
    for count in range(1, 500):
        still = ScriptedStillCamera("still", script={"snapshot": late(0.001)})

        async def whole(still: Camera = still, name: str = str(count)) -> None:
            await Take([still], tmp_path, name=name).run(duration=0.001, start_in=0)

        if not await cancelled_at(whole(), count):
            return
    pytest.fail("it never came to its end")


async def test_out_of_turn(tmp_path: Path) -> None:
    still = SnapshotRecorder(ScriptedStillCamera("still"))
    with pytest.raises(RecordingError, match="no picture"):
        await still.stop()
    armed = await still.arm(RecordPlan(tmp_path))
    with pytest.raises(StateError, match="not asked for"):
        await armed.accepted()
    await armed.aclose()
    await armed.aclose()


async def test_pictures_of_a_hundred_cameras_side_by_side(tmp_path: Path) -> None:
    everybody = asyncio.Event()
    cameras: list[ScriptedStillCamera] = []

    async def until_all_are_asked() -> None:
        if all(camera.asked_at for camera in cameras):
            everybody.set()
        await everybody.wait()

    cameras += [
        ScriptedStillCamera(f"camera{number}", script={"snapshot": until_all_are_asked})
        for number in range(100)
    ]
    take = await Take(cameras, tmp_path).run(duration=0.01, start_in=0.05)
    assert take.ok
