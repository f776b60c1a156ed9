"""Every switch for trouble does what it says, and nothing else."""

import asyncio
import time
from pathlib import Path

import pytest

from asynccam.systems.multicam.device.commands import DeviceFaults
from tests.support.multicam_device import BytesRecorder, ask, command, connected, fetch, running
from tests.support.waiting import eventually


async def test_fault_refuse_start(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder, faults=DeviceFaults(refuse_start="no memory card")) as device:
        answer = await ask(device, "START_RECORDING")
    assert (answer["status"], answer["message"]) == ("error", "no memory card")
    assert recorder.started == []


@pytest.mark.parametrize("after", [0, 1, 70_000, 1_000_000])
async def test_fault_die_after(tmp_path: Path, after: int) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(200_000))
    async with (
        running(tmp_path, faults=DeviceFaults(die_after=after)) as device,
        connected(device) as controller,
    ):
        controller.send(command("GET_VIDEO", fileName="a.mp4"))
        assert (await controller.framed())["fileSize"] == 200_000
        assert len(await controller.rest()) == min(after, 200_000)


async def test_fault_silent(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    faults = DeviceFaults(silent=frozenset({"START_RECORDING"}))
    async with running(tmp_path, recorder, faults=faults) as device, connected(device) as controller:
        controller.send(command("START_RECORDING") + command("HEARTBEAT"))
        assert (await controller.document())["status"] == "ready"
    assert recorder.started == []


async def test_fault_cut_answers(tmp_path: Path) -> None:
    async with (
        running(tmp_path, faults=DeviceFaults(cut_answers=10)) as device,
        connected(device) as controller,
    ):
        controller.send(command("HEARTBEAT"))
        pieces = 0
        text = b""
        while not text.endswith(b"]}"):
            text += await asyncio.wait_for(controller.reader.read(65536), 5)
            pieces += 1
    assert pieces > 2


async def test_fault_sentence_statuses(tmp_path: Path) -> None:
    async with running(tmp_path, faults=DeviceFaults(sentence_statuses=True)) as device:
        answer = await ask(device, "START_RECORDING", timestamp=time.time() + 100)
    assert answer["status"] == "Scheduled recording accepted"


async def test_fault_unasked_heartbeat(tmp_path: Path) -> None:
    async with (
        running(tmp_path, faults=DeviceFaults(unasked_heartbeat=True)) as device,
        connected(device) as controller,
    ):
        controller.send(command("DEVICE_STATUS"))
        unasked = await controller.document()
        answer = await controller.document()
    assert unasked["command"] == "HEARTBEAT"
    assert "status" not in unasked
    assert answer["status"] == "ready"


async def test_fault_delete_on_write(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    async with (
        running(tmp_path, faults=DeviceFaults(delete_on_write=True)) as device,
        connected(device) as controller,
    ):
        controller.send(command("GET_VIDEO", fileName="a.mp4"))
        await eventually(lambda: not (tmp_path / "a.mp4").exists())


async def test_fault_clock_skew(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder, faults=DeviceFaults(clock_skew=100.0)) as device:
        answer = await ask(device, "HEARTBEAT")
        started = await ask(device, "START_RECORDING", timestamp=time.time() + 3)
    assert 95 < answer["timestamp"] - time.time() < 101
    assert started["status"] == "recording", "by this clock the moment has passed"


async def test_no_faults_by_default(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    async with running(tmp_path, faults=DeviceFaults()) as device:
        assert (await fetch(device, fileName="a.mp4"))[1] == bytes(1000)
        assert (await ask(device, "START_RECORDING"))["status"] == "recording"
    assert (tmp_path / "a.mp4").exists()
