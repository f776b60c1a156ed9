"""Starts and stops whose answers do not say what happened."""

import asyncio
import time
from pathlib import Path

import pytest

from asynccam.errors import BusyError, ClockNotSynchronizedError, ConnectionError, DeviceError, TimeoutError
from asynccam.model.features import RecordPlan, StartReport
from asynccam.systems.multicam.camera import MultiCamRecord
from asynccam.systems.multicam.client import MultiCamClient
from tests.support.waiting import eventually
from tests.systems.multicam.peers import Android, Oak, Peer, reset

PLAN = RecordPlan(Path(), timeout=5.0)


def record(peer: Peer, *, confirm: float = 0.5, settle: float = 0.3) -> MultiCamRecord:
    client = MultiCamClient("127.0.0.1", peer.port, timeout=5.0, retries=0)
    return MultiCamRecord(client, confirm=confirm, settle=settle)


async def start(recorder: MultiCamRecord, at: float | None = None) -> StartReport:
    armed = await recorder.arm(PLAN)
    armed.release(at)
    return await armed.accepted()


async def test_start_command_received_is_confirmed() -> None:
    oak = Oak()
    async with Peer(oak.talk) as peer:
        report = await start(record(peer))
    assert report.status == "recording"
    assert report.scheduled_for is None
    assert oak.told("DEVICE_STATUS") == 2


async def test_start_is_polled_until_recording() -> None:
    class Slow(Oak):
        def start_at(self, moment: float) -> None:
            super().start_at(time.time() + 0.2)

    oak = Slow()
    async with Peer(oak.talk) as peer:
        assert (await start(record(peer, confirm=5))).status == "recording"


async def test_start_with_failed_camera() -> None:
    oak = Oak()
    oak.broken = True
    async with Peer(oak.talk) as peer:
        with pytest.raises(DeviceError, match="error") as caught:
            await start(record(peer))
        assert caught.value.status == "error"


async def test_start_on_idle_device_fails() -> None:
    class Lazy(Oak):
        def start_at(self, moment: float) -> None:
            """Never begins."""

    async with Peer(Lazy().talk) as peer:
        with pytest.raises(DeviceError, match="does not record"):
            await start(record(peer, confirm=0.2))


async def test_device_lost_before_confirmation() -> None:
    class Vanishes(Oak):
        def start_at(self, moment: float) -> None:
            asyncio.get_running_loop().call_soon(peer.vanish)

    async with Peer(Vanishes().talk) as peer:
        with pytest.raises(ConnectionError) as caught:
            await start(record(peer))
        assert caught.value.maybe_executed


async def test_scheduled_start_report() -> None:
    android = Android()
    async with Peer(android.talk) as peer:
        at = time.time() + 3
        report = await start(record(peer), at)
        assert (report.status, report.scheduled_for) == ("scheduled_recording_accepted", at)
        assert android.told("DEVICE_STATUS") == 1
    android.close()


async def test_android_start_now_is_not_scheduled() -> None:
    async with Peer(Android().talk) as peer:
        report = await start(record(peer))
    assert (report.status, report.scheduled_for) == ("recording", None)


async def test_android_start_now_is_confirmed() -> None:
    class Lazy(Android):
        def start_at(self, moment: float) -> None:
            """Never begins."""

    async with Peer(Lazy().talk) as peer:
        with pytest.raises(DeviceError, match="does not record"):
            await start(record(peer, confirm=0.2))


async def test_arm_recording_device_is_busy() -> None:
    for busy in (Oak(), Android()):
        busy.recording = True
        async with Peer(busy.talk) as peer:
            with pytest.raises(BusyError, match="recording"):
                await record(peer).arm(PLAN)
        assert busy.told("START_RECORDING") == 0


async def test_arm_disconnected_camera() -> None:
    oak = Oak()
    oak.disconnected = True
    async with Peer(oak.talk) as peer:
        with pytest.raises(DeviceError, match="camera_disconnected"):
            await record(peer).arm(PLAN)


async def test_start_unsynchronized_clock() -> None:
    android = Android()
    android.synchronized = False
    async with Peer(android.talk) as peer:
        with pytest.raises(ClockNotSynchronizedError):
            await start(record(peer), time.time() + 3)


async def test_stop_waits_for_scheduled_start() -> None:
    oak = Oak()
    async with Peer(oak.talk) as peer:
        recorder = record(peer)
        at = time.time() + 0.4
        await start(recorder, at)
        report = await recorder.stop()
        assert time.time() > at
        assert not oak.recording
        assert [file.name for file in report.files] == ["video_1.zip"]
        assert report.status == "recording_stopped"
        assert oak.told("STOP_RECORDING") == 2


class CallsOff(Android):
    """Heeds a STOP before the start has begun, as it should, and refuses it, as there is nothing to stop."""

    def obey(self, command: dict[str, object]) -> bytes:
        if command["command"] == "STOP_RECORDING":
            self.close()
        return super().obey(command)


async def test_stop_of_cancelled_start_has_no_file() -> None:
    device = CallsOff()
    async with Peer(device.talk) as peer:
        recorder = record(peer)
        at = time.time() + 0.3
        await start(recorder, at)
        report = await recorder.stop()
        assert time.time() > at + 0.2
        assert report.files == ()
        assert report.status == "ready"
        assert device.told("STOP_RECORDING") == 1
        with pytest.raises(DeviceError):
            await recorder.stop()


async def test_stop_does_not_wait_for_distant_start() -> None:
    oak = Oak()
    async with Peer(oak.talk) as peer:
        recorder = record(peer)
        await start(recorder, time.time() + 3600)
        async with asyncio.timeout(20):
            with pytest.raises(TimeoutError, match="may still start") as caught:
                await recorder.stop(timeout=0.4)
            assert caught.value.maybe_executed
    oak.close()


async def test_stop_of_begun_recording_is_sent_once() -> None:
    android = Android()
    async with Peer(android.talk) as peer:
        recorder = record(peer)
        await start(recorder, time.time() + 0.1)
        await eventually(lambda: android.recording)
        report = await recorder.stop()
        assert [(file.name, file.size) for file in report.files] == [("video_1729000000.mp4", 4000)]
        assert android.told("STOP_RECORDING") == 1


async def test_stop_after_refused_start() -> None:
    android = Android()
    android.synchronized = False
    async with Peer(android.talk) as peer:
        recorder = record(peer, settle=30)
        with pytest.raises(ClockNotSynchronizedError):
            await start(recorder, time.time() + 30)
        with pytest.raises(DeviceError):
            await recorder.stop()


async def test_stop_without_recording() -> None:
    async with Peer(Oak().talk) as peer:
        with pytest.raises(DeviceError):
            await record(peer).stop()


async def test_stop_lost_maybe_executed() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        reset(writer)

    async with Peer(talk) as peer:
        with pytest.raises(ConnectionError) as caught:
            await record(peer).stop()
        assert caught.value.maybe_executed
        assert peer.opened == 1


async def test_stop_polls_again_after_outage() -> None:
    class Blinks(Oak):
        lost = 0

        async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self.told("STOP_RECORDING") and self.lost < 2:
                self.lost += 1
                reset(writer)
            else:
                await super().talk(reader, writer)

    oak = Blinks()
    async with Peer(oak.talk) as peer:
        recorder = record(peer, settle=1.5)
        await start(recorder, time.time() + 0.4)
        report = await recorder.stop()
        assert len(report.files) == 1
        assert oak.lost == 2
