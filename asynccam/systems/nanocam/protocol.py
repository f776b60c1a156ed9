"""What a nanocam client asks for, without I/O: requests, and a server's reader of them.

See docs/protocols/nanocam.md; answers are in `asynccam.systems.nanocam.wire_answers`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from asynccam.errors import RemoteProtocolError, UsageError
from asynccam.net.framing import ObjectScanner
from asynccam.systems.nanocam.wire_answers import OK

GOODBYE: Final = b"GOODBYE"

ORIGINAL_REQUEST: Final = 1024
"""Bytes of a request that the original server reads; what is longer it never answers."""
MAX_REQUEST: Final = 16 * 1024
OUR_KEY: Final = "asynccam"
"""The extra key of our own client's requests; an original server ignores it."""
OUR_VERSION: Final = 1

Format = Literal["file", "udp"]

_BLANKS: Final = b" \t\r\n\0"
_WORDS: Final = (OK, GOODBYE)
_MAX_NUMBER: Final = 1e9
MAX_SSRC: Final = 999_999_999
"""Greatest SSRC that a stream is asked for with."""


# -- requests -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ours:
    """What asynccam's client adds to a request: it understands framed answers.

    Attributes:
        token: What a server of our own may want to see, or None.
        port: UDP port the client wants a stream at, or None for the server's own choice, which is all that
            an original server knows.
        ssrc: SSRC the client wants a stream with (RFC 3550, 3), or None for any. A server that gives it says
            so in its answer, and may send RTCP to the same port (RFC 5761).

    Raises:
        UsageError: The token is empty, or no printable text, the port is none a client may listen at, or the
            SSRC is above `MAX_SSRC`.
    """

    token: str | None = field(default=None, repr=False)
    port: int | None = None
    ssrc: int | None = None

    def __post_init__(self) -> None:
        _check(self.ssrc is None or 0 <= self.ssrc <= MAX_SSRC, f"{self.ssrc} is no SSRC of a stream")
        _check(self.port is None or 1024 <= self.port <= 65535, f"{self.port} is no UDP port for a stream")
        if self.token is not None:  # a lone half of a character is JSON, and no text
            _check(bool(self.token) and self.token.isprintable(), "a token is printable text")


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Pictures as files.

    Attributes:
        frames: How many.
        interval: Seconds between them; the original knows whole ones only.
        width: Pixels; the original ignores it.
        height: Pixels; the original ignores it.
        ours: Set if asynccam's client asks.
    """

    frames: int
    interval: float
    width: int
    height: int
    ours: Ours | None = None

    def __post_init__(self) -> None:
        _check(self.frames >= 1, f"{self.frames} pictures cannot be taken")
        _check(0 < self.interval <= _MAX_NUMBER, f"{self.interval} is no interval in seconds")
        _check_size(self.width, self.height)


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """A video, as a file or as RTP.

    Attributes:
        duration: Seconds; the original knows whole ones only.
        width: Pixels.
        height: Pixels.
        format: ``file`` or ``udp``.
        ours: Set if asynccam's client asks.
    """

    duration: float
    width: int
    height: int
    format: Format = "file"
    ours: Ours | None = None

    def __post_init__(self) -> None:
        _check(0 < self.duration <= _MAX_NUMBER, f"{self.duration} is no duration in seconds")
        _check_size(self.width, self.height)


@dataclass(frozen=True, slots=True)
class KillRequest:
    """End what runs.

    An original server dies of it when nothing runs, when nothing was refused before it, and when what
    was refused is not a stream. Its one `OK` answers the kill and the refused stream together; our own
    server's framed answers are two, the kill's and then that of the request that runs.
    """

    ours: Ours | None = None


@dataclass(frozen=True, slots=True)
class ResetTimerRequest:
    """Let the running stream go on for so many seconds from now.

    An original server dies of it when none runs.
    """

    duration: float
    ours: Ours | None = None

    def __post_init__(self) -> None:
        _check(0 < self.duration <= _MAX_NUMBER, f"{self.duration} is no duration in seconds")


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The client is about to close."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A client looked whether its socket is alive (`OK`); wants no answer."""


@dataclass(frozen=True, slots=True)
class BadRequest:
    """JSON that is no request; the connection is still of use.

    Attributes:
        reason: What is wrong with it.
        ours: Set if asynccam's client asked, which can be told.
    """

    reason: str
    ours: Ours | None = None


Request = ImageRequest | VideoRequest | KillRequest | ResetTimerRequest
RequestEvent = Request | Goodbye | Probe | BadRequest


def encode_request(request: Request) -> bytes:
    """A request in one piece, such as an original server survives.

    Numbers that the original would cut are rounded up for it, and stand exactly beside our own key.

    Raises:
        UsageError: It does not fit into what the original reads (a token of hundreds of characters), or
            is finer than whole seconds without ``ours``.
    """
    exact: dict[str, float] = {}
    document: dict[str, Any]
    if isinstance(request, ImageRequest):
        document = {
            "type": "image",
            "width": request.width,
            "height": request.height,
            "frames": request.frames,
            "interval": _whole(request.interval, "interval", exact),
            "format": "file",
        }
    elif isinstance(request, VideoRequest):
        document = {
            "type": "video",
            "width": request.width,
            "height": request.height,
            "duration": _whole(request.duration, "duration", exact),
            "format": request.format,
        }
    elif isinstance(request, ResetTimerRequest):
        document = {"type": "reset_timer", "duration": str(_whole(request.duration, "duration", exact))}
    else:
        document = {"type": "kill"}
    if request.ours is not None:
        token = {} if request.ours.token is None else {"token": request.ours.token}
        port = {} if request.ours.port is None else {"port": request.ours.port}
        ssrc = {} if request.ours.ssrc is None else {"ssrc": request.ours.ssrc}
        document[OUR_KEY] = {"v": OUR_VERSION, **token, **port, **ssrc, **exact}
    elif exact:
        raise UsageError(f"an original server counts whole seconds only: {exact}")
    data = json.dumps(document, separators=(",", ":")).encode()
    if len(data) > ORIGINAL_REQUEST:
        raise UsageError(f"a request of {len(data)} bytes: {ORIGINAL_REQUEST} of it would be read")
    return data


class RequestReader:
    """A server's reader of requests: bare JSON and words, cut anywhere, doubled or one behind the other.

    Args:
        max_size: Bytes of one request.
        peer: Who sends them, for errors.
    """

    def __init__(self, *, max_size: int = MAX_REQUEST, peer: str = "the client") -> None:
        self._max_size = max_size
        self._peer = peer
        self._buffer = bytearray()
        self._scanner: ObjectScanner | None = None
        self._failure: RemoteProtocolError | None = None

    @property
    def within(self) -> bool:
        """Whether a request has begun and is not complete."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[RequestEvent]:
        """Take what was received, and give what is complete now.

        What came before a fault is given first; the fault is raised by the next call.

        Raises:
            RemoteProtocolError: This is neither a request nor a word, or too long; where the next one
                begins cannot be told.
        """
        if self._failure is not None:
            raise self._failure
        self._buffer += data
        events: list[RequestEvent] = []
        try:
            while (event := self._next()) is not None:
                events.append(event)
        except RemoteProtocolError as error:
            self._failure = error
            if not events:
                raise
        return events

    def eof(self) -> None:
        """Tell that the client sends no more.

        Raises:
            RemoteProtocolError: It stopped inside a request, or a fault was still to be told.
        """
        if self._failure is not None:
            raise self._failure
        if self._buffer:
            raise RemoteProtocolError(f"{self._peer} left after {len(self._buffer)} bytes of a request")

    def _next(self) -> RequestEvent | None:
        if self._scanner is None:
            rest = self._buffer.lstrip(_BLANKS)
            self._buffer = rest
            if not rest:
                return None
            if rest[:1] != b"{":
                return self._word()
            self._scanner = ObjectScanner(peer=self._peer)
        end = self._scanner.find_end(self._buffer)
        if (end or len(self._buffer)) > self._max_size:
            raise RemoteProtocolError(f"{self._peer} sent a request of more than {self._max_size} bytes")
        if end is None:
            return None
        self._scanner = None
        document = bytes(self._buffer[:end])
        del self._buffer[:end]
        return self._request(document)

    def _word(self) -> RequestEvent | None:
        for word in _WORDS:
            if self._buffer.startswith(word):
                del self._buffer[: len(word)]
                return Probe() if word == OK else Goodbye()
            if word.startswith(bytes(self._buffer)):
                return None
        start = bytes(self._buffer[:16])
        raise RemoteProtocolError(f"{self._peer} sent {start!r}, which begins no request")

    def _request(self, document: bytes) -> RequestEvent:
        try:
            fields = json.loads(document)
        except (ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"{self._peer} sent a request that is no JSON: {error}") from None
        ours: Ours | None = None
        try:
            ours = _ours(fields.get(OUR_KEY))
            request = _parse(fields)
        except (UsageError, ValueError) as error:
            return BadRequest(str(error), ours)
        return replace(request, ours=ours)


# -- fields -------------------------------------------------------------------------------------


def _ours(value: object) -> Ours | None:
    if value is None:
        return None
    fields = value if isinstance(value, dict) else {}
    token = fields.get("token")
    _check(token is None or isinstance(token, str), "a token is text")
    port, ssrc = (None if fields.get(name) is None else _integer(fields, name) for name in ("port", "ssrc"))
    return Ours(token, port, ssrc)


def _parse(fields: Mapping[str, Any]) -> Request:
    kind, extra = fields.get("type"), fields.get(OUR_KEY)
    exact = extra if isinstance(extra, dict) else {}
    if kind == "kill":
        return KillRequest()
    if kind == "reset_timer":
        return ResetTimerRequest(_number({**fields, **exact}, "duration"))
    if kind not in ("image", "video"):
        raise UsageError(f"there is no request of type {kind!r:.40}")
    form = fields.get("format")
    width, height = _integer(fields, "width"), _integer(fields, "height")
    if kind == "video" and form in ("file", "udp"):
        return VideoRequest(_number({**fields, **exact}, "duration"), width, height, form)
    if kind == "image" and form == "file":
        interval = _number({**fields, **exact}, "interval")
        return ImageRequest(_integer(fields, "frames"), interval, width, height)
    raise UsageError(f"{kind} is not sent as {form!r:.40}")


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    if isinstance(value, str) and len(value) <= 32:
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MAX_NUMBER:
        raise UsageError(f"{name} is no number that makes sense: {value!r:.40}")
    return float(value)


def _integer(fields: Mapping[str, Any], name: str) -> int:
    value = _number(fields, name)
    _check(value.is_integer(), f"{name} is a whole number, not {value}")
    return int(value)


def _whole(seconds: float, name: str, exact: dict[str, float]) -> int:
    whole = math.ceil(seconds)
    if whole != seconds:
        exact[name] = seconds
    return whole


def _check_size(width: int, height: int) -> None:
    _check(0 < width <= 65535 and 0 < height <= 65535, f"{width}x{height} is no size of a picture")


def _check(condition: bool, complaint: str) -> None:
    if not condition:
        raise UsageError(complaint)
