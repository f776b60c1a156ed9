"""The camera and its streams, under the names the maker's examples import them by.

One of these examples makes a video with ``tools.ImageStream(10, src="camera", sink="file")``: here, and only
here, `ImageStream` with a ``src`` and without an interval is a `VideoStream` of so many seconds.
"""

from typing import Literal, overload

from asynccam.errors import UsageError
from asynccam.systems.nanocam import streams
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.streams import VideoStream

__all__ = ["CSIcamera", "ImageStream", "VideoStream"]


@overload
def _image_stream(
    frames: int, interval: float, *, sink: Literal["file", "opencv"] = "file"
) -> streams.ImageStream: ...


@overload
def _image_stream(
    frames: float,
    *,
    src: Literal["camera", "udp"],
    sink: Literal["file", "opencv", "udp", "hls"] = "file",
) -> VideoStream: ...


def _image_stream(
    frames: float,
    interval: float | None = None,
    *,
    src: Literal["camera", "udp"] | None = None,
    sink: Literal["file", "opencv", "udp", "hls"] = "file",
) -> streams.ImageStream | VideoStream:
    """Pictures at an interval; with ``src`` in its place, a video of ``frames`` seconds.

    Raises:
        UsageError: As for the two classes, or both or neither of ``interval`` and ``src`` are given.
    """
    if interval is None and src is not None:
        return VideoStream(frames, src=src, sink=sink)
    if interval is None or src is not None or not isinstance(frames, int) or sink == "udp" or sink == "hls":
        raise UsageError("ImageStream(frames, interval, sink='file' or 'opencv') takes pictures")
    return streams.ImageStream(frames, interval, sink=sink)


ImageStream = _image_stream
