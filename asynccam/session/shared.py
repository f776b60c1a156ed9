"""What the cameras of a Session share: an HTTP session, mDNS sockets, a time server."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from asynccam.errors import UsageError
from asynccam.model.credentials import Credentials
from asynccam.runtime.hub import EventHub
from asynccam.systems._base import ConnectContext
from asynccam.take import TimeServer

# At run time these are imported where they are first needed: they take longer to import than all the rest.
if TYPE_CHECKING:
    from aiohttp import ClientSession
    from zeroconf.asyncio import AsyncZeroconf

    from asynccam.model.info import ClockOffset
    from asynccam.net.clock import SntpServer
    from asynccam.net.mdns import Interfaces

T = TypeVar("T")

_NTP_PORT: Final = 123


class SharedResources:
    """Makes each thing at its first use, and closes what it made but never what it was given.

    Args:
        http: HTTP session to use instead of an own one.
        zeroconf: mDNS sockets to use instead of own ones.
        interfaces: Where own mDNS sockets listen and speak; None for all.
    """

    def __init__(
        self, http: "ClientSession | None", zeroconf: "AsyncZeroconf | None", interfaces: "Interfaces | None"
    ) -> None:
        self._http = http
        self._zeroconf = zeroconf
        self._interfaces = interfaces
        self._own_http: ClientSession | None = None
        self._own_mdns = AsyncExitStack()
        self._services: dict[Hashable, Any] = {}
        self._opening: dict[Hashable, asyncio.Lock] = {}
        self._own_services: dict[str, AbstractAsyncContextManager[Any]] = {}
        self._warned: set[Hashable] = set()

    def is_first_warning(self, key: Hashable) -> bool:
        """Return whether a warning has not been given before, and note it as given."""
        fresh = key not in self._warned
        self._warned.add(key)
        return fresh

    async def service(self, key: Hashable, client: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """The one client of a service that several cameras share, opened at its first use.

        Args:
            key: Names the service, and whom it is used as.
            client: Makes the client; it is entered here and left with everything else.
        """
        async with self._opening.setdefault(key, asyncio.Lock()):
            if key not in self._services:
                opened = client()
                self._services[key] = await opened.__aenter__()
                self._own_services[f"service {len(self._services)}"] = opened
            found: T = self._services[key]
            return found

    def http(self) -> "ClientSession":
        """The HTTP session."""
        if self._http is None:
            from asynccam.net.http import new_session

            self._http = self._own_http = new_session()
        return self._http

    async def mdns(self) -> "AsyncZeroconf":
        """The mDNS sockets; not to be called twice at the same time.

        Raises:
            ConnectionError: They cannot be opened.
        """
        if self._zeroconf is None:
            from zeroconf import InterfaceChoice

            from asynccam.net.mdns import open_zeroconf

            interfaces = InterfaceChoice.All if self._interfaces is None else self._interfaces
            self._zeroconf = await self._own_mdns.enter_async_context(open_zeroconf(interfaces=interfaces))
        return self._zeroconf

    def close_services(self) -> dict[str, Coroutine[Any, Any, object]]:
        """What closes each client of a service; they may run side by side."""
        opened, self._own_services = self._own_services, {}
        self._services.clear()
        return {name: _left(client) for name, client in opened.items()}

    async def close_http(self) -> None:
        """Close the HTTP session, if it was made here."""
        if self._own_http is not None:
            await self._own_http.close()

    async def close_mdns(self) -> None:
        """Close the mDNS sockets, if they were opened here."""
        await self._own_mdns.aclose()


async def _left(client: AbstractAsyncContextManager[Any]) -> None:
    await client.__aexit__(None, None, None)


class SessionContext(ConnectContext):
    """Context that lends an adapter what the session's cameras share."""

    def __init__(
        self, credentials: Credentials, events: EventHub, shared: SharedResources, http_port: int | None
    ) -> None:
        super().__init__(credentials, events, http_port)
        self._shared = shared

    @property
    def http(self) -> "ClientSession":
        """HTTP session that all cameras of the session share."""
        return self._shared.http()

    async def share(self, key: Hashable, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the session's object of this key."""
        return await self._shared.service(key, make)

    def is_first_warning(self, key: Hashable) -> bool:
        """Return whether the session has not given this warning yet."""
        return self._shared.is_first_warning(key)


def time_server(name: str) -> TimeServer:
    """An NTP server named ``HOST[:PORT]`` as the reference of a take.

    Raises:
        UsageError: It is not such a name.
    """
    try:
        parts = urlsplit(f"//{name}")
        host, port = parts.hostname, parts.port or _NTP_PORT
    except ValueError:
        host, port = None, 0
    if not host or parts.path or parts.username:
        raise UsageError(f"{name!r} is no time server; write HOST[:PORT]")

    server: SntpServer | None = None

    async def query() -> "ClockOffset":
        nonlocal server
        if server is None:
            from asynccam.net.clock import SntpServer

            server = SntpServer(host, port)
        return await server.query()

    return TimeServer(f"{host}:{port}", query)
