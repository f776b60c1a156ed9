"""The page and its forms without JavaScript."""

import json
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.systems.snapshot.web.rig import Rig, serving

VOID = {"meta", "link", "input", "img", "br", "base", "hr", "option", "use", "circle", "path", "rect"}


class Elements(HTMLParser):
    """Every element of a page, and whether they are nested as they should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


async def page(rig: Rig, path: str, method: str = "GET", status: int = 200, **more: Any) -> Elements:
    async with rig.http.request(method, path, **more) as answer:
        assert answer.status == status
        assert answer.content_type == "text/html"
        return Elements(await answer.text())


@pytest.mark.parametrize(("path", "view"), [("/", "cameras"), ("/settings", "settings")])
async def test_both_views_are_one_page(path: str, view: str, tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        found = await page(rig, path)
        assert found.all("html")[0]["data-view"] == view
        ids = [attributes["id"] for _, attributes in found.found if "id" in attributes]
        assert len(ids) == len(set(ids))
        for _, attributes in found.found:
            assert not attributes.keys() & {"style", "onclick", "onload"}
            for key in ("src", "href", "action"):
                # Relative, so that the page works below any path, and nothing comes from elsewhere.
                value = attributes.get(key) or ""
                assert not value.startswith(("/", "http:", "https:", "data:")), value
        described = [one for _, attributes in found.found if (one := attributes.get("aria-describedby"))]
        assert {word for one in described for word in one.split()} <= set(ids)


async def test_page_files_are_served(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        found = await page(rig, "/")
        wanted = [one["src"] for one in found.all("script")]
        wanted += [one["href"] for one in found.all("link")]
        assert len(wanted) == 4
        for path in (*wanted, "static/icons.svg", "static/dom.js"):
            async with rig.http.get(f"/{path}") as answer:
                assert answer.status == 200
                assert answer.content_type in ("text/css", "text/javascript", "image/svg+xml")
                tag = answer.headers["ETag"]
            async with rig.http.get(f"/{path}", headers={"If-None-Match": tag}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
        for path in ("/static/page.html", "/static/nothing.css", "/static/"):
            async with rig.http.get(path) as answer:
                assert answer.status == 404


def test_page_loads_nothing_from_elsewhere() -> None:
    place = resources.files("asynccam.systems.snapshot.server") / "static"
    for file in place.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, file.name
        assert "https:" not in text, file.name
        assert "innerHTML" not in text, file.name


async def test_forms_add_and_delete_a_camera(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        form = {
            "name": "Küche/links & rechts",
            "device_path": "/dev/video0",
            "type": "stream_interrupt",
            "width": "1920",
            "height": "1080",
            "pixel_format": "MJPG",
            "stereo": "on",
            "service_name": "mjpg_streamer.service",
            "roll_offset": "",
            "pitch_offset": "-1.5",
        }
        async with rig.http.post("/settings/add", data=form, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (302, "../settings")
        (camera,) = json.loads(rig.config.read_text())["cameras"]
        assert camera["name"] == "Küche/links & rechts"
        assert (camera["width"], camera["stereo"], camera["pitch_offset"]) == (1920, True, -1.5)
        found = await page(rig, "/settings")
        (action,) = [one["action"] for one in found.all("form") if "delete" in (one.get("action") or "")]
        data = f"POST /{action} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer_bytes = await rig.raw(data.encode())
        assert answer_bytes.startswith(b"HTTP/1.1 302 ")
        assert b"\r\nLocation: ../../settings\r\n" in answer_bytes
        assert json.loads(rig.config.read_text())["cameras"] == []
        assert (await rig.raw(data.encode())).startswith(b"HTTP/1.1 302 ")


async def test_form_accepts_unchecked_box(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        await rig.json(
            "/settings/add",
            "POST",
            data={"name": "a", "device_path": "/dev/a"},
            allow_redirects=False,
            status=302,
        )
        assert (await rig.json("/api/cameras"))[0]["stereo"] is False


async def test_form_returns_entries_with_problems(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        form = {"name": "left", "device_path": '"><script>alert(1)</script>', "width": "wide"}
        found = await page(rig, "/settings/add", "POST", 400, data=form)
        assert len(found.all("script")) == 1
        inputs = {one["name"]: one for one in found.all("input") if "name" in one}
        assert inputs["device_path"]["value"] == form["device_path"]
        assert inputs["width"]["value"] == "wide"
        assert inputs["width"]["aria-invalid"] == "true"
        assert found.all("base")[0]["href"] == "../"
        assert len(rig.service.cameras()) == 1


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x>', "{{base}}", "&amp;", "'"])
async def test_names_are_escaped_in_html(name: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        before = await page(rig, "/settings")
        await rig.add(name)
        after = await page(rig, "/settings")
        assert len(after.all("script")) == len(before.all("script"))
        assert after.all("img") == before.all("img")
        assert len(after.all("form")) == len(before.all("form")) + 1
