"""Media files for GStreamer: held open here, and decoded as the format that was recognised here.

A file says what it is by its first bytes, to GStreamer too: one that is named ``video.mp4`` and holds a
playlist, a session description or a project would make ``decodebin`` open other files, or the network. So
the format is recognised here, and ``decodebin`` is given its caps instead of looking for itself.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from asynccam.errors import RecordingError
from asynccam.model.safe_files import open_file
from asynccam.recording.containers.avi import is_avi
from asynccam.recording.containers.flv import is_flv
from asynccam.recording.containers.jpeg import is_jpeg
from asynccam.recording.containers.matroska import is_matroska
from asynccam.recording.containers.mp4.layout import is_mp4
from asynccam.recording.containers.mpegts import is_mpegts
from asynccam.recording.containers.raw_video import VideoCodec, find_codec, is_raw_video
from asynccam.recording.containers.scan import recognise_format
from asynccam.recording.elements import Chain, GstElement, Value

_HEAD: Final = 1 << 16
_CAPS: Final[Mapping[Callable[[bytes], bool], str]] = MappingProxyType(
    {
        is_mp4: "video/quicktime",
        is_matroska: "video/x-matroska",
        is_mpegts: "video/mpegts,systemstream=(boolean)true",
        is_avi: "video/x-msvideo",
        is_flv: "video/x-flv",
        is_jpeg: "image/jpeg",
    }
)
_CODECS: Final[Mapping[VideoCodec | None, str]] = MappingProxyType(
    {VideoCodec.H264: "video/x-h264", VideoCodec.H265: "video/x-h265"}
)
_PICTURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"BM", "image/bmp"),
)
_NO_PROPERTIES: Final[Mapping[str, Value]] = MappingProxyType({})


class MediaFiles:
    """Files held open for one process, which inherits the descriptors ``fds`` and opens nothing by name."""

    def __init__(self) -> None:
        self.fds: tuple[int, ...] = ()
        self._known: dict[Path, tuple[str, str]] = {}

    def open(self, paths: Sequence[Path]) -> None:
        """Open the files and recognise their formats; blocking.

        Raises:
            RecordingError: A file cannot be opened, or its format is unknown.
        """
        # Opened anew by the process, so that each element reads from its own place.
        descriptors = "/proc/self/fd" if Path("/proc/self/fd").is_dir() else "/dev/fd"
        for path in paths:
            try:
                fd = open_file(path)
                self.fds = (*self.fds, fd)
                media = _caps_of(os.pread(fd, _HEAD, 0))
            except OSError as error:
                raise RecordingError(f"{path.name} cannot be read: {error.strerror or error}") from error
            if media is None:
                raise RecordingError(
                    f"{path.name} has an unknown format; known are MP4, Matroska, MPEG-TS, AVI, Flash"
                    " video, raw H.264 or H.265, or a picture"
                )
            self._known[path] = f"{descriptors}/{fd}", media

    def decoded(self, path: Path, properties: Mapping[str, Value] = _NO_PROPERTIES) -> Chain:
        """Return the elements that read and decode an opened file; ``properties`` are decodebin's."""
        place, media = self._known[path]
        return (
            GstElement("filesrc", {"location": place}),
            GstElement("decodebin", {"sink-caps": media, **properties}),
        )

    def close(self) -> None:
        """Close the files; idempotent."""
        fds, self.fds = self.fds, ()
        for fd in fds:
            os.close(fd)


def _caps_of(head: bytes) -> str | None:
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    for mark, media in _PICTURES:
        if head.startswith(mark):
            return media
    is_format = recognise_format(head)
    if is_format is is_raw_video:
        return _CODECS.get(find_codec(head))
    return None if is_format is None else _CAPS.get(is_format)
