"""Resuming that is cancelled, and resuming what died while it stopped: phones stop, and verdicts are true."""

import asyncio
from pathlib import Path

import anyio
import pytest

from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.session import Session
from asynccam.systems.multicam.device.recording import RecordingPhase
from asynccam.take import Take, TakeLimits, TakeState, resume_take
from asynccam.take.store import JOURNAL_NAME
from tests.support.multicam_device import BytesRecorder, running
from tests.support.scripted_camera import Behaviour, ScriptedCamera, hang, in_turn
from tests.support.waiting import eventually
from tests.take.test_resume_process import controller


async def given_up(tmp_path: Path, script: dict[str, Behaviour]) -> tuple[Take, ScriptedCamera]:
    """A take that was aborted while its camera recorded."""
    camera = ScriptedCamera("one", script=script)
    take = Take([camera], tmp_path, limits=TakeLimits(start_answer_grace=0.05))
    task = asyncio.ensure_future(take.run(duration=60, start_in=0))
    await eventually(lambda: take.state is TakeState.RECORDING)
    await take.abort()
    await asyncio.wait({task})
    assert task.exception() is not None
    return take, camera


async def slowly() -> None:
    await asyncio.sleep(0.1)  # long enough for a cancellation while it lasts


@pytest.mark.parametrize("step", ["stop", "download"])
@pytest.mark.parametrize("host", ["anyio", "once", "twice"])
async def test_resume_cancelled_stops_the_camera_and_can_be_repeated(
    tmp_path: Path, host: str, step: str
) -> None:
    script = {"stop": slowly, "download": in_turn(hang if step == "download" else None, None)}
    take, camera = await given_up(tmp_path, script)
    leave = asyncio.Event()
    assert camera.recording
    camera.calls.clear()
    async with Session() as session:
        session.add(camera)
        resuming = asyncio.ensure_future(resume_in(host, take, session, leave))
        await eventually(lambda: step in camera.calls)
        if host != "anyio":
            resuming.cancel()
        if host == "twice":
            await asyncio.sleep(0)
            resuming.cancel()
        else:
            leave.set()
        await asyncio.wait({resuming})
        assert not camera.recording
        assert (take.directory / JOURNAL_NAME).exists()
        assert (await Manifest.load(take.directory)).outcome is Outcome.RUNNING
        manifest = await resume_take(take.directory, session)
    assert [file.state for file in manifest.cameras[0].files] == [FileState.ARRIVED]
    assert manifest.outcome is Outcome.RESUMED
    assert camera.calls.count("stop") == 1


async def resume_in(host: str, take: Take, session: Session, leave: asyncio.Event) -> None:
    if host != "anyio":
        await resume_take(take.directory, session)
        return
    async with anyio.create_task_group() as group:
        group.start_soon(resume_take, take.directory, session)
        await leave.wait()
        group.cancel_scope.cancel()


async def test_killed_in_stopping_resumed_take_is_complete(tmp_path: Path) -> None:
    recorder = BytesRecorder(b"footage" * 1000)
    recorder.may_stop.clear()
    async with running(tmp_path / "device", recorder) as device:
        program = controller(device, tmp_path)
        async with program as process:
            await eventually(lambda: device.phase is RecordingPhase.RECORDING, 20)
            process.send_signal(2)
            await eventually(lambda: device.phase is RecordingPhase.STOPPING, 20)
            process.kill()
            await process.wait()
        recorder.may_stop.set()
        await eventually(lambda: device.phase is RecordingPhase.READY, 20)
        async with Session() as session:
            manifest = await resume_take(tmp_path / "take", session)
    (record,) = manifest.cameras
    assert [file.state for file in record.files] == [FileState.ARRIVED], record
    assert record.outcome is Outcome.COMPLETE, record
    assert manifest.outcome is Outcome.RESUMED


async def test_resume_camera_that_ended_by_itself_is_incomplete(tmp_path: Path) -> None:
    take, camera = await given_up(tmp_path, {})
    camera.recording = False  # nobody told it to
    entry = (take.directory / JOURNAL_NAME).read_text().splitlines()
    kept = [line for line in entry if '"event": "stopping"' not in line]
    (take.directory / JOURNAL_NAME).write_text("\n".join(kept) + "\n")
    async with Session() as session:
        session.add(camera)
        manifest = await resume_take(take.directory, session)
    assert [file.state for file in manifest.cameras[0].files] == [FileState.ARRIVED]
    assert manifest.outcome is Outcome.INCOMPLETE
