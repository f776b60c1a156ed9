"""Takes during which this computer's clock is set: nothing of them changes but that it is on record."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import StateError
from asynccam.model.events import ClockStepped, Event, TakePhaseChanged
from asynccam.model.manifest import CameraRecord, Manifest, Moment, Outcome
from asynccam.session import Session
from asynccam.take import Take, resume_take
from asynccam.take import store as store_module
from asynccam.take.store import JOURNAL_NAME, Journal, read_journal, replay
from asynccam.wall_clock import WALL_CLOCK, unix_now
from tests.support.scripted_camera import ScriptedCamera
from tests.support.set_clock import SetClock
from tests.support.waiting import eventually

STEPS = [3.0, -3.0, 7200.0, -7200.0, -31_536_000.0]
STAGES = ["new", "arm", "accepted", "recording", "stop", "download"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    return SetClock(monkeypatch)


def moments(value: Any) -> Iterator[Moment]:
    """Every point in time in a manifest."""
    if isinstance(value, Moment):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from moments(one)
    elif hasattr(value, "model_fields_set"):
        for name in type(value).model_fields:
            yield from moments(getattr(value, name))


async def take_with_a_step(
    tmp_path: Path, clock: SetClock, stage: str, seconds: float
) -> tuple[Manifest, list[Event], list[ScriptedCamera]]:
    """Run a take in which the clock is set once at a stage, by a camera that is just being spoken to."""
    events: list[Event] = []
    left = [seconds]

    def step() -> None:
        if left:
            clock.step(left.pop())

    async def stepping() -> None:
        step()

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, TakePhaseChanged) and event.phase == stage:
            step()

    script: dict[str, Callable[[], Awaitable[None]]] = {stage: stepping}
    # The scheduled one answers between the decision on T0 and T0.
    cameras = [
        ScriptedCamera("scheduled", scheduled=True, clock=0.0, script=script),
        ScriptedCamera("plain", script={} if stage == "accepted" else script),
    ]
    if stage == "new":
        step()
    take = Take(cameras, tmp_path, name="take", emit=emit)
    await asyncio.wait_for(take.run(duration=0.6, start_in=0.3), 30)
    assert not left
    return await Manifest.load(take.directory), events, cameras


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("seconds", STEPS)
async def test_take_ignores_clock_steps(tmp_path: Path, clock: SetClock, stage: str, seconds: float) -> None:
    before = clock.true_time() + (seconds if stage == "new" else 0.0)
    manifest, events, cameras = await take_with_a_step(tmp_path, clock, stage, seconds)
    after = clock.true_time() + (seconds if stage == "new" else 0.0)

    assert manifest.outcome is Outcome.COMPLETE, [camera.errors for camera in manifest.cameras]
    assert [camera.errors for camera in manifest.cameras] == [[], []]
    assert [len(camera.released_with) for camera in cameras] == [1, 1]
    times = [moment.unix for moment in moments(manifest)]
    assert len(times) > 15
    assert before <= min(times) <= max(times) <= after
    steps = [] if stage == "new" else [pytest.approx(seconds, abs=0.05)]
    assert [step.seconds for step in manifest.clock_steps] == steps
    assert [event.seconds for event in events if isinstance(event, ClockStepped)] == steps
    assert not WALL_CLOCK.is_pinned
    assert unix_now() == pytest.approx(clock.true_time() + seconds, abs=5)


async def test_clock_steps_in_a_manifest_are_limited(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asynccam.take.clocks._MAX_RECORDS", 50)
    take = Take([ScriptedCamera("one")], tmp_path)
    async with take:
        await take.arm()
        watch = take._clock
        for _ in range(60):
            clock.step(1.0)
            watch.check()
        assert len(take.manifest.clock_steps) == 50


async def test_take_that_ends_early_unpins_the_clock(tmp_path: Path) -> None:
    async with Take([ScriptedCamera("one")], tmp_path) as take:
        await take.arm()
        assert WALL_CLOCK.is_pinned
        with pytest.raises(StateError):
            await take.arm()
    assert not WALL_CLOCK.is_pinned


# -- resuming -------------------------------------------------------------------------------------


class Held:
    """As much of a session as resuming needs."""

    def __init__(self, camera: ScriptedCamera) -> None:
        self.cameras = {camera.id: camera}
        self.told: list[Event] = []

    async def connect(self, address: str, *, credentials: object = None) -> ScriptedCamera:
        raise ConnectionRefusedError(address)

    def emit(self, event: Event) -> None:
        self.told.append(event)


async def dead_before_t0(tmp_path: Path, start_in: float) -> tuple[Path, float]:
    """A take whose process died when it was about to tell its camera of T0; and the seconds to T0."""
    dead = tmp_path / "dead"
    (dead / "one").mkdir(parents=True)
    now = Moment.of(unix_now())
    camera = CameraRecord(
        id="scripted://one",
        name="one",
        system="scripted",
        directory="one",
        features=["files", "record", "scheduled_start"],
    )
    manifest = Manifest(take="dead", phase="arming", created_at=now, written_at=now, cameras=[camera])
    journal = Journal(dead)
    await journal.create()
    await journal.write("created", manifest=manifest.model_dump(mode="json"))
    await journal.write("starting", cameras=["scripted://one"], start_in=start_in)
    t0 = WALL_CLOCK.elapsed() + start_in
    await journal.close(remove=False)
    return dead, t0 - WALL_CLOCK.elapsed()


def armed_for(left: float) -> ScriptedCamera:
    """The camera of the dead take, which starts after so many seconds, whatever it is told before."""
    camera = ScriptedCamera("one", scheduled=True, stubborn=True)
    camera.timer = asyncio.get_running_loop().call_later(left, setattr, camera, "recording", True)
    return camera


@pytest.mark.parametrize("same_boot", [True, False])
@pytest.mark.parametrize("seconds", [0.0, *STEPS])
async def test_resume_cancels_a_start_ahead_after_a_clock_step(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch, seconds: float, same_boot: bool
) -> None:
    dead, left = await dead_before_t0(tmp_path, 1.5)
    camera = armed_for(left)
    if not same_boot:
        monkeypatch.setattr(store_module, "boot_id", lambda: "another run of the computer")
    clock.step(seconds)
    held = Held(camera)
    manifest = await asyncio.wait_for(resume_take(dead, held), 30)
    assert manifest.phase == "done"
    assert not camera.recording, "a phone that records for nobody"
    assert camera.timer is not None
    assert camera.timer.when() < asyncio.get_running_loop().time(), "its moment was waited for"
    assert [file.state for file in manifest.cameras[0].files] == ["arrived"]
    assert not WALL_CLOCK.is_pinned
    if same_boot:
        times = [moment.unix for moment in moments(manifest)]
        assert max(times) - min(times) < 60
        expected = [pytest.approx(seconds, abs=0.05)] if seconds else []
        assert [step.seconds for step in manifest.clock_steps] == expected
        assert [event.seconds for event in held.told if isinstance(event, ClockStepped)] == expected


@pytest.mark.parametrize("seconds", [7200.0, -7200.0])
async def test_resume_while_the_clock_is_set(tmp_path: Path, clock: SetClock, seconds: float) -> None:
    dead, left = await dead_before_t0(tmp_path, 1.0)
    camera = armed_for(left)

    async def step() -> None:
        clock.step(seconds)
        camera.script.clear()

    camera.script["stop"] = step
    manifest = await asyncio.wait_for(resume_take(dead, Held(camera)), 30)
    assert not camera.recording
    assert [step.seconds for step in manifest.clock_steps] == [pytest.approx(seconds, abs=0.05)]
    times = [moment.unix for moment in moments(manifest)]
    assert max(times) - min(times) < 60


# -- the journal ----------------------------------------------------------------------------------


NOW = Moment.of(1_800_000_000.0)


def record(status: str) -> CameraRecord:
    return CameraRecord(id="x://a", name="a", system="x", directory="a", start_status=status)


def line_of(**head: object) -> bytes:
    facts = {"camera": "x://a", "record": record("of the journal").model_dump(mode="json")}
    return json.dumps({**head, "event": "camera", **facts}).encode()


def manifest_with(status: str, lines: int | None) -> Manifest:
    return Manifest(
        take="t",
        phase="recording",
        created_at=NOW,
        written_at=NOW,
        journal_lines=lines,
        cameras=[record(status)],
    )


@pytest.mark.parametrize("seconds", STEPS)
@pytest.mark.parametrize(("covered", "expected"), [(2, "of the journal"), (3, "of the manifest")])
def test_newer_lines_are_recognised_by_their_numbers(seconds: float, covered: int, expected: str) -> None:
    entries = read_journal(line_of(at=NOW.unix + seconds, line=3))
    left = replay(manifest_with("of the manifest", covered), entries, "t")
    assert left.manifest.cameras[0].start_status == expected


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, "of the journal"), (-1.0, "of the manifest")])
def test_journals_of_before_lines_had_numbers_go_by_time(seconds: float, expected: str) -> None:
    entries = read_journal(line_of(at=NOW.unix + seconds))
    left = replay(manifest_with("of the manifest", None), entries, "t")
    assert left.manifest.cameras[0].start_status == expected


async def test_steps_are_in_the_journal_before_the_manifest_is_written(
    tmp_path: Path, clock: SetClock
) -> None:
    async with Take([ScriptedCamera("one")], tmp_path) as take:
        await take.arm()
        clock.step(7200)
        journal = take.directory / JOURNAL_NAME
        await eventually(lambda: b'"clock_steps": [{' in journal.read_bytes())
        left = replay(None, read_journal(journal.read_bytes()), "t")
    assert [step.seconds for step in left.manifest.clock_steps] == [pytest.approx(7200, abs=0.05)]


# -- sessions -------------------------------------------------------------------------------------


async def test_polling_session_and_its_take_report_each_pause_once(tmp_path: Path, clock: SetClock) -> None:
    events: list[ClockStepped] = []
    async with Session(poll_interval=600) as session:
        session.add(ScriptedCamera("one"))
        with session.subscribe(events.append, ClockStepped):
            clock.step(-7200)
            await eventually(lambda: len(events) == 1)
            take = session.new_take(directory=tmp_path)
            await take.arm()
            clock.step(7200)
            await eventually(lambda: len(events) == 2 and bool(take.manifest.clock_steps))
            await take.aclose()
    assert [event.seconds for event in events] == [
        pytest.approx(-7200, abs=0.05),
        pytest.approx(7200, abs=0.05),
    ]


async def test_session_without_polling_reports_clock_events_of_its_takes(
    tmp_path: Path, clock: SetClock
) -> None:
    events: list[ClockStepped] = []
    async with Session() as session:
        session.add(ScriptedCamera("one"))
        with session.subscribe(events.append, ClockStepped):
            take = session.new_take(directory=tmp_path)
            await take.arm()
            clock.step(3)
            await eventually(lambda: len(events) == 1)
            await take.aclose()
