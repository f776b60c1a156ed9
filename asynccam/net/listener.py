"""A listening TCP port that hands out bare sockets, and survives a lack of file descriptors."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from asynccam.errors import ConnectionError

_LOG = logging.getLogger(__name__)
_BACKLOG: Final = 512
_ACCEPT_PAUSE: Final = 0.5
"""Seconds to wait when the process has run out of file descriptors."""

OnConnection = Callable[[socket.socket, str, int], None]
"""Called with a connected, non-blocking socket, which it must close, and the peer's address and port."""


class Listener:
    """Listens at every address of a host name, or of this computer if it is ``""``.

    Port 0 takes a free one, the same for every address. ``on_connection`` must not block.
    """

    def __init__(self, host: str, port: int, on_connection: OnConnection) -> None:
        self._host = host
        self._port = port
        self._on_connection = on_connection
        self._sockets: list[socket.socket] = []
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}

    @property
    def port(self) -> int:
        """TCP port it listens at; the given one before it is open."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else self._port

    @property
    def addresses(self) -> list[str]:
        """IP addresses it listens at; none before it is open."""
        return [str(listener.getsockname()[0]) for listener in self._sockets]

    async def open(self) -> None:
        """Listen; raise `ConnectionError` if the address is not available, and leave nothing open."""
        try:
            await self._listen()
        except OSError as error:
            self._close_sockets()
            raise ConnectionError(f"cannot listen at {self._host or '*'}:{self._port}: {error}") from error
        except BaseException:
            self._close_sockets()
            raise
        for listener in self._sockets:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Stop listening; harmless when called twice."""
        loop = asyncio.get_running_loop()
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        for listener in self._sockets:
            loop.remove_reader(listener)
        self._close_sockets()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        port = self._port
        found = await loop.getaddrinfo(
            self._host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            self._sockets.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port, *address[2:]))
            listener.listen(_BACKLOG)
            port = listener.getsockname()[1]  # if it was 0, the other addresses follow the first

    def _close_sockets(self) -> None:
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        """Accept one connection a turn of the loop."""
        # Not by `loop.sock_accept`: a task that is cancelled when it has just accepted loses the socket.
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            _LOG.warning("cannot accept a connection: %s", error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            self._pauses[listener] = loop.call_later(
                _ACCEPT_PAUSE, loop.add_reader, listener, self._accept, listener
            )
            return
        sock.setblocking(False)
        self._on_connection(sock, address[0], address[1])
