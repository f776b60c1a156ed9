"""ThorVisionCamera: the `Camera` interface for one camera of a ThorVision server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import AddressError, BusyError, NotFoundError, StateError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.features import FeatureKey, Record, RecordPlan, StartReport, StopReport, Stream
from asynccam.model.identity import Identity
from asynccam.model.info import CameraInfo, CameraState, CameraStatus
from asynccam.recording import RecorderState
from asynccam.runtime.tasks import finish_on_error
from asynccam.runtime.timing import deadline
from asynccam.systems._base import choose_camera
from asynccam.systems._local_recorder import (
    LocalRecorderStart,
    camera_state,
    early_end,
    media_files,
    recording_gaps,
    stop_status,
)
from asynccam.systems.thorvision import models
from asynccam.systems.thorvision.client import ThorVisionClient
from asynccam.systems.thorvision.hotplug import describe
from asynccam.systems.thorvision.results import OpenStream, StreamStop
from asynccam.systems.thorvision.stream import Split

MakeClient = Callable[[str, int], ThorVisionClient]
"""Makes a client from host and port."""

_MAX_TRANSIT: Final = 0.05
"""Seconds that encoding and sending may add to the age of a frame beyond SRT's latency. Assumed."""
_TAKEN_AWAY: Final = "another program seems to have taken the stream over"


class ThorVisionCamera(Camera):
    """One camera, identified by its ``device_id``, or by name and id at a server that sends none.

    Its features are `Record`, on this computer, and `Stream`.

    Closing the camera cleans up the client if ``owns_client``.

    Attributes:
        client: Client of its server, for calls that only ThorVision has.
        device: The camera as the server listed it last.
        capability: Capability to request, or None for `models.Camera.best`; may be set before a start.
        split: Limits of the files of a recording; may be set before a start.
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

        The address is ``thorvision://HOST[:PORT][/CAMERA]``. CAMERA is the device id, the id, ``NAME:ID`` or
        the name; it may be omitted if the server has a single camera. To share an HTTP session or ports, pass
        ``make_client=functools.partial(ThorVisionClient, session=..., ports=...)``.

        Raises:
            AddressError: Not an address of this system, or ambiguous.
            NotFoundError: The server has no such camera.
            ConnectionError, TimeoutError: The server does not answer.
            RemoteProtocolError: Not a ThorVision server.
        """
        parsed = Address.parse(address) if isinstance(address, str) else address
        if parsed.system != "thorvision":
            raise AddressError(f"{parsed} is not the address of a ThorVision camera")
        client = make_client(parsed.host, parsed.port)
        async with finish_on_error(client.cleanup):
            return cls(client, _choose(await client.list_cameras(), parsed), owns_client=True)

    @classmethod
    async def at(cls, address: Address, client: ThorVisionClient) -> "ThorVisionCamera":
        """Find one camera of a caller-owned client's server; errors as of `connect`."""
        return cls(client, _choose(await client.list_cameras(), address))

    @classmethod
    async def all_of(cls, client: ThorVisionClient) -> "tuple[ThorVisionCamera, ...]":
        """Return all cameras of a caller-owned client's server."""
        return tuple(cls(client, device) for device in await client.list_cameras())

    @property
    def info(self) -> CameraInfo:
        """Return the camera's description as the server sent it last."""
        return replace(describe(self.client.address, self.device), identity=self._identity.facts)

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """Return the features by key."""
        return self._features

    async def find(self) -> models.Camera:
        """Return the camera as the server lists it now; its id may have changed.

        Raises:
            NotFoundError: The camera is unplugged, or another one is in its place.
            AsynccamError: The server cannot be asked, see `ThorVisionClient.list_cameras`.
        """
        listed = await self.client.list_cameras()
        for device in listed:
            if device.key == self.device.key:
                self._identity.check(self.id, device.facts)
                self.device = device
                return device
        keys = ", ".join(repr(device.key) for device in listed) or "no camera"
        raise NotFoundError(f"{self.id} is not at its server now; the server has {keys}")

    async def status(self) -> CameraStatus:
        """Ask the server whether the camera is plugged in; whether it records is known here.

        Raises:
            ConnectionError, TimeoutError: The server does not answer.
            RemoteProtocolError: The answer is not a list of cameras.
        """
        recorder = self._record.recorder_state
        detail = "" if recorder is None else recorder.value
        try:
            await self.find()
        except NotFoundError as error:
            return CameraStatus(CameraState.UNAVAILABLE, detail or str(error))
        # Its server streams already, so a recorder that still waits for a first frame counts as recording.
        starting = recorder is RecorderState.STARTING
        return CameraStatus(CameraState.RECORDING if starting else camera_state(recorder), detail)

    def chosen_capability(self) -> models.Capability:
        """Return the capability that the next start requests.

        Raises:
            FeatureError: The camera has no capability that can be recorded.
        """
        # A server has to encode raw pictures itself, so JPEG comes first.
        jpeg = any(capability.media_type == models.JPEG for capability in self.device.caps)
        return self.capability or self.device.best(media_type=models.JPEG if jpeg else None)

    async def stream_urls(self) -> Mapping[str, str]:
        """Return ``{"srt": URL}``, Motion JPEG; the server begins to send with this call.

        The stream goes on until the camera is closed, or a recording that uses it is stopped.

        Raises:
            NotFoundError: The camera is unplugged.
            AsynccamError: The server cannot be asked or refuses, see `ThorVisionClient.open_stream`.
        """
        return {"srt": (await self._record.open()).url}

    async def aclose(self) -> None:
        """Stop its recording and its stream; harmless when called twice."""
        await self._record.aclose()
        if self._owns_client:
            await self.client.cleanup()


class ThorVisionRecord:
    """`SupportsRecord` of one camera, whose stream is recorded on this computer."""

    def __init__(self, camera: ThorVisionCamera) -> None:
        self._camera = camera
        self._device: models.Camera | None = None  # as it was when its stream was opened

    @property
    def recorder_state(self) -> RecorderState | None:
        """Return the recorder's state, or None."""
        return None if self._device is None else self._camera.client.recorder_state(self._device.id)

    async def open(self) -> OpenStream:
        """Have the server send the camera's stream, if it does not already."""
        device = await self._find()
        opened = await self._camera.client.open_stream(device, self._camera.chosen_capability())
        self._device = device
        return opened

    async def arm(self, plan: RecordPlan) -> LocalRecorderStart:
        """Have the server stream and a recorder receive; frames before the release are discarded.

        Raises:
            BusyError: This client records the camera.
            NotFoundError: The camera is unplugged.
            RecordingError, StorageError: This computer cannot record.
            AsynccamError: The server cannot be asked or refuses, see `ThorVisionClient.open_stream`.
        """
        if self.recorder_state not in (None, RecorderState.ENDED, RecorderState.FAILED):
            raise BusyError(f"{self._camera.id} is being recorded; stop that first")
        client, split = self._camera.client, self._camera.split
        device = await self._find()
        capability = self._camera.chosen_capability()
        await client.arm_recording(device, capability, output_dir=plan.directory, split=split)
        self._device = device

        async def start(released_at: float) -> StartReport:
            async with deadline(plan.timeout, f"first frame of {self._camera.id}"):
                started = await client.start_stream_with_recording(
                    device,
                    capability,
                    output_dir=plan.directory,
                    split_max_files=split.max_files,
                    split_max_time_sec=split.max_seconds,
                    split_max_size_mb=split.max_megabytes,
                )
            at, bound = self._captured_at(started.first_frame_at, started.first_frame_bound)
            return StartReport(
                commanded_at=released_at,
                accepted_at=started.accepted_at,
                status=RecorderState.RECORDING.value,
                first_frame_at=at,
                first_frame_bound=bound,
            )

        took_over = f"{self._camera.id} was streaming to another client, whose stream was taken over"
        return LocalRecorderStart(
            "ThorVision", start, self.aclose, took_over=took_over if client.took_over(device.id) else ""
        )

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Finish the files, then stop the server's stream.

        A recording that had ended by itself, or a server that did not answer, is in the report's status.

        Raises:
            StateError: The camera is not being recorded.
            TimeoutError: It took longer; it is done nevertheless.
        """
        async with deadline(timeout, f"end of the recording of {self._camera.id}"):
            stopped = await self._stop()
        at, bound = self._captured_at(stopped.first_frame_at, stopped.first_frame_bound)
        return StopReport(
            commanded_at=stopped.commanded_at,
            stopped_at=stopped.stopped_at,
            status=_status(stopped),
            files=media_files(stopped.files),
            first_frame_at=at,
            first_frame_bound=bound,
            gaps=recording_gaps(
                stopped.gaps, f"no frame arrived; {_TAKEN_AWAY}" if stopped.taken_away else "no frame arrived"
            ),
            ended_early=stopped.ended_early,
            begins_late=stopped.begins_late,
            spoiled_frames=stopped.spoiled_frames,
        )

    async def stop_orphaned_recording(self, *, timeout: float = 60.0) -> None:
        """Stop a stream that a client which crashed had requested; its recorder ended with that client.

        Raises:
            NotFoundError: The camera is unplugged.
            TimeoutError, AsynccamError: The server cannot be asked.
        """
        if not self._streaming:
            async with deadline(timeout, f"end of the stream of {self._camera.id}"):
                await self._camera.client.end_leftover(await self._camera.find())

    async def aclose(self) -> None:
        """Stop the recording and the stream, if any; harmless when called twice."""
        if self._streaming:
            await self._stop()

    @property
    def _streaming(self) -> bool:
        return self._device is not None and self._device.id in self._camera.client.streams

    async def _find(self) -> models.Camera:
        """Return the camera as it is listed now; a stream under an earlier id is stopped."""
        device = await self._camera.find()
        if self._streaming and self._device is not None and self._device.id != device.id:
            await self._stop()  # it was unplugged meanwhile
        return device

    async def _stop(self) -> StreamStop:
        if self._device is None:
            raise StateError(f"{self._camera.id} is not being recorded")
        return await self._camera.client.stop_stream(self._device.id)

    def _captured_at(
        self, arrived_at: float | None, bound: float | None
    ) -> tuple[float | None, float | None]:
        """Return when a frame that arrived at this time was captured, and the bound of that.

        SRT hands each frame on one latency after it was sent. Encoder and network make it older by 0 to
        `_MAX_TRANSIT`, so the middle of the possible times is earlier by half of that.
        """
        if arrived_at is None or bound is None:
            return None, None
        latency = self._camera.client.settings.latency / 1000
        return arrived_at - latency - _MAX_TRANSIT / 2, bound + _MAX_TRANSIT / 2


def _choose(cameras: Sequence[models.Camera], address: Address) -> models.Camera:
    return choose_camera(
        cameras,
        address,
        lambda camera: (camera.key, f"{camera.name}:{camera.id}"),
        lambda camera: (str(camera.id),),
        lambda camera: (camera.name,),
    )


def _status(stopped: StreamStop) -> str:
    remarks = [early_end(stopped.error, stopped.ended_early)]
    if stopped.taken_away:
        remarks.append(_TAKEN_AWAY)
    if stopped.begins_late is not None:
        remarks.append(f"begins late: {stopped.begins_late.reason}")
    if stopped.server_error is not None:
        remarks.append(f"the server may still stream: {stopped.server_error}")
    return stop_status(stopped.files, *remarks)
