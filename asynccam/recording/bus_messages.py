"""Output of ``gst-launch-1.0 -m`` (with or without ``-v``) as typed messages; does no I/O.

The wording is that of GStreamer 1.22 in English. Unknown lines of other versions become `OtherLine`: a
recorder needs `AsyncDone` and `EndOfStream` only, the rest makes its reports richer.
"""

import re
from dataclasses import dataclass
from typing import Final

from asynccam.outside import clean_text

_MAX_LINE: Final = 64 * 1024
"""Longer lines (caps that carry stream headers) are cut, never held in memory whole."""


@dataclass(frozen=True, slots=True)
class BusMessage:
    """A parsed line about ``element``, or about the program itself where that is ``""``."""

    element: str


@dataclass(frozen=True, slots=True)
class StateChanged(BusMessage):
    """A change of an element's state, to ``paused`` for example."""

    new: str


@dataclass(frozen=True, slots=True)
class AsyncDone(BusMessage):
    """First data at every sink: a frame, or the end of a stream without any."""


@dataclass(frozen=True, slots=True)
class EndOfStream(BusMessage):
    """End of the stream at every sink."""


@dataclass(frozen=True, slots=True)
class InterruptSeen(BusMessage):
    """The program received a SIGINT and ends the stream."""


@dataclass(frozen=True, slots=True)
class PipelineError(BusMessage):
    """Failure of an element, with its reason."""

    text: str


@dataclass(frozen=True, slots=True)
class SegmentOpened(BusMessage):
    """Start of a file."""

    running_time: float  # seconds since the pipeline started, by its first frame


@dataclass(frozen=True, slots=True)
class SegmentClosed(BusMessage):
    """End of a file."""

    location: str | None  # path as the muxer was given it, or None where the muxer does not report it (HLS)
    running_time: float  # of its end, as in `SegmentOpened`


@dataclass(frozen=True, slots=True)
class FrameCount(BusMessage):
    """Frames that a ``progressreport`` has counted so far."""

    frames: int


@dataclass(frozen=True, slots=True)
class FrameSeen(BusMessage):
    """A frame passed an ``identity silent=false``; only with ``-v``."""


@dataclass(frozen=True, slots=True)
class FramesDropped(BusMessage):
    """Frames that an element lost or discarded so far (quality of service)."""

    dropped: int


@dataclass(frozen=True, slots=True)
class LatencyChanged(BusMessage):
    """An element holds frames back for another time than before."""


@dataclass(frozen=True, slots=True)
class OtherLine(BusMessage):
    """A line that this parser does not use or does not know."""

    text: str


_BUS: Final = re.compile(
    r'Got message #\d+ from (?:element|pad|object) "([^"]*)" \(([\w-]+)\): (.*)', re.DOTALL
)
_FIELD: Final = re.compile(r'([\w-]+)=\([^)]*\)("(?:[^"\\]|\\.)*"|[^,;]*)')
_STDERR: Final = re.compile(r"ERROR: (?:from element (\S+): )?(.*)", re.DOTALL)
_CHAIN: Final = re.compile(r"(/GstPipeline:\S+): last-message = chain .*", re.DOTALL)
_MAX_DIGITS: Final = 20  # digits of a number of 64 bits, its sign included
_ESCAPE: Final = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)


class LaunchReader:
    """Parser of output that arrives in pieces, wherever they are cut."""

    def __init__(self) -> None:
        self._line = bytearray()

    def feed(self, data: bytes) -> list[BusMessage]:
        """Return the messages of the lines that a piece of output completes."""
        messages: list[BusMessage] = []
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._append(piece)
            messages.append(self._finish_line())
        self._append(rest)
        return messages

    def _append(self, piece: bytes) -> None:
        self._line += piece[: _MAX_LINE - len(self._line)]

    def _finish_line(self) -> BusMessage:
        line = clean_text(self._line.decode(errors="replace").rstrip("\r"))
        self._line.clear()
        return parse_line(line)


def parse_line(line: str) -> BusMessage:
    """Return the message of a whole line."""
    if bus := _BUS.fullmatch(line):
        return _from_bus(bus[1], bus[2], bus[3]) or OtherLine(bus[1], line)
    if printed := _STDERR.fullmatch(line):
        return PipelineError((printed[1] or "").rpartition(":")[2], printed[2])
    if passed := _CHAIN.fullmatch(line):
        return FrameSeen(passed[1].rpartition(":")[2])
    return OtherLine("", line)


def first_error(printed: str) -> PipelineError | None:
    """Return the first error in a program's standard error, or None."""
    messages = map(parse_line, printed.splitlines())
    return next((message for message in messages if isinstance(message, PipelineError)), None)


def _from_bus(element: str, kind: str, details: str) -> BusMessage | None:
    if kind == "async-done":
        return AsyncDone(element)
    if kind == "eos":
        return EndOfStream(element)
    if kind == "latency":
        return LatencyChanged(element)
    fields = {match[1]: _unescape(match[2]) for match in _FIELD.finditer(details)}
    try:
        match kind:
            case "state-changed":
                return StateChanged(element, fields["new-state"])
            case "element" if details.startswith("splitmuxsink-fragment-opened"):
                return SegmentOpened(element, _number(fields["running-time"]) / 1e9)
            case "element" if details.startswith("splitmuxsink-fragment-closed"):
                location = None if fields["location"] == "NULL" else fields["location"]
                return SegmentClosed(element, location, _number(fields["running-time"]) / 1e9)
            case "element" if details.startswith("progress,"):
                return FrameCount(element, _number(fields["current"]))
            case "application" if details.startswith("GstLaunchInterrupt"):
                return InterruptSeen(element)
            case "qos":
                return FramesDropped(element, max(0, _number(fields["dropped"])))
            case "error":
                return PipelineError(element, fields.get("debug", details))
    except (KeyError, ValueError):
        pass  # worded differently by another version: not a message this parser knows
    return None


def _number(text: str) -> int:
    """Read a number of at most 64 bits; raises ValueError for anything else."""
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"the number has {len(text)} digits")
    return int(text)


def _unescape(value: str) -> str:
    r"""Undo GStreamer's way to write strings: quotes around it, ``\040`` and ``\ `` for a space."""
    if not value.startswith('"'):
        return value
    raw = value[1:-1].encode()
    plain = _ESCAPE.sub(lambda m: bytes([int(m[1], 8) & 0xFF]) if len(m[1]) == 3 else m[1], raw)
    return plain.decode(errors="replace")
