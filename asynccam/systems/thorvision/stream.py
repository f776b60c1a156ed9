"""One camera's stream: the server's SRT listener and this computer's recorder, started and stopped in order.

The server is asked before the recorder calls it, and asked to stop after the recorder has ended.
See docs/protocols/thorvision.md.
"""

import asyncio
import builtins
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from asynccam.errors import (
    AsynccamError,
    BusyError,
    ConnectionError,
    DeviceError,
    NotFoundError,
    RecordingError,
    TimeoutError,
    UsageError,
)
from asynccam.model.identity import device_mismatch
from asynccam.net.tcp import host_for_others
from asynccam.recording import (
    FileVerdict,
    Pipeline,
    Recorder,
    RecorderEnded,
    RecorderEvent,
    RecorderStalled,
    RecorderState,
    SplitFiles,
    SrtJpegSource,
    Watch,
)
from asynccam.recording.gstreamer import find_installation
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.event_hub import EventHub, EventStream
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.systems.thorvision.api import ServerApi
from asynccam.systems.thorvision.events import StreamTakenAway, StreamTakenOver
from asynccam.systems.thorvision.models import Camera, Capability
from asynccam.systems.thorvision.ports import PortPool
from asynccam.systems.thorvision.results import OpenStream, StreamStart, StreamStop
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)

_STALL_SECONDS: Final = 5.0
_STALL_FRAMES: Final = 5
_CANCEL_SECONDS: Final = 5.0
_STOP_RETRIES: Final = (0.3, 0.7, 1.5)
"""Seconds between stop requests whose connection was lost."""
_MAX_NAME: Final = 100
_RESTART_BACKOFF: Final = Backoff(initial=2.0, maximum=30.0)
_RECONNECT_SECONDS: Final = 6.0
"""Two tries of GStreamer's SRT source, which calls about every three seconds."""
_POLL_SECONDS: Final = 0.02
_FINISHED: Final = (RecorderState.ENDED, RecorderState.FAILED)
_PROCESS_ENDED: Final = (RecorderState.STOPPING, *_FINISHED)
"""A recorder in one of these states has ended its process, and at most reads its files."""
_DEBUG_LEVEL: Final = "*:4"
_NO_VARIABLES: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Split:
    """Limits of the files of a recording; 0 is no limit.

    Only the newest ``max_files`` are kept. A megabyte has 1,000,000 bytes.
    """

    max_files: int = 0
    max_seconds: float = 0
    max_megabytes: float = 0


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Behaviour of the streams of a client.

    Attributes:
        latency: Milliseconds within which SRT repairs losses.
        first_frame_timeout: Seconds to wait for the first frame on each port.
        attempts: Number of ports to try.
        watch: Limits that recorders check; None for a stall timeout that suits the frame rate.
        renew: Whether to ask the server for the stream again when frames stop during a recording.
    """

    latency: int = 500
    first_frame_timeout: float = 10.0
    attempts: int = 3
    watch: Watch | None = None
    renew: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.latency < 0 or self.first_frame_timeout <= 0:
            raise UsageError(f"attempts must be >= 1, latency >= 0, first_frame_timeout > 0: {self}")

    def watch_for(self, capability: Capability) -> Watch:
        """Return the limits that a recorder of this capability checks."""
        if self.watch is not None:
            return self.watch
        fps = capability.fps
        # A slow camera is not stalled between two of its frames.
        return Watch(stall=max(_STALL_SECONDS, float(_STALL_FRAMES / fps)) if fps else _STALL_SECONDS)


async def prepare_recording(directory: Path, split: Split) -> None:
    """Make the directory and check that GStreamer has every element, before the server is asked."""
    await on_disk(_make_directory, directory)
    pipeline = Pipeline(SrtJpegSource("localhost", 1), SplitFiles(directory, "any", **asdict(split)))
    plan = await on_disk(pipeline.plan, frozenset[str]())
    await find_installation(plan.graph.factories)


def _make_directory(directory: Path) -> None:
    with storage_errors("make the directory", directory):
        directory.mkdir(parents=True, exist_ok=True)


def file_stem(camera: Camera, at: float) -> str:
    """Return the beginning of a recording's file names: id, name and local time."""
    name = "".join(letter if letter.isalnum() else "_" for letter in camera.name)
    short = name.encode()[:_MAX_NAME].decode(errors="ignore")
    return f"{camera.id}_{short}_{time.strftime('%Y%m%d_%H%M%S', time.localtime(at))}"


@dataclass(frozen=True, slots=True)
class _ArmedRecorder:
    """Recorder that receives and discards frames until its start, and the files it was armed for."""

    recorder: Recorder
    stem: str
    directory: Path
    split: Split
    arming: asyncio.Task[None]


class CameraStream:
    """A camera's stream from the start command to the stop command.

    ``taken_away`` is True while the server accepts a new start and sends nothing, as when another program has
    taken the stream over; it is False again once frames arrive.
    """

    def __init__(
        self,
        api: ServerApi,
        ports: PortPool,
        camera: Camera,
        name: str,
        capability: Capability,
        settings: StreamSettings,
        events: EventHub,
    ) -> None:
        self.camera = camera  # as the server lists it, with its current id there
        self.capability = capability
        self.recorder: Recorder | None = None
        self.opened: OpenStream | None = None  # what the server sends
        self.started: StreamStart | None = None  # result of the recording's start
        self.took_over = False  # whether another client had the stream when it was opened
        self.taken_away = False
        self.was_taken_away = False  # whether `taken_away` was True at any time
        self._first_id = camera.id
        self._api = api
        self._host = api.host
        self._ports = ports
        self._name = name
        self._settings = settings
        self._events = events
        self._scope = TaskScope(f"stream of {name}", on_failure=_log_failure)
        self._armed: _ArmedRecorder | None = None
        self._recorder_events: EventStream[RecorderEvent] | None = None
        self._server_error: AsynccamError | None = None
        self._opened_at = 0.0
        self._replaced: NotFoundError | None = None  # another camera was found under this one's key

    @property
    def recording(self) -> bool:
        """Return whether a recorder is running."""
        return self.recorder is not None and self.recorder.state not in _FINISHED

    # -- start ------------------------------------------------------------------------------------

    async def open(self) -> OpenStream:
        """Stop what the camera streams, then have the server listen on a port that it accepts."""
        if await self._stop_other_client():
            _LOG.warning("%s was streaming to another client; its stream is taken over", self._name)
            self._events.emit(StreamTakenOver(camera=self._name))
            self.took_over = True
        # Before the start: a cancellation of any await behind it would leave the camera streaming.
        self._host = await host_for_others(self._api.host)  # GStreamer does not ask our mDNS
        refusal: AsynccamError | None = None
        for _ in range(self._settings.attempts):
            port = self._ports.take()
            try:
                await self._api.start(self.camera, port, self.capability)
            except BaseException as error:
                await finish(self._cancel_start(port, error))
                if not isinstance(error, DeviceError | BusyError) or isinstance(error, NotFoundError):
                    raise
                _LOG.info("%s does not take port %d: %s", self._name, port, error)
                refusal = error
                continue
            self._opened_at = unix_now()
            host = f"[{self._host}]" if ":" in self._host else self._host
            self.opened = OpenStream(
                self.camera.id, self._name, str(self.capability), port, f"srt://{host}:{port}"
            )
            return self.opened
        assert refusal is not None
        raise refusal

    async def arm(self, directory: Path, split: Split, *, timeout: float) -> None:
        """Have a recorder receive the stream and discard it until `record` is called for the same files.

        Returns at the first frame, or after ``timeout`` seconds without one: `record` raises then.
        """
        await self._disarm()
        opened = self.opened or await self.open()
        recorder, stem = self._make_recorder(opened.port, directory, split, debug=False)
        arming = self._scope.spawn(recorder.arm(timeout=self._settings.first_frame_timeout), name="arming")
        self._armed = _ArmedRecorder(recorder, stem, directory, split, arming)
        await asyncio.wait({arming}, timeout=timeout)

    def is_armed_for(self, directory: Path, split: Split, *, debug: bool = False) -> bool:
        """Return whether `arm` prepared a recorder for these files, which has not failed since."""
        armed = self._armed
        if armed is None or debug or (armed.directory, armed.split) != (directory, split):
            return False
        return not armed.arming.done() or armed.recorder.state is RecorderState.ARMED

    async def record(
        self, directory: Path, split: Split, *, commanded_at: float, commanded: float, debug: bool = False
    ) -> StreamStart:
        """Record from the next frame on; a port without a frame is given up for another.

        After `arm` the recording begins with the first frame that the server sends after ``commanded``.
        Cancelled or failed, it leaves neither a process nor a stream on the server.

        ``commanded_at`` is the time of the start command in Unix seconds, ``commanded`` the same moment by
        `WALL_CLOCK.elapsed`. With ``debug`` GStreamer writes a log beside the files.
        """
        # SRT hands a frame on one latency after it was sent.
        sent = commanded + self._settings.latency / 1000
        if not self.is_armed_for(directory, split, debug=debug):
            await self._disarm()
        for attempts_left in range(self._settings.attempts - 1, -1, -1):
            armed, self._armed = self._armed, None
            opened = self.opened or await self.open()
            accepted_at = max(commanded_at, self._opened_at)
            if armed is not None:
                recorder, stem = armed.recorder, armed.stem
            else:
                recorder, stem = self._make_recorder(opened.port, directory, split, debug=debug)
            try:
                if armed is not None:
                    await armed.arming
                    await asyncio.sleep(max(0.0, sent - WALL_CLOCK.elapsed()))
                first = await recorder.start(timeout=self._settings.first_frame_timeout)
            except BaseException as error:
                await finish(self._give_up(recorder, opened.port))
                if not isinstance(error, RecordingError | TimeoutError) or not attempts_left:
                    raise
                _LOG.info("%s: no frame on port %d: %s", self._name, opened.port, error)
                continue
            self.recorder = recorder
            self.started = StreamStart(
                **opened,
                output_dir=directory,
                file_pattern=f"{stem}-%02d.mkv",
                video_path=directory / f"{stem}-00.mkv",
                commanded_at=commanded_at,
                first_frame_at=first,
                first_frame_bound=recorder.first_frame_bound,
                accepted_at=accepted_at,
            )
            self._recorder_events = self._events.stream(RecorderStalled, RecorderEnded)
            self._scope.spawn(self._supervise(recorder, self._recorder_events), name="supervisor")
            return self.started
        raise AssertionError("the last attempt raises")

    def _make_recorder(
        self, port: int, directory: Path, split: Split, *, debug: bool
    ) -> tuple[Recorder, str]:
        stem = file_stem(self.camera, unix_now())
        log = directory / f"{stem}.gstreamer.log"
        recorder = Recorder(
            Pipeline(
                SrtJpegSource(self._host, port, self._settings.latency),
                SplitFiles(directory, stem, **asdict(split)),
            ),
            name=self._name,
            watch=self._settings.watch_for(self.capability),
            environment={"GST_DEBUG": _DEBUG_LEVEL, "GST_DEBUG_FILE": str(log)} if debug else _NO_VARIABLES,
            events=self._events,
        )
        return recorder, stem

    async def _disarm(self) -> None:
        armed, self._armed = self._armed, None
        if armed is not None:
            await finish(armed.recorder.aclose())

    async def _give_up(self, recorder: Recorder, port: int) -> None:
        """Clean up after a recorder that had no frame."""
        self.opened = None
        await recorder.aclose()
        await self._cancel_start(port, RecordingError("no frame"))

    # -- stop -------------------------------------------------------------------------------------

    async def close(self) -> StreamStop:
        """Stop the recording, then the server's stream; a cancellation does not cut it short."""
        return await finish(self._close(unix_now()))

    async def _close(self, commanded_at: float) -> StreamStop:
        await self._scope.aclose()
        if self._recorder_events is not None:
            self._recorder_events.cancel()
        await self._disarm()
        files: tuple[FileVerdict, ...] = ()
        recorder = self.recorder
        stopping: asyncio.Task[tuple[FileVerdict, ...]] | None = None
        async with TaskScope(f"end of {self._name}") as scope:
            if recorder is not None:
                stopping = scope.spawn(recorder.stop(), name="recorder")
                # Reading long files takes time, and the server need not stream during it.
                while not stopping.done() and recorder.state not in _PROCESS_ENDED:
                    await asyncio.wait({stopping}, timeout=_POLL_SECONDS)
            server_error = await self._stop_server()
            stopped_at = unix_now()
            if recorder is not None and stopping is not None:
                files = await stopping
                await recorder.aclose()
        return StreamStop(
            camera_id=self._first_id,
            camera=self._name,
            files=files,
            gaps=recorder.gaps if recorder else (),
            first_frame_at=recorder.first_frame_at if recorder else None,
            first_frame_bound=recorder.first_frame_bound if recorder else None,
            commanded_at=commanded_at,
            stopped_at=stopped_at,
            error=recorder.error if recorder else None,
            server_error=server_error,
            ended_early=recorder.ended_early if recorder else None,
            begins_late=recorder.begins_late if recorder else None,
            spoiled_frames=recorder.spoiled if recorder else 0,
            taken_away=self.was_taken_away,
        )

    async def _stop_server(self) -> AsynccamError | None:
        """Stop the server's stream if it is this client's; return the error if that fails."""
        opened, self.opened = self.opened, None
        if opened is None:
            return self._server_error
        self._ports.release(opened.port)
        if self._replaced is not None or self.taken_away:
            # The stream there now is not this recording's.
            taken = BusyError(f"{self._name} streams to another client, and is not stopped")
            self._server_error = self._replaced or taken
            return self._server_error
        try:
            await self._request_stop()
        except AsynccamError as error:
            _LOG.warning("%s may still be streaming: %s", self._name, error)
            self._server_error = error
        return self._server_error

    async def _request_stop(self) -> None:
        """Send the stop, and send it again for a while if its connection was lost."""
        lost = False
        for wait in (*_STOP_RETRIES, None):
            try:
                return await self._api.stop(self.camera.id)
            except ConnectionError as error:
                if wait is None:
                    raise
                lost = True
                _LOG.info("the stop of %s was lost: %s", self._name, error)
                await asyncio.sleep(wait)
            except (DeviceError, BusyError):
                if not lost:
                    raise
                return None  # refused because it is idle: the request that was lost had been carried out
        return None

    async def _stop_other_client(self) -> bool:
        """Stop a stream that another client has or left; return False if the camera was idle."""
        try:
            await self._api.stop(self.camera.id)
        except (DeviceError, BusyError) as error:
            _LOG.debug("%s had nothing to stop: %s", self._name, error)
            return False
        return True

    async def _cancel_start(self, port: int, error: BaseException) -> None:
        """Release the port of a start that failed, and stop a stream that it may have begun."""
        self._ports.release(port)
        if isinstance(error, ConnectionError) and not error.maybe_executed:
            return
        with suppress(AsynccamError):
            async with deadline(_CANCEL_SECONDS, f"answer of {self._name} to a stop"):
                await self._api.stop(self.camera.id)

    # -- while it records ---------------------------------------------------------------------------

    async def _supervise(self, recorder: Recorder, events: EventStream[RecorderEvent]) -> None:
        """Ask the server for the stream again when frames stop, and stop it when the recording ends."""
        async for event in events:
            if event.recorder != self._name:
                continue
            if isinstance(event, RecorderEnded):
                break
            delays = _RESTART_BACKOFF.delays()
            while self._settings.renew and recorder.state is RecorderState.STALLED:
                accepted = await self._restart_stream()
                wait = _RECONNECT_SECONDS if accepted else next(delays)
                with suppress(builtins.TimeoutError):
                    async with asyncio.timeout(wait):
                        await recorder.wait()
                if accepted and recorder.state is RecorderState.STALLED:
                    self._note_taken_away()
            self.taken_away = False if recorder.state is RecorderState.RECORDING else self.taken_away
        await self._stop_server()

    def _note_taken_away(self) -> None:
        """Report that the server accepted a start and sends nothing here: it sends to another port."""
        if not self.taken_away:
            self.taken_away = self.was_taken_away = True
            _LOG.warning("%s sends nothing here; another program may have taken its stream over", self._name)
            self._events.emit(StreamTakenAway(camera=self._name))

    async def _restart_stream(self) -> bool:
        """Ask the server to stream to the port that the recorder still calls; return whether it accepted."""
        assert self.opened is not None
        try:
            listed = await self._api.cameras()
            camera = next((device for device in listed if device.key == self.camera.key), None)
            if camera is None:
                return False
            other = device_mismatch(self._name, self.camera.facts, camera.facts)
            self._replaced = NotFoundError(other) if other else None
            if self._replaced is not None:
                return False
            self.camera = camera
            # No stop is sent first: a server that streams already accepts the start and goes on, so a stream
            # that another program has taken over is not disturbed, and returns here once that program has
            # ended.
            await self._api.start(camera, self.opened.port, self.capability)
        except AsynccamError as error:
            _LOG.debug("%s does not stream again yet: %s", self._name, error)
            return False
        return True


def _log_failure(task: str, error: Exception) -> None:
    if "arming" not in task:  # `record` raises the error of a recorder that could not be armed
        _LOG.error("task %s failed", task, exc_info=error)
