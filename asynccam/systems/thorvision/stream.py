"""One camera's stream: a port, the server's part and the recorder's part, started and ended in order.

The server is told before the recorder calls it, and told to stop after the recorder has ended.
See docs/protocols/thorvision.md.
"""

import asyncio
import builtins
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
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
    SrtJpegSource,
)
from asynccam.runtime.event_hub import EventHub, EventStream
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.systems.thorvision.api import ServerApi
from asynccam.systems.thorvision.events import StreamTakenAway, StreamTakenOver
from asynccam.systems.thorvision.models import Camera, Capability
from asynccam.systems.thorvision.ports import PortPool
from asynccam.systems.thorvision.results import OpenStream, StreamStart, StreamStop
from asynccam.systems.thorvision.stream_settings import Split, StreamSettings, files_of
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)

_WITHDRAW_SECONDS: Final = 5.0
_STOP_WAITS: Final = (0.3, 0.7, 1.5)
"""Seconds between tries to stop a stream where the connection was lost."""
_MAX_NAME: Final = 100
_RENEWALS: Final = Backoff(initial=2.0, maximum=30.0)
_RECONNECT_SECONDS: Final = 6.0
"""GStreamer's SRT tries again about every three seconds."""
_LOOK_SECONDS: Final = 0.02
_WRITTEN: Final = (RecorderState.STOPPING, RecorderState.ENDED, RecorderState.FAILED)
"""A recorder in one of these states has ended its process; stopping means reading the files by then."""
_DEBUG_LEVEL: Final = "*:4"
_NO_VARIABLES: Final[Mapping[str, str]] = {}


def file_stem(camera: Camera, at: float) -> str:
    """What a recording's files are called before their number: id, name and local time."""
    name = "".join(letter if letter.isalnum() else "_" for letter in camera.name)
    short = name.encode()[:_MAX_NAME].decode(errors="ignore")
    return f"{camera.id}_{short}_{time.strftime('%Y%m%d_%H%M%S', time.localtime(at))}"


@dataclass(frozen=True, slots=True)
class _Armed:
    """A recorder that is made ready for its start, and what for."""

    recorder: Recorder
    stem: str
    purpose: tuple[Path, Split]
    arming: asyncio.Task[None]

    def fits(self, directory: Path, split: Split, debug: bool) -> bool:
        """Whether it can record these files, as far as is known now."""
        gone = self.arming.done() and self.recorder.state is not RecorderState.ARMED
        return not gone and not debug and self.purpose == (directory, split)


class CameraStream:
    """A camera's stream from the start command to the stop command.

    Args:
        api: The server.
        ports: Where its port comes from.
        camera: As the server lists it.
        name: The camera's stable id.
        capability: What to ask for.
        settings: How to behave.
        events: Where the recorder tells what happens.

    Attributes:
        camera: As above; the server's number in it is kept true.
        capability: As above.
        recorder: Records it, or None.
        opened: What the server sends, or None.
        started: How the recording started, or None.
        took_over: Whether the camera was streaming for somebody else when this stream was opened.
        taken_away: Whether the server takes a new start and sends nothing, as when another program has taken
            the stream over; False again once frames come.
        was_taken_away: Whether that was so at any time.
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
        self.camera = camera
        self.capability = capability
        self.recorder: Recorder | None = None
        self.opened: OpenStream | None = None
        self.started: StreamStart | None = None
        self._first_id = camera.id
        self._api = api
        self._host = api.host
        self._ports = ports
        self._name = name
        self._settings = settings
        self._events = events
        self._scope = TaskScope(f"stream of {name}", on_failure=_told_by_the_start)
        self._armed: _Armed | None = None
        self._told: EventStream[RecorderEvent] | None = None
        self._server_error: AsynccamError | None = None
        self._opened_at = 0.0
        self._stranger: NotFoundError | None = None
        self.took_over = False
        self.taken_away = False
        self.was_taken_away = False

    @property
    def recording(self) -> bool:
        """Whether its recorder is at work."""
        recorder = self.recorder
        return recorder is not None and recorder.state not in (RecorderState.ENDED, RecorderState.FAILED)

    # -- start ------------------------------------------------------------------------------------

    async def open(self) -> OpenStream:
        """Have the server listen on a port, another one if it refuses the first.

        Whatever the camera was streaming before is stopped. Cancelled, nothing is left behind.

        Raises:
            NotFoundError: There is no such camera.
            DeviceError, BusyError: The server refused every port.
            ConnectionError, TimeoutError, AuthenticationError: It cannot be asked.
        """
        if await self._clear():
            _LOG.warning("%s was streaming for somebody else; its stream is taken over", self._name)
            self._events.emit(StreamTakenOver(camera=self._name))
            self.took_over = True
        # Before the start: whatever is awaited behind it could be cancelled with the camera streaming.
        self._host = await host_for_others(self._api.host)  # GStreamer does not ask our mDNS
        refusal: AsynccamError | None = None
        for _ in range(self._settings.attempts):
            port = self._ports.take()
            try:
                await self._api.start(self.camera, port, self.capability)
            except BaseException as error:
                await finish(self._withdraw(port, error))
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

    async def arm(self, directory: Path, split: Split, *, patience: float) -> None:
        """Have a recorder take the stream and throw it away, until `record` is called for the same files.

        Whether that works, `record` tells.

        Args:
            directory: Where the files will go; exists.
            split: How they will be split.
            patience: Seconds to wait here for the first frame.

        Raises:
            AsynccamError: As of `open`.
        """
        await self._disarm()
        opened = self.opened or await self.open()
        recorder, stem = self._make_recorder(opened.port, directory, split, debug=False)
        arming = self._scope.spawn(recorder.arm(timeout=self._settings.first_frame_timeout), name="arming")
        self._armed = _Armed(recorder, stem, (directory, split), arming)
        await asyncio.wait({arming}, timeout=patience)

    async def record(
        self, directory: Path, split: Split, *, commanded_at: float, commanded: float, debug: bool = False
    ) -> StreamStart:
        """Record it from the next frame on; a port from which no frame comes is given up for another.

        After `arm` that is the first frame that the server sends after ``commanded_at``. Cancelled or failed,
        neither a process nor the server's stream is left.

        Args:
            directory: Where the files go; exists.
            split: How they are split.
            commanded_at: Goes into the result.
            commanded: The same moment by elapsed time.
            debug: Whether GStreamer writes its debug log beside the files.

        Raises:
            RecordingError, TimeoutError: No frame came from any port.
            StorageError: The files cannot be written.
            AsynccamError: As of `open`.
        """
        # What the server sends now is handed on by SRT's latency later.
        sent = commanded + self._settings.latency / 1000
        if self._armed is not None and not self._armed.fits(directory, split, debug):
            await self._disarm()
        for left in range(self._settings.attempts - 1, -1, -1):
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
                if not isinstance(error, RecordingError | TimeoutError) or not left:
                    raise
                _LOG.info("%s: nothing on port %d: %s", self._name, opened.port, error)
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
            self._told = self._events.stream(RecorderStalled, RecorderEnded)
            self._scope.spawn(self._supervise(recorder, self._told), name="supervisor")
            return self.started
        raise AssertionError("the last attempt raises")

    # -- end --------------------------------------------------------------------------------------

    async def close(self) -> StreamStop:
        """End the recording, then the server's stream; done to the end even when cancelled."""
        return await finish(self._close(unix_now()))

    async def _close(self, commanded_at: float) -> StreamStop:
        await self._scope.aclose()
        if self._told is not None:
            self._told.cancel()
        await self._disarm()
        files: tuple[FileVerdict, ...] = ()
        recorder = self.recorder
        async with TaskScope(f"end of {self._name}") as scope:
            if recorder is not None:
                ending = scope.spawn(recorder.stop(), name="recorder")
                # Reading long files takes its time, and the server need not stream on for that.
                while not ending.done() and recorder.state not in _WRITTEN:
                    await asyncio.wait({ending}, timeout=_LOOK_SECONDS)
            server_error = await self._end_server()
            stopped_at = unix_now()
            if recorder is not None:
                files = await ending
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

    async def _end_server(self) -> AsynccamError | None:
        """Stop the server's stream if there is one; the error if that does not work."""
        opened, self.opened = self.opened, None
        if opened is None:
            return self._server_error
        self._ports.release(opened.port)
        if self._stranger is not None or self.taken_away:
            # What streams there now is not this recording.
            taken = BusyError(f"{self._name} sends its stream to somebody else, which is left alone")
            self._server_error = self._stranger or taken
            return self._server_error
        try:
            await self._stop_stream()
        except AsynccamError as error:
            _LOG.warning("%s may still be streaming: %s", self._name, error)
            self._server_error = error
        return self._server_error

    async def _stop_stream(self) -> None:
        """Have the server stop its stream; a request whose connection was lost is sent again, for a while."""
        lost = False
        for wait in (*_STOP_WAITS, None):
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
                return None  # it is idle: the request that was lost had been heard
        return None

    async def _clear(self) -> bool:
        """Stop what another client has or left; False if the server refuses, as for an idle camera."""
        try:
            await self._api.stop(self.camera.id)
        except (DeviceError, BusyError) as error:
            _LOG.debug("%s had nothing to stop: %s", self._name, error)
            return False
        return True

    async def _withdraw(self, port: int, error: BaseException) -> None:
        """After a start that failed: see that nothing came of it, and give the port back."""
        self._ports.release(port)
        if isinstance(error, ConnectionError) and not error.maybe_executed:
            return
        with suppress(AsynccamError):
            async with deadline(_WITHDRAW_SECONDS, f"answer of {self._name} to a stop"):
                await self._api.stop(self.camera.id)

    async def _disarm(self) -> None:
        armed, self._armed = self._armed, None
        if armed is not None:
            await finish(armed.recorder.aclose())

    async def _give_up(self, recorder: Recorder, port: int) -> None:
        """After a recorder that had no frame."""
        self.opened = None
        await recorder.aclose()
        await self._withdraw(port, RecordingError("no frame"))

    # -- meanwhile --------------------------------------------------------------------------------

    def _make_recorder(
        self, port: int, directory: Path, split: Split, *, debug: bool
    ) -> tuple[Recorder, str]:
        stem = file_stem(self.camera, unix_now())
        files = files_of(directory, stem, split)
        log = files.directory / f"{files.stem}.gstreamer.log"
        recorder = Recorder(
            Pipeline(SrtJpegSource(self._host, port, self._settings.latency), files),
            name=self._name,
            watch=self._settings.watch_for(self.capability),
            environment={"GST_DEBUG": _DEBUG_LEVEL, "GST_DEBUG_FILE": str(log)} if debug else _NO_VARIABLES,
            events=self._events,
        )
        return recorder, stem

    async def _supervise(self, recorder: Recorder, told: EventStream[RecorderEvent]) -> None:
        """See to the server while its stream is recorded: when frames stay away, and when it is over."""
        async for event in told:
            if event.recorder != self._name:
                continue
            if isinstance(event, RecorderEnded):
                break
            delays = _RENEWALS.delays()
            while self._settings.renew and recorder.state is RecorderState.STALLED:
                accepted = await self._renew()
                wait = _RECONNECT_SECONDS if accepted else next(delays)
                with suppress(builtins.TimeoutError):
                    async with asyncio.timeout(wait):
                        await recorder.wait()
                if accepted and recorder.state is RecorderState.STALLED:
                    self._note_taken_away()
            self.taken_away = False if recorder.state is RecorderState.RECORDING else self.taken_away
        await self._end_server()

    def _note_taken_away(self) -> None:
        """The server took a start, and sends nothing to this port: it sends to another one."""
        if not self.taken_away:
            self.taken_away = self.was_taken_away = True
            _LOG.warning("%s sends nothing here; another program may have taken its stream over", self._name)
            self._events.emit(StreamTakenAway(camera=self._name))

    async def _renew(self) -> bool:
        """Ask the server to stream again: the server, or the camera at it, may have been away.

        The recorder goes on calling the same port, so it has to be that one. Nothing is stopped for it: a
        server that streams takes the start and goes on as before, so that the stream of a program that has
        taken the camera over is left alone, and begins here once that program has ended.

        Returns:
            Whether the server accepted.
        """
        assert self.opened is not None
        try:
            camera = next((one for one in await self._api.cameras() if one.key == self.camera.key), None)
            if camera is None:
                return False
            other = device_mismatch(self._name, self.camera.facts, camera.facts)
            self._stranger = NotFoundError(other) if other else None
            if self._stranger is not None:
                return False
            self.camera = camera
            await self._api.start(camera, self.opened.port, self.capability)
        except AsynccamError as error:
            _LOG.debug("%s does not stream again yet: %s", self._name, error)
            return False
        return True


def _told_by_the_start(task: str, error: Exception) -> None:
    """A recorder that could not be armed is heard of when it is to start."""
    if "arming" not in task:
        _LOG.error("task %s failed", task, exc_info=error)
