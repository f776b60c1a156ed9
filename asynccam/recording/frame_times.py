"""Presentation times of the frames in a recorded file, read from its container. See docs/recording.md."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from functools import partial
from pathlib import Path
from typing import Final

from asynccam.errors import NotFoundError, StorageError, UsageError
from asynccam.model.info import FrameTime
from asynccam.recording.containers.reader import AbortedError, FileView, NoTimesError, SteppedReader
from asynccam.recording.containers.scan import read_frames
from asynccam.runtime.tasks import finish
from asynccam.runtime.timing import deadline

_BATCH: Final = 1024  # frames that one step in a thread reads


async def frame_times(path: str | Path, *, timeout: float = 60.0) -> AsyncGenerator[FrameTime, None]:
    """Yield the presentation time of every frame of a file, in the order in which frames are shown.

    Reads MP4 and QuickTime with their edit lists, Matroska, WebM, MPEG-TS, AVI and Flash video, off the loop
    and in constant memory. The frames are those that `asynccam.recording.verify_file` counts. A file that is
    cut off, or is still being written, gives the frames that are there.

    Args:
        path: The file.
        timeout: Seconds that reading the next 1,024 frames may take.

    Raises:
        NotFoundError: The file does not exist.
        StorageError: It cannot be read.
        UsageError: It has no frame times: a picture, a raw stream, an MP4 without index.
        TimeoutError: Reading took longer.
    """
    path = Path(path)
    reader = SteppedReader(partial(_frames, path), _BATCH)
    try:
        batch: list[FrameTime] = []
        while True:
            async with deadline(timeout, f"frame times of {path.name}"):
                batch = await asyncio.to_thread(reader.step)
            if not batch:
                return
            for frame in batch:
                yield frame
    finally:
        reader.abort.set()
        await finish(asyncio.to_thread(reader.close))


def _frames(path: Path, abort: threading.Event) -> Generator[FrameTime, None, None]:
    try:
        with FileView(path, abort) as view:
            for index, shown in enumerate(read_frames(view)):
                yield FrameTime(index, shown.time, shown.duration, shown.resolution)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except NoTimesError as error:
        raise UsageError(f"{path} has no frame times: it {error}") from None
    except AbortedError:
        return
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
