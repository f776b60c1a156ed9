"""Session.open: cameras by address, those that are away, and what is told when they come and go."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from asynccam.errors import AddressError, AuthenticationError, ConnectionError, UsageError
from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.model.events import (
    CameraFailed,
    CameraFound,
    CameraLost,
    CameraStateChanged,
    Event,
    RecordingStarted,
    RecordingStopped,
)
from asynccam.model.features import Files, Record, RecordPlan
from asynccam.model.info import CameraState
from asynccam.runtime.retry import Backoff
from asynccam.session import CameraTarget, Fleet, Session
from asynccam.systems.thorvision import ThorVisionSimulator
from tests.support.mediamtx_service import simulator, token
from tests.support.multicam_device import running
from tests.support.scripted_camera import ScriptedCamera, hang, in_turn, refuse
from tests.support.waiting import eventually

PATIENT = 30.0
QUICK: dict[str, Any] = {"backoff": Backoff(initial=0.02, maximum=0.1), "interfaces": ["127.0.0.1"]}
LOOPBACK: dict[str, Any] = {"interfaces": ["127.0.0.1"]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_now(state: CameraState) -> Callable[[CameraStateChanged], bool]:
    return lambda event: event.state is state


def credentials() -> Credentials:
    return Credentials(token=token())


# -- who is there from the beginning --------------------------------------------------------------


async def test_open_connects_to_three_systems(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "device") as device,
        simulator(1, directory=tmp_path, cameras=2) as service,
        ThorVisionSimulator() as server,
        Session.open(
            f"multicam://127.0.0.1:{device.port}",
            f"mediamtx://127.0.0.1:{service.port}",
            server.address,
            credentials=credentials(),
            timeout=PATIENT,
            **LOOPBACK,
        ) as session,
    ):
        assert len(session.cameras) == 4
        assert {camera.info.system for camera in session.cameras.values()} == {
            "multicam",
            "mediamtx",
            "thorvision",
        }
        assert not session.unavailable
        with session.events.stream(CameraFound, replay=True) as found:
            found.cancel()
            assert {event.camera async for event in found} == session.cameras.keys()


async def test_camera_is_found_once(tmp_path: Path) -> None:
    found: list[str] = []
    async with simulator(1, directory=tmp_path, cameras=2) as service, Session(**LOOPBACK) as session:
        session.subscribe(lambda event: found.append(event.camera), CameraFound)
        await session.add_address(
            CameraTarget(Address("mediamtx", "127.0.0.1", service.port), credentials=credentials()),
            timeout=PATIENT,
        )
        service.add_camera("late", device="late")
        late = f"mediamtx://127.0.0.1:{service.port}/late"
        await session.wait_for(CameraFound, camera=late, replay=True, timeout=PATIENT)
        await eventually(lambda: late in session.cameras, PATIENT)
        await eventually(lambda: len(found) >= 3, PATIENT)
    assert sorted(found) == sorted(set(found))


async def test_labels_and_groups(tmp_path: Path) -> None:
    async with running(tmp_path / "device", device_id="bench-7") as device:
        at = Address("multicam", "127.0.0.1", device.port)
        nowhere = Address("multicam", "127.0.0.1", free_port())
        async with Session.open(
            CameraTarget(at, label="hill", groups=frozenset({"yard"})),
            cameras={"door": nowhere},
            timeout=PATIENT,
            **LOOPBACK,
        ) as session:
            camera = session.camera("hill")
            assert camera is session.camera("bench-7")
            assert camera is session.camera("multicam://bench-7")
            assert session.labels == {"hill": "multicam://bench-7"}
            assert session.group("yard") == [camera]
            with pytest.raises(
                ConnectionError, match=f"door: multicam://127.0.0.1:{nowhere.port} is unavailable"
            ):
                session.camera("door")
            with pytest.raises(UsageError, match="no cameras of the session are named 'cellar'"):
                session.camera("cellar")
            with pytest.raises(UsageError, match="no group 'cellar'"):
                session.group("cellar")


@pytest.mark.parametrize(
    ("given", "labelled", "words"),
    [
        (("127.0.0.1",), {}, "not a camera address"),
        (("other://127.0.0.1",), {}, "unknown system"),
        (("multicam://a", "multicam://a:8080"), {}, "given twice"),
        ((), {"all": "mediamtx://a"}, "a label names one camera"),
    ],
)
async def test_open_refuses_invalid_addresses(
    given: tuple[str, ...], labelled: dict[str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        async with Session.open(*given, cameras=labelled):
            pytest.fail("it was opened")


async def test_two_targets_of_one_label_are_refused() -> None:
    with pytest.raises(UsageError, match="two cameras are labelled 'x'"):
        async with Session.open(
            CameraTarget(Address("multicam", "a", 1), label="x"),
            CameraTarget(Address("multicam", "b", 1), label="x"),
        ):
            pytest.fail("it was opened")


@pytest.mark.parametrize(("port", "words"), [(0, "not 0"), (65536, "not 65536"), (-1, "not -1")])
async def test_invalid_http_port_is_refused(port: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        async with Session.open(CameraTarget(Address("mediamtx", "a", 1), http_port=port)):
            pytest.fail("it was opened")
    async with Session() as session:
        with pytest.raises(UsageError, match=words):
            await session.connect("mediamtx://a/camera0", http_port=port)
        with pytest.raises(UsageError, match="for mediamtx only"):
            await session.connect("multicam://a", http_port=8003)


@pytest.mark.parametrize("way", ["place", "label", "fleet", "connect"])
async def test_files_are_downloaded_from_http_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("MEDIAMTX_HTTP_PORT", str(free_port()))  # what is said goes before it
    monkeypatch.setenv("LAB_TOKEN", token())
    async with simulator(2, directory=tmp_path, cameras=1, http_port=0) as service:
        address = Address("mediamtx", "127.0.0.1", service.port, "camera0")
        place = CameraTarget(address, credentials=credentials(), http_port=service.http_port)
        text = f"[[camera]]\naddress = '{address}'\nhttp_port = {service.http_port}\ntoken_env = 'LAB_TOKEN'"
        ways: dict[str, dict[str, Any]] = {
            "place": {"fleet": Fleet(places=(place,))},
            "label": {"cameras": {"door": place}},
            "fleet": {"fleet": Fleet.parse(text)},
            "connect": {},
        }
        async with Session.open(**ways[way], timeout=PATIENT, **LOOPBACK) as session:
            if way == "connect":
                camera = await session.connect(
                    address, credentials=credentials(), http_port=service.http_port
                )
            (camera,) = session.cameras.values()
            start = await camera.feature(Record).arm(RecordPlan(tmp_path))
            start.release(None)
            await start.accepted()
            await start.aclose()
            (file,) = (await camera.feature(Record).stop()).files
            home = await camera.feature(Files).download(file, tmp_path)
            assert home.path.read_bytes() == b"a recording"


@pytest.mark.parametrize("settings", [{"shutdown_timeout": 0}, {"poll_interval": -1.0}])
def test_settings_out_of_range_are_refused(settings: Any) -> None:
    with pytest.raises(UsageError, match="must be > 0 seconds"):
        Session(**settings)


# -- who is away ------------------------------------------------------------------------------------


async def test_unavailable_camera_is_added_once_it_answers(tmp_path: Path) -> None:
    port = free_port()
    address = f"multicam://127.0.0.1:{port}"
    async with Session.open(address, timeout=PATIENT, mdns=False, **QUICK) as session:
        away = session.unavailable[address]
        assert isinstance(away.error, ConnectionError)
        assert away.address == address
        assert not session.cameras
        told = await session.wait_for(CameraStateChanged, camera=address, replay=True, timeout=PATIENT)
        assert told.state is CameraState.UNAVAILABLE
        await eventually(lambda: session.unavailable[address].tries > 2, PATIENT)
        async with running(tmp_path / "device", port=port):
            found = await session.wait_for(CameraFound, replay=True, timeout=PATIENT)
            assert found.info.address == address
            assert list(session.cameras) == [found.camera]
            assert not session.unavailable
            with session.events.stream(replay=True) as states:
                states.cancel()
                assert address not in {event.subject async for event in states}


async def test_camera_becomes_unavailable_and_available_again(tmp_path: Path) -> None:
    port = free_port()
    async with Session.open(
        f"multicam://127.0.0.1:{port}", mdns=False, poll_interval=0.05, timeout=0.01, **QUICK
    ) as session:
        async with running(tmp_path / "device", port=port):
            found = await session.wait_for(CameraFound, replay=True, timeout=PATIENT)
            await session.wait_for(
                CameraStateChanged, where=is_now(CameraState.READY), replay=True, timeout=PATIENT
            )
        gone = await session.wait_for(
            CameraStateChanged,
            camera=found.camera,
            where=is_now(CameraState.UNAVAILABLE),
            timeout=PATIENT,
            replay=True,
        )
        assert gone.previous is CameraState.READY
        assert session.unavailable[found.camera].address == f"multicam://127.0.0.1:{port}"
        assert found.camera in session.cameras  # it stays
        async with running(tmp_path / "device", port=port):
            back = await session.wait_for(
                CameraStateChanged, where=is_now(CameraState.READY), timeout=PATIENT, replay=True
            )
            assert back.previous is CameraState.UNAVAILABLE
            assert not session.unavailable


async def test_take_leaves_out_unavailable_cameras(tmp_path: Path) -> None:
    async with Session(poll_interval=0.02, **QUICK) as session:
        session.add(ScriptedCamera("good"))
        session.add(ScriptedCamera("bad", script={"status": refuse(ConnectionError("gone"))}))
        await eventually(lambda: "scripted://bad" in session.unavailable, PATIENT)
        take = await session.take(duration=0.02, directory=tmp_path, start_in=0)
        assert [record.name for record in take.manifest.cameras] == ["good"]


async def test_one_lost_answer_keeps_a_camera_available() -> None:
    camera = ScriptedCamera("one", script={"status": in_turn(None, refuse(ConnectionError("lost")), None)})
    states: list[CameraStateChanged] = []
    async with Session(poll_interval=0.02, **QUICK) as session:
        session.subscribe(states.append, CameraStateChanged)
        session.add(camera)
        await eventually(lambda: camera.calls.count("status") > 4, PATIENT)
    assert [event.state for event in states] == [CameraState.READY]


async def test_camera_in_a_take_is_not_polled(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    async with Session(poll_interval=0.02, **QUICK) as session:
        session.add(camera)
        await eventually(lambda: "status" in camera.calls, PATIENT)
        take = session.new_take(directory=tmp_path)
        await take.arm()
        await eventually(lambda: "arm" in camera.calls, PATIENT)
        asked = camera.calls.count("status")
        other = ScriptedCamera("other")
        session.add(other)
        await eventually(lambda: other.calls.count("status") > 2, PATIENT)
        assert camera.calls.count("status") <= asked + 1  # one may have been on its way
        await take.aclose()


async def test_pause_polling_pauses_the_named_cameras() -> None:
    paused, other = ScriptedCamera("paused"), ScriptedCamera("other")
    async with Session(poll_interval=0.02, **QUICK) as session:
        with session.pause_polling([paused.id]):
            session.add(paused)
            session.add(other)
            await eventually(lambda: other.calls.count("status") > 2, PATIENT)
            assert paused.calls == []
        await eventually(lambda: "status" in paused.calls, PATIENT)


async def test_wrong_credentials_are_reported_and_not_retried(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path, cameras=1) as service:
        address = f"mediamtx://127.0.0.1:{service.port}"
        wrong = Credentials(token=token(secret="another secret of at least thirty-two bytes"))
        async with Session.open(address, credentials=wrong, timeout=PATIENT, **QUICK) as session:
            await eventually(lambda: address in session.unavailable, PATIENT)
            assert isinstance(session.unavailable[address].error, AuthenticationError)
            tries = session.unavailable[address].tries
            with session.events.stream(CameraFailed) as failures:
                session.retry_now(address)
                await eventually(lambda: session.unavailable[address].tries == tries + 1, PATIENT)
                failures.cancel()
                assert [event async for event in failures] == []  # it was told once


async def test_fatal_error_is_reported_once_and_ends_fail_fast(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path, cameras=1) as service:
        wrong = Credentials(token="no token")
        with pytest.raises(AuthenticationError):
            async with Session.open(
                f"mediamtx://127.0.0.1:{service.port}", credentials=wrong, fail_fast=True, timeout=PATIENT
            ):
                await hang()


async def test_announcement_retries_at_once(tmp_path: Path) -> None:
    port = free_port()
    slow = Backoff(initial=3000, maximum=3000)
    name = f"wake-{uuid4().hex[:12]}"
    async with Session.open(
        f"multicam://127.0.0.1:{port}", timeout=PATIENT, backoff=slow, interfaces=["127.0.0.1"]
    ) as session:
        assert session.unavailable
        async with running(
            tmp_path / "device", port=port, device_id=name, announce=True, interfaces=["127.0.0.1"]
        ):
            await session.wait_for(CameraFound, camera=f"multicam://{name}", replay=True, timeout=PATIENT)
            assert not session.unavailable
        await session.wait_for(CameraLost, camera=f"multicam://{name}", replay=True, timeout=PATIENT)
        assert f"multicam://{name}" in session.unavailable


async def test_announced_camera_without_target_is_not_added(tmp_path: Path) -> None:
    ours, other = (f"{word}-{uuid4().hex[:12]}" for word in ("ours", "other"))
    loopback: dict[str, Any] = {"announce": True, "interfaces": ["127.0.0.1"]}
    async with (
        running(tmp_path / "other", device_id=other, **loopback),
        running(tmp_path / "ours", device_id=ours, **loopback) as device,
        Session.open(f"multicam://127.0.0.1:{device.port}", timeout=PATIENT, **LOOPBACK) as session,
    ):
        assert session.cameras.keys() == {f"multicam://{ours}"}
        await session.discover(timeout=PATIENT, systems=["multicam"], count=2)
        await eventually(
            lambda: session.cameras.keys() >= {f"multicam://{ours}", f"multicam://{other}"}, PATIENT
        )


# -- while it runs ------------------------------------------------------------------------------------


async def test_add_address_and_remove(tmp_path: Path) -> None:
    nowhere = f"multicam://127.0.0.1:{free_port()}"
    async with running(tmp_path / "device") as device, Session(**QUICK) as session:
        await session.add_address(nowhere, timeout=PATIENT)
        await session.add_address(f"multicam://127.0.0.1:{device.port}", timeout=PATIENT)
        assert len(session.cameras) == 1
        assert session.unavailable.keys() == {nowhere}
        with pytest.raises(UsageError, match="given twice"):
            await session.add_address(nowhere)
        await session.remove(nowhere)
        assert not session.unavailable
        (camera,) = session.cameras
        await session.remove(camera)
        await session.add_address(f"multicam://127.0.0.1:{device.port}", timeout=PATIENT)
        assert session.cameras.keys() == {camera}
        with pytest.raises(UsageError, match="not in the session"):
            await session.remove(nowhere)
        with pytest.raises(AddressError):
            await session.add_address("nowhere")


async def test_two_targets_of_one_device_are_one_camera(tmp_path: Path) -> None:
    async with running(tmp_path / "device", host="") as device:
        addresses = [f"multicam://127.0.0.{host}:{device.port}" for host in (1, 2)]
        async with Session.open(*addresses, timeout=PATIENT, mdns=False, **QUICK) as session:
            assert list(session.cameras) == ["multicam://bench-1"]
            assert not session.unavailable


async def test_cancelled_removal_closes_the_camera() -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    camera = ScriptedCamera("one", script={"close": wait})
    async with Session() as session:
        session.add(camera)
        removal = asyncio.ensure_future(session.remove(camera))
        await eventually(lambda: "close" in camera.calls, PATIENT)
        removal.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await removal
        assert camera.closed == 1
        assert not session.cameras


async def test_removed_camera_of_a_service_stays_removed(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path, cameras=2) as service:
        address = f"mediamtx://127.0.0.1:{service.port}"
        async with Session.open(
            address, credentials=credentials(), timeout=PATIENT, poll_interval=0.05, **QUICK
        ) as session:
            first, second = session.cameras
            await session.remove(first)
            service.add_camera("late", device="late")
            await eventually(lambda: f"{address}/late" in session.cameras, PATIENT)
            assert session.cameras.keys() == {second, f"{address}/late"}
            assert (await session.connect(first, credentials=credentials())).id == first
            assert first in session.cameras


async def test_unplugged_camera_is_unavailable_until_plugged_in(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path, cameras=2) as service:
        address = f"mediamtx://127.0.0.1:{service.port}"
        async with Session.open(
            address, credentials=credentials(), timeout=PATIENT, poll_interval=None, **QUICK
        ) as session:
            device = next(iter(service.cameras))
            camera = next(key for key in session.cameras if key.endswith(device.rpartition("/")[2]))
            service.remove_camera(device)
            await session.wait_for(
                CameraStateChanged,
                camera=camera,
                where=is_now(CameraState.UNAVAILABLE),
                replay=True,
                timeout=PATIENT,
            )
            assert session.unavailable.keys() == {camera}
            service.add_camera("again", device=device)
            await eventually(lambda: not session.unavailable, PATIENT)


@pytest.mark.parametrize("generation", [1, 2])
async def test_recording_events_are_emitted_once(tmp_path: Path, generation: int) -> None:
    told: list[Event] = []
    async with (
        running(tmp_path / "device") as device,
        simulator(generation, directory=tmp_path, cameras=1) as service,
        Session.open(
            f"multicam://127.0.0.1:{device.port}",
            f"mediamtx://127.0.0.1:{service.port}",
            credentials=credentials(),
            timeout=PATIENT,
            **LOOPBACK,
        ) as session,
    ):
        session.subscribe(told.append, RecordingStarted, RecordingStopped)
        await session.take(duration=0.2, directory=tmp_path / "takes", start_in=0.2)
        await session.take(duration=0.2, directory=tmp_path / "takes", start_in=0.2)
        await eventually(lambda: len(told) >= 8, PATIENT)
        cameras = list(session.cameras)
    for camera in cameras:
        kinds = [type(event) for event in told if event.subject == camera]
        assert kinds == [RecordingStarted, RecordingStopped] * 2


# -- the end --------------------------------------------------------------------------------------------


@pytest.mark.realtime
async def test_hundreds_of_cameras_close_in_time_whatever_hangs() -> None:
    async def deaf() -> None:
        gate = asyncio.get_running_loop().create_future()
        leave.append(gate)
        while not gate.done():
            try:
                await asyncio.shield(gate)
            except asyncio.CancelledError:
                continue

    leave: list[asyncio.Future[None]] = []
    good = [ScriptedCamera(f"good{number}") for number in range(300)]
    hanging = [ScriptedCamera(f"hanging{number}", script={"close": hang}) for number in range(20)]
    broken = [
        ScriptedCamera(f"broken{number}", script={"close": refuse(OSError("no"))}) for number in range(20)
    ]
    stuck = ScriptedCamera("stuck", script={"close": deaf})
    failures: list[CameraFailed] = []
    try:
        async with Session(shutdown_timeout=6.0, poll_interval=0.5) as session:
            session.subscribe(failures.append, CameraFailed)
            for camera in (*good, *hanging, *broken, stuck):
                session.add(camera)
            await eventually(lambda: all("status" in camera.calls for camera in good), PATIENT)
    finally:
        for gate in leave:
            gate.set_result(None)
    assert [camera.closed for camera in good] == [1] * 300
    assert {event.camera for event in failures} == {one.id for one in (*hanging, *broken, stuck)}
    assert "left behind" in str(next(event.error for event in failures if event.camera == stuck.id))


async def test_cancelled_open_leaves_nothing(tmp_path: Path) -> None:
    async def block() -> None:
        async with Session.open(f"multicam://127.0.0.1:{free_port()}", timeout=PATIENT, **QUICK):
            await hang()

    for passes in (0, 1, 3, 10, 50):
        task = asyncio.ensure_future(block())
        for _ in range(passes):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_nothing_is_added_after_the_end(tmp_path: Path) -> None:
    port = free_port()
    async with Session.open(f"multicam://127.0.0.1:{port}", timeout=PATIENT, mdns=False, **QUICK) as session:
        pass
    async with running(tmp_path / "device", port=port) as device:
        await asyncio.sleep(0.1)  # in which a session that is open would connect
        assert not session.cameras
        assert device.port == port
