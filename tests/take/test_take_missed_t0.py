"""A T0 that passes while the computer sleeps, the process is stopped or its loop is blocked."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from asynccam.errors import UsageError
from asynccam.model.events import Event, ProgramPaused
from asynccam.model.manifest import CameraRecord, FileRecord, Manifest, Moment, Outcome, PauseRecord
from asynccam.runtime.timing import sleep_until
from asynccam.take import Take, TakeLimits
from asynccam.take.outcome import note_sleep
from asynccam.take.store import JOURNAL_NAME
from asynccam.wall_clock import WALL_CLOCK
from tests.support.command import started
from tests.support.devices import device_process
from tests.support.scripted_camera import Behaviour, ScriptedCamera
from tests.support.set_clock import SetClock
from tests.support.waiting import eventually


async def run(
    tmp_path: Path, held_up: Behaviour, *, start_in: float, duration: float, limits: TakeLimits | None = None
) -> tuple[Manifest, list[ProgramPaused], list[ScriptedCamera]]:
    """Run a take that is held up while the scheduled camera answers, between the decision on T0 and T0."""
    events: list[Event] = []
    cameras = [
        ScriptedCamera("scheduled", scheduled=True, script={"accepted": held_up}),
        ScriptedCamera("plain"),
    ]
    take = Take(cameras, tmp_path, name="take", limits=limits, emit=events.append)
    await asyncio.wait_for(take.run(duration=duration, start_in=start_in), 60)
    pauses = [event for event in events if isinstance(event, ProgramPaused)]
    return await Manifest.load(take.directory), pauses, cameras


def block(seconds: float) -> Behaviour:
    """Keep the event loop busy, as somebody's callback may."""

    async def behaviour() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    return behaviour


async def test_start_in_time_records_its_lateness(tmp_path: Path) -> None:
    manifest, pauses, _ = await run(tmp_path, block(0), start_in=0.3, duration=0.3)
    assert manifest.outcome is Outcome.COMPLETE
    scheduled, plain = (camera.start_lateness for camera in manifest.cameras)
    assert scheduled is not None
    assert plain is not None
    assert -0.3 <= scheduled < 0 <= plain < TakeLimits().start_tolerance
    assert (manifest.pauses, pauses) == ([], [])
    assert manifest.start is not None
    assert manifest.start.tolerance == TakeLimits().start_tolerance


async def test_loop_blocked_through_t0_starts_late_and_stops_on_time(
    tmp_path: Path,
) -> None:
    manifest, pauses, _ = await run(tmp_path, block(1.8), start_in=0.3, duration=4.0)
    scheduled, plain = manifest.cameras
    assert scheduled.outcome is Outcome.COMPLETE
    assert (manifest.outcome, plain.outcome) == (Outcome.INCOMPLETE, Outcome.INCOMPLETE)
    assert plain.start_lateness is not None
    assert plain.start_lateness >= 1.4
    (error,) = plain.errors
    assert (error.step, error.error) == ("start", "TimeoutError")
    assert f"{plain.start_lateness:.2f} s after T0" in error.message
    assert "the program did not run for" in error.message
    assert manifest.start is not None
    assert plain.commanded_at is not None
    assert plain.stop_commanded_at is not None
    t0 = manifest.start.t0_local.unix
    assert plain.commanded_at.unix - t0 == pytest.approx(plain.start_lateness, abs=0.001)
    # It was started, and stopped with all others: not its own four seconds later.
    assert 4.0 <= plain.stop_commanded_at.unix - t0 < plain.start_lateness + 4.0
    (pause,) = manifest.pauses
    assert not pause.slept
    assert pause.seconds >= 1.8
    assert pause.at.unix <= t0 <= pause.at.unix + pause.seconds
    assert [(event.seconds, event.slept) for event in pauses] == [(pause.seconds, False)]


async def test_start_after_the_end_is_not_sent(tmp_path: Path) -> None:
    manifest, _, cameras = await run(tmp_path, block(1.8), start_in=0.3, duration=0.5)
    scheduled, plain = manifest.cameras
    assert cameras[1].released_with == []
    assert cameras[1].held == 0
    assert (scheduled.outcome, plain.outcome) == (Outcome.COMPLETE, Outcome.FAILED)
    assert manifest.outcome is Outcome.INCOMPLETE
    assert [(error.step, "was not sent" in error.message) for error in plain.errors] == [("start", True)]


async def test_by_hand_a_late_start_is_sent(tmp_path: Path) -> None:
    camera = ScriptedCamera("plain")
    blocker = ScriptedCamera("scheduled", scheduled=True, script={"accepted": block(1.8)})
    async with Take([camera, blocker], tmp_path) as take:
        await take.arm(duration=0.5)
        await take.start(start_in=0.3)
        assert len(camera.released_with) == 1
        await take.stop()
        await take.collect()
    assert [one.outcome for one in take.manifest.cameras] == [Outcome.INCOMPLETE, Outcome.COMPLETE]


async def test_computer_sleeps_through_t0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SetClock(monkeypatch)

    async def sleep() -> None:
        clock.sleep(3.0)

    manifest, pauses, _ = await run(tmp_path, sleep, start_in=1.0, duration=5.0)
    scheduled, plain = manifest.cameras
    assert scheduled.outcome is Outcome.COMPLETE
    assert plain.outcome is Outcome.INCOMPLETE
    assert plain.start_lateness is not None
    assert plain.start_lateness > 1.5
    assert "this computer slept for" in plain.errors[0].message
    (pause,) = manifest.pauses
    assert pause.slept
    assert [event.slept for event in pauses] == [True]
    assert manifest.clock_steps == []  # the time of day went on while it slept
    assert plain.stop_commanded_at is not None
    assert manifest.start is not None
    assert plain.stop_commanded_at.unix - manifest.start.t0_local.unix >= 5.0


async def test_computer_sleeps_past_the_end_of_the_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SetClock(monkeypatch)

    async def sleep() -> None:
        if camera.recording:
            clock.sleep(3600.0)

    camera = ScriptedCamera("one")
    take = Take([camera], tmp_path)
    waiting = asyncio.create_task(take.run(duration=1800.0, start_in=0))
    await eventually(lambda: camera.recording)
    await sleep()
    await asyncio.wait_for(waiting, 30)
    manifest = take.manifest
    assert [pause.slept for pause in manifest.pauses] == [True]
    assert not camera.recording


async def test_start_tolerance_is_a_limit(tmp_path: Path) -> None:
    limits = TakeLimits(start_tolerance=30.0)
    manifest, _, _ = await run(tmp_path, block(0.8), start_in=0.3, duration=2.0, limits=limits)
    assert manifest.outcome is Outcome.COMPLETE
    assert manifest.cameras[1].errors == []
    with pytest.raises(UsageError, match="start_tolerance"):
        TakeLimits(start_tolerance=0)


async def test_waiting_counts_the_time_that_the_computer_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SetClock(monkeypatch)
    waiting = asyncio.create_task(sleep_until(WALL_CLOCK.elapsed() + 3600))
    await asyncio.sleep(0)
    clock.sleep(3600)
    await asyncio.wait_for(waiting, 20)


# -- a recorder here sleeps with the computer -------------------------------------------------------


def camera_record(source: str) -> CameraRecord:
    return CameraRecord(
        id="x://a",
        name="a",
        system="x",
        directory="a",
        commanded_at=Moment.of(100.0),
        stopped_at=Moment.of(200.0),
        files=[FileRecord(name="v.mkv", source=source)],
    )


@pytest.mark.parametrize(
    ("source", "slept", "at", "gaps"),
    [
        ("local", True, 120.0, [(120.0, 150.0)]),
        ("local", False, 120.0, []),  # its process went on
        ("device", True, 120.0, []),
        ("local", True, 60.0, []),  # before it began
        ("local", True, 190.0, []),  # what is missing then is missing at the end
    ],
)
def test_computer_sleep_is_a_gap_of_local_recordings(
    source: str, slept: bool, at: float, gaps: list[tuple[float, float]]
) -> None:
    record = camera_record(source)
    pause = PauseRecord(at=Moment.of(at), seconds=30.0, slept=slept)
    note_sleep(record, [pause])
    note_sleep(record, [pause])
    assert [(gap.began_at.unix, gap.ended_at.unix if gap.ended_at else None) for gap in record.gaps] == gaps


def released(take: Path) -> bool:
    journal = take / JOURNAL_NAME
    return journal.exists() and b'"released"' in journal.read_bytes()


# -- the command ------------------------------------------------------------------------------------


async def test_controller_stopped_through_t0_reports_it_and_exits_with_8(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with (
        device_process("multicam", tmp_path / "device") as phone,
        device_process("mediamtx", tmp_path / "service", "--live") as service,
    ):
        environment = {
            "ASYNCCAM_TOKEN": str(service.said["token"]),
            "MEDIAMTX_HTTP_PORT": str(service.http_port),
        }
        line = ("record", phone.address, f"{service.address}/camera0", "--to", tmp_path, "--name", "take")
        async with started(*line, "--duration", 6, "--start-in", 2, env=environment) as process:
            await eventually(
                lambda: (
                    (take / JOURNAL_NAME).exists() and b'"released"' in (take / JOURNAL_NAME).read_bytes()
                ),
                40,
            )
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(4.0)  # as long as the process is stopped
            process.send_signal(signal.SIGCONT)
            out, err = await asyncio.wait_for(process.communicate(), 60)
    told = " ".join((out + err).decode().split())
    assert process.returncode == 8, told
    manifest = await Manifest.load(take)
    scheduled, plain = manifest.cameras
    assert scheduled.outcome is Outcome.COMPLETE
    assert plain.outcome is Outcome.INCOMPLETE
    assert plain.start_lateness is not None
    assert plain.start_lateness > 1.5
    assert "s after T0" in told
    assert "the program did not run for" in told
    (pause,) = manifest.pauses
    assert not pause.slept
