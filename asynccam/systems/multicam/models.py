"""Messages and constants of the MultiCam protocol.

Field names are the wire's own camelCase. Both dialects share these classes: a field that only one of
them has is optional, an unknown field is kept, and an absent field stays absent when a message is
written again. See docs/protocols/multicam.md.
"""
# ruff: noqa: N815 - the fields are named as on the wire, which is what callers of the protocol expect.

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
    field_serializer,
    model_validator,
)

from asynccam.errors import (
    ClockNotSynchronizedError,
    DeviceError,
    NotFoundError,
    RemoteProtocolError,
    UsageError,
)
from asynccam.model.features import AnswerMeaning
from asynccam.wall_clock import unix_now

TCP_PORT: Final = 8080
SERVICE_TYPE: Final = "_multicam._tcp.local."
NTP_SERVER: Final = "pool.ntp.org"
NTP_PORT: Final = 123
SYNC_DELAY: Final = 3.0
"""Seconds between sending a scheduled start and the start itself."""
COMMAND_TIMEOUT: Final = 60.0
"""Seconds a device may take to reply; it replies to a stop after post-processing."""
DOWNLOAD_STALL_TIMEOUT: Final = 600.0
"""Seconds without a byte after which a download fails."""
DOWNLOAD_CHUNK_SIZE: Final = 8192
MAX_ROUND_TRIP: Final = 0.5
"""Seconds; a clock sample that took longer is not used."""
RUN_ID_KEY: Final = "runMark"
"""asynccam's own key: an id of the device's present run, the same at all addresses of one device."""
SAFE_COMMAND_SIZE: Final = 4096
"""Bytes; Android reads a command once, up to this size, and ignores the rest."""


class _ProtocolEnum(StrEnum):
    """Strings that print as in the protocol's own documents: ``DeviceStatus.READY``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class CommandType(_ProtocolEnum):
    """Commands of a controller."""

    START_RECORDING = "START_RECORDING"
    STOP_RECORDING = "STOP_RECORDING"
    DEVICE_STATUS = "DEVICE_STATUS"
    GET_VIDEO = "GET_VIDEO"
    HEARTBEAT = "HEARTBEAT"
    LIST_FILES = "LIST_FILES"
    UPLOAD_TO_CLOUD = "UPLOAD_TO_CLOUD"


class DeviceStatus(_ProtocolEnum):
    """Known statuses; a device may use others."""

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

    @staticmethod
    def of(status: str) -> "DeviceStatus | None":
        """Return the known status, or None; case and blanks do not matter.

        Early iOS builds wrote sentences, such as ``Scheduled recording accepted``.
        """
        return _STATUSES.get(status) or _STATUSES.get("_".join(status.lower().split()))

    @staticmethod
    def is_success(status: str) -> bool:
        """Return whether a status reports success; False for an unknown one."""
        return DeviceStatus.of(status) in _SUCCESSES

    @staticmethod
    def is_error(status: str) -> bool:
        """Return whether a status reports an error; False for an unknown one."""
        return DeviceStatus.of(status) in _ERRORS


_STATUSES: Final = {status.value: status for status in DeviceStatus}
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
"""Meaning of a reply to START_RECORDING, by dialect and status; by default `AnswerMeaning.HEARD`."""


def answer_meaning(dialect: int, status: str, *, scheduled: bool) -> AnswerMeaning:
    """Return what the reply to a start proves of the recording; ``scheduled`` if the start had a time."""
    known = DeviceStatus.of(status)
    meaning = AnswerMeaning.HEARD if known is None else ANSWER_MEANINGS.get((dialect, known))
    # Android replies "scheduled_recording_accepted" to a start for now too.
    if meaning is None or (meaning is AnswerMeaning.SCHEDULED and not scheduled):
        return AnswerMeaning.HEARD
    return meaning


class DeviceType(_ProtocolEnum):
    """Known kinds of device; others are kept as text."""

    IPHONE = "iOS:iPhone"
    ANDROID_PHONE = "Android:Phone"
    ANDROID_QUEST = "Android:Quest"
    OAK = "Oak"


class UploadStatus(_ProtocolEnum):
    """Progress of an upload."""

    QUEUED = "queued"
    UPLOADING = "uploading"
    COMPLETED = "completed"
    FAILED = "failed"


_WHOLE: Final = re.compile(r"[0-9]+(\.0*)?")
_MAX_SIZE_LENGTH: Final = 40
"""Characters; Python refuses to convert thousands of digits."""
_MAX_SIZE: Final = 2**63
_PADDING: Final = " \t\r\n\0"
_SECRET_NAME: Final = re.compile("aws|url|secret|token|password|credential", re.IGNORECASE)
# Where presigned URLs carry their signature; a device may quote one that it shortened.
_URL_QUERY: Final = re.compile(r"(://[^\s?#]*)[?#]\S*")
# OAK replies "error" with this message for a file it does not have.
_NOT_FINALIZED: Final = "failed to finalize video"


def _finite(value: JsonValue) -> JsonValue:
    """Refuse NaN and infinity at any depth: JSON cannot represent them."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")
    if isinstance(value, dict):
        for item in value.values():
            _finite(item)
    elif isinstance(value, list):
        for item in value:
            _finite(item)
    return value


def size_of(value: object) -> int | None:
    """Return a number of bytes, which devices write as an int, a whole float or text; None for all else."""
    if isinstance(value, str):
        if len(value) > _MAX_SIZE_LENGTH or not _WHOLE.fullmatch(value.strip()):
            return None
        value = int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():  # neither infinite nor not a number
        value = int(value)
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_SIZE
    return value if known and isinstance(value, int) else None


def number_of(value: object) -> float | None:
    """Return a finite number, or None: an optional field must not make a reply invalid."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


Number = Annotated[float, Field(strict=True)]
Size = Annotated[int | None, BeforeValidator(size_of)]
"""Bytes; None for an invalid size, so that one bad number does not make a list of files invalid."""
Count = Annotated[int, BeforeValidator(lambda value: size_of(value) or 0)]
"""Bytes; 0 if unknown."""
Reported = Annotated[float | None, BeforeValidator(number_of)]
"""An optional number; None where a device writes anything else."""
Flag = Annotated[bool, Field(strict=True)]


def _faults(error: ValidationError) -> str:
    """Describe the first few errors, without the values: they may be credentials."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    words = [
        f"{'.'.join(str(part) for part in detail['loc'])[:80] or 'message'}: {detail['msg'][:120]}"
        for detail in details[:3]
    ]
    return "; ".join(words)


class ProtocolMessage(BaseModel):
    """One JSON object of the protocol, frozen, unknown fields included; invalid values raise `UsageError`."""

    _positions: ClassVar[tuple[str, ...]] = ()
    """Fields in the maker's order, where it differs from the order here."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    if not TYPE_CHECKING:  # type checkers would take the annotation for a field
        __pydantic_extra__: dict[str, Annotated[JsonValue, AfterValidator(_finite)]]

    def __init__(self, /, *given: Any, **values: Any) -> None:
        try:
            super().__init__(**_by_name(self._positions or tuple(type(self).model_fields), given, values))
        except ValidationError as error:
            raise UsageError(f"not a usable {type(self).__name__}: {_faults(error)}") from None

    # As in pydantic's own classes: parsing need not go through this method.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        """Drop nulls: devices write them for absent values, also in fields that are never null."""
        if not isinstance(data, dict) or None not in data.values():
            return data
        return {name: value for name, value in data.items() if value is not None or cls._may_be_null(name)}

    @classmethod
    def _may_be_null(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is None or field.is_required() or (field.default is None and not field.default_factory)

    @classmethod
    def from_json(cls, text: str | bytes | bytearray, *, peer: str = "the device") -> Self:
        """Parse one JSON object, as text or UTF-8; blanks and NULs around it are ignored.

        Raises:
            RemoteProtocolError: Not JSON, not an object, or a field has a wrong type.
        """
        try:
            stripped = text.strip(_PADDING) if isinstance(text, str) else text.strip(_PADDING.encode())
            return cls.model_validate_json(stripped)
        except ValidationError as error:
            raise RemoteProtocolError(f"{peer} sent no valid {cls.__name__}: {_faults(error)}") from None

    def to_json(self) -> str:
        """Return this message as JSON text, with the fields that were set and no others."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True))

    def to_bytes(self) -> bytes:
        """Return this message as UTF-8, without a length prefix or a newline."""
        return self.to_json().encode()

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            if name is None or not _SECRET_NAME.search(name):
                yield name, _shown(value) if name in (self.model_extra or ()) else _without_query(value)
            elif value is not None:
                yield name, "***"


def _by_name(names: Sequence[str], given: Sequence[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Add positional values to ``values`` by their fields' names."""
    if len(given) > len(names):
        raise UsageError(f"{len(given)} values are too many; there are {len(names)} fields")
    positional = dict(zip(names, given, strict=False))
    if twice := positional.keys() & values.keys():
        raise UsageError(f"{', '.join(sorted(twice))} is given twice")
    return positional | values


def _shown(value: Any) -> Any:
    """Return an unknown field for display; a container may hold secrets, so its contents are hidden."""
    return "..." if isinstance(value, dict | list) else _without_query(value)


def _without_query(value: Any) -> Any:
    """Remove the queries of URLs."""
    return _URL_QUERY.sub(r"\1?***", value) if type(value) is str else value


class CommandMessage(ProtocolMessage):
    """A controller's command to a device.

    ``timestamp`` is Unix seconds; in START_RECORDING a future one is the time to start, by the device's
    NTP-corrected clock. An unknown command is kept as text. ``firstFrame`` requests the time of the first
    frame, which only asynccam's own device server reports. See docs/protocols/multicam.md.
    """

    command: Annotated[CommandType | str, Field(union_mode="left_to_right")]
    timestamp: Number = Field(default_factory=unix_now)
    deviceId: str = "controller"
    fileId: str | None = None
    fileName: str | None = None
    uploadUrl: str | None = None
    s3Bucket: str | None = None
    s3Key: str | None = None
    awsAccessKeyId: str | None = None
    awsSecretAccessKey: str | None = None
    awsSessionToken: str | None = None
    awsRegion: str | None = None
    firstFrame: bool | None = None

    def to_json(self) -> str:
        """Return this command as JSON text; ``fileId`` is always there, other optional fields if set."""
        fields = self.model_dump(mode="json")
        return json.dumps(
            {
                name: value
                for name, value in fields.items()
                if value is not None or name not in _OMITTED_IF_NONE
            }
        )

    @classmethod
    def start_recording(cls, timestamp: float | None = None, *, device_id: str = "controller") -> Self:
        """Start now, or at ``timestamp`` (Unix seconds)."""
        at = unix_now() if timestamp is None else timestamp
        return cls(command=CommandType.START_RECORDING, timestamp=at, deviceId=device_id)

    @classmethod
    def stop_recording(cls, *, device_id: str = "controller", first_frame: bool = False) -> Self:
        """Stop the recording; ``first_frame`` requests the time of its first frame."""
        return cls(command=CommandType.STOP_RECORDING, deviceId=device_id, firstFrame=first_frame or None)

    @classmethod
    def device_status(cls, *, device_id: str = "controller", first_frame: bool = False) -> Self:
        """Request the status; ``first_frame`` requests the time of the first frame, while it records."""
        return cls(command=CommandType.DEVICE_STATUS, deviceId=device_id, firstFrame=first_frame or None)

    @classmethod
    def heartbeat(cls, *, device_id: str = "controller") -> Self:
        """Check that the device answers, and request its clock."""
        return cls(command=CommandType.HEARTBEAT, deviceId=device_id)

    @classmethod
    def list_files(cls, *, device_id: str = "controller") -> Self:
        """Request the list of recordings on the device."""
        return cls(command=CommandType.LIST_FILES, deviceId=device_id)

    @classmethod
    def get_video(
        cls, file_id: str | None = None, *, file_name: str | None = None, device_id: str = "controller"
    ) -> Self:
        """Download a recording by the name its dialect uses, or by both: a device ignores the other one.

        Raises:
            UsageError: Neither name was given.
        """
        _require_file(file_id, file_name)
        return cls(command=CommandType.GET_VIDEO, deviceId=device_id, fileId=file_id, fileName=file_name)

    @classmethod
    def upload_to_cloud(
        cls,
        file_name: str | None = None,
        *,
        file_id: str | None = None,
        upload_url: str | None = None,
        s3_bucket: str | None = None,
        s3_key: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        aws_region: str | None = None,
        device_id: str = "controller",
    ) -> Self:
        """Have the device upload a recording, and delete its copy afterwards.

        ``file_name`` names it in dialect 2, ``file_id`` in dialect 1. Give a presigned ``upload_url`` for
        an HTTP PUT, or else all six S3 arguments. Credentials cross the network in clear text.

        Raises:
            UsageError: No file was named, or not exactly one way to upload it.
        """
        _require_file(file_id, file_name)
        bucket: dict[str, Any] = {
            "s3Bucket": s3_bucket,
            "s3Key": s3_key,
            "awsAccessKeyId": aws_access_key_id,
            "awsSecretAccessKey": aws_secret_access_key,
            "awsSessionToken": aws_session_token,
            "awsRegion": aws_region,
        }
        missing = [name for name, value in bucket.items() if value is None]
        if len(missing) != (0 if upload_url is None else len(bucket)):
            raise UsageError(
                "an upload needs either a presigned URL or all six S3 fields; missing: " + ", ".join(missing)
                if upload_url is None
                else "an upload takes a presigned URL or S3 fields, not both"
            )
        return cls(
            command=CommandType.UPLOAD_TO_CLOUD,
            deviceId=device_id,
            fileId=file_id,
            fileName=file_name,
            uploadUrl=upload_url,
            **bucket,
        )


_OMITTED_IF_NONE: Final = frozenset(CommandMessage.model_fields) - {
    "command",
    "timestamp",
    "deviceId",
    "fileId",
}


def _require_file(file_id: str | None, file_name: str | None) -> None:
    if not file_id and not file_name:
        raise UsageError("which file? give its id or its name")


class Reply(ProtocolMessage):
    """Fields of every reply. ``status`` is in the known spelling where there is one."""

    deviceId: str = ""
    status: str
    _raw_status: str = PrivateAttr("")

    def model_post_init(self, context: Any, /) -> None:
        """Keep the raw status, and show it in the known spelling."""
        known = DeviceStatus.of(self.status)
        self._raw_status = self.status
        if known is not None:
            object.__setattr__(self, "status", known.value)  # the model is frozen from here on

    @property
    def raw_status(self) -> str:
        """Status as received."""
        return self._raw_status

    @field_serializer("status")
    def _write_raw_status(self, status: str) -> str:
        raw = self._raw_status
        return raw if DeviceStatus.of(raw) == status else status


class UploadItem(ProtocolMessage):
    """One recording in an upload queue: sizes in bytes, progress 0 to 100, speed in bytes a second."""

    fileName: str
    fileSize: Count = 0
    bytesUploaded: Count = 0
    uploadProgress: Number = 0.0
    uploadSpeed: Number = 0.0
    status: Annotated[UploadStatus | str, Field(union_mode="left_to_right")]
    uploadUrl: str | None = None
    error: str | None = None


class StatusResponse(Reply):
    """State of a device: the reply to most commands.

    ``timestamp`` is the device's system clock in Unix seconds, ``batteryLevel`` is percent.
    ``isRecording`` is derived from the status where the device does not send it, as in dialect 2.
    ``firstFrameAt`` is the time of the recording's first frame, by the same clock as ``timestamp`` and
    within ``firstFrameBound`` seconds.
    """

    deviceId: str  # pyright: ignore[reportGeneralTypeIssues] - required here, optional in an error
    timestamp: Number
    isRecording: Flag = False
    message: str | None = None
    fileId: str | None = None
    fileSize: Size = None
    batteryLevel: Number | None = None
    deviceType: Annotated[DeviceType | str | None, Field(union_mode="left_to_right")] = None
    uploadQueue: list[UploadItem] = Field(default_factory=list)
    failedUploadQueue: list[UploadItem] = Field(default_factory=list)
    firstFrameAt: Reported = None
    firstFrameBound: Reported = None
    fileName: str | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Set ``isRecording``, which dialect 2 leaves out."""
        super().model_post_init(context)
        if "isRecording" not in self.model_fields_set:
            object.__setattr__(self, "isRecording", self.status == DeviceStatus.RECORDING.value)

    @property
    def dialect(self) -> int:
        """Dialect of the fields, 1 or 2; statuses as sentences are dialect 1 as well."""
        sentence = self.raw_status != self.raw_status.lower()
        return 1 if sentence or "isRecording" in self.model_fields_set else 2


class StopRecordingResponse(Reply):
    """The recording that was just stopped, named by ``fileId`` in dialect 1 and ``fileName`` in dialect 2.

    ``fileSize`` is 0 where the device packs the file later, and both names are None when the stop failed.
    """

    deviceId: str  # pyright: ignore[reportGeneralTypeIssues] - required here, optional in an error
    timestamp: Number
    fileName: str | None = None
    fileId: str | None = None
    fileSize: Size = None
    message: str | None = None
    firstFrameAt: Reported = None
    firstFrameBound: Reported = None


class ErrorResponse(Reply):
    """An error reply; some devices leave out everything but the status."""

    timestamp: Number | None = None
    message: str | None = None


class FileResponse(Reply):
    """The header before a file, of which the device may delete its copy once it is sent.

    ``fileSize`` is None for an invalid size, and may be 0 although a file follows.
    """

    _positions = ("deviceId", "fileId", "fileName", "fileSize", "status")
    status: str = DeviceStatus.READY.value
    fileId: str = ""
    fileName: str = ""
    fileSize: Size


class FileMetadata(ProtocolMessage):
    """One recording on a device: bytes or None, dates in Unix seconds; dialect 2 sends no ``fileId``."""

    fileId: str = ""
    fileName: str
    fileSize: Size
    creationDate: Number | None = None
    modificationDate: Number | None = None


class ListFilesResponse(Reply):
    """The recordings on a device."""

    deviceId: str  # pyright: ignore[reportGeneralTypeIssues] - required here, optional in an error
    timestamp: Number
    files: list[FileMetadata] = Field(default_factory=list)
    message: str | None = None


def refusal(peer: str, command: str, reply: Reply, *, secrets: Iterable[str] = ()) -> DeviceError:
    """Return the exception for a reply whose status is an error, without the command's ``secrets``."""
    message = str(getattr(reply, "message", None) or "")  # Android's replies have none
    kind: type[DeviceError] = DeviceError
    if reply.status == DeviceStatus.TIME_NOT_SYNCHRONIZED:
        kind = ClockNotSynchronizedError
    elif reply.status == DeviceStatus.FILE_NOT_FOUND or _NOT_FINALIZED in message.lower():
        kind = NotFoundError
    for secret in secrets:
        message = message.replace(secret, "***")
    message = _without_query(message)
    text = f"{reply.status}: {message}" if message else reply.status
    return kind(f"{peer} refused {command}: {text}", status=reply.raw_status)
