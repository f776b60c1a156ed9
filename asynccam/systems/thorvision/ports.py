"""SRT ports: the client chooses one for each stream, and two streams must not share it."""

import errno
import random
import socket
from collections.abc import Callable, Iterable
from typing import Final

from asynccam.errors import BusyError, UsageError

DEFAULT_PORTS: Final = range(9001, 9100)


class PortPool:
    """Ports for streams, each given out once until it is released.

    Clients of one server should share a pool: what one of them uses, the others then pass over. A
    pool begins at a random place, since programs that know nothing of each other cannot share one.

    Args:
        ports: Which ones.
        rng: Randomness, for tests.
    """

    def __init__(
        self, ports: Iterable[int] = DEFAULT_PORTS, *, rng: Callable[[], float] = random.random
    ) -> None:
        self._ports = tuple(ports)
        if not self._ports or not all(1 <= port <= 65535 for port in self._ports):
            raise UsageError("a pool needs UDP ports, each from 1 to 65535")
        self._next = int(rng() * len(self._ports))
        self._used: set[int] = set()

    @property
    def used(self) -> frozenset[int]:
        """Ports that are given out."""
        return frozenset(self._used)

    def take(self) -> int:
        """A port that no stream uses and that no program of this computer is bound to.

        Raises:
            BusyError: There is none.
        """
        for step in range(len(self._ports)):
            place = (self._next + step) % len(self._ports)
            port = self._ports[place]
            if port not in self._used and is_free(port):
                self._used.add(port)
                self._next = (place + 1) % len(self._ports)
                return port
        raise BusyError(f"all {len(self._ports)} SRT ports are in use")

    def release(self, port: int) -> None:
        """Take a port back; harmless when it was not given out."""
        self._used.discard(port)


def is_free(port: int) -> bool:
    """Whether nobody on this computer is bound to a UDP port: the server may run here too."""
    return all(_bindable(family, port) for family in (socket.AF_INET, socket.AF_INET6))


def _bindable(family: socket.AddressFamily, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("", port))
    except OSError as error:
        # On a computer without that version of IP nobody is bound there.
        return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
    return True
