"""Where the camera looked, written into the picture. See docs/protocols/snapshot.md."""

import io
import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import piexif
import piexif.helper

from asynccam.runtime.disk import storage_errors
from asynccam.systems.snapshot.server.models import Reading
from asynccam.systems.snapshot.server.version import VERSION

_START_OF_IMAGE: Final = b"\xff\xd8"


def write_reading(path: Path, reading: Reading) -> bool:
    """Put a reading into a JPEG's EXIF, in one step; blocking, for `on_disk`.

    ``UserComment`` is JSON with ``roll``, ``pitch``, ``yaw`` in degrees and ``timestamp`` in Unix seconds,
    in EXIF's UNICODE encoding. What else the EXIF holds stays.

    Returns:
        Whether it is there; a picture that takes none is left as it is.

    Raises:
        StorageError: The file cannot be read or written.
    """
    with storage_errors("read", path):
        data = path.read_bytes()
    if not data.startswith(_START_OF_IMAGE):  # piexif would take the bytes for the name of a file
        return False
    comment = {"roll": reading.roll, "pitch": reading.pitch, "yaw": reading.yaw, "timestamp": reading.at}
    tagged = io.BytesIO()
    try:
        tags = _tags(data)
        tags["0th"][piexif.ImageIFD.Software] = f"asynccam {VERSION}".encode()
        tags["Exif"][piexif.ExifIFD.UserComment] = piexif.helper.UserComment.dump(
            json.dumps(comment), encoding="unicode"
        )
        piexif.insert(piexif.dump(tags), data, tagged)
    except (ValueError, LookupError, TypeError, struct.error):  # piexif's own words for odd JPEGs
        return False
    with storage_errors("write", path):
        beside = path.with_suffix(".exif")
        beside.write_bytes(tagged.getvalue())
        beside.replace(path)
    return True


def _tags(data: bytes) -> dict[str, Any]:
    """What the camera's own EXIF says; nothing, where that cannot be read."""
    empty: dict[str, Any] = {"0th": {}, "Exif": {}, "GPS": {}, "Interop": {}, "1st": {}, "thumbnail": None}
    with suppress(ValueError, LookupError, TypeError, struct.error):
        empty.update(piexif.load(data))
    return empty
