"""A real headless Chromium, and a page in it whose every complaint is kept."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
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


_shared: str | None = None
"""Where a browser waits that many tests use one after the other."""


def _program() -> str:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program is not None, "there is no Chromium; make test installs it"
    return program


@contextmanager
def one_for_all(directory: Path) -> Iterator[None]:
    """Let every `chromium` of this process be the same one: to start it costs more than most tests do.

    Each test has contexts of its own in it, and so neither cookies nor pages of another.

    Args:
        directory: For a file it is told by.
    """
    global _shared
    config = directory / "browser.json"
    config.write_text(
        json.dumps({"executablePath": _program(), "args": ARGUMENTS, "headless": True, "host": "127.0.0.1"})
    )
    command = (
        sys.executable,
        "-m",
        "playwright",
        "launch-server",
        "--browser",
        "chromium",
        "--config",
        config,
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            _shared = process.stdout.readline().strip()
            assert _shared.startswith("ws://127.0.0.1:"), "the browser did not start"
            yield
        finally:
            _shared = None
            os.killpg(process.pid, signal.SIGTERM)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    async with async_playwright() as playwright:
        if _shared is not None:
            browser = await playwright.chromium.connect(_shared)
        else:
            browser = await playwright.chromium.launch(executable_path=_program(), args=list(ARGUMENTS))
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
