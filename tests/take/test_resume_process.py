"""Takes in a process of their own that is interrupted or killed, with the device in this one."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.systems.multicam.device.device import MultiCamDevice
from asynccam.systems.multicam.device.recording import RecordingPhase
from tests.support.multicam_device import BytesRecorder, running
from tests.support.waiting import eventually

PROGRAM = """
import asyncio, sys
from asynccam.session import Session

async def main():
    async with Session() as session:
        await session.connect(sys.argv[1])
        await session.take(duration=60, directory=sys.argv[2], start_in=0.5, name="take")

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(130)
"""


@asynccontextmanager
async def controller(device: MultiCamDevice, directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    address = f"multicam://127.0.0.1:{device.port}"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, address, str(directory))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_ctrl_c_stops_the_device_and_downloads_its_file(tmp_path: Path) -> None:
    recorder = BytesRecorder(b"footage" * 1000)
    async with running(tmp_path / "device", recorder) as device, controller(device, tmp_path) as process:
        await eventually(lambda: device.phase is RecordingPhase.RECORDING, 20)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 130
        assert device.phase is RecordingPhase.READY
    manifest = await Manifest.load(tmp_path / "take")
    assert (manifest.outcome, manifest.phase) == (Outcome.CANCELLED, "done")
    (file,) = manifest.cameras[0].files
    assert file.state is FileState.ARRIVED
    assert file.path is not None
    assert await asyncio.to_thread((tmp_path / "take" / file.path).read_bytes) == recorder.footage


async def test_manifest_of_a_killed_take_names_cameras_that_may_record(tmp_path: Path) -> None:
    async with running(tmp_path / "device") as device, controller(device, tmp_path) as process:
        await eventually(lambda: device.phase is RecordingPhase.RECORDING, 20)
        process.kill()
        await process.wait()
        manifest = await Manifest.load(tmp_path / "take")
        assert manifest.outcome is Outcome.RUNNING
        assert manifest.phase in ("starting", "recording")
        assert manifest.start is not None
        (record,) = manifest.cameras
        assert record.outcome is Outcome.RUNNING
        assert record.address == f"multicam://127.0.0.1:{device.port}"
        assert record.commanded_at is not None
