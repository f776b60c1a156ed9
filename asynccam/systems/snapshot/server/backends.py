"""Backends, the ways to take a picture: ``v4l2-ctl``, GStreamer, and test pictures without a camera.

See docs/protocols/snapshot.md.
"""

import asyncio
import functools
import math
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Final, Protocol

from asynccam.errors import RecordingError, StorageError, UsageError
from asynccam.recording.elements import Chain, Graph, GstElement, PadOf, Value, caps
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.mosaic import timecode
from asynccam.recording.pictures import is_jpeg_picture, read_picture, remove_head
from asynccam.recording.process import NOTHING_TO_FINISH, LaunchProcess
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server.settings import TEST_DEVICE, CameraConfig
from asynccam.wall_clock import unix_now

JPEG_FORMATS: Final = frozenset({"MJPG", "JPEG"})
"""Pixel formats that need no conversion."""
CAPTURE_TIMEOUT: Final = 30.0
_READY_TIMEOUT: Final = 10.0
_MAX_OUTPUT: Final = 300
_MIN_BYTES: Final = 1000
"""A smaller file is not a picture."""
_SHORT_WRITE: Final = re.compile(r"^(\d+) != (\d+)$", re.MULTILINE)
"""Output of ``v4l2-ctl`` for a frame that it could not write completely."""
_PREROLLING: Final = "PREROLLING"
"""Output of ``gst-launch-1.0`` once every element is ready and waits for data only."""
_PIPE_BYTES: Final = 60_000
_START_OF_IMAGE: Final = b"\xff\xd8\xff"
_MAX_PADDING: Final = 1024
"""Bytes; maximum padding of a row."""
_PAGE: Final = 4096
"""Bytes; drivers round frames up to whole pages."""
_GATE: Final = """
import os, sys
os.write(1, b"ready\\n")
if os.read(int(sys.argv[1]), 1):
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"cannot start {sys.argv[2]}: {error.strerror}")
"""
"""Waits for a byte and becomes the command; exits at end of file, when the server has died."""

ArgumentsFor = Callable[[int], Sequence[str]]
"""Returns program and arguments, given the descriptor from which the process reads its start signal."""


class Exposure(Protocol):
    """A capture that is prepared and waits for its moment."""

    def fire(self) -> None:
        """Take the picture now; returns at once, so that several can be fired together."""
        ...

    async def taken(self) -> float:
        """Wait until the device is no longer needed; return when the picture was taken, Unix seconds.

        Raises:
            RecordingError: There is no picture.
            TimeoutError: It took too long.
        """
        ...

    async def develop(self) -> None:
        """Convert the frame to a JPEG, which does not need the device.

        Raises:
            RecordingError: The frame cannot be converted.
        """
        ...


class Backend(Protocol):
    """A way to take pictures."""

    def prepare(
        self, camera: CameraConfig, target: Path, *, hold: bool = False
    ) -> AbstractAsyncContextManager[Exposure]:
        """Prepare a capture; leaving the block ends it, whatever its state.

        Args:
            camera: What to capture from, and how.
            target: Path of the JPEG; its directory belongs to this capture.
            hold: Do as much as possible before `Exposure.fire`, for several cameras at one moment; otherwise
                take the shortest time in all.

        Raises:
            RecordingError: The capture cannot be prepared.
        """
        ...


# -- one process a picture ----------------------------------------------------------------------


class BrokenPictureError(RecordingError):
    """A camera returned a broken picture; the next one may be whole."""


def check_picture(path: Path, device: str) -> None:
    """Check that a file is a complete JPEG, and remove bytes before its beginning; blocking.

    Other programs do not find a picture behind other bytes. Bytes after its end are kept: they harm nothing,
    and may belong to the picture, as the second one of a stereo pair does. ``device`` is named in errors.

    Raises:
        BrokenPictureError: The file is not a complete JPEG.
        StorageError: The file cannot be read or written.
    """
    found, size = read_picture(path)
    if found.flaw and not is_jpeg_picture(found):
        why = "it does not support this pixel format, or not this size"
        raise BrokenPictureError(f"{device} returned {size} bytes that are not a JPEG: {why}")
    if found.flaw:
        raise BrokenPictureError(f"{device} returned a broken picture: it {found.flaw}")
    if found.begin:
        remove_head(path, found.begin)


def gated(argv: Sequence[str]) -> ArgumentsFor:
    """Hold a command back in a Python process that is already running when the moment comes."""
    return lambda fd: [sys.executable, "-I", "-S", "-c", _GATE, str(fd), *argv]


@functools.cache
def _kill_with_server() -> tuple[str, ...]:
    """Return a prefix that has the kernel kill a capture with the server, so that the device becomes free."""
    setpriv = shutil.which("setpriv")
    return () if setpriv is None else (setpriv, "--pdeathsig", "KILL", "--")


class CaptureProcess:
    """A running capture, see `capturing`."""

    def __init__(self, process: LaunchProcess, writer: FileIO, news: asyncio.Event) -> None:
        self._process = process
        self._writer = writer
        self._news = news

    async def ready(self, sign: str = "") -> None:
        """Wait until the output contains ``sign``, or until the process has exited."""
        async with deadline(_READY_TIMEOUT, "sign of readiness from a capture"):
            while sign not in self._process.output and not self._process.exited.done():
                self._news.clear()
                await self._news.wait()

    def fire(self, data: bytes = b"\n") -> None:
        """Send the start signal; ``data`` must fit into an empty pipe."""
        if not self._writer.closed:
            # A process that has exited already is reported by `ended`.
            with self._writer, suppress(BrokenPipeError):
                self._writer.write(data)

    async def ended(self, seconds: float, name: str) -> None:
        """Wait for the process to exit; ``name`` is used in errors.

        Raises:
            RecordingError: It failed; the message has the end of its output.
            TimeoutError: It did not exit within ``seconds``.
        """
        async with deadline(seconds, f"end of {name}"):
            code = await self._process.wait()
        if code:
            how = f"status {code}" if code > 0 else f"signal {-code}"
            raise RecordingError(f"{name} failed with {how}{output_tail(self.output)}", output=self.output)

    @property
    def output(self) -> str:
        """The end of its output."""
        return self._process.output

    async def aclose(self) -> None:
        """Kill and reap the process."""
        self._writer.close()
        await self._process.stop(NOTHING_TO_FINISH)


@asynccontextmanager
async def capturing(arguments: ArgumentsFor) -> AsyncIterator[CaptureProcess]:
    """Start a capture in its own process group; it is killed and reaped at the end of the block.

    Raises:
        RecordingError: The process cannot be started.
    """
    prefix = await asyncio.to_thread(_kill_with_server)
    news = asyncio.Event()
    reader, fd = os.pipe()
    os.set_blocking(fd, False)  # firing must not block the loop, even if the process does not read
    writer = FileIO(fd, "w")
    try:
        process = await LaunchProcess.start(
            [*prefix, *arguments(reader)], lambda _: news.set(), pass_fds=(reader,)
        )
    except BaseException:
        writer.close()
        raise
    finally:
        os.close(reader)
    process.exited.add_done_callback(lambda _: news.set())
    running = CaptureProcess(process, writer, news)
    try:
        yield running
    finally:
        await running.aclose()


def output_tail(output: str) -> str:
    """Return the end of a process's output, to append to a message."""
    said = " ".join(output.removeprefix("ready\n").split())
    return f": {said[-_MAX_OUTPUT:]}" if said else ""


# -- raw frames to JPEG -------------------------------------------------------------------------

# GStreamer converts Y'CbCr to Y'CbCr without widening the range, and a JPEG uses the full range: convert by
# way of RGB. What jpegenc makes of RGB itself, few programs can read.
TO_JPEG: Final[Chain] = (
    GstElement("videoconvert"),
    caps("video/x-raw", format="RGB"),
    GstElement("videoconvert"),
    caps("video/x-raw", format="Y42B", colorimetry="1:4:0:0"),
    GstElement("jpegenc", {"quality": 92}),
)
"""Converts any raw picture to a common JPEG."""


@dataclass(frozen=True, slots=True)
class _Plane:
    """One plane of a frame: bytes of a sample, pixels ``across`` and rows ``down`` that share it."""

    sample: int
    across: int = 1
    down: int = 1
    group: int = 1

    def row(self, width: int) -> int:
        samples = -(-width // self.across)
        return -(-samples // self.group) * self.group * self.sample

    def rows(self, height: int) -> int:
        return -(-height // self.down)


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Layout of a frame in memory: format of ``rawvideoparse``, and stride and offset of each plane in bytes.

    ``size`` excludes padding that a driver adds at the end. With ``full_range`` black is 0 and white the
    largest number, as in all formats without Cb and Cr.
    """

    format: str
    strides: tuple[int, ...]
    offsets: tuple[int, ...]
    size: int
    full_range: bool


_PACKED_422: Final = (_Plane(2, group=2),)
_LUMA: Final = _Plane(1)
_HALF: Final = _Plane(1, 2, 2)
_FORMATS: Final[dict[str, tuple[str, tuple[_Plane, ...]]]] = {
    "YUYV": ("YUY2", _PACKED_422),
    "UYVY": ("UYVY", _PACKED_422),
    "YVYU": ("YVYU", _PACKED_422),
    "VYUY": ("VYUY", _PACKED_422),
    "GREY": ("GRAY8", (_LUMA,)),
    "Y16 ": ("GRAY16_LE", (_Plane(2),)),
    "RGBP": ("RGB16", (_Plane(2),)),
    "RGB3": ("RGB", (_Plane(3),)),
    "BGR3": ("BGR", (_Plane(3),)),
    "XR24": ("BGRx", (_Plane(4),)),
    "AR24": ("BGRx", (_Plane(4),)),
    "XB24": ("RGBx", (_Plane(4),)),
    "AB24": ("RGBx", (_Plane(4),)),
    "BX24": ("xRGB", (_Plane(4),)),
    "BA24": ("xRGB", (_Plane(4),)),
    "BGR4": ("BGRx", (_Plane(4),)),
    "RGB4": ("xRGB", (_Plane(4),)),
    "NV12": ("NV12", (_LUMA, _Plane(2, 2, 2))),
    "NV21": ("NV21", (_LUMA, _Plane(2, 2, 2))),
    "NV16": ("NV16", (_LUMA, _Plane(2, 2, 1))),
    "NV61": ("NV61", (_LUMA, _Plane(2, 2, 1))),
    "NV24": ("NV24", (_LUMA, _Plane(2))),
    "YU12": ("I420", (_LUMA, _HALF, _HALF)),
    "YV12": ("YV12", (_LUMA, _HALF, _HALF)),
    "422P": ("Y42B", (_LUMA, _Plane(1, 2), _Plane(1, 2))),
    "411P": ("Y41B", (_LUMA, _Plane(1, 4), _Plane(1, 4))),
}
"""GStreamer's name and the planes of each FOURCC of V4L2."""
_FULL_RANGE: Final = frozenset({"GRAY8", "GRAY16_LE", "RGB16", "RGB", "BGR", "BGRx", "RGBx", "xRGB"})
_WITH_ALPHA: Final = {"AR24": "BGRA", "AB24": "RGBA", "BA24": "ARGB"}
"""Names under which v4l2src offers formats whose fourth byte is read as padding here."""
KNOWN: Final = frozenset({*_FORMATS, *JPEG_FORMATS})
"""Every supported FOURCC."""


def check_known(fourcc: str) -> None:
    """Raise `RecordingError` for a format that is not supported, before the device is opened."""
    if fourcc not in KNOWN:
        raise RecordingError(
            f"pixel format {fourcc} is not supported; expected one of {', '.join(sorted(KNOWN))}"
        )


def frame_layout(fourcc: str, width: int, height: int, size: int) -> FrameLayout:
    """Return the layout of a frame of ``size`` bytes; rows and the frame itself may be padded.

    Raises:
        RecordingError: ``size`` does not match the format and its width and height.
    """
    check_known(fourcc)
    name, planes = _FORMATS[fourcc]
    tight = _padded_layout(name, planes, width, height, 0)
    if size == tight.size:
        return tight
    # A driver pads the rows of every plane in proportion.
    for padding in range(1, _MAX_PADDING + 1):
        padded = _padded_layout(name, planes, width, height, padding)
        if padded.size == size:
            return padded
        if padded.size > size:
            break
    # Padded rows add at least a byte each; fewer bytes, or up to a page, are padding at the end.
    slack = size - tight.size
    if 0 < slack < height or (0 < slack < _PAGE and size % _PAGE == 0):
        return tight
    raise RecordingError(
        f"the device returned {size} bytes, but {width}x{height} in {fourcc} has {tight.size}:"
        " it does not support this format or size, or chose another"
    )


def _padded_layout(
    name: str, planes: tuple[_Plane, ...], width: int, height: int, padding: int
) -> FrameLayout:
    first = planes[0].row(width) + padding
    strides, offsets, size = [], [], 0
    for plane in planes:
        # V4L2's single-plane formats: the luma's stride determines the others.
        stride = first if plane is planes[0] else -(-first * plane.sample // plane.across)
        stride = max(stride, plane.row(width)) if padding else plane.row(width)
        strides.append(stride)
        offsets.append(size)
        size += stride * plane.rows(height)
    nick = name.lower().replace("_", "-")
    return FrameLayout(nick, tuple(strides), tuple(offsets), size, name in _FULL_RANGE)


async def develop(raw: Path, target: Path, fourcc: str, width: int, height: int) -> None:
    """Convert the frame ``raw`` to the JPEG ``target``; a frame that is a JPEG already is left as it is.

    Raises:
        RecordingError: The file is not such a frame, the format is unknown, or GStreamer fails.
        StorageError: The frame cannot be read.
    """
    size, head = await on_disk(_read_head, raw)
    if fourcc in JPEG_FORMATS:
        if head != _START_OF_IMAGE:
            raise RecordingError(
                f"the device returned {size} bytes that are not a JPEG: "
                f"it does not support {fourcc}, or not this size"
            )
        return
    frame = frame_layout(fourcc, width, height, size)
    # V4L2's default colorimetry; GStreamer would assume BT.709 for large frames.
    bt601 = GstElement("capssetter", {"caps": "video/x-raw,colorimetry=bt601"})
    parse = GstElement(
        "rawvideoparse",
        {
            "format": frame.format,
            "width": width,
            "height": height,
            "frame-size": size,
            "plane-strides": _array(frame.strides),
            "plane-offsets": _array(frame.offsets),
        },
    )
    source = GstElement("filesrc", {"location": str(raw)})
    colours: Chain = () if frame.full_range else (bt601,)
    sink = GstElement("filesink", {"location": str(target)})
    graph = Graph(((source, parse, *colours, *TO_JPEG, sink),))
    tools = await find_installation(graph.factories)
    async with capturing(lambda _: [tools.launch, "-q", *graph.arguments()]) as process:
        await process.ended(CAPTURE_TIMEOUT, f"the conversion from {fourcc}")
    _, head = await on_disk(_read_head, target)
    if head != _START_OF_IMAGE:
        raise RecordingError(f"GStreamer did not make a JPEG of a frame in {fourcc}")


def _array(numbers: tuple[int, ...]) -> str:
    return f"<{','.join(map(str, numbers))}>"


def _read_head(path: Path) -> tuple[int, bytes]:
    with storage_errors("read", path), path.open("rb") as file:
        return path.stat().st_size, file.read(len(_START_OF_IMAGE))


# -- v4l2-ctl -----------------------------------------------------------------------------------


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
        if size < _MIN_BYTES:
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
        if found.st_size < _MIN_BYTES:
            path.unlink()
        return found.st_size, found.st_mtime_ns


# -- GStreamer ----------------------------------------------------------------------------------


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
            name = _WITH_ALPHA.get(camera.pixel_format, _FORMATS[camera.pixel_format][0])
            middle = (caps("video/x-raw", format=name, **size), *TO_JPEG)
        source = GstElement("v4l2src", {"device": camera.device_path, "num-buffers": 1})
        graph = Graph(((source, *middle, GstElement("filesink", {"location": str(target)})),))
        tools = await find_installation(graph.factories)
        async with capturing(gated([tools.launch, "-q", *graph.arguments()])) as process:
            if hold:
                await process.ready("ready")
            yield _GStreamerExposure(process, target, camera.device_path, self._timeout)


# -- test pictures ------------------------------------------------------------------------------


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
            overlay: Chain = (
                GstElement("fdsrc", {"fd": fd, "blocksize": label.width * label.height}),
                GstElement("rawvideoparse", label_format),
                GstElement("videoconvert"),
                PadOf("mix"),
            )
            # Without -q: `ready` waits for a line of its output.
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
        # The label is written into the pipe at once when the capture is fired: it must fit in.
        while self.scale > 1 and math.prod(timecode.text_size(length, self.scale)) > _PIPE_BYTES:
            self.scale -= 1
        self.width, self.height = timecode.text_size(length, self.scale)

    def text(self, moment: float) -> str:
        """Return the text of the label at a time, Unix seconds."""
        return f"{self._name} {datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M:%S.%f}"

    def draw(self, moment: float) -> bytes:
        """Return the pixels of the label."""
        return timecode.draw(self.text(moment), self.scale)


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
        with storage_errors("look at", self.target):
            found = await on_disk(self.target.stat)
        if not found.st_size:
            raise RecordingError(
                f"{self.device} returned no picture{output_tail(self.process.output)}",
                output=self.process.output,
            )
        if self.label is not None:
            return self.fired_at
        # The file's time is the system's: the clock may have been set since the capture was fired.
        return min(max(found.st_mtime, self.fired_at), unix_now())

    async def develop(self) -> None:
        """Do nothing: GStreamer has written a JPEG."""
