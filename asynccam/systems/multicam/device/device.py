"""A MultiCam device server: makes any Linux machine a device for the vendors' controllers.

See docs/protocols/multicam.md for the wire and docs/multicam-device.md for running it.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
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
from asynccam.systems.multicam.device.commands import DeviceCommands
from asynccam.systems.multicam.device.connection import DeviceConnection, DeviceLimits
from asynccam.systems.multicam.device.faults import DeviceFaults, SkewedClock
from asynccam.systems.multicam.device.recorder import GstRecorder
from asynccam.systems.multicam.device.recording import OffsetProvider, Phase, RecorderHook, RecordingControl
from asynccam.systems.multicam.device.responses import Answers
from asynccam.systems.multicam.device.storage import Storage
from asynccam.systems.multicam.device.upload import UploadHosts, UploadQueue
from asynccam.systems.multicam.models import SERVICE_TYPE, TCP_PORT

_LOG = logging.getLogger(__name__)
_LONGEST_ID: Final = 54
"""Bytes: ``multiCam-`` and the id make one DNS label of at most 63."""


class MultiCamDevice:
    """A MultiCam device with a disk, a recorder and a port; use it as an async context manager.

    On leaving, a running recording is finished (within ``limits.shutdown_timeout``), a scheduled one
    forgotten, uploads are broken off and all sockets closed. Recordings stay in the directory and are
    found again by the next device there.

    Args:
        directory: Where recordings are kept; made if it is missing.
        recorder: Does the recording; a moving test picture with the device's id if None.
        host: Address to listen at; ``""`` for every one.
        port: TCP port; 0 takes a free one, see `port`.
        device_id: Who this is; the host's name if empty. At most 54 bytes of UTF-8.
        device_type: Kind of device, as dialect 2 tells it.
        dialect: 1 or 2: whose fields the answers have.
        clock_offset: Reference time minus this computer's clock in seconds, by which scheduled starts
            are timed; None while that is not known. Without a provider the computer's clock is right.
        require_sync: Refuse starts while the offset is unknown, and those long past.
        delete_after_download: Delete a recording once a controller has taken all of it and closed.
        announce: Whether to announce it by mDNS; opening it then takes about a second.
        zeroconf: mDNS sockets to borrow; they are not closed.
        interfaces: Where own mDNS sockets speak.
        http: For uploads; not closed. Without one the device makes its own.
        s3_endpoint: A server that takes Amazon's place in uploads with IAM fields; uploads to it are allowed.
        upload_to: Hosts that recordings may be uploaded to, ``HOST`` or ``HOST:PORT``; by default none, and
            UPLOAD_TO_CLOUD is refused.
        limits: Numbers and deadlines.
        faults: Trouble on purpose.
        clock: Time, for tests.

    Raises:
        UsageError: The dialect is neither 1 nor 2, the id does not fit into a DNS label, or one of
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
            raise UsageError(f"there are dialects 1 and 2, not {dialect}")
        self.device_id = device_id or socket.gethostname()
        if not self.device_id.isprintable() or len(self.device_id.encode()) > _LONGEST_ID:
            raise UsageError(f"a device id is at most {_LONGEST_ID} printable bytes, not {device_id!r}")
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
        self._answers = Answers(self.device_id, device_type, dialect, skewed, self._faults)
        self._uploads = UploadQueue(self._storage, clock=clock, http=http)
        self._commands = DeviceCommands(
            self._answers,
            self._storage,
            self._control,
            self._uploads,
            self._faults,
            s3_endpoint=s3_endpoint,
            upload_hosts=UploadHosts(upload_to, s3_endpoint=s3_endpoint),
        )
        self._listener = Listener(host, port, self._admit)
        self._serving = TaskScope("multicam-serve")
        self._connections: dict[asyncio.Task[None], DeviceConnection] = {}
        self._stack = AsyncExitStack()
        self._closing = asyncio.Lock()

    @property
    def port(self) -> int:
        """The TCP port it listens at, or was told to."""
        return self._listener.port

    @property
    def phase(self) -> Phase:
        """What the recorder is doing."""
        return self._control.phase

    @property
    def first_frame_at(self) -> float | None:
        """First frame of the latest recording, Unix seconds of this computer; None before there is one."""
        return self._control.first_frame_at

    @property
    def connections(self) -> int:
        """How many controllers are connected."""
        return len(self._connections)

    async def __aenter__(self) -> "MultiCamDevice":
        """Listen.

        Raises:
            StorageError: The directory cannot be written.
            ConnectionError: The address cannot be listened at, or mDNS cannot be opened.
            BusyError: Another device on this network has that id.
        """
        await self._storage.prepare()
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish the recording, then let go of everything; harmless when called twice.

        A cancellation does not cut it short.

        Raises:
            TimeoutError: The recorder did not finish within ``limits.shutdown_timeout``.
        """
        await finish(self._close())

    async def _open(self) -> None:
        # Closed in the opposite order: the recording is finished before the connections go, so that a
        # controller that waits for its stop gets the answer.
        self._stack.push_async_callback(self._serving.aclose)
        self._stack.push_async_callback(self._uploads.aclose)
        self._stack.push_async_callback(self._control.aclose, timeout=self._limits.shutdown_timeout)
        self._stack.push_async_callback(self._listener.aclose)
        await self._listener.open()
        if self._announce:
            addresses = self._listener.addresses
            everywhere = any(ip_address(one.partition("%")[0]).is_unspecified for one in addresses)
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
        async with self._closing:  # Whoever else closes it waits for the end of the first.
            await self._stack.aclose()

    def _admit(self, sock: socket.socket, address: str, port: int) -> None:
        peer = f"{address}:{port}"
        if len(self._connections) >= self._limits.connections and not self._make_room():
            _LOG.warning("%s is turned away: %d connections are busy", peer, len(self._connections))
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = DeviceConnection(
            sock,
            peer,
            self._commands,
            self._answers,
            self._storage,
            limits=self._limits,
            faults=self._faults,
            delete_after_download=self._delete_after_download,
        )
        task = self._serving.spawn(connection.run(), name=peer)
        self._connections[task] = connection
        task.add_done_callback(self._part_from)
        # Here and not in the task, which may be cancelled before its first step.
        task.add_done_callback(lambda _: sock.close())

    def _part_from(self, task: "asyncio.Task[None]") -> None:
        self._connections.pop(task, None)

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest, if there is one."""
        idle = [(c.idle_since, task) for task, c in self._connections.items() if c.idle_since is not None]
        if not idle:
            return False
        _, oldest = min(idle, key=lambda entry: entry[0])
        oldest.cancel()
        del self._connections[oldest]
        return True

    def _unfinished(self) -> str | None:
        return self._control.path.name if self._control.path else None
