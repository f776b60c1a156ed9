"""Who is there, of all five systems, as real processes that are killed, frozen and started again."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from asynccam import Session
from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.model.events import CameraStateChanged
from asynccam.model.info import CameraState
from asynccam.session import Fleet, Place
from tests.support.devices import Device, device_process, free_port
from tests.support.waiting import eventually

PATIENT = 30.0
EVERY = 0.3
SYSTEMS = ("multicam", "mediamtx", "thorvision", "snapshot", "nanocam")
SERVICES = ("mediamtx", "thorvision", "snapshot")
SECRET = "one secret of at least thirty-two bytes for all"
OWN: Mapping[str, tuple[object, ...]] = {"mediamtx": ("--secret", SECRET, "--cameras", 1)}
CAMERA = {"mediamtx": "camera0", "thorvision": "simulated-0", "snapshot": "test1"}
LOOPBACK: dict[str, Any] = {"interfaces": ["127.0.0.1"], "check_every": EVERY}


class Row:
    """One device of each system, at ports they keep."""

    def __init__(self, directory: Path, systems: tuple[str, ...]) -> None:
        self._directory = directory
        self._stack = AsyncExitStack()
        self.ports = {system: free_port() for system in systems}
        self.name = f"row-{uuid4().hex[:12]}"
        self.running: dict[str, Device] = {}
        self.options: dict[str, tuple[object, ...]] = {"multicam": ("--device-id", self.name)}

    async def start(self) -> None:
        """Start all, side by side, where they were before."""
        await asyncio.gather(*map(self._start, self.ports))

    async def _start(self, system: str) -> None:
        options = (*OWN.get(system, ()), *self.options.get(system, ()), "--port", self.ports[system])
        opened = device_process(system, self._directory / system, *options)
        self.running[system] = await opened.__aenter__()
        self._stack.push_async_exit(opened)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await asyncio.gather(*(device.process.wait() for device in self.running.values()))

    def signal(self, number: signal.Signals) -> None:
        for device in self.running.values():
            device.process.send_signal(number)

    def address(self, system: str, *, of_service: bool = False) -> Address:
        camera = "" if of_service else CAMERA.get(system, "")
        return Address(system, "127.0.0.1", self.ports[system], camera)

    def has(self, address: str) -> bool:
        return Address.parse(address).port in self.ports.values()

    def credentials(self, system: str) -> Credentials:
        return Credentials(token=str(self.running[system].said["token"]) if system == "mediamtx" else None)

    async def aclose(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def row(
    directory: Path, systems: tuple[str, ...] = SYSTEMS, *, multicam: tuple[str, ...] = ()
) -> AsyncIterator[Row]:
    one = Row(directory, systems)
    one.options["multicam"] += multicam
    try:
        await one.start()
        yield one
    finally:
        await one.aclose()


def places(devices: Row, systems: tuple[str, ...], *, of_service: bool = False) -> list[Place]:
    return [
        Place(devices.address(system, of_service=of_service), credentials=devices.credentials(system))
        for system in systems
    ]


async def go_and_come(devices: Row, *sessions: Session) -> None:
    """Every camera that was ready is away while it is frozen or dead, and ready again afterwards."""
    cameras = [
        {key for key, camera in session.cameras.items() if devices.has(camera.info.address)}
        for session in sessions
    ]

    async def all_are(state: CameraState, when: str) -> None:
        for session, known in zip(sessions, cameras, strict=True):
            try:
                await eventually(partial(is_so, session, known, state), PATIENT)
            except AssertionError:
                told = {key: session.events.latest(CameraStateChanged, key) for key in known}
                pytest.fail(f"not {state.value} {when}: {told} {dict(session.away)}")

    await all_are(CameraState.READY, "at first")
    devices.signal(signal.SIGSTOP)
    await all_are(CameraState.AWAY, "while frozen")
    devices.signal(signal.SIGCONT)
    await all_are(CameraState.READY, "after the frost")
    await devices.kill()
    await all_are(CameraState.AWAY, "when killed")
    await devices.start()
    await all_are(CameraState.READY, "after the restart")
    assert [set(session.cameras) & known for session, known in zip(sessions, cameras, strict=True)] == cameras


def is_so(session: Session, cameras: set[str], state: CameraState) -> bool:
    told = [session.events.latest(CameraStateChanged, key) for key in cameras]
    gone = cameras & session.away.keys()  # discovery may find cameras of others
    at_home = gone == cameras if state is CameraState.AWAY else not gone
    return at_home and all(event is not None and event.state is state for event in told)


@pytest.mark.timeout(180)
async def test_every_system_goes_and_comes_back_however_it_was_named(tmp_path: Path) -> None:
    announced = ("--announce", "--interface", "127.0.0.1")
    async with row(tmp_path, SYSTEMS, multicam=announced) as devices:
        given = {"mdns": False, "timeout": PATIENT, **LOOPBACK}
        fleet = Fleet(places=tuple(places(devices, SYSTEMS)), check_every=EVERY)
        async with (
            Session.open(*places(devices, SYSTEMS), **given) as single,
            Session.open(*places(devices, SERVICES, of_service=True), **given) as service,
            Session.open(fleet=fleet, **given) as whole,
            Session(**LOOPBACK) as found,
        ):
            await found.discover(timeout=PATIENT, systems=["multicam"], count=1)
            await eventually(lambda: f"multicam://{devices.name}" in found.cameras, PATIENT)
            for session, systems in ((single, SYSTEMS), (service, SERVICES), (whole, SYSTEMS)):
                assert {camera.info.system for camera in session.cameras.values()} == set(systems)
            await go_and_come(devices, single, service, whole, found)


async def test_a_nanocam_server_that_accepts_and_is_mute_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody takes its connections
        address = f"nanocam://127.0.0.1:{silent.getsockname()[1]}"
        async with Session.open(address, timeout=1.0, mdns=False, **LOOPBACK) as session:
            assert not session.cameras
            assert session.away.keys() == {address}


async def test_a_connection_that_goes_takes_its_cameras_away_without_a_check(tmp_path: Path) -> None:
    never: dict[str, Any] = {"interfaces": ["127.0.0.1"], "check_every": 3000.0, "mdns": False}
    async with (
        row(tmp_path, ("mediamtx",)) as devices,
        Session.open(*places(devices, ("mediamtx",)), timeout=PATIENT, **never) as session,
    ):
        (camera,) = session.cameras
        await eventually(lambda: is_so(session, {camera}, CameraState.READY), PATIENT)
        await devices.kill()
        await eventually(lambda: is_so(session, {camera}, CameraState.AWAY), PATIENT)
        assert "connection" in str(session.away[camera].error)
        await devices.start()
        await eventually(lambda: is_so(session, {camera}, CameraState.READY), PATIENT)


async def test_a_service_that_returns_in_mid_recording_is_not_unknown(tmp_path: Path) -> None:
    async with (
        row(tmp_path, ("mediamtx",)) as devices,
        Session.open(*places(devices, ("mediamtx",)), timeout=PATIENT, mdns=False, **LOOPBACK) as session,
    ):
        (camera,) = session.cameras.values()
        take = session.new_take([camera], tmp_path / "takes")
        await take.arm()
        await take.start(start_in=0.1)
        await devices.kill()
        await eventually(lambda: is_so(session, {camera.id}, CameraState.AWAY), PATIENT)
        await devices.start()
        await eventually(lambda: is_so(session, {camera.id}, CameraState.READY), PATIENT)
        assert take.manifest.outcome.value == "running"


async def test_who_was_named_is_away_until_it_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody takes its connections
        port = silent.getsockname()[1]
        named = [f"{system}://127.0.0.1:{port}/{CAMERA.get(system, '')}".rstrip("/") for system in SYSTEMS]
        async with Session.open(*named, timeout=0.5, mdns=False, **LOOPBACK) as session:
            assert not session.cameras
            assert session.away.keys() == set(named)
            assert all(isinstance(away.error, TimeoutError) for away in session.away.values())
            told = [session.events.latest(CameraStateChanged, key) for key in named]
            assert all(event is not None and event.state is CameraState.AWAY for event in told)
        async with Session(check_every=None) as session:
            looking = asyncio.ensure_future(session.look_at(named[0], timeout=PATIENT))
            await eventually(lambda: named[0] in session.away, PATIENT)
            looking.cancel()
