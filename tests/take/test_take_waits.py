"""What a take waits for: no longer than its limits, and the files of the healthy do not wait for the dead."""

import asyncio
from pathlib import Path

import pytest

from asynccam.errors import AuthenticationError, ConnectionError
from asynccam.model.events import Event, FileArrived
from asynccam.model.manifest import FileState, Outcome
from asynccam.take import Take, TakeLimits
from tests.support.scripted_camera import Behaviour, ScriptedCamera, hang, refuse

PATIENT = TakeLimits(start_answer_grace=0.1, stop_timeout=60, status_timeout=60)


async def test_files_are_downloaded_while_a_dead_camera_is_awaited(tmp_path: Path) -> None:
    arrived: set[str] = set()
    all_home = asyncio.Event()

    def hear(event: Event) -> None:
        if isinstance(event, FileArrived):
            arrived.add(event.camera)
            if len(arrived) == 2:
                all_home.set()

    async def dead() -> None:
        await all_home.wait()
        raise ConnectionError("the service is gone")

    cameras = [
        ScriptedCamera("first", clock=0.0),
        ScriptedCamera("dead", script={"stop": dead, "status": refuse(ConnectionError("gone"))}),
        ScriptedCamera("last", scheduled=True),
    ]
    take = Take(cameras, tmp_path, limits=PATIENT, emit=hear)
    async with asyncio.timeout(30):  # half of what the dead one would be waited for
        await take.run(duration=0.1, start_in=0.02)
    first, bad, last = take.manifest.cameras
    assert (first.outcome, last.outcome) == (Outcome.COMPLETE, Outcome.COMPLETE)
    assert bad.outcome is not Outcome.COMPLETE
    assert [file.state for file in (*first.files, *last.files)] == [FileState.ARRIVED] * 2
    assert cameras[0].calls.count("download") == 1
    assert first.clock is not None
    assert first.clock.samples > PATIENT.clock_samples  # measured again after the stop


async def test_take_cancelled_beside_a_dead_camera_has_the_other_files(
    tmp_path: Path,
) -> None:
    home = asyncio.Event()

    def hear(event: Event) -> None:
        if isinstance(event, FileArrived):
            home.set()

    limits = TakeLimits(start_answer_grace=0.1, stop_timeout=60, status_timeout=60, cancel_timeout=0.5)
    cameras = [ScriptedCamera("good"), ScriptedCamera("dead", script={"stop": hang})]
    take = Take(cameras, tmp_path, limits=limits, emit=hear)
    async with asyncio.timeout(30):
        running = asyncio.create_task(take.run(duration=0.1, start_in=0.02))
        await home.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    good, dead = take.manifest.cameras
    assert [file.state for file in good.files] == [FileState.ARRIVED]
    assert [error.step for error in dead.errors] == ["stop"]


@pytest.mark.parametrize("status", [hang, None])
async def test_second_try_of_a_stop_fits_into_the_limits(tmp_path: Path, status: Behaviour | None) -> None:
    script = {"stop": hang, "list": hang} | ({"status": status} if status else {})
    limits = TakeLimits(start_answer_grace=0.1, stop_timeout=0.5, status_timeout=0.5)
    bad = ScriptedCamera("bad", script=script)
    stops = 0

    async def note(camera: ScriptedCamera, step: str) -> None:
        nonlocal stops
        stops += step == "stop"

    bad._on_call = note
    take = Take([bad], tmp_path, limits=limits)
    await take.arm()
    await take.start(start_in=0.02)
    async with asyncio.timeout(30):
        await take.stop()
        await take.collect()
    record = take.manifest.cameras[0]
    told = [error for error in record.errors if error.step == "stop"]
    assert told
    # The second stop is given what is left, which its error names.
    assert stops == (1 if status else 2)


async def test_stop_refused_for_credentials_still_lists_files(tmp_path: Path) -> None:
    expired = AuthenticationError("the token expired 3 s ago: give a new one with set_credentials()")
    bad = ScriptedCamera("bad", script={"stop": refuse(expired), "status": refuse(expired)})
    take = Take([bad], tmp_path, limits=TakeLimits(start_answer_grace=0.1))
    async with asyncio.timeout(30):
        await take.run(duration=0.1, start_in=0.02)
    record = take.manifest.cameras[0]
    assert any("set_credentials" in error.message for error in record.errors if error.step == "stop")
    assert [file.state for file in record.files] == [FileState.ARRIVED]
    assert record.outcome is Outcome.INCOMPLETE
