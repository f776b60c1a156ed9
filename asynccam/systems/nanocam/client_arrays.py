"""Pictures and videos as arrays, by PyAV and NumPy of the extra ``video``."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asynccam.runtime.disk import on_disk

if TYPE_CHECKING:
    import numpy

    Picture = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]
    """Height x width x 3 bytes, blue first, as OpenCV has them."""

MAX_FRAMES: Final = 300
"""Frames of one file that become arrays: at 1920x1080 they take nearly 2 GB."""

_LOG = logging.getLogger(__name__)


async def as_arrays(paths: list[Path], wanted: bool) -> tuple[list[Path], "list[Picture]"]:
    """Files, and if wanted what is in them; without PyAV, or of a file that is none, there are no arrays."""
    if not wanted:
        return paths, []
    try:
        import av  # noqa: F401 - found out here, used in a thread
        import numpy  # noqa: F401 - as above
    except ImportError:
        _LOG.warning("pictures as arrays need asynccam[video]; %d files have none", len(paths))
        return paths, []
    return paths, [picture for path in paths for picture in await on_disk(_decode, path)]


def _decode(path: Path) -> "list[Picture]":
    import av

    pictures: list[Picture] = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if len(pictures) == MAX_FRAMES:
                    _LOG.warning("%s has more than %d frames; the others are in the file", path, MAX_FRAMES)
                    break
                pictures.append(frame.to_ndarray(format="bgr24").astype("uint8", copy=False))
    except (av.FFmpegError, IndexError) as error:
        _LOG.warning("%s cannot be decoded: %s", path, error)
    return pictures
