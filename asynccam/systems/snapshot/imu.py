"""IMU reading in a picture's EXIF; needs Pillow (the extra ``server``). See docs/protocols/snapshot.md."""

import asyncio
import struct
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from asynccam.errors import RemoteProtocolError, UsageError
from asynccam.outside import clean_json
from asynccam.runtime.disk import storage_errors

_EXIF: Final = 0x8769
_USER_COMMENT: Final = 0x9286
_CODE_SIZE: Final = 8
"""EXIF: a UserComment begins with eight bytes that name its encoding."""
_CODES: Final = (b"UNICODE", b"ASCII", b"JIS", b"")


class ImuReading(BaseModel):
    """Orientation of a camera when it took a picture.

    Attributes:
        roll: Degrees.
        pitch: Degrees.
        yaw: Degrees.
        timestamp: When the reading was received: Unix seconds, or any text the server wrote, or None.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    roll: float
    pitch: float
    yaw: float
    timestamp: float | str | None = None


async def read_imu(path: Path | str) -> ImuReading | None:
    """Read the IMU's reading from a JPEG file, in a thread; None if it has none.

    Raises:
        RemoteProtocolError: The file is not a JPEG, or its reading is invalid.
        StorageError: The file cannot be read.
        UsageError: Pillow is not installed.
    """
    file = Path(path)
    comment = await asyncio.to_thread(_comment, file)
    text = "" if comment is None else _decoded(comment)
    if not text.startswith("{"):  # a comment of another program
        return None
    try:
        return ImuReading.model_validate_json(clean_json(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise RemoteProtocolError(f"{file} holds a broken IMU reading: {where}: {first['msg']}") from None
    except ValueError as error:
        raise RemoteProtocolError(f"{file} holds a broken IMU reading: {error}") from None


def _comment(path: Path) -> bytes | None:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UsageError("reading EXIF needs Pillow: install asynccam[server]") from None
    with storage_errors("read", path), path.open("rb") as file:
        try:
            # Reads the header only, and decodes no pixels.
            with Image.open(file, formats=("JPEG",)) as picture:
                exif = picture.getexif()
                # Some programs write it to the main IFD.
                found: Any = exif.get_ifd(_EXIF).get(_USER_COMMENT, exif.get(_USER_COMMENT))
        except UnidentifiedImageError:
            raise RemoteProtocolError(f"{path} is not a JPEG picture") from None
        except OSError as error:
            if error.errno is not None:
                raise
            # Raised by Pillow, not by the disk.
            raise RemoteProtocolError(f"{path} is cut short: {error}") from None
        except (SyntaxError, ValueError, struct.error, Warning, Image.DecompressionBombError) as error:
            # A program may have turned warnings into errors.
            raise RemoteProtocolError(f"{path} has broken EXIF: {error}") from error
    if isinstance(found, str):
        return found.encode("latin-1", "replace")
    return found if isinstance(found, bytes) else None  # a number is not a comment


def _decoded(comment: bytes) -> str:
    """Decode a comment; programs disagree about the byte order of UNICODE."""
    code = comment[:_CODE_SIZE].strip(b"\0 ").upper()
    body = comment[_CODE_SIZE:] if code in _CODES else comment
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif body[1:2] == b"\0":
        encoding = "utf-16-le"
    else:
        encoding = "utf-16-be" if body[:1] == b"\0" else "utf-8"
    if encoding != "utf-8" and len(body) % 2:  # terminated by one byte, or cut by one
        body += b"\0"
    return body.decode(encoding, "replace").strip("\0 \r\n\t\ufeff")
