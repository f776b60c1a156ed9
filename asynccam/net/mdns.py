"""Services on the local network by mDNS: who is there, who moved, who left; and saying that one is there.

On a single computer (tests, a demo) both sides are given ``interfaces=["127.0.0.1"]``. That works
between processes even where the loopback interface lacks the kernel's MULTICAST flag, as it does
by default on Linux, because an IPv4 address names the interface to send from and to join the group
on, and no route is asked. ``InterfaceChoice.Default`` does not reach it there, and IPv6 multicast
does not cross ``::1``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import zeroconf as zc
from zeroconf import (
    DNSQuestionType,
    InterfaceChoice,
    RecordUpdate,
    RecordUpdateListener,
    ServiceStateChange,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from asynccam.errors import StateError, UsageError
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope, finish

from zeroconf import AddressResolver  # type: ignore[attr-defined]  # isort: skip
import ipaddress
import re
import socket
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from types import MappingProxyType
from weakref import WeakSet

import ifaddr
from zeroconf import IPVersion, ServiceInfo

from asynccam.errors import AsynccamError, BusyError, ConnectionError
from asynccam.outside import clean_text
from asynccam.runtime.timing import deadline

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


_TYPE: Final = re.compile(
    r"_(?=[A-Za-z0-9-]{1,15}\.)(?=[0-9-]*[A-Za-z])[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\._(?:tcp|udp)\.local\."
)


@dataclass(frozen=True, slots=True)
class MdnsService:
    """A service as it is announced now.

    Attributes:
        name: Full name, ``INSTANCE._TYPE._tcp.local.``.
        instance: Its first part, the announcer's word: any text, **not** safe as a path.
        addresses: IP addresses, at least one; IPv4 before IPv6, the newest first, and link-local ones last.
            Those of IPv6 carry the number of the interface they were heard on (``fe80::1%2``) and are left
            out where it is not known; those of IPv4 (``169.254.0.0/16``) are left out where this computer
            has no such address of its own to reach them from.
        port: TCP or UDP port.
        properties: The TXT record as far as it has come, often empty; not to be relied on.
    """

    name: str
    instance: str
    addresses: tuple[str, ...]
    port: int
    properties: Mapping[str, bytes | None] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def place(self) -> tuple[frozenset[str], int]:
        """Where it is reached, whatever the order of its addresses."""
        return frozenset(self.addresses), self.port


def service_of(info: ServiceInfo, *, ours: bool = False) -> MdnsService | None:
    """What zeroconf knows of a service, or None while its port or every usable address is missing.

    Args:
        info: As zeroconf has it.
        ours: Whether this computer announces it, so that every address of it is told.
    """
    told = info.parsed_scoped_addresses(IPVersion.All)
    addresses = tuple(filter(is_usable, told)) if ours else reachable_addresses(told)
    if not info.port or not addresses:
        return None
    properties = {clean_text(key.decode("ascii", "replace")): value for key, value in info.properties.items()}
    instance = instance_of(info.name, info.type)
    # The type as it was asked for; the announcer may write it in another case.
    name = f"{instance}.{info.type}"
    return MdnsService(name, instance, addresses, info.port, MappingProxyType(properties))


def reachable_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses that name one host from here, in their order, link-local ones last."""
    usable = [one for one in addresses if is_usable(one)]
    local = {one for one in usable if parse_ip(one).is_link_local}
    return (
        *(one for one in usable if one not in local),
        *(one for one in usable if one in local and _is_on_link(one)),
    )


def _is_on_link(address: str) -> bool:
    """Return whether a link-local address can be meant: the same one may exist on every link."""
    if ":" in address:
        return "%" in address
    # RFC 3927, 2.6.2: it is reached on its link only, where this computer has one of them as well.
    # Connecting a datagram socket sends nothing; it chooses a route and the address to send from.
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((address, 9))
            return parse_ip(sock.getsockname()[0]).is_link_local
    except OSError:
        return False


def instance_of(name: str, service_type: str) -> str:
    """The part of a service's full name that stands before its type."""
    return clean_text(name[: -len(service_type) - 1])


def check_service_type(service_type: str) -> None:
    """Refuse what is no service type.

    Raises:
        UsageError: It is none.
    """
    if not _TYPE.fullmatch(service_type):
        raise UsageError(f"{service_type!r} is not a service type such as '_multicam._tcp.local.'")


def is_usable(address: str) -> bool:
    """Whether an address names one host.

    Raises:
        UsageError: It is no IP address.
    """
    ip = parse_ip(address)
    return not (ip.is_unspecified or ip.is_multicast)


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address from its text.

    Raises:
        UsageError: It is none.
    """
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"{text!r} is not an IP address") from None


_ASK_FOR: Final = DNSQuestionType.QM
"""Answers by multicast: those by unicast reach only one of the programs that share the mDNS port of this
computer, and avahi-daemon usually is another."""
_FLUSH_DELAY: Final = 1.5
"""Seconds after a change until outdated addresses have gone from the cache: RFC 6762, 10.2 gives them one."""
_SRV: Final = 33
_IN: Final = 1
"""RFC 1035, 3.2.2 and 3.2.4, RFC 2782: the type and class of the record that holds a service's port."""
_LONGEST_PAUSE: Final = 60.0
"""Seconds between tries to resolve a name that does not answer."""
_MAX_NAMES: Final = 4096
"""Names followed at once; what a hostile network announces beyond them is passed over."""


@dataclass(frozen=True, slots=True)
class ServiceFound:
    """A service is there, resolved."""

    service: MdnsService


@dataclass(frozen=True, slots=True)
class ServiceChanged:
    """A service is reached elsewhere: other addresses or another port."""

    service: MdnsService
    previous: MdnsService


@dataclass(frozen=True, slots=True)
class ServiceLost:
    """A service said goodbye, or was not announced again in time; this is how it last was."""

    service: MdnsService


ServiceEvent = ServiceFound | ServiceChanged | ServiceLost


def browse(
    service_type: str,
    *,
    zeroconf: AsyncZeroconf | None = None,
    interfaces: Interfaces = InterfaceChoice.All,
    resolve_timeout: float = 3.0,
) -> "ServiceBrowser":
    """Follow the services of one type, as events.

    ::

        async with browse("_multicam._tcp.local.") as events:
            async for event in events:
                ...

    Args:
        service_type: ``_multicam._tcp.local.`` for example.
        zeroconf: Sockets to borrow; they are never closed here. Without them own ones are opened.
        interfaces: Where own sockets listen and speak.
        resolve_timeout: Seconds to ask a newly seen name for its port and addresses, before a pause
            and another try.

    Raises:
        UsageError: Not a service type.
    """
    return ServiceBrowser(service_type, zeroconf, interfaces, resolve_timeout)


class ServiceBrowser(AsyncIterator[ServiceEvent]):
    """What `browse` gives: an async context manager and, inside, an async iterator without end.

    A service is found once its port and an address are known, whether or not it has a TXT record.
    A reader that lags gets what is true now and not the history: a service that moved twice
    meanwhile changes once, one that came and went is not mentioned. So nothing piles up.
    A service that dies without a goodbye is lost when its announcement expires, which may be
    75 minutes later.
    Network interfaces that come and go while it runs are followed, within about two seconds.
    """

    def __init__(
        self,
        service_type: str,
        zeroconf: AsyncZeroconf | None,
        interfaces: Interfaces,
        resolve_timeout: float,
    ) -> None:
        check_service_type(service_type)
        if not resolve_timeout > 0:
            raise UsageError(f"resolve_timeout must be positive, not {resolve_timeout}")
        self._type = service_type
        self._borrowed = zeroconf
        self._interfaces = interfaces
        self._resolve_timeout = resolve_timeout
        self._zeroconf: AsyncZeroconf
        self._asking: AsyncServiceBrowser
        self._scope = TaskScope(f"mdns {service_type}")
        self._stack: AsyncExitStack | None = None
        self._announced: dict[str, asyncio.Task[None] | None] = {}  # key -> its resolver, while there is one
        self._known: dict[str, MdnsService] = {}
        self._reported: dict[str, MdnsService] = {}
        self._dirty: dict[str, None] = {}  # keys whose known and reported services may differ, in order
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def services(self) -> tuple[MdnsService, ...]:
        """Every service known now, in the order they were found."""
        return tuple(self._known.values())

    async def __aenter__(self) -> "ServiceBrowser":
        if self._stack is not None or self._closed:
            raise StateError("a service browser is entered once")
        known = await asyncio.to_thread(local_addresses)
        async with AsyncExitStack() as stack:
            self._zeroconf = await stack.enter_async_context(
                open_zeroconf(self._borrowed, interfaces=self._interfaces)
            )
            await stack.enter_async_context(self._scope)
            self._asking = self._ask()
            stack.push_async_callback(self._stop_asking)
            listener = _PlaceListener(self._on_place)
            self._zeroconf.zeroconf.async_add_listener(listener, None)
            stack.callback(self._zeroconf.zeroconf.async_remove_listener, listener)
            follower = follow_interfaces(self._zeroconf, known, self._ask_again)
            following = self._scope.spawn(follower, name="interfaces")
            stack.callback(following.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop browsing; a waiting reader ends. Harmless when called twice."""
        stack, self._stack, self._closed = self._stack, None, True
        self._wake()
        if stack is not None:
            await finish(stack.aclose())

    def __aiter__(self) -> "ServiceBrowser":
        return self

    async def __anext__(self) -> ServiceEvent:
        while True:
            if self._closed:
                raise StopAsyncIteration
            if self._stack is None:
                raise StateError("browse() works inside its 'async with' block")
            event = self._next_event()
            if event is not None:
                return event
            if self._waiter is not None:
                raise StateError("a service browser has one reader at a time")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _next_event(self) -> ServiceEvent | None:
        """The oldest difference between what is known and what was reported, now reported."""
        while self._dirty:
            key = next(iter(self._dirty))
            del self._dirty[key]
            service, previous = self._known.get(key), self._reported.pop(key, None)
            if service is None:
                if previous is not None:
                    return ServiceLost(previous)
                continue
            self._reported[key] = service
            if previous is None:
                return ServiceFound(service)
            if service.place != previous.place:
                return ServiceChanged(service, previous)
        return None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _ask(self) -> AsyncServiceBrowser:
        return AsyncServiceBrowser(
            self._zeroconf.zeroconf, self._type, handlers=[self._on_change], question_type=_ASK_FOR
        )

    async def _stop_asking(self) -> None:
        await self._asking.async_cancel()

    async def _ask_again(self) -> None:
        """Ask who is there on an interface that appeared: the pauses between questions grow to an hour."""
        await self._asking.async_cancel()
        self._asking = self._ask()

    # Called by zeroconf while it digests a packet, so nothing may be raised here.
    def _on_change(
        self, zeroconf: zc.Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        key = name.lower()
        if self._closed or not key.endswith(f".{self._type.lower()}"):
            return
        if state_change is ServiceStateChange.Removed:
            self._forget(key)
            return
        if key not in self._announced:
            if state_change is not ServiceStateChange.Added or len(self._announced) >= _MAX_NAMES:
                return
            if self._info(name) is None:
                _LOG.debug("passed over a service with an impossible name: %r", name)
                return
            self._announced[key] = None
        if not self._look(name) and self._announced[key] is None:
            self._announced[key] = self._scope.spawn(self._resolve(name), name=f"resolve {name}")

    def _on_place(self, names: set[str]) -> None:
        """Look again at names whose port was announced, for zeroconf's browser ignores one it has cached."""
        for name in names:
            if not self._closed and name.lower() in self._known:
                self._look(name)

    def _forget(self, key: str) -> None:
        resolver = self._announced.pop(key, None)
        if resolver is not None:
            resolver.cancel()
        if self._known.pop(key, None) is not None:
            self._mark(key)

    async def _resolve(self, name: str) -> None:
        """Ask for a name's port and addresses until they are known or the name is gone."""
        backoff = Backoff(initial=self._resolve_timeout, maximum=max(_LONGEST_PAUSE, self._resolve_timeout))
        for pause in backoff.delays():
            info = self._info(name)
            assert info is not None
            # Its verdict is not asked for: it insists on a TXT record. What came is in the cache.
            try:
                await info.async_request(self._zeroconf.zeroconf, self._resolve_timeout * 1000, _ASK_FOR)
            except zc.NotRunningException:  # the owner of borrowed sockets closed them
                return
            if self._look(name):
                return
            await asyncio.sleep(pause)

    def _look(self, name: str) -> bool:
        """Take up what the cache says of a name; False if its port or addresses are still unknown."""
        info = self._info(name)
        assert info is not None
        self._load(info)
        service = service_of(info)
        if service is None:
            return False
        key = name.lower()
        resolver, self._announced[key] = self._announced.get(key), None
        if resolver is not None and resolver is not asyncio.current_task():
            resolver.cancel()
        previous, self._known[key] = self._known.get(key), service
        if previous is None:
            self._mark(key)
        elif service.place != previous.place:
            self._mark(key)
            self._scope.spawn(self._look_again(name), name=f"settle {name}")
        return True

    def _load(self, info: AsyncServiceInfo) -> None:
        """Take up what the cache holds, with the port that was announced last.

        RFC 6762, 10.2: a record younger than a second survives the one that replaces it, so that the cache
        may hold both, in the order in which they were first seen.
        """
        sockets, now = self._zeroconf.zeroconf, zc.current_time_millis()
        info.load_from_cache(sockets, now)
        places = sockets.cache.get_all_by_details(info.name, _SRV, _IN)
        if len(places) > 1:
            # One that was replaced is dated anew by zeroconf, with a second to live.
            newest = max(places, key=lambda record: (record.created, record.ttl))
            info.async_update_records(sockets, now, [RecordUpdate(newest, None)])

    async def _look_again(self, name: str) -> None:
        """See whether old addresses have gone: who moved announces the new ones, not the end of the old."""
        await asyncio.sleep(_FLUSH_DELAY)
        if name.lower() in self._known:
            self._look(name)

    def _mark(self, key: str) -> None:
        self._dirty[key] = None
        self._wake()

    def _info(self, name: str) -> AsyncServiceInfo | None:
        # The type as it was asked for: zeroconf insists on its case here, though names have none.
        instance = instance_of(name, self._type)
        try:
            return AsyncServiceInfo(self._type, f"{instance}.{self._type}")
        except zc.Error:
            return None


class _PlaceListener(RecordUpdateListener):
    """Calls back with the names whose ports were announced, once the cache has what was announced."""

    def __init__(self, on_place: Callable[[set[str]], None]) -> None:
        super().__init__()
        self._on_place = on_place
        self._names: set[str] = set()

    def async_update_records(self, zc: zc.Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        self._names.update(one.new.name for one in records if one.new.type == _SRV)

    def async_update_records_complete(self) -> None:
        names, self._names = self._names, set()
        self._on_place(names)


# Public, and missing from what zeroconf says that it exports.


EVERYWHERE: Interfaces = InterfaceChoice.All


async def resolve_local(host: str, *, timeout: float = 3.0) -> list[str]:
    """Ask the local network for the addresses of a host.

    Args:
        host: ``phone.local``, with or without its dot.
        timeout: Seconds to wait for an answer.

    Returns:
        IP addresses that can be reached from here, as `Service.addresses`; none if nobody answers.

    Raises:
        ConnectionError: mDNS cannot be opened.
    """
    try:
        asked = AddressResolver(f"{host.rstrip('.')}.")
    except zc.Error:  # no name on the wire
        return []
    async with open_zeroconf(interfaces=EVERYWHERE) as sockets:
        await asked.async_request(sockets.zeroconf, timeout * 1000, DNSQuestionType.QM)
    return list(reachable_addresses(asked.parsed_scoped_addresses()))


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


# RFC 6335, 5.1: at most 15 letters, digits and single hyphens inside, one letter at least.
