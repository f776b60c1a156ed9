"""UDP ports that streams of several cameras come to, each to its own."""

import asyncio
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from asynccam.errors import ConnectionError
from asynccam.runtime.disk import on_disk
from asynccam.systems.nanocam.server_options import MEDIA_PORT

_LOOK: Final = 0.02
_TABLES: Final = (Path("/proc/net/udp"), Path("/proc/net/udp6"))


class HeldPort:
    """A UDP port that nobody else takes while a recorder that shares addresses listens at it.

    Attributes:
        port: Its number.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(("", port))  # alone: refused where anybody else listens
            self.port: int = self._socket.getsockname()[1]
            # From now on a recorder may join, and gets every packet: what is connected hears its peer only.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.connect(("127.0.0.1", self.port))
        except BaseException:
            self._socket.close()
            raise

    async def joined(self, timeout: float) -> bool:
        """Wait until another socket listens at the port; False if the system does not tell, or none does."""
        if sys.platform != "linux":
            return False
        for _ in range(round(timeout / _LOOK)):  # the system has no event for this
            if await on_disk(_sockets_at, self.port) > 1:
                return True
            await asyncio.sleep(_LOOK)
        return False

    def release(self) -> None:
        """Let others have it; harmless when called twice."""
        self._socket.close()


class MediaPorts:
    """Hands out UDP ports: the maker's, 5004, while it is free, and then whatever else is.

    Args:
        preferred: The port to hand out first, which servers of the maker send to.
    """

    def __init__(self, preferred: int = MEDIA_PORT) -> None:
        self.preferred = preferred

    def hold(self) -> HeldPort:
        """A port that is free.

        Raises:
            ConnectionError: There is none.
        """
        try:
            return HeldPort(self.preferred)
        except OSError:
            pass
        try:
            return HeldPort(0)
        except OSError as error:
            raise ConnectionError(f"no UDP port is free for a stream: {error.strerror or error}") from error


def _sockets_at(port: int) -> int:
    count = 0
    for table in _TABLES:
        with suppress(FileNotFoundError):  # a system without IPv6
            lines = table.read_text(encoding="ascii").splitlines()[1:]
            count += sum(line.split()[1].endswith(f":{port:04X}") for line in lines)
    return count
