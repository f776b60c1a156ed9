"""A take that goes well: what cameras are told and when, and what the folder holds afterwards."""

import asyncio
import hashlib
import time
from pathlib import Path

import pytest

from asynccam.errors import StateError, UsageError
from asynccam.model.events import Event, FileArrived, FileProgress, RecordingStarted, TakePhaseChanged
from asynccam.model.info import ClockOffset
from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.take import Take, TakeLimits, TakeState, TimeServer
from asynccam.take.store import TakeDirectory
from tests.support.scripted_camera import ScriptedCamera, hang


async def test_files_of_all_cameras_are_downloaded_with_a_manifest(tmp_path: Path) -> None:
    cameras = [ScriptedCamera("left"), ScriptedCamera("right", contents={"a.mp4": b"one", "b.mp4": b"two"})]
    take = await Take(cameras, tmp_path, name="first").run(duration=0.05, start_in=0.02)
    assert take.ok
    assert take.state is TakeState.DONE
    found = {str(path.relative_to(take.directory)) for path in take.directory.rglob("*") if path.is_file()}
    assert found == {"left/video.mp4", "right/a.mp4", "right/b.mp4", "manifest.json"}
    manifest = await Manifest.load(tmp_path / "first")
    assert manifest == take.manifest
    assert (manifest.take, manifest.outcome, manifest.phase) == ("first", Outcome.COMPLETE, "done")
    right = manifest.cameras[1]
    assert [(file.name, file.path, file.size, file.state) for file in right.files] == [
        ("a.mp4", "right/a.mp4", 3, FileState.ARRIVED),
        ("b.mp4", "right/b.mp4", 3, FileState.ARRIVED),
    ]
    assert right.files[0].sha256 == hashlib.sha256(b"one").hexdigest()
    assert (right.id, right.system, right.outcome) == ("scripted://right", "scripted", Outcome.COMPLETE)
    assert right.features == ["files", "record"]
    assert not right.errors
    assert all(not camera.recording and camera.held == 0 for camera in cameras)


async def test_every_moment_is_in_order(tmp_path: Path) -> None:
    before = time.time()
    take = await Take([ScriptedCamera("one", clock=0.25)], tmp_path).run(duration=0.1, start_in=0.05)
    manifest = take.manifest
    assert manifest.start is not None
    camera = manifest.cameras[0]
    moments = [
        manifest.created_at,
        camera.clock.measured_at if camera.clock else None,
        manifest.start.t0,
        camera.commanded_at,
        camera.accepted_at,
        camera.stop_commanded_at,
        camera.stopped_at,
        manifest.written_at,
    ]
    times = [before, *(moment.unix for moment in moments if moment is not None), time.time()]
    assert len(times) == len(moments) + 2
    assert times == sorted(times)
    assert times[6] - times[3] >= 0.1
    assert camera.clock is not None
    assert camera.clock.offset == pytest.approx(0.25)
    assert camera.clock.bound == pytest.approx(0.001, rel=0.01)
    assert camera.clock.points[0].samples == 8
    # Before the cameras are armed twice, because there is time, and once after the stop.
    assert [point.samples for point in camera.clock.points] == [8, 24, 8]
    assert camera.clock.points[1].measured_at.unix < times[3]
    assert camera.clock.points[2].measured_at.unix > times[7]
    assert (camera.clock.samples, camera.clock.consistent) == (40, True)
    assert camera.clock.drift is not None
    assert camera.clock.drift_bound is not None
    assert abs(camera.clock.drift) <= camera.clock.drift_bound
    assert (manifest.duration, manifest.start.start_in, manifest.start.source) == (0.1, 0.05, "system")


async def test_scheduled_cameras_get_t0_ahead_others_start_at_t0(tmp_path: Path) -> None:
    scheduled = [ScriptedCamera(f"scheduled{n}", scheduled=True) for n in range(3)]
    others = [ScriptedCamera(f"other{n}") for n in range(3)]
    take = await Take([*others, *scheduled], tmp_path).run(duration=0.05, start_in=0.2)
    start = take.manifest.start
    assert start is not None
    t0 = start.t0.unix
    assert {at for camera in scheduled for at in camera.released_with} == {t0}
    assert {at for camera in others for at in camera.released_with} == {None}
    assert all(t0 - camera.released_at[0] > 0.1 for camera in scheduled)
    assert all(0 <= camera.released_at[0] - t0 < 0.1 for camera in others)
    record = take.manifest.cameras[-1]
    assert record.scheduled_for is not None
    assert record.scheduled_for.unix == t0


async def test_manifest_has_a_start_before_a_camera_receives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = ScriptedCamera("one", scheduled=True)
    write = TakeDirectory.write_manifest

    async def note(folder: TakeDirectory, data: bytes) -> None:
        await write(folder, data)
        camera.calls.append(Manifest.from_bytes(data).phase)

    monkeypatch.setattr(TakeDirectory, "write_manifest", note)
    await Take([camera], tmp_path).run(duration=0.02, start_in=0.1)
    assert camera.calls[: camera.calls.index("release") + 1] == [
        "arming",
        "arm",
        "armed",
        "starting",
        "release",
    ]
    assert camera.calls[-1] == "done"


async def test_t0_follows_the_time_server(tmp_path: Path) -> None:
    async def query() -> ClockOffset:
        return ClockOffset(100.0, 0.01, 0.02, 4, time.time())

    camera = ScriptedCamera("one", scheduled=True, clock=100.0)
    take = Take([camera], tmp_path, time_server=TimeServer("ntp.example:123", query))
    await take.run(duration=0.02, start_in=0.02)
    assert take.ok
    start = take.manifest.start
    assert start is not None
    assert (start.source, start.server) == ("ntp", "ntp.example:123")
    assert start.clock is not None
    assert (start.clock.offset, start.clock.bound) == (100.0, 0.01)
    assert start.t0.unix - start.t0_local.unix == pytest.approx(100.0)
    assert camera.released_with == [start.t0.unix]


async def test_take_silent_time_server_leaves_t0_to_this_computer(tmp_path: Path) -> None:
    async def query() -> ClockOffset:
        await hang()
        raise AssertionError

    limits = TakeLimits(clock_timeout=0.05)
    server = TimeServer("ntp.example:123", query)
    take = await Take([ScriptedCamera("one")], tmp_path, limits=limits, time_server=server).run(
        duration=0.02, start_in=0
    )
    manifest = take.manifest
    assert take.ok
    assert manifest.start is not None
    assert (manifest.start.source, manifest.start.server) == ("system", "ntp.example:123")
    assert manifest.start.t0 == manifest.start.t0_local
    assert [(error.step, error.error, error.retryable) for error in manifest.errors] == [
        ("time server", "TimeoutError", True)
    ]


async def test_files_recorded_on_this_computer_are_measured_where_they_are(tmp_path: Path) -> None:
    contents = {"big.mkv": b"x" * 3_000_000}
    take = await Take([ScriptedCamera("here", local=True, contents=contents)], tmp_path).run(
        duration=0.05, start_in=0
    )
    (file,) = take.manifest.cameras[0].files
    assert take.ok
    assert (file.path, file.size, file.source) == ("here/big.mkv", 3_000_000, "local")
    assert file.sha256 == hashlib.sha256(contents["big.mkv"]).hexdigest()


async def test_events_of_a_take(tmp_path: Path) -> None:
    heard: list[Event] = []
    await Take([ScriptedCamera("one")], tmp_path, name="t", emit=heard.append).run(duration=0.02, start_in=0)
    assert [event.phase for event in heard if isinstance(event, TakePhaseChanged)] == [
        "arming",
        "armed",
        "starting",
        "recording",
        "stopping",
        "stopped",
        "collecting",
        "done",
    ]
    assert sum(isinstance(event, RecordingStarted) for event in heard) == 1
    progress = [(event.received, event.total) for event in heard if isinstance(event, FileProgress)]
    assert progress == [(0, 300), (300, 300)]
    (arrived,) = [event for event in heard if isinstance(event, FileArrived)]
    assert arrived.file.path == tmp_path / "t" / "one" / "video.mp4"


async def test_step_by_step(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    take = Take([camera], tmp_path)
    with pytest.raises(StateError, match="no directory before it is armed"):
        _ = take.directory
    await take.arm()
    assert (take.state, camera.held) == (TakeState.ARMED, 1)
    await take.start(start_in=0.01)
    assert take.state is TakeState.RECORDING
    assert camera.recording
    assert camera.held == 0
    await take.stop()
    assert (take.state, camera.recording) == (TakeState.STOPPED, False)
    assert take.manifest.outcome is Outcome.RUNNING
    await take.collect()
    assert take.ok
    await take.aclose()
    assert (await Manifest.load(take.directory)).outcome is Outcome.COMPLETE


@pytest.mark.parametrize("done", [[], ["arm"], ["arm", "start"], ["arm", "start", "stop"]])
async def test_every_step_out_of_turn_is_refused(tmp_path: Path, done: list[str]) -> None:
    steps = ["arm", "start", "stop", "collect"]
    async with Take([ScriptedCamera("one")], tmp_path) as take:
        for step in done:
            await (take.start(start_in=0) if step == "start" else getattr(take, step)())
        state = take.state
        for step in set(steps) - {steps[len(done)]}:
            with pytest.raises(StateError, match="cannot go on"):
                await getattr(take, step)()
        assert take.state is state


async def test_two_steps_at_once_are_refused(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def on_call(camera: ScriptedCamera, step: str) -> None:
        if step == "arm":
            reached.set()
            await hang()

    take = Take([ScriptedCamera("one", on_call=on_call)], tmp_path)
    async with asyncio.TaskGroup() as group:
        arming = group.create_task(take.arm())
        await reached.wait()
        with pytest.raises(StateError, match="busy: arming"):
            await take.start()
        arming.cancel()
    assert take.state is TakeState.DONE


async def test_take_cannot_be_used_again(tmp_path: Path) -> None:
    take = await Take([ScriptedCamera("one")], tmp_path).run(duration=0.01, start_in=0)
    with pytest.raises(StateError, match="done"):
        await take.run(duration=1)


async def test_misuse_is_refused_before_anything_happens(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    with pytest.raises(UsageError, match="needs cameras"):
        Take([], tmp_path)
    with pytest.raises(UsageError, match="once"):
        Take([camera, ScriptedCamera("one")], tmp_path)
    with pytest.raises(UsageError, match="transfers"):
        TakeLimits(transfers=0)
    take = Take([camera], tmp_path)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="duration"):
            await take.run(duration=bad)
        with pytest.raises(UsageError, match="start_in"):
            await take.run(duration=1, start_in=bad)
    assert not camera.calls
    assert not list(tmp_path.iterdir())


@pytest.mark.realtime
async def test_hundreds_of_cameras_in_one_take(tmp_path: Path) -> None:
    cameras = [ScriptedCamera(f"camera{n}", scheduled=n % 2 == 0, clock=0.0) for n in range(300)]
    most = 0

    def count(_: Event) -> None:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))

    take = await Take(cameras, tmp_path, emit=count).run(duration=0.1, start_in=3.0)
    assert take.ok
    assert sum(1 for _ in take.directory.glob("*/video.mp4")) == 300
    assert most <= 300 + 10
