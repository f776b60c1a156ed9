"""Pictures by ``v4l2-ctl``, one process each. See docs/protocols/snapshot.md."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError, StorageError, UsageError
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.systems.snapshot.server.backends.convert import develop
from asynccam.systems.snapshot.server.backends.formats import JPEGS, check_known
from asynccam.systems.snapshot.server.backends.process import CaptureProcess, capturing, gated, words
from asynccam.systems.snapshot.server.pictures import BrokenPictureError
from asynccam.systems.snapshot.server.settings import CameraConfig

SECONDS: Final = 30.0
MIN_BYTES: Final = 1000
"""Fewer bytes are no picture."""
_CUT: Final = re.compile(r"^(\d+) != (\d+)$", re.MULTILINE)
"""What ``v4l2-ctl`` says of a frame that it could not write as a whole."""


class V4l2CtlBackend:
    """Runs ``v4l2-ctl`` for each picture, and converts what is not Motion JPEG.

    Args:
        command: The program, with what comes before its arguments.
        timeout: Seconds for one capture.
    """

    def __init__(self, *, command: Sequence[str] = ("v4l2-ctl",), timeout: float = SECONDS) -> None:
        if not command or timeout <= 0:
            raise UsageError("a capture needs a command, and more than 0 s")
        self._command = tuple(command)
        self._timeout = timeout

    @asynccontextmanager
    async def prepare(
        self, camera: CameraConfig, target: Path, *, hold: bool = False
    ) -> AsyncIterator["_Exposure"]:
        """See `asynccam.systems.snapshot.server.capture.Backend`.

        Raises:
            RecordingError: The program cannot be started, or no JPEG can be made of the pixel format.
        """
        check_known(camera.pixel_format)
        raw = target if camera.pixel_format in JPEGS else target.with_suffix(".raw")
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
            yield _Exposure(camera, raw, target, argv, None, self._timeout)
            return
        async with capturing(gated(argv)) as process:
            await process.ready("ready")
            yield _Exposure(camera, raw, target, argv, process, self._timeout)


class _Exposure:
    """One capture by ``v4l2-ctl``."""

    def __init__(
        self,
        camera: CameraConfig,
        raw: Path,
        target: Path,
        argv: Sequence[str],
        process: CaptureProcess | None,
        timeout: float,
    ) -> None:
        self._camera = camera
        self._raw = raw
        self._target = target
        self._argv = argv
        self._process = process
        self._timeout = timeout

    def fire(self) -> None:
        if self._process is not None:
            self._process.fire()

    async def taken(self) -> float:
        if self._process is not None:
            return await self._wait(self._process)
        async with capturing(lambda _: self._argv) as process:
            return await self._wait(process)

    async def develop(self) -> None:
        camera = self._camera
        await develop(self._raw, self._target, camera.pixel_format, camera.width, camera.height)

    async def _wait(self, process: CaptureProcess) -> float:
        await process.ended(self._timeout, f"v4l2-ctl for {self._camera.device_path}")
        size, taken_ns = await on_disk(_measure, self._raw)
        # It says so and ends well, as if nothing were wrong.
        cut = _CUT.search(process.output)
        if cut is not None:
            raise StorageError(f"only {cut[1]} of the picture's {cut[2]} bytes went to disk: it may be full")
        if size < MIN_BYTES:
            # A device that gave nothing at all refused; one that gave too little may do better.
            kind = BrokenPictureError if size else RecordingError
            raise kind(
                f"{self._camera.device_path} gave {size} bytes, which is no picture{words(process.output)}",
                output=process.output,
            )
        return taken_ns / 1e9


def _measure(path: Path) -> tuple[int, int]:
    """Bytes, and when the last of them came: v4l2-ctl writes a frame the moment it has it."""
    with storage_errors("look at", path):
        try:
            found = path.stat()
        except FileNotFoundError:
            return 0, 0
        if found.st_size < MIN_BYTES:
            path.unlink()
        return found.st_size, found.st_mtime_ns
