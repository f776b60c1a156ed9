"""The camera of a media server: checked requests, the queue for the camera, and captures for clients."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from asynccam.errors import BusyError, InsufficientSpaceError, RecordingError, UsageError
from asynccam.recording import Verdict
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.protocol import ImageRequest, VideoRequest
from asynccam.systems.nanocam.server.options import ServerLimits
from asynccam.systems.nanocam.streams import ImageStream, VideoResult, VideoStream

T = TypeVar("T")
OnStarted = Callable[[], Awaitable[None]]
"""Awaited once a video runs."""
JobKind = Literal["image", "video", "udp"]
CaptureRequest = ImageRequest | VideoRequest
UDP: Final = "udp"

_MIN_SIDE: Final = 16
_MIN_EXTENSION: Final = 0.1
"""Seconds a video goes on at least after a timer reset."""
_PREFIX: Final = "asynccam-nanocam-"


def check_request(request: CaptureRequest, limits: ServerLimits) -> CaptureRequest:
    """Return a request that is within the server's limits, with even sides as video needs them."""
    width, height = request.width & ~1, request.height & ~1
    if not (_MIN_SIDE <= width <= limits.width and _MIN_SIDE <= height <= limits.height):
        raise UsageError(
            f"{request.width}x{request.height} is not between 16x16 and {limits.width}x{limits.height}"
        )
    if isinstance(request, VideoRequest):
        _check_limit(request.duration, limits.duration, "seconds of video")
    else:
        span = request.interval * (request.frames - 1)
        _check_limit(request.frames, limits.frames, "pictures")
        _check_limit(request.interval, limits.interval, "seconds between pictures")
        _check_limit(span, limits.duration, "seconds from first to last picture")
    return replace(request, width=width, height=height)


def _check_limit(value: float, limit: float, unit: str) -> None:
    if value > limit:
        raise UsageError(f"{value:g} {unit} exceed the limit of {limit:g}")


# -- one camera for many clients ----------------------------------------------------------------


class RequestQueue:
    """Gives the camera to one ``job`` after another, in the order of their requests."""

    def __init__(self, max_waiting: int) -> None:
        self.job: CaptureJob | None = None
        self._max_waiting = max_waiting
        self._line: dict[CaptureJob, asyncio.Future[None]] = {}

    @property
    def streaming(self) -> bool:
        """Return whether a UDP stream has the camera and goes on, which the original calls busy."""
        return self.job is not None and self.job.kind == UDP and not self.job.ending

    @property
    def taken(self) -> bool:
        """Return whether any job has the camera and goes on, or waits for it."""
        return bool(self._line) or (self.job is not None and not self.job.ending)

    @property
    def waiting(self) -> int:
        """Return the number of jobs that wait."""
        return len(self._line)

    def enqueue(self, job: "CaptureJob") -> bool:
        """Give the camera to a job, or a place at the end of the line; return whether it has the camera.

        Raises `BusyError` if too many jobs wait already.
        """
        if self.job is None:
            self.job = job
        elif self.job is not job and job not in self._line:
            if len(self._line) >= self._max_waiting:
                raise BusyError(f"{len(self._line)} requests wait for the camera already")
            self._line[job] = asyncio.get_running_loop().create_future()
        return self.job is job

    def enqueue_first(self, job: "CaptureJob") -> None:
        """Do the same for a client that ends the job with the camera: its place is before all others."""
        if self.job is None:
            self.job = job
        elif self.job is not job:
            self._line = {job: asyncio.get_running_loop().create_future(), **self._line}

    async def wait_turn(self, job: "CaptureJob", timeout: float) -> None:
        """Wait until an enqueued job has the camera; after an error it has lost its place.

        Raises `TimeoutError` if its turn did not come within ``timeout`` seconds.
        """
        if self.job is job:
            return
        try:
            async with deadline(timeout, "turn with the camera"):
                await self._line[job]
        except BaseException:
            self.release(job)
            raise

    def release(self, job: "CaptureJob") -> None:
        """Take the camera, or the place in line, from a job; harmless when it has neither."""
        self._line.pop(job, None)
        if self.job is job:
            self.job = next(iter(self._line), None)
            if self.job is not None:
                self._line.pop(self.job).set_result(None)


class ServerCamera:
    """The camera of a media server, and the queue of the jobs that have it or wait for it."""

    def __init__(self, camera: CSIcamera, kept: Path | None, limits: ServerLimits) -> None:
        self.csi = camera
        self.queue = RequestQueue(limits.waiting)
        self.limits = limits
        self._kept = kept

    async def prepare(self) -> None:
        """Check the camera and the directory."""
        await self.csi.look()
        async with self.folder():
            pass

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """Make the directory for one capture's files, a temporary one unless files are kept.

        Raises `StorageError` if the directory cannot be made, or there is too little space.
        """
        temporary: list[Path] = []

        def make() -> Path:
            parent, reserve = self._kept or Path(tempfile.gettempdir()), self.limits.reserve
            with storage_errors("make a folder in", parent):
                parent.mkdir(parents=True, exist_ok=True)
                free = shutil.disk_usage(parent).free
                if free < reserve:
                    raise InsufficientSpaceError(
                        f"{free} bytes are free in {parent}, {reserve} have to stay free",
                        needed=reserve,
                        free=free,
                    )
                if self._kept is None:
                    temporary.append(Path(tempfile.mkdtemp(prefix=_PREFIX)))
                return temporary[0] if temporary else parent

        try:
            yield await on_disk(make)
        finally:
            for path in temporary:  # also made by a call that was cancelled
                await on_disk(_remove_tree, path)


def _remove_tree(path: Path) -> None:
    with storage_errors("remove", path):
        shutil.rmtree(path)


class CaptureJob:
    """One capture for the client at ``address``: runs once, ends by itself, is stopped, or is killed."""

    def __init__(self, camera: ServerCamera, request: CaptureRequest, address: str) -> None:
        self.request = request
        self.address = address
        self.killed = False  # whether a client ended the job, so that there is no result
        self.ending = False  # whether the job is about to release the camera
        self._camera = camera
        self._running: VideoStream | None = None
        self._until = 0.0
        self._scope = TaskScope(f"capture for {address}")
        self._over = asyncio.Event()

    @property
    def kind(self) -> JobKind:
        """Return the kind of capture."""
        if isinstance(self.request, ImageRequest):
            return "image"
        return "udp" if self.request.format == "udp" else "video"

    async def capture(self, directory: Path) -> tuple[Path, ...]:
        """Capture files into a directory; the job must have the camera, and releases it afterwards.

        Returns:
            The files, in order; none if the job was killed.
        """
        if isinstance(self.request, ImageRequest):
            return await self._run(self._take_pictures(self.request, directory)) or ()
        return await self._run(self._record_video(self.request, directory)) or ()

    async def stream(self, port: int, on_started: OnStarted, *, ssrc: int | None = None) -> None:
        """Send RTP to the client's UDP port until the end; the camera as for `capture`.

        ``on_started`` is awaited once the first frame is sent. With an SSRC, RTCP goes to the same port.
        """
        assert isinstance(self.request, VideoRequest)
        await self._run(self._send_rtp(self.request, port, on_started, ssrc))

    def leave(self) -> None:
        """Release the camera, or the place in line; harmless when called twice."""
        self._camera.queue.release(self)
        self._over.set()

    async def kill(self) -> None:
        """End the job and discard its result; returns when the camera is free. Harmless when it is over."""
        if self._over.is_set():
            return
        self.killed = self.ending = True
        await finish(self._scope.aclose())
        await self._over.wait()

    def extend(self, seconds: float) -> bool:
        """Let a video go on for so many seconds from now, within the limit; return False if none runs."""
        if self._running is None:
            return False
        return self._running.reset_timer(max(_MIN_EXTENSION, min(seconds, self._until - time.monotonic())))

    async def _run(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of the work, or None if the job is killed."""
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

    async def _take_pictures(self, request: ImageRequest, directory: Path) -> tuple[Path, ...]:
        pictures = ImageStream(request.frames, request.interval, sink="file")
        pictures.media_path = directory
        pictures.connect_camera(self._sized_camera())
        return (await pictures.start_stream()).files

    async def _record_video(self, request: VideoRequest, directory: Path) -> tuple[Path, ...]:
        video = VideoStream(request.duration, src="camera", sink="file", size=self._camera.limits.size)
        video.media_path = directory
        result = await self._play(video, None)
        for verdict in result.verdicts:
            if verdict.verdict is not Verdict.COMPLETE:
                raise RecordingError(f"the video is {verdict.verdict.value}: {verdict.detail}")
        return result.files

    async def _send_rtp(
        self, request: VideoRequest, port: int, on_started: OnStarted, ssrc: int | None
    ) -> None:
        video = VideoStream(request.duration, src="camera", sink="udp")
        video.set_host(self.address)
        video.set_port(port)
        video.ssrc = ssrc
        await self._play(video, on_started)

    async def _play(self, video: VideoStream, on_started: OnStarted | None) -> VideoResult:
        video.connect_camera(self._sized_camera())
        try:
            await video.start()
            self._until = time.monotonic() + self._camera.limits.duration
            self._running = video
            if on_started is not None:
                await on_started()
            return await video.wait()
        finally:
            self._running = None
            await video.aclose()

    def _sized_camera(self) -> CSIcamera:
        return self._camera.csi.with_resolution(self.request.width, self.request.height)
