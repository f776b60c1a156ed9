"""MultiCamCamera: a MultiCam device behind the face that all cameras share."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from asynccam.errors import AddressError, DeviceError, NotFoundError, RemoteProtocolError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.features import DeviceClock, FeatureKey, Files, Progress, Record, ScheduledStart
from asynccam.model.identity import device_mismatch
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, ClockOffset, LocalFile, MediaFile
from asynccam.runtime.tasks import finish
from asynccam.systems.multicam.camera_record import MultiCamRecord
from asynccam.systems.multicam.client import MultiCamClient
from asynccam.systems.multicam.models import TCP_PORT, DeviceStatus, StatusResponse

MakeClient = Callable[[str | Sequence[str], int], MultiCamClient]
"""Makes a client from a host, or several addresses of one, and a port."""

_LOG = logging.getLogger(__name__)

_STATES: Final = {
    DeviceStatus.READY: CameraState.READY,
    DeviceStatus.RECORDING: CameraState.RECORDING,
    DeviceStatus.STOPPING: CameraState.STOPPING,
    DeviceStatus.ERROR: CameraState.ERROR,
    DeviceStatus.CAMERA_DISCONNECTED: CameraState.UNAVAILABLE,
    DeviceStatus.SCHEDULED_RECORDING_ACCEPTED: CameraState.READY,
    DeviceStatus.RECORDING_STOPPED: CameraState.READY,
    DeviceStatus.UPLOADING: CameraState.READY,
    DeviceStatus.UPLOAD_QUEUED: CameraState.READY,
    DeviceStatus.UPLOAD_COMPLETED: CameraState.READY,
    DeviceStatus.UPLOAD_FAILED: CameraState.READY,
}


class MultiCamCamera(Camera):
    """One device, known by its id wherever it is; made by `connect` or by discovery.

    It can `Record`, has a `ScheduledStart`, `Files` and a `DeviceClock`.

    Args:
        device_id: The device's own id.
        client: How it is reached; closed with the camera.
        model: Kind of device, if known.
        is_told: Whether the device itself tells that id: then no other one is recorded in its place.

    Attributes:
        client: For what only MultiCam has: uploads, heartbeats, bare commands.
    """

    def __init__(
        self, device_id: str, client: MultiCamClient, *, model: str = "", is_told: bool = False
    ) -> None:
        self.client = client
        self._device_id = device_id
        self._model = model
        self._answers_as = device_id
        self._is_told = is_told
        self._told_id = ""  # by the device itself; an announcement may write it otherwise
        record = MultiCamRecord(client, device_id=device_id if is_told else "")
        self._features: Mapping[FeatureKey[Any], object] = MappingProxyType(
            {Record: record, ScheduledStart: record, Files: self, DeviceClock: self}
        )

    @classmethod
    async def connect(
        cls,
        address: Address | str,
        *,
        make_client: MakeClient = MultiCamClient,
    ) -> "MultiCamCamera":
        """Find out which device is at an address; needs no mDNS.

        Args:
            address: `Address`, ``multicam://HOST[:PORT][/DEVICE]``, or a host alone, on port 8080 then.
            make_client: Makes the client from host and port; for other deadlines, hand in
                ``functools.partial(MultiCamClient, timeout=10)``.

        Raises:
            AddressError: It is no address of this system.
            NotFoundError: Another device than the named one is there.
            ConnectionError, TimeoutError: Nobody answers.
            RemoteProtocolError: What answers is no MultiCam device.
        """
        if isinstance(address, str):
            address = Address.parse(address) if "://" in address else Address("multicam", address, TCP_PORT)
        if address.system != "multicam":
            raise AddressError(f"{address} is not the address of a MultiCam device")
        client = make_client(address.host, address.port)
        try:
            answer = await client.device_status()
            if not answer.deviceId:
                raise RemoteProtocolError(f"{client.address} does not tell its device id")
            if address.camera not in ("", answer.deviceId):
                raise NotFoundError(f"{client.address} is {answer.deviceId!r}, not {address.camera!r}")
        except BaseException:
            await finish(client.aclose())
            raise
        camera = cls(answer.deviceId, client, model=str(answer.deviceType or ""), is_told=True)
        camera._told_id = answer.deviceId
        return camera

    @property
    def info(self) -> CameraInfo:
        """Who the device is, and where it was last reached."""
        return CameraInfo(
            id=f"multicam://{quote(self._device_id, safe='')}",
            system="multicam",
            name=self._device_id,
            serial=self._device_id,
            address=self.client.address,
            model=self._model,
            identity={"deviceId": self._device_id} if self._is_told else {},
        )

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """What the device can do, by key."""
        return self._features

    def follow(self, hosts: str | Sequence[str], port: int) -> None:
        """The device has moved: use another address, or several, from the next connection on.

        Raises:
            UsageError: No device can be there.
        """
        self.client.follow(hosts, port)

    async def status(self) -> CameraStatus:
        """Ask the device how it is.

        Raises:
            NotFoundError: Another device is at its address.
            ConnectionError, TimeoutError: It does not answer.
            RemoteProtocolError: It answers nonsense.
        """
        answer = await self.client.device_status()
        self._learn(answer)
        word = DeviceStatus.of(answer.status)
        state = _STATES.get(word, CameraState.UNKNOWN) if word is not None else CameraState.UNKNOWN
        known = answer.batteryLevel is not None and answer.batteryLevel >= 0
        return CameraStatus(
            state=CameraState.RECORDING if answer.isRecording else state,
            detail=answer.message or answer.raw_status,
            device_time=answer.timestamp,
            battery=answer.batteryLevel if known else None,  # -1 says that the device cannot tell
            extra=_extra(answer),
        )

    async def list_files(self) -> tuple[MediaFile, ...]:
        """Every recording the device admits to having; one that is still to be packed is not among them.

        Raises:
            DeviceError: The device refuses, or is too old to know the command.
            ConnectionError, TimeoutError, RemoteProtocolError: As everywhere.
        """
        answer = await self.client.list_files()
        return tuple(
            MediaFile(entry.fileName, entry.fileSize or None, entry.fileId, entry.creationDate)
            for entry in answer.files
        )

    async def download(
        self, file: MediaFile | str, directory: Path, *, progress: Progress | None = None
    ) -> LocalFile:
        """Bring one file home whole, under a name made safe, never over an existing file.

        Many devices delete their copy once they have sent it: see `MultiCamClient.download`, which also
        names the errors.

        Args:
            file: What the device listed or a stop named, or the name or id alone.
            directory: Where it goes; made if missing.
            progress: Called with bytes so far and the total.
        """
        if isinstance(file, str):
            file = await self._find(file)
        return await self.client.download(
            file.name, directory, file_id=file.id or None, size=file.size, progress=progress
        )

    async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
        """Compare the device's system clock with this computer's; see `MultiCamClient.measure_clock`."""
        return await self.client.measure_clock(samples=samples)

    async def aclose(self) -> None:
        """Close starts that are armed; harmless when called twice."""
        await self.client.aclose()

    async def _find(self, name: str) -> MediaFile:
        """What the device lists under a name or id, for its other name and its size; else the name alone.

        A recording that is packed later, or any on a device that cannot list, is not listed.
        """
        try:
            listed = await self.list_files()
        except DeviceError:
            listed = ()
        return next((file for file in listed if name in (file.name, file.id)), MediaFile(name))

    def _learn(self, answer: StatusResponse) -> None:
        self._told_id = self._told_id or answer.deviceId
        other = device_mismatch(
            self.client.address, {"deviceId": self._told_id}, {"deviceId": answer.deviceId}
        )
        if other and answer.deviceId:
            raise NotFoundError(other)
        if answer.deviceType:
            self._model = str(answer.deviceType)
        if answer.deviceId != self._answers_as:
            _LOG.warning("%s answers as %r", self.info.id, answer.deviceId)
            self._answers_as = answer.deviceId


def _extra(answer: StatusResponse) -> Mapping[str, Any]:
    """Uploads, where there are any; the items hide their credentials."""
    queues = {"uploadQueue": answer.uploadQueue, "failedUploadQueue": answer.failedUploadQueue}
    return MappingProxyType({name: tuple(queue) for name, queue in queues.items() if queue})
