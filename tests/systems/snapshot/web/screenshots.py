"""Takes the pictures of the page that stand in the documentation.

``python -m tests.systems.snapshot.web.screenshots`` writes them anew.
"""

import asyncio
import io
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw
from playwright.async_api import expect

from asynccam.systems.snapshot.server import ImuSettings
from tests.support.broker import Broker
from tests.support.browser import DESKTOP, TELEPHONE, WAIT_MS, Scheme, a_page, chromium
from tests.support.waiting import eventually
from tests.systems.snapshot.web.rig import serving

IMAGES: Final = Path(__file__).parents[4] / "docs" / "images"
SCENES: Final[dict[str, tuple[str, tuple[int, int], Scheme]]] = {
    "snapshot-cameras": ("/", DESKTOP, "light"),
    "snapshot-dark": ("/", DESKTOP, "dark"),
    "snapshot-settings": ("/settings", DESKTOP, "light"),
    "snapshot-telephone": ("/", TELEPHONE, "light"),
}
"""File name -> where, how large, and for which taste."""

_SKIES: Final = {
    "Harbour": ((255, 180, 120), (70, 90, 160), (250, 240, 210)),
    "Left eye": ((190, 225, 250), (60, 130, 210), (255, 250, 225)),
    "Right eye": ((190, 225, 250), (60, 130, 210), (255, 250, 225)),
    "Roof": ((60, 50, 90), (12, 14, 36), (225, 230, 245)),
}


def landscape(name: str, size: tuple[int, int] = (960, 540)) -> bytes:
    """Hills under a sky, which is friendlier to look at than a test picture; a JPEG."""
    low, high, sun = _SKIES[name]
    width, height = size
    column = Image.new("RGB", (1, height))
    for row in range(height):
        share = min(1.0, row / (height * 0.75))
        column.putpixel((0, row), tuple(round(h + (w - h) * share) for w, h in zip(low, high, strict=True)))
    image = column.resize(size)
    draw = ImageDraw.Draw(image)
    x = width * (0.66 if name != "Right eye" else 0.63)
    y = height * 0.36
    draw.ellipse((x - 46, y - 46, x + 46, y + 46), fill=sun)
    shift = 40 if name == "Right eye" else len(name) * 37 if " " not in name else 0
    for step in range(4):
        shade = tuple(round(one * (0.62 - 0.13 * step)) for one in low)
        crest = [
            (
                at,
                height * (0.55 + 0.1 * step)
                + 46 * math.sin((at + shift * (step + 1)) / (150 - 22 * step) + step),
            )
            for at in range(0, width + 16, 16)
        ]
        draw.polygon([*crest, (width, height), (0, height)], fill=shade)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90)
    return data.getvalue()


async def take(target: Path) -> None:
    """Write every picture into a directory."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        broker = Broker(directory)
        await broker.start()
        try:
            await _take(directory, broker, target)
        finally:
            await broker.stop()


async def _take(directory: Path, broker: Broker, target: Path) -> None:
    imu = ImuSettings(broker=broker.host, port=broker.port, max_age=3600)
    settings = {"cameras": [], "imu": imu.model_dump(exclude_none=True)}
    (directory / "config.json").write_text(json.dumps(settings))
    async with serving(directory, imu=imu) as rig, chromium() as browser:
        for name in _SKIES:
            frame = landscape(name)
            await rig.add(name, frame=frame, width=1920, height=1080, stereo="eye" in name)
        gate = {"name": "Garden gate", "device_path": "/dev/video9", "width": 1280, "height": 720}
        await rig.service.config.add_camera(gate)
        feed = rig.service.imu
        assert feed is not None
        await eventually(lambda: feed.connected, 20)
        await broker.publish(imu.topic, {"roll": 4.2, "pitch": -6.5, "yaw": 118.3})
        for _ in range(2):
            await rig.json("/api/snapshot/all")
        for file, (path, size, scheme) in SCENES.items():
            if path == "/settings":
                # As it looks where cameras are real, rather than in the directory of a test.
                for name in _SKIES:
                    place = {"device_path": f"/dev/camera-{name.lower().replace(' ', '-')}"}
                    await rig.service.config.replace_camera(name, place)
                await rig.service.config.change_settings(
                    {"retention": {"max_age_days": 30, "max_size_mb": 20000}}
                )
            async with a_page(browser, size=size, scheme=scheme) as page:
                await page.goto(rig.url + path)
                await expect(page.locator("#live")).to_have_attribute("data-state", "live")
                await expect(page.locator("#imu-yaw")).to_have_text("118.3°")
                for picture in await page.locator(".camera img").all():
                    await expect(picture).to_have_js_property("complete", value=True)
                data = await page.screenshot(animations="disabled")
                # Packed more tightly than the browser does.
                packed = Image.open(io.BytesIO(data)).convert("RGB")
                packed.save(target / f"{file}.png", optimize=True)


if __name__ == "__main__":
    expect.set_options(timeout=WAIT_MS)
    asyncio.run(take(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES))
