"""Starts for a moment on a time server's scale: what waits for it here waits by this computer's clock."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from asynccam.errors import ConnectionError
from asynccam.model.features import Record, RecordPlan
from asynccam.systems.multicam import MultiCamCamera
from asynccam.systems.multicam.camera import MultiCamStart
from asynccam.wall_clock import unix_now
from tests.support.waiting import eventually
from tests.systems.multicam.peers import Android, Ios, Oak, Peer

AHEAD = [0.0, 2.0, -2.0, 3600.0, -3600.0]
LEAD = 0.5


def shifted(answer: bytes, ahead: float) -> bytes:
    """An answer of a device whose clock is ahead of this computer's."""
    stamp = re.compile(rb'("timestamp": ?)([0-9.]+)')
    return stamp.sub(lambda found: found[1] + repr(float(found[2]) + ahead).encode(), answer)


class AheadAndroid(Android):
    ahead = 0.0

    def obey(self, command: dict[str, Any]) -> bytes:
        return shifted(super().obey(ours(command, self.ahead)), self.ahead)


class AheadIos(Ios):
    ahead = 0.0

    def obey(self, command: dict[str, Any]) -> bytes:
        return shifted(super().obey(ours(command, self.ahead)), self.ahead)


class AheadOak(Oak):
    ahead = 0.0

    def obey(self, command: dict[str, Any]) -> bytes:
        return shifted(super().obey(ours(command, self.ahead)), self.ahead)


Phone = AheadAndroid | AheadIos | AheadOak


def ours(command: dict[str, Any], ahead: float) -> dict[str, Any]:
    """A command with its time by this computer's clock."""
    return {**command, "timestamp": command["timestamp"] - ahead}


@asynccontextmanager
async def phone(kind: type[Phone], ahead: float) -> AsyncIterator[tuple[Phone, MultiCamCamera, Peer]]:
    device = kind()
    device.ahead = ahead
    async with Peer(device.talk) as peer:
        camera = await MultiCamCamera.connect(f"multicam://127.0.0.1:{peer.port}")
        try:
            yield device, camera, peer
        finally:
            await camera.aclose()
            device.close()


def plan(directory: Path, ahead: float) -> RecordPlan:
    return RecordPlan(directory, timeout=20.0, computer_time=lambda when: when - ahead)


def heard_after_stop(device: Phone) -> list[str]:
    words = [one["command"] for one in device.commands]
    return words[words.index("STOP_RECORDING") + 1 :]


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("kind", [AheadAndroid, AheadIos, AheadOak])
async def test_stop_with_file_is_not_polled(tmp_path: Path, kind: type[Phone], ahead: float) -> None:
    async with phone(kind, ahead) as (device, camera, _):
        record = camera.feature(Record)
        armed = await record.arm(plan(tmp_path, ahead))
        armed.release(unix_now() + ahead + LEAD)
        report = await asyncio.wait_for(armed.accepted(), 30)
        assert not report.already_recording
        await eventually(lambda: device.recording)
        stopped = await asyncio.wait_for(record.stop(timeout=20), 30)
        assert stopped.files
        assert heard_after_stop(device) == []


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("kind", [AheadAndroid, AheadIos, AheadOak])
async def test_cancelled_start_is_polled_until_it_fires(
    tmp_path: Path, kind: type[Phone], ahead: float
) -> None:
    async with phone(kind, ahead) as (device, camera, _):
        record = camera.feature(Record)
        armed = await record.arm(plan(tmp_path, ahead))
        armed.release(unix_now() + ahead + LEAD)
        await asyncio.wait_for(armed.accepted(), 30)
        assert not device.recording
        stopped = await asyncio.wait_for(record.stop(timeout=20), 30)
        assert not device.recording, "a phone that records for nobody"
        assert stopped.files
        assert device.told("STOP_RECORDING") == 2


@pytest.mark.parametrize("ahead", AHEAD)
async def test_received_start_is_polled_until_due(tmp_path: Path, ahead: float) -> None:
    class Hears(AheadAndroid):
        def obey(self, command: dict[str, Any]) -> bytes:
            return super().obey(command).replace(b"scheduled_recording_accepted", b"command_received")

    async with phone(Hears, ahead) as (device, camera, _):
        armed = await camera.feature(Record).arm(plan(tmp_path, ahead))
        armed.release(unix_now() + ahead + LEAD)
        report = await asyncio.wait_for(armed.accepted(), 30)
        assert device.recording
        assert report.seen[-1].recording
        assert not report.already_recording


@pytest.mark.parametrize("ahead", AHEAD)
async def test_recording_reply_far_ahead_of_its_time_is_an_earlier_recording(
    tmp_path: Path, ahead: float
) -> None:
    async with phone(AheadAndroid, ahead) as (device, camera, _):
        armed = await camera.feature(Record).arm(plan(tmp_path, ahead))
        device.recording = True
        armed.release(unix_now() + ahead + 5.0)
        report = await asyncio.wait_for(armed.accepted(), 30)
        assert report.already_recording


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("back", [True, False])
async def test_reconnects_until_due(tmp_path: Path, ahead: float, back: bool) -> None:
    device = AheadAndroid()
    device.ahead = ahead
    async with Peer(device.talk) as peer:
        camera = await MultiCamCamera.connect(f"multicam://127.0.0.1:{peer.port}")
        armed = await camera.feature(Record).arm(plan(tmp_path, ahead))
        await eventually(lambda: peer.opened == 3)
    command = cast("MultiCamStart", armed)._command
    await eventually(lambda: not command.ready)
    armed.release(unix_now() + ahead + (15.0 if back else LEAD))
    try:
        if back:
            async with Peer(device.talk, port=peer.port):
                report = await asyncio.wait_for(armed.accepted(), 60)
            assert report.scheduled_for is not None
            assert json.loads(device.reads[-1])["timestamp"] == report.scheduled_for
        else:
            with pytest.raises(ConnectionError, match="was not sent"):
                await asyncio.wait_for(armed.accepted(), 60)
    finally:
        device.close()
        await camera.aclose()
