"""Services on the local network by mDNS: browse them, resolve a host's name, announce one's own.

From top to bottom: what a service is, the sockets and the interfaces they use, `ServiceBrowser`,
`resolve_local`, `announce`.

On a single computer (tests, a demo) both sides are given ``interfaces=["127.0.0.1"]``. That works
between processes even where the loopback interface lacks the kernel's MULTICAST flag, as it does
by default on Linux, because an IPv4 address names the interface to send from and to join the group
on, and no route is asked. ``InterfaceChoice.Default`` does not reach it there, and IPv6 multicast
does not cross ``::1``.
"""

import asyncio
import ipaddress
import logging
import math
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from weakref import WeakSet

import ifaddr
import zeroconf as zc
from zeroconf import (
    DNSQuestionType,
    InterfaceChoice,
    IPVersion,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    ServiceStateChange,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from asynccam.errors import AsynccamError, BusyError, ConnectionError, StateError, UsageError
from asynccam.outside import clean_text
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline

# Public, and missing from what zeroconf says that it exports.
from zeroconf import AddressResolver, DNSOutgoing, DNSQuestion  # type: ignore[attr-defined]  # isort: skip

_LOG = logging.getLogger(__name__)

Interfaces = InterfaceChoice | Sequence[str | int]
"""All interfaces, the default one, or a list of their IP addresses (IPv6 ones by index too)."""
ALL_INTERFACES: Interfaces = InterfaceChoice.All

_START_TIMEOUT: Final = 5.0
_INTERFACE_POLL: Final = 2.0
"""Seconds between two checks of this computer's network interfaces."""
_OPENED_HERE: Final[WeakSet[AsyncZeroconf]] = WeakSet()
"""Sockets whose interfaces are followed; those of borrowed sockets are left to their owner."""

_MULTICAST_QUESTION: Final = DNSQuestionType.QM
"""Answers by unicast reach only one of the programs that share the mDNS port of this computer, and
avahi-daemon usually is another."""
_A: Final = 1
_AAAA: Final = 28
_SRV: Final = 33
_IN: Final = 1
"""RFC 1035, 3.2.2 and 3.2.4, RFC 3596, RFC 2782: types and class of records that hold addresses and ports."""
_ANSWER_TIME: Final = 1.5
"""Seconds for an answer; RFC 6762, 6: a record is not multicast again within a second."""
_QUERY: Final = 0
"""RFC 1035, 4.1.1: the flags of a query."""
_FLUSH_DELAY: Final = 1.5
"""Seconds after a change until outdated addresses have expired: RFC 6762, 10.2 gives them one."""
_MAX_RESOLVE_PAUSE: Final = 60.0
"""Seconds between tries to resolve a name that does not answer."""
_MAX_NAMES: Final = 4096
"""Names followed at once; what a hostile network announces beyond them is ignored."""
_GOODBYE_TTL: Final = 1.1
"""Seconds for which a goodbye is remembered: RFC 6762, 10.1 gives it one."""
_DOUBTED_RETURN: Final = 2.0
"""Seconds after a goodbye in which an announcement is confirmed: a responder may send an answer that it has
prepared before, up to about a second later."""
_RETURN_QUERIES: Final = 3
"""Queries for a service that returned at once, and does not answer, before it counts as lost."""
_FLUSHABLE_AFTER: Final = 1.1
"""Seconds after which an announcement can be superseded: RFC 6762, 10.2 protects younger ones than one."""
_REPEAT_AFTER: Final = 1.1
"""Seconds after which a change is announced again (RFC 6762, 8.3). Until then a responder may send an answer
that it has prepared before the change, and listeners pass over packets that are repeated sooner."""
_CONFIRM_PAUSE: Final = 10.0
"""Seconds between two queries for one name that changes: two services of that name would answer by turns."""

# RFC 6335, 5.1: at most 15 letters, digits and single hyphens inside, one letter at least.
_TYPE: Final = re.compile(
    r"_(?=[A-Za-z0-9-]{1,15}\.)(?=[0-9-]*[A-Za-z])[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\._(?:tcp|udp)\.local\."
)


@dataclass(frozen=True, slots=True)
class MdnsService:
    """A service as it is announced now."""

    name: str  # full name, ``INSTANCE._TYPE._tcp.local.``
    instance: str  # the first part of the name, as announced: any text, **not** safe as a path
    # IP addresses, at least one; IPv4 before IPv6, the newest first, and link-local ones last. Those of IPv6
    # carry the number of the interface they were received on (``fe80::1%2``) and are left out where it is not
    # known; those of IPv4 (``169.254.0.0/16``) are left out where this computer has no such address of its
    # own to reach them from.
    addresses: tuple[str, ...]
    port: int  # TCP or UDP port
    # The TXT record as far as it was received, often empty; not to be relied on.
    properties: Mapping[str, bytes | None] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def endpoint(self) -> tuple[frozenset[str], int]:
        """Addresses and port, whatever the order of the addresses."""
        return frozenset(self.addresses), self.port


def service_of(info: ServiceInfo, *, ours: bool = False) -> MdnsService | None:
    """Return a service as zeroconf knows it, or None while its port or every usable address is missing.

    ``ours`` is for a service of this computer: all its addresses count, reachable from here or not.
    """
    announced = info.parsed_scoped_addresses(IPVersion.All)
    addresses = tuple(filter(is_usable, announced)) if ours else reachable_addresses(announced)
    if not info.port or not addresses:
        return None
    properties = {clean_text(key.decode("ascii", "replace")): value for key, value in info.properties.items()}
    instance = instance_of(info.name, info.type)
    # The type as it was asked for; the announcer may write it in another case.
    name = f"{instance}.{info.type}"
    return MdnsService(name, instance, addresses, info.port, MappingProxyType(properties))


def reachable_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses that name one host from here, in their order, link-local ones last."""
    usable = [address for address in addresses if is_usable(address)]
    local = {address for address in usable if parse_ip(address).is_link_local}
    return (
        *(address for address in usable if address not in local),
        *(address for address in usable if address in local and _is_on_link(address)),
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
    """Return the part of a service's full name before its type."""
    return clean_text(name[: -len(service_type) - 1])


def check_service_type(service_type: str) -> None:
    """Raise `UsageError` for what is not a service type."""
    if not _TYPE.fullmatch(service_type):
        raise UsageError(f"{service_type!r} is not a service type such as '_multicam._tcp.local.'")


def is_usable(address: str) -> bool:
    """Return whether an address names one host; raise `UsageError` if it is not an IP address."""
    ip = parse_ip(address)
    return not (ip.is_unspecified or ip.is_multicast)


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an IP address from its text; raise `UsageError` if it is not one."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"{text!r} is not an IP address") from None


# -- sockets and interfaces ---------------------------------------------------------------------


@asynccontextmanager
async def open_zeroconf(
    borrowed: AsyncZeroconf | None = None, *, interfaces: Interfaces = InterfaceChoice.All
) -> AsyncIterator[AsyncZeroconf]:
    """Open sockets for the block, or use borrowed ones, which are not closed and ignore ``interfaces``.

    Raises:
        UsageError: No interface is given, or one that is not an IP address.
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
        raise ConnectionError(f"mDNS cannot be opened on {_describe(interfaces)}: {error}") from error
    _OPENED_HERE.add(own)
    try:
        await _wait_for_start(own)
        yield own
    finally:
        _OPENED_HERE.discard(own)
        await finish(own.async_close())


def announceable_addresses(interfaces: Interfaces) -> list[str]:
    """Return the IP addresses to announce: loopback and link-local ones only if there are no others.

    A record is sent on every interface, and a link-local address names this computer on one of them only.

    Errors are those of `open_zeroconf`.
    """
    if not isinstance(interfaces, InterfaceChoice):
        _check_interfaces(interfaces)
        named = [address for address in interfaces if isinstance(address, str)]
        chosen = named + [address for address, index in local_addresses() if index in interfaces]
        return [address for address in chosen if not parse_ip(address).is_link_local] or chosen
    all_addresses = [address for address, _ in local_addresses()]
    lasting = [address for address in all_addresses if not parse_ip(address).is_link_local]
    routable = [address for address in lasting if not parse_ip(address).is_loopback]
    link_local = [address for address in all_addresses if parse_ip(address).is_link_local]
    return routable or link_local or all_addresses


async def follow_interfaces(
    sockets: AsyncZeroconf,
    known: Collection[tuple[str, int | None]],
    changed: Callable[[], Awaitable[object]],
) -> None:
    """Follow this computer's network interfaces until cancelled; borrowed sockets are left to their owner.

    ``known`` is `local_addresses` from before the sockets were opened. ``changed`` is awaited after every
    change of interfaces or addresses.
    """
    before = set(known)
    while True:
        try:
            now = set(await asyncio.to_thread(local_addresses))
            if now != before:
                words = ", ".join(sorted(address for address, _ in now)) or "none"
                _LOG.info("the network interfaces changed: %s", words)
                # Older releases of zeroconf cannot; then only new addresses are announced.
                if sockets in _OPENED_HERE and hasattr(sockets, "async_update_interfaces"):
                    await sockets.async_update_interfaces()
                await changed()
                before = now  # not earlier: what failed is done again
        except zc.NotRunningException:  # the owner of borrowed sockets closed them
            return
        except (OSError, RuntimeError, zc.Error, AsynccamError) as error:
            _LOG.warning("mDNS does not follow a change of network interfaces yet: %s", error)
        await asyncio.sleep(_INTERFACE_POLL)


async def _wait_for_start(sockets: AsyncZeroconf) -> None:
    try:
        await sockets.zeroconf.async_wait_for_start(timeout=_START_TIMEOUT)
    except zc.NotRunningException:
        raise StateError("the mDNS sockets are closed, or did not open in time") from None


def _check_interfaces(interfaces: Interfaces) -> None:
    """Raise at once for what zeroconf would fail at half way."""
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
    """Return every IP address of this computer, with the index of its interface."""
    return [
        (ip.ip if isinstance(ip.ip, str) else ip.ip[0], adapter.index)
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]


def _ip_version(interfaces: Interfaces) -> IPVersion | None:
    """Return both versions for all interfaces where the kernel has both; None for a list of addresses."""
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


def _describe(interfaces: Interfaces) -> str:
    if isinstance(interfaces, InterfaceChoice):
        return "all interfaces" if interfaces is InterfaceChoice.All else "the default interface"
    return ", ".join(map(str, interfaces))


# -- browsing -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServiceFound:
    """A service was announced and resolved."""

    service: MdnsService


@dataclass(frozen=True, slots=True)
class ServiceChanged:
    """A service has other addresses or another port."""

    service: MdnsService
    previous: MdnsService


@dataclass(frozen=True, slots=True)
class ServiceLost:
    """A service said goodbye, or was not announced again in time; ``service`` is its last state."""

    service: MdnsService


ServiceEvent = ServiceFound | ServiceChanged | ServiceLost


class ServiceBrowser(AsyncIterator[ServiceEvent]):
    """Services of one type as events: an async context manager and, inside, an async iterator without end.

    ::

        async with ServiceBrowser("_multicam._tcp.local.") as events:
            async for event in events:
                ...

    A service is found once its port and an address are known, whether or not it has a TXT record.
    A slow reader gets the present state and not the history: a service that moved twice meanwhile
    changes once, one that appeared and vanished is not mentioned, so the queue is bounded.
    A service that dies without a goodbye is lost when its announcement expires, which may be
    75 minutes later.
    Network interfaces that come and go while it runs are followed, within about two seconds.

    Args:
        service_type: ``_multicam._tcp.local.`` for example.
        zeroconf: Sockets to borrow; they are never closed here. Without them own ones are opened.
        interfaces: Where own sockets listen and speak.
        resolve_timeout: Seconds to ask a newly seen name for its port and addresses, before a pause
            and another try.

    Raises:
        UsageError: Not a service type.
    """

    def __init__(
        self,
        service_type: str,
        *,
        zeroconf: AsyncZeroconf | None = None,
        interfaces: Interfaces = InterfaceChoice.All,
        resolve_timeout: float = 3.0,
    ) -> None:
        check_service_type(service_type)
        if not resolve_timeout > 0:
            raise UsageError(f"resolve_timeout must be positive, not {resolve_timeout}")
        self._type = service_type
        self._borrowed = zeroconf
        self._interfaces = interfaces
        self._resolve_timeout = resolve_timeout
        self._zeroconf: AsyncZeroconf
        self._browser: AsyncServiceBrowser
        self._scope = TaskScope(f"mdns {service_type}")
        self._stack: AsyncExitStack | None = None
        self._announced: dict[str, asyncio.Task[None] | None] = {}  # key -> its resolver, while there is one
        self._known: dict[str, MdnsService] = {}
        self._reported: dict[str, MdnsService] = {}
        self._confirming: dict[str, asyncio.Task[None]] = {}  # key -> what follows its last change
        self._left_at: dict[str, float] = {}  # key -> when its goodbye was received
        self._answered: dict[str, asyncio.Event] = {}  # key -> set when its port is announced
        self._confirmed_at: dict[str, float] = {}  # key -> when the network was asked about a change
        self._changed: dict[str, None] = {}  # keys whose known and reported services may differ, in order
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
            self._browser = self._start_browser()
            stack.push_async_callback(self._stop_browser)
            listener = _EndpointListener(self._on_endpoint)
            self._zeroconf.zeroconf.async_add_listener(listener, None)
            stack.callback(self._zeroconf.zeroconf.async_remove_listener, listener)
            follower = follow_interfaces(self._zeroconf, known, self._restart_browser)
            following = self._scope.spawn(follower, name="interfaces")
            stack.callback(following.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
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
                raise StateError("a service browser works inside its 'async with' block")
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
        """Return the oldest difference that was not reported yet, and count it as reported."""
        while self._changed:
            key = next(iter(self._changed))
            del self._changed[key]
            service, previous = self._known.get(key), self._reported.pop(key, None)
            if service is None:
                if previous is not None:
                    return ServiceLost(previous)
                continue
            self._reported[key] = service
            if previous is None:
                return ServiceFound(service)
            if service.endpoint != previous.endpoint:
                return ServiceChanged(service, previous)
        return None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _start_browser(self) -> AsyncServiceBrowser:
        return AsyncServiceBrowser(
            self._zeroconf.zeroconf, self._type, handlers=[self._on_change], question_type=_MULTICAST_QUESTION
        )

    async def _stop_browser(self) -> None:
        await self._browser.async_cancel()

    async def _restart_browser(self) -> None:
        """Query an interface that appeared: the pauses between the queries of one browser grow to an hour."""
        await self._browser.async_cancel()
        self._browser = self._start_browser()

    # Called by zeroconf while it processes a packet, so nothing may be raised here.
    def _on_change(
        self, zeroconf: zc.Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        key = name.lower()
        if self._closed or not key.endswith(f".{self._type.lower()}"):
            return
        if state_change is ServiceStateChange.Removed:
            self._remove(key)
            return
        if key not in self._announced:
            if state_change is not ServiceStateChange.Added or len(self._announced) >= _MAX_NAMES:
                return
            if self._info(name) is None:
                _LOG.debug("ignored a service with an invalid name: %r", name)
                return
            self._announced[key] = None
            left_at = self._left_at.pop(key, -math.inf)
            if asyncio.get_running_loop().time() - left_at < _DOUBTED_RETURN:
                self._confirming[key] = self._scope.spawn(self._confirm_return(name), name=f"confirm {name}")
        if not self._refresh(name) and self._announced[key] is None:
            self._announced[key] = self._scope.spawn(self._resolve(name), name=f"resolve {name}")

    def _on_endpoint(self, names: set[str]) -> None:
        """Refresh names whose port was announced: zeroconf's browser ignores one that is cached."""
        for name in names:
            if not self._closed and name.lower() in self._known:
                self._refresh(name)
                if (answered := self._answered.get(name.lower())) is not None:
                    answered.set()

    def _remove(self, key: str) -> None:
        resolver = self._announced.pop(key, None)
        self._confirmed_at.pop(key, None)
        confirming = self._confirming.pop(key, None)
        if confirming is not None and confirming is not asyncio.current_task():
            confirming.cancel()
        self._left_at.pop(key, None)
        self._left_at[key] = asyncio.get_running_loop().time()
        if len(self._left_at) > _MAX_NAMES:
            del self._left_at[next(iter(self._left_at))]
        if resolver is not None:
            resolver.cancel()
        if self._known.pop(key, None) is not None:
            self._mark_changed(key)

    async def _resolve(self, name: str) -> None:
        """Query a name's port and addresses until they are known or the name is removed."""
        backoff = Backoff(
            initial=self._resolve_timeout, maximum=max(_MAX_RESOLVE_PAUSE, self._resolve_timeout)
        )
        for pause in backoff.delays():
            info = self._info(name)
            assert info is not None
            # Its result is ignored: it insists on a TXT record. What was received is in the cache.
            try:
                await info.async_request(
                    self._zeroconf.zeroconf, self._resolve_timeout * 1000, _MULTICAST_QUESTION
                )
            except zc.NotRunningException:  # the owner of borrowed sockets closed them
                return
            if self._refresh(name):
                return
            await asyncio.sleep(pause)

    def _refresh(self, name: str) -> bool:
        """Read a name from the cache; return False if its port or addresses are still unknown."""
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
            self._mark_changed(key)
        elif service.endpoint != previous.endpoint:
            self._mark_changed(key)
            earlier = self._confirming.get(key)
            if earlier is not None and earlier is not asyncio.current_task():
                earlier.cancel()
            self._confirming[key] = self._scope.spawn(self._confirm_later(name), name=f"confirm {name}")
        return True

    def _load(self, info: AsyncServiceInfo) -> None:
        """Load a service from the cache, with the port that was announced last.

        RFC 6762, 10.2: a record younger than a second survives the one that replaces it, so that the cache
        may hold both, in the order in which they were first seen.
        """
        sockets, now = self._zeroconf.zeroconf, zc.current_time_millis()
        info.load_from_cache(sockets, now)
        records = sockets.cache.get_all_by_details(info.name, _SRV, _IN)
        if len(records) > 1:
            # One that was replaced is dated anew by zeroconf, with a second to live.
            newest = max(records, key=lambda record: (record.created, record.ttl))
            info.async_update_records(sockets, now, [RecordUpdate(newest, None)])

    async def _confirm_later(self, name: str) -> None:
        """Refresh once old addresses have expired, which nobody announces, and ask what is true now.

        An answer that was prepared before the change may be received after its announcement.
        """
        await asyncio.sleep(_FLUSH_DELAY)
        key, now = name.lower(), asyncio.get_running_loop().time()
        if key not in self._known:
            return
        self._remove_flushed_addresses(name)
        self._refresh(name)
        if now - self._confirmed_at.get(key, -math.inf) >= _CONFIRM_PAUSE:
            self._confirmed_at[key] = now
            self._ask_for_port(name)

    async def _confirm_return(self, name: str) -> None:
        """Remove a service that was announced just after its goodbye, unless it answers a query."""
        key = name.lower()
        answered = self._answered[key] = asyncio.Event()
        try:
            await asyncio.sleep(_REPEAT_AFTER)  # zeroconf passes over an answer that it has seen just before
            for _ in range(_RETURN_QUERIES):
                answered.clear()
                self._ask_for_port(name)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ANSWER_TIME):
                        await answered.wait()
                        return
        finally:
            del self._answered[key]
        cache = self._zeroconf.zeroconf.cache
        records = [*cache.async_entries_with_name(name)]
        if (pointer := cache.current_entry_with_name_and_alias(self._type, name)) is not None:
            records.append(pointer)
        cache.async_remove_records(records)  # so that its next announcement is a new one
        self._remove(key)

    def _ask_for_port(self, name: str) -> None:
        query = DNSOutgoing(_QUERY)
        query.add_question(DNSQuestion(name, _SRV, _IN))
        self._zeroconf.zeroconf.async_send(query)

    def _remove_flushed_addresses(self, name: str) -> None:
        """Remove addresses of which new ones took the place more than a second ago (RFC 6762, 10.2).

        zeroconf gives them another second to live with every announcement that is repeated.
        """
        info, cache = self._info(name), self._zeroconf.zeroconf.cache
        assert info is not None
        self._load(info)
        records = [
            record
            for kind in (_A, _AAAA)
            for record in cache.get_all_by_details(info.server or "", kind, _IN)
        ]
        flushed = [record for record in records if record.ttl <= 1]
        if len(flushed) < len(records):
            cache.async_remove_records(flushed)

    def _mark_changed(self, key: str) -> None:
        self._changed[key] = None
        self._wake()

    def _info(self, name: str) -> AsyncServiceInfo | None:
        # The type as it was asked for: zeroconf insists on its case here, though names have none.
        instance = instance_of(name, self._type)
        try:
            return AsyncServiceInfo(self._type, f"{instance}.{self._type}")
        except zc.Error:
            return None


class _EndpointListener(RecordUpdateListener):
    """Reports the names whose ports were announced, once the cache has what was announced."""

    def __init__(self, on_endpoint: Callable[[set[str]], None]) -> None:
        super().__init__()
        self._on_endpoint = on_endpoint
        self._names: set[str] = set()

    def async_update_records(self, zc: zc.Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        # A time to live of 0 is a goodbye (RFC 6762, 10.1).
        self._names.update(each.new.name for each in records if each.new.type == _SRV and each.new.ttl)

    def async_update_records_complete(self) -> None:
        names, self._names = self._names, set()
        self._on_endpoint(names)


# -- resolving ----------------------------------------------------------------------------------


async def resolve_local(host: str, *, timeout: float = 3.0) -> list[str]:
    """Return the addresses of a host such as ``phone.local``; none if it does not answer in time.

    They are in the order of `MdnsService.addresses`.

    Raises:
        ConnectionError: mDNS cannot be opened.
    """
    try:
        resolver = AddressResolver(f"{host.rstrip('.')}.")
    except zc.Error:  # not a valid DNS name
        return []
    async with open_zeroconf(interfaces=ALL_INTERFACES) as sockets:
        await resolver.async_request(sockets.zeroconf, timeout * 1000, _MULTICAST_QUESTION)
    return list(reachable_addresses(resolver.parsed_scoped_addresses()))


# -- announcing ---------------------------------------------------------------------------------


class Announcement:
    """A service of this computer while it is announced; made by `announce`."""

    def __init__(self, zeroconf: AsyncZeroconf, info: ServiceInfo, timeout: float, scope: TaskScope) -> None:
        self._zeroconf = zeroconf
        self._info = info
        self._timeout = timeout
        self._scope = scope
        self._repeating: asyncio.Task[None] | None = None
        self._announced_at = asyncio.get_running_loop().time()
        self._addresses_given = False

    @property
    def service(self) -> MdnsService:
        """The service as it is announced now."""
        service = service_of(self._info, ours=True)
        assert service is not None  # port and addresses were checked
        return service

    async def move(self, addresses: Sequence[str] | None = None, *, port: int | None = None) -> None:
        """Announce other addresses or another port; takes half a second, or two soon after the last time.

        Raises:
            UsageError: An address or the port is invalid.
            TimeoutError: It took longer than the announcement's ``timeout``.
        """
        new_port = self._info.port if port is None else port
        _check_endpoint(addresses, new_port)
        self._addresses_given = self._addresses_given or addresses is not None
        await self._move(addresses, new_port)

    async def _move(self, addresses: Sequence[str] | None, new_port: int | None) -> None:
        packed = None if addresses is None else [parse_ip(address).packed for address in addresses]
        loop = asyncio.get_running_loop()
        # RFC 6762, 10.2: a listener drops the old addresses only if they are older than a second.
        await asyncio.sleep(max(0.0, self._announced_at + _FLUSHABLE_AFTER - loop.time()))
        self._announced_at = loop.time()
        # Queries are answered from it meanwhile: it must not name a new address with the old port.
        if packed is not None:
            self._info.addresses = packed
        self._info.port = new_port
        if self._repeating is not None:
            self._repeating.cancel()
        async with deadline(self._timeout, f"mDNS announcement of {self._info.name}"):
            await self._announce()
        self._repeating = self._scope.spawn(self._repeat(), name="repeat")

    async def _announce(self) -> None:
        await (await self._zeroconf.async_update_service(self._info))
        self._announced_at = asyncio.get_running_loop().time()

    async def _repeat(self) -> None:
        await asyncio.sleep(_REPEAT_AFTER)
        await self._announce()

    async def follow(self, addresses: Sequence[str]) -> None:
        """Announce the present addresses of this computer, unless `move` gave others; errors as of `move`."""
        packed = {parse_ip(address).packed for address in addresses}
        if (
            addresses
            and not self._addresses_given
            and packed != set(self._info.addresses_by_version(IPVersion.All))
        ):
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

    The block begins once the name was found free and announced, about a second later. Two services that
    take one name within the same second may both have it.

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
        BusyError: Another service on this network has that name already.
        ConnectionError: mDNS cannot be opened, see `open_zeroconf`.
        TimeoutError: The announcement took longer than ``timeout``.
    """
    check_service_type(service_type)
    _check_endpoint(addresses, port)
    known = local_addresses()
    given = announceable_addresses(interfaces) if addresses is None else list(addresses)
    try:
        info = ServiceInfo(
            service_type,
            f"{instance}.{service_type}",
            port,
            properties=dict(properties or {}),
            addresses=[parse_ip(address).packed for address in given],
        )
    except (zc.Error, ValueError) as error:
        raise UsageError(f"{instance!r} cannot be announced: {error}") from error
    async with open_zeroconf(zeroconf, interfaces=interfaces) as sockets:
        try:
            await _register(sockets, info, timeout)
            async with TaskScope(f"announcement of {info.name}") as scope:
                announcement = Announcement(sockets, info, timeout, scope)

                async def changed() -> None:
                    await announcement.follow(await asyncio.to_thread(announceable_addresses, interfaces))

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
                # RFC 6762, 10.1: a name is remembered for a second after its goodbye, and longer if an answer
                # follows the goodbye, so a device that is restarted at once conflicts with itself. The memory
                # is dropped; a service that really has the name answers the second time too.
                await asyncio.sleep(_GOODBYE_TTL)
                _forget_goodbye(sockets, info)
                await _try_to_register(sockets, info)
    except (zc.NonUniqueNameException, zc.ServiceNameAlreadyRegistered):
        raise BusyError(f"another service on this network is already called {info.name}") from None
    except zc.NotRunningException:
        raise StateError("the mDNS sockets are closed") from None
    except zc.Error as error:
        raise UsageError(f"{info.name!r} cannot be announced: {error}") from error


async def _try_to_register(sockets: AsyncZeroconf, info: ServiceInfo) -> None:
    # zeroconf's own query, whether the name is taken, asks for answers by unicast, and those reach only one
    # of the processes of a computer that share the port. This browser asks for multicast ones as well.
    browser = AsyncServiceBrowser(
        sockets.zeroconf, info.type, handlers=[lambda **_: None], question_type=_MULTICAST_QUESTION
    )
    try:
        await (await sockets.async_register_service(info))
    finally:
        await browser.async_cancel()


def _forget_goodbye(sockets: AsyncZeroconf, info: ServiceInfo) -> None:
    cache = sockets.zeroconf.cache
    remembered = cache.current_entry_with_name_and_alias(info.type, info.name)
    if remembered is not None:
        cache.async_remove_records([remembered])


async def _withdraw(sockets: AsyncZeroconf, info: ServiceInfo, timeout: float) -> None:
    # After a conflict the name in the registry is that of another service.
    if sockets.zeroconf.done or sockets.zeroconf.registry.async_get_info_name(info.key) is not info:
        return
    async with deadline(timeout, f"mDNS goodbye of {info.name}"):
        await (await sockets.async_unregister_service(info))
        # zeroconf sends one packet three times, and a listener passes over the second and third, even if an
        # answer was received between that had been prepared before. This one is another packet.
        zeroconf = sockets.zeroconf
        zeroconf.async_send(zeroconf.generate_service_broadcast(info, 0, broadcast_addresses=False))


def _check_endpoint(addresses: Sequence[str] | None, port: int | None) -> None:
    if port is None or not 1 <= port <= 65535:
        raise UsageError(f"{port!r} is not a port to announce")
    if addresses is None:
        return
    if isinstance(addresses, str) or not addresses:
        raise UsageError("addresses is a list of at least one IP address")
    for address in addresses:
        if not is_usable(address):
            raise UsageError(f"{address} cannot be announced")
