"""What a media server does with its camera: one capture for one client, into files or as a stream."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from asynccam.errors import RecordingError
from asynccam.recording import Verdict
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.server.files import CaptureFolder
from asynccam.systems.nanocam.server.options import ServerLimits
from asynccam.systems.nanocam.server.queue import Desk, JobKind
from asynccam.systems.nanocam.server.requests import Pictures, Video, Wanted
from asynccam.systems.nanocam.streams import ImageStream, VideoResult, VideoStream

T = TypeVar("T")
Began = Callable[[], Awaitable[None]]
"""Awaited once a video runs."""

_LEAST: Final = 0.1
"""Seconds a video goes on at least when its time is set anew."""


class Studio:
    """The camera of a media server, and who has it.

    Args:
        camera: The camera.
        kept: Where captured files stay, or None.
        limits: Numbers and deadlines.

    Attributes:
        desk: Who has the camera.
        limits: As given.
    """

    def __init__(self, camera: CSIcamera, kept: Path | None, limits: ServerLimits) -> None:
        self.desk = Desk(limits.waiting)
        self.limits = limits
        self._camera = camera
        self._kept = kept

    @property
    def stand_in(self) -> str | None:
        """What takes the camera's place on a computer that has none, in words, or None."""
        return self._camera.stand_in

    async def prepare(self) -> None:
        """See what the camera is, and that files can be kept.

        Raises:
            RecordingError: GStreamer is not installed.
            StorageError: Files cannot be kept.
        """
        await self._camera.look()
        folder = self.folder()
        await folder.open()
        await folder.aclose()

    def folder(self) -> CaptureFolder:
        """A place for one capture's files; still to be opened."""
        return CaptureFolder(self._kept, self.limits.reserve)

    def camera(self, width: int, height: int) -> CSIcamera:
        """The camera at a resolution."""
        return self._camera.with_resolution(width, height)


class CaptureJob:
    """One capture: runs once, ends by itself, is told to finish, or is killed.

    Args:
        studio: Whose camera it needs.
        wanted: What to capture.
        address: The client's IP address.

    Attributes:
        wanted: As given.
        address: As given.
        killed: Whether a client ended it, so that there is nothing to deliver.
        ending: Whether it is about to give the camera back.
    """

    def __init__(self, studio: Studio, wanted: Wanted, address: str) -> None:
        self.wanted = wanted
        self.address = address
        self.killed = False
        self.ending = False
        self._studio = studio
        self._running: VideoStream | None = None
        self._until = 0.0
        self._scope = TaskScope(f"capture for {address}")
        self._over = asyncio.Event()

    @property
    def kind(self) -> JobKind:
        """What it captures."""
        return self.wanted.kind

    async def capture(self, directory: Path) -> tuple[Path, ...]:
        """Capture files; the camera must have been given to the job, and is given back, however this ends.

        Args:
            directory: Where they go.

        Returns:
            The files, in order; none when it was killed.

        Raises:
            RecordingError, TimeoutError, StorageError: The camera or the disk does not work.
        """
        if isinstance(self.wanted, Pictures):
            return await self._run(self._pictures(self.wanted, directory)) or ()
        return await self._run(self._video(self.wanted, directory)) or ()

    async def stream(self, port: int, began: Began, *, ssrc: int | None = None) -> None:
        """Send RTP to the client until the end; the camera as for `capture`.

        Args:
            port: The client's UDP port.
            began: Awaited once the first frame is on its way.
            ssrc: SSRC of the stream, with RTCP at the same port then, or None.

        Raises:
            RecordingError, TimeoutError: The camera does not work.
        """
        assert isinstance(self.wanted, Video)
        await self._run(self._rtp(self.wanted, port, began, ssrc))

    def leave(self) -> None:
        """Give the camera, or the place in line, back; harmless when called twice."""
        self._studio.desk.leave(self)
        self._over.set()

    async def kill(self) -> None:
        """End it now and throw away what it has.

        Returns when the camera is free; harmless when it is over.
        """
        if self._over.is_set():
            return
        self.killed = self.ending = True
        await finish(self._scope.aclose())
        await self._over.wait()

    def extend(self, seconds: float) -> bool:
        """Let a video go on for so many seconds from now, within the limit; False if none runs."""
        if self._running is None:
            return False
        return self._running.reset_timer(max(_LEAST, min(seconds, self._until - time.monotonic())))

    async def _run(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do the work while nobody kills it; None if somebody does."""
        try:
            if self.killed:
                work.close()
                return None
            task = self._scope.spawn(work, name=self.kind)
            await asyncio.wait({task})
            return None if task.cancelled() else task.result()
        finally:
            self.ending = True
            try:
                await finish(self._scope.aclose())
            finally:
                self.leave()

    async def _pictures(self, wanted: Pictures, directory: Path) -> tuple[Path, ...]:
        pictures = ImageStream(wanted.frames, wanted.interval, sink="file")
        pictures.media_path = directory
        pictures.connect_camera(self._camera())
        return (await pictures.start_stream()).files

    async def _video(self, wanted: Video, directory: Path) -> tuple[Path, ...]:
        video = VideoStream(wanted.duration, src="camera", sink="file", size=self._studio.limits.size)
        video.media_path = directory
        result = await self._play(video, _say_nothing)
        for one in result.verdicts:
            if one.verdict is not Verdict.COMPLETE:
                raise RecordingError(f"the video is {one.verdict.value}: {one.detail}")
        return result.files

    async def _rtp(self, wanted: Video, port: int, began: Began, ssrc: int | None) -> None:
        video = VideoStream(wanted.duration, src="camera", sink="udp")
        video.set_host(self.address)
        video.set_port(port)
        video.ssrc = ssrc
        await self._play(video, began)

    async def _play(self, video: VideoStream, began: Began) -> VideoResult:
        video.connect_camera(self._camera())
        try:
            await video.start()
            self._until = time.monotonic() + self._studio.limits.duration
            self._running = video
            await began()
            return await video.wait()
        finally:
            self._running = None
            await video.aclose()

    def _camera(self) -> CSIcamera:
        return self._studio.camera(self.wanted.width, self.wanted.height)


async def _say_nothing() -> None:
    """A file is announced when it is complete."""
