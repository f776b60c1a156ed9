"""Settings of the server on the page, in Chromium."""

import json
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from asynccam.systems.snapshot.server import ImuSettings
from tests.support.browser import WAIT_MS, a_page, chromium
from tests.support.waiting import eventually
from tests.systems.snapshot.web.rig import Rig, serving
from tests.systems.snapshot.web.test_browser import REFUSED, live, serious

expect.set_options(timeout=WAIT_MS)
OFF = ImuSettings(enabled=False)


def written(rig: Rig) -> Any:
    """Return the content of the file."""
    return json.loads(rig.config.read_text())


async def test_browser_checks_and_saves_settings(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, ["left"], imu=OFF) as rig,
        chromium() as browser,
        a_page(browser) as page,
        a_page(browser) as other,
    ):
        await live(page, rig, "/settings")
        await live(other, rig, "/settings")
        for field, wrong, right in (
            ("imu-broker", "mqtt://broker", "broker.lan"),
            ("imu-port", "mqtt", "1884"),
            ("imu-topic", "a#", "ship/imu"),
            ("imu-max_age", "-1", "2.5"),
            ("retention-max_age_days", "long", "30"),
            ("limits-captures", "0", "2"),
        ):
            await page.fill(f"#f-{field}", wrong)
            await expect(page.locator(f"#e-{field}")).not_to_be_empty()
            await expect(page.locator(f"#f-{field}")).to_have_attribute("aria-invalid", "true")
            await page.fill(f"#f-{field}", right)
            await expect(page.locator(f"#e-{field}")).to_be_empty()
        await page.uncheck("#f-imu-enabled")
        assert await serious(page) == []
        await page.click("#server-save")
        await expect(page.get_by_text("Settings saved")).to_be_visible()
        assert written(rig)["imu"] == {
            "enabled": False,
            "broker": "broker.lan",
            "port": 1884,
            "topic": "ship/imu",
            "max_age": 2.5,
        }
        assert written(rig)["retention"] == {"max_age_days": 30}
        assert written(rig)["limits"] == {"captures": 2}
        assert [one["name"] for one in written(rig)["cameras"]] == ["left"]
        # Whoever looks at them meanwhile sees them change, but for what is being filled in.
        await expect(other.locator("#f-imu-broker")).to_have_value("broker.lan")
        await other.fill("#f-imu-topic", "mine")
        await page.fill("#f-imu-topic", "")
        await page.fill("#f-imu-max_age", "7")
        await page.click("#server-save")
        await expect(other.locator("#f-imu-max_age")).to_have_value("7")
        await expect(other.locator("#f-imu-topic")).to_have_value("mine")
        await expect(page.locator("#f-imu-topic")).to_have_value("status/")
        await other.click("#server-cancel")
        await expect(other.locator("#f-imu-topic")).to_have_value("status/")
        await expect(other.locator("#server-cancel")).to_be_hidden()


async def test_browser_shows_refusal_at_the_field(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, imu=OFF) as rig,
        chromium() as browser,
        a_page(browser, expected=(*REFUSED, "status of 409")) as page,
    ):
        await live(page, rig, "/settings")
        await page.fill("#f-imu-port", "70000")
        await page.keyboard.press("Enter")
        await expect(page.locator("#e-imu-port")).to_contain_text("65535")
        await expect(page.locator("#f-imu-port")).to_be_focused()
        assert not rig.config.exists()
        await page.fill("#f-imu-port", "1885")
        rig.config.write_text("{")
        await page.keyboard.press("Enter")
        await expect(page.locator("#server-problems")).to_contain_text("must be fixed first")
        assert rig.config.read_text() == "{"


async def test_browser_confirms_limit_that_deletes_pictures(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig, chromium() as browser, a_page(browser) as page:
        for _ in range(3):
            await rig.json("/api/snapshot/left")
        await live(page, rig, "/settings")
        await page.fill("#f-retention-max_size_mb", "0.004")
        await page.click("#server-save")
        await expect(page.locator("#ask-text")).to_contain_text("deleted for good")
        await page.locator("#ask").get_by_role("button", name="Keep").click()
        await expect(page.locator("#ask")).to_be_hidden()
        assert "retention" not in written(rig)
        assert len(rig.service.store) == 3
        await page.click("#server-save")
        await page.click("#ask-yes")
        await expect(page.get_by_text("Settings saved")).to_be_visible()
        await eventually(lambda: len(rig.service.store) < 3, 20)
        await page.click('nav [data-go="cameras"]')
        await expect(page.locator(".shot")).to_have_count(len(rig.service.store))


async def test_browser_locks_broker_with_password(tmp_path: Path) -> None:
    imu = {"enabled": False, "password_file": "secret"}
    (tmp_path / "config.json").write_text(json.dumps({"cameras": [], "imu": imu}))
    async with serving(tmp_path, imu=OFF) as rig, chromium() as browser, a_page(browser) as page:
        await live(page, rig, "/settings")
        for field in ("broker", "port"):
            await expect(page.locator(f"#f-imu-{field}")).to_have_js_property("readOnly", value=True)
        await expect(page.locator("#server-form")).to_contain_text("password")
        await page.fill("#f-imu-topic", "other")
        await page.click("#server-save")
        await expect(page.get_by_text("Settings saved")).to_be_visible()
        assert written(rig)["imu"] == imu | {"topic": "other"}
        # Nor does it take another look at the page to see that it may be changed again, or may not.
        rig.config.write_text(json.dumps({"cameras": [], "imu": {"enabled": False}}))
        await expect(page.locator("#f-imu-broker")).to_have_js_property("readOnly", value=False)


async def test_browser_saves_settings_without_javascript(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, imu=OFF) as rig,
        chromium() as browser,
        a_page(browser, java_script_enabled=False, expected=("status of 400",)) as page,
    ):
        await page.goto(f"{rig.url}/settings")
        await page.uncheck("#f-imu-enabled")
        await page.fill("#f-imu-port", "many")
        await page.fill("#f-retention-max_age_days", "14")
        await page.click("#server-save")
        await expect(page.locator("#e-imu-port")).to_contain_text("whole number")
        await expect(page.locator("#server-problems")).to_contain_text("Not saved")
        await expect(page.locator("#f-retention-max_age_days")).to_have_value("14")
        await expect(page.locator("#f-imu-enabled")).not_to_be_checked()
        await page.fill("#f-imu-port", "1884")
        await page.click("#server-save")
        await expect(page.locator("#f-imu-port")).to_have_value("1884")
        assert page.url == f"{rig.url}/settings"
        assert written(rig) == {
            "cameras": [],
            "retention": {"max_age_days": 14},
            "imu": {"enabled": False, "port": 1884},
        }
