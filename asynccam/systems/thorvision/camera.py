"""ThorVisionCamera: one camera of a server behind the face that all cameras share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import AddressError, NotFoundError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.features import FeatureKey, Record, Stream
from asynccam.model.identity import Identity
from asynccam.model.info import CameraInfo, CameraState, CameraStatus
from asynccam.recording import RecorderState
from asynccam.runtime.tasks import finish
from asynccam.systems._base import choose_camera
from asynccam.systems.thorvision import models
from asynccam.systems.thorvision.camera_record import ThorVisionRecord
from asynccam.systems.thorvision.client import ThorVisionClient
from asynccam.systems.thorvision.hotplug import describe
from asynccam.systems.thorvision.stream_settings import Split

MakeClient = Callable[[str, int], ThorVisionClient]
"""Makes a client from host and port."""

_AT_WORK: Final = {
    RecorderState.STARTING: CameraState.RECORDING,
    RecorderState.RECORDING: CameraState.RECORDING,
    RecorderState.STALLED: CameraState.RECORDING,
    RecorderState.RESTARTING: CameraState.RECORDING,
    RecorderState.STOPPING: CameraState.STOPPING,
}


class ThorVisionCamera(Camera):
    """One camera, known by its ``device_id``, or by name and number at a server that tells none.

    It can `Record`, on this computer, and has a `Stream`.

    Args:
        client: Its server.
        device: The camera as the server lists it.
        owns_client: Whether closing the camera cleans up the client.
        capability: What to ask the camera for; None for `models.Camera.best`.
        split: How recordings are split into files.

    Attributes:
        client: For what only ThorVision has.
        device: As the server listed it last.
        capability: As above; may be set before a start.
        split: As above; may be set before a start.
    """

    def __init__(
        self,
        client: ThorVisionClient,
        device: models.Camera,
        *,
        owns_client: bool = False,
        capability: models.Capability | None = None,
        split: Split | None = None,
    ) -> None:
        self.client = client
        self.device = device
        self.capability = capability
        self.split = split or Split()
        self._owns_client = owns_client
        self._identity = Identity(device.facts)
        self._record = ThorVisionRecord(self)
        self._features: Mapping[FeatureKey[Any], object] = MappingProxyType(
            {Record: self._record, Stream: self}
        )

    @classmethod
    async def connect(
        cls, address: Address | str, *, make_client: MakeClient = ThorVisionClient
    ) -> "ThorVisionCamera":
        """Find one camera of a server.

        Args:
            address: `Address` or ``thorvision://HOST[:PORT][/CAMERA]``, the camera being its device id, its
                number, ``NAME:NUMBER`` or its name; it may be left out when the server has a single one.
            make_client: Makes the client; for a shared HTTP session and ports of their own, hand in
                ``functools.partial(ThorVisionClient, session=..., ports=...)``.

        Raises:
            AddressError: It is no address of this system, or does not say which camera.
            NotFoundError: The server has no such camera.
            ConnectionError, TimeoutError: Nobody answers.
            RemoteProtocolError: What answers is no such server.
        """
        place = Address.parse(address) if isinstance(address, str) else address
        if place.system != "thorvision":
            raise AddressError(f"{place} is not the address of a ThorVision camera")
        client = make_client(place.host, place.port)
        try:
            return cls(client, _choose(await client.list_cameras(), place), owns_client=True)
        except BaseException:
            await finish(client.cleanup())
            raise

    @classmethod
    async def at(cls, address: Address, client: ThorVisionClient) -> "ThorVisionCamera":
        """Find one camera of a client's server; the client stays the caller's to clean up.

        Raises:
            AddressError, NotFoundError, ConnectionError, TimeoutError, RemoteProtocolError: As for `connect`.
        """
        return cls(client, _choose(await client.list_cameras(), address))

    @classmethod
    async def all_of(cls, client: ThorVisionClient) -> "tuple[ThorVisionCamera, ...]":
        """All cameras of a client's server; the client stays the caller's to clean up."""
        return tuple(cls(client, device) for device in await client.list_cameras())

    @property
    def info(self) -> CameraInfo:
        """Who the camera is, as the server told last."""
        return replace(describe(self.client.address, self.device), identity=self._identity.facts)

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """What the camera can do, by key."""
        return self._features

    async def find(self) -> models.Camera:
        """The camera as the server lists it now, perhaps under another number than before.

        Raises:
            NotFoundError: It is unplugged, or another camera is in its place.
            AsynccamError: The server cannot be asked, see `ThorVisionClient.list_cameras`.
        """
        there = await self.client.list_cameras()
        for device in there:
            if device.key == self.device.key:
                self._identity.check(self.id, device.facts)
                self.device = device
                return device
        listed = ", ".join(repr(device.key) for device in there) or "no camera"
        raise NotFoundError(f"{self.id} is not at its server now; the server has {listed}")

    async def status(self) -> CameraStatus:
        """Ask the server whether the camera is there; what it does, this computer knows.

        Raises:
            ConnectionError, TimeoutError: The server does not answer.
            RemoteProtocolError: It answers nonsense.
        """
        recorder = self._record.recorder_state
        detail = "" if recorder is None else recorder.value
        try:
            await self.find()
        except NotFoundError as error:
            return CameraStatus(CameraState.UNAVAILABLE, detail or str(error))
        ready = CameraState.READY
        return CameraStatus(ready if recorder is None else _AT_WORK.get(recorder, ready), detail)

    def chosen_capability(self) -> models.Capability:
        """What the next start asks for.

        Raises:
            FeatureError: The camera has nothing that can be recorded.
        """
        return self.capability or self.device.best(media_type=self._media_type())

    async def stream_urls(self) -> Mapping[str, str]:
        """Where a player finds the stream: ``srt``, Motion JPEG; the server begins to send it with this call.

        It goes on until the camera is closed, or a recording that uses it is stopped.

        Raises:
            NotFoundError: The camera is unplugged.
            AsynccamError: The server cannot be asked or refuses, see `ThorVisionClient.open_stream`.
        """
        return {"srt": (await self._record.open()).url}

    async def aclose(self) -> None:
        """End its recording and its stream; harmless when called twice."""
        await self._record.aclose()
        if self._owns_client:
            await self.client.cleanup()

    def _media_type(self) -> str | None:
        """Compressed pictures if the camera has them, since raw ones cost the server an encoder."""
        kinds = {capability.media_type for capability in self.device.caps}
        return models.JPEG if models.JPEG in kinds else None


def _choose(cameras: Sequence[models.Camera], address: Address) -> models.Camera:
    return choose_camera(
        cameras,
        address,
        lambda camera: (camera.key, f"{camera.name}:{camera.id}"),
        lambda camera: (str(camera.id),),
        lambda camera: (camera.name,),
    )
