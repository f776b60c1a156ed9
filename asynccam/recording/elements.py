r"""Graphs of GStreamer elements as argument lists for ``gst-launch-1.0``; never a shell string.

``gst-launch-1.0`` joins its arguments and parses them again, so an argument is not safe by being
one: spaces, quotes, backslashes and ``!`` in a value have to be quoted for its grammar. Inside
double quotes that grammar knows two escapes, ``\\`` and ``\"``; everything else stands for itself.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from asynccam.errors import UsageError

Value = str | int | float | bool | Fraction
"""What a property can be set to."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@+-]+")
_NO_PROPERTIES: Final[Mapping[str, Value]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class GstElement:
    """One element of a graph.

    Attributes:
        factory: Its kind, ``x264enc`` for example.
        properties: What is set on it, ``sink_1::xpos`` style pad properties included.
    """

    factory: str
    properties: Mapping[str, Value] = field(default_factory=lambda: _NO_PROPERTIES)

    def arguments(self) -> Iterator[str]:
        """The element as arguments."""
        yield self.factory
        for name, value in self.properties.items():
            yield f"{name}={quote(value)}"


@dataclass(frozen=True, slots=True)
class PadOf:
    """The end of a chain at a named element of another chain.

    Attributes:
        name: The element.
        pad: Its pad, or ``""`` for one that fits.
    """

    name: str
    pad: str = ""

    def arguments(self) -> Iterator[str]:
        """The reference as arguments."""
        yield f"{self.name}.{self.pad}"


Chain = tuple[GstElement | PadOf, ...]
"""Elements linked one after the other."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything one ``gst-launch-1.0`` process runs.

    Attributes:
        chains: The chains, linked to each other by `PadOf`.
        inner: Factories that elements of the graph need without their standing in it.
    """

    chains: tuple[Chain, ...]
    inner: frozenset[str] = frozenset()

    @property
    def factories(self) -> frozenset[str]:
        """Every kind of element that must be installed."""
        named = {one.factory for chain in self.chains for one in chain if isinstance(one, GstElement)}
        return frozenset(named | self.inner)

    def arguments(self) -> list[str]:
        """The graph as arguments of ``gst-launch-1.0``.

        Raises:
            UsageError: A value cannot be said in its grammar.
        """
        words: list[str] = []
        for chain in self.chains:
            for position, part in enumerate(chain):
                if position:
                    words.append("!")
                words.extend(part.arguments())
        return words


def quote(value: Value) -> str:
    """A property's value in ``gst-launch-1.0``'s grammar.

    Raises:
        UsageError: The text holds a NUL or is not valid Unicode, which GStreamer cannot take.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, (int, float)):
        return repr(value)
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UsageError(f"{value!r} holds characters that GStreamer cannot take")
    if _PLAIN.fullmatch(value):
        return value
    if value.startswith('"') or value.endswith("\\"):
        # A last backslash would hide the closing quote, and a first quote would be taken for
        # GStreamer's own: such text is wrapped once more, as GStreamer itself writes strings.
        value = '"' + "".join(f"\\{letter:03o}" for letter in value.encode()) + '"'
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def caps(media: str, /, **fields: Value | None) -> GstElement:
    """A filter that lets only one kind of data through; fields that are None are left open."""
    text = ",".join(
        [media, *(f"{k.replace('_', '-')}={quote(v)}" for k, v in fields.items() if v is not None)]
    )
    return GstElement("capsfilter", {"caps": text})


def printf_literal(text: str) -> str:
    """Text that a printf pattern such as ``splitmuxsink location=`` gives back unchanged."""
    return text.replace("%", "%%")
