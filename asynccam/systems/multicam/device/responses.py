"""The answers of a MultiCam device in either dialect. See docs/protocols/multicam.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

from asynccam.recording.verify import FileVerdict
from asynccam.systems.multicam.device.faults import DeviceFaults, SkewedClock
from asynccam.systems.multicam.device.storage import StoredFile
from asynccam.systems.multicam.models import (
    CommandMessage,
    CommandType,
    DeviceStatus,
    FileMetadata,
    FileResponse,
    ListFilesResponse,
    Message,
    StatusResponse,
    StopRecordingResponse,
    UploadItem,
)
from asynccam.systems.multicam.vocabulary import RUN_MARK

NO_WORD: Final[Mapping[str, float]] = MappingProxyType({})
"""What is told of a first frame where nobody asked or nothing is known."""


@dataclass(frozen=True, slots=True)
class FirstFrameTold:
    """When the first frame of a recording was, for a controller that asks.

    Attributes:
        at: Unix seconds of this computer.
        bound: It was within so many seconds of that; None if the recorder does not say.
    """

    at: float
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What a status answer tells.

    Attributes:
        status: The protocol's word for it.
        recording: Whether a recording runs.
        message: What to say to a person, or ``""``.
        uploads: Files on their way to the cloud.
        failed_uploads: Files that did not get there.
        first_frame: Of the recording, if the controller asked and there is one.
    """

    status: str
    recording: bool
    message: str = ""
    uploads: Sequence[UploadItem] = ()
    failed_uploads: Sequence[UploadItem] = ()
    first_frame: FirstFrameTold | None = None


class Answers:
    """Writes answers with the fields of one dialect and no others.

    Args:
        device_id: Who answers.
        device_type: Kind of device, told in dialect 2.
        dialect: 1 or 2.
        clock: Its time goes into every answer.
        faults: May spell statuses as sentences.
    """

    def __init__(
        self, device_id: str, device_type: str, dialect: int, clock: SkewedClock, faults: DeviceFaults
    ) -> None:
        self._device_id = device_id
        self._device_type = device_type
        self._dialect = dialect
        self._clock = clock
        self._faults = faults
        self._mark = uuid4().hex

    def status(self, state: DeviceState, *, mark: bool = False) -> Message:
        """The answer to most commands, with the mark of this run for a controller that asks."""
        head = {"deviceId": self._device_id, "status": self._word(state.status), "timestamp": self._now()}
        told: dict[str, Any] = {**self._told(state.first_frame)}
        if mark:
            told[RUN_MARK] = self._mark
        if self._dialect == 2:
            return StatusResponse(
                **head,
                **told,
                deviceType=self._device_type,
                uploadQueue=list(state.uploads),
                failedUploadQueue=list(state.failed_uploads),
            )
        words = {"message": state.message} if state.message else {}
        return StatusResponse(**head, isRecording=state.recording, **words, **told)

    def stopped(
        self, file: FileVerdict | None, message: str, first_frame: FirstFrameTold | None = None
    ) -> Message:
        """The answer to a stop that went well; without a file a scheduled start was cancelled."""
        return self._stop_answer(DeviceStatus.RECORDING_STOPPED, file, message, self._told(first_frame))

    def not_stopped(self, message: str) -> Message:
        """The answer to a stop that failed."""
        return self._stop_answer(DeviceStatus.ERROR, None, message)

    def refusal(self, message: str, *, recording: bool, status: str = DeviceStatus.ERROR) -> Message:
        """The answer to a command that is not carried out."""
        if self._dialect == 1:
            return self.status(DeviceState(status, recording, message))
        return StatusResponse(
            deviceId=self._device_id, status=self._word(status), timestamp=self._now(), message=message
        )

    def files(self, files: Sequence[StoredFile]) -> Message:
        """The answer to LIST_FILES."""
        entries = []
        for file in files:
            name = {"fileId": file.file_id} if self._dialect == 1 else {}
            entries.append(
                FileMetadata(
                    **name,
                    fileName=file.name,
                    fileSize=file.size,
                    creationDate=file.created,
                    modificationDate=file.modified,
                )
            )
        return ListFilesResponse(
            deviceId=self._device_id,
            status=self._word(DeviceStatus.READY),
            timestamp=self._now(),
            files=entries,
        )

    def header(self, file: StoredFile, size: int) -> Message:
        """The header before a file of ``size`` bytes."""
        name = {"fileId": file.file_id} if self._dialect == 1 else {}
        return FileResponse(
            deviceId=self._device_id,
            **name,
            fileName=file.name,
            fileSize=size,
            status=self._word(DeviceStatus.READY),
        )

    def heartbeat(self) -> Message:
        """A command, as iOS sends it unasked."""
        return CommandMessage(command=CommandType.HEARTBEAT, deviceId=self._device_id, timestamp=self._now())

    def _stop_answer(
        self, status: str, file: FileVerdict | None, message: str, told: Mapping[str, float] = NO_WORD
    ) -> Message:
        head = {"deviceId": self._device_id, "status": self._word(status), "timestamp": self._now()}
        size = file.size if file else 0
        name = file.path.name if file else None
        if self._dialect == 2:
            return StopRecordingResponse(**head, fileName=name, fileSize=size, **told)
        words = {"message": message} if message else {}
        names = {"fileId": file.path.stem, "fileSize": size} if file else {}
        # The newest controllers read the name of dialect 2 from every stop, and fail where it is missing.
        return StatusResponse(**head, isRecording=False, fileName=name, **words, **names, **told)

    def _told(self, first_frame: FirstFrameTold | None) -> Mapping[str, float]:
        """The first frame by this device's system clock, as ``timestamp`` is."""
        if first_frame is None:
            return NO_WORD
        at = self._clock.shows(first_frame.at) + self._faults.first_frame_error
        bound = {} if first_frame.bound is None else {"firstFrameBound": first_frame.bound}
        return {"firstFrameAt": at, **bound}

    def _word(self, status: str) -> str:
        return self._faults.word(status)

    def _now(self) -> float:
        return self._clock.time()
