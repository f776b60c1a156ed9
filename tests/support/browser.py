"""A real headless Chromium, and a page in it whose every complaint is kept."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from playwright.async_api import Browser, ConsoleMessage, Error, Page, async_playwright

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS: Final = 20_000
DESKTOP: Final = (1280, 900)
TELEPHONE: Final = (390, 844)

Scheme = Literal["light", "dark"]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program is not None, "there is no Chromium; make test installs it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def a_page(
    browser: Browser,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Scheme = "light",
    expected: tuple[str, ...] = (),
    **more: Any,
) -> AsyncIterator[Page]:
    """A page in a context of its own; whatever it complains of fails the test.

    Args:
        browser: Where.
        size: Width and height in pixels.
        scheme: What the person at it prefers.
        expected: Parts of complaints that are meant to come.
        more: For the context.
    """
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def on_error(error: Error) -> None:
        complaints.append(str(error))

    viewport: Any = {"width": size[0], "height": size[1]}
    context = await browser.new_context(viewport=viewport, color_scheme=scheme, locale="en-GB", **more)
    try:
        context.set_default_timeout(WAIT_MS)
        page = await context.new_page()
        page.on("console", on_console)
        page.on("pageerror", on_error)
        yield page
        left = [one for one in complaints if not any(part in one for part in expected)]
        assert left == []
    finally:
        await context.close()
