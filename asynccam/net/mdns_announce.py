"""Saying by mDNS that a service is here."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import zeroconf as zc
from zeroconf import DNSQuestionType, InterfaceChoice, IPVersion, ServiceInfo
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from asynccam.errors import BusyError, StateError, UsageError
from asynccam.net.mdns_service import MdnsService, check_service_type, is_usable, parse_ip, service_of
from asynccam.net.mdns_sockets import (
    Interfaces,
    follow_interfaces,
    local_addresses,
    open_zeroconf,
    own_addresses,
)
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline

_GOODBYE_LASTS: Final = 1.1
_FLUSHABLE_AFTER: Final = 1.1
"""Seconds after which an announcement can be superseded by another."""


class Announcement:
    """A service of this computer while it is announced.

    Attributes:
        service: How it is announced now.
    """

    def __init__(self, zeroconf: AsyncZeroconf, info: ServiceInfo, timeout: float) -> None:
        self._zeroconf = zeroconf
        self._info = info
        self._timeout = timeout
        self._told_at = asyncio.get_running_loop().time()
        self._moved = False

    @property
    def service(self) -> MdnsService:
        """How it is announced now."""
        service = service_of(self._info, ours=True)
        assert service is not None  # port and addresses were checked
        return service

    async def move(self, addresses: Sequence[str] | None = None, *, port: int | None = None) -> None:
        """Announce other addresses or another port; takes half a second, or two soon after the last time.

        Raises:
            UsageError: An address is no IP address, or the port is none.
            TimeoutError: It took longer than the announcement's ``timeout``.
        """
        new_port = self._info.port if port is None else port
        _check_place(addresses, new_port)
        self._moved = self._moved or addresses is not None
        await self._move(addresses, new_port)

    async def _move(self, addresses: Sequence[str] | None, new_port: int | None) -> None:
        packed = None if addresses is None else [parse_ip(one).packed for one in addresses]
        loop = asyncio.get_running_loop()
        # RFC 6762, 10.2: who hears new addresses drops the old ones only if they are older than a second.
        await asyncio.sleep(max(0.0, self._told_at + _FLUSHABLE_AFTER - loop.time()))
        self._told_at = loop.time()
        # Questions are answered from it meanwhile: it must not name a new address with the old port.
        if packed is not None:
            self._info.addresses = packed
        self._info.port = new_port
        async with deadline(self._timeout, f"mDNS announcement of {self._info.name}"):
            await (await self._zeroconf.async_update_service(self._info))
        self._told_at = loop.time()

    async def follow(self, addresses: Sequence[str]) -> None:
        """Announce what addresses this computer has now, unless `move` gave others; errors as of `move`."""
        told = {parse_ip(one).packed for one in addresses}
        if addresses and not self._moved and told != set(self._info.addresses_by_version(IPVersion.All)):
            await self._move(addresses, self._info.port)


@asynccontextmanager
async def announce(
    service_type: str,
    instance: str,
    port: int,
    *,
    addresses: Sequence[str] | None = None,
    properties: Mapping[str, str | bytes] | None = None,
    zeroconf: AsyncZeroconf | None = None,
    interfaces: Interfaces = InterfaceChoice.All,
    timeout: float = 10.0,
) -> AsyncIterator[Announcement]:
    """Announce a service for as long as the block lasts, then say goodbye.

    The block begins once the name has been found free and was announced, about a second later. Two
    that take one name within the same second may both have it.

    Args:
        service_type: ``_multicam._tcp.local.`` for example.
        instance: The service's name: any text of up to 63 bytes without control characters.
        port: Where it listens, 1 to 65535.
        addresses: IP addresses to announce; by default those of ``interfaces``, also when they change later.
        properties: The TXT record.
        zeroconf: Sockets to borrow; they are never closed here. Without them own ones are opened.
        interfaces: Where own sockets listen and speak.
        timeout: Seconds the announcement, and later the goodbye, may take.

    Raises:
        UsageError: The type, the name, the port or an address cannot be announced.
        BusyError: Somebody on this network has that name already.
        ConnectionError: mDNS cannot be opened, see `open_zeroconf`.
        TimeoutError: The announcement took longer than ``timeout``.
    """
    check_service_type(service_type)
    _check_place(addresses, port)
    known = local_addresses()
    place = own_addresses(interfaces) if addresses is None else list(addresses)
    try:
        info = ServiceInfo(
            service_type,
            f"{instance}.{service_type}",
            port,
            properties=dict(properties or {}),
            addresses=[parse_ip(one).packed for one in place],
        )
    except (zc.Error, ValueError) as error:
        raise UsageError(f"{instance!r} cannot be announced: {error}") from error
    async with open_zeroconf(zeroconf, interfaces=interfaces) as sockets:
        try:
            await _register(sockets, info, timeout)
            announcement = Announcement(sockets, info, timeout)

            async def changed() -> None:
                await announcement.follow(await asyncio.to_thread(own_addresses, interfaces))

            async with TaskScope(f"announcement of {info.name}") as scope:
                if addresses is None:
                    scope.spawn(follow_interfaces(sockets, known, changed), name="interfaces")
                yield announcement
        finally:
            await finish(_withdraw(sockets, info, timeout))


async def _register(sockets: AsyncZeroconf, info: ServiceInfo, timeout: float) -> None:
    try:
        async with deadline(timeout, f"mDNS announcement of {info.name}"):
            try:
                await _try_to_register(sockets, info)
            except zc.NonUniqueNameException:
                # Whoever says goodbye is remembered a second longer (RFC 6762, section 10.1), or more if an
                # answer was still on its way behind the goodbye: a device that is restarted at once meets
                # itself. So the memory is dropped; whoever really has the name answers the second time too.
                await asyncio.sleep(_GOODBYE_LASTS)
                _forget(sockets, info)
                await _try_to_register(sockets, info)
    except (zc.NonUniqueNameException, zc.ServiceNameAlreadyRegistered):
        raise BusyError(f"somebody on this network is already called {info.name}") from None
    except zc.NotRunningException:
        raise StateError("the mDNS sockets are closed") from None
    except zc.Error as error:
        raise UsageError(f"{info.name!r} cannot be announced: {error}") from error


async def _try_to_register(sockets: AsyncZeroconf, info: ServiceInfo) -> None:
    # zeroconf asks whether the name is taken for answers by unicast, and among the processes of one
    # computer that share a port those go to any one of them. So somebody asks for multicast ones as well.
    asking = AsyncServiceBrowser(
        sockets.zeroconf, info.type, handlers=[lambda **_: None], question_type=DNSQuestionType.QM
    )
    try:
        await (await sockets.async_register_service(info))
    finally:
        await asking.async_cancel()


def _forget(sockets: AsyncZeroconf, info: ServiceInfo) -> None:
    cache = sockets.zeroconf.cache
    remembered = cache.current_entry_with_name_and_alias(info.type, info.name)
    if remembered is not None:
        cache.async_remove_records([remembered])


async def _withdraw(sockets: AsyncZeroconf, info: ServiceInfo, timeout: float) -> None:
    # The registry is asked because a conflict means that the name there is somebody else's.
    if sockets.zeroconf.done or sockets.zeroconf.registry.async_get_info_name(info.key) is not info:
        return
    async with deadline(timeout, f"mDNS goodbye of {info.name}"):
        await (await sockets.async_unregister_service(info))


def _check_place(addresses: Sequence[str] | None, port: int | None) -> None:
    if port is None or not 1 <= port <= 65535:
        raise UsageError(f"{port!r} is not a port to announce")
    if addresses is None:
        return
    if isinstance(addresses, str) or not addresses:
        raise UsageError("addresses is a list of at least one IP address")
    for address in addresses:
        if not is_usable(address):
            raise UsageError(f"{address} cannot be announced")
