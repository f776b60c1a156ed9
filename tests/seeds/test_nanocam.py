"""nanocam: every example of its README: a camera's streams here, and our client at our server."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asynccam.recording import Verdict, verify_file
from tests.seeds.examples import Changes, Ran, blocks, run
from tests.support.gst import free_udp_port
from tests.support.waiting import eventually_awaited, listens

BLOCKS = blocks("nanocam")
IMPORTS = {"nanocam": "asynccam.systems.nanocam"}

# They take as long as the maker's examples say, which is tens of seconds of real video.
pytestmark = pytest.mark.timeout(240)


async def stream(heading: str, awaited: str, directory: Path) -> Ran:
    media = directory / "media"
    media.mkdir()
    camera = Changes(IMPORTS).to(BLOCKS["Camera Setup"])
    changes = Changes(IMPORTS, (awaited,), {"'/home/media'": repr(str(media))})
    return await run(camera + changes.to(BLOCKS[heading]), directory)


async def whole(directory: Path, pattern: str) -> int:
    """How many files match, of which every one has to be whole."""
    verdicts = [await verify_file(path) for path in sorted(directory.glob(pattern))]
    assert [one for one in verdicts if one.verdict is not Verdict.COMPLETE] == []
    return len(verdicts)


async def test_pictures_at_an_interval(tmp_path: Path) -> None:
    ran = await stream("ImageStream on Jetson Nano", "imgstream.start_stream", tmp_path)
    assert ran.code == 0, ran.err
    assert len(list((tmp_path / "media").glob("*.jpg"))) == 3


async def test_video_by_the_example_that_names_the_other_class(tmp_path: Path) -> None:
    ran = await stream("VideoStream on Jetson Nano", "vidstream.start_stream", tmp_path)
    assert ran.code == 0, ran.err
    assert await whole(tmp_path / "media", "*.mp4") == 1


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[int]:
    """The server's example as a program of its own, for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    changes = Changes(IMPORTS, ("server.start",), {"7200": str(port)})
    source = changes.to(BLOCKS["Server setup"]) + "import asyncio\nawait asyncio.Event().wait()\n"
    directory.mkdir()
    serving = asyncio.create_task(run(source, directory, seconds=200))

    async def up() -> bool:
        assert not serving.done(), serving.result()
        return await listens(port)

    try:
        await eventually_awaited(up, 60)
        yield port
    finally:
        serving.cancel()
        await asyncio.wait({serving})


async def test_pictures_video_and_hls_from_a_server(tmp_path: Path) -> None:
    media, public = tmp_path / "media", tmp_path / "public"
    media.mkdir()
    public.mkdir()
    async with served(tmp_path / "server") as port:
        places = {
            # 5004 may belong to another test that runs beside this one.
            "7200)": f"{port})\nclient.set_media_port({free_udp_port()})",
            "'192.168.1.1'": "'127.0.0.1'",
            "'/home/media'": repr(str(media)),
            "'/var/www/public/": f"'{public}/",
        }
        calls = ("client.connect", "client.image_request", "client.video_request", "client.hls_request")
        example = Changes(IMPORTS, calls, places).to(BLOCKS["Client setup"])
        first = "print(len(fname))\n\n# Receive video from server and save as a file"
        example = example.replace("# Receive video from server and save as a file", first)
        ran = await run(example, tmp_path, seconds=200)
    assert ran.code == 0, ran.err
    assert ran.out == "3\n"
    assert len(list(media.glob("*.jpg"))) == 3
    assert await whole(media, "*.mp4") == 1
    assert (public / "stream0.m3u8").exists()
    assert await whole(public, "*.ts") >= 1
