"""One WebSocket connection, fast: the `websockets` protocol core, driven by an asyncio protocol.

The framing, the handshake and the closing rules are websockets' own sans-I/O `ClientProtocol`. What
is ours is the shell: all that is sent in one pass of the loop leaves in one write, and messages
are handed over by a plain call, without a task or a queue between (see benchmarks/rpc.py).
``permessage-deflate`` is never offered: on small messages it costs more than it saves (see
docs/reconnecting.md).
"""

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State
from websockets.uri import parse_uri

from asynccam.errors import (
    AddressError,
    AuthenticationError,
    ConnectionError,
    RemoteProtocolError,
    TimeoutError,
    UsageError,
)
from asynccam.net.tcp import connect_tcp
from asynccam.net.tls import untrusted
from asynccam.redaction import loggable
from asynccam.runtime.tasks import finish
from asynccam.runtime.timing import deadline

MAX_MESSAGE: Final = 20 * 1024 * 1024
"""Bytes of one message; more of text takes longer than 50 ms to parse, during which nothing else runs."""
_SLICE: Final = 4096
"""Bytes given to the protocol at once; they hold at most 2,048 frames (RFC 6455, 5.2: two bytes each)."""
_FINE_SLICE: Final = 256
"""The least bytes of a slice."""
_MANY: Final = 128
"""Frames that a slice should hold at most. They exist at the same time: if many survive a collection of young
objects (every 700 new ones), Python soon collects among all objects of the program, which takes longer than
a turn."""
_MESSAGES: Final = 16
"""Messages that are worked on between two looks at the time, and at whether there is room for more."""
_TURN: Final = 0.004
"""Seconds of work on what came in before everything else in the loop has its turn."""
_MOST_UNSENT: Final = 4 << 20
"""Bytes of answers to pings that wait for a peer who does not read."""
_LOOK_AGAIN: Final = 1.0
"""Seconds between two looks at a peer of whom nothing is read, and to read what it said when that is over."""


class _Redacting(logging.Filter):
    """Hides secrets in what websockets logs: headers as they are, and both ends of every message."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = _MESSAGE.sub(r"\1 \2", record.getMessage())
        record.msg, record.args = loggable(text), None
        return True


_MESSAGE: Final = re.compile(r"^([<>] (?:TEXT|BINARY|CONT)) .*(\[[^\]]*\])$", re.DOTALL)
_LOG = logging.getLogger("asynccam.net.websocket.frames")
_LOG.addFilter(_Redacting())
_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


OnMessage = Callable[[bytes], Iterator[object] | None]
"""Called with a whole message; may return an iterator whose steps are the rest of the work on it."""
Room = Callable[[], "asyncio.Future[None] | None"]
"""Returns what is done once there is room for more, or None if there is; see `EventHub.room`."""


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """Why a connection ended.

    Attributes:
        code: The WebSocket close code; 1006 when the socket went without a word.
        reason: In words.
        local: True when this side closed it on purpose.
    """

    code: int
    reason: str
    local: bool = False


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """Settings of a connection.

    Attributes:
        headers: Sent with the handshake.
        tls: Needed for ``wss://``; see `asynccam.net.tls.client_context`.
        timeout: Seconds for everything from DNS to the handshake.
        max_message: Bytes a message may have; the connection is closed with 1009 over it.
        ping_interval: Seconds between pings, or None for none.
        ping_timeout: Seconds a pong may take before the connection counts as dead.
        quiet_limit: Seconds without any bytes from the peer after which it counts as dead, or None.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: ssl.SSLContext | None = None
    timeout: float = 10.0
    max_message: int = MAX_MESSAGE
    ping_interval: float | None = 20.0
    ping_timeout: float = 20.0
    quiet_limit: float | None = None


class WebSocket(asyncio.Protocol):
    """An open connection; made by `open_websocket`.

    Args:
        url: ``ws://`` or ``wss://``.
        on_message: Called with the payload of every whole message, text and binary alike; must
            not block. What it raises ends the connection.
        options: Settings.
        room: Asked before every few messages: while there is no room, nothing more is read from the socket.

    Attributes:
        opened: Done when the handshake is.
        closed: Done when the socket is gone, with why.
        pongs: Answers to our pings so far.
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
        self._input: deque[bytes] = deque()  # received, not yet given to the protocol
        self._place = 0  # in the first of these
        self._slice = _SLICE
        self._events: deque[Event] = deque()  # what the protocol made of the last slice
        self._rest: Iterator[object] | None = None  # of the work on the last message
        self._held = False  # whether reading is paused until the above is worked off
        self._held_since = 0.0
        self._eof = False
        self._lost: tuple[Exception | None] | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._fragments: list[bytes] = []
        self._flushing = False
        self._local = False
        self._why: str | None = None
        self._heard = self._loop.time()
        self._ping_sent: float | None = None
        self._pong_due = 0.0
        self._pong_within = options.ping_timeout
        self._next_ping = self._heard + (options.ping_interval or 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self.pongs = 0
        self._room: asyncio.Event | None = None  # made while the peer is slow: most never are
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[CloseInfo] = self._loop.create_future()

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._core.state is State.OPEN and self._why is None and not self._local

    @property
    def close_reason(self) -> str:
        """Why the connection is ending, to be put after a colon's worth of text; ``""`` while it is open."""
        close = self._core.close_rcvd
        reason = self._why or (f"{close.reason or 'no reason given'} (code {close.code})" if close else "")
        return f": {reason}" if reason else ""

    @property
    def is_writable(self) -> bool:
        """Whether the peer keeps up; when it does not, `drain` waits until it does."""
        return self._room is None

    def send(self, message: bytes) -> None:
        """Send a text message; it leaves with everything else sent in this pass of the loop.

        Args:
            message: UTF-8.

        Raises:
            ConnectionError: The connection is not open; nothing was sent.
        """
        if not self.is_open:
            raise ConnectionError(f"the connection to {self.url} is closed{self.close_reason}")
        self._core.send_text(message)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def probe(self, timeout: float) -> None:
        """Ping now: without a pong within ``timeout`` seconds the connection counts as dead.

        TCP sends what was lost again after waits that double, so a connection whose network was cut for a
        minute may stay silent for another one after the network is back. A new connection does not.
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
        self._watch()

    async def drain(self) -> None:
        """Wait until the peer has taken enough of what was sent; returns at once when it is gone."""
        if self._room is not None:
            await self._room.wait()

    async def aclose(self, code: int = 1000, reason: str = "", *, timeout: float = 2.0) -> None:
        """Say goodbye, give the peer ``timeout`` seconds to agree, then drop the socket."""
        self._local = True
        self._drop()
        if self._lost is not None:
            self._end(self._lost[0])
        if not self.closed.done() and self._transport is not None:
            if self._core.state is State.OPEN:
                self._core.send_close(code, reason)
                self._flush()
            try:
                await asyncio.wait({self.closed}, timeout=timeout)
            finally:
                self._transport.abort()
            await asyncio.shield(self.closed)  # abort() reports on the loop's next pass

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        request = self._core.connect()
        for name, value in self._options.headers.items():
            request.headers[name] = value
        self._core.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Feed the core and hand over what became whole."""
        self._heard = self._loop.time()
        self._input.append(data)
        if not self._held:
            self._work()

    def eof_received(self) -> None:
        """Tell the core, after what came before; the transport closes itself."""
        self._eof = True
        if not self._held:
            self._work()

    def pause_writing(self) -> None:
        """The peer is slow: `drain` waits."""
        self._room = self._room or asyncio.Event()

    def resume_writing(self) -> None:
        """The peer caught up."""
        self._let_go()

    async def abort(self) -> None:
        """Drop the socket at once and see it gone."""
        self._drop()
        if self._transport is not None:
            self._transport.abort()
            await finish(asyncio.wait({self.closed}))

    def connection_lost(self, error: Exception | None) -> None:
        """Work off what had come, then settle both futures; nothing waits after that."""
        self._lost = (error,)
        if self._local or not (self._rest or self._events or self._input or self._eof):
            self._drop()
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._let_go()
        if not self.opened.done():
            self.opened.set_exception(self._refusal(error))
            self.opened.exception()  # retrieved: open_websocket may have been cancelled meanwhile
        close = self._core.close_rcvd
        reason = self._why or (close.reason if close else "") or (str(error) if error else "")
        code = close.code if close else 1006
        if not self.closed.done():
            self.closed.set_result(CloseInfo(code, reason or "the socket was closed", self._local))

    def _let_go(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set()

    # -- inside ----------------------------------------------------------------------------------

    def _refusal(self, error: Exception | None) -> Exception:
        cause = self._core.handshake_exc
        if isinstance(cause, InvalidStatus):
            status = cause.response.status_code
            if status in (401, 403):
                return AuthenticationError(f"{self.url} refused the handshake with HTTP {status}")
            if status >= 500 or status in (408, 429):
                return ConnectionError(f"{self.url} answered the handshake with HTTP {status}")
        if cause is not None and not isinstance(cause.__cause__, EOFError):
            return RemoteProtocolError(f"{self.url} did not complete a WebSocket handshake: {cause}")
        return ConnectionError(f"{self.url} went away during the handshake{f': {error}' if error else ''}")

    def _work(self) -> None:
        """Work on what came in for a bounded time; the rest waits for the next turn, and the socket with it.

        A peer may send faster than its messages can be worked on, without end. Deadlines and other tasks
        still have their turns then, and while nothing is read the peer's own system holds it back.
        """
        if self.closed.done():
            return
        until = self._loop.time() + _TURN
        while self._rest is not None or self._events or self._input or self._eof:
            room = None if self._room_for is None else self._room_for()
            if room is not None:
                self._hold()
                room.add_done_callback(lambda _: self._work())
                return
            self._portion()
            if self._loop.time() >= until:
                self._hold()
                self._loop.call_soon(self._work)
                return
        if self._held:
            self._go_on()
        if self._core.close_expected() and self._transport is not None and not self._local:
            self._transport.close()

    def _portion(self) -> None:
        """Work on a few messages, or have the protocol read the next few."""
        events = self._events
        if self._rest is None and not events:
            self._read_on()
        for _ in range(_MESSAGES):
            if self._rest is not None:
                self._advance(self._rest)
            elif events:
                self._handle(events.popleft())
            else:
                return

    def _read_on(self) -> None:
        if self._input:
            data, start, end = self._input[0], self._place, self._place + self._slice
            self._place = end
            if end >= len(data):
                self._input.popleft()
                self._place = 0
            piece = data[start:end] if start or end < len(data) else data
            self._core.receive_data(piece)
            found = self._core.events_received()
            self._slice = max(_FINE_SLICE, min(_SLICE, len(piece) * _MANY // len(found) if found else _SLICE))
        else:
            self._eof = False
            self._core.receive_eof()
            found = self._core.events_received()
        self._events.extend(found)
        self._flush()  # pongs and close frames of the core's own
        if self._transport is not None and self._transport.get_write_buffer_size() > _MOST_UNSENT:
            self._abort("it sends pings and reads nothing")

    def _hold(self) -> None:
        if not self._held:
            self._held, self._held_since = True, self._loop.time()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.pause_reading()

    def _go_on(self) -> None:
        self._held = False
        if self._lost is not None:
            self._end(self._lost[0])
            return
        # What the peer sent in the meantime has not been read: it counts as heard of.
        now = self._heard = self._loop.time()
        if self._ping_sent is not None:
            self._pong_due = max(self._pong_due + now - self._held_since, now + _LOOK_AGAIN)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _drop(self) -> None:
        """Forget what came and has not been worked on."""
        self._input.clear()
        self._place = 0
        self._events.clear()
        self._rest, self._eof = None, False

    def _handle(self, event: Event) -> None:
        if isinstance(event, Frame):
            if event.opcode in _DATA:
                if event.fin and not self._fragments:
                    self._deliver(bytes(event.data))
                else:
                    self._collect(event)
            elif event.opcode is Opcode.PONG:
                self._ping_sent = None
                self.pongs += 1
        elif isinstance(event, Response) and self._core.handshake_exc is None and not self.opened.done():
            self.opened.set_result(None)
            self._watch()

    def _collect(self, frame: Frame) -> None:
        if frame.data or not self._fragments:  # no end of empty fragments is kept
            self._fragments.append(bytes(frame.data))
        if frame.fin:
            message = b"".join(self._fragments)
            self._fragments.clear()
            self._deliver(message)

    def _deliver(self, message: bytes) -> None:
        if self._local:
            return
        try:
            self._rest = self._on_message(message)
        except Exception as error:  # noqa: BLE001 - a listener's fault must not kill the reader unseen
            self._abort(f"the message handler failed: {error!r}")

    def _advance(self, rest: Iterator[object]) -> None:
        try:
            next(rest)
        except StopIteration:
            self._rest = None
        except Exception as error:  # noqa: BLE001 - as above
            self._abort(f"the message handler failed: {error!r}")

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None or self._transport.is_closing():
            self._core.data_to_send()
            return
        data = b"".join(self._core.data_to_send())
        if data:
            self._transport.write(data)

    def _watch(self) -> None:
        """Ping when it is time, and give up on a peer that is silent for too long."""
        now = self._loop.time()
        if self._held:  # a pong may have come, and has not been read
            self._timer = self._loop.call_at(now + _LOOK_AGAIN, self._watch)
            return
        if self._ping_sent is not None and now >= self._pong_due:
            self._abort(f"no pong within {self._pong_within:g} s")
            return
        quiet_limit, ping_interval = self._options.quiet_limit, self._options.ping_interval
        if quiet_limit is not None and now >= self._heard + quiet_limit:
            self._abort(f"silent for {quiet_limit:g} s")
            return
        wakes = [] if quiet_limit is None else [self._heard + quiet_limit]
        if ping_interval is not None:
            if self._ping_sent is None and now >= self._next_ping and self._core.state is State.OPEN:
                self._ping(now)
                self._next_ping = now + ping_interval
            if self._next_ping > now:
                wakes.append(self._next_ping)
        if self._ping_sent is not None:
            wakes.append(self._pong_due)
        if wakes:
            self._timer = self._loop.call_at(min(wakes), self._watch)

    def _ping(self, now: float) -> None:
        self._core.send_ping(b"")
        self._flush()
        self._ping_sent, self._pong_within = now, self._options.ping_timeout
        self._pong_due = now + self._pong_within

    def _abort(self, why: str) -> None:
        self._why = self._why or why
        self._drop()
        if self._transport is not None:
            self._transport.abort()


_DEFAULTS: Final = WebSocketOptions()


async def open_websocket(
    url: str,
    on_message: OnMessage,
    options: WebSocketOptions = _DEFAULTS,
    *,
    room: Room | None = None,
) -> WebSocket:
    """Connect and shake hands; see `WebSocket` for the arguments.

    Raises:
        AddressError: Not a WebSocket URL.
        UsageError: ``wss://`` without a TLS context.
        ConnectionError: Nobody there, or gone during the handshake.
        TimeoutError: Not open in time.
        AuthenticationError: The handshake was refused with 401 or 403, or the certificate is not trusted.
        RemoteProtocolError: What is there does not speak WebSocket.
    """
    try:
        uri = parse_uri(url)
    except (InvalidURI, ValueError) as error:  # ValueError: a port out of range
        raise AddressError(f"not a WebSocket address: {error}") from None
    if uri.secure and options.tls is None:
        raise UsageError(f"{url} needs a TLS context")
    loop = asyncio.get_running_loop()
    socket: WebSocket | None = None

    def factory() -> WebSocket:
        nonlocal socket
        socket = WebSocket(url, on_message, options, room=room)
        return socket

    opened = False
    began = loop.time()
    sock = await connect_tcp(uri.host, uri.port, timeout=options.timeout)
    try:
        async with deadline(options.timeout - (loop.time() - began), f"WebSocket handshake with {url}"):
            await loop.create_connection(
                factory,
                sock=sock,
                ssl=options.tls if uri.secure else None,
                # RFC 6066, section 3: the name goes without its trailing dot, as certificates have it.
                server_hostname=uri.host.rstrip(".") if uri.secure else None,
            )
            assert socket is not None
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
            if socket is not None:
                await socket.abort()
            sock.close()
    return socket
