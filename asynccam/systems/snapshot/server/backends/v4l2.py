"""Pictures by ``v4l2-ctl``, one process each. See docs/protocols/snapshot.md."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError, StorageError, UsageError
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.systems.snapshot.server.backends.base import (
    CAPTURE_TIMEOUT,
    JPEG_FORMATS,
    BrokenPictureError,
    CaptureProcess,
    capturing,
    gated,
    output_tail,
)
from asynccam.systems.snapshot.server.backends.convert import check_known, develop
from asynccam.systems.snapshot.server.settings import CameraConfig

MIN_BYTES: Final = 1000
"""A smaller file is not a picture."""
_SHORT_WRITE: Final = re.compile(r"^(\d+) != (\d+)$", re.MULTILINE)
"""Output of ``v4l2-ctl`` for a frame that it could not write completely."""


class V4l2CtlBackend:
    """Runs ``v4l2-ctl`` for each picture, and converts other formats than Motion JPEG.

    Args:
        command: The program and its first arguments.
        timeout: Seconds for one capture.
    """

    def __init__(self, *, command: Sequence[str] = ("v4l2-ctl",), timeout: float = CAPTURE_TIMEOUT) -> None:
        if not command or timeout <= 0:
            raise UsageError("command must not be empty, and timeout must be > 0 s")
        self._command = tuple(command)
        self._timeout = timeout

    @asynccontextmanager
    async def prepare(
        self, camera: CameraConfig, target: Path, *, hold: bool = False
    ) -> AsyncIterator["_V4l2Exposure"]:
        """Prepare a capture, see `Backend.prepare`.

        Raises:
            RecordingError: The program cannot be started, or the pixel format is not supported.
        """
        check_known(camera.pixel_format)
        raw = target if camera.pixel_format in JPEG_FORMATS else target.with_suffix(".raw")
        argv = [
            *self._command,
            "-d",
            camera.device_path,
            f"--set-fmt-video=width={camera.width},height={camera.height},pixelformat={camera.pixel_format}",
            "--stream-mmap",
            "--stream-count=1",
            f"--stream-to={raw}",
        ]
        if not hold:
            yield _V4l2Exposure(camera, raw, target, argv, None, self._timeout)
            return
        async with capturing(gated(argv)) as process:
            await process.ready("ready")
            yield _V4l2Exposure(camera, raw, target, argv, process, self._timeout)


@dataclass(frozen=True, slots=True)
class _V4l2Exposure:
    """One capture by ``v4l2-ctl``; without ``process`` it is started when its end is awaited."""

    camera: CameraConfig
    raw: Path
    target: Path
    argv: Sequence[str]
    process: CaptureProcess | None
    timeout: float

    def fire(self) -> None:
        if self.process is not None:
            self.process.fire()

    async def taken(self) -> float:
        if self.process is not None:
            return await self._wait(self.process)
        async with capturing(lambda _: self.argv) as process:
            return await self._wait(process)

    async def develop(self) -> None:
        camera = self.camera
        await develop(self.raw, self.target, camera.pixel_format, camera.width, camera.height)

    async def _wait(self, process: CaptureProcess) -> float:
        device = self.camera.device_path
        await process.ended(self.timeout, f"v4l2-ctl for {device}")
        size, taken_ns = await on_disk(_measure, self.raw)
        # v4l2-ctl reports a short write in its output, and exits with 0 all the same.
        cut = _SHORT_WRITE.search(process.output)
        if cut is not None:
            raise StorageError(
                f"only {cut[1]} of the picture's {cut[2]} bytes were written: the disk may be full"
            )
        if size < MIN_BYTES:
            # A device that returned nothing refused; one that returned too little may do better next time.
            kind = BrokenPictureError if size else RecordingError
            raise kind(
                f"{device} returned {size} bytes, which is not a picture{output_tail(process.output)}",
                output=process.output,
            )
        return taken_ns / 1e9


def _measure(path: Path) -> tuple[int, int]:
    """Return size and time of the file: v4l2-ctl writes a frame as soon as it has it."""
    with storage_errors("look at", path):
        try:
            found = path.stat()
        except FileNotFoundError:
            return 0, 0
        if found.st_size < MIN_BYTES:
            path.unlink()
        return found.st_size, found.st_mtime_ns
