"""What a MediaMTX Camera Service tells, of either generation.

Results are typed where the protocol page names their fields, and keep every field it does not. A
missing field never fails a parse: released servers leave out what they do not know.
See docs/protocols/mediamtx.md.
"""

from collections.abc import Mapping, Sequence
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

M = TypeVar("M", bound="Answer")

_TIMES: Final = frozenset({"start_time", "end_time", "timestamp", "modified_time"})
_FIGURES: Final = frozenset({"duration", "file_size", "fps", "bytes_sent", "readers", "uptime"})
_NUMBERS: Final = _TIMES | _FIGURES | {"total", "limit", "offset", "connected"}
"""Fields in which an empty text says nothing; times are among them."""

_OTHER_NAMES: Final = frozenset({"device_path", "recording_id"})
"""The SDK's names for fields that the service calls otherwise."""


def _seconds(value: Any) -> Any:
    """Times come as numbers or as ISO 8601 text; both become Unix seconds."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            # A time that names no zone is taken for UTC, whatever zone this computer is in.
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        try:
            return float(value)
        except ValueError:
            raise ValueError("should be a time") from None
    return value


def _reader_count(value: Any) -> Any:
    """The media server's own answer sometimes comes through: a list of readers instead of their number."""
    return len(value) if isinstance(value, list) else value


def _words(value: Any) -> Any:
    """Capabilities come as a list of words, as a mapping of lists, or not at all."""
    if isinstance(value, Mapping):
        return [
            str(word) for words in value.values() for word in (words if isinstance(words, list) else [words])
        ]
    if isinstance(value, list):
        return [word if isinstance(word, str) else str(word) for word in value]
    return [] if value is None else value


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value is not None}


UnixSeconds = Annotated[float | None, BeforeValidator(_seconds)]


class Answer(BaseModel):
    """Base of all answers: unknown fields are kept, as attributes and when dumped.

    Null is as good as missing in the fields that are known, and so is an empty text for a number or time.
    """

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
        nulls, blanks = fields.keys() | _OTHER_NAMES, fields.keys() & _NUMBERS
        return {
            name: given
            for name, given in value.items()
            if not ((given is None and name in nulls) or (given == "" and name in blanks))
        }

    @classmethod
    def read(cls: type[M], value: Any, *, method: str) -> M:
        """Read the ``result`` of ``method``.

        Raises:
            RemoteProtocolError: It is of another shape.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise RemoteProtocolError(
                f"the answer to {method} is not understood: {place} {first['msg']}"
            ) from None


class Streams(Answer):
    """Addresses of a camera's live streams."""

    rtsp: str | None = None
    hls: str | None = None
    webrtc: str | None = None


class Metrics(Answer):
    """What a stream has done so far; bytes and seconds."""

    bytes_sent: int | None = None
    readers: Annotated[int | None, BeforeValidator(_reader_count)] = None
    uptime: float | None = None


class CameraInfo(Answer):
    """A camera as the service knows it.

    The identity is ``device``: ``/dev/video0`` in generation 1, ``camera0`` in generation 2;
    ``device_path`` is the same under the SDK's name.
    """

    device: str = Field(default="", validation_alias=AliasChoices("device", "device_path"))
    status: str = ""
    name: str = ""
    resolution: str | None = None
    fps: float | None = None
    streams: Streams = Field(default_factory=Streams)
    capabilities: Annotated[list[str], BeforeValidator(_words)] = Field(default_factory=list)
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
        super().__init__(**_told({**given, "stream_url": stream_url, **fields}))

    # Tells pydantic, as its own classes do, that parsing need not go through this method.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _stream_url(cls, value: Any) -> Any:
        """The SDK's name for the one stream it knows, where a program builds a camera by hand."""
        if isinstance(value, Mapping) and "stream_url" in value and not value.get("streams"):
            rest = {name: given for name, given in value.items() if name != "stream_url"}
            return {**rest, "streams": {"rtsp": value["stream_url"]}}
        return value

    @property
    def device_path(self) -> str:
        """The identity, under the SDK's name."""
        return self.device

    @property
    def stream_url(self) -> str | None:
        """The RTSP address, or None."""
        return self.streams.rtsp


class RecordingInfo(Answer):
    """A recording that runs or has ended. Times are Unix seconds, durations seconds, sizes bytes."""

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
        """As in the SDK; any other field by its name. What a service leaves out stays empty."""
        given = {"device_path": device_path, "recording_id": recording_id, "filename": filename}
        times = {"start_time": start_time, "duration": duration}
        super().__init__(**_told({**given, **times, "status": status, **fields}))

    # As above.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @property
    def device_path(self) -> str:
        """The camera, under the SDK's name."""
        return self.device

    # The id it was first known by, where the words of this message would give another.
    _first_id: str = PrivateAttr(default="")

    @property
    def recording_id(self) -> str:
        """The id of the recording, the same from its start to its stop in all a client tells of it.

        It is the session's id, or the file's name where the first message gave none, or else an id of the
        client's own.
        """
        return self._first_id or self.session_id or self.filename

    def known_as(self, recording_id: str) -> "RecordingInfo":
        """The same under the id it was first known by."""
        if recording_id == self.recording_id:
            return self
        same = self.model_copy()
        same._first_id = recording_id
        return same

    def of(self, device: str) -> "RecordingInfo":
        """The same, of this camera if the answer does not name one."""
        return self if self.device else self.model_copy(update={"device": device})


class SnapshotInfo(Answer):
    """A picture the service took, or failed to take: then ``status`` is ``FAILED``."""

    device: str = Field(default="", validation_alias=AliasChoices("device", "device_path"))
    filename: str = ""
    status: str = ""
    timestamp: UnixSeconds = None
    file_size: int | None = None
    file_path: str | None = None

    @property
    def device_path(self) -> str:
        """The camera, under the SDK's name."""
        return self.device


class FileInfo(Answer):
    """A recording or picture on the service's disk."""

    filename: str = ""
    file_size: int | None = None
    modified_time: UnixSeconds = None
    download_url: str | None = None


class FileList(Answer):
    """One page of a listing.

    ``complete`` is False when the service failed to list, and this is only what this client was told
    of meanwhile.
    """

    files: list[FileInfo] = Field(default_factory=list)
    total: int | None = None
    limit: int | None = None
    offset: int | None = None
    complete: bool = Field(default=True, exclude=True)


class CameraList(Answer):
    """All cameras of a service."""

    cameras: list[CameraInfo] = Field(default_factory=list)
    total: int | None = None
    connected: int | None = None


class SignIn(Answer):
    """The answer to ``authenticate``: a failure of generation 1 is a result too."""

    authenticated: bool = False
    role: str | None = None
    error: str | None = None


class Report(Answer):
    """An answer whose fields the protocol does not name; all of them are kept.

    One that is no object at all is kept as ``value``.
    """

    @model_validator(mode="before")
    @classmethod
    def _any(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping) else {"value": value}
