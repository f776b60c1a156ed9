"""Takes whose T0 is on a time server's scale, whose clock is a line beside ours."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from asynccam.cli.top_view import TopView
from asynccam.errors import DeviceError, RemoteProtocolError
from asynccam.model.events import Event, RecordingStarted
from asynccam.model.info import ClockOffset
from asynccam.model.manifest import (
    CameraRecord,
    ClockRecord,
    Manifest,
    Moment,
    Outcome,
    StartRecord,
)
from asynccam.net.clock import query_sntp
from asynccam.recording.verify import verify_file
from asynccam.session import Session
from asynccam.session.shared import time_server
from asynccam.systems.multicam import MultiCamCamera
from asynccam.take import Take, TakeLimits, TimeServer, resume_take
from asynccam.take.clocks import Reference
from asynccam.take.store import JOURNAL_NAME, Journal, read_journal, replay
from asynccam.wall_clock import WALL_CLOCK, unix_now
from tests.support import ntp_server as ntp
from tests.support.known_takes import ROUNDING
from tests.support.scripted_camera import ScriptedCamera, refuse
from tests.support.set_clock import SetClock
from tests.support.time_devices import Device, ask, devices_running
from tests.support.time_peers import HOST, Origin, Peer, peers_running
from tests.support.waiting import eventually

AHEAD = [2.0, -2.0, 3600.0, -3600.0]
STEPS = [3.0, -3.0, 7200.0, -7200.0, -31_536_000.0]
OFTEN = TakeLimits(clock_interval=0.3, clock_timeout=5.0)


def reference_of(manifest: Manifest) -> ClockRecord:
    assert manifest.start is not None
    assert manifest.start.clock is not None
    return manifest.start.clock


# -- devices that start by a server's scale -------------------------------------------------------


@contextmanager
def origin_of_all() -> Iterator[Origin]:
    """One scale for the test, the devices and the servers."""
    WALL_CLOCK.pin()
    try:
        yield Origin(WALL_CLOCK.now(), time.monotonic())
    finally:
        WALL_CLOCK.unpin()


async def run_known(
    directory: Path,
    devices: Sequence[Device],
    server: Peer,
    *,
    duration: float,
    limits: TakeLimits | None = None,
) -> tuple[Manifest, list[float], Origin]:
    """A take over devices of known truth; its manifest, and when each device's first frame was."""
    with ExitStack() as stack:
        origin = stack.enter_context(origin_of_all())
        ports = stack.enter_context(devices_running(devices, origin))
        (port,) = stack.enter_context(peers_running([server], origin))
        manifest, firsts = await run_beside(
            directory, devices, ports, port, origin, duration=duration, limits=limits
        )
        return manifest, firsts, origin


async def run_beside(
    directory: Path,
    devices: Sequence[Device],
    ports: Sequence[int],
    server: int,
    origin: Origin,
    *,
    duration: float,
    limits: TakeLimits | None = None,
) -> tuple[Manifest, list[float]]:
    """A take over devices that run already, by a time server's port; its manifest and the first frames."""
    for number, (where, device) in enumerate(zip(ports, devices, strict=True)):
        await ask(where, "PREPARE", device=asdict(device), seed=number)
    cameras = [await MultiCamCamera.connect(f"multicam://{HOST}:{where}") for where in ports]

    async def query() -> ClockOffset:
        return await query_sntp(HOST, server)

    reference = TimeServer(f"{HOST}:{server}", query)
    try:
        take = Take(cameras, directory, verify=verify_file, limits=limits, time_server=reference)
        await asyncio.wait_for(take.run(duration=duration, start_in=0.8), 60)
        told = [await ask(where, "TRUTH") for where in ports]
    finally:
        for camera in cameras:
            await camera.aclose()
    return take.manifest, [one["first"] - origin.at + origin.wall for one in told]


@pytest.mark.parametrize("duration", [0.4, 2.6])
@pytest.mark.parametrize("ahead", AHEAD)
async def test_reference_server_and_devices_off_from_this_computer(
    tmp_path: Path, ahead: float, duration: float
) -> None:
    kind = Device(offset=ahead, corrected=ahead)
    devices = [
        kind,
        replace(kind, answers="heard"),
        replace(kind, answers="recording", late=0.05),
        replace(kind, packs=0.3),
        replace(kind, tells=True),
    ]
    manifest, firsts, _ = await run_known(tmp_path, devices, Peer(offset=ahead), duration=duration)
    assert manifest.outcome is Outcome.COMPLETE, [camera.errors for camera in manifest.cameras]
    for record, first in zip(manifest.cameras, firsts, strict=True):
        assert record.errors == []
        assert record.contradictions == []
        assert record.first_frame_at is not None
        assert record.first_frame_bound is not None
        assert abs(record.first_frame_at.unix - first) <= record.first_frame_bound + ROUNDING
        for one in record.evidence:
            assert one.earliest is None or one.earliest.unix <= first + ROUNDING, one
            assert one.latest is None or one.latest.unix >= first - ROUNDING, one
        # Every time but the device's own word is of this computer's scale.
        assert (
            record.scheduled_for is None
            or manifest.start is None
            or (record.scheduled_for == manifest.start.t0)
        )
        for moment in (record.commanded_at, record.accepted_at, record.stop_commanded_at, record.stopped_at):
            assert moment is not None
            assert manifest.created_at.unix <= moment.unix <= manifest.written_at.unix


@pytest.mark.parametrize("ahead", [0.0, *AHEAD])
async def test_reference_scheduled_start_by_both_clocks(tmp_path: Path, ahead: float) -> None:
    async def query() -> ClockOffset:
        return ClockOffset(ahead, 0.001, 0.002, 8, unix_now())

    events: list[Event] = []
    camera = ScriptedCamera("one", scheduled=True, clock=ahead)
    take = Take([camera], tmp_path, time_server=TimeServer("ntp.example", query), emit=events.append)
    await take.run(duration=0.2, start_in=0.3)
    assert take.ok
    start = take.manifest.start
    assert start is not None
    (begun,) = [event for event in events if isinstance(event, RecordingStarted)]
    assert begun.scheduled_for == start.t0.unix
    assert begun.due == pytest.approx(start.t0_local.unix, abs=1e-5)
    async with Session() as session:
        session.add(camera)
        view = TopView(session)
        view.handle(begun)
        (row,) = view.rows()
    assert row.since == begun.due


# -- resuming -------------------------------------------------------------------------------------


class Held:
    """As much of a session as resuming needs."""

    def __init__(self, camera: ScriptedCamera) -> None:
        self.cameras = {camera.id: camera}

    async def connect(self, address: str, *, credentials: object = None) -> ScriptedCamera:
        raise ConnectionRefusedError(address)

    def emit(self, event: Event) -> None:
        pass


async def dead_before_t0(tmp_path: Path, ahead: float, start_in: float) -> Path:
    """A take whose process died once its camera knew T0, which a time server's clock gave."""
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
    t0 = unix_now() + start_in
    start = StartRecord(
        t0=Moment.of(t0 + ahead),
        t0_local=Moment.of(t0),
        source="ntp",
        server="ntp.example",
        clock=ClockRecord.of(ClockOffset(ahead, 0.001, 0.002, 8, now.unix)),
        start_in=start_in,
    )
    await journal.write("released", start=start.model_dump(mode="json"))
    await journal.close(remove=False)
    return dead


@pytest.mark.parametrize("step", [0.0, -7200.0, 7200.0])
@pytest.mark.parametrize("ahead", AHEAD)
async def test_resuming_waits_for_t0_by_this_computers_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float, step: float
) -> None:
    clock = SetClock(monkeypatch)
    dead = await dead_before_t0(tmp_path, ahead, 1.0)
    camera = ScriptedCamera("one", scheduled=True, stubborn=True)
    timer = asyncio.get_running_loop().call_later(1.0, setattr, camera, "recording", True)
    camera.timer = timer
    clock.step(step)
    manifest = await asyncio.wait_for(resume_take(dead, Held(camera)), 30)
    assert not camera.recording, "a phone that records for nobody"
    assert timer.when() < asyncio.get_running_loop().time(), "its moment was waited for"
    assert [file.state for file in manifest.cameras[0].files] == ["arrived"]
    assert reference_of(manifest).offset == ahead


@pytest.mark.parametrize("ahead", AHEAD)
async def test_files_of_an_unmeasured_device_are_found_by_server_time(tmp_path: Path, ahead: float) -> None:
    dead = await dead_before_t0(tmp_path, ahead, 0.0)
    camera = ScriptedCamera("one", scheduled=True, contents={"film.mp4": b"film"})
    camera.script["stop"] = refuse(DeviceError("it does not record"))
    camera.offset = ahead
    manifest = await asyncio.wait_for(resume_take(dead, Held(camera)), 30)
    assert [(file.name, file.state) for file in manifest.cameras[0].files] == [("film.mp4", "arrived")]


# -- a line ---------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
async def test_reference_clock_is_a_line_in_the_manifest(tmp_path: Path) -> None:
    servers = [
        Peer(offset=2.0),
        Peer(offset=-3600.0, drift=1e-4),
        Peer(offset=0.6, drift=-4.5e-4),
        Peer(offset=3600.0, drift=1e-4, network="symmetric"),
        Peer(offset=-2.0, drift=3e-4, step=1e-3),
        Peer(offset=-2.0, step=1e-3, rounding="round", works=0.005),
        Peer(offset=2.0, drift=1e-4, claims=0.0008),
    ]
    devices = [Device(offset=one.offset, corrected=one.offset, drift=one.drift) for one in servers]
    with ExitStack() as stack:
        origin = stack.enter_context(origin_of_all())
        ports = stack.enter_context(devices_running(devices, origin))
        times = stack.enter_context(peers_running(servers, origin))
        async with asyncio.TaskGroup() as group:
            for number, (server, device) in enumerate(zip(servers, devices, strict=True)):
                directory = tmp_path / str(number)
                one = (directory, [device], [ports[number]], times[number], origin)
                group.create_task(a_take_with_a_line(server, *one), name=str(server))


async def a_take_with_a_line(
    server: Peer, directory: Path, devices: list[Device], ports: list[int], port: int, origin: Origin
) -> None:
    manifest, (first,) = await run_beside(directory, devices, ports, port, origin, duration=3.0, limits=OFTEN)
    assert manifest.outcome is Outcome.COMPLETE
    reference = reference_of(manifest)
    assert len(reference.points) >= 3
    assert reference.rejected == []
    (record,) = manifest.cameras
    assert record.stopped_at is not None
    assert reference.points[0].measured_at.unix < origin.wall + 10
    assert reference.points[-1].measured_at.unix > record.stopped_at.unix - 1e-3
    assert reference.drift is not None
    assert reference.drift_bound is not None
    assert abs(reference.drift - server.drift) <= reference.drift_bound
    line = reference.line()
    for when in (manifest.created_at.unix, first, record.stopped_at.unix, record.stopped_at.unix + 600):
        assert line.interval(when).contains(server.truth(when - origin.wall)), when
    assert record.first_frame_at is not None
    assert record.first_frame_bound is not None
    assert abs(record.first_frame_at.unix - first) <= record.first_frame_bound + ROUNDING


@asynccontextmanager
async def served(*answers: ntp.Answer) -> AsyncIterator[tuple[ntp.NtpServer, TimeServer]]:
    async with ntp.ntp_server(*answers) as server:
        yield server, time_server(f"127.0.0.1:{server.port}")


def claims(ahead: float, work: float, now: Callable[[], float] = time.time) -> ntp.Answer:
    """A server that says it worked longer than it did."""

    def answer(server: ntp.NtpServer, request: bytes, addr: ntp.Address) -> None:
        packet = ntp.reply(request, received=now() + ahead, sent=now() + ahead + work)
        server.transport.sendto(packet, addr)

    return answer


GOOD = ntp.says(2.0, time.time)
BAD: dict[str, ntp.Answer] = {
    "set by 3 s": ntp.says(5.0, time.time),
    "set by an hour": ntp.says(-3598.0, time.time),
    "set by 50 ms": ntp.says(2.05, time.time),
    "claims a second of work": claims(2.0, 1.0),
    "claims 0.9 ms of work": claims(2.0, 0.0009),
    "silent": ntp.silence,
    "rubbish": ntp.raw(b"rubbish"),
    "not synchronized": ntp.says(9.0, time.time, stratum=16),
    "asks for fewer": ntp.says(9.0, time.time, stratum=0, reference=b"RATE"),
}


async def test_later_invalid_answer_of_a_time_server_is_ignored(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for kind in BAD:
            group.create_task(a_take_with_bad_answers(tmp_path / kind.replace(" ", "-"), kind), name=kind)


async def a_take_with_bad_answers(directory: Path, kind: str) -> None:
    # Eight answers are one measurement. The fourth of the second one is bad already.
    async with served(*[GOOD] * 11, BAD[kind]) as (server, reference):
        camera = ScriptedCamera("one", scheduled=True, clock=2.0)
        async with Take([camera], directory, limits=OFTEN, time_server=reference) as take:
            await take.arm()
            await take.start(start_in=0.2)
            await eventually(lambda: len(server.requests) >= 24, timeout=60)
            await take.stop()
            await take.collect()
            manifest = take.manifest
    assert take.ok, (kind, manifest)
    assert manifest.start is not None
    assert manifest.start.source == "ntp"
    found = reference_of(manifest)
    assert found.consistent, kind
    assert abs(found.offset - 2.0) <= found.bound + ROUNDING, kind
    assert found.bound < 0.1
    assert manifest.start.t0.unix - manifest.start.t0_local.unix == pytest.approx(2.0, abs=0.1)
    assert found.line().interval(manifest.start.t0_local.unix).contains(2.0), kind
    if kind != "claims 0.9 ms of work":  # which is a contradiction only if the trip took less
        assert bool(found.rejected) == kind.startswith("set by")
    told = [error.error for error in manifest.errors if error.step == "time server"]
    assert told == (["RemoteProtocolError"] if found.rejected else []), kind


async def test_reference_server_dies_during_a_take(tmp_path: Path) -> None:
    async with served(GOOD) as (server, reference):
        camera = ScriptedCamera("one", scheduled=True, clock=2.0)
        async with Take([camera], tmp_path, limits=OFTEN, time_server=reference) as take:
            await take.arm()
            await take.start(start_in=0.1)
            before = len(server.requests)
            await eventually(lambda: len(server.requests) > before + 2, timeout=30)
            server.transport.close()
            await take.stop()
            await take.collect()
            manifest = take.manifest
    assert take.ok
    assert manifest.errors == []
    found = reference_of(manifest)
    assert found.line().interval(unix_now()).contains(2.0)
    assert found.rejected == []


async def test_reference_late_answer_does_not_move_t0(tmp_path: Path) -> None:
    limits = replace(OFTEN, clock_timeout=0.2)
    async with (
        served(*[ntp.silence] * 3, GOOD) as (_server, reference),
        Take([ScriptedCamera("one")], tmp_path, limits=limits, time_server=reference) as take,
    ):
        await take.arm()
        await take.start(start_in=0.0)
        await take.stop()
        await take.collect()
        manifest = take.manifest
    assert manifest.start is not None
    assert (manifest.start.source, manifest.start.clock) == ("system", None)
    assert manifest.start.t0 == manifest.start.t0_local


async def test_reference_measured_while_a_take_is_armed(tmp_path: Path) -> None:
    """It drifts: T0 is by what it said last, not by what it said before the wait."""
    began = time.monotonic()

    def drifting() -> float:
        return time.time() + 450e-6 * (time.monotonic() - began)

    async with (
        served(ntp.says(2.0, drifting)) as (server, reference),
        Take([ScriptedCamera("one")], tmp_path, limits=OFTEN, time_server=reference) as take,
    ):
        await take.arm()
        await eventually(lambda: len(server.requests) >= 40, timeout=60)
        await take.start(start_in=0.0)
        truth = 2.0 + 450e-6 * (time.monotonic() - began)
        start = take.manifest.start
        assert start is not None
        assert start.clock is not None
        assert len(start.clock.points) >= 3
        applied = start.t0.unix - start.t0_local.unix
        bound = start.clock.line().bound(start.t0_local.unix)
        assert abs(applied - truth) <= bound + 450e-6 * 5 + ROUNDING
        await take.stop()


@pytest.mark.parametrize("seconds", STEPS)
async def test_reference_scale_ignores_steps_of_this_computer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    clock = SetClock(monkeypatch)
    async with served(ntp.says(2.0, clock.true_time)) as (server, reference):
        camera = ScriptedCamera("one", scheduled=True, clock=2.0)
        async with Take([camera], tmp_path, limits=OFTEN, time_server=reference) as take:
            await take.arm()
            await take.start(start_in=0.2)
            clock.step(seconds)
            before = len(server.requests)
            await eventually(lambda: len(server.requests) > before + 10, timeout=30)
            await take.stop()
            await take.collect()
            manifest = take.manifest
    assert take.ok
    found = reference_of(manifest)
    assert len(found.points) >= 3
    assert found.consistent
    assert found.rejected == []
    assert found.line().interval(manifest.written_at.unix).contains(2.0)
    assert [step.seconds for step in manifest.clock_steps] == [pytest.approx(seconds, abs=0.05)]


async def test_reference_line_is_in_the_journal(tmp_path: Path) -> None:
    async with (
        served(ntp.says(2.0, time.time)) as (_, reference),
        Take([ScriptedCamera("one")], tmp_path, limits=OFTEN, time_server=reference) as take,
    ):
        await take.arm()
        await take.start(start_in=0.0)
        journal = take.directory / JOURNAL_NAME

        def points() -> int:
            manifest = replay(None, read_journal(journal.read_bytes()), "t").manifest
            clock = None if manifest.start is None else manifest.start.clock
            return 0 if clock is None else len(clock.points)

        await eventually(lambda: points() >= 3, timeout=30)
        await take.stop()


async def test_reference_converts_both_ways_by_all_measurements() -> None:
    begin = 1_800_000_000.0
    measured = [ClockOffset(3600 + 4e-4 * t, 0.001, 0.002, 8, begin + t) for t in (0.0, 600.0, 1200.0)]
    answers = iter([*measured, replace(measured[0], offset=-7.0, measured_at=begin + 1300)])
    told: list[RemoteProtocolError] = []

    async def query() -> ClockOffset:
        return next(answers)

    reference = Reference(TimeServer("ntp.example", query), on_contradiction=told.append)
    assert reference.at_computer_time(5.0) == reference.computer_time(5.0) == 5.0
    for _ in range(4):
        await reference.ask_again(5.0)
        for later in (-600.0, 0.0, 900.0, 7200.0):
            moment = begin + later
            assert reference.computer_time(reference.at_computer_time(moment)) == pytest.approx(
                moment, abs=1e-3
            )
    assert reference.at_computer_time(begin + 900) - begin - 900 == pytest.approx(3600.36, abs=0.002)
    assert reference.clock is not None
    assert [point.offset for point in reference.clock.rejected] == [-7.0]
    assert len(told) == 1
    await reference.ask_again(5.0)  # the query itself fails
    assert len(reference.clock.points) == 3


@pytest.mark.parametrize("offset", [float("nan"), float("inf")])
async def test_reference_query_without_a_number_is_an_error(offset: float) -> None:
    async def query() -> ClockOffset:
        return ClockOffset(offset, 0.001, 0.002, 8, unix_now())

    reference = Reference(TimeServer("ntp.example", query))
    with pytest.raises(RemoteProtocolError, match="finite seconds"):
        await reference.ask(5.0)
    assert reference.clock is None
