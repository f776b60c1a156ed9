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
    UsageError,
)
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
from asynccam.recording.installation import find_installation
from asynccam.runtime.backoff import Backoff
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.hub import EventHub, EventStream
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.systems.thorvision.api import ServerApi
from asynccam.systems.thorvision.models import Camera, Capability
from asynccam.systems.thorvision.ports import PortPool
from asynccam.systems.thorvision.results import OpenStream, StreamStart, StreamStop

_LOG = logging.getLogger(__name__)

_STALL_SECONDS: Final = 5.0
_STALL_FRAMES: Final = 5
_WITHDRAW_SECONDS: Final = 5.0
_MAX_NAME: Final = 100
_RENEWALS: Final = Backoff(initial=2.0, maximum=30.0)
_RECONNECT_SECONDS: Final = 6.0
"""GStreamer's SRT tries again about every three seconds."""
_LOOK_SECONDS: Final = 0.02
_WRITTEN: Final = (RecorderState.STOPPING, RecorderState.ENDED, RecorderState.FAILED)
"""A recorder in one of these states has ended its process; stopping means reading the files by then."""
_DEBUG_LEVEL: Final = "*:4"
_NO_VARIABLES: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Split:
    """How a recording is split into files; 0 is no limit.

    Attributes:
        max_files: Keep only the newest so many.
        max_seconds: Length of a file.
        max_megabytes: Size of a file in megabytes of 1,000,000 bytes.
    """

    max_files: int = 0
    max_seconds: float = 0
    max_megabytes: float = 0


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How streams of a client behave.

    Attributes:
        latency: Milliseconds within which SRT mends losses.
        first_frame_timeout: Seconds the first frame may take on each port.
        attempts: Ports to try.
        watch: What recorders look for; None for a stall timeout that suits the frame rate.
        renew: Whether the server is told to start again when frames stay away during a recording.
    """

    latency: int = 500
    first_frame_timeout: float = 10.0
    attempts: int = 3
    watch: Watch | None = None
    renew: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.latency < 0 or self.first_frame_timeout <= 0:
            raise UsageError(f"not usable for streams: {self}")

    def watch_for(self, capability: Capability) -> Watch:
        """What a recorder of this capability looks for."""
        if self.watch is not None:
            return self.watch
        fps = capability.fps
        return Watch(stall=max(_STALL_SECONDS, float(_STALL_FRAMES / fps)) if fps else _STALL_SECONDS)


def file_stem(camera: Camera, at: float) -> str:
    """What a recording's files are called before their number: id, name and local time."""
    name = "".join(letter if letter.isalnum() else "_" for letter in camera.name)
    short = name.encode()[:_MAX_NAME].decode(errors="ignore")
    return f"{camera.id}_{short}_{time.strftime('%Y%m%d_%H%M%S', time.localtime(at))}"


async def prepare_recording(directory: Path, split: Split) -> Path:
    """Do what a recording needs before it may start: a directory, and all elements of the pipeline.

    Returns:
        The directory, absolute.

    Raises:
        UsageError: A limit is below 0.
        RecordingError: GStreamer or one of its elements is missing.
        StorageError: The directory cannot be made.
    """
    target = await on_disk(_make_directory, directory)
    pipeline = Pipeline(SrtJpegSource("localhost", 1), _files(target, "any", split))
    plan = await on_disk(pipeline.plan, frozenset[str]())
    await find_installation(plan.graph.factories)
    return target


def _make_directory(directory: Path) -> Path:
    with storage_errors("make the directory", directory):
        directory.mkdir(parents=True, exist_ok=True)
    return directory.absolute()


def _files(directory: Path, stem: str, split: Split) -> SplitFiles:
    return SplitFiles(
        directory,
        stem,
        max_files=split.max_files,
        max_seconds=split.max_seconds,
        max_megabytes=split.max_megabytes,
    )


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
        self._ports = ports
        self._name = name
        self._settings = settings
        self._events = events
        self._scope = TaskScope(f"stream of {name}")
        self._told: EventStream[RecorderEvent] | None = None
        self._server_error: AsynccamError | None = None

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
        await self._clear()
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
            host = f"[{self._api.host}]" if ":" in self._api.host else self._api.host
            self.opened = OpenStream(
                self.camera.id, self._name, str(self.capability), port, f"srt://{host}:{port}"
            )
            return self.opened
        assert refusal is not None
        raise refusal

    async def record(
        self, directory: Path, split: Split, *, commanded_at: float, debug: bool = False
    ) -> StreamStart:
        """Record it from the next frame on; a port from which no frame comes is given up for another.

        Cancelled or failed, neither a process nor the server's stream is left.

        Args:
            directory: Where the files go; exists.
            split: How they are split.
            commanded_at: Goes into the result.
            debug: Whether GStreamer writes its debug log beside the files.

        Raises:
            RecordingError, TimeoutError: No frame came from any port.
            StorageError: The files cannot be written.
            AsynccamError: As of `open`.
        """
        for left in range(self._settings.attempts - 1, -1, -1):
            opened = self.opened or await self.open()
            stem = file_stem(self.camera, time.time())
            recorder = self._make_recorder(opened.port, _files(directory, stem, split), debug=debug)
            try:
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
                commanded_at=commanded_at,
                first_frame_at=first,
                first_frame_bound=recorder.first_frame_bound,
            )
            self._told = self._events.events(RecorderStalled, RecorderEnded)
            self._scope.spawn(self._supervise(recorder, self._told), name="supervisor")
            return self.started
        raise AssertionError("the last attempt raises")

    # -- end --------------------------------------------------------------------------------------

    async def close(self) -> StreamStop:
        """End the recording, then the server's stream; done to the end even when cancelled."""
        return await finish(self._close(time.time()))

    async def _close(self, commanded_at: float) -> StreamStop:
        await self._scope.aclose()
        if self._told is not None:
            self._told.cancel()
        files: tuple[FileVerdict, ...] = ()
        recorder = self.recorder
        async with TaskScope(f"end of {self._name}") as scope:
            if recorder is not None:
                ending = scope.spawn(recorder.stop(), name="recorder")
                # Reading long files takes its time, and the server need not stream on for that.
                while not ending.done() and recorder.state not in _WRITTEN:
                    await asyncio.wait({ending}, timeout=_LOOK_SECONDS)
            server_error = await self._end_server()
            stopped_at = time.time()
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
        )

    async def _end_server(self) -> AsynccamError | None:
        """Stop the server's stream if there is one; the error if that does not work."""
        opened, self.opened = self.opened, None
        if opened is None:
            return self._server_error
        self._ports.release(opened.port)
        try:
            await self._api.stop(self.camera.id)
        except AsynccamError as error:
            _LOG.warning("%s may still be streaming: %s", self._name, error)
            self._server_error = error
        return self._server_error

    async def _clear(self) -> None:
        """Stop what an earlier client left; a server may well refuse that to an idle camera."""
        try:
            await self._api.stop(self.camera.id)
        except (DeviceError, BusyError) as error:
            _LOG.debug("%s had nothing to stop: %s", self._name, error)

    async def _withdraw(self, port: int, error: BaseException) -> None:
        """After a start that failed: see that nothing came of it, and give the port back."""
        self._ports.release(port)
        if isinstance(error, ConnectionError) and not error.maybe_executed:
            return
        with suppress(AsynccamError):
            async with deadline(_WITHDRAW_SECONDS, f"answer of {self._name} to a stop"):
                await self._api.stop(self.camera.id)

    async def _give_up(self, recorder: Recorder, port: int) -> None:
        """After a recorder that had no frame."""
        self.opened = None
        await recorder.aclose()
        await self._withdraw(port, RecordingError("no frame"))

    # -- meanwhile --------------------------------------------------------------------------------

    def _make_recorder(self, port: int, files: SplitFiles, *, debug: bool) -> Recorder:
        log = files.directory / f"{files.stem}.gstreamer.log"
        return Recorder(
            Pipeline(SrtJpegSource(self._api.host, port, self._settings.latency), files),
            name=self._name,
            watch=self._settings.watch_for(self.capability),
            environment={"GST_DEBUG": _DEBUG_LEVEL, "GST_DEBUG_FILE": str(log)} if debug else _NO_VARIABLES,
            events=self._events,
        )

    async def _supervise(self, recorder: Recorder, told: EventStream[RecorderEvent]) -> None:
        """See to the server while its stream is recorded: when frames stay away, and when it is over."""
        async for event in told:
            if event.recorder != self._name:
                continue
            if isinstance(event, RecorderEnded):
                break
            delays = _RENEWALS.delays()
            while self._settings.renew and recorder.state is RecorderState.STALLED:
                wait = _RECONNECT_SECONDS if await self._renew() else next(delays)
                with suppress(builtins.TimeoutError):
                    async with asyncio.timeout(wait):
                        await recorder.wait()
        await self._end_server()

    async def _renew(self) -> bool:
        """Start the server's stream again: the server, or the camera at it, may have been away.

        The recorder goes on calling the same port, so it has to be that one.

        Returns:
            Whether the server accepted.
        """
        assert self.opened is not None
        try:
            camera = next((one for one in await self._api.cameras() if one.key == self.camera.key), None)
            if camera is None:
                return False
            self.camera = camera
            await self._clear()
            await self._api.start(camera, self.opened.port, self.capability)
        except AsynccamError as error:
            _LOG.debug("%s does not stream again yet: %s", self._name, error)
            return False
        return True
