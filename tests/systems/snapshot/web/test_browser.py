"""The page in Chromium: by mouse, keyboard and phone."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from asynccam.systems.snapshot.server import ImuSettings
from tests.support.broker import Broker
from tests.support.browser import TELEPHONE, WAIT_MS, Scheme, a_page, chromium
from tests.systems.snapshot.web.rig import TOKEN, Rig, serving

expect.set_options(timeout=WAIT_MS)
REFUSED = ("status of 502", "status of 422", "status of 404")
"""What the browser itself writes into its console about an answer that is an error."""


async def live(page: Page, rig: Rig, path: str = "/") -> None:
    """Open the page, and wait until it is connected."""
    await page.goto(rig.url + path)
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")


async def serious(page: Page) -> list[str]:
    """Return the serious findings of axe-core."""
    # What moves is looked at where it comes to rest.
    await page.evaluate("Promise.all(document.getAnimations().map((one) => one.finish()))")
    found = await Axe().run(page)
    return [
        f"{one['id']}: {one['help']} {[node['html'] for node in one['nodes']]}"
        for one in found.response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


async def test_browser_adds_checks_changes_and_deletes_a_camera(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig, chromium() as browser, a_page(browser) as page:
        await live(page, rig, "/settings")
        await page.fill("#f-name", "left")
        await page.fill("#f-device_path", "video0")
        await page.fill("#f-width", "wide")
        for field in ("name", "device_path", "width"):
            await expect(page.locator(f"#e-{field}")).not_to_be_empty()
            await expect(page.locator(f"#f-{field}")).to_have_attribute("aria-invalid", "true")
        await expect(page.locator("#e-height")).to_be_empty()
        device = rig.camera("Küche")["device_path"]
        for field, value in (("name", "Küche"), ("device_path", device), ("width", "1280")):
            await page.fill(f"#f-{field}", value)
            await expect(page.locator(f"#e-{field}")).to_be_empty()
        await expect(page.locator("#f-service_name")).to_be_hidden()
        await page.select_option("#f-type", "stream_interrupt")
        await page.fill("#f-service_name", "streamer.service")
        await page.check("#f-stereo")
        await page.click("#form-save")
        await expect(page.locator("#entries li")).to_have_count(2)
        assert rig.service.cameras()[1].entry() == {
            "name": "Küche",
            "device_path": device,
            "type": "stream_interrupt",
            "width": 1280,
            "height": 480,
            "pixel_format": "MJPG",
            "stereo": True,
            "service_name": "streamer.service",
        }
        await page.get_by_role("button", name="Edit Küche").click()
        await page.fill("#f-height", "720")
        await page.click("#form-save")
        await expect(page.locator("#entries")).to_contain_text("1280 × 720")  # noqa: RUF001 - as on the page
        await page.get_by_role("button", name="Delete Küche").click()
        await page.locator("#ask").get_by_role("button", name="Delete").click()
        await expect(page.locator("#entries li")).to_have_count(1)
        assert [camera.name for camera in rig.service.cameras()] == ["left"]


async def test_browser_captures_shows_downloads_and_deletes(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, chromium() as browser, a_page(browser) as page:
        await live(page, rig)
        await expect(page.locator("#no-cameras")).to_be_visible()
        await expect(page.locator("#capture-all")).to_be_disabled()
        for name in ("left", "right"):
            await rig.add(name, stereo=True)
        await expect(page.locator(".camera")).to_have_count(2)
        await page.click("#capture-all")
        await expect(page.locator(".shot")).to_have_count(2)
        await expect(page.locator(".camera img")).to_have_count(2)
        await expect(page.get_by_text("2 pictures taken")).to_be_visible()
        await page.click("#capture-stereo")
        await expect(page.locator(".shot")).to_have_count(4)
        await expect(page.get_by_text("2 pictures taken within")).to_be_visible()
        newest = await page.locator(".shot").first.get_attribute("data-filename")
        assert newest is not None
        async with page.expect_download() as downloading:
            await page.locator(".shot a[download]").first.click()
        download = await downloading.value
        target = tmp_path / "downloaded.jpg"
        await download.save_as(target)
        assert download.suggested_filename == newest
        assert target.read_bytes() == (tmp_path / "snapshots" / newest).read_bytes()
        await page.locator(".shot .picture").first.click()
        picture = page.locator("#viewer-picture")
        await expect(picture).to_have_js_property("complete", value=True)
        assert await picture.evaluate("one => one.naturalWidth") == 64
        await page.keyboard.press("ArrowRight")
        await expect(picture).not_to_have_attribute("src", f"snapshots/{newest}")
        await page.keyboard.press("ArrowLeft")
        await expect(picture).to_have_attribute("src", f"snapshots/{newest}")
        await page.click("#viewer-delete")
        await page.locator("#ask").get_by_role("button", name="Delete").click()
        await expect(page.locator(".shot")).to_have_count(3)
        assert not (tmp_path / "snapshots" / newest).exists()
        await page.keyboard.press("Escape")
        await expect(page.locator("#viewer")).to_be_hidden()
        await page.select_option("#gallery-camera", "left")
        await expect(page.locator(".shot .name", has_text="right")).to_have_count(0)


async def test_browser_shows_progress_and_failure(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with serving(tmp_path) as rig, chromium() as browser, a_page(browser, expected=REFUSED) as page:
        await rig.add("slow", gate=str(gate))
        await rig.add("broken", "fail")
        await live(page, rig)
        slow, broken = page.locator('[data-camera="slow"]'), page.locator('[data-camera="broken"]')
        await slow.get_by_role("button", name="Capture slow").click()
        await expect(slow).to_have_attribute("data-phase", "capturing")
        await expect(slow.locator(".running")).to_be_visible()
        await broken.get_by_role("button", name="Capture broken").click()
        await expect(broken).to_have_attribute("data-phase", "failed")
        await expect(broken.locator(".why")).to_be_visible()
        await expect(page.locator("#alerts .toast")).to_contain_text("broken")
        assert re.search(r"[a-z]{3,} [a-z]{2,}", await broken.locator(".why").inner_text())
        assert await serious(page) == []
        gate.touch()
        await expect(slow).to_have_attribute("data-phase", "idle")
        await expect(slow.locator("img")).to_be_visible()
        await expect(page.locator(".shot")).to_have_count(1)


async def test_browser_follows_other_clients_and_lost_server(tmp_path: Path) -> None:
    expected = ("ERR_", "Failed to load")
    async with chromium() as browser, a_page(browser, expected=expected) as page:
        async with serving(tmp_path, ["left"]) as rig:
            await live(page, rig)
            taken = await rig.json("/api/snapshot/left")
            await expect(page.locator(".shot")).to_have_count(1)
            rig.config.write_text('{"cameras": [{"name": "left", "device_path": "/dev/x"}, {"name": 7}]}')
            await expect(page.locator("#problems")).to_be_visible()
            await expect(page.locator("#problem-list")).to_contain_text("Line 1")
            await rig.json(f"/api/v1/snapshots/{taken['filename']}", "DELETE", status=204)
            await expect(page.locator(".shot")).to_have_count(0)
        await expect(page.locator("#live")).to_have_attribute("data-state", "lost")


async def test_browser_works_by_keyboard(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig, chromium() as browser, a_page(browser) as page:
        await live(page, rig)
        await page.keyboard.press("Tab")
        await expect(page.locator(".skip")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()

        async def reach(selector: str) -> None:
            """Go there by the Tab key."""
            for _ in range(40):
                if await page.evaluate("(one) => document.activeElement.matches(one)", selector):
                    return
                await page.keyboard.press("Tab")
            raise AssertionError(f"{selector} is not reached by Tab")

        await reach("#capture-all")
        await page.keyboard.press("Enter")
        await expect(page.locator(".shot")).to_have_count(1)
        await expect(page.locator(".shot img")).to_be_visible()
        await reach(".shot .picture")
        await page.keyboard.press("Enter")
        await expect(page.locator("#viewer")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator(".shot .picture")).to_be_focused()
        await reach(".shot button.quiet")
        await page.keyboard.press("Space")
        await expect(page.locator("#ask")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator(".shot")).to_have_count(1)
        await page.keyboard.press("Space")
        await reach("#ask-yes")
        await page.keyboard.press("Enter")
        await expect(page.locator(".shot")).to_have_count(0)
        await page.evaluate("document.querySelector('.skip').focus()")
        await reach('nav [data-go="settings"]')
        await page.keyboard.press("Enter")
        await expect(page.locator("#view-settings")).to_be_visible()
        await reach("#f-name")
        await page.keyboard.type("right")
        await page.keyboard.press("Tab")
        await page.keyboard.type("/dev/video1")
        await page.keyboard.press("Enter")
        await expect(page.locator("#entries li")).to_have_count(2)
        await expect(page.locator("#f-name")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_browser_is_accessible(scheme: Scheme, tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as rig,
        chromium() as browser,
        a_page(browser, scheme=scheme, expected=REFUSED) as page,
    ):
        await rig.add("a camera with quite a long name, which has to go somewhere", stereo=True)
        await rig.add("broken", "fail")
        await rig.json("/api/snapshot/all")
        await live(page, rig)
        await expect(page.locator(".shot")).to_have_count(1)
        assert await serious(page) == []
        await page.locator(".shot .picture").click()
        await expect(page.locator("#viewer")).to_be_visible()
        assert await serious(page) == []
        await page.click("#viewer-close")
        await page.click('nav [data-go="settings"]')
        await page.fill("#f-device_path", "nowhere")
        await expect(page.locator("#e-device_path")).not_to_be_empty()
        assert await serious(page) == []
        wide, seen = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= seen
        background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", background)[:3]))
        assert (brightness > 600) == (scheme == "light")


async def test_browser_fits_a_phone(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, ["left", "right", "third"]) as rig,
        chromium() as browser,
        a_page(browser, size=TELEPHONE, has_touch=True, is_mobile=True) as page,
    ):
        await live(page, rig)
        box = await page.locator("#capture-all").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= TELEPHONE[1]
        await page.locator("#capture-all").tap()
        await expect(page.locator(".shot")).to_have_count(3)
        for button in await page.locator(".button:visible").all():
            size = await button.bounding_box()
            assert size is None or min(size["width"], size["height"]) >= 32
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_browser_shows_the_imu(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        imu = ImuSettings(broker=broker.host, port=broker.port, topic="status/", max_age=3600)
        config = {"cameras": [], "imu": imu.model_dump(exclude_none=True)}
        (tmp_path / "config.json").write_text(str(config).replace("'", '"').replace("True", "true"))
        async with serving(tmp_path, imu=imu) as rig, chromium() as browser, a_page(browser) as page:
            await live(page, rig)
            await expect(page.locator("#imu")).to_be_hidden()
            await broker.publish("status/", {"roll": 1.25, "pitch": -3.5, "yaw": 120}, retain=True)
            await expect(page.locator("#imu-pitch")).to_have_text("-3.5°")
            await expect(page.locator("#imu-yaw")).to_have_text("120.0°")
            await expect(page.locator("#imu")).to_be_visible()
            assert await serious(page) == []
    finally:
        await broker.stop()


async def test_browser_signs_in(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, ["left"], token=TOKEN) as rig,
        chromium() as browser,
        a_page(browser, expected=("status of 401",)) as page,
    ):
        await page.goto(f"{rig.url}/settings")
        await page.fill("#token", "not the token at all")
        await page.keyboard.press("Enter")
        await expect(page.locator("#wrong")).to_be_visible()
        assert await serious(page) == []
        await page.fill("#token", TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await expect(page.locator("#view-settings")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.locator("#token")).to_be_visible()
        await page.goto(rig.url)
        await expect(page.locator("#token")).to_be_visible()


async def test_browser_works_without_javascript(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as rig,
        chromium() as browser,
        a_page(browser, java_script_enabled=False, expected=("status of 400",)) as page,
    ):
        await page.goto(rig.url)
        await page.get_by_role("navigation").get_by_role("link", name="Settings").click()
        await page.fill("#f-name", "left")
        await page.fill("#f-device_path", "nowhere")
        await page.click("#form-save")
        await expect(page.locator("#e-device_path")).not_to_be_empty()
        await page.fill("#f-device_path", "/dev/video0")
        await page.click("#form-save")
        await expect(page.locator("#entries li")).to_have_count(1)
        assert page.url == f"{rig.url}/settings"
        await page.get_by_role("button", name="Delete left").click()
        await expect(page.locator("#entries li")).to_have_count(0)
        assert rig.service.cameras() == ()
