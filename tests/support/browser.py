"""A real headless Chromium, and a page in it whose every complaint is kept."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from playwright.async_api import Browser, ConsoleMessage, Error, Page, Playwright, async_playwright

from tests.support.devices import free_port

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


_SHARED: Final = "ASYNCCAM_TESTS_BROWSER"
"""Environment variable with the address of a browser that runs already."""


@contextmanager
def shared_browser() -> Iterator[None]:
    """Have `chromium` use one browser as long as this lasts, for starting one takes a second of work."""
    command = [sys.executable, "-m", "tests.support.browser"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address, "the browser did not start"
            os.environ[_SHARED] = address
            yield
        finally:
            os.environ.pop(_SHARED, None)
            process.stdin.close()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    async with async_playwright() as playwright:
        shared = os.environ.get(_SHARED)
        if shared is not None:
            browser = await playwright.chromium.connect_over_cdp(shared)
        else:
            browser = await _launch(playwright)
        try:
            yield browser
        finally:
            await browser.close()


async def _launch(playwright: Playwright, *arguments: str) -> Browser:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program is not None, "there is no Chromium; make test installs it"
    return await playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS, *arguments])


async def _share() -> None:
    """Run a browser until the standard input ends, and print its address."""
    port = free_port()
    async with async_playwright() as playwright:
        browser = await _launch(playwright, f"--remote-debugging-port={port}")
        sys.stdout.write(f"http://127.0.0.1:{port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
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


if __name__ == "__main__":
    asyncio.run(_share())
