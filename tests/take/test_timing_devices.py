"""Takes over devices and services whose first frame is known: the stated bound contains it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import DeviceError
from asynccam.model.features import AnswerMeaning, RecordingReport, StartReport, StopReport
from asynccam.model.info import CheckResult, ClockOffset
from asynccam.model.manifest import CameraRecord, Manifest, Outcome
from asynccam.recording.verify import FileVerdict, Verdict, verify_file
from asynccam.systems.mediamtx import CameraClient, MediaMtxCamera
from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
from asynccam.systems.multicam import MultiCamCamera
from asynccam.systems.multicam.device.commands import DeviceFaults
from asynccam.systems.multicam.models import StatusResponse, answer_meaning
from asynccam.take import Take, TakeLimits, TimeServer, align_take
from asynccam.wall_clock import unix_now
from tests.support.command import asynccam
from tests.support.multicam_device import BytesRecorder, ask, running
from tests.support.scripted_camera import ScriptedCamera
from tests.systems.multicam.peers import Oak, Peer

FRAME = 1 / 30


def contains(record: CameraRecord, truth: float, within: float = 0.02) -> bool:
    """Return whether the stated interval has the truth in it, itself noted ``within`` some seconds."""
    assert record.first_frame_at is not None, record
    assert record.first_frame_bound is not None
    return abs(record.first_frame_at.unix - truth) <= record.first_frame_bound + within


class Filming(BytesRecorder):
    """A recorder that knows how long it filmed.

    Attributes:
        opens: Seconds until its first frame.
        early: Seconds of somebody else's recording before its first start.
        first: Its first frame, by this computer's clock.
        seconds: How long its file is, once it is stopped.
    """

    def __init__(self, opens: float = 0.0, early: float = 0.0) -> None:
        super().__init__()
        self.opens = opens
        self.early = early
        self.first = 0.0
        self.seconds = 0.0

    async def start(self, path: Path) -> float:
        await asyncio.sleep(self.opens)
        self.first = await super().start(path) - self.early
        return self.first

    async def stop(self) -> FileVerdict:
        self.seconds = time.time() - self.first
        return await super().stop()

    async def verify(self, path: Path) -> CheckResult:
        """A finding as a look into the file would give it."""
        size = await asyncio.to_thread(lambda: path.stat().st_size)
        frames = max(1, round(self.seconds / FRAME))
        return FileVerdict(path, Verdict.COMPLETE, frames, frames * FRAME, size, "")


@asynccontextmanager
async def phone(directory: Path, recorder: BytesRecorder, **options: Any) -> AsyncIterator[MultiCamCamera]:
    async with running(directory, recorder, **options) as device:
        camera = await MultiCamCamera.connect(f"multicam://127.0.0.1:{device.port}")
        try:
            yield camera
        finally:
            await camera.aclose()


# -- asynccam's own device tells ------------------------------------------------------------------


@pytest.mark.parametrize("dialect", [1, 2])
@pytest.mark.parametrize("skew", [0.0, 1.25])
async def test_device_reports_its_first_frame(tmp_path: Path, dialect: int, skew: float) -> None:
    recorder = Filming(opens=0.05)
    faults = DeviceFaults(clock_skew=skew)
    options: dict[str, Any] = {"dialect": dialect, "faults": faults, "clock_offset": lambda: -skew}
    async with phone(tmp_path / "device", recorder, **options) as camera:
        take = await Take([camera], tmp_path / "takes").run(duration=0.6, start_in=0.6)
    (record,) = take.manifest.cameras
    assert record.device_first_frame is not None
    assert record.device_first_frame.unix == pytest.approx(recorder.first + skew, abs=0.005)
    assert "device" in {one.source for one in record.evidence}
    assert contains(record, recorder.first, within=0.001)
    if skew:
        assert record.clock is not None
        assert record.clock.offset == pytest.approx(skew, abs=0.05)


async def test_first_frame_only_for_controllers_that_ask(tmp_path: Path) -> None:
    recorder = Filming()
    async with running(tmp_path, recorder) as device:
        assert "firstFrameAt" not in await ask(device, "DEVICE_STATUS", firstFrame=True)
        await ask(device, "START_RECORDING")
        assert "firstFrameAt" not in await ask(device, "DEVICE_STATUS")
        during = await ask(device, "DEVICE_STATUS", firstFrame=True)
        again = await ask(device, "START_RECORDING", firstFrame=True)
        stopped = await ask(device, "STOP_RECORDING", firstFrame=True)
        assert "firstFrameAt" not in await ask(device, "DEVICE_STATUS", firstFrame=True)
    assert {one["firstFrameAt"] for one in (during, again, stopped)} == {recorder.first}
    assert "firstFrameBound" not in during  # this recorder does not say how exact it is


async def test_wrong_first_frame_report_is_a_contradiction(tmp_path: Path) -> None:
    recorder = Filming()
    faults = DeviceFaults(first_frame_error=0.9)
    async with phone(tmp_path / "device", recorder, faults=faults) as camera:
        take = Take([camera], tmp_path / "takes", verify=recorder.verify)
        await take.run(duration=0.5, start_in=0.6)
    (record,) = take.manifest.cameras
    assert contains(record, recorder.first)
    assert any("device" in told for told in record.contradictions)
    assert (record.outcome, take.ok) == (Outcome.INCOMPLETE, False)


async def test_record_command_reports_contradicting_times(tmp_path: Path) -> None:
    faults = DeviceFaults(first_frame_error=30.0)
    async with running(tmp_path / "device", faults=faults) as device:
        address = f"multicam://127.0.0.1:{device.port}"
        line = ("record", address, "--to", tmp_path, "--name", "take", "--duration", 0.3, "--start-in", 0.6)
        ended = await asynccam(*line)
    assert ended.code == 8, ended.out
    assert "contradicting times" in ended.out
    (camera,) = json.loads((tmp_path / "take" / "manifest.json").read_text())["cameras"]
    assert camera["outcome"] == "incomplete"
    assert any(told.startswith("schedule") and "device" in told for told in camera["contradictions"])


# -- devices that do not ---------------------------------------------------------------------------


class SlowOak(Oak):
    """Answers ``command_received`` to a start for now; its camera opens later."""

    def start_at(self, moment: float) -> None:
        super().start_at(time.time() + 1.5)


async def test_phone_that_opens_after_its_answer(tmp_path: Path) -> None:
    began: list[float] = []

    class Noting(SlowOak):
        def obey(self, command: dict[str, Any]) -> bytes:
            if self.recording and not began:
                began.append(time.time())
            return super().obey(command)

    oak = Noting()
    async with Peer(oak.talk) as peer:
        camera = await MultiCamCamera.connect(f"multicam://127.0.0.1:{peer.port}")
        take = Take([camera], tmp_path)
        await take.arm()
        before = time.time()
        await take.start(start_in=0)
        manifest = take.manifest
        await take.aclose()
        await camera.aclose()
    oak.close()
    (record,) = manifest.cameras
    assert (record.answer_meaning, record.first_frame_source) == ("heard", "status")
    assert record.commanded_at is not None
    assert record.commanded_at.unix >= before
    assert contains(record, record.commanded_at.unix + 1.5, within=0.05)
    assert record.first_frame_bound is not None
    assert record.first_frame_bound > 0.01


class Measured(ScriptedCamera):
    """A phone in memory whose file has the length it filmed."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.seconds = 0.0

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        report = await super().stop(timeout=timeout)
        self.seconds = report.stopped_at - self.first_frame_at
        return report

    async def verify(self, path: Path) -> CheckResult:
        frames = max(1, round(self.seconds / FRAME))
        return FileVerdict(path, Verdict.COMPLETE, frames, frames * FRAME, 1, "")


class Told(Measured):
    """One that can be asked whether it records, besides."""

    async def recording_report(self, *, timeout: float = 10.0) -> RecordingReport:
        await self.act("seen")
        now = unix_now()
        return RecordingReport(now, now, self.recording)


@pytest.mark.parametrize("by", ["length", "status"])
async def test_late_scheduled_start_is_detected(tmp_path: Path, by: str) -> None:
    made = {"length": Measured, "status": Told}[by]
    camera = made("phone", scheduled=True, clock=0.0, opens=1.4)
    verify = camera.verify if by == "length" else None
    take = await Take([camera], tmp_path, verify=verify).run(duration=2.2, start_in=0.6)
    (record,) = take.manifest.cameras
    assert contains(record, camera.first_frame_at)
    assert len(record.contradictions) == 1, record
    assert "schedule" in record.contradictions[0]
    assert by in record.contradictions[0]
    assert record.outcome is Outcome.INCOMPLETE


async def test_phone_recording_for_another_is_polled_before_t0(tmp_path: Path) -> None:
    class Busy(Told):
        """Somebody else starts it while it is armed."""

        async def arm(self, plan: Any) -> Any:
            armed = await super().arm(plan)
            self.recording, self.first_frame_at = True, time.time()
            return armed

        async def recording_report(self, *, timeout: float = 10.0) -> RecordingReport:
            return replace(await super().recording_report(timeout=timeout), recording=True)

    class Keeps(Busy):
        """Its first frame stays that of the other recording."""

        @property
        def first_frame_at(self) -> float:
            return self._first

        @first_frame_at.setter
        def first_frame_at(self, value: float) -> None:
            self._first = getattr(self, "_first", 0.0) or value

    camera = Keeps("busy", scheduled=True, clock=0.0)
    take = Take([camera], tmp_path, verify=camera.verify)
    await take.run(duration=0.5, start_in=1.0)
    (record,) = take.manifest.cameras
    assert contains(record, camera.first_frame_at)
    assert len(record.contradictions) >= 1
    assert any("schedule" in told for told in record.contradictions)
    assert record.outcome is Outcome.INCOMPLETE


async def test_device_recording_long_before_its_schedule(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path / "device", recorder) as device:
        camera = await MultiCamCamera.connect(f"multicam://127.0.0.1:{device.port}")
        take = Take([camera], tmp_path / "takes")
        await take.arm()
        await ask(device, "START_RECORDING")  # another controller, after this one had asked
        await take.start(start_in=1.0)
        await take.stop()
        await take.collect()
        await camera.aclose()
    (record,) = take.manifest.cameras
    assert record.already_recording
    told = [error.message for error in record.errors if error.step == "start"]
    assert any("somebody else's recording runs" in words for words in told)
    assert record.contradictions[0] == "it said at its start that it was recording already"
    assert contains(record, recorder.started_at[0])
    assert (record.outcome, take.ok) == (Outcome.INCOMPLETE, False)


@pytest.mark.parametrize("ahead", [0.0, 1.005])
async def test_device_is_compared_with_the_clock_of_t0(tmp_path: Path, ahead: float) -> None:
    """The time server and the device agree, and this computer is a second off from both."""

    async def query() -> ClockOffset:
        return ClockOffset(ahead, 0.001, 0.002, 8, unix_now())

    camera = ScriptedCamera("phone", scheduled=True, clock=ahead)
    take = Take([camera], tmp_path, time_server=TimeServer("ntp.example:123", query))
    await take.run(duration=0.3, start_in=0.5)
    (record,) = take.manifest.cameras
    assert record.first_frame_source == "schedule"
    assert record.first_frame_bound is not None
    assert record.first_frame_bound < 0.11
    assert contains(record, camera.first_frame_at)
    assert take.ok


# -- services -------------------------------------------------------------------------------------


@asynccontextmanager
async def service_camera(directory: Path, generation: int, delay: float) -> AsyncIterator[MediaMtxCamera]:
    faults = ServiceFaults(recorder_delay=delay)
    async with MediaMTXSimulator(
        generation=generation, directory=directory, cameras=1, live=True, faults=faults
    ) as service:
        client = CameraClient(
            service.host, service.port, auth_token=service.token("admin"), http_port=service.http_port
        )
        async with client:
            (camera,) = await MediaMtxCamera.all_of(client)
            yield camera


@pytest.mark.parametrize("generation", [1, 2])
async def test_service_answers_before_its_recorder_starts(tmp_path: Path, generation: int) -> None:
    """Its recorder is a real one; it begins 1.2 s after the answer, or what starting it takes later."""
    async with service_camera(tmp_path / "service", generation, 1.2) as camera:
        take = await Take([camera], tmp_path / "takes", verify=verify_file).run(duration=3.0, start_in=0.1)
    (record,) = take.manifest.cameras
    assert record.accepted_at is not None
    assert record.answer_meaning == {1: "recording", 2: "heard"}[generation]
    assert contains(record, record.accepted_at.unix + 1.2)
    # A service of generation 1 that does so is not what its answers are known to mean.
    assert len(record.contradictions) == {1: 1, 2: 0}[generation]
    assert record.ended_early is not None
    assert record.outcome is Outcome.INCOMPLETE


@pytest.mark.parametrize("generation", [1, 2])
async def test_service_answers_when_it_records(tmp_path: Path, generation: int) -> None:
    async with service_camera(tmp_path / "service", generation, 0.0) as camera:
        take = await Take([camera], tmp_path / "takes", verify=verify_file).run(duration=1.0, start_in=0.1)
    (record,) = take.manifest.cameras
    assert record.first_frame_source == {1: "answer", 2: "length"}[generation]
    assert record.commanded_at is not None
    assert record.accepted_at is not None
    assert contains(record, record.accepted_at.unix, within=0.1)
    assert (record.contradictions, record.outcome) == ([], Outcome.COMPLETE)


# -- clocks ---------------------------------------------------------------------------------------


class Drifting(ScriptedCamera):
    """Its clock runs faster; the time since the first measurement is made long.

    Attributes:
        drift: Seconds per second.
    """

    drift = 100e-6

    async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
        await self.act("clock")
        now = unix_now()
        self.began = getattr(self, "began", now)
        return ClockOffset(self.drift * (now - self.began), 2e-5, 4e-5, samples, now)


async def test_clocks_are_measured_before_during_and_after(tmp_path: Path) -> None:
    camera = Drifting("phone", clock=0.0)
    limits = TakeLimits(clock_interval=0.2)
    take = await Take([camera], tmp_path, limits=limits).run(duration=1.0, start_in=0.1)
    clock = take.manifest.cameras[0].clock
    assert clock is not None
    start, record = take.manifest.start, take.manifest.cameras[0]
    assert start is not None
    assert record.stopped_at is not None
    moments = [point.measured_at.unix for point in clock.points]
    assert sum(one < start.t0_local.unix for one in moments) == 2
    assert sum(start.t0_local.unix < one < record.stopped_at.unix for one in moments) >= 2
    assert sum(one >= record.stopped_at.unix for one in moments) == 1
    assert clock.drift is not None
    assert clock.drift_bound is not None
    assert abs(clock.drift - Drifting.drift) <= clock.drift_bound
    assert clock.line().interval(moments[1]).contains(Drifting.drift * (moments[1] - camera.began))
    found = await Manifest.load(take.directory)
    assert found.cameras[0].clock == clock


async def test_clock_not_measured_again_keeps_the_first(tmp_path: Path) -> None:
    class Once(ScriptedCamera):
        async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
            if "clock" in self.calls:
                raise DeviceError("asked twice")
            return await super().measure_clock(samples=samples)

    take = await Take([Once("phone", clock=0.25)], tmp_path).run(duration=0.1, start_in=0)
    (record,) = take.manifest.cameras
    assert (record.errors, record.outcome) == ([], Outcome.COMPLETE)
    assert record.clock is not None
    assert (record.clock.offset, len(record.clock.points), record.clock.drift) == (0.25, 1, None)


async def test_slow_clock_gets_samples_within_its_timeout(tmp_path: Path) -> None:
    class Slow(ScriptedCamera):
        asked: list[int]

        async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
            self.asked = [*getattr(self, "asked", []), samples]
            await asyncio.sleep(0.1 * samples)  # each sample takes its time
            return await super().measure_clock(samples=samples)

    camera = Slow("phone", clock=0.0)
    await Take([camera], tmp_path).run(duration=0.1, start_in=0)
    assert camera.asked == [8, 8]  # not 24 more while it is armed; once after the stop


async def test_ten_minutes_of_drift_are_in_the_alignment(tmp_path: Path) -> None:
    def verdict(path: Path) -> CheckResult:
        return FileVerdict(path, Verdict.COMPLETE, 18_000, 600.0, 1, "")

    async def verify(path: Path) -> CheckResult:
        return verdict(path)

    camera = ScriptedCamera("phone", meaning=AnswerMeaning.RECORDING)
    take = await Take([camera], tmp_path, verify=verify).run(duration=0.1, start_in=0)
    manifest = take.manifest
    record = manifest.cameras[0]
    record.files[0].verdict = record.files[0].verdict
    record.stop_commanded_at = record.stopped_at = None
    alignment = align_take(manifest)
    assert alignment.window is not None
    assert alignment.window.bound > 100e-6 * 600 * (1 - 1e-3)  # 60 ms true for 100 ppm; 500 assumed
    (aligned,) = alignment.cameras
    assert (aligned.drift, aligned.drift_measured) == (500e-6, False)


# -- the adapters' tables -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "ahead", "meaning"),
    [
        (b'{"deviceId":"a","status":"recording","timestamp":1.5,"deviceType":"Oak"}', 0, "recording"),
        (b'{"deviceId":"a","status":"recording","timestamp":1.5,"isRecording":true}', 0, "heard"),
        (b'{"deviceId":"a","status":"Recording","timestamp":1.5}', 0, "heard"),
        (b'{"deviceId":"a","status":"scheduled_recording_accepted","timestamp":1.5}', 5, "scheduled"),
    ],
)
async def test_meaning_of_multicam_answers(document: bytes, ahead: float, meaning: str) -> None:
    answer = StatusResponse.from_json(document)
    assert answer_meaning(answer.dialect, answer.raw_status, scheduled=bool(ahead)) == meaning


def test_unknown_multicam_answer_means_heard() -> None:
    assert answer_meaning(2, "warming_up", scheduled=False) is AnswerMeaning.HEARD
    assert answer_meaning(2, "scheduled_recording_accepted", scheduled=False) is AnswerMeaning.HEARD
    assert StartReport(1.0, 2.0).meaning is AnswerMeaning.HEARD
