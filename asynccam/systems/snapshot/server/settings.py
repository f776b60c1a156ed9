"""Settings of ``config.json``, checked entry by entry. See docs/protocols/snapshot.md."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from asynccam.errors import UsageError
from asynccam.systems.snapshot.server import json_position

V4L2: Final = "v4l2"
INTERRUPT: Final = "stream_interrupt"
TEST_DEVICE: Final = "test:"
"""Prefix of the device path of a test picture; a pattern may follow."""
MAX_NAME: Final = 100
MAX_SIDE: Final = 16384
_SERVICE_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\@-")
_PATTERN_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_MAX_SERVICE: Final = 255
_FOURCC_LENGTH: Final = 4
_DOTS: Final = frozenset({".", ".."})


Finding = tuple[json_position.Path, str]
"""Path of an invalid value, and the message."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a configuration that cannot be used.

    Attributes:
        message: Describes the problem.
        field: ``cameras[1].width`` for example; ``""`` for the document as a whole.
        line: From 1, or None if the value is not from a file.
        column: From 1, or None.
        camera: Name of the camera entry it belongs to, or None.
    """

    message: str
    field: str = ""
    line: int | None = None
    column: int | None = None
    camera: str | None = None

    def __str__(self) -> str:
        """Return position, field and message in one line."""
        place = "" if self.line is None else f"line {self.line}, column {self.column}: "
        return place + (f"{self.field}: " if self.field else "") + self.message


def _no_controls(text: str) -> str:
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        raise ValueError("it contains characters that cannot be displayed")
    return text


def _check_name(name: str) -> str:
    if not name.strip():
        raise ValueError("a camera needs a name")
    if len(name) > MAX_NAME:
        raise ValueError(f"a name must have at most {MAX_NAME} characters, not {len(name)}")
    return _no_controls(name)


def _check_device(path: str) -> str:
    if path.startswith(TEST_DEVICE):
        if not set(path.removeprefix(TEST_DEVICE)) <= _PATTERN_LETTERS:
            raise ValueError("the pattern of a test picture must consist of small letters, digits and -")
    elif not path.startswith("/"):
        raise ValueError("a device must be an absolute path, /dev/video0 for example")
    return _no_controls(path)


def _check_format(text: str) -> str:
    if len(text) != _FOURCC_LENGTH or not text.isascii() or not text.isprintable() or "," in text:
        raise ValueError("a pixel format must be a FOURCC of four characters, MJPG or YUYV for example")
    return text


def check_service(name: str) -> str:
    """Return a systemd unit's name if it is valid; ``""`` stands for no service.

    Raises:
        ValueError: It is invalid: a pattern, an option or a path for example.
    """
    if name and (name.startswith("-") or len(name) > _MAX_SERVICE or not set(name) <= _SERVICE_LETTERS):
        raise ValueError(
            "not a service name: it must consist of letters, digits and : _ . \\ @ -, and not begin with -"
        )
    return name


def _is_blank(value: object) -> bool:
    """Return whether a value is null, or an empty field of a form."""
    return value is None or (isinstance(value, str) and not value.strip())


def _blank_is(default: object) -> BeforeValidator:
    return BeforeValidator(lambda value: default if _is_blank(value) else value)


def _text(default: str) -> BeforeValidator:
    """Strip blanks, and use the default for a blank text."""
    return BeforeValidator(
        lambda value: default if _is_blank(value) else value.strip() if isinstance(value, str) else value
    )


_Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
_Offset = Annotated[
    Annotated[float, Field(allow_inf_nan=False)] | None,
    BeforeValidator(lambda value: None if _is_blank(value) else value),
]


class CameraConfig(BaseModel):
    """A camera of ``config.json``; unknown fields are kept.

    Attributes:
        name: Unique, up to 100 characters, all of which can be displayed.
        device_path: The V4L2 device, ``/dev/video0`` or a link to it, which cameras may share; or
            ``test:PATTERN`` for a test picture.
        type: ``v4l2``, or ``stream_interrupt`` for a camera whose service is stopped during a capture.
        width: Pixels; may be a string in the file.
        height: Pixels.
        pixel_format: FOURCC to set at the device.
        stereo: Whether it belongs to the stereo pair.
        service_name: The systemd service that holds the device, or ``""``.
        roll_offset: Degrees added to the IMU's reading, or None.
        pitch_offset: Degrees, or None.
        yaw_offset: Degrees, or None.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, AfterValidator(_check_name)]
    device_path: Annotated[str, AfterValidator(_check_device)]
    type: Annotated[Literal["v4l2", "stream_interrupt"], _text(V4L2)] = "v4l2"
    width: Annotated[_Side, _blank_is(640)] = 640
    height: Annotated[_Side, _blank_is(480)] = 480
    pixel_format: Annotated[str, _text("MJPG"), AfterValidator(_check_format)] = "MJPG"
    stereo: Annotated[bool, _blank_is(False)] = False
    service_name: Annotated[str, _text(""), AfterValidator(check_service)] = ""
    roll_offset: _Offset = None
    pitch_offset: _Offset = None
    yaw_offset: _Offset = None

    @property
    def interrupts(self) -> str:
        """The service to stop during a capture, or ``""``."""
        return self.service_name if self.type == INTERRUPT else ""

    def entry(self) -> dict[str, Any]:
        """Return the camera as in the file and in ``GET /api/cameras``."""
        offsets = ("roll_offset", "pitch_offset", "yaw_offset")
        return {
            key: value for key, value in self.model_dump().items() if value is not None or key not in offsets
        }


class _Settings(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)


class Retention(_Settings):
    """Retention of pictures: by age and by total size; for ever if nothing is set."""

    max_age_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Older pictures are deleted."""
    max_size_mb: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The oldest are deleted while all together are larger, 1,000,000 bytes."""


class Limits(_Settings):
    """Limits of concurrent and waiting captures; read at the start."""

    captures: int = Field(default=4, ge=1, le=64)
    """Captures at the same time."""
    waiting: int = Field(default=256, ge=0, le=100_000)
    """Captures that may wait for their turn."""


class ImuConnection(_Settings):
    """Source of the IMU's readings, without its password."""

    enabled: bool = True
    """Whether the broker is asked at all."""
    broker: Annotated[str, Field(min_length=1), AfterValidator(_no_controls)] = "127.0.0.1"
    """Host name or address."""
    port: int = Field(default=1883, ge=1, le=65535)
    """TCP port."""
    topic: Annotated[str, Field(min_length=1), AfterValidator(_no_controls)] = "status/"
    """MQTT topic."""
    max_age: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """An older reading is not used, seconds."""
    username: str | None = None
    """For the broker."""


class ImuSettings(ImuConnection):
    """Source of the IMU's readings."""

    password_file: str | None = None
    """File whose first line is the password, or None."""
    password_env: str | None = None
    """Environment variable that holds the password, or None."""


class ServerConfig(_Settings):
    """The whole of ``config.json``."""

    cameras: tuple[CameraConfig, ...] = ()
    """Every valid entry, in the file's order."""
    retention: Retention = Retention()
    limits: Limits = Limits()
    imu: ImuSettings = ImuSettings()
    token_file: str | None = None
    """File whose first line is the token that requests need, or None."""
    token_env: str | None = None
    """Environment variable that holds the token, or None."""


SECRETS: Final = frozenset({"token", "password"})
"""Keys that must not be in the file."""
_MESSAGES: Final = {
    **dict.fromkeys(
        ("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "must be a whole number"
    ),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "must be a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "must be true or false"),
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "missing": "is required",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be >= {ge}",
    "greater_than": "must be > {gt:g}",
    "less_than_equal": "must be <= {le}",
    "value_error": "{error}",
}
"""Messages by pydantic's error type."""
_GROUPS: Final[dict[str, type[_Settings]]] = {"retention": Retention, "limits": Limits, "imu": ImuSettings}


# -- checking -----------------------------------------------------------------------------------


def check_camera(
    fields: Mapping[str, Any], *, taken: Iterable[str] = ()
) -> tuple[CameraConfig | None, tuple[Problem, ...]]:
    """Check an entry of a form or a file: return the camera, or None and every problem.

    Args:
        fields: Keys as in ``config.json``; numbers may be strings.
        taken: Names of the other cameras.
    """
    camera, found = _camera(fields, (), set(taken))
    return camera, tuple(
        Problem(message, field_name(path), camera=_name_of(fields)) for path, message in found
    )


def check_reachable(
    fields: Mapping[str, Any], *, taken: Iterable[str] = ()
) -> tuple[CameraConfig | None, tuple[Problem, ...]]:
    """Check a camera as `check_camera`, and that its name can be part of a URL."""
    camera, problems = check_camera(fields, taken=taken)
    if camera is not None and camera.name in _DOTS:
        return None, (Problem("a name cannot be dots alone, which a browser takes for a directory", "name"),)
    return camera, problems


def check_group(key: str, raw: Mapping[str, Any]) -> tuple[BaseModel, tuple[Problem, ...]]:
    """Check ``retention``, ``limits`` or ``imu``: return it, or its defaults and every problem."""
    found: list[Finding] = []
    group = _group({key: dict(raw)}, key, _GROUPS[key], ServerConfig(), found)
    return group, tuple(Problem(message, field_name(path)) for path, message in found)


def read_document(document: object, previous: ServerConfig) -> tuple[ServerConfig, list[Finding]]:
    """Check a parsed ``config.json``: return its valid parts, and each problem with its path.

    An invalid entry does not affect the others. For an invalid group of settings the ``previous`` one is
    kept.

    Raises:
        UsageError: The document is not a configuration.
    """
    top: Mapping[str, Any]
    if isinstance(document, list):
        top, prefix = {"cameras": document}, cast("json_position.Path", ())
    elif isinstance(document, dict):
        top, prefix = document, ("cameras",)
    else:
        raise UsageError("a configuration must be an object with a list of cameras")
    entries = top.get("cameras", [])
    if not isinstance(entries, list):
        raise UsageError("cameras must be a list")
    found: list[Finding] = []
    cameras: list[CameraConfig] = []
    for index, entry in enumerate(entries):
        camera, problems = _camera(entry, (*prefix, index), {known.name for known in cameras})
        found += problems
        if camera is not None:
            cameras.append(camera)
    values: dict[str, Any] = {"cameras": tuple(cameras)}
    for key, model in _GROUPS.items():
        values[key] = _group(top, key, model, previous, found)
    for key in ("token_file", "token_env"):
        value = top.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            found.append(((key,), "must be a string"))
            value = getattr(previous, key)
        values[key] = value
    if isinstance(document, dict):
        found += [
            ((key,), "secrets must not be in this file: name a file in token_file")
            for key in SECRETS & top.keys()
        ]
    return ServerConfig.model_construct(**values), found


def field_name(path: json_position.Path) -> str:
    """Return a path as text: ``cameras[1].width``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def camera_at(path: json_position.Path, document: object) -> str | None:
    """Return the name of the camera entry that contains a path, or None."""
    if isinstance(document, dict) and path[:1] == ("cameras",):
        document, path = document.get("cameras"), path[1:]
    if isinstance(document, list) and path and isinstance(path[0], int) and path[0] < len(document):
        return _name_of(document[path[0]])
    return None


def _camera(
    entry: object, path: json_position.Path, taken: set[str]
) -> tuple[CameraConfig | None, list[Finding]]:
    if not isinstance(entry, Mapping):
        return None, [(path, "a camera must be an object")]
    try:
        camera = CameraConfig.model_validate(dict(entry))
    except ValidationError as error:
        return None, _findings(error, path)
    if camera.name in taken:
        return None, [((*path, "name"), f"another camera is already named {camera.name!r}")]
    return camera, []


def _group(
    top: Mapping[str, Any],
    key: str,
    model: type[_Settings],
    previous: ServerConfig,
    found: list[Finding],
) -> _Settings:
    raw = top.get(key)
    if raw is None:
        return model()
    if not isinstance(raw, dict):
        found.append(((key,), "must be an object"))
        return cast("_Settings", getattr(previous, key))
    found += [
        ((key, one), "secrets must not be in this file: name a file in password_file")
        for one in SECRETS & raw.keys()
    ]
    try:
        return model.model_validate({one: value for one, value in raw.items() if one not in SECRETS})
    except ValidationError as error:
        found += _findings(error, (key,))
        return cast("_Settings", getattr(previous, key))


def _findings(error: ValidationError, path: json_position.Path) -> list[Finding]:
    return [
        (
            (*path, *one["loc"]),
            _MESSAGES[one["type"]].format_map(one.get("ctx", {})) if one["type"] in _MESSAGES else one["msg"],
        )
        for one in error.errors(include_url=False, include_input=False)
    ]


def _name_of(entry: object) -> str | None:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return name if isinstance(name, str) else None
