"""Messages of a ThorVision server. See docs/protocols/thorvision.md."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from asynccam.errors import FeatureError, RemoteProtocolError, UsageError
from asynccam.model.identity import identifying_facts
from asynccam.outside import clean_json

HTTP_PORT: Final = 8000
DEFAULT_HOST: Final = "192.168.177.100"
"""Default server address of the maker's own client."""
JPEG: Final = "image/jpeg"
RECORDABLE: Final = (JPEG, "video/x-raw")
"""Media types that a server sends as Motion JPEG; it encodes raw pictures itself."""
ADDED: Final = "Added"
REMOVED: Final = "Removed"

M = TypeVar("M")


class _Message(BaseModel):
    """Message whose unknown fields are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Capability(_Message):
    """One format in which a camera can send pictures.

    Attributes:
        media_type: ``image/jpeg``, ``video/x-raw``, ``video/x-h264`` or ``video/x-h265``.
        format: Pixel format, or None or ``""``.
        width, height: Pixels.
        framerate: Frames per second as the server writes them, such as ``30000/1001``.
    """

    media_type: str
    format: str | None = None
    width: int
    height: int
    framerate: str

    @property
    def fps(self) -> Fraction | None:
        """Return the exact frames per second; None if `framerate` is not a number, such as ``30/0``."""
        try:
            return Fraction(self.framerate.replace(" ", ""))
        except (ValueError, ZeroDivisionError):
            return None

    def __str__(self) -> str:
        """Return the capability as a start command has it: in this order, without blanks."""
        kind = f"{self.media_type},format={self.format}" if self.format else self.media_type
        return f"{kind},width={self.width},height={self.height},framerate={self.framerate}"


class Camera(_Message):
    """Camera of a server.

    Attributes:
        id: The server's number for it; may be negative, and may change when the camera is replugged.
        name: Not unique.
        caps: Capabilities.
        device_id: Identifies the camera while ``id`` changes; None from servers that do not send one.
    """

    id: int
    name: str = ""
    caps: tuple[Capability, ...] = ()
    device_id: str | None = None

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """Return ``caps``."""
        return self.caps

    @property
    def key(self) -> str:
        """Return what identifies the camera at its server: ``device_id``, else ``NAME:ID``."""
        return self.device_id or f"{self.name}:{self.id}"

    @property
    def facts(self) -> Mapping[str, str]:
        """Return the fields that identify the camera; many a ``device_id`` is of a USB port, not a camera."""
        return identifying_facts(self.model_extra or {}, name=self.name, device_id=self.device_id or "")

    @property
    def is_test(self) -> bool:
        """Return whether it is one of the server's test pictures."""
        return self.id < 0

    def best(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: Fraction | float | str | None = None,
        media_type: str | None = JPEG,
    ) -> Capability:
        """Return the best capability within these maxima; ``media_type=None`` is any that can be recorded.

        The one that equals more of the limits is better, then a larger picture, then a higher rate. Rates are
        exact: 30 is more than ``30000/1001``. As text, ``fps`` may be a fraction.

        Raises:
            FeatureError: No capability is within the limits; the message lists all.
            UsageError: ``fps`` is not a number.
        """
        rate = _rate(fps)

        def within(cap: Capability) -> bool:
            return (
                cap.media_type in (RECORDABLE if media_type is None else (media_type,))
                and (width is None or cap.width <= width)
                and (height is None or cap.height <= height)
                and (rate is None or (cap.fps or 0) <= rate)
            )

        def rank(cap: Capability) -> tuple[int, int, Fraction]:
            equal = (cap.width == width) + (cap.height == height) + (rate is not None and cap.fps == rate)
            return equal, cap.width * cap.height, cap.fps or Fraction(0)

        candidates = [cap for cap in self.caps if within(cap)]
        if not candidates:
            limits = f"width={width} height={height} fps={rate} media_type={media_type}"
            available = "; ".join(map(str, self.caps)) or "none"
            raise FeatureError(f"camera {self.key!r} has no capability within {limits} (it has: {available})")
        return max(candidates, key=rank)


class CameraReference(_Message):
    """Camera of an event; of one that was removed, only the ``id`` is certain."""

    id: int


class HotPlugMessage(_Message):
    """Message on ``/ws``; an ``event_type`` other than ``Added`` or ``Removed`` is not an error."""

    event_type: str
    camera: dict[str, Any] | None = None


class StreamCommand(_Message):
    """Body of a start; ``capability`` is the text of a `Capability`."""

    id: int
    port: int = Field(ge=1, le=65535)
    capability: str


class StopCommand(_Message):
    """Body of a stop."""

    id: int


class Versions(_Message):
    """Versions of a server's API and program; None from a server that does not send them."""

    api: str | None = None
    server: str | None = None


class _Version(_Message):
    version: str


_CAMERAS: Final = TypeAdapter(tuple[Camera, ...])
_NAMES: Final = TypeAdapter(tuple[str, ...])
_OBJECT: Final = TypeAdapter(dict[str, Any])


def parse_cameras(data: bytes, source: str) -> tuple[Camera, ...]:
    """Parse the response to ``GET /cameras``; raise `RemoteProtocolError`, naming ``source``, if invalid."""
    return _parsed(_CAMERAS.validate_json, data, source, "list of cameras")


def parse_names(data: bytes, source: str) -> tuple[str, ...]:
    """Parse the response to ``GET /logs``; errors as of `parse_cameras`."""
    return _parsed(_NAMES.validate_json, data, source, "list of names")


def parse_object(data: bytes, source: str) -> dict[str, Any]:
    """Parse any JSON object; errors as of `parse_cameras`."""
    return _parsed(_OBJECT.validate_json, data, source, "JSON object")


def parse_version(data: bytes, source: str) -> str:
    """Parse the response to ``GET /api_version`` or ``/server_version``; errors as of `parse_cameras`."""
    return _parsed(_Version.model_validate_json, data, source, "version").version


def parse_hot_plug(data: bytes, source: str) -> tuple[str, Camera | int | None]:
    """Parse a message of ``/ws``: its type, and the camera that was added or the id of the one removed.

    The second is None for an unknown event type.
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
        raise UsageError(f"{fps!r} is not a frame rate") from None


def _parsed(parse: Callable[[Any], M], data: object, source: str, expected: str) -> M:
    try:
        return parse(clean_json(data) if isinstance(data, bytes) else data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the document"
        raise RemoteProtocolError(f"{source} did not send a {expected}: {where}: {first['msg']}") from None
    except ValueError as error:
        raise RemoteProtocolError(f"{source} did not send a {expected}: {error}") from None
