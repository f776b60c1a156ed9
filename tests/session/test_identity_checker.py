"""Another device at a known address, and two devices with one id."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from asynccam import Session
from asynccam.errors import UsageError
from asynccam.model.events import CameraChanged, CameraFailed
from asynccam.model.info import CameraState
from asynccam.model.manifest import Outcome
from asynccam.net.mdns import announce
from asynccam.runtime.retry import Backoff
from asynccam.systems.multicam.models import SERVICE_TYPE
from tests.support.command import asynccam
from tests.support.devices import free_port
from tests.support.multicam_device import running
from tests.support.waiting import eventually

PATIENT = 30.0
QUICK: dict[str, Any] = {"backoff": Backoff(initial=0.02, maximum=0.1), "interfaces": ["127.0.0.1"]}


@asynccontextmanager
async def devices_without_a_run_id(
    *addresses: tuple[str, int], on_request: Callable[[bytes], None] = lambda request: None
) -> AsyncIterator[list[asyncio.Server]]:
    """Listeners that answer every request as one ready device, as the makers' apps do."""
    before = asyncio.all_tasks()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        on_request(await reader.read(4096))
        writer.write(b'{"deviceId":"phone","status":"ready","timestamp":1729000000.5}')
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with AsyncExitStack() as stack:
        opened = [await asyncio.start_server(answer, *address) for address in addresses]
        yield [await stack.enter_async_context(server) for server in opened]
        await eventually(lambda: asyncio.all_tasks() <= before)


async def test_other_device_at_a_known_address_is_not_recorded(tmp_path: Path) -> None:
    port = free_port()
    async with Session() as session:
        async with running(tmp_path / "first", port=port, device_id="first"):
            camera = await session.connect(f"multicam://127.0.0.1:{port}")
        async with running(tmp_path / "second", port=port, device_id="second"):
            take = await session.take([camera], duration=0.1, start_in=0.1, directory=tmp_path)
    (record,) = take.manifest.cameras
    assert take.manifest.outcome is not Outcome.COMPLETE
    assert not record.files
    told = " ".join(problem.message for problem in record.errors)
    assert "'second'" in told
    assert "'first'" in told


async def test_two_live_devices_with_one_id_are_refused(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "a", device_id="twin") as one,
        running(tmp_path / "b", device_id="twin") as other,
    ):
        there = [f"multicam://127.0.0.1:{device.port}" for device in (one, other)]
        async with Session() as session:
            await session.connect(there[0])
            with pytest.raises(UsageError, match="two devices answer as multicam://twin"):
                await session.connect(there[1])
            assert session.cameras["multicam://twin"].info.address == there[0]
        async with Session.open(*there, timeout=PATIENT, mdns=False, **QUICK) as session:
            await eventually(lambda: session.unavailable, PATIENT)
            assert len(session.cameras) == 1
            (away,) = session.unavailable.values()
            assert all(address in str(away.error) for address in there)


async def test_two_devices_with_one_id_at_two_hosts_are_refused(tmp_path: Path) -> None:
    port = free_port()
    there = [f"multicam://{host}:{port}" for host in ("127.0.0.1", "127.0.0.2")]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            running(tmp_path / "b", device_id="twin", host="127.0.0.2", port=port)
        )
        async with running(tmp_path / "a", device_id="twin", host="127.0.0.1", port=port):
            async with Session() as alone:
                await alone.connect(there[0])
                with pytest.raises(UsageError, match="two devices answer as multicam://twin"):
                    await alone.connect(there[1])
            session = await stack.enter_async_context(
                Session.open(there[0], timeout=PATIENT, mdns=False, **QUICK)
            )
            await session.add_address(there[1], timeout=PATIENT)
            (camera,) = session.cameras.values()
            assert session.unavailable.keys() == {there[1]}
        # The one that was met has gone; the other is still another one.
        with pytest.raises(UsageError, match="two devices"):
            await session.connect(there[1])
        assert camera.info.address == there[0]
        await session.remove(camera)
        assert (await session.connect(there[1])).info.address == there[1]


async def test_device_with_two_addresses_is_one_camera(tmp_path: Path) -> None:
    async with running(tmp_path, host="0.0.0.0", device_id="one") as device, Session() as session:
        first = await session.connect(f"multicam://127.0.0.1:{device.port}")
        for host in ("127.0.0.2", "localhost", "127.0.0.1"):
            assert await session.connect(f"multicam://{host}:{device.port}") is first
        assert len(session.cameras) == 1


async def test_devices_without_a_run_id_are_refused() -> None:
    port = free_port()
    async with devices_without_a_run_id(("127.0.0.1", port), ("127.0.0.2", port)), Session() as session:
        await session.connect(f"multicam://127.0.0.1:{port}")
        await session.connect(f"multicam://localhost:{port}")
        with pytest.raises(UsageError, match="or one device with both addresses, which does not tell"):
            await session.connect(f"multicam://127.0.0.2:{port}")


async def test_announced_duplicate_id_is_not_followed(
    tmp_path: Path,
) -> None:
    name = f"twin-{uuid4().hex[:12]}"
    announced: dict[str, Any] = {
        "device_id": name,
        "announce": True,
        "interfaces": ["127.0.0.1"],
        "host": "127.0.0.1",
    }
    async with running(tmp_path / "a", device_id=name) as known:
        there = f"multicam://127.0.0.1:{known.port}"
        async with Session.open(there, timeout=PATIENT, **QUICK) as session:
            refused: list[CameraFailed] = []
            session.subscribe(refused.append, CameraFailed)
            async with running(tmp_path / "b", **announced) as other:
                await eventually(lambda: refused, PATIENT)
                assert f":{other.port}" in str(refused[0].error)
                assert there in str(refused[0].error)
                found = await session.discover(timeout=0.5, systems=["multicam"])
                assert session.cameras[f"multicam://{name}"].info.address == there
                assert [camera for camera in found if name in camera.id] in ([], [session.camera(name)])
                assert len(refused) == 1


async def test_discovered_device_that_moved_is_followed(tmp_path: Path) -> None:
    name = f"mover-{uuid4().hex[:12]}"
    announced: dict[str, Any] = {
        "device_id": name,
        "announce": True,
        "interfaces": ["127.0.0.1"],
        "host": "127.0.0.1",
    }
    async with AsyncExitStack() as stack:
        async with running(tmp_path / "a", device_id=name) as known:
            there = f"multicam://127.0.0.1:{known.port}"
            session = await stack.enter_async_context(Session.open(there, timeout=PATIENT, **QUICK))
        async with running(tmp_path / "b", **announced) as moved:
            camera = session.cameras[f"multicam://{name}"]
            await eventually(lambda: camera.info.address == f"multicam://127.0.0.1:{moved.port}", PATIENT)


async def test_known_device_that_ends_during_the_check_has_moved(tmp_path: Path) -> None:
    """It answers at its known address when the check begins, and not any longer when it ends."""
    port = free_port()
    requests: list[bytes] = []

    def end(request: bytes) -> None:
        requests.append(request)
        if b'"runMark"' in request:
            servers[0].close()

    async with (
        devices_without_a_run_id(("127.0.0.1", port), on_request=end) as servers,
        running(tmp_path, device_id="phone") as moved,
        Session(poll_interval=None) as session,
    ):
        camera = await session.connect(f"multicam://127.0.0.1:{port}")
        there = f"multicam://127.0.0.1:{moved.port}"
        assert await session.connect(there) is camera
        assert b'"runMark"' in requests[-1]
        assert camera.info.address == there


@pytest.mark.parametrize("discovered", [False, True], ids=["by address", "by discovery"])
async def test_announcement_before_the_device_answers_is_followed_later(
    tmp_path: Path, discovered: bool
) -> None:
    """mDNS announces once: what could not be checked then is followed when the known address fails."""
    name = f"mover-{uuid4().hex[:12]}"
    key, loopback = f"multicam://{name}", ["127.0.0.1"]
    new_port = free_port()
    there = f"multicam://127.0.0.1:{new_port}"
    async with AsyncExitStack() as stack:
        changes: list[CameraChanged] = []
        async with running(tmp_path / "a", device_id=name, host="127.0.0.1") as known:
            targets = [] if discovered else [f"multicam://127.0.0.1:{known.port}"]
            opened = Session.open(*targets, poll_interval=0.2, timeout=PATIENT, **QUICK)
            session = await stack.enter_async_context(opened)
            session.subscribe(changes.append, CameraChanged)
            service = announce(SERVICE_TYPE, f"multiCam-{name}", known.port, interfaces=loopback)
            if discovered:
                announcement = await stack.enter_async_context(service)
                await session.discover(timeout=0.1, systems=["multicam"])
                await eventually(lambda: key in session.cameras, PATIENT)
                await announcement.move(port=new_port)
            else:
                service = announce(SERVICE_TYPE, f"multiCam-{name}", new_port, interfaces=loopback)
                await stack.enter_async_context(service)
            unchecked = session._presence._unchecked
            await eventually(lambda: key in unchecked, PATIENT)
            camera = session.cameras[key]
            assert camera.info.address == f"multicam://127.0.0.1:{known.port}"
            assert (await camera.status()).state is CameraState.READY
        await eventually(lambda: key in session.unavailable, PATIENT)
        async with running(tmp_path / "b", device_id=name, host="127.0.0.1", port=new_port):
            await eventually(lambda: key not in session.unavailable, PATIENT)
            assert camera.info.address == there
            assert [change.info.address for change in changes if change.camera == key][-1:] == [there]


async def test_camera_stays_where_it_was_if_nothing_answers_where_it_announced_itself(tmp_path: Path) -> None:
    name = f"stayer-{uuid4().hex[:12]}"
    key, port, nowhere = f"multicam://{name}", free_port(), free_port()
    there = f"multicam://127.0.0.1:{port}"
    at_home: dict[str, Any] = {"device_id": name, "host": "127.0.0.1", "port": port}
    async with AsyncExitStack() as stack:
        async with running(tmp_path / "a", **at_home):
            opened = Session.open(there, poll_interval=0.2, timeout=PATIENT, **QUICK)
            session = await stack.enter_async_context(opened)
            service = announce(SERVICE_TYPE, f"multiCam-{name}", nowhere, interfaces=["127.0.0.1"])
            await stack.enter_async_context(service)
            await eventually(lambda: key in session._presence._unchecked, PATIENT)
        await eventually(lambda: key in session.unavailable, PATIENT)
        async with running(tmp_path / "b", **at_home):
            await eventually(lambda: key not in session.unavailable, PATIENT)
            assert session.cameras[key].info.address == there


async def test_record_command_names_missing_cameras(tmp_path: Path) -> None:
    nowhere = f"multicam://127.0.0.1:{free_port()}"
    async with running(tmp_path / "device") as device:
        there = f"multicam://127.0.0.1:{device.port}"
        line = (
            "record",
            there,
            nowhere,
            "--duration",
            0.2,
            "--start-in",
            0.2,
            "--to",
            tmp_path / "takes",
            "--json",
        )
        refused = await asynccam(*line)
        assert (refused.code, refused.out) == (3, "")
        assert not (tmp_path / "takes").exists()
        ended = await asynccam(*line, "--require", "any")
    assert ended.code == 8
    assert f"without {nowhere}" in ended.err
    manifest = ended.json()["manifest"]
    assert [one["address"] for one in manifest["missing"]] == [nowhere]
    assert manifest["outcome"] == "incomplete"
    nobody = await asynccam("record", nowhere, "--duration", 1, "--to", tmp_path / "none", "--require", "any")
    assert nobody.code != 0
    assert nowhere in nobody.err
