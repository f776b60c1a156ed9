"""MultiCam device server: makes any Linux machine a device for the vendors' controllers.

See docs/protocols/multicam.md for the protocol and docs/multicam-device.md for running it.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import aiohttp
from zeroconf import InterfaceChoice
from zeroconf.asyncio import AsyncZeroconf

from asynccam.errors import UsageError
from asynccam.net.listener import Listener
from asynccam.net.mdns import Interfaces, announce
from asynccam.recording.sources import TestPattern
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock
from asynccam.systems.multicam.device.commands import (
    DeviceCommands,
    DeviceFaults,
    ResponseBuilder,
    SkewedClock,
)
from asynccam.systems.multicam.device.connection import DeviceConnection, DeviceLimits
from asynccam.systems.multicam.device.recording import (
    GstRecorder,
    OffsetProvider,
    RecorderHook,
    RecordingControl,
    RecordingPhase,
)
from asynccam.systems.multicam.device.storage import Storage
from asynccam.systems.multicam.device.upload import UploadHosts, UploadQueue
from asynccam.systems.multicam.models import SERVICE_TYPE, TCP_PORT

_LOG = logging.getLogger(__name__)
_MAX_ID_LENGTH: Final = 54
"""Bytes: ``multiCam-`` and the id are one DNS label of at most 63."""


class MultiCamDevice:
    """A MultiCam device with a disk, a recorder and a port; use it as an async context manager.

    On leaving, a running recording is finished (within ``limits.shutdown_timeout``), a scheduled one is
    cancelled, uploads are aborted and all sockets closed. The next device with the directory serves its
    recordings again.

    Args:
        directory: Directory of the recordings; created if missing.
        recorder: Records; by default a moving test picture with the device's id.
        host: Address to listen at; ``""`` for all.
        port: TCP port; 0 takes a free one, see `port`.
        device_id: At most 54 bytes of UTF-8; the host's name if empty.
        device_type: Kind of device, reported in dialect 2.
        dialect: Dialect of the replies, 1 or 2.
        clock_offset: Returns reference time minus this computer's clock in seconds, which times scheduled
            starts; None while unknown. By default the computer's clock is right.
        require_sync: Refuse starts while the offset is unknown, and those long past.
        delete_after_download: Delete a recording once a controller has received all of it and closed.
        announce: Announce the device by mDNS, which takes about a second.
        zeroconf: Caller-owned mDNS sockets to use instead of new ones.
        interfaces: Network interfaces for new mDNS sockets.
        http: Caller-owned session for uploads; by default a new one.
        s3_endpoint: A server that replaces Amazon's in uploads with IAM fields; uploads to it are allowed.
        upload_to: Hosts that uploads are allowed to, ``HOST`` or ``HOST:PORT``; by default none, and
            UPLOAD_TO_CLOUD is refused.
        limits: Numbers and deadlines.
        faults: Faults to show.
        clock: For tests.

    Raises:
        UsageError: The dialect is neither 1 nor 2, the id does not fit into a DNS label, or an entry of
            ``upload_to`` is not a host.
    """

    def __init__(
        self,
        directory: Path,
        *,
        recorder: RecorderHook | None = None,
        host: str = "127.0.0.1",
        port: int = TCP_PORT,
        device_id: str = "",
        device_type: str = "Linux",
        dialect: int = 2,
        clock_offset: OffsetProvider | None = None,
        require_sync: bool = False,
        delete_after_download: bool = False,
        announce: bool = False,
        zeroconf: AsyncZeroconf | None = None,
        interfaces: Interfaces = InterfaceChoice.All,
        http: aiohttp.ClientSession | None = None,
        s3_endpoint: str | None = None,
        upload_to: Iterable[str] = (),
        limits: DeviceLimits | None = None,
        faults: DeviceFaults | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if dialect not in (1, 2):
            raise UsageError(f"dialect must be 1 or 2, not {dialect}")
        self.device_id = device_id or socket.gethostname()
        if not self.device_id.isprintable() or len(self.device_id.encode()) > _MAX_ID_LENGTH:
            raise UsageError(f"a device id is at most {_MAX_ID_LENGTH} printable bytes, not {device_id!r}")
        self.directory = directory
        self._announce = announce
        self._zeroconf = zeroconf
        self._interfaces = interfaces
        self._limits = limits or DeviceLimits()
        self._faults = faults or DeviceFaults()
        self._delete_after_download = delete_after_download
        skewed = SkewedClock(clock, self._faults)
        self._control = RecordingControl(
            recorder or GstRecorder(TestPattern(label=self.device_id)),
            clock=skewed,
            offset=clock_offset or (lambda: 0.0),
            require_sync=require_sync,
            reserve=self._limits.reserve,
            start_timeout=self._limits.start_timeout,
            stop_timeout=self._limits.stop_timeout,
        )
        self._storage = Storage(
            directory, device_id=self.device_id, dialect=dialect, unfinished=self._unfinished
        )
        self._responses = ResponseBuilder(self.device_id, device_type, dialect, skewed, self._faults)
        self._uploads = UploadQueue(self._storage, clock=clock, http=http)
        hosts = UploadHosts(upload_to, s3_endpoint=s3_endpoint)
        self._commands = DeviceCommands(
            self._responses, self._storage, self._control, self._uploads, self._faults, s3_endpoint, hosts
        )
        self._listener = Listener(host, port, self._admit)
        self._serving = TaskScope("multicam-serve")
        self._connections: dict[asyncio.Task[None], DeviceConnection] = {}
        self._stack = AsyncExitStack()
        self._closing = asyncio.Lock()

    @property
    def port(self) -> int:
        """TCP port: the actual one while listening, else the configured one."""
        return self._listener.port

    @property
    def phase(self) -> RecordingPhase:
        """Phase of the recorder."""
        return self._control.phase

    @property
    def first_frame_at(self) -> float | None:
        """First frame of the latest recording, Unix seconds of this computer; None if there is none."""
        return self._control.first_frame_at

    @property
    def connections(self) -> int:
        """Number of connected controllers."""
        return len(self._connections)

    async def __aenter__(self) -> "MultiCamDevice":
        """Listen and announce.

        Raises:
            StorageError: The directory cannot be written.
            ConnectionError: The address cannot be used, or mDNS cannot be opened.
            BusyError: Another device on this network has that id.
        """
        await self._storage.prepare()
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish the recording, then release everything, also if cancelled; may be called twice.

        Raises `TimeoutError` if the recorder did not finish within ``limits.shutdown_timeout``.
        """
        await finish(self._close())

    async def _open(self) -> None:
        # Closed in reverse order: the recording is finished before the connections are closed, so that a
        # controller that waits for its stop gets the reply.
        self._stack.push_async_callback(self._serving.aclose)
        self._stack.push_async_callback(self._uploads.aclose)
        self._stack.push_async_callback(self._control.aclose, timeout=self._limits.shutdown_timeout)
        self._stack.callback(self._listener.close)
        await self._listener.open()
        if self._announce:
            addresses = self._listener.addresses
            everywhere = any(ip_address(address.partition("%")[0]).is_unspecified for address in addresses)
            await self._stack.enter_async_context(
                announce(
                    SERVICE_TYPE,
                    f"multiCam-{self.device_id}",
                    self.port,
                    addresses=None if everywhere else addresses,
                    zeroconf=self._zeroconf,
                    interfaces=self._interfaces,
                )
            )

    async def _close(self) -> None:
        async with self._closing:  # A second caller waits for the first to finish.
            await self._stack.aclose()

    def _admit(self, sock: socket.socket, address: str, port: int) -> None:
        peer = f"{address}:{port}"
        if len(self._connections) >= self._limits.connections and not self._make_room():
            _LOG.warning("%s is refused: %d connections are busy", peer, len(self._connections))
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = DeviceConnection(
            sock,
            peer,
            self._commands,
            self._responses,
            self._storage,
            limits=self._limits,
            faults=self._faults,
            delete_after_download=self._delete_after_download,
        )
        task = self._serving.spawn(connection.run(), name=peer)
        self._connections[task] = connection
        task.add_done_callback(lambda task: self._connections.pop(task, None))
        # Not in the task, which may be cancelled before its first step.
        task.add_done_callback(lambda _: sock.close())

    def _make_room(self) -> bool:
        """Close the connection that has been idle the longest, if there is one."""
        idle = [(c.idle_since, task) for task, c in self._connections.items() if c.idle_since is not None]
        if not idle:
            return False
        _, oldest = min(idle, key=lambda entry: entry[0])
        oldest.cancel()
        del self._connections[oldest]
        return True

    def _unfinished(self) -> str | None:
        return self._control.path.name if self._control.path else None
