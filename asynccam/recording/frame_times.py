"""Presentation times of the frames in a recorded file, read from its container. See docs/recording.md."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from asynccam.errors import NotFoundError, StorageError, UsageError
from asynccam.model.info import FrameTime
from asynccam.recording.containers.reader import AbortedError, FileView, NoTimesError
from asynccam.recording.containers.scan import read_frames
from asynccam.runtime.tasks import finish
from asynccam.runtime.timing import deadline

_BATCH: Final = 1024  # frames that one step in a thread reads
_CLOSE_TIMEOUT: Final = 5.0
"""Seconds to wait for a thread whose disk does not answer; the thread closes the file itself later."""


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
    reader = _FrameReader(Path(path))
    try:
        batch: list[FrameTime] = []
        while True:
            async with deadline(timeout, f"frame times of {reader.path.name}"):
                batch = await asyncio.to_thread(reader.step)
            if not batch:
                return
            for frame in batch:
                yield frame
    finally:
        reader.abort.set()
        await finish(asyncio.to_thread(reader.close))


class _FrameReader:
    """Reader of a file's frames, step by step, each step in some thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.abort = threading.Event()
        self._frames = _frames(path, self.abort)
        self._lock = threading.Lock()

    def step(self) -> list[FrameTime]:
        """Return the next frames; an empty list at the end."""
        try:
            with self._lock:
                return list(islice(self._frames, _BATCH))
        finally:
            if self.abort.is_set():  # the caller has given up, and so may `close`
                self.close()

    def close(self) -> None:
        """Close the file once no step is reading it."""
        if self._lock.acquire(timeout=_CLOSE_TIMEOUT):
            try:
                self._frames.close()
            finally:
                self._lock.release()


def _frames(path: Path, abort: threading.Event) -> Generator[FrameTime, None, None]:
    try:
        with FileView(path, abort) as view:
            yield from _indexed(view)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except NoTimesError as error:
        raise UsageError(f"{path} has no frame times: it {error}") from None
    except AbortedError:
        return
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def _indexed(view: FileView) -> Iterator[FrameTime]:
    for index, shown in enumerate(read_frames(view)):
        yield FrameTime(index, shown.time, shown.duration, shown.resolution)
