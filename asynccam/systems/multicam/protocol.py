"""The MultiCam protocol without I/O: what was received goes in, however it was cut; events come out.

A controller reads answers with `AnswerReader` and files with `FileReader`; a device reads commands with
`CommandReader`. Each is for one connection. See docs/protocols/multicam.md.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar

from pydantic import BeforeValidator

from asynccam.errors import RemoteProtocolError
from asynccam.net.framing import Frame, FrameReader
from asynccam.outside import read_json
from asynccam.systems.multicam.message import size_of
from asynccam.systems.multicam.models import (
    CommandMessage,
    DeviceStatus,
    ErrorResponse,
    FileResponse,
    ListFilesResponse,
    Message,
    StatusResponse,
    StopRecordingResponse,
)

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes; a list of half a million files."""
MAX_HEADER: Final = 1024 * 1024
MAX_COMMAND: Final = 64 * 1024
"""Bytes; generous to presigned URLs, and small enough for hundreds of connections that send garbage."""
_MAX_HEARTBEAT: Final = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """A device's answer, whole and not yet parsed."""

    document: bytes


@dataclass(frozen=True, slots=True)
class FileHeader:
    """A file of ``header.fileSize`` bytes follows; if that is None, it lasts until the device closes."""

    header: FileResponse


@dataclass(frozen=True, slots=True)
class FileData:
    """The next bytes of the file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """All bytes of the file have come."""


@dataclass(frozen=True, slots=True)
class DeviceRefusal:
    """The device answered with an error where a file was asked for."""

    error: ErrorResponse


@dataclass(frozen=True, slots=True)
class Command:
    """A controller's command; ``prefixed`` if it came behind its length, as its answer then must."""

    message: CommandMessage
    prefixed: bool


FileEvent = FileHeader | FileData | FileEnd | DeviceRefusal
Event = TypeVar("Event")


class _Reader(Generic[Event]):
    """Gives the events before a fault first and raises the fault next, so that cuts change nothing."""

    def __init__(self, *, max_size: int, peer: str) -> None:
        self._frames = FrameReader(max_size=max_size, peer=peer)
        self._peer = peer
        self._failure: RemoteProtocolError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Take what was received, and give the events that are complete now.

        Events that came before a fault are given first; the fault is raised by the next call.

        Raises:
            RemoteProtocolError: The peer broke the protocol; the connection is of no more use.
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
        """Tell that the peer has closed the connection.

        Raises:
            RemoteProtocolError: It did so inside a message, or a fault was still to be told.
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


class _DeviceReader(_Reader[Event]):
    """What a controller reads: one answer, after which nothing counts any more.

    Attributes:
        done: Whether all that was to come has come.
        heartbeats: How many unasked heartbeats came first; they are passed over.
    """

    def __init__(self, *, max_size: int, peer: str) -> None:
        super().__init__(max_size=max_size, peer=peer)
        self.done = False
        self.heartbeats = 0

    def eof(self) -> None:
        """Tell that the device has closed the connection; ``done`` says whether it had answered.

        Raises:
            RemoteProtocolError: It did so inside a message, or a fault was still to be told.
        """
        if not self.done:
            super().eof()

    def _receive(self, data: bytes) -> None:
        if not self.done:
            super()._receive(data)

    def _next_answer(self) -> Frame | None:
        while (frame := self._frames.next_frame()) is not None:
            if not _is_heartbeat(frame):
                return frame
            self.heartbeats += 1
        return None


class AnswerReader(_DeviceReader[Answer]):
    """Reads the answer to one command, bare or behind its length.

    Unasked heartbeats before it are counted in ``heartbeats`` and passed over, as is all that follows it.
    ``done`` tells whether it has come.
    """

    def __init__(self, *, max_size: int = MAX_ANSWER, peer: str = "the device") -> None:
        super().__init__(max_size=max_size, peer=peer)

    def _next_event(self) -> Answer | None:
        if self.done or (frame := self._next_answer()) is None:
            return None
        self.done = True
        self._frames.take_rest()
        return Answer(frame.document)


class FileReader(_DeviceReader[FileEvent]):
    """Reads the answer to GET_VIDEO: a header and a file, or a refusal.

    ``done`` tells whether nothing more is to come: after the end of the file, or a refusal.

    Args:
        header_only: Be done after the header and leave the file to the caller, who takes those of its
            bytes that have come already from ``leftover`` and the others from the socket.
        peer: Who sends the file, for errors.

    Attributes:
        header: The header, once it has come.
        leftover: With ``header_only``: the first bytes of the file, never more than it is said to have,
            unless that is nothing.
        received: Bytes of the file that went out as `FileData`.
    """

    def __init__(self, *, header_only: bool = False, peer: str = "the device") -> None:
        super().__init__(max_size=MAX_HEADER, peer=peer)
        self._header_only = header_only
        self.header: FileResponse | None = None
        self.leftover = b""
        self.received = 0

    def eof(self) -> None:
        """Tell that the device has closed the connection; ``done`` says whether it had answered.

        Raises:
            RemoteProtocolError: It did so inside the header or the file, or a fault was still to be told.
        """
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
        data = self._frames.take_rest()[: None if size is None else size - self.received]
        self.received += len(data)
        return FileData(data) if data else None

    def _next_header(self) -> FileEvent | None:
        frame = self._next_answer()
        if frame is None:
            return None
        if _is_refusal(frame, self._peer):
            self.done = True
            return DeviceRefusal(ErrorResponse.from_json(frame.document, peer=self._peer))
        self.header = FileResponse.from_json(frame.document, peer=self._peer)
        if self._header_only:
            self.done = True
            # Devices have been seen to announce 0 bytes and to send the file all the same.
            self.leftover = self._frames.take_rest()[: self.header.fileSize or None]
        return FileHeader(self.header)


class CommandReader(_Reader[Command]):
    """Reads a controller's commands, bare or behind their length.

    Attributes:
        prefixed: Whether the last message came behind its length, be it a good command or a bad one.
    """

    def __init__(self, *, max_size: int = MAX_COMMAND, peer: str = "the controller") -> None:
        super().__init__(max_size=max_size, peer=peer)
        self.prefixed = False

    def _next_event(self) -> Command | None:
        frame = self._frames.next_frame()
        if frame is None:
            return None
        self.prefixed = frame.prefixed
        return Command(CommandMessage.from_json(frame.document, peer=self._peer), frame.prefixed)


def parse_status(document: bytes | str, *, peer: str = "the device") -> StatusResponse:
    """The answer to a start, a status query, a heartbeat or an upload.

    Raises:
        RemoteProtocolError: It is no such answer.
    """
    return StatusResponse.from_json(document, peer=peer)


def parse_stop(document: bytes | str, *, peer: str = "the device") -> StopRecordingResponse:
    """The answer to a stop.

    Raises:
        RemoteProtocolError: It is no such answer.
    """
    return StopRecordingResponse.from_json(document, peer=peer)


def parse_list(document: bytes | str, *, peer: str = "the device") -> ListFilesResponse:
    """The answer to LIST_FILES; without files if its status is an error.

    Raises:
        RemoteProtocolError: It is no such answer, or a good one without ``files``.
    """
    answer = ListFilesResponse.from_json(document, peer=peer)
    if "files" not in answer.model_fields_set and not DeviceStatus.is_error(answer.status):
        raise RemoteProtocolError(f"{peer} answered {answer.status!r} without a list of files")
    return answer


def _is_heartbeat(frame: Frame) -> bool:
    """Whether this is a command from the device, not an answer: iOS sends heartbeats unasked."""
    if len(frame.document) > _MAX_HEARTBEAT or b'"command"' not in frame.document:
        return False
    try:
        message = read_json(frame.document, lenient=True)
    except ValueError:
        return False  # whoever parses it as an answer finds the right words
    return isinstance(message, dict) and "command" in message and "status" not in message


def _is_refusal(frame: Frame, peer: str) -> bool:
    """Whether there is an error where a file was asked for.

    It comes as bare JSON, or framed just like the header of a file, but without a ``fileSize``.
    """
    if not frame.prefixed:
        return True
    head = _Head.from_json(frame.document, peer=peer)
    status = (head.model_extra or {}).get("status")
    refused = isinstance(status, str) and DeviceStatus.is_error(status)
    return head.fileSize is None or (refused and head.fileSize == 0)


class _Head(Message):
    """What tells a file's header from a refusal: that there is a size, whatever it is."""

    fileSize: Annotated[  # noqa: N815 - named as on the wire
        int | None, BeforeValidator(lambda value: None if value is None else size_of(value) or 0)
    ] = None
