"""Which settings may be changed over the web, and what is wrong with a change. See docs/snapshot-server.md.

Never where a secret is read from: whoever reaches the page could have any file's first line sent to a
broker of their choice. For the same reason a broker that gets a password is changed by hand only.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from asynccam.errors import UsageError
from asynccam.systems.snapshot.server.settings import (
    SECRETS,
    TEST_DEVICE,
    CameraConfig,
    Problem,
    check_group,
    check_service,
)
from asynccam.systems.snapshot.server.systemd import unit_name

CHANGEABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "retention": ("max_age_days", "max_size_mb"),
    "imu": ("enabled", "broker", "port", "topic", "max_age", "username"),
    "limits": ("captures", "waiting"),
}
"""Group -> its settings that may be changed over the web."""
_HELD: Final = ("broker", "port")
_PASSWORD: Final = ("password_file", "password_env")
_BY_HAND: Final = "is changed by hand, in the configuration file"
_TOPIC: Final = re.compile(r"([^/+#]*|\+)(/([^/+#]*|\+))*((^|/)#)?")
_KEPT: Final = "a password goes to this broker, so it is changed by hand, in the configuration file"


def _is_host(text: str) -> bool:
    return not any(letter.isspace() or letter in "/@?#[]" for letter in text)


_FURTHER: Final[Mapping[tuple[str, str], tuple[Callable[[str], object], str]]] = {
    ("imu", "broker"): (_is_host, "a broker is a host name or an address, without mqtt:// and port"),
    ("imu", "topic"): (
        _TOPIC.fullmatch,
        "+ stands for one whole level of a topic, # for all that follow, at its end",
    ),
}
"""What would be found out by the broker only, long after it was typed."""


def changed_settings(
    document: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """The groups of a configuration with changes put in, and everything that is wrong with these.

    Args:
        document: The configuration as it stands in the file.
        changes: Group -> setting -> value as a form or a program gives it; nothing (null, or a text that
            is blank) stands for the default.
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
    problems = [Problem(_BY_HAND, f"{key}.{one}") for one in wanted if one not in CHANGEABLE[key]]
    values = {one: _cleaned(value) for one, value in wanted.items() if one in CHANGEABLE[key]}
    merged = {one: value for one, value in {**raw, **values}.items() if value is not None}
    group, found = check_group(key, {one: value for one, value in merged.items() if one not in SECRETS})
    problems += found
    problems += [
        Problem(words, f"{key}.{one}")
        for (of, one), (right, words) in _FURTHER.items()
        if of == key and values.get(one) is not None and not right(getattr(group, one))
    ]
    if any(raw.get(one) for one in _PASSWORD):
        was, _ = check_group(key, {one: value for one, value in raw.items() if one not in SECRETS})
        problems += [
            Problem(_KEPT, f"{key}.{one}")
            for one in _HELD
            if one in values and getattr(group, one) != getattr(was, one)
        ]
    default, _ = check_group(key, {})
    for one, value in values.items():
        if value is None:
            raw.pop(one, None)
        elif one in raw or getattr(group, one) != getattr(default, one):
            raw[one] = _plain(getattr(group, one))
    return raw, problems


def _cleaned(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """30 rather than 30.0, as a person would have written it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


DEVICES: Final = ("/dev/video*", "/dev/v4l/")
"""What may be named without being allowed: V4L2 devices, and the links to them that udev makes."""


class Allowed:
    """Devices and services that may be named over the web.

    Those that ``config.json`` names, or has named since this was made, may be named as well.

    Args:
        devices: A path; one that ends in ``/`` allows all below it, one that ends in ``*`` all paths in that
            directory that begin so.
        services: Names of services; ``streamer`` and ``streamer.service`` are the same.

    Raises:
        UsageError: A device is not a whole path, or a service is not the name of one.
    """

    def __init__(self, devices: Iterable[str] = (), services: Iterable[str] = ()) -> None:
        self._devices: set[str] = set()
        self._below: set[str] = set()
        self._beginnings: set[str] = set()
        self._services: set[str] = set()
        for device in (*DEVICES, *devices):
            if not device.startswith("/"):
                raise UsageError(f"{device!r} is not the whole path of a device")
            if device.endswith("*"):
                self._beginnings.add(device[:-1])
            else:
                (self._below if device.endswith("/") else self._devices).add(device)
        for service in services:
            try:
                self._services.add(unit_name(check_service(service)))
            except ValueError as error:
                raise UsageError(f"{service!r}: {error}") from None

    def learn(self, cameras: Iterable[CameraConfig]) -> None:
        """Allow what the cameras of ``config.json`` name."""
        for camera in cameras:
            self._devices.add(camera.device_path)
            if camera.service_name:
                self._services.add(unit_name(camera.service_name))

    def problems(self, camera: CameraConfig) -> tuple[Problem, ...]:
        """Return what of a camera that comes over the web is not allowed."""
        found: list[Problem] = []
        if not self._allows_device(camera.device_path):
            words = (
                f"{camera.device_path} is not allowed over the web: start the server with --allow-device, or"
                " name it in config.json"
            )
            found.append(Problem(words, "device_path", camera=camera.name))
        service = camera.service_name
        if service and unit_name(service) not in self._services:
            words = (
                f"{service} is not allowed over the web: start the server with --allow-service, or name it in"
                " config.json"
            )
            found.append(Problem(words, "service_name", camera=camera.name))
        return tuple(found)

    def _allows_device(self, path: str) -> bool:
        if path in self._devices or path.startswith(TEST_DEVICE):
            return True
        # POSIX lets a path begin with exactly two slashes, which `normpath` keeps.
        if path != posixpath.normpath(path) or path.startswith("//"):
            return False
        if any(path.startswith(below) for below in self._below):
            return True
        return any(
            path.startswith(beginning) and "/" not in path[len(beginning) :] for beginning in self._beginnings
        )
