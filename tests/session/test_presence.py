"""Who is there, of all five systems, as real processes that are killed, frozen and started again."""

import asyncio
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asynccam import Session
from asynccam.model.events import CameraStateChanged
from asynccam.model.info import CameraState
from asynccam.runtime.retry import Backoff, RetryScheduler
from asynccam.runtime.tasks import TaskScope
from asynccam.session import Fleet
from tests.support.rows import CAMERA, SERVICES, SYSTEMS, row
from tests.support.swallowing import swallowing
from tests.support.waiting import eventually

PATIENT = 30.0
EVERY = 0.3
LOOPBACK: dict[str, Any] = {"interfaces": ["127.0.0.1"], "poll_interval": EVERY}


def is_so(session: Session, cameras: set[str], state: CameraState) -> bool:
    told = [session.events.latest(CameraStateChanged, key) for key in cameras]
    gone = cameras & session.unavailable.keys()
    at_home = gone == cameras if state is CameraState.UNAVAILABLE else not gone
    return at_home and all(event is not None and event.state is state for event in told)


async def test_mute_nanocam_server_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody takes its connections
        address = f"nanocam://127.0.0.1:{silent.getsockname()[1]}"
        async with Session.open(address, timeout=1.0, mdns=False, **LOOPBACK) as session:
            assert not session.cameras
            assert session.unavailable.keys() == {address}


async def test_lost_connection_makes_cameras_unavailable_at_once(tmp_path: Path) -> None:
    never: dict[str, Any] = {"interfaces": ["127.0.0.1"], "poll_interval": 3000.0, "mdns": False}
    async with (
        row(tmp_path, ("mediamtx",)) as devices,
        Session.open(*devices.places(("mediamtx",)), timeout=PATIENT, **never) as session,
    ):
        (camera,) = session.cameras
        await eventually(lambda: is_so(session, {camera}, CameraState.READY), PATIENT)
        await devices.kill()
        await eventually(lambda: is_so(session, {camera}, CameraState.UNAVAILABLE), PATIENT)
        assert "connection" in str(session.unavailable[camera].error)
        await devices.start()
        await eventually(lambda: is_so(session, {camera}, CameraState.READY), PATIENT)


async def test_service_that_returns_while_recording_has_its_state(tmp_path: Path) -> None:
    async with (
        row(tmp_path, ("mediamtx",)) as devices,
        Session.open(*devices.places(("mediamtx",)), timeout=PATIENT, mdns=False, **LOOPBACK) as session,
    ):
        (camera,) = session.cameras.values()
        take = session.new_take([camera], tmp_path / "takes")
        await take.arm()
        await take.start(start_in=0.1)
        await devices.kill()
        await eventually(lambda: is_so(session, {camera.id}, CameraState.UNAVAILABLE), PATIENT)
        await devices.start()
        await eventually(lambda: is_so(session, {camera.id}, CameraState.READY), PATIENT)
        assert take.manifest.outcome.value == "running"


async def test_target_is_unavailable_until_it_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody takes its connections
        port = silent.getsockname()[1]
        named = [f"{system}://127.0.0.1:{port}/{CAMERA.get(system, '')}".rstrip("/") for system in SYSTEMS]
        async with Session.open(*named, timeout=0.5, mdns=False, **LOOPBACK) as session:
            assert not session.cameras
            assert session.unavailable.keys() == set(named)
            assert all(isinstance(away.error, TimeoutError) for away in session.unavailable.values())
            told = [session.events.latest(CameraStateChanged, key) for key in named]
            assert all(event is not None and event.state is CameraState.UNAVAILABLE for event in told)
        async with Session(poll_interval=None) as session:
            looking = asyncio.ensure_future(session.add_address(named[0], timeout=PATIENT))
            await eventually(lambda: named[0] in session.unavailable, PATIENT)
            looking.cancel()


async def test_unanswered_target_is_probed_as_often_as_a_camera() -> None:
    """At 15 s a try, three would take longer than this test waits."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody takes its connections
        port = silent.getsockname()[1]
        named = [f"{system}://127.0.0.1:{port}" for system in SYSTEMS]
        async with Session.open(*named, timeout=0, mdns=False, **LOOPBACK) as session:
            assert session.unavailable.keys() == set(named)
            await eventually(lambda: all(away.tries >= 3 for away in session.unavailable.values()), PATIENT)


async def test_service_is_back_while_its_old_connection_is_mute(tmp_path: Path) -> None:
    async with row(tmp_path, ("mediamtx",)) as devices, swallowing(devices.ports["mediamtx"]) as wire:
        devices.shown["mediamtx"] = wire.port
        async with Session.open(
            *devices.places(("mediamtx",)), timeout=PATIENT, mdns=False, **LOOPBACK
        ) as session:
            (camera,) = session.cameras
            await eventually(lambda: is_so(session, {camera}, CameraState.READY), PATIENT)
            wire.cut()
            await eventually(lambda: is_so(session, {camera}, CameraState.UNAVAILABLE), PATIENT)
            wire.mend()
            await eventually(lambda: is_so(session, {camera}, CameraState.READY), PATIENT)


async def test_cut_cable_makes_a_camera_unavailable(tmp_path: Path) -> None:
    async with row(tmp_path) as devices, AsyncExitStack() as stack:
        wires = {
            system: await stack.enter_async_context(swallowing(port))
            for system, port in devices.ports.items()
        }
        devices.shown = {system: wire.port for system, wire in wires.items()}
        given = {"mdns": False, "timeout": PATIENT, **LOOPBACK}
        enter = stack.enter_async_context
        fleet = Fleet(places=tuple(devices.places(SYSTEMS)), poll_interval=EVERY)
        sessions = (
            await enter(Session.open(*devices.places(SYSTEMS), **given)),
            await enter(Session.open(*devices.places(SERVICES, of_service=True), **given)),
            await enter(Session.open(fleet=fleet, **given)),
        )
        for wire in wires.values():
            wire.cut()
        for session in sessions:
            known = set(session.cameras)
            await eventually(partial(is_so, session, known, CameraState.UNAVAILABLE), PATIENT)
        for wire in wires.values():
            wire.mend()
        for session in sessions:
            known = set(session.cameras)
            await eventually(partial(is_so, session, known, CameraState.READY), PATIENT)


async def test_target_is_either_available_or_unavailable(tmp_path: Path) -> None:
    async with row(tmp_path) as devices:
        singles = [str(devices.address(system)) for system in SYSTEMS]
        services = [str(devices.address(system, of_service=True)) for system in SERVICES]
        given: dict[str, Any] = {"timeout": 0, "mdns": False, **LOOPBACK}
        async with (
            Session.open(*devices.places(SYSTEMS), **given) as single,
            Session.open(*devices.places(SERVICES, of_service=True), **given) as service,
        ):

            def all_are_there() -> bool:
                here = {camera.info.address for camera in single.cameras.values()}
                for address in singles:
                    assert (address in single.unavailable) != (address in here), (
                        address,
                        dict(single.unavailable),
                        here,
                    )
                behind = {*service.cameras, *service.unavailable}
                for address in services:
                    met = any(key.startswith(f"{address}/") for key in behind)
                    assert (address in service.unavailable) != met, (
                        address,
                        dict(service.unavailable),
                        behind,
                    )
                return not single.unavailable and not service.unavailable

            await eventually(all_are_there, PATIENT)


async def test_directories_of_a_fleet_do_not_depend_on_the_opening(tmp_path: Path) -> None:
    async with row(tmp_path / "one") as one, row(tmp_path / "other", ("snapshot", "mediamtx")) as other:
        places = [*one.places(SYSTEMS), *other.places(("snapshot", "mediamtx"))]
        labelled = [replace(place, label=f"camera {number}") for number, place in enumerate(places)]
        for chosen in (places, labelled):
            made = []
            for given in (chosen, chosen[::-1], [*chosen[3:], *chosen[:3]]):
                for opened in (
                    Session.open(*given, timeout=PATIENT, mdns=False, **LOOPBACK),
                    Session.open(fleet=Fleet(places=tuple(given)), timeout=PATIENT, mdns=False, **LOOPBACK),
                ):
                    async with opened as session:
                        assert len(session.cameras) == len(places), dict(session.unavailable)
                        take = session.new_take(directory=tmp_path)
                        made.append({record.id: record.directory for record in take.manifest.cameras})
            assert len(set(made[0].values())) == len(places)
            assert made == made[:1] * len(made)


async def test_retry_within_is_sooner_than_the_interval() -> None:
    tries = 0
    async with TaskScope("test") as scope:
        keeper = RetryScheduler(scope, Backoff())

        async def attempt() -> None:
            nonlocal tries
            tries += 1
            keeper.retry_within("one", 0.01)

        keeper.schedule("one", attempt, lambda error: pytest.fail(str(error)), interval=3000.0)
        await eventually(lambda: tries >= 3, PATIENT)
        keeper.retry_within("unknown", 0.01)
        keeper.cancel("one")
