"""What each command means to a MultiCam device. See docs/protocols/multicam.md, Commands."""

import asyncio
from typing import Final

from asynccam.errors import AsynccamError
from asynccam.runtime.threads import thread_errors
from asynccam.systems.multicam.device.faults import DeviceFaults
from asynccam.systems.multicam.device.recording import Outcome, Phase, RecordingControl
from asynccam.systems.multicam.device.responses import Answers, DeviceState, FirstFrameTold
from asynccam.systems.multicam.device.storage import Storage, StoredFile
from asynccam.systems.multicam.device.upload import UploadHosts, UploadQueue, UploadTarget
from asynccam.systems.multicam.models import CommandMessage, CommandType, DeviceStatus, Message
from asynccam.systems.multicam.vocabulary import RUN_MARK

_STATUS: Final = {
    Phase.READY: DeviceStatus.READY,
    Phase.SCHEDULED: DeviceStatus.READY,
    Phase.STARTING: DeviceStatus.READY,
    Phase.RECORDING: DeviceStatus.RECORDING,
    Phase.STOPPING: DeviceStatus.STOPPING,
    Phase.FAILED: DeviceStatus.ERROR,
}


class DeviceCommands:
    """Carries out commands and says what to answer.

    Args:
        answers: Writes the answers.
        storage: The recordings.
        control: The recorder.
        uploads: The upload queue.
        faults: May refuse a start.
        s3_endpoint: A server that takes Amazon's place for uploads, or None.
        upload_hosts: Where recordings may be uploaded to.
    """

    def __init__(
        self,
        answers: Answers,
        storage: Storage,
        control: RecordingControl,
        uploads: UploadQueue,
        faults: DeviceFaults,
        *,
        s3_endpoint: str | None,
        upload_hosts: UploadHosts,
    ) -> None:
        self._answers = answers
        self._storage = storage
        self._control = control
        self._uploads = uploads
        self._faults = faults
        self._s3_endpoint = s3_endpoint
        self._upload_hosts = upload_hosts

    async def handle(self, command: CommandMessage) -> Message | StoredFile:
        """Carry out a command.

        Returns:
            The answer, or the recording that is to be sent.
        """
        try:
            with thread_errors():
                return await self._carry_out(command)
        except AsynccamError as error:
            return self.refusal(str(error))

    async def _carry_out(self, command: CommandMessage) -> Message | StoredFile:
        match command.command:
            case CommandType.START_RECORDING:
                return await self._start(command)
            case CommandType.STOP_RECORDING:
                return self._stopped(await self._control.stop(), command)
            case CommandType.DEVICE_STATUS | CommandType.HEARTBEAT:
                asks_mark = (command.model_extra or {}).get(RUN_MARK) is True
                state = self._state(told=self._first_frame(command))
                return self._answers.status(state, mark=asks_mark)
            case CommandType.LIST_FILES:
                files = await self._storage.files()
                return await asyncio.to_thread(self._answers.files, files)
            case CommandType.GET_VIDEO:
                return await self._find(command) or self._no_such_file()
            case CommandType.UPLOAD_TO_CLOUD:
                return await self._upload(command)
            case unknown:
                return self.refusal(f"unknown command {str(unknown)[:40]!r}")

    def refusal(self, message: str, *, status: str = DeviceStatus.ERROR) -> Message:
        """The answer to what is not carried out."""
        return self._answers.refusal(message, recording=self._recording(), status=status)

    async def _start(self, command: CommandMessage) -> Message:
        if self._faults.refuse_start is not None:
            return self.refusal(self._faults.refuse_start)
        outcome = await self._control.start(self._storage, command.timestamp)
        if DeviceStatus.is_error(outcome.status):
            return self.refusal(outcome.message, status=outcome.status)
        told = self._first_frame(command)
        return self._answers.status(self._state(outcome.status, outcome.message, told=told))

    def _stopped(self, outcome: Outcome, command: CommandMessage) -> Message:
        if outcome.status != DeviceStatus.RECORDING_STOPPED:
            return self._answers.not_stopped(outcome.message)
        told = None if outcome.file is None else self._word(command)
        return self._answers.stopped(outcome.file, outcome.message, told)

    def _first_frame(self, command: CommandMessage) -> FirstFrameTold | None:
        """Of the recording that runs, if the command asks for it."""
        return self._word(command) if self._recording() else None

    def _word(self, command: CommandMessage) -> FirstFrameTold | None:
        at = self._control.first_frame_at
        if not command.firstFrame or at is None:
            return None
        return FirstFrameTold(at, self._control.first_frame_bound)

    async def _upload(self, command: CommandMessage) -> Message:
        target = UploadTarget.of(command, s3_endpoint=self._s3_endpoint)
        file = await self._find(command)
        if file is None:
            return self._no_such_file()
        self._upload_hosts.check(target)
        self._uploads.add(file, target)
        return self._answers.status(self._state(DeviceStatus.UPLOAD_QUEUED))

    async def _find(self, command: CommandMessage) -> StoredFile | None:
        return await self._storage.find(command.fileName, command.fileId)

    def _no_such_file(self) -> Message:
        return self.refusal("there is no such recording", status=DeviceStatus.FILE_NOT_FOUND)

    def _recording(self) -> bool:
        return self._control.phase is Phase.RECORDING

    def _state(
        self, status: str | None = None, message: str | None = None, told: FirstFrameTold | None = None
    ) -> DeviceState:
        return DeviceState(
            status or _STATUS[self._control.phase],
            self._recording(),
            self._control.message if message is None else message,
            self._uploads.items,
            self._uploads.failed,
            told,
        )
