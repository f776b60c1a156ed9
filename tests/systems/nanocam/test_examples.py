"""The maker's examples, as they stand but for the import, ``await``, hosts, paths and lengths of time.

One is mended: the page's video example makes an ``ImageStream`` with a video's arguments.
"""

import ast
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from asynccam.recording import Verdict, verify_file
from asynccam.systems.nanocam import mediaserver
from asynccam.systems.nanocam.server.server import MediaServer
from tests.support.gst import free_udp_port

SEED = (Path(__file__).parent / "seed_examples.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", SEED, re.DOTALL)
AWAITED = re.compile(
    r"(?<![\w.])(\w+\.(?:start_stream|start|connect|image_request|video_request|hls_request)\()"
)


def example(word: str) -> str:
    (source,) = [block for block in BLOCKS if word in block]
    return AWAITED.sub(r"await \1", source).replace(
        "from nanocam import", "from asynccam.systems.nanocam import"
    )


async def run(source: str, **names: Any) -> dict[str, Any]:
    assert "/home/" not in source
    assert "192.168" not in source
    code = compile(source, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, names)
    if running is not None:
        await running
    return names


def test_every_example_is_run() -> None:
    assert len(BLOCKS) == 5


async def test_camera_setup() -> None:
    names = await run(example("cam = tools.CSIcamera()"))
    assert names["cam"].resolution == (1920, 1080)


async def test_image_stream(tmp_path: Path) -> None:
    names = await run(example("cam = tools.CSIcamera()").replace("1920, 1080", "160, 120"))
    source = (
        example("tools.ImageStream(3, 5").replace("(3, 5,", "(2, 1,").replace("/home/media", str(tmp_path))
    )
    await run(source, **names)
    pictures = list(tmp_path.iterdir())
    assert len(pictures) == 2
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.size == (160, 120)


async def test_video_stream(tmp_path: Path) -> None:
    names = await run(example("cam = tools.CSIcamera()").replace("1920, 1080", "160, 120"))
    source = example("vidstream").replace("tools.ImageStream(10", "tools.VideoStream(1")
    await run(source.replace("/home/media", str(tmp_path)), **names)
    (path,) = tmp_path.iterdir()
    assert (await verify_file(path)).verdict is Verdict.COMPLETE


async def test_server_setup() -> None:
    source = example("mediaserver.MediaServer(7200)").replace("(7200)", '(0, host="127.0.0.1")')
    server = (await run(source))["server"]
    try:
        assert isinstance(server, mediaserver.MediaServer)
        assert server.port
    finally:
        await server.aclose()


@pytest.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with MediaServer(0, host="127.0.0.1") as one:
        yield one


async def test_client_setup(server: MediaServer, tmp_path: Path) -> None:
    media, public = tmp_path / "media", tmp_path / "public"
    source = example("mediaclient.MediaClient()")
    for old, new in (
        ("set_msg_port(7200)", f"set_msg_port({server.port}); client.set_media_port({free_udp_port()})"),
        ("192.168.1.1", "127.0.0.1"),
        ("/home/media", str(media)),
        ("/var/www/public", str(public)),
        ("width=1920, height=1080", "width=160, height=120"),
        ("image_request(3, 5", "image_request(2, 1"),
        ("video_request(10", "video_request(1"),
        ("hls_request(10", "hls_request(2"),
        ("fname, img_arr = await client.video", "video, frames = await client.video"),
    ):
        assert source.count(old) >= 1, old
        source = source.replace(old, new)
    names = await run(source)
    try:
        assert [path.suffix for path in names["fname"]] == [".jpg", ".jpg"]
        assert [picture.shape for picture in names["img_arr"]] == [(120, 160, 3)] * 2
        (video,) = names["video"]
        assert (await verify_file(video)).verdict is Verdict.COMPLETE
        assert names["frames"]
        assert names["frames"][0].shape == (120, 160, 3)
        playlist = (public / "stream0.m3u8").read_text()
        segments = sorted(path.name for path in public.glob("fragment*.ts"))
        assert segments
        assert f"http://localhost/{segments[0]}" in playlist
    finally:
        await names["client"].aclose()
