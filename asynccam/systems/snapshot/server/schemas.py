"""Models of ``/api/v1/``: what it accepts and returns. The OpenAPI document is generated from them."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, create_model

from asynccam.errors import NotFoundError
from asynccam.systems.snapshot.server.models import VERSION, CaptureState, Problem, ShotResult
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import (
    CameraConfig,
    ImuConnection,
    Limits,
    Retention,
    ServerConfig,
)

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, from_attributes=True)


# -- pictures -----------------------------------------------------------------------------------


class ReadingDocument(_Document):
    """A reading of the IMU."""

    roll: float
    """Degrees."""
    pitch: float
    """Degrees."""
    yaw: float
    """Degrees."""
    at: float
    """When it was received, Unix seconds."""


class SnapshotDocument(_Document):
    """A picture in the store. Paths are relative to the server's base URL."""

    filename: str
    """Its name in the store."""
    camera: str | None
    """Its camera; null if the file name does not contain one."""
    prefix: str | None
    """How it was requested: snapshot, api_all_cams, api_stereo, all_cams or stereo."""
    taken_at: float
    """When it was taken, Unix seconds."""
    size: int
    """Bytes."""
    image_url_path: str
    """The picture."""
    download_url_path: str
    """The picture as an attachment."""
    thumbnail_url_path: str
    """A small JPEG of it."""


class CaptureDocument(SnapshotDocument):
    """A picture that was just taken."""

    imu: ReadingDocument | None = None
    """The reading in its EXIF, the camera's offsets added."""


class SnapshotPage(_Document):
    """Some of the pictures, newest first."""

    items: tuple[SnapshotDocument, ...]
    next: str | None
    """Cursor of the next page, to be sent as `after`; null on the last page."""
    total: int
    """Number of pictures of the requested camera, or of all cameras."""


class CaptureOrder(_Document):
    """Which cameras take a picture."""

    model_config = ConfigDict(extra="forbid")

    group: Literal["all", "stereo"]
    """All of them, or those marked stereo, these with the least delay in between."""


class CaptureResult(_Document):
    """One camera's result."""

    camera: str
    snapshot: Annotated[CaptureDocument | None, Field(validation_alias="shot")]
    """The picture; null if the capture failed."""
    error: str | None
    """Why the capture failed."""


class CaptureResults(_Document):
    """Result of each camera; one that fails does not affect the others."""

    results: tuple[CaptureResult, ...]
    spread: float | None
    """Seconds between the first and the last picture; null with fewer than two."""

    @classmethod
    def of(cls, results: Sequence[ShotResult]) -> "CaptureResults":
        """Return the document of a capture of several cameras."""
        moments = [result.shot.taken_at for result in results if result.shot is not None]
        spread = max(moments) - min(moments) if len(moments) > 1 else None
        return cls.model_validate({"results": results, "spread": spread})


# -- cameras ------------------------------------------------------------------------------------


class CameraDocument(CameraConfig):
    """A camera, its settings and its state. Unknown fields of config.json are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    phase: Literal["idle", "waiting", "capturing", "failed"]
    """Its activity; failed lasts until its next capture."""
    error: str | None
    """Why its latest capture failed."""
    last: SnapshotDocument | None
    """Its newest picture."""

    @classmethod
    def of(cls, service: SnapshotService, camera: CameraConfig) -> "CameraDocument":
        """Return a camera and its state."""
        state = capture_state(service, camera.name)
        own = {"phase": state.phase.value, "error": state.error, "last": service.store.newest(camera.name)}
        # A dictionary, since unknown fields of the file may have any name, these too.
        return cls.model_validate(camera.model_dump() | own)


STATE_FIELDS: Final = frozenset(CameraDocument.model_fields) - frozenset(CameraConfig.model_fields)
"""Fields of a `CameraDocument` that are not settings; never saved."""


class CameraListDocument(_Document):
    """Every camera, in the order of config.json."""

    model_config = ConfigDict(title="CameraList")

    cameras: tuple[CameraDocument, ...]

    @classmethod
    def of(cls, service: SnapshotService) -> "CameraListDocument":
        """Return every camera."""
        return cls(cameras=tuple(CameraDocument.of(service, camera) for camera in service.cameras()))


def capture_state(service: SnapshotService, name: str) -> CaptureState:
    """Return the state of a camera; idle if it was deleted."""
    try:
        return service.state_of(name)
    except NotFoundError:
        return CaptureState()


# -- problems -----------------------------------------------------------------------------------


class FieldProblem(_Document):
    """An invalid field."""

    field: str
    """Its name, or an empty text for the whole."""
    message: str


def field_problems(problems: Iterable[Problem]) -> tuple[FieldProblem, ...]:
    """Return problems as the API shows them."""
    return tuple(map(FieldProblem.model_validate, problems))


class CheckOutcome(_Document):
    """Result of a check: whether the fields could be saved."""

    model_config = ConfigDict(title="CheckResult")

    ok: bool
    problems: tuple[FieldProblem, ...]


class ConfigProblem(FieldProblem):
    """Something in config.json that cannot be used."""

    line: int | None
    """From 1."""
    column: int | None
    """From 1."""
    camera: str | None
    """The camera entry it belongs to."""


class ProblemDocument(_Document):
    """An error, as in RFC 9457; `code` identifies it for programs."""

    type: Annotated[str, Field(examples=["urn:asynccam:snapshot:camera_not_found"])]
    title: str
    status: int
    detail: str
    code: str
    problems: tuple[FieldProblem, ...] = ()


# -- settings -----------------------------------------------------------------------------------

_LIMIT_KEYS: Final = ("default", "minimum", "maximum", "exclusiveMinimum", "minLength")


def _as_returned(schema: dict[str, Any]) -> None:
    """Describe settings as they are returned: every field is there, and within its limits."""
    for field in schema["properties"].values():
        for part in (field, *field.get("anyOf", ())):
            for key in _LIMIT_KEYS:
                part.pop(key, None)
    schema["required"] = list(schema["properties"])


_RETURNED: Final = ConfigDict(extra="ignore", from_attributes=True, json_schema_extra=_as_returned)


class RetentionDocument(Retention):
    """Retention of pictures."""

    model_config = _RETURNED


class LimitsDocument(Limits):
    """Limits of captures; read when the server starts."""

    model_config = _RETURNED


class ImuSettingsDocument(ImuConnection):
    """Source of the IMU's readings."""

    model_config = _RETURNED

    password: bool
    """True if the broker gets one; broker and port are then changed by hand only. It is never shown."""


class SettingsDocument(_Document):
    """The settings that may be changed over the web."""

    retention: RetentionDocument
    limits: LimitsDocument
    imu: ImuSettingsDocument

    @classmethod
    def of(cls, config: ServerConfig) -> "SettingsDocument":
        """Return the settings of a configuration."""
        password = bool(config.imu.password_file or config.imu.password_env)
        imu = {**config.imu.model_dump(), "password": password}
        return cls.model_validate({"retention": config.retention, "limits": config.limits, "imu": imu})


def _optional(annotation: Any, description: str | None = None) -> Any:
    """Return a field that may be null or left out."""
    return annotation | None, Field(default=None, description=description)


def _change_of(settings: type[BaseModel], name: str, doc: str, **descriptions: str) -> type[BaseModel]:
    fields = {
        key: _optional(field.annotation, descriptions.get(key, field.description))
        for key, field in settings.model_fields.items()
    }
    return create_model(name, __base__=_Document, __doc__=doc, **fields)


RetentionChange: Final = _change_of(
    Retention,
    "RetentionChange",
    "Retention of pictures.",
    max_age_days="Older pictures are deleted; null keeps them.",
    max_size_mb="The oldest are deleted while all together are larger, 1,000,000 bytes; null keeps them.",
)
LimitsChange: Final = _change_of(Limits, "LimitsChange", "Limits of captures; read when the server starts.")
ImuChange: Final = _change_of(
    ImuConnection,
    "ImuChange",
    "Source of the IMU's readings.",
    broker="Host name or address; cannot be changed while the broker gets a password.",
    port="TCP port; cannot be changed while the broker gets a password.",
    username="For the broker; null for none.",
)
SettingsChange: Final = create_model(
    "SettingsChange",
    __base__=_Document,
    __doc__="Settings to change: those left out stay, null restores the default.",
    retention=_optional(RetentionChange),
    limits=_optional(LimitsChange),
    imu=_optional(ImuChange),
)


# -- state --------------------------------------------------------------------------------------


class ImuDocument(_Document):
    """The IMU, and the broker of its readings."""

    enabled: bool
    connected: bool
    error: str
    """Why it is not connected."""
    broker: str
    port: int
    topic: str
    reading: ReadingDocument | None
    """The newest one, however old."""
    fresh: bool
    """True if it is recent enough to be used."""

    @classmethod
    def of(cls, service: SnapshotService) -> "ImuDocument | None":
        """Return the state of the IMU, or None without one."""
        feed, settings = service.imu, service.config.current.imu
        if feed is None:
            return None
        state = {"connected": feed.connected, "error": feed.error, "reading": feed.newest}
        return cls.model_validate(settings.model_dump() | state | {"fresh": feed.reading() is not None})


class StoreDocument(_Document):
    """The store of pictures."""

    pictures: int
    bytes: int
    max_age_days: float | None
    """Older pictures are deleted."""
    max_size_mb: float | None
    """The oldest are deleted while all together are larger."""


class StateDocument(_Document):
    """Everything the page shows."""

    version: str
    cameras: tuple[CameraDocument, ...]
    problems: tuple[ConfigProblem, ...]
    imu: ImuDocument | None
    store: StoreDocument
    settings: SettingsDocument
    stopped_services: tuple[str, ...]
    """Services that are stopped at this moment."""

    @classmethod
    def of(cls, service: SnapshotService) -> "StateDocument":
        """Return the state of a server, as page, API and event stream show it."""
        config = service.config.current
        return cls(
            version=VERSION,
            cameras=CameraListDocument.of(service).cameras,
            problems=tuple(map(ConfigProblem.model_validate, service.config.problems)),
            imu=ImuDocument.of(service),
            store=StoreDocument(
                pictures=len(service.store),
                bytes=service.store.size,
                max_age_days=config.retention.max_age_days,
                max_size_mb=config.retention.max_size_mb,
            ),
            settings=SettingsDocument.of(config),
            stopped_services=service.services.stopped,
        )


class HealthDocument(_Document):
    """A sign that the server is running."""

    status: Literal["ok"] = "ok"


# -- responses ----------------------------------------------------------------------------------


def json_response(value: Any, *, status: int = 200, content_type: str = JSON) -> web.Response:
    """Return a value (a model, JSON as bytes, or any other) as JSON that must not be cached."""
    if isinstance(value, BaseModel):
        value = value.model_dump_json().encode()
    elif not isinstance(value, bytes):
        value = json.dumps(value).encode()
    headers = {hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(body=value, status=status, headers=headers)
