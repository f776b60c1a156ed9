"""Whether an answer is a whole JPEG picture: servers in the field hand out raw frames and broken ones too."""

from pathlib import Path
from typing import Final

from asynccam.recording.containers.jpeg import JpegPicture, find_picture
from asynccam.recording.pictures import is_jpeg_picture, picture_offset, read_picture
from asynccam.runtime.disk import storage_errors
from asynccam.systems.snapshot.errors import RemoteProtocolError

_HEAD: Final = 4096
"""Bytes that tell what an answer is instead of a picture."""
_SHOWN: Final = 8


def begin_in_memory(data: bytes, source: str) -> int:
    """Return the offset at which a picture begins; takes up to a second for each 4 MB.

    Args:
        data: What the server sent.
        source: Names it in the error.

    Raises:
        DamagedFileError: It is a broken picture.
        RemoteProtocolError: It is not a JPEG.
    """
    found = find_picture(data)
    _check_kind(found, data[:_HEAD], source)
    return picture_offset(found, len(data), source)


def begin_on_disk(path: Path, source: str) -> int:
    """Return the offset at which the picture in a file begins; as `begin_in_memory`, and blocking.

    Raises:
        StorageError: The file cannot be read.
    """
    found, size = read_picture(path)
    with storage_errors("read", path), path.open("rb") as file:
        _check_kind(found, file.read(_HEAD), source)
    return picture_offset(found, size, source)


def _check_kind(found: JpegPicture, head: bytes, source: str) -> None:
    """Say what an answer is that holds no JPEG at all.

    Raises:
        RemoteProtocolError: It holds none.
    """
    if is_jpeg_picture(found):
        return
    if not head:
        raise RemoteProtocolError(f"{source} is empty", status_code=200, response_text="")
    if head.lstrip()[:1] == b"<":
        raise RemoteProtocolError(
            f"{source} is a page, no picture", status_code=200, response_text=head.decode(errors="replace")
        )
    if head.lstrip()[:1] == b"{":
        words = head.decode(errors="replace")
        raise RemoteProtocolError(
            f"{source} is an answer, no picture: {words}", status_code=200, response_text=words
        )
    raise RemoteProtocolError(
        f"{source} is no JPEG, it begins with {head[:_SHOWN].hex(' ')}: a raw frame perhaps, which servers "
        "hand out under that name for a camera whose pixel format is not MJPG",
        status_code=200,
    )
