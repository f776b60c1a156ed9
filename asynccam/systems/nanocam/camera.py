"""NanocamCamera: a media server's camera behind the face that all cameras share."""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import AddressError, BusyError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.features import FeatureKey, Record, Snapshot, Stream
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, LocalFile
from asynccam.net.tcp import connect_tcp
from asynccam.recording import RecorderState
from asynccam.runtime.tasks import finish
from asynccam.runtime.timing import deadline
from asynccam.systems.nanocam.camera_ports import MediaPorts
from asynccam.systems.nanocam.camera_record import NanocamRecord
from asynccam.systems.nanocam.client import MediaClient
from asynccam.systems.nanocam.client_session import ClientTimeouts
from asynccam.systems.nanocam.protocol import (
    GOODBYE,
    Ours,
)

WIDTH: Final = 1920
HEIGHT: Final = 1080
"""What the maker's servers give, whatever they are asked for."""

_AT_WORK: Final = {
    RecorderState.RECORDING: CameraState.RECORDING,
    RecorderState.STALLED: CameraState.RECORDING,
    RecorderState.RESTARTING: CameraState.RECORDING,
    RecorderState.STOPPING: CameraState.STOPPING,
}


class NanocamCamera(Camera):
    """The camera of one media server, the maker's or our own, known by its address: servers tell no name.

    It takes a `Snapshot`, can `Record`, on this computer, and has a `Stream`.

    Args:
        host: The server.
        port: Its TCP port for messages.
        token: For a server of our own that wants one.
        width: Pixels asked for; the maker's servers give 1920x1080 always.
        height: Pixels asked for.
        override: Whether a stream that another client has running is ended for a request of this one.
        ports: UDP ports for streams; cameras of one program share one, see `MediaPorts`.
        timeouts: How patient it is.

    Raises:
        AddressError: The port is none.
        UsageError: The token is empty, or no printable text.

    Attributes:
        host, port, token, width, height, override, ports, timeouts: As given.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str | None = None,
        width: int = WIDTH,
        height: int = HEIGHT,
        override: bool = False,
        ports: MediaPorts | None = None,
        timeouts: ClientTimeouts | None = None,
    ) -> None:
        Ours(token)  # so that a token that cannot be sent is refused here
        self.host = host
        self.port = port
        self.token = token
        self.width = width
        self.height = height
        self.override = override
        self.ports = ports or MediaPorts()
        self.timeouts = timeouts or ClientTimeouts()
        self._address = Address("nanocam", host, port)
        self._record = NanocamRecord(self)
        self._features: Mapping[FeatureKey[Any], object] = MappingProxyType(
            {Record: self._record, Snapshot: self, Stream: self}
        )

    @classmethod
    async def connect(cls, address: Address | str, **options: Any) -> "NanocamCamera":
        """See that a server answers at an address.

        Args:
            address: `Address` or ``nanocam://HOST[:PORT]``.
            options: As for the class.

        Raises:
            AddressError: It is no address of this system.
            UsageError: The token is unusable.
            ConnectionError, TimeoutError: Nobody accepts a connection.
        """
        place = Address.parse(address) if isinstance(address, str) else address
        if place.system != "nanocam" or place.camera:
            raise AddressError(f"{place} is not the address of a nanocam media server")
        camera = cls(place.host, place.port, **options)
        await camera.status()
        return camera

    def client(self) -> MediaClient:
        """A new client of the server, for what only nanocam has; the caller's to connect and close."""
        return MediaClient(self.host, self.port, token=self.token, timeouts=self.timeouts)

    @property
    def info(self) -> CameraInfo:
        """Who the camera is: its address."""
        name = f"{self.host}:{self.port}"
        return CameraInfo(id=str(self._address), system="nanocam", name=name, address=str(self._address))

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """What the camera can do, by key."""
        return self._features

    async def status(self) -> CameraStatus:
        """See whether the server serves; what it does for this object, this computer knows.

        The maker's servers have nothing to say, but like our own one they hang up after a goodbye. One that
        is frozen accepts a connection and does not; neither does one of the maker's while it serves another
        client.

        Raises:
            ConnectionError, TimeoutError: Nobody accepts a connection, or nobody hangs up.
        """
        state = self._record.state
        if self._record.active:  # One of the maker's serves one connection, which is in use.
            doing = CameraState.READY if state is None else _AT_WORK.get(state, CameraState.READY)
            return CameraStatus(doing, "streaming" if state is None else state.value)
        sock = await connect_tcp(self.host, self.port, timeout=self.timeouts.connect)
        try:
            async with deadline(self.timeouts.answer, f"end of a connection that {self.id} is to hang up"):
                await _see_off(sock)
        finally:
            sock.close()
        return CameraStatus(CameraState.READY, "serves")

    async def snapshot(self, directory: Path) -> LocalFile:
        """Take a picture and bring it home.

        Raises:
            BusyError: The camera is recorded or streamed, by this object or by another client.
            AsynccamError: As `MediaClient.image_request`.
        """
        if self._record.active:
            raise BusyError(f"{self.id} is being recorded or streamed; stop that first")
        client = self.client()
        try:
            await client.connect()
            files = await client.fetch_images(
                1, 1, width=self.width, height=self.height, override=self.override, directory=directory
            )
            return files[0]
        finally:
            await finish(client.aclose())

    async def stream_urls(self) -> Mapping[str, str]:
        """Where a player finds the stream: ``udp``, H.264 as RTP; the server begins to send with this call.

        The URL is one for GStreamer's ``rtpsrc``. The stream goes on until the camera is closed.

        Raises:
            BusyError: The camera is being recorded, or streams to somebody else.
            AsynccamError: The server cannot be asked or refuses.
        """
        host = "[::]" if ":" in self.host else "0.0.0.0"  # noqa: S104 - where the server sends to
        return {"udp": f"rtp://{host}:{await self._record.open()}?encoding-name=H264"}

    async def aclose(self) -> None:
        """End its recording and its stream; harmless when called twice."""
        await self._record.aclose()


async def _see_off(sock: socket.socket) -> None:
    """Say goodbye, and wait until the server hangs up, or sends something: only a program that runs does."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):  # It hung up at once; that it is there is all that was asked.
        sock.send(GOODBYE)
        sock.shutdown(socket.SHUT_WR)
        await loop.sock_recv(sock, 1)
