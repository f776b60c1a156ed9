"""What a ThorVision server says and is told. See docs/protocols/thorvision.md."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from asynccam.errors import FeatureError, RemoteProtocolError, UsageError
from asynccam.model.identity import identifying_facts
from asynccam.outside import clean_json

HTTP_PORT: Final = 8000
DEFAULT_HOST: Final = "192.168.177.100"
"""Where the maker's own client looks for a server."""
JPEG: Final = "image/jpeg"
RECORDABLE: Final = (JPEG, "video/x-raw")
"""Media types that a server sends as Motion JPEG; raw pictures it encodes itself."""
ADDED: Final = "Added"
REMOVED: Final = "Removed"

M = TypeVar("M")


class _Message(BaseModel):
    """Fields nobody knows are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Capability(_Message):
    """One way a camera can send pictures.

    Attributes:
        media_type: ``image/jpeg``, ``video/x-raw``, ``video/x-h264`` or ``video/x-h265``.
        format: Pixel format, or None or ``""``.
        width: Pixels.
        height: Pixels.
        framerate: Frames a second as the server writes them, ``30000/1001`` for example.
    """

    media_type: str
    format: str | None = None
    width: int
    height: int
    framerate: str

    @property
    def fps(self) -> Fraction | None:
        """Frames a second, exactly; None where the server's word means no number (``30/0``)."""
        try:
            return Fraction(self.framerate.replace(" ", ""))
        except (ValueError, ZeroDivisionError):
            return None

    def __str__(self) -> str:
        """The capability as a start command names it: this order, no blanks."""
        kind = f"{self.media_type},format={self.format}" if self.format else self.media_type
        return f"{kind},width={self.width},height={self.height},framerate={self.framerate}"


class Camera(_Message):
    """A camera of a server.

    Attributes:
        id: The server's number for it; may be negative, and is another one after a while.
        name: Two cameras may share one.
        caps: What it can send.
        device_id: What it is known by where ``id`` changes, or None from servers that do not tell.
    """

    id: int
    name: str = ""
    caps: tuple[Capability, ...] = ()
    device_id: str | None = None

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """What it can send, ``caps`` by its long name."""
        return self.caps

    @property
    def key(self) -> str:
        """What the camera is known by at its server: ``device_id``, else ``NAME:ID``."""
        return self.device_id or f"{self.name}:{self.id}"

    @property
    def facts(self) -> Mapping[str, str]:
        """What the server tells to know the camera by; many ``device_id`` name a USB port, not a camera."""
        return identifying_facts(self.model_extra or {}, name=self.name, device_id=self.device_id or "")

    @property
    def is_test(self) -> bool:
        """Whether it is one of the server's own test pictures."""
        return self.id < 0

    def best(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: Fraction | float | str | None = None,
        media_type: str | None = JPEG,
    ) -> Capability:
        """The best capability within limits.

        Whatever meets more of the wishes exactly is better, then a larger picture, then a higher rate.

        Args:
            width: Pixels at most.
            height: Pixels at most.
            fps: Frames a second at most, exact: 30 is more than ``30000/1001``. Text may be a fraction.
            media_type: The only one that counts, or None for any that can be recorded.

        Raises:
            FeatureError: No capability is within the limits; the words list those there are.
            UsageError: ``fps`` is no number.
        """
        rate = _rate(fps)

        def within(cap: Capability) -> bool:
            return (
                cap.media_type in (RECORDABLE if media_type is None else (media_type,))
                and (width is None or cap.width <= width)
                and (height is None or cap.height <= height)
                and (rate is None or (cap.fps or 0) <= rate)
            )

        def merit(cap: Capability) -> tuple[int, int, Fraction]:
            met = (cap.width == width) + (cap.height == height) + (rate is not None and cap.fps == rate)
            return met, cap.width * cap.height, cap.fps or Fraction(0)

        candidates = [cap for cap in self.caps if within(cap)]
        if not candidates:
            wish = f"width={width} height={height} fps={rate} media_type={media_type}"
            have = "; ".join(map(str, self.caps)) or "none"
            raise FeatureError(f"camera {self.key!r} has no capability within {wish} (it has: {have})")
        return max(candidates, key=merit)


class CameraReference(_Message):
    """The camera of an event; when it was removed, only its ``id`` is certain."""

    id: int


class HotPlugMessage(_Message):
    """What the server tells on ``/ws``.

    Attributes:
        event_type: ``Added`` or ``Removed``; others are nothing to worry about.
        camera: What came with it.
    """

    event_type: str
    camera: dict[str, Any] | None = None


class StreamCommand(_Message):
    """Asks for a stream.

    Attributes:
        id: The camera.
        port: Where the server shall listen for SRT.
        capability: As `Capability` is written out.
    """

    id: int
    port: int = Field(ge=1, le=65535)
    capability: str


class StopCommand(_Message):
    """Ends a camera's stream."""

    id: int


class Versions(_Message):
    """What a server says of itself.

    Attributes:
        api: Version of its API, or None from a server that does not tell.
        server: Version of the program, or None.
    """

    api: str | None = None
    server: str | None = None


class VersionAnswer(_Message):
    """One version."""

    version: str


_CAMERAS: Final = TypeAdapter(tuple[Camera, ...])
_NAMES: Final = TypeAdapter(tuple[str, ...])
_OBJECT: Final = TypeAdapter(dict[str, Any])


def parse_cameras(data: bytes, source: str) -> tuple[Camera, ...]:
    """The answer to ``GET /cameras``.

    Args:
        data: As it came.
        source: Names the peer in the error.

    Raises:
        RemoteProtocolError: It is none.
    """
    return _parsed(_CAMERAS.validate_json, data, source, "list of cameras")


def parse_names(data: bytes, source: str) -> tuple[str, ...]:
    """The answer to ``GET /logs``; errors as of `parse_cameras`."""
    return _parsed(_NAMES.validate_json, data, source, "list of names")


def parse_object(data: bytes, source: str) -> dict[str, Any]:
    """Any JSON object; errors as of `parse_cameras`."""
    return _parsed(_OBJECT.validate_json, data, source, "JSON object")


def parse_version(data: bytes, source: str) -> str:
    """The answer to ``GET /api_version`` or ``/server_version``; errors as of `parse_cameras`."""
    return _parsed(VersionAnswer.model_validate_json, data, source, "version").version


def parse_hot_plug(data: bytes, source: str) -> tuple[str, Camera | int | None]:
    """A message of ``/ws``: its type, and the camera that was added or the id of the one removed.

    Of an event type nobody knows the camera is None, whatever came with it.

    Raises:
        RemoteProtocolError: It is no such message.
    """
    message = _parsed(HotPlugMessage.model_validate_json, data, source, "hot-plug event")
    if message.event_type == ADDED:
        return ADDED, _parsed(Camera.model_validate, message.camera, source, "camera that was added")
    if message.event_type == REMOVED:
        removed = _parsed(CameraReference.model_validate, message.camera, source, "camera that was removed")
        return REMOVED, removed.id
    return message.event_type, None


def _rate(fps: Fraction | float | str | None) -> Fraction | None:
    try:
        return None if fps is None else Fraction(fps)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise UsageError(f"{fps!r} is no frame rate") from None


def _parsed(parse: Callable[[Any], M], data: object, source: str, what: str) -> M:
    try:
        return parse(clean_json(data) if isinstance(data, bytes) else data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise RemoteProtocolError(f"{source} sent what is no {what}: {where}: {first['msg']}") from None
    except ValueError as error:
        raise RemoteProtocolError(f"{source} sent what is no {what}: {error}") from None
