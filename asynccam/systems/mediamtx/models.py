"""Results of a MediaMTX Camera Service of either generation.

Results are typed where the protocol page names their fields, and keep all other fields. A missing field never
makes a result invalid: released servers leave out unknown values. See docs/protocols/mediamtx.md.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from asynccam.errors import RemoteProtocolError
from asynccam.systems.mediamtx.plain_reader import PlainReader

R = TypeVar("R", bound="ServiceResult")

_TIMES: Final = frozenset({"start_time", "end_time", "timestamp", "modified_time"})
_FIGURES: Final = frozenset({"duration", "file_size", "fps", "bytes_sent", "readers", "uptime"})
_NUMBERS: Final = _TIMES | _FIGURES | {"total", "limit", "offset", "connected"}
"""Fields in which an empty string means a missing value."""

_OTHER_NAMES: Final = frozenset({"device_path", "recording_id"})
"""The SDK's names for fields that the service names differently."""
_STREAM_URL: Final = "stream_url"
"""The SDK's name for the URL that the service names ``streams.rtsp``."""


def _seconds(value: Any) -> Any:
    """Convert ISO 8601 text to Unix seconds; numbers are kept."""
    if isinstance(value, str):
        with suppress(ValueError):
            moment = datetime.fromisoformat(value)
            # A time without a zone is UTC, whatever zone this computer is in.
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        with suppress(ValueError):
            return float(value)
        raise ValueError("should be a time")
    return value


def _reader_count(value: Any) -> Any:
    """Return the number of readers; some services send the media server's list of readers instead."""
    return len(value) if isinstance(value, list) else value


def _capability_names(value: Any) -> Any:
    """Return capabilities as a list of strings; services send a list, a mapping of lists, or null."""
    if isinstance(value, Mapping):
        return [
            str(name) for names in value.values() for name in (names if isinstance(names, list) else [names])
        ]
    if isinstance(value, list):
        return [str(name) for name in value]
    return [] if value is None else value


def _not_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


UnixSeconds = Annotated[float | None, BeforeValidator(_seconds)]


class ServiceResult(BaseModel):
    """Base of all results: unknown fields are kept, as attributes and when dumped."""

    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        ser_json_inf_nan="constants",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not (None in value.values() or "" in value.values()):
            return value
        fields = cls.model_fields
        # Null means missing, and so does an empty string for a number or time.
        nulls, blanks = fields.keys() | _OTHER_NAMES, fields.keys() & _NUMBERS
        return {
            name: given
            for name, given in value.items()
            if not ((given is None and name in nulls) or (given == "" and name in blanks))
        }

    @classmethod
    def read(cls: type[R], value: Any, *, method: str) -> R:
        """Parse the ``result`` of ``method``, or raise `RemoteProtocolError`."""
        reader: PlainReader[R] | None = PLAIN_READERS.get(cls)  # none for a subclass, which may validate more
        if reader is not None and (plain := reader.read(value)) is not None:
            return plain
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise RemoteProtocolError(
                f"the answer to {method} is not valid: {place} {first['msg']}"
            ) from None


class Streams(ServiceResult):
    """URLs of a camera's live streams."""

    rtsp: str | None = None
    hls: str | None = None
    webrtc: str | None = None


class Metrics(ServiceResult):
    """Metrics of a stream: bytes and seconds."""

    bytes_sent: int | None = None
    readers: Annotated[int | None, BeforeValidator(_reader_count)] = None
    uptime: float | None = None


class CameraInfo(ServiceResult):
    """A camera of the service, identified by ``device``, which is ``device_path`` in the SDK.

    It is ``/dev/video0`` in generation 1, ``camera0`` in generation 2.
    """

    device: str = Field(default="", validation_alias=AliasChoices("device", "device_path"))
    status: str = ""
    name: str = ""
    resolution: str | None = None
    fps: float | None = None
    streams: Streams = Field(default_factory=Streams)
    capabilities: Annotated[list[str], BeforeValidator(_capability_names)] = Field(default_factory=list)
    metrics: Metrics | None = None

    def __init__(
        self,
        device_path: str | None = None,
        name: str | None = None,
        capabilities: Sequence[str] | None = None,
        status: str | None = None,
        stream_url: str | None = None,
        **fields: Any,
    ) -> None:
        """As in the SDK; any other field by its name."""
        given = {"device_path": device_path, "name": name, "capabilities": capabilities, "status": status}
        super().__init__(**_not_none({**given, "stream_url": stream_url, **fields}))

    # As in pydantic's own classes: parsing need not go through this method.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _stream_url(cls, value: Any) -> Any:
        """Accept the SDK's name of the RTSP stream, for programs that make a camera themselves."""
        if isinstance(value, Mapping) and _STREAM_URL in value and not value.get("streams"):
            rest = {name: given for name, given in value.items() if name != _STREAM_URL}
            return {**rest, "streams": {"rtsp": value[_STREAM_URL]}}
        return value

    @property
    def device_path(self) -> str:
        """``device`` by the SDK's name."""
        return self.device

    @property
    def stream_url(self) -> str | None:
        """RTSP URL, or None."""
        return self.streams.rtsp


class RecordingInfo(ServiceResult):
    """A running or ended recording. Times are Unix seconds, durations seconds, sizes bytes."""

    device: str = Field(default="", validation_alias=AliasChoices("device", "device_path"))
    session_id: str | None = Field(default=None, validation_alias=AliasChoices("session_id", "recording_id"))
    filename: str = ""
    status: str = ""
    start_time: UnixSeconds = None
    end_time: UnixSeconds = None
    duration: float | None = None
    file_size: int | None = None
    format: str | None = None

    def __init__(
        self,
        device_path: str | None = None,
        recording_id: str | None = None,
        filename: str | None = None,
        start_time: float | None = None,
        duration: float | None = None,
        status: str = "active",
        **fields: Any,
    ) -> None:
        """As in the SDK; any other field by its name. Missing values stay empty."""
        given = {"device_path": device_path, "recording_id": recording_id, "filename": filename}
        times = {"start_time": start_time, "duration": duration}
        super().__init__(**_not_none({**given, **times, "status": status, **fields}))

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @property
    def device_path(self) -> str:
        """``device`` by the SDK's name."""
        return self.device

    # The id of the recording's first message, where this message would give another.
    _first_id: str = PrivateAttr(default="")

    @property
    def recording_id(self) -> str:
        """Id of the recording, the same from its start to its stop.

        It is the session's id, else the file's name in the first message, else an id of the client's own.
        """
        # By the attribute of its own name, pydantic would search for it in several places first.
        first_id: str = (self.__pydantic_private__ or {}).get("_first_id", "")
        return first_id or self.session_id or self.filename

    def known_as(self, recording_id: str) -> "RecordingInfo":
        """Return the same with the id of the recording's first message."""
        if recording_id == self.recording_id:
            return self
        same = self.model_copy()
        same._first_id = recording_id
        return same

    def of(self, device: str) -> "RecordingInfo":
        """Return the same with this camera if the result does not name one."""
        return self if self.device else self.model_copy(update={"device": device})


class SnapshotInfo(ServiceResult):
    """A picture that the service took; ``status`` is ``FAILED`` if it could not."""

    device: str = Field(default="", validation_alias=AliasChoices("device", "device_path"))
    filename: str = ""
    status: str = ""
    timestamp: UnixSeconds = None
    file_size: int | None = None
    file_path: str | None = None

    @property
    def device_path(self) -> str:
        """``device`` by the SDK's name."""
        return self.device


class FileInfo(ServiceResult):
    """A recording or picture on the service's disk."""

    filename: str = ""
    file_size: int | None = None
    modified_time: UnixSeconds = None
    download_url: str | None = None


class FileList(ServiceResult):
    """One page of a listing.

    ``complete`` is False if the service failed to list files, and this holds only those that were reported
    to this client.
    """

    files: list[FileInfo] = Field(default_factory=list)
    total: int | None = None
    limit: int | None = None
    offset: int | None = None
    complete: bool = Field(default=True, exclude=True)


class CameraList(ServiceResult):
    """All cameras of a service."""

    cameras: list[CameraInfo] = Field(default_factory=list)
    total: int | None = None
    connected: int | None = None


class AuthenticationResult(ServiceResult):
    """Result of ``authenticate``; generation 1 sends a failure as a result too."""

    authenticated: bool = False
    role: str | None = None
    error: str | None = None


class Report(ServiceResult):
    """A result of undefined fields, which are all kept; one that is not an object is kept as ``value``."""

    @model_validator(mode="before")
    @classmethod
    def _any(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping) else {"value": value}


PLAIN_READERS: Final[dict[type[ServiceResult], PlainReader[Any]]] = {}
"""Readers of what comes often or in long lists: notifications, cameras and files."""
for _model in (Streams, Metrics, CameraInfo, CameraList, RecordingInfo, FileInfo, FileList):
    # In an order in which the models of a model's fields come first.
    PLAIN_READERS[_model] = PlainReader(_model, PLAIN_READERS, _OTHER_NAMES | {_STREAM_URL})
