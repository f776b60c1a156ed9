"""Videos whose every frame is one shade of grey, so that a frame can be told by its shade."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.support.gst import LAUNCH

MUXERS = {".mkv": ["jpegenc", "!", "matroskamux"], ".mp4": ["x264enc", "!", "h264parse", "!", "mp4mux"]}


async def write_levels(
    path: Path, levels: Sequence[int], *, fps: int = 10, size: tuple[int, int] = (64, 48), sound: bool = False
) -> Path:
    """A video of one frame for each shade, 16 to 235; with ``sound`` it has a tone as well."""
    width, height = size
    raw = b"".join(bytes([level]) * (width * height) for level in levels)
    picture = [f"format=gray8 width={width} height={height} framerate={fps}/1".split()]
    seconds = len(levels) / fps
    tone = ["audiotestsrc", f"num-buffers={round(seconds * 10)}", "samplesperbuffer=4410", "!", "vorbisenc"]
    process = await asyncio.create_subprocess_exec(
        *(LAUNCH, "-q", "fdsrc", f"blocksize={width * height}", "!", "rawvideoparse", *picture[0], "!"),
        *("videoconvert", "!", *MUXERS[path.suffix], "name=mux", "!", "filesink", f"location={path}"),
        *((*tone, "!", "mux.") if sound else ()),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate(raw)
    assert process.returncode == 0, errors.decode()
    return path


async def shades(path: Path, size: tuple[int, int], *spots: tuple[int, int]) -> list[list[int]]:
    """Of each frame of a video or picture, the shades at some spots; it is shown at ``size``."""
    width, height = size
    process = await asyncio.create_subprocess_exec(
        *(LAUNCH, "-q", "filesrc", f"location={path}", "!", "decodebin", "!", "videoconvert", "!"),
        *(f"video/x-raw,format=GRAY8,width={width},height={height}", "!", "fdsink", "sync=false"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    frame = width * height
    begins = range(0, len(output) // frame * frame, frame)
    return [[output[begin + y * width + x] for x, y in spots] for begin in begins]
