"""JPEG pictures from a camera or a service: whether they are whole, and where they begin."""

import mmap
import os
import secrets
from pathlib import Path
from typing import Final

from asynccam.errors import DamagedFileError, RemoteProtocolError, StorageError
from asynccam.model.safe_files import Folder, open_file
from asynccam.recording.containers.jpeg import JpegPicture, find_picture
from asynccam.runtime.disk import storage_errors

MAX_PICTURE: Final = 256 * 1024 * 1024
"""Largest picture in bytes; larger files are refused."""
_MIN_JPEG: Final = 3  # bytes by which a JPEG is recognised: its start marker, and the beginning of the next
_BLOCK: Final = 1024 * 1024


def read_picture(path: Path) -> tuple[JpegPicture, int]:
    """Return the picture in a file that must not change meanwhile, and the file's size in bytes; blocking.

    Raises StorageError if the file cannot be read, or has more than `MAX_PICTURE` bytes.
    """
    with storage_errors("read", path), os.fdopen(open_file(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_PICTURE:
            raise StorageError(f"{path} has {size} bytes; a picture may have at most {MAX_PICTURE}")
        if not size:
            return find_picture(b""), 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as area, memoryview(area) as data:
            return find_picture(data), size


def is_jpeg_picture(found: JpegPicture) -> bool:
    """Return whether there is a JPEG at all, whole or broken."""
    return found.end - found.begin >= _MIN_JPEG


def picture_offset(found: JpegPicture, size: int, source: str) -> int:
    """Return the offset at which a whole picture begins; ``source`` names it in errors.

    ``size`` is the bytes that `find_picture` was given. Raises DamagedFileError if the picture is broken, and
    RemoteProtocolError if there is no JPEG.
    """
    if not found.flaw:
        return found.begin
    if not is_jpeg_picture(found):
        raise RemoteProtocolError(f"{source} is not a JPEG picture")
    verdict = "truncated" if found.end == size else "damaged"
    raise DamagedFileError(f"{source} is a broken picture: it {found.flaw}", verdict=verdict)


def inspect_picture(path: Path, source: str) -> int:
    """Return the offset of the picture in a file; blocking. Raises as `picture_offset` and `read_picture`."""
    found, size = read_picture(path)
    return picture_offset(found, size, source)


def remove_head(path: Path, count: int) -> None:
    """Remove the first ``count`` bytes of a file that is not open elsewhere, atomically; blocking.

    Raises StorageError if the disk refuses; the file is then as it was.
    """
    beside = f".{path.name}.{secrets.token_hex(8)}.whole"
    with storage_errors("write", path), Folder(path.parent) as folder:
        try:
            with (
                os.fdopen(folder.open(path.name), "rb") as source,
                os.fdopen(folder.create(beside), "wb") as target,
            ):
                source.seek(count)
                while data := source.read(_BLOCK):
                    target.write(data)
            folder.replace(beside, path.name)
        except BaseException:
            folder.remove(beside)
            raise
