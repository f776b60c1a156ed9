"""What a Snapshot server says, typed, and readable like the dictionaries of the maker's client.

Servers in the field leave keys out and write numbers as text, so whatever can be understood is, and one odd
entry hides no other. See docs/protocols/snapshot.md.
"""

import json
from collections.abc import Callable, KeysView
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from asynccam.errors import AsynccamError
from asynccam.model.info import LocalFile
from asynccam.systems.snapshot.errors import RemoteProtocolError

M = TypeVar("M")


def _text(value: object) -> str:
    """Any JSON value as text, ``""`` for null."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _otherwise(default: object) -> WrapValidator:
    """What cannot be read, a number of a form left empty for example, is the default."""

    def validate(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            return default

    return WrapValidator(validate)


Text = Annotated[str, BeforeValidator(_text)]
MaybeText = Annotated[str | None, BeforeValidator(lambda value: None if value is None else _text(value))]
MaybeInt = Annotated[int | None, _otherwise(None)]
MaybeFloat = Annotated[float | None, _otherwise(None)]
Flag = Annotated[bool, _otherwise(False)]


class Answer(BaseModel):
    """A part of an answer; its fields, and those nobody knows, can be read as ``answer["field"]`` too."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    def __getitem__(self, key: str) -> Any:
        if key in type(self).model_fields:
            return getattr(self, key)
        return (self.model_extra or {})[key]

    def __contains__(self, key: object) -> bool:
        return key in self.model_fields_set

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a field the server sent, or ``default``."""
        return self[key] if key in self.model_fields_set else default

    def keys(self) -> KeysView[str]:
        """The fields the server sent."""
        return self.model_dump(exclude_unset=True).keys()


class CameraEntry(Answer):
    """A camera as the server is configured for it.

    Attributes:
        name: What it is asked for by; may hold anything.
        device_path: ``/dev/video0`` for example; two cameras may share one.
        type: ``v4l2`` or ``stream_interrupt``.
        width: Pixels, or None.
        height: Pixels, or None.
        pixel_format: A FOURCC, ``MJPG`` for example.
        stereo: Whether it belongs to the stereo pair.
        service_name: The service that is stopped for a picture, or ``""``.
        roll_offset: Added to the IMU's reading, or None.
        pitch_offset: As above.
        yaw_offset: As above.
    """

    name: Text = ""
    device_path: Text = ""
    type: Text = ""
    width: MaybeInt = None
    height: MaybeInt = None
    pixel_format: Text = ""
    stereo: Flag = False
    service_name: Text = ""
    roll_offset: MaybeFloat = None
    pitch_offset: MaybeFloat = None
    yaw_offset: MaybeFloat = None


class SnapshotResult(Answer):
    """What became of a picture of one camera.

    Attributes:
        success: Whether it was taken.
        filename: The server's name for it, or None; **not** safe as a path.
        message: The server's words.
        image_url_path: Where it is, below the base URL, or None.
        error: Why there is none, or None.
    """

    success: bool
    filename: MaybeText = None
    message: Text = ""
    image_url_path: MaybeText = None
    error: MaybeText = None


class CameraResult(Answer):
    """What became of one camera's picture among several.

    Attributes:
        camera_name: The camera.
        status: ``success`` or ``failure``.
        filename: The server's name for the picture, or None; **not** safe as a path.
        image_url_path: Where it is, below the base URL, or None.
        error: Why there is none, or None.
    """

    camera_name: Text = ""
    status: Text = ""
    filename: MaybeText = None
    image_url_path: MaybeText = None
    error: MaybeText = None

    @property
    def success(self) -> bool:
        """Whether the picture was taken."""
        return self.status == "success"


def _entry(value: object) -> object:
    """What is no result at all counts as a failure, so that it hides no other camera's."""
    if isinstance(value, dict | CameraResult):
        return value
    return {"status": "failure", "error": f"the server sent {_text(value) or 'null'} for a result"}


class SnapshotResults(Answer):
    """What became of the pictures of several cameras.

    Attributes:
        results: One for each camera, in the server's order.
        error: What the server says of the whole, or None.
    """

    results: tuple[Annotated[CameraResult, BeforeValidator(_entry)], ...]
    error: MaybeText = None

    @property
    def pictures(self) -> tuple[CameraResult, ...]:
        """Those of which there is a picture."""
        return tuple(one for one in self.results if one.success)

    @property
    def failures(self) -> tuple[CameraResult, ...]:
        """Those of which there is none."""
        return tuple(one for one in self.results if not one.success)


@dataclass(frozen=True, slots=True)
class Picture:
    """What came home of one camera among several.

    Attributes:
        camera: The camera's name.
        file: The picture, or None.
        error: Why there is none, or None.
    """

    camera: str
    file: LocalFile | None = None
    error: AsynccamError | None = None


_CAMERAS: Final = TypeAdapter(list[CameraEntry])


def parse_cameras(data: bytes, source: str) -> list[CameraEntry]:
    """The answer to ``GET /api/cameras``.

    Args:
        data: As it came.
        source: Names the peer in the error.

    Raises:
        RemoteProtocolError: It is none.
    """
    return _parsed(_CAMERAS.validate_json, data, source, "list of cameras")


def parse_result(data: bytes, source: str) -> SnapshotResult:
    """The answer to a capture of one camera; errors as of `parse_cameras`."""
    return _parsed(SnapshotResult.model_validate_json, data, source, "result of a capture")


def parse_results(data: bytes, source: str) -> SnapshotResults:
    """The answer to a capture of several cameras; errors as of `parse_cameras`."""
    return _parsed(SnapshotResults.model_validate_json, data, source, "list of results")


def _parsed(parse: Callable[[bytes], M], data: bytes, source: str, what: str) -> M:
    try:
        return parse(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise RemoteProtocolError(
            f"{source} sent what is no {what}: {where}: {first['msg']}",
            status_code=200,
            response_text=data.decode(errors="replace"),
        ) from None
