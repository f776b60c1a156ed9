"""ImageStream and VideoStream of a camera. See docs/protocols/nanocam.md, "The camera"."""

import asyncio
import errno
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from asynccam.errors import AsynccamError, RecordingError, StateError, StorageError, UsageError
from asynccam.model.coverage import EarlyEnd
from asynccam.recording import (
    EndReason,
    FileVerdict,
    Gap,
    Limits,
    Pipeline,
    Recorder,
    RecorderState,
    RtpSource,
    Verdict,
)
from asynccam.recording.gstreamer import Installation, find_installation
from asynccam.recording.outputs import PictureFiles, RawFrames, RecorderOutput, RtpOutput, SingleFile
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import TaskScope, finish, finish_on_error
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, deadline
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.csi.frames import FramePipe
from asynccam.systems.nanocam.csi.graph import CameraSource, stand_in_for
from asynccam.systems.nanocam.csi.hls import HlsPlaylist
from asynccam.systems.nanocam.filenames import drop_empty, publish, reserve, timestamp
from asynccam.systems.nanocam.server.options import MEDIA_PORT
from asynccam.wall_clock import unix_now

if TYPE_CHECKING:
    from asynccam.systems.nanocam.csi.frames import Frame

SETTLE: Final = 20
"""Frames at full rate until the exposure has settled; the last one is the picture."""

_FIRST_FRAME_SECONDS: Final = 20.0
_DRAIN_SECONDS: Final = 30.0
"""Time to read what a process has written after it has ended."""
_PICTURE_SECONDS: Final = 120.0
_MEMORY: Final = 1 << 30
_PREFIX: Final = "asynccam-picture-"
_STEM: Final = "frame"
_SOURCES: Final = ("camera", "udp")
_SINKS: Final = ("file", "opencv", "udp", "hls")
_AT_ONCE: Final = 1e-3


class BaseStream:
    """Stream that a camera is connected to.

    Attributes:
        media_path: Existing directory for files.
        memory: Maximum bytes of frames kept in memory.
        events: Hub for recorder events, if one was given.
    """

    def __init__(self, events: EventHub | None) -> None:
        self.media_path: str | Path | None = None
        self.memory = _MEMORY
        self.events = events
        self._connected: CSIcamera | None = None
        self._over: asyncio.Future[None] | None = None

    def connect_camera(self, camera: CSIcamera) -> None:
        """Take frames from this camera, as it is set when the stream is started."""
        self._connected = camera

    @property
    def running(self) -> bool:
        """Return whether the stream was started and is not over."""
        return self._over is not None and not self._over.done()

    @property
    def stand_in(self) -> str | None:
        """Return `CSIcamera.stand_in` of the connected camera; a running stream knows it."""
        return self._camera.stand_in

    @property
    def _camera(self) -> CSIcamera:
        if self._connected is None:
            raise StateError("no camera is connected; call connect_camera first")
        return self._connected

    def _begin(self) -> None:
        """Mark the beginning of a run; the caller marks its end."""
        if self.running:
            raise StateError("the stream is running already")
        self._over = asyncio.get_running_loop().create_future()

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def _directory(self) -> Path:
        if self.media_path is None:
            raise UsageError("media_path is not set; it is the directory for files")
        directory = Path(self.media_path)
        if not await on_disk(directory.is_dir):
            raise StorageError(f"{directory} is not a directory")
        return directory


# -- pictures -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class ImageResult:
    """Pictures of one stream, in the order they were taken at the Unix times ``taken_at``.

    The sink ``file`` gives files and verdicts, ``opencv`` frames: height x width x 3 bytes, blue first.
    """

    files: tuple[Path, ...]
    frames: "tuple[Frame, ...]"
    verdicts: tuple[FileVerdict, ...]
    taken_at: tuple[float, ...]


class ImageStream(BaseStream):
    """Takes a number of pictures, one every so many seconds, into JPEG files or as arrays.

    ::

        imgstream = ImageStream(3, 5, sink="file")
        imgstream.media_path = "/home/media"
        imgstream.connect_camera(cam)
        result = await imgstream.start_stream()

    For each picture the camera is opened anew and gives `settle` frames at its full rate. The last one is
    kept, because its exposure has settled. So the shortest interval is about a second on a Jetson. A picture
    that is not done when the next is due delays that one only: delays do not add up.

    Files are named by the second. While a picture is taken, its frames are in a temporary directory below
    `tmppath`; only files of the stream are removed there.

    Args:
        frames: Number of pictures.
        interval: Seconds from the beginning of one to that of the next; 0 for one after the other.
        sink: ``file``, or ``opencv`` for frames in memory, which needs the extra ``video``.
        events: Hub for recorder events.
        clock: Clock for intervals.

    Attributes:
        frames, interval, sink: As given.
        settle: Frames for each picture; ``num_buffers`` or ``timeout`` of the camera take precedence.
        tmppath: Parent of the temporary directory; the system's default if None.

    Raises:
        UsageError: An argument is out of range.
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
            raise UsageError(f"frames must be >= 1, not {frames!r}")
        if not 0 <= interval < float("inf"):
            raise UsageError(f"interval must be >= 0 s, not {interval!r}")
        if sink not in ("file", "opencv"):
            raise UsageError(f"sink must be 'file' or 'opencv', not {sink!r}")
        super().__init__(events)
        self.frames = frames
        self.interval = interval
        self.sink = sink
        self.settle = SETTLE
        self.tmppath: str | Path | None = None
        self._clock = clock
        self._stop: asyncio.Future[None] | None = None
        self._recorder: Recorder | None = None

    async def start_stream(self, *, timeout: float = _FIRST_FRAME_SECONDS) -> ImageResult:
        """Take the pictures; return fewer after `stop`. Cancelled, only finished pictures are left.

        ``timeout`` is for the first frame of each picture, in seconds.

        Raises:
            StateError: The stream is running, or no camera is connected.
            UsageError: ``media_path`` is not set, or ``settle`` is below 1.
            RecordingError: The camera or GStreamer fails, or NumPy is missing.
            TimeoutError: The camera gives no frame.
            StorageError: A directory is missing or cannot be written.
        """
        self._begin()
        try:
            self._stop = asyncio.get_running_loop().create_future()
            return await self._take_all(self._source(), timeout)
        finally:
            self._end()

    async def stop(self) -> None:
        """Abort the unfinished picture and take no more; returns when the stream is over."""
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
        pictures: list[ImageResult] = []
        began = self._clock.monotonic()
        for index in range(self.frames):
            if not await self._wait_until(began + index * self.interval):
                break
            if directory is not None:
                picture = await self._to_file(source, timeout, directory)
            else:
                picture = await self._to_memory(source, timeout, room)
            if picture is None:
                break
            pictures.append(picture)
            room -= sum(frame.nbytes for frame in picture.frames)
        return ImageResult(
            files=tuple(path for picture in pictures for path in picture.files),
            frames=tuple(frame for picture in pictures for frame in picture.frames),
            verdicts=tuple(verdict for picture in pictures for verdict in picture.verdicts),
            taken_at=tuple(at for picture in pictures for at in picture.taken_at),
        )

    async def _wait_until(self, due: float) -> bool:
        """Wait until a time of the clock; return False if the stream is stopped before."""
        assert self._stop is not None
        left = due - self._clock.monotonic()
        if left > 0 and not self._stop.done():
            async with TaskScope("interval") as scope:
                waiting = scope.spawn(self._clock.sleep(left), name="until the next picture")
                await asyncio.wait({waiting, self._stop}, return_when=asyncio.FIRST_COMPLETED)
        return not self._stop.done()

    async def _to_file(self, source: CameraSource, timeout: float, directory: Path) -> ImageResult | None:
        """Take one picture into a file; None if the stream is stopped before."""
        async with _temporary_directory(self.tmppath) as temporary:
            output = PictureFiles(temporary, _STEM, max_files=1)
            verdicts = await self._capture(Pipeline(source, output), timeout)
            if verdicts is None:
                return None
            taken_at = self._clock.time()
            if not verdicts or verdicts[-1].verdict is not Verdict.COMPLETE:
                detail = f"the picture {verdicts[-1].detail}" if verdicts else "there is no picture"
                raise RecordingError(f"{detail}; the camera gives none that is complete")
            path = await on_disk(publish, verdicts[-1].path, directory, timestamp(taken_at))
            return ImageResult((path,), (), (replace(verdicts[-1], path=path),), (taken_at,))

    async def _to_memory(self, source: CameraSource, timeout: float, room: int) -> ImageResult | None:
        """Take one picture into memory; None if the stream is stopped before."""
        pipe = FramePipe("last", room)
        try:
            await pipe.open()
            pipeline = Pipeline(source, RawFrames(pipe.fd))
            if await self._capture(pipeline, timeout, pipe.close_writing_end) is None:
                return None
            await pipe.drained(_DRAIN_SECONDS)
        finally:
            await pipe.aclose()
        if pipe.full:
            raise RecordingError(f"the pictures take more than {self.memory} bytes of memory")
        if not pipe.frames:
            raise RecordingError("the camera gave no picture")
        return ImageResult((), tuple(pipe.frames), (), (self._clock.time(),))

    async def _capture(
        self, pipeline: Pipeline, timeout: float, on_started: Callable[[], None] = lambda: None
    ) -> tuple[FileVerdict, ...] | None:
        """Run the camera to its last frame; None if the stream is stopped before."""
        assert self._stop is not None
        try:
            async with Recorder(pipeline, name="picture", events=self.events) as self._recorder:
                await self._recorder.start(timeout=timeout)
                on_started()
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


@asynccontextmanager
async def _temporary_directory(parent: str | Path | None) -> AsyncIterator[Path]:
    """Make a directory for frames; remove it afterwards with the files of the picture, and no others."""
    made: list[Path] = []

    def make() -> None:
        root = Path(parent or tempfile.gettempdir())
        with storage_errors("make a directory in", root):
            made.append(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root)))

    try:
        await on_disk(make)
        yield made[0]
    finally:
        for directory in made:
            await on_disk(_remove_directory, directory)


def _remove_directory(directory: Path) -> None:
    with storage_errors("remove", directory):
        for path in PictureFiles(directory, _STEM).files().sizes():
            path.unlink(missing_ok=True)
        try:
            directory.rmdir()
        except OSError as error:
            # Another program's file is in it; that is not ours to remove.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise


# -- video --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class VideoResult:
    """Result of one video stream.

    The sinks ``file`` and ``hls`` give files, oldest first, and verdicts; ``opencv`` frames: height x width x
    3 bytes each, blue first. ``first_frame_at`` is in Unix seconds.
    """

    files: tuple[Path, ...]
    frames: "tuple[Frame, ...]"
    verdicts: tuple[FileVerdict, ...]
    first_frame_at: float
    gaps: tuple[Gap, ...]
    reason: EndReason
    ended_early: EarlyEnd | None = None


class VideoStream(BaseStream):
    """Video for so many seconds, from a camera or from UDP, to one of four sinks.

    ::

        vidstream = VideoStream(10, src="camera", sink="file")
        vidstream.media_path = "/home/media"
        vidstream.connect_camera(cam)
        result = await vidstream.start_stream()

    ``file`` is an MP4 named by the second (Matroska for VP8 and VP9) in `media_path`; ``opencv`` frames in
    memory, which needs the extra ``video``; ``udp`` RTP to `host` and `port`; ``hls`` a playlist and segments
    at `hls_playloc` and `hls_loc`. It can be started again when it is over. A context manager: leaving it
    ends what runs.

    Args:
        duration: Seconds from the first frame, or None until it is stopped.
        src: ``camera``, or ``udp`` for RTP to `source_port`.
        sink: Destination, as above.
        size: Bytes of files at which it ends, with complete files, checked every second; None for no limit.
        events: Hub for recorder events.

    Attributes:
        duration, src, sink, size: As given.
        host, port: Destination of ``udp``.
        ssrc: SSRC of ``udp``, or None for any. With one, RTCP goes to the same port if the source stamps
            pictures when it makes them; the test picture with a time code does not.
        source_address, source_port, source_codec: Local address and codec of the source ``udp``.
        hls_root: URL of the segments' directory, put before their names in the playlist.
        hls_playloc: Path of the playlist.
        hls_loc: Path of the segments, with a number like ``%05d`` in its name.
        hls_len: Number of segments in the playlist.
        hls_maxfiles: Number of segments to keep.
        hls_duration: Seconds of a segment.

    Raises:
        UsageError: An argument is out of range.
    """

    def __init__(
        self,
        duration: float | None,
        *,
        src: Literal["camera", "udp"] = "camera",
        sink: Literal["file", "opencv", "udp", "hls"] = "file",
        size: int | None = None,
        events: EventHub | None = None,
    ) -> None:
        if src not in _SOURCES or sink not in _SINKS:
            known = f"src must be one of {', '.join(_SOURCES)}, sink one of {', '.join(_SINKS)}"
            raise UsageError(f"{known}; not {src!r} and {sink!r}")
        Limits(seconds=duration, size=size)  # raises for a limit out of range
        super().__init__(events)
        self.duration = duration
        self.src = src
        self.sink = sink
        self.size = size
        self.host = ""
        self.port = MEDIA_PORT
        self.ssrc: int | None = None
        self.source_address = "0.0.0.0"  # noqa: S104 - cameras send from other computers
        self.source_port = MEDIA_PORT
        self.source_codec: Literal["h264", "h265"] = "h264"
        self.hls_root = ""
        self.hls_playloc: str | Path | None = None
        self.hls_loc: str | Path | None = None
        self.hls_len = 10
        self.hls_maxfiles = 10
        self.hls_duration = 5
        self._recorder: Recorder | None = None
        self._pipe: FramePipe | None = None
        self._reserved: Path | None = None
        self._finishing: asyncio.Lock = asyncio.Lock()
        self._result: VideoResult | None = None

    def set_host(self, host: str) -> None:
        """Set the address that ``udp`` is sent to."""
        self.host = host

    def set_port(self, port: int) -> None:
        """Set the UDP port that media go to; for a stream that only receives, the one it listens on."""
        if self.src == "udp" and self.sink != "udp":
            self.source_port = port
        else:
            self.port = port

    async def start(self, *, timeout: float = _FIRST_FRAME_SECONDS) -> float:
        """Start; return the time of the first frame, Unix seconds. If it raises, nothing is left.

        ``timeout`` is for the first frame, in seconds.

        Raises:
            StateError: The stream is running, or no camera is connected.
            UsageError: A path or an address is missing, or the sink does not support the source.
            RecordingError: The camera or GStreamer fails, or NumPy is missing.
            TimeoutError: No frame arrived.
            TargetExistsError, StorageError: The output exists, or its directory is missing or not writable.
        """
        self._begin()
        self._recorder = self._pipe = self._reserved = self._result = None
        async with finish_on_error(self._release):
            tools = await find_installation()
            source = self._source()
            output = await self._output(source, tools)
            limits = Limits(seconds=self.duration, size=self.size)
            recorder = Recorder(Pipeline(source, output), name="video", limits=limits, events=self.events)
            self._recorder = recorder
            at = await recorder.start(timeout=timeout)
            if self._pipe is not None:
                self._pipe.close_writing_end()
                if self._pipe.full:
                    self._memory_full()
        return at

    async def wait(self) -> VideoResult:
        """Wait until the stream ends by itself.

        Raises:
            StateError: The stream was never started.
            RecordingError, StorageError: The stream ended by this error; files stay, see `verdicts`.
        """
        if self._recorder is None:
            raise StateError("the stream was never started")
        recorder = self._recorder
        await recorder.wait()
        return await finish(self._finish(recorder))

    async def stop(self) -> VideoResult | None:
        """End the stream and finish its files; harmless when it is over, or was never started.

        Returns:
            As `wait`, or None if the stream was not started or had failed: see `error`.
        """
        if self._recorder is None or self._recorder.state is RecorderState.IDLE:
            return None
        recorder = self._recorder
        await recorder.stop()
        with suppress(AsynccamError):
            return await finish(self._finish(recorder))
        return None

    async def start_stream(self, *, timeout: float = _FIRST_FRAME_SECONDS) -> VideoResult:
        """Run the stream from start to end; cancelled, what was recorded is finished and stays.

        Raises:
            AsynccamError: As `start` and `wait`.
        """
        await self.start(timeout=timeout)
        try:
            return await self.wait()
        finally:
            await finish(self._release())

    def reset_timer(self, duration: float) -> bool:
        """Let the stream go on for ``duration`` seconds from now; return whether it was running.

        Raises:
            UsageError: ``duration`` is not above 0.
        """
        Limits(seconds=duration)  # raises for a duration out of range
        return self._recorder is not None and self._recorder.reset_timer(duration)

    @property
    def error(self) -> AsynccamError | None:
        """Return the error that ended the last run, or None."""
        return self._recorder.error if self._recorder is not None else None

    @property
    def verdicts(self) -> tuple[FileVerdict, ...]:
        """Return the verdict on each file of the last run; empty until it is over."""
        return self._recorder.verdicts if self._recorder is not None else ()

    async def aclose(self) -> None:
        """End what runs, and release everything; harmless when called twice."""
        await finish(self._release())

    async def __aenter__(self) -> "VideoStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _source(self) -> CameraSource | RtpSource:
        if self.src == "camera":
            return self._camera.source("raw" if self.sink == "opencv" else "video")
        return RtpSource(self.source_port, self.source_address, self.source_codec)

    async def _output(self, source: CameraSource | RtpSource, tools: Installation) -> RecorderOutput:
        match self.sink:
            case "opencv":
                self._pipe = FramePipe("all", self.memory, self._memory_full)
                await self._pipe.open()
                return RawFrames(self._pipe.fd)
            case "udp":
                stamps = source.stream(tools.elements).feed is None
                reports = self.ssrc is not None and stamps
                return RtpOutput(self.host, self.port, ssrc=self.ssrc, reports=reports)
            case "hls":
                if self.hls_playloc is None or self.hls_loc is None:
                    raise UsageError("hls_playloc and hls_loc are not set; they are the paths for HLS")
                return HlsPlaylist(
                    self.hls_root,
                    Path(self.hls_playloc),
                    str(self.hls_loc),
                    length=self.hls_len,
                    max_files=self.hls_maxfiles,
                    segment_seconds=self.hls_duration,
                )
            case _:  # "file"
                suffix = ".mkv" if source.codec in ("vp8", "vp9") else ".mp4"
                path = await self._reserve(await self._directory(), suffix)
                # A Jetson's GStreamer is too old for files that are valid at every moment.
                jetson = stand_in_for(None, tools.elements) is None
                return SingleFile(path, plain=jetson, reserved=True)

    async def _reserve(self, directory: Path, suffix: str) -> Path:
        """Reserve a new name, and remember it even when cancelled meanwhile."""

        def take() -> Path:
            self._reserved = reserve(directory, timestamp(unix_now()), suffix)
            return self._reserved

        return await on_disk(take)

    def _memory_full(self) -> None:
        """End the recording: there is no memory for the next frame."""
        if self._recorder is not None:
            self._recorder.reset_timer(_AT_ONCE)

    async def _finish(self, recorder: Recorder) -> VideoResult:
        """Return the result, once the recorder is done."""
        async with self._finishing:
            if self._result is None:
                try:
                    if recorder.error is not None:
                        raise recorder.error
                    if self._pipe is not None:
                        await self._pipe.drained(_DRAIN_SECONDS)
                    assert recorder.first_frame_at is not None
                    assert recorder.reason is not None
                    self._result = VideoResult(
                        files=tuple(verdict.path for verdict in recorder.verdicts),
                        frames=tuple(self._pipe.frames) if self._pipe is not None else (),
                        verdicts=recorder.verdicts,
                        first_frame_at=recorder.first_frame_at,
                        gaps=recorder.gaps,
                        reason=recorder.reason,
                        ended_early=recorder.ended_early,
                    )
                finally:
                    await self._release()
            return self._result

    async def _release(self) -> None:
        try:
            if self._recorder is not None:
                await self._recorder.aclose()
        finally:
            try:
                if self._pipe is not None:
                    await self._pipe.aclose()
                if self._reserved is not None:
                    await on_disk(drop_empty, self._reserved)
            finally:
                self._end()
