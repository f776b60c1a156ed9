"""What a client may ask of a media server: fields checked, and held within the server's limits."""

from dataclasses import dataclass
from typing import Final

from asynccam.errors import UsageError
from asynccam.systems.nanocam.protocol import (
    ImageRequest,
    VideoRequest,
)
from asynccam.systems.nanocam.server.options import ServerLimits
from asynccam.systems.nanocam.server.queue import JobKind


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures into files.

    Attributes:
        width: Pixels.
        height: Pixels.
        frames: How many.
        interval: Seconds from one to the next.
    """

    width: int
    height: int
    frames: int
    interval: float

    @property
    def kind(self) -> JobKind:
        """What has the camera."""
        return "image"


@dataclass(frozen=True, slots=True)
class Video:
    """A video into a file, or as RTP over UDP.

    Attributes:
        width: Pixels.
        height: Pixels.
        duration: Seconds.
        udp: Whether it is streamed.
        port: UDP port the client wants it at, or None for the server's own choice.
    """

    width: int
    height: int
    duration: float
    udp: bool
    port: int | None = None

    @property
    def kind(self) -> JobKind:
        """What has the camera."""
        return "udp" if self.udp else "video"


Wanted = Pictures | Video

_LEAST_SIDE: Final = 16


def checked(request: ImageRequest | VideoRequest, limits: ServerLimits) -> Wanted:
    """What a request asks for, if the server puts up with it.

    Odd sides are made even, because video has none; the original ignores them altogether.

    Raises:
        UsageError: It asks for more than the limits allow.
    """
    width, height = request.width & ~1, request.height & ~1
    if not (_LEAST_SIDE <= width <= limits.width and _LEAST_SIDE <= height <= limits.height):
        raise UsageError(
            f"{request.width}x{request.height} is not between 16x16 and {limits.width}x{limits.height}"
        )
    if isinstance(request, VideoRequest):
        _within(request.duration, limits.duration, "seconds of video")
        return Video(width, height, request.duration, request.format == "udp")
    _within(request.frames, limits.frames, "pictures")
    _within(request.interval, limits.interval, "seconds between pictures")
    _within(request.interval * (request.frames - 1), limits.duration, "seconds from first to last picture")
    return Pictures(width, height, request.frames, request.interval)


def _within(asked: float, most: float, what: str) -> None:
    if asked > most:
        raise UsageError(f"{asked:g} {what} are more than {most:g}")
