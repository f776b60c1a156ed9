"""A media client's session with its server: one request at a time, on a connection that is made again.

An original server crashes if a client sends what it does not expect, or leaves while it captures. So a
connection knows which responses are pending and can read them to the end, and the session sends an original
only what it survives. See docs/protocols/nanocam.md, "Seen on the original server".
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from typing import Final

from asynccam.errors import (
    AsynccamError,
    AuthenticationError,
    BusyError,
    ConnectionError,
    DeviceError,
    RemoteProtocolError,
    StateError,
    TimeoutError,
    TransferError,
    UsageError,
)
from asynccam.model.features import Progress
from asynccam.net.tcp import connect_tcp
from asynccam.net.transfer.download import receive_file
from asynccam.net.transfer.partfile import PartFile
from asynccam.redaction import loggable
from asynccam.runtime.timing import deadline
from asynccam.systems.nanocam.protocol import (
    GOODBYE,
    Busy,
    ExtensionOptions,
    Finished,
    ImageRequest,
    KillRequest,
    Ok,
    Refused,
    Request,
    ResetTimerRequest,
    VideoRequest,
    encode_request,
)
from asynccam.systems.nanocam.reply_parser import FileBytes, FileEnds, ReplyEvent, ReplyReader

_LOG = logging.getLogger(__name__)

_READ_SIZE: Final = 256 * 1024
_MIN_BULK: Final = 256 * 1024
"""Bytes from which on a download engine pays."""
_WRITE_SIZE: Final = 1024 * 1024
"""Bytes of one write to the disk; less costs speed, more costs memory."""
_RESET_MARGIN: Final = 1.5
"""Do not send a timer reset within this many seconds of the stream's end: an original server crashes."""
_BUSY_RETRY: Final = 0.25
_SHORT_STREAM_SIZE: Final = (1920, 1080)


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """Timeouts of a `MediaClient`, in seconds.

    Attributes:
        connect: For a connection.
        answer: For a response that needs no capture: to a stream request, a kill, a timer reset.
        capture: In addition to the capture's own time; includes waiting for the camera.
        stall: Without a byte of a file.
        first_frame: For the first frame of a stream, after the server has accepted it.
        quiet: Silence after which a file without an end marker is complete.
        leave: `MediaClient.aclose` waits for an original server to end a capture, because it would crash if
            a client left.
    """

    connect: float = 10.0
    answer: float = 10.0
    capture: float = 60.0
    stall: float = 60.0
    first_frame: float = 20.0
    quiet: float = 2.0
    leave: float = 15.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise UsageError(f"{field.name} must be > 0 s, not {getattr(self, field.name)}")


class NanocamConnection:
    """A connected socket with its reader; the caller makes one request at a time."""

    def __init__(self, sock: socket.socket, peer: str, timeouts: ClientTimeouts) -> None:
        self.peer = peer
        self.pending = 0  # number of responses that are not complete
        self._sock = sock
        self._timeouts = timeouts
        self._reader = ReplyReader(peer=peer)
        self._events: deque[ReplyEvent] = deque()
        self._due = 0.0

    @classmethod
    async def open(cls, host: str, port: int, timeouts: ClientTimeouts) -> "NanocamConnection":
        """Connect."""
        sock = await connect_tcp(host, port, timeout=timeouts.connect)
        return cls(sock, f"nanocam server {host}:{port}", timeouts)

    @property
    def address(self) -> str:
        """Return the server's IP address."""
        address: str = self._sock.getpeername()[0]
        return address.partition("%")[0].removeprefix("::ffff:")

    @property
    def framed(self) -> bool | None:
        """Return whether the server sends framed responses; None before the first one."""
        return self._reader.framed

    async def send(self, request: Request, timeout: float) -> None:
        """Send a request, to be answered within ``timeout`` seconds."""
        payload = encode_request(request)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: request %s %s", self.peer, type(request).__name__, loggable(asdict(request)))
        self._due = asyncio.get_running_loop().time() + timeout
        async with deadline(self._timeouts.answer, f"room for a request to {self.peer}"):
            try:
                self.pending += 1  # from here on a part of it may have left
                await asyncio.get_running_loop().sock_sendall(self._sock, payload)
            except OSError as error:
                raise self._lost(error) from error

    async def answer(self, timeout: float, awaited: str) -> ReplyEvent:
        """Return the next event of a response; ``awaited`` names it in errors."""
        async with deadline(timeout, f"{awaited} from {self.peer}", maybe_executed=True):
            return await self._next()

    async def receive(self, part: PartFile, progress: Progress | None) -> None:
        """Receive a file whose beginning was announced."""
        batch: list[memoryview] = []
        try:
            while True:
                if not self._events and self._reader.bulk >= _MIN_BULK:
                    await _write(part, batch)
                    await self._receive_bulk(part, progress)
                    continue
                event = await self.answer(self._timeouts.stall, f"further byte of {part.target.name}")
                if isinstance(event, FileBytes):
                    batch.append(event.data)
                if isinstance(event, FileEnds) or sum(map(len, batch)) >= _WRITE_SIZE:
                    await _write(part, batch)
                    if progress is not None:
                        progress(part.received, part.size)
                if isinstance(event, FileEnds):
                    return
        except (ConnectionError, TimeoutError) as error:
            await _write(part, batch)
            raise TransferError(
                f"{part.target.name} ended after {part.received} bytes: {error}",
                part=await part.keep(),
                received=part.received,
                expected=part.size,
            ) from error

    async def drain(self) -> None:
        """Read all pending responses to their end, and discard them."""
        while self.pending:
            left = self._due - asyncio.get_running_loop().time()
            await self.answer(max(left, self._timeouts.stall), "end of a cancelled request's answer")

    def close(self) -> None:
        """Say goodbye, if the socket accepts it at once, and close; harmless when called twice."""
        try:
            if self._sock.fileno() >= 0:
                self._sock.send(GOODBYE)
        except OSError:
            pass  # the connection is lost, or the server does not read
        finally:
            self._sock.close()

    async def _next(self) -> ReplyEvent:
        if not self._events:
            self._events.extend(self._reader.feed(b""))  # raises a fault behind the last events
        while not self._events:
            data = await self._read()
            self._events.extend(self._reader.feed(data) if data else self._reader.conclude())
            if not data and not self._events:
                raise ConnectionError(f"{self.peer} closed the connection", maybe_executed=True)
        event = self._events.popleft()
        if _LOG.isEnabledFor(logging.DEBUG) and not isinstance(event, FileBytes):
            _LOG.debug("%s: response %s", self.peer, loggable(event))
        if isinstance(event, Busy | Ok | Refused | Finished):
            self.pending = max(0, self.pending - 1)
        return event

    async def _read(self) -> bytes:
        """Read some bytes; none if the server has closed, or if its silence means an end."""
        if not self._reader.ends_at_silence:
            return await self._receive()
        try:
            async with deadline(self._timeouts.quiet, "further byte"):
                return await self._receive()
        except TimeoutError:
            return b""

    async def _receive(self) -> bytes:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._sock, _READ_SIZE)
        except OSError as error:
            raise self._lost(error) from error
        await asyncio.sleep(0)  # sock_recv does not yield while data is there
        return data

    async def _receive_bulk(self, part: PartFile, progress: Progress | None) -> None:
        before = part.received
        try:
            await receive_file(
                self._sock,
                part,
                before + self._reader.bulk,
                stall_timeout=self._timeouts.stall,
                progress=None if progress is None else lambda received, _: progress(received, part.size),
            )
        finally:
            self._reader.skip(part.received - before)

    def _lost(self, error: OSError) -> ConnectionError:
        return ConnectionError(
            f"the connection to {self.peer} is lost: {error.strerror or error}",
            maybe_executed=self.pending > 0,
        )


async def _write(part: PartFile, batch: list[memoryview]) -> None:
    if batch:
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        batch.clear()
        await part.write(data)


class NanocamSession:
    """One request at a time, on a connection that is made again when it was lost.

    A change of ``host`` or ``port`` takes effect at the next connection.
    """

    def __init__(self, host: str, port: int, extension: ExtensionOptions, timeouts: ClientTimeouts) -> None:
        self.host = host
        self.port = port
        self.extension = extension  # added to requests, for a framed server
        self.stream_until = 0.0  # loop time at which this client's stream ends by itself; 0 for none
        self._timeouts = timeouts
        self._connection: NanocamConnection | None = None
        self._turn = asyncio.Lock()
        self._open = False

    @property
    def framed(self) -> bool | None:
        """Return whether the server sends framed responses; None before the first one."""
        return None if self._connection is None else self._connection.framed

    @property
    def address(self) -> str | None:
        """Return the server's IP address, which its streams come from; None while not connected."""
        return None if self._connection is None else self._connection.address

    async def connect(self) -> None:
        """Connect; harmless when connected."""
        async with self._turn:
            await self._connect()

    async def aclose(self) -> None:
        """Say goodbye, once an original has sent what is pending or ``timeouts.leave`` is over."""
        self._open = False
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if connection.pending and not connection.framed:
                async with asyncio.timeout(self._timeouts.leave):
                    await connection.drain()
        except (AsynccamError, OSError):
            pass  # lost, or too slow: nothing else can be done for the server
        finally:
            connection.close()

    def leave_framed(self) -> None:
        """Close the connection to a framed server, which then stops what it does for this client."""
        if self._connection is not None and self._connection.framed:
            self._drop(self._connection)

    @asynccontextmanager
    async def exchange(self) -> AsyncIterator[NanocamConnection]:
        """Hold the connection for one request and its response."""
        async with self._turn:
            if not self._open:
                raise StateError("connect must be called before a request")
            connection = await self._connect()
            if connection.pending:
                try:
                    await connection.drain()
                except AsynccamError:
                    self._drop(connection)
                    connection = await self._connect()
            try:
                yield connection
            except (ConnectionError, TimeoutError, TransferError, RemoteProtocolError):
                self._drop(connection)
                raise
            except BaseException:
                # An original server would crash if it were left now: the next request reads the rest first.
                if connection.pending and connection.framed:
                    self._drop(connection)
                raise

    async def begin(
        self,
        connection: NanocamConnection,
        request: ImageRequest | VideoRequest,
        timeout: float,
        *,
        override: bool,
    ) -> ReplyEvent:
        """Request a capture, if ``override`` in place of a stream; return the first event of the response."""
        answer = await self._ask(connection, request, timeout)
        if not isinstance(answer, Busy):
            return answer
        if not override:
            raise BusyError(f"{connection.peer} streams to another client; override would end that")
        if connection.framed:
            await self._ask_kill(connection)
            connection.pending += 1  # the request that was refused runs now
            answer = await self._answer(connection, timeout)
        elif isinstance(request, VideoRequest) and request.format == "udp":
            await self._ask_kill(connection)  # one OK for both
            return Ok()
        else:
            await self._displace(connection)
            answer = await self._ask_until_free(connection, request, timeout)
        if isinstance(answer, Busy):
            raise BusyError(f"{connection.peer} is still busy")
        return answer

    async def begin_stream(
        self, connection: NanocamConnection, request: VideoRequest, timeout: float, *, override: bool
    ) -> Ok:
        """Request a stream, as `begin`; note until when it goes on."""
        answer = await self.begin(connection, request, timeout, override=override)
        if not isinstance(answer, Ok):
            raise unexpected(answer, connection.peer)
        self.stream_until = asyncio.get_running_loop().time() + request.duration
        return answer

    async def reset_timer(self, duration: float) -> None:
        """Request that this client's stream goes on for ``duration`` seconds from now.

        Raises:
            StateError: An original server would crash: no stream is running, or it is about to end.
            DeviceError: A framed server has no stream running.
            BusyError, ConnectionError, TimeoutError, RemoteProtocolError: As `NanocamConnection.answer`.
        """
        request = ResetTimerRequest(duration, self.extension)
        async with self.exchange() as connection:
            ends_soon = asyncio.get_running_loop().time() > self.stream_until - _RESET_MARGIN
            if not connection.framed and ends_soon:
                raise StateError("no stream is being received, or it is about to end")
            answer = await self._ask(connection, request, self._timeouts.answer)
            if connection.framed and isinstance(answer, Busy):
                raise BusyError(f"{connection.peer} does not let this client have a longer stream")
            if not isinstance(answer, Ok | Busy):  # the original answers BUSY, and carries it out
                raise unexpected(answer, connection.peer)
        self.stream_until = asyncio.get_running_loop().time() + duration

    async def kill(self) -> None:
        """End the stream that has the camera; harmless when there is none."""
        async with self.exchange() as connection:
            if not connection.framed:
                await self._displace(connection)
            if connection.framed:
                await self._ask_kill(connection)

    async def _connect(self) -> NanocamConnection:
        if self._connection is None:
            if not self.host:
                raise StateError("no host is set; call set_hostip before connect")
            self._connection = await NanocamConnection.open(self.host, self.port, self._timeouts)
            self._open = True
        return self._connection

    def _drop(self, connection: NanocamConnection) -> None:
        connection.close()
        if self._connection is connection:
            self._connection = None

    async def _displace(self, connection: NanocamConnection) -> None:
        """Replace the running stream by one of a second: an original survives a kill only so."""
        short = VideoRequest(1, *_SHORT_STREAM_SIZE, "udp", self.extension)
        answer = await self._ask(connection, short, self._timeouts.answer)
        if isinstance(answer, Busy):
            await self._ask_kill(connection)
            if connection.framed:
                connection.pending += 1
                await self._answer(connection, self._timeouts.answer)

    async def _ask_until_free(
        self, connection: NanocamConnection, request: ImageRequest | VideoRequest, timeout: float
    ) -> ReplyEvent:
        """Repeat the request until the short stream is over."""
        until = asyncio.get_running_loop().time() + self._timeouts.answer
        while True:
            answer = await self._ask(connection, request, timeout)
            if not isinstance(answer, Busy) or asyncio.get_running_loop().time() > until:
                return answer
            await asyncio.sleep(_BUSY_RETRY)

    async def _ask_kill(self, connection: NanocamConnection) -> None:
        answer = await self._ask(connection, KillRequest(self.extension), self._timeouts.answer)
        if isinstance(answer, Busy):
            raise BusyError(f"{connection.peer} does not let this client end another client's stream")
        if not isinstance(answer, Ok):
            raise unexpected(answer, connection.peer)

    async def _ask(self, connection: NanocamConnection, request: Request, timeout: float) -> ReplyEvent:
        await connection.send(request, timeout)
        return await self._answer(connection, timeout)

    async def _answer(self, connection: NanocamConnection, timeout: float) -> ReplyEvent:
        answer = await connection.answer(timeout, "answer")
        if not isinstance(answer, Refused):
            return answer
        text = f"{connection.peer}: {answer.reason}"
        if answer.kind == "token":
            raise AuthenticationError(text)
        if answer.kind in ("busy", "killed"):
            raise BusyError(text)
        raise DeviceError(text, status=answer.kind)


def unexpected(answer: ReplyEvent, peer: str) -> RemoteProtocolError:
    """Return the error for a response to another request."""
    return RemoteProtocolError(f"{peer} answered {type(answer).__name__}, which is not a response to that")
