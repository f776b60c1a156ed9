"""What ``config.json`` says, checked entry by entry. See docs/protocols/snapshot.md."""

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
"""What the name of a device that is none begins with; a pattern may follow."""
MAX_NAME: Final = 100
MAX_SIDE: Final = 16384
_SERVICE_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\@-")
_PATTERN_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_MAX_SERVICE: Final = 255
_FOURCC_LENGTH: Final = 4
_DOTS: Final = frozenset({".", ".."})


Finding = tuple[json_position.Path, str]
"""Where something is wrong, and what."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a configuration that cannot be used, and where it stands.

    Attributes:
        message: What is wrong, in words.
        field: The field, ``cameras[1].width`` for example; ``""`` for the document as a whole.
        line: From 1, or None when it came from elsewhere than a file.
        column: From 1, or None.
        camera: The name of the camera entry it belongs to, or None.
    """

    message: str
    field: str = ""
    line: int | None = None
    column: int | None = None
    camera: str | None = None

    def __str__(self) -> str:
        """Place, field and words in one line."""
        place = "" if self.line is None else f"line {self.line}, column {self.column}: "
        return place + (f"{self.field}: " if self.field else "") + self.message


def _no_controls(text: str) -> str:
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        raise ValueError("it holds characters that cannot be shown")
    return text


def _check_name(name: str) -> str:
    if not name.strip():
        raise ValueError("a camera needs a name")
    if len(name) > MAX_NAME:
        raise ValueError(f"a name has {MAX_NAME} characters at most, not {len(name)}")
    return _no_controls(name)


def _check_device(path: str) -> str:
    if path.startswith(TEST_DEVICE):
        if not set(path.removeprefix(TEST_DEVICE)) <= _PATTERN_LETTERS:
            raise ValueError("a test picture's pattern has small letters, digits and - only")
    elif not path.startswith("/"):
        raise ValueError("a device is given by its whole path, /dev/video0 for example")
    return _no_controls(path)


def _check_format(text: str) -> str:
    if len(text) != _FOURCC_LENGTH or not text.isascii() or not text.isprintable() or "," in text:
        raise ValueError("a pixel format is a FOURCC of four characters, MJPG or YUYV for example")
    return text


def check_service(name: str) -> str:
    """A systemd unit's name; ``""`` for none.

    Raises:
        ValueError: It is none: a pattern, an option or a path for example.
    """
    if name and (name.startswith("-") or len(name) > _MAX_SERVICE or not set(name) <= _SERVICE_LETTERS):
        raise ValueError("not a service's name: letters, digits and : _ . \\ @ - only, no - in front")
    return name


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _blank_is(default: object) -> BeforeValidator:
    """What a form sends for a field left empty, and null, stand for the default."""
    return BeforeValidator(lambda value: default if _blank_is_none(value) is None else value)


def _text(default: str) -> BeforeValidator:
    """As `_blank_is`, without the blanks around a word."""
    return BeforeValidator(
        lambda value: (
            default if _blank_is_none(value) is None else value.strip() if isinstance(value, str) else value
        )
    )


Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Degrees = Annotated[float, Field(allow_inf_nan=False)]
Offset = Annotated[Degrees | None, BeforeValidator(_blank_is_none)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CameraConfig(BaseModel):
    """A camera of ``config.json``; fields nobody knows are kept.

    Attributes:
        name: Unique, up to 100 characters, any of them that can be shown.
        device_path: The V4L2 device, ``/dev/video0`` or a link to it, which cameras may share; or
            ``test:PATTERN`` for a test picture.
        type: ``v4l2``, or ``stream_interrupt`` for one whose service is stopped meanwhile.
        width: Pixels; a string in the file is as good as a number.
        height: Pixels.
        pixel_format: FOURCC the device is set to.
        stereo: Whether it is one of a stereo pair.
        service_name: The systemd service that holds the device, or ``""``.
        roll_offset: Degrees added to the reading of the IMU, or None.
        pitch_offset: Degrees, or None.
        yaw_offset: Degrees, or None.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, AfterValidator(_check_name)]
    device_path: Annotated[str, AfterValidator(_check_device)]
    type: Annotated[Literal["v4l2", "stream_interrupt"], _text(V4L2)] = "v4l2"
    width: Annotated[Side, _blank_is(640)] = 640
    height: Annotated[Side, _blank_is(480)] = 480
    pixel_format: Annotated[str, _text("MJPG"), AfterValidator(_check_format)] = "MJPG"
    stereo: Annotated[bool, _blank_is(False)] = False
    service_name: Annotated[str, _text(""), AfterValidator(check_service)] = ""
    roll_offset: Offset = None
    pitch_offset: Offset = None
    yaw_offset: Offset = None

    @property
    def interrupts(self) -> str:
        """The service to stop meanwhile, or ``""``."""
        return self.service_name if self.type == INTERRUPT else ""

    def entry(self) -> dict[str, Any]:
        """The camera as it stands in the file and in ``GET /api/cameras``."""
        offsets = ("roll_offset", "pitch_offset", "yaw_offset")
        return {
            key: value for key, value in self.model_dump().items() if value is not None or key not in offsets
        }


class _Settings(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Retention(_Settings):
    """How long pictures stay; nothing set keeps them for ever.

    Attributes:
        max_age_days: Older pictures are deleted, or None.
        max_size_mb: The oldest are deleted while all together are larger, megabytes, or None.
    """

    max_age_days: Positive | None = None
    max_size_mb: Positive | None = None


class Limits(_Settings):
    """How much is done at once; read at the start.

    Attributes:
        captures: Captures at the same time.
        waiting: Captures that may wait; more are refused.
    """

    captures: Annotated[int, Field(ge=1, le=64)] = 4
    waiting: Annotated[int, Field(ge=0, le=100_000)] = 256


class ImuSettings(_Settings):
    """Where the readings come from.

    Attributes:
        enabled: Whether the broker is asked at all.
        broker: Host name or address.
        port: TCP port.
        topic: MQTT topic.
        max_age: An older reading is not used, seconds.
        username: For the broker, or None.
        password_file: File whose first line is the password, or None.
        password_env: Environment variable that holds it, or None.
    """

    enabled: bool = True
    broker: Annotated[str, Field(min_length=1), AfterValidator(_no_controls)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    topic: Annotated[str, Field(min_length=1), AfterValidator(_no_controls)] = "status/"
    max_age: Positive = 5.0
    username: str | None = None
    password_file: str | None = None
    password_env: str | None = None


class ServerConfig(_Settings):
    """The whole of ``config.json``.

    Attributes:
        cameras: Every entry that can be used, in the file's order.
        retention: How long pictures stay.
        limits: How much is done at once.
        imu: Where the IMU's readings come from.
        token_file: File whose first line is the token that requests need, or None.
        token_env: Environment variable that holds it, or None.
    """

    cameras: tuple[CameraConfig, ...] = ()
    retention: Retention = Retention()
    limits: Limits = Limits()
    imu: ImuSettings = ImuSettings()
    token_file: str | None = None
    token_env: str | None = None


SECRETS: Final = frozenset({"token", "password"})
"""Keys whose values never belong into the file."""
_PLAIN: Final = {
    **dict.fromkeys(
        ("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "should be a whole number"
    ),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "should be a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "should be true or false"),
    "string_type": "should be a text",
    "string_too_short": "should not be empty",
    "missing": "is needed",
    "literal_error": "should be {expected}",
    "greater_than_equal": "should be {ge} or more",
    "greater_than": "should be more than {gt:g}",
    "less_than_equal": "should be {le} or less",
    "value_error": "{error}",
}
"""What pydantic finds, as a person would say it."""
_GROUPS: Final[dict[str, type[_Settings]]] = {"retention": Retention, "limits": Limits, "imu": ImuSettings}


# -- checking -----------------------------------------------------------------------------------


def check_camera(
    fields: Mapping[str, Any], *, taken: Iterable[str] = ()
) -> tuple[CameraConfig | None, tuple[Problem, ...]]:
    """One entry, as a form or a file gives it: the camera, or everything that is wrong with it.

    Args:
        fields: Keys as in ``config.json``; numbers may be strings.
        taken: Names of the other cameras.
    """
    camera, found = _camera(fields, (), set(taken))
    return camera, tuple(Problem(message, _field(path), camera=_name_of(fields)) for path, message in found)


def check_reachable(
    fields: Mapping[str, Any], *, taken: Iterable[str] = ()
) -> tuple[CameraConfig | None, tuple[Problem, ...]]:
    """As `check_camera`, for a camera that browsers are to ask for by its name."""
    camera, problems = check_camera(fields, taken=taken)
    if camera is not None and camera.name in _DOTS:
        return None, (Problem("dots alone are a place to a browser, and no name", "name"),)
    return camera, problems


def check_group(key: str, raw: Mapping[str, Any]) -> tuple[BaseModel, tuple[Problem, ...]]:
    """``retention``, ``limits`` or ``imu``, its defaults if it is wrong, and what is wrong with it."""
    found: list[Finding] = []
    group = _group({key: dict(raw)}, key, _GROUPS[key], ServerConfig(), found)
    return group, tuple(Problem(message, _field(path)) for path, message in found)


def read_document(document: object, previous: ServerConfig) -> tuple[ServerConfig, list[Finding]]:
    """A parsed ``config.json``: what of it can be used, and each problem with its place.

    A bad entry hides no other. A bad group of settings leaves the ``previous`` one in force.

    Raises:
        UsageError: The document is no configuration at all.
    """
    top: Mapping[str, Any]
    if isinstance(document, list):
        top, prefix = {"cameras": document}, cast("json_position.Path", ())
    elif isinstance(document, dict):
        top, prefix = document, ("cameras",)
    else:
        raise UsageError("a configuration is an object with a list of cameras")
    entries = top.get("cameras", [])
    if not isinstance(entries, list):
        raise UsageError("cameras is a list")
    found: list[Finding] = []
    cameras: list[CameraConfig] = []
    for index, entry in enumerate(entries):
        camera, problems = _camera(entry, (*prefix, index), {one.name for one in cameras})
        found += problems
        if camera is not None:
            cameras.append(camera)
    values: dict[str, Any] = {"cameras": tuple(cameras)}
    for key, model in _GROUPS.items():
        values[key] = _group(top, key, model, previous, found)
    for key in ("token_file", "token_env"):
        value = top.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            found.append(((key,), "should be a text"))
            value = getattr(previous, key)
        values[key] = value
    if isinstance(document, dict):
        found += [
            ((key,), "secrets do not belong here: name a file in token_file") for key in SECRETS & top.keys()
        ]
    return ServerConfig.model_construct(**values), found


def field_name(path: json_position.Path) -> str:
    """A place as it is written: ``cameras[1].width``."""
    return _field(path)


def camera_at(path: json_position.Path, document: object) -> str | None:
    """The name of the camera entry a place lies in, or None."""
    if isinstance(document, dict) and path[:1] == ("cameras",):
        document, path = document.get("cameras"), path[1:]
    if isinstance(document, list) and path and isinstance(path[0], int) and path[0] < len(document):
        return _name_of(document[path[0]])
    return None


def _camera(
    entry: object, place: json_position.Path, taken: set[str]
) -> tuple[CameraConfig | None, list[Finding]]:
    if not isinstance(entry, Mapping):
        return None, [(place, "a camera is an object")]
    try:
        camera = CameraConfig.model_validate(dict(entry))
    except ValidationError as error:
        return None, _words(error, place)
    if camera.name in taken:
        return None, [((*place, "name"), f"another camera is named {camera.name!r} already")]
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
        found.append(((key,), "should be an object"))
        return cast("_Settings", getattr(previous, key))
    found += [
        ((key, one), "secrets do not belong here: name a file in password_file")
        for one in SECRETS & raw.keys()
    ]
    try:
        return model.model_validate({one: value for one, value in raw.items() if one not in SECRETS})
    except ValidationError as error:
        found += _words(error, (key,))
        return cast("_Settings", getattr(previous, key))


def _words(error: ValidationError, place: json_position.Path) -> list[Finding]:
    return [
        (
            (*place, *one["loc"]),
            _PLAIN[one["type"]].format_map(one.get("ctx", {})) if one["type"] in _PLAIN else one["msg"],
        )
        for one in error.errors(include_url=False, include_input=False)
    ]


def _field(path: json_position.Path) -> str:
    text = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path)
    return text.removeprefix(".")


def _name_of(entry: object) -> str | None:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return name if isinstance(name, str) else None
