"""The sockets of mDNS: borrowed or own, and the interfaces they listen and speak on."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakSet

import ifaddr
import zeroconf as zc
from zeroconf import InterfaceChoice, IPVersion
from zeroconf.asyncio import AsyncZeroconf

from asynccam.errors import AsynccamError, ConnectionError, StateError, UsageError
from asynccam.net.mdns_service import parse_ip
from asynccam.runtime.tasks import finish

_LOG = logging.getLogger(__name__)

Interfaces = InterfaceChoice | Sequence[str | int]
"""All interfaces, the default one, or a list of their IP addresses (IPv6 ones by index too)."""

_START_TIMEOUT: Final = 5.0
_LOOK_EVERY: Final = 2.0
"""Seconds between two looks at this computer's network interfaces."""
_OWN: Final[WeakSet[AsyncZeroconf]] = WeakSet()
"""Sockets opened here, whose interfaces are followed; whoever lends sockets follows them himself."""


@asynccontextmanager
async def open_zeroconf(
    borrowed: AsyncZeroconf | None = None, *, interfaces: Interfaces = InterfaceChoice.All
) -> AsyncIterator[AsyncZeroconf]:
    """Sockets for the block: the borrowed ones, never closed here, or new ones, closed at its end.

    Args:
        borrowed: Somebody else's sockets; ``interfaces`` then does not matter.
        interfaces: Where to listen and speak.

    Raises:
        UsageError: No interface is given, or one that is no IP address.
        ConnectionError: This computer has no such interface, or mDNS cannot be opened on it.
        StateError: The borrowed sockets are closed.
    """
    if borrowed is not None:
        await _wait_for_start(borrowed)
        yield borrowed
        return
    _check_interfaces(interfaces)
    try:
        choice = interfaces if isinstance(interfaces, InterfaceChoice) else list(interfaces)
        own = AsyncZeroconf(interfaces=choice, ip_version=_ip_version(interfaces))
    except (OSError, RuntimeError) as error:
        raise ConnectionError(f"mDNS cannot be opened on {_words(interfaces)}: {error}") from error
    _OWN.add(own)
    try:
        await _wait_for_start(own)
        yield own
    finally:
        _OWN.discard(own)
        await finish(own.async_close())


def own_addresses(interfaces: Interfaces) -> list[str]:
    """The IP addresses to announce on some interfaces; loopback ones only if there are no others.

    Link-local ones, too, only if there are no others: a record is sent on every interface, and such an
    address names this computer on one of them only.

    Raises:
        UsageError, ConnectionError: As for `open_zeroconf`.
    """
    if not isinstance(interfaces, InterfaceChoice):
        _check_interfaces(interfaces)
        named = [one for one in interfaces if isinstance(one, str)]
        chosen = named + [one for one, index in local_addresses() if index in interfaces]
        return [one for one in chosen if not _ip(one).is_link_local] or chosen
    every = [one for one, _ in local_addresses()]
    lasting = [one for one in every if not _ip(one).is_link_local]
    beyond = [one for one in lasting if not _ip(one).is_loopback]
    linked = [one for one in every if _ip(one).is_link_local]
    return beyond or linked or every


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address)


async def follow_interfaces(
    sockets: AsyncZeroconf,
    known: Collection[tuple[str, int | None]],
    changed: Callable[[], Awaitable[object]],
) -> None:
    """Have sockets keep up with this computer's network interfaces, until cancelled.

    Args:
        sockets: Own sockets are updated; borrowed ones are left to their owner.
        known: `local_addresses` from before the sockets were opened.
        changed: Awaited after every change of interfaces or addresses.
    """
    before = set(known)
    while True:
        try:
            now = set(await asyncio.to_thread(local_addresses))
            if now != before:
                words = ", ".join(sorted(one for one, _ in now)) or "none"
                _LOG.info("the network interfaces changed: %s", words)
                # Older releases of zeroconf cannot; then only new addresses are announced.
                if sockets in _OWN and hasattr(sockets, "async_update_interfaces"):
                    await sockets.async_update_interfaces()
                await changed()
                before = now  # not earlier: what failed is done again
        except zc.NotRunningException:  # the owner of borrowed sockets closed them
            return
        except (OSError, RuntimeError, zc.Error, AsynccamError) as error:
            _LOG.warning("mDNS does not follow a change of network interfaces yet: %s", error)
        await asyncio.sleep(_LOOK_EVERY)


async def _wait_for_start(sockets: AsyncZeroconf) -> None:
    try:
        await sockets.zeroconf.async_wait_for_start(timeout=_START_TIMEOUT)
    except zc.NotRunningException:
        raise StateError("the mDNS sockets are closed, or did not open in time") from None


def _check_interfaces(interfaces: Interfaces) -> None:
    """Find out what zeroconf would fail at half way."""
    if isinstance(interfaces, InterfaceChoice):
        return
    if isinstance(interfaces, str) or not interfaces:
        raise UsageError("interfaces is a list of at least one IP address or interface index")
    for interface in interfaces:
        if isinstance(interface, int):
            known = any(index == interface for _, index in local_addresses())
        elif parse_ip(interface).version == 6:
            known = any(address == interface.partition("%")[0] for address, _ in local_addresses())
        else:
            known = _can_bind(socket.AF_INET, interface)
        if not known:
            raise ConnectionError(f"this computer has no network interface {interface}")


def local_addresses() -> list[tuple[str, int | None]]:
    """Every IP address of this computer, with the index of its interface."""
    return [
        (ip.ip if isinstance(ip.ip, str) else ip.ip[0], adapter.index)
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]


def _ip_version(interfaces: Interfaces) -> IPVersion | None:
    """Both versions on all interfaces where the kernel has both; None lets a list speak for itself."""
    if interfaces is InterfaceChoice.All:
        return IPVersion.All if _can_bind(socket.AF_INET6, "::") else IPVersion.V4Only
    return IPVersion.V4Only if interfaces is InterfaceChoice.Default else None


def _can_bind(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


def _words(interfaces: Interfaces) -> str:
    if isinstance(interfaces, InterfaceChoice):
        return "all interfaces" if interfaces is InterfaceChoice.All else "the default interface"
    return ", ".join(map(str, interfaces))
