"""The words and figures of the MultiCam protocol. See docs/protocols/multicam.md."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from asynccam.model.features import AnswerMeaning

TCP_PORT: Final = 8080
SERVICE_TYPE: Final = "_multicam._tcp.local."
NTP_SERVER: Final = "pool.ntp.org"
NTP_PORT: Final = 123
SYNC_DELAY: Final = 3.0
"""Seconds between sending a scheduled start and the start itself."""
COMMAND_TIMEOUT: Final = 60.0
"""Seconds a device may take to answer; a stop is answered after post-processing."""
DOWNLOAD_STALL_TIMEOUT: Final = 600.0
"""Seconds without a byte after which a download is given up."""
DOWNLOAD_CHUNK_SIZE: Final = 8192
MAX_ROUND_TRIP: Final = 0.5
"""Seconds; a clock sample that took longer is not used."""
RUN_MARK: Final = "runMark"
"""Key of asynccam's own: a mark of the device's present run, by which its addresses are known to be one's."""
SAFE_COMMAND_SIZE: Final = 4096
"""Bytes; Android reads a command once, up to this size, and ignores the rest."""


class _Word(StrEnum):
    """Words that print as in the protocol's own documents: ``DeviceStatus.READY``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class CommandType(_Word):
    """What a controller may ask of a device."""

    START_RECORDING = "START_RECORDING"
    STOP_RECORDING = "STOP_RECORDING"
    DEVICE_STATUS = "DEVICE_STATUS"
    GET_VIDEO = "GET_VIDEO"
    HEARTBEAT = "HEARTBEAT"
    LIST_FILES = "LIST_FILES"
    UPLOAD_TO_CLOUD = "UPLOAD_TO_CLOUD"


class DeviceStatus(_Word):
    """The statuses that are known; a device may use others."""

    READY = "ready"
    RECORDING = "recording"
    STOPPING = "stopping"
    ERROR = "error"
    SCHEDULED_RECORDING_ACCEPTED = "scheduled_recording_accepted"
    RECORDING_STOPPED = "recording_stopped"
    COMMAND_RECEIVED = "command_received"
    TIME_NOT_SYNCHRONIZED = "time_not_synchronized"
    FILE_NOT_FOUND = "file_not_found"
    UPLOADING = "uploading"
    UPLOAD_QUEUED = "upload_queued"
    UPLOAD_COMPLETED = "upload_completed"
    UPLOAD_FAILED = "upload_failed"
    CAMERA_DISCONNECTED = "camera_disconnected"

    @classmethod
    def of(cls, status: str) -> "DeviceStatus | None":
        """The known status that ``status`` means, or None; case and blanks do not matter.

        Early iOS builds wrote sentences, such as ``Scheduled recording accepted``.
        """
        try:
            return cls("_".join(status.lower().split()))
        except ValueError:
            return None

    @staticmethod
    def is_success(status: str) -> bool:
        """Whether the device says that all is well; False for a status nobody knows."""
        return DeviceStatus.of(status) in _SUCCESSES

    @staticmethod
    def is_error(status: str) -> bool:
        """Whether the device says that something is wrong; False for a status nobody knows."""
        return DeviceStatus.of(status) in _ERRORS


_ERRORS: Final = frozenset(
    {
        DeviceStatus.ERROR,
        DeviceStatus.TIME_NOT_SYNCHRONIZED,
        DeviceStatus.FILE_NOT_FOUND,
        DeviceStatus.UPLOAD_FAILED,
        DeviceStatus.CAMERA_DISCONNECTED,
    }
)
_SUCCESSES: Final = frozenset(DeviceStatus) - _ERRORS


ANSWER_MEANINGS: Final[Mapping[tuple[int, DeviceStatus], AnswerMeaning]] = {
    # An OAK answers so when its camera runs, and today's phones in the callback of their recorder.
    (2, DeviceStatus.RECORDING): AnswerMeaning.RECORDING,
    # Early iOS builds answer a start for now at once, whatever their camera does.
    (1, DeviceStatus.RECORDING): AnswerMeaning.HEARD,
    (1, DeviceStatus.SCHEDULED_RECORDING_ACCEPTED): AnswerMeaning.SCHEDULED,
    (2, DeviceStatus.SCHEDULED_RECORDING_ACCEPTED): AnswerMeaning.SCHEDULED,
    # An OAK answers so although its camera did not open.
    (1, DeviceStatus.COMMAND_RECEIVED): AnswerMeaning.HEARD,
    (2, DeviceStatus.COMMAND_RECEIVED): AnswerMeaning.HEARD,
}
"""What an answer to START_RECORDING says of the recording, by dialect and status; all else: only heard."""


def answer_meaning(dialect: int, status: str, *, scheduled: bool) -> AnswerMeaning:
    """Return what the answer to a start says of the recording.

    Args:
        dialect: 1 or 2: whose fields the answer has.
        status: In any spelling.
        scheduled: Whether the start named a time ahead. Android accepts a schedule whatever it was told.
    """
    word = DeviceStatus.of(status)
    known = None if word is None else ANSWER_MEANINGS.get((dialect, word))
    meaning = known or AnswerMeaning.HEARD
    if meaning is AnswerMeaning.SCHEDULED and not scheduled:
        return AnswerMeaning.HEARD
    return meaning


class DeviceType(_Word):
    """The kinds of device that are known; others stay as they came."""

    IPHONE = "iOS:iPhone"
    ANDROID_PHONE = "Android:Phone"
    ANDROID_QUEST = "Android:Quest"
    OAK = "Oak"


class UploadStatus(_Word):
    """How far an upload has come."""

    QUEUED = "queued"
    UPLOADING = "uploading"
    COMPLETED = "completed"
    FAILED = "failed"
