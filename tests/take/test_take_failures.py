"""Cameras that refuse, hang, die or are late at any step: each in its own record, the others undisturbed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import BusyError, ConnectionError, DeviceError, StorageError
from asynccam.model.digest import DigestName
from asynccam.model.events import CameraFailed, Event
from asynccam.model.features import FeatureKey, Progress
from asynccam.model.info import LocalFile, MediaFile
from asynccam.model.manifest import CameraRecord, FileState, Manifest, Outcome
from asynccam.take import Take, TakeLimits
from tests.support.scripted_camera import (
    Behaviour,
    ScriptedCamera,
    broken_transfer,
    hang,
    in_turn,
    late,
    refuse,
)

SHORT = TakeLimits(
    clock_timeout=0.1,
    arm_timeout=0.1,
    start_timeout=0.1,
    start_answer_grace=0.05,
    stop_timeout=0.1,
    status_timeout=0.1,
    stall_timeout=0.1,
    verify_timeout=0.1,
    cancel_timeout=2.0,
)
GONE = ConnectionError("the peer went away", maybe_executed=True)


async def take_with(tmp_path: Path, bad: ScriptedCamera) -> tuple[Take, CameraRecord]:
    """A short take of a good camera, the bad one and another good one; the good ones must be complete."""
    good = [ScriptedCamera("first"), ScriptedCamera("last", scheduled=True)]
    heard: list[Event] = []
    take = Take([good[0], bad, good[1]], tmp_path, limits=SHORT, emit=heard.append)
    async with asyncio.timeout(10):
        await take.run(duration=0.1, start_in=0.02)
    first, record, last = take.manifest.cameras
    assert (first.outcome, last.outcome) == (Outcome.COMPLETE, Outcome.COMPLETE)
    assert not first.errors
    assert not last.errors
    assert bad.held == 0
    told = [(event.step, str(event.error)) for event in heard if isinstance(event, CameraFailed)]
    assert told == [(error.step, error.message) for error in record.errors]
    assert await Manifest.load(take.directory) == take.manifest
    return take, record


def steps(record: CameraRecord) -> list[tuple[str, str, bool]]:
    return [(error.step, error.error, error.retryable) for error in record.errors]


@pytest.mark.parametrize("behaviour", [refuse(GONE), refuse(BusyError("occupied")), hang])
@pytest.mark.parametrize("step", ["arm", "release", "accepted", "stop", "download"])
async def test_camera_failure_at_each_step(tmp_path: Path, step: str, behaviour: Behaviour) -> None:
    bad = ScriptedCamera("bad", script={step: behaviour})
    take, record = await take_with(tmp_path, bad)
    name = {"release": "start", "accepted": "start", "download": "collect"}.get(step, step)
    assert record.errors[0].step == name
    assert record.outcome is not Outcome.COMPLETE
    assert take.manifest.outcome is Outcome.INCOMPLETE
    assert not take.ok
    if step == "arm":
        assert "release" not in bad.calls


async def test_camera_failure_with_a_foreign_exception(tmp_path: Path) -> None:
    _, record = await take_with(tmp_path, ScriptedCamera("bad", script={"arm": refuse(KeyError("model"))}))
    assert steps(record) == [("arm", "KeyError", False)]
    assert record.outcome is Outcome.FAILED


async def test_camera_that_cannot_record(tmp_path: Path) -> None:
    class Deaf(ScriptedCamera):
        @property
        def features(self) -> Mapping[FeatureKey[Any], object]:
            return {}

    _, record = await take_with(tmp_path, Deaf("deaf"))
    assert steps(record) == [("arm", "FeatureError", False)]


@pytest.mark.parametrize("behaviour", [refuse(GONE), hang])
async def test_clock_that_cannot_be_measured(tmp_path: Path, behaviour: Behaviour) -> None:
    take, record = await take_with(tmp_path, ScriptedCamera("bad", clock=0.0, script={"clock": behaviour}))
    assert [error.step for error in record.errors] == ["clock"]
    assert record.clock is None
    assert record.outcome is Outcome.COMPLETE
    assert take.ok


async def test_refused_start_is_not_followed_by_a_stop(tmp_path: Path) -> None:
    bad = ScriptedCamera("bad", script={"accepted": refuse(DeviceError("no", status="error"))})
    _, record = await take_with(tmp_path, bad)
    assert "stop" not in bad.calls
    assert steps(record) == [("start", "DeviceError", False)]


@pytest.mark.parametrize("answer", [hang, refuse(GONE)])
async def test_unanswered_start_is_stopped(tmp_path: Path, answer: Behaviour) -> None:
    bad = ScriptedCamera("bad", script={"accepted": answer})
    _, record = await take_with(tmp_path, bad)
    assert not bad.recording
    assert [file.state for file in record.files] == [FileState.ARRIVED]
    assert record.outcome is Outcome.INCOMPLETE
    assert [error.step for error in record.errors] == ["start"]


async def test_unanswered_start_of_an_idle_camera_is_left_alone(tmp_path: Path) -> None:
    bad = ScriptedCamera("bad")

    async def never_begin() -> None:
        assert bad.timer is not None
        bad.timer.cancel()
        await hang()

    bad.script["accepted"] = never_begin
    _, record = await take_with(tmp_path, bad)
    assert "stop" not in bad.calls
    assert [error.step for error in record.errors] == ["start"]


async def test_late_answer_to_a_start_is_stopped(tmp_path: Path) -> None:
    limits = TakeLimits(start_timeout=5.0, start_answer_grace=0.05)
    slow = ScriptedCamera("slow", script={"accepted": late(0.4)})
    fast = ScriptedCamera("fast")
    take = await Take([slow, fast], tmp_path, limits=limits).run(duration=0.1, start_in=0)
    assert take.ok
    assert not slow.recording
    first, second = take.manifest.cameras
    assert first.accepted_at is not None
    assert first.stop_commanded_at is not None
    assert second.stopped_at is not None
    assert second.stopped_at.unix < first.accepted_at.unix < first.stop_commanded_at.unix


async def test_failed_stop_is_tried_once_more(tmp_path: Path) -> None:
    bad = ScriptedCamera("bad", script={"stop": in_turn(refuse(GONE), None)})
    take, record = await take_with(tmp_path, bad)
    assert bad.calls.count("stop") == 2
    assert not record.errors
    assert take.ok


async def test_stop_that_fails_twice_is_reported(tmp_path: Path) -> None:
    bad = ScriptedCamera("bad", script={"stop": refuse(GONE)})
    _, record = await take_with(tmp_path, bad)
    assert bad.calls.count("stop") == 2
    assert record.errors[0].message == str(GONE)


async def test_files_of_a_stop_whose_answer_was_lost_are_found_on_the_device(tmp_path: Path) -> None:
    bad = ScriptedCamera("bad", clock=-50.0)

    async def lose_the_answer() -> None:
        bad.recording = False
        raise GONE

    bad.script["stop"] = lose_the_answer
    _, record = await take_with(tmp_path, bad)
    assert [(file.name, file.state) for file in record.files] == [("video.mp4", FileState.ARRIVED)]
    assert record.outcome is Outcome.INCOMPLETE
    assert steps(record) == [("stop", "ConnectionError", True)]


async def test_stop_without_a_file_is_a_failure(tmp_path: Path) -> None:
    _, record = await take_with(tmp_path, ScriptedCamera("bad", contents={}))
    assert steps(record) == [("stop", "RecordingError", False)]
    assert record.outcome is Outcome.FAILED


async def test_broken_transfer_names_its_part(tmp_path: Path) -> None:
    bad = ScriptedCamera("bad", contents={"a.mp4": b"abc", "b.mp4": b"defg"})
    part = tmp_path / "take" / "bad" / "a.mp4.part"
    bad.script["download"] = in_turn(broken_transfer(part, 2, 3), None)
    good = ScriptedCamera("good")
    take = await Take([bad, good], tmp_path, name="take", limits=SHORT).run(duration=0.05, start_in=0)
    record = take.manifest.cameras[0]
    first, second = record.files
    assert (first.state, first.path, first.part, first.received) == (
        FileState.FAILED,
        None,
        "bad/a.mp4.part",
        2,
    )
    assert second.state is FileState.ARRIVED
    assert record.outcome is Outcome.INCOMPLETE


async def test_slow_transfer_may_exceed_the_stall_timeout(tmp_path: Path) -> None:
    class Slow(ScriptedCamera):
        async def download(
            self,
            file: MediaFile | str,
            directory: Path,
            *,
            progress: Progress | None = None,
            digest: DigestName | None = "sha256",
        ) -> LocalFile:
            assert progress is not None
            for received in range(1, 8):
                await asyncio.sleep(SHORT.stall_timeout / 3)
                progress(received, 100)
            return await super().download(file, directory)

    take, _ = await take_with(tmp_path, Slow("slow"))
    assert take.ok


async def test_stalled_transfer_is_given_up(tmp_path: Path) -> None:
    class Stuck(ScriptedCamera):
        async def download(
            self,
            file: MediaFile | str,
            directory: Path,
            *,
            progress: Progress | None = None,
            digest: DigestName | None = "sha256",
        ) -> LocalFile:
            assert progress is not None
            while True:
                await asyncio.sleep(SHORT.stall_timeout / 3)
                progress(5, 100)

    _, record = await take_with(tmp_path, Stuck("stuck"))
    assert steps(record) == [("collect", "TimeoutError", True)]
    assert "no new byte" in record.errors[0].message


async def test_missing_local_file(tmp_path: Path) -> None:
    bad = ScriptedCamera("bad", local=True)

    async def remove() -> None:
        assert bad.plan is not None
        await asyncio.to_thread((bad.plan.directory / "video.mp4").unlink)

    bad.script["stop"] = remove
    _, record = await take_with(tmp_path, bad)
    assert steps(record) == [("collect", "StorageError", False)]
    assert record.files[0].state is FileState.FAILED


class Word(Enum):
    COMPLETE = "complete"
    TRUNCATED = "truncated"


@dataclass(frozen=True)
class Found:
    verdict: Word
    frames: int | None = 10
    duration: float | None = 0.5
    detail: str = "as found"


def verifier(found: Callable[[], Awaitable[Found]]) -> Callable[[Path], Awaitable[Found]]:
    async def verify(path: Path) -> Found:
        assert await asyncio.to_thread(path.is_file)
        return await found()

    return verify


async def test_verdicts_stand_beside_the_files(tmp_path: Path) -> None:
    words = iter([Word.COMPLETE, Word.TRUNCATED])

    async def found() -> Found:
        return Found(next(words))

    camera = ScriptedCamera("one", contents={"a.mp4": b"a", "b.mp4": b"b"})
    take = await Take([camera], tmp_path, verify=verifier(found)).run(duration=0.02, start_in=0)
    verdicts = [file.verdict.model_dump() for file in take.manifest.cameras[0].files if file.verdict]
    assert verdicts == [
        {"verdict": "complete", "frames": 10, "duration": 0.5, "detail": "as found"},
        {"verdict": "truncated", "frames": 10, "duration": 0.5, "detail": "as found"},
    ]
    assert take.manifest.outcome is Outcome.INCOMPLETE


async def test_verifier_that_hangs_costs_only_its_verdict(tmp_path: Path) -> None:
    async def found() -> Found:
        await hang()
        raise AssertionError

    take = await Take([ScriptedCamera("one")], tmp_path, limits=SHORT, verify=verifier(found)).run(
        duration=0.02, start_in=0
    )
    (record,) = take.manifest.cameras
    assert steps(record) == [("verify", "TimeoutError", True)]
    assert (record.files[0].state, record.files[0].verdict) == (FileState.ARRIVED, None)


async def test_no_camera_that_can_be_armed_ends_the_take_at_once(tmp_path: Path) -> None:
    cameras = [ScriptedCamera(f"bad{n}", script={"arm": refuse(GONE)}) for n in range(3)]
    async with asyncio.timeout(20):
        take = await Take(cameras, tmp_path).run(duration=300)
    assert take.manifest.outcome is Outcome.FAILED
    assert (await Manifest.load(take.directory)).phase == "done"


async def test_no_camera_that_starts_ends_the_take_at_t0(tmp_path: Path) -> None:
    camera = ScriptedCamera("bad", script={"accepted": refuse(DeviceError("no"))})
    async with asyncio.timeout(20):
        take = await Take([camera], tmp_path).run(duration=300, start_in=0.1)
    assert take.manifest.outcome is Outcome.FAILED


async def test_arm_with_an_unwritable_directory_reaches_no_camera(
    tmp_path: Path,
) -> None:
    camera = ScriptedCamera("one")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot make the directory"):
        await Take([camera], tmp_path / "file").run(duration=1)
    assert not camera.calls


async def test_unwritable_manifest_stops_no_camera(tmp_path: Path) -> None:
    async def spoil(camera: ScriptedCamera, step: str) -> None:
        if step == "arm":
            manifest = tmp_path / "take" / "manifest.json"
            await asyncio.to_thread(manifest.unlink)
            await asyncio.to_thread(manifest.mkdir)

    camera = ScriptedCamera("one", on_call=spoil)
    take = Take([camera], tmp_path, name="take")
    with pytest.raises(StorageError, match="cannot write"):
        await take.run(duration=0.05, start_in=0)
    await take.aclose()  # says nothing twice
    assert take.manifest.cameras[0].outcome is Outcome.COMPLETE
    assert {error.step for error in take.manifest.errors} >= {"manifest"}
    assert (tmp_path / "take" / "one" / "video.mp4").is_file()
    assert not list((tmp_path / "take").glob(".*"))
