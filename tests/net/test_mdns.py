"""Browsing by mDNS, on the loopback interface only; the answers are written by hand."""

import asyncio
import socket
from contextlib import suppress

import pytest
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf.asyncio import AsyncZeroconf

from asynccam.errors import ConnectionError, StateError, UsageError
from asynccam.net.mdns import (
    ServiceBrowser,
    ServiceChanged,
    ServiceEvent,
    ServiceFound,
    ServiceLost,
    browse,
    open_zeroconf,
)
from tests.support.mdns_packets import (
    LOOPBACK,
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
from tests.support.waiting import eventually

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


async def test_a_service_is_found_moves_and_is_lost() -> None:
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK) as browser:
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


async def test_a_service_that_returns_to_its_port_within_a_second_is_there() -> None:
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "10.0.0.1"))
        assert (await found(browser)).service.port == 1
        for port in (2, 1):  # no record is a second old, so that the cache keeps both
            # Bytes that no record owns: zeroconf passes over a packet that it has seen within the second.
            shout(service(kind, "a", port, "10.0.0.1") + bytes(port))
            changed = await following(browser)
            assert isinstance(changed, ServiceChanged)
            assert changed.service.port == port


async def test_a_new_address_is_told_at_once_and_the_end_of_the_old_one_later() -> None:
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "10.0.0.1"))
        await found(browser)
        await asyncio.sleep(1.1)  # RFC 6762, 10.2: only records older than a second are flushed
        shout(service(kind, "a", 1, "10.0.0.2"))
        changed, settled = await following(browser), await following(browser)
    assert isinstance(changed, ServiceChanged)
    assert changed.service.addresses == ("10.0.0.2", "10.0.0.1")
    assert isinstance(settled, ServiceChanged)
    assert settled.service.addresses == ("10.0.0.2",)


async def test_a_service_that_returns_is_found_again() -> None:
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK) as browser:
        for port in (1, 2):  # zeroconf passes over a packet it has seen within the same second
            shout(service(kind, "a", port, "10.0.0.1"))
            assert (await found(browser)).service.port == port
            shout(goodbye(kind, "a") + bytes(port))
            assert isinstance(await following(browser), ServiceLost)


async def test_several_addresses_of_both_kinds_are_kept_and_useless_ones_left_out() -> None:
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "10.0.0.1", "192.168.7.9", "fd00::7", "0.0.0.0", "224.0.0.1", "::"))
        addresses = (await found(browser)).service.addresses
    assert set(addresses[:2]) == {"10.0.0.1", "192.168.7.9"}
    assert addresses[2:] == ("fd00::7",)


async def test_a_link_local_address_carries_the_scope_it_was_heard_on() -> None:
    kind = unique_service_type()
    async with open_zeroconf(interfaces=LOOPBACK) as sockets, browse(kind, zeroconf=sockets) as browser:
        packet = service(kind, "a", 1, "fe80::7")
        # As zeroconf's IPv6 listener does it: loopback has no link-local address to hear one on.
        heard = DNSIncoming(packet, ("fe80::7", 5353), scope_id=3)
        sockets.zeroconf.record_manager.async_updates_from_response(heard)
        assert (await found(browser)).service.addresses == ("fe80::7%3",)


async def test_link_local_addresses_that_cannot_be_meant_spoil_no_other() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with suppress(OSError):
            sock.connect(("169.254.7.9", 9))  # sends nothing
        on_link = sock.getsockname()[0].startswith("169.254.")
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 1, "169.254.7.9", "fe80::7", "10.0.0.1", "fd00::7"))
        addresses = (await found(browser)).service.addresses
        shout(service(kind, "b", 1, "fe80::8"))
        shout(service(kind, "c", 1, "10.0.0.2"))
        assert (await found(browser)).service.instance == "c"
    assert addresses == ("10.0.0.1", "fd00::7", *(["169.254.7.9"] if on_link else []))


async def test_records_that_come_one_by_one_add_up() -> None:
    kind = unique_service_type()
    owner, host = labels(f"a.{kind}"), labels("a-host.local.")
    async with browse(kind, interfaces=LOOPBACK) as browser:
        for part in (
            pointer(kind, owner),
            place(owner, 4711, host),
            text(owner, b"\x03k=v"),
            address(host, "10.0.0.3"),
        ):
            assert not browser.services
            shout(answer(part))
            await asyncio.sleep(0.02)
        one = (await found(browser)).service
    assert (one.port, one.addresses, dict(one.properties)) == (4711, ("10.0.0.3",), {"k": b"v"})


async def test_a_name_that_does_not_resolve_is_asked_again_and_holds_up_nobody() -> None:
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK, resolve_timeout=0.05) as browser:
        shout(answer(pointer(kind, labels(f"mute.{kind}"))))
        shout(service(kind, "talks", 1, "10.0.0.1"))
        assert (await found(browser)).service.instance == "talks"
        await asyncio.sleep(0.2)  # several tries later
        shout(service(kind, "mute", 2, "10.0.0.2"))
        assert (await found(browser)).service.instance == "mute"


async def test_a_port_of_zero_is_no_place() -> None:
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK) as browser:
        shout(service(kind, "a", 0, "10.0.0.1"))
        shout(service(kind, "b", 1, "10.0.0.1"))
        assert (await found(browser)).service.instance == "b"


async def test_garbage_names_are_passed_over() -> None:
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
    async with browse(kind, interfaces=LOOPBACK) as browser:
        for name in garbage:
            host = labels("h.local.")
            shout(answer(pointer(kind, name), place(name, 7, host), address(host, "10.0.0.66")))
        shout(b"\xff" * 40)
        shout(service(kind, "good", 1, "10.0.0.1"))
        assert (await found(browser)).service.instance == "good"
        assert [one.instance for one in browser.services] == ["good"]


async def test_odd_but_lawful_names_and_texts_are_kept() -> None:
    kind = unique_service_type()
    suffix = [part.encode() for part in kind.rstrip(".").split(".")]
    owner, host = labels([b"../Caf\xc3\xa9 n\xc2\xb0.1", *suffix]), labels("h.local.")
    async with browse(kind, interfaces=LOOPBACK) as browser:
        records = (place(owner, 7, host), text(owner, b"\x09\xff\xfe=\x00\xff&;="), address(host, "10.0.0.1"))
        shout(answer(pointer(kind, owner), *records))
        assert (await found(browser)).service.instance == "../Café n°.1"


async def test_names_are_the_same_whatever_their_case() -> None:
    kind = unique_service_type()
    owner, host = labels(f"Hill.{kind.upper()}"), labels("h.local.")
    async with browse(kind, interfaces=LOOPBACK) as browser:
        shout(answer(pointer(kind, owner), place(owner, 1, host), address(host, "10.0.0.1")))
        assert (await found(browser)).service.name == f"Hill.{kind}"
        shout(service(kind, "hill", 2, "10.0.0.1"))
        assert isinstance(await following(browser), ServiceChanged)


# -- the reader ---------------------------------------------------------------------------------


async def test_a_reader_that_lags_hears_what_is_true_now() -> None:
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK) as browser:
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


async def test_a_reader_waits_inside_the_block_only() -> None:
    browser = browse(TYPE, interfaces=LOOPBACK)
    with pytest.raises(StateError, match="async with"):
        await anext(browser)
    async with browser:
        with pytest.raises(StateError, match="once"):
            await browser.__aenter__()
    assert [event async for event in browser] == []
    with pytest.raises(StateError, match="once"):
        await browser.__aenter__()


async def test_there_is_one_reader_at_a_time_and_closing_ends_it() -> None:
    async with browse(TYPE, interfaces=LOOPBACK) as browser:
        reader = asyncio.create_task(_read_all(browser))
        await asyncio.sleep(0)
        with pytest.raises(StateError, match="one reader"):
            await anext(browser)
        await browser.aclose()
        await browser.aclose()
        assert await reader == []


async def test_a_cancelled_reader_makes_room_for_the_next() -> None:
    kind = unique_service_type()
    async with browse(kind, interfaces=LOOPBACK) as browser:
        reader = asyncio.create_task(_read_all(browser))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        shout(service(kind, "a", 1, "10.0.0.1"))
        await found(browser)


async def test_cancelling_closes_everything() -> None:
    kind = unique_service_type()
    inside = asyncio.Event()

    async def look() -> None:
        async with browse(kind, interfaces=LOOPBACK, resolve_timeout=30.0) as browser:
            shout(answer(pointer(kind, labels(f"mute.{kind}"))))
            inside.set()
            await anext(browser)

    task = asyncio.create_task(look())
    await inside.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_at_any_moment_of_the_start_closes_everything() -> None:
    for turns in range(12):
        task = asyncio.create_task(_enter())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# -- sockets ------------------------------------------------------------------------------------


async def test_borrowed_sockets_serve_many_and_are_never_closed() -> None:
    kind = unique_service_type()
    own = AsyncZeroconf(interfaces=LOOPBACK)
    try:
        async with browse(kind, zeroconf=own) as first, browse(kind, zeroconf=own) as second:
            shout(service(kind, "a", 1, "10.0.0.1"))
            assert (await found(first)).service == (await found(second)).service
        assert own.zeroconf.started
        async with browse(kind, zeroconf=own) as third:
            await found(third)  # from the cache
    finally:
        await own.async_close()


async def test_borrowed_sockets_that_are_closed_are_refused() -> None:
    own = AsyncZeroconf(interfaces=LOOPBACK)
    await own.async_close()
    with pytest.raises(StateError, match="closed"):
        async with browse(TYPE, zeroconf=own):
            pass


async def test_borrowed_sockets_closed_by_their_owner_meanwhile_do_no_harm() -> None:
    own = AsyncZeroconf(interfaces=LOOPBACK)
    kind = unique_service_type()
    async with browse(kind, zeroconf=own, resolve_timeout=0.05) as browser:
        shout(answer(pointer(kind, labels(f"mute.{kind}"))))
        await asyncio.sleep(0.1)
        await own.async_close()
        await asyncio.sleep(0.15)
        assert not browser.services


@pytest.mark.parametrize("interfaces", [[], "127.0.0.1", ["lo"], ["127.0.0.1", "garbage"]])
async def test_what_names_no_interface_is_the_callers_mistake(interfaces: list[str]) -> None:
    with pytest.raises(UsageError):
        async with browse(TYPE, interfaces=interfaces):
            pass


@pytest.mark.parametrize("interface", ["203.0.113.7", "2001:db8::7", 987654])
async def test_an_interface_this_computer_lacks_is_named_in_the_error(interface: str | int) -> None:
    with pytest.raises(ConnectionError, match=str(interface)):
        async with browse(TYPE, interfaces=[interface]):
            pass


NO_TYPES = """
_multicam._tcp.local multicam._tcp.local. _._tcp.local. _1._tcp.local. _a--b._tcp.local. _-a._tcp.local.
_multicam._tcp.example. _multicam._sctp.local. _sixteenletterslo._tcp.local. x._multicam._tcp.local. .
"""


@pytest.mark.parametrize("kind", ["", "_multi cam._tcp.local.", *NO_TYPES.split()])
def test_what_is_no_service_type_is_refused_before_anything_is_opened(kind: str) -> None:
    with pytest.raises(UsageError, match="not a service type"):
        browse(kind)


def test_the_service_type_of_multicam_is_one() -> None:
    browse("_multicam._tcp.local.")


def test_a_resolve_timeout_is_positive() -> None:
    with pytest.raises(UsageError):
        browse(TYPE, resolve_timeout=0)


async def _read_all(browser: ServiceBrowser) -> list[ServiceEvent]:
    return [event async for event in browser]


async def _enter() -> None:
    async with browse(TYPE, interfaces=LOOPBACK):
        await asyncio.sleep(30)
