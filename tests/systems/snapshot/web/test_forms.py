"""Forms that are not text, and names that a URL cannot hold."""

from pathlib import Path

import pytest

from asynccam.systems.snapshot.server.pages import settings_of
from tests.systems.snapshot.web.rig import serving

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"name=\xff\xfe&device_path=/dev/a", FORM),
        (b"name=a&device_path=/dev/a", f"{FORM}; charset=nonsense"),
        (b"name=a&device_path=/dev/a", f"{FORM}; charset=utf-16"),
    ],
)
async def test_form_that_is_not_text_is_refused(body: bytes, content_type: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        for path in ("/settings/add", "/login"):
            headers = {"Content-Type": content_type}
            async with rig.http.post(path, data=body, headers=headers, allow_redirects=False) as answer:
                assert answer.status == 400
        assert await rig.json("/api/cameras") == []


@pytest.mark.parametrize("name", [".", ".."])
async def test_form_refuses_name_of_dots(name: str, tmp_path: Path) -> None:
    fields = {"name": name, "device_path": "/dev/a"}
    async with serving(tmp_path, ["left"]) as rig:
        async with rig.http.post("/settings/add", data=fields) as answer:
            assert answer.status == 400
            assert "dots alone" in await answer.text()
        told = await rig.json("/api/v1/cameras", "POST", json=fields, status=422)
        assert told["problems"][0]["field"] == "name"
        await rig.json("/api/v1/cameras/left", "PATCH", json={"name": name}, status=422)
        assert (await rig.json("/api/v1/camera-check", "POST", json=fields))["ok"] is False
        # A file from the field may have it all the same.
        await rig.add(name)
        assert [one["name"] for one in await rig.json("/api/cameras")] == ["left", name]


def test_settings_keep_the_order_of_the_form() -> None:
    form = {"retention.max_age_days": "3", "imu.port": "1883", "limits.captures": "2"}
    found = settings_of(form)
    assert list(found) == ["retention", "imu", "limits"]
    assert found["imu"] == {"port": "1883", "enabled": False}
