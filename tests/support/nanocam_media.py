"""Real pictures and videos, made once by GStreamer and Pillow, and files with the protocol's words inside."""

import functools
import io
import random
import struct
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

WORDS = (b"DONE", b"MORE", b"QUIT", b"BUSY", b"OK")


@functools.cache
def jpeg(seed: int = 0, *, side: int = 48, progressive: bool = False, restarts: bool = False) -> bytes:
    """A picture of noise: every byte comes in it, stuffed ones too."""
    pixels = random.Random(seed).randbytes(side * side * 3)
    picture = Image.frombytes("RGB", (side, side), pixels)
    buffer = io.BytesIO()
    picture.save(
        buffer,
        "JPEG",
        quality=90,
        progressive=progressive,
        **({"restart_marker_blocks": 1} if restarts else {}),
    )
    return buffer.getvalue()


@functools.cache
def mp4(frames: int = 15) -> bytes:
    """A video as the original's muxer leaves it: ``ftyp free mdat moov``."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.mp4"
        source = f"videotestsrc num-buffers={frames} ! video/x-raw,width=96,height=64,framerate=15/1"
        pipeline = f"{source} ! x264enc ! qtmux ! filesink location={path}"
        subprocess.run(["gst-launch-1.0", "-q", *pipeline.split()], check=True, timeout=60)
        return path.read_bytes()


def boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """Top-level boxes: kind, start and end."""
    found, place = [], 0
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size == 1:
            size = struct.unpack_from(">Q", data, place + 8)[0]
        found.append((kind, place, place + (size or len(data) - place)))
        place = found[-1][2]
    return found


def box(kind: bytes, content: bytes = b"", *, large: bool = False) -> bytes:
    """A box of an MP4."""
    if large:
        return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content), kind) + content


def comment(data: bytes) -> bytes:
    """A JPEG segment that holds anything."""
    return b"\xff\xfe" + struct.pack(">H", 2 + len(data)) + data
