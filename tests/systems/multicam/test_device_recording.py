"""Starts by the clock, recorders that fail, disks that fill: what a device then says and does."""

import asyncio
import math
import shutil
import time
from pathlib import Path

import pytest

from asynccam.recording.verify import Verdict
from asynccam.systems.multicam.device import recording
from asynccam.systems.multicam.device.connection import DeviceLimits
from asynccam.systems.multicam.device.recording import RecordingPhase
from asynccam.systems.multicam.device.storage import Storage
from tests.support.multicam_device import BytesRecorder, ask, command, connected, running
from tests.support.waiting import eventually


async def test_scheduled_start_is_accepted_at_once(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder) as device:
        at = time.time() + 0.5
        answer = await ask(device, "START_RECORDING", timestamp=at)
        answered = time.time()
        assert (await ask(device, "HEARTBEAT"))["status"] == "ready"
        await eventually(lambda: device.phase is RecordingPhase.RECORDING)
        stopped = await ask(device, "STOP_RECORDING")
    assert answer["status"] == "scheduled_recording_accepted"
    assert answered < at
    assert 0 <= recorder.started_at[0] - at < 2.0
    assert stopped["status"] == "recording_stopped"


async def test_start_about_due_is_answered_once_it_records(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder) as device:
        at = time.time() + 0.15
        answer = await ask(device, "START_RECORDING", timestamp=at)
    assert answer["status"] == "recording"
    assert 0 <= recorder.started_at[0] - at < 2.0


async def test_scheduled_start_follows_reference_clock(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder, clock_offset=lambda: 100.0) as device:
        at = time.time() + 100.5
        answer = await ask(device, "START_RECORDING", timestamp=at)
        await eventually(lambda: device.phase is RecordingPhase.RECORDING)
    assert answer["status"] == "scheduled_recording_accepted"
    assert 0 <= recorder.started_at[0] + 100.0 - at < 2.0
    assert abs(answer["timestamp"] - time.time()) < 5, "answers tell the computer's own time"


async def test_scheduled_start_follows_corrected_offset(tmp_path: Path) -> None:
    offset = [0.0]
    async with running(tmp_path, clock_offset=lambda: offset[0]) as device:
        await ask(device, "START_RECORDING", timestamp=time.time() + 1000)
        offset[0] = 1000.0
        await eventually(lambda: device.phase is RecordingPhase.RECORDING)


class ArmedRecorder(BytesRecorder):
    """A recorder hook that is told ahead of a start; notes every call with its path and time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Path | None, float]] = []
        self.arm_failure: Exception | None = None

    async def arm(self, path: Path) -> None:
        self.calls.append(("arm", path, time.time()))
        if self.arm_failure is not None:
            raise self.arm_failure

    async def disarm(self) -> None:
        self.calls.append(("disarm", None, time.time()))

    async def start(self, path: Path) -> float:
        self.calls.append(("start", path, time.time()))
        return await super().start(path)

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]


@pytest.mark.parametrize("short_lead", [0.0, 100.0], ids=["scheduled", "about due"])
async def test_recorder_is_armed_ahead_of_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_lead: float
) -> None:
    monkeypatch.setattr(recording, "SHORT_LEAD", short_lead)
    recorder = ArmedRecorder()
    async with running(tmp_path, recorder) as device:
        at = time.time() + 1
        await ask(device, "START_RECORDING", timestamp=at)
        await eventually(lambda: device.phase is RecordingPhase.RECORDING)
    assert recorder.names == ["arm", "start"]
    (_, armed_for, armed_at), (_, started_for, started_at) = recorder.calls
    assert armed_at < at <= started_at
    assert armed_for == started_for == recorder.started[0]
    assert str(int(at)) in recorder.started[0].name, "named by the start, not by what went before"


@pytest.mark.parametrize("timestamp", [None, -1.0])
async def test_start_now_or_in_the_past_is_not_armed(tmp_path: Path, timestamp: float | None) -> None:
    recorder = ArmedRecorder()
    told = {} if timestamp is None else {"timestamp": time.time() + timestamp}
    async with running(tmp_path, recorder) as device:
        assert (await ask(device, "START_RECORDING", **told))["status"] == "recording"
    assert recorder.names == ["start"]


async def test_scheduled_start_without_disk_space_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "SHORT_LEAD", 100.0)
    recorder = ArmedRecorder()
    async with running(tmp_path, recorder, limits=DeviceLimits(reserve=1 << 60)) as device:
        answer = await ask(device, "START_RECORDING", timestamp=time.time() + 0.5)
    assert answer["status"] == "error"
    assert "are free for recordings" in answer["message"]
    assert recorder.names[:2] == ["arm", "disarm"]
    assert "start" not in recorder.names


async def test_recorder_that_does_not_release_delays_no_stop(tmp_path: Path) -> None:
    class Clinging(ArmedRecorder):
        async def disarm(self) -> None:
            await super().disarm()
            await asyncio.Event().wait()

    recorder = Clinging()
    async with running(tmp_path, recorder, limits=DeviceLimits(reserve=0, stop_timeout=0.1)) as device:
        await ask(device, "START_RECORDING", timestamp=time.time() + 1.5)
        await eventually(lambda: "arm" in recorder.names)
        async with asyncio.timeout(20):
            assert (await ask(device, "STOP_RECORDING"))["status"] == "recording_stopped"
        assert device.phase is RecordingPhase.READY
    assert "disarm" in recorder.names


async def test_recorder_is_armed_shortly_ahead(tmp_path: Path) -> None:
    recorder = ArmedRecorder()
    async with running(tmp_path, recorder) as device:
        await ask(device, "START_RECORDING", timestamp=time.time() + 1000)
        await asyncio.sleep(0.2)  # in which it would be armed
        assert recorder.names == []


async def test_recorder_that_fails_to_arm_is_started(tmp_path: Path) -> None:
    recorder = ArmedRecorder()
    recorder.arm_failure = OSError("no camera yet")
    async with running(tmp_path, recorder) as device:
        await ask(device, "START_RECORDING", timestamp=time.time() + 0.4)
        await eventually(lambda: device.phase is RecordingPhase.RECORDING)
    assert recorder.names == ["arm", "disarm", "start"]


async def test_stop_disarms_recorder_before_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "ARM_LEAD", 1000.0)
    recorder = ArmedRecorder()
    async with running(tmp_path, recorder) as device:
        await ask(device, "START_RECORDING", timestamp=time.time() + 500)
        await eventually(lambda: recorder.names == ["arm"])
        assert (await ask(device, "STOP_RECORDING"))["status"] == "recording_stopped"
        assert recorder.names == ["arm", "disarm"]
        assert (await ask(device, "STOP_RECORDING"))["status"] == "error"
        await ask(device, "START_RECORDING", timestamp=time.time() + 500)
        await eventually(lambda: recorder.names == ["arm", "disarm", "arm"])
    assert recorder.names == ["arm", "disarm", "arm", "disarm"]
    assert recorder.started == []


@pytest.mark.parametrize("dialect", [1, 2])
async def test_stop_cancels_scheduled_start(tmp_path: Path, dialect: int) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder, dialect=dialect) as device:
        at = time.time() + 0.4
        await ask(device, "START_RECORDING", timestamp=at)
        stopped = await ask(device, "STOP_RECORDING")
        again = await ask(device, "STOP_RECORDING")
        await asyncio.sleep(at + 0.1 - time.time())  # past the time of the start
    assert stopped["status"] == "recording_stopped"
    assert stopped.get("fileName") is None
    assert stopped.get("fileId") is None
    assert again["status"] == "error"
    assert recorder.started == []


async def test_start_replaces_scheduled_start(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder) as device:
        await ask(device, "START_RECORDING", timestamp=time.time() + 0.3)
        at = time.time() + 0.6
        await ask(device, "START_RECORDING", timestamp=at)
        await eventually(lambda: device.phase is RecordingPhase.RECORDING)
        assert 0 <= recorder.started_at[0] - at < 2.0
        await ask(device, "STOP_RECORDING")
        await ask(device, "START_RECORDING", timestamp=time.time() + 1000)
        assert (await ask(device, "START_RECORDING"))["status"] == "recording"
    assert len(recorder.started) == 2


async def test_start_without_clock_sync_is_refused_if_required(tmp_path: Path) -> None:
    offset: list[float | None] = [None]
    async with running(tmp_path, clock_offset=lambda: offset[0], require_sync=True, dialect=1) as device:
        refused = await ask(device, "START_RECORDING", timestamp=time.time() + 3)
        offset[0] = 0.0
        past = await ask(device, "START_RECORDING", timestamp=time.time() - 6)
        good = await ask(device, "START_RECORDING", timestamp=time.time() - 1)
    assert refused["status"] == past["status"] == "time_not_synchronized"
    assert "time" in refused["message"]
    assert "-6.0 s" in past["message"]
    assert good["status"] == "recording"


async def test_start_without_clock_sync_is_accepted_if_not_required(tmp_path: Path) -> None:
    async with running(tmp_path, clock_offset=lambda: None) as device:
        assert (await ask(device, "START_RECORDING", timestamp=time.time() - 6000))["status"] == "recording"


@pytest.mark.parametrize("timestamp", [1_729_000_000_123.0, 1e300])
async def test_start_too_far_ahead_is_refused(tmp_path: Path, timestamp: float) -> None:
    async with running(tmp_path) as device:
        assert (await ask(device, "START_RECORDING", timestamp=timestamp))[
            "status"
        ] == "time_not_synchronized"


async def test_start_time_not_a_number(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder) as device:
        assert (await ask(device, "START_RECORDING", timestamp=math.nan))["status"] == "error"
    assert recorder.started == []


@pytest.mark.parametrize("dialect", [1, 2])
async def test_recording_is_reported_after_first_frame(tmp_path: Path, dialect: int) -> None:
    recorder = BytesRecorder()
    recorder.may_start.clear()
    async with running(tmp_path, recorder, dialect=dialect) as device, connected(device) as controller:
        controller.send(command("START_RECORDING"))
        await eventually(lambda: device.phase is RecordingPhase.STARTING)
        assert (await ask(device, "DEVICE_STATUS"))["status"] == "ready"
        recorder.may_start.set()
        assert (await controller.document())["status"] == "recording"


async def test_failed_start_leaves_no_file(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    recorder.start_failure = RuntimeError("no such device: /dev/video7")
    async with running(tmp_path, recorder, dialect=1) as device:
        refused = await ask(device, "START_RECORDING")
        status = await ask(device, "DEVICE_STATUS")
        assert list(tmp_path.iterdir()) == []
        recorder.start_failure = None
        again = await ask(device, "START_RECORDING")
    assert (refused["status"], refused["message"]) == ("error", "no such device: /dev/video7")
    assert (status["status"], status["message"]) == ("error", "no such device: /dev/video7")
    assert again["status"] == "recording"


async def test_recorder_start_timeout(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    recorder.may_start.clear()
    async with running(tmp_path, recorder, limits=DeviceLimits(reserve=0, start_timeout=0.1)) as device:
        refused = await ask(device, "START_RECORDING")
    assert refused["status"] == "error"
    assert "first frame" in refused["message"]
    assert list(tmp_path.iterdir()) == []


async def test_recorder_stop_timeout(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder, limits=DeviceLimits(reserve=0, stop_timeout=0.1)) as device:
        await ask(device, "START_RECORDING")
        recorder.may_stop.clear()
        stopped = await ask(device, "STOP_RECORDING")
        status = await ask(device, "DEVICE_STATUS")
    assert (stopped["status"], stopped["fileName"]) == ("error", None)
    assert status["status"] == "error"


async def test_recorder_stop_failure(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    recorder.stop_failure = OSError("disk on fire")
    async with running(tmp_path, recorder, dialect=1) as device:
        await ask(device, "START_RECORDING")
        assert (await ask(device, "STOP_RECORDING"))["message"] == "disk on fire"


async def test_recording_without_frames_is_an_error(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    recorder.verdict = Verdict.EMPTY
    async with running(tmp_path, recorder) as device:
        await ask(device, "START_RECORDING")
        stopped = await ask(device, "STOP_RECORDING")
    assert (stopped["status"], stopped["fileName"]) == ("error", None)


async def test_start_on_full_disk(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    more_than_there_is = shutil.disk_usage(tmp_path).total + 1
    async with running(tmp_path, recorder, limits=DeviceLimits(reserve=more_than_there_is)) as device:
        now = await ask(device, "START_RECORDING")
        later = await ask(device, "START_RECORDING", timestamp=time.time() + 3)
    assert now["status"] == later["status"] == "error"
    assert "free" in now["message"]
    assert "free" in later["message"]
    assert recorder.started == []


async def test_recording_that_ends_by_itself_is_finished_and_reported(tmp_path: Path) -> None:
    recorder = BytesRecorder(b"half a take")
    async with running(tmp_path, recorder, dialect=1) as device:
        await ask(device, "START_RECORDING")
        recorder.die("the camera was unplugged")
        await eventually(lambda: device.phase is RecordingPhase.FAILED)
        status = await ask(device, "DEVICE_STATUS")
        stopped = await ask(device, "STOP_RECORDING")
        after = await ask(device, "DEVICE_STATUS")
    assert (status["status"], status["isRecording"]) == ("error", False)
    assert status["message"] == "the camera was unplugged"
    assert (stopped["status"], stopped["fileSize"]) == ("recording_stopped", 11)
    assert stopped["message"] == "the camera was unplugged"
    assert after["status"] == "ready"
    assert recorder.stops == 1


async def test_recording_continues_without_its_controller(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    recorder.may_start.clear()
    async with running(tmp_path, recorder) as device:
        async with connected(device) as controller:
            controller.send(command("START_RECORDING"))
            await eventually(lambda: device.phase is RecordingPhase.STARTING)
        recorder.may_start.set()
        await eventually(lambda: device.phase is RecordingPhase.RECORDING)
        stopped = await ask(device, "STOP_RECORDING")
    assert stopped["status"] == "recording_stopped"


async def test_recording_ends_before_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [1000]

    async def free_bytes(storage: Storage) -> int:
        return free[0]

    monkeypatch.setattr(Storage, "free", free_bytes)
    monkeypatch.setattr(recording, "_SPACE_INTERVAL", 0.02)
    async with running(tmp_path, dialect=1, limits=DeviceLimits(reserve=1000)) as device:
        assert (await ask(device, "START_RECORDING"))["status"] == "recording"
        free[0] = 500
        await asyncio.sleep(0.1)  # several looks at the disk later
        assert device.phase is RecordingPhase.RECORDING
        free[0] = 499
        await eventually(lambda: device.phase is RecordingPhase.FAILED)
        stopped = await ask(device, "STOP_RECORDING")
    assert (stopped["status"], stopped["message"]) == ("recording_stopped", "the disk is nearly full")
    assert (tmp_path / f"{stopped['fileId']}.mp4").exists()
