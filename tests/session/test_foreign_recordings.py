"""Two programs at one camera: neither ends the other's recording, and both say what happened."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from asynccam import MultiCamCamera, Session
from asynccam.model.features import Record, RecordPlan
from asynccam.model.info import CameraState
from asynccam.model.manifest import CameraRecord, Manifest, Moment, Outcome
from asynccam.take import Take, resume_take
from asynccam.take.outcome import outcome_of
from tests.support.command import asynccam, started
from tests.support.devices import device_process, free_port
from tests.support.multicam_device import BytesRecorder, ask, running
from tests.support.waiting import eventually, eventually_awaited

PATIENT = 20.0


async def camera_at(port: int) -> MultiCamCamera:
    return await MultiCamCamera.connect(f"multicam://127.0.0.1:{port}")


async def until_it_records(camera: MultiCamCamera) -> None:
    async def records() -> bool:
        return (await camera.status()).state is CameraState.RECORDING

    await eventually_awaited(records, PATIENT)


async def test_stop_is_not_sent_for_a_foreign_recording(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path / "device", recorder) as device:
        camera = await camera_at(device.port)
        take = Take([camera], tmp_path / "takes")
        await take.arm()
        await ask(device, "START_RECORDING")  # the other program, after this one had asked
        await take.start(start_in=1.0)
        await take.stop()
        await take.collect()
        assert (await camera.status()).state is CameraState.RECORDING
        assert recorder.stops == 0
        await camera.aclose()
    (record,) = take.manifest.cameras
    assert not take.ok
    assert not record.files
    assert any("left alone" in error.message for error in record.errors)


@pytest.mark.parametrize("stopped", [False, True])
def test_outcome_of_a_foreign_recording(*, stopped: bool) -> None:
    record = CameraRecord(id="x://a", name="a", system="x", directory="a", already_recording=True)
    record.stop_commanded_at = Moment.of(1_800_000_000.0) if stopped else None
    assert outcome_of(record, Outcome.FAILED) is (Outcome.FAILED if stopped else Outcome.INCOMPLETE)
    assert outcome_of(record, Outcome.CANCELLED) is Outcome.CANCELLED


async def test_recording_restarted_by_another_program_is_left_alone(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path / "device", recorder) as device:
        camera = await camera_at(device.port)
        take = Take([camera], tmp_path / "takes")
        await take.arm()
        await take.start(start_in=0.0)
        await eventually(lambda: take.manifest.cameras[0].device_first_frame is not None, PATIENT)
        await ask(device, "STOP_RECORDING")
        began = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.get_running_loop().time() > began + 1.0, PATIENT)
        await ask(device, "START_RECORDING")
        await take.stop()
        await take.collect()
        assert (await camera.status()).state is CameraState.RECORDING
        assert recorder.stops == 1
        await camera.aclose()
    (record,) = take.manifest.cameras
    assert record.outcome is Outcome.INCOMPLETE
    assert record.stopped_at is None
    assert any("records for somebody else" in error.message for error in record.errors)
    assert [file.name for file in record.files] == [recorder.started[0].name]


async def test_recording_ended_by_another_program_is_named(tmp_path: Path) -> None:
    async with running(tmp_path / "device") as device:
        camera = await camera_at(device.port)
        take = Take([camera], tmp_path / "takes")
        await take.arm()
        await take.start(start_in=0.0)
        await ask(device, "STOP_RECORDING")
        await take.stop()
        await take.collect()
        await camera.aclose()
    (record,) = take.manifest.cameras
    assert record.outcome is Outcome.INCOMPLETE
    assert any("ended before this stop" in error.message for error in record.errors)
    assert len(record.files) == 1


async def test_other_device_at_the_address_is_not_stopped(tmp_path: Path) -> None:
    port = free_port()
    plan = RecordPlan(directory=tmp_path, duration=None, timeout=PATIENT)
    async with running(tmp_path / "first", port=port, device_id="first"):
        camera = await camera_at(port)
        armed = await camera.feature(Record).arm(plan)
        armed.release(None)
        await armed.accepted()
    recorder = BytesRecorder()
    async with running(tmp_path / "second", recorder, port=port, device_id="second") as device:
        await ask(device, "START_RECORDING")
        told = ""
        try:
            await camera.feature(Record).stop(timeout=10.0)
        except Exception as error:  # noqa: BLE001 - its words are what counts
            told = str(error)
        assert "'first'" in told
        assert "'second'" in told
        assert recorder.stops == 0
    await camera.aclose()


async def test_second_program_is_refused_at_arming(tmp_path: Path) -> None:
    async with device_process("multicam", tmp_path / "device", "--device-id", "phone") as device:
        line = ("record", device.address, "--json", "--start-in", 0.5, "--to")
        async with started(*line, tmp_path / "first", "--duration", 25) as first:
            camera = await MultiCamCamera.connect(device.address)
            await until_it_records(camera)
            second = await asynccam(*line, tmp_path / "second", "--duration", 1)
            assert (await camera.status()).state is CameraState.RECORDING
            out, _ = await asyncio.wait_for(first.communicate(), 3 * PATIENT)
            await camera.aclose()
    assert second.code != 0
    (refused,) = Manifest.model_validate(second.json()["manifest"]).cameras
    assert (refused.commanded_at, refused.stop_commanded_at, refused.files) == (None, None, [])
    assert any("recording" in error.message for error in refused.errors if error.step == "arm")
    assert first.returncode == 0
    (kept,) = Manifest.model_validate(json.loads(out)["manifest"]).cameras
    assert kept.outcome is Outcome.COMPLETE


def measured_earlier(value: Any, hours: float, apart: float) -> Any:
    """Return a manifest or a line of a journal whose clocks were measured earlier, and drifted since."""
    if isinstance(value, list):
        return [measured_earlier(one, hours, apart) for one in value]
    if not isinstance(value, dict):
        return value
    value = {name: measured_earlier(one, hours, apart) for name, one in value.items()}
    if "measured_at" in value and "offset" in value:
        value["offset"] -= apart
        value["measured_at"]["unix"] -= hours * 3600
    return value


@pytest.mark.parametrize("apart", [0.0, 5.0], ids=["measured just now", "12 hours and 116 ppm ago"])
async def test_resume_leaves_a_later_foreign_recording_alone(tmp_path: Path, apart: float) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path / "device", recorder) as device:
        camera = await camera_at(device.port)
        take = Take([camera], tmp_path / "takes")
        task = asyncio.create_task(take.run(duration=600.0, start_in=0.2))
        await eventually(lambda: take.manifest.cameras[0].device_first_frame is not None, PATIENT)
        await take.abort()  # as if the program had died: nothing is stopped
        await asyncio.wait({task})
        assert (task.exception() is not None, recorder.stops) == (True, 0)
        await ask(device, "STOP_RECORDING")
        began = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.get_running_loop().time() > began + 2.5, PATIENT)
        await ask(device, "START_RECORDING")  # another program's
        await camera.aclose()
        for name in ("manifest.json", "journal.jsonl") if apart else ():
            path = take.directory / name
            documents = path.read_text().splitlines() if name.endswith("l") else [path.read_text()]
            changed = [json.dumps(measured_earlier(json.loads(one), 12, apart)) for one in documents]
            path.write_text("\n".join(changed) + "\n")
        async with Session() as session:
            manifest = await resume_take(take.directory, session)
        assert recorder.stops == 1
        camera = await camera_at(device.port)
        assert (await camera.status()).state is CameraState.RECORDING
        await camera.aclose()
    (record,) = manifest.cameras
    assert any("somebody else" in error.message for error in record.errors)
    assert [file.name for file in record.files] == [recorder.started[0].name]
    assert record.outcome is Outcome.INCOMPLETE
