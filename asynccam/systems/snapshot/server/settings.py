"""``config.json``: its settings, checked entry by entry, their changes over the web, and the file, watched.

See docs/protocols/snapshot.md and docs/snapshot-server.md.
"""

import asyncio
import json
import os
import posixpath
import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from asynccam.errors import NotFoundError, StateError, StorageError, UsageError
from asynccam.runtime.disk import atomic_write, on_disk, read_secret_file, remove_unfinished, storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import TaskScope
from asynccam.systems.snapshot.server import json_position
from asynccam.systems.snapshot.server.events import ConfigChanged
from asynccam.systems.snapshot.server.models import Problem

TEST_DEVICE: Final = "test:"
"""Prefix of the device path of a test picture; a pattern may follow."""
_MAX_NAME: Final = 100
_SERVICE_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\@-")
_PATTERN_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_MAX_SERVICE: Final = 255
_UNITS: Final = (
    *(".service", ".socket", ".target", ".device", ".mount", ".automount"),
    *(".swap", ".timer", ".path", ".slice", ".scope"),
)
"""Suffixes of unit names, see ``systemd.unit(5)``; a name without one is a service."""
_FOURCC_LENGTH: Final = 4

Finding = tuple[json_position.Path, str]
"""Path of an invalid value, and the message."""


def _no_controls(text: str) -> str:
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        raise ValueError("it contains characters that cannot be displayed")
    return text


def _check_name(name: str) -> str:
    if not name.strip():
        raise ValueError("a camera needs a name")
    if len(name) > _MAX_NAME:
        raise ValueError(f"a name must have at most {_MAX_NAME} characters, not {len(name)}")
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

    Raises `ValueError` for a pattern, an option or a path, for example.
    """
    if name and (name.startswith("-") or len(name) > _MAX_SERVICE or not set(name) <= _SERVICE_LETTERS):
        raise ValueError(
            "not a service name: it must consist of letters, digits and : _ . \\ @ -, and not begin with -"
        )
    return name


def unit_name(name: str) -> str:
    """Return the full name of a unit: ``streamer`` and ``streamer.service`` are the same."""
    return name if name.endswith(_UNITS) else f"{name}.service"


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


_Side = Annotated[int, Field(ge=1, le=16384)]
_Offset = Annotated[Annotated[float, Field(allow_inf_nan=False)] | None, _blank_is(None)]


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
    type: Annotated[Literal["v4l2", "stream_interrupt"], _text("v4l2")] = "v4l2"
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
        return self.service_name if self.type == "stream_interrupt" else ""

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
    """True if the broker is asked at all."""
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


_SECRETS: Final = frozenset({"token", "password"})
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


def read_document(document: object, previous: ServerConfig) -> tuple[ServerConfig, list[Finding]]:
    """Check a parsed ``config.json``: return its valid parts, and each problem with its path.

    An invalid entry does not affect the others. For an invalid group of settings the ``previous`` one is
    kept. Raises `UsageError` if the document is not a configuration.
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
    for key in _GROUPS:
        values[key], problems = _group(key, top.get(key), getattr(previous, key))
        found += problems
    for key in ("token_file", "token_env"):
        value = top.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            found.append(((key,), "must be a string"))
            value = getattr(previous, key)
        values[key] = value
    if isinstance(document, dict):
        found += [
            ((key,), "secrets must not be in this file: name a file in token_file")
            for key in _SECRETS & top.keys()
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


def _group(key: str, raw: object, previous: _Settings) -> tuple[_Settings, list[Finding]]:
    """Check ``retention``, ``limits`` or ``imu``: return it, or the previous one and every problem."""
    if raw is None:
        return _GROUPS[key](), []
    if not isinstance(raw, dict):
        return previous, [((key,), "must be an object")]
    found: list[Finding] = [
        ((key, one), "secrets must not be in this file: name a file in password_file")
        for one in _SECRETS & raw.keys()
    ]
    try:
        return _GROUPS[key].model_validate(_without_secrets(raw)), found
    except ValidationError as error:
        return previous, found + _findings(error, (key,))


def _without_secrets(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in _SECRETS}


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


# -- changes over the web -----------------------------------------------------------------------
# The place of a secret cannot be changed: anyone with access to the page could send the first line of any
# file to a broker of their choice. For the same reason a broker that gets a password is changed by hand only.
# Without a list of allowed devices and services, any path could be opened and any service stopped.

CHANGEABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "retention": ("max_age_days", "max_size_mb"),
    "imu": ("enabled", "broker", "port", "topic", "max_age", "username"),
    "limits": ("captures", "waiting"),
}
"""Settings that may be changed over the web, by group; written out, so that a new field is not by itself."""
_FIXED_WITH_PASSWORD: Final = ("broker", "port")
_PASSWORD_KEYS: Final = ("password_file", "password_env")
_BY_HAND: Final = "is changed by hand, in the configuration file"
_TOPIC: Final = re.compile(r"([^/+#]*|\+)(/([^/+#]*|\+))*((^|/)#)?")
_KEPT: Final = "a password goes to this broker, so it is changed by hand, in the configuration file"


def _is_host(text: str) -> bool:
    return not any(letter.isspace() or letter in "/@?#[]" for letter in text)


_EXTRA_CHECKS: Final[Mapping[tuple[str, str], tuple[Callable[[str], object], str]]] = {
    ("imu", "broker"): (_is_host, "a broker must be a host name or an address, without mqtt:// and port"),
    ("imu", "topic"): (
        _TOPIC.fullmatch,
        "+ stands for one whole level of a topic, # for all that follow, at its end",
    ),
}
"""Checks of what otherwise only the broker would find, much later."""


def changed_settings(
    document: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Apply changes to the groups of the configuration in a file; return the groups, and every problem.

    Values come by group and name, from a form or a program; null or a blank text is the default.
    """
    groups: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, wanted in changes.items():
        if key not in CHANGEABLE:
            problems.append(Problem(_BY_HAND, key))
        elif not isinstance(wanted, Mapping):
            problems.append(Problem("must be an object", key))
        else:
            groups[key], found = _changed_group(key, document.get(key), wanted)
            problems += found
    return {key: group for key, group in groups.items() if group or key in document}, tuple(problems)


def _changed_group(
    key: str, before: object, wanted: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    raw: dict[str, Any] = dict(before) if isinstance(before, Mapping) else {}
    default = _GROUPS[key]()
    problems = [Problem(_BY_HAND, f"{key}.{one}") for one in wanted if one not in CHANGEABLE[key]]
    values = {one: _stripped(value) for one, value in wanted.items() if one in CHANGEABLE[key]}
    merged = {one: value for one, value in {**raw, **values}.items() if value is not None}
    group, found = _group(key, _without_secrets(merged), default)
    problems += [Problem(message, field_name(path)) for path, message in found]
    problems += [
        Problem(words, f"{key}.{one}")
        for (of, one), (right, words) in _EXTRA_CHECKS.items()
        if of == key and values.get(one) is not None and not right(getattr(group, one))
    ]
    if any(raw.get(one) for one in _PASSWORD_KEYS):
        was, _ = _group(key, _without_secrets(raw), default)
        problems += [
            Problem(_KEPT, f"{key}.{one}")
            for one in _FIXED_WITH_PASSWORD
            if one in values and getattr(group, one) != getattr(was, one)
        ]
    for one, value in values.items():
        if value is None:
            raw.pop(one, None)
        elif one in raw or getattr(group, one) != getattr(default, one):
            raw[one] = _without_fraction(getattr(group, one))
    return raw, problems


def _stripped(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


def _without_fraction(value: Any) -> Any:
    """Return 30 rather than 30.0, as a person would write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


DEVICES: Final = ("/dev/video*", "/dev/v4l/")
"""Devices that are always allowed: V4L2 devices, and the links to them that udev creates."""


class Allowed:
    """Devices and services that may be set over the web; those once in ``config.json`` are always allowed.

    Args:
        devices: Absolute paths; one that ends in ``/`` allows all paths below it, one that ends in ``*`` all
            paths in its directory that begin so.
        services: Names of services; ``streamer`` and ``streamer.service`` are the same.

    Raises:
        UsageError: A device is not an absolute path, or a service name is invalid.
    """

    def __init__(self, devices: Iterable[str] = (), services: Iterable[str] = ()) -> None:
        self._devices: set[str] = set()
        self._patterns: set[str] = set()
        self._services: set[str] = set()
        for device in (*DEVICES, *devices):
            if not device.startswith("/"):
                raise UsageError(f"{device!r} is not the absolute path of a device")
            (self._patterns if device.endswith(("/", "*")) else self._devices).add(device)
        for service in services:
            try:
                self._services.add(unit_name(check_service(service)))
            except ValueError as error:
                raise UsageError(f"{service!r}: {error}") from None

    def learn(self, cameras: Iterable[CameraConfig]) -> None:
        """Allow the devices and services of the cameras in ``config.json``."""
        for camera in cameras:
            self._devices.add(camera.device_path)
            if camera.service_name:
                self._services.add(unit_name(camera.service_name))

    def problems(self, camera: CameraConfig) -> tuple[Problem, ...]:
        """Return what is not allowed of a camera that is set over the web."""
        refused = []
        if not self._allows_device(camera.device_path):
            refused.append(("device_path", camera.device_path, "--allow-device"))
        service = camera.service_name
        if service and unit_name(service) not in self._services:
            refused.append(("service_name", service, "--allow-service"))
        message = "{} is not allowed over the web: start the server with {}, or name it in config.json"
        return tuple(
            Problem(message.format(value, option), field, camera=camera.name)
            for field, value, option in refused
        )

    def _allows_device(self, path: str) -> bool:
        if path in self._devices or path.startswith(TEST_DEVICE):
            return True
        # POSIX 4.13: exactly two leading slashes may be special; `normpath` keeps them.
        if path != posixpath.normpath(path) or path.startswith("//"):
            return False
        for pattern in self._patterns:
            prefix = pattern.removesuffix("*")
            if path.startswith(prefix) and (pattern.endswith("/") or "/" not in path[len(prefix) :]):
                return True
        return False


# -- the file -----------------------------------------------------------------------------------

_MAX_BYTES: Final = 4 << 20
_Stamp = tuple[int, int, int] | None
"""Inode, size and time of change; None if the file does not exist."""


class ConfigFile:
    """A ``config.json`` and the configuration in force; an async context manager that watches the file.

    A missing file is an empty configuration. While a file is not JSON, the last valid configuration stays in
    force, and `problems` says where the error is. An invalid entry does not affect the others.

    Methods that change the file raise `asynccam.errors.StateError` while it is not JSON, and leave it as it
    is; `asynccam.errors.StorageError` if it cannot be written.

    Args:
        path: The file.
        default: Cameras while there is no file; written to it with the first change.
        events: Where `ConfigChanged` is emitted, or None.
        poll: Seconds between two checks for a change by hand.
        allowed: Devices and services that may be set over the web; by default those of
            `asynccam.systems.snapshot.server.settings.DEVICES` and those in the file.

    Attributes:
        path: The file.
        events: Where `ConfigChanged` is emitted, or None.
        allowed: Not checked by `add_camera` and `replace_camera`, but by their callers for a request.
        current: The configuration in force.
        problems: What in the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        default: Iterable[CameraConfig] = (),
        events: EventHub | None = None,
        poll: float = 1.0,
        allowed: Allowed | None = None,
    ) -> None:
        if poll <= 0:
            raise UsageError(f"poll must be > 0 s, not {poll:g}")
        self.path = path
        self.events = events
        self.allowed = allowed or Allowed()
        self.current = ServerConfig(cameras=tuple(default))
        self.allowed.learn(self.current.cameras)
        self.problems: tuple[Problem, ...] = ()
        self._poll_interval = poll
        self._stamp: _Stamp = None
        self._text: str | None = None
        self._lock = asyncio.Lock()
        self._scope = TaskScope("snapshot-config")

    @property
    def cameras(self) -> tuple[CameraConfig, ...]:
        """The cameras in force, in the file's order."""
        return self.current.cameras

    def camera(self, name: str) -> CameraConfig:
        """Return the camera of a name.

        Raises:
            NotFoundError: There is no such camera.
        """
        for camera in self.current.cameras:
            if camera.name == name:
                return camera
        raise NotFoundError(f"there is no camera named {name!r}")

    async def token(self) -> str | None:
        """Return the token that requests need, or None.

        Raises:
            StorageError: Its file cannot be read.
            UsageError: The file or the environment variable has no token.
        """
        return await read_secret(self.current.token_file, self.current.token_env, base=self.path.parent)

    async def reload(self) -> bool:
        """Read the file if it has changed; return whether it has.

        Raises:
            StorageError: It cannot be read; the configuration stays in force.
        """
        async with self._lock:
            return await self._reload()

    async def add_camera(self, fields: Mapping[str, Any] | CameraConfig) -> CameraConfig:
        """Append a camera to the file.

        Raises:
            UsageError: A field is invalid, or the name is taken; the message names the fields.
        """
        entry = fields.entry() if isinstance(fields, CameraConfig) else dict(fields)
        async with self._edited_cameras() as entries:
            camera = _checked(entry, _names(entries))
            entries.append(camera.entry())
        return camera

    async def replace_camera(self, name: str, fields: Mapping[str, Any] | CameraConfig) -> CameraConfig:
        """Change a camera's fields; those left out and unknown fields stay.

        Raises:
            NotFoundError: There is no such camera.
            UsageError: A field is invalid, or the new name is taken.
        """
        changes = fields.entry() if isinstance(fields, CameraConfig) else dict(fields)
        async with self._edited_cameras() as entries:
            index = _index(entries, name)
            others = _names(entries[:index] + entries[index + 1 :])
            camera = _checked({**entries[index], **changes}, others)
            entries[index] = camera.entry()
        return camera

    async def delete_camera(self, name: str) -> None:
        """Remove a camera from the file, even one whose entry is invalid.

        Raises:
            NotFoundError: There is no entry of that name.
        """
        async with self._edited_cameras() as entries:
            del entries[_index(entries, name)]

    def check_camera(
        self, fields: Mapping[str, Any], *, instead_of: str | None = None
    ) -> tuple[Problem, ...]:
        """Return every problem of a camera that is set over the web, perhaps instead of another one."""
        taken = [camera.name for camera in self.cameras if camera.name != instead_of]
        camera, problems = check_camera(fields, taken=taken)
        if camera is not None and camera.name in (".", ".."):  # the name is part of URLs
            return (Problem("a name cannot be dots alone, which a browser takes for a directory", "name"),)
        if camera is not None:
            return self.allowed.problems(camera)
        if fields.get("name") in taken and all(problem.field != "name" for problem in problems):
            # `check_camera` compares names last; report this problem together with the others.
            problems = (Problem("another camera already has this name", "name"), *problems)
        return problems

    def check_settings(self, changes: Mapping[str, Any]) -> tuple[Problem, ...]:
        """Return the problems of a change of settings, see `change_settings`."""
        in_force = {key: getattr(self.current, key).model_dump(exclude_none=True) for key in CHANGEABLE}
        return changed_settings(in_force, changes)[1]

    async def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings of the server in the file; those left out and unknown settings stay.

        A file that is a bare list of cameras becomes an object that has them.

        Args:
            changes: Values by group (``retention``, ``limits`` or ``imu``) and name; null is the default.

        Raises:
            UsageError: A setting is invalid, or can be changed by hand only; the message names it.
        """
        async with self._lock:
            document = await self._document()
            whole = {"cameras": document} if isinstance(document, list) else document
            groups, problems = changed_settings(whole, changes)
            if problems:
                raise UsageError("; ".join(map(str, problems)))
            await self._write(whole | groups if groups else document)

    async def __aenter__(self) -> "ConfigFile":
        await on_disk(remove_unfinished, self.path)
        await self.reload()
        self._scope.spawn(self._watch(), name="watch")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._scope.aclose()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval)
            try:
                await self.reload()
            except StorageError as error:
                self._report((Problem(str(error)),))

    async def _reload(self) -> bool:
        stamp = await on_disk(_read_stamp, self.path)  # before the text: a later change has another stamp
        if stamp == self._stamp:
            return False
        self._stamp = None  # if it cannot be read now, it is read again even if unchanged
        try:
            self._apply(await on_disk(_read, self.path))
        except UsageError as error:
            problem = (
                error.problem if isinstance(error, _JsonError) else Problem(str(error), line=1, column=1)
            )
            self._report((problem,))
        self._stamp = stamp
        return True

    def _apply(self, text: str) -> None:
        """Put the valid parts of a file in force."""
        document = _parsed(text)
        config, found = read_document(document, self.current)
        places = json_position.offsets(text) if found else {}
        problems = []
        for path, message in found:
            line, column = json_position.line_and_column(text, json_position.offset_of(path, places))
            problems.append(Problem(message, field_name(path), line, column, camera_at(path, document)))
        self.current = config
        self.allowed.learn(config.cameras)
        self.problems = tuple(problems)
        self._text = text
        self._emit()

    def _report(self, problems: tuple[Problem, ...]) -> None:
        if problems != self.problems:
            self.problems = problems
            self._emit()

    def _emit(self) -> None:
        if self.events is not None:
            names = tuple(camera.name for camera in self.current.cameras)
            self.events.emit(ConfigChanged(cameras=names, problems=self.problems))

    @asynccontextmanager
    async def _edited_cameras(self) -> AsyncIterator[list[Any]]:
        """Yield the list of cameras in the file, and write it as it was edited; not after an exception."""
        async with self._lock:
            document = await self._document()
            yield document if isinstance(document, list) else document.setdefault("cameras", [])
            await self._write(document)

    async def _write(self, document: Any) -> None:
        """Write the file, and put it in force."""
        text = _written(document)
        await on_disk(lambda: atomic_write(self.path, text.encode(), mode=0o644))
        self._stamp = await on_disk(_read_stamp, self.path)
        self._apply(text)

    async def _document(self) -> Any:
        """Return the document in the file; if it was deleted, the last one in force."""
        if await on_disk(_read_stamp, self.path) is None:
            if self._text is not None:
                return _parsed(self._text)
            return {"cameras": [one.entry() for one in self.current.cameras]}
        try:
            document = _parsed(await on_disk(_read, self.path))
            read_document(document, self.current)
        except UsageError as error:
            raise StateError(f"{self.path.name} must be fixed first: {error}") from error
        return document


class _JsonError(UsageError):
    """A file is not JSON; ``problem`` has the position."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _parsed(text: str) -> Any:
    try:
        return json_position.parse(text)
    except json.JSONDecodeError as error:
        raise _JsonError(Problem(f"not JSON: {error.msg}", "", error.lineno, error.colno)) from error
    except (ValueError, RecursionError) as error:
        raise _JsonError(Problem(f"not usable JSON: {error}", "", 1, 1)) from error


def _written(document: Any) -> str:
    """Return a document as text, which can be read again."""
    try:
        text = json.dumps(document, indent=4, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"this cannot be written as JSON: {error}") from error
    _parsed(text)  # `parse` refuses more than `dumps`: nothing is written that the next start cannot read
    return text


def _checked(entry: Mapping[str, Any], taken: Iterable[str]) -> CameraConfig:
    camera, problems = check_camera(entry, taken=taken)
    if camera is None:
        raise UsageError("; ".join(str(one) for one in problems))
    return camera


def _names(entries: Iterable[Any]) -> list[str]:
    return [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]


def _index(entries: list[Any], name: str) -> int:
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get("name") == name:
            return index
    raise NotFoundError(f"there is no camera named {name!r}")


async def read_secret(file: str | None, variable: str | None, *, base: Path) -> str | None:
    """Return a secret from an environment variable or a file relative to ``base``; None without either.

    The variable is read first; if it is empty, the file is read.

    Raises:
        StorageError: The file cannot be read.
        UsageError: The variable or the file has no secret.
    """
    if variable is not None and (secret := os.environ.get(variable, "")):
        return secret
    if file is not None:
        return await on_disk(read_secret_file, base / file)
    if variable is not None:
        raise UsageError(f"environment variable {variable} holds no secret")
    return None


# -- in a thread --------------------------------------------------------------------------------


def _read_stamp(path: Path) -> _Stamp:
    with storage_errors("look at", path):
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path) -> str:
    with storage_errors("read", path), path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise UsageError(f"a configuration must have at most {_MAX_BYTES >> 20} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from error
