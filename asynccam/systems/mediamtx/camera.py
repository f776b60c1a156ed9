"""MediaMtxCamera: one camera of a MediaMTX Camera Service behind the face that all cameras share."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import AddressError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.features import FeatureKey, Files, Progress, Record, Snapshot, Stream
from asynccam.model.identity import Identity
from asynccam.model.info import CameraInfo, CameraStatus, LocalFile, MediaFile
from asynccam.runtime.tasks import finish
from asynccam.systems._base import choose_camera
from asynccam.systems.mediamtx import models
from asynccam.systems.mediamtx.camera_record import MediaMtxRecord
from asynccam.systems.mediamtx.client import CameraClient
from asynccam.systems.mediamtx.errors import CameraNotFoundError
from asynccam.systems.mediamtx.files import RECORDINGS, SNAPSHOTS

MakeClient = Callable[..., CameraClient]
"""Makes a client; called with ``host``, ``port`` and ``use_ssl`` by name."""

_PICTURES: Final = (".jpg", ".jpeg", ".png", ".webp")


class MediaMtxCamera(Camera):
    """One camera of a service, known by the service's address and the camera's device there.

    It can `Record` on the service, take a `Snapshot`, has `Files` and a `Stream`.

    Args:
        client: How its service is reached.
        device: ``camera0`` or ``/dev/video0`` for example.
        owns_client: Whether closing the camera disconnects the client.

    Attributes:
        client: For what only this system has.
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
                service has a single one, and ``video0`` stands for ``/dev/video0``.
            make_client: Makes the client; for a token, hand in
                ``functools.partial(CameraClient, auth_token=...)``.

        Raises:
            AddressError: It is no address of this system, or does not say which camera.
            CameraNotFoundError: The service has no such camera.
            AuthenticationError, ConnectionError, TimeoutError, RemoteProtocolError: As
                `CameraClient.connect`.
        """
        place = _address(address)
        client = make_client(host=place.host, port=place.port, use_ssl=place.secure)
        try:
            await client.connect()
            camera = await cls.at(place, client)
        except BaseException:
            await finish(client.disconnect())
            raise
        camera._owns_client = True
        return camera

    @classmethod
    async def at(cls, address: Address | str, client: CameraClient) -> "MediaMtxCamera":
        """Find one camera of a connected client's service; the client stays the caller's to disconnect.

        Raises:
            AddressError, CameraNotFoundError: As for `connect`.
            CameraServiceError: The service refuses.
        """
        with client.pressing():
            cameras = await client.get_camera_list()
        camera = choose_camera(
            cameras,
            _address(address),
            lambda camera: (camera.device,),
            lambda camera: (camera.device.removeprefix("/dev/"),),
            error=CameraNotFoundError,
        )
        return cls(client, camera.device)

    @classmethod
    async def all_of(cls, client: CameraClient) -> "tuple[MediaMtxCamera, ...]":
        """All cameras of a connected client's service; the client stays the caller's to disconnect."""
        with client.pressing():
            cameras = await client.get_camera_list()
        return tuple(cls(client, camera.device) for camera in cameras)

    @property
    def info(self) -> CameraInfo:
        """Who the camera is, as far as the service has told."""
        return replace(self.client.describe(self.device), identity=self._identity.facts)

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """What the camera can do, by key."""
        return self._features

    async def status(self) -> CameraStatus:
        """Ask the service how the camera is; see `CameraClient.pressing` for how soon a loss is known.

        Raises:
            CameraNotFoundError: The service has another camera under this name.
            CameraServiceError: The service refuses, or cannot be reached.
            TimeoutError: It does not answer.
            RemoteProtocolError: It answers nonsense.
        """
        with self.client.pressing():
            answer = await self.client.get_camera_status(self.device)
        self._identity.check(self.id, self.client.facts(self.device, answer))
        if answer.metrics is not None and answer.metrics.uptime is not None:
            self.client.note_uptime(self.device, answer.metrics.uptime)
        return CameraStatus(
            state=self.client.camera_state(self.device, answer),
            detail=answer.status,
            extra=answer.model_dump(exclude={"status"}, exclude_none=True),
        )

    async def snapshot(self, directory: Path) -> LocalFile:
        """Take a picture on the service and bring it home.

        Raises:
            MediaMTXError: The camera gave none.
            CameraServiceError, TimeoutError, TransferError, StorageError: As `CameraClient.take_snapshot` and
                `CameraClient.download_snapshot`.
        """
        picture = await self.client.take_snapshot(self.device)
        return await self.client.download_snapshot(picture.filename, directory)

    async def list_files(self) -> tuple[MediaFile, ...]:
        """Recordings and pictures of the whole service: it does not tell which camera made them."""
        recordings = [_media(RECORDINGS, file) async for file in self.client.iter_recordings()]
        return (*recordings, *[_media(SNAPSHOTS, file) async for file in self.client.iter_snapshots()])

    async def download(
        self, file: MediaFile | str, directory: Path, *, progress: Progress | None = None
    ) -> LocalFile:
        """Bring one file home whole; see `CameraClient.download_recording`.

        Args:
            file: As listed, or as a stop named it, or the name alone: then its suffix tells a picture
                from a recording.
            directory: Where it goes; made if missing.
            progress: Called with bytes so far and the total.
        """
        name, place = (file, "") if isinstance(file, str) else (file.name, file.id)
        folder = place.partition("/")[0]
        if folder not in (RECORDINGS, SNAPSHOTS):
            folder = SNAPSHOTS if PurePosixPath(name).suffix.lower() in _PICTURES else RECORDINGS
        fetch = self.client.download_snapshot if folder == SNAPSHOTS else self.client.download_recording
        return await fetch(name, directory, progress=progress)

    async def stream_urls(self) -> Mapping[str, str]:
        """Addresses of the live stream by kind: ``rtsp``, ``hls``, ``webrtc``, as the service tells them."""
        answer = await self.client.get_camera_status(self.device)
        streams = {
            kind: url for kind, url in answer.streams.model_dump().items() if isinstance(url, str) and url
        }
        if not streams and self.client.generation == 2:
            told = (await self.client.get_stream_url(self.device)).model_dump()
            url = told.get("stream_url") or told.get("url")
            if isinstance(url, str):
                streams[url.partition(":")[0]] = url
        return streams

    async def aclose(self) -> None:
        """Disconnect the client if it is the camera's own; harmless when called twice."""
        if self._owns_client:
            await self.client.disconnect()


def _address(address: Address | str) -> Address:
    place = Address.parse(address) if isinstance(address, str) else address
    if place.system != "mediamtx":
        raise AddressError(f"{place} is not the address of a MediaMTX Camera Service")
    return place


def _media(folder: str, file: models.FileInfo) -> MediaFile:
    return MediaFile(
        name=file.filename, size=file.file_size, id=f"{folder}/{file.filename}", created=file.modified_time
    )
