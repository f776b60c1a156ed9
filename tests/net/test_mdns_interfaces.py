"""mDNS follows the network interfaces of this computer, in a network namespace where that is allowed."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ifaddr
import pytest
from zeroconf import InterfaceChoice

from asynccam.net import mdns
from asynccam.net.mdns import ServiceBrowser, announce, announceable_addresses
from tests.support.mdns_packets import unique_service_type
from tests.support.waiting import eventually

TIMEOUT = 20.0


@pytest.fixture
def appear(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Adds an address to the list of this computer's interfaces."""
    monkeypatch.setattr(mdns, "_INTERFACE_POLL", 0.05)
    adapters: list[Any] = []

    def listed(include_unconfigured: bool = False) -> list[Any]:
        return list(adapters)

    def add(address: str) -> None:
        number = len(adapters) + 1
        adapters.append(
            ifaddr.Adapter(f"net{number}", f"net{number}", [ifaddr.IP(address, 8, "net")], number)
        )

    add("127.0.0.1")
    monkeypatch.setattr(ifaddr, "get_adapters", listed)
    return add


async def test_announce_changed_address(appear: Callable[[str], None]) -> None:
    kind = unique_service_type()
    async with announce(kind, "here", 8080) as announcement:
        assert announcement.service.addresses == ("127.0.0.1",)
        appear("127.0.0.2")  # both are loopback addresses, so both count
        async with asyncio.timeout(TIMEOUT):
            await eventually(lambda: "127.0.0.2" in announcement.service.addresses, timeout=TIMEOUT)
        assert set(announcement.service.addresses) == set(announceable_addresses(InterfaceChoice.All))


def test_announce_link_local_only_without_others(
    appear: Callable[[str], None],
) -> None:
    appear("169.254.8.1")
    assert announceable_addresses(InterfaceChoice.All) == ["169.254.8.1"]
    assert announceable_addresses([2]) == ["169.254.8.1"]
    appear("10.9.8.7")
    assert announceable_addresses(InterfaceChoice.All) == ["10.9.8.7"]
    assert announceable_addresses([2, 3]) == ["10.9.8.7"]


async def test_announce_given_link_local_address() -> None:
    kind = unique_service_type()
    async with announce(kind, "here", 8080, addresses=["fe80::7"], interfaces=["127.0.0.1"]) as announcement:
        assert announcement.service.addresses == ("fe80::7",)


async def test_announce_given_addresses_stay(appear: Callable[[str], None]) -> None:
    kind = unique_service_type()
    asked = asyncio.Event()
    async with (
        announce(kind, "here", 8080, addresses=["10.1.2.3"]) as announcement,
        announce(kind, "other", 8080) as other,
    ):
        await other.move(["10.1.2.4"])
        appear("127.0.0.2")
        async with ServiceBrowser(kind) as browser, asyncio.timeout(TIMEOUT):
            await anext(browser)
            asked.set()
        assert announcement.service.addresses == ("10.1.2.3",)
        assert other.service.addresses == ("10.1.2.4",)


_PROGRAM = """
import asyncio, subprocess
from asynccam.net.mdns import announce, ServiceBrowser

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def main():
    ip("link", "set", "lo", "up")
    kind = "_late._tcp.local."
    async with ServiceBrowser(kind) as browser, announce(kind, "late", 8080) as told:
        ip("link", "add", "net0", "type", "veth", "peer", "name", "net1")
        ip("link", "set", "net1", "up")
        ip("addr", "add", "10.77.0.1/24", "dev", "net0")
        ip("link", "set", "net0", "up", "multicast", "on")
        async with asyncio.timeout(30):
            while "10.77.0.1" not in told.service.addresses:
                await asyncio.sleep(0.05)
            async for event in browser:
                if "10.77.0.1" in event.service.addresses:
                    break
        ip("addr", "del", "10.77.0.1/24", "dev", "net0")
        ip("addr", "add", "10.77.0.9/24", "dev", "net0")
        async with asyncio.timeout(30):
            async for event in browser:
                if "10.77.0.9" in event.service.addresses:
                    break
    print("followed")

asyncio.run(main())
"""


_SESSION = """
import asyncio, subprocess, tempfile
from pathlib import Path
from asynccam import Session
from asynccam.systems.multicam import MultiCamDevice

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def reached(session, address):
    async with asyncio.timeout(40):
        while not any(address in camera.client.hosts for camera in session.cameras.values()):
            await asyncio.sleep(0.05)

async def main():
    ip("link", "set", "lo", "up")
    with tempfile.TemporaryDirectory() as kept:
        device = MultiCamDevice(Path(kept), port=0, host="0.0.0.0", device_id="late", announce=True)
        async with device, Session() as session:
            await session.discover(timeout=0.1, systems=["multicam"])
            ip("link", "add", "net0", "type", "veth", "peer", "name", "net1")
            ip("link", "set", "net1", "up")
            ip("addr", "add", "10.77.0.1/24", "dev", "net0")
            ip("link", "set", "net0", "up", "multicast", "on")
            await reached(session, "10.77.0.1")
            ip("addr", "del", "10.77.0.1/24", "dev", "net0")
            ip("addr", "add", "10.77.0.9/24", "dev", "net0")
            await reached(session, "10.77.0.9")
            (camera,) = session.cameras.values()
            assert (await camera.status()).state.value == "ready"
    print("followed")

asyncio.run(main())
"""


@pytest.mark.own_loop  # the program under test is a process of its own
@pytest.mark.parametrize("program", [_PROGRAM, _SESSION], ids=["announcement", "session"])
async def test_network_that_appears_later_is_used(
    program: str,
) -> None:
    allowed = await asyncio.to_thread(
        subprocess.run, ["unshare", "-rn", "ip", "link", "add", "x", "type", "veth"], capture_output=True
    )
    if allowed.returncode:
        pytest.skip("no network namespace with interfaces of its own here")
    process = await asyncio.create_subprocess_exec(
        "unshare",
        "-rn",
        sys.executable,
        "-c",
        program,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    out, err = await process.communicate()
    assert out == b"followed\n", err.decode()
