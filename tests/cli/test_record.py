"""``asynccam record``: a take from the shell, to its end and cut short."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from asynccam.model.manifest import Manifest
from asynccam.systems.multicam.device.commands import DeviceFaults
from asynccam.systems.multicam.device.device import MultiCamDevice
from asynccam.systems.multicam.device.recording import RecordingPhase
from tests.support.command import asynccam, started
from tests.support.digests import digest_of
from tests.support.multicam_device import CUT, BytesRecorder, running
from tests.support.waiting import eventually


@pytest_asyncio.fixture
async def device(tmp_path: Path) -> AsyncIterator[MultiCamDevice]:
    async with running(tmp_path / "device") as device:
        yield device


def uri(device: MultiCamDevice) -> str:
    return f"multicam://127.0.0.1:{device.port}"


async def test_record_damaged_file_is_incomplete(tmp_path: Path) -> None:
    # This recorder writes a file that is cut off, so all is well but the verdict.
    async with running(tmp_path / "device", BytesRecorder(CUT)) as device:
        ended = await asynccam(
            *("record", uri(device), "--duration", 0.3, "--start-in", 0.2),
            *("--to", tmp_path / "takes", "--name", "first", "--json"),
        )
    assert (ended.code, ended.err) == (8, "")
    said = ended.json()
    assert said["complete"] is False
    assert said["directory"] == str(tmp_path / "takes" / "first")
    assert said["manifest"]["cameras"][0]["files"][0]["state"] == "arrived"
    assert said["manifest"]["cameras"][0]["files"][0]["verdict"]["verdict"] == "truncated"
    on_disk = await Manifest.load(said["directory"])
    assert on_disk.model_dump(mode="json") == said["manifest"]


async def test_record_unknown_format_is_not_a_failure(device: MultiCamDevice, tmp_path: Path) -> None:
    line = ("record", uri(device), "--duration", 0.3, "--start-in", 0.2, "--to", tmp_path, "--name", "take")
    ended = await asynccam(*line)
    assert (ended.code, ended.err) == (0, ""), ended.out
    assert "? unknown" in ended.out
    (camera,) = (await Manifest.load(tmp_path / "take")).cameras
    assert camera.files[0].verdict is not None
    assert camera.files[0].verdict.verdict == "unknown"


async def test_record_digest(device: MultiCamDevice, tmp_path: Path) -> None:
    line = ("record", uri(device), "--duration", 0.3, "--start-in", 0.2, "--to", tmp_path, "--name", "take")
    ended = await asynccam(*line, "--digest", "xxh3")
    assert (ended.code, ended.err) == (0, ""), ended.out
    manifest = await Manifest.load(tmp_path / "take")
    (file,) = manifest.cameras[0].files
    assert file.path is not None
    data = (tmp_path / "take" / file.path).read_bytes()
    assert (manifest.digest, file.sha256, file.digest) == ("xxh3", None, f"xxh3:{digest_of('xxh3', data)}")


async def test_record_refusing_camera_is_reported(device: MultiCamDevice, tmp_path: Path) -> None:
    faults = DeviceFaults(refuse_start="the lens cap is on")
    async with running(tmp_path / "other", faults=faults, device_id="bench-2") as other:
        ended = await asynccam(
            *("record", uri(device), uri(other), "--duration", 0.3, "--start-in", 0.2, "--to", tmp_path)
        )
    assert ended.code == 8
    assert "the lens cap is on" in ended.out
    assert "bench-1" in ended.out
    assert "manifest.json" in ended.out


async def test_record_unreachable_camera_begins_no_take(device: MultiCamDevice, tmp_path: Path) -> None:
    ended = await asynccam(
        *("record", uri(device), "multicam://127.0.0.1:1", "--duration", 1, "--to", tmp_path / "takes")
    )
    assert (ended.code, ended.out) == (3, "")
    assert "127.0.0.1:1" in ended.err
    assert not (tmp_path / "takes").exists()
    assert device.phase is RecordingPhase.READY


async def test_record_same_camera_twice(device: MultiCamDevice, tmp_path: Path) -> None:
    ended = await asynccam(*("record", uri(device), uri(device), "--duration", 1, "--to", tmp_path))
    assert (ended.code, ended.out) == (2, "")
    assert "named twice" in ended.err


async def test_record_ctrl_c_stops_cameras_and_downloads(device: MultiCamDevice, tmp_path: Path) -> None:
    line = ("record", uri(device), "--duration", 60, "--start-in", 0.1, "--to", tmp_path, "--json")
    async with started(*line) as process:
        await eventually(lambda: device.phase is RecordingPhase.RECORDING, 20)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (130, b"")
    said = json.loads(out)
    manifest = Manifest.model_validate(said["manifest"])
    assert manifest.outcome == "cancelled"
    (file,) = manifest.cameras[0].files
    assert file.path is not None
    assert Path(said["directory"], file.path).read_bytes() == b"moving pictures"
    assert device.phase is RecordingPhase.READY


async def test_record_second_ctrl_c_exits_at_once(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    recorder.may_stop.clear()
    async with running(tmp_path / "device", recorder) as device:
        line = ("record", uri(device), "--duration", 60, "--start-in", 0.1, "--to", tmp_path, "--json")
        async with started(*line) as process:
            await eventually(lambda: device.phase is RecordingPhase.RECORDING, 20)
            process.send_signal(signal.SIGINT)
            await eventually(lambda: device.phase is RecordingPhase.STOPPING, 20)
            process.send_signal(signal.SIGINT)
            out, err = await asyncio.wait_for(process.communicate(), 5)
        recorder.may_stop.set()
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_record_second_ctrl_c_can_be_resumed(tmp_path: Path) -> None:
    recorder = BytesRecorder(b"moving pictures")
    recorder.may_stop.clear()
    async with running(tmp_path / "device", recorder) as device:
        line = (
            "record",
            uri(device),
            "--duration",
            60,
            "--start-in",
            0.1,
            "--to",
            tmp_path,
            "--name",
            "take",
        )
        async with started(*line) as process:
            await eventually(lambda: device.phase is RecordingPhase.RECORDING, 20)
            process.send_signal(signal.SIGINT)
            await eventually(lambda: device.phase is RecordingPhase.STOPPING, 20)
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.communicate(), 20)
        manifest = await Manifest.load(tmp_path / "take")
        assert manifest.outcome == "running"
        assert ["aborted" in error.message for error in manifest.errors] == [True]
        assert "it may still record" in manifest.cameras[0].errors[0].message
        recorder.may_stop.set()
        ended = await asynccam("resume", tmp_path / "take", "--json")
    assert ended.code == 0, ended.err
    manifest = await Manifest.load(tmp_path / "take")
    assert manifest.outcome == "resumed"
    assert [camera.outcome for camera in manifest.cameras] == ["complete"]
