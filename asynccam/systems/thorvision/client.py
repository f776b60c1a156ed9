"""ThorVisionClient: cameras of one server, and their recordings on this computer. See docs/thorvision.md."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakSet

import aiohttp

from asynccam.errors import BusyError, DeviceError, StateError, UsageError
from asynccam.net.http import HttpClient
from asynccam.recording import RecorderState
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.systems.thorvision.api import ServerApi
from asynccam.systems.thorvision.hotplug import HotPlug, describe
from asynccam.systems.thorvision.models import (
    DEFAULT_HOST,
    HTTP_PORT,
    RECORDABLE,
    Camera,
    Capability,
    Versions,
)
from asynccam.systems.thorvision.ports import PortPool
from asynccam.systems.thorvision.results import OpenStream, StreamStart, StreamStop
from asynccam.systems.thorvision.stream import CameraStream
from asynccam.systems.thorvision.stream_settings import Split, StreamSettings, prepare_recording
from asynccam.wall_clock import WALL_CLOCK

_DEFAULT_SETTINGS: Final = StreamSettings()
_GUARDS: Final[WeakSet[asyncio.Task[None]]] = WeakSet()
"""Tasks that wait for the end of the program, and not for one another."""


class ThorVisionClient:
    """The cameras of one ThorVision server.

    A context manager: entering it asks the server for its cameras, leaving it is `cleanup`. It does not
    connect before the first call otherwise. Recordings run in this computer's GStreamer, in processes
    that belong to the thread of the event loop.

    Args:
        host: The server.
        port: Its HTTP port.
        session: HTTP session to share; one that is handed in is never closed.
        timeout: Seconds the server may take for an answer.
        settings: How streams behave.
        ports: Where SRT ports come from; clients of one server should share a pool.
        events: Where to tell what happens; a hub of its own without one.
        backoff: Waits between tries of the connection for hot-plug events.

    Attributes:
        events: Hot-plug events, what recorders tell, `Gap`: see `asynccam.systems.thorvision.events`.
        ports, settings: As above.
        address: ``thorvision://HOST:PORT``.
    """

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        port: int = HTTP_PORT,
        *,
        session: aiohttp.ClientSession | None = None,
        timeout: float = 10.0,
        settings: StreamSettings = _DEFAULT_SETTINGS,
        ports: PortPool | None = None,
        events: EventHub | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.address = f"thorvision://{f'[{host}]' if ':' in host else host}:{port}"
        self.events = events if events is not None else EventHub(self.address)
        self.ports = ports if ports is not None else PortPool()
        self._own_events = events is None
        self._http = HttpClient(session)
        self._api = ServerApi(host, port, self._http, timeout)
        self.settings = settings
        self._timeout = timeout
        self._backoff = backoff
        self._streams: dict[int, CameraStream] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._hot_plug: HotPlug | None = None
        self._guard = TaskScope(f"guard of {self.address}")
        self._closed = False

    # -- what the server tells ----------------------------------------------------------------------

    async def list_cameras(self) -> list[Camera]:
        """All cameras that are at the server now.

        Raises:
            ConnectionError, TimeoutError: The server cannot be asked.
            RemoteProtocolError: It answers nonsense.
            DeviceError: It refuses.
        """
        self._expect_end()
        return list(await self._api.cameras())

    async def list_logs(self) -> list[str]:
        """Names of the server's logs; errors as of `list_cameras`."""
        return list(await self._api.logs())

    async def get_log(self, name: str) -> str:
        """One of the server's logs, whole.

        Raises:
            NotFoundError: There is none of that name.
            AsynccamError: As of `list_cameras`.
        """
        return await self._api.log(name)

    async def openapi(self) -> dict[str, Any]:
        """The server's own description of its API; errors as of `list_cameras`."""
        return await self._api.openapi()

    async def versions(self) -> Versions:
        """Versions of the API and the program; errors as of `list_cameras`."""
        return await self._api.versions()

    # -- cameras that come and go -------------------------------------------------------------------

    async def watch(self) -> None:
        """Have hot-plug events told from now on, beginning with a `CameraAdded` for every camera there is.

        The connection comes back by itself when it is lost; what changed meanwhile is in a `Gap`.
        Harmless when called twice.

        Raises:
            AsynccamError: The server cannot be reached now, see `list_cameras`.
            StateError: The client is closed.
        """
        self._check_open()
        if self._hot_plug is not None:
            return
        self._expect_end()
        self._hot_plug = hot_plug = HotPlug(
            self.address,
            self._api.events_url,
            self._api.cameras,
            self.events,
            timeout=self._timeout,
            backoff=self._backoff,
        )
        try:
            await hot_plug.live.start()
        except BaseException:
            self._hot_plug = None
            raise

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Cameras as `watch` knows them; none before it was called."""
        return self._hot_plug.roster.cameras if self._hot_plug is not None else ()

    def camera_id(self, camera: Camera) -> str:
        """The camera's stable id, which events and results call it by."""
        return describe(self.address, camera).id

    # -- streams ------------------------------------------------------------------------------------

    async def open_stream(self, camera: Camera, capability: Capability) -> OpenStream:
        """Have the server send a camera's pictures to who calls its SRT port.

        Of a camera that streams already, the stream there is is the result, whatever its capability.

        Raises:
            UsageError: The capability is none that is sent as Motion JPEG.
            NotFoundError: The server has no such camera.
            DeviceError, BusyError: It refused, on several ports.
            ConnectionError, TimeoutError: It cannot be asked.
            StateError: The client is closed.
        """
        _check_recordable(capability)
        async with self._locks[camera.id]:
            running = self._streams.get(camera.id)
            if running is not None and running.opened is not None:
                return running.opened
            if running is not None:
                await self._end(camera.id)  # a recording that ended by itself
            try:
                return await self._stream(camera, capability).open()
            except BaseException:
                self._streams.pop(camera.id, None)
                raise

    async def arm_recording(
        self,
        camera: Camera,
        capability: Capability,
        *,
        output_dir: str | Path,
        split: Split | None = None,
        patience: float = 3.0,
    ) -> None:
        """Get ready for `start_stream_with_recording` with the same files.

        The server sends, and a recorder takes what comes and throws it away. The recording then begins with
        the first frame that the server sends after its start. When this raises or is cancelled, no process
        and no stream on the server is left; `stop_stream` ends both.

        Args:
            camera: From `list_cameras`.
            capability: One of its capabilities.
            output_dir: Where the files will go; made if missing.
            split: How they will be split.
            patience: Seconds to wait for frames. That none come is told by the start only.

        Raises:
            BusyError: The camera is being recorded.
            UsageError, RecordingError, StorageError: As for `start_stream_with_recording`.
            AsynccamError: The server cannot be asked or refuses, see `open_stream`.
        """
        _check_recordable(capability)
        split = split or Split()
        directory = await prepare_recording(Path(output_dir), split)
        async with self._locks[camera.id]:
            running = self._streams.get(camera.id)
            if running is not None and running.recording:
                raise BusyError(f"{self.camera_id(camera)} is being recorded; stop that first")
            if running is not None and (running.recorder or running.capability != capability):
                await self._end(camera.id)
            try:
                await self._stream(camera, capability).arm(directory, split, patience=patience)
            except BaseException:
                await finish(self._end(camera.id))
                raise

    async def start_stream_with_recording(
        self,
        camera: Camera,
        capability: Capability,
        *,
        output_dir: str | Path,
        split_max_files: int = 0,
        split_max_time_sec: float = 0,
        split_max_size_mb: float = 0,
        gstreamer_debug: bool = False,
    ) -> StreamStart:
        """Record a camera on this computer; returns once the first frame is being written.

        Of a camera that is being recorded already, the first start is the result. Whatever else the
        camera was streaming, for anybody, is stopped. When this raises or is cancelled, no process, no
        stream on the server and no file without a frame is left.

        Args:
            camera: From `list_cameras`.
            capability: One of its capabilities; `Camera.best` chooses.
            output_dir: Where the files go, ``ID_NAME_YYYYmmdd_HHMMSS-NN.mkv``; made if missing.
            split_max_files: Keep only the newest so many files; 0 for all.
            split_max_time_sec: Seconds in a file; 0 for no limit.
            split_max_size_mb: Megabytes (1,000,000 bytes) in a file; 0 for no limit.
            gstreamer_debug: Whether GStreamer's debug log is written beside the files.

        Raises:
            UsageError: The capability is none that is sent as Motion JPEG, or a limit is below 0.
            RecordingError: GStreamer or one of its elements is missing, or it gave up.
            TimeoutError: The server accepted, and no frame came from any of several ports.
            StorageError: The directory cannot be written.
            AsynccamError: The server cannot be asked or refuses, see `open_stream`.
        """
        commanded_at, commanded = WALL_CLOCK.pair()
        _check_recordable(capability)
        split = Split(split_max_files, split_max_time_sec, split_max_size_mb)
        directory = await prepare_recording(Path(output_dir), split)
        async with self._locks[camera.id]:
            running = self._streams.get(camera.id)
            if running is not None and running.recording and running.started is not None:
                return running.started
            if running is not None and (running.recorder or running.capability != capability):
                await self._end(camera.id)  # a recording that ended by itself, or another picture
            stream = self._stream(camera, capability)
            try:
                return await stream.record(
                    directory, split, commanded_at=commanded_at, commanded=commanded, debug=gstreamer_debug
                )
            except BaseException:
                await finish(self._end(camera.id))
                raise

    async def stop_stream(self, camera_id: int) -> StreamStop:
        """End a camera's recording and then its stream, and say what is in the files.

        Cancelled, it still ends both. A server that does not answer or refuses is in the result's
        ``server_error``; the files are finished all the same.

        Args:
            camera_id: The number that the stream was started under.

        Raises:
            StateError: This client streams nothing from that camera.
        """
        async with self._locks[camera_id]:
            if camera_id not in self._streams:
                raise StateError(f"camera {camera_id} of {self.address} is not streaming to this client")
            return await finish(self._end(camera_id))

    async def end_leftover(self, camera: Camera) -> None:
        """Have the server end a camera's stream that another client, perhaps a dead one, had it send.

        Raises:
            AsynccamError: The server cannot be asked; that it has nothing to end is no error.
        """
        async with self._locks[camera.id]:
            if camera.id not in self._streams:
                with suppress(DeviceError, BusyError):
                    await self._api.stop(camera.id)

    @property
    def streams(self) -> Mapping[int, OpenStream | None]:
        """What this client streams, by the number it was started under; None where the server has ended."""
        return {camera_id: stream.opened for camera_id, stream in self._streams.items()}

    def took_over(self, camera_id: int) -> bool:
        """Return whether a camera was streaming for somebody else when its stream was opened here."""
        stream = self._streams.get(camera_id)
        return stream is not None and stream.took_over

    def recorder_state(self, camera_id: int) -> RecorderState | None:
        """Where the recorder of a stream stands; None if nothing of that camera is recorded."""
        stream = self._streams.get(camera_id)
        return stream.recorder.state if stream is not None and stream.recorder is not None else None

    # -- the end ------------------------------------------------------------------------------------

    async def cleanup(self) -> dict[int, StreamStop]:
        """Stop all streams and recordings and close every connection; harmless when called twice.

        Where a program ends without it, ``asyncio.run`` brings it about, once all other tasks have ended.

        Returns:
            What `stop_stream` would have said of each stream.
        """
        self._closed = True
        return await finish(self._cleanup())

    async def _cleanup(self) -> dict[int, StreamStop]:
        async def stop(camera_id: int) -> StreamStop | None:
            async with self._locks[camera_id]:  # a start that is under way comes to its end
                return await self._end(camera_id) if camera_id in self._streams else None

        hot_plug, self._hot_plug = self._hot_plug, None
        async with TaskScope(f"end of {self.address}") as scope:
            ids = self._streams.keys() | {key for key, lock in self._locks.items() if lock.locked()}
            stopped = await scope.gather({key: stop(key) for key in ids}, name="stop")
        if hot_plug is not None:
            await hot_plug.live.aclose()
        await self._http.aclose()
        if self._own_events:
            await self.events.aclose()
        await self._guard.aclose()
        failures = [result for result in stopped.values() if isinstance(result, Exception)]
        if failures:
            raise failures[0]
        return {key: result for key, result in stopped.items() if isinstance(result, StreamStop)}

    async def __aenter__(self) -> Self:
        try:
            await self.list_cameras()
        except BaseException:
            await finish(self.cleanup())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cleanup()

    # -- inside, with the camera's lock held --------------------------------------------------------

    def _stream(self, camera: Camera, capability: Capability) -> CameraStream:
        """The camera's stream, a new one if there is none."""
        self._check_open()
        self._expect_end()
        if camera.id not in self._streams:
            self._streams[camera.id] = CameraStream(
                self._api,
                self.ports,
                camera,
                self.camera_id(camera),
                capability,
                self.settings,
                self.events,
            )
        return self._streams[camera.id]

    async def _end(self, camera_id: int) -> StreamStop:
        return await self._streams.pop(camera_id).close()

    def _expect_end(self) -> None:
        """See that what is opened now is closed at the end of the program."""
        if not self._closed and not self._guard.tasks:
            _GUARDS.add(self._guard.spawn(self._await_end(), name="end of the program"))

    async def _await_end(self) -> None:
        """Clean up when ``asyncio.run`` cancels all tasks that a program has left, and this one with them."""
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if not self._closed:
                # Whoever stops a stream in the last moment is to hear what is in its files.
                others = {task for task in asyncio.all_tasks() if task.cancelling()} - set(_GUARDS)
                if others:
                    await asyncio.wait(others, timeout=60.0)
                self._closed = True
                await self._cleanup()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise StateError(f"the client of {self.address} is closed")


XdaqClient = ThorVisionClient
"""The maker's other name for the same client."""


def _check_recordable(capability: Capability) -> None:
    if capability.media_type not in RECORDABLE:
        raise UsageError(f"{capability} is not sent as Motion JPEG; choose one of {', '.join(RECORDABLE)}")
