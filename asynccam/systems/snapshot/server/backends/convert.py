"""Raw frames made true JPEGs, by GStreamer."""

from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError
from asynccam.recording.elements import Chain, Graph, GstElement, caps
from asynccam.recording.gstreamer import find_installation
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.systems.snapshot.server.backends.formats import JPEGS, layout
from asynccam.systems.snapshot.server.backends.process import capturing

# GStreamer takes pictures from Y'CbCr to Y'CbCr without widening their range, and a JPEG has the full one,
# so the way leads over RGB; what jpegenc makes of RGB itself, few programs can read.
TO_JPEG: Final[Chain] = (
    GstElement("videoconvert"),
    caps("video/x-raw", format="RGB"),
    GstElement("videoconvert"),
    caps("video/x-raw", format="Y42B", colorimetry="1:4:0:0"),
    GstElement("jpegenc", {"quality": 92}),
)
"""Any raw picture made a JPEG as others write them."""
_SECONDS: Final = 30.0
_START_OF_IMAGE: Final = b"\xff\xd8\xff"


async def develop(raw: Path, target: Path, fourcc: str, width: int, height: int) -> None:
    """Make a JPEG of one frame; what is one already keeps its bytes.

    Args:
        raw: The frame, as the device gave it.
        target: The JPEG to be; may be ``raw`` where the format is a JPEG's.
        fourcc: Its pixel format.
        width: Pixels.
        height: Pixels.

    Raises:
        RecordingError: The bytes are no such frame, the format is unknown, or GStreamer fails.
        StorageError: The frame cannot be read.
    """
    size, head = await on_disk(_look, raw)
    if fourcc in JPEGS:
        if head != _START_OF_IMAGE:
            raise RecordingError(
                f"the device gave {size} bytes that are no JPEG: it does not know {fourcc}, or not this size"
            )
        return
    form = layout(fourcc, width, height, size)
    parse = GstElement(
        "rawvideoparse",
        {
            "format": form.format,
            "width": width,
            "height": height,
            "frame-size": size,
            "plane-strides": _array(form.strides),
            "plane-offsets": _array(form.offsets),
        },
    )
    graph = Graph(
        (
            (
                GstElement("filesrc", {"location": str(raw)}),
                parse,
                # What V4L2 means where it says nothing; GStreamer would take large frames for BT.709.
                *(
                    []
                    if form.full_range
                    else [GstElement("capssetter", {"caps": "video/x-raw,colorimetry=bt601"})]
                ),
                *TO_JPEG,
                GstElement("filesink", {"location": str(target)}),
            ),
        )
    )
    tools = await find_installation(graph.factories)
    async with capturing(lambda _: [tools.launch, "-q", *graph.arguments()]) as process:
        await process.ended(_SECONDS, f"the conversion from {fourcc}")
    _, head = await on_disk(_look, target)
    if head != _START_OF_IMAGE:
        raise RecordingError(f"GStreamer made no JPEG of a frame in {fourcc}")


def _array(numbers: tuple[int, ...]) -> str:
    return f"<{','.join(map(str, numbers))}>"


def _look(path: Path) -> tuple[int, bytes]:
    with storage_errors("read", path), path.open("rb") as file:
        return path.stat().st_size, file.read(len(_START_OF_IMAGE))
