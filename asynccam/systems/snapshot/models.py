"""Responses of a Snapshot server: dictionaries as in the vendor's client, with typed attributes too.

Existing servers leave keys out and send numbers as text: whatever can be understood is accepted, and an
invalid entry does not affect the others. See docs/protocols/snapshot.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, get_args, get_type_hints, overload

from pydantic import BaseModel, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

from asynccam.errors import AsynccamError
from asynccam.model.info import LocalFile
from asynccam.outside import clean_text, clean_values
from asynccam.systems.snapshot.errors import RemoteProtocolError, error_text

T = TypeVar("T")

_REQUIRED: Final[Any] = object()


class Key(Generic[T]):
    """A key of an `AttributeDict` as an attribute; ``default`` is its value if the server did not send it."""

    def __init__(self, default: T = _REQUIRED) -> None:
        self.default = default
        self.required = default is _REQUIRED
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "AttributeDict", owner: type) -> T: ...
    def __get__(self, instance: "AttributeDict | None", owner: type) -> Self | T:
        if instance is None:
            return self
        value: T = instance[self._name]
        return value


class AttributeDict(dict[str, Any]):
    """A dictionary that the server sent; ``d[key]`` is the default of a known key that it did not send."""

    __slots__ = ()
    _keys: ClassVar[Mapping[str, Key[Any]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._keys = {name: key for name, key in vars(cls).items() if isinstance(key, Key)}

    def __missing__(self, name: str) -> Any:
        key = self._keys.get(name)
        if key is None or key.required:
            raise KeyError(name)
        return key.default

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        hints = get_type_hints(cls)
        fields = {
            name: core_schema.typed_dict_field(
                handler.generate_schema(get_args(hints[name])[0]), required=key.required
            )
            for name, key in cls._keys.items()
        }
        known = core_schema.typed_dict_schema(
            fields,
            extra_behavior="allow",
            # Existing servers send numbers for names; JSON has neither NaN nor infinity (RFC 8259 6).
            config=core_schema.CoreConfig(coerce_numbers_to_str=True, allow_inf_nan=False),
        )
        return core_schema.no_info_after_validator_function(cls, known)


M = TypeVar("M")


class CameraEntry(AttributeDict):
    """A camera as configured at the server.

    Attributes:
        name: Any text.
        device_path: ``/dev/video0`` for example; two cameras may share a device.
        type: ``v4l2`` or ``stream_interrupt``.
        width: Pixels, or None.
        height: Pixels, or None.
        pixel_format: A FOURCC, ``MJPG`` for example.
        stereo: Whether it belongs to the stereo pair.
        service_name: The systemd service that is stopped for a picture, or ``""``.
        roll_offset: Degrees added to the IMU's reading, or None.
        pitch_offset: Degrees, or None.
        yaw_offset: Degrees, or None.
    """

    __slots__ = ()

    name: Key[str] = Key("")
    device_path: Key[str] = Key("")
    type: Key[str] = Key("")
    width: Key[int | None] = Key(None)
    height: Key[int | None] = Key(None)
    pixel_format: Key[str] = Key("")
    stereo: Key[bool] = Key(False)
    service_name: Key[str] = Key("")
    roll_offset: Key[float | None] = Key(None)
    pitch_offset: Key[float | None] = Key(None)
    yaw_offset: Key[float | None] = Key(None)


class SnapshotResult(AttributeDict):
    """Result of a capture with one camera.

    Attributes:
        success: Whether a picture was taken.
        filename: The server's name of the picture, or None; **not** safe as a path.
        message: The server's message.
        image_url_path: URL path of the picture, below the base URL, or None.
        error: Why there is no picture, or None.
    """

    __slots__ = ()

    success: Key[bool] = Key()
    filename: Key[str | None] = Key(None)
    message: Key[str] = Key("")
    image_url_path: Key[str | None] = Key(None)
    error: Key[str | None] = Key(None)


class CameraResult(AttributeDict):
    """Result of one camera in a capture of several.

    Attributes:
        camera_name: The camera.
        status: ``success`` or ``failure``.
        filename: The server's name of the picture, or None; **not** safe as a path.
        image_url_path: URL path of the picture, below the base URL, or None.
        error: Why there is no picture, or None.
    """

    __slots__ = ()

    camera_name: Key[str] = Key("")
    status: Key[str] = Key("")
    filename: Key[str | None] = Key(None)
    image_url_path: Key[str | None] = Key(None)
    error: Key[str | None] = Key(None)

    @property
    def success(self) -> bool:
        """True if a picture was taken; without a status, if the server sent its path."""
        taken = self.image_url_path is not None and not self.error
        return self.status.lower() == "success" or (not self.status and taken)


class SnapshotResults(AttributeDict):
    """Results of a capture with several cameras.

    Attributes:
        results: One for each camera, in the server's order.
        error: The server's error for the whole capture, or None.
    """

    __slots__ = ()

    results: Key[list[CameraResult]] = Key()
    error: Key[str | None] = Key(None)

    @property
    def pictures(self) -> tuple[CameraResult, ...]:
        """Results with a picture."""
        return tuple(result for result in self.results if result.success)

    @property
    def failures(self) -> tuple[CameraResult, ...]:
        """Results without a picture."""
        return tuple(result for result in self.results if not result.success)


class StoredPicture(AttributeDict):
    """A picture in the store of an asynccam server.

    Attributes:
        filename: The server's name of the picture; **not** safe as a path.
        camera: The camera's name, or None if it is not known.
        taken_at: Unix seconds.
        size: Bytes.
    """

    __slots__ = ()

    filename: Key[str] = Key()
    camera: Key[str | None] = Key(None)
    taken_at: Key[float | None] = Key(None)
    size: Key[int | None] = Key(None)


class PicturePage(BaseModel):
    """Some pictures of a store, newest first; ``next`` is the cursor of the next page, or None."""

    items: tuple[StoredPicture, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """Downloaded picture of one camera among several.

    Attributes:
        camera: The camera's name.
        file: The picture, or None.
        error: Why there is no picture, or None.
    """

    camera: str
    file: LocalFile | None = None
    error: AsynccamError | None = None


@dataclass(frozen=True, slots=True)
class ResponseParser(Generic[M]):
    """Parser of one kind of response; ``expected`` names the kind in errors."""

    adapter: TypeAdapter[M]
    expected: str

    def __call__(self, data: bytes, source: str) -> M:
        """Parse a response; raise `RemoteProtocolError`, naming ``source``, if it is not of this kind."""
        try:
            return self.adapter.validate_json(data)
        except ValueError as error:
            try:
                return _parse_leniently(self.adapter, data)
            except (ValueError, RecursionError):
                text = clean_text(data.decode(errors="replace"))
                said = error_text(text)
                raise RemoteProtocolError(
                    f"{source} sent a response that is not a {self.expected}: {_first_flaw(error)}"
                    + (said and f"; it says: {said}"),
                    status_code=200,
                    response_text=text,
                ) from None


parse_cameras: Final = ResponseParser(TypeAdapter(list[CameraEntry]), "list of cameras")
parse_result: Final = ResponseParser(TypeAdapter(SnapshotResult), "result of a capture")
parse_results: Final = ResponseParser(TypeAdapter(SnapshotResults), "list of results")
parse_page: Final = ResponseParser(TypeAdapter(PicturePage), "list of pictures")


def _parse_leniently(adapter: TypeAdapter[M], data: bytes) -> M:
    document = clean_values(json.loads(data))
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        return adapter.validate_python(_repaired(document, error))


def _first_flaw(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(step) for step in first['loc']) or 'the whole'}: {first['msg']}"


def _repaired(document: Any, error: ValidationError) -> Any:
    """Convert invalid values to text where text is expected, and remove all others."""
    for flaw in error.errors(include_url=False):
        *path, last = flaw["loc"] or ("",)
        parent = document
        for step in path:
            parent = parent[step]
        if flaw["type"] == "string_type":
            parent[last] = _as_text(flaw["input"])
        elif flaw["type"] == "dict_type" and path == ["results"]:
            # Counts as a failure, so that the results of the other cameras remain.
            message = f"the server sent {_as_text(flaw['input']) or 'null'} for a result"
            parent[last] = {"status": "failure", "error": message}
        elif isinstance(parent, dict):
            parent.pop(last, None)
    cameras = [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []
    return cameras or document  # drop entries that are not objects


def _as_text(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
