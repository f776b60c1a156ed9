"""MediaMtxCamera: one camera of a MediaMTX Camera Service as a `Camera`, with its recorder."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import AddressError, AsynccamError, StateError, TimeoutError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.digest import DigestName
from asynccam.model.events import CameraEvent, CameraFound, CameraLost, CameraStateChanged
from asynccam.model.features import (
    AnswerMeaning,
    ArmedStart,
    FeatureKey,
    Files,
    Progress,
    Record,
    RecordingGap,
    RecordPlan,
    Snapshot,
    StartReport,
    StopReport,
    Stream,
)
from asynccam.model.identity import Identity
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, LocalFile, MediaFile
from asynccam.runtime.event_hub import Subscription
from asynccam.runtime.tasks import finish_on_error
from asynccam.runtime.timing import deadline
from asynccam.systems._base import choose_camera
from asynccam.systems.mediamtx import models
from asynccam.systems.mediamtx.client import RECORDINGS, SNAPSHOTS, CameraClient
from asynccam.systems.mediamtx.errors import CameraBusyError, CameraNotFoundError, ConnectionError
from asynccam.systems.mediamtx.rpc import PostedCall
from asynccam.systems.mediamtx.state_cache import has_ended
from asynccam.wall_clock import unix_now

MakeClient = Callable[..., CameraClient]
"""Makes a client; called with ``host``, ``port`` and ``use_ssl`` by name."""

_PICTURE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")

ANSWER_MEANINGS: Final[Mapping[tuple[int, str], AnswerMeaning]] = {
    # Its start waits for the stream and for the recorder, and is refused if either does not start.
    (1, "STARTED"): AnswerMeaning.RECORDING,
    # It triggers the publisher and replies; the recorder may have its first frame more than a second later.
    (2, "STARTED"): AnswerMeaning.HEARD,
}
"""Meaning of the result of ``start_recording``, by generation and status; by default `AnswerMeaning.HEARD`.

The service's own statuses and notifications repeat the commands it received, so they prove nothing.
"""


class MediaMtxCamera(Camera):
    """One camera of a service, identified by the service's address and the camera's device there.

    Its features are `Record`, `Snapshot`, `Files` and `Stream`. Errors are those of `CameraClient`.

    Args:
        client: Client of its service.
        device: ``camera0`` or ``/dev/video0`` for example.
        owns_client: Whether closing the camera disconnects the client.

    Attributes:
        client: For features that only this system has.
        device: The camera's name at the service.
    """

    def __init__(self, client: CameraClient, device: str, *, owns_client: bool = False) -> None:
        self.client = client
        self.device = device
        self._owns_client = owns_client
        self._identity = Identity(client.facts(device), error=CameraNotFoundError)
        self._features: Mapping[FeatureKey[Any], object] = MappingProxyType(
            {
                Record: MediaMtxRecord(client, device, self._identity),
                Snapshot: self,
                Files: self,
                Stream: self,
            }
        )

    @classmethod
    async def connect(
        cls, address: Address | str, *, make_client: MakeClient = CameraClient
    ) -> "MediaMtxCamera":
        """Connect to a service and find one camera of it.

        Args:
            address: `Address` or ``mediamtx[s]://HOST[:PORT]/CAMERA``; the camera may be left out when the
                service has a single one, and ``video0`` is short for ``/dev/video0``.
            make_client: Makes the client; for a token, pass
                ``functools.partial(CameraClient, auth_token=...)``.

        Raises:
            AddressError: Not an address of this system, or ambiguous.
            CameraNotFoundError: The service has no such camera.
            AuthenticationError, ConnectionError, TimeoutError, RemoteProtocolError: As
                `CameraClient.connect`.
        """
        parsed = _parse_address(address)
        client = make_client(host=parsed.host, port=parsed.port, use_ssl=parsed.secure)
        async with finish_on_error(client.disconnect):
            await client.connect()
            camera = await cls.at(parsed, client)
        camera._owns_client = True
        return camera

    @classmethod
    async def at(cls, address: Address | str, client: CameraClient) -> "MediaMtxCamera":
        """Find one camera of a connected client's service; the client stays caller-owned.

        Raises:
            AddressError, CameraNotFoundError: As for `connect`.
            CameraServiceError: The service refuses.
        """
        with client.pressing():
            cameras = await client.get_camera_list()
        camera = choose_camera(
            cameras,
            _parse_address(address),
            lambda camera: (camera.device,),
            lambda camera: (camera.device.removeprefix("/dev/"),),
            error=CameraNotFoundError,
        )
        return cls(client, camera.device)

    @classmethod
    async def all_of(cls, client: CameraClient) -> "tuple[MediaMtxCamera, ...]":
        """Return all cameras of a connected client's service; the client stays caller-owned."""
        with client.pressing():
            cameras = await client.get_camera_list()
        return tuple(cls(client, camera.device) for camera in cameras)

    @property
    def info(self) -> CameraInfo:
        """Identity of the camera, as far as the service has reported it."""
        return replace(self.client.describe(self.device), identity=self._identity.facts)

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """Features by key."""
        return self._features

    async def status(self) -> CameraStatus:
        """Ask the service for the camera's status; a loss is detected as by `CameraClient.pressing`.

        Raises `CameraNotFoundError` if the service has another camera under this name.
        """
        with self.client.pressing():
            info = await self.client.get_camera_status(self.device)
        self._identity.check(self.id, self.client.facts(self.device, info))
        if info.metrics is not None and info.metrics.uptime is not None:
            self.client.note_uptime(self.device, info.metrics.uptime)
        return CameraStatus(
            state=self.client.camera_state(self.device, info),
            detail=info.status,
            extra=info.model_dump(exclude={"status"}, exclude_none=True),
        )

    async def snapshot(self, directory: Path) -> LocalFile:
        """Take a picture on the service and download it."""
        picture = await self.client.take_snapshot(self.device)
        return await self.client.download_snapshot(picture.filename, directory)

    async def list_files(self) -> tuple[MediaFile, ...]:
        """Return recordings and pictures of the whole service, which does not report their cameras."""
        recordings = [_media_file(RECORDINGS, file) async for file in self.client.iter_recordings()]
        return (*recordings, *[_media_file(SNAPSHOTS, file) async for file in self.client.iter_snapshots()])

    async def download(
        self,
        file: MediaFile | str,
        directory: Path,
        *,
        progress: Progress | None = None,
        digest: DigestName | None = "sha256",
    ) -> LocalFile:
        """Download one file whole; see `CameraClient.download_recording`.

        Args:
            file: A file as listed or as a stop named it, or its name alone: then its suffix distinguishes
                pictures from recordings.
            directory: Created if missing.
            progress: Called with bytes so far and the total.
            digest: Algorithm of the digest; None for no digest.
        """
        name, file_id = (file, "") if isinstance(file, str) else (file.name, file.id)
        folder = file_id.partition("/")[0]
        if folder not in (RECORDINGS, SNAPSHOTS):
            folder = SNAPSHOTS if PurePosixPath(name).suffix.lower() in _PICTURE_SUFFIXES else RECORDINGS
        download = self.client.download_snapshot if folder == SNAPSHOTS else self.client.download_recording
        return await download(name, directory, progress=progress, digest=digest)

    async def stream_urls(self) -> Mapping[str, str]:
        """Return URLs of the live stream by kind: ``rtsp``, ``hls``, ``webrtc``."""
        info = await self.client.get_camera_status(self.device)
        streams = {
            kind: url for kind, url in info.streams.model_dump().items() if isinstance(url, str) and url
        }
        if not streams and self.client.generation == 2:
            report = (await self.client.get_stream_url(self.device)).model_dump()
            url = report.get("stream_url") or report.get("url")
            if isinstance(url, str):
                streams[url.partition(":")[0]] = url
        return streams

    async def aclose(self) -> None:
        """Disconnect the client if the camera owns it; may be called twice."""
        if self._owns_client:
            await self.client.disconnect()


def _parse_address(address: Address | str) -> Address:
    parsed = Address.parse(address) if isinstance(address, str) else address
    if parsed.system != "mediamtx":
        raise AddressError(f"{parsed} is not the address of a MediaMTX Camera Service")
    return parsed


def _media_file(folder: str, file: models.FileInfo) -> MediaFile:
    return MediaFile(
        name=file.filename, size=file.file_size, id=f"{folder}/{file.filename}", created=file.modified_time
    )


class MediaMtxRecord:
    """The `Record` feature of one camera, which must be the one of this ``identity``."""

    def __init__(self, client: CameraClient, device: str, identity: Identity) -> None:
        self.client = client
        self.device = device
        self.outages = OfflineTracker(client, device)
        self._identity = identity

    async def arm(self, plan: RecordPlan) -> ArmedStart:
        """Wait for the connection and check that the camera is available and not recording."""
        address = self.client.endpoint.address
        async with deadline(plan.timeout, f"readiness of {self.device} at {address}"):
            await self.client.wait_until_connected()
            info = await self.client.get_camera_status(self.device)
        self.check_identity(info)
        state = self.client.camera_state(self.device, info)
        if state is CameraState.RECORDING:
            raise CameraBusyError(f"{self.device} at {address} is recording already; stop that first")
        if state is CameraState.UNAVAILABLE:
            raise CameraNotFoundError(f"{self.device} is {info.status} at {address}")
        # Without the plan's duration: a camera of generation 1 hangs after a recording that ends by itself.
        return MediaMtxStart(self, plan.timeout)

    def check_identity(self, info: models.CameraInfo | None = None) -> None:
        """Raise `CameraNotFoundError` for another camera under this name; ``info`` is a newer status."""
        camera_id = self.client.describe(self.device).id
        self._identity.check(camera_id, self.client.facts(self.device))
        if info is not None:
            self._identity.check(camera_id, self.client.facts(self.device, info))

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Stop the recording and report its file; waits until a lost connection is restored.

        Nothing is sent to another camera that has its name now (`CameraNotFoundError`). With any other error
        no stop was reported either.
        """
        began = time.monotonic()
        async with deadline(timeout, f"connection to {self.client.endpoint.address}"):
            await self.client.wait_until_connected()
        # After a reconnect the service may have another camera under this name.
        self.check_identity()
        left = max(timeout - (time.monotonic() - began), 0.001)
        sent_at = unix_now()
        before = self.client.recording(self.device)
        try:
            recording = await self.client.stop_recording(self.device, timeout=left)
        except (ConnectionError, TimeoutError):
            # The service's own notification of the stop counts as well.
            reported = self.client.recording(self.device)
            if reported is None or reported is before or not has_ended(reported):
                raise
            recording = reported
        known = self.client.recording(self.device) or recording
        name = recording.filename or known.filename
        size = recording.file_size or known.file_size
        return StopReport(
            commanded_at=sent_at,
            stopped_at=unix_now(),
            status=recording.status,
            files=(MediaFile(name, size or None, f"{RECORDINGS}/{name}"),) if name else (),
            gaps=self.outages.stop(),
        )


@dataclass(slots=True, eq=False)
class MediaMtxStart:
    """`ArmedStart` of one camera: a ``start_recording`` on a connection that is open and signed in."""

    record: MediaMtxRecord  # tracks outages of the camera from the response on
    timeout: float  # seconds for the response
    _posted: PostedCall | None = None
    _error: AsynccamError | None = None
    _closed: bool = False

    def release(self, at: float | None) -> None:
        """Send the start without waiting; connection errors are raised by `accepted`."""
        device = self.record.device
        if at is not None:
            raise UsageError(f"{device} starts at once; it has no scheduled start")
        if self._closed or self._posted is not None or self._error is not None:
            raise StateError(f"the start of {device} was already released or closed")
        try:
            # The connection may have been restored since it was armed.
            self.record.check_identity()
            self._posted = self.record.client.post(
                "start_recording", {"device": device}, timeout=self.timeout
            )
        except (ConnectionError, CameraNotFoundError) as error:
            self._error = error

    async def accepted(self) -> StartReport:
        """Wait for the response; errors as of `CameraClient.start_recording`."""
        if self._error is not None:
            raise self._error
        posted, client, device = self._posted, self.record.client, self.record.device
        if posted is None or self._closed:
            raise StateError(f"the start of {device} was not released")
        try:
            result = await posted.result()
        except (ConnectionError, TimeoutError) as error:
            if error.maybe_executed:
                client.note_lost_start(device)
            raise
        except asyncio.CancelledError:
            client.note_lost_start(device)
            raise
        recording = models.RecordingInfo.read(result, method="start_recording")
        client.note_recording(recording.of(device))
        self.record.outages.start()
        return StartReport(
            commanded_at=posted.sent_at,
            accepted_at=unix_now() if posted.answered_at is None else posted.answered_at,
            status=recording.status,
            names=(recording.filename,) if recording.filename else (),
            meaning=ANSWER_MEANINGS.get((client.generation, recording.status.upper()), AnswerMeaning.HEARD),
        )

    async def aclose(self) -> None:
        """Stop waiting for the response; a start that was sent is not cancelled by this."""
        self._closed = True
        if self._posted is not None:
            self._posted.forget()


@dataclass(slots=True, eq=False)
class OfflineTracker:
    """Outages of a camera as its service reports them; a lost connection to the service is not an outage."""

    client: CameraClient
    device: str
    _subscription: Subscription | None = None
    _gaps: list[RecordingGap] = field(default_factory=list)
    _offline_since: float | None = None

    def start(self) -> None:
        """Start tracking, without earlier outages."""
        self.stop()
        self._gaps, self._offline_since = [], None
        events = (CameraLost, CameraFound, CameraStateChanged)
        self._subscription = self.client.events.subscribe(self._on_event, *events)

    def stop(self) -> tuple[RecordingGap, ...]:
        """Stop tracking, and return the outages since `start`; the last one may have no end."""
        if self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None
        if self._offline_since is not None:
            self._add_gap(None)
        return tuple(self._gaps)

    def _on_event(self, event: CameraEvent) -> None:
        if event.camera != self.client.describe(self.device).id:
            return
        offline = isinstance(event, CameraLost) or (
            isinstance(event, CameraStateChanged)
            and event.state in (CameraState.UNAVAILABLE, CameraState.ERROR)
        )
        if offline and self._offline_since is None:
            self._offline_since = event.at
        elif not offline and self._offline_since is not None:
            self._add_gap(event.at)

    def _add_gap(self, ended: float | None) -> None:
        assert self._offline_since is not None
        reason = "the camera was unavailable at its service"
        self._gaps.append(RecordingGap(self._offline_since, ended, reason=reason))
        self._offline_since = None
