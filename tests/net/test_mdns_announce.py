"""Announcing by mDNS, on the loopback interface only."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from zeroconf._dns import DNSService
from zeroconf.asyncio import AsyncZeroconf

from asynccam.errors import BusyError, ConnectionError, StateError, TimeoutError, UsageError
from asynccam.net.mdns import (
    ServiceBrowser,
    ServiceChanged,
    ServiceFound,
    ServiceLost,
    announce,
    open_zeroconf,
)
from tests.support.mdns_packets import LOOPBACK, PacketReader, labels, service, shout, unique_service_type
from tests.support.waiting import eventually


@pytest.fixture
async def sockets() -> AsyncIterator[AsyncZeroconf]:
    async with open_zeroconf(interfaces=LOOPBACK) as opened:
        yield opened


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """zeroconf's pauses a tenth as long; only for tests in which nobody has to answer."""
    for name in ("_CHECK_TIME", "_REGISTER_TIME", "_UNREGISTER_TIME"):
        monkeypatch.setattr(f"zeroconf._core.{name}", 20)
    monkeypatch.setattr("zeroconf._core._PROBE_RANDOM_DELAY_INTERVAL", (15, 25))


@pytest.mark.usefixtures("quick")
async def test_announce_for_the_length_of_the_block() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        async with announce(
            kind, "Kamera É 1.0", 8080, interfaces=LOOPBACK, properties={"v": "2", "raw": b"\xff"}
        ) as announced:
            event = await _next(browser)
            assert isinstance(event, ServiceFound)
            assert event.service == announced.service
            assert event.service.instance == "Kamera É 1.0"
            assert (event.service.addresses, event.service.port) == (("127.0.0.1",), 8080)
            assert dict(event.service.properties) == {"v": b"2", "raw": b"\xff"}
        assert isinstance(await _next(browser), ServiceLost)


@pytest.mark.usefixtures("quick")
async def test_announce_move(sockets: AsyncZeroconf) -> None:
    kind = unique_service_type()
    async with (
        ServiceBrowser(kind, interfaces=LOOPBACK) as browser,
        announce(kind, "a", 1, addresses=["10.0.0.1"], zeroconf=sockets) as announced,
    ):
        await _next(browser)
        await announced.move(["10.0.0.2", "fd00::2"], port=2)
        assert (announced.service.addresses, announced.service.port) == (("10.0.0.2", "fd00::2"), 2)
        event = await _next(browser)
        assert isinstance(event, ServiceChanged)
        assert (event.service.addresses[0], event.service.port) == ("10.0.0.2", 2)
        await eventually(lambda: browser.services == (announced.service,))
        with pytest.raises(UsageError):
            await announced.move(["nowhere"])
        with pytest.raises(UsageError):
            await announced.move(port=0)


@pytest.mark.usefixtures("quick")
async def test_announce_move_waits_a_second(sockets: AsyncZeroconf) -> None:
    kind = unique_service_type()
    async with announce(kind, "a", 1, addresses=["10.0.0.1"], zeroconf=sockets) as announced:
        await announced.move(port=2)
        moving = asyncio.create_task(announced.move(["10.0.0.2"], port=3))
        for _ in range(5):
            await asyncio.sleep(0)
        # Questions are answered with this meanwhile.
        assert (announced.service.addresses, announced.service.port) == (("10.0.0.1",), 2)
        await moving
        assert (announced.service.addresses, announced.service.port) == (("10.0.0.2",), 3)


async def test_announce_move_is_repeated_after_a_second(sockets: AsyncZeroconf) -> None:
    kind = unique_service_type()
    async with announce(kind, "a", 1, addresses=["10.0.0.1"], zeroconf=sockets) as announced:
        with PacketReader(labels(kind)) as packets:
            await announced.move(port=2)
            times = {}
            for _ in range(6):  # zeroconf sends each announcement three times
                packet = await packets.next()
                times[packet.now] = [
                    record.port for record in packet.answers() if isinstance(record, DNSService)
                ]
    assert all(ports == [2] for ports in times.values())
    assert max(times) - min(times) > 1000  # milliseconds; RFC 6762, 8.3


async def test_goodbye_is_repeated_in_another_packet(sockets: AsyncZeroconf) -> None:
    kind = unique_service_type()
    with PacketReader(labels(kind)) as packets:
        async with announce(kind, "a", 1, addresses=["10.0.0.1"], zeroconf=sockets):
            pass
        goodbyes: list[bytes] = []
        while len(goodbyes) < 4:
            packet = await packets.next()
            if packet.answers() and not any(record.ttl for record in packet.answers()):
                goodbyes.append(packet.data)
    assert len(set(goodbyes)) == 2


@pytest.mark.usefixtures("quick")
async def test_borrowed_sockets_stay_open_and_say_goodbye(sockets: AsyncZeroconf) -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        async with announce(kind, "a", 1, addresses=["127.0.0.1"], zeroconf=sockets):
            await _next(browser)
        assert isinstance(await _next(browser), ServiceLost)
    assert sockets.zeroconf.started
    assert not sockets.zeroconf.registry.async_get_service_infos()


async def test_announce_name_taken_elsewhere() -> None:
    kind = unique_service_type()
    async with announce(kind, "same", 1, interfaces=LOOPBACK):
        # RFC 6762, 6: nobody repeats a multicast answer within a second. No browser asks for one meanwhile.
        await asyncio.sleep(1.1)
        with pytest.raises(BusyError, match=f"already called same.{kind}"):
            async with announce(kind, "same", 2, interfaces=LOOPBACK):
                pytest.fail("two of one name")
        async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
            await _next(browser)
            assert [one.port for one in browser.services] == [1]  # the first one's name is still its own


@pytest.mark.usefixtures("quick")
async def test_announce_name_taken_on_the_same_sockets(sockets: AsyncZeroconf) -> None:
    kind = unique_service_type()
    async with announce(kind, "same", 1, addresses=["127.0.0.1"], zeroconf=sockets):
        with pytest.raises(BusyError):
            async with announce(kind, "same", 2, addresses=["127.0.0.1"], zeroconf=sockets):
                pytest.fail("two of one name")
        (info,) = sockets.zeroconf.registry.async_get_service_infos()
        assert info.port == 1


async def test_announce_name_taken_while_probing() -> None:
    kind = unique_service_type()
    task = asyncio.create_task(_announce_for_ever(kind))
    while not task.done():  # as an owner does that is asked again and again
        shout(service(kind, "a", 1, "10.0.0.1"))
        await asyncio.wait({task}, timeout=0.05)
    with pytest.raises(BusyError):
        await task


async def test_announce_name_after_a_goodbye(sockets: AsyncZeroconf) -> None:
    kind = unique_service_type()
    # An answer that was still on its way when the owner said goodbye: remembered, but nobody stands by it.
    shout(service(kind, "a", 1, "10.0.0.1"))
    cache = sockets.zeroconf.cache
    await eventually(lambda: cache.current_entry_with_name_and_alias(kind, f"a.{kind}") is not None)
    async with announce(kind, "a", 2, addresses=["127.0.0.1"], zeroconf=sockets) as announced:
        assert announced.service.port == 2


@pytest.mark.usefixtures("quick")
async def test_announce_deadline(sockets: AsyncZeroconf) -> None:
    with pytest.raises(TimeoutError, match="announcement"):
        async with announce(
            unique_service_type(), "a", 1, addresses=["127.0.0.1"], zeroconf=sockets, timeout=0.02
        ):
            pytest.fail("too early")
    assert not sockets.zeroconf.registry.async_get_service_infos()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("after", [0.0, 0.01, 0.05, 0.09, 0.2])
async def test_announce_cancelled_anywhere_withdraws(after: float) -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        task = asyncio.create_task(_announce_for_ever(kind))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: not browser.services)


@pytest.mark.usefixtures("quick")
async def test_announce_error_in_the_block() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        with pytest.raises(ZeroDivisionError):
            await _announce_and_fail(kind)
        await eventually(lambda: not browser.services)


@pytest.mark.usefixtures("quick")
async def test_announce_with_closed_sockets() -> None:
    kind = unique_service_type()
    async with open_zeroconf(interfaces=LOOPBACK) as own:
        async with announce(kind, "a", 1, addresses=["127.0.0.1"], zeroconf=own):
            await own.async_close()
        with pytest.raises(StateError):
            async with announce(kind, "a", 1, addresses=["127.0.0.1"], zeroconf=own):
                pytest.fail("closed")


@pytest.mark.parametrize(
    "wrong",
    [
        {"service_type": "multicam"},
        {"instance": ""},
        {"instance": "x" * 64},
        {"instance": "new\nline"},
        {"port": 0},
        {"port": 65536},
        {"addresses": []},
        {"addresses": "127.0.0.1"},
        {"addresses": ["localhost"]},
        {"addresses": ["0.0.0.0"]},
        {"addresses": ["224.0.0.251"]},
        {"properties": {"key": "x" * 300}},
        {"interfaces": []},
    ],
)
async def test_announce_refuses_invalid_arguments(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"service_type": unique_service_type(), "instance": "a", "port": 1}
    with pytest.raises(UsageError):
        async with announce(**(good | {"interfaces": LOOPBACK} | wrong)):
            pytest.fail("announced")


async def test_announce_on_an_unknown_interface() -> None:
    with pytest.raises(ConnectionError, match=r"203\.0\.113\.7"):
        async with announce(unique_service_type(), "a", 1, interfaces=["203.0.113.7"]):
            pytest.fail("announced")


async def _announce_for_ever(kind: str) -> None:
    async with announce(kind, "a", 1, interfaces=LOOPBACK):
        await asyncio.sleep(60)


async def _announce_and_fail(kind: str) -> None:
    async with announce(kind, "a", 1, interfaces=LOOPBACK):
        raise ZeroDivisionError


async def _next(browser: Any) -> Any:
    async with asyncio.timeout(10):
        return await anext(browser)
