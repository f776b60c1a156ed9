"""Pixel formats of V4L2, and how their bytes lie in a frame."""

from dataclasses import dataclass
from typing import Final

from asynccam.errors import RecordingError

JPEGS: Final = frozenset({"MJPG", "JPEG"})
"""What needs no converting."""
_MAX_PADDING: Final = 1024
"""Bytes a driver may add to a row."""
_PAGE: Final = 4096
"""Drivers make frames whole pages long."""


@dataclass(frozen=True, slots=True)
class _Plane:
    """One plane of a frame.

    Attributes:
        sample: Bytes of one sample.
        across: Pixels in a row that share a sample.
        down: Rows that share a sample.
        least: Samples that come together at least.
    """

    sample: int
    across: int = 1
    down: int = 1
    least: int = 1

    def row(self, width: int) -> int:
        samples = -(-width // self.across)
        return -(-samples // self.least) * self.least * self.sample

    def rows(self, height: int) -> int:
        return -(-height // self.down)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the planes of a frame lie.

    Attributes:
        format: GStreamer's name for the format.
        strides: Bytes from row to row, for each plane.
        offsets: Where each plane begins.
        size: Bytes of the frame, without what a driver adds at its end.
        full_range: Whether black is 0 and white the largest number, as with all that has no Cb and Cr.
    """

    format: str
    strides: tuple[int, ...]
    offsets: tuple[int, ...]
    size: int
    full_range: bool


_WORD: Final = (_Plane(2, least=2),)
_LUMA: Final = _Plane(1)
_HALF: Final = _Plane(1, 2, 2)
_FORMATS: Final[dict[str, tuple[str, tuple[_Plane, ...]]]] = {
    "YUYV": ("yuy2", _WORD),
    "UYVY": ("uyvy", _WORD),
    "YVYU": ("yvyu", _WORD),
    "VYUY": ("vyuy", _WORD),
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
KNOWN: Final = frozenset({*_FORMATS, *JPEGS})
"""Every FOURCC a JPEG can be made of."""


def check_known(fourcc: str) -> None:
    """Refuse a format before a device is touched.

    Raises:
        RecordingError: No JPEG can be made of it.
    """
    if fourcc not in KNOWN:
        raise RecordingError(
            f"no JPEG can be made of pixel format {fourcc}; known are {', '.join(sorted(KNOWN))}"
        )


def layout(fourcc: str, width: int, height: int, size: int) -> Layout:
    """How a frame of ``size`` bytes lies; rows and the frame itself may be longer than they need be.

    Raises:
        RecordingError: It is no frame of this format and size.
    """
    check_known(fourcc)
    name, planes = _FORMATS[fourcc]
    tight = _lay(name, planes, width, height, 0)
    if size == tight.size:
        return tight
    # A driver that pads its rows does so in every plane, by as much in proportion.
    for padding in range(1, _MAX_PADDING + 1):
        padded = _lay(name, planes, width, height, padding)
        if padded.size == size:
            return padded
        if padded.size > size:
            break
    # Padded rows add a byte to each at least; less than that, or up to a whole page, is at the end.
    slack = size - tight.size
    if 0 < slack < height or (0 < slack < _PAGE and size % _PAGE == 0):
        return tight
    raise RecordingError(
        f"the device gave {size} bytes, but {width}x{height} in {fourcc} has {tight.size}:"
        " it knows this format or size not, or chose another"
    )


def _lay(name: str, planes: tuple[_Plane, ...], width: int, height: int, padding: int) -> Layout:
    first = planes[0].row(width) + padding
    strides, offsets, size = [], [], 0
    for plane in planes:
        # The luma's stride rules the others, as it does in V4L2's single-plane formats.
        stride = first if plane is planes[0] else -(-first * plane.sample // plane.across)
        stride = max(stride, plane.row(width)) if padding else plane.row(width)
        strides.append(stride)
        offsets.append(size)
        size += stride * plane.rows(height)
    return Layout(name, tuple(strides), tuple(offsets), size, name in _FULL_RANGE)
