"""Finding MultiCam devices by mDNS, on loopback between real announcements and a real browser."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from zeroconf.asyncio import AsyncZeroconf

from asynccam.model.events import CameraChanged, CameraFound, CameraLost
from asynccam.net.mdns import MdnsService, announce
from asynccam.systems.multicam.client import MultiCamClient
from asynccam.systems.multicam.discovery import DiscoveryEvent, MultiCamDiscovery, device_id_of, discover
from asynccam.systems.multicam.models import SERVICE_TYPE
from tests.systems.multicam.peers import Android, Peer

LOOPBACK = ["127.0.0.1"]
OAK_ID = "3f2c8a10-1b2c-4d5e-8f90-a1b2c3d4e5f6"


@pytest_asyncio.fixture
async def announcer() -> AsyncIterator[AsyncZeroconf]:
    """The sockets of another computer, as it were."""
    zeroconf = AsyncZeroconf(interfaces=LOOPBACK)
    yield zeroconf
    await zeroconf.async_close()


def announced(device_id: str, port: int, zeroconf: AsyncZeroconf) -> Any:
    return announce(SERVICE_TYPE, f"multiCam-{device_id}", port, addresses=LOOPBACK, zeroconf=zeroconf)


@pytest.mark.parametrize(
    ("instance", "device_id"),
    [
        ("multiCam-Mountain-A1B2C3D4", "Mountain-A1B2C3D4"),
        ("multicam-Mountain", "Mountain"),
        (f"multiCam-oak-{OAK_ID}", OAK_ID),
        ("multiCam-oak-tree", "oak-tree"),
        ("multiCam-", ""),
        ("Camera 5", "Camera 5"),
        ("multiCam-multiCam-1", "multiCam-1"),
    ],
)
def test_device_id_in_an_instance_name(instance: str, device_id: str) -> None:
    service = MdnsService(f"{instance}.{SERVICE_TYPE}", instance, ("127.0.0.1",), 8080)
    assert device_id_of(service) == device_id


def new_id() -> str:
    """An id that nobody else who uses this computer's loopback at the same time announces."""
    return f"Test-{secrets.token_hex(8)}"


async def next_about(discovery: MultiCamDiscovery, device_id: str) -> DiscoveryEvent:
    async with asyncio.timeout(15):
        async for event in discovery:
            if event.camera == f"multicam://{device_id}":
                return event
    raise AssertionError("the discovery ended")


async def test_device_found_moved_and_lost(announcer: AsyncZeroconf) -> None:
    me = new_id()
    async with (
        Peer(Android().talk) as old,
        Peer(Android().talk) as new,
        MultiCamDiscovery(interfaces=LOOPBACK) as discovery,
    ):
        async with announced(me, old.port, announcer) as announcement:
            found = await next_about(discovery, me)
            assert isinstance(found, CameraFound)
            assert found.info.serial == me
            assert found.info.address == f"multicam://127.0.0.1:{old.port}"
            camera = discovery.cameras[found.camera]
            await camera.status()

            await announcement.move(port=new.port)
            moved = await next_about(discovery, me)
            assert isinstance(moved, CameraChanged)
            assert moved.info.address == f"multicam://127.0.0.1:{new.port}"
            assert discovery.cameras[found.camera] is camera
            await camera.status()
            assert camera.client.port == new.port
        assert isinstance(await next_about(discovery, me), CameraLost)
        assert found.camera not in discovery.cameras

        async with announced(me, old.port, announcer):
            assert isinstance(await next_about(discovery, me), CameraFound)
            assert discovery.cameras[found.camera] is camera
            # An answer that was under way at the goodbye may have named the port before.
            while camera.info.address != f"multicam://127.0.0.1:{old.port}":
                await next_about(discovery, me)


async def test_discover_with_own_clients(announcer: AsyncZeroconf) -> None:
    asked: list[tuple[object, int]] = []

    def make_client(host: Any, port: int) -> MultiCamClient:
        asked.append((host, port))
        return MultiCamClient(host, port, timeout=1)

    one, two = new_id(), new_id()
    addresses = {}
    async with announced(one, 8081, announcer), announced(two, 8082, announcer):
        async for camera in discover(timeout=15, interfaces=LOOPBACK, make_client=make_client):
            addresses[camera.info.serial] = camera.info.address
            if {one, two} <= addresses.keys():
                break
    assert addresses[one] == "multicam://127.0.0.1:8081"
    assert addresses[two] == "multicam://127.0.0.1:8082"
    assert {(("127.0.0.1",), 8081), (("127.0.0.1",), 8082)} <= set(asked)


async def test_discover_timeout_excludes_callers_work(announcer: AsyncZeroconf) -> None:
    me = new_id()
    seen = []
    async with announced(me, 8081, announcer):
        async with asyncio.timeout(20):
            async for camera in discover(timeout=3, interfaces=LOOPBACK):
                if camera.info.serial == me:
                    await asyncio.sleep(3.1)  # the caller's work, which lasts longer than the search
                    seen.append(camera)
    assert len(seen) == 1


async def test_borrowed_sockets_are_used_and_left_open(announcer: AsyncZeroconf) -> None:
    borrowed = AsyncZeroconf(interfaces=LOOPBACK)
    me = new_id()
    try:
        async with announced(me, 8081, announcer):
            async for camera in discover(timeout=15, zeroconf=borrowed):
                if camera.info.serial == me:
                    break
            else:
                raise AssertionError("not found")
        assert not borrowed.zeroconf.done
    finally:
        await borrowed.async_close()


async def test_close_ends_waiting_reader() -> None:
    async with asyncio.timeout(5):
        async with MultiCamDiscovery(interfaces=LOOPBACK) as discovery:
            waiting = asyncio.ensure_future(anext(discovery, None))
            await asyncio.sleep(0)
            await discovery.aclose()
            assert await waiting is None
