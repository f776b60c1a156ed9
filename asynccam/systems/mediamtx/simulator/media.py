"""What a simulated camera gives: a short real MP4 and a real JPEG, each made once by GStreamer."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from fractions import Fraction
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError, StorageError
from asynccam.recording.elements import Graph, GstElement, caps
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.outputs import SingleFile
from asynccam.recording.pipeline import Pipeline
from asynccam.recording.process import LaunchProcess
from asynccam.recording.recorder import Limits, Recorder
from asynccam.recording.sources import TestPattern
from asynccam.runtime.timing import deadline

_CLIP_SECONDS: Final = 0.5
_WIDTH: Final = 320
_HEIGHT: Final = 180
_FPS: Final = 15
_PICTURE_SECONDS: Final = 20.0


class Clips:
    """Copies of one recording and one picture.

    Args:
        directory: Where they are kept.
        clip: A recording to use, or None to make one when it is first needed.
        picture: A picture to use, or None likewise.
    """

    def __init__(self, directory: Path, clip: Path | None, picture: Path | None) -> None:
        self._directory = directory
        self._clip = clip
        self._picture = picture
        self._making = asyncio.Lock()

    async def prepare(self) -> None:
        """Make the recording if there is none, so that a copy is there at once later on.

        Raises:
            RecordingError: GStreamer or an element is missing, or it failed.
        """
        await self._the_clip()

    async def record_to(self, path: Path) -> None:
        """Put a copy of the recording there.

        Raises:
            RecordingError: It cannot be made.
            StorageError: The file cannot be written.
        """
        await _copy(await self._the_clip(), path)

    async def picture_to(self, path: Path) -> None:
        """Put a copy of the picture there; raises what `record_to` does."""
        async with self._making:
            if self._picture is None:
                self._picture = await self._made("picture.jpg", make_picture)
        await _copy(self._picture, path)

    async def _the_clip(self) -> Path:
        async with self._making:
            if self._clip is None:
                self._clip = await self._made("clip.mp4", make_clip)
            return self._clip

    async def _made(self, name: str, make: Callable[[Path], Awaitable[None]]) -> Path:
        path = self._directory / name
        if await asyncio.to_thread(path.exists):  # of the service that was here before
            return path
        fresh = self._directory / f"new-{name}"
        await asyncio.to_thread(fresh.unlink, missing_ok=True)
        await make(fresh)
        return await asyncio.to_thread(fresh.replace, path)


async def make_clip(path: Path) -> None:
    """Record half a second of a test picture with a time code.

    Raises:
        RecordingError: GStreamer or an element is missing, or it failed.
        StorageError: The file cannot be written.
    """
    source = TestPattern(label="simulated", width=_WIDTH, height=_HEIGHT, fps=Fraction(_FPS), bitrate=300)
    limits = Limits(seconds=_CLIP_SECONDS)
    async with Recorder(Pipeline(source, SingleFile(path)), name=path.name, limits=limits) as recorder:
        await recorder.start(timeout=_PICTURE_SECONDS)
        verdicts = await recorder.wait()
    if not verdicts or not verdicts[-1].frames:
        raise RecordingError(f"no recording could be made: {recorder.error or 'it has no frame'}")


async def make_picture(path: Path) -> None:
    """Encode one test picture to JPEG.

    Raises:
        RecordingError: GStreamer or an element is missing, or it failed.
    """
    chain = (
        GstElement("videotestsrc", {"num-buffers": 1}),
        caps("video/x-raw", format="I420", width=_WIDTH, height=_HEIGHT),
        GstElement("jpegenc"),
        GstElement("filesink", {"location": str(path)}),
    )
    graph = Graph((chain,))
    tools = await find_installation(graph.factories)
    argv = [*tools.guard, tools.launch, "-q", *graph.arguments()]
    process = await LaunchProcess.start(argv, lambda _: None)
    try:
        async with deadline(_PICTURE_SECONDS, "test picture from GStreamer"):
            status = await process.wait()
    finally:
        await process.stop()
    if status:
        raise RecordingError("no picture could be made", output=process.output)


async def _copy(source: Path, target: Path) -> None:
    try:
        await asyncio.to_thread(shutil.copyfile, source, target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error}") from error
