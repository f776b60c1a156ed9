"""Conversion of raw frames to JPEG by GStreamer: pixel formats of V4L2, and the layout of their frames."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError
from asynccam.recording.elements import Chain, Graph, GstElement, caps
from asynccam.recording.gstreamer import find_installation
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.systems.snapshot.server.backends.base import CAPTURE_TIMEOUT, JPEG_FORMATS, capturing

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
_START_OF_IMAGE: Final = b"\xff\xd8\xff"
_MAX_PADDING: Final = 1024
"""Bytes; maximum padding of a row."""
_PAGE: Final = 4096
"""Bytes; drivers round frames up to whole pages."""


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
    """Layout of a frame in memory: GStreamer's format, and stride and offset of each plane in bytes.

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
    "YUYV": ("yuy2", _PACKED_422),
    "UYVY": ("uyvy", _PACKED_422),
    "YVYU": ("yvyu", _PACKED_422),
    "VYUY": ("vyuy", _PACKED_422),
    "GREY": ("gray8", (_LUMA,)),
    "Y16 ": ("gray16-le", (_Plane(2),)),
    "RGBP": ("rgb16", (_Plane(2),)),
    "RGB3": ("rgb", (_Plane(3),)),
    "BGR3": ("bgr", (_Plane(3),)),
    "XR24": ("bgrx", (_Plane(4),)),
    "AR24": ("bgrx", (_Plane(4),)),
    "XB24": ("rgbx", (_Plane(4),)),
    "AB24": ("rgbx", (_Plane(4),)),
    "BX24": ("xrgb", (_Plane(4),)),
    "BA24": ("xrgb", (_Plane(4),)),
    "BGR4": ("bgrx", (_Plane(4),)),
    "RGB4": ("xrgb", (_Plane(4),)),
    "NV12": ("nv12", (_LUMA, _Plane(2, 2, 2))),
    "NV21": ("nv21", (_LUMA, _Plane(2, 2, 2))),
    "NV16": ("nv16", (_LUMA, _Plane(2, 2, 1))),
    "NV61": ("nv61", (_LUMA, _Plane(2, 2, 1))),
    "NV24": ("nv24", (_LUMA, _Plane(2))),
    "YU12": ("i420", (_LUMA, _HALF, _HALF)),
    "YV12": ("yv12", (_LUMA, _HALF, _HALF)),
    "422P": ("y42b", (_LUMA, _Plane(1, 2), _Plane(1, 2))),
    "411P": ("y41b", (_LUMA, _Plane(1, 4), _Plane(1, 4))),
}

_FULL_RANGE: Final = frozenset({"gray8", "gray16-le", "rgb16", "rgb", "bgr", "bgrx", "rgbx", "xrgb"})
KNOWN: Final = frozenset({*_FORMATS, *JPEG_FORMATS})
"""Every supported FOURCC."""


def check_known(fourcc: str) -> None:
    """Check a format before the device is opened.

    Raises:
        RecordingError: The format is not supported.
    """
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
    return FrameLayout(name, tuple(strides), tuple(offsets), size, name in _FULL_RANGE)


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
    graph = Graph(
        (
            (
                GstElement("filesrc", {"location": str(raw)}),
                parse,
                # V4L2's default colorimetry; GStreamer would assume BT.709 for large frames.
                *(
                    []
                    if frame.full_range
                    else [GstElement("capssetter", {"caps": "video/x-raw,colorimetry=bt601"})]
                ),
                *TO_JPEG,
                GstElement("filesink", {"location": str(target)}),
            ),
        )
    )
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
