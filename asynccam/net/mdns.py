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
from asynccam.net.mdns_announce import Announcement, announce
from asynccam.net.mdns_service import MdnsService, check_service_type, instance_of, service_of
from asynccam.net.mdns_sockets import Interfaces, follow_interfaces, local_addresses, open_zeroconf
from asynccam.runtime.backoff import Backoff
from asynccam.runtime.tasks import TaskScope, finish

__all__ = [
    "Announcement",
    "Interfaces",
    "MdnsService",
    "ServiceBrowser",
    "ServiceChanged",
    "ServiceEvent",
    "ServiceFound",
    "ServiceLost",
    "announce",
    "browse",
    "open_zeroconf",
]

_LOG = logging.getLogger(__name__)

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
