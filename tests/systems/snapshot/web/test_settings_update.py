"""Devices and services that may be set over the web."""

import json
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import UsageError
from asynccam.systems.snapshot.server.settings import Allowed, CameraConfig
from tests.systems.snapshot.web.rig import Rig, serving

REFUSED = [
    {"device_path": "/dev/sda"},
    {"device_path": "/dev/video0/../sda"},
    {"device_path": "/dev/v4l/../mem"},
    {"device_path": "/dev/v4l/by-id/../../sda"},
    {"device_path": "/dev/video/x"},
    {"device_path": "//dev/video0"},
    {"device_path": "/etc/shadow"},
    {"device_path": "/dev/v4l"},
    {"service_name": "ssh.service"},
    {"service_name": "streamer.socket"},
    {"service_name": "dev-video0.device"},
]
ACCEPTED = [
    {"device_path": "/dev/video0"},
    {"device_path": "/dev/video12"},
    {"device_path": "/dev/v4l/by-id/usb-x-video-index0"},
    {"device_path": "/srv/cam"},
    {"device_path": "test:ball"},
    {"service_name": "held"},
    {"service_name": "held.service"},
]


def fields(change: dict[str, str]) -> dict[str, str]:
    return {"name": "new", "device_path": "/dev/video0", "type": "stream_interrupt", **change}


def write_config(directory: Path) -> None:
    named = {"name": "left", "device_path": "/srv/cam", "service_name": "held.service"}
    (directory / "config.json").write_text(json.dumps({"cameras": [named]}))


async def answers(rig: Rig, change: dict[str, str]) -> list[int]:
    """Statuses of every way by which a camera is set over the web."""
    found = []
    given: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/v1/cameras", {"json": fields(change)}),
        ("PATCH", "/api/v1/cameras/other", {"json": change}),
        ("POST", "/settings/add", {"data": fields(change) | {"name": "form"}, "allow_redirects": False}),
    ]
    for method, path, more in given:
        async with rig.http.request(method, path, **more) as answer:
            found.append(answer.status)
    async with rig.http.post("/api/v1/camera-check", json=fields(change) | {"name": "check"}) as answer:
        found.append(200 if (await answer.json())["ok"] else 422)
    return found


@pytest.mark.parametrize("change", REFUSED)
async def test_allowed_refuses_other_devices_everywhere(change: dict[str, str], tmp_path: Path) -> None:
    write_config(tmp_path)
    async with serving(tmp_path, allowed=Allowed()) as rig:
        await rig.service.config.add_camera({"name": "other", "device_path": "/dev/video1"})
        before = (tmp_path / "config.json").read_bytes()
        assert await answers(rig, change) == [422, 422, 400, 422]
        assert (tmp_path / "config.json").read_bytes() == before
        asked = await rig.json("/api/v1/cameras", "POST", status=422, json=fields(change))
        (field,) = change
        assert "--allow-" in str(asked)
        assert field in str(asked)


@pytest.mark.parametrize("change", ACCEPTED)
async def test_allowed_accepts_configured_and_v4l2_devices(change: dict[str, str], tmp_path: Path) -> None:
    write_config(tmp_path)
    async with serving(tmp_path, allowed=Allowed()) as rig:
        await rig.service.config.add_camera({"name": "other", "device_path": "/dev/video1"})
        assert await answers(rig, change) == [201, 200, 302, 200]


async def test_allowed_remembers_configured_devices(tmp_path: Path) -> None:
    write_config(tmp_path)
    async with serving(tmp_path, allowed=Allowed()) as rig:
        await rig.json("/api/v1/cameras/left", "DELETE", status=204)
        again = {"name": "left", "device_path": "/srv/cam", "service_name": "held"}
        await rig.json("/api/v1/cameras", "POST", status=201, json=again)


def test_allowed_accepts_options() -> None:
    allowed = Allowed(["/srv/cams/", "/dev/media*", "/opt/one"], ["streamer"])
    for path, service, count in [
        ("/srv/cams/a/b", "streamer.service", 0),
        ("/dev/media3", "", 0),
        ("/opt/one", "", 0),
        ("/opt/one/two", "", 1),
        ("/srv/cams", "other", 2),
        ("/srv/cams/../x", "", 1),
        ("/dev/media/x", "", 1),
    ]:
        camera = CameraConfig(name="a", device_path=path, service_name=service)
        assert len(allowed.problems(camera)) == count, path
    for devices, services in [(["video0"], []), ([""], []), ([], ["-x"]), ([], ["a/b"])]:
        with pytest.raises(UsageError):
            Allowed(devices, services)
