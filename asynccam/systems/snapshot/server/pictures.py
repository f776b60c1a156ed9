"""Whether what a camera gave is a whole picture, before anybody is told that there is one."""

from pathlib import Path

from asynccam.errors import RecordingError
from asynccam.recording.pictures import is_jpeg_picture, read_picture, remove_head


class BrokenPictureError(RecordingError):
    """A camera gave a picture that is not whole; the next one may be."""


def check_picture(path: Path, device: str) -> None:
    """Read a picture, and let it begin with its first byte; blocking, for `asynccam.runtime.disk.on_disk`.

    Bytes before the picture are removed, because other programs do not look for it behind them. What stands
    behind its end stays: it harms nobody, and may belong to it, as the second picture of a pair does.

    Args:
        path: The file.
        device: Names the camera in the error.

    Raises:
        BrokenPictureError: It is not a whole JPEG.
        StorageError: It cannot be read or written.
    """
    found, size = read_picture(path)
    if found.flaw and not is_jpeg_picture(found):
        why = "it does not know this pixel format, or not this size"
        raise BrokenPictureError(f"{device} gave {size} bytes that are no JPEG: {why}")
    if found.flaw:
        raise BrokenPictureError(f"{device} gave a broken picture: it {found.flaw}")
    if found.begin:
        remove_head(path, found.begin)
