"""Nanocam messages, without I/O: requests, a server's reader of them, and responses.

See docs/protocols/nanocam.md; `reply_parser` has the reader of responses. "Original" is the maker's server or
client; "framed" is asynccam's own variant.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from asynccam.errors import RemoteProtocolError, UsageError
from asynccam.model.filenames import safe_name
from asynccam.net.framing import EventReader, ObjectScanner, encode_frame
from asynccam.systems.nanocam.safe_pickle import write_names

GOODBYE: Final = b"GOODBYE"
BUSY: Final = b"BUSY"
OK: Final = b"OK"
DONE: Final = b"DONE"
MORE: Final = b"MORE"
QUIT: Final = b"QUIT"

ORIGINAL_REQUEST: Final = 1024
"""Bytes of a request that the original server reads; it never answers a longer one."""
MAX_REQUEST: Final = 16 * 1024
EXTENSION_KEY: Final = "asynccam"
"""Extra key in requests of asynccam's client; an original server ignores it."""
EXTENSION_VERSION: Final = 1
MAX_SSRC: Final = 999_999_999
"""Greatest SSRC that a stream is requested with."""

Format = Literal["file", "udp"]
RefusalKind = Literal["request", "token", "busy", "capture", "killed"]
"""Invalid request, wrong token, camera in use, camera failed, capture killed by a client."""

_BLANKS: Final = b" \t\r\n\0"
_WORDS: Final = (OK, GOODBYE)
_MAX_NUMBER: Final = 1e9


# -- requests -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExtensionOptions:
    """Fields that asynccam's client adds to a request; their presence asks for framed responses.

    ``ssrc`` is the stream's (RFC 3550 3), None for any. A server that uses it says so in its response, and
    may send RTCP to the same port (RFC 5761).
    """

    token: str | None = field(default=None, repr=False)  # for a server that requires one
    port: int | None = None  # UDP, for the stream; None is the server's default, all that an original knows
    ssrc: int | None = None

    def __post_init__(self) -> None:
        _check(self.ssrc is None or 0 <= self.ssrc <= MAX_SSRC, f"ssrc must be 0 to {MAX_SSRC}: {self.ssrc}")
        _check(self.port is None or 1024 <= self.port <= 65535, f"port must be 1024 to 65535: {self.port}")
        if self.token is not None:  # a lone surrogate is valid JSON, and not printable
            _check(bool(self.token) and self.token.isprintable(), "a token must be printable text")


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Request for pictures as files, one every ``interval`` seconds.

    The original knows whole seconds only, and ignores the size. Only asynccam's client sets ``extension``.
    """

    frames: int
    interval: float
    width: int
    height: int
    extension: ExtensionOptions | None = None

    def __post_init__(self) -> None:
        _check(self.frames >= 1, f"frames must be >= 1, not {self.frames}")
        _check(0 < self.interval <= _MAX_NUMBER, f"interval must be > 0 s, not {self.interval}")
        _check_size(self.width, self.height)


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """Request for a video of ``duration`` seconds, as a file or as RTP over UDP; as `ImageRequest`."""

    duration: float
    width: int
    height: int
    format: Format = "file"
    extension: ExtensionOptions | None = None

    def __post_init__(self) -> None:
        _check(0 < self.duration <= _MAX_NUMBER, f"duration must be > 0 s, not {self.duration}")
        _check_size(self.width, self.height)


@dataclass(frozen=True, slots=True)
class KillRequest:
    """Request to end what runs.

    An original server crashes if nothing runs, if no request was refused before, or if the refused request
    was not for a stream. Its one `OK` answers the kill and the refused stream together; a framed server
    sends two responses, that to the kill first.
    """

    extension: ExtensionOptions | None = None


@dataclass(frozen=True, slots=True)
class ResetTimerRequest:
    """Request to let the running stream go on for ``duration`` seconds from now.

    An original server crashes if none runs.
    """

    duration: float
    extension: ExtensionOptions | None = None

    def __post_init__(self) -> None:
        _check(0 < self.duration <= _MAX_NUMBER, f"duration must be > 0 s, not {self.duration}")


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The client is about to close."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A client checked whether its socket is alive (`OK`); expects no response."""


@dataclass(frozen=True, slots=True)
class BadRequest:
    """JSON that is not a valid request; the connection stays usable. ``extension`` as in a request."""

    reason: str
    extension: ExtensionOptions | None = None


Request = ImageRequest | VideoRequest | KillRequest | ResetTimerRequest
RequestEvent = Request | Goodbye | Probe | BadRequest


def encode_request(request: Request) -> bytes:
    """Encode a request as the original server can read it.

    It reads whole numbers only: others are rounded up for it, with the exact ones beside `EXTENSION_KEY`.

    Raises:
        UsageError: The request is longer than the original reads (a token of hundreds of characters), or is
            finer than whole seconds without ``extension``.
    """
    exact: dict[str, float] = {}
    document: dict[str, Any]
    if isinstance(request, ImageRequest):
        document = {
            "type": "image",
            "width": request.width,
            "height": request.height,
            "frames": request.frames,
            "interval": _rounded_up(request.interval, "interval", exact),
            "format": "file",
        }
    elif isinstance(request, VideoRequest):
        document = {
            "type": "video",
            "width": request.width,
            "height": request.height,
            "duration": _rounded_up(request.duration, "duration", exact),
            "format": request.format,
        }
    elif isinstance(request, ResetTimerRequest):
        # The original parses this duration from text.
        document = {"type": "reset_timer", "duration": str(_rounded_up(request.duration, "duration", exact))}
    else:
        document = {"type": "kill"}
    extension = request.extension
    if extension is not None:
        options = {"token": extension.token, "port": extension.port, "ssrc": extension.ssrc}
        given = {name: value for name, value in options.items() if value is not None}
        document[EXTENSION_KEY] = {"v": EXTENSION_VERSION, **given, **exact}
    elif exact:
        raise UsageError(f"an original server counts whole seconds only: {exact}")
    data = json.dumps(document, separators=(",", ":")).encode()
    if len(data) > ORIGINAL_REQUEST:
        raise UsageError(f"the request has {len(data)} bytes; a server reads only {ORIGINAL_REQUEST}")
    return data


def _rounded_up(seconds: float, name: str, exact: dict[str, float]) -> int:
    whole = math.ceil(seconds)
    if whole != seconds:
        exact[name] = seconds
    return whole


class RequestReader(EventReader[RequestEvent]):
    """Parses a client's requests: bare JSON and words, cut anywhere or one behind the other."""

    def __init__(self, *, max_size: int = MAX_REQUEST, peer: str = "the client") -> None:
        super().__init__()
        self._max_size = max_size
        self._peer = peer
        self._buffer = bytearray()
        self._scanner: ObjectScanner | None = None

    @property
    def incomplete(self) -> bool:
        """Return whether a request has begun and is not complete."""
        return bool(self._buffer)

    def eof(self) -> None:
        """Report that the client sends no more."""
        self._raise_failure()
        if self._buffer:
            raise RemoteProtocolError(f"{self._peer} left after {len(self._buffer)} bytes of a request")

    def _receive(self, data: bytes) -> None:
        self._buffer += data

    def _next_event(self) -> RequestEvent | None:
        if self._scanner is None:
            self._buffer = self._buffer.lstrip(_BLANKS)
            if not self._buffer:
                return None
            if self._buffer[:1] != b"{":
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
        raise RemoteProtocolError(f"{self._peer} sent {start!r}, which does not begin a request")

    def _request(self, document: bytes) -> RequestEvent:
        try:
            fields = json.loads(document)
        except (ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"{self._peer} sent a request that is not JSON: {error}") from None
        extension: ExtensionOptions | None = None
        try:
            extension = _parse_extension(fields.get(EXTENSION_KEY))
            request = _parse(fields)
        except (UsageError, ValueError) as error:
            return BadRequest(str(error), extension)
        return replace(request, extension=extension)


def _parse_extension(value: object) -> ExtensionOptions | None:
    if value is None:
        return None
    fields = value if isinstance(value, dict) else {}
    token = fields.get("token")
    _check(token is None or isinstance(token, str), "a token must be text")
    port, ssrc = (None if fields.get(name) is None else _integer(fields, name) for name in ("port", "ssrc"))
    return ExtensionOptions(token, port, ssrc)


def _parse(fields: Mapping[str, Any]) -> Request:
    kind, extension = fields.get("type"), fields.get(EXTENSION_KEY)
    exact = extension if isinstance(extension, dict) else {}
    if kind == "kill":
        return KillRequest()
    if kind == "reset_timer":
        return ResetTimerRequest(_number({**fields, **exact}, "duration"))
    if kind not in ("image", "video"):
        raise UsageError(f"unknown type of request {kind!r:.40}")
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
        raise UsageError(f"{name} must be a number up to {_MAX_NUMBER:g}, not {value!r:.40}")
    return float(value)


def _integer(fields: Mapping[str, Any], name: str) -> int:
    value = _number(fields, name)
    _check(value.is_integer(), f"{name} must be a whole number, not {value}")
    return int(value)


def _check_size(width: int, height: int) -> None:
    _check(
        0 < width <= 65535 and 0 < height <= 65535,
        f"width and height must be 1 to 65535, not {width}x{height}",
    )


def _check(condition: bool, complaint: str) -> None:
    if not condition:
        raise UsageError(complaint)


# -- responses ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileEntry:
    """File that follows; an original sends no size. The name is **not** safe as a path, see `local_name`."""

    name: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """A stream is running; `KillRequest` ends it, then the refused request runs."""


@dataclass(frozen=True, slots=True)
class Ok:
    """The stream begins, or the request is done; ``ssrc`` is set if the stream has the requested one."""

    ssrc: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A framed server refuses, for a ``reason`` in words."""

    kind: RefusalKind
    reason: str


@dataclass(frozen=True, slots=True)
class FileListing:
    """These files follow, in this order."""

    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """All files have been sent."""


FramedResponse = Busy | Ok | Refused | FileListing | Finished


def encode_names(names: Sequence[str]) -> bytes:
    """Encode what precedes the first file for an original client: the pickled names and `DONE`.

    `MORE` goes between files, `QUIT` behind the last one. An original client takes one read for one message,
    so each word is best sent when everything before it is on its way.
    """
    return write_names(names) + DONE


def encode_framed(response: FramedResponse) -> bytes:
    """Encode a framed response; the files' bytes follow a `FileListing`, then `Finished`."""
    match response:
        case Busy():
            fields: dict[str, Any] = {"answer": "busy"}
        case Ok(ssrc):
            fields = {"answer": "ok"} if ssrc is None else {"answer": "ok", "ssrc": ssrc}
        case Finished():
            fields = {"answer": "finished"}
        case Refused(kind, reason):
            fields = {"answer": "refused", "kind": kind, "reason": reason}
        case FileListing(files):
            if any(file.size is None for file in files):
                raise UsageError("every file of a framed response must have a size")
            fields = {"answer": "files", "files": [{"name": file.name, "size": file.size} for file in files]}
    return encode_frame(json.dumps(fields, separators=(",", ":")).encode())


def local_name(name: str) -> str:
    """Return the local name of a server's file: its base name with ``+`` for ``:``, safe on every system."""
    return safe_name(name.replace(":", "+"))
