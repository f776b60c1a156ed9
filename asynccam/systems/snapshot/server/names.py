"""File names of pictures: ``PREFIX_CAMERA_YYYYmmdd_HHMMSSffffff.jpg``. See docs/protocols/snapshot.md.

A camera's name may hold anything that can be shown, a file's may not. Letters, digits and a few
signs stand for themselves; each byte of everything else is written ``~2f``, so that the camera can be
told from the file again.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from asynccam.errors import UsageError

PREFIXES: Final = ("snapshot", "api_all_cams", "api_stereo", "all_cams", "stereo")
"""What a name begins with, by the way the picture was asked for."""
SUFFIXES: Final = (".jpg", ".jpeg")

_KEPT: Final = frozenset(" -_.,+()")
_ESCAPE: Final = "~"
_ESCAPED: Final = re.compile(r"(?:~[0-9a-f]{2})+")
_MAX_BYTES: Final = 180
_DIGEST: Final = 16
_CUT: Final = re.compile(r"(.*)~~([0-9a-f]{16})", re.DOTALL)
_NAME: Final = re.compile(
    rf"({'|'.join(PREFIXES)})_(.+)_(\d{{8}}_\d{{12}})\.jpe?g", re.DOTALL | re.IGNORECASE
)
_MAX_NAME_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class ParsedName:
    """What a picture's name tells.

    Attributes:
        prefix: One of `PREFIXES`.
        camera: The camera as it stands in the name, see `camera_of`.
    """

    prefix: str
    camera: str


def file_name(prefix: str, camera: str, taken_at: float, *, later: int = 0) -> str:
    """The name of a picture.

    Args:
        prefix: One of `PREFIXES`.
        camera: The camera's name.
        taken_at: Unix seconds; the name has local time, as in the field.
        later: Microseconds on top, where a name is taken.

    Raises:
        UsageError: There is no such prefix.
    """
    if prefix not in PREFIXES:
        raise UsageError(f"{prefix!r} is none of the prefixes {', '.join(PREFIXES)}")
    # Whole microseconds first: a float on its way through datetime may round to another one.
    moment = datetime.fromtimestamp(0).astimezone() + timedelta(microseconds=round(taken_at * 1e6) + later)
    return f"{prefix}_{encode_camera(camera)}_{moment.astimezone():%Y%m%d_%H%M%S%f}.jpg"


def parse_name(name: str) -> ParsedName | None:
    """What a picture's name tells, or None for a file that is not named like one."""
    match = _NAME.fullmatch(name)
    return None if match is None else ParsedName(match[1].lower(), match[2])


def encode_camera(camera: str) -> str:
    """A camera's name as it stands in a file's; the same one always becomes the same."""
    text = "".join(_encode(letter) for letter in camera)
    data = text.encode()
    if len(data) <= _MAX_BYTES:
        return text
    digest = hashlib.sha256(camera.encode()).hexdigest()[:_DIGEST]
    start = data[: _MAX_BYTES - _DIGEST - 2].decode(errors="ignore")
    return f"{start.rstrip(_ESCAPE)}{_ESCAPE}{_ESCAPE}{digest}"


def camera_of(encoded: str, cameras: Iterable[str]) -> str:
    """The name of the camera that stands in a file's name.

    Args:
        encoded: As it stands there.
        cameras: Names of the cameras there are, among which one that was cut short is looked for.
    """
    if _CUT.fullmatch(encoded):
        return next((camera for camera in cameras if encode_camera(camera) == encoded), encoded)
    return _ESCAPED.sub(_decode, encoded)


def is_safe(name: str) -> bool:
    """Whether a name can be a picture's: one component, not hidden, a JPEG by its ending."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        0 < size <= _MAX_NAME_BYTES
        and not name.startswith(".")
        and not any(letter in name for letter in "/\\\0")
        and name.lower().endswith(SUFFIXES)
    )


def _encode(letter: str) -> str:
    if letter.isalnum() or letter in _KEPT:
        return letter
    return "".join(f"{_ESCAPE}{byte:02x}" for byte in letter.encode())


def _decode(match: re.Match[str]) -> str:
    data = bytes.fromhex(match[0].replace(_ESCAPE, ""))
    try:
        return data.decode()
    except UnicodeDecodeError:
        return match[0]
