"""SRT ports: the client chooses one for each stream; two streams must not share one."""

import errno
import random
import socket
from collections.abc import Callable, Iterable
from typing import Final

from asynccam.errors import BusyError, UsageError

DEFAULT_PORTS: Final = range(9001, 9100)


class PortPool:
    """Ports for streams, each taken once until it is released.

    Clients of one server should share a pool. A pool begins at a random port (``rng`` returns 0 to 1),
    since different programs cannot share one.
    """

    def __init__(
        self, ports: Iterable[int] = DEFAULT_PORTS, *, rng: Callable[[], float] = random.random
    ) -> None:
        self._ports = tuple(ports)
        if not self._ports or not all(1 <= port <= 65535 for port in self._ports):
            raise UsageError("ports must be UDP ports from 1 to 65535, at least one")
        self._next = int(rng() * len(self._ports))
        self._used: set[int] = set()

    @property
    def used(self) -> frozenset[int]:
        """Return the ports that are taken."""
        return frozenset(self._used)

    def take(self) -> int:
        """Take a port that no stream of the pool uses and no program of this computer is bound to.

        Raises:
            BusyError: All ports are in use.
        """
        for step in range(len(self._ports)):
            index = (self._next + step) % len(self._ports)
            port = self._ports[index]
            if port not in self._used and is_free(port):
                self._used.add(port)
                self._next = (index + 1) % len(self._ports)
                return port
        raise BusyError(f"all {len(self._ports)} SRT ports are in use")

    def release(self, port: int) -> None:
        """Release a port; harmless if it was not taken."""
        self._used.discard(port)


def is_free(port: int) -> bool:
    """Return whether no program of this computer is bound to a UDP port: the server may run here too."""
    return all(_bindable(family, port) for family in (socket.AF_INET, socket.AF_INET6))


def _bindable(family: socket.AddressFamily, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            if family == socket.AF_INET6:
                # RFC 3493 5.3: otherwise it takes the port for IPv4 too, and fails if only that is in use.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("", port))
    except OSError as error:
        # A computer without that version of IP has no socket bound there.
        return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
    return True
