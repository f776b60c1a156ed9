"""The MultiCam protocol without I/O: received bytes go in, however they were cut; messages come out.

A controller reads replies with `ResponseReader` and headers of files with `FileReader`; a device reads
commands with `CommandReader`. Each is for one connection. See docs/protocols/multicam.md.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final

from pydantic import BeforeValidator

from asynccam.errors import RemoteProtocolError, UsageError
from asynccam.net.framing import EventReader, Frame, FrameReader
from asynccam.outside import read_json
from asynccam.systems.multicam.models import (
    CommandMessage,
    CommandType,
    DeviceStatus,
    ErrorResponse,
    FileResponse,
    ListFilesResponse,
    ProtocolMessage,
    number_of,
    size_of,
)
from asynccam.wall_clock import unix_now

MAX_REPLY: Final = 64 * 1024 * 1024
"""Bytes; a list of half a million files."""
MAX_HEADER: Final = 1024 * 1024
MAX_COMMAND: Final = 64 * 1024
"""Bytes; enough for presigned URLs, and small enough for hundreds of connections that send garbage."""
_MAX_HEARTBEAT: Final = 4096
_PLACEHOLDER: Final = 1234567890.5


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A controller's command; ``prefixed`` if it had a length prefix, as its reply then must."""

    message: CommandMessage
    prefixed: bool


class _ReplyFrames:
    """Messages of a device, without the heartbeats that iOS sends unsolicited."""

    def __init__(self, *, max_size: int, peer: str) -> None:
        self._frames = FrameReader(max_size=max_size, peer=peer)
        self._peer = peer

    def _next_reply(self, data: bytes) -> Frame | None:
        self._frames.feed(data)
        while (frame := self._frames.next_frame()) is not None:
            if not _is_heartbeat(frame):
                return frame
        return None


class ResponseReader(_ReplyFrames):
    """Reads the reply to one command, bare or with a length prefix; all bytes after it are ignored."""

    def __init__(self, *, max_size: int = MAX_REPLY, peer: str = "the device") -> None:
        super().__init__(max_size=max_size, peer=peer)

    def feed(self, data: bytes) -> bytes | None:
        """Return the reply's JSON document, not yet parsed, once complete; errors as of `FileReader.feed`."""
        frame = self._next_reply(data)
        return None if frame is None else frame.document


class FileReader(_ReplyFrames):
    """Reads the beginning of the reply to GET_VIDEO: the header before a file, or a refusal."""

    def __init__(self, *, peer: str = "the device") -> None:
        super().__init__(max_size=MAX_HEADER, peer=peer)
        self.leftover = b""  # first bytes of the file after the header; the others are in the socket

    def feed(self, data: bytes) -> FileResponse | ErrorResponse | None:
        """Return the header or refusal once complete; after a `RemoteProtocolError` nothing can be read."""
        frame = self._next_reply(data)
        if frame is None:
            return None
        if _is_refusal(frame, self._peer):
            return ErrorResponse.from_json(frame.document, peer=self._peer)
        header = FileResponse.from_json(frame.document, peer=self._peer)
        # Devices have been seen to announce 0 bytes and to send the file all the same.
        self.leftover = self._frames.take_remaining()[: header.fileSize or None]
        return header


class CommandReader(EventReader[ReceivedCommand]):
    """Reads commands, bare or ``prefixed`` with their length: the last one's, whether valid or not."""

    def __init__(self, *, max_size: int = MAX_COMMAND, peer: str = "the controller") -> None:
        super().__init__()
        self._frames = FrameReader(max_size=max_size, peer=peer)
        self._peer = peer
        self.prefixed = False

    def _receive(self, data: bytes) -> None:
        self._frames.feed(data)

    def _next_event(self) -> ReceivedCommand | None:
        frame = self._frames.next_frame()
        if frame is None:
            return None
        self.prefixed = frame.prefixed
        message = CommandMessage.from_json(frame.document, peer=self._peer)
        return ReceivedCommand(message, frame.prefixed)


def encode_command(
    command: CommandType, sender: str, at: float | None = None, *, first_frame: bool = False
) -> bytes:
    """Return a command that has no arguments but its time: that of a start, else None for now.

    The bytes are those of `CommandMessage`, made once for all devices.

    Raises:
        UsageError: The time is not a finite number.
    """
    moment = unix_now() if at is None else number_of(at)
    if moment is None:
        raise UsageError(f"start time must be finite, not {at}")
    head, tail = _template(command, sender, first_frame)
    return head + repr(moment).encode() + tail


@lru_cache(maxsize=64)
def _template(command: CommandType, sender: str, first_frame: bool) -> tuple[bytes, bytes]:
    """Return the encoded command before and after its time."""
    message = CommandMessage(
        command=command, timestamp=_PLACEHOLDER, deviceId=sender, firstFrame=first_frame or None
    )
    head, _, tail = message.to_bytes().partition(repr(_PLACEHOLDER).encode())
    return head, tail


def parse_list(document: bytes | str, *, peer: str = "the device") -> ListFilesResponse:
    """Parse the reply to LIST_FILES; may raise `RemoteProtocolError`. An error may have no files."""
    reply = ListFilesResponse.from_json(document, peer=peer)
    if "files" not in reply.model_fields_set and not DeviceStatus.is_error(reply.status):
        raise RemoteProtocolError(f"{peer} answered {reply.status!r} without a list of files")
    return reply


def _is_heartbeat(frame: Frame) -> bool:
    """Return whether a frame is a command, not a reply: iOS sends heartbeats unsolicited."""
    if len(frame.document) > _MAX_HEARTBEAT or b'"command"' not in frame.document:
        return False
    try:
        message = read_json(frame.document, lenient=True)
    except ValueError:
        return False  # parsing it as a reply raises the error
    return isinstance(message, dict) and "command" in message and "status" not in message


def _is_refusal(frame: Frame, peer: str) -> bool:
    """Return whether a frame is an error in place of a file: without a length prefix, or a ``fileSize``."""
    if not frame.prefixed:
        return True
    head = _FrameHead.from_json(frame.document, peer=peer)
    status = (head.model_extra or {}).get("status")
    refused = isinstance(status, str) and DeviceStatus.is_error(status)
    return head.fileSize is None or (refused and head.fileSize == 0)


class _FrameHead(ProtocolMessage):
    """The field that distinguishes a file's header from a refusal: a size, valid or not."""

    fileSize: Annotated[  # noqa: N815 - named as on the wire
        int | None, BeforeValidator(lambda value: None if value is None else size_of(value) or 0)
    ] = None
