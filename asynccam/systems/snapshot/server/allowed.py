"""Devices and services that settings over the web may name. See docs/snapshot-server.md, "Safety".

Whoever may change settings could otherwise have any path opened and any service stopped that the server's
user may open and stop.
"""

import posixpath
from collections.abc import Iterable
from typing import Final

from asynccam.errors import UsageError
from asynccam.systems.snapshot.server.settings import TEST_DEVICE, CameraConfig, Problem, check_service
from asynccam.systems.snapshot.server.systemd import unit_name

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
