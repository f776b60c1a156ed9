"""Settings of a Session, and what its cameras share: HTTP session, mDNS sockets, clients, time server."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar
from urllib.parse import urlsplit

from asynccam.errors import UsageError
from asynccam.model.credentials import Credentials
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.systems import ConnectContext
from asynccam.take import TimeServer

# Imported where they are first needed: they take longer to import than everything else.
if TYPE_CHECKING:
    from aiohttp import ClientSession
    from zeroconf.asyncio import AsyncZeroconf

    from asynccam.model.info import ClockOffset
    from asynccam.net.clock import SntpServer
    from asynccam.net.mdns import Interfaces

T = TypeVar("T")

_NTP_PORT: Final = 123


class SessionSettings(TypedDict, total=False):
    """Arguments of `Session`, for `Session.open` to pass on."""

    http: "ClientSession | None"
    zeroconf: "AsyncZeroconf | None"
    interfaces: "Interfaces | None"
    ntp_server: str | None
    fail_fast: bool
    shutdown_timeout: float
    poll_interval: float | None
    backoff: Backoff | None


class SharedResources:
    """Resources made at their first use, and closed only if they were made here.

    ``http`` and ``zeroconf`` are used instead of own ones, and stay the caller's. ``interfaces`` are those of
    own mDNS sockets; None for all.
    """

    def __init__(
        self, http: "ClientSession | None", zeroconf: "AsyncZeroconf | None", interfaces: "Interfaces | None"
    ) -> None:
        self._http = http
        self._zeroconf = zeroconf
        self._interfaces = interfaces
        self._own_http: ClientSession | None = None
        self._own_mdns = AsyncExitStack()
        self._shared: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._entered: dict[str, AbstractAsyncContextManager[Any]] = {}
        self._warned: set[Hashable] = set()

    def is_first_warning(self, key: Hashable) -> bool:
        """Return whether a warning has not been given before, and note it as given."""
        first = key not in self._warned
        self._warned.add(key)
        return first

    async def share(self, key: Hashable, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the object of this key, made and entered at its first use."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._shared:
                manager = make()
                self._shared[key] = await manager.__aenter__()
                self._entered[f"service {len(self._shared)}"] = manager
            found: T = self._shared[key]
            return found

    def http(self) -> "ClientSession":
        """Return the HTTP session."""
        if self._http is None:
            from asynccam.net.http import new_session

            self._http = self._own_http = new_session()
        return self._http

    async def mdns(self) -> "AsyncZeroconf":
        """Return the mDNS sockets, or raise `ConnectionError`. Must not be called twice at the same time."""
        if self._zeroconf is None:
            from zeroconf import InterfaceChoice

            from asynccam.net.mdns import open_zeroconf

            interfaces = InterfaceChoice.All if self._interfaces is None else self._interfaces
            self._zeroconf = await self._own_mdns.enter_async_context(open_zeroconf(interfaces=interfaces))
        return self._zeroconf

    def close_shared(self) -> dict[str, Coroutine[Any, Any, object]]:
        """Return what closes each shared object; they may run side by side."""
        entered, self._entered = self._entered, {}
        self._shared.clear()
        return {name: manager.__aexit__(None, None, None) for name, manager in entered.items()}

    async def close_http(self) -> None:
        """Close the HTTP session, if it was made here."""
        if self._own_http is not None:
            await self._own_http.close()

    async def close_mdns(self) -> None:
        """Close the mDNS sockets, if they were opened here."""
        await self._own_mdns.aclose()


class SessionContext(ConnectContext):
    """Context that lends an adapter the resources of a session."""

    def __init__(
        self, credentials: Credentials, events: EventHub, resources: SharedResources, http_port: int | None
    ) -> None:
        super().__init__(credentials, events, http_port)
        self._resources = resources

    @property
    def http(self) -> "ClientSession":
        """HTTP session that all cameras of the session share."""
        return self._resources.http()

    async def share(self, key: Hashable, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the session's object of this key, made and entered at its first use."""
        return await self._resources.share(key, make)

    def is_first_warning(self, key: Hashable) -> bool:
        """Return whether the session has not given this warning yet, and note it as given."""
        return self._resources.is_first_warning(key)


def time_server(name: str) -> TimeServer:
    """Return the NTP server ``HOST[:PORT]`` as the reference of a take, or raise `UsageError`."""
    try:
        parts = urlsplit(f"//{name}")
        host, port = parts.hostname, parts.port or _NTP_PORT
        valid = not (parts.path or parts.username)
    except ValueError:
        host, port, valid = None, 0, False
    if not host or not valid:
        raise UsageError(f"{name!r} is not a time server; write HOST[:PORT]")

    server: SntpServer | None = None

    async def query() -> "ClockOffset":
        nonlocal server
        if server is None:
            from asynccam.net.clock import SntpServer

            server = SntpServer(host, port)
        return await server.query()

    return TimeServer(f"{host}:{port}", query)
