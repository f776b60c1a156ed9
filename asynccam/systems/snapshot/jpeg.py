"""Check that a response is a complete JPEG: existing servers send raw frames and broken pictures too."""

from pathlib import Path
from typing import Final

from asynccam.recording.containers.jpeg import JpegPicture, find_picture
from asynccam.recording.pictures import is_jpeg_picture, picture_offset, read_picture
from asynccam.runtime.disk import storage_errors
from asynccam.systems.snapshot.errors import RemoteProtocolError

_HEAD_SIZE: Final = 4096
_SHOWN_BYTES: Final = 8


def offset_in_memory(data: bytes, source: str) -> int:
    """Return the offset of the picture in a response; takes up to a second for each 4 MB.

    Raises:
        DamagedFileError: The picture is broken; ``source`` is named in the error.
        RemoteProtocolError: It is not a JPEG.
    """
    found = find_picture(data)
    _check_kind(found, data[:_HEAD_SIZE], source)
    return picture_offset(found, len(data), source)


def offset_on_disk(path: Path, source: str) -> int:
    """Return the offset of the picture in a file, as `offset_in_memory`; blocking.

    Raises:
        StorageError: The file cannot be read.
    """
    found, size = read_picture(path)
    with storage_errors("read", path), path.open("rb") as file:
        _check_kind(found, file.read(_HEAD_SIZE), source)
    return picture_offset(found, size, source)


def _check_kind(found: JpegPicture, head: bytes, source: str) -> None:
    """Raise `RemoteProtocolError` for a response that is not a JPEG at all, and say what it is."""
    if is_jpeg_picture(found):
        return
    if not head:
        raise RemoteProtocolError(f"{source} is empty", status_code=200, response_text="")
    if head.lstrip()[:1] == b"<":
        raise RemoteProtocolError(
            f"{source} is a web page, not a picture",
            status_code=200,
            response_text=head.decode(errors="replace"),
        )
    if head.lstrip()[:1] == b"{":
        text = head.decode(errors="replace")
        raise RemoteProtocolError(
            f"{source} is JSON, not a picture: {text}", status_code=200, response_text=text
        )
    raise RemoteProtocolError(
        f"{source} is not a JPEG, it begins with {head[:_SHOWN_BYTES].hex(' ')}: perhaps a raw frame, which "
        "existing servers send for a camera whose pixel format is not MJPG",
        status_code=200,
    )
