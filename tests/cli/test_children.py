"""Device servers of the demo: how their start fails, and how they end."""

from pathlib import Path

import pytest

from asynccam.cli.children import DeviceProcess, running
from asynccam.errors import RecordingError


async def test_a_device_that_cannot_start_is_told_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    up: list[str] = []
    devices = [
        DeviceProcess("well", tmp_path / "well", ("--no-announce",)),
        DeviceProcess("broken", tmp_path / "file" / "inside", ("--no-announce",)),
    ]
    with pytest.raises(RecordingError, match="the device broken did not start: cannot record in"):
        async with running(devices, up.append):
            pytest.fail("the block is not to be entered")
    assert up == ["well"]


async def test_its_block_failing_ends_the_devices(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        async with running([DeviceProcess("well", tmp_path, ("--no-announce",))], lambda _: None):
            raise LookupError
