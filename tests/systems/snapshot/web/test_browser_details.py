"""The page in Chromium: unusual names, many pictures, lost servers, preferences."""

import asyncio
import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Route, expect

from asynccam.systems.snapshot.server import ImuSettings
from tests.support.broker import Broker
from tests.support.browser import DESKTOP, WAIT_MS, a_page, chromium
from tests.support.jpegs import jpeg_of_kind
from tests.support.v4l2 import a_jpeg
from tests.systems.snapshot.web.rig import TOKEN, serving
from tests.systems.snapshot.web.test_browser import REFUSED, live

expect.set_options(timeout=WAIT_MS)
SMALL = (360, 740)
GONE = ("ERR_", "Failed to load", "status of")
WIDTHS = "[document.documentElement.scrollWidth, innerWidth]"


async def any_fault(page: Page) -> list[str]:
    """Return all findings of axe-core."""
    await page.evaluate("Promise.all(document.getAnimations().map((one) => one.finish()))")
    found = await Axe().run(page)
    return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found.response["violations"]]


async def test_browser_failure_stays_visible(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, chromium() as browser, a_page(browser, expected=REFUSED) as page:
        await rig.add("broken", "fail")
        await live(page, rig)
        await page.get_by_role("button", name="Capture broken").click()
        await expect(page.locator("#alerts .toast")).to_have_count(1)
        # It is told once: neither again by the card, nor twice for the same camera.
        assert await page.locator(".camera [role=alert]").count() == 0
        await page.click("#capture-all")
        await expect(page.locator("#capture-all")).not_to_have_attribute("aria-disabled", "true")
        await expect(page.locator("#alerts .toast")).to_have_count(1)
        await rig.json(
            "/api/v1/cameras/broken", "PATCH", json=rig.camera("broken", "picture", frame=a_jpeg())
        )
        await page.get_by_role("button", name="Capture broken").click()
        await expect(page.locator(".shot")).to_have_count(1)
        await expect(page.locator("#alerts .toast")).to_have_count(0)
        await expect(page.locator("#said")).to_have_text("Picture of broken taken")


AT_ONCE = """async () => {
    const { sure } = await import(new URL("static/dom.js", document.baseURI));
    const dialog = document.querySelector("#ask");
    const first = sure("First?", "");
    dialog.close("no");  // of which it tells in a moment
    const second = sure("Second?", "");
    await new Promise((resolve) => setTimeout(resolve, 50));
    dialog.close("yes");
    const third = sure("Third?", "");
    dialog.close("no");
    return await Promise.all([first, second, third]);
}"""


async def test_browser_questions_keep_their_answers(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, chromium() as browser, a_page(browser) as page:
        await live(page, rig)
        assert await page.evaluate(AT_ONCE) == [False, True, False]


@pytest.mark.parametrize("size", [DESKTOP, SMALL], ids=["desktop", "telephone"])
async def test_browser_shows_unusual_names(size: tuple[int, int], tmp_path: Path) -> None:
    names = ["<img src=x onerror=alert(1)>", "\u202eevil", "مرحبا", "W" * 100, "a/b c", "all"]
    async with (
        serving(tmp_path, names) as rig,
        chromium() as browser,
        a_page(browser, size=size) as page,
    ):
        await rig.json("/api/snapshot/all")
        for path in ("/", "/settings"):
            await live(page, rig, path)
            await expect(page.locator("#entries li")).to_have_count(len(names))
            wide, seen = await page.evaluate(WIDTHS)
            assert wide <= seen, path
        await live(page, rig)
        await expect(page.locator(".camera h2")).to_have_text(names)
        assert await page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
        await page.locator(".shot", has_text="W" * 20).locator(".picture").click()
        stage = await page.locator(".viewer-stage").bounding_box()
        assert stage is not None
        assert stage["height"] > size[1] / 3
        for button in ("#viewer-download", "#viewer-delete"):
            words = page.locator(button)
            # A word is never broken into its letters.
            assert await words.evaluate("one => one.getBoundingClientRect().height") < 60
        await page.click("#viewer-delete")
        await expect(page.locator("#ask-text")).to_contain_text("gone for good")


async def test_browser_keyboard_walks_through_pictures(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig, chromium() as browser, a_page(browser) as page:
        for _ in range(3):
            await rig.json("/api/snapshot/left")
        await live(page, rig)
        shots = page.locator(".shot .picture")
        await expect(shots).to_have_count(3)
        await shots.first.focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#viewer-where")).to_have_text("1 of 3")
        await page.locator("#viewer-older").focus()
        for expected in ("2 of 3", "3 of 3"):
            await page.keyboard.press("Enter")
            await expect(page.locator("#viewer-where")).to_have_text(expected)
        # At the end the button is of no use any more, but the keys still are.
        await expect(page.locator("#viewer-older")).to_have_attribute("aria-disabled", "true")
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#viewer-where")).to_have_text("3 of 3")
        await page.keyboard.press("ArrowLeft")
        await expect(page.locator("#viewer-where")).to_have_text("2 of 3")
        await page.keyboard.press("Escape")
        await expect(shots.nth(1)).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Delete")
        await page.locator("#ask-yes").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#viewer-where")).to_have_text("2 of 2")
        # What is told meanwhile is told where it can be seen and heard.
        await expect(page.locator("#viewer-toasts .toast")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(shots.nth(1)).to_be_focused()


async def test_browser_reports_deleted_picture(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, ["left"]) as rig,
        chromium() as browser,
        a_page(browser, expected=GONE) as page,
    ):
        await rig.json("/api/snapshot/left")
        await live(page, rig)
        await expect(page.locator(".shot img")).to_have_js_property("complete", value=True)
        await page.route("**/snapshots/*.jpg", lambda route: route.abort())
        await page.locator(".shot .picture").click()
        await expect(page.locator("#viewer-broken")).to_be_visible()


async def test_browser_updates_after_reconnect(tmp_path: Path) -> None:
    async with chromium() as browser, a_page(browser, expected=GONE) as page:
        async with serving(tmp_path, ["left"]) as rig:
            port = rig.port
            taken = await rig.json("/api/snapshot/left")
            await live(page, rig)
            await expect(page.locator(f'[data-filename="{taken["filename"]}"]')).to_be_visible()
        await expect(page.locator("#lost")).to_be_visible()
        # One picture goes and another comes meanwhile, so that their number tells nothing.
        (tmp_path / "snapshots" / taken["filename"]).unlink()
        other = "snapshot_left_20260102_030405000000.jpg"
        (tmp_path / "snapshots" / other).write_bytes(a_jpeg())
        async with serving(tmp_path, port=port):
            await expect(page.locator("#live")).to_have_attribute("data-state", "live")
            await expect(page.locator("#lost")).to_be_hidden()
            await expect(page.locator(".shot")).to_have_attribute("data-filename", other)
            await page.get_by_role("button", name="Capture left").click()
            await expect(page.locator(".shot")).to_have_count(2)
        async with serving(tmp_path, port=port, token=TOKEN):
            await page.wait_for_url("**/login*")
            await page.fill("#token", TOKEN)
            await page.keyboard.press("Enter")
            await expect(page.locator(".shot")).to_have_count(2)


async def test_browser_pages_see_each_other(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with (
        serving(tmp_path) as rig,
        chromium() as browser,
        a_page(browser) as one,
        a_page(browser) as other,
    ):
        await rig.add("slow", gate=str(gate))
        await live(one, rig)
        await live(other, rig)
        await one.get_by_role("button", name="Capture slow").click()
        await expect(other.locator('[data-camera="slow"]')).to_have_attribute("data-phase", "capturing")
        await expect(other.locator("#cameras-sub")).to_have_text("1 camera, 1 at work")
        # How long it takes is told as it goes.
        await expect(other.locator(".camera .state")).to_have_text(re.compile(r"Capturing \d+ s"))
        gate.touch()
        for page in (one, other):
            await expect(page.locator(".shot")).to_have_count(1)
            await expect(page.locator(".camera .state")).to_have_text("Ready")


async def test_browser_loads_more_while_scrolling(tmp_path: Path) -> None:
    folder, picture, start = tmp_path / "snapshots", a_jpeg(), datetime(2026, 1, 2, 3, 4, 5)
    folder.mkdir()
    for index in range(300):
        moment = start + timedelta(minutes=index)
        (folder / f"snapshot_left_{moment:%Y%m%d_%H%M%S}000000.jpg").write_bytes(picture)
    async with serving(tmp_path, ["left"]) as rig, chromium() as browser, a_page(browser) as page:
        await live(page, rig)
        await expect(page.locator(".shot")).to_have_count(24)
        await expect(page.locator("#gallery-sub")).to_have_text("300 pictures, the newest 24 are shown")
        await page.locator("#more").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator(".shot .picture").nth(24)).to_be_focused()
        await expect(page.locator("#said")).to_contain_text("of 300 pictures shown")
        for _ in range(60):
            if await page.locator("#more").is_hidden():
                break
            await page.mouse.wheel(0, 20_000)
            await asyncio.sleep(0.1)  # in which the page asks for more
        await expect(page.locator(".shot")).to_have_count(300)
        await expect(page.locator("#gallery-sub")).to_have_text("300 pictures")
        await live(page, rig)
        await expect(page.locator(".shot")).to_have_count(24)
        # A picture further down than one looked is counted all the same.
        await rig.json(
            f"/api/v1/snapshots/snapshot_left_{start:%Y%m%d_%H%M%S}000000.jpg", "DELETE", status=204
        )
        await expect(page.locator("#gallery-sub")).to_have_text("299 pictures, the newest 24 are shown")
        await page.click('nav [data-go="settings"]')
        size = round(299 * len(picture) / 1000)
        await expect(page.locator("#about")).to_contain_text(f"299, {size} kB")


async def test_browser_hides_picture_deleted_while_loading(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left", "right"]) as rig, chromium() as browser, a_page(browser) as page:
        taken = [await rig.json(f"/api/snapshot/{name}") for name in ("left", "left", "right")]
        await live(page, rig)
        await expect(page.locator(".shot")).to_have_count(3)

        async def late(route: Route) -> None:
            answer = await route.fetch()
            await rig.json(f"/api/v1/snapshots/{taken[0]['filename']}", "DELETE", status=204)
            await expect(page.locator(".shot")).to_have_count(2)
            await route.fulfill(response=answer)

        await page.route("**/api/v1/snapshots?*", late, times=1)
        await page.select_option("#gallery-camera", "left")
        await expect(page.locator("#gallery-sub")).to_have_text("1 picture")
        await expect(page.locator(".shot")).to_have_count(1)


async def test_browser_history_goes_back_and_forth(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig, chromium() as browser, a_page(browser) as page:
        await live(page, rig)
        await expect(page.locator("#no-shots")).to_be_visible()
        await expect(page.locator("#gallery-pick")).to_be_hidden()
        await page.click('nav [data-go="settings"]')
        assert await page.title() == "Settings · Snapshot"
        # It leads to what stands here, not to the other view.
        await page.locator(".skip").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()
        await expect(page.locator("#view-settings")).to_be_visible()
        await page.get_by_role("link", name="API description").click()
        await page.wait_for_url("**/openapi.json")
        await page.go_back()
        await expect(page.locator("#view-settings")).to_be_visible()
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await rig.json("/api/snapshot/left")
        await expect(page.locator("#about")).to_contain_text("1, ")
        await page.click('nav [data-go="cameras"]')
        await expect(page.locator(".shot")).to_have_count(1)
        await expect(page.locator("#gallery-pick")).to_be_visible()
        await page.go_back()
        await expect(page.locator("#view-settings")).to_be_visible()


async def test_browser_distinguishes_yesterday_from_today(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig, chromium() as browser, a_page(browser) as page:
        await rig.json("/api/snapshot/left")
        await page.clock.install()
        await live(page, rig)
        time = page.locator(".camera time")
        await expect(time).to_have_text(re.compile(r"^[\d:]+$"))
        await page.clock.fast_forward("25:00:00")
        await expect(time).to_have_text(re.compile(r"^\d+ \w+, [\d:]+$"))


async def test_browser_marks_old_reading(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        imu = ImuSettings(broker=broker.host, port=broker.port, max_age=3600)
        (tmp_path / "config.json").write_text(
            f'{{"cameras": [], "imu": {imu.model_dump_json(exclude_none=True)}}}'
        )
        async with (
            serving(tmp_path, imu=imu) as rig,
            chromium() as browser,
            a_page(browser, size=SMALL) as page,
        ):
            await live(page, rig)
            await broker.publish(imu.topic, {"roll": 1, "pitch": 2, "yaw": 3}, retain=True)
            await expect(page.locator("#imu")).to_be_visible()
            await expect(page.locator("#imu-old")).to_be_hidden()
            await rig.json("/api/v1/settings", "PATCH", json={"imu": {"max_age": 0.001}})
            await expect(page.locator("#imu-old")).to_be_visible()
            assert await any_fault(page) == []
    finally:
        await broker.stop()


@pytest.mark.parametrize(
    "eyes",
    [
        {"scheme": "light"},
        {"scheme": "dark"},
        {"forced_colors": "active", "scheme": "light"},
        {"forced_colors": "active", "scheme": "dark"},
        {"reduced_motion": "reduce"},
    ],
    ids=["light", "dark", "forced light", "forced dark", "reduced motion"],
)
async def test_browser_follows_user_preferences(eyes: dict[str, Any], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with (
        serving(tmp_path) as rig,
        chromium() as browser,
        a_page(browser, size=SMALL, expected=REFUSED, **eyes) as page,
    ):
        await rig.add("left", stereo=True)
        await rig.add("broken", "fail")
        await rig.json("/api/snapshot/all")
        await rig.add("slow", gate=str(gate))
        await live(page, rig)
        await page.get_by_role("button", name="Capture slow").click()
        await expect(page.locator('[data-camera="slow"] .running')).to_be_visible()
        if "reduced_motion" in eyes:
            assert await page.evaluate("document.getAnimations().length") == 0
        if "forced_colors" in eyes:
            dot = "getComputedStyle(document.getElementById('live'), '::before').backgroundColor"
            back = "getComputedStyle(document.body).backgroundColor"
            assert await page.evaluate(f"{dot} !== {back}")
        assert await any_fault(page) == []
        gate.touch()
        await expect(page.locator(".shot")).to_have_count(2)
        views = [None, ".shot .picture", "#viewer-delete"]
        for opens in views:
            if opens is not None:
                await page.locator(opens).first.click()
            assert await any_fault(page) == []
            await large_enough(page)
        await page.keyboard.press("Escape")
        await page.keyboard.press("Escape")
        await page.click('nav [data-go="settings"]')
        await page.fill("#f-width", "wide")
        await expect(page.locator("#e-width")).not_to_be_empty()
        assert await any_fault(page) == []
        await large_enough(page)
        wide, seen = await page.evaluate(WIDTHS)
        assert wide <= seen


async def large_enough(page: Page) -> None:
    """Whatever is touched has room for a finger; a box has its label."""
    small = await page.evaluate(
        """[...document.querySelectorAll("a, button, input:not([type=checkbox]), select, .check")]
        .filter((one) => one.checkVisibility() && !one.classList.contains("skip"))
        .map((one) => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])
        .filter(([, box]) => Math.min(box.width, box.height) < 44).map(([html]) => html)"""
    )
    assert small == []


async def test_browser_reports_foreign_broken_picture(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    stem = "snapshot_left_20260131_1425"
    names = {"ok": f"{stem}30000000.jpg", "cut60end": f"{stem}31000000.jpg"}
    for moment, (kind, name) in enumerate(names.items(), 1_769_869_530):
        (tmp_path / "snapshots" / name).write_bytes(jpeg_of_kind(kind))
        os.utime(tmp_path / "snapshots" / name, (moment, moment))
    async with (
        serving(tmp_path, ["left"]) as rig,
        chromium() as browser,
        a_page(browser, expected=GONE) as page,
    ):
        await live(page, rig)
        broken, whole = (page.locator(f'.shot[data-filename="{names[kind]}"]') for kind in ("cut60end", "ok"))
        await expect(broken.locator(".broken")).to_have_text("Broken picture")
        await expect(whole.locator("img")).to_have_js_property("complete", value=True)
        await expect(whole.locator(".broken")).to_have_count(0)
        await expect(page.locator('[data-camera="left"] .broken')).to_have_text("Broken picture")
        await broken.locator(".picture").click()
        await expect(page.locator("#viewer-broken")).to_contain_text("lacks a part of its picture data")
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#viewer-broken")).to_be_hidden()
        assert await any_fault(page) == []
