"""A fast WebSocket connection: the sans-I/O core of `websockets`, driven by an asyncio protocol.

Handshake, control frames, fragments, closing and every error are left to websockets' `ClientProtocol`. Text
messages of one frame, of which JSON-RPC nearly always consists, are read and written here, at a quarter of
the cost. Everything sent in one pass of the loop leaves in one write, and messages are delivered by a plain
call, without a task or a queue between (see benchmarks/rpc.py).
``permessage-deflate`` is never offered: on small messages it costs more than it saves (see
docs/reconnecting.md).
"""

import asyncio
import codecs
import logging
import os
import re
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State
from websockets.uri import parse_uri

try:
    from websockets.speedups import apply_mask
except ImportError:  # websockets was installed without its C extension
    from websockets.utils import apply_mask

from asynccam.errors import (
    AddressError,
    AuthenticationError,
    ConnectionError,
    RemoteProtocolError,
    TimeoutError,
    UsageError,
)
from asynccam.net.tcp import connect_tcp, open_transport
from asynccam.net.tls import untrusted
from asynccam.redaction import loggable
from asynccam.runtime.tasks import finish
from asynccam.runtime.timing import deadline

MAX_MESSAGE: Final = 20 * 1024 * 1024
"""Bytes of one message; more of text takes longer than 50 ms to parse, during which nothing else runs."""
_MAX_SLICE: Final = 4096
"""Bytes given to the core at once."""
_MAX_FRAMES_PER_SLICE: Final = 128
"""Frames given to the core at once: if many objects survive a collection of young ones (every 700 new ones),
Python soon collects among all objects of the program, which takes longer than a turn."""
_WHOLE_TEXT: Final = 0x81
"""RFC 6455, 5.2: the first byte of a text frame that is a whole message, without extensions."""
_MASKED: Final = 0x80
"""RFC 6455, 5.2: the bit of the second byte that says that the payload is masked."""
_SHORT_LENGTH: Final = 125
"""RFC 6455, 5.2: the longest payload whose length is in the second byte; 126 announces 2 bytes, 127 eight."""
_MEDIUM_LENGTH: Final = 65_535
_LARGE_TEXT: Final = 128 << 10
"""Bytes of a text that are checked for UTF-8 in one go."""
_MASKS: Final = 1024
"""Masks that are drawn at once: the system's random numbers cost a system call (RFC 6455, 10.3)."""
_MESSAGES_PER_CHECK: Final = 16
"""Messages that are processed between two checks of the time and of the room for more."""
_MAX_TURN: Final = 0.004
"""Seconds of processing before everything else in the loop has its turn."""
_MAX_UNSENT: Final = 4 << 20
"""Bytes of pongs that wait for a peer that does not read."""
_PAUSED_CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks while reading is paused, and to read the backlog afterwards."""


class _RedactingFilter(logging.Filter):
    """Removes secrets from the log lines of websockets: header values, and both ends of every message."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = _MESSAGE_LOG_LINE.sub(r"\1 \2", record.getMessage())
        record.msg, record.args = loggable(text), None
        return True


_MESSAGE_LOG_LINE: Final = re.compile(r"^([<>] (?:TEXT|BINARY|CONT)) .*(\[[^\]]*\])$", re.DOTALL)
_LOG = logging.getLogger("asynccam.net.websocket.frames")
_LOG.addFilter(_RedactingFilter())
_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


OnMessage = Callable[[bytes], Iterator[object] | None]
"""Called with a complete message; may return an iterator whose steps are the rest of its processing."""
Room = Callable[[], "asyncio.Future[None] | None"]
"""Returns a future that is done once there is room for more, or None if there is; see `EventHub.room`."""


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """Reason why a connection ended."""

    code: int  # the close code (RFC 6455 7.4); 1006 when the socket closed without a close frame
    reason: str  # in words


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """Settings of a connection."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # sent with the handshake
    tls: ssl.SSLContext | None = None  # needed for ``wss://``; see `asynccam.net.tls.client_context`
    timeout: float = 10.0  # seconds for everything from DNS to the handshake
    max_message: int = MAX_MESSAGE  # bytes a message may have; the connection is closed with 1009 over it
    ping_interval: float | None = 20.0  # seconds between pings, or None for none
    ping_timeout: float = 20.0  # seconds a pong may take before the connection counts as dead
    # Seconds without any bytes from the peer after which it counts as dead, or None.
    quiet_limit: float | None = None


class WebSocket(asyncio.Protocol):
    """An open connection; made by `open_websocket`.

    ``on_message`` gets the payload of every complete message, text or binary, and must not block; its
    exception ends the connection. ``room`` is called before every few messages: without room, nothing more is
    read.
    """

    def __init__(
        self,
        url: str,
        on_message: OnMessage,
        options: WebSocketOptions,
        *,
        room: Room | None,
    ) -> None:
        self.url = url
        self._options = options
        self._core = ClientProtocol(parse_uri(url), max_size=options.max_message, logger=_LOG)
        self._on_message = on_message
        self._room_for = room
        self._input: deque[bytes] = deque()  # received, not yet parsed
        self._offset = 0  # in the first chunk of the input
        self._partial = b""  # the beginning of a frame, after which nothing was received yet
        self._core_needs = 0  # bytes that are missing in the frame which the core reads
        # While frames are logged, the core reads and writes all of them: it is the core that logs.
        self._reads_texts = not self._core.debug
        self._max_text = min(options.max_message, _MEDIUM_LENGTH)
        self._events: deque[Event] = deque()  # parsed from the last slice
        self._unfinished: Iterator[object] | None = None  # processing of the last message
        self._reading_paused = False  # until all of the above is processed
        self._paused_at = 0.0
        self._eof = False
        self._lost_with: tuple[Exception | None] | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._fragments: bytearray | None = None  # of a message that is not complete
        self._text_fragments = False  # whether these are of a text
        self._unsent: list[bytes] = []  # text frames of this pass of the loop
        self._masks = b""
        self._mask_offset = 0
        self._flushing = False
        self._closed_locally = False
        self._abort_reason: str | None = None
        self._last_received = self._loop.time()
        self._ping_sent: float | None = None
        self._pong_due = 0.0
        self._pong_within = options.ping_timeout
        self._next_ping = self._last_received + (options.ping_interval or 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self.pongs = 0  # number of answers to our pings
        self._drained: asyncio.Event | None = None  # only while the peer is slow
        self.opened: asyncio.Future[None] = self._loop.create_future()  # done when the handshake is complete
        # Done when the socket is closed, with the reason.
        self.closed: asyncio.Future[CloseInfo] = self._loop.create_future()

    @property
    def is_open(self) -> bool:
        """Return whether messages can be sent."""
        # The core does not learn of a socket that is lost without an end of the stream.
        return (
            self._core.state is State.OPEN
            and self._lost_with is None
            and self._abort_reason is None
            and not self._closed_locally
        )

    @property
    def close_reason(self) -> str:
        """Suffix ``": reason"`` for error messages, or ``""`` while the connection is open."""
        close = self._core.close_rcvd
        reason = self._abort_reason or (
            f"{close.reason or 'no reason given'} (code {close.code})" if close else ""
        )
        return f": {reason}" if reason else ""

    @property
    def is_writable(self) -> bool:
        """Return whether the peer keeps up; if not, `drain` waits until it does."""
        return self._drained is None

    def send(self, message: bytes) -> None:
        """Send a text message, UTF-8; it leaves with everything else sent in this pass of the loop.

        Raises:
            ConnectionError: The connection is not open; nothing was sent.
        """
        if not self.is_open:
            raise ConnectionError(f"the connection to {self.url} is closed{self.close_reason}")
        if self._reads_texts:
            self._unsent.append(self._text_frame(message))
        else:
            self._core.send_text(message)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _text_frame(self, message: bytes) -> bytes:
        """Return a message as one masked frame (RFC 6455, 5.2 and 5.3)."""
        length = len(message)
        if length <= _SHORT_LENGTH:
            head = bytes((_WHOLE_TEXT, _MASKED | length))
        elif length <= _MEDIUM_LENGTH:
            head = bytes((_WHOLE_TEXT, _MASKED | 126)) + length.to_bytes(2, "big")
        else:
            head = bytes((_WHOLE_TEXT, _MASKED | 127)) + length.to_bytes(8, "big")
        if self._mask_offset == len(self._masks):
            self._masks, self._mask_offset = os.urandom(4 * _MASKS), 0
        mask = self._masks[self._mask_offset : self._mask_offset + 4]
        self._mask_offset += 4
        return head + mask + apply_mask(message, mask)

    def probe(self, timeout: float) -> None:
        """Ping now: without a pong within ``timeout`` seconds the connection counts as dead.

        TCP retransmits after waits that double, so a connection whose network was cut for a minute may
        stay silent for another one after the network is back. A new connection does not.
        """
        if not self.is_open:
            return
        now = self._loop.time()
        if self._ping_sent is None:
            self._ping(now)
            self._pong_due, self._pong_within = now + timeout, timeout
        elif now + timeout < self._pong_due:
            self._pong_due, self._pong_within = now + timeout, timeout
        if self._timer is not None:
            self._timer.cancel()
        self._check_alive()

    async def drain(self) -> None:
        """Wait until the peer has read enough; return at once when the connection is closed."""
        if self._drained is not None:
            await self._drained.wait()

    async def aclose(self, code: int = 1000, reason: str = "", *, timeout: float = 2.0) -> None:
        """Send a close frame, wait ``timeout`` seconds for the peer's (RFC 6455 7.1.1), then abort."""
        self._closed_locally = True
        self._unfinished = None
        if self._lost_with is not None:
            self._end(self._lost_with[0])
        if not self.closed.done() and self._transport is not None:
            if self._core.state is State.OPEN:
                self._core.send_close(code, reason)
                self._flush()
            if self._reading_paused:
                self._process()  # up to the peer's close frame; messages before it need no room
            try:
                await asyncio.wait({self.closed}, timeout=timeout)
            finally:
                self._transport.abort()
            await asyncio.shield(self.closed)  # abort() reports on the loop's next pass

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake."""
        # Not every loop's transports inherit from asyncio.Transport; those of uvloop do not.
        self._transport = cast("asyncio.Transport", transport)
        request = self._core.connect()
        for name, value in self._options.headers.items():
            request.headers[name] = value
        self._core.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Parse what was received, and deliver complete messages."""
        self._last_received = self._loop.time()
        if self._partial:
            data, self._partial = self._partial + data, b""
        self._input.append(data)
        if not self._reading_paused:
            self._process()

    def eof_received(self) -> None:
        """Process the end of the stream after what was received before; the transport closes itself."""
        self._eof = True
        if not self._reading_paused:
            self._process()

    def pause_writing(self) -> None:
        """Let `drain` wait: the peer is slow."""
        self._drained = self._drained or asyncio.Event()

    def resume_writing(self) -> None:
        """Let `drain` return: the peer caught up, or the connection has ended."""
        room, self._drained = self._drained, None
        if room is not None:
            room.set()

    async def abort(self) -> None:
        """Close the socket at once, and wait until it is closed."""
        self._discard_input()
        if self._lost_with is not None:
            self._end(self._lost_with[0])
        if self._transport is not None:
            self._transport.abort()
            await finish(asyncio.wait({self.closed}))

    def connection_lost(self, exc: Exception | None) -> None:
        """Process what was received before, then complete both futures."""
        self._lost_with = (exc,)
        if self._closed_locally or not (self._unfinished or self._events or self._input or self._eof):
            self._discard_input()
            self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        if not self.opened.done():
            self.opened.set_exception(self._handshake_error(error))
            self.opened.exception()  # retrieved: open_websocket may have been cancelled meanwhile
        close, invalid = self._core.close_rcvd, self._core.parser_exc
        reason = self._abort_reason or (close.reason if close else "") or (str(error) if error else "")
        if invalid is not None and not isinstance(invalid, EOFError):
            reason = reason or f"the peer broke the WebSocket protocol: {invalid}"
        code = close.code if close else 1006
        if not self.closed.done():
            self.closed.set_result(CloseInfo(code, reason or "the socket was closed"))

    # -- inside ----------------------------------------------------------------------------------

    def _handshake_error(self, error: Exception | None) -> Exception:
        cause = self._core.handshake_exc
        if isinstance(cause, InvalidStatus):
            status = cause.response.status_code
            if status in (401, 403):
                return AuthenticationError(f"{self.url} refused the handshake with HTTP {status}")
            if status >= 500 or status in (408, 429):
                return ConnectionError(f"{self.url} answered the handshake with HTTP {status}")
        if cause is not None and not isinstance(cause.__cause__, EOFError):
            return RemoteProtocolError(f"{self.url} did not complete a WebSocket handshake: {cause}")
        return ConnectionError(
            f"{self.url} closed the connection during the handshake{f': {error}' if error else ''}"
        )

    def _process(self) -> None:
        """Process what was received for a bounded time; the rest waits for the next turn, unread.

        A peer may send faster than its messages can be processed, without end. Deadlines and other tasks
        still have their turns then, and while nothing is read, TCP holds the peer back.
        """
        if self.closed.done():
            return
        until = self._loop.time() + _MAX_TURN
        while self._unfinished is not None or self._events or self._input or self._eof:
            room = None if self._room_for is None or self._closed_locally else self._room_for()
            if room is not None:
                self._pause_reading()
                room.add_done_callback(lambda _: self._process())
                return
            self._process_some()
            if self._loop.time() >= until:
                self._pause_reading()
                self._loop.call_soon(self._process)
                return
        if self._reading_paused:
            self._resume_reading()
        if self._core.close_expected() and self._transport is not None and not self._closed_locally:
            self._transport.close()

    def _process_some(self) -> None:
        """Process a few messages, or parse the next frames."""
        events = self._events
        if self._unfinished is None and not events:
            if self._reads_texts and self._input and self._deliver_texts():
                return
            self._parse_slice()
        for _ in range(_MESSAGES_PER_CHECK):
            if self._unfinished is not None:
                self._advance(self._unfinished)
            elif events:
                self._handle(events.popleft())
            else:
                return

    def _deliver_texts(self) -> bool:
        """Deliver a few messages that are one text frame each, and return whether there was one.

        Everything else is left to the core: frames that are fragmented, masked, long, cut off or invalid.
        """
        if (
            self._core_needs
            or self._fragments is not None  # RFC 6455, 5.4: no other message may begin
            or self._core.state is not State.OPEN
            or not self.opened.done()
        ):
            return False
        data, start = self._input[0], self._offset
        last, delivered = len(data) - 2, 0
        while start <= last and data[start] == _WHOLE_TEXT and delivered < _MESSAGES_PER_CHECK:
            length, begin = data[start + 1], start + 2
            if length == 126 and start + 2 <= last:
                length, begin = data[start + 2] << 8 | data[start + 3], start + 4
            elif length > _SHORT_LENGTH:
                break
            end = begin + length
            if end > last + 2 or length > self._max_text:
                break
            self._skip_to(end)
            start = end
            delivered += 1
            self._deliver(data[begin:end], is_text=True)
            if self._unfinished is not None or self._closed_locally or self._abort_reason is not None:
                break
        return delivered > 0

    def _skip_to(self, offset: int) -> None:
        """Count what is before an offset of the first chunk as parsed."""
        if offset < len(self._input[0]):
            self._offset = offset
        else:
            self._input.popleft()
            self._offset = 0

    def _parse_slice(self) -> None:
        """Give the next frames, or a part of a long one, to the core."""
        if self._input:
            piece = self._next_piece()
            if not piece:
                return
            self._core.receive_data(piece)
        else:
            self._eof = False
            self._core.receive_eof()
        self._events.extend(self._core.events_received())
        self._flush()  # pongs (RFC 6455 5.5.2) and close frames of the core
        if self._transport is not None and self._transport.get_write_buffer_size() > _MAX_UNSENT:
            self._abort("the peer sends pings and reads nothing")

    def _next_piece(self) -> bytes:
        """Remove and return what the core gets next; keep the beginning of a frame and return nothing."""
        data, start = self._input[0], self._offset
        limit = min(start + _MAX_SLICE, len(data))
        if not self.opened.done():
            # By the line, so that nothing after the handshake's response is in the core.
            end = data.find(b"\n", start, limit) + 1 or limit
        elif self._core_needs:
            end = min(start + self._core_needs, limit)
            self._core_needs -= end - start
        elif self._core.state is not State.OPEN:
            end = limit  # there are no messages any more
        else:
            end = self._end_of_frames(data, start, limit)
            if end > limit:
                self._core_needs, end = end - limit, limit
            elif end == start:
                self._skip_to(len(data))
                if self._input:
                    self._input[0] = data[start:] + self._input[0]
                else:
                    self._partial = data[start:]
                return b""
        self._skip_to(end)
        return data[start:end]

    def _end_of_frames(self, data: bytes, start: int, limit: int) -> int:
        """Return the end of the frames that the core gets next; the start if more has to be received first.

        One frame alone may end after the limit, and after what was received.
        """
        end = _end_of_frame(data, start)
        if end > limit:
            is_short_text = data[start] == _WHOLE_TEXT and end - start <= self._max_text
            return start if end > len(data) and is_short_text and self._reads_texts else end
        for _ in range(_MAX_FRAMES_PER_SLICE - 1):
            if not end or end == limit or (data[end] == _WHOLE_TEXT and self._reads_texts):
                break
            following = _end_of_frame(data, end)
            if not following or following > limit:
                break
            end = following
        return end or start

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused, self._paused_at = True, self._loop.time()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.pause_reading()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if self._lost_with is not None:
            self._end(self._lost_with[0])
            return
        # What the peer sent in the meantime was not read: it counts as received now.
        now = self._last_received = self._loop.time()
        if self._ping_sent is not None:
            self._pong_due = max(self._pong_due + now - self._paused_at, now + _PAUSED_CHECK_INTERVAL)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _discard_input(self) -> None:
        """Discard what was received and not processed, at the end: what follows it is not a frame."""
        self._input.clear()
        self._offset = 0
        self._events.clear()
        self._unfinished, self._eof = None, False

    def _handle(self, event: Event) -> None:
        if isinstance(event, Frame):
            if event.opcode in _DATA:
                if event.fin and self._fragments is None:
                    self._deliver(bytes(event.data), is_text=event.opcode is Opcode.TEXT)
                else:
                    self._add_fragment(event)
            elif event.opcode is Opcode.PONG:
                self._ping_sent = None
                self.pongs += 1
        elif isinstance(event, Response) and self._core.handshake_exc is None and not self.opened.done():
            self.opened.set_result(None)
            self._check_alive()

    def _add_fragment(self, frame: Frame) -> None:
        if self._fragments is None:
            self._fragments, self._text_fragments = bytearray(), frame.opcode is Opcode.TEXT
        self._fragments += frame.data
        if frame.fin:
            message, self._fragments = bytes(self._fragments), None
            self._deliver(message, is_text=self._text_fragments)

    def _deliver(self, message: bytes, *, is_text: bool) -> None:
        if self._closed_locally:
            return
        if is_text and not message.isascii():
            self._unfinished = self._deliver_checked(message)
            if len(message) <= _LARGE_TEXT:
                self._advance(self._unfinished)
            return
        try:
            self._unfinished = self._on_message(message)
        except Exception as error:  # noqa: BLE001 - a handler's error must not end the reader silently
            self._abort(f"the message handler failed: {error!r}")

    def _deliver_checked(self, message: bytes) -> Iterator[object]:
        """Deliver a text once it is known to be UTF-8, which takes some time for a large one."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for start in range(0, len(message), _LARGE_TEXT):
                end = start + _LARGE_TEXT
                decoder.decode(message[start:end], final=end >= len(message))
                if end < len(message):
                    yield None
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "a text message is not UTF-8")  # RFC 6455, 8.1
            return
        rest = self._on_message(message)
        if rest is not None:
            yield from rest

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Fail the connection (RFC 6455, 7.1.7): say why, and read nothing more."""
        self._core.fail(code, reason)
        self._flush()
        self._discard_input()
        self._abort_reason = self._abort_reason or reason
        if self._transport is not None:
            self._transport.close()

    def _advance(self, rest: Iterator[object]) -> None:
        try:
            next(rest)
        except StopIteration:
            self._unfinished = None
        except Exception as error:  # noqa: BLE001 - as above
            self._abort(f"the message handler failed: {error!r}")

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None or self._transport.is_closing():
            self._core.data_to_send()
            self._unsent.clear()
            return
        # A close frame of the core is the last that is sent, see `is_open`.
        frames = self._unsent + self._core.data_to_send()
        if frames:
            self._unsent.clear()
            self._transport.write(b"".join(frames))

    def _check_alive(self) -> None:
        """Ping when it is due, and abort the connection to a peer that is silent for too long."""
        now = self._loop.time()
        if self._reading_paused:  # a pong may have been received, and not read
            self._timer = self._loop.call_at(now + _PAUSED_CHECK_INTERVAL, self._check_alive)
            return
        if self._ping_sent is not None and now >= self._pong_due:
            self._abort(f"no pong within {self._pong_within:g} s")
            return
        quiet_limit, ping_interval = self._options.quiet_limit, self._options.ping_interval
        if quiet_limit is not None and now >= self._last_received + quiet_limit:
            self._abort(f"silent for {quiet_limit:g} s")
            return
        due_times = [] if quiet_limit is None else [self._last_received + quiet_limit]
        if ping_interval is not None:
            if self._ping_sent is None and now >= self._next_ping and self._core.state is State.OPEN:
                self._ping(now)
                self._next_ping = now + ping_interval
            if self._next_ping > now:
                due_times.append(self._next_ping)
        if self._ping_sent is not None:
            due_times.append(self._pong_due)
        if due_times:
            self._timer = self._loop.call_at(min(due_times), self._check_alive)

    def _ping(self, now: float) -> None:
        self._core.send_ping(b"")
        self._flush()
        self._ping_sent, self._pong_within = now, self._options.ping_timeout
        self._pong_due = now + self._pong_within

    def _abort(self, why: str) -> None:
        self._abort_reason = self._abort_reason or why
        self._discard_input()
        if self._transport is not None:
            self._transport.abort()


def _end_of_frame(data: bytes, start: int) -> int:
    """Return the end of the frame that begins at an offset (RFC 6455, 5.2), or 0 if its length is cut off."""
    if len(data) < start + 2:
        return 0
    length, begin = data[start + 1] & ~_MASKED, start + 2
    if length > _SHORT_LENGTH:
        size = 2 if length == 126 else 8
        begin += size
        if len(data) < begin:
            return 0
        length = int.from_bytes(data[begin - size : begin], "big")
    return begin + length + (4 if data[start + 1] & _MASKED else 0)


_DEFAULTS: Final = WebSocketOptions()


async def open_websocket(
    url: str,
    on_message: OnMessage,
    options: WebSocketOptions = _DEFAULTS,
    *,
    room: Room | None = None,
) -> WebSocket:
    """Connect and complete the handshake; see `WebSocket` for the arguments.

    Raises:
        AddressError: The URL is invalid.
        UsageError: ``wss://`` without a TLS context.
        ConnectionError: The peer cannot be reached, or closed the connection during the handshake.
        TimeoutError: It was not open in time.
        AuthenticationError: The handshake was refused with 401 or 403, or the certificate is not trusted.
        RemoteProtocolError: The peer does not speak WebSocket.
    """
    try:
        uri = parse_uri(url)
    except (InvalidURI, ValueError) as error:  # ValueError: a port out of range
        raise AddressError(f"not a WebSocket address: {error}") from None
    if uri.secure and options.tls is None:
        raise UsageError(f"{url} needs a TLS context")
    loop = asyncio.get_running_loop()
    began = loop.time()
    sock = await connect_tcp(uri.host, uri.port, timeout=options.timeout)
    socket = WebSocket(url, on_message, options, room=room)
    opened = False
    try:
        async with deadline(options.timeout - (loop.time() - began), f"WebSocket handshake with {url}"):
            # RFC 6066, section 3: the name goes without its trailing dot, as certificates have it.
            name = uri.host.rstrip(".") if uri.secure else None
            await open_transport(socket, sock, tls=options.tls if uri.secure else None, server_hostname=name)
            await socket.opened
        opened = True
    except ssl.SSLCertVerificationError as error:
        raise AuthenticationError(untrusted(url, error)) from error
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        raise ConnectionError(f"cannot reach {url}: {error.strerror or error}") from error
    finally:
        if not opened:
            await socket.abort()
            sock.close()
    return socket
