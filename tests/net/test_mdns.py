"""Browsing by mDNS, on the loopback interface only; the answers are written by hand."""

import asyncio
import socket
from contextlib import suppress

import pytest
from zeroconf import ServiceInfo
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf.asyncio import AsyncZeroconf

from asynccam.errors import ConnectionError, StateError, UsageError
from asynccam.net.mdns import (
    ServiceBrowser,
    ServiceChanged,
    ServiceEvent,
    ServiceFound,
    ServiceLost,
    open_zeroconf,
)
from tests.support.mdns_packets import (
    LOOPBACK,
    PacketReader,
    address,
    answer,
    goodbye,
    labels,
    place,
    pointer,
    service,
    shout,
    text,
    unique_service_type,
)
from tests.support.waiting import eventually, passes

TYPE = unique_service_type()
TIMEOUT = 10.0


async def following(browser: ServiceBrowser) -> ServiceEvent:
    async with asyncio.timeout(TIMEOUT):
        return await anext(browser)


async def found(browser: ServiceBrowser) -> ServiceFound:
    event = await following(browser)
    assert isinstance(event, ServiceFound)
    return event


# -- what is seen -------------------------------------------------------------------------------


async def test_browse_found_changed_lost() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "multiCam-Hill", 8080, "10.0.0.1"))
        first = (await found(browser)).service
        assert first.name == f"multiCam-Hill.{kind}"
        assert (first.instance, first.addresses, first.port) == ("multiCam-Hill", ("10.0.0.1",), 8080)
        assert list(browser.services) == [first]

        shout(service(kind, "multiCam-Hill", 9090, "10.0.0.1"))
        moved = await following(browser)
        assert isinstance(moved, ServiceChanged)
        assert (moved.previous, moved.service.port) == (first, 9090)

        shout(goodbye(kind, "multiCam-Hill"))
        assert await following(browser) == ServiceLost(moved.service)
        assert not browser.services


async def test_browse_service_returns_within_a_second() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "10.0.0.1"))
        assert (await found(browser)).service.port == 1
        for port in (2, 1):  # no record is a second old, so that the cache keeps both
            # Bytes that no record owns: zeroconf passes over a packet that it has seen within the second.
            shout(service(kind, "a", port, "10.0.0.1") + bytes(port))
            changed = await following(browser)
            assert isinstance(changed, ServiceChanged)
            assert changed.service.port == port


async def test_browse_change_is_confirmed_after_an_outdated_answer() -> None:
    kind = unique_service_type()
    async with (
        ServiceBrowser(kind, interfaces=LOOPBACK) as browser,
        # zeroconf's own announcer, which announces a change three times at once and never again.
        open_zeroconf(interfaces=LOOPBACK) as sockets,
    ):
        info = ServiceInfo(kind, f"a.{kind}", 1, addresses=[bytes([10, 0, 0, 1])], server=f"a.{kind}")
        await (await sockets.async_register_service(info))
        assert (await found(browser)).service.port == 1
        info.port = 2
        await (await sockets.async_update_service(info))
        assert [(await following(browser)).service.port] == [2]
        shout(answer(place(labels(f"a.{kind}"), 1, labels(f"a.{kind}"))))  # prepared before the change
        assert [(await following(browser)).service.port for _ in range(2)] == [1, 2]
        await sockets.async_unregister_service(info)


async def test_browse_many_changes_of_a_name_are_confirmed_once() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        for port in range(1, 51):
            shout(service(kind, "a", port, "10.0.0.1"))
            await following(browser)
        await passes()
        tasks = [task for task in asyncio.all_tasks() if "confirm" in task.get_name()]
        assert len(tasks) <= 1


async def test_browse_conflicting_services_are_asked_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynccam.net.mdns._FLUSH_DELAY", 0.05)
    kind = unique_service_type()
    asked = []
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        with PacketReader(labels(f"a.{kind}")) as packets:
            for port in (1, 2, 3, 4):
                shout(service(kind, "a", port, "10.0.0.1"))
                await following(browser)
                await eventually(
                    lambda: not any("confirm" in task.get_name() for task in asyncio.all_tasks())
                )
            shout(goodbye(kind, "a"))
            while (packet := await packets.next()).is_query() or packet.answers()[0].ttl:
                asked += [(question.name, question.type) for question in packet.questions]
    assert asked == [(f"a.{kind}", 33)]


async def test_browse_outdated_answer_after_a_goodbye_brings_nothing_back() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "10.0.0.1"))
        assert (await found(browser)).service.port == 1
        shout(goodbye(kind, "a"))
        assert isinstance(await following(browser), ServiceLost)
        shout(service(kind, "a", 1, "10.0.0.1") + b"\0")  # prepared before; with a byte that no record owns
        assert (await found(browser)).service.port == 1
        assert isinstance(await following(browser), ServiceLost)
        assert not browser.services
        shout(service(kind, "a", 2, "10.0.0.1"))
        assert (await found(browser)).service.port == 2  # a new announcement is a new service


async def test_browse_service_that_returns_at_once_is_kept() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "10.0.0.1"))
        await found(browser)
        shout(goodbye(kind, "a"))
        await following(browser)
        async with open_zeroconf(interfaces=LOOPBACK) as sockets:
            info = ServiceInfo(kind, f"a.{kind}", 2, addresses=[bytes([10, 0, 0, 1])], server=f"a.{kind}")
            await (await sockets.async_register_service(info))
            assert (await found(browser)).service.port == 2
            await eventually(lambda: not any("confirm" in task.get_name() for task in asyncio.all_tasks()))
            assert [each.port for each in browser.services] == [2]
            await sockets.async_unregister_service(info)


async def test_browse_new_address_before_the_old_expires() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "10.0.0.1"))
        await found(browser)
        await asyncio.sleep(1.1)  # RFC 6762, 10.2: only records older than a second are flushed
        shout(service(kind, "a", 1, "10.0.0.2"))
        changed, settled = await following(browser), await following(browser)
    assert isinstance(changed, ServiceChanged)
    assert changed.service.addresses == ("10.0.0.2", "10.0.0.1")
    assert isinstance(settled, ServiceChanged)
    assert settled.service.addresses == ("10.0.0.2",)


async def test_browse_repeated_announcement_does_not_keep_the_old_address() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "10.0.0.1"))
        await found(browser)
        for repeat in range(2):
            await asyncio.sleep(1.1)  # RFC 6762, 10.2: only records older than a second are flushed
            shout(service(kind, "a", 1, "10.0.0.2") + bytes(repeat))
        await following(browser)
        async with asyncio.timeout(5):  # zeroconf removes what has expired every ten seconds
            settled = await anext(browser)
    assert isinstance(settled, ServiceChanged)
    assert settled.service.addresses == ("10.0.0.2",)


async def test_browse_service_returns() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        for port in (1, 2):  # zeroconf passes over a packet it has seen within the same second
            shout(service(kind, "a", port, "10.0.0.1"))
            assert (await found(browser)).service.port == port
            shout(goodbye(kind, "a") + bytes(port))
            assert isinstance(await following(browser), ServiceLost)


async def test_browse_usable_addresses() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "10.0.0.1", "192.168.7.9", "fd00::7", "0.0.0.0", "224.0.0.1", "::"))
        addresses = (await found(browser)).service.addresses
    assert set(addresses[:2]) == {"10.0.0.1", "192.168.7.9"}
    assert addresses[2:] == ("fd00::7",)


async def test_browse_link_local_address_has_its_scope() -> None:
    kind = unique_service_type()
    async with (
        open_zeroconf(interfaces=LOOPBACK) as sockets,
        ServiceBrowser(kind, zeroconf=sockets) as browser,
    ):
        packet = service(kind, "a", 1, "fe80::7")
        # As zeroconf's IPv6 listener does it: loopback has no link-local address to hear one on.
        heard = DNSIncoming(packet, ("fe80::7", 5353), scope_id=3)
        sockets.zeroconf.record_manager.async_updates_from_response(heard)
        assert (await found(browser)).service.addresses == ("fe80::7%3",)


async def test_browse_ignores_unreachable_link_local_addresses() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with suppress(OSError):
            sock.connect(("169.254.7.9", 9))  # sends nothing
        on_link = sock.getsockname()[0].startswith("169.254.")
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "169.254.7.9", "fe80::7", "10.0.0.1", "fd00::7"))
        addresses = (await found(browser)).service.addresses
        shout(service(kind, "b", 1, "fe80::8"))
        shout(service(kind, "c", 1, "10.0.0.2"))
        assert (await found(browser)).service.instance == "c"
    assert addresses == ("10.0.0.1", "fd00::7", *(["169.254.7.9"] if on_link else []))


async def test_browse_separate_records() -> None:
    kind = unique_service_type()
    owner, host = labels(f"a.{kind}"), labels("a-host.local.")
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        for part in (
            pointer(kind, owner),
            place(owner, 4711, host),
            text(owner, b"\x03k=v"),
            address(host, "10.0.0.3"),
        ):
            assert not browser.services
            shout(answer(part))
            await asyncio.sleep(0.02)  # each comes by itself
        one = (await found(browser)).service
    assert (one.port, one.addresses, dict(one.properties)) == (4711, ("10.0.0.3",), {"k": b"v"})


async def test_browse_unresolved_name_delays_no_other() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK, resolve_timeout=0.05) as browser:
        shout(answer(pointer(kind, labels(f"mute.{kind}"))))
        shout(service(kind, "talks", 1, "10.0.0.1"))
        assert (await found(browser)).service.instance == "talks"
        await asyncio.sleep(0.2)  # several tries later
        shout(service(kind, "mute", 2, "10.0.0.2"))
        assert (await found(browser)).service.instance == "mute"


async def test_browse_ignores_port_zero() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 0, "10.0.0.1"))
        shout(service(kind, "b", 1, "10.0.0.1"))
        assert (await found(browser)).service.instance == "b"


async def test_browse_ignores_invalid_names() -> None:
    kind = unique_service_type()
    suffix = [part.encode() for part in kind.rstrip(".").split(".")]
    garbage = [
        labels(kind),
        labels("elsewhere._other._tcp.local."),
        labels("short.local."),
        b"\0",
        labels([b"tab\there", *suffix]),
        labels([b"nul\0", *suffix]),
        labels([b"x" * 63, b"y" * 63, *suffix]),
        labels([b"_sub", *suffix]),
        labels([b"x", b"_", b"_tcp", b"local"]),
    ]
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        for name in garbage:
            host = labels("h.local.")
            shout(answer(pointer(kind, name), place(name, 7, host), address(host, "10.0.0.66")))
        shout(b"\xff" * 40)
        shout(service(kind, "good", 1, "10.0.0.1"))
        assert (await found(browser)).service.instance == "good"
        assert [one.instance for one in browser.services] == ["good"]


async def test_browse_keeps_unusual_names_and_texts() -> None:
    kind = unique_service_type()
    suffix = [part.encode() for part in kind.rstrip(".").split(".")]
    owner, host = labels([b"../Caf\xc3\xa9 n\xc2\xb0.1", *suffix]), labels("h.local.")
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        records = (place(owner, 7, host), text(owner, b"\x09\xff\xfe=\x00\xff&;="), address(host, "10.0.0.1"))
        shout(answer(pointer(kind, owner), *records))
        assert (await found(browser)).service.instance == "../Café n°.1"


async def test_browse_names_are_case_insensitive() -> None:
    kind = unique_service_type()
    owner, host = labels(f"Hill.{kind.upper()}"), labels("h.local.")
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(answer(pointer(kind, owner), place(owner, 1, host), address(host, "10.0.0.1")))
        assert (await found(browser)).service.name == f"Hill.{kind}"
        shout(service(kind, "hill", 2, "10.0.0.1"))
        assert isinstance(await following(browser), ServiceChanged)


# -- the reader ---------------------------------------------------------------------------------


async def test_browse_slow_reader_gets_the_present_state() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "short-lived", 1, "10.0.0.1"))
        shout(service(kind, "mover", 1, "10.0.0.1"))
        await eventually(lambda: len(browser.services) == 2)
        for port in (2, 3):
            shout(service(kind, "mover", port, "10.0.0.1"))
            await eventually(lambda port=port: browser.services[-1].port == port)  # type: ignore[misc]
        shout(goodbye(kind, "short-lived"))
        await eventually(lambda: len(browser.services) == 1)
        one = (await found(browser)).service
        assert (one.instance, one.port) == ("mover", 3)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(browser)


async def test_browse_reading_outside_the_block() -> None:
    browser = ServiceBrowser(TYPE, interfaces=LOOPBACK)
    with pytest.raises(StateError, match="async with"):
        await anext(browser)
    async with browser:
        with pytest.raises(StateError, match="once"):
            await browser.__aenter__()
    assert [event async for event in browser] == []
    with pytest.raises(StateError, match="once"):
        await browser.__aenter__()


async def test_browse_one_reader_at_a_time() -> None:
    async with ServiceBrowser(TYPE, interfaces=LOOPBACK) as browser:
        reader = asyncio.create_task(_read_all(browser))
        await asyncio.sleep(0)
        with pytest.raises(StateError, match="one reader"):
            await anext(browser)
        await browser.aclose()
        await browser.aclose()
        assert await reader == []


async def test_browse_reader_after_a_cancelled_one() -> None:
    kind = unique_service_type()
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        reader = asyncio.create_task(_read_all(browser))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        shout(service(kind, "a", 1, "10.0.0.1"))
        await found(browser)


async def test_browse_cancelled_closes_everything() -> None:
    kind = unique_service_type()
    inside = asyncio.Event()

    async def look() -> None:
        async with ServiceBrowser(kind, interfaces=LOOPBACK, resolve_timeout=30.0) as browser:
            shout(answer(pointer(kind, labels(f"mute.{kind}"))))
            inside.set()
            await anext(browser)

    task = asyncio.create_task(look())
    await inside.wait()
    await resolving("mute")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_browse_cancelled_while_starting() -> None:
    for turns in range(12):
        task = asyncio.create_task(_enter())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# -- sockets ------------------------------------------------------------------------------------


async def test_borrowed_sockets_are_shared_and_not_closed() -> None:
    kind = unique_service_type()
    own = AsyncZeroconf(interfaces=LOOPBACK)
    try:
        async with ServiceBrowser(kind, zeroconf=own) as first, ServiceBrowser(kind, zeroconf=own) as second:
            shout(service(kind, "a", 1, "10.0.0.1"))
            assert (await found(first)).service == (await found(second)).service
        assert own.zeroconf.started
        async with ServiceBrowser(kind, zeroconf=own) as third:
            await found(third)  # from the cache
    finally:
        await own.async_close()


async def test_borrowed_sockets_that_are_closed_are_refused() -> None:
    own = AsyncZeroconf(interfaces=LOOPBACK)
    await own.async_close()
    with pytest.raises(StateError, match="closed"):
        async with ServiceBrowser(TYPE, zeroconf=own):
            pass


async def test_borrowed_sockets_closed_meanwhile() -> None:
    own = AsyncZeroconf(interfaces=LOOPBACK)
    kind = unique_service_type()
    async with ServiceBrowser(kind, zeroconf=own, resolve_timeout=0.05) as browser:
        shout(answer(pointer(kind, labels(f"mute.{kind}"))))
        await resolving("mute")
        await own.async_close()
        await asyncio.sleep(0.15)  # several tries later
        assert not browser.services


@pytest.mark.parametrize("interfaces", [[], "127.0.0.1", ["lo"], ["127.0.0.1", "garbage"]])
async def test_invalid_interfaces_are_refused(interfaces: list[str]) -> None:
    with pytest.raises(UsageError):
        async with ServiceBrowser(TYPE, interfaces=interfaces):
            pass


@pytest.mark.parametrize("interface", ["203.0.113.7", "2001:db8::7", 987654])
async def test_unknown_interface_is_named(interface: str | int) -> None:
    with pytest.raises(ConnectionError, match=str(interface)):
        async with ServiceBrowser(TYPE, interfaces=[interface]):
            pass


NO_TYPES = """
_multicam._tcp.local multicam._tcp.local. _._tcp.local. _1._tcp.local. _a--b._tcp.local. _-a._tcp.local.
_multicam._tcp.example. _multicam._sctp.local. _sixteenletterslo._tcp.local. x._multicam._tcp.local. .
"""


@pytest.mark.parametrize("kind", ["", "_multi cam._tcp.local.", *NO_TYPES.split()])
def test_invalid_service_type_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="not a service type"):
        ServiceBrowser(kind)


def test_multicam_service_type_is_valid() -> None:
    ServiceBrowser("_multicam._tcp.local.")


def test_resolve_timeout_must_be_positive() -> None:
    with pytest.raises(UsageError):
        ServiceBrowser(TYPE, resolve_timeout=0)


async def resolving(instance: str) -> None:
    """Wait until a browser asks for the details of an instance."""
    await eventually(lambda: any(f"resolve {instance}" in task.get_name() for task in asyncio.all_tasks()))


async def _read_all(browser: ServiceBrowser) -> list[ServiceEvent]:
    return [event async for event in browser]


async def _enter() -> None:
    async with ServiceBrowser(TYPE, interfaces=LOOPBACK):
        await asyncio.sleep(30)
