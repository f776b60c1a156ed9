"""Takes with OAK devices, whose recordings come as a ZIP with a raw stream in it."""

import asyncio
import io
import zipfile
from pathlib import Path

import pytest

from asynccam.model.manifest import Manifest, Outcome
from asynccam.recording import verify_file
from asynccam.systems.multicam.camera import MultiCamCamera
from asynccam.take import Take
from tests.support.command import asynccam
from tests.systems.multicam.peers import Oak, Peer


async def raw_stream(seconds: float) -> bytes:
    """H.264 at 30 frames a second, with nothing around it."""
    line = f"videotestsrc num-buffers={round(seconds * 30)} ! video/x-raw,width=64,height=48,framerate=30/1 !"
    line += " x264enc key-int-max=30 ! video/x-h264,stream-format=byte-stream ! fdsink"
    process = await asyncio.create_subprocess_exec(
        "gst-launch-1.0", "-q", *line.split(), stdout=asyncio.subprocess.PIPE
    )
    data, _ = await process.communicate()
    assert data
    return data


def packed(stream: bytes) -> bytes:
    packs = io.BytesIO()
    with zipfile.ZipFile(packs, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("video_1.h264", stream)
    return packs.getvalue()


@pytest.fixture
async def oak() -> Oak:
    device = Oak()
    device.packs = packed(await raw_stream(1.5))
    return device


async def test_take_with_an_oak_is_complete(oak: Oak, tmp_path: Path) -> None:
    async with Peer(oak.talk) as peer:
        camera = await MultiCamCamera.connect(f"multicam://127.0.0.1:{peer.port}")
        take = await Take([camera], tmp_path, verify=verify_file).run(duration=1.0, start_in=0.5)
        await camera.aclose()
    manifest = await Manifest.load(take.directory)
    (record,) = manifest.cameras
    (file,) = record.files
    assert (file.name, file.size) == ("video_1.zip", len(oak.packs))
    assert file.verdict is not None
    assert file.verdict.verdict in ("complete", "unknown")
    assert (record.outcome, manifest.outcome, take.ok) == (Outcome.COMPLETE, Outcome.COMPLETE, True)


async def test_record_command_with_an_oak_is_complete(oak: Oak, tmp_path: Path) -> None:
    async with Peer(oak.talk) as peer:
        line = ("record", f"multicam://127.0.0.1:{peer.port}", "--to", tmp_path, "--name", "take")
        ended = await asynccam(*line, "--duration", 1, "--start-in", 0.5)
    assert (ended.code, ended.err) == (0, ""), ended.out
    assert "1 of 1 camera" in ended.out
