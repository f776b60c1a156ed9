"""ThorVisionClient: cameras of one server, and their recordings on this computer. See docs/thorvision.md."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote
from weakref import WeakSet

import aiohttp

from asynccam.errors import BusyError, DeviceError, NotFoundError, StateError, UsageError
from asynccam.net.http import HttpClient
from asynccam.outside import clean_text
from asynccam.recording import RecorderState
from asynccam.runtime.disk import on_disk
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope, finish, finish_on_error
from asynccam.systems.thorvision.api import ServerApi
from asynccam.systems.thorvision.hotplug import HotPlugWatcher, describe
from asynccam.systems.thorvision.models import (
    DEFAULT_HOST,
    HTTP_PORT,
    RECORDABLE,
    Camera,
    Capability,
    Versions,
    parse_names,
    parse_object,
    parse_version,
)
from asynccam.systems.thorvision.ports import PortPool
from asynccam.systems.thorvision.results import OpenStream, StreamStart, StreamStop
from asynccam.systems.thorvision.stream import CameraStream, Split, StreamSettings, prepare_recording
from asynccam.wall_clock import WALL_CLOCK

_DEFAULT_SETTINGS: Final = StreamSettings()
_OTHER_TASKS_SECONDS: Final = 60.0
_CLEANUP_TASKS: Final[WeakSet[asyncio.Task[None]]] = WeakSet()
"""Cleanup tasks of all clients; excluded when one of them waits for other tasks at loop shutdown."""


class ThorVisionClient:
    """The cameras of one ThorVision server.

    A context manager: entering it asks the server for its cameras, leaving it is `cleanup`. Otherwise it
    connects at the first call. Recordings run in GStreamer processes of this computer, which belong to the
    thread of the event loop.

    Args:
        host: Server.
        port: HTTP port.
        session: Caller-owned HTTP session, which is never closed.
        timeout: Seconds to wait for a response.
        settings: Behaviour of the streams.
        ports: SRT ports; clients of one server should share a pool.
        events: Hub for hot-plug and recorder events, see `asynccam.systems.thorvision.events`.
        backoff: Delays between connection attempts for hot-plug events.

    Attributes:
        events, ports, settings: As given, or the client's own.
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
        self._hot_plug: HotPlugWatcher | None = None
        self._cleanup_scope = TaskScope(f"cleanup of {self.address}")
        self._closed = False

    # -- requests -----------------------------------------------------------------------------------

    async def list_cameras(self) -> list[Camera]:
        """Return all cameras that are at the server now.

        Raises:
            ConnectionError, TimeoutError: The server does not answer.
            RemoteProtocolError: The answer is not a list of cameras.
            DeviceError: The server refuses.
        """
        self._clean_up_at_end()
        return list(await self._api.cameras())

    async def list_logs(self) -> list[str]:
        """Return the names of the server's logs; errors as of `list_cameras`."""
        return list(parse_names(await self._api.get("/logs"), self._api.base_url))

    async def get_log(self, name: str) -> str:
        """Return one of the server's logs, or raise `NotFoundError`; other errors as of `list_cameras`.

        Bytes that are not UTF-8 are replaced.
        """
        log = await self._api.get(f"/logs/{quote(name, safe='')}")
        return clean_text(log.decode(errors="replace"))

    async def openapi(self) -> dict[str, Any]:
        """Return the server's OpenAPI document; errors as of `list_cameras`."""
        return parse_object(await self._api.get("/openapi.json"), self._api.base_url)

    async def versions(self) -> Versions:
        """Return the versions of the API and the server; errors as of `list_cameras`."""
        return Versions(
            api=await self._version("/api_version"), server=await self._version("/server_version")
        )

    async def _version(self, path: str) -> str | None:
        try:
            return parse_version(await self._api.get(path), self._api.base_url)
        except NotFoundError:
            return None

    # -- hot-plug events ----------------------------------------------------------------------------

    async def watch(self) -> None:
        """Emit hot-plug events from now on, beginning with a `CameraAdded` for each camera.

        A connection that is lost is made again; changes during the loss are in a `MissedEvents`.
        Harmless when called twice.

        Raises:
            AsynccamError: The server cannot be reached now, see `list_cameras`.
            StateError: The client is closed.
        """
        self._check_open()
        if self._hot_plug is not None:
            return
        self._clean_up_at_end()
        self._hot_plug = hot_plug = HotPlugWatcher(
            self.address, self._api, self.events, timeout=self._timeout, backoff=self._backoff
        )
        try:
            await hot_plug.connection.start()
        except BaseException:
            self._hot_plug = None
            raise

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Return the cameras as `watch` knows them; empty before it was called."""
        return self._hot_plug.known.cameras if self._hot_plug is not None else ()

    def camera_id(self, camera: Camera) -> str:
        """Return the camera's stable id, used in events and results."""
        return describe(self.address, camera).id

    # -- streams ------------------------------------------------------------------------------------

    async def open_stream(self, camera: Camera, capability: Capability) -> OpenStream:
        """Have the server send a camera's pictures to callers of its SRT port.

        If the camera streams to this client already, that stream is returned, whatever its capability.

        Raises:
            UsageError: The capability is not sent as Motion JPEG.
            NotFoundError: The server has no such camera.
            DeviceError, BusyError: The server refused, on several ports.
            ConnectionError, TimeoutError: The server does not answer.
            StateError: The client is closed.
        """
        _check_recordable(capability)
        async with self._locks[camera.id]:
            running = self._streams.get(camera.id)
            if running is not None and running.opened is not None:
                return running.opened
            async with self._closed_on_error(camera, capability) as stream:
                return await stream.open()

    async def arm_recording(
        self,
        camera: Camera,
        capability: Capability,
        *,
        output_dir: str | Path,
        split: Split | None = None,
        patience: float = 3.0,
    ) -> None:
        """Prepare `start_stream_with_recording` with the same files.

        The server sends, and a recorder discards what it receives. The recording then begins with the first
        frame that the server sends after its start. If this raises or is cancelled, no process and no stream
        on the server is left; `stop_stream` ends both.

        ``patience`` is the number of seconds to wait for frames; without frames, the start raises.

        Raises:
            BusyError: The camera is being recorded.
            UsageError, RecordingError, StorageError: As for `start_stream_with_recording`.
            AsynccamError: The server cannot be asked or refuses, see `open_stream`.
        """
        _check_recordable(capability)
        split = split or Split()
        directory = await on_disk(Path(output_dir).absolute)
        await prepare_recording(directory, split)
        async with self._locks[camera.id]:
            running = self._streams.get(camera.id)
            if running is not None and running.recording:
                raise BusyError(f"{self.camera_id(camera)} is being recorded; stop that first")
            async with self._closed_on_error(camera, capability) as stream:
                await stream.arm(directory, split, timeout=patience)

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

        If this client records the camera already, the result of the first start is returned. Any other
        stream of the camera, of any client, is stopped. If this raises or is cancelled, no process, no
        stream on the server and no file without a frame is left.

        Args:
            camera: From `list_cameras`.
            capability: One of its capabilities; `Camera.best` chooses.
            output_dir: Directory for ``ID_NAME_YYYYmmdd_HHMMSS-NN.mkv``; made if missing.
            split_max_files: Number of newest files to keep; 0 for all.
            split_max_time_sec: Seconds in a file; 0 for no limit.
            split_max_size_mb: Megabytes (1,000,000 bytes) in a file; 0 for no limit.
            gstreamer_debug: Whether GStreamer's debug log is written beside the files.

        Raises:
            UsageError: The capability is not sent as Motion JPEG, or a limit is below 0.
            RecordingError: GStreamer or one of its elements is missing, or it gave up.
            TimeoutError: The server accepted, and no frame arrived on any of several ports.
            StorageError: The directory cannot be written.
            AsynccamError: The server cannot be asked or refuses, see `open_stream`.
        """
        commanded_at, commanded = WALL_CLOCK.pair()
        _check_recordable(capability)
        split = Split(split_max_files, split_max_time_sec, split_max_size_mb)
        directory = await on_disk(Path(output_dir).absolute)
        armed = self._streams.get(camera.id)
        if armed is None or not armed.is_armed_for(directory, split, debug=gstreamer_debug):
            await prepare_recording(directory, split)
        async with self._locks[camera.id]:
            running = self._streams.get(camera.id)
            if running is not None and running.recording and running.started is not None:
                return running.started
            async with self._closed_on_error(camera, capability) as stream:
                return await stream.record(
                    directory, split, commanded_at=commanded_at, commanded=commanded, debug=gstreamer_debug
                )

    async def stop_stream(self, camera_id: int) -> StreamStop:
        """Stop the recording, then the stream, that was started under an id; report what the files contain.

        A cancellation does not cut it short. If the server does not answer or refuses, ``server_error`` of
        the result has the reason; the files are finished all the same.

        Raises:
            StateError: The camera does not stream to this client.
        """
        async with self._locks[camera_id]:
            if camera_id not in self._streams:
                raise StateError(f"camera {camera_id} of {self.address} is not streaming to this client")
            return await finish(self._close_stream(camera_id))

    async def end_leftover(self, camera: Camera) -> None:
        """Stop a stream that the server sends to another client, such as a program that crashed.

        Raises:
            AsynccamError: The server cannot be asked. An idle camera is not an error.
        """
        async with self._locks[camera.id]:
            if camera.id not in self._streams:
                with suppress(DeviceError, BusyError):
                    await self._api.stop(camera.id)

    @property
    def streams(self) -> Mapping[int, OpenStream | None]:
        """Return this client's streams by the id they were started under; None if the server ended one."""
        return {camera_id: stream.opened for camera_id, stream in self._streams.items()}

    def took_over(self, camera_id: int) -> bool:
        """Return whether a camera was streaming to another client when its stream was opened here."""
        stream = self._streams.get(camera_id)
        return stream is not None and stream.took_over

    def recorder_state(self, camera_id: int) -> RecorderState | None:
        """Return the state of a stream's recorder, or None if the camera is not recorded."""
        stream = self._streams.get(camera_id)
        return stream.recorder.state if stream is not None and stream.recorder is not None else None

    # -- cleanup ------------------------------------------------------------------------------------

    async def cleanup(self) -> dict[int, StreamStop]:
        """Stop all streams and recordings and close every connection; return the result of each stop.

        Harmless when called twice. If a program ends without it, ``asyncio.run`` triggers it once all other
        tasks have ended.
        """
        self._closed = True
        return await finish(self._cleanup())

    async def _cleanup(self) -> dict[int, StreamStop]:
        async def stop(camera_id: int) -> StreamStop | None:
            async with self._locks[camera_id]:  # waits for a start that is under way
                return await self._close_stream(camera_id) if camera_id in self._streams else None

        hot_plug, self._hot_plug = self._hot_plug, None
        async with TaskScope(f"end of {self.address}") as scope:
            ids = self._streams.keys() | {key for key, lock in self._locks.items() if lock.locked()}
            stopped = await scope.gather({key: stop(key) for key in ids}, name="stop")
        if hot_plug is not None:
            await hot_plug.connection.aclose()
        await self._http.aclose()
        if self._own_events:
            await self.events.aclose()
        await self._cleanup_scope.aclose()
        failures = [result for result in stopped.values() if isinstance(result, Exception)]
        if failures:
            raise failures[0]
        return {key: result for key, result in stopped.items() if isinstance(result, StreamStop)}

    async def __aenter__(self) -> Self:
        async with finish_on_error(self.cleanup):
            await self.list_cameras()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cleanup()

    def _clean_up_at_end(self) -> None:
        """Spawn the task that cleans up when the program ends without `cleanup`."""
        if not self._closed and not self._cleanup_scope.tasks:
            _CLEANUP_TASKS.add(self._cleanup_scope.spawn(self._wait_for_end(), name="end of the program"))

    async def _wait_for_end(self) -> None:
        """Wait until ``asyncio.run`` cancels all tasks that are left, this one among them; then clean up."""
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if not self._closed:
                # A task that stops a stream itself while it is cancelled must get the result: it comes first.
                others = {task for task in asyncio.all_tasks() if task.cancelling()} - set(_CLEANUP_TASKS)
                if others:
                    await asyncio.wait(others, timeout=_OTHER_TASKS_SECONDS)
                self._closed = True
                await self._cleanup()
            raise

    # -- with the camera's lock held ----------------------------------------------------------------

    @asynccontextmanager
    async def _closed_on_error(self, camera: Camera, capability: Capability) -> AsyncIterator[CameraStream]:
        """Yield the camera's stream, a new one if none can be used; close it if the block fails."""
        stream = self._streams.get(camera.id)
        if stream is not None and (stream.recorder or stream.capability != capability):
            await self._close_stream(camera.id)  # a recording that ended by itself, or another picture
        self._check_open()
        self._clean_up_at_end()
        if camera.id not in self._streams:
            name = self.camera_id(camera)
            self._streams[camera.id] = CameraStream(
                self._api, self.ports, camera, name, capability, self.settings, self.events
            )
        async with finish_on_error(lambda: self._close_stream(camera.id)):
            yield self._streams[camera.id]

    async def _close_stream(self, camera_id: int) -> StreamStop:
        return await self._streams.pop(camera_id).close()

    def _check_open(self) -> None:
        if self._closed:
            raise StateError(f"the client of {self.address} is closed")


XdaqClient = ThorVisionClient
"""The maker's other name for the same client."""


def _check_recordable(capability: Capability) -> None:
    if capability.media_type not in RECORDABLE:
        raise UsageError(f"{capability} is not sent as Motion JPEG; choose one of {', '.join(RECORDABLE)}")
