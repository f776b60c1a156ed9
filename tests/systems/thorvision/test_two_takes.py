"""Two programs that record one ThorVision camera: processes of their own, one simulated server."""

import asyncio
import json
from pathlib import Path

from asynccam.model.manifest import Manifest, Outcome
from tests.support.command import started
from tests.support.devices import device_process
from tests.support.waiting import eventually_awaited

PATIENT = 120.0


async def phase_of(directory: Path) -> str:
    for path in directory.glob("*/manifest.json"):
        return str(json.loads(await asyncio.to_thread(path.read_bytes))["phase"])
    return ""


async def until_recording(directory: Path, process: asyncio.subprocess.Process) -> None:
    async def recording() -> bool:
        assert process.returncode is None
        return await phase_of(directory) == "recording"

    await eventually_awaited(recording, PATIENT)


async def test_first_take_gets_its_stream_back(tmp_path: Path) -> None:
    async with device_process("thorvision", tmp_path / "server") as server:
        camera = f"{server.address}/simulated-0"
        line = ("record", camera, "--start-in", 0.5, "--json", "--to")
        async with started(*line, tmp_path / "first", "--duration", 40) as first:
            await until_recording(tmp_path / "first", first)
            async with started(*line, tmp_path / "second", "--duration", 12) as second:
                out, words = await asyncio.wait_for(second.communicate(), PATIENT)
            assert second.returncode == 0, words.decode()
            took = Manifest.model_validate(json.loads(out)["manifest"])
            out, words = await asyncio.wait_for(first.communicate(), PATIENT)
            lost = Manifest.model_validate(json.loads(out)["manifest"])
    (record,) = took.cameras
    assert record.took_over
    assert not record.gaps
    assert record.outcome is Outcome.COMPLETE
    (record,) = lost.cameras
    assert not record.took_over
    assert record.outcome is Outcome.INCOMPLETE
    (gap,) = record.gaps
    assert gap.ended_at is not None  # it came back
    assert "another program" in gap.reason
