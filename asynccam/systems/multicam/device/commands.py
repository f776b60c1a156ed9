"""Commands of a MultiCam device and its replies in either dialect. See docs/protocols/multicam.md."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from asynccam.errors import AsynccamError
from asynccam.model.features import DeviceMoment
from asynccam.runtime.tasks import thread_errors
from asynccam.runtime.timing import Clock
from asynccam.systems.multicam.device.recording import OperationResult, RecordingControl, RecordingPhase
from asynccam.systems.multicam.device.storage import Storage, StoredRecording
from asynccam.systems.multicam.device.upload import UploadHosts, UploadQueue, UploadTarget
from asynccam.systems.multicam.models import (
    RUN_ID_KEY,
    CommandMessage,
    CommandType,
    DeviceStatus,
    FileMetadata,
    FileResponse,
    ListFilesResponse,
    ProtocolMessage,
    StatusResponse,
    StopRecordingResponse,
    UploadItem,
)

_STATUS: Final = {
    RecordingPhase.READY: DeviceStatus.READY,
    RecordingPhase.SCHEDULED: DeviceStatus.READY,
    RecordingPhase.STARTING: DeviceStatus.READY,
    RecordingPhase.RECORDING: DeviceStatus.RECORDING,
    RecordingPhase.STOPPING: DeviceStatus.STOPPING,
    RecordingPhase.FAILED: DeviceStatus.ERROR,
}


@dataclass(slots=True)
class DeviceFaults:
    """Faults of real devices for a `MultiCamDevice` to show; may be changed while it runs. Default: none.

    Attributes:
        refuse_start: START_RECORDING is answered ``error`` with this message.
        die_after: GET_VIDEO breaks off after this many bytes of the file.
        silent: Commands that are read, but neither executed nor answered.
        cut_answers: Replies are sent in pieces of this many bytes, each on a later turn of the loop.
        sentence_statuses: Statuses are sentences (``Command received``), as early iOS builds wrote them.
        unasked_heartbeat: A HEARTBEAT command precedes every reply, as iOS may send one.
        delete_on_write: A file is deleted once it was written to the socket, as OAK does, read or not.
        clock_skew: Seconds the device's system clock is ahead of this computer's.
        first_frame_error: Seconds by which the first frame is reported later than it was.
    """

    refuse_start: str | None = None
    die_after: int | None = None
    silent: frozenset[str] = frozenset()
    cut_answers: int | None = None
    sentence_statuses: bool = False
    unasked_heartbeat: bool = False
    delete_on_write: bool = False
    clock_skew: float = 0.0
    first_frame_error: float = 0.0

    def word(self, status: str) -> str:
        """Return a status as this device writes it."""
        return status.replace("_", " ").capitalize() if self.sentence_statuses else status


@dataclass(frozen=True, slots=True)
class SkewedClock(Clock):
    """A `Clock` whose time of day is wrong by `DeviceFaults.clock_skew`."""

    clock: Clock
    faults: DeviceFaults

    def time(self) -> float:
        """Return Unix seconds, skewed."""
        return self.skewed(self.clock.time())

    def skewed(self, moment: float) -> float:
        """Convert a time of the right clock to this clock's."""
        return moment + self.faults.clock_skew

    def monotonic(self) -> float:
        """Return the right clock's monotonic seconds."""
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait by the right clock."""
        await self.clock.sleep(seconds)


@dataclass(frozen=True, slots=True)
class ResponseBuilder:
    """Builds replies with the fields of one dialect (1 or 2) and no others."""

    device_id: str
    device_type: str
    dialect: int
    clock: SkewedClock
    faults: DeviceFaults
    run_id: str = field(default_factory=lambda: uuid4().hex)

    def status(
        self,
        status: str,
        *,
        recording: bool,
        message: str = "",
        uploads: Sequence[UploadItem] = (),
        failed_uploads: Sequence[UploadItem] = (),
        first_frame: DeviceMoment | None = None,
        with_run_id: bool = False,
    ) -> ProtocolMessage:
        """Build the reply to most commands; ``first_frame`` if the controller asked and there is one."""
        extra: dict[str, Any] = self._first_frame(first_frame)
        if with_run_id:
            extra[RUN_ID_KEY] = self.run_id
        if self.dialect == 2:
            extra |= {"uploadQueue": list(uploads), "failedUploadQueue": list(failed_uploads)}
            return StatusResponse(**self._head(status), deviceType=self.device_type, **extra)
        if message:
            extra["message"] = message
        return StatusResponse(**self._head(status), isRecording=recording, **extra)

    def stopped(self, result: OperationResult, first_frame: DeviceMoment | None) -> ProtocolMessage:
        """Build the reply to a stop; a successful one without a file cancelled a scheduled start."""
        if result.status == DeviceStatus.RECORDING_STOPPED:
            status, file = DeviceStatus.RECORDING_STOPPED, result.file
        else:
            status, file = DeviceStatus.ERROR, None
        size = file.size if file else 0
        name = file.path.name if file else None
        extra: dict[str, Any] = self._first_frame(first_frame)
        if self.dialect == 2:
            return StopRecordingResponse(**self._head(status), fileName=name, fileSize=size, **extra)
        if result.message:
            extra["message"] = result.message
        if file:
            extra |= {"fileId": file.path.stem, "fileSize": size}
        # The newest controllers read dialect 2's fileName from every stop, and fail where it is missing.
        return StatusResponse(**self._head(status), isRecording=False, fileName=name, **extra)

    def refusal(self, message: str, *, recording: bool, status: str = DeviceStatus.ERROR) -> ProtocolMessage:
        """Build the reply to a command that is not executed."""
        if self.dialect == 1:
            return self.status(status, recording=recording, message=message)
        return StatusResponse(**self._head(status), message=message)

    def files(self, files: Sequence[StoredRecording]) -> ProtocolMessage:
        """Build the reply to LIST_FILES."""
        entries = [
            FileMetadata(
                **self._file_id(file),
                fileName=file.name,
                fileSize=file.size,
                creationDate=file.created,
                modificationDate=file.modified,
            )
            for file in files
        ]
        return ListFilesResponse(**self._head(DeviceStatus.READY), files=entries)

    def header(self, file: StoredRecording, size: int) -> ProtocolMessage:
        """Build the header before a file of ``size`` bytes."""
        return FileResponse(
            deviceId=self.device_id,
            **self._file_id(file),
            fileName=file.name,
            fileSize=size,
            status=self.faults.word(DeviceStatus.READY),
        )

    def heartbeat(self) -> ProtocolMessage:
        """Build a HEARTBEAT command, as iOS sends it unsolicited."""
        return CommandMessage(
            command=CommandType.HEARTBEAT, deviceId=self.device_id, timestamp=self.clock.time()
        )

    def _head(self, status: str) -> dict[str, Any]:
        return {
            "deviceId": self.device_id,
            "status": self.faults.word(status),
            "timestamp": self.clock.time(),
        }

    def _file_id(self, file: StoredRecording) -> dict[str, str]:
        return {"fileId": file.file_id} if self.dialect == 1 else {}

    def _first_frame(self, first_frame: DeviceMoment | None) -> dict[str, Any]:
        """Return the fields of a first frame, by this device's system clock like ``timestamp``."""
        if first_frame is None:
            return {}
        at = self.clock.skewed(first_frame.time) + self.faults.first_frame_error
        bound = {} if first_frame.bound is None else {"firstFrameBound": first_frame.bound}
        return {"firstFrameAt": at, **bound}


@dataclass(frozen=True, slots=True)
class DeviceCommands:
    """Executes commands and returns their replies."""

    responses: ResponseBuilder
    storage: Storage
    control: RecordingControl
    uploads: UploadQueue
    faults: DeviceFaults
    s3_endpoint: str | None
    upload_hosts: UploadHosts

    async def handle(self, command: CommandMessage) -> ProtocolMessage | StoredRecording:
        """Execute a command; return the reply, or the recording to be sent."""
        try:
            with thread_errors():
                return await self._execute(command)
        except AsynccamError as error:
            return self.refusal(str(error))

    async def _execute(self, command: CommandMessage) -> ProtocolMessage | StoredRecording:
        match command.command:
            case CommandType.START_RECORDING:
                return await self._start(command)
            case CommandType.STOP_RECORDING:
                return self._stopped(await self.control.stop(), command)
            case CommandType.DEVICE_STATUS | CommandType.HEARTBEAT:
                with_run_id = (command.model_extra or {}).get(RUN_ID_KEY) is True
                first_frame = self._running_first_frame(command)
                return self._status(first_frame=first_frame, with_run_id=with_run_id)
            case CommandType.LIST_FILES:
                files = await self.storage.files()
                return await asyncio.to_thread(self.responses.files, files)
            case CommandType.GET_VIDEO:
                return await self._find(command) or self._file_not_found()
            case CommandType.UPLOAD_TO_CLOUD:
                return await self._upload(command)
            case unknown:
                return self.refusal(f"unknown command {str(unknown)[:40]!r}")

    def refusal(self, message: str, *, status: str = DeviceStatus.ERROR) -> ProtocolMessage:
        """Return the reply to a command that is not executed."""
        return self.responses.refusal(message, recording=self._is_recording(), status=status)

    async def _start(self, command: CommandMessage) -> ProtocolMessage:
        if self.faults.refuse_start is not None:
            return self.refusal(self.faults.refuse_start)
        result = await self.control.start(self.storage, command.timestamp)
        if DeviceStatus.is_error(result.status):
            return self.refusal(result.message, status=result.status)
        first_frame = self._running_first_frame(command)
        return self._status(result.status, result.message, first_frame=first_frame)

    def _stopped(self, result: OperationResult, command: CommandMessage) -> ProtocolMessage:
        is_stopped = result.status == DeviceStatus.RECORDING_STOPPED and result.file is not None
        return self.responses.stopped(result, self._first_frame(command) if is_stopped else None)

    def _running_first_frame(self, command: CommandMessage) -> DeviceMoment | None:
        return self._first_frame(command) if self._is_recording() else None

    def _first_frame(self, command: CommandMessage) -> DeviceMoment | None:
        at = self.control.first_frame_at
        if not command.firstFrame or at is None:
            return None
        return DeviceMoment(at, self.control.first_frame_bound)

    async def _upload(self, command: CommandMessage) -> ProtocolMessage:
        target = UploadTarget.of(command, s3_endpoint=self.s3_endpoint)
        file = await self._find(command)
        if file is None:
            return self._file_not_found()
        self.upload_hosts.check(target)
        self.uploads.add(file, target)
        return self._status(DeviceStatus.UPLOAD_QUEUED)

    async def _find(self, command: CommandMessage) -> StoredRecording | None:
        return await self.storage.find(command.fileName, command.fileId)

    def _file_not_found(self) -> ProtocolMessage:
        return self.refusal("there is no such recording", status=DeviceStatus.FILE_NOT_FOUND)

    def _is_recording(self) -> bool:
        return self.control.phase is RecordingPhase.RECORDING

    def _status(
        self,
        status: str | None = None,
        message: str | None = None,
        *,
        first_frame: DeviceMoment | None = None,
        with_run_id: bool = False,
    ) -> ProtocolMessage:
        return self.responses.status(
            status or _STATUS[self.control.phase],
            recording=self._is_recording(),
            message=self.control.message if message is None else message,
            uploads=self.uploads.items,
            failed_uploads=self.uploads.failed,
            first_frame=first_frame,
            with_run_id=with_run_id,
        )
