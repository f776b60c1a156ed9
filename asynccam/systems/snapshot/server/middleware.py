"""The door: how many connections there may be, and how long one may say nothing.

Beyond the limit one that waits between requests makes room, or one that has been slow to bring its first: so
a crowd that says nothing keeps nobody out. Where there is none the new one is told 503 and closed,
which costs next to nothing however many come.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from aiohttp import web

from asynccam.runtime.tasks import TaskScope

SILENCE: Final = 30.0
"""Seconds within which a new connection has to bring a whole request head."""
_HURRY: Final = 1 / 6
"""Of the silence: after so much of it without a first request a connection makes room where there is none."""
_TOLD: Final = 64
"""Refused connections that are given the time to read why; more are closed at once."""
_TOLD_SECONDS: Final = 1.0
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 37\r\n\r\n"
    b"Too many connections; try again soon."
)


class Door:
    """Makes the protocol of each new connection.

    Args:
        make: Makes aiohttp's protocol.
        limit: Connections at once.
        silence: Seconds a connection may be without a request.

    Attributes:
        refused: Connections turned away because there were too many.
        dropped: Connections closed because they said nothing, or to make room.
    """

    def __init__(
        self, make: Callable[[], web.RequestHandler], *, limit: int, silence: float = SILENCE
    ) -> None:
        self._make = make
        self._limit = limit
        self._silence = silence
        self._open: dict[Connection, None] = {}
        self._told: set[_Refusing] = set()
        self._scope = TaskScope("snapshot-door")
        self.refused = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Connections that are open."""
        return len(self._open)

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        if len(self._open) >= self._limit and not self._make_room():
            self.refused += 1
            return _Refusing(self._told)
        return Connection(self._make(), self)

    def open(self) -> None:
        """Begin to look after connections."""
        self._scope.spawn(self._look_after(), name="look after")

    async def aclose(self) -> None:
        """Stop looking after them."""
        await self._scope.aclose()
        for refusing in tuple(self._told):
            refusing.end()

    def entered(self, connection: "Connection") -> None:
        """Count a connection in."""
        self._open[connection] = None

    def left(self, connection: "Connection") -> None:
        """Count a connection out."""
        self._open.pop(connection, None)

    def _make_room(self) -> bool:
        # Insertion order is the order of arrival, so the first idle one has waited about longest.
        now = asyncio.get_running_loop().time()
        for connection in self._open:
            since, patience = connection.idle_since, 0.0 if connection.served else self._silence * _HURRY
            if since is not None and since <= now - patience:
                self._drop(connection)
                return True
        return False

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._silence / 6)
            until = loop.time() - self._silence
            for connection in tuple(self._open):
                if connection.idle_since is not None and connection.idle_since < until:
                    self._drop(connection)

    def _drop(self, connection: "Connection") -> None:
        self.dropped += 1
        self.left(connection)
        connection.drop()


class Connection(asyncio.Protocol):
    """aiohttp's protocol, with a note of whether a request is being answered.

    Attributes:
        idle_since: When it began to wait for a request, in the loop's time; None during one.
        served: Whether it has brought a request yet.
    """

    def __init__(self, inner: web.RequestHandler, door: Door) -> None:
        self._inner = inner
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.idle_since: float | None = self._loop.time()
        self.served = False

    def begin(self) -> None:
        """A request is being answered."""
        self.idle_since = None
        self.served = True

    def end(self, sending: float = 0.0) -> None:
        """The request has been answered, but for what takes up to ``sending`` seconds to send."""
        self.idle_since = self._loop.time() + sending

    def drop(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._door.entered(self)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See `asyncio.Protocol`."""
        self._door.left(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._inner.data_received(data)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.resume_writing()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.eof_received()


class _Refusing(asyncio.Protocol):
    """Tells a connection that it is one too many, and waits a moment for it to read that.

    Closed with a request unread, it would be told by a reset instead, which takes the answer along.
    """

    def __init__(self, told: "set[_Refusing]") -> None:
        self._told = told
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_FULL)
        if len(self._told) >= _TOLD:
            self._transport.close()
            return
        self._told.add(self)
        self._transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(_TOLD_SECONDS, self.end)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._told.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def end(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.abort()
