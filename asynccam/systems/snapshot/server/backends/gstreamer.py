"""Pictures by GStreamer: from V4L2 devices, and test pictures without a camera."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError, UsageError
from asynccam.recording.elements import Chain, Graph, GstElement, PadOf, Value, caps
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.mosaic import timecode
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.systems.snapshot.server.backends.base import (
    CAPTURE_TIMEOUT,
    JPEG_FORMATS,
    Backend,
    CaptureProcess,
    Exposure,
    capturing,
    gated,
    output_tail,
)
from asynccam.systems.snapshot.server.backends.convert import TO_JPEG, check_known
from asynccam.systems.snapshot.server.settings import TEST_DEVICE, CameraConfig
from asynccam.wall_clock import unix_now

_PREROLLING: Final = "PREROLLING"
"""Output of ``gst-launch-1.0`` once every element is ready and waits for data only."""
_PIPE_BYTES: Final = 60_000
_GST_NAMES: Final = {
    "YUYV": "YUY2",
    "YU12": "I420",
    "GREY": "GRAY8",
    "Y16 ": "GRAY16_LE",
    "RGB3": "RGB",
    "BGR3": "BGR",
    "422P": "Y42B",
}


class GStreamerBackend:
    """Runs ``gst-launch-1.0`` with ``v4l2src`` for each picture; ``timeout`` in seconds."""

    def __init__(self, *, timeout: float = CAPTURE_TIMEOUT) -> None:
        if timeout <= 0:
            raise UsageError(f"timeout must be > 0 s, not {timeout:g}")
        self._timeout = timeout

    @asynccontextmanager
    async def prepare(
        self, camera: CameraConfig, target: Path, *, hold: bool = False
    ) -> AsyncIterator[Exposure]:
        """Prepare a capture, see `Backend.prepare`.

        Raises:
            RecordingError: GStreamer is not installed, or the pixel format is not supported.
        """
        check_known(camera.pixel_format)
        size = {"width": camera.width, "height": camera.height}
        if camera.pixel_format in JPEG_FORMATS:
            middle: Chain = (caps("image/jpeg", **size),)
        else:
            name = _GST_NAMES.get(camera.pixel_format, camera.pixel_format)
            middle = (caps("video/x-raw", format=name, **size), *TO_JPEG)
        source = GstElement("v4l2src", {"device": camera.device_path, "num-buffers": 1})
        graph = Graph(((source, *middle, GstElement("filesink", {"location": str(target)})),))
        tools = await find_installation(graph.factories)
        async with capturing(gated([tools.launch, "-q", *graph.arguments()])) as process:
            if hold:
                await process.ready("ready")
            yield _GStreamerExposure(process, target, camera.device_path, self._timeout)


class TestBackend:
    """Makes test pictures that show the camera's name and the time.

    Args:
        pattern: A ``videotestsrc`` pattern, for devices that do not name one.
        timeout: Seconds for one picture.
    """

    __test__ = False  # pytest would take the name for a test class

    def __init__(self, *, pattern: str = "smpte", timeout: float = CAPTURE_TIMEOUT) -> None:
        if timeout <= 0:
            raise UsageError(f"timeout must be > 0 s, not {timeout:g}")
        self._pattern = pattern
        self._timeout = timeout

    @asynccontextmanager
    async def prepare(
        self, camera: CameraConfig, target: Path, *, hold: bool = False
    ) -> AsyncIterator[Exposure]:
        """Prepare a picture, see `Backend.prepare`.

        Raises:
            RecordingError: GStreamer is not installed.
        """
        label = _Label(camera)
        pattern = self._pattern
        if camera.device_path.startswith(TEST_DEVICE):
            pattern = camera.device_path.removeprefix(TEST_DEVICE) or pattern
        size = caps("video/x-raw", format="I420", width=camera.width, height=camera.height)
        picture: Chain = (
            GstElement("videotestsrc", {"pattern": pattern, "num-buffers": 1}),
            size,
            GstElement(
                "compositor",
                {"name": "mix", "sink_1::xpos": 2 * label.scale, "sink_1::ypos": 2 * label.scale},
            ),
            size,
            *TO_JPEG,
            GstElement("filesink", {"location": str(target)}),
        )
        label_format: dict[str, Value] = {"format": "gray8", "width": label.width, "height": label.height}

        def arguments(fd: int) -> list[str]:
            # Everything is ready before the moment comes: the picture waits for its label only.
            source = GstElement("fdsrc", {"fd": fd, "blocksize": label.width * label.height})
            overlay: Chain = (
                source,
                GstElement("rawvideoparse", label_format),
                GstElement("videoconvert"),
                PadOf("mix"),
            )
            return [tools.launch, *Graph((picture, overlay)).arguments()]

        needed = {element.factory for element in picture if isinstance(element, GstElement)}
        tools = await find_installation(needed | {"fdsrc", "rawvideoparse"})
        async with capturing(arguments) as process:
            if hold:
                await process.ready(_PREROLLING)
            yield _GStreamerExposure(process, target, camera.device_path, self._timeout, label)


class CameraBackend:
    """Takes pictures with ``real``, and of devices named ``test:PATTERN`` with ``test``."""

    def __init__(self, real: Backend, test: Backend | None = None) -> None:
        self._real = real
        self._test = test or TestBackend()

    def prepare(
        self, camera: CameraConfig, target: Path, *, hold: bool = False
    ) -> AbstractAsyncContextManager[Exposure]:
        """Prepare a capture with the backend of the camera's device."""
        is_test = camera.device_path.startswith(TEST_DEVICE)
        return (self._test if is_test else self._real).prepare(camera, target, hold=hold)


def simulated_cameras(count: int) -> tuple[CameraConfig, ...]:
    """Return cameras with test pictures; the first two are a stereo pair.

    Raises:
        UsageError: ``count`` is not 0 to 99.
    """
    if not 0 <= count <= 99:
        raise UsageError(f"count must be 0 to 99, not {count}")
    patterns = ("smpte", "ball", "pinwheel", "circular", "spokes", "gamut")
    return tuple(
        CameraConfig(
            name=f"test{index + 1}",
            device_path=f"{TEST_DEVICE}{patterns[index % len(patterns)]}",
            width=640,
            height=360,
            stereo=index < 2 <= count,
        )
        for index in range(count)
    )


class _Label:
    """Grey picture of the camera's name and the time; its size does not depend on the time."""

    def __init__(self, camera: CameraConfig) -> None:
        self._name = camera.name
        length = len(self.text(0.0))
        fits = camera.width * 9 // 10 // timecode.text_size(length, 1)[0]
        self.scale = max(1, min(4, fits))
        while self.scale > 1 and self._bytes(length) > _PIPE_BYTES:
            self.scale -= 1
        self.width, self.height = timecode.text_size(length, self.scale)

    def text(self, moment: float) -> str:
        """Return the text of the label at a time, Unix seconds."""
        return f"{self._name} {datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M:%S.%f}"

    def draw(self, moment: float) -> bytes:
        """Return the pixels of the label."""
        return timecode.draw(self.text(moment), self.scale)

    def _bytes(self, length: int) -> int:
        width, height = timecode.text_size(length, self.scale)
        return width * height


@dataclass(slots=True)
class _GStreamerExposure:
    """One capture by ``gst-launch-1.0``."""

    process: CaptureProcess
    target: Path
    device: str
    timeout: float
    label: _Label | None = None
    fired_at: float = 0.0

    def fire(self) -> None:
        self.fired_at = unix_now()
        if self.label is None:
            self.process.fire()
        else:
            self.process.fire(self.label.draw(self.fired_at))

    async def taken(self) -> float:
        await self.process.ended(self.timeout, f"GStreamer for {self.device}")
        size, written_at = await on_disk(_measure, self.target)
        if not size:
            raise RecordingError(
                f"{self.device} returned no picture{output_tail(self.process.output)}",
                output=self.process.output,
            )
        if self.label is not None:
            return self.fired_at
        # The file's time is the system's: the clock may have been set since the capture was fired.
        return min(max(written_at, self.fired_at), unix_now())

    async def develop(self) -> None:
        """Do nothing: GStreamer has written a JPEG."""


def _measure(path: Path) -> tuple[int, float]:
    with storage_errors("look at", path):
        found = path.stat()
        return found.st_size, found.st_mtime
