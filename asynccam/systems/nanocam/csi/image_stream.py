"""ImageStream: pictures at an interval. See docs/protocols/nanocam.md, "The camera"."""

import asyncio
import errno
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from asynccam.errors import RecordingError, UsageError
from asynccam.recording import EndReason, FileVerdict, Pipeline, Recorder, RecorderState, Verdict
from asynccam.recording.outputs import PictureFiles, RawFrames
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, deadline
from asynccam.systems.nanocam.csi.frames import FramePipe
from asynccam.systems.nanocam.csi.graph import CameraSource
from asynccam.systems.nanocam.csi.stream_base import DRAIN, FIRST_FRAME, BaseStream
from asynccam.systems.nanocam.filenames import settle, stamp

if TYPE_CHECKING:
    from asynccam.systems.nanocam.csi.frames import Frame

SETTLE: Final = 20
"""Frames at full rate until the exposure has settled; the last one is the picture."""
_PICTURE_SECONDS: Final = 120.0
_PREFIX: Final = "asynccam-picture-"
_STEM: Final = "frame"


@dataclass(frozen=True, slots=True, eq=False)
class ImageResult:
    """The pictures of one stream, in the order they were taken.

    Attributes:
        files: Where they are, for the sink ``file``.
        frames: What they are, for the sink ``opencv``: height x width x 3 bytes, blue first.
        verdicts: What each file is worth.
        taken_at: When each was there, Unix seconds.
    """

    files: tuple[Path, ...]
    frames: "tuple[Frame, ...]"
    verdicts: tuple[FileVerdict, ...]
    taken_at: tuple[float, ...]


class ImageStream(BaseStream):
    """Takes so many pictures, one every so many seconds, into JPEG files or as arrays.

    ::

        imgstream = ImageStream(3, 5, sink="file")
        imgstream.media_path = "/home/media"
        imgstream.connect_camera(cam)
        result = await imgstream.start_stream()

    For each picture the camera is opened anew and gives `settle` frames at its full rate, the last of which
    is kept, because its exposure has settled by then. So the shortest interval is about a second on a Jetson;
    a picture that is not done when the next is due delays that one, and none after it: times are kept by the
    clock, and delays do not add up.

    Files are named by the second. While a picture is taken, its frames are in a directory of their own
    below `tmppath`; only that is removed, and only what the stream wrote there.

    Args:
        frames: How many pictures.
        interval: Seconds from the beginning of one to that of the next; 0 for one after the other.
        sink: ``file``, or ``opencv`` for frames in memory, which needs the extra ``video``.
        events: Where its recorders tell what happens.
        clock: What intervals are kept by.

    Attributes:
        frames, interval, sink: As given.
        settle: Frames for each picture; the camera's own ``num_buffers`` or ``timeout`` goes first.
        tmppath: Directory for what is not yet a picture; the system's own for temporary files if None.

    Raises:
        UsageError: One of these cannot be.
    """

    def __init__(
        self,
        frames: int,
        interval: float,
        *,
        sink: Literal["file", "opencv"] = "file",
        events: EventHub | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if frames < 1:
            raise UsageError(f"a stream takes 1 picture or more, not {frames!r}")
        if not 0 <= interval < float("inf"):
            raise UsageError(f"an interval is 0 s or more, not {interval!r}")
        if sink not in ("file", "opencv"):
            raise UsageError(f"pictures go to file or opencv, not to {sink!r}")
        super().__init__(events)
        self.frames = frames
        self.interval = interval
        self.sink = sink
        self.settle = SETTLE
        self.tmppath: str | Path | None = None
        self._clock = clock
        self._stop: asyncio.Future[None] | None = None
        self._recorder: Recorder | None = None

    async def start_stream(self, *, timeout: float = FIRST_FRAME) -> ImageResult:
        """Take the pictures; cancelled, those that were finished stay, and nothing else.

        Args:
            timeout: Seconds the camera may take to give its first frame, each time.

        Returns:
            The pictures; fewer than asked for after `stop`.

        Raises:
            StateError: It is running, or no camera is connected.
            UsageError: ``media_path`` is not set, or ``settle`` is below 1.
            RecordingError: The camera or GStreamer does not work, or NumPy is missing.
            TimeoutError: The camera gives nothing.
            StorageError: A directory is missing or cannot be written.
        """
        self._begin()
        try:
            self._stop = asyncio.get_running_loop().create_future()
            return await self._take_all(self._source(), timeout)
        finally:
            self._end()

    async def stop(self) -> None:
        """Take no further picture, give up the unfinished one, and return when the stream is over."""
        if self._over is None or self._stop is None:
            return
        if not self._stop.done():
            self._stop.set_result(None)
        if self._recorder is not None and self._recorder.state is not RecorderState.IDLE:
            await self._recorder.stop()
        await asyncio.shield(self._over)

    def _source(self) -> CameraSource:
        if self.settle < 1:
            raise UsageError(f"a picture is the last of 1 frame or more, not of {self.settle}")
        return self._camera.source("pictures" if self.sink == "file" else "raw", frames=self.settle)

    async def _take_all(self, source: CameraSource, timeout: float) -> ImageResult:
        directory = await self._directory() if self.sink == "file" else None
        room = self.memory
        pictures: list[_Picture] = []
        began = self._clock.monotonic()
        for number in range(self.frames):
            if not await self._wait_until(began + number * self.interval):
                break
            if directory is not None:
                picture = await self._to_file(source, timeout, directory)
            else:
                picture = await self._to_memory(source, timeout, room)
            if picture is None:
                break
            pictures.append(picture)
            room -= sum(frame.nbytes for frame in picture.frames)
        verdicts = tuple(verdict for one in pictures for verdict in one.verdicts)
        return ImageResult(
            files=tuple(verdict.path for verdict in verdicts),
            frames=tuple(frame for one in pictures for frame in one.frames),
            verdicts=verdicts,
            taken_at=tuple(one.taken_at for one in pictures),
        )

    async def _wait_until(self, due: float) -> bool:
        """Wait until a time of the clock; False if the stream is stopped before."""
        assert self._stop is not None
        left = due - self._clock.monotonic()
        if left > 0 and not self._stop.done():
            async with TaskScope("interval") as scope:
                waiting = scope.spawn(self._clock.sleep(left), name="until the next picture")
                await asyncio.wait({waiting, self._stop}, return_when=asyncio.FIRST_COMPLETED)
        return not self._stop.done()

    async def _to_file(self, source: CameraSource, timeout: float, directory: Path) -> "_Picture | None":
        async with _folder(self.tmppath) as folder:
            output = PictureFiles(folder, _STEM, max_files=1)
            verdicts = await self._capture(Pipeline(source, output), timeout)
            if verdicts is None:
                return None
            taken_at = self._clock.time()
            if not verdicts or verdicts[-1].verdict is not Verdict.COMPLETE:
                detail = f"the picture {verdicts[-1].detail}" if verdicts else "there is no picture"
                raise RecordingError(f"{detail}; the camera gives none that is whole")
            path = await on_disk(settle, verdicts[-1].path, directory, stamp(taken_at))
            return _Picture(taken_at, verdicts=(replace(verdicts[-1], path=path),))

    async def _to_memory(self, source: CameraSource, timeout: float, room: int) -> "_Picture | None":
        pipe = FramePipe("last", room)
        try:
            await pipe.open()
            pipeline = Pipeline(source, RawFrames(pipe.fd))
            if await self._capture(pipeline, timeout, pipe.handed_over) is None:
                return None
            await pipe.drained(DRAIN)
        finally:
            await pipe.aclose()
        if pipe.full:
            raise RecordingError(f"the pictures take more than {self.memory} bytes of memory")
        if not pipe.frames:
            raise RecordingError("the camera gave no picture")
        return _Picture(self._clock.time(), frames=tuple(pipe.frames))

    async def _capture(
        self, pipeline: Pipeline, timeout: float, started: Callable[[], None] = lambda: None
    ) -> tuple[FileVerdict, ...] | None:
        """Run the camera to its last frame; None if the stream is stopped before."""
        assert self._stop is not None
        try:
            async with Recorder(pipeline, name="picture", events=self.events) as self._recorder:
                await self._recorder.start(timeout=timeout)
                started()
                async with deadline(_PICTURE_SECONDS, "picture"):
                    verdicts = await self._recorder.wait()
                if self._recorder.error is not None:
                    raise self._recorder.error
                return verdicts if self._recorder.reason is EndReason.END_OF_STREAM else None
        except RecordingError:
            if self._stop.done():
                return None
            raise
        finally:
            self._recorder = None


@dataclass(frozen=True, slots=True)
class _Picture:
    """One, as a file or as an array."""

    taken_at: float
    verdicts: tuple[FileVerdict, ...] = ()
    frames: "tuple[Frame, ...]" = ()


@asynccontextmanager
async def _folder(parent: str | Path | None) -> AsyncIterator[Path]:
    """A directory of its own for frames, removed with what a picture leaves there, and with nothing else."""
    made: list[Path] = []
    try:
        await on_disk(_make_folder, Path(parent or tempfile.gettempdir()), made)
        yield made[0]
    finally:
        for folder in made:
            await on_disk(_remove_folder, folder)


def _make_folder(parent: Path, made: list[Path]) -> None:
    with storage_errors("make a directory in", parent):
        made.append(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))


def _remove_folder(folder: Path) -> None:
    with storage_errors("remove", folder):
        for path in PictureFiles(folder, _STEM).files().sizes():
            path.unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError as error:
            # Somebody else has put a file there; that is not ours to remove.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
