r"""Graphs of GStreamer elements as argument lists for ``gst-launch-1.0``; never a shell string.

``gst-launch-1.0`` joins its arguments and parses them again, so an argument is not safe by being
one: spaces, quotes, backslashes and ``!`` in a value have to be quoted for its grammar. Inside
double quotes that grammar knows two escapes, ``\\`` and ``\"``; everything else is literal.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal

from asynccam.errors import UsageError

Value = str | int | float | bool | Fraction
"""Type of a property's value."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@+-]+")
_NO_PROPERTIES: Final[Mapping[str, Value]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class GstElement:
    """Element of a graph."""

    factory: str  # its kind, ``x264enc`` for example
    # Pad properties too, such as ``sink_1::xpos``.
    properties: Mapping[str, Value] = field(default_factory=lambda: _NO_PROPERTIES)

    def arguments(self) -> Iterator[str]:
        """Yield the element as arguments."""
        yield self.factory
        for name, value in self.properties.items():
            yield f"{name}={quote(value)}"


@dataclass(frozen=True, slots=True)
class PadOf:
    """End of a chain at a named element of another chain; ``pad`` is ``""`` for one that fits."""

    name: str
    pad: str = ""

    def arguments(self) -> Iterator[str]:
        """Yield the reference as arguments."""
        yield f"{self.name}.{self.pad}"


Chain = tuple[GstElement | PadOf, ...]
"""Elements linked one after the other."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything that one ``gst-launch-1.0`` process runs."""

    chains: tuple[Chain, ...]  # the chains, linked to each other by `PadOf`
    inner: frozenset[str] = frozenset()  # factories that elements of the graph need besides those named in it

    @property
    def factories(self) -> frozenset[str]:
        """Every kind of element that must be installed."""
        named = {
            element.factory for chain in self.chains for element in chain if isinstance(element, GstElement)
        }
        return frozenset(named | self.inner)

    def arguments(self) -> list[str]:
        """Return arguments of ``gst-launch-1.0``; raise UsageError if its grammar cannot hold a value."""
        words: list[str] = []
        for chain in self.chains:
            for position, part in enumerate(chain):
                if position:
                    words.append("!")
                words.extend(part.arguments())
        return words


def quote(value: Value) -> str:
    """Return a value in ``gst-launch-1.0``'s grammar; raise UsageError for NUL and invalid Unicode."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, (int, float)):
        return repr(value)
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UsageError(f"{value!r} has characters that GStreamer does not accept")
    if _PLAIN.fullmatch(value):
        return value
    if value.startswith('"') or value.endswith("\\"):
        # A last backslash would hide the closing quote, and a first quote would be taken for
        # GStreamer's own: such text is wrapped once more, as GStreamer itself writes strings.
        value = '"' + "".join(f"\\{letter:03o}" for letter in value.encode()) + '"'
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def caps(media: str, /, **fields: Value | None) -> GstElement:
    """Return a filter that lets only one kind of data through; fields that are None are left open."""
    text = ",".join(
        [media, *(f"{k.replace('_', '-')}={quote(v)}" for k, v in fields.items() if v is not None)]
    )
    return GstElement("capsfilter", {"caps": text})


def printf_literal(text: str) -> str:
    """Quote text for a printf pattern such as ``splitmuxsink location=``."""
    return text.replace("%", "%%")


Codec = Literal["h264", "h265", "vp8", "vp9", "jpeg", "raw"]
"""Codec of a stream; ``raw`` for frames that are not encoded."""

ENCODERS: Final = ("x264enc", "openh264enc")
"""H.264 encoders by preference; one of them must be installed for raw pictures."""


def encode(
    codec: Codec, encoder: str | None, installed: frozenset[str], bitrate: int, fps: Fraction | None
) -> Chain:
    """Return the elements that encode and parse raw frames, with a key frame about every second.

    ``encoder`` is one of `ENCODERS` for H.264, or None for the best that is ``installed``. ``bitrate`` is in
    kbit/s; Motion JPEG takes what it needs. Raises UsageError if the encoder is unknown.
    """
    keyframes = round(fps) if fps and fps >= 1 else 30
    if codec == "jpeg":
        return (GstElement("videoconvert"), GstElement("jpegenc"), GstElement("jpegparse"))
    if codec in ("vp8", "vp9"):
        # The quickest there is: the camera does not wait.
        quick: dict[str, Value] = {"deadline": 1, "cpu-used": 8, "keyframe-max-dist": keyframes}
        return (
            GstElement("videoconvert"),
            GstElement(f"{codec}enc", {"target-bitrate": bitrate * 1000, **quick}),
        )
    planes = (GstElement("videoconvert"), caps("video/x-raw", format="I420"))
    if codec == "h265":
        live: dict[str, Value] = {"tune": "zerolatency", "speed-preset": "ultrafast"}
        element = GstElement("x265enc", {"bitrate": bitrate, **live, "key-int-max": keyframes})
        return (*planes, element, GstElement("h265parse"))
    name = encoder or next(
        (encoder_name for encoder_name in ENCODERS if encoder_name in installed), ENCODERS[0]
    )
    if codec == "h264" and name == "x264enc":
        element = GstElement(
            name,
            {
                "bitrate": bitrate,
                "tune": "zerolatency",
                "speed-preset": "ultrafast",
                "key-int-max": keyframes,
                "threads": 1,
            },
        )
    elif codec == "h264" and name == "openh264enc":
        element = GstElement(name, {"bitrate": bitrate * 1000, "complexity": "low", "gop-size": keyframes})
    else:
        raise UsageError(f"unknown {codec} encoder {name!r}; H.264 encoders are {', '.join(ENCODERS)}")
    return (*planes, element, GstElement("h264parse"))
