"""What a MultiCam controller and its devices say to each other.

Field names are the wire's own camelCase. Both dialects share these classes: a field that only one of
them has is optional, a field nobody knows is kept, and what was absent stays absent when a message is
written again. See docs/protocols/multicam.md.
"""
# ruff: noqa: N815 - the fields are named as on the wire, which is what callers of the protocol expect.

import json
from typing import Annotated, Any, Final, Self

from pydantic import Field, PrivateAttr, field_serializer

from asynccam.errors import UsageError
from asynccam.systems.multicam.message import Count, Flag, Message, Number, Reported, Size
from asynccam.systems.multicam.vocabulary import (
    COMMAND_TIMEOUT,
    DOWNLOAD_CHUNK_SIZE,
    DOWNLOAD_STALL_TIMEOUT,
    MAX_ROUND_TRIP,
    NTP_PORT,
    NTP_SERVER,
    SAFE_COMMAND_SIZE,
    SERVICE_TYPE,
    SYNC_DELAY,
    TCP_PORT,
    CommandType,
    DeviceStatus,
    DeviceType,
    UploadStatus,
)
from asynccam.wall_clock import unix_now

__all__ = [
    "COMMAND_TIMEOUT",
    "DOWNLOAD_CHUNK_SIZE",
    "DOWNLOAD_STALL_TIMEOUT",
    "MAX_ROUND_TRIP",
    "NTP_PORT",
    "NTP_SERVER",
    "SAFE_COMMAND_SIZE",
    "SERVICE_TYPE",
    "SYNC_DELAY",
    "TCP_PORT",
    "CommandMessage",
    "CommandType",
    "DeviceStatus",
    "DeviceType",
    "ErrorResponse",
    "FileMetadata",
    "FileResponse",
    "ListFilesResponse",
    "Message",
    "Reply",
    "StatusResponse",
    "StopRecordingResponse",
    "UploadItem",
    "UploadStatus",
]


class CommandMessage(Message):
    """What a controller asks of a device.

    ``timestamp`` is Unix seconds; in START_RECORDING a future one means: start then, by the device's
    NTP-corrected clock. A command nobody knows is kept as text. ``firstFrame`` asks for the time of the first
    frame, which only asynccam's own device server tells; others ignore it. See docs/protocols/multicam.md.
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
        """This command as JSON text; ``fileId`` is always there, other optional fields when they are set."""
        fields = self.model_dump(mode="json")
        for name in _ONLY_WHERE_THEY_APPLY:
            if fields[name] is None:
                del fields[name]
        return json.dumps(fields)

    @classmethod
    def start_recording(cls, timestamp: float | None = None, *, device_id: str = "controller") -> Self:
        """Start now, or at ``timestamp`` (Unix seconds)."""
        when = unix_now() if timestamp is None else timestamp
        return cls(command=CommandType.START_RECORDING, timestamp=when, deviceId=device_id)

    @classmethod
    def stop_recording(cls, *, device_id: str = "controller", first_frame: bool = False) -> Self:
        """Stop the recording that runs; ``first_frame`` asks when its first frame was."""
        asks = True if first_frame else None
        return cls(command=CommandType.STOP_RECORDING, deviceId=device_id, firstFrame=asks)

    @classmethod
    def device_status(cls, *, device_id: str = "controller", first_frame: bool = False) -> Self:
        """Ask what the device is doing; ``first_frame`` asks when the first frame was, while it records."""
        asks = True if first_frame else None
        return cls(command=CommandType.DEVICE_STATUS, deviceId=device_id, firstFrame=asks)

    @classmethod
    def heartbeat(cls, *, device_id: str = "controller") -> Self:
        """Ask whether the device is there, and what its clock says."""
        return cls(command=CommandType.HEARTBEAT, deviceId=device_id)

    @classmethod
    def list_files(cls, *, device_id: str = "controller") -> Self:
        """Ask for the recordings on the device."""
        return cls(command=CommandType.LIST_FILES, deviceId=device_id)

    @classmethod
    def get_video(
        cls, file_id: str | None = None, *, file_name: str | None = None, device_id: str = "controller"
    ) -> Self:
        """Fetch a recording by the name its dialect uses, or by both: a device ignores the other one.

        Raises:
            UsageError: Neither name was given.
        """
        _require_a_file(file_id, file_name)
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

        Credentials cross the network in clear text.

        Args:
            file_name: The recording, by its name in dialect 2.
            file_id: The recording, by its name in dialect 1.
            upload_url: A presigned URL for an HTTP PUT; or else all six of the following.
            s3_bucket: Where to.
            s3_key: Where to, in the bucket.
            aws_access_key_id: Credentials for it.
            aws_secret_access_key: Credentials for it.
            aws_session_token: Credentials for it.
            aws_region: Where the bucket is.
            device_id: Who asks.

        Raises:
            UsageError: No file was named, or not exactly one way to upload it.
        """
        _require_a_file(file_id, file_name)
        bucket = {
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


_ONLY_WHERE_THEY_APPLY: Final = frozenset(CommandMessage.model_fields) - {
    "command",
    "timestamp",
    "deviceId",
    "fileId",
}


def _require_a_file(file_id: str | None, file_name: str | None) -> None:
    if not file_id and not file_name:
        raise UsageError("which file? give its id or its name")


class Reply(Message):
    """What every answer has. ``status`` is in the known spelling where there is one."""

    deviceId: str = ""
    status: str
    _raw_status: str = PrivateAttr("")

    def model_post_init(self, context: Any, /) -> None:
        """Keep the status as it came, and show it in the known spelling."""
        known = DeviceStatus.of(self.status)
        self._raw_status = self.status
        if known is not None:
            self.__dict__["status"] = known.value  # the model is frozen from here on

    @property
    def raw_status(self) -> str:
        """The status as it came over the wire."""
        return self._raw_status

    @field_serializer("status")
    def _write_raw_status(self, status: str) -> str:
        raw = self._raw_status
        return raw if DeviceStatus.of(raw) == status else status


class UploadItem(Message):
    """One recording on its way to the cloud: sizes in bytes, progress 0 to 100, speed in bytes a second."""

    fileName: str
    fileSize: Count = 0
    bytesUploaded: Count = 0
    uploadProgress: Number = 0.0
    uploadSpeed: Number = 0.0
    status: Annotated[UploadStatus | str, Field(union_mode="left_to_right")]
    uploadUrl: str | None = None
    error: str | None = None


class StatusResponse(Reply):
    """How a device is: the answer to most commands.

    ``timestamp`` is the device's system clock in Unix seconds, ``batteryLevel`` is percent.
    ``isRecording`` is taken from the status where the device does not tell, as in dialect 2.
    ``firstFrameAt`` is when the recording's first frame was, by the same clock as ``timestamp`` and within
    ``firstFrameBound`` seconds.
    """

    deviceId: str
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
        """Fill in what dialect 2 leaves out."""
        super().model_post_init(context)
        if "isRecording" not in self.model_fields_set:
            self.__dict__["isRecording"] = self.status == DeviceStatus.RECORDING.value

    @property
    def dialect(self) -> int:
        """The dialect that the fields are of, 1 or 2; statuses as sentences are of dialect 1 as well."""
        sentence = self.raw_status != self.raw_status.lower()
        return 1 if sentence or "isRecording" in self.model_fields_set else 2


class StopRecordingResponse(Reply):
    """The recording that was just stopped, named by ``fileId`` in dialect 1 and ``fileName`` in dialect 2.

    ``fileSize`` is 0 where the device packs the file later, and both names are None when the stop failed.
    """

    deviceId: str
    timestamp: Number
    fileName: str | None = None
    fileId: str | None = None
    fileSize: Size = None
    message: str | None = None
    firstFrameAt: Reported = None
    firstFrameBound: Reported = None


class ErrorResponse(Reply):
    """A refusal; some devices leave out everything but the status."""

    timestamp: Number | None = None
    message: str | None = None


class FileResponse(Reply):
    """The header before a file, of which the device may delete its copy once it is sent.

    ``fileSize`` is None where the device writes what is no size, and may be 0 with a file behind it.
    """

    _places = ("deviceId", "fileId", "fileName", "fileSize", "status")
    status: str = DeviceStatus.READY.value
    fileId: str = ""
    fileName: str = ""
    fileSize: Size


class FileMetadata(Message):
    """One recording on a device: bytes or None, dates in Unix seconds; dialect 2 has no ``fileId``."""

    fileId: str = ""
    fileName: str
    fileSize: Size
    creationDate: Number | None = None
    modificationDate: Number | None = None


class ListFilesResponse(Reply):
    """The recordings on a device."""

    deviceId: str
    timestamp: Number
    files: list[FileMetadata] = Field(default_factory=list)
    message: str | None = None
