"""MediaServer: pictures and video of this computer's camera for clients on the network.

See docs/protocols/nanocam.md for the wire, and docs/nanocam.md for running it.
"""

import asyncio
import contextlib
import logging
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from asynccam.errors import StateError, UsageError
from asynccam.net.listener import Listener
from asynccam.runtime.tasks import TaskScope, finish, finish_on_error
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.server.camera import ServerCamera
from asynccam.systems.nanocam.server.connection import ServerConnection
from asynccam.systems.nanocam.server.options import MEDIA_PORT, MESSAGE_PORT, ServerLimits, ServerPolicy

_LOG = logging.getLogger(__name__)
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A client whose computer has gone down is detected within half a minute."""


class MediaServer:
    """Serves a camera to the maker's clients and asynccam's; `start` it, or use it as a context manager.

    One capture has the camera at a time. On leaving, a running capture is ended, and the files that were
    made for clients are removed, unless ``media_path`` keeps them.

    Args:
        port: TCP port of the messages; 0 for a free one, see `port`.
        host: Address to listen on; ``""`` for all.
        camera: Camera; by default one with the default settings. Off a Jetson that is a test picture.
        media_port: UDP port that media go to, at the client's address.
        media_path: Directory for captured files; None to remove them once they are sent.
        policy: Whom it serves, and in which order.
        limits: Limits and timeouts.

    Raises:
        UsageError: A port is not valid.
    """

    def __init__(
        self,
        port: int = MESSAGE_PORT,
        *,
        host: str = "",
        camera: CSIcamera | None = None,
        media_port: int = MEDIA_PORT,
        media_path: str | Path | None = None,
        policy: ServerPolicy | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        if not (0 <= port <= 65535 and 1 <= media_port <= 65535):
            raise UsageError(f"ports must be 0 to 65535 and 1 to 65535, not {port} and {media_port}")
        self._limits = limits or ServerLimits()
        self._policy = policy or ServerPolicy()
        self._media_port = media_port
        self._camera = ServerCamera(
            camera or CSIcamera(), None if media_path is None else Path(media_path), self._limits
        )
        self._listener = Listener(host, port, self._admit)
        self._serving = TaskScope("media server")
        self._connections: dict[asyncio.Task[None], ServerConnection] = {}
        self._stack = AsyncExitStack()
        self._closing = asyncio.Lock()
        self._started = False

    @property
    def port(self) -> int:
        """Return the TCP port."""
        return self._listener.port

    @property
    def connections(self) -> int:
        """Return the number of connected clients."""
        return len(self._connections)

    @property
    def capturing(self) -> str | None:
        """Return the kind of capture that has the camera, ``image``, ``video`` or ``udp``, or None."""
        job = self._camera.queue.job
        return None if job is None else job.kind

    @property
    def waiting(self) -> int:
        """Return the number of requests that wait for the camera."""
        return self._camera.queue.waiting

    @property
    def stand_in(self) -> str | None:
        """Return what replaces the camera where there is none, in words, or None; known once started."""
        return self._camera.csi.stand_in

    async def start(self) -> None:
        """Listen, and serve until `aclose`; returns when clients can connect.

        Raises:
            ConnectionError: Cannot listen on the address.
            RecordingError: GStreamer is not installed.
            StorageError: ``media_path`` cannot be written.
            StateError: It was started before.
        """
        if self._started:
            raise StateError("this media server was started before")
        self._started = True
        async with finish_on_error(self.aclose):
            self._stack.push_async_callback(self._serving.aclose, timeout=self._limits.shutdown_timeout)
            self._stack.callback(self._listener.close)
            await self._camera.prepare()
            await self._listener.open()

    async def aclose(self) -> None:
        """End the capture, disconnect every client and stop; harmless when called twice.

        A cancellation does not cut it short.

        Raises:
            TimeoutError: The capture did not end within ``limits.shutdown_timeout``.
        """
        await finish(self._close())

    async def __aenter__(self) -> "MediaServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _close(self) -> None:
        async with self._closing:  # a second call waits for the end of the first
            await self._stack.aclose()

    def _admit(self, sock: socket.socket, address: str, port: int) -> None:
        from_address = sum(client.address == address for client in self._connections.values())
        if from_address >= self._limits.per_address or not self._make_room():
            _LOG.warning("%s is rejected: %d clients are connected", address, len(self._connections))
            sock.close()
            return
        _set_options(sock)
        connection = ServerConnection(
            sock, address, self._camera, media_port=self._media_port, policy=self._policy
        )
        task = self._serving.spawn(connection.run(), name=connection.peer)
        self._connections[task] = connection
        task.add_done_callback(lambda task: self._connections.pop(task, None))
        # Not in the task itself, which may be cancelled before its first step.
        task.add_done_callback(lambda _: sock.close())

    def _make_room(self) -> bool:
        """Disconnect the client that has been idle for longest if the server is full; False if none is."""
        if len(self._connections) < self._limits.connections:
            return True
        idle = [
            (client.idle_since, task)
            for task, client in self._connections.items()
            if client.idle_since is not None
        ]
        if not idle:
            return False
        _, oldest = min(idle, key=lambda entry: entry[0])
        oldest.cancel()
        del self._connections[oldest]
        return True


def _set_options(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
