"""The MultiCam protocol without I/O: received bytes go in, however they were cut; events come out.

A controller reads replies with `ResponseReader` and files with `FileReader`; a device reads commands with
`CommandReader`. Each is for one connection. See docs/protocols/multicam.md.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar

from pydantic import BeforeValidator

from asynccam.errors import RemoteProtocolError
from asynccam.net.framing import Frame, FrameReader
from asynccam.outside import read_json
from asynccam.systems.multicam.models import (
    CommandMessage,
    DeviceStatus,
    ErrorResponse,
    FileResponse,
    ListFilesResponse,
    ProtocolMessage,
    size_of,
)

MAX_REPLY: Final = 64 * 1024 * 1024
"""Bytes; a list of half a million files."""
MAX_HEADER: Final = 1024 * 1024
MAX_COMMAND: Final = 64 * 1024
"""Bytes; enough for presigned URLs, and small enough for hundreds of connections that send garbage."""
_MAX_HEARTBEAT: Final = 4096


@dataclass(frozen=True, slots=True)
class ReplyDocument:
    """A device's complete reply, not yet parsed."""

    document: bytes


@dataclass(frozen=True, slots=True)
class FileHeader:
    """A file of ``header.fileSize`` bytes follows; if that is None, it lasts until the device closes."""

    header: FileResponse


@dataclass(frozen=True, slots=True)
class FileChunk:
    """The next bytes of the file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """All bytes of the file were received."""


@dataclass(frozen=True, slots=True)
class DeviceRefusal:
    """The device replied with an error instead of a file."""

    error: ErrorResponse


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A controller's command; ``prefixed`` if it had a length prefix, as its reply then must."""

    message: CommandMessage
    prefixed: bool


FileEvent = FileHeader | FileChunk | FileEnd | DeviceRefusal
Event = TypeVar("Event")


class _EventReader(Generic[Event]):
    """Returns the events before an error first and raises the error next, so that cuts change nothing."""

    def __init__(self, *, max_size: int, peer: str) -> None:
        self._frames = FrameReader(max_size=max_size, peer=peer)
        self._peer = peer
        self._failure: RemoteProtocolError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that received bytes complete.

        Events before an error are returned first; the next call raises the error.

        Raises:
            RemoteProtocolError: The peer broke the protocol; the connection cannot be used any longer.
        """
        self._raise_failure()
        events: list[Event] = []
        try:
            self._receive(data)
            while (event := self._next_event()) is not None:
                events.append(event)
        except RemoteProtocolError as error:
            self._failure = error
            if not events:
                raise
        return events

    def eof(self) -> None:
        """Report that the peer has closed the connection.

        Raises:
            RemoteProtocolError: It closed inside a message, or an error is still to be raised.
        """
        self._raise_failure()
        self._frames.eof()

    def _receive(self, data: bytes) -> None:
        self._frames.feed(data)

    def _next_event(self) -> Event | None:
        raise NotImplementedError

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure


class _DeviceReader(_EventReader[Event]):
    """Reader of one reply, ``done`` after it; skipped unsolicited ``heartbeats`` are counted."""

    def __init__(self, *, max_size: int, peer: str) -> None:
        super().__init__(max_size=max_size, peer=peer)
        self.done = False
        self.heartbeats = 0

    def eof(self) -> None:
        """Report that the device has closed the connection; ``done`` is true if it had replied."""
        if not self.done:
            super().eof()

    def _receive(self, data: bytes) -> None:
        if not self.done:
            super()._receive(data)

    def _next_reply(self) -> Frame | None:
        while (frame := self._frames.next_frame()) is not None:
            if not _is_heartbeat(frame):
                return frame
            self.heartbeats += 1
        return None


class ResponseReader(_DeviceReader[ReplyDocument]):
    """Reads the reply to one command, bare or with a length prefix; all bytes after it are ignored."""

    def __init__(self, *, max_size: int = MAX_REPLY, peer: str = "the device") -> None:
        super().__init__(max_size=max_size, peer=peer)

    def _next_event(self) -> ReplyDocument | None:
        if self.done or (frame := self._next_reply()) is None:
            return None
        self.done = True
        self._frames.take_remaining()
        return ReplyDocument(frame.document)


class FileReader(_DeviceReader[FileEvent]):
    """Reads the reply to GET_VIDEO: a header and a file, or a refusal.

    With ``header_only`` it is done after the header: the caller takes the first bytes of the file from
    ``leftover`` (at most its announced size unless that is 0) and the others from the socket. ``received``
    counts the bytes returned as `FileChunk`.
    """

    def __init__(self, *, header_only: bool = False, peer: str = "the device") -> None:
        super().__init__(max_size=MAX_HEADER, peer=peer)
        self._header_only = header_only
        self.header: FileResponse | None = None
        self.leftover = b""
        self.received = 0

    def eof(self) -> None:
        """Report that the device has closed the connection; ``done`` is true if it had replied."""
        super().eof()
        if self.header is not None and self.header.fileSize is None:
            self.done = True
        if self.header is not None and not self.done:
            raise RemoteProtocolError(
                f"{self._peer} ended the file after {self.received} of {self.header.fileSize} bytes"
            )

    def _next_event(self) -> FileEvent | None:
        if self.done:
            return None
        if self.header is None:
            return self._next_header()
        size = self.header.fileSize
        if size == self.received:
            self.done = True
            return FileEnd()
        data = self._frames.take_remaining()[: None if size is None else size - self.received]
        self.received += len(data)
        return FileChunk(data) if data else None

    def _next_header(self) -> FileEvent | None:
        frame = self._next_reply()
        if frame is None:
            return None
        if _is_refusal(frame, self._peer):
            self.done = True
            return DeviceRefusal(ErrorResponse.from_json(frame.document, peer=self._peer))
        self.header = FileResponse.from_json(frame.document, peer=self._peer)
        if self._header_only:
            self.done = True
            # Devices have been seen to announce 0 bytes and to send the file all the same.
            self.leftover = self._frames.take_remaining()[: self.header.fileSize or None]
        return FileHeader(self.header)


class CommandReader(_EventReader[ReceivedCommand]):
    """Reads commands, bare or ``prefixed`` with their length: the last one's, whether valid or not."""

    def __init__(self, *, max_size: int = MAX_COMMAND, peer: str = "the controller") -> None:
        super().__init__(max_size=max_size, peer=peer)
        self.prefixed = False

    def _next_event(self) -> ReceivedCommand | None:
        frame = self._frames.next_frame()
        if frame is None:
            return None
        self.prefixed = frame.prefixed
        return ReceivedCommand(CommandMessage.from_json(frame.document, peer=self._peer), frame.prefixed)


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
