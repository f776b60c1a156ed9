"""What ``/api/v1/`` takes and gives, as models; the OpenAPI document is made from them."""

from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from asynccam.systems.snapshot.server.index import Page, StoredSnapshot
from asynccam.systems.snapshot.server.models import Reading, Shot
from asynccam.systems.snapshot.server.settings import CameraConfig


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ReadingDocument(_Document):
    """A reading of the IMU."""

    roll: float
    """Degrees."""
    pitch: float
    """Degrees."""
    yaw: float
    """Degrees."""
    at: float
    """When it came, Unix seconds."""

    @classmethod
    def of(cls, reading: Reading | None) -> "ReadingDocument | None":
        """The document of a reading, where there is one."""
        if reading is None:
            return None
        return cls(roll=reading.roll, pitch=reading.pitch, yaw=reading.yaw, at=reading.at)


class SnapshotDocument(_Document):
    """A picture in the store. Paths are relative to the server's base URL."""

    filename: str
    """Its name in the store."""
    camera: str | None
    """The camera it is of; null where its name does not tell."""
    prefix: str | None
    """How it was asked for: snapshot, api_all_cams, api_stereo, all_cams or stereo."""
    taken_at: float
    """The moment of the picture, Unix seconds."""
    size: int
    """Bytes."""
    image_url_path: str
    """The picture."""
    download_url_path: str
    """The picture as an attachment."""
    thumbnail_url_path: str
    """A small JPEG of it."""

    @classmethod
    def of(cls, picture: StoredSnapshot) -> "SnapshotDocument":
        """The document of a stored picture."""
        return cls(
            camera=picture.camera,
            prefix=picture.prefix,
            taken_at=picture.taken_at,
            size=picture.size,
            **_paths(picture.filename),
        )


class CaptureDocument(SnapshotDocument):
    """A picture that was just taken."""

    imu: ReadingDocument | None = None
    """What went into its EXIF, the camera's offsets added."""

    @classmethod
    def taken(cls, shot: Shot, prefix: str) -> "CaptureDocument":
        """The document of a capture."""
        return cls(
            camera=shot.camera,
            prefix=prefix,
            taken_at=shot.taken_at,
            size=shot.size,
            imu=ReadingDocument.of(shot.imu),
            **_paths(shot.filename),
        )


class CameraDocument(CameraConfig):
    """A camera, how it is set up and how it is. Unknown fields of config.json are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    phase: Literal["idle", "waiting", "capturing", "failed"]
    """What it does; failed stays until its next capture."""
    error: str | None
    """Why its latest capture failed."""
    last: SnapshotDocument | None
    """Its newest picture."""


STATE_FIELDS: Final = frozenset(CameraDocument.model_fields) - frozenset(CameraConfig.model_fields)
"""What a `CameraDocument` says of a camera beyond how it is set up; never saved."""


class CameraList(_Document):
    """Every camera, in the order of config.json."""

    cameras: tuple[CameraDocument, ...]


class SnapshotPage(_Document):
    """Some of the pictures, newest first."""

    items: tuple[SnapshotDocument, ...]
    next: str | None
    """Ask with it as `after` for the next page; null on the last."""
    total: int
    """Pictures in all, of the camera asked for."""

    @classmethod
    def of(cls, page: Page) -> "SnapshotPage":
        """The document of a page."""
        return cls(items=tuple(map(SnapshotDocument.of, page.items)), next=page.next, total=page.total)


class CaptureOrder(BaseModel):
    """Which cameras are to take a picture."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    group: Literal["all", "stereo"]
    """All of them, or those marked stereo, these with the least delay between."""


class CaptureResult(_Document):
    """One camera's part."""

    camera: str
    snapshot: CaptureDocument | None
    """The picture; null if it failed."""
    error: str | None
    """Why it failed."""


class CaptureResults(_Document):
    """What came of each camera; one's failure hides no other's picture."""

    results: tuple[CaptureResult, ...]
    spread: float | None
    """Seconds between the first and the last picture; null with fewer than two."""


class FieldProblem(_Document):
    """What is wrong with one field."""

    field: str
    """Its name, or an empty text for the whole."""
    message: str


class CheckResult(_Document):
    """Whether a camera could be saved like this."""

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


class ImuDocument(_Document):
    """The IMU, and the broker its readings come from."""

    enabled: bool
    connected: bool
    error: str
    """Why it is not connected, in words."""
    broker: str
    port: int
    topic: str
    reading: ReadingDocument | None
    """The newest one, however old."""
    fresh: bool
    """Whether it is young enough to be used."""


class StoreDocument(_Document):
    """What is kept."""

    pictures: int
    bytes: int
    max_age_days: float | None
    """Older pictures are deleted."""
    max_size_mb: float | None
    """The oldest are deleted while all together are larger."""


class RetentionChange(_Document):
    """How long pictures stay."""

    max_age_days: float | None = None
    """Older pictures are deleted; null keeps them."""
    max_size_mb: float | None = None
    """The oldest are deleted while all together are larger, 1,000,000 bytes; null keeps them."""


class LimitsChange(_Document):
    """How much is done at once; read when the server starts."""

    captures: int | None = None
    """Captures at the same time."""
    waiting: int | None = None
    """Captures that may wait for their turn."""


class ImuChange(_Document):
    """Where the IMU's readings come from."""

    enabled: bool | None = None
    """Whether the broker is asked at all."""
    broker: str | None = None
    """Host name or address; stays while a password goes to it."""
    port: int | None = None
    """TCP port; stays while a password goes to the broker."""
    topic: str | None = None
    """MQTT topic."""
    max_age: float | None = None
    """An older reading is not used, seconds."""
    username: str | None = None
    """For the broker; null for none."""


class SettingsChange(_Document):
    """Settings to change: those not given stay, null is the default again."""

    retention: RetentionChange | None = None
    limits: LimitsChange | None = None
    imu: ImuChange | None = None


class RetentionDocument(_Document):
    """How long pictures stay."""

    max_age_days: float | None
    """Older pictures are deleted."""
    max_size_mb: float | None
    """The oldest are deleted while all together are larger, 1,000,000 bytes."""


class LimitsDocument(_Document):
    """How much is done at once; read when the server starts."""

    captures: int
    """Captures at the same time."""
    waiting: int
    """Captures that may wait for their turn."""


class ImuSettingsDocument(_Document):
    """Where the IMU's readings come from."""

    enabled: bool
    """Whether the broker is asked at all."""
    broker: str
    """Host name or address."""
    port: int
    """TCP port."""
    topic: str
    """MQTT topic."""
    max_age: float
    """An older reading is not used, seconds."""
    username: str | None
    """For the broker."""
    password: bool
    """Whether one goes to the broker, which is then changed by hand only. What it is is never told."""


class SettingsDocument(_Document):
    """The settings that may be changed over the web."""

    retention: RetentionDocument
    limits: LimitsDocument
    imu: ImuSettingsDocument


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


class ProblemDocument(_Document):
    """An error, as RFC 9457 has it; `code` is what a program tells errors apart by."""

    type: Annotated[str, Field(examples=["urn:asynccam:snapshot:camera_not_found"])]
    title: str
    status: int
    detail: str
    code: str
    problems: tuple[FieldProblem, ...] = ()


class HealthDocument(_Document):
    """That the server answers."""

    status: Literal["ok"] = "ok"


CameraFields = dict[str, JsonValue]
"""A camera as a client sends it: checked field by field, so that every fault is told at once."""


def _paths(filename: str) -> dict[str, Any]:
    name = quote(filename, safe="")
    return {
        "filename": filename,
        "image_url_path": f"/snapshots/{name}",
        "download_url_path": f"/download/{name}",
        "thumbnail_url_path": f"/api/v1/snapshots/{name}/thumbnail",
    }
