"""Choice of the reader for a file by its first bytes."""

from collections.abc import Callable
from typing import Final

from asynccam.recording.containers.avi import is_avi, scan_avi
from asynccam.recording.containers.flv import is_flv, scan_flv
from asynccam.recording.containers.jpeg import is_jpeg, scan_jpeg
from asynccam.recording.containers.matroska import is_matroska, scan_matroska
from asynccam.recording.containers.mp4.layout import is_mp4
from asynccam.recording.containers.mp4.scan import scan_mp4
from asynccam.recording.containers.mpegts import is_mpegts, scan_mpegts
from asynccam.recording.containers.raw_video import is_raw_video, scan_raw_video
from asynccam.recording.containers.reader import FileView, Scan
from asynccam.recording.containers.zip import is_zip, scan_zip

_HEAD: Final = 1 << 16  # bytes that a format is recognised by

_FORMATS: Final[tuple[tuple[Callable[[bytes], bool], Callable[[FileView], Scan]], ...]] = (
    (is_matroska, scan_matroska),
    (is_mp4, scan_mp4),
    (is_avi, scan_avi),
    (is_flv, scan_flv),
    (is_zip, scan_zip),
    (is_raw_video, scan_raw_video),
    # These two may begin behind other bytes, so all formats with a mark at their begin are tried first.
    (is_mpegts, scan_mpegts),
    (is_jpeg, scan_jpeg),
)
"""By likelihood where order does not matter; the first that fits reads the file."""


def scan_file(view: FileView) -> Scan:
    """Read a file's structure with the reader of its format."""
    if not view.size:
        return Scan(0, None, note="has no bytes")
    is_format = find_format(view)
    if is_format is not None:
        return dict(_FORMATS)[is_format](view)
    if view.is_zeros(0):
        return Scan(0, None, damaged="holds nothing but zeros")
    return Scan(None, None, note="is of a format that is not understood", understood=False)


def find_format(view: FileView) -> Callable[[bytes], bool] | None:
    """Return the test that recognises the format of a file, ``is_mp4`` for example, or None."""
    return recognise_format(view.read_some(0, _HEAD))


def recognise_format(head: bytes) -> Callable[[bytes], bool] | None:
    """Return the test that recognises a format in the first 65,536 bytes of a file, or None."""
    return next((is_format for is_format, _ in _FORMATS if is_format(head)), None)
