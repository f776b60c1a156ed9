"""A scheduled start and its confirmation while this computer's clock is set, outside of any take."""

import asyncio
from pathlib import Path

import pytest

from asynccam.model.features import Record, RecordPlan
from asynccam.systems.multicam import MultiCamCamera
from asynccam.wall_clock import WALL_CLOCK, unix_now
from tests.support.multicam_device import running
from tests.support.set_clock import SetClock


@pytest.mark.parametrize("seconds", [3.0, -3.0, 7200.0, -7200.0, -31_536_000.0])
async def test_stop_waits_for_scheduled_start_after_clock_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    clock = SetClock(monkeypatch)
    async with running(tmp_path / "device") as device:
        camera = await MultiCamCamera.connect(f"multicam://127.0.0.1:{device.port}")
        record = camera.feature(Record)
        armed = await record.arm(RecordPlan(tmp_path, timeout=20.0))
        WALL_CLOCK.pin()  # the device's clock, which is in this process, is not set
        armed.release(unix_now() + 1.0)
        clock.step(seconds)
        try:
            report = await asyncio.wait_for(armed.accepted(), 30)
        finally:
            WALL_CLOCK.unpin()
        assert report.status
        WALL_CLOCK.pin()
        try:
            await asyncio.wait_for(record.stop(timeout=20), 30)
        finally:
            WALL_CLOCK.unpin()
        await camera.aclose()
