"""CameraClient: a MediaMTX Camera Service of either generation. See docs/mediamtx.md."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import aiohttp
from yarl import URL

from asynccam.errors import StateError, TimeoutError, UsageError
from asynccam.model import info as model
from asynccam.model.credentials import TokenProvider
from asynccam.model.digest import DigestName
from asynccam.model.events import Event
from asynccam.model.features import Progress
from asynccam.model.info import CameraState, LocalFile
from asynccam.net.http import HttpClient
from asynccam.net.http_download import download_http
from asynccam.net.reconnecting import ConnectionState, ConnectionStateChanged
from asynccam.net.tls import client_context
from asynccam.net.websocket import WebSocketOptions
from asynccam.recording.pictures import MAX_PICTURE, inspect_picture
from asynccam.runtime.event_hub import EventHub, Subscription
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import finish, finish_on_error
from asynccam.systems.mediamtx.auth import INTERNAL_ERROR, ServiceCapabilities, translated_errors
from asynccam.systems.mediamtx.errors import (
    AuthenticationError,
    CameraServiceError,
    ConnectionError,
    MediaMTXError,
    PermissionDeniedError,
    UnsupportedError,
)
from asynccam.systems.mediamtx.events import TOPICS, CameraStatusUpdate, RecordingStatusUpdate
from asynccam.systems.mediamtx.models import (
    CameraInfo,
    CameraList,
    FileInfo,
    FileList,
    RecordingInfo,
    Report,
    ServiceResult,
    SnapshotInfo,
)
from asynccam.systems.mediamtx.rpc import PostedCall, ServiceConnection, Subscriptions
from asynccam.systems.mediamtx.settings import credentials, endpoint
from asynccam.systems.mediamtx.state_cache import UNKNOWN, ServiceStateCache
from asynccam.systems.mediamtx.stop_timers import StopTimers
from asynccam.wall_clock import WALL_CLOCK

_LOG = logging.getLogger(__name__)

CameraHandler = Callable[[CameraInfo], Awaitable[object] | object]
RecordingHandler = Callable[[RecordingInfo], Awaitable[object] | object]
LossHandler = Callable[[], Awaitable[object] | object]
R = TypeVar("R", bound=ServiceResult)

RECORDINGS: Final = "recordings"
SNAPSHOTS: Final = "snapshots"
PAGE_SIZE: Final = 100
"""Files per request when iterating."""
_JPEG_SUFFIXES: Final = (".jpg", ".jpeg")
_FAILED: Final = ("FAILED", "ERROR")
_PRESS_INTERVAL: Final = 1.0
"""Seconds between two retries or pings of `CameraClient.pressing`."""
_OPEN_TIMEOUT: Final = 5.0
"""Seconds at most for one try to open a connection.

TCP repeats its first segment after 1, 3 and 7 s: a try older than 5 s is slower than a new one.
"""
_PONG_TIMEOUT: Final = 3.0
"""Seconds for a silent service to answer a ping."""


class CameraClient:
    """One MediaMTX Camera Service, over a connection that is restored whenever it is lost.

    Arguments that are None are read from the environment (``MEDIAMTX_HOST``, ``_PORT``, ``_USE_SSL``,
    ``_AUTH_TYPE``, ``_AUTH_TOKEN``, ``_API_KEY``, ``_HTTP_PORT``); the defaults are ``localhost``, 8080, no
    TLS, ``jwt`` and 8003. The three ``on_...`` handlers may be set at any time and be functions or coroutine
    functions; their exceptions are counted and logged.

    Methods for cameras take ``device_path``, or the same as ``device``. All remote methods raise
    `CameraServiceError` for a refusal (`CameraNotFoundError`, `MediaMTXError`, `PermissionDeniedError` and so
    on), its `ConnectionError` for a lost connection, `TimeoutError`, and `RemoteProtocolError` for an invalid
    result. A service without a method refuses with `UnsupportedError`.

    Args:
        host: Name or address of the service.
        port: Port of its WebSocket; deployed services listen on 8002.
        use_ssl: Use TLS.
        auth_type: ``jwt``, ``api_key`` or ``auto``; by default the type of the given secret.
        auth_token: The JWT, or an async callable that returns a valid one for each sign-in.
        api_key: The key for ``api_key``.
        max_retries: Tries of the first connection, all within ``timeout``; a lost connection is retried
            without end.
        retry_delay: Seconds before the second retry; each following wait is twice as long.
        max_retry_delay: Longest wait in seconds.
        path: Path of the WebSocket.
        http_port: Port of the file server.
        verify: Check certificates; False accepts any.
        timeout: Seconds for `connect` with all its tries, and default for a call.
        stall_timeout: Seconds without a byte after which a download fails.
        topics: Events to subscribe to at a service of generation 2.
        quiet_limit: Seconds of silence after which the connection counts as lost, or None.
        http: Caller-owned session for downloads; by default a new one.
        events: Caller-owned hub for events; by default a new one, in `events`.

    Attributes:
        endpoint: Addresses of the service.
        on_camera_status_update: Called with a `CameraInfo` when the service reports a camera.
        on_recording_status_update: Called with a `RecordingInfo` when it reports a recording.
        on_connection_lost: Called when the connection is lost.
        environment: Whether missing credentials may be read from the environment.

    Raises:
        UsageError: An argument or an environment variable is invalid.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        use_ssl: bool | None = None,
        auth_type: str | None = None,
        auth_token: str | TokenProvider | None = None,
        api_key: str | None = None,
        max_retries: int = 3,
        retry_delay: float = 1.0,
        *,
        path: str = "/ws",
        http_port: int | None = None,
        verify: bool = True,
        timeout: float = 30.0,
        stall_timeout: float = 600.0,
        max_retry_delay: float = 30.0,
        topics: Sequence[str] = TOPICS,
        quiet_limit: float | None = None,
        http: aiohttp.ClientSession | None = None,
        events: EventHub | None = None,
        environment: bool = True,
    ) -> None:
        self.endpoint = endpoint(host, port, use_ssl, path, http_port)
        self._prefix = f"{self.endpoint.address}/"  # of the ids of this service's cameras
        self.on_camera_status_update: CameraHandler | None = None
        self.on_recording_status_update: RecordingHandler | None = None
        self.on_connection_lost: LossHandler | None = None
        self._credentials = credentials(auth_type, auth_token, api_key, environment=environment)
        self._attempts = max(max_retries, 1)
        self._backoff = Backoff(
            initial=retry_delay, maximum=max(max_retry_delay, retry_delay), immediate=True
        )
        self._verify = verify
        self._timeout = timeout
        self._stall_timeout = stall_timeout
        self._quiet_limit = quiet_limit
        self._subscriptions: Subscriptions = dict.fromkeys(topics)
        self._state = ServiceStateCache(self.endpoint.address)
        self._stop_timers = StopTimers(self._stop_when_connected)
        self._session = http
        self._http: HttpClient | None = None
        self._owns_hub = events is None
        self._hub = events or EventHub(str(self.endpoint.address))
        self._handlers: tuple[Subscription, ...] = ()
        self._connection: ServiceConnection | None = None
        self._pressing = 0  # blocks of `pressing`, each with one call at most
        self._listing_is_broken = False

    def __repr__(self) -> str:
        return f"<CameraClient {self.endpoint.address} {self.state.value}>"

    # -- state known without a call -----------------------------------------------------------------

    @property
    def bad_notifications(self) -> Counter[str]:
        """Number of notifications with an invalid payload since connecting, by method."""
        return self._connected().bad_notifications

    def describe(self, device: str) -> model.CameraInfo:
        """Describe a camera as all systems do; unknown values are empty."""
        return self._state.describe(self._state.cameras.get(device) or CameraInfo(device=device))

    def camera_state(self, device: str, info: CameraInfo | None = None) -> CameraState:
        """Return a camera's state; ``info`` is a status newer than the cached one."""
        return self._state.state(device, info)

    def facts(self, device: str, info: CameraInfo | None = None) -> Mapping[str, str]:
        """Return the identifying facts of a camera that the service reports; empty if it is unavailable.

        ``info`` is a status newer than the cached one.
        """
        return self._state.facts(info or self._state.cameras.get(device))

    def recording(self, device: str) -> RecordingInfo | None:
        """Return a camera's present or last recording, as far as it was reported to this client."""
        return self._state.recordings.get(device)

    def note_recording(self, recording: RecordingInfo) -> None:
        """Record the result of a start or stop by `post` or `call`, and emit its events."""
        self._emit(self._state.update_recording(recording))

    def note_lost_start(self, device: str) -> None:
        """Record that the response to a start was lost, so that the camera may be recording."""
        self._emit(self._state.mark_start_lost(device))

    def note_uptime(self, device: str, uptime: float) -> None:
        """Record for how many seconds a camera has been served without interruption until now."""
        self._emit(self._state.mark_up_since(device, WALL_CLOCK.elapsed() - uptime))

    @property
    def calls_under_way(self) -> int:
        """Number of calls without a response on the present connection."""
        link = None if self._connection is None else self._connection.rpc.connection
        return 0 if link is None else link.pending

    @property
    def state(self) -> ConnectionState:
        """State of the connection."""
        return ConnectionState.CLOSED if self._connection is None else self._connection.rpc.state

    @property
    def generation(self) -> int:
        """Generation of the service, 1 or 2, as detected at the last sign-in."""
        return self._capabilities.generation

    @property
    def role(self) -> str:
        """Role at the last sign-in; ``""`` if the service did not send it."""
        return self._capabilities.role

    @property
    def events(self) -> EventHub:
        """Hub for the events of `asynccam.systems.mediamtx.events` and `asynccam.model.events`.

        Unless it was passed in, disconnecting closes it, and a new one replaces it.
        """
        return self._hub

    # -- the connection ---------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect and sign in; from then on a lost connection is restored.

        All tries together take the client's ``timeout`` at most. A token that may only be too early for
        the service's clock is tried again for as long.

        Raises:
            AuthenticationError: The credentials, or the certificate, are refused.
            ConnectionError, TimeoutError: The service cannot be reached.
            RemoteProtocolError: The peer is not a MediaMTX Camera Service.
            StateError: Already connected.
        """
        tls = await client_context(verify=self._verify) if self.endpoint.secure else None
        if self._connection is not None:
            raise StateError(f"{self.endpoint.address} is connected already")
        connection = self._connection = ServiceConnection(
            self.endpoint,
            self._credentials,
            self._state,
            self._subscriptions,
            self._hub,
            # No step of connecting may take longer than a call: a caller that allows 2 s must not wait for 5.
            WebSocketOptions(
                tls=tls, timeout=min(self._timeout, _OPEN_TIMEOUT), quiet_limit=self._quiet_limit
            ),
            timeout=self._timeout,
            backoff=self._backoff,
        )
        self._handlers = (
            self._hub.subscribe(self._on_camera, CameraStatusUpdate),
            self._hub.subscribe(self._on_recording, RecordingStatusUpdate),
            self._hub.subscribe(self._on_state, ConnectionStateChanged),
        )
        async with finish_on_error(self._release):
            await connection.start(self._attempts, self._timeout)

    async def disconnect(self) -> None:
        """Stop timed recordings that are still running, then close everything; may be called twice."""
        async with AsyncExitStack() as stack:  # releases even if the stop fails
            stack.push_async_callback(self._release)
            await self._stop_timers.aclose()

    async def __aenter__(self) -> "CameraClient":
        if self._connection is None:
            await self.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await finish(self.disconnect())

    async def wait_until_connected(self, *, timeout: float | None = None) -> None:
        """Wait until a lost connection is restored.

        Raises:
            ConnectionError: Not connected, and not about to be.
            AuthenticationError: The credentials are refused.
            TimeoutError: Not within ``timeout`` seconds.
        """
        reconnecting = self._connected().rpc
        if self._credentials.has_provider:  # which may return another token by now
            reconnecting.retry_authentication()
        state = await reconnecting.wait_for(
            ConnectionState.READY, ConnectionState.REFUSED, ConnectionState.CLOSED, timeout=timeout
        )
        if state is not ConnectionState.READY:
            await self.ping()  # raises the reason

    def retry_now(self) -> None:
        """Connect now, without the rest of the wait between tries."""
        if self._connection is not None:
            self._connection.rpc.retry_now()

    @contextmanager
    def pressing(self) -> Iterator[None]:
        """Detect within seconds, in a block with one call, whether the service answers.

        A lost connection is retried at once and every second. A service that is silent for a second is
        pinged, and the connection counts as lost without a pong within three seconds. While other calls are
        waiting there is no ping, because they may delay a service of generation 1.
        """
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle
        self._pressing += 1

        def push() -> None:
            nonlocal timer
            timer = loop.call_later(_PRESS_INTERVAL, push)
            link = None if self._connection is None else self._connection.rpc.connection
            if link is None:
                self.retry_now()
            elif link.pending <= self._pressing:
                link.socket.probe(_PONG_TIMEOUT)

        timer = loop.call_later(_PRESS_INTERVAL, push)
        try:
            self.retry_now()
            yield
        finally:
            self._pressing -= 1
            timer.cancel()

    def set_credentials(
        self,
        *,
        auth_type: str | None = None,
        auth_token: str | TokenProvider | None = None,
        api_key: str | None = None,
    ) -> None:
        """Use other credentials from the next sign-in on; after a refusal that is now.

        Raises:
            UsageError: Not a valid ``auth_type``.
        """
        self._credentials.replace(credentials(auth_type, auth_token, api_key))
        if self._connection is not None:
            self._connection.rpc.retry_authentication()

    # -- calls ------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        repeat: bool = False,
    ) -> Any:
        """Call any remote method, and return the ``result``: any JSON value.

        Args:
            method: The remote method.
            params: By name.
            timeout: Seconds for everything, or None for the client's own, which is longer while slow
                calls of this client delay a service of generation 1.
            repeat: Whether the call changes nothing on the service. Only then it waits for a
                reconnect, and is sent again if the connection is lost before its response.

        ``maybe_executed`` of a `ConnectionError` or `TimeoutError` is true if the request was sent.
        """
        return await self._connected().call(method, params, timeout=timeout, repeat=repeat)

    def post(self, method: str, params: dict[str, Any], *, timeout: float) -> PostedCall:
        """Send a call without waiting, for starts that must not be delayed.

        Raises `ConnectionError`, and sends nothing, if the service is not connected at this moment.
        """
        return self._connected().post(method, params, timeout=timeout)

    async def _read(self, result: type[R], method: str, params: dict[str, Any] | None = None) -> R:
        """Call a method that only reads, and so may be sent again after a lost connection."""
        return result.read(await self.call(method, params, repeat=True), method=method)

    async def _change(
        self,
        result: type[R],
        method: str,
        params: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> R:
        """Call a method that changes something, and so is never sent twice."""
        return result.read(await self.call(method, params, timeout=timeout), method=method)

    # -- cameras ----------------------------------------------------------------------------------

    async def get_camera_list(self) -> list[CameraInfo]:
        """Return all cameras of the service."""
        result = await self._read(CameraList, "get_camera_list")
        self._emit(self._state.update_cameras(result.cameras))
        return result.cameras

    async def get_camera_status(self, device_path: str = "", *, device: str = "") -> CameraInfo:
        """Return one camera; generation 1 answers ``DISCONNECTED`` for a camera it does not know."""
        return await self._read(CameraInfo, "get_camera_status", _device(device_path, device))

    async def get_camera_capabilities(self, device_path: str = "", *, device: str = "") -> Report:
        """Return formats and resolutions of one camera."""
        return await self._read(Report, "get_camera_capabilities", _device(device_path, device))

    async def take_snapshot(
        self,
        device_path: str = "",
        filename: str | None = None,
        *,
        device: str = "",
        timeout: float | None = None,
    ) -> SnapshotInfo:
        """Take a picture, which stays on the service until `download_snapshot`.

        ``filename`` is the service's name for the picture, by default its own choice; ``timeout`` is in
        seconds, by default the client's.

        Raises:
            MediaMTXError: The service reported a failure.
        """
        params = _given(**_device(device_path, device), filename=filename)
        picture = await self._change(SnapshotInfo, "take_snapshot", params, timeout=timeout)
        if picture.status.upper() in _FAILED:
            reason = (picture.model_extra or {}).get("error") or (picture.model_extra or {}).get("message")
            raise MediaMTXError(
                f"take_snapshot: {params['device']} gave no picture{f': {reason}' if reason else ''}",
                data=picture.model_dump(),
                method="take_snapshot",
            )
        return picture

    async def start_recording(
        self,
        device_path: str = "",
        filename: str | None = None,
        *,
        device: str = "",
        duration: float | None = None,
        format: str | None = None,  # noqa: A002 - the service's own name for it
        timeout: float | None = None,
    ) -> RecordingInfo:
        """Start a recording; never sent twice by the client.

        Args:
            device_path: The camera.
            filename: Sent if given; released services choose the name themselves.
            device: The camera, by the argument's other name.
            duration: Seconds after which it ends. A camera of a generation 1 service hangs after a
                recording that ends by itself, so there the client sends the stop at the right time, or
                on disconnecting if that is earlier.
            format: Container, ``mp4`` for example.
            timeout: Seconds instead of the client's.

        Raises:
            CameraBusyError: The camera records already.
        """
        params = _device(device_path, device)
        camera = params["device"]
        if duration is not None and duration <= 0:
            raise UsageError(f"duration must be > 0, not {duration} s")
        stop_here = duration is not None and self._capabilities.generation == 1
        params = _given(**params, filename=filename, duration=None if stop_here else duration, format=format)
        try:
            recording = await self._change(RecordingInfo, "start_recording", params, timeout=timeout)
        except (ConnectionError, TimeoutError) as error:
            if error.maybe_executed:
                self.note_lost_start(camera)
            raise
        except asyncio.CancelledError:
            self.note_lost_start(camera)
            raise
        self.note_recording(recording.of(camera))
        if stop_here and duration is not None:
            self._stop_timers.stop_after(camera, duration)
        return self._with_known_id(recording, camera)

    async def stop_recording(
        self, device_path: str = "", *, device: str = "", timeout: float | None = None
    ) -> RecordingInfo:
        """Stop the recording and return it with its file; never sent twice by the client."""
        params = _device(device_path, device)
        camera = params["device"]
        self._stop_timers.cancel(camera)
        recording = await self._change(RecordingInfo, "stop_recording", params, timeout=timeout)
        self.note_recording(recording.of(camera))
        return self._with_known_id(recording, camera)

    async def get_recording_status(self, device_path: str = "", *, device: str = "") -> RecordingInfo:
        """Return the camera's present or last recording.

        A service of generation 1 does not have this method. The result is then the last one that a
        notification, start or stop reported, with status ``UNKNOWN`` if there was none since connecting.
        """
        params, method = _device(device_path, device), "get_recording_status"
        camera = params["device"]
        if method not in self._capabilities.missing:
            try:
                recording = await self._read(RecordingInfo, method, params)
                return self._state.with_known_id(recording.of(camera))
            except UnsupportedError:
                if method not in self._capabilities.missing:
                    raise
        known = self.recording(camera)
        if known is not None:
            return known
        info = await self.get_camera_status(camera)
        return RecordingInfo(device=info.device or camera, status=UNKNOWN)

    def _with_known_id(self, recording: RecordingInfo, camera: str) -> RecordingInfo:
        """Return a result under the id that its recording was first reported with."""
        known = self.recording(recording.device or camera)
        return (
            recording if known is None or not known.recording_id else recording.known_as(known.recording_id)
        )

    async def _stop_when_connected(self, camera: str) -> None:
        await self.wait_until_connected()
        await self.stop_recording(camera)

    # -- files ------------------------------------------------------------------------------------

    async def list_recordings(self, *, limit: int | None = None, offset: int | None = None) -> FileList:
        """Return one page of recordings: ``limit`` files (at most 1000 in generation 2) after ``offset``.

        One released service of generation 1 cannot list files. The list then holds the recordings that were
        reported to this client, and ``complete`` is False.
        """
        return await self._list("list_recordings", limit, offset, self._state.files)

    async def list_snapshots(self, *, limit: int | None = None, offset: int | None = None) -> FileList:
        """Return one page of pictures; see `list_recordings`."""
        return await self._list("list_snapshots", limit, offset, {})

    def iter_recordings(self, *, page: int = PAGE_SIZE) -> AsyncIterator[FileInfo]:
        """Iterate over all recordings, ``page`` per request; each once, even while new ones appear."""
        return _all_pages(self.list_recordings, page)

    def iter_snapshots(self, *, page: int = PAGE_SIZE) -> AsyncIterator[FileInfo]:
        """Iterate over all pictures, ``page`` per request; each once, even while new ones appear."""
        return _all_pages(self.list_snapshots, page)

    async def get_recording_info(self, filename: str) -> FileInfo:
        """Return one recording's file."""
        try:
            return await self._read(FileInfo, "get_recording_info", {"filename": filename})
        except CameraServiceError as error:
            if not self._is_broken_listing(error) or filename not in self._state.files:
                raise
            return self._state.files[filename]

    async def get_snapshot_info(self, filename: str) -> FileInfo:
        """Return one picture's file."""
        return await self._read(FileInfo, "get_snapshot_info", {"filename": filename})

    async def delete_recording(self, filename: str) -> Report:
        """Delete a recording on the service; never sent twice by the client."""
        report = await self._change(Report, "delete_recording", {"filename": filename})
        self._state.files.pop(filename, None)
        return report

    async def delete_snapshot(self, filename: str) -> Report:
        """Delete a picture on the service; never sent twice by the client."""
        return await self._change(Report, "delete_snapshot", {"filename": filename})

    async def download_recording(
        self,
        file: FileInfo | str,
        directory: Path,
        *,
        progress: Progress | None = None,
        digest: DigestName | None = "sha256",
    ) -> LocalFile:
        """Download a recording whole, resuming with ``Range`` if the connection breaks.

        Args:
            file: As listed, or its name.
            directory: Created if missing. No existing file is replaced.
            progress: Called with bytes so far and the total.
            digest: Algorithm of the digest; None for no digest.

        Raises:
            TransferError: The transfer cannot be resumed; ``part`` holds the received bytes.
            CameraNotFoundError: No such file.
            AuthenticationError: The file server refuses the credentials.
            ConnectionError, TimeoutError: The file server cannot be reached.
            StorageError: This computer's disk.
        """
        return await self._download(RECORDINGS, file, directory, progress, digest)

    async def download_snapshot(
        self,
        file: FileInfo | str,
        directory: Path,
        *,
        progress: Progress | None = None,
        digest: DigestName | None = "sha256",
    ) -> LocalFile:
        """Download a picture whole; see `download_recording`.

        A file named as a JPEG is parsed before it gets its name here. Bytes that precede it are not kept.

        Raises:
            DamagedFileError: The JPEG is damaged; ``part`` holds the received bytes.
            RemoteProtocolError: A file named ``.jpg`` or ``.jpeg`` is not a JPEG.
        """
        return await self._download(SNAPSHOTS, file, directory, progress, digest)

    async def _list(
        self, method: str, limit: int | None, offset: int | None, reported: Mapping[str, FileInfo]
    ) -> FileList:
        try:
            return await self._read(FileList, method, _given(limit=limit, offset=offset))
        except CameraServiceError as error:
            if not self._is_broken_listing(error):
                raise
        files = list(reported.values())[::-1]  # newest first, as services sort them
        first = offset or 0
        return FileList(
            files=files[first : None if limit is None else first + limit],
            total=len(files),
            limit=limit,
            offset=first,
            complete=False,
        )

    def _is_broken_listing(self, error: CameraServiceError) -> bool:
        capabilities = self._capabilities
        broken = (
            error.code == INTERNAL_ERROR
            and capabilities.generation == 1
            and error.method not in capabilities.working
        )
        if broken and not self._listing_is_broken:
            self._listing_is_broken = True
            _LOG.warning(
                "%s cannot list its files (%s); only recordings that it reported are known",
                self.endpoint.address,
                error,
            )
        return broken

    async def _download(
        self,
        folder: str,
        file: FileInfo | str,
        directory: Path,
        progress: Progress | None,
        digest: DigestName | None,
    ) -> LocalFile:
        file = FileInfo(filename=file) if isinstance(file, str) else file
        used = self._credentials.token
        try:
            return await self._download_once(folder, file, directory, progress, digest)
        except PermissionDeniedError:
            raise
        except AuthenticationError:
            # Another download may have swapped to the second secret meanwhile.
            if self._credentials.token == used and not self._credentials.swap():
                raise
        return await self._download_once(folder, file, directory, progress, digest)

    async def _download_once(
        self,
        folder: str,
        file: FileInfo,
        directory: Path,
        progress: Progress | None,
        digest: DigestName | None,
    ) -> LocalFile:
        name = file.filename
        jpeg = folder == SNAPSHOTS and PurePosixPath(name).suffix.lower() in _JPEG_SUFFIXES
        with translated_errors():
            return await download_http(
                await self._http_client(),
                self._file_url(folder, file),
                directory,
                name,
                headers=self._credentials.headers,
                progress=progress,
                stall_timeout=self._stall_timeout,
                digest=digest,
                inspect=partial(inspect_picture, source=name) if jpeg else None,
                max_size=MAX_PICTURE if jpeg else None,
            )

    def _file_url(self, folder: str, file: FileInfo) -> URL:
        """Return a file's URL: the service's own only if it would not send the token to another host."""
        own = URL(self.endpoint.file_url(folder, file.filename), encoded=True)
        try:
            url = own.join(URL(file.download_url)) if file.download_url else own
        except ValueError:
            return own
        return url if (url.scheme, url.host) == (own.scheme, own.host) else own

    async def _http_client(self) -> HttpClient:
        if self._http is not None:
            return self._http
        unverified = self.endpoint.secure and not self._verify
        http = HttpClient(self._session, tls=await client_context(verify=False) if unverified else None)
        if self._http is None:  # another download may have made one meanwhile
            self._http = http
        return self._http

    # -- the service ------------------------------------------------------------------------------

    async def ping(self) -> str:
        """Check that the service answers; returns ``pong``."""
        return str(await self.call("ping", repeat=True))

    async def get_metrics(self) -> Report:
        """Return the service's metrics."""
        return await self._read(Report, "get_metrics")

    async def get_status(self) -> Report:
        """Return the service's health."""
        return await self._read(Report, "get_status")

    async def get_system_status(self) -> Report:
        """Return the service's health; generation 2."""
        return await self._read(Report, "get_system_status")

    async def get_server_info(self) -> Report:
        """Return name and version of the service."""
        return await self._read(Report, "get_server_info")

    async def get_storage_info(self) -> Report:
        """Return the usage of the service's disk; one released service of generation 1 always fails here."""
        return await self._read(Report, "get_storage_info")

    async def set_retention_policy(
        self,
        policy_type: str,
        *,
        max_age_days: float | None = None,
        max_size_gb: float | None = None,
        enabled: bool = True,
    ) -> Report:
        """Set which files the service deletes by itself.

        ``policy_type`` is ``age`` (with ``max_age_days``), ``size`` (with ``max_size_gb``) or ``manual``.
        """
        params = _given(
            policy_type=policy_type, max_age_days=max_age_days, max_size_gb=max_size_gb, enabled=enabled
        )
        return await self._change(Report, "set_retention_policy", params)

    async def cleanup_old_files(self) -> Report:
        """Have the service apply its retention policy now."""
        return await self._change(Report, "cleanup_old_files")

    # -- streams ----------------------------------------------------------------------------------

    async def get_streams(self) -> list[Report]:
        """Return the media server's streams."""
        result = await self.call("get_streams", repeat=True)
        streams = result.get("streams", []) if isinstance(result, Mapping) else result
        return [
            Report.read(stream, method="get_streams")
            for stream in (streams if isinstance(streams, list) else [streams])
        ]

    async def start_streaming(self, device_path: str = "", *, device: str = "") -> Report:
        """Start a camera's live stream; generation 2."""
        return await self._change(Report, "start_streaming", _device(device_path, device))

    async def stop_streaming(self, device_path: str = "", *, device: str = "") -> Report:
        """Stop a camera's live stream; generation 2."""
        return await self._change(Report, "stop_streaming", _device(device_path, device))

    async def get_stream_url(self, device_path: str = "", *, device: str = "") -> Report:
        """Return the URL of a camera's live stream; generation 2."""
        return await self._read(Report, "get_stream_url", _device(device_path, device))

    async def get_stream_status(self, device_path: str = "", *, device: str = "") -> Report:
        """Return the status of a camera's live stream; generation 2."""
        return await self._read(Report, "get_stream_status", _device(device_path, device))

    async def discover_external_streams(self, **params: Any) -> Report:
        """Search for external streams; generation 2."""
        return await self._change(Report, "discover_external_streams", params)

    async def add_external_stream(self, **params: Any) -> Report:
        """Have the service serve an external stream; generation 2."""
        return await self._change(Report, "add_external_stream", params)

    async def remove_external_stream(self, **params: Any) -> Report:
        """Remove an external stream from the service; generation 2."""
        return await self._change(Report, "remove_external_stream", params)

    async def get_external_streams(self) -> Report:
        """Return the external streams that the service serves; generation 2."""
        return await self._read(Report, "get_external_streams")

    async def set_discovery_interval(self, **params: Any) -> Report:
        """Set how often the service searches for external streams; generation 2."""
        return await self._change(Report, "set_discovery_interval", params)

    # -- events -----------------------------------------------------------------------------------

    async def subscribe_events(
        self, topics: Sequence[str], filters: Mapping[str, Any] | None = None
    ) -> Report:
        """Subscribe to topics (``system.health`` for example), also on later connections; generation 2.

        ``filters`` are the service's own.
        """
        wanted = None if filters is None else dict(filters)
        report = await self._read(Report, "subscribe_events", _given(topics=list(topics), filters=wanted))
        self._subscriptions.update(dict.fromkeys(topics, wanted))
        return report

    async def unsubscribe_events(self, topics: Sequence[str] | None = None) -> Report:
        """Unsubscribe from topics, by default from all; generation 2."""
        report = await self._read(
            Report, "unsubscribe_events", _given(topics=None if topics is None else list(topics))
        )
        for topic in tuple(self._subscriptions) if topics is None else topics:
            self._subscriptions.pop(topic, None)
        return report

    async def get_subscription_stats(self) -> Report:
        """Return statistics of subscriptions; generation 2."""
        return await self._read(Report, "get_subscription_stats")

    # -- inside -----------------------------------------------------------------------------------

    @property
    def _capabilities(self) -> ServiceCapabilities:
        return self._connected().capabilities

    def _connected(self) -> ServiceConnection:
        if self._connection is None:
            raise ConnectionError(f"not connected to {self.endpoint.address}; call connect() first")
        return self._connection

    def _emit(self, events: Iterable[Event]) -> None:
        for event in events:
            self._hub.emit(event)

    async def _release(self) -> None:
        connection, self._connection = self._connection, None
        http, self._http = self._http, None
        handlers, self._handlers = self._handlers, ()
        async with AsyncExitStack() as stack:
            if self._owns_hub:
                hub, self._hub = self._hub, EventHub(str(self.endpoint.address))
                stack.push_async_callback(hub.aclose)
            for handler in handlers:
                stack.callback(handler.cancel)
            if http is not None:
                stack.push_async_callback(http.aclose)
            if connection is not None:
                await connection.rpc.aclose()

    def _on_camera(self, event: CameraStatusUpdate) -> Awaitable[object] | object:
        handler = self.on_camera_status_update
        return handler(event.info) if handler is not None and self._is_own(event.camera) else None

    def _on_recording(self, event: RecordingStatusUpdate) -> Awaitable[object] | object:
        handler = self.on_recording_status_update
        return handler(event.recording) if handler is not None and self._is_own(event.camera) else None

    def _is_own(self, camera: str) -> bool:
        """Return whether a camera is this service's; a hub that was passed in may serve others too."""
        return camera.startswith(self._prefix)

    def _on_state(self, event: ConnectionStateChanged) -> Awaitable[object] | object:
        handler = self.on_connection_lost
        lost = event.state is ConnectionState.LOST and event.service == str(self.endpoint.address)
        return handler() if handler is not None and lost else None


def _device(device_path: str, device: str) -> dict[str, str]:
    """Return a call's parameters from either name; `UsageError` if neither was given, or both differ."""
    if device_path and device and device_path != device:
        raise UsageError(f"one camera at a time: device_path is {device_path!r}, device {device!r}")
    if not (device_path or device):
        raise UsageError("which camera? Give its device, /dev/video0 or camera0 for example")
    return {"device": device_path or device}


def _given(**params: Any) -> dict[str, Any]:
    """Return the parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


async def _all_pages(list_page: Callable[..., Awaitable[FileList]], page: int) -> AsyncIterator[FileInfo]:
    if page < 1:
        raise UsageError(f"page must be at least 1, not {page}")
    seen: set[str] = set()
    offset = 0
    while True:
        listing = await list_page(limit=page, offset=offset)
        # A file that appeared meanwhile moves others to the next page, where they are listed again.
        fresh = [file for file in listing.files if file.filename and file.filename not in seen]
        for file in fresh:
            seen.add(file.filename)
            yield file
        offset += len(listing.files)
        if not listing.files or (listing.total is not None and offset >= listing.total):
            return
        if not fresh and listing.total is None:  # the service ignores the offset
            return
