"""Changes over the web: which settings, devices and services are allowed. See docs/snapshot-server.md.

The place of a secret cannot be changed: anyone with access to the page could send the first line of any file
to a broker of their choice. For the same reason a broker that gets a password is changed by hand only.
Without a list of allowed devices and services, any path could be opened and any service stopped.
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
"""Settings that may be changed over the web, by group."""
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
    """Apply changes to the groups of a configuration; return the groups, and every problem.

    Args:
        document: The configuration in the file.
        changes: Values by group and name, from a form or a program; null or a blank text is the default.
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
    values = {one: _stripped(value) for one, value in wanted.items() if one in CHANGEABLE[key]}
    merged = {one: value for one, value in {**raw, **values}.items() if value is not None}
    group, found = check_group(key, {one: value for one, value in merged.items() if one not in SECRETS})
    problems += found
    problems += [
        Problem(words, f"{key}.{one}")
        for (of, one), (right, words) in _EXTRA_CHECKS.items()
        if of == key and values.get(one) is not None and not right(getattr(group, one))
    ]
    if any(raw.get(one) for one in _PASSWORD_KEYS):
        was, _ = check_group(key, {one: value for one, value in raw.items() if one not in SECRETS})
        problems += [
            Problem(_KEPT, f"{key}.{one}")
            for one in _FIXED_WITH_PASSWORD
            if one in values and getattr(group, one) != getattr(was, one)
        ]
    default, _ = check_group(key, {})
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
        self._directories: set[str] = set()
        self._prefixes: set[str] = set()
        self._services: set[str] = set()
        for device in (*DEVICES, *devices):
            if not device.startswith("/"):
                raise UsageError(f"{device!r} is not the absolute path of a device")
            if device.endswith("*"):
                self._prefixes.add(device[:-1])
            else:
                (self._directories if device.endswith("/") else self._devices).add(device)
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
        found: list[Problem] = []
        if not self._allows_device(camera.device_path):
            message = (
                f"{camera.device_path} is not allowed over the web: start the server with --allow-device, or"
                " name it in config.json"
            )
            found.append(Problem(message, "device_path", camera=camera.name))
        service = camera.service_name
        if service and unit_name(service) not in self._services:
            message = (
                f"{service} is not allowed over the web: start the server with --allow-service, or name it in"
                " config.json"
            )
            found.append(Problem(message, "service_name", camera=camera.name))
        return tuple(found)

    def _allows_device(self, path: str) -> bool:
        if path in self._devices or path.startswith(TEST_DEVICE):
            return True
        # POSIX 4.13: exactly two leading slashes may be special; `normpath` keeps them.
        if path != posixpath.normpath(path) or path.startswith("//"):
            return False
        if any(path.startswith(directory) for directory in self._directories):
            return True
        return any(path.startswith(prefix) and "/" not in path[len(prefix) :] for prefix in self._prefixes)
