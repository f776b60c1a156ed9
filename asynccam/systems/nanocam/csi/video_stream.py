"""VideoStream: video of a camera, or received over UDP, to wherever it is wanted.

See docs/protocols/nanocam.md, "The camera".
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal

from asynccam.errors import AsynccamError, StateError, UsageError
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
)
from asynccam.recording.gstreamer import Installation, find_installation
from asynccam.recording.outputs import RawFrames, RecorderOutput, RtpOutput, SingleFile
from asynccam.runtime.disk import on_disk
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import finish
from asynccam.systems.nanocam.csi.frames import FramePipe
from asynccam.systems.nanocam.csi.graph import CameraSource, stand_in_for
from asynccam.systems.nanocam.csi.hls import HlsPlaylist
from asynccam.systems.nanocam.csi.stream_base import DRAIN, FIRST_FRAME, BaseStream
from asynccam.systems.nanocam.filenames import drop_empty, reserve, stamp
from asynccam.systems.nanocam.server.options import MEDIA_PORT
from asynccam.wall_clock import unix_now

if TYPE_CHECKING:
    from asynccam.systems.nanocam.csi.frames import Frame

_SOURCES: Final = ("camera", "udp")
_SINKS: Final = ("file", "opencv", "udp", "hls")
_A_MOMENT: Final = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class VideoResult:
    """What became of one stream.

    Attributes:
        files: For the sinks ``file`` and ``hls``, oldest first.
        frames: For the sink ``opencv``: height x width x 3 bytes each, blue first.
        verdicts: What each file is worth.
        first_frame_at: When the first frame was there, Unix seconds.
        gaps: Times without frames.
        reason: Why it ended.
        ended_early: That it ends clearly before it was to, or None.
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
    where `hls_playloc` and `hls_loc` say. It can be started again when it is over. A context manager: leaving
    it ends what runs.

    Args:
        duration: Seconds from the first frame, or None until it is stopped.
        src: ``camera``, or ``udp`` for RTP that comes to `source_port`.
        sink: Where it goes.
        size: It ends, whole, at so many bytes of files, noticed within a second; None for never.
        events: Where its recorder tells what happens.

    Attributes:
        duration, src, sink, size: As given.
        host, port: Where ``udp`` is sent.
        ssrc: SSRC that ``udp`` is sent with, or None for any. With one, RTCP goes to the same port where the
            source stamps pictures when it makes them; the test picture with a time code does not.
        source_address, source_port, source_codec: Where it is received, and what comes.
        hls_root: URL of the directory of the segments, put before their names in the playlist.
        hls_playloc: Path of the playlist.
        hls_loc: Path of the segments, with a number like ``%05d`` in its name.
        hls_len: Segments the playlist names.
        hls_maxfiles: Segments that are kept.
        hls_duration: Seconds of a segment.

    Raises:
        UsageError: One of these cannot be.
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
            known = f"{', '.join(_SOURCES)} to {', '.join(_SINKS)}"
            raise UsageError(f"a video goes from {known}; not from {src!r} to {sink!r}")
        Limits(seconds=duration, size=size)
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
        self._concluding: asyncio.Lock = asyncio.Lock()
        self._result: VideoResult | None = None

    def set_host(self, host: str) -> None:
        """Send to this address."""
        self.host = host

    def set_port(self, port: int) -> None:
        """The UDP port media go to; for a stream that only receives, the one it listens at."""
        if self.src == "udp" and self.sink != "udp":
            self.source_port = port
        else:
            self.port = port

    async def start(self, *, timeout: float = FIRST_FRAME) -> float:
        """Start; returns when the first frame was there. When it raises, nothing is left of it.

        Args:
            timeout: Seconds the first frame may take.

        Returns:
            Its time, Unix seconds.

        Raises:
            StateError: It is running, or no camera is connected.
            UsageError: A path or an address is missing, or the sink cannot take what the source gives.
            RecordingError: The camera or GStreamer does not work, or NumPy is missing.
            TimeoutError: No frame came.
            TargetExistsError, StorageError: The output is taken, or its directory missing or not writable.
        """
        self._begin()
        self._recorder = self._pipe = self._reserved = self._result = None
        try:
            tools = await find_installation()
            source = self._source()
            output = await self._output(source, tools)
            limits = Limits(seconds=self.duration, size=self.size)
            recorder = Recorder(Pipeline(source, output), name="video", limits=limits, events=self.events)
            self._recorder = recorder
            at = await recorder.start(timeout=timeout)
            if self._pipe is not None:
                self._pipe.handed_over()
                if self._pipe.full:
                    self._no_room()
        except BaseException:
            await finish(self._let_go())
            raise
        return at

    async def wait(self) -> VideoResult:
        """Wait until it ends by itself.

        Raises:
            StateError: It was never started.
            RecordingError, StorageError: What ended it, if not its time; files stay, see `verdicts`.
        """
        recorder = self._running_recorder()
        await recorder.wait()
        return await finish(self._conclude())

    async def stop(self) -> VideoResult | None:
        """End it and finish what it wrote; harmless when it is over, or was never started.

        Returns:
            The same as `wait`, or None if it was not started or had failed: `error` says why.
        """
        if self._recorder is None or self._recorder.state is RecorderState.IDLE:
            return None
        await self._recorder.stop()
        with suppress(AsynccamError):
            return await finish(self._conclude())
        return None

    async def start_stream(self, *, timeout: float = FIRST_FRAME) -> VideoResult:
        """All of it, from the start to the end; cancelled, what was recorded is finished and stays.

        Raises:
            AsynccamError: As `start` and `wait`.
        """
        await self.start(timeout=timeout)
        try:
            return await self.wait()
        finally:
            await finish(self._let_go())

    def reset_timer(self, duration: float) -> bool:
        """Let it go on for so many seconds from now.

        Returns:
            Whether it was running.

        Raises:
            UsageError: ``duration`` is not above 0.
        """
        Limits(seconds=duration)
        return self._recorder is not None and self._recorder.reset_timer(duration)

    @property
    def error(self) -> AsynccamError | None:
        """What ended the last run, if not its time."""
        return self._recorder.error if self._recorder is not None else None

    @property
    def verdicts(self) -> tuple[FileVerdict, ...]:
        """What each file of the last run is worth; empty until it is over."""
        return self._recorder.verdicts if self._recorder is not None else ()

    async def aclose(self) -> None:
        """End what runs, and let go of everything; harmless when called twice."""
        await finish(self._let_go())

    async def __aenter__(self) -> "VideoStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- a run ----------------------------------------------------------------------------------

    def _source(self) -> CameraSource | RtpSource:
        if self.src == "camera":
            return self._camera.source("raw" if self.sink == "opencv" else "video")
        return RtpSource(self.source_port, self.source_address, self.source_codec)

    async def _output(self, source: CameraSource | RtpSource, tools: Installation) -> RecorderOutput:
        match self.sink:
            case "opencv":
                self._pipe = FramePipe("all", self.memory, self._no_room)
                await self._pipe.open()
                return RawFrames(self._pipe.fd)
            case "udp":
                stamps = source.stream(tools.elements).feed is None
                reports = self.ssrc is not None and stamps
                return RtpOutput(self.host, self.port, ssrc=self.ssrc, reports=reports)
            case "hls":
                if self.hls_playloc is None or self.hls_loc is None:
                    raise UsageError("hls_playloc and hls_loc are not set; they say where HLS goes")
                return HlsPlaylist(
                    self.hls_root,
                    Path(self.hls_playloc),
                    str(self.hls_loc),
                    length=self.hls_len,
                    max_files=self.hls_maxfiles,
                    segment_seconds=self.hls_duration,
                )
            case "file":
                suffix = ".mkv" if source.codec in ("vp8", "vp9") else ".mp4"
                await self._reserve(await self._directory(), suffix)
                assert self._reserved is not None
                # A Jetson's GStreamer is too old for files that are whole at every moment.
                jetson = stand_in_for(None, tools.elements) is None
                return SingleFile(self._reserved, plain=jetson, reserved=True)

    async def _reserve(self, directory: Path, suffix: str) -> None:
        """Take a name that nobody has, and remember it even when cancelled meanwhile."""

        def take() -> None:
            self._reserved = reserve(directory, stamp(unix_now()), suffix)

        await on_disk(take)

    def _no_room(self) -> None:
        """There is a frame for which there is no memory."""
        if self._recorder is not None:
            self._recorder.reset_timer(_A_MOMENT)

    def _running_recorder(self) -> Recorder:
        if self._recorder is None:
            raise StateError("the stream was never started")
        return self._recorder

    async def _conclude(self) -> VideoResult:
        """What became of it, once the recorder is done."""
        recorder = self._running_recorder()
        async with self._concluding:
            if self._result is None:
                try:
                    if recorder.error is not None:
                        raise recorder.error
                    if self._pipe is not None:
                        await self._pipe.drained(DRAIN)
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
                    await self._let_go()
            return self._result

    async def _let_go(self) -> None:
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
