"""NanocamCamera: the `Camera` interface for the camera of a media server.

For a recording the server streams, and a recorder here writes. So the first frame's time is one of this
computer's clock, the file is finished here once the recording is stopped, and the maker's servers, whose file
captures cannot be stopped early, can be stopped as well. A capture into a file on the server would lose no
packet, but give none of that. See docs/protocols/nanocam.md.
"""

import asyncio
import logging
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import (
    AddressError,
    AsynccamError,
    BusyError,
    ConnectionError,
    DeviceError,
    RecordingError,
    StateError,
)
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.features import (
    FeatureKey,
    Record,
    RecordPlan,
    Snapshot,
    StartReport,
    StopReport,
    Stream,
)
from asynccam.model.filenames import safe_name
from asynccam.model.info import DRIFT_LIMIT, CameraInfo, CameraState, CameraStatus, LocalFile
from asynccam.net.tcp import connect_tcp
from asynccam.recording import FileVerdict, Pipeline, Recorder, RecorderState, RtpSource, SingleFile
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.rtp.port import RtpPort, is_local_address
from asynccam.runtime.disk import on_disk
from asynccam.runtime.tasks import TaskScope, finish, finish_on_error, see_done
from asynccam.runtime.timing import deadline
from asynccam.systems._local_recorder import (
    LocalRecorderStart,
    camera_state,
    early_end,
    media_files,
    recording_gaps,
    stop_status,
)
from asynccam.systems.nanocam.client import MediaClient
from asynccam.systems.nanocam.client_session import ClientTimeouts, NanocamSession
from asynccam.systems.nanocam.filenames import free_path
from asynccam.systems.nanocam.protocol import GOODBYE, MAX_SSRC, ExtensionOptions, VideoRequest
from asynccam.systems.nanocam.server.options import MEDIA_PORT
from asynccam.wall_clock import WALL_CLOCK, elapsed, local_now, unix_now

_LOG = logging.getLogger(__name__)

WIDTH: Final = 1920
HEIGHT: Final = 1080
"""Size that the maker's servers send, whatever is requested."""

_STREAM_SECONDS: Final = 120.0
"""Stream length requested per renewal; a vendor server keeps streaming this long if this program crashes."""
_RENEW_SECONDS: Final = 30.0
_SPARE_SECONDS: Final = 30.0
"""Requested in addition to the intended length of a recording, since it is stopped by hand."""
_LAST_SECONDS: Final = 1.0
"""Stream length left to a vendor server at the end, because it cannot be stopped at once."""
_JITTER: Final = 0.2
"""Seconds of jitter buffer."""
_MAX_TRANSIT: Final = 0.15
"""Maximum seconds in which the fastest frame is encoded and sent. Measured with software encoders of
1920 x 1080 on two busy processors: 50 to 110 ms."""
_LISTEN_SECONDS: Final = 5.0
"""Time a recorder has to start to listen; packets that arrive earlier wait at its port."""
_CANCEL_SECONDS: Final = 3.0
"""Time that a cancelled start waits for the response to a request that may have been sent."""
_UNLIMITED: Final = 86_400.0
"""Seconds a recorder listens; the wait for the first frame has its own timeout."""


class MediaPorts:
    """UDP ports for streams of several cameras: ``preferred``, to which the maker's servers send, or any."""

    def __init__(self, preferred: int = MEDIA_PORT) -> None:
        self.preferred = preferred

    def hold(self, address: str = "0.0.0.0") -> RtpPort:  # noqa: S104 - where servers send to
        """Bind a free port at a local address; it accepts no stream before `RtpPort.choose` is called.

        Raises:
            ConnectionError: No port is free.
        """
        with suppress(RecordingError):
            return RtpPort(self.preferred, address, held=True)
        try:
            return RtpPort(0, address, held=True)
        except RecordingError as error:
            raise ConnectionError(f"no UDP port is free for a stream: {error}") from error


class NanocamCamera(Camera):
    """The camera of one media server, identified by the server's address: servers send no name.

    Its features are `Snapshot`, `Record`, on this computer, and `Stream`.

    All arguments are attributes that may be changed between requests.

    Args:
        host: Server.
        port: TCP port for messages.
        token: Token of a framed server that requires one.
        width: Requested pixels; the maker's servers always send 1920x1080.
        height: Requested pixels.
        override: Whether a request ends a stream of another client.
        ports: UDP ports for streams; the cameras of one program share one, see `MediaPorts`.
        timeouts: Timeouts.

    Raises:
        AddressError: The port is not valid.
        UsageError: The token is empty, or not printable text.
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
        ExtensionOptions(token)  # raises for a token that cannot be sent
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
        """Check that a server answers at ``nanocam://HOST[:PORT]``; options as for the class.

        Raises:
            AddressError: Not an address of this system.
            UsageError: The token is not valid.
            ConnectionError, TimeoutError: The server does not accept a connection.
        """
        parsed = Address.parse(address) if isinstance(address, str) else address
        if parsed.system != "nanocam" or parsed.camera:
            raise AddressError(f"{parsed} is not the address of a nanocam media server")
        camera = cls(parsed.host, parsed.port, **options)
        await camera.status()
        return camera

    def client(self) -> MediaClient:
        """Return a new, caller-owned client of the server, for calls that only nanocam has."""
        return MediaClient(self.host, self.port, token=self.token, timeouts=self.timeouts)

    @property
    def info(self) -> CameraInfo:
        """Return the camera's description: its address."""
        name = f"{self.host}:{self.port}"
        return CameraInfo(id=str(self._address), system="nanocam", name=name, address=str(self._address))

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """Return the features by key."""
        return self._features

    async def status(self) -> CameraStatus:
        """Check that the server serves; whether it streams to this object is known here.

        The maker's servers have no status request, but like asynccam's they close the connection after a
        goodbye. A frozen server accepts a connection and does not; nor does one of the maker's while it
        serves another client.

        Raises:
            ConnectionError, TimeoutError: The server does not accept a connection, or does not close it.
        """
        state = self._record.state
        if self._record.active:  # one of the maker's serves one connection, which is in use
            return CameraStatus(camera_state(state), "streaming" if state is None else state.value)
        sock = await connect_tcp(self.host, self.port, timeout=self.timeouts.connect)
        try:
            async with deadline(self.timeouts.answer, f"end of the connection from {self.id}"):
                await _say_goodbye(sock)
        finally:
            sock.close()
        return CameraStatus(CameraState.READY, "serves")

    async def snapshot(self, directory: Path) -> LocalFile:
        """Take a picture and download it.

        Raises:
            BusyError: The camera is recorded or streamed, by this object or by another client.
            AsynccamError: As `MediaClient.image_request`.
        """
        if self._record.active:
            raise BusyError(f"{self.id} is being recorded or streamed; stop that first")
        async with self.client() as client:
            files = await client.fetch_images(
                1, 1, width=self.width, height=self.height, override=self.override, directory=directory
            )
        return files[0]

    async def stream_urls(self) -> Mapping[str, str]:
        """Return ``{"udp": URL}``, H.264 as RTP; the server begins to send with this call.

        The URL is one for GStreamer's ``rtpsrc``. The stream goes on until the camera is closed.

        Raises:
            BusyError: The camera is being recorded, or streams to another client.
            AsynccamError: The server cannot be asked or refuses.
        """
        return {"udp": f"rtp://{_any_address(self.host)}:{await self._record.open()}?encoding-name=H264"}

    async def aclose(self) -> None:
        """Stop its recording and its stream; harmless when called twice."""
        await self._record.aclose()


async def _say_goodbye(sock: socket.socket) -> None:
    """Say goodbye, and wait until the server closes or sends something: only a running program does."""
    with suppress(OSError):  # it closed at once, so it is running
        sock.send(GOODBYE)
        sock.shutdown(socket.SHUT_WR)
        await asyncio.get_running_loop().sock_recv(sock, 1)


def _any_address(host: str) -> str:
    """Return the local address to receive at, in the form of a URL."""
    return "[::]" if ":" in host else "0.0.0.0"  # noqa: S104 - where the server sends to


class NanocamRecord:
    """`SupportsRecord` of one camera, whose stream is recorded on this computer."""

    def __init__(self, camera: NanocamCamera) -> None:
        self._camera = camera
        self._capture: _StreamCapture | None = None
        self._recording = False

    @property
    def state(self) -> RecorderState | None:
        """Return the recorder's state, or None."""
        recorder = None if self._capture is None else self._capture.recorder
        return None if recorder is None else recorder.state

    @property
    def active(self) -> bool:
        """Return whether the camera's stream is received here, or about to be."""
        return self._capture is not None

    async def arm(self, plan: RecordPlan) -> LocalRecorderStart:
        """Connect, and have a recorder listen; only the request is not sent.

        Raises:
            BusyError: This object records or streams the camera.
            ConnectionError, TimeoutError: The server cannot be reached.
            RecordingError, StorageError: This computer cannot record.
        """
        if self._capture is not None:
            raise BusyError(f"{self._camera.id} is being recorded or streamed; stop that first")
        name = safe_name(f"{self._camera.info.name}_{local_now().strftime('%Y%m%d_%H%M%S')}.mp4")
        capture = self._capture = _StreamCapture(self._camera, plan.duration)
        async with finish_on_error(lambda: self._discard(capture)):
            await capture.listen(await on_disk(free_path, plan.directory / name))

        async def start(released_at: float) -> StartReport:
            async with deadline(plan.timeout, "first frame"):
                accepted_at = await capture.request(plan.timeout)
                at, bound = await capture.wait_for_first_frame()
            self._recording = True
            return StartReport(
                commanded_at=released_at,
                accepted_at=accepted_at,
                status=RecorderState.RECORDING.value,
                first_frame_at=at,
                first_frame_bound=bound,
                frame_drift=capture.drift,
            )

        return LocalRecorderStart("nanocam", start, lambda: self._discard(capture))

    async def open(self) -> int:
        """Have the server stream to a port here, for another program; return the port."""
        if self._capture is None:
            capture = self._capture = _StreamCapture(self._camera, None)
            async with finish_on_error(lambda: self._discard(capture)):
                await capture.connect()
                await capture.request(self._camera.timeouts.capture)
        elif self._recording:
            raise BusyError(f"{self._camera.id} is being recorded; stop that first")
        return self._capture.port

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Finish the file, then stop the server's stream.

        Other errors are in the report's status.

        Raises:
            StateError: The camera is not being recorded.
            RecordingError: There is no file.
            TimeoutError: It took longer; it is done nevertheless.
        """
        capture = self._capture
        if capture is None or not self._recording:
            raise StateError(f"{self._camera.id} is not being recorded")
        commanded_at = unix_now()
        self._capture, self._recording = None, False
        async with deadline(timeout, f"end of the recording of {self._camera.id}"):
            verdicts = await capture.stop()
        at, bound = capture.first_frame or (None, None)
        if capture.recorder is None or not verdicts:
            raise RecordingError(f"{self._camera.id}: no file was written")
        return StopReport(
            commanded_at=commanded_at,
            stopped_at=unix_now(),
            status=stop_status(verdicts, capture.trouble),
            files=media_files(verdicts),
            first_frame_at=at,
            first_frame_bound=bound,
            frame_drift=capture.drift,
            gaps=recording_gaps(capture.recorder.gaps, "no frame arrived"),
            ended_early=capture.recorder.ended_early,
            contradictions=capture.contradictions,
        )

    async def aclose(self) -> None:
        """Stop the recording or the stream, if any; harmless when called twice."""
        capture, self._capture, self._recording = self._capture, None, False
        if capture is not None:
            await capture.stop()

    async def _discard(self, capture: "_StreamCapture") -> None:
        """Clean up after a start that did not lead to a recording."""
        if self._capture is capture:
            self._capture = None
        await capture.stop()


class _StreamCapture:
    """One stream of a server: its UDP port, the session, and the recorder, if it is recorded."""

    def __init__(self, camera: NanocamCamera, duration: float | None) -> None:
        self.contradictions: tuple[str, ...] = ()  # evidence on the first frame that excludes other evidence
        self.trouble = ""  # what went wrong, in words
        self._camera = camera
        self._address = _any_address(camera.host).strip("[]")
        self._held = camera.ports.hold(self._address)
        self.port = self._held.port
        extension = ExtensionOptions(camera.token, self.port, secrets.randbelow(MAX_SSRC + 1))
        self._session = NanocamSession(camera.host, camera.port, extension, camera.timeouts)
        self._seconds = _STREAM_SECONDS
        if duration is not None:
            self._seconds = min(_STREAM_SECONDS, duration + _SPARE_SECONDS)
        self.recorder: Recorder | None = None
        self._first: asyncio.Task[float] | None = None
        self._scope = TaskScope(f"stream of {camera.id}", on_failure=self._task_failed)
        self._streaming = False
        self._reliable_reports = False  # whether the sender's RTCP reports are those of asynccam's server

    @property
    def drift(self) -> float:
        """Return by how many seconds per second the stream's clock may drift: 0 if it is this computer's."""
        stream = None if self.recorder is None else self.recorder.rtp
        local = stream is not None and stream.sender is not None and is_local_address(stream.sender.address)
        return 0.0 if local else DRIFT_LIMIT

    @property
    def first_frame(self) -> tuple[float, float] | None:
        """Return the capture time of the first frame, Unix seconds, and its bound; None before its packets.

        The more frames and sender reports have arrived, the smaller the bound, see `RtpTimes`. Contradicting
        evidence is in `contradictions`, and the bound covers all of it.
        """
        stream = None if self.recorder is None else self.recorder.rtp
        if stream is None or stream.sender is None:
            return None
        clock = WALL_CLOCK.at(0.0) if is_local_address(stream.sender.address) else None
        first = stream.times.first_frame(_MAX_TRANSIT, reliable=self._reliable_reports, clock=clock)
        if first is None:
            return None
        self.contradictions = first.contradictions
        at = WALL_CLOCK.at((first.earliest + first.latest) / 2)
        return at, (first.latest - first.earliest) / 2

    async def connect(self) -> None:
        """Connect, for a stream that another program will receive at the port."""
        await self._session.connect()
        self._held.share()

    async def listen(self, path: Path) -> None:
        """Connect, and have a recorder listen."""
        await self._session.connect()
        source = RtpSource(
            self.port,
            self._address,
            latency=round(_JITTER * 1000),
            sender=self._session.address,
            held=self._held,
        )
        pipeline = Pipeline(source, SingleFile(path))
        tools = await find_installation()
        plan = await on_disk(pipeline.plan, tools.elements)
        await find_installation(plan.graph.factories)
        self.recorder = Recorder(pipeline, name=self._camera.id)
        self._first = self._scope.spawn(self.recorder.start(timeout=_UNLIMITED), name="first frame")
        listening = self._scope.spawn(self.recorder.listening(), name="listening")
        await asyncio.wait(
            {self._first, listening}, timeout=_LISTEN_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if self._first.done():
            self._first.result()

    async def request(self, timeout: float) -> float:
        """Have the server stream; return when it had answered, Unix seconds.

        Raises `DeviceError` if the server can only stream to a port that is in use here.
        """
        camera, session = self._camera, self._session
        request = VideoRequest(self._seconds, camera.width, camera.height, "udp", session.extension)
        async with session.exchange() as connection:
            requested = elapsed()
            requesting = self._scope.spawn(
                session.begin_stream(connection, request, timeout, override=camera.override), name="request"
            )
            try:
                answer = await asyncio.shield(requesting)
            except asyncio.CancelledError:
                # A server that has the request must be stopped; one that has not would crash at a stop.
                await see_done({requesting}, until=asyncio.get_running_loop().time() + _CANCEL_SECONDS)
                raise
            finally:
                self._streaming = (
                    requesting.done() and not requesting.cancelled() and requesting.exception() is None
                )
            accepted_at = unix_now()
            # A stream that arrived before the request is another sender's.
            self._held.choose(requested, answer.ssrc)
            self._reliable_reports = answer.ssrc is not None
        self._scope.spawn(self._renew(), name="renew")
        if not session.framed and self.port != camera.ports.preferred:
            raise DeviceError(
                f"{camera.id} streams to UDP port {camera.ports.preferred} only, which is taken here"
            )
        return accepted_at

    async def wait_for_first_frame(self) -> tuple[float, float]:
        """Wait for the first frame; return `first_frame`."""
        assert self._first is not None
        await asyncio.shield(self._first)
        first = self.first_frame
        assert first is not None  # its packets have arrived
        return first

    async def stop(self) -> tuple[FileVerdict, ...]:
        """Finish the file, then stop the server's stream; harmless when called twice."""
        try:
            if self.recorder is None:
                return ()
            if self._first is None or not self._first.done():
                await self._scope.aclose()
            await self.recorder.aclose()
            ending = early_end(self.recorder.error, self.recorder.ended_early) or self.trouble
            stream = self.recorder.rtp
            remarks = (ending, stream.trouble if stream is not None else "")
            self.trouble = "; ".join(filter(None, remarks))
            return self.recorder.verdicts
        finally:
            await finish(self._release())

    async def _release(self) -> None:
        try:
            await self._scope.aclose()
            if self._streaming:
                self._streaming = False
                await self._stop_server()
        except AsynccamError as error:
            self.trouble = self.trouble or f"the server may still stream: {error}"
        finally:
            await self._session.aclose()
            self._held.close()

    async def _stop_server(self) -> None:
        if self._session.framed:
            self._session.leave_framed()
            return
        try:
            await self._session.reset_timer(_LAST_SECONDS)
        except StateError:
            return  # the stream is about to end by itself, and the server would crash at a request
        await asyncio.sleep(2 * _LAST_SECONDS)  # the server may crash if a client leaves before the end

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(min(_RENEW_SECONDS, self._seconds / 2))
            await self._session.reset_timer(self._seconds)

    def _task_failed(self, task: str, error: Exception) -> None:
        if "first frame" not in task and "request" not in task:  # errors of these are raised elsewhere
            self.trouble = f"the stream was not prolonged: {error}"
            _LOG.warning("%s: %s", task, error)
