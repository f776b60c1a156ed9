"""Screenshots of the documentation, compared with the page."""

from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from tests.systems.snapshot.web.screenshots import IMAGES, SCENES, take

DOCUMENT = IMAGES.parent / "snapshot-server.md"
NEAR = 16.0
"""Shades of 256 by which two pictures may differ on average; fonts and the time of day do less."""


def difference(one: Path, other: Path) -> float:
    """Return the difference of two pictures, reduced in size."""
    near = [Image.open(path).convert("RGB").resize((48, 48)) for path in (one, other)]
    return sum(ImageStat.Stat(ImageChops.difference(*near)).mean) / 3


@pytest.mark.parametrize("name", SCENES)
def test_screenshots_exist_and_are_shown(name: str) -> None:
    with Image.open(IMAGES / f"{name}.png") as image:
        assert image.size == SCENES[name][1]
    assert f"](images/{name}.png)" in DOCUMENT.read_text()


async def test_screenshots_match_the_page(tmp_path: Path) -> None:
    await take(tmp_path)
    for name in SCENES:
        assert difference(IMAGES / f"{name}.png", tmp_path / f"{name}.png") < NEAR, name
    assert difference(IMAGES / "snapshot-cameras.png", IMAGES / "snapshot-dark.png") > NEAR
